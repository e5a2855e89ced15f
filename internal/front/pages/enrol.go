package pages

import (
	"encoding/base64"
	"net/http"
	"time"

	"sealgate/internal/enrolment"
	"sealgate/internal/front"
	"sealgate/internal/i18n"
	"sealgate/internal/order"
)

// maxCardBody bounds what the enrolment page posts, in bytes.
const maxCardBody = 128 << 10

// EnrolData is what the page that binds a phone shows. Order is empty until
// the card has been read.
type EnrolData struct {
	Order    string
	State    *State
	View     *order.View
	Frame    string
	Card     CardData
	SoftCard bool
	Mobile   bool
	Here     bool       // a development server: this browser may play the phone
	Still    bool       // shows a state and follows nothing (/dev/states)
	Error    *CardFault // shown at once (/dev/states)
	Pending  bool       // bound; another CA has yet to issue the certificate
}

// CardFault is a reason why the card could not be used, as card.ts names it.
type CardFault struct {
	Reason string            `json:"reason"`
	Params map[string]string `json:"params,omitempty"`
}

// CardData tells the script where the card component is. The PIN goes there,
// by postMessage to exactly this origin, and nowhere else.
type CardData struct {
	Origin   string `json:"origin"`
	Download string `json:"download,omitempty"`
}

// Page is what the page's script reads.
func (d EnrolData) Page() map[string]any {
	return map[string]any{"order": d.Order, "state": d.State, "frame": d.Frame, "card": d.Card, "live": !d.Still, "error": d.Error}
}

func (p *Pages) enrolData(r *http.Request) EnrolData {
	return EnrolData{Card: CardData{Origin: p.cfg.CardOrigin, Download: p.cfg.CardDownload},
		SoftCard: p.cfg.SoftCard, Mobile: p.from(r).Mobile, Here: p.cfg.Dev}
}

// enrolPolicy lets the page keep its link to the component's window.
func enrolPolicy(w http.ResponseWriter) { front.Policy{Popups: true}.Apply(w) }

// enrol shows the explanation and the first steps; nothing touches the
// component before the person presses the button.
func (p *Pages) enrol(w http.ResponseWriter, r *http.Request) {
	front.EnsureBrowser(w, r)
	enrolPolicy(w)
	p.render.Page(w, r, http.StatusOK, "pages/enrol", p.enrolData(r))
}

// enrolOrder shows an enrolment that has its order: the QR code and what follows.
func (p *Pages) enrolOrder(w http.ResponseWriter, r *http.Request) {
	v, err := p.mine(r)
	if err == nil && v.Kind != order.Enrol {
		err = order.ErrKind
	}
	if err != nil {
		front.ErrorPageTo(w, r, err, "enrol.restart", "/enrol")
		return
	}
	d := p.enrolData(r)
	now := time.Now()
	st := p.stateOf(v, now)
	d.Order, d.State, d.View = v.ID.String(), &st, v
	if st.State == order.Created {
		d.Frame = p.cfg.Orders.Frame(v, now)
	}
	if st.State == order.Completed {
		if d.Pending, err = p.cfg.Enrolments.Pending(r.Context(), v.ID); err != nil {
			front.ErrorPageTo(w, r, err, "enrol.restart", "/enrol")
			return
		}
	}
	enrolPolicy(w)
	p.render.Page(w, r, http.StatusOK, "pages/enrol", d)
}

// enrolCard takes what was read from the card and makes the enrol order.
func (p *Pages) enrolCard(w http.ResponseWriter, r *http.Request) {
	var body struct {
		NationalID       string `json:"national_id"`
		Certificate      string `json:"certificate"`
		ComponentVersion string `json:"component_version"`
		CardNumber       string `json:"card_number"`
	}
	if err := front.DecodeJSON(r, &body, maxCardBody); err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	der, err := base64.StdEncoding.DecodeString(body.Certificate)
	if err != nil {
		front.WriteProblem(w, r, enrolment.ErrCertificate)
		return
	}
	begun, err := p.cfg.Enrolments.Begin(r.Context(), enrolment.BeginRequest{
		NationalID: body.NationalID, Certificate: der, CardNumber: body.CardNumber,
		Browser: order.BrowserKey(front.EnsureBrowser(w, r)), Started: p.from(r), Text: p.text(r, "enrol.order_text"),
	})
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusCreated, struct {
		Order      string `json:"order"`
		MaskedName string `json:"masked_name"`
		NotAfter   string `json:"not_after"`
	}{begun.Order.String(), begun.MaskedName, timestamp(begun.NotAfter)})
}

// enrolStatement gives what the card has to sign, once the phone has made its key.
func (p *Pages) enrolStatement(w http.ResponseWriter, r *http.Request) {
	id, browser, err := p.key(r)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	tbs, nonce, err := p.cfg.Enrolments.Statement(r.Context(), id, browser)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	replaces, err := p.cfg.Enrolments.Replaceable(r.Context(), id, browser)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, struct {
		TBS   string `json:"tbs"`
		Nonce string `json:"nonce"`
		// Replaces is the name of a phone that this one can take the place of.
		Replaces string `json:"replaces,omitempty"`
	}{base64.StdEncoding.EncodeToString(tbs), nonce, replaces})
}

// enrolProof takes the card's signature over the statement and binds the phone.
func (p *Pages) enrolProof(w http.ResponseWriter, r *http.Request) {
	id, browser, err := p.key(r)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	var body struct {
		Signature   string `json:"signature"`
		Certificate string `json:"certificate"`
		CardNumber  string `json:"card_number"`
		Replace     bool   `json:"replace"`
	}
	if err := front.DecodeJSON(r, &body, maxCardBody); err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	signature, err := base64.StdEncoding.DecodeString(body.Signature)
	if err != nil {
		front.WriteProblem(w, r, enrolment.ErrProofMalformed)
		return
	}
	certificate, err := base64.StdEncoding.DecodeString(body.Certificate)
	if err != nil {
		front.WriteProblem(w, r, enrolment.ErrProofMalformed)
		return
	}
	bound, err := p.cfg.Enrolments.Complete(r.Context(), enrolment.CompleteRequest{Order: id, Browser: browser,
		Signature: signature, Certificate: certificate, CardNumber: body.CardNumber, Replace: body.Replace, From: p.from(r)})
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, boundJSON(bound))
}

// text gives a text in the request's language.
func (p *Pages) text(r *http.Request, key string) string {
	return p.cfg.Shell.Catalogue().T(front.Lang(r), key)
}

func matchLang(tag string) (i18n.Lang, bool) { return i18n.Match(tag) }

// boundJSON tells what was bound, without anything personal.
func boundJSON(b *enrolment.Bound) any {
	type device struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	type certificate struct {
		ID          string `json:"id"`
		Certificate string `json:"certificate"` // base64 of DER
		NotAfter    string `json:"not_after"`
	}
	out := struct {
		Device      device       `json:"device"`
		Certificate *certificate `json:"mobile_certificate,omitempty"` // none while another CA has not issued it
	}{Device: device{b.Device.ID.String(), b.Device.Name}}
	if b.Certificate != nil {
		out.Certificate = &certificate{b.CertificateID.String(), base64.StdEncoding.EncodeToString(b.Certificate), timestamp(b.NotAfter)}
	}
	return out
}

// Over says that nothing more can come of the order but a new beginning.
func (d EnrolData) Over() bool {
	return d.State != nil && d.State.State.Ended() && d.State.State != order.Completed
}

// CheckItems lists what the page checks before it reads the card.
func (d EnrolData) CheckItems() []string {
	return []string{"browser", "component", "version", "reader", "card"}
}
