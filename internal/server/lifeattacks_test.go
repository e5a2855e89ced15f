package server_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/evidence"
	"sealgate/internal/pkitest"
)

// lost reports a loss with a card, or takes it back: report-loss, undo-loss.
func (w *world) lost(t testing.TB, card int, purpose string) error {
	t.Helper()
	e := w.enrolment(card)
	info := must(e.Card.Read(w.ctx))(t)
	must(e.Browser.Get(w.ctx, "/lost/card"))(t)
	post := func(path string, in, out any) error {
		answer, err := e.Browser.Client().Post(w.origin+path, "application/json", bytes.NewReader(must(json.Marshal(in))(t)))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode/100 != 2 {
			var p struct{ Code string }
			_ = json.NewDecoder(answer.Body).Decode(&p)
			return &softphone.Problem{Status: answer.StatusCode, Code: p.Code}
		}
		return json.NewDecoder(answer.Body).Decode(out)
	}
	var s struct{ ID, TBS, Nonce string }
	if err := post("/lost/statements", map[string]string{"purpose": purpose, "certificate": info.Certificate, "card_number": info.CardNumber}, &s); err != nil {
		return err
	}
	signed := must(e.Card.Sign(w.ctx, s.TBS, s.Nonce, info.Reader))(t)
	return post("/lost/statements/"+s.ID+"/proof", map[string]string{"signature": signed.Signature, "certificate": signed.Certificate,
		"card_number": signed.CardNumber}, &struct{}{})
}

// added begins an addition and brings it to where the first phone agrees.
func (w *world) added(t testing.TB, first *softphone.Phone, name string) (a softphone.Addition, id string, n *softphone.Newcomer) {
	t.Helper()
	a, second := w.addition(t, first, name)
	id = must(a.Begin(w.ctx))(t)
	if err := a.Bind(w.ctx, id, second); err != nil {
		t.Fatal(err)
	}
	return a, id, must(a.Newcomer(w.ctx, id))(t)
}

// A loss that is reported while a phone adds another ends that addition; one that
// is reported after it stops the new phone too, and what it waits for stays.
func TestLossDuringAddition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first := w.citizenPhone(t, 0, "一號")
	a, id, n := w.added(t, first, "二號")
	if err := w.lost(t, 0, "report-loss"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Agree(w.ctx, id, n); softphone.CodeOf(err) != "session_required" {
		t.Errorf("agreed after the loss: %v", err)
	}
	if err := w.lost(t, 0, "undo-loss"); err != nil {
		t.Fatal(err)
	}
	added, err := a.Agree(w.ctx, id, n) // the control: the same phone, the same order
	if err != nil {
		t.Fatal(err)
	}
	if err := w.lost(t, 0, "report-loss"); err != nil {
		t.Fatal(err)
	}
	if status, reason, _ := w.status(t, added.Device.ID); status != ocsp.Revoked || reason != 6 {
		t.Errorf("the added phone after the loss: %d %d", status, reason)
	}
	if err := w.lost(t, 0, "undo-loss"); err != nil {
		t.Fatal(err)
	}
	if d := named(t, w.devices(t, first), "二號"); d.State != "active" || d.CooldownUntil == "" {
		t.Errorf("taking a loss back ends a cool-down: %+v", d)
	}
}

// Nothing renews while a loss is on; what a renewal replaced before signs nothing
// after the loss is taken back.
func TestRenewalAndLoss(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.citizenPhone(t, 1, "一號")
	id := named(t, w.devices(t, phone), "一號").ID
	w.ends(t, id, 24*time.Hour)
	begun := must(phone.BeginRenewal(w.ctx))(t)
	if err := w.lost(t, 1, "report-loss"); err != nil {
		t.Fatal(err)
	}
	if _, err := phone.CompleteRenewal(w.ctx, begun); err == nil {
		t.Error("renewed during a loss")
	}
	if err := w.lost(t, 1, "undo-loss"); err != nil {
		t.Fatal(err)
	}
	if _, err := phone.Renew(w.ctx); err != nil {
		t.Fatalf("control: %v", err)
	}
	for _, purpose := range []string{"report-loss", "undo-loss"} {
		if err := w.lost(t, 1, purpose); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.signWith(t, phone); err != nil {
		t.Fatal(err)
	}
	var old int
	if err := w.pool.QueryRow(w.ctx, `SELECT count(*) FROM signing_authorizations g JOIN mobile_certificates m ON m.id = g.mobile_certificate_id
WHERE m.superseded_at IS NOT NULL`).Scan(&old); err != nil || old != 0 {
		t.Errorf("%d signatures by a replaced certificate, %v", old, err)
	}
}

// A card that is revoked stops for good what its holder had only suspended, or
// reported lost: neither another phone nor another card brings it back.
func TestRevokedCardEndsWhatWasSuspended(t *testing.T) {
	for reason, resume := range map[string]func(w *world, id string, other *softphone.Phone) error{
		"asked_by_citizen": func(w *world, id string, other *softphone.Phone) error {
			return other.ChangeDevice(w.ctx, id, "resume")
		},
		"loss": func(w *world, _ string, _ *softphone.Phone) error { return w.lost(w.t, 2, "undo-loss") },
	} {
		t.Run(reason, func(t *testing.T) {
			for _, revoked := range []bool{false, true} {
				w := newWorld(t, nil)
				working := w.citizenPhone(t, 2, "一號")
				stopped := w.citizenPhone(t, 2, "二號")
				list := w.devices(t, working)
				one, two := named(t, list, "一號").ID, named(t, list, "二號").ID
				// The second phone stays stopped; the first works, so that somebody looks.
				w.exec(t, `UPDATE devices SET state = 'suspended', state_reason = $2, state_changed_at = now() WHERE id = $1`, two, reason)
				w.exec(t, `UPDATE mobile_certificates SET state = 'held', revoked_at = now(), reason = 6 WHERE device_id = $1`, two)
				card := w.card(t, one)
				if revoked {
					testCards(t).Hierarchy().Revoke(card, time.Now().Add(-time.Minute), pkitest.ReasonKeyCompromise)
					defer testCards(t).Hierarchy().Unrevoke(card)
					w.age(t, 25*time.Hour)
					wantCode(t, w.signWith(t, working), "card_revoked")
					if status, reason, _ := w.status(t, two); status != ocsp.Revoked || reason != 9 {
						t.Errorf("the stopped phone's certificate: %d %d", status, reason)
					}
					// The person has a new card and a phone that works again.
					testCards(t).Hierarchy().Unrevoke(card)
					w.exec(t, `UPDATE devices SET state = 'active', state_reason = '' WHERE id = $1`, one)
					w.exec(t, `UPDATE citizen_certificates SET state = 'good', checked_at = now()`)
				}
				err := resume(w, two, working)
				if !revoked {
					if err != nil || w.signWith(t, stopped) != nil {
						t.Errorf("control: %v", err)
					}
					continue
				}
				if err == nil {
					t.Error("a phone of a revoked card works again")
				}
				if err := w.signWith(t, stopped); softphone.CodeOf(err) != "card_revoked" {
					t.Errorf("signing: %v", err)
				}
			}
		})
	}
}

// The card is revoked between the beginning of an addition and the agreement.
func TestCardRevokedDuringAddition(t *testing.T) {
	w := newWorld(t, nil)
	first := w.citizenPhone(t, 3, "一號")
	card := w.card(t, named(t, w.devices(t, first), "一號").ID)
	a, id, n := w.added(t, first, "二號")
	testCards(t).Hierarchy().Revoke(card, time.Now().Add(-time.Minute), pkitest.ReasonKeyCompromise)
	t.Cleanup(func() { testCards(t).Hierarchy().Unrevoke(card) })
	time.Sleep(1100 * time.Millisecond) // an answer is used again for a second
	if _, err := a.Agree(w.ctx, id, n); softphone.CodeOf(err) != "cert_revoked" {
		t.Errorf("agreed with a revoked card: %v", err)
	}
	testCards(t).Hierarchy().Unrevoke(card)
	time.Sleep(1100 * time.Millisecond)
	if _, err := a.Agree(w.ctx, id, n); err != nil {
		t.Errorf("control: %v", err)
	}
}

// Additions that end at the same moment do not pass the limit of phones.
func TestParallelAdditionsKeepTheLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"citizen.device_limit": "3"})
	first := w.citizenPhone(t, 0, "一號")
	type one struct {
		a  softphone.Addition
		id string
		n  *softphone.Newcomer
	}
	var list []one
	for _, name := range []string{"甲", "乙", "丙", "丁"} {
		a, id, n := w.added(t, first, name)
		list = append(list, one{a, id, n})
	}
	var all sync.WaitGroup
	for _, o := range list {
		all.Go(func() {
			_, err := o.a.Agree(w.ctx, o.id, o.n)
			if code := softphone.CodeOf(err); err != nil && code != "enrol_device_limit" && code != "device_suspended" && code != "passkey_overtaken" {
				t.Errorf("%v", err)
			}
		})
	}
	all.Wait()
	if items := w.devices(t, first).Items; len(items) > 3 || len(items) < 2 {
		t.Errorf("%d phones", len(items))
	}
	// Answers in the wrong order are no copied key.
	if n := w.count(t, `SELECT count(*) FROM devices WHERE state <> 'active'`); n != 0 {
		t.Errorf("%d phones were stopped", n)
	}
}

// The phone that agreed is removed: what it agreed to stays proven, and stays.
func TestEvidenceWhenTheAdderIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first := w.citizenPhone(t, 1, "一號")
	a, second := w.addition(t, first, "二號")
	added := must(a.Run(w.ctx, second))(t)
	w.settle(t, added.Device.ID)
	w.devices(t, second)
	one := named(t, w.devices(t, second), "一號").ID
	if err := second.ChangeDevice(w.ctx, one, "remove"); err != nil {
		t.Fatal(err)
	}
	if err := w.signWith(t, second); err != nil {
		t.Fatal(err)
	}
	raw := must(w.bundle(t, w.lastSigned(t, added.Device.ID)).Encode())(t)
	options := w.judge(t)
	if r := w.verify(t, raw, options); r.Verdict != evidence.Passed {
		t.Fatalf("%+v", r)
	}
	changedBytes(t, w, raw, options)
	// Whoever lists the phones learns which passkeys open nothing any more.
	list := w.devices(t, second)
	if list.RemovedPasskeys.RPID == "" || len(list.RemovedPasskeys.IDs) != 1 || len(list.Items) != 1 {
		t.Errorf("%+v", list.RemovedPasskeys)
	}
}

// A cool-down is not shortened by a renewal, nor by binding the first phone anew.
func TestCooldownIsNotPassedBy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first := w.citizenPhone(t, 2, "一號")
	a, second := w.addition(t, first, "二號")
	added := must(a.Run(w.ctx, second))(t)
	w.devices(t, second)
	w.ends(t, added.Device.ID, 24*time.Hour)
	if _, err := second.Renew(w.ctx); softphone.CodeOf(err) != "renewal_cooldown" {
		t.Errorf("renewal: %v", err)
	}
	w.citizenPhone(t, 2, "三號") // the card binds another
	err := w.signWith(t, second)
	if softphone.CodeOf(err) != "device_cooldown" {
		t.Fatalf("signing: %v", err)
	}
	// The time is written as the language writes times.
	for lang, want := range map[string]string{"zh-Hant": "年", "en": ", "} {
		w.says(t, lang, want, second, named(t, w.devices(t, first), "一號").ID)
	}
	w.settle(t, added.Device.ID)
	if err := w.signWith(t, second); err != nil {
		t.Errorf("control: %v", err)
	}
}

// says asks for what a cool-down refuses, in a language.
func (w *world) says(t testing.TB, lang, want string, phone *softphone.Phone, device string) {
	t.Helper()
	b := w.browser()
	p := b.Phone(phone.Keys())
	if err := p.OpenSession(w.ctx); err != nil {
		t.Fatal(err)
	}
	r := must(http.NewRequestWithContext(w.ctx, http.MethodPost, w.origin+"/api/device/v1/devices/"+device+"/suspend", strings.NewReader("{}")))(t)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept-Language", lang)
	answer := must(b.Client().Do(r))(t)
	defer answer.Body.Close()
	var problem struct{ Code, Detail string }
	if err := json.NewDecoder(answer.Body).Decode(&problem); err != nil || problem.Code != "device_cooldown" || !strings.Contains(problem.Detail, want) ||
		strings.Contains(problem.Detail, "-") {
		t.Errorf("%s: %+v, %v", lang, problem, err)
	}
}
