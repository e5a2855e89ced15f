package server_test

import (
	"bytes"
	"encoding/base64"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/uuid"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/evidence"
	"sealgate/internal/order"
	"sealgate/internal/softauthn"
)

// addition is a person with a bound phone that adds another.
func (w *world) addition(t testing.TB, first *softphone.Phone, name string) (softphone.Addition, *softphone.Phone) {
	t.Helper()
	b := w.browser()
	a := softphone.Addition{Browser: b, First: b.Phone(first.Keys()), DeviceName: name}
	return a, w.browser().Phone(softauthn.New(softauthn.Options{}))
}

// settle ends the cool-down of a device.
func (w *world) settle(t testing.TB, device string) {
	t.Helper()
	if _, err := w.pool.Exec(w.ctx, `UPDATE devices SET cooldown_until = now() - interval '1 second' WHERE id = $1`, device); err != nil {
		t.Fatal(err)
	}
}

func TestPhoneAddedFromPhone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first := w.citizenPhone(t, 0, "一號機")
	a, second := w.addition(t, first, "二號機")
	added, err := a.Run(w.ctx, second)
	if err != nil {
		t.Fatal(err)
	}
	// Each sees the other in the list, and the first is told.
	list := w.devices(t, first)
	d, one := named(t, list, "二號機"), named(t, list, "一號機")
	if d.AddedBy == nil || d.AddedBy.ID != one.ID || d.AddedBy.Name != "一號機" || d.CooldownUntil == "" || one.AddedBy != nil || one.CooldownUntil != "" ||
		d.Certificate == nil || d.Certificate.State != "good" {
		t.Fatalf("%+v", list.Items)
	}
	told := false
	for _, n := range list.Notices {
		told = told || n.Kind == "device_added" && n.Device.ID == added.Device.ID
	}
	if !told {
		t.Errorf("notices of the first phone: %+v", list.Notices)
	}
	// The new one logs in, with the lowest acr; it signs nothing and manages nobody.
	login := w.approved(t, w.relyingParty("profile").begin(), w.browser(), second)
	var acr string
	if err := w.pool.QueryRow(w.ctx, `SELECT acr FROM approvals WHERE device_id = $1`, d.ID).Scan(&acr); err != nil || acr != "urn:sealgate:acr:qr" {
		t.Errorf("acr %q, %v", acr, err)
	}
	if code := softphone.CodeOf(w.signWith(t, second)); code != "device_cooldown" {
		t.Errorf("signing: %s", code)
	}
	w.devices(t, second)
	for name, step := range map[string]func() error{
		"suspend": func() error { return second.ChangeDevice(w.ctx, one.ID, "suspend") },
		"remove":  func() error { return second.ChangeDevice(w.ctx, one.ID, "remove") },
		"rename":  func() error { return second.RenameDevice(w.ctx, one.ID, "x") },
		"add":     func() error { return second.Post(w.ctx, "/additions", struct{}{}, nil) },
	} {
		if code := softphone.CodeOf(step()); code != "device_cooldown" {
			t.Errorf("%s: %s", name, code)
		}
	}
	if err := second.RenameDevice(w.ctx, d.ID, "我的新手機"); err != nil {
		t.Errorf("its own name: %v", err)
	}
	w.settle(t, d.ID)
	if err := w.signWith(t, second); err != nil {
		t.Errorf("after the cool-down: %v", err)
	}
	sign := w.lastSigned(t, d.ID)
	options := w.judge(t)
	for _, id := range []string{login, sign} {
		b := w.bundle(t, id)
		raw := must(b.Encode())(t)
		if r := w.verify(t, raw, options); r.Verdict != evidence.Passed || b.Proof.Kind != evidence.KindDevice || b.Proof.By.Proof.Kind != evidence.KindCard {
			t.Fatalf("%+v", r)
		}
		t.Run("bytes", func(t *testing.T) { changedBytes(t, w, raw, options) })
	}
	t.Run("parts", func(t *testing.T) { changedAddition(t, w, w.bundle(t, sign), options) })
	// Not me: the first phone removes it at once, and it is over.
	if err := first.ChangeDevice(w.ctx, d.ID, "remove"); err != nil {
		t.Fatal(err)
	}
	if code := softphone.CodeOf(second.OpenSession(w.ctx)); code != "device_unknown" {
		t.Errorf("removed: %s", code)
	}
}

// signWith lets a phone sign one document.
func (w *world) signWith(t testing.TB, phone *softphone.Phone) error {
	t.Helper()
	client, desk := w.api(), w.browser()
	o, err := client.create(map[string]any{"text": "請簽核", "documents": []any{document("一.pdf", []byte("一"))}})
	if err != nil {
		t.Fatal(err)
	}
	id := must(desk.Open(w.ctx, o.StartURL))(t)
	if _, err := phone.Approve(w.ctx, w.scan(t, desk, phone, id)); err != nil {
		return err
	}
	client.completed(t, id)
	return nil
}

// lastSigned is the newest sign order that a device approved.
func (w *world) lastSigned(t testing.TB, device string) string {
	t.Helper()
	var id uuid.UUID
	if err := w.pool.QueryRow(w.ctx, `SELECT id FROM orders WHERE device_id = $1 AND kind = 'sign' ORDER BY id DESC LIMIT 1`, device).Scan(&id); err != nil {
		t.Fatal(err)
	}
	return order.ID(id).String()
}

// changedAddition changes what the earlier phone's link and binding are made of,
// with the file made whole again: the failing link is named, and it is theirs.
func changedAddition(t *testing.T, w *world, b *evidence.Bundle, o evidence.Options) {
	by := b.Proof.By
	for name, c := range map[string]struct {
		part *evidence.Bytes
		link string
	}{
		"statement":              {&b.Proof.Statement, ""},
		"authenticator data":     {&b.Proof.AuthenticatorData, evidence.LinkDeviceProof},
		"client data":            {&b.Proof.ClientDataJSON, evidence.LinkDeviceProof},
		"signature":              {&b.Proof.Signature, evidence.LinkDeviceProof},
		"first phone's card":     {&by.Card.Certificate, evidence.AddedBy},
		"first phone's proof":    {&by.Proof.CMS, evidence.AddedBy + evidence.LinkStatement},
		"first phone's object":   {&by.Registration.AttestationObject, evidence.AddedBy},
		"first phone's client":   {&by.Registration.ClientDataJSON, evidence.AddedBy + evidence.LinkRegistration},
		"first phone's content":  {&by.Registration.Content, evidence.AddedBy + evidence.LinkRegistration},
		"first phone's answer":   {&by.Card.Revocation[0].Answer, evidence.AddedBy + evidence.LinkRevocation},
		"first phone's question": {&by.Card.Revocation[0].Certificate, evidence.AddedBy + evidence.LinkRevocation},
	} {
		whole := *c.part
		step := 1 + len(whole)/60
		if *everyBit {
			step = 1
		}
		for i := rand.IntN(step); i < len(whole); i += step {
			*c.part = bytes.Clone(whole)
			(*c.part)[i] ^= 1 << rand.IntN(8)
			if err := b.Seal(); err != nil {
				t.Fatal(err)
			}
			r := w.verify(t, must(b.Encode())(t), o)
			broken := strings.Join(r.Broken(), " ")
			if r.Verdict == evidence.Passed || broken == "" || strings.Contains(broken, evidence.LinkForm) || !strings.Contains(broken, c.link) {
				t.Errorf("%s: byte %d of %d: %s, broken %s", name, i, len(whole), r.Verdict, broken)
			}
		}
		*c.part = whole
	}
	// The earlier phone's binding of somebody else's file.
	if err := b.Seal(); err != nil {
		t.Fatal(err)
	}
	if r := w.verify(t, must(b.Encode())(t), o); r.Verdict != evidence.Passed {
		t.Fatalf("control: %+v", r)
	}
}

func TestAddingNeedsTheFirstPhone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first := w.citizenPhone(t, 0, "一號機")
	other := w.citizenPhone(t, 1, "別人的")
	w.devices(t, other)
	a, second := w.addition(t, first, "二號機")
	id := must(a.Begin(w.ctx))(t)
	if err := a.Bind(w.ctx, id, second); err != nil {
		t.Fatal(err)
	}
	n := must(a.Newcomer(w.ctx, id))(t)
	if n.Device.Name != "二號機" || n.Device.Model != "" {
		t.Errorf("%+v", n.Device)
	}
	// Somebody else's session in the same browser, and the same person's in another.
	stranger := softphone.Addition{Browser: a.Browser, First: a.Browser.Phone(other.Keys())}
	if err := stranger.First.OpenSession(w.ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Newcomer(w.ctx, id); softphone.CodeOf(err) != "order_wrong_browser" {
		t.Errorf("another person: %v", err)
	}
	if err := a.First.OpenSession(w.ctx); err != nil {
		t.Fatal(err)
	}
	elsewhere := softphone.Addition{First: first}
	w.devices(t, first)
	if _, err := elsewhere.Newcomer(w.ctx, id); softphone.CodeOf(err) != "order_wrong_browser" && softphone.CodeOf(err) != "browser_required" {
		t.Errorf("another browser: %v", err)
	}
	// The card's road does not end what a phone began.
	e := w.enrolment(0)
	e.Browser = a.Browser
	info := must(e.Card.Read(w.ctx))(t)
	if _, err := e.Prove(w.ctx, id, info); softphone.CodeOf(err) != "enrol_proof_kind" {
		t.Errorf("the card: %v", err)
	}
	// A session that is old begins nothing.
	me := named(t, w.devices(t, first), "一號機")
	if err := a.First.ChangeDevice(w.ctx, me.ID, "suspend"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Agree(w.ctx, id, n); softphone.CodeOf(err) != "session_required" {
		t.Errorf("a suspended first phone: %v", err)
	}
	if _, err := w.pool.Exec(w.ctx, `UPDATE devices SET state = 'active', state_reason = '' WHERE id = $1`, me.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Agree(w.ctx, id, n); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Agree(w.ctx, id, n); softphone.CodeOf(err) != "enrol_done" {
		t.Errorf("twice: %v", err)
	}
}

// A binding on the same phone leaves the old passkey alone until the card has
// signed: the authenticator would overwrite one with the same user handle.
func TestRebindingKeepsTheOldPasskey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	keys := softauthn.New(softauthn.Options{})
	e := w.enrolment(0)
	e.Phone = w.browser().Phone(keys)
	if _, err := e.Run(w.ctx); err != nil {
		t.Fatal(err)
	}
	again := w.enrolment(0)
	again.Phone = w.browser().Phone(keys)
	id, _, err := again.Begin(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	claim := w.scan(t, again.Browser, again.Phone, id)
	if err := again.Browser.Check(w.ctx, id, claim.Check.Digits); err != nil {
		t.Fatal(err)
	}
	if err := again.Phone.Bind(w.ctx, claim, "again"); err != nil {
		t.Fatal(err)
	}
	// The card never signs. The phone still answers with its old passkey.
	var credential []byte
	if err := w.pool.QueryRow(w.ctx, `SELECT credential_id FROM devices`).Scan(&credential); err != nil {
		t.Fatal(err)
	}
	options := `{"challenge":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","rpId":"localhost","userVerification":"required","allowCredentials":[{"type":"public-key","id":"` +
		base64.RawURLEncoding.EncodeToString(credential) + `"}]}`
	if _, err := keys.Get("http://localhost", []byte(options)); err != nil {
		t.Errorf("the old passkey was overwritten: %v", err)
	}
}
