package pkitest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Card is one test citizen's card: the signing certificate, its key and what is
// printed on or known about it.
type Card struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
	Name        string
	NationalID  string // a made-up identity number; the certificate holds its last four only
	Serial16    string // the subject's serialNumber
	CardNumber  string // "TP" and 14 digits
	PIN         string
}

// CitizenOptions shape one card. The zero value of each field is the right thing.
type CitizenOptions struct {
	Name       string // "(測試用) 測試民眾" when empty
	NationalID string // "A123456789" when empty
	Serial16   string // next free number when empty
	PIN        string // "12345678" when empty

	NotBefore, NotAfter time.Time // a year back, and five years on, when zero
	KeyType             KeyType   // RSA2048

	// What is wrong with the card.
	Expired     bool // ended yesterday
	NotYetValid bool // starts tomorrow
	Revoked     bool // revoked an hour ago for key compromise
	Policy      asn1.ObjectIdentifier
	NoPolicy    bool
	KeyUsage    x509.KeyUsage // digitalSignature when zero
	NoKeyUsage  bool
	SubjectType asn1.ObjectIdentifier // citizen when nil
	CardType    string                // e.g. "mobile"; left out when empty
	IDLast4     string                // instead of NationalID's
	// SubjectExtra adds an OU, which a citizen's subject must not have.
	SubjectExtra string
	// NoDirectoryAttributes leaves the whole extension out.
	NoDirectoryAttributes bool
	// CriticalUnknown adds a critical extension nobody knows.
	CriticalUnknown bool
	// Extra is added as it is, after the usual extensions.
	Extra []pkix.Extension
	// NoOCSP and NoCRL leave the address of that source out.
	NoOCSP, NoCRL bool
}

// Citizen issues a card. A given name is used as it is: the issuer's name
// already says that this is test material.
func (h *Hierarchy) Citizen(o CitizenOptions) (*Card, error) {
	h.defaults(&o)
	key, err := newKey(o.KeyType)
	if err != nil {
		return nil, err
	}
	tpl, err := h.citizenTemplate(o)
	if err != nil {
		return nil, err
	}
	cert, err := sign(tpl, h.CA, key.Public(), h.caKey)
	if err != nil {
		return nil, err
	}
	card := &Card{
		Certificate: cert, Key: key, Name: o.Name, NationalID: o.NationalID,
		Serial16: o.Serial16, CardNumber: "TP" + o.Serial16[2:], PIN: o.PIN,
	}
	if o.Revoked {
		h.Revoke(cert, time.Now().Add(-time.Hour), ReasonKeyCompromise)
	}
	h.mu.Lock()
	h.cards = append(h.cards, card)
	h.mu.Unlock()
	return card, nil
}

func (h *Hierarchy) defaults(o *CitizenOptions) {
	if o.Name == "" {
		o.Name = "(測試用) 測試民眾"
	}
	if o.NationalID == "" {
		o.NationalID = "A123456789"
	}
	if o.PIN == "" {
		o.PIN = "12345678"
	}
	if o.Serial16 == "" {
		h.mu.Lock()
		h.nextSerial++
		o.Serial16 = fmt.Sprintf("%016d", 9000000000000000+h.nextSerial)
		h.mu.Unlock()
	}
	now := time.Now().Truncate(time.Second)
	if o.NotBefore.IsZero() {
		o.NotBefore = now.AddDate(-1, 0, 0)
		if o.NotYetValid {
			o.NotBefore = now.AddDate(0, 0, 1)
		}
	}
	if o.NotAfter.IsZero() {
		o.NotAfter = now.AddDate(5, 0, 0)
		if o.Expired {
			o.NotAfter = now.AddDate(0, 0, -1)
		}
	}
	if o.Policy == nil {
		o.Policy = h.policy
	}
	if o.KeyUsage == 0 && !o.NoKeyUsage {
		o.KeyUsage = x509.KeyUsageDigitalSignature
	}
	if o.SubjectType == nil {
		o.SubjectType = OIDSubjectCitizen
	}
	if o.IDLast4 == "" && len(o.NationalID) >= 4 {
		o.IDLast4 = o.NationalID[len(o.NationalID)-4:]
	}
}

func (h *Hierarchy) citizenTemplate(o CitizenOptions) (*x509.Certificate, error) {
	if len(o.Serial16) < 3 {
		return nil, errors.New("pkitest: Serial16 is too short")
	}
	attrs := []attr{
		{oidCountry, "TW", asn1.TagPrintableString},
		{oidCommonName, o.Name, asn1.TagUTF8String},
		{oidSerialNumber, o.Serial16, asn1.TagPrintableString},
	}
	if o.SubjectExtra != "" {
		attrs = append(attrs, attr{oidUnit, o.SubjectExtra, asn1.TagUTF8String})
	}
	subject, err := name(attrs...)
	if err != nil {
		return nil, err
	}
	tpl := &x509.Certificate{
		SerialNumber: randomSerial(), RawSubject: subject,
		NotBefore: o.NotBefore, NotAfter: o.NotAfter,
		KeyUsage: o.KeyUsage, AuthorityKeyId: h.CA.SubjectKeyId,
		ExtraExtensions: o.Extra,
	}
	if !o.NoPolicy {
		tpl.Policies = policies(o.Policy)
	}
	if h.baseURL != "" && !o.NoCRL {
		tpl.CRLDistributionPoints = []string{h.baseURL + PathCRL}
		if h.partitions > 0 {
			tpl.CRLDistributionPoints = []string{h.partitionURL(h.partition(tpl.SerialNumber)), h.baseURL + PathCRL}
		}
	}
	if h.baseURL != "" && !o.NoOCSP {
		tpl.OCSPServer = []string{h.baseURL + PathOCSP}
		tpl.IssuingCertificateURL = []string{h.baseURL + PathCA}
	}
	if !o.NoDirectoryAttributes {
		ext, err := directoryAttributes(o)
		if err != nil {
			return nil, err
		}
		tpl.ExtraExtensions = append([]pkix.Extension{ext}, tpl.ExtraExtensions...)
	}
	if o.CriticalUnknown {
		tpl.ExtraExtensions = append(tpl.ExtraExtensions, pkix.Extension{
			Id: asn1.ObjectIdentifier{2, 16, 886, 1, 100, 99, 1}, Critical: true, Value: []byte{5, 0}})
	}
	return tpl, nil
}

// directoryAttributes encodes SubjectDirectoryAttributes (RFC 5280 §4.2.1.8):
// SEQUENCE OF Attribute { type, SET OF value }.
func directoryAttributes(o CitizenOptions) (pkix.Extension, error) {
	type attribute struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}
	subjectType, err := asn1.Marshal(o.SubjectType)
	if err != nil {
		return pkix.Extension{}, err
	}
	list := []attribute{{oidSubjectType, []asn1.RawValue{{FullBytes: subjectType}}}}
	if o.CardType != "" {
		list = append(list, attribute{oidCardType, []asn1.RawValue{{Tag: asn1.TagPrintableString, Bytes: []byte(o.CardType)}}})
	}
	list = append(list, attribute{oidIDLast4, []asn1.RawValue{{Tag: asn1.TagUTF8String, Bytes: []byte(o.IDLast4)}}})
	value, err := asn1.Marshal(list)
	return pkix.Extension{Id: oidDirectoryAttributes, Value: value}, err
}

// Cards lists the cards in the order of issue.
func (h *Hierarchy) Cards() []*Card {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]*Card(nil), h.cards...)
}

// SignOptions are what HiPKI's MakeSignature adds to a PKCS7 signature.
type SignOptions struct {
	Nonce        []byte    // attribute 1.2.840.113549.1.9.25.3, left out when empty
	CardSN       string    // attribute 2.16.886.1.100.2.204, left out when empty
	SigningTime  time.Time // now when zero
	NoSignedTime bool
	Chain        []*x509.Certificate // certificates beside the signer's
}

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSigningTime   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
	oidNonce         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 25, 3}
	oidCardNumber    = asn1.ObjectIdentifier{2, 16, 886, 1, 100, 2, 204}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidRSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidECDSASHA256   = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
)

type cmsAttribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

type cmsSignerInfo struct {
	Version      int
	Issuer       asn1.RawValue
	DigestAlg    pkix.AlgorithmIdentifier
	SignedAttrs  asn1.RawValue
	SignatureAlg pkix.AlgorithmIdentifier
	Signature    []byte
}

type cmsContent struct {
	Type    asn1.ObjectIdentifier
	Content []byte `asn1:"explicit,tag:0"`
}

type cmsSignedData struct {
	Version    int
	DigestAlgs []pkix.AlgorithmIdentifier `asn1:"set"`
	Content    cmsContent
	Certs      asn1.RawValue
	Signers    []cmsSignerInfo `asn1:"set"`
}

// SignAttached makes what HiPKI returns for signatureType PKCS7: CMS SignedData
// with the content inside, SHA-256, and the attributes of SignOptions. It is
// written apart from internal/cms, so that each tests the other.
func SignAttached(card *Card, tbs []byte, o SignOptions) ([]byte, error) {
	set, err := signedAttributes(tbs, o)
	if err != nil {
		return nil, err
	}
	digest := sha256Sum(set)
	sig, err := card.Key.Sign(rand.Reader, digest, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	issuer, err := asn1.Marshal(struct {
		Issuer asn1.RawValue
		Serial *big.Int
	}{asn1.RawValue{FullBytes: card.Certificate.RawIssuer}, card.Certificate.SerialNumber})
	if err != nil {
		return nil, err
	}
	sha := pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: asn1.NullRawValue}
	sigAlg := pkix.AlgorithmIdentifier{Algorithm: oidRSA, Parameters: asn1.NullRawValue}
	if card.Certificate.PublicKeyAlgorithm == x509.ECDSA {
		sigAlg = pkix.AlgorithmIdentifier{Algorithm: oidECDSASHA256}
	}
	attrs := append([]byte{0xa0}, set[1:]...) // stored as [0] IMPLICIT, signed as SET OF
	certs := append([]byte(nil), card.Certificate.Raw...)
	for _, c := range o.Chain {
		certs = append(certs, c.Raw...)
	}
	sd, err := asn1.Marshal(cmsSignedData{
		Version: 1, DigestAlgs: []pkix.AlgorithmIdentifier{sha},
		Content: cmsContent{oidData, tbs},
		Certs:   asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: certs},
		Signers: []cmsSignerInfo{{1, asn1.RawValue{FullBytes: issuer}, sha, asn1.RawValue{FullBytes: attrs}, sigAlg, sig}},
	})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"explicit,tag:0"`
	}{oidSignedData, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: sd}})
}

// signedAttributes gives the DER SET OF Attribute.
func signedAttributes(tbs []byte, o SignOptions) ([]byte, error) {
	if o.SigningTime.IsZero() {
		o.SigningTime = time.Now()
	}
	var list []cmsAttribute
	var firstErr error
	add := func(oid asn1.ObjectIdentifier, value any) {
		der, err := asn1.Marshal(value)
		if err != nil && firstErr == nil {
			firstErr = err
		}
		list = append(list, cmsAttribute{oid, []asn1.RawValue{{FullBytes: der}}})
	}
	add(oidContentType, oidData)
	add(oidMessageDigest, sha256Sum(tbs))
	if !o.NoSignedTime {
		add(oidSigningTime, o.SigningTime.UTC().Truncate(time.Second))
	}
	if len(o.Nonce) > 0 {
		add(oidNonce, o.Nonce)
	}
	if o.CardSN != "" {
		add(oidCardNumber, asn1.RawValue{Tag: asn1.TagPrintableString, Bytes: []byte(o.CardSN)})
	}
	if firstErr != nil {
		return nil, firstErr
	}
	return asn1.MarshalWithParams(list, "set") // sorts, as DER asks of a SET OF
}

// SignPKCS1 is signatureType PKCS1: RSASSA-PKCS1-v1_5 over SHA-256 of tbs.
func SignPKCS1(card *Card, tbs []byte) ([]byte, error) {
	return card.Key.Sign(rand.Reader, sha256Sum(tbs), crypto.SHA256)
}

// SignRAW is signatureType RAW: tbs is a finished DigestInfo, padded and signed.
func SignRAW(card *Card, digestInfo []byte) ([]byte, error) {
	return card.Key.Sign(rand.Reader, digestInfo, crypto.Hash(0))
}
