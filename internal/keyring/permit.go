package keyring

import (
	"context"
	"crypto"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
)

// maxPermitted bounds the signatures of one permit.
const maxPermitted = 2000

// Permit allows one citizen's key to sign a list of exact values, each once.
// It can be used once. Package signing makes it, from an approval it has
// verified again; a test of this package holds that nobody else does.
type Permit struct {
	order, key  uuid.UUID
	digestsHash [32]byte
	values      []Value
	used        *atomic.Bool
}

// Value is one hash value that a key may sign, and the hash it was made with.
type Value struct {
	Hash   crypto.Hash
	Digest []byte
}

// NewPermit makes a permit. Order and digestsHash name the stored
// authorization that the approval produced; values are what the key may sign,
// at most 2000.
func NewPermit(order, key uuid.UUID, digestsHash [32]byte, values []Value) (Permit, error) {
	if order == uuid.Nil || key == uuid.Nil || len(values) == 0 || len(values) > maxPermitted {
		return Permit{}, errors.New("keyring: an incomplete permit")
	}
	for _, v := range values {
		if !v.Hash.Available() || len(v.Digest) != v.Hash.Size() {
			return Permit{}, errors.New("keyring: a permitted value does not have the hash's length")
		}
	}
	return Permit{order: order, key: key, digestsHash: digestsHash, values: slices.Clone(values), used: new(atomic.Bool)}, nil
}

// CitizenSigner signs with a citizen's key what its permit lists, each value
// as often as it is listed, until Close. It implements crypto.Signer.
type CitizenSigner struct {
	public crypto.PublicKey

	mu      sync.Mutex
	private crypto.Signer
	left    map[entry]int
}

// entry is a Value that can be a map's key.
type entry struct {
	hash   crypto.Hash
	digest string
}

// OpenCitizenKey opens a citizen's key for one permit. It refuses with
// ErrNotPermitted a permit that was used before, and one whose authorization
// is not in the database or already consumed. Close the signer when done.
func (k *Keyring) OpenCitizenKey(ctx context.Context, p Permit) (*CitizenSigner, error) {
	if p.used == nil || !p.used.CompareAndSwap(false, true) {
		return nil, ErrNotPermitted.Because(errors.New("permit used before"))
	}
	row, err := k.store.PermittedKey(ctx, p.order, p.key, p.digestsHash)
	if err != nil {
		return nil, err
	}
	if row.ID != p.key || row.Purpose != PurposeMobile || row.State != Active {
		return nil, ErrNotPermitted.Because(errors.New("not an active citizen's key"))
	}
	private, err := k.open(ctx, row)
	if err != nil {
		return nil, err
	}
	s := &CitizenSigner{public: private.Public(), private: private, left: make(map[entry]int, len(p.values))}
	for _, v := range p.values {
		s.left[entry{v.Hash, string(v.Digest)}]++
	}
	return s, nil
}

// Public returns the public key.
func (s *CitizenSigner) Public() crypto.PublicKey { return s.public }

// Sign signs one permitted hash value and takes it off the list. RSA signs
// with PKCS #1 v1.5 (opts is the hash) or PSS (opts is *rsa.PSSOptions).
func (s *CitizenSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil {
		opts = crypto.Hash(0)
	}
	asked := entry{opts.HashFunc(), string(digest)}
	s.mu.Lock()
	private := s.private
	allowed := private != nil && s.left[asked] > 0
	if allowed {
		s.left[asked]--
	}
	s.mu.Unlock()
	if !allowed {
		return nil, ErrNotPermitted.Because(errors.New("this value is not on the permit"))
	}
	return private.Sign(rand, digest, opts)
}

// Close wipes the key, or lets go of it where it is in a token. Not to be called while Sign runs.
func (s *CitizenSigner) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.private != nil {
		wipe(s.private)
		s.private = nil
	}
}
