package sigverify_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/pkitest"
	"sealgate/internal/sigverify"
)

// needTool skips without the program, except in CI, where all must be there.
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

func put(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// judge verifies for a year in, with a list that names nobody.
func (l *lab) judge(t testing.TB, p7s []byte, c sigverify.Content) *sigverify.Report {
	t.Helper()
	r, err := l.verifier(t).Verify(context.Background(), sigverify.Request{Signature: p7s, Content: c, At: years(1),
		Evidence: evidenceOf(crl(l.ca, years(1)), crl(l.tsaRoot, years(1)))})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func whole(data []byte) sigverify.Content { return sigverify.Content{Reader: bytes.NewReader(data)} }

func byDigest(t testing.TB, p7s, data []byte) sigverify.Content {
	t.Helper()
	need, err := sigverify.Needs(p7s)
	if err != nil {
		t.Fatal(err)
	}
	c := sigverify.Content{Digests: map[crypto.Hash][]byte{}}
	for _, h := range need {
		s := h.New()
		s.Write(data)
		c.Digests[h] = s.Sum(nil)
	}
	return c
}

var other = append([]byte("x"), document...)

// row is one signature of somebody else's making.
type row struct {
	name     string
	p7s      []byte
	signers  int
	attached bool
	bare     bool // without signed attributes
}

// judgeRow holds one signature against all that must be said about it.
func (l *lab) judgeRow(t *testing.T, r row) {
	c := whole(document)
	if r.attached {
		c = sigverify.Content{}
	}
	report := l.judge(t, r.p7s, c)
	expect(t, report, "")
	if len(report.Signatures) != r.signers {
		t.Errorf("%d signatures, want %d", len(report.Signatures), r.signers)
	}
	scope := map[bool]sigverify.ScopeKind{true: sigverify.ScopeAttached, false: sigverify.ScopeDetached}[r.attached]
	if s := report.Signatures[0]; s.Scope.Kind != scope || s.Signer == nil || s.Signer.Name == "" || len(s.Chain) != 3 || len(s.Revocation) == 0 {
		t.Errorf("scope %v, signer %v, %d certificates, %d answers", s.Scope, s.Signer, len(s.Chain), len(s.Revocation))
	}
	if !r.attached {
		wrong := sigverify.HashFailure
		if r.bare {
			wrong = sigverify.SigCryptoFailure
		} else {
			expect(t, l.judge(t, r.p7s, byDigest(t, r.p7s, document)), "")
			expect(t, l.judge(t, r.p7s, byDigest(t, r.p7s, other)), wrong)
			expect(t, l.judge(t, r.p7s, sigverify.Content{}), sigverify.SignedDataNotFound)
		}
		expect(t, l.judge(t, r.p7s, whole(other)), wrong)
	} else if changed := bytes.Replace(r.p7s, document[:6], other[:6], 1); !bytes.Equal(changed, r.p7s) {
		if report := l.judge(t, changed, sigverify.Content{}); report.Indication != sigverify.TotalFailed {
			t.Errorf("changed content inside: %s", report.SubIndication)
		}
	}
	sd := must(cms.ParseBER(r.p7s))
	value := sd.Signers[0].Signature()
	at := bytes.LastIndex(r.p7s, value)
	if at < 0 {
		t.Fatal("the signature value is not in one piece")
	}
	changed := bytes.Clone(r.p7s)
	changed[at+len(value)-1] ^= 1
	expect(t, l.judge(t, changed, c2(r, document)), sigverify.SigCryptoFailure)
}

func c2(r row, data []byte) sigverify.Content {
	if r.attached {
		return sigverify.Content{}
	}
	return whole(data)
}

func TestOpenSSL(t *testing.T) {
	needTool(t, "openssl")
	l, dir := newLab(), t.TempDir()
	doc := put(t, dir, "doc", document)
	ca := put(t, dir, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.ca.Certificate.Raw}))
	files := map[string]string{}
	for name, key := range keys() {
		s := l.issue(t, "簽署人 "+name, key)
		files[name] = put(t, dir, name+".pem", append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate.Raw}),
			pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))})...))
	}
	for _, tc := range []struct {
		name           string
		keys           []string
		args           string
		attached, bare bool
	}{
		{"plain", []string{"rsa"}, "", false, false},
		{"EC", []string{"ec"}, "", false, false},
		{"P-384 with SHA-384", []string{"ec384"}, "-md sha384", false, false},
		{"PSS", []string{"rsa"}, "-keyopt rsa_padding_mode:pss", false, false},
		{"CAdES", []string{"ec"}, "-cades", false, false},
		{"SHA-512", []string{"rsa"}, "-md sha512", false, false},
		{"key identifier", []string{"ec"}, "-keyid", false, false},
		{"attached", []string{"rsa"}, "-nodetach", true, false},
		{"BER stream", []string{"ec"}, "-nodetach -stream", true, false},
		{"no attributes", []string{"rsa"}, "-noattr", false, true},
		{"no attributes, attached", []string{"ec"}, "-noattr -nodetach", true, true},
		{"co-signed", []string{"rsa", "ec"}, "", false, false},
		{"PEM", []string{"rsa"}, "-outform PEM", false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			args := []string{"cms", "-sign", "-binary", "-in", doc, "-out", out, "-certfile", ca}
			if !strings.Contains(tc.args, "-outform") {
				args = append(args, "-outform", "DER")
			}
			if !strings.Contains(tc.args, "-md") {
				args = append(args, "-md", "sha256")
			}
			for _, k := range tc.keys {
				args = append(args, "-signer", files[k])
			}
			if msg, err := exec.Command("openssl", append(args, strings.Fields(tc.args)...)...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, msg)
			}
			p7s := must(os.ReadFile(out))
			if block, _ := pem.Decode(p7s); block != nil {
				expect(t, l.judge(t, p7s, whole(document)), "")
				p7s = block.Bytes
			}
			l.judgeRow(t, row{tc.name, p7s, len(tc.keys), tc.attached, tc.bare})
		})
	}
}

func TestBouncyCastle(t *testing.T) {
	jars := []string{"/usr/share/java/bcprov.jar", "/usr/share/java/bcpkix.jar", "/usr/share/java/bcutil.jar"}
	for _, j := range jars {
		if _, err := os.Stat(j); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is missing (Debian package libbcpkix-java)", j)
			}
			t.Skipf("%s is missing (Debian package libbcpkix-java): BouncyCastle was not asked", j)
		}
	}
	needTool(t, "javac")
	l, dir, out := newLab(), t.TempDir(), t.TempDir()
	args := []string{"-cp", strings.Join(jars, ":"), "testdata/bouncycastle/Sign.java", out, put(t, dir, "doc", document), put(t, dir, "ca", l.ca.Certificate.Raw)}
	kinds := []struct{ name, key, algorithm string }{
		{"rsa", "rsa", "SHA256withRSA"}, {"ec", "ec", "SHA256withECDSA"}, {"pss", "rsa", "SHA256withRSAandMGF1"},
		{"ec384", "ec384", "SHA384withECDSA"}, {"ed25519", "ed25519", "Ed25519"},
	}
	for _, k := range kinds {
		s := l.issue(t, "簽署人 "+k.name, keys()[k.key])
		args = append(args, k.name, k.algorithm, put(t, dir, k.name+".cer", s.Certificate.Raw),
			put(t, dir, k.name+".key", must(x509.MarshalPKCS8PrivateKey(keys()[k.key]))))
	}
	if msg, err := exec.Command("java", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, msg)
	}
	read := func(name string) []byte { return must(os.ReadFile(filepath.Join(out, name))) }
	var rows []row
	for _, k := range kinds {
		rows = append(rows, row{k.name + "-detached", nil, 1, false, false}, row{k.name + "-attached", nil, 1, true, false}, row{k.name + "-der", nil, 1, true, false})
	}
	rows = append(rows, row{"bare", nil, 1, true, true}, row{"both", nil, 2, false, false}, row{"stream", nil, 1, true, false}, row{"countered", nil, 2, false, false})
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			r.p7s = read(r.name)
			l.judgeRow(t, r)
		})
	}
	t.Run("countered", func(t *testing.T) {
		s := l.judge(t, read("countered"), whole(document)).Signatures[1]
		if s.CounterOf == nil || *s.CounterOf != 0 || s.Scope.Kind != sigverify.ScopeSignature {
			t.Errorf("the countersignature is of %v, scope %v", s.CounterOf, s.Scope)
		}
	})
	t.Run("certs-only", func(t *testing.T) {
		r := l.judge(t, read("certs-only"), whole(document))
		expect(t, r, sigverify.NoSignature)
		if r.Outlook() != sigverify.None {
			t.Errorf("outlook %s", r.Outlook())
		}
	})
}

// What the card component makes: content inside, its own attributes.
func TestCardComponent(t *testing.T) {
	h := must(pkitest.NewHierarchy(pkitest.Options{}))
	card := must(h.Citizen(pkitest.CitizenOptions{Name: "陳筱玲"}))
	p7m := must(pkitest.SignAttached(card, document, pkitest.SignOptions{Nonce: []byte("nonce"), CardSN: card.CardNumber, Chain: []*x509.Certificate{h.CA}}))
	now := card.Certificate.NotBefore.AddDate(0, 6, 0)
	v := must(sigverify.New(sigverify.Config{Signers: &certpath.Validator{Store: must(certpath.NewTrustStore([]*x509.Certificate{h.Root}, nil))}}))
	ask := func(p7m []byte, at int) *sigverify.Report {
		return must(v.Verify(context.Background(), sigverify.Request{Signature: p7m, At: now, Evidence: []certpath.StoredEvidence{
			{Source: certpath.SourceCRL, Raw: must(h.CRL(now))}, {Source: certpath.SourceCRL, Raw: must(h.RootCRL(now))}}}))
	}
	r := ask(p7m, 0)
	expect(t, r, "")
	if s := r.Signatures[0].Signer; s.Name != "陳筱玲" || s.IDLast4 != "6789" || s.Kind != "citizen" || s.CardType != "card" {
		t.Errorf("signer %+v", s)
	}
	changed := bytes.Replace(p7m, document, append([]byte("X"), document[1:]...), 1)
	expect(t, ask(changed, 0), sigverify.HashFailure)
}

// Ours, in every kind of key.
func TestOurs(t *testing.T) {
	l := newLab()
	for name, key := range keys() {
		for _, pss := range []bool{false, true} {
			if name == "ed25519" || pss && name != "rsa" {
				continue
			}
			s := l.issue(t, "簽署人 "+name, key)
			s.PSS = pss
			h := crypto.SHA256.New()
			h.Write(document)
			p7s := must(cms.SignDigest(rand.Reader, h.Sum(nil), s, cms.Options{SigningTime: years(1)}))
			l.judgeRow(t, row{name, p7s, 1, false, false})
			if r := l.judge(t, p7s, whole(document)); r.Signatures[0].Level != "B" {
				t.Errorf("level %q", r.Signatures[0].Level)
			}
			if r := l.judge(t, stamped(t, p7s, l.tsa, years(0.9)), whole(document)); r.Signatures[0].Level != "T" || r.Signatures[0].ProvenTime.IsZero() {
				t.Errorf("level %q", r.Signatures[0].Level)
			}
		}
	}
}
