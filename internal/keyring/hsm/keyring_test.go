//go:build cgo

package hsm_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/keyring"
	"sealgate/internal/postgres/pgtest"
)

func (b *box) count(pool *pgxpool.Pool, sql string, args ...any) (n int) {
	b.t.Helper()
	b.ok(pool.QueryRow(context.Background(), sql, args...).Scan(&n))
	return n
}

func (b *box) exec(pool *pgxpool.Pool, sql string, args ...any) {
	b.t.Helper()
	if _, err := pool.Exec(context.Background(), sql, args...); err != nil {
		b.t.Fatal(err)
	}
}

func TestPurposesChooseThePlace(t *testing.T) {
	ctx := context.Background()
	b, pool := newBox(t), pgtest.Open(t)
	k := b.ring(pool, b.open(), "ca-*", keyring.PurposeMobile)
	for purpose, want := range map[string]string{
		keyring.PurposeCARoot: "pkcs11", keyring.PurposeCAIssuing: "pkcs11", keyring.PurposeCAOCSP: "pkcs11", keyring.PurposeCATSA: "pkcs11",
		keyring.PurposeOIDC: "sealed",
	} {
		key, err := k.Generate(ctx, purpose, keyring.P256)
		b.ok(err)
		var provider string
		var sealed []byte
		b.ok(pool.QueryRow(ctx, `SELECT provider, sealed FROM keys WHERE id = $1`, key.ID).Scan(&provider, &sealed))
		if provider != want || (sealed == nil) != (want == "pkcs11") {
			t.Errorf("%s: %s with %d sealed bytes", purpose, provider, len(sealed))
		}
		signer, err := b.ring(pool, b.open(), "mobile").Signer(ctx, key.ID, purpose) // the row says where, not the configuration
		b.ok(err)
		if signature, err := signer.Sign(rand.Reader, sum256("x"), crypto.SHA256); err != nil || !verifies(key.Public, sum256("x"), signature, crypto.SHA256) {
			t.Errorf("%s: %v", purpose, err)
		}
	}
	if _, err := keyring.New(keyring.Config{}); err == nil {
		t.Error("nothing at all was accepted")
	}
	if n := b.count(pool, `SELECT count(*) FROM audit_entries WHERE act = 'key.created' AND detail->>'provider' = 'pkcs11'`); n != 4 {
		t.Errorf("%d audit entries of keys in the token, want 4", n)
	}
}

// The private half is where it cannot be read: neither in the row nor by
// somebody who has the PIN.
func TestKeysCannotBeTakenOut(t *testing.T) {
	b, pool := newBox(t), pgtest.Open(t)
	k := b.ring(pool, b.open(), keyring.PurposeOIDC)
	for _, alg := range []keyring.Algorithm{keyring.P256, keyring.RSA2048} {
		key, err := k.Generate(context.Background(), keyring.PurposeOIDC, alg)
		b.ok(err)
		for attribute, want := range map[string]bool{"CKA_SENSITIVE": true, "CKA_NEVER_EXTRACTABLE": true, "CKA_EXTRACTABLE": false,
			"CKA_ALWAYS_SENSITIVE": true, "CKA_DECRYPT": false, "CKA_UNWRAP": false, "CKA_DERIVE": false, "CKA_SIGN": true, "CKA_PRIVATE": true} {
			if got := b.attribute(key.ID, attribute); got != want {
				t.Errorf("%s: %s is %v", alg, attribute, got)
			}
		}
	}
}

// Rows that were swapped or altered in the database are refused.
func TestAlteredTokenRows(t *testing.T) {
	ctx := context.Background()
	b, pool := newBox(t), pgtest.Open(t)
	token := b.open()
	k := b.ring(pool, token, "ca-*", "oidc")
	for _, c := range []struct {
		name, sql string
		purpose   string
		want      error
	}{
		{"control: untouched", `UPDATE keys SET master_key_id = '' WHERE id = $1 AND $2::uuid IS NOT NULL`, "ca-root", nil},
		{"handle of another row", `UPDATE keys SET handle = (SELECT handle FROM keys WHERE id = $2) WHERE id = $1`, "ca-root", keyring.ErrUnreadable},
		{"handle and public key of another row", `UPDATE keys SET (handle, public_key) = (SELECT handle, public_key FROM keys WHERE id = $2) WHERE id = $1`, "ca-root", keyring.ErrUnreadable},
		{"public key of another row", `UPDATE keys SET public_key = (SELECT public_key FROM keys WHERE id = $2) WHERE id = $1`, "ca-root", keyring.ErrUnreadable},
		{"other algorithm", `UPDATE keys SET algorithm = 'P-384' WHERE id = $1 AND $2::uuid IS NOT NULL`, "ca-root", keyring.ErrUnreadable},
		{"other purpose", `UPDATE keys SET purpose = 'oidc' WHERE id = $1 AND $2::uuid IS NOT NULL`, "oidc", keyring.ErrNoKey},
		{"said to be sealed", `UPDATE keys SET provider = 'sealed', sealed = '\x01' WHERE id = $1 AND $2::uuid IS NOT NULL`, "ca-root", keyring.ErrUnreadable},
	} {
		one, err := k.Generate(ctx, keyring.PurposeCARoot, keyring.P256)
		b.ok(err)
		two, err := k.Generate(ctx, keyring.PurposeCARoot, keyring.P256)
		b.ok(err)
		b.exec(pool, c.sql, one.ID, two.ID)
		signer, err := b.ring(pool, token, "ca-*").Signer(ctx, one.ID, c.purpose)
		if err == nil {
			_, err = signer.Sign(rand.Reader, sum256("x"), crypto.SHA256)
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A sealed row that is made to name a token's object gets nothing out of it,
// whatever its public key says.
func TestSealedRowTurnedIntoATokenRow(t *testing.T) {
	ctx := context.Background()
	b, pool := newBox(t), pgtest.Open(t)
	token := b.open()
	ca, err := b.ring(pool, token, "ca-*").Generate(ctx, keyring.PurposeCARoot, keyring.P256)
	b.ok(err)
	oidc, err := b.ring(pool, token, "ca-*").Generate(ctx, keyring.PurposeOIDC, keyring.P256)
	b.ok(err)
	b.exec(pool, `UPDATE keys SET (provider, sealed, handle, public_key) = (SELECT provider, sealed, handle, public_key FROM keys WHERE id = $2) WHERE id = $1`, oidc.ID, ca.ID)
	if _, err := b.ring(pool, token, "ca-*").Signer(ctx, oidc.ID, keyring.PurposeOIDC); !errors.Is(err, keyring.ErrUnreadable) {
		t.Errorf("the root's key as a token key: %v", err)
	}
	b.exec(pool, `UPDATE keys SET handle = replace(id::text, '-', '') WHERE id = $1`, oidc.ID)
	signer, err := b.ring(pool, token, "ca-*").Signer(ctx, oidc.ID, keyring.PurposeOIDC)
	b.ok(err)
	if _, err := signer.Sign(rand.Reader, sum256("x"), crypto.SHA256); !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("with its own handle: %v", err)
	}
}

// Several nodes make the first key at once: one row, and no key left over.
func TestEnsureLeavesNothingBehind(t *testing.T) {
	ctx := context.Background()
	b, pool := newBox(t), pgtest.Open(t)
	token := b.open()
	var wg sync.WaitGroup
	ids := make([]uuid.UUID, 6)
	for i := range ids {
		k := b.ring(pool, token, keyring.PurposeOIDC)
		wg.Go(func() {
			key, err := k.Ensure(ctx, keyring.PurposeOIDC, keyring.P256)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = key.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("keys %v", ids)
		}
	}
	if s, err := b.ring(pool, token).Sweep(ctx, "tester", false); err != nil || s.Held != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

// A citizen's key whose transaction was rolled back, and one whose row was
// destroyed, are removed; young keys, living ones and another deployment's stay.
func TestSweep(t *testing.T) {
	ctx := context.Background()
	b, pool := newBox(t), pgtest.Open(t)
	token := b.open()
	k := b.ring(pool, token, keyring.PurposeMobile, keyring.PurposeOIDC)
	service, err := k.Generate(ctx, keyring.PurposeOIDC, keyring.P256)
	b.ok(err)
	_, _, err = k.SealNewKey(keyring.P256) // young, its transaction may still come
	b.ok(err)
	fresh, _, err := k.SealNewKey(keyring.P256)
	b.ok(err)
	old := func(store, destroyed bool) uuid.UUID { // made two hours ago
		r := fresh
		r.ID = aged(2 * time.Hour)
		made, _, err := token.Make(ctx, r)
		b.ok(err)
		if store {
			b.exec(pool, `INSERT INTO keys (id, purpose, algorithm, public_key, provider, handle, state) VALUES ($1, 'mobile', 'P-256', $2, 'pkcs11', $3, $4)`,
				made.ID, made.PublicKey, made.Handle, map[bool]string{false: "active", true: "destroyed"}[destroyed])
		}
		return made.ID
	}
	orphan, living, gone := old(false, false), old(true, false), old(true, true)

	neighbour := pgtest.Open(t)
	other := b.ring(neighbour, token, keyring.PurposeMobile)
	strange, _, err := other.SealNewKey(keyring.P256)
	b.ok(err)
	if strange.Label == fresh.Label {
		t.Fatalf("two deployments have the label %q", strange.Label)
	}
	strange.ID = aged(3 * time.Hour)
	_, _, err = token.Make(ctx, strange)
	b.ok(err)

	dry, err := k.Sweep(ctx, "tester", false)
	if err != nil || dry.Held != 6 || len(dry.Orphans) != 2 || dry.Destroyed != 0 {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	done, err := k.Sweep(ctx, "tester", true)
	if err != nil || done.Destroyed != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	left, err := token.Held(ctx, fresh.Label)
	b.ok(err)
	for _, id := range left {
		if id == orphan || id == gone {
			t.Errorf("%s is still there", id)
		}
	}
	if len(left) != 3 { // living and two young ones
		t.Errorf("%d citizens' keys left, want 3 with %s", len(left), living)
	}
	if ids, _ := token.Held(ctx, strange.Label); len(ids) != 2 {
		t.Errorf("the neighbour has %d keys, want 2", len(ids))
	}
	if signer, err := k.Signer(ctx, service.ID, keyring.PurposeOIDC); err != nil {
		t.Error(err)
	} else if _, err := signer.Sign(rand.Reader, sum256("x"), crypto.SHA256); err != nil {
		t.Errorf("the service's own key: %v", err)
	}
	if n := b.count(pool, `SELECT count(*) FROM audit_entries WHERE act = 'key.destroyed' AND actor = 'tester' AND detail->>'key_id' = ANY ($1)`,
		[]string{orphan.String(), gone.String()}); n != 2 {
		t.Errorf("%d audit entries, want 2", n)
	}
}

// aged is an id as it would have been made some time ago: version 7 begins
// with milliseconds (RFC 9562 §5.7).
func aged(d time.Duration) uuid.UUID {
	id := uuid.Must(uuid.NewV7())
	ms := uint64(time.Now().Add(-d).UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id
}

// A citizen's key in the token signs under a permit only, as sealed ones do.
func TestCitizenKeyInTheTokenNeedsAPermit(t *testing.T) {
	ctx := context.Background()
	b, pool := newBox(t), pgtest.Open(t)
	k := b.ring(pool, b.open(), keyring.PurposeMobile)
	row, public, err := k.SealNewKey(keyring.RSA2048)
	b.ok(err)
	b.exec(pool, `INSERT INTO keys (id, purpose, algorithm, public_key, provider, handle) VALUES ($1, $2, $3, $4, $5, $6)`,
		row.ID, row.Purpose, string(row.Algorithm), row.PublicKey, row.Provider, row.Handle)
	order := uuid.Must(uuid.NewV7())
	hash := [32]byte(sum256("the digests"))
	b.exec(pool, `INSERT INTO signing_authorizations (order_id, citizen_id, device_id, mobile_certificate_id, key_id, digests_hash, created_at)
VALUES ($1, $2, $2, $2, $3, $4, now())`, order, uuid.New(), row.ID, hash[:])
	permit := func(hash [32]byte) keyring.Permit {
		p, err := keyring.NewPermit(order, row.ID, hash, []keyring.Value{{Hash: crypto.SHA256, Digest: sum256("one")}, {Hash: crypto.SHA256, Digest: sum256("one")}})
		b.ok(err)
		return p
	}
	if _, err := k.OpenCitizenKey(ctx, permit([32]byte{1})); !errors.Is(err, keyring.ErrNotPermitted) {
		t.Errorf("other digests: %v", err)
	}
	if _, err := k.Signer(ctx, row.ID, keyring.PurposeOIDC); !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("as a service key: %v", err)
	}
	signer, err := k.OpenCitizenKey(ctx, permit(hash))
	b.ok(err)
	pss := &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthEqualsHash}
	if signature, err := signer.Sign(rand.Reader, sum256("one"), pss); err != nil || !verifies(public, sum256("one"), signature, pss) {
		t.Errorf("control: %v", err)
	}
	if _, err := signer.Sign(rand.Reader, sum256("two"), crypto.SHA256); !errors.Is(err, keyring.ErrNotPermitted) {
		t.Errorf("not on the permit: %v", err)
	}
	signer.Close()
	if _, err := signer.Sign(rand.Reader, sum256("one"), crypto.SHA256); !errors.Is(err, keyring.ErrNotPermitted) {
		t.Errorf("after close: %v", err)
	}
}

// Without cgo there is no module to load, and nothing that needs one is built.
func TestBuildsWithoutCgo(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "sealgate/internal/keyring/hsm")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	deps := string(out)
	if !strings.Contains(deps, "sealgate/internal/keyring\n") || strings.Contains(deps, "pkcs11") || strings.Contains(deps, "crypto11") {
		t.Errorf("without cgo it needs\n%s", deps)
	}
}
