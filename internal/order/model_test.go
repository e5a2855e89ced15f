package order_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/mds"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
	"sealgate/internal/softauthn"
)

// TestForbiddenModelStopsItsPhones: a newer BLOB says that a model is revoked;
// its bound phones stop, others go on, and the log says why.
func TestForbiddenModelStopsItsPhones(t *testing.T) {
	h := newHouse(t)
	bad, good, denied := h.bind(1, false, softauthn.Options{}), h.bind(2, false, softauthn.Options{}), h.bind(3, false, softauthn.Options{})
	silent := h.bind(4, false, softauthn.Options{})
	models := map[*phone]uuid.UUID{bad: uuid.New(), good: uuid.New(), denied: uuid.New(), silent: uuid.Nil}
	for p, id := range models {
		h.exec("UPDATE devices SET aaguid = $2 WHERE id = $1", p.device, id)
	}
	signer, err := softauthn.NewMetadataSigner()
	if err != nil {
		t.Fatal(err)
	}
	blob := func(number int64, status string) *mds.Blob {
		raw, err := signer.BLOB(number, "2099-01-01",
			softauthn.Model{AAGUID: models[bad], Reports: []softauthn.ModelReport{{Status: status}}},
			softauthn.Model{AAGUID: models[good], Reports: []softauthn.ModelReport{{Status: "FIDO_CERTIFIED"}}})
		if err != nil {
			t.Fatal(err)
		}
		b, err := mds.Read(raw, mds.Trust{Roots: []*x509.Certificate{signer.Root}}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	current := blob(1, "FIDO_CERTIFIED")
	recheck := func(policy passkey.Policy) int {
		rp, err := passkey.New(passkey.Config{RPID: rpID, Origins: []string{origin}, Policy: policy, Metadata: func() *mds.Blob { return current }})
		if err != nil {
			t.Fatal(err)
		}
		n, err := rp.Recheck(ctx, h.db.Rechecks(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := recheck(passkey.Policy{}); n != 0 {
		t.Fatalf("%d stopped for nothing", n)
	}
	current = blob(2, "USER_KEY_REMOTE_COMPROMISE")
	policy := passkey.Policy{DeniedAAGUIDs: []uuid.UUID{models[denied]}}
	if first, again := recheck(policy), recheck(policy); first != 2 || again != 0 {
		t.Fatalf("stopped %d, then %d", first, again)
	}
	// What its holder had suspended is stopped too, so that it cannot be resumed.
	asleep := h.bind(5, false, softauthn.Options{})
	h.exec(`UPDATE devices SET aaguid = $2, state = 'suspended', state_reason = 'asked_by_citizen' WHERE id = $1`, asleep.device, models[denied])
	if n := recheck(policy); n != 1 {
		t.Fatalf("%d suspended devices of a denied model stopped", n)
	}
	var why string
	if err := h.pool.QueryRow(ctx, `SELECT state_reason FROM devices WHERE id = $1`, asleep.device).Scan(&why); err != nil || why != passkey.StopDenied {
		t.Errorf("a suspended one has reason %q: %v", why, err)
	}
	for p, want := range map[*phone]string{bad: passkey.StopCompromised, denied: passkey.StopDenied, good: "", silent: ""} {
		var reason string
		var entries int
		err := h.pool.QueryRow(ctx, `SELECT state_reason, (SELECT count(*) FROM audit_entries a
			WHERE a.device_id = d.id AND a.act = 'device.suspended' AND a.detail->>'reason' = d.state_reason) FROM devices d WHERE id = $1`, p.device).Scan(&reason, &entries)
		if err != nil || reason != want || (entries == 1) != (want != "") {
			t.Errorf("reason %q, want %q; %d entries; %v", reason, want, entries, err)
		}
		b := h.browser()
		o := h.login(b)
		c, err := h.Claim(ctx, order.ClaimRequest{Source: order.Hybrid, Order: o.ID.String(), Browser: &b, From: desktop})
		if err != nil {
			t.Fatal(err)
		}
		if want != "" {
			h.refused(o.ID, "device_model", func() error { return h.approve(c, p) })
		} else if err := h.approve(c, p); err != nil {
			t.Error(err)
		}
	}
}
