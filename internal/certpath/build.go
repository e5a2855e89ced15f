package certpath

import (
	"bytes"
	"crypto/x509"
	"slices"
)

// Bounds on path building: what others send may chain in many ways.
const (
	maxPaths      = 8
	maxSignatures = 64 // signature checks for one end certificate
)

// builder finds paths from an end certificate up to an anchor by names and
// signatures (RFC 5280 §6.1.3 (a)(1) and (4)). Key identifiers choose what is tried
// first (§4.2.1.1): that is how MOICA's generations, which share one name, are
// told apart without trying each.
type builder struct {
	store  *TrustStore
	extra  []*member
	limit  int
	budget int
	paths  int
	// found is called for each path; true ends the search.
	found func(path []*member) bool
}

// extend tries every issuer of the path's last certificate.
func (b *builder) extend(path []*member) (done bool) {
	last := path[len(path)-1]
	if len(path) >= b.limit || last.form != nil {
		return false
	}
	for _, m := range b.issuers(last) {
		if b.budget <= 0 || b.paths >= maxPaths {
			return true
		}
		if slices.ContainsFunc(path, func(p *member) bool { return p.id == m.id }) || !b.signed(last, m) {
			continue
		}
		longer := append(slices.Clip(path), m)
		if b.store.isAnchor(m) {
			b.paths++
			if b.found(longer) {
				return true
			}
			continue
		}
		if b.extend(longer) {
			return true
		}
	}
	return false
}

// issuers lists candidates by name, best first: a key identifier that matches
// before none before another one, and in each case anchors before the
// configured CAs before what came along.
func (b *builder) issuers(child *member) []*member {
	key := child.names.issuer.key()
	all := slices.Clone(b.store.bySubject[key])
	for _, m := range b.extra {
		if m.form == nil && m.names.subject.key() == key {
			all = append(all, m)
		}
	}
	slices.SortStableFunc(all, func(x, y *member) int { return rank(child.cert, x.cert) - rank(child.cert, y.cert) })
	return all
}

func rank(child, issuer *x509.Certificate) int {
	switch {
	case len(child.AuthorityKeyId) == 0 || len(issuer.SubjectKeyId) == 0:
		return 1
	case bytes.Equal(child.AuthorityKeyId, issuer.SubjectKeyId):
		return 0
	}
	return 2
}

// signed checks a signature, with the memory of those between configured
// certificates, which never change.
func (b *builder) signed(child, issuer *member) bool {
	if !b.store.configured(child) || !b.store.configured(issuer) {
		b.budget--
		return signedBy(child.cert, issuer.cert)
	}
	link := [2][32]byte{child.id, issuer.id}
	if known, ok := b.store.links.Load(link); ok {
		return known.(bool)
	}
	ok := signedBy(child.cert, issuer.cert)
	b.store.links.Store(link, ok)
	return ok
}

// signedBy checks the signature alone. Which algorithms are allowed is the
// profile's matter, so one that is out of use can still be told by its name.
func signedBy(child, issuer *x509.Certificate) bool {
	return issuer.CheckSignature(child.SignatureAlgorithm, child.RawTBSCertificate, child.Signature) == nil
}
