package keyring_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/keyring"
	"sealgate/internal/postgres/pgtest"
)

// under counts the keys that are sealed under a master key.
func under(t testing.TB, k *keyring.Keyring, master string) int64 {
	t.Helper()
	all, err := k.Custody(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	for _, c := range all {
		if c.MasterKeyID == master {
			n += c.Keys
		}
	}
	return n
}

func count(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) (n int) {
	t.Helper()
	if err := pool.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// someKeys stores keys of every kind under the first master key.
func someKeys(t testing.TB, pool *pgxpool.Pool, k *keyring.Keyring, citizens int) {
	t.Helper()
	ctx := context.Background()
	for _, alg := range []keyring.Algorithm{keyring.P256, keyring.P384, keyring.RSA2048} {
		if _, err := k.Generate(ctx, keyring.PurposeOIDC, alg); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Secret(ctx, keyring.SecretIDLookup); err != nil {
		t.Fatal(err)
	}
	insertCitizens(t, pool, k, citizens)
}

func insertCitizens(t testing.TB, pool *pgxpool.Pool, k *keyring.Keyring, n int) {
	t.Helper()
	for range n {
		row, _, err := k.SealNewKey(keyring.P256)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pool.Exec(context.Background(), `INSERT INTO keys (id, purpose, algorithm, public_key, sealed, master_key_id) VALUES ($1, $2, $3, $4, $5, $6)`,
			row.ID, row.Purpose, string(row.Algorithm), row.PublicKey, row.Sealed, row.MasterKeyID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestResealMovesEveryKey(t *testing.T) {
	ctx := context.Background()
	pool, old, fresh := pgtest.Open(t), masterKey(t, 1), masterKey(t, 2)
	before := newKeyring(t, pool, old)
	someKeys(t, pool, before, 25)
	secret, _ := before.Secret(ctx, keyring.SecretIDLookup)
	if _, err := pool.Exec(ctx, `UPDATE keys SET state = 'destroyed', sealed = NULL WHERE id = (SELECT max(id::text)::uuid FROM keys WHERE purpose = 'mobile')`); err != nil {
		t.Fatal(err)
	}

	k := newKeyring(t, pool, fresh, old)
	dry, err := k.Reseal(ctx, keyring.Resealing{Batch: 7})
	if err != nil || dry.Seen != 28 || dry.Resealed != 0 || under(t, k, old.ID()) != 28 {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	var steps []int
	p, err := k.Reseal(ctx, keyring.Resealing{Apply: true, Batch: 7, Operator: "tester", Progress: func(p keyring.ResealProgress) { steps = append(steps, p.Resealed) }})
	if err != nil || p.Resealed != 28 || p.Seen != 28 || p.Changed != 0 || p.Unreadable != 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	if fmt.Sprint(steps) != "[7 14 21 28]" {
		t.Errorf("progress %v", steps)
	}
	if under(t, k, old.ID()) != 0 || under(t, k, fresh.ID()) != 28 {
		t.Errorf("%d under the old, %d under the new master key", under(t, k, old.ID()), under(t, k, fresh.ID()))
	}
	if n := count(t, pool, `SELECT count(*) FROM audit_entries WHERE act = 'key.resealed' AND actor = 'tester' AND detail->>'master_key' = $1 AND (detail->>'count')::int = 7`, fresh.ID()); n != 4 {
		t.Errorf("%d audit entries, want one for each of 4 batches", n)
	}
	if again, err := k.Reseal(ctx, keyring.Resealing{Apply: true}); err != nil || again.Seen != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}

	// The old master key is not needed any more, and opens nothing any more.
	alone := newKeyring(t, pool, fresh)
	if got, err := alone.Secret(ctx, keyring.SecretIDLookup); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("secret under the new master key alone: %v", err)
	}
	keys, err := alone.Published(ctx, keyring.PurposeOIDC)
	if err != nil || len(keys) != 3 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	digest := sha256.Sum256([]byte("x"))
	for _, key := range keys {
		signer, err := alone.Signer(ctx, key.ID, keyring.PurposeOIDC)
		if err != nil {
			t.Fatalf("%s: %v", key.Algorithm, err)
		}
		if signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil || !verifies(key.Public, digest[:], signature) {
			t.Errorf("%s: %v", key.Algorithm, err)
		}
	}
	if _, err := newKeyring(t, pool, old).Secret(ctx, keyring.SecretIDLookup); !errors.Is(err, keyring.ErrUnreadable) {
		t.Errorf("the old master key still opens: %v", err)
	}
}

// A row that was altered or swapped is never carried over to the new master
// key, and does not keep the others from it.
func TestResealRefusesAlteredRows(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct{ name, sql string }{
		{"control: untouched", `UPDATE keys SET handle = '' WHERE id = $1 AND $2::uuid IS NOT NULL`},
		{"ciphertext of another row", `UPDATE keys SET sealed = (SELECT sealed FROM keys WHERE id = $2) WHERE id = $1`},
		{"public key of another row", `UPDATE keys SET public_key = (SELECT public_key FROM keys WHERE id = $2) WHERE id = $1`},
		{"one bit changed", `UPDATE keys SET sealed = set_bit(sealed, 200, 1 - get_bit(sealed, 200)) WHERE id = $1 AND $2::uuid IS NOT NULL`},
		{"other purpose", `UPDATE keys SET purpose = 'oidc' WHERE id = $1 AND $2::uuid IS NOT NULL`},
		{"master key that nobody has", `UPDATE keys SET master_key_id = 'feedfeedfeedfeed' WHERE id = $1 AND $2::uuid IS NOT NULL`},
	} {
		pool, old, fresh := pgtest.Open(t), masterKey(t, 1), masterKey(t, 2)
		insertCitizens(t, pool, newKeyring(t, pool, old), 6)
		var a, b uuid.UUID
		if err := pool.QueryRow(ctx, `SELECT min(id::text)::uuid, max(id::text)::uuid FROM keys`).Scan(&a, &b); err != nil {
			t.Fatal(err)
		}
		if tag, err := pool.Exec(ctx, c.sql, a, b); err != nil || tag.RowsAffected() != 1 {
			t.Fatalf("%s: %v", c.name, err)
		}
		k := newKeyring(t, pool, fresh, old)
		p, err := k.Reseal(ctx, keyring.Resealing{Apply: true, Batch: 2})
		if strings.HasPrefix(c.name, "control") {
			if err != nil || p.Resealed != 6 || p.Unreadable != 0 {
				t.Errorf("%s: %+v, %v", c.name, p, err)
			}
			continue
		}
		if !errors.Is(err, keyring.ErrUnreadable) || p.Resealed != 5 || p.Unreadable != 1 || p.Seen != 6 || under(t, k, fresh.ID()) != 5 {
			t.Errorf("%s: %+v, %v", c.name, p, err)
		}
	}
}

// Several runs at once, one of them stopped in the middle, move each row once.
func TestResealAtOnceAndAgain(t *testing.T) {
	pool, old, fresh := pgtest.Open(t), masterKey(t, 1), masterKey(t, 2)
	insertCitizens(t, pool, newKeyring(t, pool, old), 60)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p, err := newKeyring(t, pool, fresh, old).Reseal(ctx, keyring.Resealing{Apply: true, Batch: 10, Pause: time.Minute,
		Progress: func(p keyring.ResealProgress) { cancel() }})
	if !errors.Is(err, context.Canceled) || p.Resealed != 10 {
		t.Fatalf("stopped: %+v, %v", p, err)
	}
	var wg sync.WaitGroup
	var moved atomic.Int64
	for range 4 {
		k := newKeyring(t, pool, fresh, old)
		wg.Go(func() {
			p, err := k.Reseal(context.Background(), keyring.Resealing{Apply: true, Batch: 5})
			if err != nil {
				t.Error(err)
			}
			moved.Add(int64(p.Resealed))
		})
	}
	wg.Wait()
	if moved.Load() != 50 || under(t, newKeyring(t, pool, fresh, old), fresh.ID()) != 60 {
		t.Errorf("%d moved by four runs, want 50", moved.Load())
	}
	if n := count(t, pool, `SELECT sum((detail->>'count')::int) FROM audit_entries WHERE act = 'key.resealed'`); n != 60 {
		t.Errorf("audit entries count %d rows, want 60", n)
	}
}

// Nodes sign, read secrets and make keys while the master key is changed: a
// node that has the old one first, then both, then the new one, as in a
// rolling change. Nothing fails.
func TestResealUnderLoad(t *testing.T) {
	ctx := context.Background()
	pool, old, fresh := pgtest.Open(t), masterKey(t, 1), masterKey(t, 2)
	first := newKeyring(t, pool, old, fresh) // can open both, seals with the old one
	someKeys(t, pool, first, 150)
	digest := sha256.Sum256([]byte("document"))
	type citizen struct {
		order, key uuid.UUID
		public     crypto.PublicKey
	}
	people := make([]citizen, 8)
	for i := range people {
		people[i].order, people[i].key, people[i].public = citizenKey(t, pool, first, keyring.P256, digest)
	}
	var node atomic.Pointer[keyring.Keyring]
	node.Store(first)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var signed, made atomic.Int64
	for i := range people {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				p, k := people[i], node.Load()
				signer, err := k.OpenCitizenKey(ctx, permit(t, p.order, p.key, digest, digest))
				if err != nil {
					t.Errorf("opening while resealing: %v", err)
					return
				}
				if signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil || !verifies(p.public, digest[:], signature) {
					t.Errorf("signing while resealing: %v", err)
				}
				signer.Close()
				signed.Add(1)
				if i == 0 {
					insertCitizens(t, pool, k, 1) // a phone is bound
					made.Add(1)
				}
			}
		})
	}
	node.Store(newKeyring(t, pool, fresh, old))
	k := newKeyring(t, pool, fresh, old)
	p, err := k.Reseal(ctx, keyring.Resealing{Apply: true, Batch: 10, Pause: 2 * time.Millisecond})
	if err != nil || p.Changed != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	node.Store(newKeyring(t, pool, fresh))
	time.Sleep(20 * time.Millisecond)
	close(stop)
	wg.Wait()
	if left := under(t, k, old.ID()); left != 0 {
		t.Errorf("%d keys left under the old master key", left)
	}
	t.Logf("%d keys moved while %d signatures and %d keys were made", p.Resealed, signed.Load(), made.Load())
}

func TestCustodyTellsWhereKeysAre(t *testing.T) {
	ctx := context.Background()
	pool, old := pgtest.Open(t), masterKey(t, 1)
	k := newKeyring(t, pool, old)
	key, err := k.Generate(ctx, keyring.PurposeCARoot, keyring.P256)
	if err != nil {
		t.Fatal(err)
	}
	insertCitizens(t, pool, k, 3)
	if err := k.Retire(ctx, key); err != nil {
		t.Fatal(err)
	}
	got, err := k.Custody(ctx)
	want := []keyring.Custody{
		{Provider: "sealed", MasterKeyID: old.ID(), Purpose: "ca-root", State: keyring.Retired, Keys: 1},
		{Provider: "sealed", MasterKeyID: old.ID(), Purpose: "mobile", State: keyring.Active, Keys: 3},
	}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestTokenConfiguration(t *testing.T) {
	pool, master := pgtest.Open(t), masterKey(t, 1)
	cfg := func(change func(*keyring.Config)) error {
		c := keyring.Config{MasterKeys: []*keyring.MasterKey{master}, Store: newStore(pool)}
		change(&c)
		_, err := keyring.New(c)
		return err
	}
	if err := cfg(func(*keyring.Config) {}); err != nil {
		t.Fatalf("control: %v", err)
	}
	for name, change := range map[string]func(*keyring.Config){
		"purposes without a token":  func(c *keyring.Config) { c.TokenPurposes = []string{"oidc"} },
		"the same master key twice": func(c *keyring.Config) { c.MasterKeys = append(c.MasterKeys, masterKey(t, 1)) },
	} {
		if err := cfg(change); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	// A key that lies in a token is out of reach of a node without one, and
	// says that trying elsewhere or later helps.
	ctx := context.Background()
	k := newKeyring(t, pool, master)
	key, err := k.Generate(ctx, keyring.PurposeOIDC, keyring.P256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(ctx, `UPDATE keys SET provider = 'pkcs11', sealed = NULL, master_key_id = '', handle = replace(id::text, '-', '') WHERE id = $1`, key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Signer(ctx, key.ID, keyring.PurposeOIDC); !errors.Is(err, keyring.ErrTokenUnavailable) {
		t.Errorf("no token: %v", err)
	}
	if s, err := k.Sweep(ctx, "tester", true); err != nil || s.Held != 0 {
		t.Errorf("sweeping without a token: %+v, %v", s, err)
	}
}

func TestCreateMasterKeyNeverReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "next.key")
	made, err := keyring.CreateMasterKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if loaded, err := keyring.LoadMasterKey(path, false); err != nil || loaded.ID() != made.ID() {
		t.Errorf("loaded: %v", err)
	}
	if _, err := keyring.CreateMasterKey(path); err == nil {
		t.Error("an existing master key was replaced")
	}
	if err := os.Symlink("/nowhere/else", path+".link"); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.CreateMasterKey(path + ".link"); err == nil {
		t.Error("a dangling link was followed")
	}
	if loaded, err := keyring.LoadMasterKey(path, false); err != nil || loaded.ID() != made.ID() {
		t.Errorf("after refusing: %v", err)
	}
}

// BenchmarkReseal moves citizens' keys to another master key.
func BenchmarkReseal(b *testing.B) {
	const n = 2000
	pool, masters := pgtest.Open(b), []*keyring.MasterKey{masterKey(b, 1), masterKey(b, 2)}
	insertCitizens(b, pool, newKeyring(b, pool, masters[0]), n)
	var took time.Duration
	for range b.N {
		masters[0], masters[1] = masters[1], masters[0]
		start := time.Now()
		p, err := newKeyring(b, pool, masters...).Reseal(context.Background(), keyring.Resealing{Apply: true})
		took += time.Since(start)
		if err != nil || p.Resealed != n {
			b.Fatalf("%+v, %v", p, err)
		}
	}
	b.ReportMetric(float64(n*b.N)/took.Seconds(), "keys/s")
	b.ReportMetric(0, "ns/op")
}
