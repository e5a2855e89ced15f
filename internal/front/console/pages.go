package console

import (
	"net/http"
	"net/url"

	"github.com/google/uuid"

	domain "sealgate/internal/console"
	"sealgate/internal/front"
)

// AdministratorsData is the page of administrators.
type AdministratorsData struct {
	All   []domain.Administrator
	Roles []domain.Role
}

func (d *Door) administrators(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	all, err := d.cfg.Console.List(r.Context())
	if err != nil {
		return err
	}
	return d.page(w, r, s, "administrators", "administrators", AdministratorsData{All: all, Roles: domain.Roles()})
}

func (d *Door) prepareInvite(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	if err := form(w, r); err != nil {
		return err
	}
	var roles []domain.Role
	for _, word := range r.PostForm["role"] {
		roles = append(roles, domain.Role(word))
	}
	p, err := d.cfg.Console.PrepareInvite(s, r.PostForm.Get("name"), roles)
	if err != nil {
		return err
	}
	return d.ask(w, r, s, "administrators", p, ApproveData{Back: "/admin/administrators"})
}

func (d *Door) prepareRemove(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	id, err := idOf(r, domain.ErrPerson)
	if err == nil {
		err = form(w, r)
	}
	if err != nil {
		return err
	}
	p, err := d.cfg.Console.PrepareRemove(r.Context(), s, id, r.PostForm.Get("reason"))
	if err != nil {
		return err
	}
	return d.ask(w, r, s, "administrators", p, ApproveData{Back: "/admin/administrators"})
}

// PeopleData is the page that finds a person.
type PeopleData struct{ Reasons []string }

func (d *Door) people(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	if !(Page{Who: s}).Can("people") {
		return domain.ErrRole
	}
	return d.page(w, r, s, "people", "people", PeopleData{Reasons: domain.LookReasons()})
}

func (d *Door) look(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	if err := form(w, r); err != nil {
		return err
	}
	id, grant, err := d.cfg.Console.Look(r.Context(), s, r.PostForm.Get("query"), r.PostForm.Get("reason"))
	if err != nil {
		front.Recorded(r)
		return err
	}
	http.Redirect(w, r, "/admin/people/"+id.String()+"?grant="+url.QueryEscape(grant), http.StatusSeeOther)
	return nil
}

// PersonData is a person's page.
type PersonData struct {
	*domain.Person
	Grant             string
	Active, Resumable int
}

func (d *Door) mine(r *http.Request, s *domain.Session, grant string) (*domain.Person, error) {
	id, err := idOf(r, domain.ErrPerson)
	if err != nil {
		return nil, err
	}
	return d.cfg.Console.Person(r.Context(), s, id, grant)
}

func (d *Door) person(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	grant := r.URL.Query().Get("grant")
	p, err := d.mine(r, s, grant)
	if err != nil {
		return err
	}
	data := PersonData{Person: p, Grant: grant}
	for _, phone := range p.Phones {
		if phone.State == "active" {
			data.Active++
		}
		if domain.Resumable(phone) {
			data.Resumable++
		}
	}
	return d.page(w, r, s, "person", "people", data)
}

// prepareStop asks about all phones, or the one that the form names.
func (d *Door) prepareStop(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	return d.preparePhones(w, r, s, false, func(p *domain.Person, device uuid.UUID, reason string) (*domain.Prepared, error) {
		return d.cfg.Console.PrepareStop(s, p, device, reason)
	})
}

func (d *Door) prepareResume(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	return d.preparePhones(w, r, s, true, func(p *domain.Person, _ uuid.UUID, reason string) (*domain.Prepared, error) {
		return d.cfg.Console.PrepareResume(s, p, reason)
	})
}

func (d *Door) preparePhones(w http.ResponseWriter, r *http.Request, s *domain.Session, second bool,
	prepare func(*domain.Person, uuid.UUID, string) (*domain.Prepared, error)) error {
	if err := form(w, r); err != nil {
		return err
	}
	grant := r.PostForm.Get("grant")
	person, err := d.mine(r, s, grant)
	if err != nil {
		return err
	}
	device := uuid.Nil
	if typed := r.PostForm.Get("device"); typed != "" {
		if device, err = uuid.Parse(typed); err != nil {
			return domain.ErrNothing
		}
	}
	p, err := prepare(person, device, r.PostForm.Get("reason"))
	if err != nil {
		return err
	}
	back := "/admin/people/" + person.ID.String() + "?grant=" + url.QueryEscape(grant)
	return d.ask(w, r, s, "people", p, ApproveData{Second: second, Back: back})
}

func (d *Door) acts(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	rows, err := d.actRows(r.Context(), s)
	if err != nil {
		return err
	}
	return d.page(w, r, s, "acts", "acts", rows)
}

// ActData is the page of one two-person act.
type ActData struct {
	Row     actRow
	Purpose string
	Facts   []Fact
	Digits  bool // the two digits of the counter have to be typed
}

func (d *Door) act(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	id, err := idOf(r, domain.ErrAct)
	if err != nil {
		return err
	}
	a, err := d.cfg.Console.Act(r.Context(), id)
	if err != nil {
		return err
	}
	row := d.actRow(s, a)
	if !row.Mine && !s.Administrator.Has(a.Kind.MayConfirm()...) && !s.Administrator.Has(domain.Auditor, domain.SecurityOfficer) {
		return domain.ErrRole
	}
	return d.page(w, r, s, "act", "acts", ActData{Row: row, Purpose: lastPart(string(a.Kind)), Facts: facts(a.Statement), Digits: a.Digits != ""})
}

func (d *Door) prepareConfirm(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	id, err := idOf(r, domain.ErrAct)
	if err == nil {
		err = form(w, r)
	}
	if err != nil {
		return err
	}
	p, err := d.cfg.Console.PrepareConfirm(r.Context(), s, id, r.PostForm.Get("digits"))
	if err != nil {
		return err
	}
	return d.ask(w, r, s, "acts", p, ApproveData{Act: id.String(), Back: "/admin/acts/" + id.String()})
}

func (d *Door) refuse(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	id, err := idOf(r, domain.ErrAct)
	if err == nil {
		err = d.cfg.Console.Refuse(r.Context(), s, id)
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/admin/acts?done=refused", http.StatusSeeOther)
	return nil
}

func (d *Door) withdraw(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	id, err := idOf(r, domain.ErrAct)
	if err == nil {
		err = d.cfg.Console.Withdraw(r.Context(), s, id)
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/admin/acts?done=withdrawn", http.StatusSeeOther)
	return nil
}
