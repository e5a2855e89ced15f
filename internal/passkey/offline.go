package passkey

import (
	"bytes"
	"crypto/sha256"
	"time"
)

// RegistrationEvidence is a kept registration with what is needed to check it
// anywhere.
type RegistrationEvidence struct {
	AttestationObject, ClientDataJSON []byte
	RPID                              string
	// Origins that were allowed when it was made.
	Origins []string
	// Challenge is recomputed by the caller from what the registration was made for.
	Challenge []byte
}

// VerifyRegistrationOffline checks a kept registration without any stored
// state: everything that Register checks but what was policy on the day, the
// algorithms offered and whether the model was proved to somebody's roots. A
// statement of form packed, fido-u2f or none must be right in itself.
func VerifyRegistrationOffline(e RegistrationEvidence) (*Credential, error) {
	if err := checkChallenge(e.Challenge); err != nil {
		return nil, ErrMalformed.Because(err)
	}
	reg := &registration{credentialJSON: credentialJSON{clientDataJSON: e.ClientDataJSON, attestationObject: e.AttestationObject}}
	var err error
	if reg.client, err = parseClientData(e.ClientDataJSON); err != nil {
		return nil, ErrMalformed.Because(err)
	}
	if reg.object, err = parseAttestationObject(e.AttestationObject); err != nil {
		return nil, ErrMalformed.Because(err)
	}
	if reg.auth, err = parseAuthData(reg.object.RawAuthData, true); err != nil {
		return nil, err
	}
	if err := reg.client.check(typeCreate, e.Challenge, originRules{origins: e.Origins}); err != nil {
		return nil, err
	}
	if err := reg.auth.check(sha256.Sum256([]byte(e.RPID))); err != nil {
		return nil, err
	}
	onlyForm := &RelyingParty{cfg: Config{Attestation: AttestationMonitor}}
	if _, _, err := onlyForm.judgeAttestation(reg, time.Now()); err != nil {
		return nil, err
	}
	return &Credential{
		ID: bytes.Clone(reg.auth.credentialID), PublicKey: bytes.Clone(reg.auth.publicKey), Algorithm: int(reg.auth.key.alg),
		SignCount: reg.auth.signCount, AAGUID: reg.auth.aaguid,
		BackupEligible: reg.auth.flags&flagBackupEligible != 0, BackupState: reg.auth.flags&flagBackupState != 0,
		AttestationFormat: reg.object.Format,
	}, nil
}
