package evidence

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"time"

	"sealgate/internal/cms"
)

// What is signed to bind a phone: enrolment.StatementPurpose by a card,
// enrolment.DevicePurpose by an earlier phone.
const (
	statementPurpose = "sealgate/bind-device"
	devicePurpose    = "sealgate/add-device"
)

// statement is what was signed (package enrolment makes it).
type statement struct {
	Version      int    `json:"v"`
	Purpose      string `json:"purpose"`
	Order        string `json:"order"`
	Thumbprint   string `json:"credential_thumbprint"`
	CredentialID string `json:"credential_id"`
	Registration string `json:"registration"`
	RPID         string `json:"rp_id"`
	ByThumbprint string `json:"by_thumbprint"` // of the earlier phone's key
	Card         string `json:"card"`          // hash of the citizen certificate, where registrars signed
	Time         string `json:"time"`

	at           time.Time
	registration []byte // nil in statements that do not have it
}

// plainProof brings the card component's message to the one form that bundles
// have: DER, the card's certificate and no other, the signer as it signed. The
// signature does not cover the rest.
func plainProof(der, certificate []byte) ([]byte, error) {
	card, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, err
	}
	sd, err := cms.Parse(der)
	if err != nil {
		return nil, err
	}
	return cms.AssembleAttached(cms.OIDData, sd.Content, []*x509.Certificate{card}, sd.Signers...)
}

// readProof verifies the card's signature and reads what it signed. The
// statement is given with an error too when it can be read.
func readProof(der []byte, card *x509.Certificate) (*statement, error) {
	sd, err := cms.Parse(der)
	if err != nil {
		return nil, err
	}
	if len(sd.Signers) != 1 || !sd.Attached || !sd.ContentType.Equal(cms.OIDData) {
		return nil, errors.New("the proof is not one signature with its content inside")
	}
	st, err := readStatement(sd.Content, statementPurpose)
	if err != nil {
		return nil, err
	}
	plain, err := plainProof(der, card.Raw)
	if err != nil || !bytes.Equal(plain, der) {
		return st, errors.New("the proof is not in the form that bundles have")
	}
	results, err := sd.Verify(cms.VerifyInput{})
	if err == nil {
		err = cms.Good(results)
	}
	if err == nil && !results[0].Certificate.Equal(card) {
		err = errors.New("another certificate signed the statement")
	}
	return st, err
}

// readDeviceStatement reads what an earlier phone signed.
func readDeviceStatement(raw []byte) (*statement, error) {
	st, err := readStatement(raw, devicePurpose)
	if err == nil && st.registration == nil {
		err = errors.New("the statement does not name the registration")
	}
	return st, err
}

func readStatement(raw []byte, purpose string) (*statement, error) {
	st := &statement{}
	if err := json.Unmarshal(raw, st); err != nil {
		return nil, errors.New("what was signed is no statement")
	}
	if st.Version != 1 || st.Purpose != purpose {
		return nil, errors.New("what was signed binds no phone")
	}
	var err error
	if st.at, err = time.Parse(time.RFC3339, st.Time); err != nil {
		return nil, errors.New("the statement has no time")
	}
	if st.Registration != "" {
		if st.registration, err = strict.DecodeString(st.Registration); err != nil {
			return nil, errors.New("the statement's hash of the registration cannot be read")
		}
	}
	return st, nil
}
