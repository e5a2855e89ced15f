// Package site is the demonstration agency's website. It knows nothing of
// Sealgate's code: it speaks OpenID Connect and the REST API over HTTP.
package site

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

//go:embed templates static texts.json
var files embed.FS

// Config is what the site needs.
type Config struct {
	Addr         string // host:port to listen on
	Issuer       string // Sealgate's address
	ClientID     string
	ClientSecret string
	// Origin is the address people use, when it is not http://Addr. It must be
	// the one registered with Sealgate.
	Origin string
	// Log is optional.
	Log *slog.Logger
}

// Site is the website.
type Site struct {
	cfg      Config
	pages    *pages
	sessions *sessions
	client   *http.Client
	mu       sync.Mutex
	sealgate *sealgate // nil until Sealgate answered the first time
}

// sealgate is what discovery told about the provider.
type sealgate struct {
	verifier *gooidc.IDTokenVerifier
	login    oauth2.Config
	api      *http.Client // adds a client credentials token
}

// callTimeout bounds one call to Sealgate; the long poll takes 25 s of it.
const callTimeout = 40 * time.Second

// New checks the configuration and parses the pages.
func New(cfg Config) (*Site, error) {
	if cfg.Origin == "" {
		cfg.Origin = "http://" + cfg.Addr
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	u, err := url.Parse(cfg.Issuer)
	if err != nil || u.Host == "" || cfg.ClientID == "" || cfg.ClientSecret == "" {
		return nil, errors.New("demoagency: issuer, client id and client secret are needed")
	}
	cfg.Issuer = strings.TrimSuffix(cfg.Issuer, "/")
	pages, err := loadPages(files)
	if err != nil {
		return nil, err
	}
	return &Site{cfg: cfg, pages: pages, sessions: newSessions(), client: &http.Client{Timeout: callTimeout}}, nil
}

// Run serves the site until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	s, err := New(cfg)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second,
		WriteTimeout: callTimeout + 20*time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close()
		}
	}()
	err = server.Serve(listener)
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped
	return nil
}

// Handler gives the routes.
func (s *Site) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("GET /tax", s.tax)
	mux.HandleFunc("POST /login", s.startLogin)
	mux.HandleFunc("GET /callback", s.callback)
	mux.HandleFunc("POST /logout", s.logout)
	mux.HandleFunc("GET /documents", s.documents)
	mux.HandleFunc("GET /documents/{n}", s.sampleDocument)
	mux.HandleFunc("GET /clock-in", s.clockIn)
	mux.HandleFunc("GET /transfer", s.transfer)
	mux.HandleFunc("POST /sign/{what}", s.startSign)
	mux.HandleFunc("GET /signed", s.signed)
	mux.HandleFunc("GET /signed/{n}/document", s.signedDocument)
	mux.HandleFunc("GET /signed/{n}/signature", s.signature)
	mux.HandleFunc("GET /static/site.css", s.pages.serveCSS)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.pages.fail(w, r, http.StatusNotFound, "error.not_found", "")
	})
	crossing := http.NewCrossOriginProtection()
	return s.protect(crossing.Handler(mux))
}

// protect sets the headers that every answer has. A form leads on to Sealgate
// by redirect, which form-action must allow.
func (s *Site) protect(next http.Handler) http.Handler {
	policy := "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self' " + s.cfg.Issuer +
		"; frame-ancestors 'none'; base-uri 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		next.ServeHTTP(w, r)
	})
}

// provider gives what discovery told; it asks again until it was answered once,
// so that the site may start before Sealgate.
func (s *Site) provider(ctx context.Context) (*sealgate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealgate != nil {
		return s.sealgate, nil
	}
	// Keys and tokens are fetched later with this context's client: it must not end with the request.
	background := gooidc.ClientContext(context.Background(), s.client)
	discovering, cancel := context.WithTimeout(gooidc.ClientContext(ctx, s.client), 10*time.Second)
	defer cancel()
	if _, err := gooidc.NewProvider(discovering, s.cfg.Issuer); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	p, err := gooidc.NewProvider(background, s.cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	endpoint := p.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	own := clientcredentials.Config{ClientID: s.cfg.ClientID, ClientSecret: s.cfg.ClientSecret, TokenURL: endpoint.TokenURL,
		Scopes: []string{"sign"}, AuthStyle: oauth2.AuthStyleInHeader}
	s.sealgate = &sealgate{
		verifier: p.Verifier(&gooidc.Config{ClientID: s.cfg.ClientID}),
		login: oauth2.Config{ClientID: s.cfg.ClientID, ClientSecret: s.cfg.ClientSecret, Endpoint: endpoint,
			RedirectURL: s.cfg.Origin + "/callback", Scopes: []string{"openid", "profile"}},
		api: own.Client(background),
	}
	s.sealgate.api.Timeout = callTimeout
	return s.sealgate, nil
}

func (s *Site) home(w http.ResponseWriter, r *http.Request) {
	_, session := s.sessions.get(w, r)
	s.pages.show(w, r, http.StatusOK, "home", map[string]any{"Who": session.identity()})
}
