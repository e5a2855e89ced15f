package signing_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/passkey"
	"sealgate/internal/pkitest"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
	"sealgate/internal/signing"
	"sealgate/internal/softauthn"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	rpID   = "id.example.test"
	origin = "https://id.example.test"
)

// world is a database with a CA and everything around it.
type world struct {
	t       testing.TB
	pool    *pgxpool.Pool
	db      *postgres.DB
	keys    *keyring.Keyring
	ca      *issuing.CA
	rp      *passkey.RelyingParty
	service *signing.Service
	changed []uuid.UUID
	citizen int
}

// person is a citizen with one bound phone and one mobile certificate.
type person struct {
	id, device  uuid.UUID
	phone       *softauthn.Authenticator
	credential  *passkey.Credential
	certificate issuing.Certificate
}

func newWorld(t testing.TB) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{t: t, pool: pgtest.Open(t)}
	w.db = postgres.New(w.pool)
	master, err := keyring.NewMasterKey(bytes.Repeat([]byte{3}, 32))
	w.ok(err)
	w.keys, err = keyring.New(keyring.Config{MasterKeys: []*keyring.MasterKey{master}, Store: w.db.Keyring()})
	w.ok(err)
	w.ca, err = issuing.New(issuing.Config{Store: w.db.Issuing(), Keys: w.keys, Name: "(測試用) Sealgate", BaseURL: "http://pki.example.test"})
	w.ok(err)
	w.ok(w.ca.Bootstrap(ctx))
	w.rp, err = passkey.New(passkey.Config{RPID: rpID, RPName: "測試", Origins: []string{origin}})
	w.ok(err)
	w.service = w.node(w.db.Signing(), time.Now)
	return w
}

// node makes one more service on the same database.
func (w *world) node(store signing.Store, now func() time.Time) *signing.Service {
	w.t.Helper()
	return w.nodeWith(func(c *signing.Config) { c.Store, c.Now = store, now })
}

// nodeWith makes a service with a configuration of its own.
func (w *world) nodeWith(change func(*signing.Config)) *signing.Service {
	w.t.Helper()
	var mu sync.Mutex
	cfg := signing.Config{Store: w.db.Signing(), Keys: w.keys, Chain: w.ca.Chain, RPID: rpID, Origins: []string{origin},
		Changed: func(id uuid.UUID) { mu.Lock(); w.changed = append(w.changed, id); mu.Unlock() },
		Log:     slog.New(slog.DiscardHandler)}
	change(&cfg)
	s, err := signing.New(cfg)
	w.ok(err)
	return s
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.pool.Exec(context.Background(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

var cards = sync.OnceValues(func() (*pkitest.Hierarchy, error) { return pkitest.NewHierarchy(pkitest.Options{}) })

// person binds a phone as enrolment does.
func (w *world) person(alg keyring.Algorithm) *person {
	w.t.Helper()
	w.citizen++
	serial16 := fmt.Sprintf("%016d", w.citizen)
	h, err := cards()
	w.ok(err)
	card, err := h.Citizen(pkitest.CitizenOptions{Name: "測試一號", Serial16: serial16, NationalID: "A123456789"})
	w.ok(err)
	p := &person{id: uuid.New(), device: uuid.New(), phone: softauthn.New(softauthn.Options{})}
	user := passkey.User{Handle: random(32), Name: "測試手機", DisplayName: "測試民眾"}
	challenge := random(32)
	options, err := w.rp.CreationOptions(user, challenge, nil)
	w.ok(err)
	response, _, err := p.phone.Create(origin, options)
	w.ok(err)
	p.credential, _, err = w.rp.Register(response, user, challenge)
	w.ok(err)
	row, public, err := w.keys.SealNewKey(alg)
	w.ok(err)
	p.certificate, err = w.ca.Issue(context.Background(), issuing.MobileRequest{CitizenID: p.id, DeviceID: p.device, KeyID: row.ID,
		Citizen: card.Certificate, PublicKey: public})
	w.ok(err)
	w.store(p, row, serial16)
	return p
}

func (w *world) store(p *person, row keyring.Row, serial16 string) {
	w.t.Helper()
	c, certificate := p.certificate, uuid.New()
	w.exec(`INSERT INTO citizens (id, national_id_mac, national_id_sealed, name_sealed, subject_serial, user_handle) VALUES ($1, $2, '', '', $3, $4)`,
		p.id, random(32), serial16, random(32))
	w.exec(`INSERT INTO citizen_certificates (id, citizen_id, fingerprint, der, not_before, not_after, checked_at) VALUES ($1, $2, $3, '', now(), now(), now())`,
		certificate, p.id, random(32))
	w.exec(`INSERT INTO devices (id, citizen_id, citizen_certificate_id, enrolment_id, credential_id, cose_key, cose_algorithm, user_handle, aaguid, backup_eligible, backup_state, attestation_format, name)
VALUES ($1, $2, $3, $4, $5, $6, -7, '', $1, false, false, 'none', '手機')`, p.device, p.id, certificate, uuid.New(), p.credential.ID, p.credential.PublicKey)
	w.exec(`INSERT INTO keys (id, purpose, algorithm, public_key, sealed, master_key_id) VALUES ($1, $2, $3, $4, $5, $6)`,
		row.ID, row.Purpose, string(row.Algorithm), row.PublicKey, row.Sealed, row.MasterKeyID)
	w.exec(`INSERT INTO mobile_certificates (id, serial, citizen_id, device_id, key_id, authority, der, not_before, not_after) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		c.ID, c.Serial, c.CitizenID, c.DeviceID, c.KeyID, c.Authority, c.DER, c.NotBefore, c.NotAfter)
}

// asked is a sign order: what is to be signed.
type asked struct {
	id      uuid.UUID
	content []byte
	leftOut []int
}

func oid(id uuid.UUID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func order(documents ...[]byte) asked {
	a := asked{id: uuid.Must(uuid.NewV7())}
	texts := make([]string, len(documents))
	for i, d := range documents {
		texts[i] = string(d)
	}
	a.content = signContent(oid(a.id), texts...)
	return a
}

// approve lets a person approve an order with the phone, and stores what the
// approval's transaction stores.
func (w *world) approve(p *person, a asked) uuid.UUID {
	w.t.Helper()
	challenge := signing.Challenge(a.content, a.leftOut)
	options, err := w.rp.RequestOptions(challenge[:], nil)
	w.ok(err)
	response, err := p.phone.Get(origin, options)
	w.ok(err)
	assertion, err := passkey.ParseAssertion(response)
	w.ok(err)
	hash, err := signing.DigestsHash(a.content, a.leftOut)
	w.ok(err)
	out := make([]int32, len(a.leftOut))
	for i, n := range a.leftOut {
		out[i] = int32(n)
	}
	w.exec(`INSERT INTO orders (id, kind, state, client_id, content, qr_secret, created_at, expires_at, final_expires_at,
  claim_hash, claim_source, scanned_at, citizen_id, device_id, left_out, approved_at)
VALUES ($1, 'sign', 'approved', $2, $3, $4, now(), now() + interval '1 hour', now() + interval '1 hour', $4, 'scanner', now(), $5, $6, $7, now())`,
		a.id, uuid.New(), a.content, random(32), p.id, p.device, out)
	w.exec(`INSERT INTO approvals (order_id, citizen_id, device_id, credential_id, cose_key, content, left_out, authenticator_data, client_data_json, signature, rp_id, acr, approved_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'phr', now())`, a.id, p.id, p.device, p.credential.ID, p.credential.PublicKey, a.content, out,
		assertion.AuthenticatorData, assertion.ClientDataJSON, assertion.Signature, rpID)
	w.exec(`INSERT INTO signing_authorizations (order_id, citizen_id, device_id, mobile_certificate_id, key_id, digests_hash, created_at)
VALUES ($1, $2, $3, $4, $5, $6, now())`, a.id, p.id, p.device, p.certificate.ID, p.certificate.KeyID, hash[:])
	return a.id
}

// outcome reads what became of an order.
type outcome struct {
	state, reason string
	signatures    int
	consumed      bool
	attempts      int
	entries       int
}

func (w *world) outcome(id uuid.UUID) outcome {
	w.t.Helper()
	var o outcome
	w.ok(w.pool.QueryRow(context.Background(), `SELECT o.state, o.end_reason, o.attempts,
  (SELECT count(*) FROM signatures s WHERE s.order_id = o.id),
  (SELECT consumed_at IS NOT NULL FROM signing_authorizations a WHERE a.order_id = o.id),
  (SELECT count(*) FROM audit_entries e WHERE e.order_id = o.id)
FROM orders o WHERE o.id = $1`, id).Scan(&o.state, &o.reason, &o.attempts, &o.signatures, &o.consumed, &o.entries))
	return o
}

// signContent makes the content of a sign order over the given texts.
func signContent(order string, texts ...string) []byte {
	type doc struct {
		Digest    string `json:"digest"`
		Algorithm string `json:"digest_algorithm"`
		Name      string `json:"name"`
	}
	docs := make([]doc, len(texts))
	for i, text := range texts {
		sum := sha256.Sum256([]byte(text))
		docs[i] = doc{base64.RawURLEncoding.EncodeToString(sum[:]), "SHA-256", "文件"}
	}
	raw, _ := json.Marshal(map[string]any{"documents": docs, "kind": "sign", "order": order, "v": 2})
	return raw
}
