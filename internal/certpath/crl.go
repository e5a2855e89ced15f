package certpath

import (
	"bytes"
	"cmp"
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
)

// revokedEntry is one line of a CRL. A list of a hundred thousand lines is kept
// in 28 bytes each; x509.RevocationList takes about twenty times as much.
type revokedEntry struct {
	serial [maxSerialBytes]byte // left-padded
	at     uint32               // Unix seconds, good until 2106
	reason uint8                // RFC 5280 §5.3.1
}

// CRL is a parsed certificate revocation list (RFC 5280 §5), complete for its
// scope. Delta and indirect lists are refused.
type CRL struct {
	Raw        []byte
	ThisUpdate time.Time
	NextUpdate time.Time

	rawIssuer      []byte
	authorityKeyID []byte
	entries        []revokedEntry // sorted by serial
	scope          crlScope
	tbs            []byte
	algorithm      x509.SignatureAlgorithm
	signature      []byte
}

// crlScope is the issuing distribution point extension (RFC 5280 §5.2.5).
type crlScope struct {
	present             bool
	uris                []string
	named               bool // a distribution point name is present
	onlyUser, onlyCA    bool
	onlyAttribute, some bool
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
	var outerAlg cryptobyte.String
	if !algElement.ReadASN1Element(&outerAlg, cbasn1.SEQUENCE) {
		return nil, fmt.Errorf("certpath: %w", errMalformedCRL)
	}
	if err := c.readTBS(tbs, outerAlg); err != nil {
		return nil, fmt.Errorf("certpath: CRL: %w", err)
	}
	return c, nil
}

func (c *CRL) readTBS(in, outerAlg cryptobyte.String) error {
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
		if err := c.readEntries(entries); err != nil {
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

func (c *CRL) readEntries(list cryptobyte.String) error {
	// The shortest real entry takes about 20 octets; this guess avoids regrowing.
	c.entries = make([]revokedEntry, 0, min(len(list)/36+1, maxCRLEntries))
	for !list.Empty() {
		if len(c.entries) == maxCRLEntries {
			return errors.New("too many entries")
		}
		e, err := readEntry(&list)
		if err != nil {
			return err
		}
		c.entries = append(c.entries, e)
	}
	slices.SortFunc(c.entries, func(a, b revokedEntry) int {
		return cmp.Or(bytes.Compare(a.serial[:], b.serial[:]), cmp.Compare(a.at, b.at))
	})
	return nil
}

func readEntry(list *cryptobyte.String) (revokedEntry, error) {
	var e revokedEntry
	var item, serial, exts cryptobyte.String
	var at time.Time
	if !list.ReadASN1(&item, cbasn1.SEQUENCE) || !item.ReadASN1(&serial, cbasn1.INTEGER) || !readTime(&item, &at) {
		return e, errMalformedCRL
	}
	for len(serial) > 1 && serial[0] == 0 {
		serial = serial[1:]
	}
	if len(serial) == 0 || len(serial) > maxSerialBytes {
		return e, errors.New("serial number too long")
	}
	copy(e.serial[maxSerialBytes-len(serial):], serial)
	// A date outside 1970 to 2106 is clamped; both ends mean the same to anyone.
	e.at = uint32(max(0, min(at.Unix(), 1<<32-1)))
	if item.Empty() {
		return e, nil
	}
	if !item.ReadASN1(&exts, cbasn1.SEQUENCE) || !item.Empty() {
		return e, errMalformedCRL
	}
	return e, e.readExtensions(exts)
}

func (e *revokedEntry) readExtensions(list cryptobyte.String) error {
	for n := 0; !list.Empty(); n++ {
		x, err := readExtension(&list)
		if err != nil || n == maxCRLExtensions {
			return errMalformedCRL
		}
		value := cryptobyte.String(x.value)
		switch {
		case x.oid.Equal(oidReasonCode):
			var reason int
			if !value.ReadASN1Enum(&reason) || !value.Empty() || reason < 0 || reason > 10 {
				return errMalformedCRL
			}
			e.reason = uint8(reason)
		case x.oid.Equal(oidCertIssuer):
			return errors.New("an indirect CRL")
		case x.oid.Equal(oidInvalidityDate): // informative, RFC 5280 §5.3.2
		case x.critical:
			return fmt.Errorf("critical entry extension %s is not known", x.oid)
		}
	}
	return nil
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
	for n := 0; !list.Empty(); n++ {
		x, err := readExtension(&list)
		if err != nil || n == maxCRLExtensions {
			return errMalformedCRL
		}
		value := cryptobyte.String(x.value)
		switch {
		case x.oid.Equal(oidAuthorityKeyID):
			var seq, id cryptobyte.String
			var has bool
			if !value.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadOptionalASN1(&id, &has, cbasn1.Tag(0).ContextSpecific()) {
				return errMalformedCRL
			}
			c.authorityKeyID = id
		case x.oid.Equal(oidDistPoint):
			if c.scope.present {
				return errMalformedCRL
			}
			if err := c.scope.read(value); err != nil {
				return err
			}
		case x.oid.Equal(oidDeltaCRL):
			return errors.New("a delta CRL")
		case x.critical:
			return fmt.Errorf("critical extension %s is not known", x.oid)
		}
	}
	return nil
}

// read parses IssuingDistributionPoint (RFC 5280 §5.2.5).
func (s *crlScope) read(in cryptobyte.String) error {
	var seq, point, names cryptobyte.String
	s.present = true
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() || !seq.ReadOptionalASN1(&point, &s.named, explicit(0)) {
		return errMalformedCRL
	}
	if s.named && point.PeekASN1Tag(explicit(0)) { // fullName; else relative to the issuer, never matched
		if !point.ReadASN1(&names, explicit(0)) || !point.Empty() {
			return errMalformedCRL
		}
		for n := 0; !names.Empty(); n++ {
			var name cryptobyte.String
			var tag cbasn1.Tag
			if n == 16 || !names.ReadAnyASN1(&name, &tag) {
				return errMalformedCRL
			}
			if tag == cbasn1.Tag(6).ContextSpecific() { // uniformResourceIdentifier
				s.uris = append(s.uris, string(name))
			}
		}
	}
	var indirect bool
	var reasons cryptobyte.String
	if !readFlag(&seq, 1, &s.onlyUser) || !readFlag(&seq, 2, &s.onlyCA) ||
		!seq.ReadOptionalASN1(&reasons, &s.some, cbasn1.Tag(3).ContextSpecific()) ||
		!readFlag(&seq, 4, &indirect) || !readFlag(&seq, 5, &s.onlyAttribute) || !seq.Empty() {
		return errMalformedCRL
	}
	if indirect {
		return errors.New("an indirect CRL")
	}
	return nil
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

// Verify checks that issuer has signed the list, and may (RFC 5280 §6.3.3 (f), (g)).
func (c *CRL) Verify(issuer *x509.Certificate) error {
	if !bytes.Equal(c.rawIssuer, issuer.RawSubject) {
		return errors.New("certpath: CRL of another issuer")
	}
	// MOICA's generations share one name: the key identifier tells them apart.
	if len(c.authorityKeyID) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(c.authorityKeyID, issuer.SubjectKeyId) {
		return errors.New("certpath: CRL of another key of this issuer")
	}
	if issuer.KeyUsage != 0 && issuer.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return errors.New("certpath: issuer's key usage does not allow signing CRLs")
	}
	if err := issuer.CheckSignature(c.algorithm, c.tbs, c.signature); err != nil {
		return fmt.Errorf("certpath: CRL: %w", err)
	}
	return nil
}

// Covers tells whether the list's scope takes in cert (RFC 5280 §6.3.3 (b)): a
// list that covers only a part must be one the certificate points at.
func (c *CRL) Covers(cert *x509.Certificate) error {
	s := c.scope
	switch {
	case !s.present:
		return nil
	case s.onlyAttribute, s.some, s.onlyUser && cert.IsCA, s.onlyCA && !cert.IsCA:
		return errCRLDoesNotCover
	case s.named && !slices.ContainsFunc(s.uris, func(u string) bool { return slices.Contains(cert.CRLDistributionPoints, u) }):
		return errCRLDoesNotCover
	}
	return nil
}

// Lookup finds a serial number. For a number that is listed twice the earliest
// date counts.
func (c *CRL) Lookup(serial *big.Int) (at time.Time, reason int, revoked bool) {
	if plausibleSerial(serial) != nil {
		return time.Time{}, 0, false
	}
	var key [maxSerialBytes]byte
	serial.FillBytes(key[:])
	i, found := slices.BinarySearchFunc(c.entries, key, func(e revokedEntry, k [maxSerialBytes]byte) int {
		return bytes.Compare(e.serial[:], k[:])
	})
	if !found {
		return time.Time{}, 0, false
	}
	return time.Unix(int64(c.entries[i].at), 0).UTC(), int(c.entries[i].reason), true
}

// Len is the number of entries.
func (c *CRL) Len() int { return len(c.entries) }
