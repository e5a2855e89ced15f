package citizen

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
)

// Vault keeps what is personal about a citizen: it makes the keyed hash by
// which a national ID is found, the user handle of the citizen's passkeys, and
// has names and numbers sealed. It is safe for use by many goroutines.
type Vault struct {
	macKey     []byte
	handleKey  []byte
	seal, open SealFunc
}

// SealFunc seals or opens a value. The purpose names the column and separates
// the keys; aad ties the value to its row. The keyring's Seal and Open are such.
type SealFunc func(ctx context.Context, purpose string, aad, value []byte) ([]byte, error)

// Field names what is sealed. It is the seal's purpose: one column's value
// does not open as another's.
type Field string

// The sealed fields.
const (
	FieldNationalID Field = "citizen.national-id"
	FieldName       Field = "citizen.name"
)

// maxSealed bounds what Seal takes, in bytes: names and numbers, nothing big.
const maxSealed = 1024

// VaultConfig is what a vault stands on.
type VaultConfig struct {
	// LookupSecret, at least 32 bytes, lives outside the tables it protects. It
	// can never change: national IDs would no longer be found.
	LookupSecret []byte
	Seal, Open   SealFunc
}

// NewVault derives the keys (HKDF-SHA-256, RFC 5869).
func NewVault(cfg VaultConfig) (*Vault, error) {
	if len(cfg.LookupSecret) < 32 {
		return nil, errors.New("citizen: the lookup secret is shorter than 32 bytes")
	}
	if cfg.Seal == nil || cfg.Open == nil {
		return nil, errors.New("citizen: a vault needs Seal and Open")
	}
	mac, err := hkdf.Key(sha256.New, cfg.LookupSecret, nil, "sealgate/citizen/v1/national-id-mac", 32)
	if err != nil {
		return nil, err
	}
	handle, err := hkdf.Key(sha256.New, cfg.LookupSecret, nil, "sealgate/citizen/v1/user-handle", 32)
	if err != nil {
		return nil, err
	}
	return &Vault{macKey: mac, handleKey: handle, seal: cfg.Seal, open: cfg.Open}, nil
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
func (v *Vault) Seal(ctx context.Context, field Field, nationalIDMAC []byte, value string) ([]byte, error) {
	if len(value) > maxSealed {
		return nil, fmt.Errorf("citizen: %s of %d bytes is too long to seal", field, len(value))
	}
	return v.seal(ctx, string(field), nationalIDMAC, []byte(value))
}

// Open decrypts what Seal made. Its error tells nothing about the value.
func (v *Vault) Open(ctx context.Context, field Field, nationalIDMAC, sealed []byte) (string, error) {
	plain, err := v.open(ctx, string(field), nationalIDMAC, sealed)
	return string(plain), err
}
