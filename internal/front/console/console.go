// Package console is the administrators' door: pages under /admin, written by
// the server, with htmx for what refreshes itself and a small script for
// passkeys.
//
//	GET  /admin                     what waits, and where to go
//	GET  /admin/sign-in, /admin/join        passkey ceremonies (join: by a one-time link)
//	GET  /admin/administrators      who may what; invitations
//	GET  /admin/people              find a person, with a reason
//	GET  /admin/people/{id}         their phones
//	GET  /admin/acts                two-person acts
//	GET  /admin/in-person           a registrar binds a phone at a counter
//	POST …/prepare                  shows a statement and asks for an assertion over it
//	POST /admin/approve             brings the assertion
//
// Every page but sign-in and join needs a session: a cookie that no script
// reads, that works in one browser only, and that no other site's request
// carries. Requests that a page makes by itself do not keep a session alive.
package console

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	domain "sealgate/internal/console"
	"sealgate/internal/enrolment"
	"sealgate/internal/fault"
	"sealgate/internal/front"
	"sealgate/internal/order"
)

// Config is what the console needs; everything is required but Country.
type Config struct {
	Shell      *front.Shell
	Console    *domain.Service
	Enrolments *enrolment.Service
	Orders     *order.Service
	// Country tells the country of a request, where a proxy in front knows it.
	Country func(*http.Request) string
	// Dev lets this browser play the citizen's phone.
	Dev bool
}

// Door serves the routes above.
type Door struct {
	cfg    Config
	render *front.Renderer
}

// New checks the configuration.
func New(cfg Config) (*Door, error) {
	if cfg.Shell == nil || cfg.Console == nil || cfg.Enrolments == nil || cfg.Orders == nil {
		return nil, errors.New("front/console: a part is missing from the configuration")
	}
	if cfg.Country == nil {
		cfg.Country = func(*http.Request) string { return "" }
	}
	return &Door{cfg: cfg, render: cfg.Shell.Render()}, nil
}

// Mount puts the routes on a router that already has Shell.Use and Shell.Browser.
func (d *Door) Mount(r chi.Router) {
	r.Route("/admin", func(r chi.Router) {
		r.Get("/sign-in", d.signInPage)
		r.Post("/sign-in/options", d.signInOptions)
		r.Post("/sign-in", d.signIn)
		r.Get("/join", d.joinPage)
		r.Post("/join/look", d.joinLook)
		r.Post("/join/options", d.joinOptions)
		r.Post("/join", d.join)
		r.Post("/sign-out", d.in(d.signOut))
		r.Get("/", d.in(d.home))
		r.Get("/waiting", d.in(d.waiting))
		r.Get("/administrators", d.in(d.administrators))
		r.Post("/administrators/invite/prepare", d.in(d.prepareInvite))
		r.Post("/administrators/{id}/remove/prepare", d.in(d.prepareRemove))
		r.Get("/people", d.in(d.people))
		r.Post("/people", d.in(d.look))
		r.Get("/people/{id}", d.in(d.person))
		r.Post("/people/{id}/stop/prepare", d.in(d.prepareStop))
		r.Post("/people/{id}/resume/prepare", d.in(d.prepareResume))
		r.Get("/acts", d.in(d.acts))
		r.Get("/acts/{id}", d.in(d.act))
		r.Post("/acts/{id}/confirm/prepare", d.in(d.prepareConfirm))
		r.Post("/acts/{id}/refuse", d.in(d.refuse))
		r.Post("/acts/{id}/withdraw", d.in(d.withdraw))
		r.Post("/approve", d.in(d.approve))
		d.mountInPerson(r)
	})
}

// handler is a page or step for somebody who is signed in.
type handler func(w http.ResponseWriter, r *http.Request, s *domain.Session) error

// in asks who is signed in and answers what went wrong, as a page or, to the
// page's own scripts, as a problem.
func (d *Door) in(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, err := d.session(r)
		if err == nil {
			err = h(w, r, s)
		}
		if err != nil {
			d.fail(w, r, err)
		}
	}
}

func (d *Door) fail(w http.ResponseWriter, r *http.Request, err error) {
	signedOut := fault.CodeOf(err) == domain.ErrSignedOut.Code
	switch {
	case isScript(r):
		front.WriteProblem(w, r, err)
	case signedOut && r.Method == http.MethodGet:
		http.Redirect(w, r, "/admin/sign-in", http.StatusSeeOther)
	case signedOut:
		front.ErrorPageTo(w, r, err, "console.signin.button", "/admin/sign-in")
	default:
		front.ErrorPageTo(w, r, err, "console.home", "/admin")
	}
}

// isScript says whether a page's script asks, and not a person's click.
func isScript(r *http.Request) bool {
	return r.Header.Get("Content-Type") == "application/json" || r.Header.Get("HX-Request") == "true"
}

func (d *Door) cookie() string {
	if d.cfg.Shell.Secure() {
		return "__Host-sealgate_console"
	}
	return "sealgate_console"
}

// setCookie gives the browser a session; Strict, so that nothing that another
// site starts carries it.
func (d *Door) setCookie(w http.ResponseWriter, token string) {
	c := &http.Cookie{Name: d.cookie(), Value: token, Path: "/", MaxAge: int(domain.AbsoluteLimit / time.Second),
		HttpOnly: true, Secure: d.cfg.Shell.Secure(), SameSite: http.SameSiteStrictMode}
	if token == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

func (d *Door) session(r *http.Request) (*domain.Session, error) {
	c, err := r.Cookie(d.cookie())
	if err != nil || len(c.Value) > 64 {
		return nil, domain.ErrSignedOut
	}
	return d.cfg.Console.Session(r.Context(), domain.Browser{Key: d.key(r), IP: front.ClientIP(r)}, c.Value, r.Header.Get("HX-Request") != "true")
}

// key names the browser; all zeros where it has no name, which no session has.
func (d *Door) key(r *http.Request) [32]byte {
	key, ok := front.Browser(r)
	if !ok {
		return [32]byte{}
	}
	return key
}

// text gives a text in the request's language.
func (d *Door) text(r *http.Request, key string) string {
	return d.cfg.Shell.Catalogue().T(front.Lang(r), key)
}

// browser is who asks before there is a session.
func (d *Door) browser(w http.ResponseWriter, r *http.Request) domain.Browser {
	return domain.Browser{Key: front.EnsureBrowser(w, r), IP: front.ClientIP(r)}
}

// from describes the browser that asks.
func (d *Door) from(r *http.Request) order.Origin {
	return order.NewOrigin(front.ClientIP(r), r.UserAgent(), d.cfg.Country(r))
}

// Page is what every console page shows: who is signed in, where they are, and
// the page's own part.
type Page struct {
	Who  *domain.Session // nil on sign-in and join
	Nav  string
	Done string // key of what was just done, "" for nothing
	Body any
}

// Can says whether a link to an area makes sense for the administrator.
func (p Page) Can(area string) bool {
	if p.Who == nil {
		return false
	}
	a := p.Who.Administrator
	switch area {
	case "in-person":
		return a.Has(domain.Registrar)
	case "people":
		return a.Has(domain.Support, domain.Registrar, domain.SecurityOfficer)
	case "invite":
		return a.Has(domain.SecurityOfficer)
	case "stop":
		return a.Has(domain.Support, domain.SecurityOfficer)
	case "resume":
		return a.Has(domain.ResumeDevices.MayPropose()...)
	}
	return true
}

// done lists what a page may say was just done; anything else says nothing.
var done = map[string]bool{"stopped": true, "proposed": true, "confirmed": true, "refused": true, "withdrawn": true, "removed": true, "signed_out": true}

func (d *Door) page(w http.ResponseWriter, r *http.Request, s *domain.Session, name, nav string, body any) error {
	p := Page{Who: s, Nav: nav, Body: body}
	if word := r.URL.Query().Get("done"); done[word] {
		p.Done = "console.done." + word
	}
	d.render.Page(w, r, http.StatusOK, "console/"+name, p)
	return nil
}

// home shows what waits and where to go.
func (d *Door) home(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	rows, err := d.actRows(r.Context(), s)
	if err != nil {
		return err
	}
	return d.page(w, r, s, "home", "home", rows.waiting())
}

// waiting is the part of the home page that refreshes itself.
func (d *Door) waiting(w http.ResponseWriter, r *http.Request, s *domain.Session) error {
	rows, err := d.actRows(r.Context(), s)
	if err != nil {
		return err
	}
	return d.render.Part(w, r, "console/home", "console-waiting", Page{Who: s, Body: rows.waiting()})
}

func idOf(r *http.Request, missing error) (uuid.UUID, error) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		return uuid.Nil, missing
	}
	return id, nil
}

// maxForm bounds what a form of the console sends, in bytes.
const maxForm = 16 << 10

// form reads a form's values.
func form(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return domain.ErrStatement.Because(err)
	}
	return nil
}

// actRow is a two-person act as a list shows it.
type actRow struct {
	domain.Act
	Now domain.ActState
	// Mine: proposed by who looks. May: who looks may confirm it.
	Mine, May bool
}

// Word names what the act does in the catalogue.
func (a actRow) Word() string { return lastPart(string(a.Kind)) }

type actRows []actRow

func (d *Door) actRows(ctx context.Context, s *domain.Session) (actRows, error) {
	all, err := d.cfg.Console.Acts(ctx)
	if err != nil {
		return nil, err
	}
	rows := make(actRows, len(all))
	for i := range all {
		rows[i] = d.actRow(s, &all[i])
	}
	return rows, nil
}

func (d *Door) actRow(s *domain.Session, a *domain.Act) actRow {
	return actRow{Act: *a, Now: a.StateAt(d.cfg.Console.Now()), Mine: a.ProposerID == s.Administrator.ID, May: d.cfg.Console.MayDecide(s, a) == nil}
}

// waiting keeps what somebody can still decide or take back.
func (rows actRows) waiting() actRows {
	var out actRows
	for _, a := range rows {
		if a.Now == domain.ActWaiting && (a.Mine || a.May) {
			out = append(out, a)
		}
	}
	return out
}
