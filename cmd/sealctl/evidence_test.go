package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What Verify finds is tested where evidence comes from; here, what the command
// makes of files and of a report.
func TestEvidenceVerifyCommand(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, document, file := write("root.cer", der), write("a.pdf", []byte("a")), write("e.json", []byte(`{"type":"sealgate.evidence"}`))
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		cmd := evidenceCommand()
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(append([]string{"verify"}, args...))
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	out, err := run(file, "--anchor", root, "--document", document, "--at", "2026-01-02T03:04:05Z")
	if !errors.Is(err, errNotPassed) || !strings.Contains(out, "form") || !strings.Contains(out, "不通過") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err = run(file, "--anchor", root, "--json"); !errors.Is(err, errNotPassed) || !strings.Contains(out, `"verdict": "failed"`) {
		t.Errorf("%v: %s", err, out)
	}
	for name, args := range map[string][]string{
		"no anchor": {file}, "no such file": {file + "x", "--anchor", root}, "an anchor that is none": {file, "--anchor", document},
		"a time that is none": {file, "--anchor", root, "--at", "yesterday"}, "no such document": {file, "--anchor", root, "--document", file + "x"},
	} {
		if _, err := run(args...); err == nil || errors.Is(err, errNotPassed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
