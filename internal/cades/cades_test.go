package cades_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"os"
	"slices"
	"testing"
	"time"

	"sealgate/internal/cades"
	"sealgate/internal/cms"
	"sealgate/internal/tsp"
)

// grown fails unless everything of before is in after, octet for octet.
func grown(t *testing.T, before, after []byte) {
	t.Helper()
	a, b := parse(t, before), parse(t, after)
	for _, c := range a.RawCertificates() {
		if !slices.ContainsFunc(b.RawCertificates(), func(x []byte) bool { return bytes.Equal(c, x) }) {
			t.Error("a certificate is gone")
		}
	}
	for _, c := range a.RawRevocations() {
		if !slices.ContainsFunc(b.RawRevocations(), func(x []byte) bool { return bytes.Equal(c, x) }) {
			t.Error("a revocation answer is gone")
		}
	}
	for _, s := range a.Signers {
		i := slices.IndexFunc(b.Signers, func(x *cms.SignerInfo) bool { return bytes.Equal(x.RawFields(), s.RawFields()) })
		if i < 0 {
			t.Fatal("a signer info is gone or altered")
		}
		for _, attr := range s.RawUnsigned() {
			if !slices.ContainsFunc(b.Signers[i].RawUnsigned(), func(x cms.RawAttribute) bool {
				return bytes.Equal(x.Type, attr.Type) && bytes.Equal(bytes.Join(x.Values, nil), bytes.Join(attr.Values, nil))
			}) {
				t.Error("an unsigned attribute is gone or altered")
			}
		}
	}
}

func TestTheRoadToLTAAndRenewal(t *testing.T) {
	w := newWorld(t)
	src := w.sources(t, w.early, crypto.SHA256)
	at := w.sign(t, w.alice)
	if l := cades.LevelOf(parse(t, at)); l != cades.LevelB {
		t.Fatalf("level %v", l)
	}
	for _, l := range []cades.Level{cades.LevelT, cades.LevelLT, cades.LevelLTA} {
		w.now = w.now.Add(time.Minute)
		next, err := cades.Extend(t.Context(), at, l, src)
		if err != nil {
			t.Fatalf("%v: %v", l, err)
		}
		grown(t, at, next)
		if got := cades.LevelOf(parse(t, next)); got != l {
			t.Errorf("level %v, want %v", got, l)
		}
		if err := w.verifyAll(t, next); err != nil {
			t.Errorf("%v: %v", l, err)
		}
		again, err := cades.Extend(t.Context(), next, l, src)
		if err != nil || !bytes.Equal(again, next) {
			t.Errorf("%v twice changes something: %v", l, err)
		}
		at = next
	}
	p, err := cades.Protection(parse(t, at))
	if err != nil || !p.Until.Equal(w.early.Certificate.NotAfter) || p.Count != 1 || !slices.Equal(p.Hashes, []crypto.Hash{crypto.SHA256}) {
		t.Errorf("%+v %v", p, err)
	}
	// Eleven months later, before the first authority's certificate ends; then again,
	// years after the signer's own certificate has.
	for n, later := range []time.Time{w.now.AddDate(0, 11, 0), w.now.AddDate(5, 0, 0)} {
		w.now = later
		next, err := cades.Renew(t.Context(), at, w.sources(t, w.late, crypto.SHA512))
		if err != nil {
			t.Fatal(err)
		}
		grown(t, at, next)
		if err := w.verifyAll(t, next); err != nil {
			t.Errorf("renewed %d: %v", n, err)
		}
		at = next
	}
	sd := parse(t, at)
	p, err = cades.Protection(sd)
	if err != nil || !p.Until.Equal(w.late.Certificate.NotAfter) || p.Count != 3 || !slices.Equal(p.Hashes, []crypto.Hash{crypto.SHA512}) {
		t.Errorf("%+v %v", p, err)
	}
	// Each archive time-stamp protects those before it, and the last one everything.
	stamps := must(cades.Timestamps(sd, 0))
	for i, ts := range stamps {
		s, err := cades.Verify(sd, 0, ts, nil2(document))
		if err != nil {
			t.Fatal(err)
		}
		for j, other := range stamps {
			if ts.Kind == cades.KindArchive && s.Coverage.HasToken(other) != (j < i) {
				t.Errorf("time-stamp %d covers %d: %v", i, j, !(j < i))
			}
		}
		if ts.Kind == cades.KindArchive && s.Coverage.All != (i == len(stamps)-1) {
			t.Errorf("time-stamp %d covers all: %v", i, s.Coverage.All)
		}
	}
}

func nil2(doc []byte) func(crypto.Hash) []byte {
	return func(h crypto.Hash) []byte { return tsp.NewImprint(h, doc).Digest }
}

func TestSeveralSignersAndCountersignature(t *testing.T) {
	w := newWorld(t)
	src := w.sources(t, w.late, crypto.SHA384)
	first := must(cades.Extend(t.Context(), w.sign(t, w.alice), cades.LevelLTA, src))
	// Bob signs beside Alice, whose signature is archived already.
	second := parse(t, w.sign(t, w.bob))
	ed := must(cms.Edit(first))
	ed.AddSigner(second.Signers[0])
	ed.AddCertificates(second.Certificates...)
	both := must(ed.Bytes())
	grown(t, first, both)
	if l := cades.LevelOf(parse(t, both)); l != cades.LevelB {
		t.Errorf("level %v", l)
	}
	if err := w.verifyAll(t, both); err != nil {
		t.Error(err)
	}
	all := must(cades.Extend(t.Context(), both, cades.LevelLTA, src))
	grown(t, both, all)
	if l := cades.LevelOf(parse(t, all)); l != cades.LevelLTA {
		t.Errorf("level %v", l)
	}
	if err := w.verifyAll(t, all); err != nil {
		t.Error(err)
	}
	// Alice confirms what Bob signed.
	sd := parse(t, all)
	i := slices.IndexFunc(sd.Signers, func(s *cms.SignerInfo) bool { return s.FindCertificate([]*x509.Certificate{w.bob.Certificate}) != nil })
	p := must(cms.Prepare(cms.Signer{Certificate: w.alice.Certificate, Key: w.alice.Key}, crypto.SHA256))
	counter := must(must(p.CounterAttributes(sd.Signers[i], cms.Options{SigningTime: w.now})).Sign(rand.Reader))
	ed = must(cms.Edit(all))
	ed.AddUnsigned(i, must(cms.Countersignature(counter)))
	countered := must(ed.Bytes())
	grown(t, all, countered)
	if err := w.verifyAll(t, countered); err != nil {
		t.Error(err)
	}
	renewed := must(cades.Renew(t.Context(), countered, src))
	grown(t, countered, renewed)
	if err := w.verifyAll(t, renewed); err != nil {
		t.Error(err)
	}
}

// What is changed after archiving is noticed; each change alone, beside the
// unchanged signature that passes.
func TestChangesAreNoticed(t *testing.T) {
	w := newWorld(t)
	src := w.sources(t, w.late, crypto.SHA256)
	lta := must(cades.Extend(t.Context(), w.sign(t, w.alice), cades.LevelLTA, src))
	if err := w.verifyAll(t, lta); err != nil {
		t.Fatal(err)
	}
	sd := parse(t, lta)
	flip := func(part []byte, at int) []byte {
		i := bytes.Index(lta, part)
		if i < 0 {
			t.Fatal("not found")
		}
		out := bytes.Clone(lta)
		out[i+at] ^= 1
		return out
	}
	changed := map[string][]byte{
		"certificate": flip(sd.RawCertificates()[0], len(sd.RawCertificates()[0])-1),
		"revocation":  flip(sd.RawRevocations()[0], len(sd.RawRevocations()[0])-1),
		"signature":   flip(sd.Signers[0].Signature(), 12),
	}
	for _, ts := range must(cades.Timestamps(sd, 0)) {
		changed[ts.Kind.String()] = flip(ts.Token.SignedData().Signers[0].Signature(), 12)
	}
	for name, der := range changed {
		if w.verifyAll(t, der) == nil {
			t.Errorf("%s: the change was not noticed", name)
		}
	}
	// Something taken out again.
	for name, gone := range map[string]int{"first": 0, "last": len(sd.RawRevocations()) - 1} {
		if w.verifyAll(t, without(t, lta, sd.RawRevocations()[gone])) == nil {
			t.Errorf("the %s revocation answer is missing, and nobody noticed", name)
		}
	}
	// Another document.
	stamps := must(cades.Timestamps(sd, 0))
	_, err := cades.Verify(sd, 0, stamps[len(stamps)-1], nil2([]byte("another")))
	wantCode(t, "another document", err, "cades_timestamp")
	// A time-stamp of another signature.
	other := must(cades.Extend(t.Context(), w.sign(t, w.bob), cades.LevelT, src))
	value, _ := parse(t, other).Signers[0].UnsignedAttribute(cms.OIDTimeStampToken)
	ed := must(cms.Edit(w.sign(t, w.alice)))
	ed.AddUnsigned(0, cms.NewAttribute(cms.OIDTimeStampToken, value))
	foreign := must(ed.Bytes())
	wantCode(t, "foreign time-stamp", w.verifyAll(t, foreign), "cades_timestamp")
	_, err = cades.Extend(t.Context(), foreign, cades.LevelLT, src)
	wantCode(t, "nothing is built on it", err, "cades_timestamp")
}

// without makes the same signature without one of its revocation answers.
func without(t *testing.T, der, gone []byte) []byte {
	t.Helper()
	sd := parse(t, der)
	bare := must(cms.Assemble(sd.Certificates, sd.Signers...))
	ed := must(cms.Edit(bare))
	for _, c := range sd.CRLs {
		if !bytes.Equal(c, gone) {
			ed.AddCRL(c)
		}
	}
	for _, o := range sd.OCSPs {
		if !bytes.HasSuffix(gone, o) {
			ed.AddOCSP(o)
		}
	}
	return must(ed.Bytes())
}

func TestExtendRefuses(t *testing.T) {
	w := newWorld(t)
	src := w.sources(t, w.late, crypto.SHA256)
	good := w.sign(t, w.alice)
	if _, err := cades.Extend(t.Context(), good, cades.LevelT, src); err != nil {
		t.Fatal(err)
	}
	broken := bytes.Clone(good)
	broken[bytes.Index(good, parse(t, good).Signers[0].Signature())+12] ^= 1
	_, err := cades.Extend(t.Context(), broken, cades.LevelT, src)
	wantCode(t, "broken signature", err, "cms_signature_invalid")
	wrong := src
	wrong.Digest = nil2([]byte("another"))
	_, err = cades.Extend(t.Context(), good, cades.LevelT, wrong)
	wantCode(t, "another document", err, "cms_digest_mismatch")
	plain := must(cms.SignDigest(rand.Reader, tsp.ImprintOf(document).Digest, cms.Signer{Certificate: w.alice.Certificate, Key: w.alice.Key}, cms.Options{}))
	_, err = cades.Extend(t.Context(), plain, cades.LevelT, src)
	wantCode(t, "no signing time", err, "cades_not_possible")
	if _, err := cades.Extend(t.Context(), good, cades.LevelB, src); err == nil {
		t.Error("B-B is no extension")
	}
	// From the digest in the signature alone, with its own hash and no other.
	alone := src
	alone.Digest = nil
	if _, err := cades.Extend(t.Context(), good, cades.LevelLTA, alone); err != nil {
		t.Error(err)
	}
	alone = w.sources(t, w.late, crypto.SHA512)
	alone.Digest = nil
	_, err = cades.Extend(t.Context(), good, cades.LevelLTA, alone)
	wantCode(t, "no digest of this kind", err, "cms_content_missing")
	// Nobody knows a status: no B-LT.
	w.now = w.now.AddDate(3, 0, 0) // the signer's certificate has ended
	if _, err = cades.Extend(t.Context(), good, cades.LevelLT, src); err == nil {
		t.Error("evidence about an ended certificate was found")
	}
}

func TestAttachedContent(t *testing.T) {
	w := newWorld(t)
	src := w.sources(t, w.late, crypto.SHA512)
	src.Digest = nil
	sd := parse(t, w.sign(t, w.alice))
	attached := must(cms.AssembleAttached(cms.OIDData, document, sd.Certificates, sd.Signers...))
	lta, err := cades.Extend(t.Context(), attached, cades.LevelLTA, src)
	if err != nil {
		t.Fatal(err)
	}
	if back := parse(t, lta); !back.Attached || !bytes.Equal(back.Content, document) {
		t.Error("the content is gone")
	}
	if err := w.verifyAll(t, lta); err != nil {
		t.Error(err)
	}
}

func FuzzTimestamps(f *testing.F) {
	f.Add(must(os.ReadFile("testdata/lta.p7s"))) // a file: keys differ in every worker
	f.Fuzz(func(t *testing.T, der []byte) {
		sd, err := cms.ParseBER(der)
		if err != nil {
			return
		}
		cades.LevelOf(sd)
		cades.Protection(sd)
		for i := range sd.Signers {
			cades.ValuesOf(sd, i).Stored()
			stamps, err := cades.Timestamps(sd, i)
			if err != nil {
				continue
			}
			for _, ts := range stamps {
				cades.Verify(sd, i, ts, nil2(document))
			}
		}
	})
}
