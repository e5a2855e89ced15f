package evidence

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

// The whole chain, and every change of it, is tested on a running service in
// package server. Here: the form.

func small() *Bundle {
	b := &Bundle{Type: Type, Version: Version,
		Card:         &Card{Certificate: []byte{1}, Issuers: []Bytes{}, Revocation: []Answer{{Certificate: make([]byte, 32), Source: "crl", SHA256: make([]byte, 32)}}, Proof: []byte{1}},
		Registration: &Registration{AttestationObject: []byte{1}, ClientDataJSON: []byte{1}},
		Approval: &Approval{Content: []byte("{}"), LeftOut: []int{1}, CredentialID: []byte{1}, COSEKey: []byte{1}, RPID: "a.example",
			Origin: "https://a.example", AuthenticatorData: []byte{1}, ClientDataJSON: []byte(`{}`), Signature: []byte{1}},
		Mobile: &Mobile{Certificate: []byte{1}, Issuers: []Bytes{{1}}}, Signatures: []Signature{{Document: 0, CMS: []byte{1, 2, 3}}}}
	_ = b.Seal()
	return b
}

func encoded(t testing.TB, b *Bundle) string {
	t.Helper()
	raw, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestParse(t *testing.T) {
	good := encoded(t, small())
	if _, err := Parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	var pretty strings.Builder
	e := json.NewEncoder(&pretty)
	e.SetIndent("", "  ")
	if err := e.Encode(json.RawMessage(good)); err != nil {
		t.Fatal(err)
	}
	if _, err := Parse([]byte(pretty.String())); err != nil {
		t.Errorf("white space between the parts: %v", err)
	}
	for name, bad := range map[string]string{
		"nothing":             "",
		"null":                "null",
		"another type":        strings.Replace(good, Type, "sealgate.approval", 1),
		"another version":     strings.Replace(good, `"v":1`, `"v":2`, 1),
		"a member more":       strings.Replace(good, `"v":1`, `"v":1,"x":1`, 1),
		"a member twice":      strings.Replace(good, `"v":1`, `"v":1,"v":1`, 1),
		"another order":       strings.Replace(good, `"type":"sealgate.evidence","v":1`, `"v":1,"type":"sealgate.evidence"`, 1),
		"a name in capitals":  strings.Replace(good, `"card"`, `"Card"`, 1),
		"padding":             strings.Replace(good, `"rp_id"`, `"rp_id"`, 1) + "=",
		"something behind it": good + "{}",
		"trailing bits":       strings.Replace(good, `"proof":"AQ"`, `"proof":"AR"`, 1),
		"a line end inside":   strings.Replace(good, `"proof":"AQ"`, `"proof":"A\nQ"`, 1),
		"an escape":           strings.Replace(good, `"a.example"`, `"\u0061.example"`, 1),
		"no card":             strings.Replace(good, `"card":`, `"card":null,"x":`, 1),
		"no list":             strings.Replace(good, `"left_out":[1]`, `"left_out":null`, 1),
		"a short hash":        strings.Replace(good, strings.Repeat("A", 43), "AQ", 1),
		"empty signatures":    strings.Replace(good, `[{"document":0,"cms":"AQID"}]`, `[]`, 1),
		"too large":           strings.Repeat(" ", MaxBytes) + good,
	} {
		if bad == good {
			t.Errorf("%s: the test changes nothing", name)
		}
		if _, err := Parse([]byte(bad)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVerifyNeedsAnAnchor(t *testing.T) {
	if _, err := Verify(context.Background(), []byte(encoded(t, small())), Options{}); err == nil {
		t.Error("verified against nothing")
	}
}

func TestNothingOfAnEmptyChainPasses(t *testing.T) {
	r, err := Verify(context.Background(), []byte(encoded(t, small())), Options{Anchors: []*x509.Certificate{testRoot(t)}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != Failed || len(r.Broken()) != len(r.Links)-1 || r.Links[0].Status != Passed {
		t.Errorf("%+v", r)
	}
}

func testRoot(t testing.TB) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte(encoded(f, small())))
	f.Add([]byte(`{"type":"sealgate.evidence","v":1}`))
	root := testRoot(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := Parse(raw)
		if err == nil {
			again, err := Parse([]byte(encoded(t, b)))
			if err != nil || encoded(t, again) != encoded(t, b) {
				t.Fatalf("what was read cannot be read again: %v", err)
			}
			_ = b.Seal()
			raw = []byte(encoded(t, b))
		}
		r, err := Verify(context.Background(), raw, Options{Anchors: []*x509.Certificate{root}})
		if err != nil || r.Verdict == Passed || len(r.Broken()) == 0 {
			t.Fatalf("%+v %v", r, err)
		}
	})
}
