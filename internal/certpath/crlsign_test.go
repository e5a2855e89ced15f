package certpath_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/pkitest"
)

// Our own lists are read by crypto/x509, by openssl and by ourselves alike.
func TestSignCRL(t *testing.T) {
	h := hierarchy()
	leaf := card(t, h, pkitest.CitizenOptions{KeyType: pkitest.P256}).Certificate
	now := time.Now().UTC().Truncate(time.Second)
	tpl := certpath.ListTemplate{Number: new(big.Int).Lsh(big.NewInt(5), 70), ThisUpdate: now, NextUpdate: now.Add(time.Hour), Point: leaf.CRLDistributionPoints[0],
		Revoked: []certpath.RevokedSerial{{leaf.SerialNumber.Bytes(), now.Add(-time.Minute), 4}, {[]byte{0, 0xff}, now, 0}, {[]byte{1}, time.Date(2055, 1, 1, 0, 0, 0, 0, time.UTC), 1}}}
	der := must[[]byte](t)(certpath.SignCRL(rand.Reader, tpl, h.CA, h.CASigner()))
	theirs := must[*x509.RevocationList](t)(x509.ParseRevocationList(der))
	ours := must[*certpath.CRL](t)(certpath.ParseCRL(der))
	if err := theirs.CheckSignatureFrom(h.CA); err != nil {
		t.Error(err)
	}
	if err := ours.Verify(h.CA); err != nil {
		t.Error(err)
	}
	if len(theirs.RevokedCertificateEntries) != 3 || ours.Len() != 3 || theirs.Number.Cmp(tpl.Number) != 0 || ours.Number.Cmp(tpl.Number) != 0 || string(theirs.AuthorityKeyId) != string(h.CA.SubjectKeyId) {
		t.Errorf("%+v", theirs)
	}
	for i, e := range theirs.RevokedCertificateEntries {
		at, reason, revoked := ours.Lookup(new(big.Int).SetBytes(tpl.Revoked[i].Serial))
		if !e.RevocationTime.Equal(tpl.Revoked[i].At) || e.ReasonCode != tpl.Revoked[i].Reason || !revoked || !at.Equal(e.RevocationTime) || reason != e.ReasonCode {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
	if ours.Covers(leaf) != nil || ours.Covers(h.CA) == nil {
		t.Error("scope")
	}
	for name, change := range map[string]func(*certpath.ListTemplate){
		"no number":    func(l *certpath.ListTemplate) { l.Number = nil },
		"no time":      func(l *certpath.ListTemplate) { l.NextUpdate = l.ThisUpdate },
		"zero serial":  func(l *certpath.ListTemplate) { l.Revoked = []certpath.RevokedSerial{{[]byte{0}, now, 0}} },
		"bad reason":   func(l *certpath.ListTemplate) { l.Revoked = []certpath.RevokedSerial{{[]byte{1}, now, 11}} },
		"empty serial": func(l *certpath.ListTemplate) { l.Revoked = []certpath.RevokedSerial{{nil, now, 0}} },
	} {
		bad := tpl
		change(&bad)
		if _, err := certpath.SignCRL(rand.Reader, bad, h.CA, h.CASigner()); err == nil {
			t.Error(name)
		}
	}
	needOpenSSL(t)
	path := writeTo(t, t.TempDir())("list.pem", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
	out, err := exec.Command("openssl", "crl", "-in", path, "-noout", "-text").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Issuing Distribution Point: critical") || !strings.Contains(string(out), "Superseded") {
		t.Errorf("%v %s", err, out)
	}
}

func BenchmarkSignCRL100k(b *testing.B) {
	h := hierarchy()
	now := time.Now()
	tpl := certpath.ListTemplate{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}
	for _, e := range pkitest.LargeList(100_000, now).Entries {
		tpl.Revoked = append(tpl.Revoked, certpath.RevokedSerial{Serial: e.SerialNumber.Bytes(), At: e.RevocationTime, Reason: e.ReasonCode})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := certpath.SignCRL(rand.Reader, tpl, h.CA, h.CASigner()); err != nil {
			b.Fatal(err)
		}
	}
}
