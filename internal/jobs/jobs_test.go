package jobs_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/jobs"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

// Of two nodes one leads; when it goes away the other takes over. A task that
// panics or fails does not stop the others.
func TestOneLeaderAtATime(t *testing.T) {
	db := postgres.New(pgtest.Open(t))
	var running, most, runs atomic.Int32
	node := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := jobs.NewRunner(db.Lead, quiet,
			jobs.Task{Name: "count", Every: 20 * time.Millisecond, Run: func(context.Context) error {
				most.Store(max(most.Load(), running.Add(1)))
				time.Sleep(5 * time.Millisecond)
				running.Add(-1)
				runs.Add(1)
				return errors.New("and fails")
			}},
			jobs.Task{Name: "panic", Every: time.Hour, Run: func(context.Context) error { panic("on purpose") }})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
		return func() { cancel(); <-done }
	}
	first := node()
	until(t, func() bool { return runs.Load() >= 3 })
	second := node()
	defer second()
	first()
	before := runs.Load()
	until(t, func() bool { return runs.Load() >= before+3 })
	if most.Load() != 1 {
		t.Fatalf("%d leaders at once", most.Load())
	}
}

func TestFinisherSurvivesPanicAndError(t *testing.T) {
	var calls atomic.Int32
	f := jobs.NewFinisher(func(context.Context, uuid.UUID) error {
		switch calls.Add(1) {
		case 1:
			panic("on purpose")
		case 2:
			return errors.New("no")
		}
		return nil
	}, 1, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	for range 3 {
		f.Add(uuid.New())
	}
	until(t, func() bool { return calls.Load() == 3 })
	cancel()
	<-done
}

// While signing is slow the same orders are named again and again: each is
// tried once, and new ones still find a place.
func TestFinisherTakesAnOrderOnce(t *testing.T) {
	entered, goOn := make(chan uuid.UUID, 100), make(chan struct{})
	f := jobs.NewFinisher(func(_ context.Context, id uuid.UUID) error {
		entered <- id
		<-goOn
		return nil
	}, 1, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	first, slow, fresh := uuid.New(), uuid.New(), uuid.New()
	f.Add(first)
	<-entered // the only worker is busy
	for range 10_000 {
		f.Add(slow)
	}
	f.Add(fresh)
	close(goOn)
	if a, b := <-entered, <-entered; a != slow || b != fresh {
		t.Errorf("worked on %v and %v, want %v and %v", a, b, slow, fresh)
	}
	time.Sleep(20 * time.Millisecond)
	if len(entered) != 0 {
		t.Errorf("%d tries too many", len(entered))
	}
	f.Add(slow) // when it is done it may come again
	if <-entered != slow {
		t.Error("a later try was dropped")
	}
	cancel()
	<-done
}

func until(t *testing.T, ready func() bool) {
	t.Helper()
	for range 3000 {
		if ready() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it did not happen")
}
