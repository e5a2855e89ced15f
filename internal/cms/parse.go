package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// SignedData is a parsed ContentInfo with SignedData (RFC 5652 §3, §5.1).
type SignedData struct {
	Raw         []byte
	ContentType asn1.ObjectIdentifier
	// Attached tells whether the content is inside; Content is then it.
	Attached bool
	Content  []byte
	// ContentSize is set by ParseStream, which keeps no content.
	ContentSize  int64
	Certificates []*x509.Certificate
	// CRLs are the embedded revocation lists, OCSPs the embedded OCSP responses
	// (RFC 5940), DER, unparsed.
	CRLs    [][]byte
	OCSPs   [][]byte
	Signers []*SignerInfo

	layout   *layout
	streamed map[crypto.Hash][]byte // of content that went by in ParseStream
}

// SignerInfo is one signature (RFC 5652 §5.3). It comes from Parse, or from
// TBS.Sign; then its attributes can be read only after Assemble and Parse.
type SignerInfo struct {
	raw          []byte // as received; nil for a new or changed one
	version      int
	sid          []byte // whole element: IssuerAndSerialNumber, or [0] SubjectKeyIdentifier
	issuer       []byte // from sid, when parsed
	serial       *big.Int
	keyID        []byte
	digestAlg    algorithmID
	signedAttrs  []byte // SET OF with its universal tag, else as received; nil without
	attributes   []Attribute
	signatureAlg algorithmID
	signature    []byte
	unsigned     []Attribute
	layout       *signerLayout // nil for one that was not parsed
}

// Signature is the signature value; a time-stamp token's imprint is made over it.
func (si *SignerInfo) Signature() []byte { return si.signature }

// SignedBytes are the bytes the signature was made over: the DER of the signed
// attributes, or nil when there are none.
func (si *SignerInfo) SignedBytes() []byte { return si.signedAttrs }

// Unsigned lists the unsigned attributes.
func (si *SignerInfo) Unsigned() []Attribute { return append([]Attribute(nil), si.unsigned...) }

// WithUnsigned returns a copy with one more unsigned attribute, e.g. a time-stamp
// token. The signature stays as it is.
func (si *SignerInfo) WithUnsigned(a Attribute) *SignerInfo {
	c := *si
	c.raw, c.layout = nil, nil
	c.unsigned = append(si.Unsigned(), a)
	return &c
}

// WithoutUnsigned returns a copy without unsigned attributes: the signature as it
// was made.
func (si *SignerInfo) WithoutUnsigned() *SignerInfo {
	c := *si
	c.raw, c.layout, c.unsigned = nil, nil, nil
	return &c
}

// SignedAttribute gives the one value of a signed attribute, as a whole DER
// element. ok is false when it is missing, repeated, or has several values.
func (si *SignerInfo) SignedAttribute(oid asn1.ObjectIdentifier) (value []byte, ok bool) {
	return single(si.attributes, oid)
}

// UnsignedAttribute does the same for unsigned ones.
func (si *SignerInfo) UnsignedAttribute(oid asn1.ObjectIdentifier) (value []byte, ok bool) {
	return single(si.unsigned, oid)
}

func single(attrs []Attribute, oid asn1.ObjectIdentifier) (value []byte, ok bool) {
	for _, a := range attrs {
		if !a.Type.Equal(oid) {
			continue
		}
		if ok || len(a.Values) != 1 {
			return nil, false
		}
		value, ok = a.Values[0], true
	}
	return value, ok
}

func has(attrs []Attribute, oid asn1.ObjectIdentifier) bool {
	for _, a := range attrs {
		if a.Type.Equal(oid) {
			return true
		}
	}
	return false
}

// SigningTime is the time the signer claims; zero when there is none.
func (si *SignerInfo) SigningTime() time.Time {
	if v, ok := si.SignedAttribute(OIDSigningTime); ok {
		if t, err := decodeTime(v); err == nil {
			return t
		}
	}
	return time.Time{}
}

// marshal encodes the SignerInfo; a parsed, unchanged one byte for byte.
func (si *SignerInfo) marshal() ([]byte, error) {
	if si.raw != nil {
		return si.raw, nil
	}
	var signed, unsigned []byte
	if si.signedAttrs != nil {
		signed = bytes.Clone(si.signedAttrs)
		signed[0] = tagContext0 // stored as [0] IMPLICIT, signed as SET OF (RFC 5652 §5.4)
	}
	if len(si.unsigned) > 0 {
		var err error
		if unsigned, err = marshalAttributes(tagContext1, si.unsigned); err != nil {
			return nil, err
		}
	}
	return tlv(tagSequence, []byte{tagInteger, 1, byte(si.version)}, si.sid, si.digestAlg.raw,
		signed, si.signatureAlg.raw, tlv(tagOctets, si.signature), unsigned), nil
}

// Parse reads DER. Trailing bytes, indefinite lengths, unknown versions, and more
// than 64 signers, certificates or attributes are refused. Nothing is verified.
func Parse(der []byte) (*SignedData, error) {
	if len(der) > MaxBytes {
		return nil, ErrMalformed.Because(errors.New("too large"))
	}
	sd := &SignedData{Raw: der}
	err := sd.read(der)
	if err == nil {
		err = sd.attach(der)
	}
	if err != nil {
		return nil, ErrMalformed.Because(err)
	}
	return sd, nil
}

var errForm = errors.New("malformed SignedData")

func (sd *SignedData) read(der []byte) error {
	in := cryptobyte.String(der)
	var info, wrapped, body, digestAlgs, certs, crls, signers cryptobyte.String
	var oid asn1.ObjectIdentifier
	var version int
	var hasCerts, hasCRLs bool
	if !in.ReadASN1(&info, cbasn1.SEQUENCE) || !in.Empty() {
		return errors.New("not one DER element")
	}
	if !info.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(OIDSignedData) {
		return errors.New("not SignedData")
	}
	if !info.ReadASN1(&wrapped, explicit(0)) || !info.Empty() ||
		!wrapped.ReadASN1(&body, cbasn1.SEQUENCE) || !wrapped.Empty() ||
		!body.ReadASN1Integer(&version) || !body.ReadASN1(&digestAlgs, cbasn1.SET) {
		return errForm
	}
	if version < 1 || version > 5 {
		return fmt.Errorf("version %d", version)
	}
	for n := 0; !digestAlgs.Empty(); n++ {
		if _, ok := readAlgorithm(&digestAlgs); !ok || n == maxSigners {
			return errForm
		}
	}
	if err := sd.readContent(&body); err != nil {
		return err
	}
	if !body.ReadOptionalASN1(&certs, &hasCerts, explicit(0)) || !body.ReadOptionalASN1(&crls, &hasCRLs, explicit(1)) ||
		!body.ReadASN1(&signers, cbasn1.SET) || !body.Empty() {
		return errForm
	}
	if err := sd.readCertificates(certs); err != nil {
		return err
	}
	if err := sd.readCRLs(crls); err != nil {
		return err
	}
	for !signers.Empty() {
		if len(sd.Signers) == maxSigners {
			return errors.New("too many signers")
		}
		si, err := readSignerInfo(&signers)
		if err != nil {
			return err
		}
		sd.Signers = append(sd.Signers, si)
	}
	return nil
}

// readContent reads EncapsulatedContentInfo (RFC 5652 §5.2).
func (sd *SignedData) readContent(body *cryptobyte.String) error {
	var seq, wrapped, octets cryptobyte.String
	if !body.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1ObjectIdentifier(&sd.ContentType) ||
		!seq.ReadOptionalASN1(&wrapped, &sd.Attached, explicit(0)) || !seq.Empty() {
		return errForm
	}
	if sd.Attached {
		if !wrapped.ReadASN1(&octets, cbasn1.OCTET_STRING) || !wrapped.Empty() {
			return errors.New("content is not one OCTET STRING")
		}
		sd.Content = octets
		if sd.Content == nil {
			sd.Content = []byte{}
		}
	}
	return nil
}

// readCertificates reads CertificateSet (RFC 5652 §10.2.3). Attribute and other
// certificates are passed over, and so are certificates crypto/x509 does not
// take: whoever needs one of them will notice that it is missing.
func (sd *SignedData) readCertificates(set cryptobyte.String) error {
	for n := 0; !set.Empty(); n++ {
		var raw cryptobyte.String
		var tag cbasn1.Tag
		if n == maxCerts || !set.ReadAnyASN1Element(&raw, &tag) {
			return errors.New("malformed or too many certificates")
		}
		if tag != cbasn1.SEQUENCE {
			continue
		}
		if len(raw) > maxCertBytes {
			return errors.New("certificate too large")
		}
		if c, err := x509.ParseCertificate(raw); err == nil {
			sd.Certificates = append(sd.Certificates, c)
		}
	}
	return nil
}

func (sd *SignedData) readCRLs(set cryptobyte.String) error {
	for n := 0; !set.Empty(); n++ {
		var raw cryptobyte.String
		var tag cbasn1.Tag
		if n == maxCerts || !set.ReadAnyASN1Element(&raw, &tag) {
			return errors.New("malformed or too many CRLs")
		}
		if tag == cbasn1.SEQUENCE {
			sd.CRLs = append(sd.CRLs, raw)
		} else if ocsp := otherRevocation(raw); ocsp != nil {
			sd.OCSPs = append(sd.OCSPs, ocsp)
		}
	}
	return nil
}

func readSignerInfo(list *cryptobyte.String) (*SignerInfo, error) {
	var raw, seq, signature, signed cryptobyte.String
	si := &SignerInfo{}
	if !list.ReadASN1Element(&raw, cbasn1.SEQUENCE) {
		return nil, errForm
	}
	si.raw = raw
	if !raw.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1Integer(&si.version) {
		return nil, errForm
	}
	if err := si.readID(&seq); err != nil {
		return nil, err
	}
	var ok bool
	if si.digestAlg, ok = readAlgorithm(&seq); !ok {
		return nil, errForm
	}
	if seq.PeekASN1Tag(explicit(0)) {
		if !seq.ReadASN1Element(&signed, explicit(0)) {
			return nil, errForm
		}
		// The signature covers the SET OF tag, the rest as it was received.
		si.signedAttrs = bytes.Clone(signed)
		si.signedAttrs[0] = tagSet
		var err error
		if si.attributes, err = readAttributes(signed, explicit(0)); err != nil {
			return nil, err
		}
	}
	if si.signatureAlg, ok = readAlgorithm(&seq); !ok {
		return nil, errForm
	}
	if !seq.ReadASN1(&signature, cbasn1.OCTET_STRING) {
		return nil, errForm
	}
	si.signature = signature
	if !seq.Empty() {
		var err error
		if si.unsigned, err = readAttributes(seq, explicit(1)); err != nil {
			return nil, err
		}
	}
	return si, nil
}

// readID reads SignerIdentifier; the version must fit the choice (RFC 5652 §5.3).
func (si *SignerInfo) readID(seq *cryptobyte.String) error {
	var element, body cryptobyte.String
	var tag cbasn1.Tag
	if !seq.ReadAnyASN1Element(&element, &tag) {
		return errForm
	}
	si.sid = element
	switch {
	case tag == cbasn1.SEQUENCE && si.version == 1:
		var issuer cryptobyte.String
		si.serial = new(big.Int)
		if !element.ReadASN1(&body, cbasn1.SEQUENCE) || !body.ReadASN1Element(&issuer, cbasn1.SEQUENCE) ||
			!body.ReadASN1Integer(si.serial) || !body.Empty() {
			return errForm
		}
		si.issuer = issuer
	case tag == cbasn1.Tag(0).ContextSpecific() && si.version == 3:
		if !element.ReadASN1(&body, tag) || len(body) == 0 {
			return errForm
		}
		si.keyID = body
	default:
		return errors.New("signer identifier and version contradict each other")
	}
	return nil
}

// readAttributes reads one element with the given tag as SET SIZE (1..MAX) OF Attribute.
func readAttributes(in cryptobyte.String, tag cbasn1.Tag) ([]Attribute, error) {
	var set cryptobyte.String
	if !in.ReadASN1(&set, tag) || !in.Empty() || set.Empty() {
		return nil, errForm
	}
	var attrs []Attribute
	for !set.Empty() {
		var seq, values cryptobyte.String
		var a Attribute
		if len(attrs) == maxAttributes || !set.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1ObjectIdentifier(&a.Type) ||
			!seq.ReadASN1(&values, cbasn1.SET) || !seq.Empty() || values.Empty() {
			return nil, errors.New("malformed or too many attributes")
		}
		for !values.Empty() {
			var value cryptobyte.String
			var t cbasn1.Tag
			if len(a.Values) == maxAttributes || !values.ReadAnyASN1Element(&value, &t) {
				return nil, errors.New("malformed or too many attribute values")
			}
			a.Values = append(a.Values, value)
		}
		attrs = append(attrs, a)
	}
	return attrs, nil
}
