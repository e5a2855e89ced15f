//go:build cgo

package hsm_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ThalesGroup/crypto11"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/miekg/pkcs11"

	"sealgate/internal/keyring"
	"sealgate/internal/keyring/hsm"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	softHSM    = "/usr/lib/softhsm/libsofthsm2.so"
	tokenLabel = "sealgate-test"
	rightPIN   = "4711-4711"
)

// box is a directory with a SoftHSM token. A process has one at a time, since
// the module reads its configuration when it is opened: tests do not run in
// parallel.
type box struct {
	t      testing.TB
	dir    string // tokens lie in dir/tokens
	pin    string // path of the PIN file
	module string
}

func newBox(t testing.TB) *box {
	t.Helper()
	if _, err := os.Stat(softHSM); err != nil {
		t.Fatalf("SoftHSM is needed: run make tools (%v)", err)
	}
	b := &box{t: t, dir: t.TempDir(), module: softHSM}
	conf := filepath.Join(b.dir, "softhsm2.conf")
	b.pin = filepath.Join(b.dir, "pin")
	b.ok(os.Mkdir(filepath.Join(b.dir, "tokens"), 0o700))
	b.ok(os.WriteFile(conf, []byte("directories.tokendir = "+b.dir+"/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600))
	b.ok(os.WriteFile(b.pin, []byte(rightPIN+"\n"), 0o600))
	t.Setenv("SOFTHSM2_CONF", conf)
	b.util("--init-token", "--free", "--label", tokenLabel, "--so-pin", "0815-0815", "--pin", rightPIN)
	return b
}

func (b *box) util(args ...string) {
	b.t.Helper()
	if out, err := exec.Command("softhsm2-util", args...).CombinedOutput(); err != nil {
		b.t.Fatalf("softhsm2-util: %v: %s", err, out)
	}
}

// takeAway and bringBack move the token as if somebody pulled it out.
func (b *box) takeAway() {
	b.t.Helper()
	b.ok(os.Rename(filepath.Join(b.dir, "tokens"), filepath.Join(b.dir, "pulled")))
}

func (b *box) bringBack() {
	b.t.Helper()
	b.ok(os.Rename(filepath.Join(b.dir, "pulled"), filepath.Join(b.dir, "tokens")))
}

func (b *box) ok(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// open makes a Token on the box; the module is closed when the test ends.
func (b *box) open(change ...func(*hsm.Config)) *hsm.Token {
	b.t.Helper()
	cfg := hsm.Config{Module: b.module, TokenLabel: tokenLabel, PINFile: b.pin}
	for _, c := range change {
		c(&cfg)
	}
	token, err := hsm.New(cfg)
	b.ok(err)
	b.t.Cleanup(token.Close)
	return token
}

// ring makes a keyring whose keys of the given purposes are in the token.
func (b *box) ring(pool *pgxpool.Pool, token keyring.Provider, purposes ...string) *keyring.Keyring {
	b.t.Helper()
	master, err := keyring.NewMasterKey(bytes.Repeat([]byte{5}, 32))
	b.ok(err)
	k, err := keyring.New(keyring.Config{MasterKeys: []*keyring.MasterKey{master}, Store: postgres.New(pool).Keyring(),
		CurrentLife: time.Millisecond, Token: token, TokenPurposes: purposes})
	b.ok(err)
	return k
}

// row is what a keyring asks a provider to make.
func row(purpose string, alg keyring.Algorithm) keyring.Row {
	return keyring.Row{ID: uuid.Must(uuid.NewV7()), Purpose: purpose, Algorithm: alg, Provider: keyring.ProviderPKCS11,
		Label: "test/" + purpose, State: keyring.Active}
}

// eventually waits until fn succeeds: the token is tried again after a while.
func eventually(t testing.TB, what string, fn func() error) time.Duration {
	t.Helper()
	start := time.Now()
	var err error
	for time.Since(start) < 15*time.Second {
		if err = fn(); err == nil {
			return time.Since(start)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s: %v", what, err)
	return 0
}

// openssl verifies a signature with a program that is not ours.
func openssl(t testing.TB, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "openssl", args...).CombinedOutput(); err != nil {
		t.Errorf("openssl %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// attribute reads one of a private key's attributes through a door of its own:
// the module as another program would use it.
func (b *box) attribute(id uuid.UUID, name string) bool {
	b.t.Helper()
	types := map[string]uint{"CKA_SENSITIVE": pkcs11.CKA_SENSITIVE, "CKA_NEVER_EXTRACTABLE": pkcs11.CKA_NEVER_EXTRACTABLE,
		"CKA_EXTRACTABLE": pkcs11.CKA_EXTRACTABLE, "CKA_ALWAYS_SENSITIVE": pkcs11.CKA_ALWAYS_SENSITIVE, "CKA_DECRYPT": pkcs11.CKA_DECRYPT,
		"CKA_UNWRAP": pkcs11.CKA_UNWRAP, "CKA_DERIVE": pkcs11.CKA_DERIVE, "CKA_SIGN": pkcs11.CKA_SIGN, "CKA_PRIVATE": pkcs11.CKA_PRIVATE}
	module, err := crypto11.Configure(&crypto11.Config{Path: softHSM, TokenLabel: tokenLabel, Pin: rightPIN, MaxSessions: 4})
	b.ok(err)
	defer module.Close()
	keys, err := module.FindPrivateKeys(id[:], nil)
	b.ok(err)
	if len(keys) != 1 {
		b.t.Fatalf("%d objects with id %s", len(keys), id)
	}
	a, err := module.GetAttribute(keys[0], types[name])
	b.ok(err)
	return len(a.Value) == 1 && a.Value[0] == 1
}
