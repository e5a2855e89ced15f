package passkey

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"time"

	"sealgate/internal/fault"
)

// Assertion is a phone's answer to RequestOptions, read but not yet believed.
type Assertion struct {
	// CredentialID says which stored credential to load.
	CredentialID []byte
	// UserHandle is the User.Handle of registration as the phone reports it.
	UserHandle []byte
	// AuthenticatorData, ClientDataJSON and Signature are the evidence, byte for
	// byte as they came (WebAuthn Level 3 §5.2.2).
	AuthenticatorData []byte
	ClientDataJSON    []byte
	Signature         []byte

	client clientData
	auth   authData
}

// Verified is what a believed assertion says.
type Verified struct {
	// NewSignCount and BackupState are to be stored with the credential.
	NewSignCount uint32
	BackupState  bool
	// Flags is the flags byte of the authenticator data (WebAuthn Level 3 §6.1).
	Flags byte
	// Origin is the page it was made on, one of the configured.
	Origin string
}

// ParseAssertion reads AuthenticationResponseJSON: strict JSON, unpadded
// base64url, at most MaxResponse bytes, every member of its type. It gives
// ErrMalformed, or ErrTooLarge.
func ParseAssertion(responseJSON []byte) (*Assertion, error) {
	c, err := parseCredential(responseJSON)
	if err != nil {
		return nil, err
	}
	a := &Assertion{
		CredentialID: c.id, UserHandle: c.userHandle,
		AuthenticatorData: c.authenticatorData, ClientDataJSON: c.clientDataJSON, Signature: c.signature,
	}
	if c.attestationObject != nil {
		return nil, ErrMalformed.Because(errors.New("a registration where an assertion should be"))
	}
	if err := a.parse(); err != nil {
		return nil, err
	}
	return a, nil
}

// parse reads the parts from the evidence.
func (a *Assertion) parse() error {
	if len(a.Signature) == 0 || len(a.Signature) > maxRSABytes {
		return ErrMalformed.Because(errors.New("signature has an impossible length"))
	}
	var err error
	if a.client, err = parseClientData(a.ClientDataJSON); err != nil {
		return ErrMalformed.Because(err)
	}
	a.auth, err = parseAuthData(a.AuthenticatorData, false)
	return err
}

// Verify judges an assertion against the stored credential and the challenge
// that was asked (WebAuthn Level 3 §7.2). The signature is checked before the
// counter and the backup flags, so that only the holder of the key can cause
// ErrCounter, upon which the caller suspends the device.
//
// The caller consumes the challenge and stores NewSignCount and BackupState in
// the transaction that acts on the result; the counter's compare-and-set there
// must repeat the rule "greater, or both zero".
func (rp *RelyingParty) Verify(a *Assertion, c Credential, challenge []byte) (*Verified, error) {
	if a == nil || a.client.typ == nil {
		return nil, ErrMalformed.Because(errors.New("the assertion was not parsed"))
	}
	if !bytes.Equal(a.CredentialID, c.ID) {
		return nil, ErrUnknownCredential.Because(errors.New("the assertion is by another credential"))
	}
	// All our credentials are discoverable, so the handle is always there (§7.2 step 6).
	if subtle.ConstantTimeCompare(a.UserHandle, c.UserHandle) != 1 || len(a.UserHandle) == 0 {
		return nil, ErrUserMismatch.Because(errors.New("the user handle is not the credential's"))
	}
	rules := originRules{rp.cfg.Origins, rp.cfg.TopOrigins, rp.cfg.AllowCrossOrigin}
	if err := a.judge(c.PublicKey, challenge, rp.rpIDHash, rules); err != nil {
		return nil, err
	}
	v := a.verified()
	if a.auth.flags&flagBackupEligible != 0 != c.BackupEligible {
		return nil, ErrBackupChanged.Because(errors.New("BE is not what it was at registration"))
	}
	if (v.NewSignCount != 0 || c.SignCount != 0) && v.NewSignCount <= c.SignCount {
		return nil, ErrCounter.Because(errors.New("the signature counter did not grow"))
	}
	return v, nil
}

// maxOvertaken is by how many answers another may be overtaken. Each takes a
// finger or a face, within the minutes that a challenge lives: a person gives a
// few at most. A copy that lags behind its original by more is told apart at once.
const maxOvertaken = 4

// Overtaken says, of an answer for which Verify gave ErrCounter, that it may be
// the authenticator's own, processed after a later one of the same: its
// challenge was issued before the credential's last use, so that both were
// open together, and its counter lies a little below the stored one. The caller
// then refuses it with ErrOvertaken in place of stopping the device.
//
// A copied key gains nothing: the answer is refused, and the next one is judged
// by a challenge issued after the last use, or meets the stored counter itself;
// both stop the device. The rule is exact in time, for an honest answer to the
// earlier challenge lies before the later answer by as long as a person needs.
//
// issued is when the phone could first have learned the challenge; lastUse is the
// time of the answer that left the stored counter, zero where there was none.
func (a *Assertion) Overtaken(stored uint32, issued, lastUse time.Time) bool {
	late := a.auth.signCount
	return late != 0 && late < stored && stored-late <= maxOvertaken && !issued.IsZero() && issued.Before(lastUse)
}

// judge holds the checks that need no stored state.
func (a *Assertion) judge(coseKey, challenge []byte, rpIDHash [32]byte, rules originRules) error {
	if len(challenge) < MinChallenge || len(challenge) > MaxChallenge {
		return fault.Wrap(fault.Internal, "internal", errors.New("passkey: challenge has an impossible length"))
	}
	if err := a.client.check(typeGet, challenge, rules); err != nil {
		return err
	}
	if err := a.auth.check(rpIDHash); err != nil {
		return err
	}
	key, err := parseStoredKey(coseKey)
	if err != nil {
		return ErrKeyUnsupported.Because(err)
	}
	hash := sha256.Sum256(a.ClientDataJSON)
	var space [256]byte
	message := append(append(space[:0], a.AuthenticatorData...), hash[:]...)
	if !key.verify(message, a.Signature) {
		return ErrSignature.Because(errors.New("the signature is not by the credential key"))
	}
	return nil
}

func (a *Assertion) verified() *Verified {
	return &Verified{
		NewSignCount: a.auth.signCount, BackupState: a.auth.flags&flagBackupState != 0,
		Flags: a.auth.flags, Origin: string(a.client.origin),
	}
}

// Evidence is a kept approval with what is needed to check it anywhere.
type Evidence struct {
	AuthenticatorData, ClientDataJSON, Signature []byte
	// PublicKey is the credential's COSE_Key.
	PublicKey []byte
	RPID      string
	// Origins that were allowed when it was made.
	Origins []string
	// Challenge is recomputed by the caller from the content that was approved.
	Challenge []byte
}

// VerifyOffline checks a kept approval without any stored state: everything that
// Verify checks but the counter and the backup flags, which only had a meaning
// on the day.
func VerifyOffline(e Evidence) (*Verified, error) {
	a := Assertion{AuthenticatorData: e.AuthenticatorData, ClientDataJSON: e.ClientDataJSON, Signature: e.Signature}
	if err := a.parse(); err != nil {
		return nil, err
	}
	rules := originRules{origins: e.Origins}
	if err := a.judge(e.PublicKey, e.Challenge, sha256.Sum256([]byte(e.RPID)), rules); err != nil {
		return nil, err
	}
	return a.verified(), nil
}
