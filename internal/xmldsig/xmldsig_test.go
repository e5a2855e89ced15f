package xmldsig_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealgate/internal/pkitest"
	"sealgate/internal/xmldsig"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprint(err, " (", errors.Unwrap(err), ")"))
	}
	return v
}

type identity struct {
	ca, cert *x509.Certificate
	key      crypto.Signer
}

func makeIdentity(key crypto.Signer) identity {
	caKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Country: []string{"TW"}, CommonName: fmt.Sprintf("(test) CA of a %T", key)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	ca = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey))))
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{Country: []string{"TW"}, CommonName: "(test) signer"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	return identity{ca, must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)))), key}
}

var (
	ec   = sync.OnceValue(func() identity { return makeIdentity(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))) })
	p521 = sync.OnceValue(func() identity { return makeIdentity(must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))) })
	rsa2 = sync.OnceValue(func() identity { return makeIdentity(must(rsa.GenerateKey(rand.Reader, 2048))) })
)

// value signs as a card or a signing service does that is handed a DigestInfo.
func value(id identity, t *xmldsig.ToBeSigned) []byte {
	if _, ok := id.key.(*rsa.PrivateKey); !ok {
		return must(id.key.Sign(rand.Reader, t.Digest, t.Hash))
	}
	return must(pkitest.SignRAW(&pkitest.Card{Key: id.key, Certificate: id.cert}, t.DigestInfo))
}

var contents = map[string]string{"draft.di": "<函>簽辦</函>", "att-1.pdf": "%PDF", "att-2.pdf": "%PDF-2", "note.txt": "同意", "附件一.pdf": "%PDF-3"}

func sum(h crypto.Hash, data string) []byte {
	w := h.New()
	w.Write([]byte(data))
	return w.Sum(nil)
}

func file(h crypto.Hash, uri string) xmldsig.File {
	return xmldsig.File{URI: uri, Digest: sum(h, contents[uri])}
}

func atHand(uri string, h crypto.Hash) ([]byte, error) {
	if text, ok := contents[uri]; ok {
		return sum(h, text), nil
	}
	return nil, nil
}

var everything = xmldsig.VerifyOptions{Files: atHand}

func parseSI(t testing.TB, xml []byte) *xmldsig.SIFile {
	t.Helper()
	f, err := xmldsig.ParseSI(xml)
	if err != nil {
		t.Fatalf("%v (%v)\n%s", err, errors.Unwrap(err), xml)
	}
	return f
}

func addPoint(t testing.TB, xml []byte, id identity, p xmldsig.Point, o xmldsig.PointOptions) []byte {
	t.Helper()
	o.Certificate, o.Chain = id.cert, []*x509.Certificate{id.ca}
	tbs, err := parseSI(t, xml).AddPoint(p, o)
	if err != nil {
		t.Fatalf("%v (%v)", err, errors.Unwrap(err))
	}
	out, err := xmldsig.Attach(tbs.XML, tbs.Point, value(id, tbs))
	if err != nil {
		t.Fatalf("%v (%v)", err, errors.Unwrap(err))
	}
	return out
}

// chain is 承辦 → 科長 → 主管, each with another kind of key or algorithm.
func chain(t testing.TB) []byte {
	when := time.Date(2026, 3, 4, 13, 6, 7, 0, time.FixedZone("", 8*3600))
	xml := must(xmldsig.NewSI("flow1")).XML()
	xml = addPoint(t, xml, ec(), xmldsig.Point{Flow: "flow1", Action: "承辦", Name: "測試一號", Title: "科員", Time: when,
		Drafts: []xmldsig.File{file(crypto.SHA256, "draft.di")}, Files: []xmldsig.File{file(crypto.SHA256, "att-1.pdf")}}, xmldsig.PointOptions{})
	xml = addPoint(t, xml, rsa2(), xmldsig.Point{Flow: "flow1", Action: "核稿", Title: "科長 <代理>", Reason: "a & b \"c\"\tд", Time: when,
		Files: []xmldsig.File{file(crypto.SHA512, "att-1.pdf"), file(crypto.SHA512, "att-2.pdf")}}, xmldsig.PointOptions{Hash: crypto.SHA512})
	return addPoint(t, xml, p521(), xmldsig.Point{Action: "決行", Files: []xmldsig.File{file(crypto.SHA384, "note.txt"), file(crypto.SHA384, "附件一.pdf")}}, xmldsig.PointOptions{Hash: crypto.SHA384, Exclusive: true})
}

func verify(t testing.TB, xml []byte, o xmldsig.VerifyOptions) []xmldsig.PointResult {
	t.Helper()
	out, err := parseSI(t, xml).Verify(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestChainOfPoints(t *testing.T) {
	xml := chain(t)
	for i, r := range verify(t, xml, everything) {
		if r.Err != nil || !r.Result.Complete() {
			t.Errorf("point %d: %v (%v)", i, r.Err, errors.Unwrap(r.Err))
		}
		if want := []string{"P1", "P2"}[:i]; !slices.Equal(r.Covers, want) || !r.CoversAll || r.Point.ID != fmt.Sprint("P", i+1) {
			t.Errorf("point %s covers %v", r.Point.ID, r.Covers)
		}
	}
	all := verify(t, xml, everything)
	if p := all[0].Point; p.Action != "承辦" || p.Name != "測試一號" || p.Title != "科員" || p.Time.Hour() != 13 || len(p.Drafts) != 1 || len(all[0].Files) != 2 {
		t.Errorf("%+v", p)
	}
	if p := all[1].Point; p.Title != "科長 <代理>" || p.Reason != "a & b \"c\"\tд" {
		t.Errorf("%+v", p)
	}
	if !all[0].Result.Certificate.Equal(ec().cert) || !all[1].Result.Certificate.Equal(rsa2().cert) {
		t.Error("the certificates are others")
	}
}

// A file that is not at hand leaves the value good and the result incomplete.
func TestFilesNotAtHand(t *testing.T) {
	xml := chain(t)
	for _, r := range verify(t, xml, xmldsig.VerifyOptions{}) {
		if r.Err != nil || r.Result.Complete() {
			t.Errorf("%v, complete %v", r.Err, r.Result.Complete())
		}
	}
	other := xmldsig.VerifyOptions{Files: func(uri string, h crypto.Hash) ([]byte, error) {
		if uri == "att-2.pdf" {
			return sum(h, "another"), nil
		}
		return atHand(uri, h)
	}}
	for i, r := range verify(t, xml, other) {
		if want := i == 1; want != errors.Is(r.Err, xmldsig.ErrDigest) {
			t.Errorf("point %d: %v", i, r.Err)
		}
	}
}

// No byte may change without a point failing, or the file no longer being one.
func TestOneChangedByte(t *testing.T) {
	xml := chain(t)
	start := bytes.Index(xml, []byte("<簽核點定義"))
	end := bytes.LastIndex(xml, []byte("</簽核點定義>"))
	good := 0
	for at := start; at < end; at += 101 {
		bad := bytes.Clone(xml)
		bad[at] ^= 1
		f, err := xmldsig.ParseSI(bad)
		if err != nil {
			continue
		}
		all, err := f.Verify(context.Background(), everything)
		if err != nil {
			continue
		}
		if !slices.ContainsFunc(all, func(r xmldsig.PointResult) bool { return r.Err != nil }) && len(all) == 3 {
			// What a point's own Signature says outside of SignedInfo and value is not
			// signed by itself: chain certificates and the Id of the last one.
			if at > bytes.LastIndex(xml, []byte("<Signature ")) {
				good++
				continue
			}
			t.Errorf("byte %d changed, and all points are good: %s", at, bad[max(0, at-40):at+20])
		}
	}
	if good > (end-start)/160 {
		t.Errorf("%d changes went unnoticed in the last signature", good)
	}
}

func TestPointsBesideEachOther(t *testing.T) {
	xml := addPoint(t, must(xmldsig.NewSI("f")).XML(), ec(), xmldsig.Point{Action: "承辦"}, xmldsig.PointOptions{})
	o := xmldsig.PointOptions{Certificate: rsa2().cert, Covers: []string{"P1"}}
	a := must(parseSI(t, xml).AddPoint(xmldsig.Point{Action: "會辦"}, o))
	b := must(parseSI(t, a.XML).AddPoint(xmldsig.Point{Action: "會辦"}, o))
	if _, err := parseSI(t, b.XML).AddPoint(xmldsig.Point{}, xmldsig.PointOptions{Certificate: rsa2().cert}); !errors.Is(err, xmldsig.ErrPending) {
		t.Errorf("over pending points: %v", err)
	}
	both := must(xmldsig.Attach(must(xmldsig.Attach(b.XML, b.Point, value(rsa2(), b))), a.Point, value(rsa2(), a)))
	for i, r := range verify(t, both, everything) {
		if r.Err != nil || r.CoversAll != (i < 2) {
			t.Errorf("point %d: %v, all %v", i, r.Err, r.CoversAll)
		}
	}
	if r := verify(t, b.XML, everything)[2]; !r.Pending || !errors.Is(r.Err, xmldsig.ErrPending) {
		t.Errorf("%+v", r)
	}
}

func TestAttachRefuses(t *testing.T) {
	tbs := must(parseSI(t, must(xmldsig.NewSI("f")).XML()).AddPoint(xmldsig.Point{}, xmldsig.PointOptions{Certificate: ec().cert}))
	good := value(ec(), tbs)
	done, err := xmldsig.Attach(tbs.XML, "P1", good)
	if err != nil {
		t.Fatal(err)
	}
	var rs struct{ R, S *big.Int }
	must(asn1.Unmarshal(good, &rs))
	raw := make([]byte, 64)
	rs.R.FillBytes(raw[:32])
	rs.S.FillBytes(raw[32:])
	if again, err := xmldsig.Attach(tbs.XML, "P1", raw); err != nil || !bytes.Equal(again, done) {
		t.Errorf("r‖s: %v", err)
	}
	if _, err := xmldsig.Attach(done, "P1", good); !errors.Is(err, xmldsig.ErrPoint) {
		t.Errorf("twice: %v", err)
	}
	if _, err := xmldsig.Attach(tbs.XML, "P2", good); !errors.Is(err, xmldsig.ErrPoint) {
		t.Errorf("another point: %v", err)
	}
	good[len(good)-1] ^= 1
	if _, err := xmldsig.Attach(tbs.XML, "P1", good); !errors.Is(err, xmldsig.ErrSignature) {
		t.Errorf("a wrong value: %v", err)
	}
}

func TestAddPointRefuses(t *testing.T) {
	f := parseSI(t, chain(t))
	ok := xmldsig.PointOptions{Certificate: ec().cert}
	if _, err := f.AddPoint(xmldsig.Point{Files: []xmldsig.File{file(crypto.SHA256, "note.txt")}}, ok); err != nil {
		t.Fatal(err)
	}
	sum := make([]byte, 32)
	for name, p := range map[string]xmldsig.Point{
		"an Id in use":    {ID: "P1"},
		"no Id":           {ID: "a b"},
		"markup as Id":    {ID: `a"><x`},
		"no such flow":    {Flow: "other"},
		"no name":         {Files: []xmldsig.File{{Digest: sum}}},
		"a fragment":      {Files: []xmldsig.File{{URI: "#P1", Digest: sum}}},
		"a far place":     {Files: []xmldsig.File{{URI: "https://example.tw/a", Digest: sum}}},
		"a host":          {Files: []xmldsig.File{{URI: "//example.tw/a", Digest: sum}}},
		"a short digest":  {Files: []xmldsig.File{{URI: "a", Digest: sum[:20]}}},
		"one file twice":  {Drafts: []xmldsig.File{{URI: "a", Digest: sum}}, Files: []xmldsig.File{{URI: "a", Digest: sum}}},
		"a control char.": {Action: "a\x01"},
	} {
		if _, err := f.AddPoint(p, ok); !errors.Is(err, xmldsig.ErrPoint) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.AddPoint(xmldsig.Point{}, xmldsig.PointOptions{Certificate: ec().cert, Hash: crypto.SHA1}); err == nil {
		t.Error("SHA-1 was taken")
	}
}

// The DigestInfo is the one in the reference of the card component.
func TestDigestInfo(t *testing.T) {
	tbs := must(parseSI(t, must(xmldsig.NewSI("f")).XML()).AddPoint(xmldsig.Point{}, xmldsig.PointOptions{Certificate: rsa2().cert}))
	want := sha256.Sum256(tbs.SignedInfo)
	prefix := "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
	if string(tbs.DigestInfo) != prefix+string(want[:]) {
		t.Errorf("%x", tbs.DigestInfo)
	}
	if !strings.HasPrefix(string(tbs.SignedInfo), `<SignedInfo xmlns="http://www.w3.org/2000/09/xmldsig#"><Canon`) {
		t.Errorf("%.100s", tbs.SignedInfo)
	}
}
