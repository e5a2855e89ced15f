package certpath_test

import (
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"

	"sealgate/internal/pkitest"
)

// signedBy signs a template with a card's key under any parent.
func signedBy(t *testing.T, parent *x509.Certificate, c *pkitest.Card, tpl *x509.Certificate) *x509.Certificate {
	t.Helper()
	tpl.NotBefore, tpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, c.Key.Public(), c.Key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
