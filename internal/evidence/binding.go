package evidence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/passkey"
	"sealgate/internal/signing"
)

// judging is one binding while it is looked at.
type judging struct {
	v      *verification
	b      *Binding
	prefix string // of its links' names
	card   *x509.Certificate
	st     *statement // nil when the proof cannot be read
	// credential is what was registered; nil when that cannot be read.
	credential *passkey.Credential
	// names is what the statement has to name: for the phone that approved, what
	// the approval says.
	id, key []byte
}

// judgeBinding follows a binding down to its card, and tells of each link.
func (v *verification) judgeBinding(ctx context.Context, b *Binding, prefix string) *judging {
	j := &judging{v: v, b: b, prefix: prefix}
	registrationErr := j.readRegistration()
	if prefix == "" {
		j.id, j.key = v.b.Approval.CredentialID, v.b.Approval.COSEKey
	} else if j.credential != nil {
		j.id, j.key = j.credential.ID, j.credential.PublicKey
	}
	var cardErr, statementErr error
	if j.card, cardErr = x509.ParseCertificate(b.Card.Certificate); cardErr != nil {
		j.card = nil
	}
	kind := KindCard
	if b.Proof != nil {
		kind = b.Proof.Kind
	}
	switch {
	case kind == KindDevice:
		j.st, statementErr = readDeviceStatement(b.Proof.Statement)
	case kind == KindRegistrar:
		j.st, statementErr = readRegistrarStatement(b.Proof.Statement)
	case j.card != nil:
		j.st, statementErr = readProof(b.cms(), j.card)
	}
	j.judgeCard(ctx)
	switch {
	case kind == KindRegistrar:
		if statementErr == nil {
			statementErr = j.statementNames()
		}
		if statementErr == nil {
			statementErr = j.registrarProof()
		}
		v.report.judge(prefix+LinkRegistrars, "two accepted registrars signed a statement that names this credential and this card's holder; this rests on them, the card signed nothing", statementErr)
	case kind == KindDevice:
		j.judgeDeviceProof(ctx, statementErr)
	case j.card == nil:
		v.report.add(prefix+LinkStatement, Failed, errCardUnreadable.Error())
	default:
		if statementErr == nil {
			statementErr = j.statementNames()
		}
		v.report.judge(prefix+LinkStatement, "the card signed a statement that names this credential", statementErr)
	}
	if registrationErr == nil {
		registrationErr = j.registration()
	}
	v.report.judge(prefix+LinkRegistration, "the passkey was made for this relying party with user verification", registrationErr)
	return j
}

// cms is the card's message, wherever the file's version has it.
func (b *Binding) cms() Bytes {
	if b.Proof != nil {
		return b.Proof.CMS
	}
	return b.Card.Proof
}

var errCardUnreadable = errors.New("the citizen certificate cannot be read")

// judgeCard looks at the card behind a binding: chain and revocation.
func (j *judging) judgeCard(ctx context.Context) {
	report := j.v.report
	if j.card == nil {
		for _, link := range []string{LinkCardChain, LinkRevocation} {
			report.add(j.prefix+link, Failed, errCardUnreadable.Error())
		}
		return
	}
	at := j.v.o.At
	if j.st != nil {
		if j.prefix == "" {
			report.BoundAt = j.st.at
		}
		if at.IsZero() {
			at = j.st.at
		}
	}
	chainErr := j.chain(ctx, at)
	reason := "the citizen certificate leads to a given anchor"
	if !at.IsZero() {
		reason += " at " + at.UTC().Format(time.RFC3339)
	}
	report.judge(j.prefix+LinkCardChain, reason, chainErr)
	if chainErr != nil {
		report.add(j.prefix+LinkRevocation, Indeterminate, "there is no chain whose revocation could be judged")
		return
	}
	report.judge(j.prefix+LinkRevocation, "kept answers say that nobody in the chain was revoked", j.revocation(ctx, at))
}

// judgeDeviceProof looks at the phone that added this one: its own binding
// first, then what it signed.
func (j *judging) judgeDeviceProof(ctx context.Context, statementErr error) {
	by := j.v.judgeBinding(ctx, j.b.Proof.By, j.prefix+AddedBy)
	if statementErr == nil {
		statementErr = j.statementNames()
	}
	if statementErr == nil {
		statementErr = j.deviceProof(by)
	}
	j.v.report.judge(j.prefix+LinkDeviceProof, "an earlier phone signed a statement that names this credential, with user verification", statementErr)
}

// deviceProof sees that the earlier phone's key signed the statement, for a
// phone of the same person, after it was bound itself.
func (j *judging) deviceProof(by *judging) error {
	p := j.b.Proof
	if by.credential == nil {
		return errors.New("the key of the earlier phone cannot be read")
	}
	thumbprint, err := passkey.Thumbprint(by.credential.PublicKey)
	switch {
	case err != nil:
		return err
	case j.st.ByThumbprint != strict.EncodeToString(thumbprint[:]):
		return errors.New("the statement names another earlier phone")
	case !bytes.Equal(j.b.Card.Certificate, p.By.Card.Certificate):
		return errors.New("another card stands behind the earlier phone")
	case by.st == nil || j.st.at.Before(by.st.at):
		return errors.New("the earlier phone was not bound yet")
	}
	client, err := readClientData(p.ClientDataJSON)
	if err != nil {
		return err
	}
	if err := ofRelyingParty(client.Origin, j.v.b.Approval.RPID); err != nil {
		return err
	}
	challenge := signing.DeviceProofChallenge(p.Statement)
	_, err = passkey.VerifyOffline(passkey.Evidence{AuthenticatorData: p.AuthenticatorData, ClientDataJSON: p.ClientDataJSON, Signature: p.Signature,
		PublicKey: by.credential.PublicKey, RPID: j.v.b.Approval.RPID, Origins: []string{client.Origin}, Challenge: challenge[:]})
	return err
}

// chain builds the card's path and sees that the bundle's issuers are its CAs.
func (j *judging) chain(ctx context.Context, at time.Time) error {
	if at.IsZero() {
		return missing("without a statement there is no time to judge for")
	}
	if _, err := certpath.ParseCitizen(j.card); err != nil {
		return errors.New("not a citizen certificate")
	}
	path, err := path(ctx, j.card, j.b.Card.Issuers, j.v.o.Anchors, at, certpath.CitizenProfile(), nil)
	if err != nil {
		return err
	}
	if j.prefix == "" {
		sum := sha256.Sum256(path.Anchor.Raw)
		j.v.report.Anchor = hex.EncodeToString(sum[:])
	}
	return nil
}

// revocation judges the kept answers, each of which must have said something.
func (j *judging) revocation(ctx context.Context, at time.Time) error {
	stored := []certpath.StoredEvidence{}
	absent := false
	for _, a := range j.b.Card.Revocation {
		raw := j.v.answer(a)
		if raw == nil {
			absent = true
			continue
		}
		stored = append(stored, certpath.StoredEvidence{Source: a.Source, Raw: raw})
	}
	result, err := path(ctx, j.card, j.b.Card.Issuers, j.v.o.Anchors, at, certpath.CitizenProfile(), stored)
	switch {
	case err != nil && absent && errors.Is(err, certpath.ErrStatusUnknown):
		return missing("a revocation list is named by its hash alone; bring it from the CA's archive")
	case err != nil:
		return err
	case len(j.b.Card.Revocation) == 0:
		return missing("no answer was kept")
	}
	for _, a := range j.b.Card.Revocation {
		if raw := j.v.answer(a); raw != nil && !slices.ContainsFunc(result.Revocation, func(e certpath.Evidence) bool {
			sum := sha256.Sum256(e.Certificate.Raw)
			return bytes.Equal(e.Raw, raw) && bytes.Equal(sum[:], a.Certificate) && e.Source == a.Source
		}) {
			return errors.New("a kept answer does not speak of the certificate that it is said to speak of")
		}
	}
	if absent {
		return missing("a revocation list is named by its hash alone; bring it from the CA's archive")
	}
	return nil
}

// readRegistration judges the registration by itself and gives its credential.
func (j *judging) readRegistration() error {
	r, rpID := j.b.Registration, j.v.b.Approval.RPID
	client, err := readClientData(r.ClientDataJSON)
	if err != nil {
		return err
	}
	challenge, err := client.challenge()
	if err != nil {
		return err
	}
	if err := ofRelyingParty(client.Origin, rpID); err != nil {
		return err
	}
	j.credential, err = passkey.VerifyRegistrationOffline(passkey.RegistrationEvidence{AttestationObject: r.AttestationObject,
		ClientDataJSON: r.ClientDataJSON, RPID: rpID, Origins: []string{client.Origin}, Challenge: challenge})
	if err != nil {
		j.credential = nil
	}
	return err
}

// registration sees that the registration is the one that was agreed to, made
// for the enrol order that the statement names.
func (j *judging) registration() error {
	r := j.b.Registration
	if j.st != nil && j.st.registration != nil {
		object, client := sha256.Sum256(r.AttestationObject), sha256.Sum256(r.ClientDataJSON)
		if sum := sha256.Sum256(append(object[:], client[:]...)); !bytes.Equal(sum[:], j.st.registration) {
			return errors.New("another registration was signed over")
		}
	}
	if !bytes.Equal(j.credential.ID, j.id) || !bytes.Equal(j.credential.PublicKey, j.key) {
		return errors.New("another credential was registered")
	}
	if len(r.Content) == 0 {
		return missing("the enrol order's content is not in the bundle")
	}
	client, err := readClientData(r.ClientDataJSON)
	if err != nil {
		return err
	}
	challenge, err := client.challenge()
	if err != nil {
		return err
	}
	if want := signing.Challenge(r.Content, nil); !bytes.Equal(want[:], challenge) {
		return errors.New("the registration answered another order")
	}
	var enrol struct {
		Kind  string `json:"kind"`
		Order string `json:"order"`
	}
	if err := json.Unmarshal(r.Content, &enrol); err != nil || enrol.Kind != "enrol" {
		return errors.New("the registration was not made for an enrol order")
	}
	if j.st != nil && j.st.Order != enrol.Order {
		return errors.New("the statement is about another enrol order")
	}
	return nil
}

// statementNames compares the statement with the credential.
func (j *judging) statementNames() error {
	thumbprint, err := passkey.Thumbprint(j.key)
	if err != nil {
		return err
	}
	switch {
	case j.st.Thumbprint != strict.EncodeToString(thumbprint[:]):
		return errors.New("the statement names another key")
	case j.st.CredentialID != strict.EncodeToString(j.id):
		return errors.New("the statement names another credential")
	case j.st.RPID != j.v.b.Approval.RPID:
		return errors.New("the statement names another relying party")
	}
	return nil
}
