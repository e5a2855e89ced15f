package evidence

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"time"

	"sealgate/internal/passkey"
	"sealgate/internal/signing"
)

// registrarPurpose is enrolment.InPersonPurpose: what two registrars sign.
const registrarPurpose = "sealgate/bind-device-in-person"

// The steps of package console at which the two registrars signed.
const (
	stepPropose = "propose"
	stepConfirm = "confirm"
)

// RegistrarAssertion is what one registrar's passkey signed over the statement.
type RegistrarAssertion struct {
	Step              string `json:"step"`          // propose, confirm
	Administrator     string `json:"administrator"` // the service's id
	CredentialID      Bytes  `json:"credential_id"`
	PublicKey         Bytes  `json:"public_key"` // COSE_Key
	Nonce             Bytes  `json:"nonce"`
	AuthenticatorData Bytes  `json:"authenticator_data"`
	ClientDataJSON    Bytes  `json:"client_data_json"`
	Signature         Bytes  `json:"signature"`
}

// Registrar is somebody whose word the verifier takes, from a list that did not
// come with the evidence (`sealctl admin list --json`).
type Registrar struct {
	ID           string
	CredentialID []byte
	PublicKey    []byte
	Since        time.Time
	Until        time.Time // removed; zero: not
}

// sizes bounds a registrar's assertion.
func (a *RegistrarAssertion) sizes(s *sizer) {
	for _, v := range []Bytes{a.CredentialID, a.PublicKey, a.AuthenticatorData, a.Signature} {
		s.size("a part of a registrar's assertion", v, 1, maxOther)
	}
	s.size("a registrar's nonce", a.Nonce, 32, 32)
	s.size("a registrar's client data", a.ClientDataJSON, 1, maxClientData)
	if len(a.Administrator) > maxText || len(a.Step) > maxText {
		*s = append(*s, errors.New("a registrar's id or step is too long"))
	}
}

// readRegistrarStatement reads what two registrars signed.
func readRegistrarStatement(raw []byte) (*statement, error) {
	st, err := readStatement(raw, registrarPurpose)
	if err == nil && st.registration == nil {
		err = errors.New("the statement does not name the registration")
	}
	return st, err
}

// registrarProof sees that two different registrars, whom the verifier accepts,
// signed the statement about this card's holder. The card itself has signed
// nothing: the link rests on their word.
func (j *judging) registrarProof() error {
	p := j.b.Proof
	card := sha256.Sum256(j.b.Card.Certificate)
	if j.st.Card != strict.EncodeToString(card[:]) {
		return errors.New("the statement names another citizen certificate")
	}
	a, b := p.Registrars[0], p.Registrars[1]
	if a.Step != stepPropose || b.Step != stepConfirm {
		return errors.New("not one registrar who proposed and one who confirmed")
	}
	if a.Administrator == b.Administrator || bytes.Equal(a.CredentialID, b.CredentialID) || bytes.Equal(a.PublicKey, b.PublicKey) {
		return errors.New("both assertions are one registrar's")
	}
	for _, one := range p.Registrars {
		if err := j.registrarAssertion(one); err != nil {
			return err
		}
	}
	if len(j.v.o.Registrars) == 0 {
		return missing("two registrars signed, not the card: whether they were the service's has to be judged by a list of their keys (--registrars)")
	}
	for _, one := range p.Registrars {
		if !j.accepted(one) {
			return errors.New("a key is not an accepted registrar's at that time")
		}
	}
	return nil
}

func (j *judging) registrarAssertion(a RegistrarAssertion) error {
	client, err := readClientData(a.ClientDataJSON)
	if err != nil {
		return err
	}
	rpID := j.v.b.Approval.RPID
	if err := ofRelyingParty(client.Origin, rpID); err != nil {
		return err
	}
	challenge := signing.AdministratorChallenge(a.Step, a.Nonce, j.b.Proof.Statement)
	_, err = passkey.VerifyOffline(passkey.Evidence{AuthenticatorData: a.AuthenticatorData, ClientDataJSON: a.ClientDataJSON, Signature: a.Signature,
		PublicKey: a.PublicKey, RPID: rpID, Origins: []string{client.Origin}, Challenge: challenge[:]})
	return err
}

// accepted looks a registrar up by id, credential and key, appointed before the
// statement and not removed by then.
func (j *judging) accepted(a RegistrarAssertion) bool {
	for _, r := range j.v.o.Registrars {
		if r.ID == a.Administrator && bytes.Equal(r.CredentialID, a.CredentialID) && bytes.Equal(r.PublicKey, a.PublicKey) &&
			!j.st.at.Before(r.Since) && (r.Until.IsZero() || j.st.at.Before(r.Until)) {
			return true
		}
	}
	return false
}
