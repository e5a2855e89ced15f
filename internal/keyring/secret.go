package keyring

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
)

// Names of the symmetric secrets. Others may be used; each is made at first use.
const (
	SecretIDLookup     = "id-lookup"     // keyed hash that finds a citizen by national ID
	SecretIDSeal       = "id-seal"       // seals national IDs and names
	SecretPairwise     = "pairwise"      // pairwise subject identifiers
	SecretClientSecret = "client-secret" // keyed hash of client secrets
	SecretCookie       = "cookie"        // seals session cookies
	SecretCode         = "code"          // authorization codes
	SecretClaim        = "claim"         // claim tokens and typed codes
)

// secretPrefix marks the purposes that may have only one active row.
const secretPrefix = "secret:"

const secretSize = 32

var secretName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,40}$`)

// Secret returns the 32-byte secret of that name. The first use anywhere makes
// it; afterwards it comes from memory. The caller owns the slice.
func (k *Keyring) Secret(ctx context.Context, name string) ([]byte, error) {
	s, err := k.secret(ctx, name)
	return bytes.Clone(s), err
}

// secret returns the cached bytes themselves: not to be changed or given out.
func (k *Keyring) secret(ctx context.Context, name string) ([]byte, error) {
	k.mu.RLock()
	s, ok := k.secrets[name]
	k.mu.RUnlock()
	if ok {
		return s, nil
	}
	if !secretName.MatchString(name) {
		return nil, fmt.Errorf("keyring: bad secret name %q", name)
	}
	row, err := k.store.Current(ctx, secretPrefix+name)
	if errors.Is(err, ErrNoKey) {
		fresh := make([]byte, secretSize)
		defer clear(fresh)
		_, _ = rand.Read(fresh) // never fails (crypto/rand)
		row = k.sealed.seal(newRow(secretPrefix+name, Secret256), fresh)
		row, err = k.store.InsertFirst(ctx, row, row.Created())
	}
	if err != nil {
		return nil, err
	}
	s, err = k.sealed.unseal(row)
	if err != nil {
		return nil, err
	}
	if len(s) != secretSize {
		return nil, ErrUnreadable.Because(fmt.Errorf("secret %s has %d bytes", name, len(s)))
	}
	k.mu.Lock()
	k.secrets[name] = s
	k.mu.Unlock()
	return s, nil
}

// MAC is HMAC-SHA256 of data under the secret of that name. Compare its
// results with crypto/subtle or look them up by index, never byte by byte.
func (k *Keyring) MAC(ctx context.Context, name string, data []byte) ([32]byte, error) {
	var out [32]byte
	s, err := k.secret(ctx, name)
	if err != nil {
		return out, err
	}
	h := hmac.New(sha256.New, s)
	h.Write(data)
	h.Sum(out[:0])
	return out, nil
}

// Seal encrypts a personal value (national ID, name). The purpose names the
// column ("citizen.name") and separates the keys; aad ties the value to its
// row, so that it cannot be moved to another.
func (k *Keyring) Seal(ctx context.Context, purpose string, aad, plaintext []byte) ([]byte, error) {
	s, err := k.valueSealer(ctx, purpose)
	if err != nil {
		return nil, err
	}
	return s.seal(plaintext, aad), nil
}

// Open decrypts what Seal gave for the same purpose and aad.
func (k *Keyring) Open(ctx context.Context, purpose string, aad, sealed []byte) ([]byte, error) {
	s, err := k.valueSealer(ctx, purpose)
	if err != nil {
		return nil, err
	}
	plain, err := s.open(sealed, aad)
	if err != nil {
		return nil, ErrUnreadable.Because(fmt.Errorf("sealed %s: %w", purpose, err))
	}
	return plain, nil
}

// maxSealers bounds the memory of derived keys; purposes are a handful of constants.
const maxSealers = 64

func (k *Keyring) valueSealer(ctx context.Context, purpose string) (*sealer, error) {
	k.mu.RLock()
	s, ok := k.sealers[purpose]
	k.mu.RUnlock()
	if ok {
		return s, nil
	}
	secret, err := k.secret(ctx, SecretIDSeal)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "sealgate/seal/v1\x00"+purpose, secretSize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	if s, err = newSealer(key); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.sealers) >= maxSealers {
		clear(k.sealers)
	}
	k.sealers[purpose] = s
	return s, nil
}
