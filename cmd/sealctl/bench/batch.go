package bench

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Batch is what one order over many digests costs beside one over a single
// digest: the difference is the cost of the further documents.
type Batch struct {
	Documents int `json:"documents"`
	Orders    int `json:"orders"`
	// Making alone: signed attributes, key operations and assembly, beside the
	// bare key operations, in turn on one thread.
	MakeMS    float64 `json:"make_cpu_ms"`
	BareMS    float64 `json:"bare_key_operations_ms"`
	MakeRatio float64 `json:"make_over_bare"`
	// The whole road over HTTP: the order, the phone's page, the approval.
	WholeServerMS   float64 `json:"server_cpu_ms_per_order"`    // everything from create to collect
	SingleServerMS  float64 `json:"server_cpu_ms_single_order"` // the same with one document
	FurtherServerMS float64 `json:"server_cpu_ms_further_documents"`
	FurtherPGMS     float64 `json:"postgres_cpu_ms_further_documents"`
	Ratio           float64 `json:"further_documents_over_bare"`
	ApproveToDoneMS float64 `json:"approve_to_completed_ms_p50"` // wall clock, with the network calls
	// The same with a time-stamp on each signature, from the service's own authority over HTTP.
	StampedMS       float64 `json:"approve_to_completed_stamped_ms_p50"`
	StampedServerMS float64 `json:"server_cpu_ms_per_stamped_order"`
}

// batch runs large orders one at a time, and small ones to compare.
func (r *rig) batch(ctx context.Context, cfg Config) (*Batch, error) {
	rounds := max(10, int(cfg.Duration/(100*time.Millisecond)))
	// Both kinds once for nothing, then in turn, so that both meet the same machine.
	for _, n := range []int{1, cfg.Documents} {
		if _, _, err := r.many(ctx, n, 3); err != nil {
			return nil, err
		}
	}
	single, _, err := r.many(ctx, 1, rounds)
	if err != nil {
		return nil, err
	}
	whole, laps, err := r.many(ctx, cfg.Documents, rounds)
	if err != nil {
		return nil, err
	}
	b := &Batch{Documents: cfg.Documents, Orders: rounds, WholeServerMS: whole.server, SingleServerMS: single.server,
		FurtherServerMS: whole.server - single.server, FurtherPGMS: whole.pg - single.pg}
	if b.MakeMS, b.BareMS, b.MakeRatio, err = measureMaking(cfg.Documents, min(cfg.Duration, 2*time.Second)); err != nil {
		return nil, err
	}
	b.Ratio = b.FurtherServerMS / b.BareMS
	b.ApproveToDoneMS = approveToDone(laps)
	r.level = "B-T"
	defer func() { r.level = "" }()
	stamped, laps, err := r.many(ctx, cfg.Documents, max(3, rounds/10))
	if err != nil {
		return nil, fmt.Errorf("with time-stamps: %w", err)
	}
	b.StampedServerMS, b.StampedMS = stamped.server, approveToDone(laps)
	return b, nil
}

// approveToDone is the median from sending the approval to the answer that the
// last signature is there, in milliseconds.
func approveToDone(laps [][]time.Duration) float64 {
	at := slices.Index(signSteps, "approve")
	var took []time.Duration
	for _, l := range laps {
		took = append(took, l[at]+l[at+1])
	}
	slices.Sort(took)
	return percentile(took, 0.5)
}

// perOrder is CPU time in milliseconds.
type perOrder struct{ server, pg float64 }

// many runs orders over n documents one after the other.
func (r *rig) many(ctx context.Context, n, rounds int) (perOrder, [][]time.Duration, error) {
	before, err := r.read(ctx)
	if err != nil {
		return perOrder{}, nil, err
	}
	var laps [][]time.Duration
	for range rounds {
		l := &lap{last: time.Now()}
		if err := r.signOne(ctx, l, n); err != nil {
			return perOrder{}, nil, err
		}
		laps = append(laps, l.steps)
	}
	after, err := r.read(ctx)
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / float64(rounds) }
	return perOrder{per(after.server - before.server), per(after.pg - before.pg)}, laps, err
}
