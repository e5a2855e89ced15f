// Package keyring keeps the service's keys: symmetric secrets, the service's
// own signing keys, and citizens' signing keys.
//
// A key lies in the database sealed with AES-256-GCM under a master key that is
// kept outside it, or in a PKCS #11 token; the configuration chooses by
// purpose, and the row says which. The additional data of a sealed key is its
// row id, purpose and algorithm, so that one row's ciphertext is worthless in
// another; a token's object has the row's id and a label for its purpose.
//
// Master keys are changed while the service runs: several can open, the first
// one seals, and Reseal moves the rows over. Sweep removes from the token what
// no row knows.
//
// Service keys are reached by purpose or id and stay in memory once opened.
// Citizens' keys are different: the only way to one is OpenCitizenKey with a
// Permit, the database hands its ciphertext out only while an unused
// authorization for exactly the permitted digests exists, the signer it gives
// signs only what the Permit lists, each once, and nothing of it is cached.
package keyring

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/fault"
)

// Algorithm names what kind of key a row holds.
type Algorithm string

// The algorithms.
const (
	P256    Algorithm = "P-256"
	P384    Algorithm = "P-384"
	RSA2048 Algorithm = "RSA-2048"
	RSA3072 Algorithm = "RSA-3072"
	// Secret256 is a symmetric secret of 32 random bytes.
	Secret256 Algorithm = "SECRET-256"
)

// Purposes of asymmetric keys. A key never serves two purposes.
const (
	PurposeOIDC      = "oidc"       // signs tokens
	PurposeCARoot    = "ca-root"    // signs the issuing CA's certificate
	PurposeCAIssuing = "ca-issuing" // signs mobile certificates and revocation lists
	PurposeCAOCSP    = "ca-ocsp"    // signs OCSP responses
	PurposeCATSA     = "ca-tsa"     // signs time-stamp tokens
	PurposeCAReport  = "ca-report"  // signs reports on signatures that were judged
	PurposeMobile    = "mobile"     // a citizen's document signing key
)

// State of a key row.
type State string

// The states of a key.
const (
	Active    State = "active"
	Retired   State = "retired"   // signs nothing new, still published for verifying
	Destroyed State = "destroyed" // the private part is gone
)

// Faults of this package.
var (
	// ErrNoKey: there is no such key, or it is not active.
	ErrNoKey = fault.New(fault.Internal, "key_missing")
	// ErrUnreadable: the key is sealed under an unknown master key or was altered.
	ErrUnreadable = fault.New(fault.Internal, "key_unreadable")
	// ErrNotPermitted: no unused authorization allows this signature.
	ErrNotPermitted = fault.New(fault.Forbidden, "key_not_permitted")
)

// Row is one key as it is stored.
type Row struct {
	ID        uuid.UUID
	Purpose   string
	Algorithm Algorithm
	// PublicKey is the SubjectPublicKeyInfo in DER (RFC 5280 §4.1.2.7), nil for secrets.
	PublicKey   []byte
	Sealed      []byte
	MasterKeyID string
	Provider    string
	// Handle is the CKA_ID of a token's object, in hex.
	Handle    string
	State     State
	CreatedAt time.Time
	// Label is the CKA_LABEL of a token's object. It follows from the purpose
	// and is not stored.
	Label string
}

// Key is the public side of an asymmetric service key.
type Key struct {
	ID        uuid.UUID
	Purpose   string
	Algorithm Algorithm
	State     State
	Public    crypto.PublicKey
	CreatedAt time.Time
}

// Store keeps key rows. Methods that find nothing return ErrNoKey.
type Store interface {
	// Insert writes a new key and its audit entry.
	Insert(ctx context.Context, row Row, e audit.Entry) error
	// InsertFirst writes the row and its entry unless an active key with the
	// same purpose exists, and returns the key that is then active. Whatever
	// the number of nodes asking at once, exactly one row is written.
	InsertFirst(ctx context.Context, row Row, e audit.Entry) (Row, error)
	// ServiceKey returns a service key by id; never a citizen's.
	ServiceKey(ctx context.Context, id uuid.UUID, purpose string) (Row, error)
	// Current returns the newest active service key of a purpose.
	Current(ctx context.Context, purpose string) (Row, error)
	// List returns the active and retired service keys of a purpose, newest first.
	List(ctx context.Context, purpose string) ([]Row, error)
	// Retire marks an active service key as retired, with its audit entry.
	Retire(ctx context.Context, id uuid.UUID, e audit.Entry) error
	// PermittedKey returns a citizen's key while an unused authorization of
	// that order for that key and those digests exists, else ErrNotPermitted.
	PermittedKey(ctx context.Context, order, key uuid.UUID, digestsHash [32]byte) (Row, error)

	UpkeepStore
}

// Config is what a Keyring needs.
type Config struct {
	// MasterKeys: the first seals, all open.
	MasterKeys []*MasterKey
	Store      Store
	// Token keeps the keys of TokenPurposes; nil: all keys are sealed rows. A
	// key stays where it was made when the configuration changes.
	Token Provider
	// TokenPurposes says which keys are made in the token; "ca-*" stands for
	// the keys of all authorities.
	TokenPurposes []string
	// CurrentLife is how long the answer to Current is believed; 0 means 10 s.
	// A new signing key is in use everywhere after that time.
	CurrentLife time.Duration
}

// Keyring gives signers and secrets. It is safe for concurrent use.
type Keyring struct {
	store   Store
	sealed  *sealedRows
	token   Provider
	inToken map[string]bool // by purpose
	life    time.Duration

	mu      sync.RWMutex
	secrets map[string][]byte
	sealers map[string]*sealer
	signers map[uuid.UUID]crypto.Signer
	current map[string]currentKey
}

type currentKey struct {
	key   *Key
	until time.Time
}

// maxSigners bounds the memory of opened service keys; there are a handful.
const maxSigners = 64

// New checks the configuration and makes a keyring.
func New(cfg Config) (*Keyring, error) {
	if cfg.Store == nil {
		return nil, errors.New("keyring: no store")
	}
	if len(cfg.MasterKeys) == 0 {
		return nil, errors.New("keyring: no master key")
	}
	inToken, err := checkToken(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.CurrentLife == 0 {
		cfg.CurrentLife = 10 * time.Second
	}
	return &Keyring{
		store: cfg.Store, sealed: &sealedRows{slices.Clone(cfg.MasterKeys)}, token: cfg.Token, inToken: inToken, life: cfg.CurrentLife,
		secrets: map[string][]byte{}, sealers: map[string]*sealer{},
		signers: map[uuid.UUID]crypto.Signer{}, current: map[string]currentKey{},
	}, nil
}

// Generate makes a new service key and stores it. It becomes the current one
// of its purpose.
func (k *Keyring) Generate(ctx context.Context, purpose string, alg Algorithm) (*Key, error) {
	row, err := k.newServiceKey(ctx, purpose, alg)
	if err != nil {
		return nil, err
	}
	if err := k.store.Insert(ctx, row, row.Created()); err != nil {
		return nil, err
	}
	k.forgetCurrent(purpose)
	return row.key()
}

// Ensure returns the current service key of a purpose, and makes it when there
// is none yet: exactly one, whichever node comes first.
func (k *Keyring) Ensure(ctx context.Context, purpose string, alg Algorithm) (*Key, error) {
	key, err := k.Current(ctx, purpose)
	if !errors.Is(err, ErrNoKey) {
		return key, err
	}
	mine, err := k.newServiceKey(ctx, purpose, alg)
	if err != nil {
		return nil, err
	}
	row, err := k.store.InsertFirst(ctx, mine, mine.Created())
	if err != nil {
		return nil, err
	}
	if row.ID != mine.ID { // another node was first
		k.discard(ctx, mine)
	}
	return row.key()
}

// Current returns the newest active service key of a purpose. The answer may
// be up to Config.CurrentLife old.
func (k *Keyring) Current(ctx context.Context, purpose string) (*Key, error) {
	k.mu.RLock()
	c, ok := k.current[purpose]
	k.mu.RUnlock()
	if ok && time.Now().Before(c.until) {
		return c.key, nil
	}
	row, err := k.store.Current(ctx, purpose)
	if err != nil {
		return nil, err
	}
	key, err := row.key()
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	k.current[purpose] = currentKey{key, time.Now().Add(k.life)}
	k.mu.Unlock()
	return key, nil
}

// Published returns the public sides of a purpose's active and retired keys,
// newest first: what a JWK set has.
func (k *Keyring) Published(ctx context.Context, purpose string) ([]*Key, error) {
	rows, err := k.store.List(ctx, purpose)
	if err != nil {
		return nil, err
	}
	keys := make([]*Key, 0, len(rows))
	for _, row := range rows {
		key, err := row.key()
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Retire takes a service key out of use; it stays published.
func (k *Keyring) Retire(ctx context.Context, key *Key) error {
	e := audit.New(audit.KeyRetired).With(audit.KeyPurpose, key.Purpose).With(audit.KeyKeyID, key.ID.String())
	if err := k.store.Retire(ctx, key.ID, e); err != nil {
		return err
	}
	k.forgetCurrent(key.Purpose)
	return nil
}

// Signer returns the signer of a service key. The purpose must be the one the
// key was made for. The opened key stays in memory.
func (k *Keyring) Signer(ctx context.Context, id uuid.UUID, purpose string) (crypto.Signer, error) {
	if err := servicePurpose(purpose); err != nil {
		return nil, err
	}
	k.mu.RLock()
	s, ok := k.signers[id]
	k.mu.RUnlock()
	if ok {
		if ps := s.(*serviceSigner); ps.purpose != purpose {
			return nil, ErrNoKey.Because(fmt.Errorf("key %s is not for %s", id, purpose))
		}
		return s, nil
	}
	row, err := k.store.ServiceKey(ctx, id, purpose)
	if err != nil {
		return nil, err
	}
	private, err := k.open(ctx, row)
	if err != nil {
		return nil, err
	}
	s = &serviceSigner{Signer: private, purpose: purpose}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.signers) >= maxSigners {
		clear(k.signers)
	}
	k.signers[id] = s
	return s, nil
}

// serviceSigner remembers the purpose, and hides the private key's other methods.
type serviceSigner struct {
	crypto.Signer
	purpose string
}

// makeTimeout bounds the making of a key where the caller brings no deadline.
const makeTimeout = 30 * time.Second

// SealNewKey makes a citizen's key and returns the row that the binding
// transaction inserts, and the public key that the certificate is issued for.
// Nothing is written to the database here and no signer is given out: the
// private half exists only inside the sealed bytes, or in the token. There it
// stays when the transaction fails, until Sweep removes it.
func (k *Keyring) SealNewKey(alg Algorithm) (Row, crypto.PublicKey, error) {
	ctx, cancel := context.WithTimeout(context.Background(), makeTimeout)
	defer cancel()
	row, private, err := k.makeKey(ctx, PurposeMobile, alg)
	if err != nil {
		return Row{}, nil, err
	}
	defer wipe(private)
	return row, private.Public(), nil
}

// SealServiceKey makes a service key without writing it: for a caller that
// stores the row together with what was signed with it (a first start of the
// CA). The signer is the key itself; the row's audit entry is Row.Created.
func (k *Keyring) SealServiceKey(purpose string, alg Algorithm) (Row, crypto.Signer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), makeTimeout)
	defer cancel()
	return k.makeServiceKey(ctx, purpose, alg)
}

func (k *Keyring) makeServiceKey(ctx context.Context, purpose string, alg Algorithm) (Row, crypto.Signer, error) {
	if err := servicePurpose(purpose); err != nil {
		return Row{}, nil, err
	}
	row, private, err := k.makeKey(ctx, purpose, alg)
	if err != nil {
		return Row{}, nil, err
	}
	return row, &serviceSigner{Signer: private, purpose: purpose}, nil
}

// newServiceKey is makeServiceKey for a key that is not used at once.
func (k *Keyring) newServiceKey(ctx context.Context, purpose string, alg Algorithm) (Row, error) {
	row, signer, err := k.makeServiceKey(ctx, purpose, alg)
	if err == nil {
		wipe(signer.(*serviceSigner).Signer)
	}
	return row, err
}

func (k *Keyring) forgetCurrent(purpose string) {
	k.mu.Lock()
	delete(k.current, purpose)
	k.mu.Unlock()
}

// Created is the audit entry of making this key.
func (r Row) Created() audit.Entry {
	return audit.New(audit.KeyCreated).With(audit.KeyPurpose, r.Purpose).With(audit.KeyProvider, r.Provider).
		With(audit.KeyAlgorithm, string(r.Algorithm)).With(audit.KeyKeyID, r.ID.String())
}

func servicePurpose(purpose string) error {
	if purpose == "" || purpose == PurposeMobile {
		return ErrNotPermitted.Because(fmt.Errorf("purpose %q is not a service purpose", purpose))
	}
	return nil
}

func (r Row) key() (*Key, error) {
	public, err := x509.ParsePKIXPublicKey(r.PublicKey)
	if err != nil {
		return nil, ErrUnreadable.Because(fmt.Errorf("public key of %s: %w", r.ID, err))
	}
	return &Key{ID: r.ID, Purpose: r.Purpose, Algorithm: r.Algorithm, State: r.State, Public: public, CreatedAt: r.CreatedAt}, nil
}

// generate makes a private key.
func generate(alg Algorithm) (crypto.Signer, error) {
	switch alg {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	}
	return nil, fmt.Errorf("keyring: unknown algorithm %q", alg)
}
