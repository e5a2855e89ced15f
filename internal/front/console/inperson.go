package console

import (
	"errors"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	domain "sealgate/internal/console"
	"sealgate/internal/enrolment"
	"sealgate/internal/order"
)

func (d *Door) mountInPerson(r chi.Router) {
	r.Get("/in-person", d.in(d.inPerson))
	r.Post("/in-person", d.in(d.beginInPerson))
	r.Get("/in-person/{oid}", d.in(d.inPersonOrder))
	r.Get("/in-person/{oid}/step", d.in(d.inPersonStep))
	r.Post("/in-person/{oid}/prepare", d.in(d.prepareInPerson))
}

// InPersonForm is the page on which a registrar enters what they have checked.
type InPersonForm struct {
	Documents, Cards []string
}

func (d *Door) inPerson(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	if err := s.May(domain.Registrar); err != nil {
		return err
	}
	return d.page(w, r, s, "in-person", "in-person", InPersonForm{Documents: enrolment.DocumentKinds(), Cards: enrolment.CardStates()})
}

func (d *Door) beginInPerson(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	if err := s.May(domain.Registrar); err != nil {
		return err
	}
	if err := form(w, r); err != nil {
		return err
	}
	f := r.PostForm
	begun, err := d.cfg.Enrolments.BeginInPerson(r.Context(), enrolment.InPersonRequest{Registrar: s.Administrator.ID, NationalID: f.Get("national_id"),
		Name: f.Get("name"), Checked: enrolment.InPerson{DocumentKind: f.Get("document_kind"), DocumentTail: f.Get("document_tail"), CardState: f.Get("card_state")},
		Browser: order.BrowserKey(d.browser(w, r).Key), Started: d.from(r), Text: d.text(r, "console.inperson.order_text")})
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/admin/in-person/"+begun.Order.String(), http.StatusSeeOther)
	return nil
}

// InPersonData is the page with the QR code and what follows from it.
type InPersonData struct {
	Order string
	Panel PanelData
	Step  StepData
}

// PanelData is what the panel of an order shows (parts/order-panel.html).
type PanelData struct {
	State  PanelState
	View   *order.View
	Mobile bool
	Here   bool
}

// PanelState is an order's state when the page is written; its script asks for
// the rest.
type PanelState struct {
	Order string
	Kind  order.Kind
	State order.State
	Check *PanelCheck
	// Waiting is what an approved sign order waits for; a binding waits for nothing.
	Waiting string
}

// PanelCheck says that the two digits of the phone must be typed.
type PanelCheck struct{ Required bool }

// StepData is what the registrar has to do now; htmx asks for it again and again.
type StepData struct {
	Order string
	// Ready: the phone has made its passkey. Over: the order has ended.
	Ready, Over, Completed bool
	Act                    *actRow
	Facts                  []Fact
}

// ownOrder reads the enrol order that this browser began.
func (d *Door) ownOrder(r *http.Request, s *domain.Session) (*order.View, error) {
	if err := s.May(domain.Registrar); err != nil {
		return nil, err
	}
	id, err := order.ParseID(chi.URLParam(r, "oid"))
	if err != nil {
		return nil, order.ErrNotFound
	}
	v, err := d.cfg.Orders.View(r.Context(), id, order.BrowserKey(d.key(r)))
	if err == nil && v.Kind != order.Enrol {
		err = order.ErrKind
	}
	return v, err
}

func (d *Door) step(r *http.Request, s *domain.Session, v *order.View) (StepData, error) {
	now := time.Now()
	state := v.StateAt(now)
	data := StepData{Order: v.ID.String(), Over: state.Ended(), Completed: state == order.Completed}
	a, err := d.cfg.Console.ActOfOrder(r.Context(), v.ID.UUID())
	switch {
	case err == nil:
		row := d.actRow(s, a)
		data.Act, data.Facts = &row, facts(a.Statement)
	case !errors.Is(err, domain.ErrAct):
		return data, err
	}
	_, err = d.cfg.Enrolments.InPersonStatement(r.Context(), v.ID, order.BrowserKey(d.key(r)))
	data.Ready = err == nil && !data.Over
	return data, nil
}

func (d *Door) inPersonOrder(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	v, err := d.ownOrder(r, s)
	if err != nil {
		return err
	}
	step, err := d.step(r, s, v)
	if err != nil {
		return err
	}
	st := PanelState{Order: v.ID.String(), Kind: v.Kind, State: v.StateAt(time.Now())}
	if v.CheckDigits != "" && st.State == order.Scanned {
		st.Check = &PanelCheck{v.CheckNeeded()}
	}
	return d.page(w, r, s, "in-person-order", "in-person", InPersonData{Order: st.Order, Step: step,
		Panel: PanelData{State: st, View: v, Mobile: d.from(r).Mobile, Here: d.cfg.Dev}})
}

// inPersonStep is the part of that page that refreshes itself.
func (d *Door) inPersonStep(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	v, err := d.ownOrder(r, s)
	if err != nil {
		return err
	}
	step, err := d.step(r, s, v)
	if err != nil {
		return err
	}
	return d.render.Part(w, r, "console/in-person-order", "console-in-person-part", Page{Who: s, Body: step})
}

// prepareInPerson asks the first registrar for an assertion over the statement.
func (d *Door) prepareInPerson(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	v, err := d.ownOrder(r, s)
	if err != nil {
		return err
	}
	st, err := d.cfg.Enrolments.InPersonStatement(r.Context(), v.ID, order.BrowserKey(d.key(r)))
	if err != nil {
		return err
	}
	p, err := d.cfg.Console.Prepare(s, domain.StepPropose, st.Statement)
	if err != nil {
		return err
	}
	return d.ask(w, r, s, "in-person", p, ApproveData{Second: true, Back: "/admin/in-person/" + v.ID.String()})
}

// proposeInPerson keeps the first registrar's assertion; the statement must be
// the one that the order has.
func (d *Door) proposeInPerson(r *http.Request, s *domain.Session, a domain.Answer) (next string, err error) {
	id, err := enrolment.InPersonOrder(a.Statement)
	if err != nil {
		return "", err
	}
	st, err := d.cfg.Enrolments.InPersonStatement(r.Context(), id, order.BrowserKey(d.key(r)))
	if err != nil {
		return "", err
	}
	if string(st.Statement) != string(a.Statement) {
		return "", domain.ErrStatement
	}
	_, err = d.cfg.Console.Propose(r.Context(), s, domain.Proposal{Kind: domain.BindInPerson, Reason: st.CardState, CitizenID: st.CitizenID,
		OrderID: id.UUID(), Until: st.Until}, a)
	return "/admin/in-person/" + id.String(), err
}
