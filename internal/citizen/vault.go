package citizen

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// Vault keeps what is personal about a citizen: it makes the keyed hash by
// which a national ID is found, the user handle of the citizen's passkeys, and
// seals names and numbers. All keys are derived from one secret that lives
// outside the tables it protects. It is safe for use by many goroutines.
type Vault struct {
	macKey    []byte
	handleKey []byte
	aead      cipher.AEAD
}

// Field names what is sealed; it is part of what the seal authenticates, so
// that one column's value cannot be put into another.
type Field string

// The sealed fields.
const (
	FieldNationalID Field = "national-id"
	FieldName       Field = "name"
)

// sealVersion is the first byte of every sealed value: AES-256-GCM, 12-byte
// random nonce, 16-byte tag.
const sealVersion = 1

// maxSealed bounds what Seal takes: names and numbers, nothing big.
const maxSealed = 1024

var errSealed = errors.New("citizen: sealed value does not open")

// NewVault derives the keys (HKDF-SHA-256, RFC 5869) from a secret of at least 32 bytes.
func NewVault(secret []byte) (*Vault, error) {
	if len(secret) < 32 {
		return nil, errors.New("citizen: the vault's secret is shorter than 32 bytes")
	}
	derive := func(use string) ([]byte, error) {
		return hkdf.Key(sha256.New, secret, nil, "sealgate/citizen/v1/"+use, 32)
	}
	mac, err := derive("national-id-mac")
	if err != nil {
		return nil, err
	}
	handle, err := derive("user-handle")
	if err != nil {
		return nil, err
	}
	seal, err := derive("seal")
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(seal)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &Vault{macKey: mac, handleKey: handle, aead: aead}, nil
}

// MAC gives the 32-byte keyed hash (HMAC-SHA-256) that stands for a national ID
// in the database. Without the key the small space of numbers cannot be tried.
func (v *Vault) MAC(id NationalID) []byte { return mac(v.macKey, []byte(id.v)) }

// UserHandle gives the WebAuthn user handle of a citizen: 32 bytes that say
// nothing about the person (WebAuthn Level 3 §14.6.1). The same citizen always
// gets the same one, so a phone that is bound again replaces its old passkey
// instead of collecting dead ones.
func (v *Vault) UserHandle(nationalIDMAC []byte) []byte { return mac(v.handleKey, nationalIDMAC) }

func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}

// Seal encrypts a field of the citizen whose national ID has this MAC. The seal
// is bound to both: it opens for no other citizen and as no other field.
func (v *Vault) Seal(field Field, nationalIDMAC []byte, value string) ([]byte, error) {
	if len(value) > maxSealed {
		return nil, fmt.Errorf("citizen: %s of %d bytes is too long to seal", field, len(value))
	}
	out := make([]byte, 1+v.aead.NonceSize(), 1+v.aead.NonceSize()+len(value)+v.aead.Overhead())
	out[0] = sealVersion
	nonce := out[1:]
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	return v.aead.Seal(out, nonce, []byte(value), additional(field, nationalIDMAC)), nil
}

// Open decrypts what Seal made. Its error tells nothing about the value.
func (v *Vault) Open(field Field, nationalIDMAC, sealed []byte) (string, error) {
	n := v.aead.NonceSize()
	if len(sealed) < 1+n+v.aead.Overhead() || sealed[0] != sealVersion {
		return "", errSealed
	}
	plain, err := v.aead.Open(nil, sealed[1:1+n], sealed[1+n:], additional(field, nationalIDMAC))
	if err != nil {
		return "", errSealed
	}
	return string(plain), nil
}

func additional(field Field, nationalIDMAC []byte) []byte {
	return append([]byte(string(field)+"\x00"), nationalIDMAC...)
}
