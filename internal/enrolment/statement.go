package enrolment

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gowebpki/jcs"

	"sealgate/internal/console"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
)

// The purposes of statements: one for each kind of proof, so that a signature
// for one is none for another. A signature over anything else binds nothing.
const (
	StatementPurpose = "sealgate/bind-device" // a card signs it
	DevicePurpose    = "sealgate/add-device"  // an earlier phone signs it
	// InPersonPurpose: two registrars sign it.
	InPersonPurpose = string(console.BindInPerson)
)

// Statement is what is agreed to: this passkey, on this phone, may act for
// the holder of this card. It is kept and signed as RFC 8785 canonical JSON.
type Statement struct {
	Version int      `json:"v"`
	Purpose string   `json:"purpose"`
	Order   order.ID `json:"order"`
	// CredentialThumbprint is the SHA-256 COSE Key Thumbprint (RFC 9679) of the
	// passkey's public key, base64url without padding.
	CredentialThumbprint string `json:"credential_thumbprint"`
	CredentialID         string `json:"credential_id"` // base64url without padding
	// Registration is RegistrationHash of how the passkey was made, base64url
	// without padding: it is signed over, so that nothing of it can be
	// changed later, not even what an attestation of form "none" leaves unsigned.
	Registration string `json:"registration"`
	DeviceName   string `json:"device_name"`
	RPID         string `json:"rp_id"`
	// ByThumbprint is the thumbprint of the earlier phone's key; only where one agrees.
	ByThumbprint string `json:"by_thumbprint,omitempty"`
	// Only where registrars agree: the masked name of the person, what was checked
	// (see InPerson), and the SHA-256 of the citizen certificate, base64url
	// without padding, which no card has signed for here.
	Person       string `json:"person,omitempty"`
	DocumentKind string `json:"document_kind,omitempty"`
	DocumentTail string `json:"document_tail,omitempty"`
	CardState    string `json:"card_state,omitempty"`
	Card         string `json:"card,omitempty"`
	Time         string `json:"time"`  // RFC 3339, UTC, milliseconds: when the passkey was made
	Nonce        string `json:"nonce"` // 32 random bytes, base64url without padding
}

// RegistrationHash is SHA-256 over the SHA-256 of the attestation object and the
// SHA-256 of clientDataJSON.
func RegistrationHash(a *passkey.Attestation) [32]byte {
	object, client := sha256.Sum256(a.AttestationObject), sha256.Sum256(a.ClientDataJSON)
	return sha256.Sum256(append(object[:], client[:]...))
}

// newStatement gives the bytes to be signed. by is the COSE key of the phone
// that has to agree; nil for a card. more completes the statement; may be nil.
func newStatement(id order.ID, c *passkey.Credential, a *passkey.Attestation, deviceName, rpID string, at time.Time, by []byte, more func(*Statement)) ([]byte, error) {
	purpose, byThumbprint := StatementPurpose, ""
	if by != nil {
		sum, err := passkey.Thumbprint(by)
		if err != nil {
			return nil, err
		}
		purpose, byThumbprint = DevicePurpose, base64.RawURLEncoding.EncodeToString(sum[:])
	}
	thumbprint, err := passkey.Thumbprint(c.PublicKey)
	if err != nil {
		return nil, err
	}
	registration := RegistrationHash(a)
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	st := Statement{
		Version: 1, Purpose: purpose, Order: id,
		CredentialThumbprint: base64.RawURLEncoding.EncodeToString(thumbprint[:]),
		CredentialID:         base64.RawURLEncoding.EncodeToString(c.ID),
		Registration:         base64.RawURLEncoding.EncodeToString(registration[:]),
		DeviceName:           deviceName, RPID: rpID, ByThumbprint: byThumbprint,
		Time:  at.UTC().Format(statementTime),
		Nonce: base64.RawURLEncoding.EncodeToString(nonce),
	}
	if more != nil {
		more(&st)
	}
	raw, err := json.Marshal(st)
	if err != nil {
		return nil, err
	}
	out, err := jcs.Transform(raw)
	if err != nil {
		return nil, fmt.Errorf("enrolment: statement: %w", err)
	}
	return out, nil
}

// statementTime is how a statement says its time.
const statementTime = "2006-01-02T15:04:05.000Z"

// statedAt is when a statement was made, rounded down to a millisecond; zero
// where it does not say.
func statedAt(statement []byte) time.Time {
	st, err := ParseStatement(statement)
	if err != nil {
		return time.Time{}
	}
	at, _ := time.Parse(statementTime, st.Time) // zero with an error
	return at
}

// ParseStatement reads a statement back, for whoever checks the evidence.
func ParseStatement(raw []byte) (*Statement, error) {
	var st struct {
		Statement
		Order string `json:"order"`
	}
	if err := json.Unmarshal(raw, &st); err != nil {
		return nil, fmt.Errorf("enrolment: statement: %w", err)
	}
	id, err := order.ParseID(st.Order)
	if err != nil || st.Version != 1 || st.Purpose != StatementPurpose && st.Purpose != DevicePurpose && st.Purpose != InPersonPurpose {
		return nil, fmt.Errorf("enrolment: not a statement that binds a device")
	}
	st.Statement.Order = id
	return &st.Statement, nil
}
