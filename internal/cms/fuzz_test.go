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

// FuzzParseBER: what parses as BER can be added to, and nothing that was there is
// altered; ParseStream reads it too.
func FuzzParseBER(f *testing.F) {
	for _, name := range []string{"testdata/hipki.p7m", "testdata/rsa-pss.p7s", "testdata/stream.ber", "../cades/testdata/lta.p7s"} {
		f.Add(must(os.ReadFile(name)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		streamed, serr := cms.ParseStream(bytes.NewReader(raw), nil, 1<<20)
		sd, err := cms.ParseBER(raw)
		if err != nil {
			return
		}
		if serr == nil && (len(streamed.Signers) != len(sd.Signers) || streamed.Attached != sd.Attached || streamed.ContentSize != int64(len(sd.Content))) {
			t.Fatal("the stream holds something else")
		}
		for _, si := range sd.Signers {
			si.Evidence()
			sd.Countersignatures(si, cms.VerifyInput{})
		}
		e, err := cms.Edit(raw)
		if err != nil {
			t.Fatal(err)
		}
		e.AddCRL([]byte{0x30, 0x00})
		if len(sd.Signers) > 0 {
			e.AddUnsigned(0, cms.NewAttribute(cms.OIDEvidence, []byte{0x05, 0x00}))
		}
		out, err := e.Bytes()
		if err != nil {
			return // bounds
		}
		back, err := cms.ParseBER(out)
		if err != nil || len(back.Signers) != len(sd.Signers) {
			t.Fatal(err)
		}
		for _, si := range sd.Signers {
			if !bytes.Contains(out, si.RawFields()) {
				t.Fatal("a signer info was altered")
			}
		}
	})
}
