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

// npmVerify asks PKI.js, through a small script beside the browser tests.
func npmVerify(t *testing.T, der, doc []byte) (string, bool) {
	t.Helper()
	needTool(t, "node")
	web := filepath.Join("..", "..", "web")
	if _, err := os.Stat(filepath.Join(web, "node_modules", "pkijs")); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("web/node_modules has no pkijs: run `make web`")
		}
		t.Skip("web/node_modules has no pkijs: this counterpart was not asked")
	}
	cmd := exec.Command("node", filepath.Join(web, "e2e", "p7s.mjs"), writeFile(t, "doc.p7s", der), writeFile(t, "doc", doc), writeFile(t, "ca.der", testCA().cert.Raw))
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

func TestPKIjsAgrees(t *testing.T) {
	changed := bytes.Clone(document)
	changed[3] ^= 1
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			der := sign(t, k, document)
			if out, ok := npmVerify(t, der, document); !ok || strings.Count(out, "good") != 1 {
				t.Errorf("refused: %s", out)
			}
			if out, ok := npmVerify(t, der, changed); ok || !strings.Contains(out, "bad") {
				t.Errorf("one changed byte of the document was accepted: %s", out)
			}
			bad := bytes.Clone(der)
			bad[len(bad)-5] ^= 1 // in the signature value
			if out, ok := npmVerify(t, bad, document); ok {
				t.Errorf("one changed byte of the signature was accepted: %s", out)
			}
		})
	}
}

func TestPKIjsAcceptsSeveralSigners(t *testing.T) {
	var infos []*cms.SignerInfo
	certs := []*x509.Certificate{testCA().cert}
	for _, k := range []kind{kinds[0], kinds[3]} {
		sd := must(cms.Parse(sign(t, k, document)))
		infos = append(infos, sd.Signers...)
		certs = append(certs, k.signer().Certificate)
	}
	der := must(cms.Assemble(certs, infos...))
	if out, ok := npmVerify(t, der, document); !ok || strings.Count(out, "good") != 2 {
		t.Errorf("refused: %s", out)
	}
}
