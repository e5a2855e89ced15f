package certpath

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"sealgate/internal/fault"
)

// member is a certificate of a path with what was read from it once.
type member struct {
	cert        *x509.Certificate
	id          [32]byte // SHA-256 of the certificate
	names       certNames
	constraints *nameConstraints
	form        error // why it cannot be part of a path
}

func newMember(c *x509.Certificate) *member {
	m := &member{cert: c, id: sha256.Sum256(c.Raw)}
	if m.names, m.form = namesOf(c); m.form == nil {
		m.constraints, m.form = constraintsOf(c)
	}
	return m
}

// walk is the state of RFC 5280 §6.1.2, going from the anchor to the end
// certificate. Counters say how many more certificates may follow before a
// limit bites.
type walk struct {
	p           Profile
	at          time.Time
	policies    policyGraph
	explicit    int
	mapping     int
	inhibitAny  int
	length      int
	constraints []*nameConstraints
	comparisons int
}

// checkPath is the certification path validation of RFC 5280 §6.1 for a path
// whose names and signatures chain. path has the end certificate first and the
// anchor last. It gives the policies the path is valid for; nil for any, or
// where none was asked for.
//
// The anchor is trusted by decree, yet what its certificate says against
// itself is heard: validity, path length, key usage, name constraints (RFC 5937).
func checkPath(path []*member, at time.Time, p Profile) ([]string, error) {
	n := len(path) - 1
	w := walk{p: p, at: at, policies: newPolicyGraph(), explicit: n + 1, mapping: n + 1, inhibitAny: n + 1, length: n, comparisons: maxComparisons}
	if p.ExplicitPolicy || len(p.Policies) > 0 && !p.PolicyOptional {
		w.explicit = 0
	}
	if !p.AllowPolicyMapping {
		w.mapping = 0
	}
	if p.InhibitAnyPolicy {
		w.inhibitAny = 0
	}
	if len(path) > p.maxPath() {
		return nil, broken(ErrUntrusted, RulePathSize, nil, "path of %d certificates, %d allowed", len(path), p.maxPath())
	}
	if err := w.anchor(path[n]); err != nil {
		return nil, err
	}
	for i := n - 1; i > 0; i-- {
		if err := w.every(path[i], false); err != nil {
			return nil, err
		}
		if err := w.authority(path[i]); err != nil {
			return nil, err
		}
	}
	leaf := path[0]
	if err := w.every(leaf, true); err != nil {
		return nil, err
	}
	return w.end(leaf.cert)
}

func (w *walk) anchor(m *member) error {
	c := m.cert
	if m.form != nil {
		return broken(ErrUntrusted, RuleForm, c, "%w", m.form)
	}
	if w.at.Before(c.NotBefore) || w.at.After(c.NotAfter) {
		return broken(ErrUntrusted, RuleValidity, c, "the anchor is outside its validity")
	}
	if err := w.checkKey(c); err != nil {
		return err
	}
	return w.mayIssue(m)
}

// every is §6.1.3, for each certificate below the anchor.
func (w *walk) every(m *member, last bool) error {
	c := m.cert
	if m.form != nil {
		return broken(ErrUntrusted, RuleForm, c, "%w", m.form)
	}
	if err := w.checkValidity(c, last); err != nil {
		return err
	}
	if err := w.checkKey(c); err != nil {
		return err
	}
	if !slices.Contains(w.p.algorithms(), c.SignatureAlgorithm) {
		return broken(ErrUntrusted, RuleAlgorithm, c, "signature algorithm %s is not allowed", c.SignatureAlgorithm)
	}
	if !m.names.selfIssued || last { // (b), (c)
		if err := w.checkNames(m); err != nil {
			return err
		}
	}
	// (d), (e). inhibitAny does not count against a self-issued certificate
	// that is not the last one.
	w.policies.certificate(c.Policies, w.inhibitAny > 0 || !last && m.names.selfIssued)
	if w.policies.empty() && w.explicit == 0 { // (f)
		return broken(ErrPolicy, RulePolicy, c, "no policy holds up to here")
	}
	for _, id := range c.UnhandledCriticalExtensions {
		if !id.Equal(oidNameConstraints) { // crypto/x509 knows fewer kinds of them than constraints.go
			return broken(ErrUntrusted, RuleCriticalExtension, c, "extension %s", id)
		}
	}
	return nil
}

func (w *walk) checkValidity(c *x509.Certificate, last bool) error {
	early, late := w.at.Before(c.NotBefore), w.at.After(c.NotAfter)
	switch {
	case !early && !late:
		return nil
	case !last:
		return broken(ErrUntrusted, RuleValidity, c, "a CA certificate outside its validity")
	case early:
		return broken(ErrNotYetValid.With("not_before", c.NotBefore.UTC().Format(time.RFC3339)), RuleValidity, c, "not yet valid")
	}
	return broken(ErrExpired.With("not_after", c.NotAfter.UTC().Format(time.RFC3339)), RuleValidity, c, "expired")
}

func (w *walk) checkNames(m *member) error {
	if len(w.constraints) == 0 {
		return nil
	}
	names, err := constrainedNames(m.cert, m.names.subject)
	if err != nil {
		return broken(ErrUntrusted, RuleNameConstraints, m.cert, "%w", err)
	}
	for _, nc := range w.constraints {
		for _, n := range names {
			if err := nc.check(n, &w.comparisons); err != nil {
				return broken(ErrUntrusted, RuleNameConstraints, m.cert, "%w", err)
			}
		}
	}
	return nil
}

// authority is §6.1.4, for each CA certificate below the anchor.
func (w *walk) authority(m *member) error {
	c := m.cert
	if err := w.policies.mappings(c.PolicyMappings, w.mapping > 0); err != nil {
		return broken(ErrPolicy, RulePolicyMapping, c, "%w", err)
	}
	if !m.names.selfIssued { // (h), (l)
		if w.length <= 0 {
			return broken(ErrUntrusted, RulePathLength, c, "one CA too many below a path length constraint")
		}
		w.length--
		for _, counter := range []*int{&w.explicit, &w.mapping, &w.inhibitAny} {
			*counter = max(0, *counter-1)
		}
	}
	lower(&w.explicit, c.RequireExplicitPolicy, c.RequireExplicitPolicyZero) // (i)
	lower(&w.mapping, c.InhibitPolicyMapping, c.InhibitPolicyMappingZero)
	lower(&w.inhibitAny, c.InhibitAnyPolicy, c.InhibitAnyPolicyZero) // (j)
	return w.mayIssue(m)
}

// lower takes over a constraint that crypto/x509 gives as a number and, since
// zero also means absent, a flag.
func lower(counter *int, value int, zero bool) {
	if value > 0 || value == 0 && zero {
		*counter = min(*counter, value)
	}
}

// mayIssue is what anchor and CAs have in common: (g), (k), (m), (n), and that
// an extended key usage of a CA limits those below it, as everybody reads it.
func (w *walk) mayIssue(m *member) error {
	c := m.cert
	if m.constraints != nil {
		w.constraints = append(w.constraints, m.constraints)
	}
	if err := usableCA(c); err != nil {
		rule := RuleBasicConstraints
		if errors.Is(err, errMayNotSignCertificates) {
			rule = RuleCAKeyUsage
		}
		return broken(ErrUntrusted, rule, c, "%w", err)
	}
	if c.MaxPathLen > 0 || c.MaxPathLen == 0 && c.MaxPathLenZero {
		w.length = min(w.length, c.MaxPathLen)
	}
	if len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0 || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return nil
	}
	for _, want := range w.p.ExtKeyUsages {
		if !slices.Contains(c.ExtKeyUsage, want) {
			return broken(ErrKeyUsage, RuleExtKeyUsage, c, "a CA not for extended key usage %d", want)
		}
	}
	return nil
}

// end is §6.1.5 and what the profile wants of the end certificate.
func (w *walk) end(leaf *x509.Certificate) ([]string, error) {
	if err := checkLeafUsage(leaf, w.p); err != nil {
		return nil, err
	}
	w.explicit = max(0, w.explicit-1) // (a)
	if leaf.RequireExplicitPolicyZero {
		w.explicit = 0 // (b)
	}
	ids, all := w.policies.valid(w.p.Policies) // (g)
	if !all && len(ids) == 0 && w.explicit == 0 {
		return nil, broken(ErrPolicy, RulePolicy, leaf, "the path is valid for none of %v", w.p.Policies)
	}
	if len(w.p.Policies) > 0 && !w.p.PolicyOptional && !w.p.AnyPolicyLeaf && !namesOne(leaf, ids) {
		return nil, broken(ErrPolicy, RulePolicy, leaf, "the end certificate itself names none of %v", ids)
	}
	return ids, nil
}

// namesOne: with mapping the leaf may use other names than the anchor's domain.
func namesOne(leaf *x509.Certificate, ids []string) bool {
	return slices.ContainsFunc(leaf.Policies, func(p x509.OID) bool { return slices.Contains(ids, p.String()) })
}

func (w *walk) checkKey(c *x509.Certificate) error {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < w.p.minRSABits() {
			return broken(ErrUntrusted, RuleKeyStrength, c, "RSA key of %d bits, %d demanded", k.N.BitLen(), w.p.minRSABits())
		}
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize < 256 {
			return broken(ErrUntrusted, RuleKeyStrength, c, "curve of %d bits", k.Curve.Params().BitSize)
		}
	case ed25519.PublicKey:
	default:
		return broken(ErrUntrusted, RuleKeyStrength, c, "key of type %T", k)
	}
	return nil
}

func checkLeafUsage(leaf *x509.Certificate, p Profile) error {
	switch {
	case leaf.IsCA && !p.AllowCA:
		return broken(ErrKeyUsage, RuleEndEntity, leaf, "a CA certificate")
	case leaf.KeyUsage&p.KeyUsageAll != p.KeyUsageAll:
		return broken(ErrKeyUsage, RuleKeyUsage, leaf, "key usage %09b lacks %09b", leaf.KeyUsage, p.KeyUsageAll)
	case p.KeyUsageAny != 0 && leaf.KeyUsage&p.KeyUsageAny == 0:
		return broken(ErrKeyUsage, RuleKeyUsage, leaf, "key usage %09b has none of %09b", leaf.KeyUsage, p.KeyUsageAny)
	}
	for _, want := range p.ExtKeyUsages {
		if !slices.Contains(leaf.ExtKeyUsage, want) {
			return broken(ErrKeyUsage, RuleExtKeyUsage, leaf, "extended key usage %d is missing", want)
		}
	}
	return nil
}

// worse tells whether a second reason should be told instead of the first: a
// revocation is, and anything is more telling than "no path".
func worse(first, second error) bool {
	return first == nil || revokedCode(second) && !revokedCode(first) ||
		fault.CodeOf(first) == ErrUntrusted.Code && fault.CodeOf(second) != ErrUntrusted.Code
}
