package cms_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/pkcs7"

	"sealgate/internal/cms"
)

// needTool skips without the program, except where CI says that all tools are
// there: a counterpart that silently went missing would be worse than a failure.
func needTool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed: this counterpart was not asked", name)
}

func writeFile(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func caFile(t *testing.T) string {
	return writeFile(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: testCA().cert.Raw}))
}

func opensslVerify(t *testing.T, der, doc []byte, extra ...string) (string, error) {
	t.Helper()
	args := append([]string{"cms", "-verify", "-binary", "-inform", "DER", "-in", writeFile(t, "doc.p7s", der),
		"-content", writeFile(t, "doc", doc), "-CAfile", caFile(t), "-purpose", "any", "-out", os.DevNull}, extra...)
	out, err := exec.Command("openssl", args...).CombinedOutput()
	return string(out), err
}

func TestOpenSSLAgrees(t *testing.T) {
	needTool(t, "openssl")
	changed := bytes.Clone(document)
	changed[len(changed)-2] ^= 1
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			der := sign(t, k, document)
			for _, extra := range [][]string{nil, {"-cades"}} {
				if out, err := opensslVerify(t, der, document, extra...); err != nil {
					t.Errorf("%v: %s", extra, out)
				}
				if out, err := opensslVerify(t, der, changed, extra...); err == nil {
					t.Errorf("%v: one changed byte was accepted: %s", extra, out)
				}
			}
		})
	}
}

func TestOpenSSLAcceptsSeveralSigners(t *testing.T) {
	needTool(t, "openssl")
	var infos []*cms.SignerInfo
	certs := []*x509.Certificate{testCA().cert}
	for _, k := range []kind{kinds[0], kinds[2], kinds[3], kinds[5]} {
		sd := parse(t, sign(t, k, document))
		infos, certs = append(infos, sd.Signers...), append(certs, sd.Certificates...)
	}
	der := must(cms.Assemble(certs, infos...))
	if out, err := opensslVerify(t, der, document, "-cades"); err != nil {
		t.Error(out)
	}
}

// What openssl signs, we verify: PKCS1 and PSS, by issuer and by key identifier,
// attached and detached, with and without signed attributes.
func TestWeVerifyOpenSSL(t *testing.T) {
	needTool(t, "openssl")
	s := rsa2k()
	key := must(x509.MarshalPKCS8PrivateKey(s.Key.(onlySigner).Signer.(*rsa.PrivateKey)))
	signerPEM := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"plain":         {nil, ""},
		"CAdES":         {[]string{"-cades"}, ""},
		"PSS":           {[]string{"-keyopt", "rsa_padding_mode:pss"}, ""},
		"key id":        {[]string{"-keyid"}, ""},
		"SHA-512":       {[]string{"-md", "sha512"}, ""},
		"attached":      {[]string{"-nodetach"}, ""},
		"SHA-1":         {[]string{"-md", "sha1"}, "cms_algorithm"},
		"no attributes": {[]string{"-noattr"}, "cms_attributes"},
		"no certs":      {[]string{"-nocerts"}, "cms_no_certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out.p7s")
			// An older option comes first, so that tc.args may repeat -md.
			args := []string{"cms", "-sign", "-binary", "-outform", "DER", "-out", out, "-in", writeFile(t, "doc", document),
				"-signer", writeFile(t, "signer.pem", signerPEM)}
			if !strings.Contains(strings.Join(tc.args, " "), "-md") {
				args = append(args, "-md", "sha256")
			}
			if msg, err := exec.Command("openssl", append(args, tc.args...)...).CombinedOutput(); err != nil {
				t.Fatal(string(msg))
			}
			der := must(os.ReadFile(out))
			r, err := parse(t, der).Verify(cms.VerifyInput{Content: document})
			if err == nil {
				err = cms.Good(r)
			}
			wantCode(t, name, err, tc.want)
			if name == "CAdES" && !r[0].SigningCertificate {
				t.Error("the ESS attribute was not noticed")
			}
			if tc.want == "" {
				r, err := parse(t, der).Verify(cms.VerifyInput{Content: append([]byte("x"), document...)})
				if err == nil {
					err = cms.Good(r)
				}
				wantCode(t, "changed", err, "cms_digest_mismatch")
			}
		})
	}
	noattr := filepath.Join(t.TempDir(), "noattr.p7s")
	msg, err := exec.Command("openssl", "cms", "-sign", "-binary", "-outform", "DER", "-out", noattr, "-in", writeFile(t, "doc", document),
		"-signer", writeFile(t, "signer.pem", signerPEM), "-md", "sha256", "-noattr").CombinedOutput()
	if err != nil {
		t.Fatal(string(msg))
	}
	for doc, want := range map[string]string{string(document): "", "x": "cms_signature_invalid"} {
		r := must(parse(t, must(os.ReadFile(noattr))).Verify(cms.VerifyInput{Content: []byte(doc), AllowNoSignedAttributes: true}))
		wantCode(t, "allowed without attributes", cms.Good(r), want)
	}
}

func TestBouncyCastleAgrees(t *testing.T) {
	t.Parallel()
	needBouncyCastle(t)
	doc := writeFile(t, "doc", document)
	other := writeFile(t, "other", append([]byte("x"), document...))
	var args, want []string
	for _, k := range append(kinds[:len(kinds):len(kinds)], moreKinds...) {
		p7s := writeFile(t, "doc.p7s", sign(t, k, document))
		args = append(args, p7s, doc, p7s, other)
		want = append(want, "good 1 "+map[crypto.Hash]string{crypto.SHA256: "32", crypto.SHA384: "48", crypto.SHA512: "64"}[k.hash], "bad ")
	}
	a, b := parse(t, sign(t, kinds[0], document)), parse(t, sign(t, kinds[5], document))
	both := must(cms.Assemble(append(a.Certificates, b.Certificates...), append(a.Signers, b.Signers...)...))
	args, want = append(args, writeFile(t, "both.p7s", both), doc), append(want, "good 2 32")
	cmd := exec.Command("java", append([]string{"-cp", strings.Join(jars, ":"), "testdata/bouncycastle/VerifyDetached.java"}, args...)...)
	out, err := cmd.CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != len(want) {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, want[i]) {
			t.Errorf("signature %d: BouncyCastle says %q, want %q", i/2, line, want[i])
		}
	}
}

func TestDigitorusAgrees(t *testing.T) {
	for _, k := range kinds {
		p7, err := pkcs7.Parse(sign(t, k, document))
		if err != nil {
			t.Errorf("%s: %v", k.name, err)
			continue
		}
		p7.Content = document
		roots := x509.NewCertPool()
		roots.AddCert(testCA().cert)
		err = p7.VerifyWithChainAtTime(roots, time.Now())
		if k.signer().PSS {
			if err == nil {
				t.Error("digitorus/pkcs7 learned RSA-PSS: the note in this test is out of date")
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
		p7.Content = append([]byte("x"), document...)
		if p7.VerifyWithChainAtTime(roots, time.Now()) == nil {
			t.Errorf("%s: a changed document was accepted", k.name)
		}
	}
}

func TestWeVerifyDigitorus(t *testing.T) {
	for _, k := range []kind{kinds[0], kinds[3]} {
		sd := must(pkcs7.NewSignedData(document))
		sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256) // the default is SHA-1
		s := k.signer()
		if err := sd.AddSignerChain(s.Certificate, s.Key, s.Chain, pkcs7.SignerInfoConfig{}); err != nil {
			t.Fatal(err)
		}
		sd.Detach()
		der := must(sd.Finish())
		parsed := parse(t, der)
		for doc, want := range map[string]string{string(document): "", "another": "cms_digest_mismatch"} {
			r, err := parsed.Verify(cms.VerifyInput{Content: []byte(doc)})
			if err == nil {
				err = cms.Good(r)
			}
			wantCode(t, k.name, err, want)
		}
	}
}

// constantSigner costs nothing, so that what is left is ours.
type constantSigner struct {
	crypto.Signer
	value []byte
}

func (c constantSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return c.value, nil
}

func BenchmarkAssembly(b *testing.B) {
	s := p256()
	s.Key = constantSigner{s.Key, make([]byte, 71)}
	p := must(cms.Prepare(s, crypto.SHA256))
	o := cms.Options{SigningTime: time.Now()}
	digest := digestOf(crypto.SHA256, document)
	b.ReportAllocs()
	for b.Loop() {
		must(p.SignDigest(nil, digest, o))
	}
}

// BenchmarkSignature prints what a signature costs beside the bare key operation.
func BenchmarkSignature(b *testing.B) {
	for _, k := range []kind{kinds[0], kinds[3]} {
		s := k.signer()
		digest := digestOf(k.hash, document)
		b.Run(k.name+"/bare key", func(b *testing.B) {
			for b.Loop() {
				must(s.Key.Sign(rand.Reader, digest, k.hash))
			}
		})
		b.Run(k.name+"/signature", func(b *testing.B) {
			p := must(cms.Prepare(s, k.hash))
			o := cms.Options{SigningTime: time.Now()}
			b.ReportAllocs()
			for b.Loop() {
				must(p.SignDigest(rand.Reader, digest, o))
			}
		})
	}
}
