package sigverify_test

import (
	"bytes"
	"context"
	"crypto"
	"testing"

	"sealgate/internal/fault"
	"sealgate/internal/pades"
	"sealgate/internal/sigverify"
)

// partsOf takes a PDF apart as the browser does.
func partsOf(t testing.TB, v *sigverify.Verifier, pdf []byte) *sigverify.Parts {
	t.Helper()
	ctx := context.Background()
	p := &sigverify.Parts{Bytes: int64(len(pdf)), SHA256: digest(pdf)}
	list := must(pades.Signatures(ctx, bytes.NewReader(pdf), int64(len(pdf))))
	for _, s := range list {
		p.Signatures = append(p.Signatures, sigverify.Part{Type: s.Type, CMS: s.Contents, ByteRange: s.ByteRange, Later: s.Later.String(), Time: s.Time, Broken: s.Err != nil})
	}
	wants := must(v.Ask(ctx, sigverify.Request{Parts: p}))
	for i, hashes := range wants.Parts {
		p.Signatures[i].Digests = map[crypto.Hash][]byte{}
		for _, h := range hashes {
			p.Signatures[i].Digests[h] = must(list[i].Digest(ctx, bytes.NewReader(pdf), h))
		}
	}
	return p
}

// A PDF taken apart where it lies gets the verdict of the whole, and the report
// says that it was.
func TestPDFInParts(t *testing.T) {
	l := newLab()
	v := l.verifier(t, func(c *sigverify.Config) { c.Containers = []sigverify.Container{sigverify.PDF()} })
	once := l.signPDF(t, onePage(), years(1))
	twice := l.stampPDF(t, l.signPDF(t, once, years(1)), l.tsa, years(1.01))
	lists := evidenceOf(crl(l.ca, years(1.02)), crl(l.tsaRoot, years(1.02)))
	ask := func(p *sigverify.Parts) (*sigverify.Report, error) {
		return v.Verify(context.Background(), sigverify.Request{Parts: p, At: years(1.02), Evidence: lists})
	}
	for _, pdf := range [][]byte{once, twice} {
		r := must(ask(partsOf(t, v, pdf)))
		expect(t, r, "")
		if r.Checks[0].Name != sigverify.CheckScope || r.Checks[0].Outcome != sigverify.Warning || r.Input.Content != "digests" {
			t.Errorf("the report does not say who read the document: %+v", r.Checks)
		}
		whole := l.judgeFile(t, pdf, years(1.02), sigverify.Content{}, lists...)
		for i, s := range whole.Signatures {
			if got := r.Signatures[i]; got.Level != s.Level || got.Scope.Whole != s.Scope.Whole || !got.ProvenTime.Equal(s.ProvenTime) {
				t.Errorf("signature %d: %+v, of the whole %+v", i, got.Scope, s.Scope)
			}
		}
	}
	for name, tc := range map[string]struct {
		change func(*sigverify.Parts)
		want   sigverify.SubIndication
	}{
		"control":             {func(*sigverify.Parts) {}, ""},
		"another digest":      {func(p *sigverify.Parts) { p.Signatures[0].Digests[crypto.SHA256] = digest(other) }, sigverify.HashFailure},
		"no digest":           {func(p *sigverify.Parts) { p.Signatures[0].Digests = nil }, sigverify.SignedDataNotFound},
		"told to be broken":   {func(p *sigverify.Parts) { p.Signatures[0].Broken = true }, sigverify.FormatFailure},
		"no CMS":              {func(p *sigverify.Parts) { p.Signatures[0].CMS = []byte("x") }, sigverify.FormatFailure},
		"nothing":             {func(p *sigverify.Parts) { p.Signatures = nil }, sigverify.NoSignature},
		"other changes later": {func(p *sigverify.Parts) { p.Bytes++; p.Signatures[0].Later = "other" }, sigverify.SigConstraintsFailure},
	} {
		p := partsOf(t, v, once)
		tc.change(p)
		r, err := ask(p)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.SubIndication != tc.want {
			t.Errorf("%s: %s, want %q", name, r.SubIndication, tc.want)
		}
	}
	for name, change := range map[string]func(*sigverify.Parts){
		"does not begin at the beginning": func(p *sigverify.Parts) { p.Signatures[0].ByteRange[0] = 1 },
		"ranges that meet":                func(p *sigverify.Parts) { p.Signatures[0].ByteRange[2] = p.Signatures[0].ByteRange[1] },
		"beyond the end":                  func(p *sigverify.Parts) { p.Bytes-- },
		"numbers that wrap around":        func(p *sigverify.Parts) { p.Signatures[0].ByteRange[3] = 1<<63 - 1 },
		"whole, and not whole":            func(p *sigverify.Parts) { p.Bytes++ },
		"changed, and whole":              func(p *sigverify.Parts) { p.Signatures[0].Later = "signatures" },
		"a change that there is not":      func(p *sigverify.Parts) { p.Signatures[0].Later = "some" },
		"a short digest":                  func(p *sigverify.Parts) { p.Signatures[0].Digests[crypto.SHA256] = []byte("x") },
		"no digest of the document":       func(p *sigverify.Parts) { p.SHA256 = nil },
	} {
		p := partsOf(t, v, once)
		change(p)
		if _, err := ask(p); fault.CodeOf(err) != sigverify.ErrRequest.Code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever is told about a PDF, the answer is a report or a fault.
func FuzzParts(f *testing.F) {
	l := newLab()
	v := l.verifier(f)
	pdf := l.signPDF(f, onePage(), years(1))
	p := partsOf(f, v, pdf)
	s := p.Signatures[0]
	f.Add(p.Bytes, s.ByteRange[1], s.ByteRange[2], s.ByteRange[3], s.Later, s.Type, s.CMS, s.Digests[crypto.SHA256])
	f.Add(int64(-1), int64(0), int64(0), int64(0), "other", "DocTimeStamp", []byte("x"), []byte{})
	f.Fuzz(func(t *testing.T, size, a, b, c int64, later, kind string, cms, sum []byte) {
		q := &sigverify.Parts{Bytes: size, SHA256: p.SHA256, Signatures: []sigverify.Part{{Type: kind, CMS: cms, ByteRange: [4]int64{0, a, b, c}, Later: later,
			Digests: map[crypto.Hash][]byte{crypto.SHA256: sum}}}}
		if _, err := v.Ask(t.Context(), sigverify.Request{Parts: q}); err != nil {
			t.Fatal(err)
		}
		r, err := v.Verify(t.Context(), sigverify.Request{Parts: q, At: years(1)})
		if err != nil && fault.CodeOf(err) != sigverify.ErrRequest.Code {
			t.Fatal(err)
		}
		if err == nil && r.Indication == sigverify.TotalPassed {
			t.Fatal("passed without an answer about revocation")
		}
	})
}
