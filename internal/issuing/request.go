package issuing

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/certpath"
	"sealgate/internal/keyring"
)

// RequestState is where a certificate request stands.
type RequestState string

// The states of a request.
const (
	RequestWaiting RequestState = "waiting"
	RequestIssued  RequestState = "issued"
	RequestRefused RequestState = "refused" // ended without a certificate
)

// Why a request ended without a certificate.
const (
	EndedDeviceRemoved = "device_removed"
	EndedCardRevoked   = "card_revoked"
	EndedCardExpired   = "card_expired"
	EndedByOperator    = "refused_by_operator"
)

// Request asks an outside CA for a mobile certificate. It is stored in the
// transaction that binds the phone; the certificate comes when it comes.
type Request struct {
	ID, CitizenID, DeviceID, KeyID uuid.UUID
	// Renews is the certificate that the new one takes the place of; uuid.Nil
	// for a phone's first.
	Renews uuid.UUID
	// DER is the PKCS #10 request (RFC 2986), KeyHash SHA-256 of its
	// SubjectPublicKeyInfo.
	DER     []byte
	KeyHash [32]byte

	State     RequestState
	Attempts  int
	LastError string // code of the last setback
	CreatedAt time.Time

	// What is read along: the citizen certificate, the state of the device, and
	// the certificate that was issued.
	Card        []byte
	DeviceState string
	Certificate []byte
}

// Requested is the audit entry of making this request.
func (r Request) Requested() audit.Entry {
	return audit.New(audit.CertificateRequested).Citizen(r.CitizenID).Device(r.DeviceID).With(audit.KeyKeyID, r.KeyID.String())
}

// Issuance is what a phone is bound with: a key, and either its certificate or
// a request for one. Whoever asked stores all of it in its own transaction.
type Issuance struct {
	Key keyring.Row
	// Certificate is set, and Request nil, where our own CA issues.
	Certificate Certificate
	Request     *Request
}

// Entries are the audit entries of the issuance, in the order things happened.
func (i Issuance) Entries() []audit.Entry {
	key := i.Key.Created().Citizen(i.Certificate.CitizenID).Device(i.Certificate.DeviceID)
	if i.Request != nil {
		return []audit.Entry{i.Key.Created().Citizen(i.Request.CitizenID).Device(i.Request.DeviceID), i.Request.Requested()}
	}
	return []audit.Entry{key, i.Certificate.Issued()}
}

// Desk makes mobile keys together with what certifies them, whoever the issuer
// is. Binding and renewing stand before it alike.
type Desk struct {
	Keys *keyring.Keyring
	// Algorithm of the keys.
	Algorithm keyring.Algorithm
	// Issuer is our own CA.
	Issuer Issuer
	// Outside, where not nil, is asked instead: issuing.mode est or pkcs10.
	Outside *Outside
}

// Issue makes a key and its certificate or request. r.KeyID and r.PublicKey are
// filled in. renews is the certificate that is being renewed, or uuid.Nil. Like
// Issuer.Issue it has no effect that lasts.
func (d Desk) Issue(ctx context.Context, r MobileRequest, renews uuid.UUID) (Issuance, error) {
	if d.Outside != nil {
		return d.Outside.request(d.Keys, d.Algorithm, r, renews)
	}
	key, public, err := d.Keys.SealNewKey(d.Algorithm)
	if err != nil {
		return Issuance{}, err
	}
	r.KeyID, r.PublicKey = key.ID, public
	cert, err := d.Issuer.Issue(ctx, r)
	return Issuance{Key: key, Certificate: cert}, err
}

// request makes a key and the one request for it.
func (o *Outside) request(keys *keyring.Keyring, alg keyring.Algorithm, r MobileRequest, renews uuid.UUID) (Issuance, error) {
	now := o.cfg.Now().UTC().Truncate(time.Microsecond)
	if r.Citizen == nil {
		return Issuance{}, ErrProfile.Because(errors.New("a citizen certificate is needed"))
	}
	if !slices.Contains(o.cfg.Profile.algorithms, alg) {
		return Issuance{}, ErrProfile.Because(fmt.Errorf("key of kind %s is not among %v", alg, o.cfg.Profile.algorithms))
	}
	if !now.Before(r.Citizen.NotAfter) {
		return Issuance{}, ErrProfile.Because(errors.New("the citizen certificate has ended"))
	}
	info, err := certpath.ParseCitizen(r.Citizen)
	if err != nil {
		return Issuance{}, ErrProfile.Because(err)
	}
	extensions, err := o.cfg.Profile.requested(info)
	if err != nil {
		return Issuance{}, ErrProfile.Because(err)
	}
	key, public, der, err := keys.SealNewKeyWithRequest(alg, keyring.RequestContent{RawSubject: r.Citizen.RawSubject, Extensions: extensions})
	if err != nil {
		return Issuance{}, err
	}
	hash, err := keyHash(public)
	if err != nil {
		return Issuance{}, err
	}
	return Issuance{Key: key, Request: &Request{ID: uuid.Must(uuid.NewV7()), CitizenID: r.CitizenID, DeviceID: r.DeviceID, KeyID: key.ID,
		Renews: renews, DER: der, KeyHash: hash, State: RequestWaiting, CreatedAt: now}}, nil
}

// keyHash is SHA-256 of a key's SubjectPublicKeyInfo: by it a certificate finds
// its request.
func keyHash(public crypto.PublicKey) ([32]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	return sha256.Sum256(der), err
}

// requested are the extensions a request asks for (RFC 2985 §5.4.2): what the
// profile wants of the certificate beyond what every CA sets by itself.
func (p *Profile) requested(info certpath.CitizenInfo) ([]pkix.Extension, error) {
	usage, err := asn1.Marshal(usageBits(p.usage))
	if err != nil {
		return nil, err
	}
	type policyInformation struct{ Policy asn1.RawValue }
	var list []policyInformation
	for _, oid := range p.policies {
		content, err := oid.MarshalBinary()
		if err != nil {
			return nil, err
		}
		list = append(list, policyInformation{asn1.RawValue{Tag: asn1.TagOID, Bytes: content}})
	}
	policies, err := asn1.Marshal(list)
	if err != nil {
		return nil, err
	}
	attributes, err := p.directoryAttributes(info)
	return []pkix.Extension{{Id: oidKeyUsage, Critical: true, Value: usage}, {Id: oidPolicies, Value: policies}, attributes}, err
}

var (
	oidKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidPolicies = asn1.ObjectIdentifier{2, 5, 29, 32}
)

// usageBits writes a key usage of the first eight bits (RFC 5280 §4.2.1.3), the
// last bit being the last that is set, as DER has it.
func usageBits(usage x509.KeyUsage) asn1.BitString {
	octet := bits.Reverse8(uint8(usage))
	return asn1.BitString{Bytes: []byte{octet}, BitLength: 8 - bits.TrailingZeros8(octet)}
}
