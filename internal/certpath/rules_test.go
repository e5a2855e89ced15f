package certpath_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sealgate/internal/certpath"
)

// RULES.md says what is true: it has every rule, and the tests it names exist.
func TestRulesHaveTests(t *testing.T) {
	page, err := os.ReadFile("RULES.md")
	if err != nil {
		t.Fatal(err)
	}
	var sources []string
	for _, pattern := range []string{"*.go", "../issuing/*_test.go", "../front/pki/*_test.go", "../server/*_test.go", "../config/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		sources = append(sources, files...)
	}
	var tests, code strings.Builder
	for _, f := range sources {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f, "_test.go") {
			tests.Write(data)
		} else {
			code.Write(data)
		}
	}
	rules := regexp.MustCompile(`Rule = "([a-z_]+)"`).FindAllStringSubmatch(code.String(), -1)
	if len(rules) < 15 {
		t.Errorf("%d rules found", len(rules))
	}
	for _, r := range rules {
		row := regexp.MustCompile("(?m)^\\| `" + r[1] + "` \\|.*`(Test|Fuzz)[A-Za-z0-9]+`")
		if !row.Match(page) {
			t.Errorf("rule %s has no row with a test", r[1])
		}
	}
	for _, name := range regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(tests.String(), "func "+name[1]+"(") {
			t.Errorf("%s does not exist", name[1])
		}
	}
	for name := range pkitsDivergences {
		number := strings.Fields(name)[0]
		if !strings.Contains(string(page), number) && !strings.Contains(string(page), "."+number[strings.LastIndexByte(number, '.')+1:]) {
			t.Errorf("divergence %s is not on the page", number)
		}
	}
}

// Documents of another time: SHA-1 and short keys pass only where a profile says
// so, on certificates and on their lists alike.
func TestOldAlgorithmsNeedAProfile(t *testing.T) {
	files := pkitsFiles(t)
	c := pkitsCases(t)[0]
	if err := c.verdict(files, c.profile(), pkitsAt); err != nil {
		t.Fatalf("control: %v", err)
	}
	p := c.profile()
	p.MinRSABits = 0
	wantRule(t, "short keys", c.verdict(files, p, pkitsAt), certpath.RuleKeyStrength)
	p = c.profile()
	p.SignatureAlgorithms = nil
	wantRule(t, "SHA-1 on certificates", c.verdict(files, p, pkitsAt), certpath.RuleAlgorithm)
	list, err := certpath.ParseCRL(files["crls/TrustAnchorRootCRL.crl"])
	if err != nil {
		t.Fatal(err)
	}
	anchor, err := x509.ParseCertificate(files["certs/TrustAnchorRootCertificate.crt"])
	if err != nil {
		t.Fatal(err)
	}
	if list.Verify(anchor) == nil {
		t.Error("a list with SHA-1 was verified without a profile that allows it")
	}
}
