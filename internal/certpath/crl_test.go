package certpath_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"runtime"
	"sync"
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/pkitest"
)

func makeCRL(t testing.TB, h *pkitest.Hierarchy, change func(*x509.RevocationList)) []byte {
	t.Helper()
	tpl := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	if change != nil {
		change(tpl)
	}
	der, err := x509.CreateRevocationList(rand.Reader, tpl, h.CA, h.CASigner())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

var (
	oidIDP   = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidDelta = asn1.ObjectIdentifier{2, 5, 29, 27}
)

// idp encodes IssuingDistributionPoint (RFC 5280 §5.2.5) by hand.
func idp(url string, flags ...byte) pkix.Extension {
	var body []byte
	if url != "" {
		name := append([]byte{0x86, byte(len(url))}, url...)
		full := append([]byte{0xa0, byte(len(name))}, name...)
		body = append([]byte{0xa0, byte(len(full))}, full...)
	}
	body = append(body, flags...)
	return pkix.Extension{Id: oidIDP, Critical: true, Value: append([]byte{0x30, byte(len(body))}, body...)}
}

func TestCRLScope(t *testing.T) {
	h := hierarchy()
	leaf := card(t, h, pkitest.CitizenOptions{}).Certificate
	url := leaf.CRLDistributionPoints[0]
	for name, tc := range map[string]struct {
		ext        *pkix.Extension
		parses     bool
		leaf, isCA bool // covered
	}{
		"no scope":                 {nil, true, true, true},
		"its own point":            {ptr(idp(url)), true, true, false},
		"its point, some reasons":  {ptr(idp(url, 0x83, 2, 6, 0x40)), true, false, false},
		"another point":            {ptr(idp("http://elsewhere/x.crl")), true, false, false},
		"user certificates":        {ptr(idp("", 0x81, 1, 0xff)), true, true, false},
		"CA certificates":          {ptr(idp("", 0x82, 1, 0xff)), true, false, true},
		"some reasons":             {ptr(idp("", 0x83, 2, 6, 0x40)), true, false, false},
		"attribute certificates":   {ptr(idp("", 0x85, 1, 0xff)), true, false, false},
		"indirect":                 {ptr(idp("", 0x84, 1, 0xff)), false, false, false},
		"malformed":                {ptr(idp("", 0x81, 2, 0xff, 0xff)), false, false, false},
		"BOOLEAN that is not DER":  {ptr(idp("", 0x81, 1, 1)), false, false, false},
		"delta":                    {ptr(deltaOf(1)), true, false, false},
		"critical and unknown":     {&pkix.Extension{Id: asn1.ObjectIdentifier{2, 16, 886, 9}, Critical: true, Value: []byte{5, 0}}, false, false, false},
		"not critical and unknown": {&pkix.Extension{Id: asn1.ObjectIdentifier{2, 16, 886, 9}, Value: []byte{5, 0}}, true, true, true},
	} {
		der := makeCRL(t, h, func(l *x509.RevocationList) {
			if tc.ext != nil {
				l.ExtraExtensions = []pkix.Extension{*tc.ext}
			}
		})
		crl, err := certpath.ParseCRL(der)
		if (err == nil) != tc.parses {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err != nil {
			continue
		}
		if err := crl.Verify(h.CA); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := crl.Covers(leaf) == nil; got != tc.leaf {
			t.Errorf("%s: covers the leaf %v", name, got)
		}
		if got := crl.Covers(h.CA) == nil; got != tc.isCA {
			t.Errorf("%s: covers a CA %v", name, got)
		}
	}
}

// deltaOf is the delta CRL indicator (RFC 5280 §5.2.4).
func deltaOf(base byte) pkix.Extension {
	return pkix.Extension{Id: oidDelta, Critical: true, Value: []byte{2, 1, base}}
}

func ptr[T any](v T) *T { return &v }

func TestCRLEntryExtensions(t *testing.T) {
	h := hierarchy()
	for name, tc := range map[string]struct {
		ext pkix.Extension
		ok  bool
	}{
		"invalidity date":      {pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 24}, Value: []byte("\x18\x0f20260101000000Z")}, true},
		"certificate issuer":   {pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}, false},
		"critical and unknown": {pkix.Extension{Id: asn1.ObjectIdentifier{2, 16, 886, 9}, Critical: true, Value: []byte{5, 0}}, false},
		"unknown":              {pkix.Extension{Id: asn1.ObjectIdentifier{2, 16, 886, 9}, Value: []byte{5, 0}}, true},
	} {
		_, err := certpath.ParseCRL(makeCRL(t, h, func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(5), RevocationTime: time.Now(), ExtraExtensions: []pkix.Extension{tc.ext}}}
		}))
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCRLSignatureAndIssuer(t *testing.T) {
	h := hierarchy()
	twin, err := pkitest.NewHierarchy(pkitest.Options{}) // same names, other keys
	if err != nil {
		t.Fatal(err)
	}
	der := makeCRL(t, h, nil)
	crl, err := certpath.ParseCRL(der)
	if err != nil {
		t.Fatal(err)
	}
	for name, issuer := range map[string]*x509.Certificate{
		"another name": h.Root, "the same name, another key": twin.CA,
	} {
		if crl.Verify(issuer) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	noSign := *h.CA
	noSign.KeyUsage = x509.KeyUsageCertSign
	if crl.Verify(&noSign) == nil {
		t.Error("an issuer that may not sign lists was accepted")
	}
	noID := *twin.CA
	noID.SubjectKeyId = nil
	if crl.Verify(&noID) == nil {
		t.Error("without key identifiers the signature must tell")
	}
	bad := bytes.Clone(der)
	bad[len(bad)-1] ^= 1
	if c, err := certpath.ParseCRL(bad); err != nil || c.Verify(h.CA) == nil {
		t.Errorf("changed signature: %v", err)
	}
	if err := crl.Verify(h.CA); err != nil {
		t.Errorf("control: %v", err)
	}
	for i := range der {
		if _, err := certpath.ParseCRL(der[:i]); err == nil {
			t.Fatalf("the first %d bytes were accepted", i)
		}
	}
	if _, err := certpath.ParseCRL(append(bytes.Clone(der), 0)); err == nil {
		t.Error("trailing byte")
	}
}

// bigList has n entries with random serial numbers of 1 to 20 octets.
func bigList(t testing.TB, h *pkitest.Hierarchy, n int) []byte {
	return makeCRL(t, h, func(l *x509.RevocationList) {
		buf := make([]byte, 20)
		for i := range n {
			rand.Read(buf)
			buf[0] &= 0x7f
			l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{
				SerialNumber:   new(big.Int).Add(new(big.Int).SetBytes(buf[:1+i%20]), big.NewInt(1)),
				RevocationTime: time.Unix(1700000000+int64(i), 0), ReasonCode: []int{0, 1, 3, 4, 5, 6}[i%6]})
		}
	})
}

func TestLookupAgreesWithTheStandardLibrary(t *testing.T) {
	h := hierarchy()
	der := bigList(t, h, 3000)
	ours, err := certpath.ParseCRL(der)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if ours.Len() != len(theirs.RevokedCertificateEntries) || !ours.ThisUpdate.Equal(theirs.ThisUpdate) || !ours.NextUpdate.Equal(theirs.NextUpdate) {
		t.Error("length or period")
	}
	first := map[string]x509.RevocationListEntry{}
	for _, e := range theirs.RevokedCertificateEntries {
		k := e.SerialNumber.String()
		if old, ok := first[k]; !ok || e.RevocationTime.Before(old.RevocationTime) {
			first[k] = e
		}
	}
	for _, e := range first {
		at, reason, revoked := ours.Lookup(e.SerialNumber)
		if !revoked || !at.Equal(e.RevocationTime) || reason != e.ReasonCode {
			t.Fatalf("serial %x: %v %d %v, want %v %d", e.SerialNumber, at, reason, revoked, e.RevocationTime, e.ReasonCode)
		}
	}
	for range 1000 {
		n, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 158))
		if _, ok := first[n.String()]; ok {
			continue
		}
		if _, _, revoked := ours.Lookup(n); revoked {
			t.Fatalf("%x is not listed", n)
		}
	}
	for _, n := range []*big.Int{nil, big.NewInt(0), big.NewInt(-1), new(big.Int).Lsh(big.NewInt(1), 200)} {
		if _, _, revoked := ours.Lookup(n); revoked {
			t.Errorf("%v", n)
		}
	}
}

// longList is a list of the size of MOICA's complete one.
var longList = sync.OnceValues(func() ([]byte, error) {
	h := hierarchy()
	return pkitest.LargeList(100_000, time.Now()).Sign(h.CA, h.CASigner())
})

// MOICA's complete list has more than a hundred thousand lines: beside the list
// itself, which is the evidence, 4 bytes a line are kept.
func TestLargeListIsCompact(t *testing.T) {
	der, err := longList()
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begin := time.Now()
	crl, err := certpath.ParseCRL(der)
	took := time.Since(begin)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	if crl.Len() != 100_000 || grown > 5*int64(crl.Len()) {
		t.Errorf("%d bytes kept for %d entries", grown, crl.Len())
	}
	t.Logf("%d entries: parsed in %v; list %d bytes (%.1f an entry), index %d bytes (%.1f an entry)", crl.Len(), took.Round(time.Millisecond),
		len(der), float64(len(der))/float64(crl.Len()), grown, float64(grown)/float64(crl.Len()))
	runtime.KeepAlive(crl)
	runtime.KeepAlive(der)
}
