package pades_test

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sealgate/internal/pades"
)

// needTool skips without the program, except where CI says that all are there.
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

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return string(out)
}

// trusting makes a database of anchors for pdfsig.
func trusting(t *testing.T, ids ...identity) string {
	t.Helper()
	needTool(t, "certutil")
	dir := t.TempDir()
	db := "sql:" + dir
	run(t, "certutil", "-N", "-d", db, "--empty-password")
	for i, id := range ids {
		ca := filepath.Join(dir, "ca.pem")
		if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.ca.Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "certutil", "-A", "-d", db, "-n", "root"+string(rune('a'+i)), "-t", "CT,CT,CT", "-i", ca)
	}
	return db
}

func pdfsig(t *testing.T, db string, pdf []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "signed.pdf")
	if err := os.WriteFile(path, pdf, 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command("pdfsig", "-nssdir", db, path).CombinedOutput() // its exit status says nothing
	return string(out)
}

func TestPdfsigAgrees(t *testing.T) {
	needTool(t, "pdfsig")
	db := trusting(t, ec(), rsa2())
	for name, pdf := range forms() {
		t.Run(name, func(t *testing.T) {
			once := sign(t, pdf, ec(), options)
			o := options
			o.Hash = crypto.SHA512
			twice := sign(t, once, rsa2(), o)
			for n, signed := range [][]byte{once, twice} {
				out := pdfsig(t, db, signed)
				for text, count := range map[string]int{
					"Signature Validation: Signature is Valid.": n + 1, "Certificate Validation: Certificate is Trusted.": n + 1,
					"- Total document signed": 1, "ETSI.CAdES.detached": n + 1, "Not total document signed": n,
				} {
					if strings.Count(out, text) != count {
						t.Errorf("signed %d times: %q is not there %d times: %s", n+1, text, count, out)
					}
				}
			}
			bad := bytes.Replace(once, []byte("2026030405"), []byte("2026030505"), 1)
			if out := pdfsig(t, db, bad); !strings.Contains(out, "Digest Mismatch") {
				t.Errorf("one changed byte: %s", out)
			}
		})
	}
}

func TestOpenSSLAgrees(t *testing.T) {
	needTool(t, "openssl")
	pdf := sign(t, modern(objects...), ec(), options)
	s := signatures(t, pdf)[0]
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	covered := append(bytes.Clone(pdf[:s.ByteRange[1]]), pdf[s.ByteRange[2]:]...)
	args := []string{"cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", write("sig", s.Contents), "-purpose", "any", "-out", os.DevNull,
		"-CAfile", write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ec().ca.Raw})), "-content"}
	if out, err := exec.Command("openssl", append(args, write("doc", covered))...).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	covered[100] ^= 1
	if out, err := exec.Command("openssl", append(args, write("doc", covered))...).CombinedOutput(); err == nil {
		t.Errorf("one changed byte was accepted: %s", out)
	}
	if strings.Contains(string(s.Contents), "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x05") {
		t.Error("PAdES keeps the signing time out of the CMS")
	}
}

// Another program finds nothing to repair, and what it writes itself can be signed.
func TestQpdfAgrees(t *testing.T) {
	needTool(t, "qpdf")
	dir := t.TempDir()
	for name, pdf := range map[string][]byte{"classic": classic(objects...), "modern": modern(objects...), "hybrid": hybrid()} {
		signed := sign(t, pdf, ec(), pades.Options{})
		path := filepath.Join(dir, name+".pdf")
		if err := os.WriteFile(path, signed, 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "qpdf", "--check", path)
		packed := filepath.Join(dir, name+"-packed.pdf")
		run(t, "qpdf", "--object-streams=generate", path, packed)
		again := must(os.ReadFile(packed))
		if out := pdfsig(t, trusting(t, ec()), sign(t, again, ec(), options)); !strings.Contains(out, "Signature is Valid") {
			t.Errorf("%s, packed by another program: %s", name, out)
		}
	}
}
