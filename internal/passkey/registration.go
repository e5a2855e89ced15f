package passkey

import (
	"bytes"
	"errors"
	"slices"
	"time"
)

// Register judges RegistrationResponseJSON, a phone's answer to CreationOptions
// for the same user and challenge (WebAuthn Level 3 §7.1). It gives the
// credential to store and the raw evidence to keep. That the credential id is
// not yet known is the caller's to check, by a unique index.
func (rp *RelyingParty) Register(responseJSON []byte, u User, challenge []byte) (*Credential, *Attestation, error) {
	if err := checkChallenge(challenge); err != nil {
		return nil, nil, err
	}
	if len(u.Handle) == 0 || len(u.Handle) > MaxUserHandle {
		return nil, nil, errors.New("passkey: user handle has an impossible length")
	}
	reg, err := parseRegistration(responseJSON)
	if err != nil {
		return nil, nil, err
	}
	rules := originRules{rp.cfg.Origins, rp.cfg.TopOrigins, rp.cfg.AllowCrossOrigin}
	if err := reg.client.check(typeCreate, challenge, rules); err != nil {
		return nil, nil, err
	}
	if err := reg.auth.check(rp.rpIDHash); err != nil {
		return nil, nil, err
	}
	if !slices.Contains(rp.cfg.Algorithms, int(reg.auth.key.alg)) {
		return nil, nil, ErrKeyUnsupported.Because(errors.New("the algorithm was not offered"))
	}
	attested, facts, err := rp.judgeAttestation(reg, time.Now())
	if err != nil {
		return nil, nil, err
	}
	c := &Credential{
		ID:                bytes.Clone(reg.auth.credentialID),
		PublicKey:         bytes.Clone(reg.auth.publicKey),
		Algorithm:         int(reg.auth.key.alg),
		SignCount:         reg.auth.signCount,
		AAGUID:            reg.auth.aaguid,
		BackupEligible:    reg.auth.flags&flagBackupEligible != 0,
		BackupState:       reg.auth.flags&flagBackupState != 0,
		Transports:        reg.transports,
		AttestationFormat: reg.object.Format,
		Attested:          attested,
		UserHandle:        bytes.Clone(u.Handle),
		Facts:             facts,
	}
	return c, &Attestation{ClientDataJSON: reg.clientDataJSON, AttestationObject: reg.attestationObject}, nil
}

// registration is a registration response, read but not yet believed.
type registration struct {
	credentialJSON
	client clientData
	object attestationObject
	auth   authData
}

// parseRegistration reads every part to its last byte.
func parseRegistration(responseJSON []byte) (*registration, error) {
	c, err := parseCredential(responseJSON)
	if err != nil {
		return nil, err
	}
	reg := &registration{credentialJSON: c}
	if reg.client, err = parseClientData(c.clientDataJSON); err != nil {
		return nil, ErrMalformed.Because(err)
	}
	if reg.object, err = parseAttestationObject(c.attestationObject); err != nil {
		return nil, ErrMalformed.Because(err)
	}
	if reg.auth, err = parseAuthData(reg.object.RawAuthData, true); err != nil {
		return nil, err
	}
	if !bytes.Equal(reg.auth.credentialID, c.id) {
		return nil, ErrMalformed.Because(errors.New("the attested credential id is not the response's id"))
	}
	// Some browsers also send authenticatorData on its own: then it is the same.
	if c.authenticatorData != nil && !bytes.Equal(c.authenticatorData, reg.object.RawAuthData) {
		return nil, ErrMalformed.Because(errors.New("authenticatorData differs from the attestation object's"))
	}
	return reg, nil
}
