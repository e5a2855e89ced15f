package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/softauthn"
)

// started is a login that waits for a phone.
func (w *world) started(t testing.TB) (a *attempt, desk *softphone.Browser, id string) {
	t.Helper()
	a, desk = w.relyingParty("profile").begin(), w.browser()
	return a, desk, must(desk.Follow(w.ctx, a.url))(t)
}

// post sends JSON and gives the refusal.
func (w *world) post(c *http.Client, path string, body, out any) error {
	req, err := jsonRequest(w.ctx, http.MethodPost, w.origin+path, body)
	if err != nil {
		return err
	}
	return answer(c, req, out)
}

// attempted drops a result and keeps the error.
func attempted[T any](_ T, err error) error { return err }

// Every message that proves something works once.
func TestReplay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)

	t.Run("frame", func(t *testing.T) {
		_, desk, id := w.started(t)
		frame := must(desk.Frame(w.ctx, id))(t)
		claim := must(phone.Scan(w.ctx, frame))(t) // positive control
		w.refused(t, "order_claimed", func() error { return attempted(phone.Scan(w.ctx, frame)) })
		if _, err := phone.Approve(w.ctx, claim); err != nil {
			t.Fatal(err)
		}
		w.refused(t, "order_approved", func() error { return attempted(phone.Scan(w.ctx, frame)) })
	})
	t.Run("claim token", func(t *testing.T) {
		_, desk, id := w.started(t)
		claim := w.scan(t, desk, phone, id)
		if _, err := phone.Resume(w.ctx, id, claim.Token); err != nil { // it may ask again while it holds the order
			t.Fatal(err)
		}
		if err := phone.Reject(w.ctx, claim, "not_me"); err != nil {
			t.Fatal(err)
		}
		w.silent(t, "order_rejected", func() error { return attempted(phone.Resume(w.ctx, id, claim.Token)) })
		w.refused(t, "order_rejected", func() error { return attempted(phone.Approve(w.ctx, claim)) })
	})
	t.Run("assertion", func(t *testing.T) {
		_, desk, id := w.started(t)
		claim := w.scan(t, desk, phone, id)
		assertion := must(phone.Assert(claim))(t)
		if _, err := phone.SendAssertion(w.ctx, claim, assertion, nil); err != nil {
			t.Fatal(err)
		}
		w.refused(t, "order_approved", func() error { return attempted(phone.SendAssertion(w.ctx, claim, assertion, nil)) })

		// The same assertion for the next order of the same client.
		_, desk, id = w.started(t)
		next := w.scan(t, desk, phone, id)
		w.refused(t, "passkey_challenge", func() error { return attempted(phone.SendAssertion(w.ctx, next, assertion, nil)) })
		if _, err := phone.Approve(w.ctx, next); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("assertion at once", func(t *testing.T) {
		// A network that sends a request twice must not look like a copied key.
		for range 4 {
			_, desk, id := w.started(t)
			claim := w.scan(t, desk, phone, id)
			assertion := must(phone.Assert(claim))(t)
			once(t, 8, "order_approved", func() error { return attempted(phone.SendAssertion(w.ctx, claim, assertion, nil)) })
			if st := must(desk.Order(w.ctx, id))(t); st.State != "approved" {
				t.Errorf("the order is %s", st.State)
			}
		}
	})
	t.Run("session answer at once", func(t *testing.T) {
		for range 4 {
			open := w.sessionAnswer(t, phone)
			once(t, 8, "session_challenge_used", func() error { return open(w.browser().Client()) })
		}
	})
	t.Run("code and tokens", func(t *testing.T) { replayedCode(t, w, phone) })
	t.Run("start token", func(t *testing.T) {
		o, err := w.api().create(map[string]any{"documents": []any{document("a", []byte("a"))}})
		if err != nil {
			t.Fatal(err)
		}
		desk := w.browser()
		id := must(desk.Open(w.ctx, o.StartURL))(t)
		if _, err := desk.Open(w.ctx, o.StartURL); err != nil { // a reload of the same browser
			t.Fatal(err)
		}
		w.refused(t, "order_wrong_browser", func() error { return attempted(w.browser().Open(w.ctx, o.StartURL)) })
		w.refused(t, "start_token_wrong", func() error {
			return attempted(desk.Open(w.ctx, strings.SplitAfter(o.StartURL, "#")[0]+strings.Repeat("A", 43)))
		})
		if st := must(desk.Order(w.ctx, id))(t); st.State != "created" {
			t.Fatalf("%s", st.State)
		}
	})
	t.Run("session challenge", func(t *testing.T) {
		open := w.sessionAnswer(t, phone)
		if err := open(w.browser().Client()); err != nil {
			t.Fatal(err)
		}
		// The counter stands where this very answer left it: that is no copied key.
		w.refused(t, "session_challenge_used", func() error { return open(w.browser().Client()) })
	})
}

// sessionAnswer is a phone's answer to one session challenge, to be sent.
func (w *world) sessionAnswer(t testing.TB, phone *softphone.Phone) (send func(*http.Client) error) {
	t.Helper()
	var o struct {
		Token   string  `json:"challenge_token"`
		Options rawJSON `json:"public_key"`
	}
	if err := w.post(phoneClient, "/api/device/v1/sessions/options", struct{}{}, &o); err != nil {
		t.Fatal(err)
	}
	assertion := must(phone.Keys().Get(w.origin, o.Options))(t)
	return func(c *http.Client) error {
		return w.post(c, "/api/device/v1/sessions", map[string]any{"challenge_token": o.Token, "assertion": rawJSON(assertion)}, new([]byte))
	}
}

// once does the same thing n times at once: one passes, the others are refused
// with the code.
func once(t testing.TB, n int, code string, do func() error) {
	t.Helper()
	results := make(chan error, n)
	start := make(chan struct{})
	for range n {
		go func() {
			<-start
			results <- do()
		}()
	}
	close(start)
	passed := 0
	for range n {
		switch err := <-results; {
		case err == nil:
			passed++
		case refusalCode(err) != code:
			t.Errorf("refused with %v, want %s", err, code)
		}
	}
	if passed != 1 {
		t.Errorf("%d of %d passed", passed, n)
	}
}

func replayedCode(t *testing.T, w *world, phone *softphone.Phone) {
	a := w.relyingParty("profile").begin()
	desk := w.browser()
	id := w.approved(t, a, desk, phone)
	back := must(desk.Return(w.ctx, id))(t)
	again := must(desk.Return(w.ctx, id))(t) // going back twice is no harm while the code is unused
	who, err := a.finish(back)
	if err != nil {
		t.Fatal(err)
	}
	source := oauth2.StaticTokenSource(who.token)
	if _, err := a.rp.provider.UserInfo(w.ctx, source); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{back, again} {
		if _, err := a.finish(address); refusalCode(err) != "oidc_code_used" {
			t.Errorf("a used code: %v", err)
		}
	}
	// RFC 6749 §4.1.2: what the first exchange got is revoked.
	if _, err := a.rp.provider.UserInfo(w.ctx, source); err == nil {
		t.Error("the token of a replayed code still opens")
	}
	w.silent(t, "", func() error {
		page, err := desk.Get(w.ctx, "/o/"+id+"/return")
		if err == nil && (page.Location != "" || page.Status < 400) {
			t.Errorf("after the code was used: %d to %q", page.Status, page.Location)
		}
		return err
	})
}

// Steps out of their order.
func TestWrongOrderOfSteps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)

	t.Run("approve before the digits", func(t *testing.T) {
		_, desk, id := w.started(t)
		claim := must(phone.OpenLink(w.ctx, must(desk.Frame(w.ctx, id))(t)))(t)
		w.refused(t, "order_check_needed", func() error { return attempted(phone.Approve(w.ctx, claim)) })
		wrong := fmt.Sprintf("%02d", (atoi(t, claim.Check.Digits)+1)%100)
		mark := len(w.audit(t, 0))
		if err := desk.Check(w.ctx, id, wrong); refusalCode(err) != "order_check_wrong" {
			t.Errorf("wrong digits: %v", err)
		}
		if got := w.audit(t, mark); len(got) != 1 || got[0].Result != "refused" || got[0].Code != "order_check_wrong" {
			t.Errorf("wrong digits left %v", got)
		}
		w.refused(t, "order_check_needed", func() error { return attempted(phone.Approve(w.ctx, claim)) })
		if err := desk.Check(w.ctx, id, claim.Check.Digits); err != nil {
			t.Fatal(err)
		}
		if _, err := phone.Approve(w.ctx, claim); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("three wrong digits", func(t *testing.T) {
		_, desk, id := w.started(t)
		claim := must(phone.OpenLink(w.ctx, must(desk.Frame(w.ctx, id))(t)))(t)
		wrong := fmt.Sprintf("%02d", (atoi(t, claim.Check.Digits)+1)%100)
		for _, want := range []string{"order_check_wrong", "order_check_wrong", "order_failed"} {
			if err := desk.Check(w.ctx, id, wrong); refusalCode(err) != want {
				t.Errorf("%v, want %s", err, want)
			}
		}
		w.refused(t, "order_failed", func() error { return desk.Check(w.ctx, id, claim.Check.Digits) })
		w.refused(t, "order_failed", func() error { return attempted(phone.Approve(w.ctx, claim)) })
	})
	t.Run("digits nobody asked for", func(t *testing.T) {
		_, desk, id := w.started(t)
		w.refused(t, "order_check_none", func() error { return desk.Check(w.ctx, id, "12") })
		w.scan(t, desk, phone, id)
		w.refused(t, "order_check_none", func() error { return desk.Check(w.ctx, id, "12") })
	})
	t.Run("approve before claim", func(t *testing.T) {
		_, desk, id := w.started(t)
		_, desk2, id2 := w.started(t)
		elsewhere := w.scan(t, desk2, phone, id2)
		w.refused(t, "order_wrong_claim", func() error {
			return attempted(phone.Approve(w.ctx, &softphone.Claim{Order: id, Token: elsewhere.Token, PublicKey: elsewhere.PublicKey}))
		})
		if st := must(desk.Order(w.ctx, id))(t); st.State != "created" {
			t.Errorf("%s", st.State)
		}
	})
	t.Run("redeem before approve", func(t *testing.T) {
		a, desk, id := w.started(t)
		w.scan(t, desk, phone, id)
		w.silent(t, "", func() error {
			page, err := desk.Get(w.ctx, "/o/"+id+"/return")
			if err == nil && page.Location != "" {
				t.Errorf("sent to %s before the phone said yes", page.Location)
			}
			return err
		})
		w.refused(t, "oidc_code_unknown", func() error { return attempted(a.redeem(strings.Repeat("A", 75))) })
	})
	t.Run("bind steps", func(t *testing.T) { bindOutOfOrder(t, w) })
	t.Run("a login is no signature and no binding", func(t *testing.T) {
		_, desk, id := w.started(t)
		claim := w.scan(t, desk, phone, id)
		assertion := must(phone.Assert(claim))(t)
		w.refused(t, "left_out_invalid", func() error { return attempted(phone.SendAssertion(w.ctx, claim, assertion, []int{0})) })
		if err := w.post(http.DefaultClient, "/api/device/v1/orders/"+id+"/credential",
			map[string]any{"claim_token": claim.Token, "credential": json.RawMessage(assertion), "device_name": "x"}, nil); refusalCode(err) != "order_not_found" {
			t.Errorf("a passkey for a login order: %v", err)
		}
		if _, err := phone.SendAssertion(w.ctx, claim, assertion, nil); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("after cancel", func(t *testing.T) {
		_, desk, id := w.started(t)
		claim := w.scan(t, desk, phone, id)
		must(desk.Step(w.ctx, id, "cancel", nil))(t)
		w.refused(t, "order_cancelled", func() error { return attempted(phone.Approve(w.ctx, claim)) })
		for _, step := range []string{"extend", "freeze", "code"} {
			w.refused(t, "order_cancelled", func() error { return attempted(desk.Step(w.ctx, id, step, nil)) })
		}
		back := must(url.Parse(must(desk.Return(w.ctx, id))(t)))(t)
		if back.Query().Get("error") != "access_denied" || back.Query().Get("code") != "" {
			t.Errorf("sent back with %s", back)
		}
	})
	t.Run("cancel after approve", func(t *testing.T) {
		a, desk, id := w.started(t)
		if _, err := phone.Approve(w.ctx, w.scan(t, desk, phone, id)); err != nil {
			t.Fatal(err)
		}
		w.refused(t, "order_approved", func() error { return attempted(desk.Step(w.ctx, id, "cancel", nil)) })
		if _, err := a.finish(must(desk.Return(w.ctx, id))(t)); err != nil {
			t.Fatal(err)
		}
	})
}

func bindOutOfOrder(t *testing.T, w *world) {
	e := w.enrolment(1)
	id, info, err := e.Begin(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	proof := map[string]string{"signature": "MAA=", "certificate": info.Certificate, "card_number": info.CardNumber}
	statement := func() error {
		req, _ := jsonRequest(w.ctx, http.MethodGet, w.origin+"/enrol/"+id+"/statement", nil)
		return answer(e.Browser.Client(), req, new([]byte))
	}
	prove := func() error { return w.post(e.Browser.Client(), "/enrol/"+id+"/proof", proof, nil) }
	w.silent(t, "order_not_claimed", statement)
	w.refused(t, "order_not_claimed", prove)
	claim := w.scan(t, e.Browser, e.Phone, id)
	w.refused(t, "order_check_needed", func() error { return e.Phone.Bind(w.ctx, claim, "Phone") })
	if err := e.Browser.Check(w.ctx, id, claim.Check.Digits); err != nil {
		t.Fatal(err)
	}
	w.silent(t, "enrol_no_credential", statement)
	w.refused(t, "enrol_no_credential", prove)
	w.refused(t, "order_kind", func() error { // an order to bind is not approved like a login
		other := w.phone(softauthn.New(softauthn.Options{}))
		if _, _, err := other.Keys().Create(w.origin, claim.PublicKey); err != nil {
			return err
		}
		assertion, err := other.Keys().Get(w.origin, []byte(`{"challenge":"`+strings.Repeat("A", 43)+`","rpId":"localhost","userVerification":"required"}`))
		if err != nil {
			return err
		}
		return attempted(other.SendAssertion(w.ctx, claim, assertion, nil))
	})
	if err := e.Phone.Bind(w.ctx, claim, "Phone"); err != nil {
		t.Fatal(err)
	}
	w.refused(t, "enrol_credential_set", func() error {
		second := w.phone(softauthn.New(softauthn.Options{}))
		return second.Bind(w.ctx, claim, "Phone")
	})
	w.refused(t, "enrol_proof_malformed", prove)
	if _, err := e.Prove(w.ctx, id, info); err != nil { // positive control
		t.Fatal(err)
	}
	w.refused(t, "enrol_done", prove)
}

func atoi(t testing.TB, s string) int {
	t.Helper()
	var n int
	if _, err := fmt.Sscanf(s, "%d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}
