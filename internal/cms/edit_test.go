package cms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealgate/internal/cms"
	"sealgate/internal/pkitest"
)

var jars = []string{"/usr/share/java/bcprov.jar", "/usr/share/java/bcpkix.jar", "/usr/share/java/bcutil.jar"}

func needBouncyCastle(t *testing.T) {
	t.Helper()
	for _, j := range jars {
		if _, err := os.Stat(j); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is missing (Debian package libbcpkix-java)", j)
			}
			t.Skipf("%s is missing (Debian package libbcpkix-java): BouncyCastle was not asked", j)
		}
	}
	needTool(t, "java")
	needTool(t, "javac")
}

func bouncyCastle(t *testing.T, program string, args ...string) []string {
	t.Helper()
	out, err := exec.Command("java", append([]string{"-cp", strings.Join(jars, ":"), "testdata/bouncycastle/" + program}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

var (
	p521 = sync.OnceValue(func() cms.Signer { return ecSigner(elliptic.P521(), "P-521") })
	ed   = sync.OnceValue(func() cms.Signer {
		_, key, _ := ed25519.GenerateKey(rand.Reader)
		return cms.Signer{Certificate: issue(key, "Ed25519"), Chain: []*x509.Certificate{testCA().cert}, Key: onlySigner{key}}
	})
	moreKinds = []kind{{"P-521 SHA-512", p521, crypto.SHA512}, {"Ed25519", ed, crypto.SHA512}, {"RSA PSS SHA-512", rsaPSS, crypto.SHA512}}
)

func TestMoreAlgorithms(t *testing.T) {
	changed := append([]byte("x"), document...)
	for _, k := range moreKinds {
		der := sign(t, k, document)
		if _, err := verify(der, document); err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
		if _, err := verify(der, changed); err == nil {
			t.Errorf("%s: another document was accepted", k.name)
		}
		value := parse(t, der).Signers[0].Signature()
		bad := bytes.Clone(der)
		bad[bytes.Index(der, value)+len(value)/2] ^= 1
		if _, err := verify(bad, document); err == nil {
			t.Errorf("%s: a changed signature was accepted", k.name)
		}
	}
	// RFC 8419 §3.1: SHA-512 and no other.
	if _, err := cms.Prepare(ed(), crypto.SHA256); err == nil {
		t.Error("Ed25519 with SHA-256")
	}
}

func TestMoreAlgorithmsWithOpenSSL(t *testing.T) {
	needTool(t, "openssl")
	for _, k := range moreKinds {
		if k.name == "Ed25519" {
			continue // OpenSSL 3.0 cannot; BouncyCastle is asked
		}
		der := sign(t, k, document)
		if out, err := opensslVerify(t, der, document, "-cades"); err != nil {
			t.Errorf("%s: %s", k.name, out)
		}
		if out, err := opensslVerify(t, der, append([]byte("x"), document...)); err == nil {
			t.Errorf("%s: another document was accepted: %s", k.name, out)
		}
	}
}

// foreign gives what openssl and BouncyCastle make in BER, or attached, by name.
func foreign(t *testing.T) (files map[string][]byte, signer cms.Signer) {
	t.Helper()
	needTool(t, "openssl")
	needBouncyCastle(t)
	made.Lock()
	defer made.Unlock()
	if made.files == nil {
		made.files, made.signer = makeForeign(t)
	}
	return made.files, made.signer
}

// made is what foreign gave before: starting a virtual machine takes its time.
var made struct {
	sync.Mutex
	files  map[string][]byte
	signer cms.Signer
}

func makeForeign(t *testing.T) (files map[string][]byte, signer cms.Signer) {
	t.Helper()
	files, signer = map[string][]byte{}, rsa2k()
	dir := t.TempDir()
	key := must(x509.MarshalPKCS8PrivateKey(signer.Key.(onlySigner).Signer.(*rsa.PrivateKey)))
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signer.Certificate.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	ec := p256()
	ecDir := filepath.Join(dir, "ec")
	os.Mkdir(ecDir, 0o700)
	for name, data := range map[string][]byte{"signer.pem": both, "doc": document, "key.der": key, "cert.der": signer.Certificate.Raw,
		"ec/doc": document, "ec/cert.der": ec.Certificate.Raw, "ec/key.der": must(x509.MarshalPKCS8PrivateKey(ec.Key.(onlySigner).Signer.(*ecdsa.PrivateKey)))} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, args := range map[string][]string{"openssl stream attached": {"-stream", "-nodetach"}, "openssl stream": {"-stream"}, "openssl cades stream": {"-stream", "-cades", "-nodetach"}, "openssl indef": {"-indef", "-nodetach"}} {
		out := filepath.Join(dir, "out")
		cmd := exec.Command("openssl", append([]string{"cms", "-sign", "-binary", "-md", "sha256", "-outform", "DER", "-in", filepath.Join(dir, "doc"),
			"-signer", filepath.Join(dir, "signer.pem"), "-out", out}, args...)...)
		if msg, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %s", name, msg)
		}
		files[name] = must(os.ReadFile(out))
	}
	bouncyCastle(t, "MakeSignatures.java", dir, "SHA256withRSA", "RSA", ecDir, "SHA384withECDSA", "EC")
	for _, name := range []string{"attached.ber", "detached.ber", "countersigned.p7s", "ec/attached.ber", "ec/countersigned.p7s"} {
		files["BouncyCastle "+name] = must(os.ReadFile(filepath.Join(dir, name)))
	}
	return files, signer
}

// verifyBER is verify for signatures of others, which may lack the ESS attribute.
func verifyBER(der, doc []byte) error {
	sd, err := cms.ParseBER(der)
	if err != nil {
		return err
	}
	in := cms.VerifyInput{Content: doc}
	results, err := sd.Verify(in)
	if err == nil {
		err = cms.Good(results)
	}
	for _, r := range results {
		counters, cerr := sd.Countersignatures(r.Signer, in)
		if err == nil && cerr == nil && len(counters) > 0 {
			cerr = cms.Good(counters)
		}
		if err == nil {
			err = cerr
		}
	}
	return err
}

func TestForeignBERVerifiesAndIsCosigned(t *testing.T) {
	files, _ := foreign(t)
	co := p256()
	var args, want []string
	indefinite := 0
	for name, der := range files {
		if err := verifyBER(der, document); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := verifyBER(der, append([]byte("x"), document...)); err == nil {
			t.Errorf("%s: another document was accepted", name)
		}
		if der[1] == 0x80 {
			indefinite++
			if _, err := cms.Parse(der); err == nil {
				t.Errorf("%s: BER was taken for DER", name)
			}
		}
		before := must(cms.ParseBER(der))
		e := must(cms.Edit(der))
		tbs := must(cms.SignedAttributes(digestOf(crypto.SHA256, document), co, cms.Options{SigningTime: time.Now()}))
		e.AddSigner(must(tbs.Sign(rand.Reader)))
		e.AddCertificates(co.Certificate, testCA().cert)
		after := must(e.Bytes())
		sd := must(cms.ParseBER(after))
		if len(sd.Signers) != len(before.Signers)+1 {
			t.Errorf("%s: %d signers", name, len(sd.Signers))
		}
		for _, si := range before.Signers { // the very octets, unsigned attributes included
			raw := si.RawFields()
			for _, a := range si.RawUnsigned() {
				raw = append(raw, bytes.Join(a.Values, nil)...)
			}
			if !bytes.Contains(after, si.RawFields()) || !slices.ContainsFunc(sd.Signers, func(x *cms.SignerInfo) bool { return bytes.Equal(x.RawFields(), si.RawFields()) }) || len(raw) == 0 {
				t.Errorf("%s: a signer info was altered", name)
			}
		}
		for _, c := range before.RawCertificates() {
			if !bytes.Contains(after, c) {
				t.Errorf("%s: a certificate was altered", name)
			}
		}
		if err := verifyBER(after, document); err != nil {
			t.Errorf("%s co-signed: %v", name, err)
		}
		doc := writeFile(t, "doc", document)
		if before.Attached {
			doc = "-"
		} else if out, err := opensslVerify(t, after, document); err != nil {
			t.Errorf("%s co-signed, openssl: %s", name, out)
		}
		args = append(args, writeFile(t, "co.p7s", after), doc)
		counters := 0
		for _, s := range sd.Signers {
			counters += len(must(s.Countersigners()))
		}
		want = append(want, "good 2 "+string(rune('0'+counters))+" "+name)
	}
	if indefinite < 5 {
		t.Errorf("only %d of the files are in BER: the test shows less than it should", indefinite)
	}
	for i, line := range bouncyCastle(t, "VerifyCountersignatures.java", args...) {
		if !strings.HasPrefix(want[i], line) {
			t.Errorf("BouncyCastle says %q, want %q", line, want[i])
		}
	}
}

// Adding to our own signature leaves the octets of what was there.
func TestCosigningKeepsOctets(t *testing.T) {
	first := sign(t, kinds[3], document)
	e := must(cms.Edit(first))
	second := parse(t, sign(t, kinds[0], document))
	e.AddSigner(second.Signers[0])
	e.AddCertificates(second.Certificates...)
	e.AddCRL(second.Certificates[0].Raw) // any element will do here
	out := must(e.Bytes())
	if _, err := verify(out, document); err != nil {
		t.Fatal(err)
	}
	a, b := parse(t, first), parse(t, out)
	if len(b.Signers) != 2 || len(b.CRLs) != 1 || len(b.Certificates) != 3 {
		t.Errorf("%d signers, %d lists, %d certificates", len(b.Signers), len(b.CRLs), len(b.Certificates))
	}
	if !bytes.Contains(out, a.Signers[0].RawFields()) {
		t.Error("the signer info was altered")
	}
	// An old archive time-stamp covers the sets as a whole.
	e = must(cms.Edit(first))
	e.AddUnsigned(0, cms.NewAttribute([]int{1, 2, 840, 113549, 1, 9, 16, 2, 48}, []byte{5, 0}))
	frozen := must(e.Bytes())
	e = must(cms.Edit(frozen))
	e.AddCertificates(p384().Certificate)
	_, err := e.Bytes()
	wantCode(t, "frozen", err, "cms_frozen")
	e = must(cms.Edit(frozen))
	e.AddSigner(second.Signers[0])
	e.AddUnsigned(7, cms.NewAttribute(cms.OIDSigningTime, []byte{5, 0}))
	if _, err := e.Bytes(); err == nil {
		t.Error("an attribute for nobody")
	}
}

func TestCountersignature(t *testing.T) {
	base := sign(t, kinds[0], document)
	p := must(cms.Prepare(rsa2k(), crypto.SHA384))
	make := func(si *cms.SignerInfo, o cms.Options) []byte {
		c := must(must(p.CounterAttributes(si, o)).Sign(rand.Reader))
		e := must(cms.Edit(base))
		e.AddUnsigned(0, must(cms.Countersignature(c)))
		e.AddCertificates(p.Certificates()...)
		return must(e.Bytes())
	}
	good := make(parse(t, base).Signers[0], cms.Options{SigningTime: time.Now()})
	sd := parse(t, good)
	results, err := sd.Countersignatures(sd.Signers[0], cms.VerifyInput{RequireSigningCertificate: true})
	if err != nil || len(results) != 1 || cms.Good(results) != nil || !results[0].Certificate.Equal(rsa2k().Certificate) {
		t.Fatalf("%v %v", err, results)
	}
	if _, err := verify(good, document); err != nil {
		t.Error(err)
	}
	if none, err := sd.Countersignatures(results[0].Signer, cms.VerifyInput{}); err != nil || len(none) != 0 {
		t.Error("a countersignature that nobody made")
	}
	// Over another signature.
	wrong := parse(t, make(parse(t, sign(t, kinds[0], document)).Signers[0], cms.Options{SigningTime: time.Now()}))
	results, err = wrong.Countersignatures(wrong.Signers[0], cms.VerifyInput{})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "another signature", cms.Good(results), "cms_digest_mismatch")
	// An ordinary signature over the signature's octets is not one: it has a content type.
	o := must(must(cms.SignedAttributes(digestOf(crypto.SHA256, parse(t, base).Signers[0].Signature()), p256(), cms.Options{})).Sign(rand.Reader))
	e := must(cms.Edit(base))
	e.AddUnsigned(0, must(cms.Countersignature(o)))
	typed := parse(t, must(e.Bytes()))
	results, err = typed.Countersignatures(typed.Signers[0], cms.VerifyInput{})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "content type", cms.Good(results), "cms_attributes")
	if _, err := p.CounterAttributes(parse(t, base).Signers[0], cms.Options{ContentType: cms.OIDData}); err == nil {
		t.Error("a countersignature with a content type")
	}
	needBouncyCastle(t)
	doc := writeFile(t, "doc", document)
	lines := bouncyCastle(t, "VerifyCountersignatures.java", writeFile(t, "a", good), doc, writeFile(t, "b", wrong.Raw), doc)
	if lines[0] != "good 1 1" || !strings.HasPrefix(lines[1], "bad") {
		t.Errorf("BouncyCastle says %q", lines)
	}
}

// The complete list of a national CA: many lines, read and carried along quickly.
func TestLargeListInside(t *testing.T) {
	l := pkitest.LargeList(100_000, time.Now())
	list := must(l.Sign(testCA().cert, testCA().key))
	e := must(cms.Edit(sign(t, kinds[0], document)))
	e.AddCRL(list)
	der := must(e.Bytes())
	for name, read := range map[string]func([]byte) (*cms.SignedData, error){"DER": cms.Parse, "BER": cms.ParseBER,
		"stream": func(b []byte) (*cms.SignedData, error) { return cms.ParseStream(bytes.NewReader(b), nil, 1<<20) }} {
		start := time.Now()
		sd, err := read(der)
		if err != nil || len(sd.CRLs) != 1 || !bytes.Equal(sd.CRLs[0], list) {
			t.Fatalf("%s: %v", name, err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("%s: %v", name, d)
		}
		if err := cms.Good(must(sd.Verify(cms.VerifyInput{Content: document}))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
