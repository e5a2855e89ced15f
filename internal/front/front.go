// Package front is the shell around every door: what a request meets before a
// handler sees it, and how answers, faults and pages leave.
//
// A request passes, in this order: recover, request id, real client address,
// access log and metrics, security headers, body limit. Routes for browsers
// then pass Shell.Browser (language switch, cross-origin protection, page
// policy), routes for programs pass Shell.API. Doors are small packages
// (front/pages, front/deviceapi, ...) that mount themselves on a chi router;
// they never import each other.
//
//	shell, err := front.New(front.Config{...})
//	r := chi.NewRouter()
//	shell.Use(r)
//	r.Handle("/assets/*", shell.Assets())
//	r.Group(func(r chi.Router) { r.Use(shell.Browser); pages.Mount(r) })
//	r.Group(func(r chi.Router) { r.Use(shell.API); api.Mount(r) })
//
// Handlers answer faults with WriteProblem (JSON, RFC 9457) or ErrorPage
// (HTML); the words come from the catalogue keys "fault.<code>" and
// "fault.<code>.next".
package front

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"sealgate/internal/audit"
	"sealgate/internal/i18n"
)

// Config is what New needs. Fields without "optional" must be set.
type Config struct {
	// Origin is the scheme and host people see, without a path: "https://id.example.gov.tw".
	Origin    string
	Catalogue *i18n.Catalogue
	Templates fs.FS // web.Templates()
	Dist      fs.FS // web.Dist()
	// SessionKey is the 32-byte secret from which cookie keys are derived. All nodes share it.
	SessionKey []byte
	// SessionLife is how long a sealed session lasts; optional, 30 minutes.
	SessionLife time.Duration
	// SessionStands is asked on every use of a session whether the person and the
	// device behind it may still act: a cookie cannot be called back. Optional;
	// without it a session is good for as long as it lasts.
	SessionStands func(ctx context.Context, s Session) bool
	// Refused writes the audit entry of a writing request that the shell itself
	// refused: one that cannot be read, that another site sent, or that comes
	// without cookie or session. Optional; without it there are no such entries.
	Refused func(ctx context.Context, entry audit.Entry) error
	// TrustedProxies are the networks whose X-Forwarded-For is believed; optional.
	TrustedProxies []netip.Prefix
	// StreamsPerIP and Streams bound open event streams on this node; optional, 4000 and 50000.
	// The first is generous because a whole agency may come from one address.
	StreamsPerIP, Streams int
	// Limits bound what unknown people may ask; optional.
	Limits Limits
	// Counted is told of each request refused by Limits, without an audit entry of
	// its own; optional.
	Counted func(entry audit.Entry)
	// Metrics registers the request metrics; optional.
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Shell is the validated shell. It is safe for use from many goroutines.
type Shell struct {
	origin    string
	secure    bool
	catalogue *i18n.Catalogue
	assets    *Assets
	render    *Renderer
	sessions  *Sessions
	proxies   []netip.Prefix
	streams   *streamLimit
	limits    Limits
	counted   func(audit.Entry)
	crossing  *http.CrossOriginProtection
	metrics   *metrics
	refused   func(context.Context, audit.Entry) error
	log       *slog.Logger
	ctx       context.Context // of the streams; Close ends it
	cancel    context.CancelFunc
}

// New checks the configuration, reads the assets and parses all templates.
func New(cfg Config) (*Shell, error) {
	u, err := url.Parse(cfg.Origin)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || strings.TrimSuffix(u.Path, "/") != "" {
		return nil, fmt.Errorf("front: origin %q is not of the form https://host", cfg.Origin)
	}
	if cfg.Catalogue == nil || cfg.Log == nil || cfg.Templates == nil || cfg.Dist == nil {
		return nil, errors.New("front: Catalogue, Templates, Dist and Log must be set")
	}
	s := &Shell{
		origin:    u.Scheme + "://" + u.Host,
		secure:    u.Scheme == "https",
		catalogue: cfg.Catalogue,
		proxies:   cfg.TrustedProxies,
		streams:   newStreamLimit(cfg.StreamsPerIP, cfg.Streams),
		limits:    cfg.Limits,
		counted:   cfg.Counted,
		log:       cfg.Log,
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if s.assets, err = LoadAssets(cfg.Dist); err != nil {
		return nil, err
	}
	if s.render, err = newRenderer(cfg.Templates, s.assets, cfg.Catalogue, s.origin); err != nil {
		return nil, err
	}
	if s.sessions, err = newSessions(cfg.SessionKey, cfg.SessionLife, s.secure, cfg.SessionStands); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	s.refused = cfg.Refused
	s.crossing = http.NewCrossOriginProtection()
	if err := s.crossing.AddTrustedOrigin(s.origin); err != nil {
		return nil, err
	}
	s.crossing.SetDenyHandler(http.HandlerFunc(denyCrossOrigin))
	return s, nil
}

// Use puts the layers that every route shares onto the router, and answers for
// unknown paths and methods.
func (s *Shell) Use(r chi.Router) {
	r.Use(s.begin, s.observe, s.protect, s.limit)
	r.NotFound(func(w http.ResponseWriter, r *http.Request) { Fail(w, r, errNotFound) })
	r.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) { Fail(w, r, errMethod) })
}

// Origin is the scheme and host people see.
func (s *Shell) Origin() string { return s.origin }

// Secure says whether people come by https, so that cookies may demand it.
func (s *Shell) Secure() bool { return s.secure }

// Render gives the page renderer.
func (s *Shell) Render() *Renderer { return s.render }

// Sessions gives the sealed session cookies.
func (s *Shell) Sessions() *Sessions { return s.sessions }

// StaticAssets gives the built files.
func (s *Shell) StaticAssets() *Assets { return s.assets }

// Catalogue gives the texts.
func (s *Shell) Catalogue() *i18n.Catalogue { return s.catalogue }

// request is what the shell knows of a request. It lies in the context once,
// as a pointer, and belongs to the goroutine that serves the request.
type request struct {
	shell *Shell
	id    string
	ip    netip.Addr
	lang  i18n.Lang
	code  string // of the fault that was answered, for the log
	// recorded: the door has written an audit entry of its own.
	recorded bool
}

type requestKey struct{}

func infoOf(r *http.Request) *request {
	if info, ok := r.Context().Value(requestKey{}).(*request); ok {
		return info
	}
	return nil
}

// begin gives the request its id and its real address.
func (s *Shell) begin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info := &request{shell: s, id: newRequestID(), ip: s.clientIP(r)}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, info)))
	})
}

// RequestID names this request in the log and in answers to people.
func RequestID(r *http.Request) string {
	if info := infoOf(r); info != nil {
		return info.id
	}
	return ""
}

// ClientIP is the address of the one who asks, behind the trusted proxies. It
// is the zero Addr when it cannot be told.
func ClientIP(r *http.Request) netip.Addr {
	if info := infoOf(r); info != nil {
		return info.ip
	}
	return remoteAddr(r)
}

// Lang is the language to answer in: what SetLang or the request said, else
// the cookie, else Accept-Language, else zh-Hant.
func Lang(r *http.Request) i18n.Lang {
	info := infoOf(r)
	if info == nil {
		return i18n.Negotiate("", "", r.Header.Get("Accept-Language"))
	}
	if info.lang == "" {
		cookie := ""
		if c, err := r.Cookie(langCookie); err == nil {
			cookie = c.Value
		}
		info.lang = i18n.Negotiate("", cookie, r.Header.Get("Accept-Language"))
	}
	return info.lang
}

// SetLang answers this request in the language and remembers it in a cookie.
func SetLang(w http.ResponseWriter, r *http.Request, lang i18n.Lang) {
	info := infoOf(r)
	secure := info != nil && info.shell.secure
	if info != nil {
		info.lang = lang
	}
	http.SetCookie(w, &http.Cookie{Name: langCookie, Value: string(lang), Path: "/", MaxAge: 365 * 24 * 3600,
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode})
}

// SuggestLang answers this request in the language unless the person has
// chosen one themselves; it sets no cookie. An agency's ui_locales comes here.
func SuggestLang(r *http.Request, lang i18n.Lang) {
	info := infoOf(r)
	if info == nil || info.lang != "" {
		return
	}
	if c, err := r.Cookie(langCookie); err == nil {
		if _, ok := i18n.Match(c.Value); ok {
			return
		}
	}
	if l, ok := i18n.Match(string(lang)); ok {
		info.lang = l
	}
}
