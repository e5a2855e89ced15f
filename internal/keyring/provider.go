package keyring

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/fault"
)

// Provider keeps private keys and signs with them. There are two: sealed rows
// of the database (in this package) and a PKCS #11 token (package hsm).
//
// A Provider is safe for concurrent use. When what it stands on does not answer
// (a token was taken away, all its sessions are busy) it fails with
// ErrTokenUnavailable, which says that trying later helps; ErrNoKey is for a
// key that is certainly not there.
type Provider interface {
	// Make makes the private key of a new row, which has its id, purpose,
	// algorithm and label. It returns the row with public key and place filled
	// in, and the key's signer.
	Make(ctx context.Context, row Row) (Row, crypto.Signer, error)
	// Open gives the signer of a stored row. Every signature it returns is by
	// the key that belongs to the row's public key, else signing fails with
	// ErrUnreadable. It may put off looking for the key until it signs.
	Open(ctx context.Context, row Row) (crypto.Signer, error)
	// Held lists the ids of the keys with that label that are kept outside the
	// database: none for sealed rows.
	Held(ctx context.Context, label string) ([]uuid.UUID, error)
	// Destroy removes a key that is kept outside the database; ErrNoKey when
	// it is not there.
	Destroy(ctx context.Context, label string, id uuid.UUID) error
}

// Names of the providers, as rows have them.
const (
	// ProviderSealed: the key's bytes lie sealed in the row itself.
	ProviderSealed = "sealed"
	// ProviderPKCS11: the key is in a PKCS #11 token, and never leaves it.
	ProviderPKCS11 = "pkcs11"
)

// Faults of keys in a token.
var (
	// ErrTokenUnavailable: the security module does not answer, or has no
	// session to spare; what was to be signed can be signed later.
	ErrTokenUnavailable = fault.New(fault.Unavailable, "key_token_unavailable")
	// ErrTokenRefused: the module does not do what was asked: an algorithm it
	// lacks, a policy that forbids it.
	ErrTokenRefused = fault.New(fault.Internal, "key_token_refused")
)

// Purposes lists the purposes that asymmetric keys of the service have.
func Purposes() []string {
	return []string{PurposeCARoot, PurposeCAIssuing, PurposeCAOCSP, PurposeCATSA, PurposeCAReport, PurposeOIDC, PurposeMobile}
}

// tokenPurposes reads the configured list; "ca-*" stands for every authority.
func tokenPurposes(patterns []string) (map[string]bool, error) {
	chosen := map[string]bool{}
	for _, pattern := range patterns {
		found := false
		for _, p := range Purposes() {
			if ok, err := path.Match(pattern, p); err == nil && ok {
				chosen[p], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("keyring: no key has the purpose %q", pattern)
		}
	}
	return chosen, nil
}

// makeKey makes a new key where its purpose belongs. Nothing is written to the
// database.
func (k *Keyring) makeKey(ctx context.Context, purpose string, alg Algorithm) (Row, crypto.Signer, error) {
	row := newRow(purpose, alg)
	if !k.inToken[purpose] {
		return k.sealed.Make(ctx, row)
	}
	var err error
	if row.Label, err = k.label(ctx, purpose); err != nil {
		return Row{}, nil, err
	}
	row.Provider, row.Handle = ProviderPKCS11, handle(row.ID)
	return k.token.Make(ctx, row)
}

func newRow(purpose string, alg Algorithm) Row {
	return Row{
		ID: uuid.Must(uuid.NewV7()), Purpose: purpose, Algorithm: alg, State: Active,
		CreatedAt: time.Now().UTC().Truncate(time.Microsecond),
	}
}

// open gives the signer of a stored row. A row that says something else than
// when it was made is refused with ErrUnreadable.
func (k *Keyring) open(ctx context.Context, row Row) (crypto.Signer, error) {
	if row.Provider != ProviderPKCS11 {
		return k.sealed.Open(ctx, row)
	}
	if k.token == nil {
		return nil, ErrTokenUnavailable.Because(fmt.Errorf("key %s is in a token, and this node has none", row.ID))
	}
	// The token's object is found by id and label, and both follow from the
	// row's id and purpose: a handle copied from another row leads nowhere.
	if row.Handle != handle(row.ID) {
		return nil, ErrUnreadable.Because(fmt.Errorf("key %s: the handle is another key's", row.ID))
	}
	key, err := row.key()
	if err != nil {
		return nil, err
	}
	if algorithmOf(key.Public) != row.Algorithm {
		return nil, ErrUnreadable.Because(fmt.Errorf("key %s: the public key is not %s", row.ID, row.Algorithm))
	}
	if row.Label, err = k.label(ctx, row.Purpose); err != nil {
		return nil, err
	}
	return k.token.Open(ctx, row)
}

// discard removes the private part of a key whose row was certainly not
// written. After an error nobody knows that: a commit may have gone through
// though its answer was lost. Those keys, and what cannot be removed now, are
// left to Sweep, which asks the database.
func (k *Keyring) discard(ctx context.Context, row Row) {
	if row.Provider == ProviderPKCS11 && k.token != nil {
		_ = k.token.Destroy(ctx, row.Label, row.ID)
	}
}

// handle is how a row names its object in the token: its CKA_ID, in hex.
func handle(id uuid.UUID) string { return hex.EncodeToString(id[:]) }

// secretTokenLabel tells deployments apart that share a token: the secret is
// made with the database and known to it alone.
const secretTokenLabel = "token-label"

// label is the CKA_LABEL of a purpose's keys. The same database always gives
// the same labels and another database others, so that Sweep never takes the
// keys of a neighbour for its own left-overs.
func (k *Keyring) label(ctx context.Context, purpose string) (string, error) {
	mac, err := k.MAC(ctx, secretTokenLabel, nil)
	if err != nil {
		return "", err
	}
	return "sealgate-" + hex.EncodeToString(mac[:6]) + "/" + purpose, nil
}

// AlgorithmOf names a public key's algorithm, "" when it is none of ours.
func AlgorithmOf(public crypto.PublicKey) Algorithm { return algorithmOf(public) }

func algorithmOf(public crypto.PublicKey) Algorithm {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256():
			return P256
		case elliptic.P384():
			return P384
		}
	case *rsa.PublicKey:
		switch p.N.BitLen() {
		case 2048:
			return RSA2048
		case 3072:
			return RSA3072
		}
	}
	return ""
}

// checkToken holds the token's part of the configuration together.
func checkToken(cfg Config) (map[string]bool, error) {
	if len(cfg.TokenPurposes) > 0 && cfg.Token == nil {
		return nil, errors.New("keyring: keys are to be made in a token, and there is none")
	}
	for i, m := range cfg.MasterKeys {
		if slices.ContainsFunc(cfg.MasterKeys[:i], func(o *MasterKey) bool { return o.id == m.id }) {
			return nil, fmt.Errorf("keyring: master key %s is given twice", m.id)
		}
	}
	return tokenPurposes(cfg.TokenPurposes)
}
