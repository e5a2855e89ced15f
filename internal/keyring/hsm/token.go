//go:build cgo

package hsm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ThalesGroup/crypto11"

	"sealgate/internal/keyring"
)

// Token is a PKCS #11 token. It is safe for concurrent use.
type Token struct {
	cfg Config

	mu       sync.Mutex
	conn     *connection   // nil while the module is closed
	opening  chan struct{} // closed when the attempt that runs is over
	drained  chan struct{} // closed when the connection before is gone for good
	closed   bool
	failures int       // in a row
	retryAt  time.Time // no attempt before
	why      error     // why there is no connection
	// refused is the hash of a PIN that the token did not accept.
	refused *[sha256.Size]byte
	// suspected is when a missing key last made us open the module again.
	suspected time.Time
}

var _ keyring.Provider = (*Token)(nil)

// New checks the configuration. The token is reached at the first use: a node
// starts, and does what needs no key, while it is away.
func New(cfg Config) (*Token, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if _, err := readPIN(cfg.PINFile); err != nil {
		return nil, err
	}
	return &Token{cfg: cfg}, nil
}

// Waits between attempts to open the module: 250 ms, doubling to 30 s.
const (
	firstWait = 250 * time.Millisecond
	lastWait  = 30 * time.Second
	// settled is how long a connection must have worked for its loss to be
	// news; one lost sooner counts as another failed attempt.
	settled = 5 * time.Second
)

func backoff(failures int) time.Duration {
	if failures > 8 {
		return lastWait
	}
	wait := min(firstWait<<max(failures-1, 0), lastWait)
	return wait - time.Duration(rand.Int64N(int64(wait)/4)) // nodes do not come back all at once
}

// connection gives the open module, and opens it when it is time to.
func (t *Token) connection(ctx context.Context) (*connection, error) {
	for {
		t.mu.Lock()
		c, opening := t.conn, t.opening
		switch {
		case t.closed:
			t.mu.Unlock()
			return nil, unavailable(errors.New("the token was closed"), 0)
		case c != nil:
			t.mu.Unlock()
			return c, nil
		case opening == nil && time.Now().Before(t.retryAt):
			err := unavailable(t.why, time.Until(t.retryAt))
			t.mu.Unlock()
			return nil, err
		case opening == nil:
			opening = make(chan struct{})
			t.opening = opening
			go t.open(opening, t.drained, t.refused)
		}
		t.mu.Unlock()
		select {
		case <-opening:
		case <-ctx.Done():
			return nil, unavailable(fmt.Errorf("opening the token: %w", ctx.Err()), 0)
		}
	}
}

// open makes one attempt. It runs apart from the call that needed it, whose
// caller may go away.
func (t *Token) open(done, drained chan struct{}, refused *[sha256.Size]byte) {
	c, refused, err := t.configure(drained, refused)
	t.mu.Lock()
	defer t.mu.Unlock()
	defer close(done)
	t.opening, t.refused = nil, refused
	switch {
	case err != nil:
		t.failures++
		t.why, t.retryAt = err, time.Now().Add(backoff(t.failures))
		if t.failures == 1 || refused != nil {
			t.cfg.Log.Error("the security module cannot be reached", "token", t.cfg.TokenLabel, "error", err)
		}
	case t.closed:
		go func() { _ = c.module.Close() }()
	default:
		t.conn = c
		t.cfg.Log.Info("the security module is open", "token", t.cfg.TokenLabel)
	}
}

// configure opens module and token and logs in.
func (t *Token) configure(drained chan struct{}, refused *[sha256.Size]byte) (*connection, *[sha256.Size]byte, error) {
	if drained != nil {
		select {
		case <-drained:
		case <-time.After(t.cfg.AnswerTimeout):
			return nil, refused, errors.New("calls into the module have not returned; it cannot be opened again before")
		}
	}
	pin, err := readPIN(t.cfg.PINFile)
	if err != nil {
		return nil, refused, err
	}
	sum := sha256.Sum256([]byte(pin))
	if refused != nil && *refused == sum {
		return nil, refused, errors.New("the token refused the PIN; it is not tried again before its file changes")
	}
	module, err := crypto11.Configure(&crypto11.Config{Path: t.cfg.Module, TokenLabel: t.cfg.TokenLabel, Pin: pin,
		MaxSessions: t.cfg.MaxSessions, PoolWaitTimeout: t.cfg.SessionWait})
	if err != nil {
		if pinRefused(err) {
			refused = &sum
		}
		return nil, refused, err
	}
	return newConnection(module), nil, nil
}

// drop gives up a connection that no longer works: once, whoever notices. Calls
// that still run in it end first, then the module is closed.
func (t *Token) drop(c *connection, why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != c {
		return
	}
	t.conn, t.why, t.retryAt = nil, why, time.Now()
	if time.Since(c.opened) < settled {
		t.failures++
		t.retryAt = t.retryAt.Add(backoff(t.failures))
	} else {
		t.failures = 0
	}
	t.release(c)
	t.cfg.Log.Warn("the security module is opened again", "token", t.cfg.TokenLabel, "error", why)
}

// release closes a connection in the background. The lock is held.
func (t *Token) release(c *connection) {
	drained := make(chan struct{})
	t.drained = drained
	go func() {
		_ = c.module.Close()
		close(drained)
	}()
}

// suspicion is how often a missing key may cast doubt on the whole token.
const suspicion = 5 * time.Second

// suspect opens the module again because a key was not found in it: a module
// whose token was pulled may answer every search with nothing. It says whether
// that was done; not too often, or many missing keys would keep it closed.
func (t *Token) suspect(c *connection, why error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != c {
		return true // somebody else did
	}
	if time.Since(t.suspected) < suspicion {
		return false
	}
	t.suspected = time.Now()
	t.conn, t.why, t.retryAt = nil, why, time.Now()
	t.release(c)
	return true
}

// Close ends the work with the token and waits until the module is closed, at
// most as long as an operation may take.
func (t *Token) Close() {
	t.mu.Lock()
	t.closed = true
	if t.conn != nil {
		t.release(t.conn)
		t.conn = nil
	}
	drained := t.drained
	t.mu.Unlock()
	if drained == nil {
		return
	}
	select {
	case <-drained:
	case <-time.After(t.cfg.AnswerTimeout):
	}
}

// tries is how often one call is made: a connection that broke unnoticed costs
// the first one, an odd failure another.
const tries = 4

// oddWait lets pass what made a call fail without a reason.
const oddWait = 5 * time.Millisecond

// do calls the token, and once more when the connection turned out to be
// broken. fn must give its results only through what it returns: a call that
// takes too long is left behind and goes on. again says that it is not the
// first try, after which anything may have happened.
func do[T any](ctx context.Context, t *Token, limit time.Duration, fn func(c *connection, again bool) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var none T
	var last error
	var missed time.Time
	var failed *connection // where the try before failed oddly
	for try := range tries {
		c, err := t.connection(ctx)
		if err != nil {
			return none, err
		}
		value, err := call(ctx, func() (T, error) { return fn(c, try > 0) })
		v := judge(err)
		if v == odd && failed == c {
			v = lost
		}
		switch v {
		case fine:
			return value, nil
		case final:
			return none, err
		case busy:
			return none, unavailable(err, 0)
		case absent:
			if !missed.IsZero() && c.opened.After(missed) {
				return none, keyring.ErrNoKey.Because(err) // not there either after opening again
			}
			missed = time.Now()
			if !t.suspect(c, err) {
				return none, unavailable(err, suspicion)
			}
		case odd:
			failed = c
			time.Sleep(oddWait)
		case lost:
			t.drop(c, err)
		case stale: // another call dropped the connection under our feet
		}
		last = err
	}
	return none, unavailable(last, 0)
}

// call runs fn and stops waiting for it when the context ends.
func call[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("the module's library panicked: %v", p)
			}
			done <- r
		}()
		r.v, r.err = fn()
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		var none T
		return none, errSlow
	}
}
