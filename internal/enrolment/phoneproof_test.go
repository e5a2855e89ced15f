package enrolment_test

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"sealgate/internal/citizen"
	"sealgate/internal/enrolment"
	"sealgate/internal/fault"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
	"sealgate/internal/pkitest"
	"sealgate/internal/softauthn"
)

// adding is a phone that adds another.
type adding struct {
	*walk // of the new phone; its browser is the first phone's
	first *softauthn.Authenticator
	by    enrolment.Phone
}

// firstPhone binds a phone with the card.
func (w *world) firstPhone() (*walk, enrolment.Phone) {
	k := w.walk(w.card(pkitest.CitizenOptions{NationalID: "A123456789"}))
	bound := k.bind()
	return k, enrolment.Phone{CitizenID: bound.Device.CitizenID, DeviceID: bound.Device.ID}
}

// add begins to add a phone from a bound one.
func (w *world) add(first *softauthn.Authenticator, by enrolment.Phone) *adding {
	w.t.Helper()
	a := &adding{walk: w.walk(nil), first: first, by: by}
	begun, err := w.svc.BeginByPhone(context.Background(), by, a.browser, w.from, "新增手機")
	must(w.t, err)
	a.id = begun.Order
	return a
}

// toAgree walks to the point where the first phone agrees.
func (a *adding) toAgree() *adding { a.claim().credential(); return a }

func (a *adding) agree(faults ...softauthn.Fault) enrolment.PhoneProofRequest {
	a.t.Helper()
	n, err := a.svc.Newcomer(context.Background(), a.id, a.by, a.browser)
	must(a.t, err)
	if n.Name != deviceLn || n.Model != "" {
		a.t.Errorf("%+v", n)
	}
	assertion, err := a.first.Get(origin, n.Options, faults...)
	must(a.t, err)
	return enrolment.PhoneProofRequest{Order: a.id, Phone: a.by, Browser: a.browser, Assertion: assertion, From: a.from}
}

func (w *world) complete(r enrolment.PhoneProofRequest) error {
	_, err := w.svc.CompleteByPhone(context.Background(), r)
	return err
}

func TestPhoneAddsPhone(t *testing.T) {
	w := newWorld(t)
	w.cfg.Cooldown = time.Hour
	var err error
	w.svc, err = enrolment.New(w.cfg)
	must(t, err)
	first, by := w.firstPhone()
	a := w.add(first.phone, by).toAgree()
	r := a.agree()
	bound, err := w.svc.CompleteByPhone(context.Background(), r)
	must(t, err)
	d := bound.Device
	if d.CitizenID != by.CitizenID || d.AddedByDeviceID == nil || *d.AddedByDeviceID != by.DeviceID || d.State != citizen.DeviceActive ||
		time.Until(d.CooldownUntil) < 59*time.Minute || time.Until(d.CooldownUntil) > time.Hour {
		t.Errorf("%+v", d)
	}
	if n := w.count(`SELECT count(*) FROM device_notices WHERE kind = 'device_added' AND device_id = $1 AND about_id = $2`, by.DeviceID, d.ID); n != 1 {
		t.Errorf("%d notices", n)
	}
	if n := w.count(`SELECT count(*) FROM audit_entries WHERE act = 'device.bound' AND device_id = $1 AND detail->>'proof' = 'device' AND actor_kind = 'citizen'`, d.ID); n != 1 {
		t.Errorf("%d entries", n)
	}
	// The same proof again is the same answer; another one comes too late.
	if again, err := w.svc.CompleteByPhone(context.Background(), r); err != nil || again.Device.ID != d.ID {
		t.Errorf("again: %v", err)
	}
	if _, err := w.svc.Newcomer(context.Background(), a.id, by, a.browser); fault.CodeOf(err) != "order_approved" {
		t.Errorf("after: %v", err)
	}
	// Until its time has come it adds no phone; then it does.
	newBy := enrolment.Phone{CitizenID: d.CitizenID, DeviceID: d.ID}
	w.refused(citizen.ErrCooldown, func() error {
		_, err := w.svc.BeginByPhone(context.Background(), newBy, a.browser, w.from, "x")
		return err
	})
	_, err = w.pool.Exec(context.Background(), `UPDATE devices SET cooldown_until = now() - interval '1 second' WHERE id = $1`, d.ID)
	must(t, err)
	must(t, w.complete(w.add(a.phone, newBy).toAgree().agree()))
}

func TestChainHasAnEnd(t *testing.T) {
	w := newWorld(t)
	first, by := w.firstPhone()
	phone := first.phone
	for range enrolment.MaxChain - 1 {
		a := w.add(phone, by).toAgree()
		bound, err := w.svc.CompleteByPhone(context.Background(), a.agree())
		must(t, err)
		phone, by = a.phone, enrolment.Phone{CitizenID: by.CitizenID, DeviceID: bound.Device.ID}
	}
	w.refused(enrolment.ErrAddDepth, func() error {
		_, err := w.svc.BeginByPhone(context.Background(), by, order.BrowserKey{1}, w.from, "x")
		return err
	})
}

func TestAddingRefuses(t *testing.T) {
	w := newWorld(t, 3)
	first, by := w.firstPhone()
	stranger := w.walk(w.card(pkitest.CitizenOptions{NationalID: "F131104093", Name: "(測試用) 李大華"}))
	theirs := stranger.bind()
	them := enrolment.Phone{CitizenID: theirs.Device.CitizenID, DeviceID: theirs.Device.ID}
	a := w.add(first.phone, by)
	a.claim()
	w.refused(enrolment.ErrNoCredential, func() error {
		_, err := w.svc.CompleteByPhone(context.Background(), enrolment.PhoneProofRequest{Order: a.id, Phone: by, Browser: a.browser,
			Assertion: loginAssertion(t, w, first), From: w.from})
		return err
	})
	if _, _, err := first.phone.Create(origin, a.options); !errors.Is(err, softauthn.ErrExcluded) {
		t.Errorf("the same authenticator: %v", err)
	}
	a.credential()
	other := w.add(first.phone, by).toAgree()
	ofOther := other.agree()
	good := a.agree()
	changed := func(change func(*enrolment.PhoneProofRequest)) enrolment.PhoneProofRequest {
		r := good
		change(&r)
		return r
	}
	_, _, statementErr := w.svc.Statement(context.Background(), a.id, a.browser)
	if !errors.Is(statementErr, enrolment.ErrProofKind) {
		t.Errorf("a card's statement: %v", statementErr)
	}
	for name, c := range map[string]struct {
		want *fault.Error
		r    enrolment.PhoneProofRequest
	}{
		"another person's session": {order.ErrWrongBrowser, changed(func(r *enrolment.PhoneProofRequest) { r.Phone = them })},
		"another browser":          {order.ErrWrongBrowser, changed(func(r *enrolment.PhoneProofRequest) { r.Browser[0] ^= 1 })},
		"another order's answer":   {passkey.ErrChallenge, changed(func(r *enrolment.PhoneProofRequest) { r.Assertion = ofOther.Assertion })},
		"a login's answer":         {passkey.ErrUnknownCredential, changed(func(r *enrolment.PhoneProofRequest) { r.Assertion = loginAssertion(t, w, stranger) })},
		"no user verification":     {passkey.ErrUserVerification, a.agree(softauthn.WithoutUV)},
		"a bad signature":          {passkey.ErrSignature, a.agree(softauthn.BadSignature)},
		"no answer":                {passkey.ErrMalformed, changed(func(r *enrolment.PhoneProofRequest) { r.Assertion = []byte("{}") })},
	} {
		t.Run(name, func(t *testing.T) { w.refused(c.want, func() error { return w.complete(c.r) }) })
	}
	w.refused(enrolment.ErrProofKind, func() error { // a card cannot agree to what a phone began
		_, err := w.svc.Complete(context.Background(), enrolment.CompleteRequest{Order: a.id, Browser: a.browser, Signature: []byte{1}, From: w.from})
		return err
	})
	must(t, w.complete(a.agree())) // the control
	must(t, w.complete(other.agree()))
	w.refused(enrolment.ErrDeviceLimit, func() error {
		_, err := w.svc.BeginByPhone(context.Background(), by, a.browser, w.from, "x")
		return err
	})
}

// loginAssertion is an answer of a phone to some other challenge.
func loginAssertion(t *testing.T, w *world, k *walk) []byte {
	challenge := make([]byte, 32)
	rand.Read(challenge)
	options, err := w.rp.RequestOptions(challenge, nil)
	must(t, err)
	out, err := k.phone.Get(origin, options)
	must(t, err)
	return out
}

func TestFirstPhoneStoppedBetween(t *testing.T) {
	w := newWorld(t)
	first, by := w.firstPhone()
	a := w.add(first.phone, by).toAgree()
	r := a.agree()
	set := func(sql string) {
		_, err := w.pool.Exec(context.Background(), sql, by.DeviceID)
		must(t, err)
	}
	for state, want := range map[string]*fault.Error{"suspended": order.ErrDeviceStopped, "removed": citizen.ErrDeviceNotFound} {
		set(`UPDATE devices SET state = '` + state + `' WHERE id = $1`)
		w.refused(want, func() error { return w.complete(r) })
		w.refused(want, func() error {
			_, err := w.svc.BeginByPhone(context.Background(), by, a.browser, w.from, "x")
			return err
		})
	}
	set(`UPDATE devices SET state = 'active', cooldown_until = now() + interval '1 hour' WHERE id = $1`)
	w.refused(citizen.ErrCooldown, func() error { return w.complete(r) })
	set(`UPDATE devices SET cooldown_until = NULL WHERE id = $1`)
	w.pki.Revoke(first.card.Certificate, time.Now().Add(-time.Minute), 1)
	if err := w.complete(r); fault.CodeOf(err) != "cert_revoked" {
		t.Errorf("a revoked card: %v", err)
	}
}

// Of many at once one binds, and those with the same answer get the same.
func TestTwoAgreementsAtOnce(t *testing.T) {
	w := newWorld(t)
	first, by := w.firstPhone()
	a := w.add(first.phone, by).toAgree()
	requests := []enrolment.PhoneProofRequest{a.agree(), a.agree()}
	var wg sync.WaitGroup
	results := make([]error, 8)
	for i := range results {
		wg.Go(func() { results[i] = w.complete(requests[i%2]) })
	}
	wg.Wait()
	good := 0
	for _, err := range results {
		if err == nil {
			good++
		} else if !errors.Is(err, enrolment.ErrDone) {
			t.Errorf("%v", err)
		}
	}
	if n := w.count(`SELECT count(*) FROM devices WHERE added_by_device_id = $1`, by.DeviceID); n != 1 || good == 0 {
		t.Errorf("%d phones, %d successes", n, good)
	}
	if n := w.count(`SELECT count(*) FROM devices WHERE state = 'active'`); n != 2 {
		t.Errorf("%d active phones", n)
	}
}

// The agreement's answer comes after a later one of the same phone: it is
// refused, the phone works on, and the next try binds. The same distance on a
// statement from after the last use is a copied key.
func TestOvertakenAgreement(t *testing.T) {
	w := newWorld(t)
	first, by := w.firstPhone()
	one, two := w.add(first.phone, by).toAgree(), w.add(first.phone, by).toAgree()
	early, late := one.agree(), two.agree()
	w.ahead.Store(int64(time.Second))
	must(t, w.complete(late))
	w.refused(passkey.ErrOvertaken, func() error { return w.complete(early) })
	if n := w.count(`SELECT count(*) FROM devices WHERE state = 'suspended'`); n != 0 {
		t.Fatal("a healthy phone was stopped")
	}
	must(t, w.complete(one.agree()))
	w.ahead.Store(int64(2 * time.Second))
	three := w.add(first.phone, by).toAgree()
	stored := w.count(`SELECT sign_count FROM devices WHERE id = $1`, by.DeviceID)
	if err := w.complete(three.agree(softauthn.CounterAt(uint32(stored - 1)))); !errors.Is(err, order.ErrDeviceCounter) {
		t.Fatalf("a counter that went back: %v", err)
	}
	if n := w.count(`SELECT count(*) FROM devices WHERE id = $1 AND state = 'suspended' AND state_reason = 'counter'`, by.DeviceID); n != 1 {
		t.Error("a copied key was not stopped")
	}
}
