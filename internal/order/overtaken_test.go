package order_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
	"sealgate/internal/softauthn"
)

// send brings an answer that was made before.
func (h *house) send(c *order.Claim, assertion []byte) error {
	_, err := h.Approve(ctx, order.ApproveRequest{Order: c.ID, Token: c.Token, Assertion: assertion, From: mobile})
	return err
}

// The answers of one counting phone to two orders come in the wrong order: the
// late one is refused, nothing is stopped, and the next try passes.
func TestOvertakenAnswerStopsNothing(t *testing.T) {
	h := newHouse(t)
	b, p := h.browser(), h.bind(1, true, softauthn.Options{Counter: softauthn.CounterGrows})
	one, two := h.scan(h.login(b), b), h.scan(h.login(b), b)
	early, late := p.answer(t, one.Options), p.answer(t, two.Options)
	h.clock.pass(time.Second)
	if err := h.send(two, late); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a network may bring it twice
		h.refused(one.ID, "passkey_overtaken", func() error { return h.send(one, early) })
	}
	if len(h.stopped) > 0 {
		t.Fatalf("a healthy phone was stopped: %v", h.stopped)
	}
	if err := h.approve(one, p); err != nil {
		t.Fatalf("the next try: %v", err)
	}
	// The same distance on a challenge from after the last use is a copied key.
	three := h.scan(h.login(b), b)
	if err := h.approve(three, p, softauthn.CounterAt(2)); !errors.Is(err, order.ErrDeviceCounter) || !slices.Equal(h.stopped, []string{"counter"}) {
		t.Fatalf("%v, stopped %v", err, h.stopped)
	}
}

// A copy and its original use the key in turn. Whatever challenges the copy has
// kept open, none of its answers passes below the counter, and it is caught: at
// the stored counter itself, too far below, or with the first new challenge.
func TestCopiedKeyIsCaught(t *testing.T) {
	for _, tc := range []struct {
		name   string
		ahead  int // answers of the owner before the copy's
		copies func(h *house, held *order.Claim, b order.BrowserKey) []*order.Claim
		want   []string
	}{
		{"with a new challenge", 2, func(h *house, _ *order.Claim, b order.BrowserKey) []*order.Claim {
			return []*order.Claim{h.scan(h.login(b), b)}
		}, []string{"device_counter"}},
		{"held open, then a new one", 3, func(h *house, held *order.Claim, b order.BrowserKey) []*order.Claim {
			return []*order.Claim{held, h.scan(h.login(b), b)}
		}, []string{"passkey_overtaken", "device_counter"}},
		{"held open, at the stored counter", 1, func(_ *house, held *order.Claim, _ order.BrowserKey) []*order.Claim {
			return []*order.Claim{held}
		}, []string{"device_counter"}},
		{"held open, counting up to it", 3, func(_ *house, held *order.Claim, _ order.BrowserKey) []*order.Claim {
			return []*order.Claim{held, held, held}
		}, []string{"passkey_overtaken", "passkey_overtaken", "device_counter"}},
		{"held open, far behind", 6, func(_ *house, held *order.Claim, _ order.BrowserKey) []*order.Claim {
			return []*order.Claim{held}
		}, []string{"device_counter"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHouse(t)
			b, p := h.browser(), h.bind(1, true, softauthn.Options{Counter: softauthn.CounterGrows})
			count := uint32(1) // of the copy, from the time of copying on
			if err := h.approve(h.scan(h.login(b), b), p, softauthn.CounterAt(count)); err != nil {
				t.Fatal(err)
			}
			held := h.scan(h.login(b), b)
			for i := range tc.ahead { // the owner is at it
				h.clock.pass(time.Second)
				if err := h.approve(h.scan(h.login(b), b), p, softauthn.CounterAt(uint32(2+i))); err != nil {
					t.Fatal(err)
				}
			}
			h.clock.pass(time.Second)
			for i, c := range tc.copies(h, held, b) {
				count++
				err := h.approve(c, p, softauthn.CounterAt(count))
				if fault.CodeOf(err) != tc.want[i] || h.state(c.ID) != order.Scanned {
					t.Fatalf("answer %d: %v, want %s; the order is %s", i, err, tc.want[i], h.state(c.ID))
				}
			}
			if !slices.Equal(h.stopped, []string{"counter"}) {
				t.Fatalf("stopped %v", h.stopped)
			}
		})
	}
}

// And where the copy was the first, the owner's next answer stops both.
func TestOwnerAfterTheCopy(t *testing.T) {
	h := newHouse(t)
	b, p := h.browser(), h.bind(1, true, softauthn.Options{Counter: softauthn.CounterGrows})
	held := h.scan(h.login(b), b)
	h.clock.pass(time.Second)
	if err := h.approve(h.scan(h.login(b), b), p, softauthn.CounterAt(2)); err != nil { // the copy
		t.Fatal(err)
	}
	if err := h.approve(held, p, softauthn.CounterAt(2)); !errors.Is(err, order.ErrDeviceCounter) || !slices.Equal(h.stopped, []string{"counter"}) {
		t.Fatalf("%v, stopped %v", err, h.stopped)
	}
}

// The same for sessions.
func TestOvertakenSessionAnswer(t *testing.T) {
	h := newHouse(t)
	p := h.bind(1, true, softauthn.Options{Counter: softauthn.CounterGrows})
	secret := sha256.Sum256([]byte("test"))
	var stopped []string
	svc, err := order.NewPhone(h.db.Phone(), h.rp, secret[:], func(_ context.Context, _ uuid.UUID, reason string, _ audit.Entry) error {
		stopped = append(stopped, reason)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		token string
		raw   []byte
	}
	ask := func() (json.RawMessage, string) {
		options, token, err := svc.Options()
		if err != nil {
			t.Fatal(err)
		}
		return options, token
	}
	start := func(a answer) error { _, err := svc.Start(ctx, a.token, a.raw, mobile); return err }
	options, token := ask()
	second, secondToken := ask()
	early, late := answer{token, p.answer(t, options)}, answer{secondToken, p.answer(t, second)}
	if err := start(late); err != nil {
		t.Fatal(err)
	}
	if err := start(early); !errors.Is(err, passkey.ErrOvertaken) || len(stopped) > 0 {
		t.Fatalf("%v, stopped %v", err, stopped)
	}
	var entries int
	if err := h.pool.QueryRow(ctx, `SELECT count(*) FROM audit_entries WHERE act = 'session.started' AND result = 'refused'
		AND detail->>'code' = 'passkey_overtaken' AND device_id = $1`, p.device).Scan(&entries); err != nil || entries != 1 {
		t.Fatalf("%d entries, %v", entries, err)
	}
	if err := start(answer{token, p.answer(t, options)}); err != nil {
		t.Fatalf("the next try: %v", err)
	}
	options, token = ask()
	if err := start(answer{token, p.answer(t, options, softauthn.CounterAt(2))}); !errors.Is(err, order.ErrDeviceCounter) || !slices.Equal(stopped, []string{"counter"}) {
		t.Fatalf("%v, stopped %v", err, stopped)
	}
}
