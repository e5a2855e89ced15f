package cms_test

import (
	"bytes"
	"os"
	"testing"

	"sealgate/internal/cms"
)

// FuzzParse: what parses can be put together again to something that parses to
// the same signers, and verifying never panics.
func FuzzParse(f *testing.F) {
	// Files, because every fuzz worker would make new RSA keys first.
	for _, name := range []string{"testdata/hipki.p7m", "testdata/rsa-pss.p7s"} {
		f.Add(must(os.ReadFile(name)))
	}
	f.Add(sign(f, kinds[0], document))
	f.Fuzz(func(t *testing.T, der []byte) {
		sd, err := cms.Parse(der)
		if err != nil {
			return
		}
		sd.Verify(cms.VerifyInput{Content: document, AllowSHA1: true, AllowNoSignedAttributes: true})
		if len(sd.Signers) == 0 {
			return
		}
		again, err := cms.Assemble(sd.Certificates, sd.Signers...)
		if err != nil {
			t.Fatal(err)
		}
		back, err := cms.Parse(again)
		if err != nil || len(back.Signers) != len(sd.Signers) {
			t.Fatalf("%d signers became %v", len(sd.Signers), err)
		}
		for _, si := range back.Signers {
			if si.SignedBytes() != nil && (si.SignedBytes()[0] != 0x31 || !bytes.Contains(again, si.SignedBytes()[1:])) {
				t.Error("signed bytes are not those received")
			}
		}
	})
}
