package server_test

import (
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"sealgate/internal/order"
	"sealgate/internal/softauthn"
)

// A client that demands a road that cannot be relayed gets it or nothing, and
// the token never says more than was reached.
func TestDemandedRoads(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)
	acr := func(values string) oauth2.AuthCodeOption { return oauth2.SetAuthURLParam("acr_values", values) }

	t.Run("near roads only", func(t *testing.T) {
		a, desk := w.relyingParty().begin(acr("phr")), w.browser()
		id := must(desk.Follow(w.ctx, a.url))(t)
		if st := must(desk.Order(w.ctx, id))(t); st.Frame != "" {
			t.Error("a QR code is shown that no phone may use")
		}
		frame := w.frame(t, id, 0) // as if one had been shown
		w.refused(t, "order_road_refused", func() error { return attempted(phone.Scan(w.ctx, frame)) })
		w.refused(t, "order_road_refused", func() error { return attempted(phone.OpenLink(w.ctx, frame)) })
		w.refused(t, "order_wrong_browser", func() error { return attempted(phone.Here(w.ctx, id)) }) // saying so is not enough
		here := desk.Phone(phone.Keys())
		if _, err := here.Approve(w.ctx, must(here.Here(w.ctx, id))(t)); err != nil {
			t.Fatal(err)
		}
		who, err := a.finish(must(desk.Return(w.ctx, id))(t))
		if err != nil || who.ACR != "phr" {
			t.Fatalf("%+v %v", who, err)
		}
	})
	t.Run("a certified key that is none", func(t *testing.T) { // no attestation: phrh is out of reach
		a, desk := w.relyingParty().begin(acr("phrh")), w.browser()
		id := must(desk.Follow(w.ctx, a.url))(t)
		here := desk.Phone(phone.Keys())
		claim := must(here.Here(w.ctx, id))(t)
		w.refused(t, "order_road_refused", func() error { return attempted(here.Approve(w.ctx, claim)) })
	})
	t.Run("any road says which", func(t *testing.T) {
		a, desk := w.relyingParty().begin(acr("phr urn:sealgate:acr:qr")), w.browser()
		id := w.approved(t, a, desk, phone)
		who, err := a.finish(must(desk.Return(w.ctx, id))(t))
		if err != nil || who.ACR != "urn:sealgate:acr:qr" {
			t.Fatalf("%+v %v", who, err)
		}
	})
	t.Run("the client's own demand stands over the request's", func(t *testing.T) {
		id, secret := w.other(t)
		w.exec(t, "UPDATE clients SET minimum_acr = 'phr' WHERE client_id = $1", id)
		a, desk := w.relyingPartyOf(id, secret, "http://localhost:10/callback").begin(acr("urn:sealgate:acr:qr")), w.browser()
		order := must(desk.Follow(w.ctx, a.url))(t)
		frame := w.frame(t, order, 0)
		w.refused(t, "order_road_refused", func() error { return attempted(phone.Scan(w.ctx, frame)) })
	})
	t.Run("a browser that shows another one's order", func(t *testing.T) {
		// The attacker's browser starts an order; the victim's phone may be led to
		// it, but what comes of it goes to the attacker's browser alone, as a QR login.
		a, attacker := w.relyingParty().begin(acr("phr")), w.browser()
		id := must(attacker.Follow(w.ctx, a.url))(t)
		victim := w.browser()
		must(victim.Get(w.ctx, "/enrol"))(t)
		there := victim.Phone(phone.Keys())
		w.refused(t, "order_wrong_browser", func() error { return attempted(there.Here(w.ctx, id)) })
	})
}

// Going back again and again gives no code a longer life than the way back has.
func TestWayBackEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)
	a, desk := w.relyingParty().begin(), w.browser()
	id := w.approved(t, a, desk, phone)
	early := must(desk.Return(w.ctx, id))(t)
	w.exec(t, "UPDATE orders SET approved_at = approved_at - interval '5 minutes 1 second' WHERE id = $1", must(order.ParseID(id))(t).UUID())
	late := must(url.Parse(must(desk.Return(w.ctx, id))(t)))(t)
	if late.Query().Get("code") != "" || late.Query().Get("error") != "access_denied" || late.Query().Get("state") != a.state {
		t.Fatalf("five minutes after the yes: %s", late)
	}
	if _, err := a.finish(early); err != nil { // what was given in time has its own minute
		t.Fatal(err)
	}
	// And a login that nobody fetched cannot be made one of another kind.
	b, other := w.relyingParty().begin(), w.browser()
	second := w.approved(t, b, other, phone)
	if page := must(other.Get(w.ctx, "/o/"+second+"/documents/0.p7s"))(t); page.Status < 400 {
		t.Errorf("a login gives a signature: %d", page.Status)
	}
}

// A passkey that was made for nobody's order, or on a page of another origin,
// binds nothing.
func TestHostileBinding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	e := w.enrolment(0)
	id, info, err := e.Begin(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	claim := w.scan(t, e.Browser, e.Phone, id)
	if err := e.Browser.Check(w.ctx, id, claim.Check.Digits); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		fault softauthn.Fault
		want  string
	}{
		"no user verification":  {softauthn.WithoutUV, "passkey_user_verification"},
		"another challenge":     {softauthn.WrongChallenge, "passkey_challenge"},
		"another origin":        {softauthn.WrongOrigin("https://evil.example"), "passkey_origin"},
		"another relying party": {softauthn.WrongRPID, "passkey_rpid"},
		"a point off its curve": {softauthn.OffCurveKey, "passkey_key_unsupported"},
		"a key of another kind": {softauthn.KtyMismatch, "passkey_key_unsupported"},
		"two challenges":        {softauthn.DuplicateKeys, "passkey_malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, c.want, func() error {
				return w.phone(softauthn.New(softauthn.Options{})).Bind(w.ctx, claim, "Phone", c.fault)
			})
		})
	}
	for _, name := range []string{"", "   ", strings.Repeat("字", 61), "a\u202eb", "a\nb", "a\x00"} {
		w.refused(t, "enrol_device_name", func() error { return e.Phone.Bind(w.ctx, claim, name) })
	}
	if err := e.Phone.Bind(w.ctx, claim, "我的手機"); err != nil {
		t.Fatal(err)
	}
	// The proof of another order, and of another card, for this one.
	second := w.enrolment(1)
	other, theirCard, err := second.Begin(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	theirs := w.scan(t, second.Browser, second.Phone, other)
	if err := second.Browser.Check(w.ctx, other, theirs.Check.Digits); err != nil {
		t.Fatal(err)
	}
	if err := second.Phone.Bind(w.ctx, theirs, "Phone"); err != nil {
		t.Fatal(err)
	}
	wrong := e
	wrong.Card = second.Card // the other card signs this order's statement
	w.refused(t, "enrol_proof_card", func() error { return attempted(wrong.Prove(w.ctx, id, theirCard)) })
	if _, err := e.Prove(w.ctx, id, info); err != nil {
		t.Fatal(err)
	}
}
