//go:build cgo

package hsm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/fault"
	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/keyring/hsm"
	"sealgate/internal/passkey"
	"sealgate/internal/pkitest"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
	"sealgate/internal/signing"
	"sealgate/internal/softauthn"
)

const (
	rpID   = "id.example.test"
	origin = "https://id.example.test"
)

// road is a service whose every private key is in the token: authorities,
// tokens and citizens.
type road struct {
	*box
	pool    *pgxpool.Pool
	keys    *keyring.Keyring
	ca      *issuing.CA
	rp      *passkey.RelyingParty
	signing *signing.Service
}

func newRoad(t testing.TB) *road {
	t.Helper()
	r := &road{box: newBox(t), pool: pgtest.Open(t)}
	r.keys = r.ring(r.pool, r.open(func(c *hsm.Config) { c.MaxSessions = 6 }), "ca-*", "oidc", "mobile")
	db := postgres.New(r.pool)
	var err error
	r.ca, err = issuing.New(issuing.Config{Store: db.Issuing(), Keys: r.keys, Name: "(測試用) Sealgate", BaseURL: "http://pki.example.test"})
	r.ok(err)
	r.ok(r.ca.Bootstrap(context.Background()))
	r.rp, err = passkey.New(passkey.Config{RPID: rpID, RPName: "測試", Origins: []string{origin}})
	r.ok(err)
	r.signing, err = signing.New(signing.Config{Store: db.Signing(), Keys: r.keys, Chain: r.ca.Chain, RPID: rpID, Origins: []string{origin},
		Log: slog.New(slog.DiscardHandler)})
	r.ok(err)
	return r
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// citizen is a person with a bound phone and a key in the token.
type citizen struct {
	id, device  uuid.UUID
	phone       *softauthn.Authenticator
	credential  *passkey.Credential
	certificate issuing.Certificate
}

// bind binds a phone as enrolment does.
func (r *road) bind(alg keyring.Algorithm) *citizen {
	r.t.Helper()
	h, err := pkitest.NewHierarchy(pkitest.Options{})
	r.ok(err)
	serial := fmt.Sprintf("%016d", time.Now().UnixNano()%1e16)
	card, err := h.Citizen(pkitest.CitizenOptions{Name: "測試一號", Serial16: serial, NationalID: "A123456789"})
	r.ok(err)
	p := &citizen{id: uuid.New(), device: uuid.New(), phone: softauthn.New(softauthn.Options{})}
	user, challenge := passkey.User{Handle: random(32), Name: "測試手機", DisplayName: "測試民眾"}, random(32)
	options, err := r.rp.CreationOptions(user, challenge, nil)
	r.ok(err)
	response, _, err := p.phone.Create(origin, options)
	r.ok(err)
	p.credential, _, err = r.rp.Register(response, user, challenge)
	r.ok(err)
	row, public, err := r.keys.SealNewKey(alg)
	r.ok(err)
	p.certificate, err = r.ca.Issue(context.Background(), issuing.MobileRequest{CitizenID: p.id, DeviceID: p.device, KeyID: row.ID,
		Citizen: card.Certificate, PublicKey: public})
	r.ok(err)
	c, card2 := p.certificate, uuid.New()
	r.exec(r.pool, `INSERT INTO citizens (id, national_id_mac, national_id_sealed, name_sealed, subject_serial, user_handle) VALUES ($1, $2, '', '', $3, $4)`,
		p.id, random(32), serial, random(32))
	r.exec(r.pool, `INSERT INTO citizen_certificates (id, citizen_id, fingerprint, der, not_before, not_after, checked_at) VALUES ($1, $2, $3, '', now(), now(), now())`,
		card2, p.id, random(32))
	r.exec(r.pool, `INSERT INTO devices (id, citizen_id, citizen_certificate_id, enrolment_id, credential_id, cose_key, cose_algorithm, user_handle, aaguid, backup_eligible, backup_state, attestation_format, name)
VALUES ($1, $2, $3, $4, $5, $6, -7, '', $1, false, false, 'none', '手機')`, p.device, p.id, card2, uuid.New(), p.credential.ID, p.credential.PublicKey)
	r.exec(r.pool, `INSERT INTO keys (id, purpose, algorithm, public_key, sealed, master_key_id, provider, handle) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		row.ID, row.Purpose, string(row.Algorithm), row.PublicKey, row.Sealed, row.MasterKeyID, row.Provider, row.Handle)
	r.exec(r.pool, `INSERT INTO mobile_certificates (id, serial, citizen_id, device_id, key_id, authority, der, not_before, not_after) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		c.ID, c.Serial, c.CitizenID, c.DeviceID, c.KeyID, c.Authority, c.DER, c.NotBefore, c.NotAfter)
	return p
}

// approve stores what the approval of a sign order over the documents stores.
func (r *road) approve(p *citizen, documents ...[]byte) uuid.UUID {
	r.t.Helper()
	id := uuid.Must(uuid.NewV7())
	type document struct {
		Digest    string `json:"digest"`
		Algorithm string `json:"digest_algorithm"`
		Name      string `json:"name"`
	}
	list := make([]document, len(documents))
	for i, d := range documents {
		sum := sha256.Sum256(d)
		list[i] = document{base64.RawURLEncoding.EncodeToString(sum[:]), "SHA-256", "文件"}
	}
	content, err := json.Marshal(map[string]any{"documents": list, "kind": "sign", "order": base64.RawURLEncoding.EncodeToString(id[:]), "v": 2})
	r.ok(err)
	challenge := signing.Challenge(content, nil)
	options, err := r.rp.RequestOptions(challenge[:], nil)
	r.ok(err)
	response, err := p.phone.Get(origin, options)
	r.ok(err)
	assertion, err := passkey.ParseAssertion(response)
	r.ok(err)
	hash, err := signing.DigestsHash(content, nil)
	r.ok(err)
	r.exec(r.pool, `INSERT INTO orders (id, kind, state, client_id, content, qr_secret, created_at, expires_at, final_expires_at,
  claim_hash, claim_source, scanned_at, citizen_id, device_id, approved_at)
VALUES ($1, 'sign', 'approved', $2, $3, $4, now(), now() + interval '1 hour', now() + interval '1 hour', $4, 'scanner', now(), $5, $6, now())`,
		id, uuid.New(), content, random(32), p.id, p.device)
	r.exec(r.pool, `INSERT INTO approvals (order_id, citizen_id, device_id, credential_id, cose_key, content, authenticator_data, client_data_json, signature, rp_id, acr, approved_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'phr', now())`, id, p.id, p.device, p.credential.ID, p.credential.PublicKey, content,
		assertion.AuthenticatorData, assertion.ClientDataJSON, assertion.Signature, rpID)
	r.exec(r.pool, `INSERT INTO signing_authorizations (order_id, citizen_id, device_id, mobile_certificate_id, key_id, digests_hash, created_at)
VALUES ($1, $2, $3, $4, $5, $6, now())`, id, p.id, p.device, p.certificate.ID, p.certificate.KeyID, hash[:])
	return id
}

func (r *road) state(id uuid.UUID) (state string, attempts int) {
	r.t.Helper()
	r.ok(r.pool.QueryRow(context.Background(), `SELECT state, attempts FROM orders WHERE id = $1`, id).Scan(&state, &attempts))
	return state, attempts
}

// opensslVerifies checks a document's signature against our root alone.
func (r *road) opensslVerifies(id uuid.UUID, n int, document []byte) {
	r.t.Helper()
	s, err := r.signing.Signature(context.Background(), id, n)
	r.ok(err)
	anchors, err := r.ca.AnchorsPEM(context.Background())
	r.ok(err)
	root, _, _ := bytes.Cut(anchors, []byte("-----END CERTIFICATE-----\n"))
	dir := r.t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		r.ok(os.WriteFile(path, data, 0o600))
		return path
	}
	openssl(r.t, "cms", "-verify", "-binary", "-cades", "-inform", "DER", "-in", file("sig", s.DER), "-content", file("doc", document),
		"-CAfile", file("ca", append(root, "-----END CERTIFICATE-----\n"...)), "-out", os.DevNull)
}

// Every key of the service in the token: authorities are made, a phone is
// bound, documents are signed, and openssl verifies them.
func TestRoadWithEveryKeyInTheToken(t *testing.T) {
	ctx := context.Background()
	r := newRoad(t)
	if n := r.count(r.pool, `SELECT count(*) FROM keys WHERE provider = 'pkcs11' AND purpose LIKE 'ca-%' AND sealed IS NULL`); n != 5 {
		t.Errorf("%d authorities' keys in the token, want 5", n)
	}
	for _, alg := range []keyring.Algorithm{keyring.P256, keyring.RSA2048} {
		documents := [][]byte{[]byte("契約書"), []byte("annex\r\n")}
		id := r.approve(r.bind(alg), documents...)
		r.ok(r.signing.Complete(ctx, id))
		for n, d := range documents {
			r.opensslVerifies(id, n, d)
		}
	}
	key, err := r.keys.Ensure(ctx, keyring.PurposeOIDC, keyring.P256)
	r.ok(err)
	token, err := r.keys.Signer(ctx, key.ID, keyring.PurposeOIDC)
	r.ok(err)
	if signature, err := token.Sign(rand.Reader, sum256("id token"), crypto.SHA256); err != nil || !verifies(key.Public, sum256("id token"), signature, crypto.SHA256) {
		t.Errorf("the token key: %v", err)
	}
	if s, err := r.keys.Sweep(ctx, "tester", false); err != nil || s.Held != 8 || len(s.Orphans) != 0 {
		t.Errorf("in the token: %+v, %v; want 5 authorities, 1 token key, 2 citizens", s, err)
	}
}

// The token goes away after a citizen approved: the order stays approved, and
// is signed when the token is back, with no restart and no second approval.
func TestApprovedOrderWaitsForTheToken(t *testing.T) {
	ctx := context.Background()
	r := newRoad(t)
	p := r.bind(keyring.P256)
	document := []byte("契約書")
	first := r.approve(p, document)
	r.ok(r.signing.Complete(ctx, first)) // the handle is known from now on
	second := r.approve(p, document)
	r.takeAway()
	for attempt := 1; attempt <= 3; attempt++ {
		err := r.signing.Complete(ctx, second)
		if !errors.Is(err, keyring.ErrTokenUnavailable) || fault.From(err).Kind != fault.Unavailable {
			t.Fatalf("attempt %d: %v", attempt, err)
		}
		if state, attempts := r.state(second); state != "approved" || attempts != attempt {
			t.Fatalf("attempt %d: the order is %s after %d attempts", attempt, state, attempts)
		}
	}
	r.bringBack()
	eventually(t, "signing when the token is back", func() error { return r.signing.Complete(ctx, second) })
	if state, _ := r.state(second); state != "completed" {
		t.Errorf("the order is %s", state)
	}
	r.opensslVerifies(second, 0, document)
	if n := r.count(r.pool, `SELECT count(*) FROM signatures WHERE order_id = $1`, second); n != 1 {
		t.Errorf("%d signatures", n)
	}
}
