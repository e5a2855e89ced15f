package pages

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	qrcode "github.com/skip2/go-qrcode"

	"sealgate/internal/fault"
	"sealgate/internal/front"
	"sealgate/internal/order"
	"sealgate/internal/signing"
)

// OrderData is what the page of an order shows.
type OrderData struct {
	State  State
	View   *order.View
	Frame  string // of the first picture
	Mobile bool   // the browser says it is on a phone
	Own    bool   // asked for by our own pages
	Here   bool   // a development server: this browser may play the phone
	Still  bool   // shows a state and follows nothing (/dev/states)
}

// Page is what the page's script reads.
func (d OrderData) Page() map[string]any {
	return map[string]any{"state": d.State, "frame": d.Frame, "site": d.View.Asked.Client.Name,
		"qr": d.View.QRAllowed, "live": !d.Still}
}

// Bare says whether the row is no file but a record: its signature is of use in
// that record alone.
func (d documentRow) Bare() bool { return d.Form == signing.FormRaw }

// Documents lists what is to be signed, with its short code.
func (d OrderData) Documents() []documentRow {
	rows := documentRows(d.View, d.State.Documents)
	for i := range rows {
		rows[i].Inside = d.Own && rows[i].Form == signing.FormPAdES
	}
	return rows
}

// Beside says whether any signature is a file beside its document.
func (d OrderData) Beside() bool {
	return slices.ContainsFunc(d.Documents(), func(r documentRow) bool { return !r.Inside })
}

type documentRow struct {
	order.Document
	Index int
	Code  string
	State string
	Href  string
	// Inside: our own page puts the signature into the PDF.
	Inside bool
}

func documentRows(v *order.View, states []DocumentState) []documentRow {
	rows := make([]documentRow, len(states))
	for i, d := range v.Asked.Documents {
		rows[i] = documentRow{Document: d, Index: i, Code: d.DigestCode(), State: states[i].State,
			Href: "/o/" + v.ID.String() + "/documents/" + strconv.Itoa(i) + ".p7s"}
	}
	return rows
}

// order shows the order to the browser that started it.
func (p *Pages) order(w http.ResponseWriter, r *http.Request) {
	v, err := p.mine(r)
	if err != nil {
		p.orderError(w, r, err)
		return
	}
	switch {
	case v.Kind == order.Enrol:
		http.Redirect(w, r, "/enrol/"+v.ID.String(), http.StatusSeeOther)
		return
	case v.Kind == order.Sign && v.ClientID == p.cfg.OwnClient.ID:
		http.Redirect(w, r, "/sign/"+v.ID.String(), http.StatusSeeOther)
		return
	case p.ofPoints(r, v):
		http.Redirect(w, r, inboxPath+"/orders/"+v.ID.String(), http.StatusSeeOther)
		return
	}
	p.render.Page(w, r, http.StatusOK, "pages/order", p.orderData(r, v))
}

func (p *Pages) orderData(r *http.Request, v *order.View) OrderData {
	now := time.Now()
	d := OrderData{State: p.stateOf(v, now), View: v, Own: v.ClientID == p.cfg.OwnClient.ID, Mobile: p.from(r).Mobile, Here: p.cfg.Dev}
	if d.State.State == order.Created && v.QRAllowed {
		d.Frame = p.cfg.Orders.Frame(v, now)
	}
	return d
}

// orderError shows why an order cannot be shown; a lost cookie has its own words.
func (p *Pages) orderError(w http.ResponseWriter, r *http.Request, err error) {
	front.ErrorPageTo(w, r, err, "error.home", "/")
}

// picture draws the present frame for browsers without scripts. The page names
// it only inside <noscript>, so nobody else asks for it.
func (p *Pages) picture(w http.ResponseWriter, r *http.Request) {
	v, err := p.mine(r)
	if err != nil {
		front.Fail(w, r, err)
		return
	}
	now := time.Now()
	if v.StateAt(now) != order.Created || !v.QRAllowed {
		front.Fail(w, r, order.ErrState)
		return
	}
	png, err := qrcode.Encode(p.cfg.Orders.Frame(v, now), qrcode.Medium, 480)
	if err != nil {
		front.Fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "image/png")
	_, _ = w.Write(png)
}

// orderAct is a step of the starting browser: cancel, extend, freeze.
type orderAct func(ctx context.Context, id order.ID, browser order.BrowserKey, from order.Origin) error

// act answers a step with the state it led to. A form without script gets the page.
func (p *Pages) act(step orderAct) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, browser, err := p.key(r)
		if err == nil {
			err = step(r.Context(), id, browser, p.from(r))
		}
		p.answer(w, r, id, err, "")
	}
}

func (p *Pages) key(r *http.Request) (order.ID, order.BrowserKey, error) {
	id, err := orderID(r)
	if err != nil {
		return id, order.BrowserKey{}, err
	}
	browser, ok := front.Browser(r)
	if !ok {
		return id, browser, front.ErrBrowserRequired
	}
	return id, browser, nil
}

// stateWithCode is the state, and the code that was made.
type stateWithCode struct {
	State
	Code string `json:"code,omitempty"`
}

// answer gives the state after a step, as JSON to scripts, as the page to forms.
func (p *Pages) answer(w http.ResponseWriter, r *http.Request, id order.ID, err error, code string) {
	html := strings.Contains(r.Header.Get("Accept"), "text/html")
	switch {
	case err != nil && html:
		p.orderError(w, r, err)
		return
	case err != nil:
		front.WriteProblem(w, r, err)
		return
	case html:
		http.Redirect(w, r, "/o/"+id.String(), http.StatusSeeOther)
		return
	}
	v, err := p.mine(r)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, stateWithCode{State: p.stateOf(v, time.Now()), Code: code})
}

// check takes the two digits that the phone shows.
func (p *Pages) check(w http.ResponseWriter, r *http.Request) {
	id, browser, err := p.key(r)
	if err == nil {
		var body struct {
			Digits string `json:"digits"`
		}
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
			body.Digits = r.PostFormValue("digits")
		} else {
			err = front.DecodeJSON(r, &body, 1024)
		}
		if err == nil {
			err = p.cfg.Orders.Check(r.Context(), id, browser, clean(body.Digits), p.from(r))
		}
	}
	p.answer(w, r, id, err, "")
}

// clean takes spaces and full-width digits as people type them.
func clean(s string) string {
	if len(s) > 32 {
		return ""
	}
	return strings.Map(func(c rune) rune {
		switch {
		case c >= '０' && c <= '９':
			return c - '０' + '0'
		case c == ' ' || c == '\u3000':
			return -1
		}
		return c
	}, s)
}

// code makes eight digits to type on the phone instead of scanning.
func (p *Pages) code(w http.ResponseWriter, r *http.Request) {
	id, browser, err := p.key(r)
	code := ""
	if err == nil {
		code, err = p.cfg.Orders.TypedCode(r.Context(), id, browser, p.from(r))
	}
	if len(code) == 8 {
		code = code[:4] + " " + code[4:]
	}
	if err != nil || !strings.Contains(r.Header.Get("Accept"), "text/html") {
		p.answer(w, r, id, err, code)
		return
	}
	p.render.Page(w, r, http.StatusOK, "pages/code", map[string]any{"Code": code, "Order": id.String()})
}

// start opens an order that was made over the API: the start token is in the
// fragment, which never reaches a server by itself; the page's script posts it.
func (p *Pages) start(w http.ResponseWriter, r *http.Request) {
	id, err := orderID(r)
	if err != nil {
		p.orderError(w, r, err)
		return
	}
	p.render.Page(w, r, http.StatusOK, "pages/start", map[string]any{"Order": id.String()})
}

// open binds the order to this browser.
func (p *Pages) open(w http.ResponseWriter, r *http.Request) {
	id, err := orderID(r)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	var body struct {
		StartToken string `json:"start_token"`
	}
	if err := front.DecodeJSON(r, &body, 1024); err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	browser := order.BrowserKey(front.EnsureBrowser(w, r))
	if err := p.cfg.Orders.Open(r.Context(), id, body.StartToken, browser, p.from(r)); err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	p.answer(w, r, id, nil, "")
}

var errDocumentNotSigned = fault.New(fault.NotFound, "document_not_signed")

// signature gives the .p7s of one document, to the browser of the order or to
// the citizen who signed it.
func (p *Pages) signature(w http.ResponseWriter, r *http.Request) {
	v, err := p.mineOrSigned(r)
	if err != nil {
		front.Fail(w, r, err)
		return
	}
	n, err := strconv.Atoi(chi.URLParam(r, "n"))
	if err != nil || n < 0 || n >= len(v.Asked.Documents) || v.Kind != order.Sign {
		front.Fail(w, r, errDocumentNotSigned)
		return
	}
	der, err := p.cfg.Signature(r.Context(), v.ID.UUID(), n)
	if err != nil {
		front.Fail(w, r, err)
		return
	}
	h := w.Header()
	kind, ending := "application/pkcs7-signature", ".p7s"
	if form := v.Asked.Documents[n].Form; form == signing.FormRaw || form == signing.FormPKCS1 {
		kind, ending = "application/octet-stream", ".sig" // a bare signature value
	}
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", attachment(v.Asked.Documents[n].Name+ending))
	h.Set("Content-Length", strconv.Itoa(len(der)))
	_, _ = w.Write(der)
}

// mineOrSigned reads the order of the path for its browser, or for the logged-in citizen who signed it.
func (p *Pages) mineOrSigned(r *http.Request) (*order.View, error) {
	v, err := p.mine(r)
	if err == nil {
		return v, nil
	}
	session, ok := p.cfg.Shell.Sessions().Get(r, front.DesktopSession)
	id, idErr := orderID(r)
	if !ok || idErr != nil {
		return nil, err
	}
	o, findErr := p.cfg.Orders.Find(r.Context(), id)
	if findErr != nil || o.CitizenID == nil || *o.CitizenID != session.CitizenID {
		return nil, err
	}
	asked, parseErr := order.ParseContent(o.Content)
	if parseErr != nil {
		return nil, parseErr
	}
	return &order.View{Order: *o, Asked: asked}, nil
}

// attachment writes a Content-Disposition header (RFC 6266 §4.3) for any name;
// what could be taken for a path, or hide the file, is taken out of it.
func attachment(name string) string {
	name = strings.TrimLeft(strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || strings.ContainsRune(`/\:*?"<>|`, r) {
			return '_'
		}
		return r
	}, name), ". ")
	var ascii, encoded strings.Builder
	for _, b := range []byte(name) {
		switch {
		case b >= '0' && b <= '9', b >= 'A' && b <= 'Z', b >= 'a' && b <= 'z', b == '.', b == '-', b == '_':
			encoded.WriteByte(b)
			ascii.WriteByte(b)
		default:
			encoded.WriteString("%" + strings.ToUpper(string("0123456789abcdef"[b>>4])+string("0123456789abcdef"[b&15])))
			if b < 0x80 {
				ascii.WriteByte('_')
			}
		}
	}
	return `attachment; filename="` + ascii.String() + `"; filename*=UTF-8''` + encoded.String()
}
