package server_test

import (
	"crypto/x509"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/pkitest"
)

// card gives the stored card of a device.
func (w *world) card(t testing.TB, device string) *x509.Certificate {
	t.Helper()
	var der []byte
	if err := w.pool.QueryRow(w.ctx, `SELECT c.der FROM citizen_certificates c JOIN devices d ON d.citizen_certificate_id = c.id
		WHERE d.id = $1`, device).Scan(&der); err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// age lets the last look at all cards lie in the past.
func (w *world) age(t testing.TB, by time.Duration) {
	t.Helper()
	time.Sleep(1100 * time.Millisecond) // an answer is used again for a second
	if _, err := w.pool.Exec(w.ctx, `UPDATE citizen_certificates SET checked_at = now() - $1::interval`, by); err != nil {
		t.Fatal(err)
	}
}

// signer signs a document over the REST API with a phone.
func (w *world) signer(t testing.TB, phone *softphone.Phone) (*api, func() (string, error)) {
	client := w.api()
	return client, func() (string, error) {
		made, err := client.create(map[string]any{"text": "t", "documents": []any{document("a.pdf", []byte("a"))}})
		if err != nil {
			t.Fatal(err)
		}
		desk := w.browser()
		order, err := desk.Open(w.ctx, made.StartURL)
		if err != nil {
			t.Fatal(err)
		}
		_, err = phone.Approve(w.ctx, w.scan(t, desk, phone, order))
		return made.Order, err
	}
}

// The authority of the cards is silent, for a day, for a week.
func TestCardStatusUnknown(t *testing.T) {
	w := newWorld(t, nil)
	phone := w.citizenPhone(t, 2, "手機")
	authority := testCards(t).Hierarchy()
	_, sign := w.signer(t, phone)
	authority.SetFaults(pkitest.ResponderFaults{OCSPDown: true, CRLDown: true})
	defer authority.SetFaults(pkitest.ResponderFaults{})
	if _, err := sign(); err != nil {
		t.Errorf("the last look is recent: %v", err)
	}
	w.age(t, 25*time.Hour)
	_, err := sign()
	wantCode(t, err, "card_status_unknown")
	if err := w.logIn(t, phone); err != nil {
		t.Errorf("a login within the grace: %v", err)
	}
	w.age(t, 8*24*time.Hour)
	wantCode(t, w.logIn(t, phone), "card_status_unknown")
	authority.SetFaults(pkitest.ResponderFaults{})
	if _, err := sign(); err != nil {
		t.Errorf("it answers again, and the card is good: %v", err)
	}
	var age time.Duration
	if err := w.pool.QueryRow(w.ctx, `SELECT now() - max(checked_at) FROM citizen_certificates`).Scan(&age); err != nil || age > time.Minute {
		t.Errorf("the look was not noted: %v, %v", age, err)
	}
}

// A card is revoked long after the binding.
func TestCardRevokedLater(t *testing.T) {
	w := newWorld(t, nil)
	phone := w.citizenPhone(t, 3, "手機")
	id := named(t, w.devices(t, phone), "手機").ID
	client, sign := w.signer(t, phone)
	before, err := sign()
	if err != nil {
		t.Fatal(err)
	}
	client.completed(t, before)
	card := w.card(t, id)
	testCards(t).Hierarchy().Revoke(card, time.Now().Add(-time.Minute), pkitest.ReasonKeyCompromise)
	t.Cleanup(func() { testCards(t).Hierarchy().Unrevoke(card) }) // other tests have the same cards
	if err := w.logIn(t, phone); err != nil {
		t.Errorf("nobody has looked yet: %v", err)
	}
	w.age(t, 25*time.Hour)
	_, err = sign()
	wantCode(t, err, "card_revoked")
	wantCode(t, w.logIn(t, phone), "card_revoked")
	wantCode(t, phone.OpenSession(w.ctx), "card_revoked")
	if status, reason, listed := w.status(t, id); status != ocsp.Revoked || reason != 9 || !listed {
		t.Errorf("status %d, reason %d, listed %v", status, reason, listed)
	}
	for _, act := range []string{"device.suspended", "certificate.revoked"} {
		if n := w.entries(t, id, act); n != 1 {
			t.Errorf("%d entries of %s", n, act)
		}
	}
	if o, err := client.read(before, 0); err != nil || o.State != "completed" || len(w.signature(t, client, before, 0)) == 0 {
		t.Errorf("what it signed before: %v, %v", o, err)
	}
}
