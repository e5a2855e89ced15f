package certpath_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sealgate/internal/certpath"
)

// pkitsDivergences are the tests of NIST's suite where our verdict differs from
// the one it expects, and why. All fail closed: we refuse what could be accepted.
var pkitsDivergences = map[string]string{
	"4.1.4 Valid DSA Signatures Test4":            dsa,
	"4.1.5 Valid DSA Parameter Inheritance Test5": dsa,
	"4.14.4 Valid distributionPoint Test4":        relative,
	"4.14.5 Valid distributionPoint Test5":        relative,
	"4.14.29 Valid cRLIssuer Test29":              relative,
	"4.14.22 Valid IDP with indirectCRL Test22":   indirect,
	"4.14.24 Valid IDP with indirectCRL Test24":   indirect,
	"4.14.25 Valid IDP with indirectCRL Test25":   indirect,
	"4.14.28 Valid cRLIssuer Test28":              indirect,
	"4.14.30 Valid cRLIssuer Test30":              indirect,
	"4.14.33 Valid cRLIssuer Test33":              indirect,
}

const (
	dsa      = "DSA is withdrawn for signing (FIPS 186-5) and not implemented"
	relative = "crypto/x509 cannot read a distribution point named relative to its issuer"
	indirect = "indirect lists are refused; the government PKI has none"
)

// pkitsCase is one line of testdata/pkits.txt.
type pkitsCase struct {
	name     string
	valid    bool
	path     []string // anchor first
	lists    []string
	policies []string
	flags    string
}

func pkitsCases(t testing.TB) []pkitsCase {
	t.Helper()
	data, err := os.ReadFile("testdata/pkits.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out []pkitsCase
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		f := strings.Split(s.Text(), "|")
		for i := range f {
			f[i] = strings.TrimSpace(f[i])
		}
		if len(f) != 6 || f[1] != "valid" && f[1] != "invalid" {
			t.Fatalf("line %q", s.Text())
		}
		out = append(out, pkitsCase{f[0], f[1] == "valid", strings.Fields(f[2]), strings.Fields(f[3]), strings.Fields(f[4]), f[5]})
	}
	return out
}

// pkitsFiles unpacks testdata/pkits.tgz: "certs/GoodCACert.crt" and so on.
func pkitsFiles(t testing.TB) map[string][]byte {
	t.Helper()
	f, err := os.Open("testdata/pkits.tgz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// pkitsAt lies in the validity of the suite's certificates (2001 to 2011).
var pkitsAt = time.Date(2005, 6, 1, 0, 0, 0, 0, time.UTC)

// profile is the suite's settings. The suite's own keys have 1024 bits and its
// signatures use SHA-1: this is what a profile for documents of that time allows.
func (c pkitsCase) profile() certpath.Profile {
	p := certpath.Profile{
		Name: "pkits", MaxPath: 10, MinRSABits: 1024, AllowCA: true, Revocation: certpath.RevocationAll,
		SignatureAlgorithms: []x509.SignatureAlgorithm{x509.SHA1WithRSA},
		ExplicitPolicy:      strings.Contains(c.flags, "e"), PolicyOptional: !strings.Contains(c.flags, "e"),
		AllowPolicyMapping: !strings.Contains(c.flags, "m"), InhibitAnyPolicy: strings.Contains(c.flags, "a"), AnyPolicyLeaf: true,
	}
	for _, id := range c.policies {
		if id != "anyPolicy" {
			p.Policies = append(p.Policies, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 2, 1, 48, int(id[0] - '0')})
		}
	}
	return p
}

// verdict runs one case; a certificate that cannot be read is refused.
func (c pkitsCase) verdict(files map[string][]byte, p certpath.Profile, at time.Time) error {
	var path []*x509.Certificate
	for _, name := range c.path {
		cert, err := x509.ParseCertificate(files["certs/"+name+".crt"])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		path = append(path, cert)
	}
	store, err := certpath.NewTrustStore(path[:1], nil)
	if err != nil {
		return err
	}
	var evidence []certpath.StoredEvidence
	for _, name := range c.lists {
		evidence = append(evidence, certpath.StoredEvidence{Source: certpath.SourceCRL, URL: name, Raw: files["crls/"+name+".crl"]})
	}
	v := certpath.Validator{Store: store}
	_, err = v.ValidateWith(context.Background(), path[len(path)-1], path[1:len(path)-1], at, p, evidence)
	return err
}

func TestPKITS(t *testing.T) {
	files := pkitsFiles(t)
	cases := pkitsCases(t)
	var agree, diverge int
	for _, c := range cases {
		err := c.verdict(files, c.profile(), pkitsAt)
		if why, known := pkitsDivergences[c.name]; known {
			diverge++
			if (err == nil) == c.valid {
				t.Errorf("%s: listed as a divergence (%s), but agrees", c.name, why)
			}
			if err == nil {
				t.Errorf("%s: accepted against the suite: no divergence may do that", c.name)
			}
			continue
		}
		if (err == nil) != c.valid {
			t.Errorf("%s: expected valid=%v, got %v", c.name, c.valid, err)
			continue
		}
		agree++
	}
	t.Logf("PKITS: %d tests, %d as expected, %d stricter by decision", len(cases), agree, diverge)
	if len(cases) != 249 {
		t.Errorf("%d cases, the suite has 249", len(cases))
	}
}

// pkitsNoLists are the sections whose verdicts do not hang on revocation lists.
var pkitsNoLists = []string{"4.1.", "4.2.", "4.3.", "4.6.", "4.8.", "4.9.", "4.10.", "4.11.", "4.12.", "4.13.", "4.16."}

// The suite's edition of 2010 (RSA-2048, SHA-256) comes with the Go toolchain,
// without its lists: it is run with our ordinary algorithms, revocation aside.
func TestPKITSEdition2010(t *testing.T) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	dir := filepath.Join(strings.TrimSpace(string(root)), "src/crypto/x509/testdata/nist-pkits/certs")
	names, _ := filepath.Glob(filepath.Join(dir, "*.crt"))
	if err != nil || len(names) == 0 {
		t.Skip("this toolchain does not carry the suite's certificates")
	}
	files := make(map[string][]byte)
	for _, n := range names {
		if files["certs/"+filepath.Base(n)], err = os.ReadFile(n); err != nil {
			t.Fatal(err)
		}
	}
	ran := 0
	for _, c := range pkitsCases(t) {
		if !slices.ContainsFunc(pkitsNoLists, func(s string) bool { return strings.HasPrefix(c.name, s) }) || pkitsDivergences[c.name] != "" {
			continue
		}
		p := c.profile()
		p.MinRSABits, p.SignatureAlgorithms, p.Revocation = 0, nil, certpath.RevocationNone
		if err := c.verdict(files, p, time.Date(2020, 6, 1, 0, 0, 0, 0, time.UTC)); (err == nil) != c.valid {
			t.Errorf("%s: expected valid=%v, got %v", c.name, c.valid, err)
		}
		ran++
	}
	t.Logf("PKITS 2010: %d tests as expected", ran)
	if ran < 150 {
		t.Errorf("only %d cases", ran)
	}
}

// openssl's verdict on the whole suite, beside ours.
func TestPKITSBesideOpenSSL(t *testing.T) {
	needOpenSSL(t)
	dir := t.TempDir()
	files := pkitsFiles(t)
	for name, der := range files {
		kind := "CERTIFICATE"
		if strings.HasPrefix(name, "crls/") {
			kind = "X509 CRL"
		}
		writeTo(t, dir)(strings.ReplaceAll(name, "/", "."), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2)
	theirs := make(map[string]bool)
	cases := pkitsCases(t)
	for _, c := range cases {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ok := opensslVerdict(dir, c)
			mu.Lock()
			defer mu.Unlock()
			theirs[c.name] = ok
		})
	}
	wg.Wait()
	agree := 0
	for _, c := range cases {
		ours := c.verdict(files, c.profile(), pkitsAt) == nil
		switch {
		case ours == theirs[c.name]:
			agree++
		case ours == c.valid || pkitsDivergences[c.name] != "":
			t.Logf("%s: ours %v, openssl %v, the suite %v", c.name, ours, theirs[c.name], c.valid)
		default:
			t.Errorf("%s: ours %v, openssl %v, the suite %v", c.name, ours, theirs[c.name], c.valid)
		}
	}
	t.Logf("PKITS: %d of %d verdicts are openssl's too", agree, len(cases))
}

func opensslVerdict(dir string, c pkitsCase) bool {
	file := func(name string) string { return filepath.Join(dir, name) }
	args := []string{"verify", "-attime", strconv.FormatInt(pkitsAt.Unix(), 10), "-auth_level", "0", "-policy_check",
		"-crl_check_all", "-use_deltas", "-trusted", file("certs." + c.path[0] + ".crt")}
	if strings.HasPrefix(c.name, "4.4.") || strings.HasPrefix(c.name, "4.5.") || strings.HasPrefix(c.name, "4.14.") || strings.HasPrefix(c.name, "4.15.") {
		args = append(args, "-extended_crl") // lists signed by other keys, and indirect ones
	}
	for flag, option := range map[string]string{"e": "-explicit_policy", "m": "-inhibit_map", "a": "-inhibit_any"} {
		if strings.Contains(c.flags, flag) {
			args = append(args, option)
		}
	}
	policies := c.policies
	if slices.Contains(policies, "anyPolicy") { // openssl 3.0 finds an explicit policy only among those named
		policies = []string{"1", "2", "3", "4", "5", "6"}
	}
	for _, id := range policies {
		args = append(args, "-policy", "2.16.840.1.101.3.2.1.48."+id)
	}
	for _, name := range c.path[1 : len(c.path)-1] {
		args = append(args, "-untrusted", file("certs."+name+".crt"))
	}
	for _, name := range c.lists {
		args = append(args, "-CRLfile", file("crls."+name+".crl"))
	}
	return exec.Command("openssl", append(args, file("certs."+c.path[len(c.path)-1]+".crt"))...).Run() == nil
}

func needOpenSSL(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("openssl is not installed: this counterpart was not asked")
	}
}
