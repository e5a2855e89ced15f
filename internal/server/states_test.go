package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/order"
	"sealgate/internal/softauthn"
)

// What is stopped, revoked or frozen between two steps stops the next one.
func TestStoppedBetweenSteps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)
	claimed := func(t *testing.T) *softphone.Claim {
		_, desk, id := w.started(t)
		return w.scan(t, desk, phone, id)
	}
	for _, c := range []struct{ name, stop, undo, want string }{
		{"device", "UPDATE devices SET state = 'suspended'", "UPDATE devices SET state = 'active'", "device_suspended"},
		{"citizen", "UPDATE citizens SET state = 'frozen'", "UPDATE citizens SET state = 'active'", "citizen_frozen"},
		{"removed device", "UPDATE devices SET state = 'removed'", "UPDATE devices SET state = 'active'", "device_unknown"},
	} {
		t.Run(c.name+" between claim and approve", func(t *testing.T) {
			claim := claimed(t)
			w.exec(t, c.stop)
			w.refused(t, c.want, func() error { return attempted(phone.Approve(w.ctx, claim)) })
			w.exec(t, c.undo)
			if _, err := phone.Approve(w.ctx, claim); err != nil { // positive control: the same claim
				t.Fatal(err)
			}
		})
	}
	t.Run("citizen between approve and redeem", func(t *testing.T) {
		a := w.relyingParty().begin()
		desk := w.browser()
		back := must(desk.Return(w.ctx, w.approved(t, a, desk, phone)))(t)
		w.exec(t, "UPDATE citizens SET state = 'frozen'")
		w.refused(t, "oidc_citizen_stopped", func() error { return attempted(a.finish(back)) })
		w.exec(t, "UPDATE citizens SET state = 'active'")
		if _, err := a.finish(back); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("device between approve and redeem", func(t *testing.T) {
		a := w.relyingParty().begin()
		desk := w.browser()
		back := must(desk.Return(w.ctx, w.approved(t, a, desk, phone)))(t)
		w.exec(t, "UPDATE devices SET state = 'suspended'")
		w.refused(t, "oidc_citizen_stopped", func() error { return attempted(a.finish(back)) })
		w.exec(t, "UPDATE devices SET state = 'active'")
		if _, err := a.finish(back); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("certificate between claim and approve", func(t *testing.T) {
		_, claim := w.signClaim(t, phone)
		w.exec(t, "UPDATE mobile_certificates SET state = 'revoked', revoked_at = now(), reason = 1")
		w.refused(t, "sign_certificate_missing", func() error { return attempted(phone.Approve(w.ctx, claim)) })
		w.exec(t, "UPDATE mobile_certificates SET state = 'good', revoked_at = NULL, reason = NULL")
		if _, err := phone.Approve(w.ctx, claim); err != nil {
			t.Fatal(err)
		}
		if o := w.api().completed(t, claim.Order); o.State != "completed" {
			t.Fatalf("%+v", o)
		}
	})
	for _, c := range []struct{ name, stop, undo, reason string }{
		{"certificate", "UPDATE mobile_certificates SET state = 'revoked', revoked_at = now(), reason = 1",
			"UPDATE mobile_certificates SET state = 'good', revoked_at = NULL, reason = NULL", "signing_certificate"},
		{"device", "UPDATE devices SET state = 'suspended'", "UPDATE devices SET state = 'active'", "signing_stopped"},
		{"citizen", "UPDATE citizens SET state = 'frozen'", "UPDATE citizens SET state = 'active'", "signing_stopped"},
	} {
		t.Run(c.name+" between approve and signing", func(t *testing.T) {
			_, claim := w.signClaim(t, phone)
			release := w.hold(t, "LOCK TABLE keys IN ACCESS EXCLUSIVE MODE") // nobody can begin to sign
			if _, err := phone.Approve(w.ctx, claim); err != nil {
				t.Fatal(err)
			}
			w.exec(t, c.stop)
			w.blocked(t)
			release()
			o := w.api().completed(t, claim.Order)
			w.exec(t, c.undo)
			if o.State != "failed" {
				t.Errorf("the order is %s", o.State)
			}
			if n := w.count(t, "SELECT count(*) FROM signatures s JOIN orders o ON o.id = s.order_id WHERE o.state = 'failed'"); n != 0 {
				t.Errorf("%d signatures of a failed order", n)
			}
			if n := w.count(t, "SELECT count(*) FROM audit_entries WHERE act = 'order.failed' AND detail->>'code' = $1", c.reason); n == 0 {
				t.Errorf("no entry says %s", c.reason)
			}
			if n := w.count(t, "SELECT count(*) FROM signing_authorizations WHERE consumed_at IS NULL"); n != 0 {
				t.Errorf("%d authorizations are still open", n)
			}
		})
	}
}

// signClaim is a sign order over REST that the phone has scanned.
func (w *world) signClaim(t testing.TB, phone *softphone.Phone) (*softphone.Browser, *softphone.Claim) {
	t.Helper()
	o, err := w.api().create(map[string]any{"documents": []any{document("a", []byte("a")), document("b", []byte("b"))}})
	if err != nil {
		t.Fatal(err)
	}
	desk := w.browser()
	return desk, w.scan(t, desk, phone, must(desk.Open(w.ctx, o.StartURL))(t))
}

// A card revoked between the two looks at it binds nothing.
func TestCardRevokedWhileBinding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	const mine = 3 // no other test that runs at the same time has this card
	e := w.enrolment(mine)
	id, info, err := e.Begin(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	claim := w.scan(t, e.Browser, e.Phone, id)
	if err := e.Browser.Check(w.ctx, id, claim.Check.Digits); err != nil {
		t.Fatal(err)
	}
	if err := e.Phone.Bind(w.ctx, claim, "Phone"); err != nil {
		t.Fatal(err)
	}
	cert := parse(t, info.Certificate)
	h := testCards(t).Hierarchy()
	h.Revoke(cert, time.Now(), 1)
	time.Sleep(1100 * time.Millisecond) // an OCSP answer may be a second old
	w.refused(t, "cert_revoked", func() error { return attempted(e.Prove(w.ctx, id, info)) })
	h.Unrevoke(cert)
	time.Sleep(1100 * time.Millisecond)
	if _, err := e.Prove(w.ctx, id, info); err != nil { // positive control
		t.Fatal(err)
	}
}

// What the person left out cannot be put back, nor more be left out, after the
// phone has signed.
func TestLeftOutIsSigned(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)
	desk, claim := w.signClaim(t, phone)
	whole := must(phone.Assert(claim))(t)
	for _, bad := range [][]int{{0}, {1}} {
		w.refused(t, "passkey_challenge", func() error { return attempted(phone.SendAssertion(w.ctx, claim, whole, bad)) })
	}
	for _, bad := range [][]int{{0, 1}, {1, 0}, {0, 0}, {2}, {-1}} {
		w.refused(t, "left_out_invalid", func() error { return attempted(phone.SendAssertion(w.ctx, claim, whole, bad)) })
	}
	var fresh struct {
		PublicKey rawJSON `json:"public_key"`
	}
	if err := w.post(desk.Client(), "/api/device/v1/orders/"+claim.Order+"/options", map[string]any{"claim_token": claim.Token, "left_out": []int{1}}, &fresh); err != nil {
		t.Fatal(err)
	}
	part := must(phone.Keys().Get(w.origin, fresh.PublicKey))(t)
	w.refused(t, "passkey_challenge", func() error { return attempted(phone.SendAssertion(w.ctx, claim, part, nil)) })
	w.refused(t, "passkey_challenge", func() error { return attempted(phone.SendAssertion(w.ctx, claim, part, []int{0})) })
	if _, err := phone.SendAssertion(w.ctx, claim, part, []int{1}); err != nil {
		t.Fatal(err)
	}
	o := w.api().completed(t, claim.Order)
	if o.State != "completed" || o.Documents[0].State != "signed" || o.Documents[1].State != "left_out" {
		t.Fatalf("%+v", o)
	}
	if err := w.api().call("GET", "/api/v1/sign-orders/"+claim.Order+"/documents/1/signature", nil, nil); refusalCode(err) != "api_document_left_out" {
		t.Errorf("%v", err)
	}
}

// frame makes the frame of a step with the order's own secret, which no
// attacker has: to show what the clock alone does.
func (w *world) frame(t testing.TB, id string, step int) string {
	t.Helper()
	oid := must(order.ParseID(id))(t)
	var secret []byte
	if err := w.pool.QueryRow(w.ctx, "SELECT qr_secret FROM orders WHERE id = $1", oid.UUID()).Scan(&secret); err != nil {
		t.Fatal(err)
	}
	m := hmac.New(sha256.New, secret)
	m.Write([]byte("sealgate/frame/v1"))
	m.Write(oid[:])
	m.Write(binary.BigEndian.AppendUint64(nil, uint64(step)))
	return fmt.Sprintf("%s/q/%s.%d.%s", w.origin, id, step, b64(m.Sum(nil)[:8]))
}

// Frames: unknown, forged, of the future, too old, of another order, shaped wrong.
func TestFrames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)
	scan := func(frame string) func() error {
		return func() error { return attempted(phone.Scan(w.ctx, frame)) }
	}
	link := func(frame string) func() error {
		return func() error { return attempted(phone.OpenLink(w.ctx, frame)) }
	}
	// aged is an order that was made so long ago.
	aged := func(t *testing.T, age time.Duration) string {
		_, _, id := w.started(t)
		w.exec(t, "UPDATE orders SET created_at = created_at - $1::interval WHERE id = $2", age, must(order.ParseID(id))(t).UUID())
		return id
	}
	t.Run("unknown", func(t *testing.T) {
		w.refused(t, "frame_unknown", scan(w.origin+"/q/AZ8AAAAAcAAAAAAAAAAAAA.1.AAAAAAAAAAA"))
	})
	t.Run("shapes", func(t *testing.T) {
		good := w.frame(t, aged(t, 0), 0)
		tail := strings.TrimPrefix(good, w.origin+"/q/")
		for _, bad := range []string{"", "x", good + "x", good + "=", good + ".", strings.Replace(good, ".0.", ".00.", 1), strings.Replace(good, ".0.", ".-1.", 1),
			strings.Replace(good, ".0.", ".9999999.", 1), "https://evil.example/q/" + tail, w.origin + "/q/../" + tail, strings.Repeat("A", 3000),
			w.origin + w.origin + "/q/" + tail, tail + "\x00", "javascript:" + tail} {
			w.refused(t, "frame_unknown", scan(bad))
		}
		if err := scan(good)(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("forged", func(t *testing.T) {
		one, two := aged(t, 0), aged(t, 0)
		frame := w.frame(t, one, 0)
		w.refused(t, "frame_forged", scan(frame[:len(frame)-2]+flipped(frame[len(frame)-2:])))
		w.refused(t, "frame_forged", scan(strings.Replace(frame, one, two, 1)))           // the MAC of another order
		w.refused(t, "frame_forged", scan(strings.Replace(frame, one+".0", one+".1", 1))) // of another step
		if err := scan(frame)(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("of the future", func(t *testing.T) {
		id := aged(t, -10*time.Second) // a node whose clock is ten seconds ahead made it
		w.refused(t, "frame_forged", scan(w.frame(t, id, 0)))
		id = aged(t, -time.Second) // within what clocks may differ
		if err := scan(w.frame(t, id, 0))(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("old", func(t *testing.T) {
		id := aged(t, 20*time.Second)
		w.refused(t, "frame_stale", scan(w.frame(t, id, 0)))
		claim := must(phone.OpenLink(w.ctx, w.frame(t, id, 0)))(t) // a camera's link may be older, but needs the digits
		if !claim.Check.Required || claim.ACR != "urn:sealgate:acr:qr" {
			t.Fatalf("%+v", claim)
		}
		w.refused(t, "frame_stale", link(w.frame(t, aged(t, 60*time.Second), 0)))
	})
	t.Run("a road that is none", func(t *testing.T) {
		_, _, id := w.started(t)
		for _, source := range []string{"", "frozen", "code ", "SCANNER", "admin"} {
			err := w.post(phoneClient, "/api/device/v1/claims", map[string]string{"frame": w.frame(t, id, 0), "source": source}, nil)
			if code := refusalCode(err); code != "claim_source" {
				t.Errorf("%q: %v", source, err)
			}
		}
	})
}

func flipped(s string) string {
	if s == "AA" {
		return "BA"
	}
	return "AA"
}

// Of two phones at once one gets the order, whatever node they ask; of two
// browsers at once one gets an order made over the API.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	one, two := w.enrol(0), w.enrol(1)
	for range 5 {
		_, desk, id := w.started(t)
		frame := must(desk.Frame(w.ctx, id))(t)
		var all sync.WaitGroup
		results := make([]error, 2)
		for i, p := range []*softphone.Phone{one, two} {
			all.Go(func() { results[i] = attempted(p.Scan(w.ctx, frame)) })
		}
		all.Wait()
		if (results[0] == nil) == (results[1] == nil) {
			t.Fatalf("%v, %v", results[0], results[1])
		}
		for _, err := range results {
			if err != nil && refusalCode(err) != "order_claimed" {
				t.Error(err)
			}
		}
	}
	for range 5 {
		o, err := w.api().create(map[string]any{"documents": []any{document("a", []byte("a"))}})
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		results := make([]error, 2)
		for i := range results {
			b := w.browser()
			all.Go(func() { results[i] = attempted(b.Open(w.ctx, o.StartURL)) })
		}
		all.Wait()
		if (results[0] == nil) == (results[1] == nil) {
			t.Fatalf("%v, %v", results[0], results[1])
		}
		for _, err := range results {
			if err != nil && refusalCode(err) != "order_wrong_browser" {
				t.Error(err)
			}
		}
	}
	// Two approvals of one phone at once, for two orders: both are the person's will.
	claims := make([]*softphone.Claim, 2)
	for i := range claims {
		_, desk, id := w.started(t)
		claims[i] = w.scan(t, desk, one, id)
	}
	first, second := must(one.Assert(claims[0]))(t), must(one.Assert(claims[1]))(t)
	// Both are read while the counter stands where it stood; then they write in the
	// order in which they came.
	release := w.hold(t, "SELECT FROM devices FOR UPDATE")
	results := make(chan error, 2)
	go func() { results <- attempted(one.SendAssertion(w.ctx, claims[0], first, nil)) }()
	w.blocked(t)
	go func() { results <- attempted(one.SendAssertion(w.ctx, claims[1], second, nil)) }()
	w.blocked(t, 2)
	release()
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// Every fault that a hostile or broken phone can show, at the door itself: each
// is refused with one entry, and then the honest answer passes.
func TestHostilePhone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone, stranger := w.enrol(0), w.enrol(1)
	theirs := stranger.Keys().Credentials("localhost")[0]
	_, desk, id := w.started(t)
	claim := w.scan(t, desk, phone, id)
	for name, c := range map[string]struct {
		fault softauthn.Fault
		want  string
	}{
		"no user verification":    {softauthn.WithoutUV, "passkey_user_verification"},
		"no user presence":        {softauthn.WithoutUP, "passkey_user_presence"},
		"another challenge":       {softauthn.WrongChallenge, "passkey_challenge"},
		"another origin":          {softauthn.WrongOrigin("https://sealgate.example.evil"), "passkey_origin"},
		"origin with a path":      {softauthn.OriginWithPath, "passkey_origin"},
		"origin in capitals":      {softauthn.OriginUpperCase, "passkey_origin"},
		"a registration":          {softauthn.WrongType, "passkey_malformed"},
		"another relying party":   {softauthn.WrongRPID, "passkey_rpid"},
		"signature":               {softauthn.BadSignature, "passkey_signature"},
		"two challenges":          {softauthn.DuplicateKeys, "passkey_malformed"},
		"names in capitals":       {softauthn.OtherCaseKeys, "passkey_malformed"},
		"padding":                 {softauthn.PaddedBase64, "passkey_malformed"},
		"in a frame":              {softauthn.CrossOrigin, "passkey_origin"},
		"another person's handle": {softauthn.OtherUserHandle(theirs.UserHandle), "device_unknown"},
		"no handle":               {softauthn.WithoutUserHandle, "device_unknown"},
		"another's credential":    {softauthn.OtherCredentialID(theirs.ID), "device_unknown"},
		"backup flag":             {softauthn.BEFlipped, "passkey_backup_changed"},
	} {
		t.Run(name, func(t *testing.T) {
			before, mark := w.snapshot(t), len(w.audit(t, 0))
			_, err := phone.Approve(w.ctx, claim, softphone.Answer{Faults: []softauthn.Fault{c.fault}})
			if got := refusalCode(err); got != c.want {
				t.Errorf("refused with %q (%v), want %q", got, err, c.want)
			}
			if changed := before.changed(w.snapshot(t)); len(changed) > 0 {
				t.Errorf("it changed %s", strings.Join(changed, ", "))
			}
			entries := w.audit(t, mark)
			if len(entries) != 1 || entries[0].Result != "refused" {
				t.Errorf("audit entries %v", entries)
			}
		})
	}
	if _, err := phone.Approve(w.ctx, claim); err != nil {
		t.Fatal(err)
	}
	// A counter that goes back stops the device, and the order stays open.
	_, desk, id = w.started(t)
	claim = w.scan(t, desk, phone, id)
	if _, err := phone.Approve(w.ctx, claim, softphone.Answer{Faults: []softauthn.Fault{softauthn.CounterAt(1)}}); refusalCode(err) != "device_counter" {
		t.Fatalf("counter: %v", err)
	}
	w.refused(t, "device_suspended", func() error { return attempted(phone.Approve(w.ctx, claim)) })
	if _, err := stranger.Approve(w.ctx, claim); err != nil { // the claim itself is good
		t.Fatal(err)
	}
}

// claimTokens cannot be guessed from each other: another order's, one bit
// changed, another spelling.
func TestClaimTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)
	_, desk, id := w.started(t)
	claim := w.scan(t, desk, phone, id)
	raw := must(base64.RawURLEncoding.DecodeString(claim.Token))(t)
	if len(raw) < 16 {
		t.Fatalf("a token of %d bytes", len(raw))
	}
	raw[0] ^= 1
	for _, token := range []string{"", b64(raw), claim.Token + "=", claim.Token[:len(claim.Token)-1], strings.ToLower(claim.Token), claim.Token + "\n"} {
		bad := *claim
		bad.Token = token
		w.refused(t, "order_wrong_claim", func() error { return attempted(phone.Approve(w.ctx, &bad)) })
		w.refused(t, "order_wrong_claim", func() error { return phone.Reject(w.ctx, &bad, "not_me") })
		if _, err := phone.Status(w.ctx, &bad, 0); err == nil {
			t.Errorf("%q reads how the order stands", token)
		}
	}
	if _, err := phone.Approve(w.ctx, claim); err != nil {
		t.Fatal(err)
	}
}
