package certpath

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// TrustStore holds trust anchors and the CA certificates configured below them.
// It is immutable, and safe for concurrent use.
//
// Several certificates may carry the same subject name: MOICA's three
// generations do. They are told apart by key: path building tries those whose
// key identifier matches first, and only a signature that verifies counts.
type TrustStore struct {
	anchors       []*x509.Certificate
	intermediates []*x509.Certificate
	roots         *x509.CertPool
	known         map[[32]byte]bool // anchors and intermediates by SHA-256
}

// NewTrustStore makes a store. Every certificate must be a CA (RFC 5280
// §4.2.1.9). An anchor need not be self-signed: pinning an issuing CA is fine.
func NewTrustStore(anchors, intermediates []*x509.Certificate) (*TrustStore, error) {
	if len(anchors) == 0 {
		return nil, errors.New("certpath: a trust store needs an anchor")
	}
	s := &TrustStore{roots: x509.NewCertPool(), known: make(map[[32]byte]bool)}
	for i, c := range anchors {
		if err := usableCA(c); err != nil {
			return nil, fmt.Errorf("certpath: anchor %d: %w", i+1, err)
		}
		if s.add(c) {
			s.anchors = append(s.anchors, c)
			s.roots.AddCert(c)
		}
	}
	for i, c := range intermediates {
		if err := usableCA(c); err != nil {
			return nil, fmt.Errorf("certpath: intermediate %d: %w", i+1, err)
		}
		if s.add(c) {
			s.intermediates = append(s.intermediates, c)
		}
	}
	return s, nil
}

func (s *TrustStore) add(c *x509.Certificate) bool {
	id := sha256.Sum256(c.Raw)
	if s.known[id] {
		return false
	}
	s.known[id] = true
	return true
}

func usableCA(c *x509.Certificate) error {
	switch {
	case c == nil:
		return errors.New("missing")
	case !c.BasicConstraintsValid || !c.IsCA:
		return errors.New("not a CA certificate")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("key usage does not allow signing certificates")
	}
	return nil
}

// Anchors lists the trust anchors in configured order.
func (s *TrustStore) Anchors() []*x509.Certificate {
	return append([]*x509.Certificate(nil), s.anchors...)
}

// configured tells whether exactly this certificate is in the store.
func (s *TrustStore) configured(c *x509.Certificate) bool { return s.known[sha256.Sum256(c.Raw)] }

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
