package server

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sealgate/internal/issuing"
	"sealgate/internal/jobs"
	"sealgate/internal/keyring"
)

// sweeper is who removed a key from the token, in the audit log.
const sweeper = "upkeep"

// abandonedAfter is how long what was begun and never finished is kept.
const abandonedAfter = 24 * time.Hour

// upkeepTasks keep keys, certificates and tables from growing old.
func (s *Server) upkeepTasks(keys *keyring.Keyring) []jobs.Task {
	return []jobs.Task{
		{Name: "own certificates", Every: time.Hour, Run: s.replaceEnding},
		{Name: "notices of ending certificates", Every: time.Hour, Run: s.services.renewals.Warn},
		{Name: "keys that sign nothing any more", Every: 10 * time.Minute, Run: s.destroyKeys},
		{Name: "left-over keys in the token", Every: 6 * time.Hour, Run: func(ctx context.Context) error {
			swept, err := keys.Sweep(ctx, sweeper, true)
			if swept.Destroyed > 0 {
				s.opts.Log.InfoContext(ctx, "left-over keys were removed from the token", "keys", swept.Destroyed)
			}
			return err
		}},
		{Name: "abandoned bindings", Every: time.Hour, Run: s.purgeAbandoned},
	}
}

// replaceEnding replaces our responders' certificates before they end, and says
// loudly what only people can replace.
func (s *Server) replaceEnding(ctx context.Context) error {
	replaced, err := s.services.ca.ReplaceEnding(ctx)
	if len(replaced) > 0 {
		s.opts.Log.InfoContext(ctx, "own certificates were replaced before their end", "authorities", replaced)
	}
	for _, warning := range s.endingAuthorities(ctx) {
		s.opts.Log.ErrorContext(ctx, warning)
	}
	return err
}

// endingAuthorities says which of our own certificates end so soon that somebody must act.
func (s *Server) endingAuthorities(ctx context.Context) []string {
	var warnings []string
	ends, err := s.services.ca.Ends(ctx)
	if err != nil {
		return nil // whoever needs them fails by itself
	}
	for _, e := range ends {
		if e.Soon {
			warnings = append(warnings, fmt.Sprintf("the certificate of authority %s ends on %s", e.Name, e.NotAfter.UTC().Format(time.DateOnly)))
		}
	}
	return warnings
}

// authorityGauges tell Prometheus how long each of our own certificates lasts.
func (s *Server) authorityGauges() []prometheus.Collector {
	var list []prometheus.Collector
	for _, name := range []string{issuing.Root, issuing.Issuing, issuing.OCSP, issuing.TSA, issuing.Reporter} {
		list = append(list, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sealgate_authority_seconds_left",
			Help: "How long the certificate of one of the service's own authorities lasts.", ConstLabels: prometheus.Labels{"authority": name}},
			func() float64 { return s.authorityLeft(name) }))
	}
	return list
}

// metricsTimeout bounds the database's part in answering Prometheus.
const metricsTimeout = 2 * time.Second

func (s *Server) authorityLeft(name string) float64 {
	ctx, cancel := context.WithTimeout(context.Background(), metricsTimeout)
	defer cancel()
	cert, err := s.services.ca.Certificate(ctx, name)
	if err != nil {
		return math.NaN()
	}
	return time.Until(cert.NotAfter).Seconds()
}

func (s *Server) destroyKeys(ctx context.Context) error {
	return untilNone(ctx, func() (int, error) { return s.db.Keyring().DestroyKeys(ctx, time.Now()) })
}

func (s *Server) purgeAbandoned(ctx context.Context) error {
	before := time.Now().Add(-abandonedAfter)
	return untilNone(ctx, func() (int, error) { return s.db.Abandoned(ctx, before) })
}

// untilNone repeats a batch until it finds nothing more.
func untilNone(ctx context.Context, batch func() (int, error)) error {
	for ctx.Err() == nil {
		if n, err := batch(); err != nil || n == 0 {
			return err
		}
	}
	return ctx.Err()
}
