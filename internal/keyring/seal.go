package keyring

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// sealedVersion is the first byte of everything sealed; then come the nonce
// (12 bytes) and the ciphertext with its tag.
const sealedVersion = 1

// sealer is AES-256-GCM with random nonces. NIST SP 800-38D §8.3 allows 2^32
// messages a key; a deployment of 4 million citizens stays far below.
type sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) (*sealer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &sealer{aead}, nil
}

func (s *sealer) seal(plaintext, aad []byte) []byte {
	out := make([]byte, 1, 1+len(plaintext)+s.aead.Overhead())
	out[0] = sealedVersion
	return s.aead.Seal(out, nil, plaintext, aad)
}

func (s *sealer) open(sealed, aad []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != sealedVersion {
		return nil, errors.New("not a sealed value of a known version")
	}
	return s.aead.Open(nil, nil, sealed[1:], aad)
}

// rowAAD binds a sealed key to its row: id ‖ purpose ‖ algorithm, each with
// its length, behind a prefix that separates it from other uses.
func rowAAD(id uuid.UUID, purpose string, alg Algorithm) []byte {
	return aad("sealgate/key/v1", id[:], []byte(purpose), []byte(alg))
}

func aad(prefix string, parts ...[]byte) []byte {
	out := append([]byte(prefix), 0)
	for _, p := range parts {
		out = binary.BigEndian.AppendUint32(out, uint32(len(p)))
		out = append(out, p...)
	}
	return out
}

// sealedRows keeps each key in its own row, sealed under a master key. It is
// the Provider of everything that is not in a token.
type sealedRows struct{ masters []*MasterKey }

var _ Provider = (*sealedRows)(nil)

// Make makes a key in memory and seals it into the row under the current
// master key. The signer is the key itself: wipe it where it is not needed.
func (s *sealedRows) Make(_ context.Context, row Row) (Row, crypto.Signer, error) {
	private, err := generate(row.Algorithm)
	if err != nil {
		return Row{}, nil, err
	}
	plain, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return Row{}, nil, fmt.Errorf("keyring: marshal %s: %w", row.Algorithm, err)
	}
	defer clear(plain)
	public, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return Row{}, nil, fmt.Errorf("keyring: marshal public %s: %w", row.Algorithm, err)
	}
	row.PublicKey = public
	return s.seal(row, plain), private, nil
}

// seal puts the bytes of a key into its row under the current master key.
func (s *sealedRows) seal(row Row, plain []byte) Row {
	current := s.masters[0]
	row.Sealed = current.sealer.seal(plain, rowAAD(row.ID, row.Purpose, row.Algorithm))
	row.MasterKeyID, row.Provider = current.id, ProviderSealed
	return row
}

// unseal opens the bytes of a row. The caller clears what it gets.
func (s *sealedRows) unseal(row Row) ([]byte, error) {
	if row.Provider != ProviderSealed || len(row.Sealed) == 0 {
		return nil, ErrUnreadable.Because(fmt.Errorf("key %s: provider %q, state %q", row.ID, row.Provider, row.State))
	}
	for _, m := range s.masters {
		if m.id != row.MasterKeyID {
			continue
		}
		plain, err := m.sealer.open(row.Sealed, rowAAD(row.ID, row.Purpose, row.Algorithm))
		if err != nil {
			return nil, ErrUnreadable.Because(fmt.Errorf("key %s: %w", row.ID, err))
		}
		return plain, nil
	}
	return nil, ErrUnreadable.Because(fmt.Errorf("key %s: master key %s is not loaded", row.ID, row.MasterKeyID))
}

// Open unseals a private key and checks that it belongs to the row's public key.
func (s *sealedRows) Open(_ context.Context, row Row) (crypto.Signer, error) {
	plain, err := s.unseal(row)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return parseKey(row, plain)
}

func parseKey(row Row, plain []byte) (crypto.Signer, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return nil, ErrUnreadable.Because(fmt.Errorf("key %s: %w", row.ID, err))
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, ErrUnreadable.Because(fmt.Errorf("key %s: %T does not sign", row.ID, parsed))
	}
	stored, err := row.key()
	if err != nil {
		return nil, err
	}
	if p, ok := private.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !p.Equal(stored.Public) {
		return nil, ErrUnreadable.Because(fmt.Errorf("key %s: private and public part differ", row.ID))
	}
	return private, nil
}

// Held is empty: sealed keys are nowhere but in their rows.
func (s *sealedRows) Held(context.Context, string) ([]uuid.UUID, error) { return nil, nil }

// Destroy has nothing to remove: a sealed key goes with its row.
func (s *sealedRows) Destroy(context.Context, string, uuid.UUID) error { return ErrNoKey }

// wipe overwrites the secret numbers of a private key as far as Go allows:
// copies that the runtime or the crypto packages made stay until collected. A
// key in a token is not here to be wiped.
func wipe(private crypto.Signer) {
	switch p := private.(type) {
	case *ecdsa.PrivateKey:
		clear(p.D.Bits())
	case *rsa.PrivateKey:
		clear(p.D.Bits())
		for _, prime := range p.Primes {
			clear(prime.Bits())
		}
		if p.Precomputed.Dp != nil {
			clear(p.Precomputed.Dp.Bits())
			clear(p.Precomputed.Dq.Bits())
			clear(p.Precomputed.Qinv.Bits())
		}
	}
}
