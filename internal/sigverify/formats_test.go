package sigverify_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/pades"
	"sealgate/internal/pkitest"
	"sealgate/internal/sigverify"
	"sealgate/internal/tsp"
	"sealgate/internal/xmldsig"
)

// onePage is a PDF with one empty page.
func onePage() []byte {
	var b bytes.Buffer
	b.WriteString("%PDF-1.7\n")
	var at []int
	for i, o := range []string{"<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[3 0 R]/Count 1>>", "<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>"} {
		at = append(at, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	xref := b.Len()
	b.WriteString("xref\n0 4\n0000000000 65535 f \n")
	for _, offset := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", offset)
	}
	fmt.Fprintf(&b, "trailer\n<</Size 4/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n", xref)
	return b.Bytes()
}

func (l *lab) signPDF(t testing.TB, pdf []byte, at time.Time) []byte {
	t.Helper()
	p := must(pades.Prepare(context.Background(), bytes.NewReader(pdf), int64(len(pdf)), pades.Options{SigningTime: at}))
	return append(bytes.Clone(pdf), must(p.Embed(must(cms.SignDigest(rand.Reader, p.Digest, l.cmsSigner(), cms.Options{}))))...)
}

func (l *lab) stampPDF(t testing.TB, pdf []byte, tsa *pkitest.Authority, at time.Time) []byte {
	t.Helper()
	p := must(pades.Prepare(context.Background(), bytes.NewReader(pdf), int64(len(pdf)), pades.Options{TimeStamp: true}))
	return append(bytes.Clone(pdf), must(p.Embed(token(t, tsa, tsp.Imprint{Hash: p.Hash, Digest: p.Digest}, at)))...)
}

func (l *lab) judgeFile(t testing.TB, raw []byte, at time.Time, c sigverify.Content, lists ...certpath.StoredEvidence) *sigverify.Report {
	t.Helper()
	v := l.verifier(t, func(c *sigverify.Config) { c.Containers = []sigverify.Container{sigverify.PDF(), sigverify.XML()} })
	return must(v.Verify(context.Background(), sigverify.Request{Signature: raw, At: at, Content: c, Evidence: lists}))
}

func TestPDF(t *testing.T) {
	l := newLab()
	pdf := l.signPDF(t, onePage(), years(1))
	lists := evidenceOf(crl(l.ca, years(1)), crl(l.tsaRoot, years(1)))
	r := l.judgeFile(t, pdf, years(1), sigverify.Content{}, lists...)
	expect(t, r, "")
	if s := r.Signatures[0]; r.Input.Format != "pdf" || s.Scope.Kind != sigverify.ScopeRanges || !s.Scope.Whole || len(s.Scope.Ranges) != 2 || s.Level != "B" || !s.ClaimedTime.Equal(years(1)) {
		t.Errorf("%s %+v level %q claimed %s", r.Input.Format, s.Scope, s.Level, s.ClaimedTime)
	}
	changed := bytes.Replace(pdf, []byte("595"), []byte("594"), 1)
	expect(t, l.judgeFile(t, changed, years(1), sigverify.Content{}, lists...), sigverify.HashFailure)
	twice := l.signPDF(t, pdf, years(1))
	if r := l.judgeFile(t, twice, years(1), sigverify.Content{}, lists...); r.Indication != sigverify.TotalPassed || len(r.Signatures) != 2 {
		t.Errorf("two signers: %s %d", r.SubIndication, len(r.Signatures))
	}
	expect(t, l.judgeFile(t, onePage(), years(1), sigverify.Content{}), sigverify.NoSignature)
	broken := bytes.Replace(pdf, []byte("/ByteRange"), []byte("/ByteRangf"), 1)
	if r := l.judgeFile(t, broken, years(1), sigverify.Content{}, lists...); r.Indication == sigverify.TotalPassed {
		t.Error("a signature without a byte range passed")
	}
	// A document time-stamp proves what lies before it, after everybody has ended.
	tsaLater := evidenceOf(crl(l.ca, years(1.9)), crl(l.tsaRoot, years(3)))
	expect(t, l.judgeFile(t, pdf, years(3), sigverify.Content{}, tsaLater...), sigverify.OutOfBoundsNoPOE)
	stampedPDF := l.stampPDF(t, pdf, l.tsa, years(1.1))
	r = l.judgeFile(t, stampedPDF, years(3), sigverify.Content{}, tsaLater...)
	expect(t, r, "")
	if s := r.Signatures[0]; !s.ProvenTime.Equal(years(1.1)) || s.Proofs[0].Source != sigverify.ProofDocumentTimestamp || s.Level != "T" {
		t.Errorf("proven %s by %+v, level %s", s.ProvenTime, s.Proofs, s.Level)
	}
	later := l.signPDF(t, stampedPDF, years(1.2)) // not covered by the time-stamp before it
	if r := l.judgeFile(t, later, years(3), sigverify.Content{}, tsaLater...); r.Signatures[0].SubIndication != "" || r.Signatures[1].SubIndication != sigverify.OutOfBoundsNoPOE {
		t.Errorf("%s, %s", r.Signatures[0].SubIndication, r.Signatures[1].SubIndication)
	}
}

func TestXML(t *testing.T) {
	l := newLab()
	draft := []byte("<函>簽辦</函>")
	si := must(xmldsig.NewSI("flow1"))
	tbs := must(si.AddPoint(xmldsig.Point{Flow: "flow1", Action: "承辦", Name: "測試一號", Time: years(1),
		Drafts: []xmldsig.File{{URI: "draft.di", Digest: digest(draft)}}},
		xmldsig.PointOptions{Certificate: l.signer.Certificate, Chain: []*x509.Certificate{l.ca.Certificate}}))
	xml := must(xmldsig.Attach(tbs.XML, tbs.Point, must(l.signer.Key.Sign(rand.Reader, tbs.Digest, tbs.Hash))))
	files := func(content []byte) sigverify.Content {
		return sigverify.Content{Files: func(uri string, h crypto.Hash) ([]byte, error) {
			if uri != "draft.di" || content == nil {
				return nil, nil
			}
			s := h.New()
			s.Write(content)
			return s.Sum(nil), nil
		}}
	}
	list := crl(l.ca, years(1))
	r := l.judgeFile(t, xml, years(1), files(draft), list)
	expect(t, r, "")
	if s := r.Signatures[0]; r.Input.Format != "xmldsig" || s.Scope.Kind != sigverify.ScopeXML || len(s.Scope.References) < 2 || s.Signer.Name != "測試一號" {
		t.Errorf("%+v", s.Scope)
	}
	expect(t, l.judgeFile(t, xml, years(1), files(nil), list), sigverify.SignedDataNotFound)
	expect(t, l.judgeFile(t, xml, years(1), files(other), list), sigverify.HashFailure)
	expect(t, l.judgeFile(t, bytes.Replace(xml, []byte("承辦"), []byte("承辯"), 1), years(1), files(draft), list), sigverify.HashFailure)
	expect(t, l.judgeFile(t, []byte("<a/>"), years(1), files(draft), list), sigverify.NoSignature)
	expect(t, l.judgeFile(t, []byte("<a>"), years(1), files(draft), list), sigverify.FormatFailure)
	expect(t, l.judgeFile(t, xml, years(3), files(draft), list), sigverify.OutOfBoundsNoPOE)
}
