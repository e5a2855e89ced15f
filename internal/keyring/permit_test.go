package keyring_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/keyring"
	"sealgate/internal/postgres/pgtest"
)

// citizenKey stores a citizen's key and an authorization for it.
func citizenKey(t *testing.T, pool *pgxpool.Pool, k *keyring.Keyring, alg keyring.Algorithm, digestsHash [32]byte) (order, key uuid.UUID, public crypto.PublicKey) {
	t.Helper()
	ctx := context.Background()
	row, public, err := k.SealNewKey(alg)
	if err != nil {
		t.Fatal(err)
	}
	order = uuid.Must(uuid.NewV7())
	if _, err := pool.Exec(ctx, `INSERT INTO keys (id, purpose, algorithm, public_key, sealed, master_key_id, provider, handle, state, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`, row.ID, row.Purpose, string(row.Algorithm), row.PublicKey, row.Sealed,
		row.MasterKeyID, row.Provider, row.Handle, string(row.State), row.CreatedAt); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, `INSERT INTO signing_authorizations (order_id, citizen_id, device_id, mobile_certificate_id, key_id, digests_hash, created_at)
VALUES ($1, $2, $3, $4, $5, $6, now())`, order, uuid.New(), uuid.New(), uuid.New(), row.ID, digestsHash[:]); err != nil {
		t.Fatal(err)
	}
	return order, row.ID, public
}

func permit(t *testing.T, order, key uuid.UUID, hash [32]byte, values ...[32]byte) keyring.Permit {
	t.Helper()
	list := make([]keyring.Value, len(values))
	for i := range values {
		list[i] = keyring.Value{Hash: crypto.SHA256, Digest: values[i][:]}
	}
	p, err := keyring.NewPermit(order, key, hash, list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCitizenKeySignsExactlyWhatThePermitLists(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Open(t)
	k := newKeyring(t, pool, masterKey(t, 1))
	one, two, other := sha256.Sum256([]byte("1")), sha256.Sum256([]byte("2")), sha256.Sum256([]byte("3"))
	for _, alg := range []keyring.Algorithm{keyring.P256, keyring.RSA2048} {
		order, key, public := citizenKey(t, pool, k, alg, one)
		signer, err := k.OpenCitizenKey(ctx, permit(t, order, key, one, one, two))
		if err != nil {
			t.Fatal(err)
		}
		for _, digest := range [][32]byte{one, two} {
			signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
			if err != nil || !verifies(public, digest[:], signature) {
				t.Errorf("%s: listed value: %v", alg, err)
			}
		}
		for name, try := range map[string]func() ([]byte, error){
			"not listed": func() ([]byte, error) { return signer.Sign(rand.Reader, other[:], crypto.SHA256) },
			"again":      func() ([]byte, error) { return signer.Sign(rand.Reader, one[:], crypto.SHA256) },
		} {
			if _, err := try(); !errors.Is(err, keyring.ErrNotPermitted) {
				t.Errorf("%s: %s: %v", alg, name, err)
			}
		}
		signer.Close()
	}
}

func TestCitizenKeyOtherHashAndAfterClose(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Open(t)
	k := newKeyring(t, pool, masterKey(t, 1))
	one := sha256.Sum256([]byte("1"))
	order, key, _ := citizenKey(t, pool, k, keyring.RSA2048, one)
	signer, err := k.OpenCitizenKey(ctx, permit(t, order, key, one, one, one))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Sign(rand.Reader, one[:], crypto.Hash(0)); !errors.Is(err, keyring.ErrNotPermitted) {
		t.Errorf("no hash named: %v", err)
	}
	if _, err := signer.Sign(rand.Reader, one[:], &rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: 32}); err != nil {
		t.Errorf("PSS over the permitted hash: %v", err)
	}
	signer.Close()
	if _, err := signer.Sign(rand.Reader, one[:], crypto.SHA256); !errors.Is(err, keyring.ErrNotPermitted) {
		t.Errorf("after close: %v", err)
	}
}

func TestCitizenKeyIsRefused(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Open(t)
	k := newKeyring(t, pool, masterKey(t, 1))
	one, two := sha256.Sum256([]byte("1")), sha256.Sum256([]byte("2"))
	order, key, _ := citizenKey(t, pool, k, keyring.P256, one)
	otherOrder, otherKey, _ := citizenKey(t, pool, k, keyring.P256, one)
	refuse := func(name string, p keyring.Permit) {
		t.Helper()
		if _, err := k.OpenCitizenKey(ctx, p); !errors.Is(err, keyring.ErrNotPermitted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	refuse("zero permit", keyring.Permit{})
	refuse("other digests than authorized", permit(t, order, key, two, two))
	refuse("another order's authorization", permit(t, otherOrder, key, one, one))
	refuse("another citizen's key", permit(t, order, otherKey, one, one))
	refuse("no authorization", permit(t, uuid.Must(uuid.NewV7()), key, one, one))
	if _, err := k.Signer(ctx, key, keyring.PurposeOIDC); !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("as a service key: %v", err)
	}

	p := permit(t, order, key, one, one)
	if _, err := k.OpenCitizenKey(ctx, p); err != nil {
		t.Fatalf("control: %v", err)
	}
	refuse("permit used twice", p)
	if _, err := k.OpenCitizenKey(ctx, permit(t, order, key, one, one)); err != nil {
		t.Fatalf("a fresh permit while the authorization is unused: %v", err)
	}
	if _, err := pool.Exec(ctx, `UPDATE signing_authorizations SET consumed_at = now() WHERE order_id = $1`, order); err != nil {
		t.Fatal(err)
	}
	refuse("authorization consumed", permit(t, order, key, one, one))
	if _, err := pool.Exec(ctx, `UPDATE keys SET state = 'destroyed', sealed = NULL WHERE id = $1`, otherKey); err != nil {
		t.Fatal(err)
	}
	refuse("key destroyed", permit(t, otherOrder, otherKey, one, one))
}

// TestOnlySigningMakesPermits holds the rule that package signing, which
// verifies the approval first, is the one place where permits come from.
func TestOnlySigningMakesPermits(t *testing.T) {
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return nil // folders of others may come and go while this runs
		}
		if d.IsDir() && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && d.Name() != ".." && path != "../..") {
			return filepath.SkipDir
		}
		dir := filepath.Base(filepath.Dir(path))
		if filepath.Ext(path) != ".go" || dir == "keyring" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		ownTest := dir == "hsm" && strings.HasSuffix(path, "_test.go")
		for _, word := range []string{"keyring.NewPermit(", ".OpenCitizenKey("} {
			if dir != "signing" && !ownTest && strings.Contains(string(text), word) {
				t.Errorf("%s uses %s", path, word)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
