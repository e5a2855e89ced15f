package certpath

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var oidCRLPoints = asn1.ObjectIdentifier{2, 5, 29, 31}

// reasonSet is ReasonFlags (RFC 5280 §4.2.1.13) as a bit mask: bit n is flag n.
type reasonSet uint16

// allReasons are the flags keyCompromise (1) to aACompromise (8).
const allReasons reasonSet = 0x1fe

// maxPoints bounds the distribution points of a certificate, and the names of one.
const maxPoints = 16

// distPoint is one DistributionPoint of a certificate (RFC 5280 §4.2.1.13).
type distPoint struct {
	names     []generalName // DistributionPointName; empty: the field is absent
	reasons   reasonSet
	crlIssuer []generalName // set: the list is another issuer's
}

// pointsOf reads a certificate's distribution points. A certificate without the
// extension has one, named like its issuer (§6.3.3, last paragraph).
func pointsOf(c *x509.Certificate) ([]distPoint, error) {
	issuer, err := parseDN(c.RawIssuer)
	if err != nil {
		return nil, err
	}
	value, found := extensionValue(c, oidCRLPoints)
	if !found {
		return []distPoint{{names: []generalName{{kind: kindDirectory, value: issuer.key(), name: issuer}}, reasons: allReasons}}, nil
	}
	in := cryptobyte.String(value)
	var list cryptobyte.String
	if !in.ReadASN1(&list, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, errMalformedCRL
	}
	var points []distPoint
	for !list.Empty() {
		if len(points) == maxPoints {
			return nil, errMalformedCRL
		}
		p, err := readPoint(&list, issuer)
		if err != nil {
			return nil, err
		}
		points = append(points, p)
	}
	return points, nil
}

func readPoint(list *cryptobyte.String, issuer dn) (distPoint, error) {
	p := distPoint{reasons: allReasons}
	var item, name, bits, names cryptobyte.String
	var hasName, hasReasons, hasIssuer bool
	if !list.ReadASN1(&item, cbasn1.SEQUENCE) || !item.ReadOptionalASN1(&name, &hasName, explicit(0)) ||
		!item.ReadOptionalASN1(&bits, &hasReasons, cbasn1.Tag(1).ContextSpecific()) ||
		!item.ReadOptionalASN1(&names, &hasIssuer, explicit(2)) || !item.Empty() {
		return p, errMalformedCRL
	}
	var err error
	if hasIssuer {
		if p.crlIssuer, err = readGeneralNames(names, maxPoints); err != nil {
			return p, err
		}
	}
	if hasReasons {
		if p.reasons, err = readReasons(bits); err != nil {
			return p, err
		}
	}
	if hasName {
		p.names, err = readPointName(name, issuer)
	}
	return p, err
}

// readReasons reads the content of a BIT STRING of reason flags.
func readReasons(bits cryptobyte.String) (reasonSet, error) {
	var unused uint8
	if !bits.ReadUint8(&unused) || unused > 7 || len(bits) == 0 || len(bits) > 2 {
		return 0, errMalformedCRL
	}
	var set reasonSet
	for i := range 8*len(bits) - int(unused) {
		if bits[i/8]&(0x80>>(i%8)) != 0 {
			set |= 1 << i
		}
	}
	return set & allReasons, nil
}

// readPointName reads DistributionPointName: full names, or one name relative to
// the issuer of the list, which then is completed.
func readPointName(in cryptobyte.String, issuer dn) ([]generalName, error) {
	var full, relative cryptobyte.String
	if in.PeekASN1Tag(explicit(0)) {
		if !in.ReadASN1(&full, explicit(0)) || !in.Empty() {
			return nil, errMalformedCRL
		}
		return readGeneralNames(full, maxPoints)
	}
	if !in.ReadASN1(&relative, explicit(1)) || !in.Empty() {
		return nil, errMalformedCRL
	}
	part, err := parseRDN(relative)
	if err != nil {
		return nil, err
	}
	name := append(slices.Clone(issuer), part)
	return []generalName{{kind: kindDirectory, value: name.key(), name: name}}, nil
}

// meets tells whether two lists of names have one in common.
func meets(a, b []generalName) bool {
	return slices.ContainsFunc(a, func(x generalName) bool { return slices.ContainsFunc(b, x.equal) })
}
