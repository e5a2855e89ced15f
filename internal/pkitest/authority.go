package pkitest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"time"
)

// Authority is a certificate with its key, for tests that need a hierarchy of
// another shape than Hierarchy's. Keys are P-256.
type Authority struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// NewRoot makes a self-signed CA from a template; see Issue for what is filled in.
func NewRoot(tpl x509.Certificate) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	caDefaults(&tpl)
	fill(&tpl, key.Public())
	cert, err := sign(&tpl, &tpl, key.Public(), key)
	return &Authority{cert, key}, err
}

// CA issues a CA certificate to a new key.
func (a *Authority) CA(tpl x509.Certificate) (*Authority, error) {
	caDefaults(&tpl)
	return a.Issue(tpl)
}

// Issue signs a certificate for a new key. Serial number, key identifiers and, if
// zero, the validity (an hour back, a year on) are filled in.
func (a *Authority) Issue(tpl x509.Certificate) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := a.Certify(tpl, key.Public())
	return &Authority{cert, key}, err
}

// Certify is Issue for a key that is there already: cross-certificates.
func (a *Authority) Certify(tpl x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
	fill(&tpl, pub)
	return sign(&tpl, a.Certificate, pub, a.Key)
}

func caDefaults(tpl *x509.Certificate) {
	tpl.IsCA, tpl.BasicConstraintsValid = true, true
	if tpl.KeyUsage == 0 {
		tpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	if tpl.MaxPathLen == 0 && !tpl.MaxPathLenZero {
		tpl.MaxPathLen = -1
	}
}

func fill(tpl *x509.Certificate, pub crypto.PublicKey) {
	if tpl.SerialNumber == nil {
		tpl.SerialNumber = randomSerial()
	}
	if tpl.NotBefore.IsZero() {
		tpl.NotBefore = time.Now().Add(-time.Hour)
	}
	if tpl.NotAfter.IsZero() {
		tpl.NotAfter = tpl.NotBefore.AddDate(1, 0, 0)
	}
	if tpl.SubjectKeyId == nil {
		tpl.SubjectKeyId = keyID(pub)
	}
	tpl.SerialNumber = new(big.Int).Set(tpl.SerialNumber)
}
