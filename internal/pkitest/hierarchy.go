// Package pkitest makes throw-away certificate hierarchies in the shape of
// Taiwan's citizen certificates (MOICA): a government root, the citizen CA and
// cards, with an OCSP responder and a CRL that know who was revoked.
//
// It serves tests and `sealctl softcard`. The name of every authority starts with
// "(測試用)", the mark the real test CA uses too. Nothing here may ever be a
// production trust anchor; keys are kept in the clear.
package pkitest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"
)

// Object identifiers of the Taiwanese government PKI.
var (
	// OIDPolicyLevel3 is GPKI assurance level 3, asserted by citizen certificates.
	OIDPolicyLevel3 = asn1.ObjectIdentifier{2, 16, 886, 101, 0, 3, 3}

	oidDirectoryAttributes = asn1.ObjectIdentifier{2, 5, 29, 9}
	oidSubjectType         = asn1.ObjectIdentifier{2, 16, 886, 1, 100, 2, 1}
	oidCardType            = asn1.ObjectIdentifier{2, 16, 886, 1, 100, 2, 2}
	oidIDLast4             = asn1.ObjectIdentifier{2, 16, 886, 1, 100, 2, 51}

	// OIDSubjectCitizen and OIDSubjectResident are the two subject types of MOICA.
	OIDSubjectCitizen  = asn1.ObjectIdentifier{2, 16, 886, 1, 100, 3, 1, 1}
	OIDSubjectResident = asn1.ObjectIdentifier{2, 16, 886, 1, 100, 3, 1, 9}
)

// KeyType chooses a leaf's key.
type KeyType string

// The key types. Real cards have RSA-2048.
const (
	RSA2048 KeyType = "rsa2048"
	RSA3072 KeyType = "rsa3072"
	RSA1024 KeyType = "rsa1024" // too short on purpose
	P256    KeyType = "p256"
	P384    KeyType = "p384"
)

// Options shape a Hierarchy. The zero value is a working choice.
type Options struct {
	// Bits is the RSA size of root and CA: 2048 (default, quick) or 4096 (as real).
	Bits int
	// BaseURL, without a slash at the end, is where Handler will be reachable; it
	// goes into CRL and OCSP addresses. Empty leaves those extensions out.
	BaseURL string
	// Now is the time of issue. Zero means the wall clock.
	Now time.Time
	// CAUnit replaces the CA's OU, for a CA that is not the citizen CA.
	CAUnit string
	// CAPolicy replaces the policy of CA and leaves, for wrong-policy tests.
	CAPolicy asn1.ObjectIdentifier
	// Partitions, when not zero, is the number of parts the citizen CA's list is
	// published in beside the complete one; a card names its part first, as the
	// real CA's cards do.
	Partitions int
}

// Hierarchy is a root, a CA below it, a responder, and what they know.
// Its methods are safe for concurrent use.
type Hierarchy struct {
	Root, CA   *x509.Certificate
	rootKey    crypto.Signer
	caKey      crypto.Signer
	responder  *x509.Certificate
	respKey    crypto.Signer
	baseURL    string
	policy     asn1.ObjectIdentifier
	partitions int
	mu         sync.Mutex
	cards      []*Card
	revoked    map[string]revocation // by decimal serial number
	crlNumber  int64
	nextSerial int64
	faults     ResponderFaults
}

type revocation struct {
	At     time.Time `json:"at"`
	Reason int       `json:"reason"`
}

const (
	rootName = "(測試用) Government Root Certification Authority - G3"
	// defaultCAUnit is the OU of the real test CA's name.
	defaultCAUnit = "(測試用) 內政部憑證管理中心"
	executiveYuan = "行政院"
)

// NewHierarchy makes new keys and certificates: root → citizen CA → responder.
func NewHierarchy(o Options) (*Hierarchy, error) {
	if o.Bits == 0 {
		o.Bits = 2048
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.CAUnit == "" {
		o.CAUnit = defaultCAUnit
	}
	if o.CAPolicy == nil {
		o.CAPolicy = OIDPolicyLevel3
	}
	keys, err := rsaKeys(o.Bits, o.Bits, 2048)
	if err != nil {
		return nil, err
	}
	h := &Hierarchy{
		rootKey: keys[0], caKey: keys[1], respKey: keys[2],
		baseURL: strings.TrimSuffix(o.BaseURL, "/"), policy: o.CAPolicy, partitions: o.Partitions,
		revoked: make(map[string]revocation),
	}
	if err := h.issueRoot(o.Now); err != nil {
		return nil, err
	}
	if err := h.issueCA(o.CAUnit, o.Now); err != nil {
		return nil, err
	}
	if err := h.issueResponder(o.Now); err != nil {
		return nil, err
	}
	return h, nil
}

// rsaKeys makes keys side by side: prime search dominates the cost of a hierarchy.
func rsaKeys(bits ...int) ([]*rsa.PrivateKey, error) {
	keys := make([]*rsa.PrivateKey, len(bits))
	errs := make([]error, len(bits))
	var wg sync.WaitGroup
	for i, b := range bits {
		wg.Go(func() { keys[i], errs[i] = rsa.GenerateKey(rand.Reader, b) })
	}
	wg.Wait()
	return keys, errors.Join(errs...)
}

func newKey(kt KeyType) (crypto.Signer, error) {
	switch kt {
	case RSA2048, "":
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA1024:
		return rsa.GenerateKey(rand.Reader, 1024)
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	return nil, fmt.Errorf("pkitest: key type %q", kt)
}

// attr is one single-valued RDN.
type attr struct {
	oid   asn1.ObjectIdentifier
	value string
	tag   int
}

var (
	oidCountry      = asn1.ObjectIdentifier{2, 5, 4, 6}
	oidOrganization = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidUnit         = asn1.ObjectIdentifier{2, 5, 4, 11}
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidSerialNumber = asn1.ObjectIdentifier{2, 5, 4, 5}
)

// name encodes a Name with exactly these attributes in this order.
func name(attrs ...attr) ([]byte, error) {
	type typeAndValue struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type rdnSET []typeAndValue
	var seq []rdnSET
	for _, a := range attrs {
		seq = append(seq, rdnSET{{a.oid, asn1.RawValue{Tag: a.tag, Bytes: []byte(a.value)}}})
	}
	return asn1.Marshal(seq)
}

func policies(oid asn1.ObjectIdentifier) []x509.OID {
	arcs := make([]uint64, len(oid))
	for i, a := range oid {
		arcs[i] = uint64(a)
	}
	p, err := x509.OIDFromInts(arcs)
	if err != nil {
		return nil
	}
	return []x509.OID{p}
}

func (h *Hierarchy) issueRoot(now time.Time) error {
	subject, err := name(attr{oidCountry, "TW", asn1.TagPrintableString},
		attr{oidOrganization, executiveYuan, asn1.TagUTF8String},
		attr{oidCommonName, rootName, asn1.TagUTF8String})
	if err != nil {
		return err
	}
	tpl := &x509.Certificate{
		SerialNumber: randomSerial(), RawSubject: subject,
		NotBefore: now.AddDate(-8, 0, 0), NotAfter: now.AddDate(20, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:     true, BasicConstraintsValid: true, MaxPathLen: -1,
		SubjectKeyId: keyID(h.rootKey.Public()),
	}
	h.Root, err = sign(tpl, tpl, h.rootKey.Public(), h.rootKey)
	return err
}

func (h *Hierarchy) issueCA(unit string, now time.Time) error {
	subject, err := name(attr{oidCountry, "TW", asn1.TagPrintableString},
		attr{oidOrganization, executiveYuan, asn1.TagUTF8String},
		attr{oidUnit, unit, asn1.TagUTF8String})
	if err != nil {
		return err
	}
	tpl := &x509.Certificate{
		SerialNumber: randomSerial(), RawSubject: subject,
		NotBefore: now.AddDate(-6, 0, 0), NotAfter: now.AddDate(15, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:     true, BasicConstraintsValid: true, MaxPathLen: 0, MaxPathLenZero: true,
		SubjectKeyId: keyID(h.caKey.Public()), AuthorityKeyId: h.Root.SubjectKeyId,
		Policies: policies(h.policy),
	}
	if h.baseURL != "" {
		tpl.CRLDistributionPoints = []string{h.baseURL + PathRootCRL}
	}
	h.CA, err = sign(tpl, h.Root, h.caKey.Public(), h.rootKey)
	return err
}

func (h *Hierarchy) issueResponder(now time.Time) error {
	subject, err := name(attr{oidCountry, "TW", asn1.TagPrintableString},
		attr{oidOrganization, executiveYuan, asn1.TagUTF8String},
		attr{oidUnit, "(測試用) OCSP", asn1.TagUTF8String})
	if err != nil {
		return err
	}
	tpl := &x509.Certificate{
		SerialNumber: randomSerial(), RawSubject: subject,
		NotBefore: now.AddDate(-6, 0, 0), NotAfter: now.AddDate(15, 0, 0),
		KeyUsage:       x509.KeyUsageDigitalSignature,
		ExtKeyUsage:    []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		SubjectKeyId:   keyID(h.respKey.Public()),
		AuthorityKeyId: h.CA.SubjectKeyId,
		ExtraExtensions: []pkix.Extension{{
			Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0},
		}},
	}
	h.responder, err = sign(tpl, h.CA, h.respKey.Public(), h.caKey)
	return err
}

// IssueUnder signs any template as the citizen CA; for tests that need a
// certificate no method here makes. Zero fields are filled where they must be.
func (h *Hierarchy) IssueUnder(tpl *x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
	t := *tpl
	if t.SerialNumber == nil {
		t.SerialNumber = randomSerial()
	}
	if t.NotBefore.IsZero() {
		t.NotBefore = time.Now().Add(-time.Hour)
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = t.NotBefore.AddDate(1, 0, 0)
	}
	return sign(&t, h.CA, pub, h.caKey)
}

// CASigner gives the CA's key, to forge what a test needs.
func (h *Hierarchy) CASigner() crypto.Signer { return h.caKey }

// RootSigner gives the root's key.
func (h *Hierarchy) RootSigner() crypto.Signer { return h.rootKey }

func sign(tpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// keyID is RFC 5280 §4.2.1.2 method 1.
func keyID(pub crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &spki); err != nil {
		return nil
	}
	id := sha1.Sum(spki.Key.RightAlign())
	return id[:]
}

// randomSerial gives 126 random bits, positive, like MOICA's 16 octets.
func randomSerial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] = b[0]&0x3f | 0x40
	return new(big.Int).SetBytes(b)
}
