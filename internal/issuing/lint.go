package issuing

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sealgate/internal/certpath"
)

// subject is what a rule looks at.
type subject struct {
	ca                    *CA // nil: another's certificate
	profile               *Profile
	textSubject           bool // compare subjects by what they say
	now                   time.Time
	cert, issuer, citizen *x509.Certificate
}

// rule is one rule that a mobile certificate keeps.
type rule struct {
	name   string
	source string
	check  func(subject) error
}

// everyRule holds for mobile certificates of every issuer.
var everyRule = []rule{
	{"version_3", "RFC 5280 §4.1.2.1", func(s subject) error { return must(s.cert.Version == 3, "version %d", s.cert.Version) }},
	{"subject_same_person", "tw-fido.md §3.1", checkSubject},
	{"validity_within_bounds", "tw-fido.md §3.1; RFC 5280 §4.1.2.5", checkValidity},
	{"key_usage_exact", "RFC 5280 §4.2.1.3", func(s subject) error {
		return must(s.cert.KeyUsage == s.profile.usage, "key usage %b", s.cert.KeyUsage)
	}},
	{"not_a_ca", "RFC 5280 §4.2.1.9", func(s subject) error { return must(!s.cert.IsCA, "is a CA") }},
	{"no_other_names_or_usages", "tw-fido.md §3.1", checkNothingElse},
	{"policy_is_ours", "RFC 5280 §4.2.1.4", checkPolicies},
	{"policy_allowed_by_issuer", "RFC 5280 §6.1.3 (d)", checkIssuerPolicies},
	{"key_strong_and_new", "NIST SP 800-57 part 1 §5.6", checkKey},
	{"issuer_matches", "RFC 5280 §4.1.2.4", func(s subject) error {
		return must(bytes.Equal(s.cert.RawIssuer, s.issuer.RawSubject), "issuer is not the issuing CA's subject")
	}},
}

// ownRules hold for what our own CA issues: there nothing is left open.
var ownRules = []rule{
	{"serial_20_random_octets", "RFC 5280 §4.1.2.2", checkSerial},
	{"key_identifiers", "RFC 5280 §4.2.1.1, §4.2.1.2", func(s subject) error {
		return must(len(s.cert.SubjectKeyId) == 20 && bytes.Equal(s.cert.AuthorityKeyId, s.issuer.SubjectKeyId), "identifiers do not match")
	}},
	{"status_locations", "RFC 5280 §4.2.1.13, §4.2.2.1", func(s subject) error {
		return must(len(s.cert.OCSPServer) == 1 && len(s.cert.IssuingCertificateURL) == 1 && namesItsList(s), "a location is missing or not its own")
	}},
	{"extensions_known", "RFC 5280 §4.2", checkExtensions},
}

// CheckProfile holds a mobile certificate of our own CA against all rules;
// every broken one is reported. It does not check the signature. The error is
// ErrProfile and names the broken rules.
func (ca *CA) CheckProfile(cert, issuer, citizen *x509.Certificate) error {
	return check(subject{ca: ca, profile: ca.profile, now: ca.cfg.Now(), cert: cert, issuer: issuer, citizen: citizen}, everyRule, ownRules)
}

func check(s subject, sets ...[]rule) error {
	var broken []error
	for _, rules := range sets {
		for _, r := range rules {
			if err := r.check(s); err != nil {
				broken = append(broken, fmt.Errorf("%s (%s): %w", r.name, r.source, err))
			}
		}
	}
	if len(broken) > 0 {
		return ErrProfile.Because(errors.Join(broken...))
	}
	return nil
}

func must(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func checkSerial(s subject) error {
	raw := s.cert.SerialNumber.Bytes()
	return must(s.cert.SerialNumber.Sign() > 0 && len(raw) == serialSize && raw[0]&0x80 == 0, "serial of %d octets", len(raw))
}

// checkSubject: the same name, type and last four as the card, card type mobile.
func checkSubject(s subject) error {
	mobile, err := certpath.ParseCitizen(s.cert)
	if err != nil {
		return errors.Unwrap(err)
	}
	card, err := certpath.ParseCitizen(s.citizen)
	if err != nil {
		return errors.Unwrap(err)
	}
	switch {
	case !bytes.Equal(s.cert.RawSubject, s.citizen.RawSubject) && !(s.textSubject && sameText(s.cert.RawSubject, s.citizen.RawSubject)):
		return errors.New("subject is not the card's")
	case mobile.CardType != s.profile.cardType:
		return errors.New("card type is not the profile's")
	case mobile.IDLast4 != card.IDLast4 || !mobile.SubjectType.Equal(card.SubjectType):
		return errors.New("directory attributes are not the card's")
	}
	return nil
}

func checkValidity(s subject) error {
	c := s.cert
	life := c.NotAfter.Add(time.Second).Sub(c.NotBefore)
	longest := s.profile.life
	if s.ca == nil {
		longest += clockSkew // others do not count the last second
	}
	switch {
	case life <= time.Second:
		return errors.New("ends before it begins")
	case life > longest:
		return errors.New("longer than the profile allows")
	case c.NotAfter.After(s.citizen.NotAfter) || c.NotBefore.Before(s.citizen.NotBefore):
		return errors.New("outside the citizen certificate's validity")
	case c.NotAfter.After(s.issuer.NotAfter) || c.NotBefore.Before(s.issuer.NotBefore):
		return errors.New("outside the issuing CA's validity")
	case c.NotBefore.After(s.now.Add(clockSkew)):
		return errors.New("begins in the future")
	case !c.NotAfter.After(s.now):
		return errors.New("is over already")
	}
	return nil
}

// checkNothingElse: a mobile certificate names one person and signs documents;
// without extended key usage it serves every kind of document signature.
func checkNothingElse(s subject) error {
	c := s.cert
	return must(len(c.DNSNames)+len(c.EmailAddresses)+len(c.IPAddresses)+len(c.URIs) == 0 &&
		len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0, "has alternative names or extended key usages")
}

// checkPolicies: exactly the profile's.
func checkPolicies(s subject) error {
	for _, p := range s.profile.policies {
		if !slices.ContainsFunc(s.cert.Policies, p.Equal) {
			return fmt.Errorf("policy %s is missing", p)
		}
	}
	return must(len(s.cert.Policies) == len(s.profile.policies), "policies %v", s.cert.Policies)
}

// checkIssuerPolicies: a policy that the issuing CA may not give would be lost
// in path validation. This happens when the configuration changes later.
func checkIssuerPolicies(s subject) error {
	if slices.ContainsFunc(s.issuer.Policies, anyPolicy.Equal) || len(s.issuer.Policies) == 0 && bytes.Equal(s.issuer.RawIssuer, s.issuer.RawSubject) {
		return nil // a self-signed issuer is the anchor: its policies are not looked at
	}
	for _, p := range s.cert.Policies {
		if !slices.ContainsFunc(s.issuer.Policies, p.Equal) {
			return fmt.Errorf("the issuing CA is not for policy %s", p)
		}
	}
	return nil
}

func checkKey(s subject) error {
	if err := s.profile.permits(s.cert.PublicKey); err != nil {
		return err
	}
	if k, ok := s.cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || k.Equal(s.citizen.PublicKey) {
		return errors.New("the mobile key is the card's key")
	}
	return nil
}

// namesItsList: the complete list, after the certificate's own part if there are parts.
func namesItsList(s subject) bool {
	points := s.cert.CRLDistributionPoints
	if len(points) == 0 {
		return false
	}
	var p Part
	if len(points) > 1 {
		if _, err := fmt.Sscanf(strings.TrimPrefix(points[0], s.ca.cfg.BaseURL), pathPart, &p.Of, &p.Part); err != nil || p.Of < 2 || !p.valid() {
			return false
		}
		if p != partOf(s.cert.SerialNumber.FillBytes(make([]byte, serialSize)), p.Of) {
			return false
		}
	}
	return slices.Equal(points, s.ca.points(p))
}

// mobileExtensions lists every extension of a mobile certificate and whether
// it is critical; each appears exactly once and there are no others.
var mobileExtensions = map[string]bool{
	"2.5.29.15":         true,  // key usage
	"2.5.29.14":         false, // subject key identifier
	"2.5.29.35":         false, // authority key identifier
	"1.3.6.1.5.5.7.1.1": false, // authority information access
	"2.5.29.32":         false, // certificate policies
	"2.5.29.31":         false, // CRL distribution points
	"2.5.29.9":          false, // subject directory attributes
}

func checkExtensions(s subject) error {
	seen := map[string]bool{}
	for _, e := range s.cert.Extensions {
		id := asn1.ObjectIdentifier(e.Id).String()
		critical, known := mobileExtensions[id]
		if !known || seen[id] || e.Critical != critical {
			return fmt.Errorf("extension %s", id)
		}
		seen[id] = true
	}
	return must(len(seen) == len(mobileExtensions), "%d of %d extensions", len(seen), len(mobileExtensions))
}
