package certpath

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidDirectoryAttributes = asn1.ObjectIdentifier{2, 5, 29, 9}
	oidSubjectType         = asn1.ObjectIdentifier{2, 16, 886, 1, 100, 2, 1}
	oidCardType            = asn1.ObjectIdentifier{2, 16, 886, 1, 100, 2, 2}
	oidIDLast4             = asn1.ObjectIdentifier{2, 16, 886, 1, 100, 2, 51}

	oidCountry      = asn1.ObjectIdentifier{2, 5, 4, 6}
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidSerialNumber = asn1.ObjectIdentifier{2, 5, 4, 5}
)

// Subject types of natural persons in the government PKI.
var (
	SubjectTypeCitizen  = asn1.ObjectIdentifier{2, 16, 886, 1, 100, 3, 1, 1}
	SubjectTypeResident = asn1.ObjectIdentifier{2, 16, 886, 1, 100, 3, 1, 9} // alien resident
)

// CitizenInfo is what a citizen certificate says about its holder. All of it is
// personal: it must not reach a log.
type CitizenInfo struct {
	Name          string                // CN
	SubjectSerial string                // serialNumber attribute: 16 digits, stable for the person
	IDLast4       string                // last four of the national ID
	SubjectType   asn1.ObjectIdentifier // SubjectTypeCitizen or SubjectTypeResident
	CardType      string                // "mobile" etc.; empty for ordinary cards
}

// ParseCitizen reads a citizen certificate's subject and subject directory
// attributes (RFC 5280 §4.2.1.8, with the attribute types of the government PKI).
// The subject is exactly country TW, a common name and a serial number of 16
// digits, each once: MOICA's profile, which tells its certificates from those of
// organisations. Trust is Validate's matter.
func ParseCitizen(cert *x509.Certificate) (CitizenInfo, error) {
	info, err := parseCitizen(cert)
	if err != nil {
		return CitizenInfo{}, ErrMalformed.Because(fmt.Errorf("not a citizen certificate: %w", err))
	}
	return info, nil
}

func parseCitizen(cert *x509.Certificate) (CitizenInfo, error) {
	var info CitizenInfo
	if cert == nil || len(cert.Raw) > maxCertBytes {
		return info, errors.New("missing or too large")
	}
	if err := info.readSubject(cert.RawSubject); err != nil {
		return info, err
	}
	i := slices.IndexFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidDirectoryAttributes) })
	if i < 0 {
		return info, errors.New("no subject directory attributes")
	}
	return info, info.readDirectoryAttributes(cert.Extensions[i].Value)
}

func (info *CitizenInfo) readSubject(raw []byte) error {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &rdns); err != nil || len(rest) != 0 {
		return errors.New("malformed subject")
	}
	if len(rdns) != 3 {
		return fmt.Errorf("subject has %d parts, not three", len(rdns))
	}
	var country string
	for _, rdn := range rdns {
		if len(rdn) != 1 {
			return errors.New("subject has a part with several values")
		}
		value, ok := rdn[0].Value.(string)
		if !ok || value == "" {
			return errors.New("subject has a value that is not text")
		}
		var target *string
		switch {
		case rdn[0].Type.Equal(oidCountry):
			target = &country
		case rdn[0].Type.Equal(oidCommonName):
			target = &info.Name
		case rdn[0].Type.Equal(oidSerialNumber):
			target = &info.SubjectSerial
		default:
			return fmt.Errorf("subject has attribute %s", rdn[0].Type)
		}
		if *target != "" {
			return errors.New("subject repeats an attribute")
		}
		*target = value
	}
	if country != "TW" {
		return errors.New("country is not TW")
	}
	if !digits(info.SubjectSerial, 16) {
		return errors.New("serialNumber is not 16 digits")
	}
	return checkName(info.Name)
}

// checkName bounds the name (RFC 5280 appendix A: ub-common-name is 64) and keeps
// out characters that could disturb a page or a log: controls and format
// characters, such as the ones that turn the writing direction.
func checkName(name string) error {
	if !utf8.ValidString(name) || utf8.RuneCountInString(name) > 64 {
		return errors.New("name is too long or not UTF-8")
	}
	for _, r := range name {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
			return errors.New("name has a control character")
		}
	}
	return nil
}

func digits(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func (info *CitizenInfo) readDirectoryAttributes(der []byte) error {
	malformed := errors.New("malformed subject directory attributes")
	in := cryptobyte.String(der)
	var list cryptobyte.String
	if !in.ReadASN1(&list, cbasn1.SEQUENCE) || !in.Empty() {
		return malformed
	}
	for n := 0; !list.Empty(); n++ {
		var item, values, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		var tag cbasn1.Tag
		if n == 16 || !list.ReadASN1(&item, cbasn1.SEQUENCE) || !item.ReadASN1ObjectIdentifier(&oid) ||
			!item.ReadASN1(&values, cbasn1.SET) || !item.Empty() {
			return malformed
		}
		known := oid.Equal(oidSubjectType) || oid.Equal(oidCardType) || oid.Equal(oidIDLast4)
		if !known {
			continue
		}
		if !values.ReadAnyASN1Element(&value, &tag) || !values.Empty() {
			return malformed
		}
		if err := info.setDirectoryAttribute(oid, tag, value); err != nil {
			return err
		}
	}
	if info.SubjectType == nil {
		return errors.New("subject type is missing")
	}
	if info.IDLast4 == "" {
		return errors.New("last four of the ID are missing")
	}
	return nil
}

func (info *CitizenInfo) setDirectoryAttribute(oid asn1.ObjectIdentifier, tag cbasn1.Tag, element cryptobyte.String) error {
	if oid.Equal(oidSubjectType) {
		var st asn1.ObjectIdentifier
		if info.SubjectType != nil || !element.ReadASN1ObjectIdentifier(&st) {
			return errors.New("subject type is repeated or malformed")
		}
		if !st.Equal(SubjectTypeCitizen) && !st.Equal(SubjectTypeResident) {
			return fmt.Errorf("subject type %s is not a natural person", st)
		}
		info.SubjectType = st
		return nil
	}
	var text cryptobyte.String
	if tag != cbasn1.UTF8String && tag != cbasn1.PrintableString || !element.ReadASN1(&text, tag) {
		return errors.New("directory attribute is not text")
	}
	if oid.Equal(oidIDLast4) {
		if info.IDLast4 != "" || !digits(string(text), 4) {
			return errors.New("last four of the ID are repeated or not four digits")
		}
		info.IDLast4 = string(text)
		return nil
	}
	if info.CardType != "" || len(text) == 0 || len(text) > 32 || checkName(string(text)) != nil {
		return errors.New("card type is repeated or malformed")
	}
	info.CardType = string(text)
	return nil
}
