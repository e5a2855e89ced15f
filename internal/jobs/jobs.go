// Package jobs is the clock of the service: what must happen without anybody
// asking.
//
// Periodic tasks run on one node at a time, the leader: whoever holds a lock in
// the database. A node that dies loses the lock with its connection and another
// takes over. Every task is safe to run twice, so a doubtful moment between two
// leaders does no harm.
//
// Finisher is apart from that: it finishes approved sign orders on the node
// that approved them, right away; the leader's task picks up what a node left
// behind.
package jobs

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Task is one thing to do again and again.
type Task struct {
	Name  string
	Every time.Duration
	// Jitter is added to Every, between nothing and all of it, so that many
	// installations do not ask the same server in the same second.
	Jitter time.Duration
	Run    func(ctx context.Context) error
}

// LeadFunc runs lead while this node is the leader; it returns when leadership
// is lost or the context ends. It returns at once with false where another
// node leads.
type LeadFunc func(ctx context.Context, lead func(ctx context.Context)) (led bool, err error)

// Runner runs tasks on the leader.
type Runner struct {
	lead  LeadFunc
	tasks []Task
	log   *slog.Logger
	retry time.Duration
}

// retryLead is how often a node that does not lead asks again.
const retryLead = 5 * time.Second

// NewRunner makes a runner; it starts nothing.
func NewRunner(lead LeadFunc, log *slog.Logger, tasks ...Task) (*Runner, error) {
	if lead == nil || log == nil {
		return nil, errors.New("jobs: a part is missing")
	}
	for _, t := range tasks {
		if t.Name == "" || t.Every <= 0 || t.Jitter < 0 || t.Run == nil {
			return nil, errors.New("jobs: a task needs a name, a period and something to run")
		}
	}
	return &Runner{lead: lead, tasks: tasks, log: log, retry: retryLead}, nil
}

// Run takes part in the election and runs the tasks while it leads, until the
// context ends.
func (r *Runner) Run(ctx context.Context) {
	for ctx.Err() == nil {
		_, err := r.lead(ctx, r.work)
		if err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "leading the jobs was interrupted", "error", err)
		}
		wait(ctx, r.retry)
	}
}

// work runs every task on its own period; each begins at once.
func (r *Runner) work(ctx context.Context) {
	var all sync.WaitGroup
	for _, t := range r.tasks {
		all.Go(func() {
			for ctx.Err() == nil {
				r.once(ctx, t)
				wait(ctx, t.Every+rand.N(t.Jitter+1))
			}
		})
	}
	all.Wait()
}

// once runs a task and keeps its trouble from the others.
func (r *Runner) once(ctx context.Context, t Task) {
	defer func() {
		if v := recover(); v != nil {
			r.log.ErrorContext(ctx, "a job panicked", "job", t.Name, "panic", v, "stack", string(debug.Stack()))
		}
	}()
	if err := t.Run(ctx); err != nil && ctx.Err() == nil {
		r.log.ErrorContext(ctx, "a job failed and is tried again", "job", t.Name, "error", err)
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// Finisher makes the signatures of approved orders as soon as they are approved.
type Finisher struct {
	complete func(ctx context.Context, order uuid.UUID) error
	log      *slog.Logger
	queue    chan uuid.UUID
	workers  int
	mu       sync.Mutex
	waiting  map[uuid.UUID]struct{} // what is in the queue, so that nothing is there twice
}

// queueLength is how many orders may wait on one node; what does not fit is
// found in the database by the leader's task.
const queueLength = 4096

// NewFinisher makes a finisher with a number of workers: signing takes a
// processor each, so about as many as there are.
func NewFinisher(complete func(ctx context.Context, order uuid.UUID) error, workers int, log *slog.Logger) *Finisher {
	return &Finisher{complete: complete, log: log, queue: make(chan uuid.UUID, queueLength), workers: max(1, workers),
		waiting: make(map[uuid.UUID]struct{})}
}

// Add hands over an order. It never waits. An order that waits already is not
// added again: where signing is slow, the leader's task names the same ones
// every few seconds, and they would crowd out the new.
func (f *Finisher) Add(order uuid.UUID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, there := f.waiting[order]; there {
		return
	}
	select {
	case f.queue <- order:
		f.waiting[order] = struct{}{}
	default:
		f.log.Warn("a queue of this node is full; the leader's job will find what did not fit", "id", order)
	}
}

// Run works until the context ends. An order in work then is finished by the
// leader's task, as after a crash.
func (f *Finisher) Run(ctx context.Context) {
	var all sync.WaitGroup
	for range f.workers {
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case id := <-f.queue:
					f.one(ctx, id)
				}
			}
		})
	}
	all.Wait()
}

func (f *Finisher) one(ctx context.Context, id uuid.UUID) {
	f.mu.Lock()
	delete(f.waiting, id)
	f.mu.Unlock()
	defer func() {
		if v := recover(); v != nil {
			f.log.ErrorContext(ctx, "finishing panicked", "id", id, "panic", v, "stack", string(debug.Stack()))
		}
	}()
	if err := f.complete(ctx, id); err != nil && ctx.Err() == nil {
		f.log.ErrorContext(ctx, "something is not finished yet and is tried again", "id", id, "error", err)
	}
}
