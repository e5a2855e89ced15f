package bench

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// lap times the steps of one order.
type lap struct {
	last  time.Time
	steps []time.Duration
}

// step notes that a step is done.
func (l *lap) step() {
	now := time.Now()
	l.steps = append(l.steps, now.Sub(l.last))
	l.last = now
}

// meter is everything that is read before and after a load.
type meter struct {
	at             time.Time
	orders         int64 // finished so far
	server, pg, us time.Duration
	xids           int64 // transactions that wrote: each takes one id
	commits        int64 // all transactions, also those that only read
	entries, syncs int64
}

// read reads every counter. The database's own statistics lag by up to a
// second, at both ends of a load alike.
func (r *rig) read(ctx context.Context) (m meter, err error) {
	err = r.pool.QueryRow(ctx, `SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
  (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()),
  (SELECT wal_sync FROM pg_stat_wal), (SELECT count(*) FROM audit_entries)`).Scan(&m.xids, &m.commits, &m.syncs, &m.entries)
	if err != nil {
		return m, err
	}
	return m, r.readCPU(&m)
}

func (r *rig) readCPU(m *meter) (err error) {
	if m.server, err = cpuOf(r.child.Process.Pid); err != nil {
		return err
	}
	if m.pg, err = cpuOfTree(r.postgres); err != nil {
		return err
	}
	m.us, err = cpuOf(os.Getpid())
	m.at, m.orders = time.Now(), r.finished.Load()
	return err
}

// tally collects what the workers of a load report.
type tally struct {
	mu     sync.Mutex
	keep   bool
	laps   [][]time.Duration
	failed int
	err    error
}

func (t *tally) add(l *lap, err error) (tooMany bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err != nil:
		t.failed++
		if t.err == nil {
			t.err = err
		}
	case t.keep:
		t.laps = append(t.laps, l.steps)
	}
	return t.failed > 10
}

func (t *tally) counting(on bool) {
	t.mu.Lock()
	t.keep = on
	t.mu.Unlock()
}

// load runs an order again and again, as many at a time as asked, and counts.
// Orders under way at the start and at the end of the counting cancel out.
func (r *rig) load(ctx context.Context, cfg Config, names []string, order func(context.Context, *lap) error) (*Load, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var stop atomic.Bool
	var workers sync.WaitGroup
	var t tally
	for range cfg.Concurrency {
		workers.Go(func() {
			for !stop.Load() && ctx.Err() == nil {
				l := &lap{last: time.Now(), steps: make([]time.Duration, 0, len(names))}
				err := order(ctx, l)
				if err == nil {
					r.finished.Add(1)
				}
				if ctx.Err() == nil && t.add(l, err) {
					cancel()
				}
			}
		})
	}
	pause(ctx, cfg.WarmUp)
	t.counting(true)
	before, err := r.read(ctx)
	counted, over := context.WithTimeout(ctx, cfg.Duration)
	beside := measureBeside(counted)
	over()
	after, afterErr := r.read(ctx)
	t.counting(false)
	stop.Store(true)
	workers.Wait()
	if t.failed > 10 {
		return nil, t.err
	}
	if err := errors.Join(err, afterErr); err != nil {
		return nil, err
	}
	l := newLoad(names, t.laps, before, after, beside, r.bare)
	l.Failed = t.failed
	if t.err != nil {
		l.FirstError = t.err.Error()
	}
	return l, nil
}

// pause waits, unless the context ends first.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// percentile of sorted durations, in milliseconds.
func percentile(sorted []time.Duration, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := min(len(sorted)-1, int(p*float64(len(sorted))))
	return float64(sorted[i].Microseconds()) / 1000
}

func sortedColumn(laps [][]time.Duration, i int) []time.Duration {
	column := make([]time.Duration, 0, len(laps))
	for _, l := range laps {
		if i < len(l) {
			column = append(column, l[i])
		}
	}
	slices.Sort(column)
	return column
}
