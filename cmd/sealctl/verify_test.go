package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"sealgate/internal/cms"
	"sealgate/internal/pkitest"
	"sealgate/internal/sigverify"
)

// What is found is tested in package sigverify; here, files, statuses, languages.
func TestVerifyCommand(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := pkitest.NewRoot(x509.Certificate{Subject: pkix.Name{CommonName: "(測試用) root"}})
	check(err)
	signer, err := root.Issue(x509.Certificate{Subject: pkix.Name{CommonName: "王小明"}, KeyUsage: x509.KeyUsageDigitalSignature})
	check(err)
	digest := sha256.Sum256([]byte("a"))
	p7s, err := cms.SignDigest(rand.Reader, digest[:], cms.Signer{Certificate: signer.Certificate, Key: signer.Key}, cms.Options{SigningTime: time.Now()})
	check(err)
	list, err := pkitest.List{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}.Sign(root.Certificate, root.Key)
	check(err)
	anchor, crl, document, other := write("root.cer", root.Certificate.Raw), write("list.crl", list), write("a.txt", []byte("a")), write("b.txt", []byte("b"))
	file, alone := write("a.txt.p7s", p7s), write("alone.p7s", p7s)
	none := write("certs.p7s", certsOnly(root.Certificate))
	for _, tc := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"valid", []string{file, "--anchor", anchor, "--revocation", crl}, 0, "簽章有效"},
		{"valid, English", []string{file, "--anchor", anchor, "--revocation", crl, "--lang", "en_GB"}, 0, "Signature valid"},
		{"valid, named content", []string{alone, "--content", document, "--anchor", anchor, "--revocation", crl}, 0, "王小明"},
		{"another document", []string{alone, "--content", other, "--anchor", anchor, "--revocation", crl}, exitInvalid, "被改過"},
		{"no document", []string{alone, "--anchor", anchor, "--revocation", crl}, exitCannot, "缺少"},
		{"no revocation data", []string{file, "--anchor", anchor}, exitCannot, "廢止"},
		{"another time", []string{file, "--anchor", anchor, "--revocation", crl, "--at", "2001-01-01T00:00:00Z"}, exitInvalid, "還沒有生效"},
		{"no signature", []string{none, "--anchor", anchor}, exitCannot, "沒有簽章"},
		{"several, the worst counts", []string{file, alone, other, "--anchor", anchor, "--revocation", crl}, exitInvalid, "缺少"},
		{"evidence that is not there", []string{file, "--anchor", anchor, "--revocation", crl, "--evidence"}, exitCannot, "簽章有效"},
		{"evidence that is none", []string{file, "--anchor", anchor, "--revocation", crl, "--evidence=" + other}, exitInvalid, "不符"},
		{"no file", []string{file + "x", "--anchor", anchor}, exitUsage, ""},
		{"no FILE", []string{"--anchor", anchor}, exitUsage, ""},
		{"no anchor", []string{file}, exitUsage, ""},
		{"no such flag", []string{file, "--anchors"}, exitUsage, ""},
		{"no such language", []string{file, "--anchor", anchor, "--lang", "tlh"}, exitUsage, ""},
		{"two files, one content", []string{file, alone, "--content", document, "--anchor", anchor}, exitUsage, ""},
		{"a list that is none", []string{file, "--anchor", anchor, "--revocation", document}, exitUsage, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("LC_ALL", "zh_TW.UTF-8")
			status, out := runVerify(t.Context(), append(tc.args, "--offline")...)
			if status != tc.status || !strings.Contains(out, tc.want) {
				t.Errorf("status %d, want %d: %s", status, tc.status, out)
			}
		})
	}
	t.Run("json", func(t *testing.T) {
		status, out := runVerify(t.Context(), file, "--anchor", anchor, "--revocation", crl, "--offline", "--json")
		var r sigverify.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil || status != 0 || r.Indication != sigverify.TotalPassed || r.Type != sigverify.Type {
			t.Errorf("%v, status %d: %s", err, status, out)
		}
	})
	t.Run("interrupted is not valid", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if status, out := runVerify(ctx, file, "--anchor", anchor, "--revocation", crl, "--offline"); status != exitUsage {
			t.Errorf("status %d: %s", status, out)
		}
	})
}

// certsOnly is a SignedData without a signer.
func certsOnly(c *x509.Certificate) []byte {
	var b cryptobyte.Builder
	context0 := cbasn1.Tag(0).ContextSpecific().Constructed()
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(cms.OIDSignedData)
		b.AddASN1(context0, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1(cbasn1.SET, func(*cryptobyte.Builder) {})
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(cms.OIDData) })
				b.AddASN1(context0, func(b *cryptobyte.Builder) { b.AddBytes(c.Raw) })
				b.AddASN1(cbasn1.SET, func(*cryptobyte.Builder) {})
			})
		})
	})
	return b.BytesOrPanic()
}

func runVerify(ctx context.Context, args ...string) (int, string) {
	var out bytes.Buffer
	cmd := verifyCommand()
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	if err := cmd.ExecuteContext(ctx); err != nil {
		return report(io.Discard, err), out.String()
	}
	return 0, out.String()
}

func TestVerifySpeaksTheEnvironmentsLanguage(t *testing.T) {
	for value, want := range map[string]string{"zh_TW.UTF-8": "zh-Hant", "en_US.UTF-8": "en", "C": "en", "C.UTF-8": "en", "de_DE": "en", "": "zh-Hant"} {
		for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
			t.Setenv(name, "")
		}
		t.Setenv("LANG", value)
		if got, err := (verifyFlags{}).language(); err != nil || string(got) != want {
			t.Errorf("%q: %s, %v", value, got, err)
		}
	}
}

func TestVerifyDoesNotLetNamesSteerTheTerminal(t *testing.T) {
	if got := printable("王\x1b[2J\u202e小\n明"); strings.ContainsAny(got, "\x1b\n\u202e") || !strings.Contains(got, "王") {
		t.Errorf("%q", got)
	}
	if exit := (exitError{}); !errors.As(usage(errors.New("x")), &exit) {
		t.Error("usage errors have a status of their own")
	}
}
