package sigverify

import (
	"bytes"
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"io"

	"sealgate/internal/cms"
	"sealgate/internal/pades"
	"sealgate/internal/tsp"
	"sealgate/internal/xmldsig"
)

// PDF is the container of PDF signatures and document time-stamps (ISO 32000-2
// §12.8, EN 319 142-1).
func PDF() Container {
	return Container{Name: "pdf", Detect: func(head []byte) bool { return bytes.Contains(head, []byte("%PDF-")) }, Open: openPDF}
}

func openPDF(ctx context.Context, file io.ReaderAt, size int64, _ Content) (*Opened, error) {
	list, err := pades.Signatures(ctx, file, size)
	if err != nil {
		return nil, err
	}
	return openedPDF(ctx, list, func(ctx context.Context, i int, h crypto.Hash) ([]byte, error) { return list[i].Digest(ctx, file, h) }), nil
}

// openedPDF turns what stands in a PDF into what is to be judged; digest hashes
// what the i-th signature covers.
func openedPDF(ctx context.Context, list []pades.Signature, digest func(ctx context.Context, i int, h crypto.Hash) ([]byte, error)) *Opened {
	o := &Opened{}
	for i, s := range list {
		digest := func(ctx context.Context, h crypto.Hash) ([]byte, error) { return digest(ctx, i, h) }
		if s.Type == typeDocumentTimestamp {
			o.Tokens = append(o.Tokens, documentToken(ctx, list, i, digest))
			continue
		}
		r := s.ByteRange
		e := Embedded{CMS: s.Contents, Digest: digest, ClaimedTime: s.Time, Checks: pdfChecks(s),
			Scope: Scope{Kind: ScopeRanges, Whole: s.CoversWholeFile, Bytes: r[1] + r[3], Ranges: []Range{{r[0], r[1]}, {r[2], r[3]}}}}
		if s.Err != nil { // its range may lie anywhere: nothing is hashed
			e.CMS = nil
		}
		o.CMS = append(o.CMS, e)
	}
	return o
}

const typeDocumentTimestamp = "DocTimeStamp"

// pdfChecks tells what became of the document after a signature.
func pdfChecks(s pades.Signature) []Check {
	switch {
	case s.Err != nil:
		return []Check{{CheckScope, Failed, FormatFailure, "what the signature covers is not what a signature must cover"}}
	case s.Later == pades.NoChange:
		return []Check{{CheckScope, Passed, "", "the whole file is covered"}}
	case s.Later == pades.SignaturesAdded:
		return []Check{{CheckScope, Passed, "", "only signatures and data about them were added later"}}
	case s.Later == pades.PicturesAdded:
		return []Check{{CheckScope, Warning, "", "signatures with a picture on a page were added later"}}
	}
	return []Check{{CheckScope, Unknown, SigConstraintsFailure, "the document was changed after it was signed: what is shown may not be what was signed"}}
}

// documentToken is a document time-stamp. It proves the signatures and tokens that
// lie wholly in what it covers.
func documentToken(ctx context.Context, list []pades.Signature, i int, digest func(context.Context, crypto.Hash) ([]byte, error)) Token {
	s := list[i]
	return Token{Kind: ProofDocumentTimestamp, Raw: s.Contents, Verify: func() (Stamp, []Object, error) {
		if s.Err != nil {
			return Stamp{}, nil, s.Err
		}
		token, err := tsp.ParseToken(s.Contents)
		if err != nil {
			return Stamp{}, nil, err
		}
		h := token.Info.Imprint.Hash
		d, err := digest(ctx, h)
		if err != nil {
			return Stamp{}, nil, err
		}
		cert, err := token.Verify(tsp.Imprint{Hash: h, Digest: d})
		if err != nil {
			return Stamp{}, nil, err
		}
		return Stamp{Certificate: cert, Extra: token.Certificates, Info: token.Info}, earlier(list, s), nil
	}}
}

// earlier lists what lies before a document time-stamp.
func earlier(list []pades.Signature, s pades.Signature) []Object {
	var out []Object
	for _, e := range list {
		if e.Err != nil || e.ByteRange[2]+e.ByteRange[3] >= s.ByteRange[2]+s.ByteRange[3] {
			continue
		}
		out = append(out, ObjectOf(e.Contents))
		sd, err := readCMS(e.Contents)
		if err != nil {
			continue
		}
		for _, si := range sd.Signers {
			out = append(out, ObjectOf(si.Signature()))
			for _, a := range si.Unsigned() {
				if a.Type.Equal(cms.OIDTimeStampToken) {
					for _, raw := range a.Values {
						out = append(out, ObjectOf(raw))
					}
				}
			}
		}
		for _, raw := range append(sd.CRLs, sd.OCSPs...) {
			out = append(out, ObjectOf(raw))
		}
	}
	return out
}

// XML is the container of XML signatures (XMLDSig), those of SI files among them.
func XML() Container {
	return Container{Name: "xmldsig", Open: openXML, Detect: func(head []byte) bool {
		return bytes.HasPrefix(bytes.TrimLeft(head, "\ufeff \t\r\n"), []byte("<"))
	}}
}

func openXML(ctx context.Context, file io.ReaderAt, size int64, c Content) (*Opened, error) {
	if size > xmldsig.MaxBytes {
		return nil, ErrTooLarge
	}
	raw := make([]byte, size)
	if _, err := file.ReadAt(raw, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	doc, err := xmldsig.Parse(raw)
	if err != nil {
		return nil, err
	}
	o := &Opened{}
	for n, element := range doc.Signatures() {
		if n == maxSignatures {
			break
		}
		r, err := doc.Verify(ctx, element, xmldsig.VerifyOptions{Files: c.Files, AllowSHA1: true})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			o.Found = append(o.Found, Found{Scope: Scope{Kind: ScopeXML}, Checks: []Check{xmlCheck(err)}})
			continue
		}
		o.Found = append(o.Found, foundXML(doc, r))
	}
	return o, nil
}

// foundXML turns the result of package xmldsig into checks.
func foundXML(doc *xmldsig.Document, r *xmldsig.Result) Found {
	f := Found{Scope: Scope{Kind: ScopeXML}, Certificate: r.Certificate, Certificates: r.Certificates, Digest: r.Hash, Scheme: r.Algorithm, Value: r.SignatureValue}
	missing := false
	for _, ref := range r.References {
		line := Reference{URI: ref.URI, Covered: "a file"}
		if ref.Hash != 0 {
			line.Digest = &Digest{hashName(ref.Hash), hex.EncodeToString(ref.Digest)}
		}
		switch {
		case ref.Element == nil:
		case ref.Element == doc.Root:
			line.Covered, f.Scope.Whole = "the whole document", true
		default:
			line.Covered = "an element of the document: " + ref.Element.Local
		}
		missing = missing || !ref.Checked && ref.Err == nil
		f.Scope.References = append(f.Scope.References, line)
	}
	if r.Err != nil {
		f.Checks = append(f.Checks, xmlCheck(r.Err))
	} else {
		f.Checks = append(f.Checks, Check{Name: CheckSignature, Outcome: Passed})
	}
	switch {
	case missing:
		f.Checks = append(f.Checks, Check{CheckContent, Unknown, SignedDataNotFound, "a file that is referred to was not given"})
	case r.Err == nil:
		f.Checks = append(f.Checks, Check{Name: CheckContent, Outcome: Passed, Reason: "each reference holds"})
	}
	if f.Certificate == nil {
		f.Checks = append(f.Checks, Check{CheckSigner, Unknown, NoSigningCertificateFound, "the signature brings no certificate"})
	}
	return f
}

func xmlCheck(err error) Check {
	switch {
	case errors.Is(err, xmldsig.ErrDigest):
		return Check{CheckContent, Failed, HashFailure, "what a reference names is not what was signed"}
	case errors.Is(err, xmldsig.ErrSignature):
		return Check{CheckSignature, Failed, SigCryptoFailure, "the signature value does not verify with the signer's key"}
	case errors.Is(err, xmldsig.ErrAlgorithm):
		return Check{CheckAlgorithms, Unknown, CryptoConstraintsFailure, "an algorithm that is not known"}
	case errors.Is(err, xmldsig.ErrNoCertificate):
		return Check{CheckSigner, Unknown, NoSigningCertificateFound, "the signature brings no certificate"}
	}
	return Check{CheckFormat, Failed, FormatFailure, "the signature has a form that is not allowed"}
}
