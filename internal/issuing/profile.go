package issuing

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/keyring"
)

// ProfileConfig describes mobile certificates as data. Every field may be left
// empty: then it is what the comment says.
type ProfileConfig struct {
	// Life is the longest a certificate lasts: one year, which is also the most.
	Life time.Duration
	// KeyUsage by the names of RFC 5280 §4.2.1.3: digitalSignature and
	// contentCommitment. No other usage is accepted: the keys sign documents.
	KeyUsage []string
	// Policies are object identifiers in dotted form: DefaultPolicy. A
	// certificate names exactly these.
	Policies []string
	// CardType is the card type attribute of the government PKI: "mobile".
	CardType string
	// KeyAlgorithms that a mobile key may have: all four of package keyring.
	KeyAlgorithms []keyring.Algorithm
}

// Profile is a checked ProfileConfig. It does not change once made, so the
// issuing CA, the client of an outside CA and enrolment can share one.
type Profile struct {
	life       time.Duration
	usage      x509.KeyUsage
	policies   []x509.OID
	cardType   string
	algorithms []keyring.Algorithm
}

// maxPolicies bounds the policies of one profile.
const maxPolicies = 8

// keyUsages are what a document signing key may be used for.
//
// The key signs only documents that the citizen has looked at and approved one
// by one, which is what contentCommitment (nonRepudiation) claims; it never
// signs a login. digitalSignature stands beside it because MOICA's signing
// certificates carry it and many verifiers ask for it alone.
var keyUsages = map[string]x509.KeyUsage{
	"digitalSignature":  x509.KeyUsageDigitalSignature,
	"contentCommitment": x509.KeyUsageContentCommitment,
}

// NewProfile checks a description. The error names what cannot be.
func NewProfile(c ProfileConfig) (*Profile, error) {
	setDefault(&c.Life, maxLife)
	setDefault(&c.CardType, cardTypeMobile)
	if len(c.KeyUsage) == 0 {
		c.KeyUsage = []string{"digitalSignature", "contentCommitment"}
	}
	if len(c.Policies) == 0 {
		c.Policies = []string{DefaultPolicy}
	}
	if len(c.KeyAlgorithms) == 0 {
		c.KeyAlgorithms = []keyring.Algorithm{keyring.P256, keyring.P384, keyring.RSA2048, keyring.RSA3072}
	}
	p := &Profile{life: c.Life, cardType: c.CardType, algorithms: slices.Clone(c.KeyAlgorithms)}
	if c.Life < time.Minute || c.Life > maxLife {
		return nil, fmt.Errorf("issuing: profile: a mobile certificate lives at least a minute and at most a year, not %s", c.Life)
	}
	if !printable(c.CardType) || len(c.CardType) > 32 {
		return nil, errors.New("issuing: profile: the card type is no PrintableString of at most 32 characters")
	}
	for _, name := range c.KeyUsage {
		usage, ok := keyUsages[name]
		if !ok {
			return nil, fmt.Errorf("issuing: profile: key usage %q is not for documents", name)
		}
		p.usage |= usage
	}
	for _, a := range c.KeyAlgorithms {
		if !slices.Contains([]keyring.Algorithm{keyring.P256, keyring.P384, keyring.RSA2048, keyring.RSA3072}, a) {
			return nil, fmt.Errorf("issuing: profile: %q is no algorithm of mobile keys", a)
		}
	}
	if len(c.Policies) > maxPolicies {
		return nil, fmt.Errorf("issuing: profile: %d policies, at most %d", len(c.Policies), maxPolicies)
	}
	for _, text := range c.Policies {
		oid, _, err := parsePolicy(text)
		if err != nil {
			return nil, err
		}
		if oid.Equal(anyPolicy) || slices.ContainsFunc(p.policies, oid.Equal) {
			return nil, fmt.Errorf("issuing: profile: policy %s twice, or for everything", text)
		}
		p.policies = append(p.policies, oid)
	}
	return p, nil
}

// printable says whether s is a PrintableString (X.680 §41.4).
func printable(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !bytes.ContainsRune([]byte(" '()+,-./:=?"), rune(c)) {
			return false
		}
	}
	return s != ""
}

// anyPolicy is for CAs (RFC 5280 §4.2.1.4), not for people.
var anyPolicy = func() x509.OID {
	oid, err := x509.OIDFromInts([]uint64{2, 5, 29, 32, 0})
	if err != nil {
		panic(err)
	}
	return oid
}()

// permits says whether a public key is of a kind that the profile allows.
func (p *Profile) permits(public crypto.PublicKey) error {
	alg := keyring.AlgorithmOf(public)
	if !slices.Contains(p.algorithms, alg) {
		return fmt.Errorf("key of type %T is not among %v", public, p.algorithms)
	}
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if _, err := k.ECDH(); err != nil { // is it a point of its curve?
			return err
		}
	case *rsa.PublicKey:
		if k.E != 65537 || k.N.Bit(0) == 0 {
			return errors.New("unusual RSA key")
		}
	}
	return nil
}

// directoryAttributes encodes subject type, card type and last four (RFC 5280
// §4.2.1.8, with the attribute types of the government PKI).
func (p *Profile) directoryAttributes(info certpath.CitizenInfo) (pkix.Extension, error) {
	type attribute struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}
	subjectType, err := asn1.Marshal(info.SubjectType)
	if err != nil {
		return pkix.Extension{}, err
	}
	value, err := asn1.Marshal([]attribute{
		{oidSubjectType, []asn1.RawValue{{FullBytes: subjectType}}},
		{oidCardType, []asn1.RawValue{{Tag: asn1.TagPrintableString, Bytes: []byte(p.cardType)}}},
		{oidIDLast4, []asn1.RawValue{{Tag: asn1.TagUTF8String, Bytes: []byte(info.IDLast4)}}},
	})
	return pkix.Extension{Id: oidDirectoryAttributes, Value: value}, err
}
