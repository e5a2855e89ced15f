package sigverify_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"sealgate/internal/cms"
	"sealgate/internal/i18n"
	"sealgate/internal/sigverify"
)

// Every outcome has its words in both languages, and none is left unfilled.
func TestEverySubIndicationHasWords(t *testing.T) {
	texts := must(i18n.Load())
	all := []sigverify.SubIndication{"", sigverify.FormatFailure, sigverify.HashFailure, sigverify.SigCryptoFailure, sigverify.Revoked, sigverify.Expired,
		sigverify.NotYetValid, sigverify.SigConstraintsFailure, sigverify.ChainConstraintsFailure, sigverify.ChainGeneralFailure,
		sigverify.CryptoConstraintsFailure, sigverify.CryptoConstraintsNoPOE, sigverify.NoSigningCertificateFound, sigverify.NoCertificateChainFound,
		sigverify.RevokedNoPOE, sigverify.RevokedCANoPOE, sigverify.OutOfBoundsNoPOE, sigverify.RevocationOutOfBoundsNoPOE,
		sigverify.TimestampOrderFailure, sigverify.TryLater, sigverify.SignedDataNotFound, sigverify.NoSignature}
	schema := string(must(os.ReadFile("../../api/verify.schema.json")))
	for _, sub := range all {
		if sub != "" && !strings.Contains(schema, `"`+string(sub)+`"`) {
			t.Errorf("%s is not in api/verify.schema.json", sub)
		}
		for _, signatures := range []int{0, 1, 2} {
			if sub == "" && signatures == 0 || sub == sigverify.NoSignature && signatures > 0 {
				continue
			}
			r := &sigverify.Report{Indication: indication(sub), SubIndication: sub, ValidationTime: years(1)}
			for i := range signatures {
				r.Signatures = append(r.Signatures, sigverify.Signature{Index: i, Indication: indication(sub), SubIndication: sub, ClaimedTime: years(1), Level: "B",
					Scope: sigverify.Scope{Kind: sigverify.ScopeDetached}, Signer: &sigverify.Identity{Name: "測試一號", IDLast4: "6789", Kind: "citizen"}})
			}
			for _, lang := range i18n.Langs() {
				s := r.Simple(texts, lang)
				parts := []string{s.Title, s.Sentence, s.Next}
				for _, f := range s.Facts {
					parts = append(parts, f.Label, f.Value)
				}
				for _, text := range parts {
					if text == "" || strings.HasPrefix(text, "verify.") || strings.ContainsAny(text, "{}") {
						t.Errorf("%s %q, %d signatures: %q", lang, sub, signatures, text)
					}
				}
			}
		}
	}
}

func TestSimpleReport(t *testing.T) {
	l, texts := newLab(), must(i18n.Load())
	p7s := stamped(t, l.sign(t, years(1)), l.tsa, years(0.9))
	s := l.judge(t, p7s, whole(document)).Simple(texts, i18n.ZhHant)
	if s.Outlook != sigverify.Valid || s.Title != "簽章有效" || !strings.Contains(s.Sentence, "測試一號") || !strings.Contains(s.Sentence, "109年") {
		t.Errorf("%+v", s)
	}
	if s = l.judge(t, p7s, whole(other)).Simple(texts, i18n.En); s.Outlook != sigverify.Invalid || !strings.HasPrefix(s.Sentence, "This content was changed") {
		t.Errorf("%+v", s)
	}
	if s = l.judge(t, p7s, sigverify.Content{}).Simple(texts, i18n.En); s.Outlook != sigverify.Cannot || !strings.Contains(s.Next, "original file") {
		t.Errorf("%+v", s)
	}
	if s = l.judge(t, []byte("hello"), whole(document)).Simple(texts, i18n.En); s.Outlook != sigverify.Invalid || !strings.Contains(s.Sentence, "malformed") {
		t.Errorf("%+v", s)
	}
}

// A signed report is a signature as any other, over the JSON inside.
func TestSignedReport(t *testing.T) {
	l := newLab()
	report := l.judge(t, l.sign(t, years(1)), whole(document))
	signed, err := report.Sign(rand.Reader, l.cmsSigner(), cms.Options{SigningTime: years(1)})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, l.judge(t, signed, sigverify.Content{}), "")
	sd := must(cms.ParseBER(signed))
	var back sigverify.Report
	if err := json.Unmarshal(sd.Content, &back); err != nil || back.Indication != sigverify.TotalPassed || back.Input.SHA256 != report.Input.SHA256 {
		t.Errorf("%v: %s", err, sd.Content)
	}
	forged := bytes.Replace(signed, []byte(sigverify.TotalPassed), []byte("TOTAL-FAILED"), 1)
	expect(t, l.judge(t, forged, sigverify.Content{}), sigverify.HashFailure)
	if _, err := report.Sign(rand.Reader, cms.Signer{Certificate: l.signer.Certificate}, cms.Options{}); err == nil {
		t.Error("a report was signed without a key")
	}
}

// Whatever octet of a signature is changed: it is refused, or it is one that
// nothing rests on. Which those are is written down here.
func TestEveryChangedOctet(t *testing.T) {
	l := newLab()
	p7s := l.sign(t, years(1))
	sd := must(cms.ParseBER(p7s))
	si := sd.Signers[0]
	from := bytes.Index(p7s, si.SignedBytes()[1:])
	protected := func(i int) bool {
		if i >= from && i < from+len(si.SignedBytes())-1 {
			return true
		}
		at := bytes.LastIndex(p7s, si.Signature())
		return i >= at && i < at+len(si.Signature())
	}
	passed := 0
	for i := range p7s {
		changed := slices.Clone(p7s)
		changed[i] ^= 1
		r := l.judge(t, changed, whole(document))
		if r.Indication == sigverify.TotalPassed {
			passed++
			if protected(i) {
				t.Fatalf("octet %d of the signed attributes or the value may be changed", i)
			}
		}
	}
	// Version numbers and the list of digest algorithms are not signed, and tell
	// nothing that is not told again.
	if passed > 20 {
		t.Errorf("%d octets may be changed", passed)
	}
	expect(t, l.judge(t, p7s, whole(document)), "")
}

// What a certificate's algorithms were worth, and when.
func TestCryptographicConstraints(t *testing.T) {
	p := sigverify.DefaultCryptoPolicy()
	if p.Name == "" || len(p.RSA) == 0 {
		t.Fatal("no policy")
	}
	l := newLab()
	p7s := l.sign(t, years(1))
	ask := func(change func(*sigverify.CryptoPolicy), proofs ...sigverify.KnownProof) *sigverify.Report {
		v := l.verifier(t, func(c *sigverify.Config) {
			c.Policy = sigverify.DefaultCryptoPolicy()
			change(&c.Policy)
		})
		return must(v.Verify(context.Background(), sigverify.Request{Signature: p7s, Content: whole(document), At: years(1),
			Evidence: evidenceOf(crl(l.ca, years(0.5)), crl(l.ca, years(1))), Proofs: proofs}))
	}
	expect(t, ask(func(*sigverify.CryptoPolicy) {}), "")
	weak := func(p *sigverify.CryptoPolicy) { p.EC = []sigverify.KeyLimit{{Bits: 256, Until: years(0.7)}} }
	expect(t, ask(weak), sigverify.CryptoConstraintsNoPOE)
	expect(t, ask(weak, sigverify.KnownProof{Time: years(0.6)}), "")
	expect(t, ask(weak, sigverify.KnownProof{Time: years(0.8)}), sigverify.CryptoConstraintsNoPOE)
	expect(t, ask(func(p *sigverify.CryptoPolicy) { p.EC = nil }), sigverify.CryptoConstraintsFailure)
}

func indication(s sigverify.SubIndication) sigverify.Indication {
	switch s {
	case "":
		return sigverify.TotalPassed
	case sigverify.FormatFailure, sigverify.HashFailure, sigverify.SigCryptoFailure, sigverify.Revoked, sigverify.Expired, sigverify.NotYetValid:
		return sigverify.TotalFailed
	}
	return sigverify.Indeterminate
}
