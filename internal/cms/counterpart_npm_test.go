package cms_test

import (
	"bytes"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sealgate/internal/cms"
)

// pair is a signature and the document it is said to belong to.
type pair struct {
	name     string
	der, doc []byte
	want     string // the line PKI.js answers, or its start
}

// TestPKIjsAgrees asks PKI.js, through a small script beside the browser tests,
// about all pairs at once.
func TestPKIjsAgrees(t *testing.T) {
	needTool(t, "node")
	web := filepath.Join("..", "..", "web")
	if _, err := os.Stat(filepath.Join(web, "node_modules", "pkijs")); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("web/node_modules has no pkijs: run `make web`")
		}
		t.Skip("web/node_modules has no pkijs: this counterpart was not asked")
	}
	changed := bytes.Clone(document)
	changed[3] ^= 1
	var pairs []pair
	var infos []*cms.SignerInfo
	certs := []*x509.Certificate{testCA().cert}
	for _, k := range kinds {
		der := sign(t, k, document)
		bad := bytes.Clone(der)
		bad[len(bad)-5] ^= 1 // in the signature value
		pairs = append(pairs, pair{k.name, der, document, "good 1"}, pair{k.name + ", document changed", der, changed, "bad "}, pair{k.name + ", value changed", bad, document, "bad "})
		if k.name == kinds[0].name || k.name == kinds[3].name {
			infos = append(infos, must(cms.Parse(der)).Signers...)
			certs = append(certs, k.signer().Certificate)
		}
	}
	both := must(cms.Assemble(certs, infos...))
	pairs = append(pairs, pair{"two signers", both, document, "good 2"}, pair{"two signers, document changed", both, changed, "bad "})

	args := []string{filepath.Join(web, "e2e", "p7s.mjs"), writeFile(t, "ca.der", testCA().cert.Raw)}
	for _, p := range pairs {
		args = append(args, writeFile(t, "doc.p7s", p.der), writeFile(t, "doc", p.doc))
	}
	out, err := exec.Command("node", args...).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != len(pairs) {
		t.Fatalf("%v: %s", err, out)
	}
	for i, p := range pairs {
		if !strings.HasPrefix(lines[i], p.want) {
			t.Errorf("%s: %q, want %q", p.name, lines[i], p.want)
		}
	}
}
