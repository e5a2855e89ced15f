package certpath

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Bounds on names. Real ones have three to ten parts.
const (
	maxNameBytes = 16 << 10
	maxNameParts = 64
)

var errMalformedName = errors.New("malformed name")

// dn is a distinguished name in a form that can be compared: one string a
// relative name, in which letter case, the kind of string and the amount of
// white space no longer differ (RFC 5280 §7.1, RFC 4518 §2).
type dn []string

func (n dn) equal(other dn) bool { return slices.Equal(n, other) }

// within tells whether n lies in the subtree below base (RFC 5280 §4.2.1.10).
func (n dn) within(base dn) bool { return len(n) >= len(base) && slices.Equal(n[:len(base)], base) }

func (n dn) key() string { return strings.Join(n, "\x00") }

// parseDN reads Name ::= SEQUENCE OF SET OF AttributeTypeAndValue.
func parseDN(der []byte) (dn, error) {
	in := cryptobyte.String(der)
	var list cryptobyte.String
	if len(der) > maxNameBytes || !in.ReadASN1(&list, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, errMalformedName
	}
	name := dn{}
	for !list.Empty() {
		var set cryptobyte.String
		if len(name) == maxNameParts || !list.ReadASN1(&set, cbasn1.SET) {
			return nil, errMalformedName
		}
		part, err := parseRDN(set)
		if err != nil {
			return nil, err
		}
		name = append(name, part)
	}
	return name, nil
}

// parseRDN reads the attributes of one relative name, given without its tag.
func parseRDN(set cryptobyte.String) (string, error) {
	var parts []string
	for !set.Empty() {
		var item, kind, value cryptobyte.String
		var tag cbasn1.Tag
		if len(parts) == maxNameParts || !set.ReadASN1(&item, cbasn1.SEQUENCE) || !item.ReadASN1(&kind, cbasn1.OBJECT_IDENTIFIER) ||
			!item.ReadAnyASN1Element(&value, &tag) || !item.Empty() {
			return "", errMalformedName
		}
		parts = append(parts, string(kind)+"\x01"+prepared(value, tag))
	}
	if len(parts) == 0 {
		return "", errMalformedName
	}
	slices.Sort(parts)
	return strings.Join(parts, "\x02"), nil
}

const (
	tagNumericString = cbasn1.Tag(18)
	tagBMPString     = cbasn1.Tag(30)
)

// prepared gives a value's prepared text, or its encoding where it is none
// that we can read: then only the same bytes are equal.
func prepared(element cryptobyte.String, tag cbasn1.Tag) string {
	raw := string(element)
	var body cryptobyte.String
	if !element.ReadASN1(&body, tag) {
		return raw
	}
	switch tag {
	case cbasn1.PrintableString, cbasn1.UTF8String, cbasn1.IA5String, tagNumericString:
		if !utf8.Valid(body) {
			return raw
		}
		return prepare(string(body))
	case tagBMPString:
		if len(body)%2 != 0 {
			return raw
		}
		units := make([]uint16, len(body)/2)
		for i := range units {
			units[i] = uint16(body[2*i])<<8 | uint16(body[2*i+1])
		}
		return prepare(string(utf16.Decode(units)))
	}
	return raw
}

// prepare folds case and width and joins words by single spaces.
func prepare(s string) string {
	ascii := true
	for _, c := range []byte(s) {
		ascii = ascii && c < utf8.RuneSelf
	}
	if ascii {
		s = strings.ToLower(s)
	} else {
		s = norm.NFKC.String(cases.Fold().String(norm.NFKC.String(s)))
	}
	return strings.Join(strings.Fields(s), " ")
}

// certNames are the names of a certificate, read once.
type certNames struct {
	subject, issuer dn
	selfIssued      bool // subject and issuer are the same name (RFC 5280 §3.2)
}

func namesOf(c *x509.Certificate) (certNames, error) {
	var n certNames
	var err error
	if n.subject, err = parseDN(c.RawSubject); err != nil {
		return n, err
	}
	if n.issuer, err = parseDN(c.RawIssuer); err != nil {
		return n, err
	}
	n.selfIssued = n.subject.equal(n.issuer)
	return n, nil
}

// sameName compares two encoded names.
func sameName(a, b []byte) bool {
	if string(a) == string(b) {
		return true
	}
	x, err1 := parseDN(a)
	y, err2 := parseDN(b)
	return err1 == nil && err2 == nil && x.equal(y)
}

// generalName is one GeneralName (RFC 5280 §4.2.1.6): the kind, which is the
// number of its tag, and its content; name is set for a directory name.
type generalName struct {
	kind  uint8
	value string
	name  dn
}

// Kinds of GeneralName that are understood.
const (
	kindEmail     = 1
	kindDNS       = 2
	kindDirectory = 4
	kindURI       = 6
	kindIP        = 7
	kindLast      = 8 // registeredID
)

// readGeneralNames reads the content of GeneralNames, at most max of them.
func readGeneralNames(list cryptobyte.String, max int) ([]generalName, error) {
	var names []generalName
	for !list.Empty() {
		if len(names) == max {
			return nil, errors.New("too many names")
		}
		n, err := readGeneralName(&list)
		if err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	return names, nil
}

func readGeneralName(in *cryptobyte.String) (generalName, error) {
	var body cryptobyte.String
	var tag cbasn1.Tag
	if !in.ReadAnyASN1(&body, &tag) || tag&0xc0 != 0x80 || uint8(tag&0x1f) > kindLast {
		return generalName{}, errMalformedName
	}
	n := generalName{kind: uint8(tag & 0x1f), value: string(body)}
	if n.kind == kindDirectory {
		var err error
		if n.name, err = parseDN(body); err != nil {
			return n, err
		}
		n.value = n.name.key()
	}
	return n, nil
}

func (n generalName) equal(other generalName) bool {
	return n.kind == other.kind && n.value == other.value
}

// extensionValue finds an extension. There is at most one of a kind: crypto/x509
// refuses certificates that repeat one (RFC 5280 §4.2).
func extensionValue(c *x509.Certificate, oid asn1.ObjectIdentifier) (value []byte, found bool) {
	for _, e := range c.Extensions {
		if e.Id.Equal(oid) {
			return e.Value, true
		}
	}
	return nil, false
}
