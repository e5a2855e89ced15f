package sigverify_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/sigverify"
)

// published are signatures made by others long ago, which the test sources of a
// pinned module hold: an Apple receipt, an Android package, a Firefox add-on. Their
// values must verify; what we make of SHA-1 and of ended certificates is written
// beside them.
func TestPublished(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/digitorus/pkcs7").Output()
	if err != nil {
		t.Skip("no module cache")
	}
	source := string(must(os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "verify_test.go"))))
	fixture := func(name string) (p7s []byte, cert []*x509.Certificate) {
		_, rest, ok := strings.Cut(source, name)
		if !ok {
			t.Fatalf("%s is not there any more", name)
		}
		text, _, _ := strings.Cut(rest[strings.Index(rest, "-----BEGIN"):], "`")
		for data := []byte(text); ; {
			var block *pem.Block
			if block, data = pem.Decode(data); block == nil {
				return p7s, cert
			}
			if block.Type == "PKCS7" {
				p7s = block.Bytes
			} else if c, err := x509.ParseCertificate(block.Bytes); err == nil {
				cert = append(cert, c)
			}
		}
	}
	addon := []byte(strings.SplitN(strings.SplitN(source, "FirefoxAddonContent = []byte(`", 2)[1], "`", 2)[0])
	apk := must(base64.StdEncoding.DecodeString(regexp.MustCompile("ApkEcdsaContent = `([^`]*)`").FindStringSubmatch(source)[1]))
	_, roots := fixture("FirefoxAddonRootCert = ")
	for _, tc := range []struct {
		name, fixture string
		content       []byte
		at            time.Time
		anchors       []*x509.Certificate
		want          sigverify.SubIndication
		chain         int
	}{
		{"RSA 1024, SHA-1", "SignedTestFixture = ", nil, time.Date(2013, 1, 1, 0, 0, 0, 0, time.UTC), nil, sigverify.NoCertificateChainFound, 1},
		{"Apple receipt", "AppStoreReceiptFixture = ", nil, time.Date(2013, 6, 1, 0, 0, 0, 0, time.UTC), nil, sigverify.NoCertificateChainFound, 1},
		{"Android package, P-521", "ApkEcdsaFixture = ", apk, time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), nil, sigverify.NoCertificateChainFound, 1},
		{"Firefox add-on", "FirefoxAddonFixture = ", addon, time.Date(2017, 2, 1, 0, 0, 0, 0, time.UTC), roots, sigverify.TryLater, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p7s, _ := fixture(tc.fixture)
			l := newLab()
			v := l.verifier(t, func(c *sigverify.Config) {
				if tc.anchors != nil {
					c.Signers = &certpath.Validator{Store: must(certpath.NewTrustStore(tc.anchors, nil))}
				}
			})
			ask := func(p7s []byte, content []byte) *sigverify.Report {
				r := sigverify.Request{Signature: p7s, At: tc.at}
				if content != nil {
					r.Content = whole(content)
				}
				return must(v.Verify(context.Background(), r))
			}
			r := ask(p7s, tc.content)
			passed := map[string]bool{}
			for _, c := range r.Signatures[0].Checks {
				passed[c.Name] = passed[c.Name] || c.Outcome == sigverify.Passed
			}
			if !passed[sigverify.CheckSignature] || len(r.Signatures[0].Chain) != tc.chain {
				t.Errorf("value passed: %v, chain of %d\n%s", passed, len(r.Signatures[0].Chain), must(r.JSON()))
			}
			expect(t, r, tc.want)
			if passed[sigverify.CheckConstraints] != (tc.chain == 1) { // SHA-1 after 2013
				t.Errorf("constraints: %v", passed)
			}
			if tc.content != nil {
				if r := ask(p7s, other); r.Indication != sigverify.TotalFailed {
					t.Errorf("another content: %s", r.SubIndication)
				}
			}
		})
	}
}
