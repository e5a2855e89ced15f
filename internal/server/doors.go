package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"sealgate/internal/citizen"
	"sealgate/internal/front"
	"sealgate/internal/front/agencyapi"
	"sealgate/internal/front/console"
	"sealgate/internal/front/csc"
	"sealgate/internal/front/deviceapi"
	"sealgate/internal/front/pages"
	"sealgate/internal/front/pki"
	"sealgate/internal/front/verifyapi"
	"sealgate/internal/i18n"
	"sealgate/internal/oidc"
	"sealgate/internal/order"
	"sealgate/web"
)

// doors mounts every door on one router. This is the one list of who may ask.
func (s *Server) doors(ctx context.Context, f *foundation) (http.Handler, error) {
	shell, err := s.shell(f)
	if err != nil {
		return nil, err
	}
	provider, err := s.provider(ctx, f)
	if err != nil {
		return nil, err
	}
	consortium, err := s.consortium(f, shell, provider)
	if err != nil {
		return nil, err
	}
	site, err := s.pages(shell, provider, consortium)
	if err != nil {
		return nil, err
	}
	app, err := pages.NewApp(shell)
	if err != nil {
		return nil, err
	}
	devices, err := deviceapi.New(deviceapi.Config{Orders: s.services.orders, Phone: s.services.phone, Enrolments: s.services.enrolments,
		Citizens: s.services.citizens, Devices: s.services.devices, Renewals: s.services.renewals, Sessions: shell.Sessions(), RPID: s.opts.Config.RPID,
		AddText: func(r *http.Request) string { return shell.Catalogue().T(front.Lang(r), "addphone.order_text") }})
	if err != nil {
		return nil, err
	}
	api, err := s.agencyAPI(f, provider)
	if err != nil {
		return nil, err
	}
	judge := verifyapi.New(verifyapi.Config{Service: s.services.judging, Catalogue: shell.Catalogue()})
	admin, err := s.admin(shell)
	if err != nil {
		return nil, err
	}
	r := chi.NewRouter()
	shell.Use(r)
	r.Handle("/assets/*", shell.Assets())
	r.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	r.Get("/readyz", s.ready)
	r.Group(func(r chi.Router) {
		r.Use(shell.Browser)
		site.Mount(r)
		app.Mount(r)
		admin.Mount(r)
	})
	programs(r, shell, map[string][]mounted{"/api/device/v1": {devices}, "/api/v1": {api, judge}, csc.Path: {consortium}})
	provider.Mount(r)
	if err := pki.Mount(r, pki.Config{CA: s.services.ca, Log: s.opts.Log}); err != nil {
		return nil, err
	}
	s.router, s.endStreams = r, shell.Close
	return r, nil
}

// mounted is a door.
type mounted interface{ Mount(r chi.Router) }

// programs mounts the doors for programs and page scripts, each at its path.
func programs(r chi.Router, shell *front.Shell, at map[string][]mounted) {
	for path, doors := range at {
		r.Route(path, func(r chi.Router) {
			r.Use(shell.API)
			for _, d := range doors {
				d.Mount(r)
			}
		})
	}
}

// agencyAPI is the door of agencies' systems.
func (s *Server) agencyAPI(f *foundation, provider *oidc.Provider) (*agencyapi.Door, error) {
	bundles, err := NewEvidence(s.opts.Config, s.db)
	if err != nil {
		return nil, err
	}
	return agencyapi.New(agencyapi.Config{Orders: s.services.orders, Agencies: f.agencies, Signing: s.services.signing, Dossiers: s.services.dossiers,
		Provider: provider, PublicOrigin: s.opts.Config.PublicOrigin, Refused: s.db.Audit().Append,
		Evidence: evidenceFile(bundles)})
}

// admin is the administrators' door.
func (s *Server) admin(shell *front.Shell) (*console.Door, error) {
	return console.New(console.Config{Shell: shell, Console: s.services.console, Enrolments: s.services.enrolments,
		Orders: s.services.orders, Dev: s.opts.Config.Dev})
}

// Routes is the router, for the test that compares it with the API document.
func (s *Server) Routes() chi.Routes { return s.router }

func (s *Server) shell(f *foundation) (*front.Shell, error) {
	catalogue, err := i18n.Load()
	if err != nil {
		return nil, err
	}
	return front.New(front.Config{Origin: s.opts.Config.PublicOrigin, Catalogue: catalogue, Templates: web.Templates(), Dist: web.Dist(),
		SessionKey: f.secrets.cookie, SessionStands: s.sessionStands, Refused: s.db.Audit().Append, TrustedProxies: s.opts.Config.TrustedProxies, Limits: s.limits(), Counted: s.refusals.Count,
		Metrics: s.registry, Log: s.opts.Log})
}

// sessionStands asks for the device and the person behind a session of our own
// pages. Where that cannot be learnt, the session does not stand.
func (s *Server) sessionStands(ctx context.Context, session front.Session) bool {
	stands, err := s.services.citizens.MayAct(ctx, session.CitizenID, session.DeviceID)
	if err != nil && ctx.Err() == nil {
		s.opts.Log.ErrorContext(ctx, "whether a session still stands could not be learnt", "error", err)
	}
	return err == nil && stands
}

func (s *Server) provider(ctx context.Context, f *foundation) (*oidc.Provider, error) {
	return oidc.New(ctx, oidc.Config{Issuer: s.opts.Config.PublicOrigin, Store: s.db.OIDC(), Agencies: f.agencies, Orders: s.services.orders,
		Keyring: f.keys, Vault: f.vault, CodeSecret: f.secrets.code, ReleaseNationalID: s.opts.Config.Citizen.ReleaseNationalID,
		Browser: func(w http.ResponseWriter, r *http.Request) order.BrowserKey {
			return order.BrowserKey(front.EnsureBrowser(w, r))
		},
		Origin:    func(r *http.Request) order.Origin { return order.NewOrigin(front.ClientIP(r), r.UserAgent(), "") },
		ErrorPage: front.ErrorPage, Log: s.opts.Log})
}

func (s *Server) pages(shell *front.Shell, provider *oidc.Provider, consortium *csc.Door) (*pages.Pages, error) {
	return pages.New(pages.Config{Shell: shell, Orders: s.services.orders, Enrolments: s.services.enrolments,
		Return: func(ctx context.Context, v *order.View, browser order.BrowserKey, _ order.Origin) (string, error) {
			if csc.Mine(&v.Order) {
				return consortium.Return(ctx, v.ID, browser)
			}
			return provider.Return(ctx, v.ID, browser)
		},
		CollectLogin: s.services.orders.CollectLogin,
		Signature: func(ctx context.Context, id uuid.UUID, document int) ([]byte, error) {
			made, err := s.services.signing.Signature(ctx, id, document)
			return made.DER, err
		},
		Documents: &pages.Documents{Service: s.services.dossiers, Most: s.opts.Config.Signing.BatchMax, Name: s.masked},
		OwnClient: s.services.own, CardOrigin: s.opts.CardOrigin, SoftCard: s.opts.SoftCard, Dev: s.opts.Config.Dev})
}

// masked gives a person's name with its middle hidden.
func (s *Server) masked(ctx context.Context, id uuid.UUID) (string, error) {
	person, err := s.services.citizens.Person(ctx, id)
	return citizen.Masked(person.Name()), err
}

// FirstAdministrator gives the one-time link by which the first administrator
// makes their passkey, or "" where there is an administrator. Each call makes
// the link before it worthless.
func (s *Server) FirstAdministrator(ctx context.Context) (string, error) {
	token, err := s.services.console.FirstInvite(ctx)
	if err != nil || token == "" {
		return "", err
	}
	return console.JoinLink(s.opts.Config.PublicOrigin, token), nil
}

// AnchorsPEM are the roots of the service's own certificate authority.
func (s *Server) AnchorsPEM() []byte { return s.services.anchorsPEM }

// ready says whether this node can serve: the database answers.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	status, state := http.StatusOK, "ready"
	if err := s.db.Pool.Ping(ctx); err != nil {
		status, state = http.StatusServiceUnavailable, "database does not answer"
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	detail := map[string]any{"state": state, "node": s.opts.Config.NodeName}
	warnings := s.endingAuthorities(ctx)
	if open := s.cards.inForce(); len(open) > 0 {
		warnings = append(warnings, "cards of unknown revocation status are let through: "+strings.Join(open, ", "))
	}
	if len(warnings) > 0 {
		detail["warnings"] = warnings
	}
	_ = json.NewEncoder(w).Encode(detail)
}

// observe registers what Prometheus reads beside the shell's request metrics.
func (s *Server) observe() {
	s.registry.MustRegister(s.cards.collectors()...)
	s.registry.MustRegister(s.services.stamping.collectors()...)
	s.registry.MustRegister(s.authorityGauges()...)
	s.observeOutside()
	s.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sealgate_waiting_orders", Help: "Orders that a browser, phone or client waits for on this node."},
			func() float64 { return float64(s.services.hub.Waiting()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sealgate_pool_connections", Help: "Database connections in use on this node."},
			func() float64 { return float64(s.db.Pool.Stat().AcquiredConns()) }),
	)
}
