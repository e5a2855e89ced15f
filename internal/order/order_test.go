package order_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealgate/internal/fault"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
	"sealgate/internal/postgres"
	"sealgate/internal/signing"
	"sealgate/internal/softauthn"
)

var ctx = context.Background()

func TestLoginFromFrameToApproval(t *testing.T) {
	h := newHouse(t)
	b, p := h.browser(), h.phone(1)
	o := h.login(b)
	if link := h.frame(o, b); len(link)-len(origin) > 62-len("https://123456789012") {
		t.Fatalf("the frame %q is too long for a version 4 QR code on a host of 12 characters", link)
	}
	c := h.scan(o, b)
	if c.State != order.Scanned || c.Asked.Agency.Name["zh-Hant"] != "測試機關" || c.CheckDigits != "" || c.ACR != order.ACRQR {
		t.Fatalf("claim: %+v", c)
	}
	if err := h.approve(c, p); err != nil {
		t.Fatal(err)
	}
	got, err := h.Find(ctx, o.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.State != order.Approved || *got.CitizenID != p.citizen || *got.DeviceID != p.device || got.ACR != order.ACRQR || got.ApprovedAt == nil {
		t.Fatalf("after approving: %+v", got)
	}
	want := []string{"order.created ok", "order.scanned ok", "order.approved ok"}
	entries := h.entries(o.ID)
	slices.Sort(entries)
	slices.Sort(want)
	if !slices.Equal(entries, want) {
		t.Fatalf("audit entries: %q", entries)
	}
}

// The kept evidence must be enough to check the assertion again without us.
func TestEvidenceChecksOffline(t *testing.T) {
	h := newHouse(t)
	b, p := h.browser(), h.phone(1)
	o := h.sign(b, 3)
	c := h.scan(o, b)
	left := []int{1}
	options, err := h.Options(ctx, o.ID, c.Token, left)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Approve(ctx, order.ApproveRequest{Order: o.ID, Token: c.Token, Assertion: p.answer(t, options), LeftOut: left, From: mobile}); err != nil {
		t.Fatal(err)
	}
	e := passkey.Evidence{RPID: rpID, Origins: []string{origin}}
	var content []byte
	var leftOut []int32
	err = h.pool.QueryRow(ctx, `SELECT cose_key, content, left_out, authenticator_data, client_data_json, signature FROM approvals WHERE order_id = $1`,
		o.ID.UUID()).Scan(&e.PublicKey, &content, &leftOut, &e.AuthenticatorData, &e.ClientDataJSON, &e.Signature)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(leftOut, []int32{1}) {
		t.Fatalf("left out: %v", leftOut)
	}
	check := func(content []byte, left []int) error {
		challenge := signing.Challenge(content, left)
		e.Challenge = challenge[:]
		_, err := passkey.VerifyOffline(e)
		return err
	}
	if err := check(content, left); err != nil {
		t.Fatalf("kept evidence: %v", err)
	}
	changed := slices.Clone(content)
	changed[len(changed)/2] ^= 1
	if check(changed, left) == nil || check(content, nil) == nil || check(content, []int{0}) == nil {
		t.Fatal("evidence holds for other content")
	}
	var hash []byte
	if err := h.pool.QueryRow(ctx, `SELECT digests_hash FROM signing_authorizations WHERE order_id = $1 AND consumed_at IS NULL`, o.ID.UUID()).Scan(&hash); err != nil {
		t.Fatal(err)
	}
	if want, _ := signing.DigestsHash(content, left); !slices.Equal(hash, want[:]) {
		t.Fatal("the authorization is for other digests")
	}
	if id := <-h.finished; id != o.ID.UUID() {
		t.Fatal("the finisher was told of another order")
	}
}

func TestContentIsCanonicalAndChallengeCoversIt(t *testing.T) {
	h := newHouse(t)
	o := h.sign(h.browser(), 2)
	again, err := order.ParseContent(o.Content)
	if err != nil || again.Order != o.ID || len(again.Documents) != 2 || again.Documents[0].DigestCode() == "" {
		t.Fatalf("content: %v %+v", err, again)
	}
	if strings.ContainsAny(again.Documents[0].Digest, "+/=") {
		t.Fatal("digests have one spelling in the content: unpadded base64url")
	}
	if o.Challenge(nil) == o.Challenge([]int{0}) || o.Challenge([]int{0}) == o.Challenge([]int{1}) {
		t.Fatal("leaving a document out must change the challenge")
	}
	other := h.sign(h.browser(), 2)
	if o.Challenge(nil) == other.Challenge(nil) {
		t.Fatal("two orders with the same documents have the same challenge")
	}
}

func TestFrames(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	o := h.login(b)
	claim := func(source order.Source, frame string) error {
		_, err := h.Claim(ctx, order.ClaimRequest{Source: source, Frame: frame, From: mobile})
		return err
	}
	good := h.frame(o, b)
	other := h.login(b)
	tail := good[strings.LastIndex(good, ".")+1:]
	swapped := h.frame(other, b)
	swapped = swapped[:strings.LastIndex(swapped, ".")+1] + tail
	for name, frame := range map[string]string{
		"mac of another order": swapped,
		"next step":            strings.Replace(good, ".0.", ".1.", 1),
		"far future":           strings.Replace(good, ".0.", ".900.", 1),
	} {
		id := o.ID
		if name == "mac of another order" {
			id = other.ID
		}
		h.refused(id, "frame_forged", func() error { return claim(order.Scanner, frame) })
	}
	for _, frame := range []string{"", "x", "https://evil.example/q/" + good[len(origin)+3:], good + ".x", good[:len(good)-1],
		strings.Replace(good, ".0.", ".00.", 1), strings.Repeat("a", 300), "AAAAAAAAAAAAAAAAAAAAAA.0.AAAAAAAAAAA"} {
		if code := fault.CodeOf(claim(order.Scanner, frame)); code != "frame_unknown" {
			t.Errorf("frame %q: %s", frame, code)
		}
	}
	h.clock.pass(13 * time.Second)
	h.refused(o.ID, "frame_stale", func() error { return claim(order.Scanner, good) })
	h.clock.pass(35 * time.Second)
	h.refused(o.ID, "frame_stale", func() error { return claim(order.Link, good) })
	fresh := h.frame(o, b)
	if fresh == good {
		t.Fatal("the frame does not change")
	}
	h.clock.pass(30 * time.Second)
	h.refused(o.ID, "frame_stale", func() error { return claim(order.Scanner, fresh) })
	c, err := h.Claim(ctx, order.ClaimRequest{Source: order.Link, Frame: fresh, From: mobile})
	if err != nil || len(c.CheckDigits) != 2 {
		t.Fatalf("a link of 30 s is good and needs the digits: %v", err)
	}
}

func TestClientsOwnFrameAge(t *testing.T) {
	h := newHouse(t)
	h.client.MaxFrameAge = 5 * time.Second
	b := h.browser()
	o := h.login(b)
	frame := h.frame(o, b)
	h.clock.pass(9 * time.Second)
	h.refused(o.ID, "frame_stale", func() error {
		_, err := h.Claim(ctx, order.ClaimRequest{Source: order.Link, Frame: frame, From: mobile})
		return err
	})
	h.scan(o, b)
}

func TestFrozenFrameLivesLongerAndNeedsDigits(t *testing.T) {
	h := newHouse(t)
	b, p := h.browser(), h.phone(1)
	o := h.login(b)
	if err := h.Freeze(ctx, o.ID, b, desktop); err != nil {
		t.Fatal(err)
	}
	frame := h.frame(o, b)
	h.clock.pass(40 * time.Second)
	if h.frame(o, b) != frame {
		t.Fatal("a frozen frame changed")
	}
	c, err := h.Claim(ctx, order.ClaimRequest{Source: order.Scanner, Frame: frame, From: mobile})
	if err != nil {
		t.Fatal(err)
	}
	if c.ClaimSource != order.Frozen || c.CheckDigits == "" {
		t.Fatalf("claim: %+v", c.Order)
	}
	h.refused(o.ID, "order_check_needed", func() error { return h.approve(c, p) })
	if err := h.Check(ctx, o.ID, b, c.CheckDigits, desktop); err != nil {
		t.Fatal(err)
	}
	if err := h.approve(c, p); err != nil {
		t.Fatal(err)
	}
	o2 := h.login(b)
	if err := h.Freeze(ctx, o2.ID, b, desktop); err != nil {
		t.Fatal(err)
	}
	frame = h.frame(o2, b)
	h.clock.pass(61 * time.Second)
	h.refused(o2.ID, "frame_stale", func() error {
		_, err := h.Claim(ctx, order.ClaimRequest{Source: order.Scanner, Frame: frame, From: mobile})
		return err
	})
}

func TestThreeWrongDigitsEndTheOrder(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	o := h.login(b)
	c, err := h.Claim(ctx, order.ClaimRequest{Source: order.Link, Frame: h.frame(o, b), From: mobile})
	if err != nil {
		t.Fatal(err)
	}
	wrong := "00"
	if c.CheckDigits == wrong {
		wrong = "01"
	}
	for _, left := range []string{"2", "1"} {
		err := h.Check(ctx, o.ID, b, wrong, desktop)
		if f := fault.From(err); f.Code != "order_check_wrong" || f.Params["tries"] != left {
			t.Fatalf("got %v", err)
		}
	}
	if err := h.Check(ctx, o.ID, b, wrong, desktop); !errors.Is(err, order.ErrFailed) {
		t.Fatal(err)
	}
	if h.state(o.ID) != order.Failed {
		t.Fatal("three wrong tries must end the order")
	}
	if err := h.Check(ctx, o.ID, b, c.CheckDigits, desktop); !errors.Is(err, order.ErrFailed) {
		t.Fatalf("the right digits afterwards: %v", err)
	}
}

func TestTypedCode(t *testing.T) {
	h := newHouse(t)
	b, p := h.browser(), h.phone(1)
	o := h.login(b)
	first, err := h.TypedCode(ctx, o.ID, b, desktop)
	if err != nil || len(first) != 8 {
		t.Fatal(first, err)
	}
	second, err := h.TypedCode(ctx, o.ID, b, desktop)
	if err != nil {
		t.Fatal(err)
	}
	claim := func(code string) (*order.Claim, error) {
		return h.Claim(ctx, order.ClaimRequest{Source: order.Code, Code: code, From: mobile})
	}
	for _, bad := range []string{"", "1234567", "123456789", "abcdefgh", first} {
		if _, err := claim(bad); bad != second && !errors.Is(err, order.ErrCodeUnknown) {
			t.Fatalf("code %q: %v", bad, err)
		}
	}
	c, err := claim(second[:4] + " " + second[4:])
	if err != nil || c.CheckDigits == "" {
		t.Fatal(err)
	}
	if _, err := claim(second); !errors.Is(err, order.ErrCodeUnknown) {
		t.Fatalf("a used code: %v", err)
	}
	if err := h.Check(ctx, o.ID, b, c.CheckDigits, desktop); err != nil {
		t.Fatal(err)
	}
	if err := h.approve(c, p); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyTheFirstPhoneClaims(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	o := h.login(b)
	frame := h.frame(o, b)
	const phones = 8
	var wg sync.WaitGroup
	results := make(chan error, phones)
	for range phones {
		wg.Go(func() {
			_, err := h.Claim(ctx, order.ClaimRequest{Source: order.Scanner, Frame: frame, From: mobile})
			results <- err
		})
	}
	wg.Wait()
	close(results)
	won := 0
	for err := range results {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, order.ErrClaimed):
			t.Errorf("the others are told that it is claimed, not %v", err)
		}
	}
	if won != 1 {
		t.Fatalf("%d phones claimed one order", won)
	}
}

func TestTheSamePhoneMayClaimAgain(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	o := h.login(b)
	c := h.scan(o, b)
	again, err := h.Claim(ctx, order.ClaimRequest{Source: order.Scanner, Frame: h.frame(o, b), Token: c.Token, From: mobile})
	if err != nil || again.Token != c.Token || again.ID != c.ID {
		t.Fatal(err)
	}
	h.refused(o.ID, "order_claimed", func() error {
		_, err := h.Claim(ctx, order.ClaimRequest{Source: order.Scanner, Frame: h.frame(o, b), Token: strings.Repeat("A", 43), From: mobile})
		return err
	})
}

func TestApprovingRefuses(t *testing.T) {
	h := newHouse(t)
	b, p, stranger := h.browser(), h.phone(1), softauthn.New(softauthn.Options{})
	o := h.login(b)
	c := h.scan(o, b)
	for name, tc := range map[string]struct {
		code   string
		faults []softauthn.Fault
	}{
		"user not verified":     {"passkey_user_verification", []softauthn.Fault{softauthn.WithoutUV}},
		"user not present":      {"passkey_user_presence", []softauthn.Fault{softauthn.WithoutUP}},
		"another challenge":     {"passkey_challenge", []softauthn.Fault{softauthn.WrongChallenge}},
		"another origin":        {"passkey_origin", []softauthn.Fault{softauthn.WrongOrigin("https://evil.example")}},
		"another relying party": {"passkey_rpid", []softauthn.Fault{softauthn.WrongRPID}},
		"bad signature":         {"passkey_signature", []softauthn.Fault{softauthn.BadSignature}},
		"another user handle":   {"device_unknown", []softauthn.Fault{softauthn.OtherUserHandle(make([]byte, 32))}},
	} {
		t.Run(name, func(t *testing.T) {
			h.refused(o.ID, tc.code, func() error { return h.approve(c, p, tc.faults...) })
		})
	}
	h.refused(o.ID, "passkey_malformed", func() error {
		_, err := h.Approve(ctx, order.ApproveRequest{Order: o.ID, Token: c.Token, Assertion: []byte(`{"x":1}`), From: mobile})
		return err
	})
	_ = stranger
	h.refused(o.ID, "device_unknown", func() error {
		return h.approve(c, p, softauthn.OtherCredentialID(make([]byte, 32)))
	})
	h.refused(o.ID, "order_wrong_claim", func() error {
		_, err := h.Approve(ctx, order.ApproveRequest{Order: o.ID, Token: strings.Repeat("A", 43), Assertion: p.answer(t, c.Options), From: mobile})
		return err
	})
	if err := h.approve(c, p); err != nil {
		t.Fatalf("the control, after all refusals: %v", err)
	}
}

func TestAssertionForAnotherOrder(t *testing.T) {
	h := newHouse(t)
	b, p := h.browser(), h.phone(1)
	o1, o2 := h.login(b), h.login(b)
	c1, c2 := h.scan(o1, b), h.scan(o2, b)
	assertion := p.answer(t, c1.Options)
	h.refused(o2.ID, "passkey_challenge", func() error {
		_, err := h.Approve(ctx, order.ApproveRequest{Order: o2.ID, Token: c2.Token, Assertion: assertion, From: mobile})
		return err
	})
	h.refused(o1.ID, "order_wrong_claim", func() error {
		_, err := h.Approve(ctx, order.ApproveRequest{Order: o1.ID, Token: c2.Token, Assertion: assertion, From: mobile})
		return err
	})
	if _, err := h.Approve(ctx, order.ApproveRequest{Order: o1.ID, Token: c1.Token, Assertion: assertion, From: mobile}); err != nil {
		t.Fatal(err)
	}
	h.refused(o1.ID, "order_approved", func() error {
		_, err := h.Approve(ctx, order.ApproveRequest{Order: o1.ID, Token: c1.Token, Assertion: assertion, From: mobile})
		return err
	})
}

// Of many copies of one assertion sent at once, one approves.
func TestReplayAtOnce(t *testing.T) {
	h := newHouse(t)
	b, p := h.browser(), h.phone(1)
	o := h.sign(b, 2)
	c := h.scan(o, b)
	assertion := p.answer(t, c.Options)
	var wg sync.WaitGroup
	results := make(chan error, 8)
	for range cap(results) {
		wg.Go(func() {
			_, err := h.Approve(ctx, order.ApproveRequest{Order: o.ID, Token: c.Token, Assertion: assertion, From: mobile})
			results <- err
		})
	}
	wg.Wait()
	close(results)
	won := 0
	for err := range results {
		if err == nil {
			won++
		}
	}
	var approvals, authorizations int
	err := h.pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM approvals), (SELECT count(*) FROM signing_authorizations)`).Scan(&approvals, &authorizations)
	if err != nil || won != 1 || approvals != 1 || authorizations != 1 || len(h.finished) != 1 {
		t.Fatalf("%d approvals won, %d kept, %d authorizations (%v)", won, approvals, authorizations, err)
	}
}

func TestCounterGoneBackStopsTheDevice(t *testing.T) {
	h := newHouse(t)
	b, p := h.browser(), h.bind(1, true, softauthn.Options{Counter: softauthn.CounterGrows})
	first := h.scan(h.login(b), b)
	if err := h.approve(first, p); err != nil {
		t.Fatal(err)
	}
	second := h.scan(h.login(b), b)
	if err := h.approve(second, p, softauthn.CounterBack); !errors.Is(err, order.ErrDeviceCounter) {
		t.Fatal(err)
	}
	if h.state(second.ID) != order.Scanned || !slices.Equal(h.stopped, []string{"counter"}) {
		t.Fatalf("state %s, stopped %v", h.state(second.ID), h.stopped)
	}
	third := h.scan(h.login(b), b)
	h.refused(third.ID, "device_suspended", func() error { return h.approve(third, p) })
}

// staleStore reads an order as it was a moment ago, as a statement does that
// ran just before another node's commit.
type staleStore struct {
	order.Store
	old *order.Order
}

func (s *staleStore) ForApproval(ctx context.Context, id order.ID, credential []byte, now time.Time) (*order.Order, *order.Device, error) {
	o, d, err := s.Store.ForApproval(ctx, id, credential, now)
	if err == nil && s.old == nil {
		was := *o
		s.old = &was
	}
	if err == nil {
		was := *s.old
		o = &was
	}
	return o, d, err
}

// A network that delivers an answer twice at once: the second finds the counter
// moved by the first. That is no copied key, and the phone stays bound.
func TestSameAnswerTwiceIsNoCopiedKey(t *testing.T) {
	h := newHouse(t)
	h.wrap = func(s order.Store) order.Store { return &staleStore{Store: s} }
	h.Service = h.node(h.hub)
	b, p := h.browser(), h.bind(1, true, softauthn.Options{Counter: softauthn.CounterGrows})
	c := h.scan(h.login(b), b)
	assertion, err := p.auth.Get(origin, c.Options)
	if err != nil {
		t.Fatal(err)
	}
	send := func() error {
		_, err := h.Approve(t.Context(), order.ApproveRequest{Order: c.ID, Token: c.Token, Assertion: assertion})
		return err
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	h.refused(c.ID, "order_approved", send)
	if len(h.stopped) > 0 {
		t.Fatalf("the phone was stopped: %v", h.stopped)
	}
}

func TestStoppedPeopleAndWrongPeople(t *testing.T) {
	h := newHouse(t)
	b, p, other := h.browser(), h.phone(1), h.phone(2)
	o, _, err := h.CreateSign(ctx, order.SignRequest{Client: h.client, Documents: documents(1), Browser: &b, SubjectCitizenID: &p.citizen, Started: desktop})
	if err != nil {
		t.Fatal(err)
	}
	c := h.scan(o, b)
	h.refused(o.ID, "order_wrong_citizen", func() error { return h.approve(c, other) })
	h.exec(`UPDATE citizens SET state = 'frozen' WHERE id = $1`, p.citizen)
	h.refused(o.ID, "citizen_frozen", func() error { return h.approve(c, p) })
	h.exec(`UPDATE citizens SET state = 'active' WHERE id = $1`, p.citizen)
	h.exec(`UPDATE mobile_certificates SET state = 'revoked', revoked_at = now() WHERE citizen_id = $1`, p.citizen)
	h.refused(o.ID, "sign_certificate_missing", func() error { return h.approve(c, p) })
	h.exec(`UPDATE mobile_certificates SET state = 'good', revoked_at = NULL WHERE citizen_id = $1`, p.citizen)
	if err := h.approve(c, p); err != nil {
		t.Fatal(err)
	}
}

func TestEnds(t *testing.T) {
	h := newHouse(t)
	b, p := h.browser(), h.phone(1)
	scanned := func() *order.Claim { return h.scan(h.login(b), b) }

	c := scanned()
	if err := h.Reject(ctx, order.RejectRequest{Order: c.ID, Token: c.Token, Reason: "not_me", From: mobile}); err != nil {
		t.Fatal(err)
	}
	h.refused(c.ID, "order_rejected", func() error { return h.approve(c, p) })

	c = scanned()
	h.refused(c.ID, "order_wrong_claim", func() error {
		return h.Reject(ctx, order.RejectRequest{Order: c.ID, Token: strings.Repeat("B", 43), From: mobile})
	})
	if err := h.Cancel(ctx, c.ID, b, desktop); err != nil {
		t.Fatal(err)
	}
	h.refused(c.ID, "order_cancelled", func() error { return h.approve(c, p) })
	if err := h.Cancel(ctx, c.ID, b, desktop); err != nil {
		t.Fatalf("cancelling twice: %v", err)
	}

	c = scanned()
	h.clock.pass(4 * time.Minute)
	h.refused(c.ID, "order_expired", func() error { return h.approve(c, p) })

	o := h.login(b)
	frame := h.frame(o, b)
	h.clock.pass(3 * time.Minute)
	h.refused(o.ID, "frame_stale", func() error {
		_, err := h.Claim(ctx, order.ClaimRequest{Source: order.Link, Frame: frame, From: mobile})
		return err
	})
	h.refused(o.ID, "order_expired", func() error { return h.Extend(ctx, o.ID, b, desktop) })

	c = scanned()
	if err := h.approve(c, p); err != nil {
		t.Fatal(err)
	}
	h.refused(c.ID, "order_approved", func() error { return h.Cancel(ctx, c.ID, b, desktop) })
	h.refused(c.ID, "order_approved", func() error {
		return h.Reject(ctx, order.RejectRequest{Order: c.ID, Token: c.Token, From: mobile})
	})
}

func TestOnlyTheStartingBrowser(t *testing.T) {
	h := newHouse(t)
	b, thief := h.browser(), h.browser()
	o := h.login(b)
	for name, step := range map[string]func() error{
		"view":   func() error { _, err := h.View(ctx, o.ID, thief); return err },
		"extend": func() error { return h.Extend(ctx, o.ID, thief, desktop) },
		"freeze": func() error { return h.Freeze(ctx, o.ID, thief, desktop) },
		"code":   func() error { _, err := h.TypedCode(ctx, o.ID, thief, desktop); return err },
		"check":  func() error { return h.Check(ctx, o.ID, thief, "00", desktop) },
		"cancel": func() error { return h.Cancel(ctx, o.ID, thief, desktop) },
	} {
		if err := step(); !errors.Is(err, order.ErrWrongBrowser) {
			t.Errorf("%s by another browser: %v", name, err)
		}
	}
	h.refused(o.ID, "order_wrong_browser", func() error {
		_, err := h.Claim(ctx, order.ClaimRequest{Source: order.SameDevice, Order: o.ID.String(), Browser: &thief, From: mobile})
		return err
	})
	h.refused(o.ID, "order_wrong_browser", func() error {
		_, err := h.Claim(ctx, order.ClaimRequest{Source: order.Hybrid, Order: o.ID.String(), From: mobile})
		return err
	})
	c, err := h.Claim(ctx, order.ClaimRequest{Source: order.SameDevice, Order: o.ID.String(), Browser: &b, From: mobile})
	if err != nil || c.ACR != order.ACRPHR || c.CheckDigits != "" {
		t.Fatalf("the control: %v", err)
	}
}

func TestExtendingHasALimit(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	o := h.login(b)
	for range 10 {
		h.clock.pass(100 * time.Second)
		if err := h.Extend(ctx, o.ID, b, desktop); err != nil {
			t.Fatal(err)
		}
	}
	h.refused(o.ID, "order_extend_limit", func() error { return h.Extend(ctx, o.ID, b, desktop) })
}

func TestOpenWithStartToken(t *testing.T) {
	h := newHouse(t)
	o, token, err := h.CreateSign(ctx, order.SignRequest{Client: h.client, Documents: documents(1), Started: order.Origin{Browser: "Go-http-client"}})
	if err != nil || token == "" {
		t.Fatal(err)
	}
	b, thief := h.browser(), h.browser()
	h.refusedNoDevice(o.ID, "start_token_wrong", func() error { return h.Open(ctx, o.ID, strings.Repeat("A", 43), thief, desktop) })
	if err := h.Open(ctx, o.ID, token, b, desktop); err != nil {
		t.Fatal(err)
	}
	if err := h.Open(ctx, o.ID, token, b, desktop); err != nil {
		t.Fatalf("the same browser again: %v", err)
	}
	if v, err := h.View(ctx, o.ID, b); err != nil || v.Started != desktop {
		t.Fatalf("the phone would show %+v as the computer (%v)", v.Started, err)
	}
	if err := h.Open(ctx, o.ID, token, thief, desktop); !errors.Is(err, order.ErrWrongBrowser) {
		t.Fatalf("another browser: %v", err)
	}
}

// refusedNoDevice is refused where no device exists yet.
func (h *house) refusedNoDevice(id order.ID, code string, step func() error) {
	h.t.Helper()
	if got := fault.CodeOf(step()); got != code {
		h.t.Fatalf("got %q, want %q", got, code)
	}
}

func TestClientsDemandForNearRoads(t *testing.T) {
	h := newHouse(t)
	h.client.MinimumACR = order.ACRPHR
	b, p := h.browser(), h.phone(1)
	o := h.login(b)
	v, err := h.View(ctx, o.ID, b)
	if err != nil || v.QRAllowed {
		t.Fatalf("the page must not offer the QR code: %v", err)
	}
	h.refused(o.ID, "order_road_refused", func() error {
		_, err := h.Claim(ctx, order.ClaimRequest{Source: order.Scanner, Frame: h.frame(o, b), From: mobile})
		return err
	})
	c, err := h.Claim(ctx, order.ClaimRequest{Source: order.Hybrid, Order: o.ID.String(), Browser: &b, From: desktop})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.approve(c, p); err != nil {
		t.Fatal(err)
	}
	h.client.MinimumACR = order.ACRPHRH
	o = h.login(b)
	c, err = h.Claim(ctx, order.ClaimRequest{Source: order.Hybrid, Order: o.ID.String(), Browser: &b, From: desktop})
	if err != nil {
		t.Fatal(err)
	}
	h.refused(o.ID, "order_road_refused", func() error { return h.approve(c, p) })
}

func TestBadDocuments(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	create := func(change func([]order.Document) []order.Document) string {
		docs := change(documents(2))
		_, _, err := h.CreateSign(ctx, order.SignRequest{Client: h.client, Documents: docs, Browser: &b, Started: desktop})
		return fault.CodeOf(err)
	}
	one := func(f func(*order.Document)) func([]order.Document) []order.Document {
		return func(d []order.Document) []order.Document { f(&d[1]); return d }
	}
	for name, tc := range map[string]struct {
		code   string
		change func([]order.Document) []order.Document
	}{
		"none":               {"documents_invalid", func([]order.Document) []order.Document { return nil }},
		"too many":           {"documents_too_many", func([]order.Document) []order.Document { return documents(201) }},
		"no name":            {"documents_invalid", one(func(d *order.Document) { d.Name = " " })},
		"name turns writing": {"documents_invalid", one(func(d *order.Document) { d.Name = "gpj\u202eexe.pdf" })},
		"name too long":      {"documents_invalid", one(func(d *order.Document) { d.Name = strings.Repeat("文", 201) })},
		"negative size":      {"documents_invalid", one(func(d *order.Document) { d.Size = -1 })},
		"weak digest":        {"document_digest_invalid", one(func(d *order.Document) { d.DigestAlgorithm = "SHA-1" })},
		"short digest":       {"document_digest_invalid", one(func(d *order.Document) { d.Digest = "AAAA" })},
		"not base64":         {"document_digest_invalid", one(func(d *order.Document) { d.Digest = strings.Repeat("!", 43) })},
		"wrong length":       {"document_digest_invalid", one(func(d *order.Document) { d.DigestAlgorithm = "SHA-512" })},
		"control":            {"", func(d []order.Document) []order.Document { return d }},
	} {
		if code := create(tc.change); code != tc.code {
			t.Errorf("%s: got %q, want %q", name, code, tc.code)
		}
	}
}

func TestLeftOutLists(t *testing.T) {
	h := newHouse(t)
	b, p := h.browser(), h.phone(1)
	o := h.sign(b, 3)
	c := h.scan(o, b)
	for _, bad := range [][]int{{3}, {-1}, {1, 1}, {2, 1}, {0, 1, 2}} {
		if _, err := h.Options(ctx, o.ID, c.Token, bad); !errors.Is(err, order.ErrLeftOut) {
			t.Errorf("left out %v: %v", bad, err)
		}
		h.refused(o.ID, "left_out_invalid", func() error {
			_, err := h.Approve(ctx, order.ApproveRequest{Order: o.ID, Token: c.Token, Assertion: p.answer(t, c.Options), LeftOut: bad, From: mobile})
			return err
		})
	}
	// An assertion over all documents does not approve fewer, and the other way round.
	h.refused(o.ID, "passkey_challenge", func() error {
		_, err := h.Approve(ctx, order.ApproveRequest{Order: o.ID, Token: c.Token, Assertion: p.answer(t, c.Options), LeftOut: []int{0}, From: mobile})
		return err
	})
}

func TestAnotherClientsOrderDoesNotExist(t *testing.T) {
	h := newHouse(t)
	o := h.login(h.browser())
	if _, err := h.Owned(ctx, o.ID, h.addClient("other")); !errors.Is(err, order.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := h.Owned(ctx, o.ID, h.client); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseFrame(f *testing.F) {
	f.Add("https://id.example/q/AAAAAAAAAAAAAAAAAAAAAA.0.AAAAAAAAAAA")
	f.Add("AAAAAAAAAAAAAAAAAAAAAA.12.AAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		frame, err := order.ParseFrame(origin, s)
		if err == nil && frame.Step < 0 {
			t.Fatal("negative step")
		}
	})
}

func TestSweepMarksWhatHasRunOut(t *testing.T) {
	h := newHouse(t)
	b, p := h.browser(), h.phone(1)
	done := h.scan(h.login(b), b)
	if err := h.approve(done, p); err != nil {
		t.Fatal(err)
	}
	old := h.login(b)
	h.clock.pass(3 * time.Minute)
	young := h.login(b)
	if err := h.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if h.state(done.ID) != order.Approved || h.state(old.ID) != order.Expired || h.state(young.ID) != order.Created {
		t.Fatalf("states: %s %s %s", h.state(done.ID), h.state(old.ID), h.state(young.ID))
	}
	if !slices.Contains(h.entries(old.ID), "order.expired ok") {
		t.Fatal("expiring leaves no audit entry")
	}
}

// Two nodes share a database: created on one, scanned on the other, awaited on the first.
func TestTwoNodes(t *testing.T) {
	h := newHouse(t)
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	hub := order.NewHub()
	var nodes sync.WaitGroup
	defer nodes.Wait()
	defer cancel()
	for _, hub := range []*order.Hub{h.hub, hub} {
		bus := postgres.NewBus(h.db, hub, slog.New(slog.DiscardHandler))
		nodes.Go(func() { _ = bus.Run(run) })
	}
	other := h.node(hub)
	b, p := h.browser(), h.phone(1)
	o := h.login(b)
	changed, stop := h.Watch(o.ID)
	defer stop()
	c, err := other.Claim(ctx, order.ClaimRequest{Source: order.Scanner, Frame: h.frame(o, b), From: mobile})
	if err != nil {
		t.Fatal(err)
	}
	await := func(want order.State) {
		deadline := time.After(15 * time.Second)
		for h.state(o.ID) != want {
			t.Fatalf("the state is not %s", want)
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("the first node was not woken for %s", want)
		}
	}
	await(order.Scanned)
	if _, err := other.Approve(ctx, order.ApproveRequest{Order: o.ID, Token: c.Token, Assertion: p.answer(t, c.Options), From: mobile}); err != nil {
		t.Fatal(err)
	}
	await(order.Approved)
}

func TestCollectLoginOnce(t *testing.T) {
	h := newHouse(t)
	b, p := h.browser(), h.phone(1)
	c := h.scan(h.login(b), b)
	h.refused(c.ID, "order_claimed", func() error { _, err := h.CollectLogin(ctx, c.ID, b, desktop); return err })
	if err := h.approve(c, p); err != nil {
		t.Fatal(err)
	}
	if _, err := h.CollectLogin(ctx, c.ID, h.browser(), desktop); !errors.Is(err, order.ErrWrongBrowser) {
		t.Fatalf("another browser: %v", err)
	}
	v, err := h.CollectLogin(ctx, c.ID, b, desktop)
	if err != nil || *v.CitizenID != p.citizen {
		t.Fatal(err)
	}
	h.refused(c.ID, "order_approved", func() error { _, err := h.CollectLogin(ctx, c.ID, b, desktop); return err })
}

func TestResumeAfterReload(t *testing.T) {
	h := newHouse(t)
	b, p := h.browser(), h.phone(1)
	c := h.scan(h.login(b), b)
	again, err := h.Claim(ctx, order.ClaimRequest{Order: c.ID.String(), Token: c.Token, From: mobile})
	if err != nil || again.ID != c.ID {
		t.Fatal(err)
	}
	if _, err := h.Claim(ctx, order.ClaimRequest{Order: c.ID.String(), Token: strings.Repeat("A", 43), From: mobile}); !errors.Is(err, order.ErrWrongClaim) {
		t.Fatalf("another phone: %v", err)
	}
	if err := h.approve(again, p); err != nil {
		t.Fatal(err)
	}
}

// The limit of a client that wants young pictures holds for a still one too.
func TestFrozenFrameKeepsTheClientsLimit(t *testing.T) {
	h := newHouse(t)
	h.client.MaxFrameAge = 20 * time.Second
	b := h.browser()
	for age, code := range map[time.Duration]string{15 * time.Second: "", 25 * time.Second: "frame_stale"} {
		o := h.login(b)
		if err := h.Freeze(ctx, o.ID, b, desktop); err != nil {
			t.Fatal(err)
		}
		frame := h.frame(o, b)
		h.clock.pass(age)
		if _, err := h.Claim(ctx, order.ClaimRequest{Source: order.Scanner, Frame: frame, From: mobile}); fault.CodeOf(err) != code {
			t.Errorf("after %v: %v, want %q", age, err, code)
		}
	}
}
