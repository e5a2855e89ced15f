// Package softauthn is a phone without a browser: a WebAuthn client and
// authenticator in one, for tests, load runs and scripts.
//
// It takes the JSON that a page hands to
// PublicKeyCredential.parseCreationOptionsFromJSON and
// parseRequestOptionsFromJSON, and gives the JSON that toJSON() gives back
// (WebAuthn Level 3 §5.1.8, §5.1.9). Its keys are ordinary software keys: it
// proves nothing about a person and must never be offered to one as a phone.
//
// Everything a broken or hostile phone can do wrong is a named Fault, so that a
// test reads as what it refuses.
package softauthn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
)

// COSE algorithm identifiers (RFC 9053, RFC 8812) this authenticator can sign with.
const (
	ES256 = -7
	EdDSA = -8
	RS256 = -257
)

// Attestation says which attestation statement Create makes, if the page asks
// for one. A page that asks for "none" is given none, as browsers do.
type Attestation uint8

// The attestation statements that can be made (WebAuthn Level 3 §8).
const (
	None       Attestation = iota // fmt "none"
	PackedSelf                    // fmt "packed", signed by the credential key itself
	PackedX5C                     // fmt "packed", signed by an attestation certificate
	FIDOU2F                       // fmt "fido-u2f"; the AAGUID is sent as zero
)

// CounterMode says how the signature counter behaves (WebAuthn Level 3 §6.1.1).
type CounterMode uint8

// The counter modes.
const (
	CounterGrows CounterMode = iota // one more at every signature
	CounterZero                     // always zero, as synced passkeys do
)

// Options describe an authenticator. The zero value is a phone with ES256 keys
// that are not backed up, a growing counter and no attestation.
type Options struct {
	// AAGUID names the model. It is sent as it is, whatever the attestation.
	AAGUID [16]byte
	// Algorithm is the only COSE algorithm it offers; 0 takes the first of the
	// page's list that it knows.
	Algorithm int
	// BackupEligible and BackupState are the BE and BS flags.
	BackupEligible, BackupState bool
	Attestation                 Attestation
	// Authority signs attestation certificates for PackedX5C and FIDOU2F. When
	// it is nil the authenticator makes one of its own, which nobody trusts.
	Authority *Authority
	Counter   CounterMode
	// Transports reported at registration; default "internal", "hybrid".
	Transports []string
}

// Errors a browser would also give.
var (
	// ErrNotAllowed: no fitting credential, or the page asks for what may not be asked.
	ErrNotAllowed = errors.New("softauthn: NotAllowedError")
	// ErrExcluded: a credential of the exclude list is already here.
	ErrExcluded = errors.New("softauthn: InvalidStateError: credential is already registered here")
	// ErrNotSupported: no algorithm of the page's list is known.
	ErrNotSupported = errors.New("softauthn: NotSupportedError: no algorithm in common")
	// ErrSecurity: the RP ID does not belong to the origin.
	ErrSecurity = errors.New("softauthn: SecurityError: the RP ID does not fit the origin")
)

// Authenticator holds discoverable credentials. It is safe for concurrent use.
type Authenticator struct {
	opts Options

	mu    sync.Mutex
	byID  map[string]*credential
	newer map[string][]*credential // by RP ID, oldest first
	att   *attestationKey          // made at first need
}

// credential is one passkey.
type credential struct {
	id         []byte
	rpID       string
	rpIDHash   [32]byte
	userHandle []byte
	userName   string
	algorithm  int
	key        crypto.Signer
	counter    uint32
}

// Info tells about one credential without its key.
type Info struct {
	ID         []byte
	RPID       string
	UserHandle []byte
	UserName   string
	Algorithm  int
	Counter    uint32
}

// New makes an authenticator without credentials.
func New(o Options) *Authenticator {
	if o.Transports == nil {
		o.Transports = []string{"internal", "hybrid"}
	}
	return &Authenticator{opts: o, byID: map[string]*credential{}, newer: map[string][]*credential{}}
}

// Credentials lists what is held for one RP ID, oldest first.
func (a *Authenticator) Credentials(rpID string) []Info {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []Info
	for _, c := range a.newer[rpID] {
		out = append(out, Info{ID: c.id, RPID: c.rpID, UserHandle: c.userHandle, UserName: c.userName, Algorithm: c.algorithm, Counter: c.counter})
	}
	return out
}

// Forget removes a credential, as a person who deletes a passkey does.
func (a *Authenticator) Forget(id []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.byID[string(id)]; c != nil {
		a.remove(c)
	}
}

func (a *Authenticator) remove(c *credential) {
	delete(a.byID, string(c.id))
	list := a.newer[c.rpID]
	for i := range list {
		if list[i] == c {
			a.newer[c.rpID] = append(list[:i:i], list[i+1:]...)
			return
		}
	}
}

// add keeps a credential; an older one of the same user at the same RP goes,
// as discoverable credentials do (CTAP 2.1 §6.1.2 step 17).
func (a *Authenticator) add(c *credential) {
	for _, old := range a.newer[c.rpID] {
		if string(old.userHandle) == string(c.userHandle) {
			a.remove(old)
			break
		}
	}
	a.byID[string(c.id)] = c
	a.newer[c.rpID] = append(a.newer[c.rpID], c)
}

func newCredential(algorithm int, rpID string, userHandle []byte, userName string) (*credential, error) {
	c := &credential{
		id: make([]byte, 32), rpID: rpID, rpIDHash: sha256.Sum256([]byte(rpID)),
		userHandle: userHandle, userName: userName, algorithm: algorithm,
	}
	if _, err := io.ReadFull(rand.Reader, c.id); err != nil {
		return nil, err
	}
	var err error
	switch algorithm {
	case ES256:
		c.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EdDSA:
		_, c.key, err = ed25519.GenerateKey(rand.Reader)
	case RS256:
		c.key, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		err = ErrNotSupported
	}
	if err != nil {
		return nil, fmt.Errorf("softauthn: make key: %w", err)
	}
	return c, nil
}

// sign makes the signature that the credential's algorithm asks for.
func (c *credential) sign(message []byte) ([]byte, error) {
	switch k := c.key.(type) {
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256(message)
		return ecdsa.SignASN1(rand.Reader, k, digest[:])
	case ed25519.PrivateKey:
		return ed25519.Sign(k, message), nil
	case *rsa.PrivateKey:
		digest := sha256.Sum256(message)
		return rsa.SignPKCS1v15(nil, k, crypto.SHA256, digest[:])
	default:
		return nil, ErrNotSupported
	}
}
