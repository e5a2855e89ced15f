package enrolment_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"sealgate/internal/certpath"
	"sealgate/internal/citizen"
	"sealgate/internal/enrolment"
	"sealgate/internal/fault"
	"sealgate/internal/order"
	"sealgate/internal/pkitest"
)

func TestBeginMakesAnOrderAndShowsOnlyTheMaskedName(t *testing.T) {
	w := newWorld(t)
	k := w.walk(w.card(pkitest.CitizenOptions{Name: "王小明"}))
	begun, err := w.svc.Begin(context.Background(), k.beginRequest())
	must(t, err)
	if begun.MaskedName != "王○明" || !begun.NotAfter.Equal(k.card.Certificate.NotAfter) {
		t.Errorf("got %+v", begun)
	}
	o, err := w.order.Find(context.Background(), begun.Order)
	must(t, err)
	if o.Kind != order.Enrol || o.State != order.Created {
		t.Errorf("order is %s %s", o.Kind, o.State)
	}
	// Neither name nor number lies anywhere in the clear, except in the
	// certificate itself, which has the name.
	var row string
	must(t, w.pool.QueryRow(context.Background(), `SELECT concat(o::text, (to_jsonb(e) - 'certificate')::text,
		(SELECT string_agg(a::text, '') FROM audit_entries a), encode(national_id_sealed, 'escape'), encode(name_sealed, 'escape'), convert_from(o.content, 'UTF8'))
		FROM orders o JOIN enrolments e ON e.order_id = o.id`).Scan(&row))
	for _, secret := range []string{"王小明", k.card.NationalID} {
		if strings.Contains(row, secret) {
			t.Errorf("%s lies in the clear", secret)
		}
	}
}

func TestBeginRefusesBadCards(t *testing.T) {
	w := newWorld(t)
	stranger, stop, err := pkitest.Start(pkitest.Options{})
	must(t, err)
	defer stop()
	unknown, err := stranger.Citizen(pkitest.CitizenOptions{KeyType: pkitest.P256})
	must(t, err)
	for _, c := range []struct {
		name string
		card *pkitest.Card
		want *fault.Error
	}{
		{"expired", w.card(pkitest.CitizenOptions{Expired: true}), certpath.ErrExpired},
		{"not yet valid", w.card(pkitest.CitizenOptions{NotYetValid: true}), certpath.ErrNotYetValid},
		{"revoked", w.card(pkitest.CitizenOptions{Revoked: true}), certpath.ErrRevoked},
		{"unknown CA", unknown, certpath.ErrUntrusted},
		{"no policy", w.card(pkitest.CitizenOptions{NoPolicy: true}), certpath.ErrPolicy},
		{"encryption key usage", w.card(pkitest.CitizenOptions{NoKeyUsage: true}), certpath.ErrKeyUsage},
		{"organisation's subject", w.card(pkitest.CitizenOptions{SubjectExtra: "某公司"}), enrolment.ErrNotCitizenCard},
		{"no directory attributes", w.card(pkitest.CitizenOptions{NoDirectoryAttributes: true}), enrolment.ErrNotCitizenCard},
		{"last four of somebody else", w.card(pkitest.CitizenOptions{IDLast4: "0000"}), enrolment.ErrIDMismatch},
		{"no source for its status", w.card(pkitest.CitizenOptions{NoOCSP: true, NoCRL: true}), certpath.ErrStatusUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.refused(c.want, func() error {
				_, err := w.svc.Begin(context.Background(), w.walk(c.card).beginRequest())
				return err
			})
		})
	}
	w.walk(w.card(pkitest.CitizenOptions{})).begin() // positive control
}

func TestBeginRefusesBadInput(t *testing.T) {
	w := newWorld(t)
	k := w.walk(w.card(pkitest.CitizenOptions{}))
	for _, c := range []struct {
		name   string
		change func(*enrolment.BeginRequest)
		want   *fault.Error
	}{
		{"other national ID", func(r *enrolment.BeginRequest) { r.NationalID = "A223456781" }, enrolment.ErrIDMismatch},
		{"impossible national ID", func(r *enrolment.BeginRequest) { r.NationalID = "A123456788" }, citizen.ErrNationalID},
		{"no national ID", func(r *enrolment.BeginRequest) { r.NationalID = "" }, citizen.ErrNationalID},
		{"no certificate", func(r *enrolment.BeginRequest) { r.Certificate = nil }, enrolment.ErrCertificate},
		{"certificate too large", func(r *enrolment.BeginRequest) { r.Certificate = make([]byte, enrolment.MaxCertificate+1) }, enrolment.ErrCertificate},
		{"trailing bytes", func(r *enrolment.BeginRequest) {
			r.Certificate = append(r.Certificate[:len(r.Certificate):len(r.Certificate)], 0)
		}, enrolment.ErrCertificate},
		{"card number", func(r *enrolment.BeginRequest) { r.CardNumber = "<script>" }, enrolment.ErrCertificate},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := k.beginRequest()
			c.change(&r)
			w.refused(c.want, func() error { _, err := w.svc.Begin(context.Background(), r); return err })
		})
	}
	k.begin() // positive control
}

func TestStatusFailsClosedAndFallsBackToTheList(t *testing.T) {
	w := newWorld(t)
	k := w.walk(w.card(pkitest.CitizenOptions{}))
	begin := func() error { _, err := w.svc.Begin(context.Background(), k.beginRequest()); return err }
	must(t, begin())
	if w.count(`SELECT count(*) FROM audit_entries WHERE act = 'enrol.started' AND detail->>'revocation' = 'ocsp'`) != 1 {
		t.Error("positive control: OCSP was not used when it was up")
	}
	w.pki.SetFaults(pkitest.ResponderFaults{OCSPDown: true, CRLDown: true})
	w.refused(certpath.ErrStatusUnknown, begin)
	w.pki.SetFaults(pkitest.ResponderFaults{OCSPDown: true})
	must(t, begin())
	if w.count(`SELECT count(*) FROM audit_entries WHERE act = 'enrol.started' AND detail->>'revocation' = 'crl'`) != 1 {
		t.Error("the audit entry does not say that a list was used")
	}
}

// The certificate proves four digits of the ID; the first binding fixes the rest.
func TestFirstBindingOfIDToCardIsKept(t *testing.T) {
	w := newWorld(t)
	const id, sameEnding = "A123456789", "B100126789"
	if _, err := citizen.ParseNationalID(sameEnding); err != nil {
		t.Fatal("the test needs a second possible number with the same ending")
	}
	first := w.card(pkitest.CitizenOptions{NationalID: id})
	w.walk(first).bind()

	other := *first
	other.NationalID = sameEnding
	w.refused(enrolment.ErrCitizenConflict, func() error {
		_, err := w.svc.Begin(context.Background(), w.walk(&other).beginRequest())
		return err
	})
	second := w.card(pkitest.CitizenOptions{NationalID: id})
	w.refused(enrolment.ErrCitizenConflict, func() error {
		_, err := w.svc.Begin(context.Background(), w.walk(second).beginRequest())
		return err
	})
	renewed := w.card(pkitest.CitizenOptions{NationalID: id, Serial16: first.Serial16})
	w.walk(renewed).bind() // positive control: a new card of the same person
	if n := w.count(`SELECT count(*) FROM citizens`); n != 1 {
		t.Errorf("%d citizens, want 1", n)
	}
}

func TestFrozenCitizenBindsNothing(t *testing.T) {
	w := newWorld(t)
	k := w.walk(w.card(pkitest.CitizenOptions{}))
	k.bind()
	_, err := w.pool.Exec(context.Background(), `UPDATE citizens SET state = 'frozen'`)
	must(t, err)
	w.refused(enrolment.ErrCitizenStopped, func() error {
		_, err := w.svc.Begin(context.Background(), k.beginRequest())
		return err
	})
}

func TestCreationOptions(t *testing.T) {
	w := newWorld(t)
	card := w.card(pkitest.CitizenOptions{Name: "王小明"})
	type options struct {
		User struct {
			ID, Name string
		}
		AuthenticatorSelection struct{ UserVerification, ResidentKey string }
		Challenge              string
	}
	read := func(k *walk) (o options) {
		must(t, json.Unmarshal(k.options, &o))
		return o
	}
	a, b := read(w.walk(card).begin().claim()), read(w.walk(card).begin().claim())
	// An authenticator overwrites the passkey that has the same handle.
	if a.User.ID == "" || a.User.ID == b.User.ID || a.Challenge == b.Challenge {
		t.Error("user handle and challenge must be new for each binding")
	}
	if a.User.Name != "王○明" || a.AuthenticatorSelection.UserVerification != "required" || a.AuthenticatorSelection.ResidentKey != "required" {
		t.Errorf("options: %+v", a)
	}
}
