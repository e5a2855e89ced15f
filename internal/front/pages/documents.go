package pages

import (
	"context"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"sealgate/internal/dossier"
	"sealgate/internal/fault"
	"sealgate/internal/front"
	"sealgate/internal/order"
)

// Documents is what the pages of official documents (公文) need.
type Documents struct {
	Service *dossier.Service
	// Name gives a person's name with its middle hidden, for their deputies.
	Name func(ctx context.Context, citizen uuid.UUID) (string, error)
	Most int // documents in one sign order
}

// inboxPath is the list of what waits for the person.
const inboxPath = "/documents"

// mountDocuments puts the routes of official documents on the router:
//
//	GET  /documents                       what waits for me, by agency
//	GET  /documents/signed                what I signed
//	POST /documents/orders                points → one sign order
//	GET  /documents/orders/{oid}          that order, and what becomes of each point
//	GET  /documents/{dossier}/{n}/return  send back (退件); POST makes the order
func (p *Pages) mountDocuments(r chi.Router) {
	r.Get(inboxPath, p.inbox)
	r.Get(inboxPath+"/signed", p.signedPoints)
	r.Post(inboxPath+"/orders", p.take)
	r.Get(inboxPath+"/orders/{oid}", p.pointsOrder)
	r.Get(inboxPath+"/{dossier}/{n}/return", p.returnForm)
	r.Post(inboxPath+"/{dossier}/{n}/return", p.returnPoint)
}

// InboxData is what the list of waiting points shows.
type InboxData struct {
	Groups []PointGroup
	Most   int
	Total  int
}

// Page is what the page's script reads.
func (d InboxData) Page() map[string]any { return map[string]any{"most": d.Most} }

// PointGroup is points that may be signed together: of one client and of one
// level of signatures.
type PointGroup struct {
	Client order.Client
	Level  string
	Points []PointRow
}

// PointRow is one point of approval as its signer or deputy sees it.
type PointRow struct {
	dossier.Waiting
	For  string // whose deputy the person is
	Open bool   // its files are shown at once
}

// Value names the point in a form.
func (w PointRow) Value() string { return pointValue(w.Dossier.ID, w.Point.Number) }

func pointValue(id dossier.ID, n int) string { return id.String() + "." + strconv.Itoa(n) }

// FileRow is a file of an official document.
type FileRow struct {
	Name string
	Size int64
	Code string // what people compare
}

// Files lists what the point signs.
func (w PointRow) Files() []FileRow {
	rows := make([]FileRow, 0, len(w.Point.Files))
	for _, n := range w.Point.Files {
		f := w.Dossier.Files[n-1]
		d := order.Document{Digest: base64.RawURLEncoding.EncodeToString(f.Digest)}
		rows = append(rows, FileRow{Name: f.Name, Size: f.Size, Code: d.DigestCode()})
	}
	return rows
}

// Documents is how many documents of an order the point takes: its files and itself.
func (w PointRow) Documents() int { return len(w.Point.Files) + 1 }

// Earlier lists the points that were decided before.
func (w PointRow) Earlier() []dossier.Point {
	var out []dossier.Point
	for _, q := range w.Dossier.Points {
		if q.Number != w.Point.Number && q.SignedAt != nil {
			out = append(out, q)
		}
	}
	return out
}

// Returnable says whether the point can be sent back.
func (w PointRow) Returnable() bool { return w.Point.State == dossier.PointOpen }

// showFiles is up to how many points their files are shown at once.
const showFiles = 5

// rows names the signers behind deputies.
func (p *Pages) rows(ctx context.Context, waiting []dossier.Waiting) ([]PointRow, error) {
	rows := make([]PointRow, len(waiting))
	for i, w := range waiting {
		rows[i] = PointRow{Waiting: w, Open: len(waiting) <= showFiles}
		if w.Deputy == nil {
			continue
		}
		name, err := p.cfg.Documents.Name(ctx, w.Point.Citizen)
		if err != nil {
			return nil, err
		}
		rows[i].For = name
	}
	return rows, nil
}

// grouped puts what may be signed together beside each other, in the order of
// the oldest point of each group.
func grouped(rows []PointRow) []PointGroup {
	var groups []PointGroup
	type key struct {
		client uuid.UUID
		level  string
	}
	at := map[key]int{}
	for _, w := range rows {
		k := key{w.Dossier.ClientID, w.Dossier.Level}
		i, ok := at[k]
		if !ok {
			i = len(groups)
			at[k] = i
			groups = append(groups, PointGroup{Client: w.Client, Level: w.Dossier.Level})
		}
		groups[i].Points = append(groups[i].Points, w)
	}
	return groups
}

// inbox lists what waits for the logged-in person.
func (p *Pages) inbox(w http.ResponseWriter, r *http.Request) {
	session, ok := p.session(w, r)
	if !ok {
		return
	}
	waiting, err := p.cfg.Documents.Service.Inbox(r.Context(), session.CitizenID)
	if err != nil {
		front.ErrorPage(w, r, err)
		return
	}
	rows, err := p.rows(r.Context(), waiting)
	if err != nil {
		front.ErrorPage(w, r, err)
		return
	}
	p.render.Page(w, r, http.StatusOK, "pages/documents", InboxData{Groups: grouped(rows), Most: p.cfg.Documents.Most, Total: len(rows)})
}

// signedPoints lists what the logged-in person signed.
func (p *Pages) signedPoints(w http.ResponseWriter, r *http.Request) {
	session, ok := p.session(w, r)
	if !ok {
		return
	}
	signed, err := p.cfg.Documents.Service.Signed(r.Context(), session.CitizenID)
	if err != nil {
		front.ErrorPage(w, r, err)
		return
	}
	rows, err := p.rows(r.Context(), signed)
	if err != nil {
		front.ErrorPage(w, r, err)
		return
	}
	p.render.Page(w, r, http.StatusOK, "pages/documents-signed", rows)
}

// back to the list is the way on from every error here.
func (p *Pages) inboxError(w http.ResponseWriter, r *http.Request, err error) {
	front.ErrorPageTo(w, r, err, "inbox.back", inboxPath)
}

// form reads the session of a posted form; without one the person logs in first.
func (p *Pages) form(w http.ResponseWriter, r *http.Request) (front.Session, bool) {
	s, ok := p.cfg.Shell.Sessions().Get(r, front.DesktopSession)
	if !ok {
		http.Redirect(w, r, "/session/login?return="+inboxPath, http.StatusSeeOther)
		return s, false
	}
	if err := r.ParseForm(); err != nil {
		p.inboxError(w, r, dossier.ErrInvalid.With("field", "points").Because(err))
		return s, false
	}
	return s, true
}

var errNothingChosen = fault.New(fault.Invalid, "documents_none_chosen")

// take makes one sign order over the chosen points.
func (p *Pages) take(w http.ResponseWriter, r *http.Request) {
	session, ok := p.form(w, r)
	if !ok {
		return
	}
	chosen := r.PostForm["point"]
	if len(chosen) == 0 {
		p.inboxError(w, r, errNothingChosen)
		return
	}
	var points []dossier.PointRef
	for _, value := range chosen {
		id, number, _ := strings.Cut(value, ".")
		ref, err := pointRef(id, number)
		if err != nil {
			p.inboxError(w, r, err)
			return
		}
		points = append(points, ref)
	}
	p.begin(w, r, session, dossier.TakeRequest{Points: points, Comment: strings.TrimSpace(r.PostFormValue("comment"))})
}

// begin makes the order and leads to it.
func (p *Pages) begin(w http.ResponseWriter, r *http.Request, session front.Session, t dossier.TakeRequest) {
	browser := order.BrowserKey(front.EnsureBrowser(w, r))
	t.Citizen, t.Browser, t.From = session.CitizenID, &browser, p.from(r)
	o, _, err := p.cfg.Documents.Service.Take(r.Context(), t)
	if err != nil {
		p.inboxError(w, r, err)
		return
	}
	http.Redirect(w, r, inboxPath+"/orders/"+o.ID.String(), http.StatusSeeOther)
}

func pointRef(id, number string) (dossier.PointRef, error) {
	d, err := dossier.ParseID(id)
	if err != nil {
		return dossier.PointRef{}, err
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 {
		return dossier.PointRef{}, dossier.ErrPointNotFound
	}
	return dossier.PointRef{Dossier: d, Point: n}, nil
}

// ReturnData is what the page shows where a document is sent back.
type ReturnData struct {
	Row     PointRow
	Reason  string
	Invalid bool // the reason was missing or is none
}

// waitingPoint finds the point of the path among what waits for the person:
// what does not wait for them does not exist here.
func (p *Pages) waitingPoint(r *http.Request, session front.Session) (PointRow, error) {
	ref, err := pointRef(chi.URLParam(r, "dossier"), chi.URLParam(r, "n"))
	if err != nil {
		return PointRow{}, err
	}
	waiting, err := p.cfg.Documents.Service.Inbox(r.Context(), session.CitizenID)
	if err != nil {
		return PointRow{}, err
	}
	for _, one := range waiting {
		if one.Dossier.ID == ref.Dossier && one.Point.Number == ref.Point {
			rows, err := p.rows(r.Context(), []dossier.Waiting{one})
			if err != nil {
				return PointRow{}, err
			}
			return rows[0], nil
		}
	}
	return PointRow{}, dossier.ErrPointNotFound
}

// returnForm asks for the reason of a return.
func (p *Pages) returnForm(w http.ResponseWriter, r *http.Request) {
	session, ok := p.session(w, r)
	if !ok {
		return
	}
	row, err := p.waitingPoint(r, session)
	if err == nil && !row.Returnable() {
		err = dossier.ErrPointState
	}
	if err != nil {
		p.inboxError(w, r, err)
		return
	}
	p.render.Page(w, r, http.StatusOK, "pages/documents-return", ReturnData{Row: row})
}

// returnPoint makes the order that sends a document back.
func (p *Pages) returnPoint(w http.ResponseWriter, r *http.Request) {
	session, ok := p.form(w, r)
	if !ok {
		return
	}
	row, err := p.waitingPoint(r, session)
	if err != nil {
		p.inboxError(w, r, err)
		return
	}
	reason := strings.TrimSpace(r.PostFormValue("reason"))
	if n := len([]rune(reason)); n == 0 || n > maxReason || strings.ContainsAny(reason, "\r\n") {
		p.render.Page(w, r, http.StatusUnprocessableEntity, "pages/documents-return", ReturnData{Row: row, Reason: reason, Invalid: true})
		return
	}
	p.begin(w, r, session, dossier.TakeRequest{Points: []dossier.PointRef{{Dossier: row.Dossier.ID, Point: row.Point.Number}},
		Decision: dossier.Return, Comment: reason})
}

// maxReason is how long a reason may be, in characters; package dossier decides.
const maxReason = 300

// PointsOrderData is a sign order over points and what becomes of them.
type PointsOrderData struct {
	Order  OrderData
	Points []ProgressRow
}

// Settled says whether nothing more becomes of the points.
func (d PointsOrderData) Settled() bool {
	for _, p := range d.Points {
		if p.State == dossier.ClaimOut {
			return false
		}
	}
	return true
}

// ProgressRow is what became of one point.
type ProgressRow struct {
	Key       string             `json:"key"` // the point
	State     dossier.ClaimState `json:"state"`
	Word      string             `json:"word"`
	Why       string             `json:"why"` // and what to do
	Title     string             `json:"-"`
	Reference string             `json:"-"`
	Deputy    bool               `json:"-"`
	Documents []documentRow      `json:"-"`
}

// Tone is how the state is shown.
func (p ProgressRow) Tone() string {
	switch p.State {
	case dossier.ClaimAttached:
		return "ok"
	case dossier.ClaimLeftOut:
		return "warn"
	case dossier.ClaimLost, dossier.ClaimVoid:
		return "danger"
	}
	return ""
}

// progress tells what became of the points of an order, for the person whose it is.
func (p *Pages) progress(r *http.Request, id order.ID) ([]ProgressRow, []dossier.Taken, error) {
	session, ok := p.cfg.Shell.Sessions().Get(r, front.DesktopSession)
	if !ok {
		return nil, nil, front.ErrSessionRequired
	}
	taken, err := p.cfg.Documents.Service.Progress(r.Context(), session.CitizenID, id)
	if err == nil && len(taken) == 0 {
		err = order.ErrNotFound
	}
	if err != nil {
		return nil, nil, err
	}
	rows := make([]ProgressRow, len(taken))
	for i, t := range taken {
		rows[i] = ProgressRow{Key: pointValue(t.Dossier, t.Point), State: t.State, Title: t.Title, Reference: t.Reference, Deputy: t.Deputy,
			Word: p.text(r, "inbox.claim."+string(t.Decision)+"."+string(t.State))}
		if t.Failure != "" {
			rows[i].Why = p.text(r, "fault."+t.Failure) + " " + p.text(r, "fault."+t.Failure+".next")
		}
	}
	return rows, taken, nil
}

// pointsOrder shows the order to the person in the browser that began it.
func (p *Pages) pointsOrder(w http.ResponseWriter, r *http.Request) {
	if _, ok := p.session(w, r); !ok {
		return
	}
	v, err := p.mine(r)
	if err != nil {
		p.inboxError(w, r, err)
		return
	}
	rows, taken, err := p.progress(r, v.ID)
	if err != nil {
		p.inboxError(w, r, err)
		return
	}
	d := PointsOrderData{Order: p.orderData(r, v), Points: rows}
	all := documentRows(v, d.Order.State.Documents)
	for i, t := range taken {
		if t.First >= 0 && t.First <= t.Document && t.Document < len(all) {
			d.Points[i].Documents = all[t.First : t.Document+1]
		}
	}
	p.render.Page(w, r, http.StatusOK, "pages/documents-order", d)
}

// ofPoints says whether an order is over points of the person who is logged in
// here, whose own page tells more.
func (p *Pages) ofPoints(r *http.Request, v *order.View) bool {
	if p.cfg.Documents == nil || v.Kind != order.Sign {
		return false
	}
	_, _, err := p.progress(r, v.ID)
	return err == nil
}
