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
		Binding: *binding(),
		Approval: &Approval{Content: []byte("{}"), LeftOut: []int{1}, CredentialID: []byte{1}, COSEKey: []byte{1}, RPID: "a.example",
			Origin: "https://a.example", AuthenticatorData: []byte{1}, ClientDataJSON: []byte(`{}`), Signature: []byte{1}},
		Mobile: &Mobile{Certificate: []byte{1}, Issuers: []Bytes{{1}}}, Signatures: []Signature{{Document: 0, CMS: []byte{1, 2, 3}}}}
	_ = b.Seal()
	return b
}

func binding() *Binding {
	return &Binding{
		Card:         &Card{Certificate: []byte{1}, Issuers: []Bytes{}, Revocation: []Answer{{Certificate: make([]byte, 32), Source: "crl", SHA256: make([]byte, 32)}}},
		Registration: &Registration{AttestationObject: []byte{1}, ClientDataJSON: []byte{1}},
		Proof:        &Proof{Kind: KindCard, CMS: []byte{1}}}
}

// added is a bundle of a phone that was added by another, so many times over.
func added(times int) *Bundle {
	b := small()
	for range times {
		by := b.Binding
		b.Binding = *binding()
		b.Proof = &Proof{Kind: KindDevice, Statement: []byte(`{}`), AuthenticatorData: []byte{1}, ClientDataJSON: []byte(`{}`), Signature: []byte{1}, By: &by}
	}
	_ = b.Seal()
	return b
}

// first is a file of version 1, as it was made before phones could add phones.
func first() *Bundle {
	b := small()
	b.Version, b.Card.Proof, b.Proof = 1, b.Proof.CMS, nil
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
	for name, b := range map[string]*Bundle{"version 1": first(), "added by a phone": added(1), "the longest row": added(MaxDepth - 1)} {
		if _, err := Parse([]byte(encoded(t, b))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
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
		"another version":     strings.Replace(good, `"v":2`, `"v":3`, 1),
		"an older version":    strings.Replace(good, `"v":2`, `"v":1`, 1),
		"a member more":       strings.Replace(good, `"v":2`, `"v":2,"x":1`, 1),
		"a member twice":      strings.Replace(good, `"v":2`, `"v":2,"v":2`, 1),
		"another order":       strings.Replace(good, `"type":"sealgate.evidence","v":2`, `"v":2,"type":"sealgate.evidence"`, 1),
		"a name in capitals":  strings.Replace(good, `"card"`, `"Card"`, 1),
		"padding":             strings.Replace(good, `"rp_id"`, `"rp_id"`, 1) + "=",
		"something behind it": good + "{}",
		"trailing bits":       strings.Replace(good, `"cms":"AQ"`, `"cms":"AR"`, 1),
		"a line end inside":   strings.Replace(good, `"cms":"AQ"`, `"cms":"A\nQ"`, 1),
		"an escape":           strings.Replace(good, `"a.example"`, `"\u0061.example"`, 1),
		"no card":             strings.Replace(good, `"card":`, `"card":null,"x":`, 1),
		"no proof":            strings.Replace(good, `"proof":{"kind":"card","cms":"AQ"},`, "", 1),
		"a proof too old":     strings.Replace(encoded(t, first()), `"v":1`, `"v":2`, 1),
		"an unknown kind":     strings.Replace(good, `"kind":"card"`, `"kind":"word"`, 1),
		"a kind of another":   strings.Replace(good, `"kind":"card"`, `"kind":"device"`, 1),
		"no earlier phone":    strings.Replace(encoded(t, added(1)), `"by":`, `"by":null,"x":`, 1),
		"phones without end":  encoded(t, added(MaxDepth)),
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
	f.Add([]byte(encoded(f, first())))
	f.Add([]byte(encoded(f, added(2))))
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
