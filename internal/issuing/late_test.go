package issuing_test

import (
	"context"
	"crypto/x509"
	"testing"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/devices"
	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/postgres"
)

// A card that ends takes along what its phones wait for, whether they work or
// their holder suspended them. What the CA issues all the same is revoked.
func TestOutsideRequestEndsWithItsCard(t *testing.T) {
	ctx := context.Background()
	a := newAbroad(t)
	db := postgres.New(a.pool)
	for name, c := range map[string]struct {
		device, deviceReason, reason string
		state                        citizen.CertificateState
		act                          devices.CertificateAct
		ended                        string
		crl                          int
	}{
		"revoked, active":     {"active", "", citizen.ReasonCardRevoked, citizen.CertificateRevoked, devices.Revoke, issuing.EndedCardRevoked, issuing.ReasonPrivilegeTaken},
		"revoked, suspended":  {"suspended", citizen.ReasonCitizen, citizen.ReasonCardRevoked, citizen.CertificateRevoked, devices.Revoke, issuing.EndedCardRevoked, issuing.ReasonPrivilegeTaken},
		"revoked, lost":       {"suspended", citizen.ReasonLoss, citizen.ReasonCardRevoked, citizen.CertificateRevoked, devices.Revoke, issuing.EndedCardRevoked, issuing.ReasonPrivilegeTaken},
		"expired":             {"active", "", citizen.ReasonCardExpired, citizen.CertificateExpired, devices.Keep, issuing.EndedCardExpired, issuing.ReasonCessation},
		"revoked, copied key": {"suspended", citizen.ReasonCounter, citizen.ReasonCardRevoked, citizen.CertificateRevoked, devices.Revoke, issuing.EndedCardRevoked, issuing.ReasonPrivilegeTaken},
	} {
		t.Run(name, func(t *testing.T) {
			r := a.ask(keyring.P256)
			cert, err := a.server.Certify(r.DER)
			if err != nil {
				t.Fatal(err)
			}
			a.exec(`UPDATE devices SET state = $2, state_reason = $3 WHERE id = $1`, r.DeviceID, c.device, c.deviceReason)
			var card uuid.UUID
			if err := a.pool.QueryRow(ctx, `SELECT citizen_certificate_id FROM devices WHERE id = $1`, r.DeviceID).Scan(&card); err != nil {
				t.Fatal(err)
			}
			now := time.Now().UTC()
			if err := db.Devices().EndCard(ctx, devices.CardEnd{Card: devices.Card{ID: card, CitizenID: r.CitizenID}, State: c.state, Reason: c.reason,
				Certificates: c.act, Revocation: issuing.ReasonPrivilegeTaken, At: now, Audit: audit.New(audit.CardRevoked).Citizen(r.CitizenID)}); err != nil {
				t.Fatal(err)
			}
			want := c.reason
			if c.deviceReason == citizen.ReasonCounter {
				want = c.deviceReason // what nobody can lift stays the reason
			}
			if n := a.count(`SELECT count(*) FROM devices WHERE id = $1 AND state = 'suspended' AND state_reason = $2`, r.DeviceID, want); n != 1 {
				t.Errorf("the device is not stopped for %s", want)
			}
			if now := a.stands(r); now.State != issuing.RequestRefused || now.LastError != c.ended {
				t.Fatalf("%s %s", now.State, now.LastError)
			}
			asked := len(a.server.Requests())
			if a.attempt(r); len(a.server.Requests()) != asked {
				t.Error("it is asked for")
			}
			if _, err := a.outside.Accept(ctx, cert.Raw, []*x509.Certificate{a.server.Issuing.Certificate}, audit.New(""), false); err != nil {
				t.Fatal(err)
			}
			if n := a.count(`SELECT reason FROM mobile_certificates WHERE device_id = $1 AND state = 'revoked' AND superseded_at IS NOT NULL`, r.DeviceID); n != c.crl {
				t.Errorf("reason %d", n)
			}
		})
	}
}

// A certificate whose request was refused replaces nothing.
func TestOutsideCertificateTooLate(t *testing.T) {
	ctx := context.Background()
	a := newAbroad(t)
	first := a.ask(keyring.P256)
	if now := a.attempt(first); now.State != issuing.RequestIssued {
		t.Fatal(now.State)
	}
	r := a.ask(keyring.P256)
	cert, err := a.server.Certify(r.DER)
	if err != nil {
		t.Fatal(err)
	}
	// The phone has a certificate already, and the request is for its next one.
	a.exec(`UPDATE mobile_certificates SET device_id = $1, citizen_id = $2`, r.DeviceID, r.CitizenID)
	a.exec(`UPDATE certificate_requests SET renews_id = (SELECT id FROM mobile_certificates) WHERE id = $1`, r.ID)
	if err := a.store.Close(ctx, r.ID, issuing.EndedByOperator, audit.New(audit.CertificateRefused)); err != nil {
		t.Fatal(err)
	}
	by := audit.New("").ByOperator("tester")
	for range 2 {
		if _, err := a.outside.Accept(ctx, cert.Raw, []*x509.Certificate{a.server.Issuing.Certificate}, by, false); err != nil {
			t.Fatal(err)
		}
	}
	if n := a.count(`SELECT count(*) FROM mobile_certificates m JOIN keys k ON k.id = m.key_id WHERE m.device_id = $1 AND m.state = 'good'
AND m.superseded_at IS NULL AND k.destroy_after IS NULL`, r.DeviceID); n != 1 {
		t.Errorf("%d certificates in force", n)
	}
	if n := a.count(`SELECT count(*) FROM mobile_certificates WHERE device_id = $1 AND state = 'revoked'`, r.DeviceID); n != 1 {
		t.Errorf("%d revoked", n)
	}
	if n := a.count(`SELECT count(*) FROM device_notices WHERE device_id = $1`, r.DeviceID); n != 0 {
		t.Errorf("%d notices of a renewal that was none", n)
	}
}
