package softauthn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"
)

// Authority is a root that signs attestation certificates of soft
// authenticators. Give Certificate to a relying party that shall trust them.
type Authority struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// attestationKey is what one model of authenticator signs attestations with.
type attestationKey struct {
	key   *ecdsa.PrivateKey
	chain [][]byte // leaf first, root last
}

// NewAuthority makes a root, valid for a day: it is for tests.
func NewAuthority() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Soft authenticator root (test)"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Authority{Certificate: cert, key: key}, nil
}

// issue makes a leaf after WebAuthn Level 3 §8.2.1.
func (a *Authority) issue(aaguid [16]byte) (*attestationKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	value, err := asn1.Marshal(aaguid[:])
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject: pkix.Name{
			Country: []string{"TW"}, Organization: []string{"Soft authenticator (test)"},
			OrganizationalUnit: []string{"Authenticator Attestation"}, CommonName: "Soft authenticator batch 1",
		},
		NotBefore: a.Certificate.NotBefore, NotAfter: a.Certificate.NotAfter,
		BasicConstraintsValid: true,
		// id-fido-gen-ce-aaguid
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 45724, 1, 1, 4}, Value: value}},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.Certificate, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	return &attestationKey{key: key, chain: [][]byte{der, a.Certificate.Raw}}, nil
}

func (k *attestationKey) sign(message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	return ecdsa.SignASN1(rand.Reader, k.key, digest[:])
}

// attestationObject makes the CBOR of WebAuthn Level 3 §6.5.4. Called with the lock held.
func (a *Authenticator) attestationObject(kind Attestation, cred *credential, authData, clientData []byte, c *Ceremony) ([]byte, error) {
	hash := sha256.Sum256(clientData)
	name, statement := "none", appendMap(nil, 0)
	var err error
	switch kind {
	case PackedSelf, PackedX5C:
		name = "packed"
		signed := append(append([]byte(nil), authData...), hash[:]...)
		statement, err = a.packed(kind == PackedX5C, cred, signed, c)
	case FIDOU2F:
		name = "fido-u2f"
		signed := append([]byte{0}, authData[:32]...)
		statement, err = a.u2f(cred, append(signed, hash[:]...), c)
	}
	if err != nil {
		return nil, err
	}
	b := appendMap(nil, 3)
	b = appendText(appendText(b, "fmt"), name)
	b = append(appendText(b, "attStmt"), statement...)
	return appendBytes(appendText(b, "authData"), authData), nil
}

// packed makes a packed statement (§8.2), by the credential key or with a certificate.
func (a *Authenticator) packed(x5c bool, cred *credential, signed []byte, c *Ceremony) ([]byte, error) {
	if !x5c {
		sig, err := cred.sign(signed)
		if err != nil {
			return nil, err
		}
		b := appendInt(appendText(appendMap(nil, 2), "alg"), cred.algorithm)
		return appendBytes(appendText(b, "sig"), c.bendAttestation(sig)), nil
	}
	key, err := a.attestationKey()
	if err != nil {
		return nil, err
	}
	sig, err := key.sign(signed)
	if err != nil {
		return nil, err
	}
	b := appendInt(appendText(appendMap(nil, 3), "alg"), ES256)
	return key.appendX5C(appendBytes(appendText(b, "sig"), c.bendAttestation(sig)), c), nil
}

// u2f makes a fido-u2f statement (§8.6); signed is its message up to the credential id.
func (a *Authenticator) u2f(cred *credential, signed []byte, c *Ceremony) ([]byte, error) {
	pub, ok := cred.key.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, ErrNotSupported
	}
	point, err := pub.Bytes()
	if err != nil {
		return nil, err
	}
	key, err := a.attestationKey()
	if err != nil {
		return nil, err
	}
	sig, err := key.sign(append(append(signed, cred.id...), point...))
	if err != nil {
		return nil, err
	}
	b := appendBytes(appendText(appendMap(nil, 2), "sig"), c.bendAttestation(sig))
	return key.appendX5C(b, c), nil
}

func (c *Ceremony) bendAttestation(sig []byte) []byte {
	if c.badAttestation {
		sig[len(sig)-1] ^= 1
	}
	return sig
}

func (k *attestationKey) appendX5C(b []byte, c *Ceremony) []byte {
	chain := k.chain[:1]
	if c.fullChain {
		chain = k.chain
	}
	b = appendArray(appendText(b, "x5c"), len(chain))
	for _, der := range chain {
		b = appendBytes(b, der)
	}
	return b
}

func (a *Authenticator) attestationKey() (*attestationKey, error) {
	if a.att != nil {
		return a.att, nil
	}
	authority := a.opts.Authority
	if authority == nil {
		var err error
		if authority, err = NewAuthority(); err != nil {
			return nil, err
		}
	}
	var err error
	a.att, err = authority.issue(a.opts.AAGUID)
	return a.att, err
}
