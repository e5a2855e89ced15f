//go:build !cgo

package hsm

import (
	"context"
	"crypto"
	"errors"

	"github.com/google/uuid"

	"sealgate/internal/keyring"
)

var errWithout = errors.New("hsm: this program was built without cgo and cannot load a PKCS #11 module")

// Token is a token that cannot be reached: the program was built without cgo.
type Token struct{}

var _ keyring.Provider = (*Token)(nil)

// New checks the configuration and refuses.
func New(cfg Config) (*Token, error) {
	if _, err := cfg.complete(); err != nil {
		return nil, err
	}
	return nil, errWithout
}

// Close does nothing.
func (*Token) Close() {}

// Make refuses.
func (*Token) Make(context.Context, keyring.Row) (keyring.Row, crypto.Signer, error) {
	return keyring.Row{}, nil, keyring.ErrTokenUnavailable.Because(errWithout)
}

// Open refuses.
func (*Token) Open(context.Context, keyring.Row) (crypto.Signer, error) {
	return nil, keyring.ErrTokenUnavailable.Because(errWithout)
}

// Held refuses.
func (*Token) Held(context.Context, string) ([]uuid.UUID, error) {
	return nil, keyring.ErrTokenUnavailable.Because(errWithout)
}

// Destroy refuses.
func (*Token) Destroy(context.Context, string, uuid.UUID) error {
	return keyring.ErrTokenUnavailable.Because(errWithout)
}
