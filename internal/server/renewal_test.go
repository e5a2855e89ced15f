package server_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/devices"
	"sealgate/internal/evidence"
	"sealgate/internal/passkey"
	"sealgate/internal/pkitest"
	"sealgate/internal/postgres"
	"sealgate/internal/softauthn"
)

// ends lets a device's mobile certificate end at another time, as far as the register knows.
func (w *world) ends(t testing.TB, device string, in time.Duration) {
	t.Helper()
	if _, err := w.pool.Exec(w.ctx, `UPDATE mobile_certificates SET not_after = $2, not_before = least(not_before, $2::timestamptz - interval '1 day'), warned_days = NULL
		WHERE device_id = $1 AND superseded_at IS NULL`, device, time.Now().Add(in)); err != nil {
		t.Fatal(err)
	}
}

// A certificate issued for a day is renewed by a node that issues for a year:
// nothing is moved but the setting. What the old one signed stays valid.
func TestRenewal(t *testing.T) {
	w := newWorld(t, map[string]string{"mobile.certificate_lifetime": "24h"})
	other := *w
	other.config.Settings = map[string]string{}
	for k, v := range w.config.Settings {
		other.config.Settings[k] = v
	}
	other.config.Settings["mobile.certificate_lifetime"] = "365d"
	node := other.process().address

	phone, second := w.citizenPhone(t, 0, "一號"), w.citizenPhone(t, 0, "二號")
	if d := named(t, w.devices(t, phone), "一號"); d.Certificate.Renew {
		t.Error("a new certificate would not last longer here, and renewing is offered")
	}
	_, err := phone.Renew(w.ctx)
	wantCode(t, err, "renewal_early")
	client, sign := w.signer(t, phone)
	before := must(sign())(t)
	client.completed(t, before)

	far := w.browser(node).Phone(phone.Keys())
	list := w.devices(t, far)
	d := named(t, list, "一號")
	if !d.Certificate.Renew {
		t.Fatalf("renewing is not offered: %+v", d)
	}
	begun := must(far.BeginRenewal(w.ctx))(t)
	var st devices.RenewalStatement
	if err := json.Unmarshal([]byte(begun.Statement), &st); err != nil || st.Purpose != devices.RenewalPurpose || st.Device.String() != d.ID {
		t.Errorf("the statement is %s", begun.Statement)
	}
	end := must(far.CompleteRenewal(w.ctx, begun))(t)
	if at, err := time.Parse(time.RFC3339, end); err != nil || time.Until(at) < 364*24*time.Hour {
		t.Errorf("the new certificate ends %s", end)
	}
	if d := named(t, w.devices(t, far), "一號"); d.Certificate.Renew || d.Certificate.NotAfter != end {
		t.Errorf("after renewing: %+v", d)
	}
	renewalKept(t, w, d.ID)
	if n := w.devices(t, second).Notices; len(n) == 0 || n[0].Kind != "certificate_renewed" || n[0].Device.ID != d.ID {
		t.Errorf("the other phone was told %+v", n)
	}

	after := must(sign())(t)
	client.completed(t, after)
	if status, _, listed := w.status(t, d.ID); status != ocsp.Good || listed {
		t.Errorf("the new certificate: status %d, listed %v", status, listed)
	}
	if n := w.count(t, `SELECT count(*) FROM mobile_certificates WHERE device_id = $1 AND state = 'good' AND superseded_at IS NOT NULL`, d.ID); n != 1 {
		t.Error("the old certificate did not stay good")
	}
	renewedEvidence(t, w, before, after)
}

// renewedEvidence holds that documents signed before and after a renewal verify
// offline, each with its own certificate alone.
func renewedEvidence(t *testing.T, w *world, before, after string) {
	t.Helper()
	options, old, fresh := w.judge(t), w.bundle(t, before), w.bundle(t, after)
	if bytes.Equal(old.Mobile.Certificate, fresh.Mobile.Certificate) {
		t.Fatal("the old certificate signed on")
	}
	for name, b := range map[string]*evidence.Bundle{"before": old, "after": fresh} {
		raw := must(b.Encode())(t)
		if r := w.verify(t, raw, options); r.Verdict != evidence.Passed {
			t.Fatalf("%s: %+v", name, r)
		}
	}
	t.Run("changed bytes", func(t *testing.T) { changedBytes(t, w, must(fresh.Encode())(t), options) })
	fresh.Mobile, old.Mobile = old.Mobile, fresh.Mobile
	for name, b := range map[string]*evidence.Bundle{"before": old, "after": fresh} {
		if err := b.Seal(); err != nil {
			t.Fatal(err)
		}
		r := w.verify(t, must(b.Encode())(t), options)
		if broken := strings.Join(r.Broken(), " "); r.Verdict != evidence.Failed || !strings.Contains(broken, evidence.LinkSignatures) {
			t.Errorf("%s with the other certificate: %+v", name, r)
		}
	}
}

// renewalKept holds that statement, assertion and the card's status were kept
// and hold by themselves.
func renewalKept(t *testing.T, w *world, device string) {
	t.Helper()
	var statement, proof, revocation, oldDER, newDER, card []byte
	if err := w.pool.QueryRow(w.ctx, `SELECT s.statement, s.proof, s.revocation, o.der, n.der, c.der FROM device_statements s
		JOIN mobile_certificates o ON o.id = s.old_certificate_id JOIN mobile_certificates n ON n.id = s.new_certificate_id
		JOIN devices d ON d.id = s.device_id JOIN citizen_certificates c ON c.id = d.citizen_certificate_id
		WHERE s.device_id = $1 AND s.purpose = 'renew-certificate'`, device).Scan(&statement, &proof, &revocation, &oldDER, &newDER, &card); err != nil {
		t.Fatal(err)
	}
	var p devices.RenewalProof
	if err := json.Unmarshal(proof, &p); err != nil {
		t.Fatal(err)
	}
	verify := func(statement []byte) error {
		challenge := devices.RenewalChallenge(statement)
		_, err := passkey.VerifyOffline(passkey.Evidence{AuthenticatorData: p.AuthenticatorData, ClientDataJSON: p.ClientDataJSON, Signature: p.Signature,
			PublicKey: p.COSEKey, RPID: p.RPID, Origins: []string{w.origin}, Challenge: challenge[:]})
		return err
	}
	if err := verify(statement); err != nil {
		t.Errorf("the kept proof: %v", err)
	}
	if verify([]byte(strings.Replace(string(statement), `"v":1`, `"v":2`, 1))) == nil {
		t.Error("the kept proof holds for another statement")
	}
	old, fresh, person := certificate(t, oldDER), certificate(t, newDER), certificate(t, card)
	if string(old.RawSubject) != string(fresh.RawSubject) || string(fresh.RawSubject) != string(person.RawSubject) {
		t.Error("the new certificate names another person")
	}
	if fresh.NotAfter.After(person.NotAfter) {
		t.Error("the new certificate outlasts the card")
	}
	if !strings.Contains(string(revocation), `"ocsp"`) {
		t.Errorf("no answer about the card was kept: %s", revocation)
	}
	for act, want := range map[string]int{"renewal.started": 1, "certificate.renewed": 1} {
		if n := w.entries(t, device, act); n != want {
			t.Errorf("%d entries of %s, want %d", n, act, want)
		}
	}
}

func certificate(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Who may not renew, and what may not be used to.
func TestRenewalRefusals(t *testing.T) {
	w := newWorld(t, nil)
	phone, stranger := w.citizenPhone(t, 0, "一號"), w.citizenPhone(t, 1, "別人的")
	_, err := phone.BeginRenewal(w.ctx)
	wantCode(t, err, "session_required")
	id := named(t, w.devices(t, phone), "一號").ID
	theirs := named(t, w.devices(t, stranger), "別人的").ID
	_, err = phone.BeginRenewal(w.ctx)
	wantCode(t, err, "renewal_early")
	w.ends(t, theirs, 9*24*time.Hour)

	for _, c := range []struct {
		name, code string
		in         time.Duration
		sql        string // set and reset
		undo       string
	}{
		{name: "in 31 days", in: 31 * 24 * time.Hour, code: "renewal_early"},
		{name: "in 29 days", in: 29 * 24 * time.Hour},
		{name: "a day ago", in: -24 * time.Hour},
		{name: "29 days ago", in: -29 * 24 * time.Hour},
		{name: "31 days ago", in: -31 * 24 * time.Hour, code: "renewal_late"},
		{name: "the card ends too", in: 9 * 24 * time.Hour, code: "renewal_card_ends",
			sql:  `UPDATE citizen_certificates c SET not_after = now() + interval '9 days 1 hour' FROM devices d WHERE d.citizen_certificate_id = c.id AND d.id = $1`,
			undo: `UPDATE citizen_certificates c SET not_after = now() + interval '3 years' FROM devices d WHERE d.citizen_certificate_id = c.id AND d.id = $1`},
		{name: "cool-down", in: 9 * 24 * time.Hour, code: "renewal_cooldown",
			sql: `UPDATE devices SET cooldown_until = now() + interval '1 hour' WHERE id = $1`, undo: `UPDATE devices SET cooldown_until = NULL WHERE id = $1`},
		{name: "held", in: 9 * 24 * time.Hour, code: "renewal_certificate",
			sql:  `UPDATE mobile_certificates SET state = 'held', revoked_at = now(), reason = 6 WHERE device_id = $1`,
			undo: `UPDATE mobile_certificates SET state = 'good', revoked_at = NULL, reason = NULL WHERE device_id = $1`},
		{name: "suspended", in: 9 * 24 * time.Hour, code: "session_required",
			sql: `UPDATE devices SET state = 'suspended' WHERE id = $1`, undo: `UPDATE devices SET state = 'active' WHERE id = $1`},
		{name: "frozen", in: 9 * 24 * time.Hour, code: "session_required",
			sql:  `UPDATE citizens c SET state = 'frozen' FROM devices d WHERE d.citizen_id = c.id AND d.id = $1`,
			undo: `UPDATE citizens c SET state = 'active' FROM devices d WHERE d.citizen_id = c.id AND d.id = $1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.ends(t, id, c.in)
			if c.sql != "" {
				must(w.pool.Exec(w.ctx, c.sql, id))(t)
				defer func() { must(w.pool.Exec(w.ctx, c.undo, id))(t) }()
			}
			_, err := phone.BeginRenewal(w.ctx)
			wantCode(t, err, c.code)
		})
	}

	w.ends(t, id, 9*24*time.Hour)
	t.Run("another's answer", func(t *testing.T) {
		mine, other := must(phone.BeginRenewal(w.ctx))(t), must(stranger.BeginRenewal(w.ctx))(t)
		_, err := phone.CompleteRenewal(w.ctx, &softphone.RenewalRequest{Renewal: other.Renewal, PublicKey: mine.PublicKey})
		wantCode(t, err, "renewal_gone")
		// Their passkey over my statement, sent with my session; the phone is told to answer anything.
		var options map[string]any
		if err := json.Unmarshal(mine.PublicKey, &options); err != nil {
			t.Fatal(err)
		}
		delete(options, "allowCredentials")
		open, _ := json.Marshal(options)
		answer := must(stranger.Keys().Get(w.origin, open))(t)
		_, err = phone.SendRenewal(w.ctx, mine.Renewal, answer)
		wantCode(t, err, "renewal_phone")
		// A login's assertion, or one over another renewal, is none over this.
		again := must(phone.BeginRenewal(w.ctx))(t)
		_, err = phone.CompleteRenewal(w.ctx, mine)
		wantCode(t, err, "renewal_gone") // a newer one was begun
		_, err = phone.CompleteRenewal(w.ctx, &softphone.RenewalRequest{Renewal: again.Renewal, PublicKey: mine.PublicKey})
		wantCode(t, err, "passkey_challenge")
	})
	t.Run("too slow", func(t *testing.T) {
		r := must(phone.BeginRenewal(w.ctx))(t)
		must(w.pool.Exec(w.ctx, `UPDATE device_statements SET expires_at = now() WHERE id = $1`, r.Renewal))(t)
		_, err := phone.CompleteRenewal(w.ctx, r)
		wantCode(t, err, "renewal_gone")
	})
	if n := w.count(t, `SELECT count(*) FROM mobile_certificates WHERE device_id = $1`, id); n != 1 {
		t.Errorf("%d certificates after refusals", n)
	}
	t.Run("replayed", func(t *testing.T) {
		r := must(phone.BeginRenewal(w.ctx))(t)
		answer := must(phone.Keys().Get(w.origin, r.PublicKey))(t)
		must(phone.SendRenewal(w.ctx, r.Renewal, answer))(t)
		_, err := phone.SendRenewal(w.ctx, r.Renewal, answer)
		wantCode(t, err, "renewal_gone")
		if d := named(t, w.devices(t, phone), "一號"); d.State != "active" {
			t.Errorf("a replay stopped the phone: %+v", d)
		}
	})
	t.Run("the card is revoked", func(t *testing.T) {
		r := must(stranger.BeginRenewal(w.ctx))(t)
		card := w.card(t, theirs)
		testCards(t).Hierarchy().Revoke(card, time.Now().Add(-time.Minute), pkitest.ReasonKeyCompromise)
		t.Cleanup(func() { testCards(t).Hierarchy().Unrevoke(card) })
		time.Sleep(1100 * time.Millisecond)
		_, err := stranger.CompleteRenewal(w.ctx, r)
		wantCode(t, err, "card_revoked")
		wantCode(t, stranger.OpenSession(w.ctx), "card_revoked")
		if n := w.count(t, `SELECT count(*) FROM mobile_certificates WHERE device_id = $1`, theirs); n != 1 {
			t.Errorf("%d certificates under a revoked card", n)
		}
	})
	t.Run("the card's authority is silent", func(t *testing.T) {
		authority := testCards(t).Hierarchy()
		time.Sleep(1100 * time.Millisecond) // an answer is used again for a second
		authority.SetFaults(pkitest.ResponderFaults{OCSPDown: true, CRLDown: true})
		defer authority.SetFaults(pkitest.ResponderFaults{})
		w.ends(t, id, 9*24*time.Hour)
		_, err := phone.Renew(w.ctx)
		wantCode(t, err, "card_status_unknown")
	})
}

// Two nodes renew at once: one certificate comes of it. With and without counters.
func TestRenewalTwiceAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	node := w.process().address
	phone := w.citizenPhone(t, 2, "手機")
	id := named(t, w.devices(t, phone), "手機").ID
	far := w.browser(node).Phone(phone.Keys())
	w.devices(t, far)
	for round := range 4 {
		w.ends(t, id, 9*24*time.Hour)
		first := must(phone.BeginRenewal(w.ctx))(t)
		answer := must(phone.Keys().Get(w.origin, first.PublicKey))(t)
		requests := []string{first.Renewal, first.Renewal}
		answers := []json.RawMessage{answer, answer}
		if round%2 == 1 { // two statements, both open
			second := twin(t, w, first.Renewal, far)
			requests[1], answers[1] = second.Renewal, must(far.Keys().Get(w.origin, second.PublicKey))(t)
		}
		errs := make([]error, 2)
		var both sync.WaitGroup
		for i, p := range []*softphone.Phone{phone, far} {
			both.Go(func() { _, errs[i] = p.SendRenewal(w.ctx, requests[i], answers[i]) })
		}
		both.Wait()
		good := 0
		for _, err := range errs {
			switch code := softphone.CodeOf(err); {
			case err == nil:
				good++
			case code != "renewal_gone" && code != "renewal_done" && code != "renewal_stopped":
				t.Errorf("round %d: %v", round, err)
			}
		}
		if good != 1 {
			t.Fatalf("round %d: %d renewals of one certificate: %v", round, good, errs)
		}
		if n := w.count(t, `SELECT count(*) FROM mobile_certificates WHERE device_id = $1 AND superseded_at IS NULL`, id); n != 1 {
			t.Fatalf("%d certificates in force", n)
		}
		if d := named(t, w.devices(t, phone), "手機"); d.State != "active" {
			t.Fatalf("round %d stopped the phone", round)
		}
	}
}

// TestOvertakenRenewal: the answer to a renewal comes after a later one of the
// same phone. It is refused and no more; a counter that goes back on a statement
// from after the last use stops the phone.
func TestOvertakenRenewal(t *testing.T) {
	w := newWorld(t, nil)
	phone := w.citizenPhone(t, 0, "手機")
	id := named(t, w.devices(t, phone), "手機").ID
	w.ends(t, id, 9*24*time.Hour)
	r := must(phone.BeginRenewal(w.ctx))(t)
	early := must(phone.Keys().Get(w.origin, r.PublicKey))(t)
	if err := phone.OpenSession(w.ctx); err != nil {
		t.Fatal(err)
	}
	_, err := phone.SendRenewal(w.ctx, r.Renewal, early)
	wantCode(t, err, "passkey_overtaken")
	if n := w.count(t, `SELECT count(*) FROM audit_entries WHERE act = 'certificate.renewed' AND result = 'refused' AND device_id = $1 AND detail->>'code' = 'passkey_overtaken'`, id); n != 1 {
		t.Errorf("%d entries of the refusal", n)
	}
	if d := named(t, w.devices(t, phone), "手機"); d.State != "active" {
		t.Fatalf("a healthy phone is %s", d.State)
	}
	must(phone.CompleteRenewal(w.ctx, r))(t) // the next try

	w.ends(t, id, 9*24*time.Hour)
	r = must(phone.BeginRenewal(w.ctx))(t)
	stored := w.count(t, `SELECT sign_count FROM devices WHERE id = $1`, id)
	copied := must(phone.Keys().Get(w.origin, r.PublicKey, softauthn.CounterAt(uint32(stored-1))))(t)
	_, err = phone.SendRenewal(w.ctx, r.Renewal, copied)
	wantCode(t, err, "renewal_stopped")
	if n := w.count(t, `SELECT count(*) FROM devices WHERE id = $1 AND state = 'suspended' AND state_reason = 'counter'`, id); n != 1 {
		t.Error("a copied key was not stopped")
	}
}

// twin begins a second renewal and keeps the first open, as two nodes would
// that begin in the same moment.
func twin(t *testing.T, w *world, first string, p *softphone.Phone) *softphone.RenewalRequest {
	t.Helper()
	var row []byte
	if err := w.pool.QueryRow(w.ctx, `SELECT to_jsonb(s) FROM device_statements s WHERE id = $1`, first).Scan(&row); err != nil {
		t.Fatal(err)
	}
	second := must(p.BeginRenewal(w.ctx))(t)
	must(w.pool.Exec(w.ctx, `INSERT INTO device_statements (id, purpose, citizen_id, device_id, certificate, statement, created_at, expires_at, old_certificate_id)
		SELECT id, purpose, citizen_id, device_id, certificate, statement, created_at, expires_at, old_certificate_id
		FROM jsonb_populate_record(NULL::device_statements, $1)`, row))(t)
	return second
}

// What was approved before a renewal and not yet signed is signed with the old
// certificate, and its key goes only after that.
func TestRenewalWhileSigning(t *testing.T) {
	w := newWorld(t, nil)
	phone := w.citizenPhone(t, 3, "手機")
	id := named(t, w.devices(t, phone), "手機").ID
	client, sign := w.signer(t, phone)
	// The approval stays unsigned: its authorization is hidden for a while.
	order := must(sign())(t)
	client.completed(t, order)
	must(w.pool.Exec(w.ctx, `UPDATE orders SET state = 'approved', completed_at = NULL, ended_at = NULL, next_attempt_at = now() + interval '1 hour' WHERE id = (SELECT order_id FROM signatures)`))(t)
	must(w.pool.Exec(w.ctx, `UPDATE signing_authorizations SET consumed_at = NULL`))(t)
	must(w.pool.Exec(w.ctx, `DELETE FROM signatures`))(t)

	w.ends(t, id, 9*24*time.Hour)
	must(phone.Renew(w.ctx))(t)
	db := postgres.New(w.pool)
	later := time.Now().Add(2 * time.Hour)
	if n, err := db.Keyring().DestroyKeys(w.ctx, later); err != nil || n != 0 {
		t.Errorf("%d keys destroyed under a waiting order, %v", n, err)
	}
	must(w.pool.Exec(w.ctx, `UPDATE orders SET next_attempt_at = now() WHERE state = 'approved'`))(t)
	client.completed(t, order)
	var superseded bool
	if err := w.pool.QueryRow(w.ctx, `SELECT superseded_at IS NOT NULL FROM mobile_certificates m JOIN signatures s ON s.mobile_certificate_id = m.id`).Scan(&superseded); err != nil || !superseded {
		t.Errorf("signed with the new certificate: %v, %v", !superseded, err)
	}
	if n, err := db.Keyring().DestroyKeys(w.ctx, time.Now()); err != nil || n != 0 {
		t.Errorf("%d keys destroyed before their time, %v", n, err)
	}
	if n, err := db.Keyring().DestroyKeys(w.ctx, later); err != nil || n != 1 {
		t.Errorf("%d keys destroyed, %v; want the old one", n, err)
	}
	if n := w.count(t, `SELECT count(*) FROM keys WHERE purpose = 'mobile' AND state = 'destroyed' AND sealed IS NULL`); n != 1 {
		t.Errorf("%d destroyed keys", n)
	}
	if n := w.count(t, `SELECT count(*) FROM audit_entries WHERE act = 'key.destroyed'`); n != 1 {
		t.Errorf("%d entries of key.destroyed", n)
	}
	next := must(sign())(t)
	client.completed(t, next)
}

// The notices before the end: each once, the nearest only.
func TestEndNotices(t *testing.T) {
	w := newWorld(t, nil)
	phone := w.citizenPhone(t, 2, "手機")
	id := named(t, w.devices(t, phone), "手機").ID
	warn := func() []string {
		for _, days := range []devices.Warning{{Days: 1, Kind: "certificate_ends_day", Card: "card_ends_day"}, {Days: 7, Kind: "certificate_ends_week", Card: "card_ends_week"},
			{Days: 30, Kind: "certificate_ends_month", Card: "card_ends_month"}} {
			days.At, days.Limit = time.Now(), 10
			must(postgres.New(w.pool).Devices().Warn(context.Background(), days))(t)
		}
		var kinds []string
		list := w.devices(t, phone)
		for _, n := range list.Notices {
			kinds = append(kinds, n.Kind)
		}
		if len(list.Notices) > 0 {
			if err := phone.Post(w.ctx, "/notices/seen", map[string]string{"last": list.Notices[0].ID}, nil); err != nil {
				t.Fatal(err)
			}
		}
		return kinds
	}
	move := func(in time.Duration) {
		must(w.pool.Exec(w.ctx, `UPDATE mobile_certificates SET not_after = $2 WHERE device_id = $1`, id, time.Now().Add(in)))(t)
	}
	for _, step := range []struct {
		in   time.Duration
		want string
	}{{31 * 24 * time.Hour, ""}, {29 * 24 * time.Hour, "certificate_ends_month"}, {28 * 24 * time.Hour, ""}, {7*24*time.Hour - time.Minute, "certificate_ends_week"},
		{3 * 24 * time.Hour, ""}, {time.Hour, "certificate_ends_day"}, {time.Minute, ""}, {-time.Hour, ""}} {
		move(step.in)
		if got := strings.Join(warn(), " "); got != step.want {
			t.Errorf("%v before the end: %q, want %q", step.in, got, step.want)
		}
	}
	w.ends(t, id, 3*24*time.Hour)
	must(w.pool.Exec(w.ctx, `UPDATE citizen_certificates SET not_after = now() + interval '3 days'`))(t)
	if got := strings.Join(warn(), " "); got != "card_ends_week" {
		t.Errorf("the card ends too: %q", got)
	}
}

// What was begun and never finished goes, and nothing else.
func TestAbandoned(t *testing.T) {
	w := newWorld(t, nil)
	w.citizenPhone(t, 2, "手機")
	e := w.enrolment(2)
	if _, _, err := e.Begin(w.ctx); err != nil {
		t.Fatal(err)
	}
	db := postgres.New(w.pool)
	if n, err := db.Abandoned(w.ctx, time.Now()); err != nil || n != 0 {
		t.Errorf("%d open or completed enrolments were purged, %v", n, err)
	}
	if n, err := db.Abandoned(w.ctx, time.Now().Add(time.Hour)); err != nil || n != 1 {
		t.Errorf("%d purged, %v; want the abandoned one", n, err)
	}
	if n := w.count(t, `SELECT count(*) FROM enrolments WHERE completed_at IS NOT NULL`); n != 1 {
		t.Errorf("%d completed enrolments are left", n)
	}
}

// The leader does all that by itself.
func TestUpkeepRuns(t *testing.T) {
	w := prepare(t, nil)
	first := w.process()
	e := w.enrolment(2, first.address)
	e.Phone = w.browser(first.address).Phone(softauthn.New(softauthn.Options{}))
	if _, err := e.Run(w.ctx); err != nil {
		t.Fatal(err)
	}
	var id string
	if err := w.pool.QueryRow(w.ctx, `SELECT id FROM devices`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	w.ends(t, id, 9*24*time.Hour)
	if err := e.Phone.OpenSession(w.ctx); err != nil {
		t.Fatal(err)
	}
	must(e.Phone.Renew(w.ctx))(t)
	if _, _, err := w.enrolment(2, first.address).Begin(w.ctx); err != nil {
		t.Fatal(err)
	}
	first.kill()
	w.ends(t, id, 3*24*time.Hour)
	w.exec(t, `UPDATE keys SET destroy_after = now() WHERE destroy_after IS NOT NULL`)
	w.exec(t, `UPDATE enrolments SET created_at = created_at - interval '2 days' WHERE completed_at IS NULL`)
	w.exec(t, `UPDATE orders SET created_at = created_at - interval '2 days', expires_at = expires_at - interval '2 days',
		final_expires_at = final_expires_at - interval '2 days' WHERE kind = 'enrol' AND state = 'created'`)
	second := w.process()
	defer second.kill()
	left := func() string {
		var wrong []string
		for what, sql := range map[string]string{
			"no notice":            `SELECT 1 - count(*) FROM device_notices WHERE kind = 'certificate_ends_week'`,
			"the old key is there": `SELECT count(*) FROM keys WHERE destroy_after IS NOT NULL`,
			"an abandoned binding": `SELECT count(*) FROM enrolments WHERE completed_at IS NULL`,
		} {
			if w.count(t, sql) != 0 {
				wrong = append(wrong, what)
			}
		}
		return strings.Join(wrong, ", ")
	}
	if left() == "" {
		t.Log("the leader was faster than the test")
	}
	for end := time.Now().Add(40 * time.Second); left() != "" && time.Now().Before(end); {
		time.Sleep(200 * time.Millisecond)
	}
	if wrong := left(); wrong != "" {
		t.Errorf("the leader left %s\n%s", wrong, tail(w.log.String()))
	}
}

// A certificate that is replaced between the judging of an approval and its
// transaction is not named by it.
func TestApprovalDuringRenewal(t *testing.T) {
	w := newWorld(t, nil)
	phone := w.citizenPhone(t, 2, "手機")
	client := w.api()
	for _, superseded := range []bool{false, true} {
		made := must(client.create(map[string]any{"text": "t", "documents": []any{document("a.pdf", []byte("a"))}}))(t)
		desk := w.browser()
		open := w.scan(t, desk, phone, must(desk.Open(w.ctx, made.StartURL))(t))
		tx := must(w.pool.Begin(w.ctx))(t)
		must(tx.Exec(w.ctx, `SELECT id FROM orders WHERE state = 'scanned' FOR UPDATE`))(t) // the approving transaction waits here
		result := make(chan error, 1)
		go func() {
			_, err := phone.Approve(w.ctx, open)
			result <- err
		}()
		for w.count(t, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		if superseded {
			must(tx.Exec(w.ctx, `UPDATE mobile_certificates SET superseded_at = now()`))(t)
		}
		if err := tx.Commit(w.ctx); err != nil {
			t.Fatal(err)
		}
		err := <-result
		if superseded {
			wantCode(t, err, "sign_certificate_missing")
		} else if err != nil {
			t.Errorf("nothing was replaced: %v", err)
		}
	}
	if n := w.count(t, `SELECT count(*) FROM signing_authorizations`); n != 1 {
		t.Errorf("%d authorizations, want 1", n)
	}
}
