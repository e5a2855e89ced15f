package agency

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	subjectLength = 22 // base64url of 16 bytes
	maxSectors    = 1024
)

// strict refuses spare bits, so that a subject has exactly one spelling.
var strict = base64.RawURLEncoding.Strict()

// pairwise makes subjects as a pseudorandom permutation of the citizen's id:
// one AES-256 block under a key derived for the sector. Different sectors
// cannot be joined without the secret, nothing has to be stored, and the
// operator can find the citizen again (OpenID Connect Core 1.0 §8.1).
type pairwise struct {
	secret []byte
	mu     sync.RWMutex
	blocks map[string]cipher.Block
}

func newPairwise(secret []byte) *pairwise {
	return &pairwise{secret: secret, blocks: make(map[string]cipher.Block)}
}

func (p *pairwise) block(sector string) cipher.Block {
	p.mu.RLock()
	b, ok := p.blocks[sector]
	p.mu.RUnlock()
	if ok {
		return b
	}
	// Only over-long output or a short key in FIPS mode fail here.
	key, err := hkdf.Key(sha256.New, p.secret, nil, "sealgate pairwise"+sector, 32)
	if err != nil {
		panic("agency: " + err.Error())
	}
	b, err = aes.NewCipher(key)
	if err != nil {
		panic("agency: " + err.Error())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.blocks) >= maxSectors {
		clear(p.blocks)
	}
	p.blocks[sector] = b
	return b
}

func (p *pairwise) subject(sector string, citizen uuid.UUID) string {
	var out [16]byte
	p.block(sector).Encrypt(out[:], citizen[:])
	return strict.EncodeToString(out[:])
}

func (p *pairwise) parse(sector, subject string) (uuid.UUID, error) {
	if len(subject) != subjectLength {
		return uuid.Nil, ErrSubjectInvalid
	}
	in, err := strict.DecodeString(subject)
	if err != nil || len(in) != 16 {
		return uuid.Nil, ErrSubjectInvalid
	}
	var id uuid.UUID
	p.block(sector).Decrypt(id[:], in)
	// A guess or another sector's subject decrypts to noise. Version and variant
	// catch 63 of 64 of those, and the time in the id nearly all others, before
	// a store is asked.
	if id.Version() != 7 || id.Variant() != uuid.RFC4122 || !plausible(id) {
		return uuid.Nil, ErrSubjectInvalid
	}
	return id, nil
}

// plausible says whether a UUIDv7 was made between the first of ours and now.
func plausible(id uuid.UUID) bool {
	sec, nsec := id.Time().UnixTime()
	made := time.Unix(sec, nsec)
	return made.After(firstCitizen) && made.Before(time.Now().Add(24*time.Hour))
}

// firstCitizen is before any citizen was ever bound.
var firstCitizen = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
