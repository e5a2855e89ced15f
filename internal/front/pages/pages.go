// Package pages is the door for people at a computer: the page that shows an
// order's QR code, binding a phone with a citizen card, signing own files,
// and help. The phone's own pages are in this package too (app.go).
//
//	GET  /                                home
//	GET  /o/{oid}                         an order, for the browser that started it
//	GET  /o/{oid}/events · state · qr.png what changes on it
//	POST /o/{oid}/cancel · extend · freeze · check · code · open
//	GET  /o/{oid}/return                  back to who asked
//	GET  /o/{oid}/documents/{n}.p7s       a signature
//	GET  /start/{oid}                     an order that was made over the API
//	GET  /enrol, /enrol/{oid}  POST /enrol/card, /enrol/{oid}/proof  GET /enrol/{oid}/statement
//	GET  /lost/card  POST /lost/statements, /lost/statements/{id}/proof
//	GET  /sign, /sign/{oid}    POST /sign/orders
//	GET  /verify                          judging signatures; its script calls /api/v1/verifications
//	GET  /documents …          official documents: documents.go
//	GET  /session/login        POST /session/logout
//	GET  /help, /help/errors, /help/accessibility, /help/privacy
//	POST /lang
//
// Reading never changes an order: link previews and reloads are harmless. What
// a page may see is decided by the browser cookie, which the order knows by
// its hash.
package pages

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"sealgate/internal/enrolment"
	"sealgate/internal/front"
	"sealgate/internal/order"
)

// Config is what the pages need. Fields without "optional" must be set.
type Config struct {
	Shell      *front.Shell
	Orders     *order.Service
	Enrolments *enrolment.Service
	// Return gives the address that takes the browser back to the agency of a
	// login order, or of a sign order whose door keeps a request: with a code when
	// it is approved, with an error when it ended.
	Return func(ctx context.Context, v *order.View, browser order.BrowserKey, from order.Origin) (string, error)
	// CollectLogin completes a login order of our own client, once.
	CollectLogin func(ctx context.Context, id order.ID, browser order.BrowserKey, from order.Origin) (*order.View, error)
	// Signature gives a signature that was made for an order's document.
	Signature func(ctx context.Context, id uuid.UUID, document int) (der []byte, err error)
	// OwnClient is the built-in client for whom our own pages make orders.
	OwnClient order.Client
	// Documents are official documents on their way; optional.
	Documents *Documents
	// CardOrigin is the origin of the card component; optional, http://localhost:61161.
	CardOrigin string
	// CardDownload is where people get the component; optional.
	CardDownload string
	// SoftCard says that a soft card for tests may be used, and so the page says it.
	SoftCard bool
	// Country tells the country of a request, where a proxy in front knows it; optional.
	Country func(*http.Request) string
	// Dev serves /dev/states; never in production.
	Dev bool
}

const defaultCardOrigin = "http://localhost:61161"

// Pages serves the routes above.
type Pages struct {
	cfg    Config
	render *front.Renderer
}

// New checks the configuration.
func New(cfg Config) (*Pages, error) {
	if cfg.Shell == nil || cfg.Orders == nil || cfg.Enrolments == nil ||
		cfg.Return == nil || cfg.CollectLogin == nil || cfg.Signature == nil {
		return nil, errors.New("pages: a service is missing in the configuration")
	}
	if cfg.CardOrigin == "" {
		cfg.CardOrigin = defaultCardOrigin
	}
	u, err := url.Parse(cfg.CardOrigin)
	if err != nil || u.Host == "" || u.Path != "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errors.New("pages: CardOrigin must be of the form http://localhost:61161")
	}
	if cfg.Country == nil {
		cfg.Country = func(*http.Request) string { return "" }
	}
	return &Pages{cfg: cfg, render: cfg.Shell.Render()}, nil
}

// Mount puts the routes on a router that already has Shell.Use and Shell.Browser.
func (p *Pages) Mount(r chi.Router) {
	r.Get("/", p.home)
	r.Post("/lang", p.lang)
	r.Route("/o/{oid}", func(r chi.Router) {
		r.Get("/", p.order)
		r.Get("/events", p.events)
		r.Get("/state", p.state)
		r.Get("/qr.png", p.picture)
		r.Get("/return", p.back)
		r.Get("/documents/{n}.p7s", p.signature)
		r.Post("/open", p.open)
		r.Post("/cancel", p.act(p.cfg.Orders.Cancel))
		r.Post("/extend", p.act(p.cfg.Orders.Extend))
		r.Post("/freeze", p.act(p.cfg.Orders.Freeze))
		r.Post("/check", p.check)
		r.Post("/code", p.code)
	})
	r.Get("/start/{oid}", p.start)
	r.Get("/enrol", p.enrol)
	r.Post("/enrol/card", p.enrolCard)
	r.Get("/enrol/{oid}", p.enrolOrder)
	r.Get("/enrol/{oid}/statement", p.enrolStatement)
	r.Post("/enrol/{oid}/proof", p.enrolProof)
	r.Get("/app/add/{oid}", p.addPhone)
	r.Get("/lost/card", p.lostCard)
	r.Post("/lost/statements", p.lostBegin)
	r.Post("/lost/statements/{id}/proof", p.lostEnd)
	r.Get("/sign", p.sign)
	r.Post("/sign/orders", p.signCreate)
	r.Get("/sign/{oid}", p.signOrder)
	r.Get("/verify", p.verify)
	r.Get("/session/login", p.login)
	r.Post("/session/logout", p.logout)
	if p.cfg.Documents != nil {
		p.mountDocuments(r)
	}
	p.mountHelp(r)
	if p.cfg.Dev {
		p.mountStates(r)
	}
}

func (p *Pages) home(w http.ResponseWriter, r *http.Request) {
	p.render.Page(w, r, http.StatusOK, "pages/home", nil)
}

// from describes the browser that asks.
func (p *Pages) from(r *http.Request) order.Origin {
	return order.NewOrigin(front.ClientIP(r), r.UserAgent(), p.cfg.Country(r))
}

// orderID reads the order id of the path; anything that is none does not exist.
func orderID(r *http.Request) (order.ID, error) {
	id, err := order.ParseID(chi.URLParam(r, "oid"))
	if err != nil {
		return order.ID{}, order.ErrNotFound
	}
	return id, nil
}

// mine reads the order of the path for this browser.
func (p *Pages) mine(r *http.Request) (*order.View, error) {
	id, err := orderID(r)
	if err != nil {
		return nil, err
	}
	browser, ok := front.Browser(r)
	if !ok {
		return nil, front.ErrBrowserRequired
	}
	return p.cfg.Orders.View(r.Context(), id, browser)
}

// timestamp writes a time as all our JSON does: RFC 3339, UTC, milliseconds.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
