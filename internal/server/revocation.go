package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sealgate/internal/audit"
	"sealgate/internal/certpath"
	"sealgate/internal/config"
	"sealgate/internal/jobs"
)

// cardStatus is how this node learns whether citizen cards were revoked: the
// checker, the lists it keeps at hand, and the operator's switch to go on
// where nobody can tell.
type cardStatus struct {
	validator  *certpath.Validator
	allowances map[string]certpath.Allowance
	log        *slog.Logger
	now        func() time.Time

	allowed  *prometheus.CounterVec
	switched *prometheus.GaugeVec
	failing  prometheus.Gauge
	nextEnd  *prometheus.GaugeVec
	failures prometheus.Counter
}

// bindingStatusAge is how long an OCSP answer about a card is used again:
// hardly at all, so that a card revoked between the two looks at it is caught.
const bindingStatusAge = time.Second

// newCardStatus judges citizen certificates by the configured trust store.
func newCardStatus(cfg config.Card, fetch certpath.Fetcher, lists certpath.ListStore, log *slog.Logger, now func() time.Time) (*cardStatus, error) {
	anchors, err := readCertificates(cfg.AnchorsDir)
	if err != nil {
		return nil, err
	}
	intermediates, err := readCertificates(cfg.IntermediatesDir)
	if err != nil {
		return nil, err
	}
	store, err := certpath.NewTrustStore(anchors, intermediates)
	if err != nil {
		return nil, err
	}
	if now == nil {
		now = time.Now
	}
	s := &cardStatus{log: log, now: now, allowances: make(map[string]certpath.Allowance)}
	s.figures()
	for _, purpose := range cfg.AllowUnknownStatus {
		s.allowances[certpath.CitizenPurpose(purpose).ProfileName()] = certpath.Allowance{Until: cfg.AllowUnknownEnd(), Reason: cfg.AllowUnknownReason}
	}
	checker, err := certpath.NewChecker(certpath.CheckerConfig{OCSPMaxAge: bindingStatusAge, Fetch: fetch, Now: now,
		Store: lists, Lists: store.Lists(), AllowUnknown: s.allowances, RecordAllowed: s.recordAllowed})
	if err != nil {
		return nil, err
	}
	s.validator = &certpath.Validator{Store: store, Checker: checker}
	return s, nil
}

func (s *cardStatus) figures() {
	s.allowed = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sealgate_revocation_unknown_allowed_total",
		Help: "Certificates of unknown status that an operator's allowance let pass, by purpose."}, []string{"purpose"})
	s.switched = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sealgate_revocation_allowance",
		Help: "1 while an operator lets a purpose go on where a card's status is unknown."}, []string{"purpose"})
	s.failing = prometheus.NewGauge(prometheus.GaugeOpts{Name: "sealgate_revocation_lists_failing",
		Help: "Other authorities' revocation lists that the last look could not renew (on the node that leads)."})
	s.failures = prometheus.NewCounter(prometheus.CounterOpts{Name: "sealgate_revocation_list_failures_total",
		Help: "Times a revocation list of another authority could not be renewed."})
	s.nextEnd = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sealgate_revocation_list_next_update_seconds",
		Help: "Unix time of nextUpdate of each revocation list at hand (on the node that leads)."}, []string{"url"})
}

func (s *cardStatus) collectors() []prometheus.Collector {
	return []prometheus.Collector{s.allowed, s.switched, s.failing, s.failures, s.nextEnd}
}

// recordAllowed is the loud part that belongs to no transaction. The entry in
// the audit log is written by the act that relies on the certificate, with it.
func (s *cardStatus) recordAllowed(ctx context.Context, use certpath.Allowed) error {
	purpose := strings.TrimPrefix(use.Profile, "citizen ")
	s.allowed.WithLabelValues(purpose).Inc()
	s.log.WarnContext(ctx, "REVOCATION UNKNOWN AND ALLOWED: a certificate of unknown status was let through",
		"purpose", purpose, "serial", fmt.Sprintf("%x", use.Certificate.SerialNumber), "until", use.Allowance.Until, "cause", use.Cause)
	return nil
}

// inForce are the purposes that go on without a status now, in order.
func (s *cardStatus) inForce() []string {
	var out []string
	for profile, a := range s.allowances {
		purpose := strings.TrimPrefix(profile, "citizen ")
		on := 0.0
		if !s.now().After(a.Until) {
			out, on = append(out, purpose), 1
		}
		s.switched.WithLabelValues(purpose).Set(on)
	}
	slices.Sort(out)
	return out
}

// announce makes the switch known at a start: in the log, and in the audit log.
// Where that cannot be written the node does not start.
func (s *cardStatus) announce(ctx context.Context, node string, write func(context.Context, audit.Entry) error) error {
	for _, purpose := range s.inForce() {
		a := s.allowances[certpath.CitizenPurpose(purpose).ProfileName()]
		s.log.WarnContext(ctx, "REVOCATION FAILS OPEN: card.allow_unknown_status lets this purpose go on where a card's status is unknown",
			"purpose", purpose, "until", a.Until, "reason", a.Reason)
		err := write(ctx, audit.New(audit.RevocationAllowance).ByOperator(node).With(audit.KeyPurpose, purpose).
			With(audit.KeyReason, a.Reason).With(audit.KeyUntil, a.Until.UTC().Format(time.RFC3339)))
		if err != nil {
			return fmt.Errorf("the allowance for %s could not be recorded: %w", purpose, err)
		}
	}
	return nil
}

// Periods of looking after other authorities' lists.
const (
	listLook   = time.Minute
	listJitter = 15 * time.Second
)

func (s *cardStatus) task() jobs.Task {
	return jobs.Task{Name: "revocation lists of card authorities", Every: listLook, Jitter: listJitter, Run: s.refresh}
}

// refresh renews the lists that are due, before they end.
func (s *cardStatus) refresh(ctx context.Context) error {
	states, err := s.validator.Checker.Refresh(ctx)
	failing := 0
	for _, st := range states {
		if !st.NextUpdate.IsZero() {
			s.nextEnd.WithLabelValues(st.URL).Set(float64(st.NextUpdate.Unix()))
		}
		switch left := st.NextUpdate.Sub(s.now()); {
		case st.Err == nil && st.Renewed:
			s.log.InfoContext(ctx, "revocation list renewed", "url", st.URL, "number", st.Number, "entries", st.Entries, "next_update", st.NextUpdate)
		case st.Err == nil:
		case errors.Is(st.Err, context.Canceled) && ctx.Err() != nil:
		default:
			failing++
			s.failures.Inc()
			level, text := slog.LevelWarn, "a revocation list could not be renewed; the one at hand serves until its end"
			if left <= 0 {
				level, text = slog.LevelError, "a revocation list could not be renewed and none is in force: what needs it is refused"
			}
			s.log.Log(ctx, level, text, "url", st.URL, "issuer", st.Anchor, "next_update", st.NextUpdate, "error", st.Err)
		}
	}
	s.failing.Set(float64(failing))
	return err
}
