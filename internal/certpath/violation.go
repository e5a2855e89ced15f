package certpath

import (
	"crypto/x509"
	"fmt"

	"sealgate/internal/fault"
)

// Rule names one rule that a path must keep. RULES.md has the tests of each.
type Rule string

// The rules, with the section of RFC 5280 each comes from; those without are ours.
const (
	RuleForm              Rule = "form"               // §4.1: version 3, positive serial number of at most 20 octets, readable names
	RulePath              Rule = "path"               // §6.1.3 (a)(1), (4): names and signatures lead to an anchor
	RulePathSize          Rule = "path_size"          // Profile.MaxPath
	RuleValidity          Rule = "validity"           // §6.1.3 (a)(2)
	RuleNameConstraints   Rule = "name_constraints"   // §6.1.3 (b), (c), §4.2.1.10
	RulePolicy            Rule = "policy"             // §6.1.3 (d) to (f), §6.1.5 (g), RFC 9618
	RulePolicyMapping     Rule = "policy_mapping"     // §6.1.4 (a), (b)
	RuleBasicConstraints  Rule = "basic_constraints"  // §6.1.4 (k)
	RulePathLength        Rule = "path_length"        // §6.1.4 (l), (m)
	RuleCAKeyUsage        Rule = "ca_key_usage"       // §6.1.4 (n)
	RuleCriticalExtension Rule = "critical_extension" // §6.1.4 (o), §6.1.5 (f)
	RuleEndEntity         Rule = "end_entity"         // Profile.AllowCA
	RuleKeyUsage          Rule = "key_usage"          // §4.2.1.3 with Profile.KeyUsageAll, KeyUsageAny
	RuleExtKeyUsage       Rule = "ext_key_usage"      // §4.2.1.12 with Profile.ExtKeyUsages
	RuleAlgorithm         Rule = "algorithm"          // Profile.SignatureAlgorithms
	RuleKeyStrength       Rule = "key_strength"       // Profile.MinRSABits
	RuleRevocation        Rule = "revocation"         // §6.1.3 (a)(3), §6.3; RFC 6960
)

// Violation is the cause inside a fault of this package: which rule was broken,
// by which certificate of the path. It is for reports on signatures and for the
// log, and holds the certificate's name: it must not reach the public.
type Violation struct {
	Rule        Rule
	Certificate *x509.Certificate
	Detail      error
}

// Error names the rule and what broke it.
func (v *Violation) Error() string {
	if v.Certificate == nil {
		return fmt.Sprintf("%s: %v", v.Rule, v.Detail)
	}
	return fmt.Sprintf("%s: serial %x: %v", v.Rule, v.Certificate.SerialNumber, v.Detail)
}

// Unwrap gives the detail.
func (v *Violation) Unwrap() error { return v.Detail }

// broken is the error for a broken rule, under the public fault it becomes.
func broken(f *fault.Error, rule Rule, c *x509.Certificate, format string, args ...any) error {
	return f.Because(&Violation{rule, c, fmt.Errorf(format, args...)})
}
