package pkitest

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var shared = sync.OnceValues(func() (*Hierarchy, error) {
	h, _, err := Start(Options{})
	return h, err
})

func hierarchy(t *testing.T) *Hierarchy {
	t.Helper()
	h, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func citizen(t *testing.T, h *Hierarchy, o CitizenOptions) *Card {
	t.Helper()
	c, err := h.Citizen(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func writePEM(t *testing.T, name string, certs ...*x509.Certificate) string {
	t.Helper()
	var b bytes.Buffer
	for _, c := range certs {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openssl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.Command("openssl", args...).CombinedOutput()
	return string(out), err
}

func TestSubjectsHaveTheShapeOfMOICA(t *testing.T) {
	h := hierarchy(t)
	if got := h.CA.Subject.String(); got != "OU=(測試用) 內政部憑證管理中心,O=行政院,C=TW" {
		t.Errorf("CA subject %q", got)
	}
	c := citizen(t, h, CitizenOptions{Name: "王小明"})
	if got := c.Certificate.Subject.String(); got != "SERIALNUMBER="+c.Serial16+",CN=王小明,C=TW" {
		t.Errorf("citizen subject %q", got)
	}
	if len(c.Serial16) != 16 || len(c.CardNumber) != 16 || c.CardNumber[:2] != "TP" {
		t.Errorf("numbers %q %q", c.Serial16, c.CardNumber)
	}
}

func TestOpenSSLAcceptsPathAndRevocation(t *testing.T) {
	h := hierarchy(t)
	good := citizen(t, h, CitizenOptions{})
	revoked := citizen(t, h, CitizenOptions{Revoked: true})
	root, ca := writePEM(t, "root.pem", h.Root), writePEM(t, "ca.pem", h.CA)
	for _, tc := range []struct {
		card *Card
		want string
	}{{good, ": good"}, {revoked, ": revoked"}} {
		leaf := writePEM(t, "leaf.pem", tc.card.Certificate)
		if out, err := openssl(t, "verify", "-x509_strict", "-CAfile", root, "-untrusted", ca, leaf); err != nil && !strings.Contains(out, "error 92") {
			t.Errorf("verify: %s", out)
		}
		for _, hash := range []string{"-sha1", "-sha256"} {
			out, err := openssl(t, "ocsp", hash, "-issuer", ca, "-cert", leaf, "-url", h.BaseURL()+PathOCSP, "-CAfile", root, "-verify_other", ca, "-nonce")
			if err != nil || !strings.Contains(out, tc.want) || !strings.Contains(out, "Response verify OK") || strings.Contains(out, "WARNING") {
				t.Errorf("ocsp %s: want %q, got %v\n%s", hash, tc.want, err, out)
			}
		}
	}
	crl, err := h.CRL(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "crl.der")
	os.WriteFile(file, crl, 0o600)
	out, err := openssl(t, "crl", "-inform", "DER", "-in", file, "-noout", "-text", "-CAfile", ca)
	serial := strings.ToUpper(revoked.Certificate.SerialNumber.Text(16))
	if err != nil || !strings.Contains(out, serial) {
		t.Errorf("CRL: %v\n%s", err, out)
	}
}

func TestSaveAndLoadKeepEverything(t *testing.T) {
	h, err := NewHierarchy(Options{BaseURL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	c := citizen(t, h, CitizenOptions{Revoked: true, Name: "陳美麗", NationalID: "F234567890"})
	dir := t.TempDir()
	if err := h.Save(dir); err != nil {
		t.Fatal(err)
	}
	back, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := back.Cards()[0]
	if !b.Certificate.Equal(c.Certificate) || b.PIN != c.PIN || b.NationalID != c.NationalID || b.CardNumber != c.CardNumber {
		t.Errorf("card changed: %+v", b)
	}
	if !b.Key.(*rsa.PrivateKey).Equal(c.Key) || !back.CA.Equal(h.CA) || len(back.revoked) != 1 {
		t.Error("keys, CA or revocations changed")
	}
	next := citizen(t, back, CitizenOptions{})
	if next.Serial16 == c.Serial16 {
		t.Error("a subject serial number was given twice")
	}
	if _, err := Load(t.TempDir()); !os.IsNotExist(err) {
		t.Errorf("empty directory: %v", err)
	}
}

func TestOpenSSLVerifiesAttachedSignature(t *testing.T) {
	h := hierarchy(t)
	c := citizen(t, h, CitizenOptions{})
	der, err := SignAttached(c, []byte("to be signed"), SignOptions{Nonce: []byte("nonce"), CardSN: c.CardNumber})
	if err != nil {
		t.Fatal(err)
	}
	roots := writePEM(t, "roots.pem", h.Root, h.CA)
	verify := func(der []byte) (string, error) {
		file := filepath.Join(t.TempDir(), "sig.p7m")
		os.WriteFile(file, der, 0o600)
		return openssl(t, "cms", "-verify", "-binary", "-inform", "DER", "-in", file, "-CAfile", roots, "-purpose", "any")
	}
	if out, err := verify(der); err != nil || !strings.Contains(out, "to be signed") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := verify(bytes.Replace(der, []byte("to be signed"), []byte("to be sIgned"), 1)); err == nil {
		t.Errorf("a changed content was accepted\n%s", out)
	}
}

func TestPKCS1AndRAWAreTheSameSignature(t *testing.T) {
	c := citizen(t, hierarchy(t), CitizenOptions{})
	tbs := []byte("公文")
	digest := sha256.Sum256(tbs)
	pub := c.Certificate.PublicKey.(*rsa.PublicKey)
	info := append([]byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, digest[:]...)
	p1, err1 := SignPKCS1(c, tbs)
	raw, err2 := SignRAW(c, info)
	if err1 != nil || err2 != nil || !bytes.Equal(p1, raw) {
		t.Fatalf("%v %v", err1, err2)
	}
	if err := rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], raw); err != nil {
		t.Error(err)
	}
}
