// Package bench measures what a whole order costs: a login from the agency's
// redirect to its ID token, a signature from the REST call to the collected
// .p7s, a browser that waits, a batch of documents.
//
// One run has four processes, so that each one's CPU can be read apart: this
// one makes the load; a child serves (`sealctl bench serve`, the server as it
// is, on ports of its own); a private PostgreSQL with its default durability
// keeps the data. Citizens are bound through the public pages and the device
// API, with a passkey each; only their cards are simulated in this process,
// with P-256 keys where real cards have RSA-2048 (binding is not measured).
//
// Every cost is also given in bare P-256 verifications, timed in the same run,
// so that figures of different machines can be compared.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Config says what to measure and how hard.
type Config struct {
	What        []string // signatures, memory, login, sign, wait, batch
	Concurrency int
	Duration    time.Duration // of each load, after warming up
	Citizens    int
	Browsers    int           // that wait at once
	Documents   int           // in one batch
	Size        int64         // of the document for memory, in octets
	WarmUp      time.Duration // of each load, before anything is counted; 0 for two seconds
	Hold        time.Duration // how long browsers wait; 0 for twenty seconds
	Dir         string
	Profile     string // CPU profile of the server, "" for none
	Log         io.Writer
}

// Run measures everything that the configuration names.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.Concurrency < 1 || cfg.Citizens < cfg.Concurrency {
		return nil, errors.New("there must be at least one citizen for each order that is under way")
	}
	if cfg.WarmUp == 0 {
		cfg.WarmUp = 2 * time.Second
	}
	if cfg.Hold == 0 {
		cfg.Hold = 20 * time.Second
	}
	dir := cfg.Dir
	if dir == "" {
		temp, err := os.MkdirTemp("", "sealgate-bench-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(temp)
		dir = temp
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil { // the database's own user must pass through
		return nil, err
	}
	r := &Report{Machine: describeMachine(), Concurrency: cfg.Concurrency, Citizens: cfg.Citizens}
	fmt.Fprintln(cfg.Log, "timing bare P-256 operations…")
	r.Bare = measureBare(min(cfg.Duration, time.Second))
	served, err := r.alone(ctx, cfg, dir)
	if err != nil || len(served) == 0 {
		return r, err
	}
	rig, err := newRig(ctx, cfg, dir)
	if err != nil {
		return nil, err
	}
	defer rig.close()
	rig.bare = r.Bare
	fmt.Fprintf(cfg.Log, "binding %d citizens through the public pages…\n", cfg.Citizens)
	if err := rig.bindCitizens(ctx, cfg.Citizens); err != nil {
		return nil, fmt.Errorf("binding citizens: %w", err)
	}
	fmt.Fprintln(cfg.Log, "timing empty JSON calls through the same shell…")
	if r.HTTP, err = rig.measureHTTP(ctx, cfg); err != nil {
		return nil, fmt.Errorf("empty calls: %w", err)
	}
	for _, what := range served {
		fmt.Fprintf(cfg.Log, "measuring %s…\n", what)
		if err := rig.measure(ctx, what, cfg, r); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
	}
	r.judge()
	return r, nil
}

// alone measures what needs no server, and gives what is left.
func (r *Report) alone(ctx context.Context, cfg Config, dir string) (left []string, err error) {
	for _, what := range cfg.What {
		switch what {
		case "signatures":
			fmt.Fprintln(cfg.Log, "making and verifying signatures…")
			r.Signatures, err = measureSignatures(ctx, cfg.Duration, dir)
		case "memory":
			fmt.Fprintln(cfg.Log, "streaming a large document…")
			r.Memory, err = measureMemory(ctx, cfg.Size)
		default:
			left = append(left, what)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
	}
	return left, nil
}

func (rig *rig) measure(ctx context.Context, what string, cfg Config, r *Report) (err error) {
	switch what {
	case "login":
		r.Login, err = rig.load(ctx, cfg, loginSteps, rig.logIn)
	case "sign":
		r.Sign, err = rig.load(ctx, cfg, signSteps, func(ctx context.Context, l *lap) error { return rig.signOne(ctx, l, 1) })
	case "wait":
		r.Wait, err = rig.waiting(ctx, cfg.Browsers, cfg.Hold)
	case "batch":
		r.Batch, err = rig.batch(ctx, cfg)
	default:
		err = errors.New("not one of signatures, memory, login, sign, wait, batch")
	}
	return err
}
