package oidc_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"sealgate/internal/agency"
	"sealgate/internal/keyring"
	"sealgate/internal/oidc"
	"sealgate/internal/order"
)

// fickle is a token whose keys can be away. They lie in memory.
type fickle struct {
	away atomic.Bool
	keys map[uuid.UUID]crypto.Signer
}

func (f *fickle) Make(_ context.Context, row keyring.Row) (keyring.Row, crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return row, nil, err
	}
	f.keys[row.ID] = key
	row.PublicKey, err = x509.MarshalPKIXPublicKey(key.Public())
	return row, fickleKey{f, key}, err
}

func (f *fickle) Open(_ context.Context, row keyring.Row) (crypto.Signer, error) {
	return fickleKey{f, f.keys[row.ID]}, nil
}

func (f *fickle) Held(context.Context, string) ([]uuid.UUID, error) { return nil, nil }
func (f *fickle) Destroy(context.Context, string, uuid.UUID) error  { return nil }

type fickleKey struct {
	f *fickle
	crypto.Signer
}

func (k fickleKey) Sign(random io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if k.f.away.Load() {
		return nil, keyring.ErrTokenUnavailable
	}
	return k.Signer.Sign(random, digest, o)
}

// The module that signs ID tokens is away when a client brings its code: that is
// told as something that passes, and the code still works afterwards.
func TestCodeOutlivesAnAbsentSigner(t *testing.T) {
	token := &fickle{keys: map[uuid.UUID]crypto.Signer{}}
	h := newHouseWith(t, func(*oidc.Config) {}, token)
	s, p := h.site("profile"), h.bind(0)
	code, id := h.code(s, p)
	token.away.Store(true)
	for range 2 {
		status, answer, header := h.post(oidc.PathToken, agency.DemoClientID, h.secret, s.tokenForm(code))
		if status != http.StatusServiceUnavailable || answer["error"] != "temporarily_unavailable" || header.Get("Retry-After") == "" {
			t.Fatalf("%d %v %v", status, answer, header)
		}
	}
	if o, err := h.orders.Find(context.Background(), id); err != nil || o.State != order.Approved {
		t.Fatalf("the code was used up: %v %v", o, err)
	}
	token.away.Store(false)
	if _, err := s.exchange(code); err != nil {
		t.Errorf("the same code, once the module is back: %v", err)
	}
}
