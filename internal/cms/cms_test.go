package cms_test

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
	"io"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"sealgate/internal/cms"
	"sealgate/internal/fault"
	"sealgate/internal/pkitest"
)

// authority is a small test CA; identities are made once per key kind.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var testCA = sync.OnceValue(func() authority {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Country: []string{"TW"}, CommonName: "(測試用) CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der := must(x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key))
	return authority{must(x509.ParseCertificate(der)), key}
})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var serials = struct {
	sync.Mutex
	n int64
}{n: 100}

func issue(key crypto.Signer, cn string) *x509.Certificate {
	serials.Lock()
	serials.n++
	n := serials.n
	serials.Unlock()
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(n), Subject: pkix.Name{Country: []string{"TW"}, CommonName: cn},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment, SubjectKeyId: []byte(fmt.Sprint("key ", n)),
	}
	ca := testCA()
	der := must(x509.CreateCertificate(rand.Reader, tpl, ca.cert, key.Public(), ca.key))
	return must(x509.ParseCertificate(der))
}

var (
	p256   = sync.OnceValue(func() cms.Signer { return ecSigner(elliptic.P256(), "P-256") })
	p384   = sync.OnceValue(func() cms.Signer { return ecSigner(elliptic.P384(), "P-384") })
	rsa2k  = sync.OnceValue(func() cms.Signer { return rsaSigner(false) })
	rsaPSS = sync.OnceValue(func() cms.Signer { return rsaSigner(true) })
)

func ecSigner(c elliptic.Curve, name string) cms.Signer {
	key := must(ecdsa.GenerateKey(c, rand.Reader))
	return cms.Signer{Certificate: issue(key, name), Chain: []*x509.Certificate{testCA().cert}, Key: onlySigner{key}}
}

func rsaSigner(pss bool) cms.Signer {
	key := must(rsa.GenerateKey(rand.Reader, 2048))
	return cms.Signer{Certificate: issue(key, "RSA"), Chain: []*x509.Certificate{testCA().cert}, Key: onlySigner{key}, PSS: pss}
}

// onlySigner hides the key's type, as an HSM does.
type onlySigner struct{ crypto.Signer }

var document = []byte("文件內容\r\nsecond line\n")

func digestOf(h crypto.Hash, data []byte) []byte {
	w := h.New()
	w.Write(data)
	return w.Sum(nil)
}

type kind struct {
	name   string
	signer func() cms.Signer
	hash   crypto.Hash
}

var kinds = []kind{
	{"P-256 SHA-256", p256, crypto.SHA256},
	{"P-256 SHA-512", p256, crypto.SHA512},
	{"P-384 SHA-384", p384, crypto.SHA384},
	{"RSA PKCS1 SHA-256", rsa2k, crypto.SHA256},
	{"RSA PKCS1 SHA-512", rsa2k, crypto.SHA512},
	{"RSA PSS SHA-256", rsaPSS, crypto.SHA256},
	{"RSA PSS SHA-384", rsaPSS, crypto.SHA384},
}

func sign(t testing.TB, k kind, doc []byte) []byte {
	t.Helper()
	der, err := cms.SignDigest(rand.Reader, digestOf(k.hash, doc), k.signer(), cms.Options{Digest: k.hash, SigningTime: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func parse(t testing.TB, der []byte) *cms.SignedData {
	t.Helper()
	sd, err := cms.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return sd
}

// verify is the strict verification of a detached CAdES signature.
func verify(der, doc []byte) ([]cms.SignerResult, error) {
	sd, err := cms.Parse(der)
	if err != nil {
		return nil, err
	}
	r, err := sd.Verify(cms.VerifyInput{Content: doc, RequireSigningCertificate: true})
	if err != nil {
		return nil, err
	}
	return r, cms.Good(r)
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	if got := fault.CodeOf(err); got != code {
		t.Errorf("%s: code %q, want %q (%v)", what, got, code, err)
	}
}

func TestSignAndVerifyEveryKind(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			der := sign(t, k, document)
			r, err := verify(der, document)
			if err != nil {
				t.Fatal(err)
			}
			if !r[0].Certificate.Equal(k.signer().Certificate) || !r[0].SigningCertificate || r[0].Digest != k.hash ||
				r[0].PSS != k.signer().PSS || time.Since(r[0].SigningTime) > time.Minute {
				t.Errorf("%+v", r[0])
			}
			sd := parse(t, der)
			r, err = sd.Verify(cms.VerifyInput{Digest: func(h crypto.Hash) []byte { return digestOf(h, document) }})
			if err != nil || cms.Good(r) != nil {
				t.Errorf("by digest: %v %v", err, cms.Good(r))
			}
			changed := bytes.Clone(document)
			changed[0] ^= 1
			_, err = verify(der, changed)
			wantCode(t, "changed document", err, "cms_digest_mismatch")
		})
	}
}

func TestSigningTimeEncoding(t *testing.T) {
	for _, at := range []time.Time{
		time.Date(2026, 11, 23, 1, 2, 3, 999, time.FixedZone("", 8*3600)),
		time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC),
		time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC), // GeneralizedTime from here (RFC 5652 §11.3)
	} {
		der, err := cms.SignDigest(rand.Reader, digestOf(crypto.SHA256, document), p256(), cms.Options{SigningTime: at})
		if err != nil {
			t.Fatal(err)
		}
		if got := parse(t, der).Signers[0].SigningTime(); !got.Equal(at.Truncate(time.Second)) {
			t.Errorf("%v became %v", at, got)
		}
	}
}

// Flipping a bit in any byte must not leave a good signature over the document.
// Two parts are covered by nothing, say nothing, and are left out: the version of
// SignedData, and the list of digest algorithms ahead of the signers.
func TestNoFlippedByteVerifies(t *testing.T) {
	k := kinds[0]
	s := k.signer()
	s.Chain = nil
	der, err := cms.SignDigest(rand.Reader, digestOf(k.hash, document), s, cms.Options{SigningTime: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	version := bytes.Index(der, []byte{2, 1, 1, 0x31, 13, 0x30, 11, 6, 9})
	if version < 0 {
		t.Fatal("version and digest algorithms not found")
	}
	for i := range der {
		bad := bytes.Clone(der)
		bad[i] ^= 0x01
		_, err := verify(bad, document)
		unsaid := i == version+2 || i > version+8 && i < version+18
		if err == nil && !unsaid {
			t.Errorf("byte %d (%02x) was flipped unnoticed", i, der[i])
		}
	}
}

func TestTrailingAndTruncatedBytesAreRefused(t *testing.T) {
	der := sign(t, kinds[0], document)
	_, err := cms.Parse(append(bytes.Clone(der), 0))
	wantCode(t, "trailing", err, "cms_malformed")
	for i := range der {
		if _, err := cms.Parse(der[:i]); err == nil {
			t.Errorf("the first %d bytes were accepted", i)
		}
	}
	_, err = cms.Parse(der)
	wantCode(t, "control", err, "")
}

func TestSeveralSigners(t *testing.T) {
	var infos []*cms.SignerInfo
	certs := []*x509.Certificate{testCA().cert}
	for _, k := range []kind{kinds[0], kinds[2], kinds[5]} {
		tbs, err := cms.SignedAttributes(digestOf(k.hash, document), k.signer(), cms.Options{Digest: k.hash, SigningTime: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		si, err := tbs.Sign(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		infos, certs = append(infos, si), append(certs, k.signer().Certificate)
	}
	der, err := cms.Assemble(certs, infos[:2]...)
	if err != nil {
		t.Fatal(err)
	}
	// A third one is added to the parsed two.
	sd := parse(t, der)
	all, err := cms.Assemble(append(sd.Certificates, certs[3]), append(sd.Signers, infos[2])...)
	if err != nil {
		t.Fatal(err)
	}
	r, err := verify(all, document)
	if err != nil || len(r) != 3 {
		t.Fatalf("%d results, %v", len(r), err)
	}
	// One bad among three is noticed.
	wrong, err := cms.SignedAttributes(digestOf(crypto.SHA256, []byte("another")), p256(), cms.Options{SigningTime: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	infos[1] = must(wrong.Sign(rand.Reader))
	mixed := must(cms.Assemble(certs, infos...))
	r, err = parse(t, mixed).Verify(cms.VerifyInput{Content: document})
	if err == nil {
		err = cms.Good(r)
	}
	var bad int
	for _, one := range r { // in the order of SET OF, not of signing
		if one.Err != nil {
			bad++
			wantCode(t, "the bad one", one.Err, "cms_digest_mismatch")
		}
	}
	if err == nil || len(r) != 3 || bad != 1 {
		t.Errorf("%d of %d are bad, %v", bad, len(r), err)
	}
	if _, err := cms.Assemble(certs, make([]*cms.SignerInfo, 65)...); err == nil {
		t.Error("65 signers")
	}
	if _, err := cms.Assemble(certs); err == nil {
		t.Error("no signer")
	}
}

func TestUnsignedAttributeLeavesSignatureGood(t *testing.T) {
	sd := parse(t, sign(t, kinds[0], document))
	token := []byte{0x30, 3, 2, 1, 1}
	der := must(cms.Assemble(sd.Certificates, sd.Signers[0].WithUnsigned(cms.NewAttribute(cms.OIDTimeStampToken, token))))
	if _, err := verify(der, document); err != nil {
		t.Fatal(err)
	}
	if v, ok := parse(t, der).Signers[0].UnsignedAttribute(cms.OIDTimeStampToken); !ok || !bytes.Equal(v, token) {
		t.Error("the attribute is gone")
	}
	if len(sd.Signers[0].Unsigned()) != 0 {
		t.Error("the original was changed")
	}
}

func TestHiPKIAttachedSignature(t *testing.T) {
	h := must(pkitest.NewHierarchy(pkitest.Options{}))
	card := must(h.Citizen(pkitest.CitizenOptions{}))
	tbs := []byte(`{"statement":"我要綁定這支手機"}`)
	der := must(pkitest.SignAttached(card, tbs, pkitest.SignOptions{Nonce: []byte("nonce-1234"), CardSN: card.CardNumber}))
	sd := parse(t, der)
	if !sd.Attached || !bytes.Equal(sd.Content, tbs) {
		t.Fatal("content")
	}
	r, err := sd.Verify(cms.VerifyInput{Content: tbs})
	if err != nil || cms.Good(r) != nil || !r[0].Certificate.Equal(card.Certificate) || r[0].SigningCertificate {
		t.Fatalf("%v %v", err, cms.Good(r))
	}
	for oid, want := range map[string]string{cms.OIDRandomNonce.String(): "nonce-1234", cms.OIDCardNumber.String(): card.CardNumber} {
		var id asn1.ObjectIdentifier
		for _, o := range []asn1.ObjectIdentifier{cms.OIDRandomNonce, cms.OIDCardNumber} {
			if o.String() == oid {
				id = o
			}
		}
		v, ok := r[0].Signer.SignedAttribute(id)
		if text, err := cms.TextValue(v); !ok || err != nil || string(text) != want {
			t.Errorf("%s: %q %v", oid, text, err)
		}
	}
	_, err = sd.Verify(cms.VerifyInput{Content: []byte("another statement")})
	wantCode(t, "another content expected", err, "cms_digest_mismatch")
	r, err = sd.Verify(cms.VerifyInput{Digest: func(h crypto.Hash) []byte { return digestOf(h, []byte("another")) }})
	if err == nil {
		err = cms.Good(r)
	}
	wantCode(t, "another digest expected", err, "cms_digest_mismatch")
	_, err = parse(t, bytes.Replace(der, []byte("statement"), []byte("statemenT"), 1)).Verify(cms.VerifyInput{})
	wantCode(t, "whole", err, "")
	r, _ = parse(t, bytes.Replace(der, []byte("statement"), []byte("statemenT"), 1)).Verify(cms.VerifyInput{})
	wantCode(t, "changed content", cms.Good(r), "cms_digest_mismatch")
	r, _ = sd.Verify(cms.VerifyInput{RequireSigningCertificate: true})
	wantCode(t, "CAdES demanded", cms.Good(r), "cms_signing_certificate")
}

func TestPrepareRefusesWhatDoesNotFit(t *testing.T) {
	mixed := p256()
	mixed.Key = p384().Key
	if _, err := cms.Prepare(mixed, 0); err == nil {
		t.Error("foreign key")
	}
	pss := p256()
	pss.PSS = true
	if _, err := cms.Prepare(pss, 0); err == nil {
		t.Error("PSS with an EC key")
	}
	if _, err := cms.Prepare(p256(), crypto.SHA1); err == nil {
		t.Error("SHA-1")
	}
	if _, err := cms.Prepare(cms.Signer{}, 0); err == nil {
		t.Error("no certificate")
	}
	p := must(cms.Prepare(p256(), 0))
	if _, err := p.SignedAttributes(make([]byte, 20), cms.Options{}); err == nil {
		t.Error("digest of the wrong length")
	}
	twice := cms.Options{Extra: []cms.Attribute{cms.NewAttribute(cms.OIDMessageDigest, []byte{4, 0})}}
	if _, err := p.SignedAttributes(make([]byte, 32), twice); err == nil {
		t.Error("a second message digest")
	}
	junk := cms.Options{Extra: []cms.Attribute{cms.NewAttribute(cms.OIDCardNumber, []byte{4, 5, 1})}}
	if _, err := p.SignedAttributes(make([]byte, 32), junk); err == nil {
		t.Error("an attribute value that is not DER")
	}
	if _, err := p.SignedAttributes(make([]byte, 32), cms.Options{}); err != nil {
		t.Errorf("control: %v", err)
	}
}

func TestKeyThatComesLater(t *testing.T) {
	s := p256()
	key := s.Key
	s.Key = nil
	tbs := must(must(cms.Prepare(s, 0)).SignedAttributes(digestOf(crypto.SHA256, document), cms.Options{SigningTime: time.Now()}))
	if _, err := tbs.Sign(rand.Reader); err == nil {
		t.Error("signed without a key")
	}
	if _, err := tbs.SignWith(rand.Reader, p384().Key); err == nil {
		t.Error("signed with a foreign key")
	}
	sum := sha256.Sum256(tbs.Bytes())
	if !bytes.Equal(sum[:], tbs.Digest()) {
		t.Error("Digest is not the hash of Bytes")
	}
	si := must(tbs.SignWith(rand.Reader, key))
	if _, err := verify(must(cms.Assemble([]*x509.Certificate{s.Certificate}, si)), document); err != nil {
		t.Error(err)
	}
}

func TestMissingContentAndCertificate(t *testing.T) {
	der := sign(t, kinds[0], document)
	sd := parse(t, der)
	_, err := sd.Verify(cms.VerifyInput{})
	wantCode(t, "no content", err, "cms_content_missing")
	r, err := sd.Verify(cms.VerifyInput{Digest: func(crypto.Hash) []byte { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "no digest for the algorithm", cms.Good(r), "cms_content_missing")
	bare := parse(t, must(cms.Assemble(nil, sd.Signers...)))
	r, _ = bare.Verify(cms.VerifyInput{Content: document})
	wantCode(t, "no certificate", cms.Good(r), "cms_no_certificate")
	r, _ = bare.Verify(cms.VerifyInput{Content: document, Certificates: []*x509.Certificate{nil, p256().Certificate}})
	wantCode(t, "certificate from the caller", cms.Good(r), "")
	wantCode(t, "no results", cms.Good(nil), "cms_malformed")
}

func TestDigestReader(t *testing.T) {
	got, n, err := cms.DigestReader(context.Background(), bytes.NewReader(document), crypto.SHA256, int64(len(document)))
	if err != nil || n != int64(len(document)) || !bytes.Equal(got, digestOf(crypto.SHA256, document)) {
		t.Errorf("%x %d %v", got, n, err)
	}
	_, _, err = cms.DigestReader(context.Background(), bytes.NewReader(document), crypto.SHA256, int64(len(document))-1)
	wantCode(t, "one byte too many", err, "cms_content_too_large")
	_, _, err = cms.DigestReader(context.Background(), io.MultiReader(strings.NewReader("x"), broken{}), crypto.SHA256, 10)
	if !errors.Is(err, errBroken) {
		t.Errorf("read error: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err = cms.DigestReader(ctx, bytes.NewReader(document), crypto.SHA256, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// Bounded memory: a buffer, whatever the size of the stream.
	allocs := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			cms.DigestReader(context.Background(), io.LimitReader(zeros{}, 8<<20), crypto.SHA256, 1<<30)
		}
	})
	if allocs.AllocedBytesPerOp() > 1<<20 {
		t.Errorf("%d bytes for one stream", allocs.AllocedBytesPerOp())
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBroken }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
