package certpath

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidAuthorityKeyID  = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidDistPoint       = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidCRLNumber       = asn1.ObjectIdentifier{2, 5, 29, 20}
	oidDeltaCRL        = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidReasonCode      = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidInvalidityDate  = asn1.ObjectIdentifier{2, 5, 29, 24}
	oidCertIssuer      = asn1.ObjectIdentifier{2, 5, 29, 29}
	errMalformedCRL    = errors.New("malformed CRL")
	errCRLDoesNotCover = errors.New("the CRL does not cover this certificate")
)

const (
	maxCRLEntries    = 4 << 20
	maxCRLExtensions = 32
	maxReason        = 10
)

// CRL is a parsed certificate revocation list (RFC 5280 §5). Indirect lists are
// refused; a delta is only of use beside its complete list, among stored
// evidence, and covers nothing by itself.
//
// A list of a hundred thousand lines is kept as it came, which is the evidence,
// and with 4 bytes a line to find it: x509.RevocationList takes a hundred times
// as much.
type CRL struct {
	Raw        []byte
	ThisUpdate time.Time
	NextUpdate time.Time
	Number     *big.Int // §5.2.3; nil when the list has none

	rawIssuer      []byte
	authorityKeyID []byte
	index          []uint32 // where each entry begins in Raw, in order of serial numbers
	scope          crlScope
	scopeRaw       []byte
	base           *big.Int // a delta list: the number of the complete list it continues (§5.2.4)
	tbs            []byte
	algorithm      x509.SignatureAlgorithm
	signature      []byte
}

// crlScope is the issuing distribution point extension (RFC 5280 §5.2.5).
type crlScope struct {
	present          bool
	named            bool // a distribution point name is present
	names            []generalName
	reasons          reasonSet
	onlyUser, onlyCA bool
	onlyAttribute    bool
}

// ParseCRL reads a list. Form and bounds are checked; the signature is Verify's.
func ParseCRL(der []byte) (*CRL, error) {
	in := cryptobyte.String(der)
	var outer, tbs cryptobyte.String
	var sig asn1.BitString
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !in.Empty() || !outer.ReadASN1Element(&tbs, cbasn1.SEQUENCE) {
		return nil, fmt.Errorf("certpath: %w", errMalformedCRL)
	}
	algElement := outer
	oid, params, ok := readAlgorithm(&outer)
	if !ok || !outer.ReadASN1BitString(&sig) || sig.BitLength%8 != 0 || !outer.Empty() {
		return nil, fmt.Errorf("certpath: %w", errMalformedCRL)
	}
	alg, err := signatureAlgorithm(oid, params)
	if err != nil {
		return nil, fmt.Errorf("certpath: CRL: %w", err)
	}
	c := &CRL{Raw: der, tbs: tbs, algorithm: alg, signature: sig.Bytes}
	bodyEnd := len(der) - len(algElement)
	var outerAlg cryptobyte.String
	if !algElement.ReadASN1Element(&outerAlg, cbasn1.SEQUENCE) {
		return nil, fmt.Errorf("certpath: %w", errMalformedCRL)
	}
	if err := c.readTBS(tbs, outerAlg, bodyEnd); err != nil {
		return nil, fmt.Errorf("certpath: CRL: %w", err)
	}
	if c.base != nil && c.Number == nil {
		return nil, errors.New("certpath: CRL: a delta without a number")
	}
	return c, nil
}

// readTBS reads TBSCertList, which ends at bodyEnd of Raw.
func (c *CRL) readTBS(in, outerAlg cryptobyte.String, bodyEnd int) error {
	var tbs, innerAlg, issuer, entries cryptobyte.String
	var version int
	if !in.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		return errMalformedCRL
	}
	// Version 2 is required here: without extensions a list cannot tell its scope
	// or its issuer's key (RFC 5280 §5.1.2.1).
	if !tbs.ReadASN1Integer(&version) || version != 1 {
		return errors.New("not version 2")
	}
	if !tbs.ReadASN1Element(&innerAlg, cbasn1.SEQUENCE) || !bytes.Equal(innerAlg, outerAlg) {
		return errors.New("the two signature algorithms differ")
	}
	if !tbs.ReadASN1Element(&issuer, cbasn1.SEQUENCE) || !readTime(&tbs, &c.ThisUpdate) || !readTime(&tbs, &c.NextUpdate) {
		return errMalformedCRL // nextUpdate is required by §5.1.2.5
	}
	c.rawIssuer = issuer
	if tbs.PeekASN1Tag(cbasn1.SEQUENCE) {
		if !tbs.ReadASN1(&entries, cbasn1.SEQUENCE) {
			return errMalformedCRL
		}
		// What is left in tbs comes after the entries.
		if err := c.readEntries(entries, bodyEnd-len(tbs)-len(entries)); err != nil {
			return err
		}
	}
	if err := c.readExtensions(&tbs); err != nil {
		return err
	}
	if !tbs.Empty() {
		return errMalformedCRL
	}
	return nil
}

// readTime reads Time ::= CHOICE { utcTime, generalTime }.
func readTime(in *cryptobyte.String, out *time.Time) bool {
	if in.PeekASN1Tag(cbasn1.UTCTime) {
		return in.ReadASN1UTCTime(out)
	}
	return in.ReadASN1GeneralizedTime(out)
}

// readExtension reads Extension ::= SEQUENCE { OID, critical BOOLEAN DEFAULT FALSE, OCTET STRING }.
func readExtension(list *cryptobyte.String) (extension, error) {
	var x extension
	var item, value cryptobyte.String
	if !list.ReadASN1(&item, cbasn1.SEQUENCE) || !item.ReadASN1ObjectIdentifier(&x.oid) {
		return x, errMalformedCRL
	}
	if item.PeekASN1Tag(cbasn1.BOOLEAN) && !item.ReadASN1Boolean(&x.critical) {
		return x, errMalformedCRL
	}
	if !item.ReadASN1(&value, cbasn1.OCTET_STRING) || !item.Empty() {
		return x, errMalformedCRL
	}
	x.value = value
	return x, nil
}

func (c *CRL) readExtensions(tbs *cryptobyte.String) error {
	var wrapped, list cryptobyte.String
	var present bool
	if !tbs.ReadOptionalASN1(&wrapped, &present, explicit(0)) {
		return errMalformedCRL
	}
	if !present {
		return nil
	}
	if !wrapped.ReadASN1(&list, cbasn1.SEQUENCE) || !wrapped.Empty() {
		return errMalformedCRL
	}
	var seen []asn1.ObjectIdentifier
	for !list.Empty() {
		x, err := readExtension(&list)
		if err != nil || len(seen) == maxCRLExtensions || slices.ContainsFunc(seen, x.oid.Equal) {
			return errMalformedCRL
		}
		seen = append(seen, x.oid)
		if err := c.readOne(x); err != nil {
			return err
		}
	}
	return nil
}

func (c *CRL) readOne(x extension) error {
	value := cryptobyte.String(x.value)
	switch {
	case x.oid.Equal(oidAuthorityKeyID):
		var seq, id cryptobyte.String
		var has bool
		if !value.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadOptionalASN1(&id, &has, cbasn1.Tag(0).ContextSpecific()) {
			return errMalformedCRL
		}
		c.authorityKeyID = id
	case x.oid.Equal(oidCRLNumber):
		c.Number = new(big.Int)
		if !value.ReadASN1Integer(c.Number) || !value.Empty() || c.Number.Sign() < 0 || c.Number.BitLen() > 8*maxSerialBytes {
			return errMalformedCRL
		}
	case x.oid.Equal(oidDistPoint):
		issuer, err := parseDN(c.rawIssuer)
		if err != nil {
			return err
		}
		c.scopeRaw = x.value
		return c.scope.read(value, issuer)
	case x.oid.Equal(oidDeltaCRL):
		c.base = new(big.Int)
		if !value.ReadASN1Integer(c.base) || !value.Empty() {
			return errMalformedCRL
		}
	case x.critical:
		return fmt.Errorf("critical extension %s is not known", x.oid)
	}
	return nil
}

// read parses IssuingDistributionPoint (RFC 5280 §5.2.5).
func (s *crlScope) read(in cryptobyte.String, issuer dn) error {
	var seq, point, reasons cryptobyte.String
	var some, indirect bool
	s.present, s.reasons = true, allReasons
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() || !seq.ReadOptionalASN1(&point, &s.named, explicit(0)) {
		return errMalformedCRL
	}
	if !readFlag(&seq, 1, &s.onlyUser) || !readFlag(&seq, 2, &s.onlyCA) ||
		!seq.ReadOptionalASN1(&reasons, &some, cbasn1.Tag(3).ContextSpecific()) ||
		!readFlag(&seq, 4, &indirect) || !readFlag(&seq, 5, &s.onlyAttribute) || !seq.Empty() {
		return errMalformedCRL
	}
	if indirect {
		return errors.New("an indirect CRL")
	}
	var err error
	if some {
		if s.reasons, err = readReasons(reasons); err != nil {
			return err
		}
	}
	if s.named {
		s.names, err = readPointName(point, issuer)
	}
	return err
}

// readFlag reads [tag] IMPLICIT BOOLEAN DEFAULT FALSE.
func readFlag(in *cryptobyte.String, tag uint8, out *bool) bool {
	var body cryptobyte.String
	var present bool
	if !in.ReadOptionalASN1(&body, &present, cbasn1.Tag(tag).ContextSpecific()) {
		return false
	}
	if present {
		if len(body) != 1 || body[0] != 0xff && body[0] != 0 {
			return false
		}
		*out = body[0] == 0xff
	}
	return true
}

// Verify checks that issuer has signed the list, and may (RFC 5280 §6.3.3 (f),
// (g)), with one of DefaultSignatureAlgorithms.
func (c *CRL) Verify(issuer *x509.Certificate) error {
	return c.verify(issuer, DefaultSignatureAlgorithms)
}

func (c *CRL) verify(issuer *x509.Certificate, allowed []x509.SignatureAlgorithm) error {
	if !sameName(c.rawIssuer, issuer.RawSubject) {
		return errors.New("certpath: CRL of another issuer")
	}
	// MOICA's generations share one name: the key identifier tells them apart.
	if len(c.authorityKeyID) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(c.authorityKeyID, issuer.SubjectKeyId) {
		return errors.New("certpath: CRL of another key of this issuer")
	}
	if issuer.KeyUsage&x509.KeyUsageCRLSign == 0 && hasKeyUsage(issuer) {
		return errors.New("certpath: issuer's key usage does not allow signing CRLs")
	}
	if !slices.Contains(allowed, c.algorithm) {
		return fmt.Errorf("certpath: CRL: signature algorithm %s is not allowed", c.algorithm)
	}
	if err := issuer.CheckSignature(c.algorithm, c.tbs, c.signature); err != nil {
		return fmt.Errorf("certpath: CRL: %w", err)
	}
	return nil
}

// Covers tells whether the list's scope takes in cert for every reason of
// revocation (RFC 5280 §6.3.3 (b)): a list that covers only a part must be one
// the certificate points at.
func (c *CRL) Covers(cert *x509.Certificate) error {
	reasons, err := c.covered(cert)
	if err == nil && reasons != allReasons {
		err = errCRLDoesNotCover
	}
	return err
}

// covered gives the reasons for which the list settles cert's status; none is an error.
func (c *CRL) covered(cert *x509.Certificate) (reasonSet, error) {
	s := c.scope
	switch {
	case c.base != nil:
		return 0, errors.New("a delta CRL")
	case !s.present:
		return allReasons, nil
	case s.onlyAttribute, s.onlyUser && cert.IsCA, s.onlyCA && !cert.IsCA:
		return 0, errCRLDoesNotCover
	case !s.named:
		return s.reasons, nil
	}
	points, err := pointsOf(cert)
	if err != nil {
		return 0, err
	}
	issuer, err := parseDN(cert.RawIssuer)
	if err != nil {
		return 0, err
	}
	own := generalName{kind: kindDirectory, value: issuer.key(), name: issuer}
	var reasons reasonSet
	for _, p := range points {
		names := p.names
		if len(p.crlIssuer) > 0 {
			if !meets(p.crlIssuer, []generalName{own}) {
				continue // another issuer's list: indirect, refused
			}
			if len(names) == 0 {
				names = p.crlIssuer
			}
		}
		if meets(names, s.names) {
			reasons |= p.reasons & s.reasons
		}
	}
	if reasons == 0 {
		return 0, errCRLDoesNotCover
	}
	return reasons, nil
}

// Lookup finds a serial number. For a number that is listed twice the earliest
// date counts.
func (c *CRL) Lookup(serial *big.Int) (at time.Time, reason int, revoked bool) {
	if plausibleSerial(serial) != nil {
		return time.Time{}, 0, false
	}
	var buf [maxSerialBytes]byte
	want := buf[maxSerialBytes-(serial.BitLen()+7)/8:]
	serial.FillBytes(want)
	i, found := slices.BinarySearchFunc(c.index, want, func(offset uint32, want []byte) int {
		return compareSerials(c.serialAt(offset), want)
	})
	if !found {
		return time.Time{}, 0, false
	}
	e := c.entryAt(c.index[i])
	return e.at, int(e.reason), true
}

// Len is the number of entries.
func (c *CRL) Len() int { return len(c.index) }

// continues tells whether delta brings c, a complete list, up to date (RFC 5280
// §6.3.3 (c), §5.2.4): same issuer, key and scope, and numbers that meet.
func (delta *CRL) continues(c *CRL) bool {
	return delta.base != nil && c.base == nil && c.Number != nil &&
		sameName(delta.rawIssuer, c.rawIssuer) && bytes.Equal(delta.authorityKeyID, c.authorityKeyID) &&
		bytes.Equal(delta.scopeRaw, c.scopeRaw) && delta.base.Cmp(c.Number) <= 0 && delta.Number.Cmp(c.Number) > 0
}

// same tells whether the two are one list, by number and date.
func (c *CRL) same(other *CRL) bool {
	return c.ThisUpdate.Equal(other.ThisUpdate) && (c.Number == nil) == (other.Number == nil) && (c.Number == nil || c.Number.Cmp(other.Number) == 0)
}

// newer tells whether c was issued after other: by number, which only rises
// (RFC 5280 §5.2.3), else by date.
func (c *CRL) newer(other *CRL) bool {
	if c.Number != nil && other.Number != nil {
		if byNumber := c.Number.Cmp(other.Number); byNumber != 0 {
			return byNumber > 0 && !c.ThisUpdate.Before(other.ThisUpdate)
		}
	}
	return c.ThisUpdate.After(other.ThisUpdate)
}
