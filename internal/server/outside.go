package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"sealgate/internal/config"
	"sealgate/internal/egress"
	"sealgate/internal/est"
	"sealgate/internal/issuing"
	"sealgate/internal/jobs"
	"sealgate/internal/keyring"
	"sealgate/internal/postgres"
)

// requestWorkers is how many requests to an outside CA are on their way at a
// time on this node.
const requestWorkers = 4

// elsewhere makes the client of another CA, where one issues.
func (s *services) elsewhere(opts Options, db *postgres.DB, f *foundation) error {
	var err error
	if s.outside, err = NewOutside(opts.Config, db, s.profile, opts.Log); err != nil || s.outside == nil {
		return err
	}
	s.requests = jobs.NewFinisher(s.outside.Attempt, requestWorkers, opts.Log.With("queue", "certificate requests"))
	return nil
}

// requested asks the outside CA at once for a new request.
func (s *services) requested(id uuid.UUID) {
	if s.requests != nil {
		s.requests.Add(id)
	}
}

// requestLeftOvers hands requests whose time has come to the finisher.
func (s *services) requestLeftOvers(ctx context.Context) error {
	if s.outside == nil {
		return nil
	}
	ids, err := s.outside.Due(ctx, 500)
	for _, id := range ids {
		s.requests.Add(id)
	}
	return err
}

// NewProfile makes the profile of mobile certificates that the configuration
// describes.
func NewProfile(cfg config.Config) (*issuing.Profile, error) {
	m := cfg.Mobile
	return issuing.NewProfile(issuing.ProfileConfig{Life: m.CertificateLifetime, KeyUsage: m.KeyUsage,
		Policies: m.PolicyOIDs, CardType: m.CardType, KeyAlgorithms: []keyring.Algorithm{keyring.Algorithm(m.KeyAlgorithm)}})
}

// NewOutside makes the client of the outside CA that the configuration
// describes; nil where our own issues.
func NewOutside(cfg config.Config, db *postgres.DB, profile *issuing.Profile, log *slog.Logger) (*issuing.Outside, error) {
	i := cfg.Issuing
	if i.Mode == "own" {
		return nil, nil
	}
	anchors, err := readCertificates(i.AnchorsDir)
	if err != nil {
		return nil, fmt.Errorf("issuing.anchors_dir: %w", err)
	}
	intermediates, err := readCertificates(i.IntermediatesDir)
	if err != nil {
		return nil, fmt.Errorf("issuing.intermediates_dir: %w", err)
	}
	oc := issuing.OutsideConfig{Store: db.Requests(), Profile: profile, Anchors: anchors, Intermediates: intermediates,
		TextSubject: i.SubjectMatch == "text", Log: log}
	if i.Mode == "est" {
		if oc.EST, err = newEST(cfg); err != nil {
			return nil, fmt.Errorf("issuing.est: %w", err)
		}
	}
	return issuing.NewOutside(oc)
}

// maxEST bounds any answer of the EST server in bytes.
const maxEST = 1 << 20

// newEST makes a client with a dialler of its own: it believes only the
// configured roots, and shows its client certificate to nobody else.
func newEST(cfg config.Config) (*est.Client, error) {
	e := cfg.Issuing.EST
	raw, err := os.ReadFile(e.RootsFile)
	if err != nil {
		return nil, err
	}
	roots, err := parseCertificates(raw)
	if err != nil || len(roots) == 0 {
		return nil, errors.Join(fmt.Errorf("%s has no certificates", e.RootsFile), err)
	}
	secure := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	for _, c := range roots {
		secure.RootCAs.AddCert(c)
	}
	if e.ClientCertFile != "" {
		pair, err := tls.LoadX509KeyPair(e.ClientCertFile, e.ClientKeyFile)
		if err != nil {
			return nil, err
		}
		secure.Certificates = []tls.Certificate{pair}
	}
	password, err := readPassword(e.PasswordFile)
	if err != nil {
		return nil, err
	}
	out, err := egress.New(egress.Config{AllowHosts: cfg.Egress.Allow, AllowLoopback: cfg.Egress.AllowLoopback,
		AllowPrivate: cfg.Egress.AllowPrivate, Timeout: e.Timeout, MaxBytes: maxEST, TLS: secure})
	if err != nil {
		return nil, err
	}
	if err := out.Permitted(e.URL); err != nil {
		return nil, fmt.Errorf("the host of issuing.est.url is not in egress.allow: %w", err)
	}
	return est.New(est.Config{URL: e.URL, Exchange: out.Exchange, User: e.User, Password: password})
}

// readPassword reads a file that only its owner may read; "" for no file.
func readPassword(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s may be read by others than its owner", path)
	}
	raw, err := os.ReadFile(path)
	text := strings.TrimRight(string(raw), "\r\n")
	if err == nil && (text == "" || len(text) > 1024) {
		err = fmt.Errorf("%s has no password", path)
	}
	return text, err
}

// observeOutside tells Prometheus what waits for another CA. Both are asked of
// the database at each scrape, by one query on two partial indexes.
func (s *Server) observeOutside() {
	gauge := func(name, help string, pick func(requests, reports int64) int64) {
		s.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			requests, reports, err := s.db.Requests().Outstanding(ctx)
			if err != nil {
				return -1
			}
			return float64(pick(requests, reports))
		}))
	}
	gauge("sealgate_certificate_requests_waiting", "Requests to an outside CA that have no certificate yet; -1 when unknown.",
		func(requests, _ int64) int64 { return requests })
	gauge("sealgate_outside_revocations_unreported", "Revocations, holds and releases that an outside CA has not been told; -1 when unknown.",
		func(_, reports int64) int64 { return reports })
}
