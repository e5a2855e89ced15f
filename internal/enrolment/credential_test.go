package enrolment_test

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"sealgate/internal/enrolment"
	"sealgate/internal/fault"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
	"sealgate/internal/pkitest"
	"sealgate/internal/softauthn"
)

func TestCredentialRefusals(t *testing.T) {
	w := newWorld(t)
	card := w.card(pkitest.CitizenOptions{})
	other := w.walk(card).begin().claim()
	for _, c := range []struct {
		name string
		want *fault.Error
		make func(k *walk) enrolment.CredentialRequest
	}{
		{"user verification missing", passkey.ErrUserVerification, func(k *walk) enrolment.CredentialRequest { return k.create(softauthn.WithoutUV) }},
		{"user presence missing", passkey.ErrUserPresence, func(k *walk) enrolment.CredentialRequest { return k.create(softauthn.WithoutUP) }},
		{"wrong challenge", passkey.ErrChallenge, func(k *walk) enrolment.CredentialRequest { return k.create(softauthn.WrongChallenge) }},
		{"wrong origin", passkey.ErrOrigin, func(k *walk) enrolment.CredentialRequest {
			return k.create(softauthn.WrongOrigin("https://evil.example"))
		}},
		{"credential of another order", passkey.ErrChallenge, func(k *walk) enrolment.CredentialRequest {
			r := k.create()
			r.Response = other.create().Response
			return r
		}},
		{"wrong claim token", order.ErrWrongClaim, func(k *walk) enrolment.CredentialRequest {
			r := k.create()
			r.Token = base64.RawURLEncoding.EncodeToString(make([]byte, 32))
			return r
		}},
		{"claim token of another order", order.ErrWrongClaim, func(k *walk) enrolment.CredentialRequest {
			r := k.create()
			r.Token = other.token
			return r
		}},
		{"no claim token", order.ErrWrongClaim, func(k *walk) enrolment.CredentialRequest { r := k.create(); r.Token = ""; return r }},
		{"unknown order", order.ErrNotFound, func(k *walk) enrolment.CredentialRequest { r := k.create(); r.Order[15] ^= 1; return r }},
		{"no device name", enrolment.ErrDeviceName, func(k *walk) enrolment.CredentialRequest { r := k.create(); r.DeviceName = " "; return r }},
		{"device name too long", enrolment.ErrDeviceName, func(k *walk) enrolment.CredentialRequest {
			r := k.create()
			r.DeviceName = strings.Repeat("手", 61)
			return r
		}},
		{"device name that turns the writing", enrolment.ErrDeviceName, func(k *walk) enrolment.CredentialRequest {
			r := k.create()
			r.DeviceName = "a\u202eb"
			return r
		}},
		{"response too large", passkey.ErrTooLarge, func(k *walk) enrolment.CredentialRequest {
			r := k.create()
			r.Response = make([]byte, passkey.MaxResponse+1)
			return r
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := w.walk(card).begin().claim()
			r := c.make(k)
			w.refused(c.want, func() error { return w.svc.Credential(context.Background(), r) })
			k.credential() // positive control: the same order still accepts a good one
		})
	}
}

func TestCredentialIsMadeOnce(t *testing.T) {
	w := newWorld(t)
	k := w.walk(w.card(pkitest.CitizenOptions{})).begin().claim()
	good := k.create()
	must(t, w.svc.Credential(context.Background(), good))
	k.statement()
	must(t, w.svc.Credential(context.Background(), good)) // the answer got lost, the phone asks again
	replaced := k.create()
	w.refused(enrolment.ErrCredentialSet, func() error { return w.svc.Credential(context.Background(), replaced) })
	before := string(k.tbs)
	if k.statement(); string(k.tbs) != before {
		t.Error("the statement changed")
	}
}

func TestPasskeyThatIsBoundIsRefused(t *testing.T) {
	w := newWorld(t)
	k := w.walk(w.card(pkitest.CitizenOptions{}))
	k.bind()
	// The same credential id again: only a dishonest phone can answer so.
	again := w.walk(k.card).begin().claim()
	r := again.create()
	_, err := w.pool.Exec(context.Background(), `UPDATE devices SET credential_id = $1`, credentialID(t, r.Response))
	must(t, err)
	w.refused(enrolment.ErrPhoneBound, func() error { return w.svc.Credential(context.Background(), r) })
	_, err = w.pool.Exec(context.Background(), `UPDATE devices SET credential_id = decode(repeat('07', 16), 'hex')`)
	must(t, err)
	must(t, w.svc.Credential(context.Background(), r)) // positive control
}

func TestCredentialNeedsTheDigitsOfTheComputer(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	k := w.walk(w.card(pkitest.CitizenOptions{})).begin()
	view, err := w.order.View(ctx, k.id, k.browser)
	must(t, err)
	c, err := w.order.Claim(ctx, order.ClaimRequest{Source: order.Scanner, Frame: w.order.Frame(view, w.now()), From: k.from})
	must(t, err)
	k.token, k.options = c.Token, c.Options
	r := k.create()
	w.refused(order.ErrCheckNeeded, func() error { return w.svc.Credential(ctx, r) })
	must(t, w.order.Check(ctx, k.id, k.browser, c.CheckDigits, k.from))
	must(t, w.svc.Credential(ctx, r))
}

func TestCredentialInTimeAndState(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	card := w.card(pkitest.CitizenOptions{})

	k := w.walk(card).begin().claim()
	r := k.create()
	w.ahead.Store(int64(4 * time.Minute))
	w.refused(order.ErrExpired, func() error { return w.svc.Credential(ctx, r) })
	w.ahead.Store(0)

	must(t, w.order.Cancel(ctx, k.id, k.browser, k.from))
	w.refused(order.ErrCancelled, func() error { return w.svc.Credential(ctx, r) })

	k = w.walk(card).begin().claim()
	r = k.create()
	must(t, w.order.Reject(ctx, order.RejectRequest{Order: k.id, Token: k.token, Reason: "not_me", From: k.from}))
	w.refused(order.ErrRejected, func() error { return w.svc.Credential(ctx, r) })

	// The card gets five minutes from the passkey on, though the order had less left.
	k = w.walk(card).begin().claim().credential()
	o, err := w.order.Find(ctx, k.id)
	must(t, err)
	if left := o.ExpiresAt.Sub(w.now()); left < 4*time.Minute+50*time.Second || left > 5*time.Minute {
		t.Errorf("%s left for the card", left)
	}
	// But never more than the order has in all.
	k = w.walk(card).begin()
	_, err = w.pool.Exec(ctx, `UPDATE orders SET final_expires_at = expires_at + interval '90 seconds' WHERE id = $1`, k.id.UUID())
	must(t, err)
	k.claim().credential()
	o, err = w.order.Find(ctx, k.id)
	must(t, err)
	if !o.ExpiresAt.Equal(o.FinalExpiresAt) {
		t.Errorf("expires at %s, finally at %s", o.ExpiresAt, o.FinalExpiresAt)
	}
}
