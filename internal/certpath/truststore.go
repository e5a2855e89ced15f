package certpath

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

var oidKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 15}

// TrustStore holds trust anchors and the CA certificates configured below them.
// It is immutable, and safe for concurrent use.
//
// Several certificates may carry the same subject name: MOICA's three
// generations do. They are told apart by key: path building tries those whose
// key identifier matches first, and only a signature that verifies counts.
type TrustStore struct {
	anchors   []*x509.Certificate
	bySubject map[string][]*member // anchors first, then the others
	known     map[[32]byte]standing
	links     sync.Map // [2][32]byte, child and issuer → bool, whether the signature verifies
}

// standing is what the store has a certificate as.
type standing uint8

const (
	stranger standing = iota
	trusted
	helper
)

// NewTrustStore makes a store. Every certificate must be a CA (RFC 5280
// §4.2.1.9). An anchor need not be self-signed: pinning an issuing CA is fine.
func NewTrustStore(anchors, intermediates []*x509.Certificate) (*TrustStore, error) {
	if len(anchors) == 0 {
		return nil, errors.New("certpath: a trust store needs an anchor")
	}
	s := &TrustStore{bySubject: make(map[string][]*member), known: make(map[[32]byte]standing)}
	for i, c := range anchors {
		added, err := s.add(c, trusted)
		if err != nil {
			return nil, fmt.Errorf("certpath: anchor %d: %w", i+1, err)
		}
		if added {
			s.anchors = append(s.anchors, c)
		}
	}
	for i, c := range intermediates {
		if _, err := s.add(c, helper); err != nil {
			return nil, fmt.Errorf("certpath: intermediate %d: %w", i+1, err)
		}
	}
	return s, nil
}

// Lists are the revocation lists that the configured CA certificates name for
// themselves, each with the certificate that issued it: a path cannot be judged
// without them, so they are worth having at hand from the start.
func (s *TrustStore) Lists() []ListSource {
	var out []ListSource
	seen := make(map[ListKey]bool)
	for _, members := range s.bySubject {
		for _, m := range members {
			if s.isAnchor(m) {
				continue
			}
			for _, issuer := range s.bySubject[m.names.issuer.key()] {
				if m.cert.CheckSignatureFrom(issuer.cert) != nil {
					continue
				}
				for _, url := range httpOnly(m.cert.CRLDistributionPoints) {
					if l := (ListSource{url, issuer.cert}); !seen[l.key()] {
						seen[l.key()] = true
						out = append(out, l)
					}
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b ListSource) int { return strings.Compare(a.URL, b.URL) })
	return out
}

// add takes a certificate in, unless it is in already.
func (s *TrustStore) add(c *x509.Certificate, k standing) (bool, error) {
	if err := usableCA(c); err != nil {
		return false, err
	}
	m := newMember(c)
	if m.form != nil {
		return false, m.form
	}
	if s.known[m.id] != stranger {
		return false, nil
	}
	s.known[m.id] = k
	key := m.names.subject.key()
	s.bySubject[key] = append(s.bySubject[key], m)
	return true, nil
}

var errMayNotSignCertificates = errors.New("key usage does not allow signing certificates")

func usableCA(c *x509.Certificate) error {
	switch {
	case c == nil:
		return errors.New("missing")
	case !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("not a CA certificate")
	case c.KeyUsage&x509.KeyUsageCertSign == 0 && hasKeyUsage(c):
		return errMayNotSignCertificates
	}
	return nil
}

// hasKeyUsage tells an extension without any bit from none at all.
func hasKeyUsage(c *x509.Certificate) bool {
	_, found := extensionValue(c, oidKeyUsage)
	return found || c.KeyUsage != 0
}

// Anchors lists the trust anchors in configured order.
func (s *TrustStore) Anchors() []*x509.Certificate {
	return append([]*x509.Certificate(nil), s.anchors...)
}

// configured tells whether exactly this certificate is in the store.
func (s *TrustStore) configured(m *member) bool { return s.known[m.id] != stranger }

func (s *TrustStore) isAnchor(m *member) bool { return s.known[m.id] == trusted }

// AnchorID is the stable public name of a trust anchor: its key identifier in
// lower-case hex or, without one, the SHA-256 of its public key info.
func AnchorID(c *x509.Certificate) string {
	if len(c.SubjectKeyId) > 0 {
		return hex.EncodeToString(c.SubjectKeyId)
	}
	id := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(id[:])
}

// ParseCertificates reads certificates as operators have them in files: PEM, one
// or many, or a single DER certificate. At most 64.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	if !bytes.Contains(data, []byte("-----BEGIN ")) {
		c, err := x509.ParseCertificate(data)
		if err != nil {
			return nil, ErrMalformed.Because(err)
		}
		return []*x509.Certificate{c}, nil
	}
	var certs []*x509.Certificate
	for len(certs) <= maxExtra {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, ErrMalformed.Because(err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 || len(certs) > maxExtra {
		return nil, ErrMalformed.Because(fmt.Errorf("%d certificates", len(certs)))
	}
	return certs, nil
}
