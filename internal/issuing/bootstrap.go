package issuing

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"sealgate/internal/audit"
	"sealgate/internal/keyring"
)

// Lives of our own certificates. The OCSP responder cannot itself be revoked
// (id-pkix-ocsp-nocheck), so it lives shorter.
const (
	yearsRoot    = 20
	yearsIssuing = 10
	yearsTSA     = 6
	yearsOCSP    = 2
	yearsReport  = 6
)

var (
	oidExtKeyUsage  = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidTimeStamping = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
	oidOCSPNoCheck  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
)

// clockSkew is how far before now certificates begin, so that another node or
// a verifier whose clock is a little behind accepts a fresh one.
const clockSkew = time.Minute

// Bootstrap makes root, issuing CA, OCSP responder, time-stamp authority and
// signer of reports when there are none. Several nodes may do so at once: one set is kept.
func (ca *CA) Bootstrap(ctx context.Context) error {
	_, err := ca.load(ctx)
	if !errors.Is(err, ErrNoAuthority) {
		return err
	}
	var b builder
	b.ca, b.now = ca, ca.cfg.Now().UTC().Add(-clockSkew).Truncate(time.Second)
	root := b.add(Root, nil, b.rootTemplate())
	issuing := b.add(Issuing, root, b.issuingTemplate())
	b.add(OCSP, issuing, b.ocspTemplate())
	b.add(TSA, issuing, b.tsaTemplate())
	b.add(Reporter, issuing, b.reportTemplate())
	if b.err != nil {
		return fmt.Errorf("issuing: bootstrap: %w", b.err)
	}
	if err := ca.cfg.Store.CreateAuthorities(ctx, b.authorities, b.keys, b.entries); err != nil {
		return err
	}
	_, err = ca.load(ctx)
	return err
}

// builder gathers a new set of authorities; the first error stops it.
type builder struct {
	ca          *CA
	now         time.Time
	authorities []Authority
	keys        []keyring.Row
	entries     []audit.Entry
	err         error
}

// made is an authority of the set with its key at hand.
type made struct {
	name string
	cert *x509.Certificate
	key  crypto.Signer
}

// add makes key and certificate of one authority; issuer nil signs itself.
func (b *builder) add(name string, issuer *made, tpl *x509.Certificate) *made {
	if b.err != nil {
		return nil
	}
	row, key, err := b.ca.cfg.Keys.SealServiceKey(purposes[name], b.ca.cfg.Algorithm)
	if err != nil {
		b.err = err
		return nil
	}
	m := &made{name: name, key: key}
	parent, signer, issuerName := tpl, key, name
	if issuer != nil {
		parent, signer, issuerName = issuer.cert, issuer.key, issuer.name
	}
	tpl.SubjectKeyId = keyIdentifier(key.Public())
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, key.Public(), signer)
	if err == nil {
		m.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		b.err = fmt.Errorf("%s: %w", name, err)
		return nil
	}
	b.authorities = append(b.authorities, Authority{Name: name, KeyID: row.ID, Certificate: der, Issuer: issuerName, CreatedAt: row.CreatedAt})
	b.keys = append(b.keys, row)
	b.entries = append(b.entries, row.Created(), audit.New(audit.AuthorityCreated).With(audit.KeyAuthority, name).
		With(audit.KeySerial, fmt.Sprintf("%x", m.cert.SerialNumber)).With(audit.KeyKeyID, row.ID.String()))
	return m
}

func (b *builder) template(role string, years int) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(newSerial()),
		Subject: pkix.Name{
			Country:      []string{"TW"},
			Organization: []string{b.ca.cfg.Name},
			CommonName:   b.ca.cfg.Name + " " + role,
		},
		NotBefore: b.now,
		NotAfter:  b.now.AddDate(years, 0, 0).Add(-time.Second),
	}
}

func (b *builder) rootTemplate() *x509.Certificate {
	t := b.template("Root CA", yearsRoot)
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return t
}

func (b *builder) issuingTemplate() *x509.Certificate {
	t := b.template("Issuing CA", yearsIssuing)
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	t.Policies = slices.Clone(b.ca.profile.policies)
	if !slices.ContainsFunc(t.Policies, b.ca.tsaPolicyOID.Equal) {
		t.Policies = append(t.Policies, b.ca.tsaPolicyOID)
	}
	t.IssuingCertificateURL = []string{b.ca.cfg.BaseURL + PathRoot}
	t.CRLDistributionPoints = []string{b.ca.cfg.BaseURL + PathRootCRL}
	return t
}

func (b *builder) ocspTemplate() *x509.Certificate {
	t := b.template("OCSP Responder", yearsOCSP)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	t.ExtraExtensions = []pkix.Extension{{Id: oidOCSPNoCheck, Value: asn1.NullBytes}} // RFC 6960 §4.2.2.2.1
	return t
}

// tsaTemplate: RFC 3161 §2.3 wants the one extended key usage to be critical,
// which the template's own field cannot say.
func (b *builder) tsaTemplate() *x509.Certificate {
	t := b.template("Time Stamping Authority", yearsTSA)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{oidTimeStamping})
	if err != nil && b.err == nil {
		b.err = err
	}
	t.ExtraExtensions = []pkix.Extension{{Id: oidExtKeyUsage, Critical: true, Value: usage}}
	t.Policies = []x509.OID{b.ca.tsaPolicyOID}
	b.ca.addLocations(t)
	return t
}

// reportTemplate: reports are signed like documents.
func (b *builder) reportTemplate() *x509.Certificate {
	t := b.template("Verification Reports", yearsReport)
	t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	b.ca.addLocations(t)
	return t
}

// addLocations says where a certificate of the issuing CA is answered for.
func (ca *CA) addLocations(t *x509.Certificate) {
	t.OCSPServer = []string{ca.cfg.BaseURL + PathOCSP}
	t.IssuingCertificateURL = []string{ca.cfg.BaseURL + PathIssuing}
	t.CRLDistributionPoints = []string{ca.cfg.BaseURL + PathIssuingCRL}
}

// Paths below Config.BaseURL that certificates name; front/pki answers there.
const (
	PathRoot       = "/pki/root.cer"
	PathIssuing    = "/pki/issuing.cer"
	PathBundle     = "/pki/ca.pem"
	PathRootCRL    = "/pki/root.crl"
	PathIssuingCRL = "/pki/issuing.crl"
	PathOCSP       = "/pki/ocsp"
	PathTSA        = "/pki/tsa"
)

// serialSize is the length of every serial number (RFC 5280 §4.1.2.2: at most 20).
const serialSize = 20

// newSerial gives 20 random bytes whose first two bits are 01: always
// positive, always the same length, 158 bits that nobody can foresee.
func newSerial() []byte {
	b := make([]byte, serialSize)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	b[0] = b[0]&0x3f | 0x40
	return b
}

// keyIdentifier is the leftmost 160 bits of SHA-256 over the key bits (RFC 7093 §2).
func keyIdentifier(public crypto.PublicKey) []byte {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil
	}
	sum := sha256.Sum256(info.Key.RightAlign())
	return sum[:20]
}

// Anchors gives root and issuing CA, root first.
func (ca *CA) Anchors(ctx context.Context) ([]*x509.Certificate, error) {
	root, err := ca.Certificate(ctx, Root)
	if err != nil {
		return nil, err
	}
	issuing, err := ca.Certificate(ctx, Issuing)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{root, issuing}, nil
}

// AnchorsPEM is Anchors as a file for "openssl cms -verify -CAfile".
func (ca *CA) AnchorsPEM(ctx context.Context) ([]byte, error) {
	certs, err := ca.Anchors(ctx)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, c := range certs {
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}
