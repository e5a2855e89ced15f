package cades_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"slices"
	"testing"
	"time"

	"sealgate/internal/cades"
	"sealgate/internal/cms"
	"sealgate/internal/pkitest"
	"sealgate/internal/tsp"
)

// A signature that openssl made, in BER, goes up to B-LTA as ours do.
func TestOpenSSLsSignatureIsExtended(t *testing.T) {
	need(t, "openssl")
	w := newWorld(t)
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.alice.Certificate.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(w.alice.Key))})...)
	root := file(t, "root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.root.Certificate.Raw}))
	doc, signer := file(t, "doc", document), file(t, "signer.pem", both)
	for name, args := range map[string][]string{"stream": {"-stream"}, "attached": {"-stream", "-nodetach"}, "DER": nil} {
		out := file(t, "out.p7s", nil)
		if msg, err := openssl(append([]string{"cms", "-sign", "-cades", "-binary", "-md", "sha256", "-outform", "DER", "-in", doc, "-signer", signer, "-out", out}, args...)...); err != nil {
			t.Fatal(msg)
		}
		before := must(os.ReadFile(out))
		if (before[1] == 0x80) != (args != nil) {
			t.Errorf("%s: not the encoding that this test is about", name)
		}
		lta, err := cades.Extend(t.Context(), before, cades.LevelLTA, w.sources(t, w.late, crypto.SHA512))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		grown(t, before, lta)
		if l := cades.LevelOf(parse(t, lta)); l != cades.LevelLTA {
			t.Errorf("%s: level %v", name, l)
		}
		if err := w.verifyAll(t, lta); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		verify := []string{"cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", file(t, "lta.p7s", lta), "-CAfile", root, "-purpose", "any", "-out", os.DevNull}
		if name != "attached" {
			verify = append(verify, "-content", doc)
		}
		if msg, err := openssl(verify...); err != nil {
			t.Errorf("%s: %s", name, msg)
		}
	}
}

// handMade archives a signature with a hash index that the test writes itself,
// straight from the standard's text.
func handMade(t *testing.T, w *world, lt []byte, index []byte, oid asn1.ObjectIdentifier) []byte {
	t.Helper()
	si := parse(t, lt).Signers[0]
	imprint := tsp.NewImprint(crypto.SHA256, must(asn1.Marshal(cms.OIDData)), tsp.ImprintOf(document).Digest, si.RawFields(), index)
	s := must(w.sources(t, w.late, crypto.SHA256).Stamp(t.Context(), imprint))
	token := must(cms.Edit(s.Token.Raw))
	token.AddUnsigned(0, cms.NewAttribute(oid, index))
	ed := must(cms.Edit(lt))
	ed.AddUnsigned(0, cms.NewAttribute(cades.OIDArchiveTimestampV3, must(token.Bytes())))
	return must(ed.Bytes())
}

func octets(parts ...[]byte) [][]byte {
	out := make([][]byte, len(parts))
	for i, p := range parts {
		out[i] = tsp.ImprintOf(p).Digest
	}
	return out
}

func TestHashIndexesOfOthers(t *testing.T) {
	w := newWorld(t)
	lt := must(cades.Extend(t.Context(), w.sign(t, w.alice), cades.LevelLT, w.sources(t, w.late, crypto.SHA256)))
	sd := parse(t, lt)
	attr := sd.Signers[0].RawUnsigned()[0]
	whole := must(asn1.Marshal(struct {
		Type   asn1.RawValue
		Values []asn1.RawValue `asn1:"set"`
	}{asn1.RawValue{FullBytes: attr.Type}, []asn1.RawValue{{FullBytes: attr.Values[0]}}}))
	certs, revs := octets(sd.RawCertificates()...), octets(sd.RawRevocations()...)
	type algorithm struct{ OID asn1.ObjectIdentifier }
	sha256, sha1 := algorithm{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}}, algorithm{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}}
	v3 := func(a algorithm, c, r, u [][]byte) []byte {
		return must(asn1.Marshal(struct {
			A       algorithm
			C, R, U [][]byte
		}{a, c, r, u}))
	}
	value := octets(append(bytes.Clone(attr.Type), attr.Values[0]...))
	for name, tc := range map[string]struct {
		index []byte
		oid   asn1.ObjectIdentifier
		want  string
		all   bool
	}{
		"all":                {v3(sha256, certs, revs, value), cades.OIDHashIndexV3, "", true},
		"nothing":            {v3(sha256, nil, nil, nil), cades.OIDHashIndexV3, "", false},
		"a part":             {v3(sha256, certs[:1], revs, value), cades.OIDHashIndexV3, "", false},
		"another order":      {v3(sha256, reversed(certs), reversed(revs), value), cades.OIDHashIndexV3, "", true},
		"old, whole":         {must(asn1.Marshal(struct{ C, R, U [][]byte }{certs, revs, octets(whole)})), cades.OIDHashIndexV1, "", true},
		"one too many":       {v3(sha256, append(slices.Clone(certs), make([]byte, 32)), revs, value), cades.OIDHashIndexV3, "cades_timestamp", false},
		"twice":              {v3(sha256, append(slices.Clone(certs), certs[0]), revs, value), cades.OIDHashIndexV3, "cades_timestamp", false},
		"swapped":            {v3(sha256, revs, certs, value), cades.OIDHashIndexV3, "cades_timestamp", false},
		"whole in version 3": {v3(sha256, certs, revs, octets(whole)), cades.OIDHashIndexV3, "cades_timestamp", false},
		"SHA-1":              {v3(sha1, nil, nil, nil), cades.OIDHashIndexV3, "cades_timestamp", false},
		"no index":           {[]byte{5, 0}, cades.OIDHashIndexV3, "cades_timestamp", false},
		"an unknown index":   {v3(sha256, certs, revs, value), asn1.ObjectIdentifier{0, 4, 0, 19122, 1, 99}, "cades_timestamp", false},
		"no algorithm, new":  {must(asn1.Marshal(struct{ C, R, U [][]byte }{certs, revs, value})), cades.OIDHashIndexV3, "cades_timestamp", false},
	} {
		der := handMade(t, w, lt, tc.index, tc.oid)
		back := parse(t, der)
		stamps := must(cades.Timestamps(back, 0))
		s, err := cades.Verify(back, 0, stamps[len(stamps)-1], nil2(document))
		wantCode(t, name, err, tc.want)
		if err == nil && s.Coverage.All != tc.all {
			t.Errorf("%s: covers all: %v", name, s.Coverage.All)
		}
	}
}

func reversed(in [][]byte) [][]byte {
	out := slices.Clone(in)
	slices.Reverse(out)
	return out
}

// What comes after the archive time-stamp is not protected, and that is said.
func TestLaterAdditionsAreNotCovered(t *testing.T) {
	w := newWorld(t)
	src := w.sources(t, w.late, crypto.SHA256)
	lta := must(cades.Extend(t.Context(), w.sign(t, w.alice), cades.LevelLTA, src))
	ed := must(cms.Edit(lta))
	ed.AddUnsigned(0, must(cms.EvidenceAttribute(cms.Evidence{Bundle: []byte("{}")})))
	later := must(ed.Bytes())
	all := func(der []byte) bool {
		sd := parse(t, der)
		stamps := must(cades.Timestamps(sd, 0))
		return must(cades.Verify(sd, 0, stamps[len(stamps)-1], nil2(document))).Coverage.All
	}
	if !all(lta) || all(later) {
		t.Errorf("covered: %v, then %v", all(lta), all(later))
	}
	if w.now = w.now.Add(time.Hour); !all(must(cades.Renew(t.Context(), later, src))) {
		t.Error("the renewal does not cover what came before it")
	}
}

// A list for a part of the certificates settles nothing about others: evidence is
// asked for, though a list of the issuer is there already.
func TestAPartOfTheListIsNoAnswer(t *testing.T) {
	w := newWorld(t)
	src := w.sources(t, w.late, crypto.SHA256)
	bt := must(cades.Extend(t.Context(), w.sign(t, w.alice), cades.LevelT, src))
	for url, want := range map[string]cades.Level{"": cades.LevelLT, base + "/other.crl": cades.LevelT} {
		l := pkitest.List{Number: big.NewInt(9), URL: url, ThisUpdate: w.now.Add(-time.Minute), NextUpdate: w.now.Add(time.Hour)}
		ed := must(cms.Edit(bt))
		ed.AddCRL(must(l.Sign(w.ca.Certificate, w.ca.Key)))
		if got := cades.LevelOf(parse(t, must(ed.Bytes()))); got != want {
			t.Errorf("list of %q: level %v, want %v", url, got, want)
		}
	}
}

// Nothing is half done: where a source fails, there is an error and no signature.
func TestSourcesFail(t *testing.T) {
	w := newWorld(t)
	good := w.sources(t, w.late, crypto.SHA256)
	b := w.sign(t, w.alice)
	gone := errors.New("gone")
	src := good
	src.Stamp = func(context.Context, tsp.Imprint) (*tsp.Stamped, error) { return nil, gone }
	if out, err := cades.Extend(t.Context(), b, cades.LevelLTA, src); !errors.Is(err, gone) || out != nil {
		t.Error(err)
	}
	src = good
	src.Stamp = func(ctx context.Context, _ tsp.Imprint) (*tsp.Stamped, error) {
		return good.Stamp(ctx, tsp.ImprintOf([]byte("x")))
	}
	_, err := cades.Extend(t.Context(), b, cades.LevelT, src)
	wantCode(t, "a token over something else", err, "tsp_mismatch")
	src = good
	src.Collect = nil
	if _, err := cades.Extend(t.Context(), b, cades.LevelLT, src); err == nil {
		t.Error("B-LT without evidence")
	}
}
