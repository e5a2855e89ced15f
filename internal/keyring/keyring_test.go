package keyring_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/keyring"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func masterKey(t testing.TB, fill byte) *keyring.MasterKey {
	t.Helper()
	m, err := keyring.NewMasterKey(bytes.Repeat([]byte{fill}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newStore(pool *pgxpool.Pool) keyring.Store { return postgres.New(pool).Keyring() }

func newKeyring(t testing.TB, pool *pgxpool.Pool, masters ...*keyring.MasterKey) *keyring.Keyring {
	t.Helper()
	k, err := keyring.New(keyring.Config{MasterKeys: masters, Store: newStore(pool), CurrentLife: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSignersOfEveryAlgorithmSurviveARestart(t *testing.T) {
	ctx := context.Background()
	pool, master := pgtest.Open(t), masterKey(t, 1)
	digest := sha256.Sum256([]byte("document"))
	for _, alg := range []keyring.Algorithm{keyring.P256, keyring.P384, keyring.RSA2048, keyring.RSA3072} {
		key, err := newKeyring(t, pool, master).Generate(ctx, keyring.PurposeOIDC, alg)
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		signer, err := newKeyring(t, pool, master).Signer(ctx, key.ID, keyring.PurposeOIDC)
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil || !verifies(key.Public, digest[:], signature) {
			t.Errorf("%s: %v, verifies %v", alg, err, verifies(key.Public, digest[:], signature))
		}
	}
	keys, err := newKeyring(t, pool, master).Published(ctx, keyring.PurposeOIDC)
	if err != nil || len(keys) != 4 || keys[0].Algorithm != keyring.RSA3072 {
		t.Errorf("published: %d, %v", len(keys), err)
	}
}

func verifies(public crypto.PublicKey, digest, signature []byte) bool {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(p, digest, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(p, crypto.SHA256, digest, signature) == nil
	}
	return false
}

func TestKeysServeOnlyTheirPurpose(t *testing.T) {
	ctx := context.Background()
	k := newKeyring(t, pgtest.Open(t), masterKey(t, 1))
	key, err := k.Generate(ctx, keyring.PurposeOIDC, keyring.P256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Signer(ctx, key.ID, keyring.PurposeCARoot); !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("other purpose, not opened yet: %v", err)
	}
	if _, err := k.Signer(ctx, key.ID, keyring.PurposeOIDC); err != nil {
		t.Errorf("own purpose: %v", err)
	}
	if _, err := k.Signer(ctx, key.ID, keyring.PurposeCARoot); !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("other purpose, from memory: %v", err)
	}
	if _, err := k.Signer(ctx, key.ID, keyring.PurposeMobile); !errors.Is(err, keyring.ErrNotPermitted) {
		t.Errorf("citizens' purpose: %v", err)
	}
	if _, err := k.Generate(ctx, keyring.PurposeMobile, keyring.P256); !errors.Is(err, keyring.ErrNotPermitted) {
		t.Errorf("generate for citizens: %v", err)
	}
}

func TestRotation(t *testing.T) {
	ctx := context.Background()
	k := newKeyring(t, pgtest.Open(t), masterKey(t, 1))
	if _, err := k.Current(ctx, keyring.PurposeOIDC); !errors.Is(err, keyring.ErrNoKey) {
		t.Fatalf("no key yet: %v", err)
	}
	first, err := k.Ensure(ctx, keyring.PurposeOIDC, keyring.P256)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := k.Ensure(ctx, keyring.PurposeOIDC, keyring.P256); err != nil || again.ID != first.ID {
		t.Errorf("ensured twice: %v", err)
	}
	second, err := k.Generate(ctx, keyring.PurposeOIDC, keyring.P256)
	if err != nil {
		t.Fatal(err)
	}
	if current, err := k.Current(ctx, keyring.PurposeOIDC); err != nil || current.ID != second.ID {
		t.Errorf("current is not the newest: %v", err)
	}
	if err := k.Retire(ctx, first); err != nil {
		t.Fatal(err)
	}
	if err := k.Retire(ctx, first); !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("retired twice: %v", err)
	}
	keys, _ := k.Published(ctx, keyring.PurposeOIDC)
	if len(keys) != 2 || keys[1].State != keyring.Retired {
		t.Errorf("published after retiring: %+v", keys)
	}
}

func TestSecretsAreMadeOnceByAnyNumberOfNodes(t *testing.T) {
	ctx := context.Background()
	pool, master := pgtest.Open(t), masterKey(t, 1)
	const nodes = 12
	secrets := make([][]byte, nodes)
	keys := make([]uuid.UUID, nodes)
	var wg sync.WaitGroup
	for i := range nodes {
		node := newKeyring(t, pool, master)
		wg.Go(func() {
			secrets[i], _ = node.Secret(ctx, keyring.SecretIDLookup)
			if key, err := node.Ensure(ctx, keyring.PurposeCARoot, keyring.P256); err == nil {
				keys[i] = key.ID
			}
		})
	}
	wg.Wait()
	for i := range nodes {
		if len(secrets[i]) != 32 || !bytes.Equal(secrets[i], secrets[0]) || keys[i] == uuid.Nil || keys[i] != keys[0] {
			t.Fatalf("node %d has another secret or key", i)
		}
	}
	var rows, entries int
	if err := pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM keys), (SELECT count(*) FROM audit_entries WHERE act = 'key.created')`).Scan(&rows, &entries); err != nil || rows != 2 || entries != 2 {
		t.Errorf("%d rows, %d entries, %v", rows, entries, err)
	}
	other, err := newKeyring(t, pool, master).Secret(ctx, keyring.SecretPairwise)
	if err != nil || bytes.Equal(other, secrets[0]) {
		t.Errorf("another name, same secret: %v", err)
	}
	if _, err := newKeyring(t, pool, master).Secret(ctx, "Bad Name"); err == nil {
		t.Error("a bad name was accepted")
	}
}

func TestSecretCannotBeChangedThroughTheReturnedSlice(t *testing.T) {
	ctx := context.Background()
	k := newKeyring(t, pgtest.Open(t), masterKey(t, 1))
	s, _ := k.Secret(ctx, keyring.SecretCode)
	before, _ := k.MAC(ctx, keyring.SecretCode, []byte("x"))
	clear(s)
	if after, _ := k.MAC(ctx, keyring.SecretCode, []byte("x")); after != before {
		t.Error("clearing the copy changed the secret")
	}
}

func TestMasterKeys(t *testing.T) {
	ctx := context.Background()
	pool, old, fresh := pgtest.Open(t), masterKey(t, 1), masterKey(t, 2)
	if old.ID() == fresh.ID() || len(old.ID()) != 16 {
		t.Fatalf("ids %q %q", old.ID(), fresh.ID())
	}
	want, err := newKeyring(t, pool, old).Secret(ctx, keyring.SecretCookie)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := newKeyring(t, pool, fresh, old).Secret(ctx, keyring.SecretCookie); err != nil || !bytes.Equal(got, want) {
		t.Errorf("after rotation: %v", err)
	}
	if _, err := newKeyring(t, pool, fresh).Secret(ctx, keyring.SecretCookie); !errors.Is(err, keyring.ErrUnreadable) {
		t.Errorf("without the old master key: %v", err)
	}
}

func TestSealedRowsCannotBeSwapped(t *testing.T) {
	ctx := context.Background()
	pool, master := pgtest.Open(t), masterKey(t, 1)
	k := newKeyring(t, pool, master)
	for _, c := range []struct{ name, purpose, sql string }{
		{"control: untouched", keyring.PurposeCARoot, `UPDATE keys SET handle = '' WHERE id = $1 AND $2::uuid IS NOT NULL`},
		{"ciphertext and public key of another row", keyring.PurposeCARoot, `UPDATE keys SET sealed = (SELECT sealed FROM keys WHERE id = $2), public_key = (SELECT public_key FROM keys WHERE id = $2) WHERE id = $1`},
		{"public key of another row", keyring.PurposeCARoot, `UPDATE keys SET public_key = (SELECT public_key FROM keys WHERE id = $2) WHERE id = $1`},
		{"one bit changed", keyring.PurposeCARoot, `UPDATE keys SET sealed = set_bit(sealed, 200, 1 - get_bit(sealed, 200)) WHERE id = $1 AND $2::uuid IS NOT NULL`},
		{"other purpose", keyring.PurposeCATSA, `UPDATE keys SET purpose = 'ca-tsa' WHERE id = $1 AND $2::uuid IS NOT NULL`},
		{"other algorithm", keyring.PurposeCARoot, `UPDATE keys SET algorithm = 'P-384' WHERE id = $1 AND $2::uuid IS NOT NULL`},
	} {
		a, _ := k.Generate(ctx, keyring.PurposeCARoot, keyring.P256)
		b, err := k.Generate(ctx, keyring.PurposeCARoot, keyring.P256)
		if err != nil {
			t.Fatal(err)
		}
		if tag, err := pool.Exec(ctx, c.sql, a.ID, b.ID); err != nil || tag.RowsAffected() != 1 {
			t.Fatalf("%s: %v", c.name, err)
		}
		_, err = newKeyring(t, pool, master).Signer(ctx, a.ID, c.purpose)
		if control := strings.HasPrefix(c.name, "control"); control != (err == nil) || !control && !errors.Is(err, keyring.ErrUnreadable) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestPersonalValues(t *testing.T) {
	ctx := context.Background()
	pool, master := pgtest.Open(t), masterKey(t, 1)
	k := newKeyring(t, pool, master)
	sealed, err := k.Seal(ctx, "citizen.name", []byte("row 1"), []byte("測試一號"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := newKeyring(t, pool, master).Open(ctx, "citizen.name", []byte("row 1"), sealed); err != nil || string(got) != "測試一號" {
		t.Errorf("opened %q, %v", got, err)
	}
	if again, _ := k.Seal(ctx, "citizen.name", []byte("row 1"), []byte("測試一號")); bytes.Equal(again, sealed) {
		t.Error("equal values look equal when sealed")
	}
	for name, open := range map[string]func() ([]byte, error){
		"other row":     func() ([]byte, error) { return k.Open(ctx, "citizen.name", []byte("row 2"), sealed) },
		"other purpose": func() ([]byte, error) { return k.Open(ctx, "citizen.id", []byte("row 1"), sealed) },
		"cut short":     func() ([]byte, error) { return k.Open(ctx, "citizen.name", []byte("row 1"), sealed[:10]) },
		"empty":         func() ([]byte, error) { return k.Open(ctx, "citizen.name", []byte("row 1"), nil) },
		"other version": func() ([]byte, error) {
			return k.Open(ctx, "citizen.name", []byte("row 1"), append([]byte{2}, sealed[1:]...))
		},
	} {
		if _, err := open(); !errors.Is(err, keyring.ErrUnreadable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMasterKeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "var", "master.key")
	if _, err := keyring.LoadMasterKey(path, false); !os.IsNotExist(errors.Unwrap(err)) && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			if m, err := keyring.LoadMasterKey(path, true); err == nil {
				ids[i] = m.ID()
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("ids differ: %q", ids)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || info.Size() != 32 {
		t.Errorf("file: %v, %v", info, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "var", ".master-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.LoadMasterKey(path, true); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by the group: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "short"), make([]byte, 31), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.LoadMasterKey(filepath.Join(dir, "short"), true); err == nil {
		t.Error("31 bytes were accepted")
	}
}
