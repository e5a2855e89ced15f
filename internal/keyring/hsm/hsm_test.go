//go:build cgo

package hsm_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/fault"
	"sealgate/internal/keyring"
	"sealgate/internal/keyring/hsm"
)

func sum256(text string) []byte { s := sha256.Sum256([]byte(text)); return s[:] }
func sum384(text string) []byte { s := sha512.Sum384([]byte(text)); return s[:] }
func sum512(text string) []byte { s := sha512.Sum512([]byte(text)); return s[:] }

func verifies(public crypto.PublicKey, digest, signature []byte, opts crypto.SignerOpts) bool {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(p, digest, signature)
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			return rsa.VerifyPSS(p, opts.HashFunc(), digest, signature, &rsa.PSSOptions{SaltLength: pss.SaltLength}) == nil
		}
		return rsa.VerifyPKCS1v15(p, opts.HashFunc(), digest, signature) == nil
	}
	return false
}

func TestEveryAlgorithm(t *testing.T) {
	ctx := context.Background()
	b := newBox(t)
	token := b.open()
	rsaWays := []crypto.SignerOpts{crypto.SHA256, crypto.SHA384, crypto.SHA512,
		&rsa.PSSOptions{Hash: crypto.SHA256, SaltLength: rsa.PSSSaltLengthEqualsHash},
		&rsa.PSSOptions{Hash: crypto.SHA512, SaltLength: 20}, &rsa.PSSOptions{Hash: crypto.SHA384, SaltLength: rsa.PSSSaltLengthAuto}}
	for alg, ways := range map[keyring.Algorithm][]crypto.SignerOpts{
		keyring.P256: {crypto.SHA256, crypto.SHA384, crypto.SHA512}, keyring.P384: {crypto.SHA256, crypto.SHA384, crypto.SHA512},
		keyring.RSA2048: rsaWays, keyring.RSA3072: rsaWays,
	} {
		made, signer, err := token.Make(ctx, row(keyring.PurposeOIDC, alg))
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		found, err := token.Open(ctx, made)
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		for _, opts := range ways {
			digest := map[crypto.Hash]func(string) []byte{crypto.SHA256: sum256, crypto.SHA384: sum384, crypto.SHA512: sum512}[opts.HashFunc()]("document")
			for name, s := range map[string]crypto.Signer{"as made": signer, "as found": found} {
				signature, err := s.Sign(rand.Reader, digest, opts)
				if err != nil || !verifies(signer.Public(), digest, signature, opts) {
					t.Errorf("%s %v %s: %v", alg, opts, name, err)
				}
				if err == nil {
					digest[0] ^= 1
					if verifies(signer.Public(), digest, signature, opts) {
						t.Errorf("%s %v: another digest verifies", alg, opts)
					}
					digest[0] ^= 1
				}
			}
		}
		if _, err := signer.Sign(rand.Reader, sum256("x")[:31], crypto.SHA256); !errors.Is(err, keyring.ErrTokenRefused) {
			t.Errorf("%s: short digest: %v", alg, err)
		}
	}
	if _, _, err := token.Make(ctx, row(keyring.PurposeOIDC, "P-521")); !errors.Is(err, keyring.ErrTokenRefused) {
		t.Errorf("an algorithm we do not have: %v", err)
	}
}

func TestDestroyedKeysAreGone(t *testing.T) {
	ctx := context.Background()
	token := newBox(t).open()
	made, signer, err := token.Make(ctx, row(keyring.PurposeMobile, keyring.P256))
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := token.Make(ctx, row(keyring.PurposeMobile, keyring.P256))
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := token.Held(ctx, made.Label); err != nil || len(ids) != 2 {
		t.Fatalf("held %v, %v", ids, err)
	}
	if err := token.Destroy(ctx, "another/label", made.ID); !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("destroying under another label: %v", err)
	}
	if _, err := signer.Sign(rand.Reader, sum256("x"), crypto.SHA256); err != nil {
		t.Errorf("control: %v", err)
	}
	if err := token.Destroy(ctx, made.Label, made.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Sign(rand.Reader, sum256("x"), crypto.SHA256); err == nil {
		t.Error("a destroyed key signs")
	}
	if ids, err := token.Held(ctx, made.Label); err != nil || len(ids) != 1 || ids[0] != other.ID {
		t.Errorf("held after destroying %v, %v", ids, err)
	}
}

// A key that is not in the token is told from a token that is away.
func TestMissingKey(t *testing.T) {
	ctx := context.Background()
	token := newBox(t).open()
	here, _, err := token.Make(ctx, row(keyring.PurposeOIDC, keyring.P256))
	if err != nil {
		t.Fatal(err)
	}
	missing := here
	missing.ID = uuid.Must(uuid.NewV7())
	for _, wrong := range []keyring.Row{missing, func() keyring.Row { r := here; r.Label = "test/" + keyring.PurposeMobile; return r }()} {
		signer, _ := token.Open(ctx, wrong)
		_, err := signer.Sign(rand.Reader, sum256("x"), crypto.SHA256)
		if !errors.Is(err, keyring.ErrNoKey) && !errors.Is(err, keyring.ErrTokenUnavailable) {
			t.Errorf("missing: %v", err)
		}
		if wrong.ID == missing.ID && !errors.Is(err, keyring.ErrNoKey) {
			t.Errorf("the first look must be certain: %v", err)
		}
	}
	signer, _ := token.Open(ctx, here)
	if _, err := signer.Sign(rand.Reader, sum256("x"), crypto.SHA256); err != nil {
		t.Errorf("control: %v", err)
	}
}

// The token is pulled out while 32 goroutines sign, and brought back: nothing
// but "unavailable" is seen meanwhile, and all go on without a restart.
func TestTokenTakenAwayAndBroughtBack(t *testing.T) {
	ctx := context.Background()
	b := newBox(t)
	token := b.open()
	_, signer, err := token.Make(ctx, row(keyring.PurposeOIDC, keyring.P256))
	b.ok(err)
	var wg sync.WaitGroup
	var signed, failed, wrong atomic.Int64
	stop := make(chan struct{})
	for range 32 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch _, err := signer.Sign(rand.Reader, sum256("x"), crypto.SHA256); {
				case err == nil:
					signed.Add(1)
				case errors.Is(err, keyring.ErrTokenUnavailable) && fault.From(err).Kind == fault.Unavailable:
					failed.Add(1)
					time.Sleep(2 * time.Millisecond)
				default:
					wrong.Add(1)
					t.Errorf("while the token is away: %v", err)
				}
			}
		})
	}
	for round := range 2 {
		eventually(t, "signing", func() error {
			if signed.Load() < 50 {
				return errors.New("nothing signed")
			}
			return nil
		})
		b.takeAway()
		before := failed.Load()
		eventually(t, "noticing", func() error {
			if failed.Load() < before+50 {
				return errors.New("nobody noticed")
			}
			return nil
		})
		b.bringBack()
		signed.Store(0)
		t.Logf("round %d: %s until it signed again", round, eventually(t, "back", func() error {
			if signed.Load() == 0 {
				return errors.New("not back")
			}
			return nil
		}))
	}
	close(stop)
	wg.Wait()
}

// Making and destroying keys survive it too.
func TestMakingWhileTheTokenIsAway(t *testing.T) {
	ctx := context.Background()
	b := newBox(t)
	token := b.open()
	made, _, err := token.Make(ctx, row(keyring.PurposeMobile, keyring.P256))
	b.ok(err)
	b.takeAway()
	if _, _, err := token.Make(ctx, row(keyring.PurposeMobile, keyring.P256)); !errors.Is(err, keyring.ErrTokenUnavailable) {
		t.Errorf("making: %v", err)
	}
	if err := token.Destroy(ctx, made.Label, made.ID); !errors.Is(err, keyring.ErrTokenUnavailable) {
		t.Errorf("destroying: %v", err)
	}
	b.bringBack()
	eventually(t, "making again", func() error {
		_, _, err := token.Make(ctx, row(keyring.PurposeMobile, keyring.RSA2048))
		return err
	})
	b.ok(token.Destroy(ctx, made.Label, made.ID))
}

// A node starts while the token is away: the module's configuration points to
// a place where there is none, and later to the right one.
func TestStartWithoutTheToken(t *testing.T) {
	ctx := context.Background()
	b := newBox(t)
	conf := filepath.Join(b.dir, "softhsm2.conf")
	right, err := os.ReadFile(conf)
	b.ok(err)
	b.ok(os.Mkdir(filepath.Join(b.dir, "empty"), 0o700))
	b.ok(os.WriteFile(conf, []byte(strings.ReplaceAll(string(right), "/tokens", "/empty")), 0o600))
	token := b.open()
	_, _, err = token.Make(ctx, row(keyring.PurposeOIDC, keyring.P256))
	if !errors.Is(err, keyring.ErrTokenUnavailable) {
		t.Fatalf("no token: %v", err)
	}
	if _, _, err = token.Make(ctx, row(keyring.PurposeOIDC, keyring.P256)); fault.From(err).RetryAfter <= 0 {
		t.Errorf("an attempt too soon does not say when to come back: %v", err)
	}
	b.ok(os.WriteFile(conf, right, 0o600))
	eventually(t, "the token is there", func() error {
		_, _, err := token.Make(ctx, row(keyring.PurposeOIDC, keyring.P256))
		return err
	})
}

// A refused PIN is not sent again until its file changes: three wrong ones lock
// many tokens. It shows in no error.
func TestWrongPIN(t *testing.T) {
	ctx := context.Background()
	b := newBox(t)
	const wrong = "1234-9876"
	b.ok(os.WriteFile(b.pin, []byte(wrong), 0o600))
	token := b.open()
	sent := 0
	for range 40 {
		_, _, err := token.Make(ctx, row(keyring.PurposeOIDC, keyring.P256))
		if !errors.Is(err, keyring.ErrTokenUnavailable) || strings.Contains(err.Error(), wrong) {
			t.Fatalf("wrong PIN: %v", err)
		}
		if strings.Contains(err.Error(), "CKR_PIN_INCORRECT") {
			sent++
		} else if strings.Contains(err.Error(), "not tried again") {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if sent == 0 {
		t.Error("the wrong PIN was never noticed")
	}
	_, _, err := token.Make(ctx, row(keyring.PurposeOIDC, keyring.P256))
	if err == nil || !strings.Contains(err.Error(), "not tried again") {
		t.Errorf("the wrong PIN is sent again: %v", err)
	}
	b.ok(os.WriteFile(b.pin, []byte(rightPIN+"\r\n"), 0o600))
	eventually(t, "right PIN", func() error {
		_, _, err := token.Make(ctx, row(keyring.PurposeOIDC, keyring.P256))
		return err
	})
}

func TestPINFile(t *testing.T) {
	b := newBox(t)
	for name, file := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"control":            {rightPIN, 0o600, ""},
		"readable by others": {rightPIN, 0o644, "chmod 600"},
		"empty":              {"\n", 0o600, "one line"},
		"two lines":          {"secret-one\nsecret-two", 0o600, "one line"},
		"too long":           {strings.Repeat("9", 300), 0o600, "one line"},
	} {
		b.ok(os.WriteFile(b.pin, []byte(file.text), 0o600))
		b.ok(os.Chmod(b.pin, file.mode))
		_, err := hsm.New(hsm.Config{Module: softHSM, TokenLabel: tokenLabel, PINFile: b.pin})
		if file.want == "" && err == nil {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), file.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	b := newBox(t)
	for name, change := range map[string]func(*hsm.Config){
		"no module":    func(c *hsm.Config) { c.Module = "" },
		"no label":     func(c *hsm.Config) { c.TokenLabel = "" },
		"long label":   func(c *hsm.Config) { c.TokenLabel = strings.Repeat("x", 33) },
		"no PIN file":  func(c *hsm.Config) { c.PINFile = "/nowhere/pin" },
		"one session":  func(c *hsm.Config) { c.MaxSessions = 1 },
		"negative":     func(c *hsm.Config) { c.SessionWait = -1 },
		"time it back": func(c *hsm.Config) { c.AnswerTimeout = -1 },
	} {
		cfg := hsm.Config{Module: softHSM, TokenLabel: tokenLabel, PINFile: b.pin}
		if _, err := hsm.New(cfg); err != nil {
			t.Fatalf("control: %v", err)
		}
		change(&cfg)
		if _, err := hsm.New(cfg); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	token := b.open(func(c *hsm.Config) { c.Module = "/nowhere/module.so" })
	if _, _, err := token.Make(context.Background(), row(keyring.PurposeOIDC, keyring.P256)); !errors.Is(err, keyring.ErrTokenUnavailable) {
		t.Errorf("a module that is not there: %v", err)
	}
}

// With one usable session, 32 goroutines queue; those that wait too long are
// told to come later, and nothing else happens to them.
func TestFewSessions(t *testing.T) {
	b := newBox(t)
	token := b.open(func(c *hsm.Config) { c.MaxSessions = 2; c.SessionWait = 20 * time.Millisecond })
	_, signer, err := token.Make(context.Background(), row(keyring.PurposeOIDC, keyring.RSA2048))
	b.ok(err)
	var wg sync.WaitGroup
	var signed, busy atomic.Int64
	for range 32 {
		wg.Go(func() {
			for range 4 {
				switch _, err := signer.Sign(rand.Reader, sum256("x"), crypto.SHA256); {
				case err == nil:
					signed.Add(1)
				case errors.Is(err, keyring.ErrTokenUnavailable):
					busy.Add(1)
				default:
					t.Errorf("%v", err)
				}
			}
		})
	}
	wg.Wait()
	if signed.Load() == 0 || busy.Load() == 0 {
		t.Errorf("%d signed, %d put off: both were to be seen", signed.Load(), busy.Load())
	}
}

// 32 goroutines make, use and destroy keys of their own.
func TestManyAtOnce(t *testing.T) {
	ctx := context.Background()
	b := newBox(t)
	token := b.open(func(c *hsm.Config) { c.SessionWait = 10 * time.Second })
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 3 {
				made, signer, err := token.Make(ctx, row(keyring.PurposeMobile, keyring.P256))
				if err != nil {
					t.Errorf("making: %v", err)
					return
				}
				if _, err := signer.Sign(rand.Reader, sum256("x"), crypto.SHA256); err != nil {
					t.Errorf("signing: %v", err)
				}
				if err := token.Destroy(ctx, made.Label, made.ID); err != nil {
					t.Errorf("destroying: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if ids, err := token.Held(ctx, "test/"+keyring.PurposeMobile); err != nil || len(ids) != 0 {
		t.Errorf("left in the token: %d, %v", len(ids), err)
	}
}
