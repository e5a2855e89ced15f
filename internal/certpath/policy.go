package certpath

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
)

var anyPolicy = asn1.ObjectIdentifier{2, 5, 29, 32, 0}

// checkPolicies demands one policy that holds along the whole path.
//
// crypto/x509 computes the policy graph (RFC 9618), but requires an explicit
// policy only if a CA asked for that; a leaf without policies then passes. A
// profile with policies always requires one. Mapping is inhibited from the start
// (RFC 5280 §6.1.1 (e)), so the graph shrinks to a set: every certificate below
// the anchor names the policy, or, for a CA, anyPolicy where that is not
// inhibited (§6.1.3 (d)). A leaf must name it itself.
func checkPolicies(path []*x509.Certificate, p Profile) error {
	if len(p.Policies) == 0 {
		return nil
	}
	for _, want := range p.Policies {
		if policyHolds(path, want) {
			return nil
		}
	}
	return ErrPolicy.Because(fmt.Errorf("path asserts none of %v", p.Policies))
}

func policyHolds(path []*x509.Certificate, want asn1.ObjectIdentifier) bool {
	if !hasPolicy(path[0], want) {
		return false
	}
	anyAllowed := len(path) // certificates for which anyPolicy still counts
	for i := len(path) - 2; i > 0; i-- {
		c := path[i]
		selfIssued := string(c.RawIssuer) == string(c.RawSubject)
		if !hasPolicy(c, want) && !(hasPolicy(c, anyPolicy) && (anyAllowed > 0 || selfIssued)) {
			return false
		}
		if !selfIssued && anyAllowed > 0 {
			anyAllowed-- // RFC 5280 §6.1.4 (h)
		}
		if n := c.InhibitAnyPolicy; (n > 0 || n == 0 && c.InhibitAnyPolicyZero) && n < anyAllowed {
			anyAllowed = n // §6.1.4 (j)
		}
	}
	return true
}

func hasPolicy(c *x509.Certificate, want asn1.ObjectIdentifier) bool {
	for _, p := range c.Policies {
		if p.EqualASN1OID(want) {
			return true
		}
	}
	return false
}
