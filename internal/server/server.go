// Package server builds the service out of its parts and runs it. It is the
// only package that knows them all.
//
// Assembly goes in stages, each with what it needs from the one before:
// foundation (keys, secrets, trust), services (what the house does), doors
// (who may ask). Nothing is created here that a first start must not create;
// Options.Bootstrap says when it may.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sealgate/internal/audit"
	"sealgate/internal/config"
	"sealgate/internal/jobs"
	"sealgate/internal/mds"
	"sealgate/internal/passkey"
	"sealgate/internal/postgres"
)

// Options are what the configuration cannot say.
type Options struct {
	Config config.Config
	Pool   *pgxpool.Pool
	Log    *slog.Logger
	// Bootstrap lets this start create what is missing: the master key, the
	// service's keys, its own certificate authority.
	Bootstrap bool
	// SoftCard says that the soft card component of a development server runs.
	SoftCard bool
	// CardOrigin is the origin of the card component; "" for the HiPKI default.
	CardOrigin string
	// Demo, when not empty, registers the demonstration site at this address with this secret.
	DemoSite, DemoSecret string
}

// Server is a node of the service.
type Server struct {
	opts    Options
	db      *postgres.DB
	handler http.Handler
	router  chi.Routes
	// endStreams ends open event streams, which http.Server does not know of.
	endStreams func()
	registry   *prometheus.Registry
	bus        *postgres.Bus
	runner     *jobs.Runner
	finisher   *jobs.Finisher
	services   *services
	metadata   *mds.Directory // nil without
	rp         *passkey.RelyingParty
	cards      *cardStatus
	refusals   *audit.Damper
}

// partitionDays is how far ahead partitions exist.
const partitionDays = 7

// New assembles a node on a migrated database. It serves nothing yet.
func New(ctx context.Context, opts Options) (*Server, error) {
	if opts.Pool == nil || opts.Log == nil {
		return nil, errors.New("server: a pool and a log are needed")
	}
	s := &Server{opts: opts, db: postgres.New(opts.Pool), registry: prometheus.NewRegistry()}
	if err := s.db.EnsurePartitions(ctx, partitionDays); err != nil {
		return nil, fmt.Errorf("server: partitions: %w", err)
	}
	limits := opts.Config.Limits
	s.refusals = s.db.DampRefusals(newLimit(limits.Refusals, limits.NodeRefusals, 10))
	f, err := newFoundation(ctx, opts, s.db)
	if err != nil {
		return nil, fmt.Errorf("server: foundation: %w", err)
	}
	s.metadata, s.rp, s.cards = f.metadata, f.rp, f.cards
	if s.services, err = newServices(ctx, opts, s.db, f); err != nil {
		return nil, fmt.Errorf("server: services: %w", err)
	}
	if s.handler, err = s.doors(ctx, f); err != nil {
		return nil, fmt.Errorf("server: doors: %w", err)
	}
	s.bus = postgres.NewBus(s.db, s.services.hub, opts.Log)
	s.finisher = s.services.finisher
	s.runner, err = jobs.NewRunner(s.db.Lead, opts.Log, append(s.tasks(), s.upkeepTasks(f.keys)...)...)
	if err != nil {
		return nil, err
	}
	s.observe()
	return s, nil
}

// Handler is the whole service as one http.Handler.
func (s *Server) Handler() http.Handler { return s.handler }

// tasks are what the leader does.
func (s *Server) tasks() []jobs.Task {
	return append(s.authenticatorTasks(), []jobs.Task{
		s.cards.task(),
		{Name: "orders that ran out", Every: 10 * time.Second, Run: s.services.orders.Sweep},
		{Name: "approved orders without signatures", Every: 5 * time.Second, Run: s.services.finishLeftOvers},
		{Name: "archive time-stamps", Every: time.Minute, Run: s.services.signing.RenewArchives},
		{Name: "requests to an outside CA", Every: 2 * time.Second, Run: s.services.requestLeftOvers},
		{Name: "official documents behind their orders", Every: 3 * time.Second, Run: s.services.dossiers.CatchUp},
		{Name: "official documents that ran out", Every: time.Minute, Run: s.services.dossiers.Sweep},
		{Name: "webhooks", Every: 2 * time.Second, Run: s.services.webhooks.Deliver},
		{Name: "old webhooks", Every: time.Hour, Run: s.services.webhooks.Forget},
		{Name: "citizen cards", Every: time.Hour, Run: s.services.cards.Sweep},
		{Name: "partitions", Every: time.Hour, Run: func(ctx context.Context) error { return s.db.EnsurePartitions(ctx, partitionDays) }},
		{Name: "used challenges", Every: time.Hour, Run: func(ctx context.Context) error { return s.db.ForgetChallenges(ctx, time.Now()) }},
	}...)
}

// Run serves until the context ends, then lets requests finish for a while.
func (s *Server) Run(ctx context.Context) error {
	cfg := s.opts.Config
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return err
	}
	return s.Serve(ctx, listener)
}

// Serve is Run on a listener that is already open.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	relaxCollector()
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	background.Go(func() { _ = s.bus.Run(work) })
	background.Go(func() { s.runner.Run(work) })
	background.Go(func() { s.followMetadata(work) })
	background.Go(func() { s.writeSums(work) })
	background.Go(func() { s.finisher.Run(work) })
	if s.services.requests != nil {
		background.Go(func() { s.services.requests.Run(work) })
	}

	main := s.newHTTP(s.handler)
	if tlsFiles := s.opts.Config.TLS; tlsFiles.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(tlsFiles.CertFile, tlsFiles.KeyFile)
		if err != nil {
			return fmt.Errorf("server: tls: %w", err)
		}
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
			NextProtos: []string{"h2", "http/1.1"}})
	}
	failed := make(chan error, 2)
	go func() { failed <- main.Serve(listener) }()
	metrics, err := s.serveMetrics(failed)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	return errors.Join(err, s.shutDown(main, metrics))
}

// relaxCollector lets garbage grow to four times the small live heap before it
// is collected, unless GOGC says otherwise: a tenth of the processor for some
// ten megabytes.
func relaxCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(300)
	}
}

// newHTTP bounds what a connection may cost. There is no write timeout on the
// server: streams stay open and set a deadline for each write.
func (s *Server) newHTTP(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       60 * time.Second,
		IdleTimeout:       90 * time.Second,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(s.opts.Log.Handler(), slog.LevelDebug),
	}
}

// serveMetrics opens the port for Prometheus where one is configured.
func (s *Server) serveMetrics(failed chan<- error) (*http.Server, error) {
	address := s.opts.Config.Metrics.Listen
	if address == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("server: metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { failed <- srv.Serve(listener) }()
	return srv, nil
}

// drain is how long requests may finish after the service is told to stop.
const drain = 10 * time.Second

// shutDown lets short requests finish; streams and long polls are cut, and
// their browsers come back to another node.
func (s *Server) shutDown(servers ...*http.Server) error {
	s.endStreams()
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	var all error
	for _, srv := range servers {
		if srv == nil {
			continue
		}
		if err := srv.Shutdown(ctx); err != nil {
			all = errors.Join(all, srv.Close())
		}
	}
	return all
}

// workers is how many orders are signed at a time on this node. Most of each is
// waiting for the database, so there are more of them than processors.
func workers() int { return max(8, 4*runtime.GOMAXPROCS(0)) }
