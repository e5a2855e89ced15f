package sigverify

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"

	"sealgate/internal/certpath"
)

// identityOf reads who a certificate names. The fields of the citizen profile
// are filled for certificates of its form; that they are true is the matter of
// whoever issued it, which Chain tells.
func identityOf(c *x509.Certificate) *Identity {
	id := &Identity{Name: c.Subject.CommonName, Organization: strings.Join(c.Subject.Organization, ", "),
		Unit: strings.Join(c.Subject.OrganizationalUnit, ", "), Country: strings.Join(c.Subject.Country, ", "),
		Issuer: nameOf(c.Issuer.CommonName, c.Issuer.OrganizationalUnit, c.Issuer.Organization), Serial: serialOf(c), Kind: "person"}
	if info, err := certpath.ParseCitizen(c); err == nil {
		id.Name, id.IDLast4, id.Kind, id.CardType = info.Name, info.IDLast4, "citizen", "card"
		if info.CardType != "" {
			id.CardType = info.CardType
		}
		if info.SubjectType.Equal(certpath.SubjectTypeResident) {
			id.Kind = "resident"
		}
		return id
	}
	if id.Organization != "" && (id.Name == "" || id.Name == id.Organization) { // else a person of it
		id.Kind = "organization"
	}
	return id
}

// nameOf takes the most telling part of a name: MOICA's CAs have no common name.
func nameOf(common string, lists ...[]string) string {
	if common != "" {
		return common
	}
	for _, l := range lists {
		if len(l) > 0 {
			return l[0]
		}
	}
	return ""
}

func serialOf(c *x509.Certificate) string {
	if c.SerialNumber == nil {
		return ""
	}
	return c.SerialNumber.Text(16)
}

func fingerprint(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

func certificateOf(c *x509.Certificate, anchor bool) Certificate {
	return Certificate{Subject: c.Subject.String(), Issuer: c.Issuer.String(), Serial: serialOf(c),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), Key: keyName(c.PublicKey), SHA256: fingerprint(c.Raw), Anchor: anchor}
}

// reasons are the words of RFC 5280 §5.3.1.
var reasons = map[int]string{
	0: "unspecified", 1: "keyCompromise", 2: "cACompromise", 3: "affiliationChanged", 4: "superseded",
	5: "cessationOfOperation", 6: "certificateHold", 8: "removeFromCRL", 9: "privilegeWithdrawn", 10: "aACompromise",
}
