package sigverify_test

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
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sealgate/internal/cades"
	"sealgate/internal/cms"
	"sealgate/internal/pades"
	"sealgate/internal/pkitest"
	"sealgate/internal/sigverify"
	"sealgate/internal/xmldsig"
)

// The counterparts, in the order of the table's columns.
const (
	byOpenSSL = "openssl"
	byBouncy  = "BouncyCastle"
	byPKIjs   = "PKI.js"
	byXmlsec  = "xmlsec1"
	byPdfsig  = "pdfsig"
	byUs      = "sigverify"
)

var columns = []string{byOpenSSL, byBouncy, byPKIjs, byXmlsec, byPdfsig, byUs}

// made is one signature of ours: the good one and the same with one changed byte.
type made struct {
	name      string
	by        []string // who can be asked
	file, bad []byte
	doc       []byte // of a detached signature; bad is then the changed document
	key       crypto.PublicKey
}

// present is a hierarchy of today, so that others need no clock.
var present = sync.OnceValue(func() *lab {
	from, to := time.Now().Add(-48*time.Hour).UTC().Truncate(time.Second), time.Now().AddDate(1, 0, 0)
	l := &lab{}
	l.root = must(pkitest.NewRoot(authorityTemplate("(測試用) Root of today", from, to)))
	l.ca = must(l.root.CA(template("(測試用) CA of today", from, to)))
	l.tsaRoot = must(pkitest.NewRoot(authorityTemplate("(測試用) TSA Root of today", from, to)))
	l.tsa = l.authority("(測試用) TSA of today", from, to)
	return l
})

func (l *lab) today(key crypto.Signer) cms.Signer {
	t := template("測試一號", time.Now().Add(-24*time.Hour), time.Now().AddDate(0, 6, 0))
	t.KeyUsage = x509.KeyUsageDigitalSignature
	return cms.Signer{Certificate: must(l.ca.Certify(t, key.Public())), Chain: []*x509.Certificate{l.ca.Certificate}, Key: key}
}

// ours makes every form that the service has.
func ours(t *testing.T, l *lab) (all []made) {
	now := time.Now().UTC().Truncate(time.Second)
	signers := map[string]cms.Signer{"P-256": l.today(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))), "RSA-2048": l.today(must(rsa.GenerateKey(rand.Reader, 2048)))}
	src := l.sources(t, l.tsa, now, crl(l.root, now), crl(l.ca, now), crl(l.tsaRoot, now))
	inCMS := []string{byOpenSSL, byBouncy, byPKIjs, byUs}
	detached := func(name string, p7s []byte) {
		all = append(all, made{name: name, by: inCMS, file: p7s, doc: document, bad: changed(document)})
	}
	for _, name := range []string{"P-256", "RSA-2048"} {
		s := signers[name]
		b := must(cms.SignDigest(rand.Reader, digest(document), s, cms.Options{SigningTime: now}))
		detached("CMS detached B-B, "+name, b)
		detached("CMS detached B-T, "+name, l.extend(t, b, cades.LevelT, src))
		lt := l.extend(t, b, cades.LevelLT, src)
		detached("CMS detached B-LT, "+name, lt)
		detached("CMS detached B-LTA, "+name, l.extend(t, lt, cades.LevelLTA, src))
		tbs := must(cms.SignedAttributes(digest(document), s, cms.Options{SigningTime: now}))
		inside := must(cms.AssembleAttached(cms.OIDData, document, []*x509.Certificate{s.Certificate, l.ca.Certificate}, must(tbs.Sign(rand.Reader))))
		all = append(all, made{name: "CMS attached, " + name, by: inCMS, file: inside, bad: bytes.Replace(inside, document, changed(document), 1)})
		value := must(s.Key.Sign(rand.Reader, digest(document), crypto.SHA256))
		all = append(all, made{name: "PKCS#1 (bare value), " + name, by: []string{byOpenSSL}, file: value, doc: document, bad: changed(document), key: s.Key.Public()})
		pdf := signPDFBy(t, s, now)
		all = append(all, made{name: "PDF (PAdES), " + name, by: []string{byPdfsig, byUs}, file: pdf, bad: bytes.Replace(pdf, []byte("595"), []byte("594"), 1)})
		si := signSI(s, now)
		all = append(all, made{name: "SI file (RAW, XMLDSig), " + name, by: []string{byXmlsec, byUs}, file: si, bad: bytes.Replace(si, []byte("承辦"), []byte("承辯"), 1)})
	}
	var infos []*cms.SignerInfo
	certs := []*x509.Certificate{l.ca.Certificate}
	for _, s := range signers {
		infos = append(infos, must(cms.Parse(must(cms.SignDigest(rand.Reader, digest(document), s, cms.Options{SigningTime: now})))).Signers...)
		certs = append(certs, s.Certificate)
	}
	detached("CMS co-signed, P-256 and RSA-2048", must(cms.Assemble(certs, infos...)))
	return all
}

func changed(data []byte) []byte {
	out := bytes.Clone(data)
	out[len(out)-2] ^= 1
	return out
}

func signPDFBy(t *testing.T, s cms.Signer, now time.Time) []byte {
	t.Helper()
	pdf := onePage()
	p := must(pades.Prepare(context.Background(), bytes.NewReader(pdf), int64(len(pdf)), pades.Options{SigningTime: now}))
	return append(pdf, must(p.Embed(must(cms.SignDigest(rand.Reader, p.Digest, s, cms.Options{}))))...)
}

func signSI(s cms.Signer, now time.Time) []byte {
	si := must(xmldsig.NewSI("flow1"))
	sum := sha256.Sum256(document)
	tbs := must(si.AddPoint(xmldsig.Point{Flow: "flow1", Action: "承辦", Name: "測試一號", Time: now, Drafts: []xmldsig.File{{URI: "draft.di", Digest: sum[:]}}},
		xmldsig.PointOptions{Certificate: s.Certificate, Chain: s.Chain}))
	value := must(s.Key.Sign(rand.Reader, tbs.Digest, tbs.Hash))
	return must(xmldsig.Attach(tbs.XML, tbs.Point, value))
}

// counterparts asks each program; nil means that it is not here.
type counterparts struct {
	t    *testing.T
	l    *lab
	dir  string
	root string
	ca   string
}

func (c *counterparts) run(name string, args ...string) (string, bool) {
	cmd := exec.Command(name, args...)
	cmd.Dir = c.dir
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// files gives the signature and the document to ask about.
func (m made) files(good bool) (file, doc []byte) {
	switch {
	case m.doc == nil && good:
		return m.file, document
	case m.doc == nil:
		return m.bad, changed(document)
	case good:
		return m.file, m.doc
	}
	return m.file, m.bad
}

func (c *counterparts) openssl(m made, good bool) (string, bool) {
	file, doc := m.files(good)
	sig, content := put(c.t, c.dir, "sig", file), put(c.t, c.dir, "doc", doc)
	if m.key != nil {
		pub := put(c.t, c.dir, "pub.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(m.key))}))
		return c.run("openssl", "dgst", "-sha256", "-verify", pub, "-signature", sig, content)
	}
	args := []string{"cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", sig, "-CAfile", c.root, "-certfile", c.ca, "-purpose", "any", "-out", os.DevNull}
	if m.doc != nil {
		args = append(args, "-content", content)
	}
	return c.run("openssl", args...)
}

func (c *counterparts) pdfsig(m made, good bool) (string, bool) {
	file, _ := m.files(good)
	out, _ := c.run("pdfsig", "-nssdir", "sql:"+filepath.Join(c.dir, "nss"), put(c.t, c.dir, "signed.pdf", file))
	return out, strings.Contains(out, "Signature is Valid.") && strings.Contains(out, "Certificate is Trusted.") && strings.Contains(out, "Total document signed")
}

func (c *counterparts) xmlsec(m made, good bool) (string, bool) {
	file, _ := m.files(good)
	put(c.t, c.dir, "draft.di", document)
	return c.run("xmlsec1", "--verify", "--id-attr:Id", "簽核點定義", "--id-attr:Id", "Object", "--node-xpath", "(//*[local-name()='Signature'])[1]",
		"--trusted-pem", c.root, "--untrusted-pem", c.ca, put(c.t, c.dir, "record.xml", file))
}

func (c *counterparts) us(m made, good bool) (string, bool) {
	file, doc := m.files(good)
	r := sigverify.Request{Signature: file, Evidence: evidenceOf(crl(c.l.root, time.Now().Add(-time.Minute)), crl(c.l.ca, time.Now().Add(-time.Minute)), crl(c.l.tsaRoot, time.Now().Add(-time.Minute)))}
	r.Content.Files = func(_ string, h crypto.Hash) ([]byte, error) { return digest(document), nil }
	if m.doc != nil {
		r.Content.Reader = bytes.NewReader(doc)
	}
	v := c.l.verifier(c.t, func(cfg *sigverify.Config) { cfg.Containers = []sigverify.Container{sigverify.PDF(), sigverify.XML()} })
	report := must(v.Verify(context.Background(), r))
	return string(must(report.JSON())), report.Indication == sigverify.TotalPassed
}

// many asks a program that is slow to start about all at once: it answers a line
// for each pair of files.
func (c *counterparts) many(all []made, by string, name string, args ...string) map[string]string {
	var asked []made
	for i, m := range all {
		if !strings.Contains(strings.Join(m.by, " "), by) {
			continue
		}
		asked = append(asked, m)
		for _, good := range []bool{true, false} {
			file, doc := m.files(good)
			args = append(args, put(c.t, c.dir, fmt.Sprintf("%s-%d-%v.p7s", name, i, good), file), put(c.t, c.dir, fmt.Sprintf("%s-%d-%v.doc", name, i, good), doc))
		}
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != 2*len(asked) {
		c.t.Fatalf("%s: %v: %s", by, err, out)
	}
	cells := map[string]string{}
	for i, m := range asked {
		cells[m.name] = c.cell(m, by, lines[2*i], strings.HasPrefix(lines[2*i], "good"), strings.HasPrefix(lines[2*i+1], "good"))
	}
	return cells
}

func (c *counterparts) cell(m made, by, said string, good, bad bool) string {
	if good && !bad {
		return "yes"
	}
	c.t.Errorf("%s, %s: accepts the good one: %v, the changed one: %v\n%.2000s", m.name, by, good, bad, said)
	return "NO"
}

// here tells which counterparts are installed; in CI all must be.
func here(t *testing.T) map[string]bool {
	found := map[string]bool{byUs: true}
	for by, need := range map[string][]string{byOpenSSL: {"openssl"}, byBouncy: {"java", "/usr/share/java/bcpkix.jar"}, byPKIjs: {"node", "../../web/node_modules/pkijs"},
		byXmlsec: {"xmlsec1"}, byPdfsig: {"pdfsig", "certutil"}} {
		found[by] = true
		for _, n := range need {
			_, err := os.Stat(n)
			if !strings.Contains(n, "/") {
				_, err = exec.LookPath(n)
			}
			found[by] = found[by] && err == nil
		}
		if !found[by] {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is not installed", by)
			}
			t.Logf("%s is not installed: this counterpart was not asked", by)
		}
	}
	return found
}

// TestMatrix: every form of ours is accepted by everybody who knows the form, and
// refused with one changed byte. The table is kept in MATRIX.md.
func TestMatrix(t *testing.T) {
	l, found := present(), here(t)
	pemOf := func(a *pkitest.Authority) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw})
	}
	c := &counterparts{t: t, l: l, dir: t.TempDir()}
	c.root, c.ca = put(t, c.dir, "root.pem", pemOf(l.root)), put(t, c.dir, "ca.pem", pemOf(l.ca))
	all := ours(t, l)
	cells := map[string]map[string]string{}
	if found[byBouncy] {
		cells[byBouncy] = c.many(all, byBouncy, "java", "-cp", "/usr/share/java/bcprov.jar:/usr/share/java/bcpkix.jar:/usr/share/java/bcutil.jar", "../cms/testdata/bouncycastle/VerifyDetached.java")
	}
	if found[byPKIjs] {
		cells[byPKIjs] = c.many(all, byPKIjs, "node", "../../web/e2e/p7s.mjs", put(t, c.dir, "root.der", l.root.Certificate.Raw))
	}
	if found[byPdfsig] {
		nss := "sql:" + filepath.Join(c.dir, "nss")
		_ = os.Mkdir(filepath.Join(c.dir, "nss"), 0o700)
		for _, args := range [][]string{{"-N", "-d", nss, "--empty-password"}, {"-A", "-d", nss, "-n", "root", "-t", "CT,CT,CT", "-i", c.root}} {
			if out, ok := c.run("certutil", args...); !ok {
				t.Fatal(out)
			}
		}
	}
	for by, ask := range map[string]func(made, bool) (string, bool){byOpenSSL: c.openssl, byXmlsec: c.xmlsec, byPdfsig: c.pdfsig, byUs: c.us} {
		cells[by] = map[string]string{}
		for _, m := range all {
			if found[by] && strings.Contains(strings.Join(m.by, " "), by) {
				said, good := ask(m, true)
				_, bad := ask(m, false)
				cells[by][m.name] = c.cell(m, by, said, good, bad)
			}
		}
	}
	compareTable(t, all, cells, found)
}

// compareTable prints the table and holds it against MATRIX.md, as far as was asked.
func compareTable(t *testing.T, all []made, cells map[string]map[string]string, found map[string]bool) {
	kept := string(must(os.ReadFile("MATRIX.md")))
	var table strings.Builder
	fmt.Fprintf(&table, "| ours | %s |\n|---%s|\n", strings.Join(columns, " | "), strings.Repeat("|---", len(columns)))
	for _, m := range all {
		row := "| " + m.name
		pattern := regexp.QuoteMeta(row)
		for _, by := range columns {
			cell := cells[by][m.name]
			switch asked := strings.Contains(strings.Join(m.by, " "), by); {
			case !asked:
				cell = "–"
				pattern += regexp.QuoteMeta(" | –")
			case !found[by]:
				cell = "not asked"
				pattern += ` \| yes`
			default:
				pattern += regexp.QuoteMeta(" | " + cell)
			}
			row += " | " + cell
		}
		table.WriteString(row + " |\n")
		if !regexp.MustCompile(`(?m)^` + pattern + ` \|$`).MatchString(kept) {
			t.Errorf("MATRIX.md does not have the row\n%s |", row)
		}
	}
	t.Log("\n" + table.String())
}

// What MATRIX.md says of others' signatures rests on tests that exist.
func TestMatrixNamesTests(t *testing.T) {
	kept := string(must(os.ReadFile("MATRIX.md")))
	named := regexp.MustCompile("`(?:\\.\\./)?([a-z]+) (Test\\w+)`").FindAllStringSubmatch(kept, -1)
	if len(named) < 8 {
		t.Fatalf("only %d tests are named", len(named))
	}
	for _, n := range named {
		files := must(filepath.Glob(filepath.Join("..", n[1], "*_test.go")))
		there := false
		for _, f := range files {
			there = there || bytes.Contains(must(os.ReadFile(f)), []byte("func "+n[2]+"("))
		}
		if !there {
			t.Errorf("there is no %s in package %s", n[2], n[1])
		}
	}
}
