package sigverify

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"slices"

	"sealgate/internal/certpath"
	"sealgate/internal/cms"
)

// maxCounterDepth bounds countersignatures of countersignatures.
const maxCounterDepth = 4

// readCMS reads DER, BER or PEM.
func readCMS(raw []byte) (*cms.SignedData, error) {
	if len(raw) > MaxSignatureBytes {
		return nil, ErrTooLarge
	}
	if bytes.HasPrefix(bytes.TrimLeft(raw[:min(len(raw), headBytes)], " \r\n\t\ufeff"), []byte("-----BEGIN ")) {
		block, _ := pem.Decode(raw)
		if block == nil {
			return nil, cms.ErrMalformed.Because(errors.New("malformed PEM"))
		}
		raw = block.Bytes
	}
	return cms.ParseBER(raw)
}

// Needs tells which digests of the content a detached signature's verification
// needs, so that whoever has the content makes them where it is. A signature with
// its content inside needs none.
func Needs(signature []byte) ([]crypto.Hash, error) {
	sd, err := readCMS(signature)
	if err != nil {
		return nil, err
	}
	return needs(sd), nil
}

func needs(sd *cms.SignedData) []crypto.Hash {
	if sd.Attached {
		return nil
	}
	var out []crypto.Hash
	take := func(h crypto.Hash) {
		if slices.Contains(known, h) && !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	for i, si := range sd.Signers {
		if h, err := si.Hash(); err == nil {
			take(h)
		}
		for _, h := range contentHashes(sd, i) {
			take(h)
		}
	}
	slices.SortFunc(out, func(a, b crypto.Hash) int { return slices.Index(known, a) - slices.Index(known, b) })
	return out
}

// cms reads a CMS signature file.
func (j *judge) cms(ctx context.Context, report *Report, sd *cms.SignedData, c Content) ([]Found, error) {
	if len(sd.Signers) == 0 {
		report.Checks = append(report.Checks, Check{CheckFormat, Unknown, NoSignature, "there is no signature in this file, only certificates or lists"})
		return nil, nil
	}
	report.Checks = append(report.Checks, Check{Name: CheckFormat, Outcome: Passed, Reason: "CMS SignedData"})
	have, err := c.read(ctx, needs(sd))
	if err != nil {
		return nil, err
	}
	scope := Scope{Kind: ScopeDetached, Whole: true, MediaType: sd.ContentType.String(), Bytes: max(0, have.size)}
	report.Input.Content = "missing"
	switch {
	case sd.Attached:
		report.Input.Content = "attached"
		scope.Kind, scope.Bytes = ScopeAttached, max(sd.ContentSize, int64(len(sd.Content)))
		if sd.Content != nil {
			have.seen, have.head = true, sd.Content[:min(len(sd.Content), headBytes)]
		}
	case have.seen:
		report.Input.Content = "content"
	case have.given():
		report.Input.Content = "digests"
	}
	if have.given() {
		report.Input.Digests = map[string]string{}
		for h, d := range have.digests {
			report.Input.Digests[hashName(h)] = hex.EncodeToString(d)
		}
	}
	return j.signerInfos(sd, have, scope)
}

// signerInfos checks every signer info of a SignedData, countersignatures below.
func (j *judge) signerInfos(sd *cms.SignedData, have content, scope Scope) ([]Found, error) {
	in := cms.VerifyInput{Certificates: j.extra, AllowSHA1: true, AllowNoSignedAttributes: true, Digest: have.digest}
	results, err := sd.Verify(in)
	if err != nil && !errors.Is(err, cms.ErrContentMissing) && !errors.Is(err, cms.ErrDigestMismatch) {
		return nil, err
	}
	var out []Found
	for i, r := range results {
		f := found(sd, r, scope, have)
		f.Certificates, f.Evidence = valuesOf(sd, i)
		f.Level = levelOf(sd, i, r)
		if f.Tokens, err = tokensOf(sd, i, have); err != nil {
			f.Checks = append(f.Checks, Check{CheckTimestamps, Warning, "", "too many time-stamps, or malformed ones: none is looked at"})
		}
		if e, ok, err := r.Signer.Evidence(); err != nil {
			f.Checks = append(f.Checks, Check{CheckEvidence, Warning, "", "malformed approval evidence"})
		} else if ok {
			f.approval = e.Bundle
		}
		if f.Counter, err = counter(sd, r.Signer, in, f.Certificates, f.Evidence, 1); err != nil {
			f.Checks = append(f.Checks, Check{CheckFormat, Failed, FormatFailure, "malformed countersignature"})
		}
		out = append(out, f)
	}
	return out, nil
}

// counter checks the countersignatures of a signer, and theirs.
func counter(sd *cms.SignedData, si *cms.SignerInfo, in cms.VerifyInput, certs []*x509.Certificate, stored []certpath.StoredEvidence, depth int) ([]Found, error) {
	results, err := sd.Countersignatures(si, in)
	if err != nil || len(results) == 0 {
		return nil, err
	}
	if depth > maxCounterDepth {
		return nil, errors.New("sigverify: countersignatures too deep")
	}
	var out []Found
	for _, r := range results {
		f := found(sd, r, Scope{Kind: ScopeSignature, Whole: true}, content{})
		if r.Digest.Available() {
			h := r.Digest.New()
			h.Write(si.Signature())
			f.Scope.Digest = &Digest{hashName(r.Digest), hex.EncodeToString(h.Sum(nil))}
		}
		f.Certificates, f.Evidence, f.Tokens = certs, stored, signatureTokens(r.Signer)
		if f.Counter, err = counter(sd, r.Signer, in, certs, stored, depth+1); err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// found turns the checks of package cms into those of a report.
func found(sd *cms.SignedData, r cms.SignerResult, scope Scope, have content) Found {
	f := Found{Scope: scope, Certificate: r.Certificate, Digest: r.Digest, Scheme: r.Scheme, Value: r.Signer.Signature(), ClaimedTime: r.SigningTime}
	if d := contentDigest(sd, r.Digest, have); d != nil && scope.Kind != ScopeSignature {
		f.Scope.Digest = &Digest{hashName(r.Digest), hex.EncodeToString(d)}
	}
	for _, c := range r.Checks {
		f.Checks = append(f.Checks, checkOf(c, r))
	}
	if r.Certificate == nil {
		// The content decides first; then that nobody is named.
		f.Checks = append(f.Checks, Check{CheckSigner, Unknown, NoSigningCertificateFound, "the signer's certificate is neither inside nor was it given"})
	}
	if r.Signer.SignedBytes() == nil && scope.Kind != ScopeSignature {
		f.Checks = append(f.Checks, bareCheck(sd, have))
	}
	return f
}

// checkOf translates one check of package cms.
func checkOf(c cms.Check, r cms.SignerResult) Check {
	names := map[string]string{cms.CheckCertificate: CheckSigner, cms.CheckAlgorithms: CheckAlgorithms, cms.CheckContentType: CheckAttributes,
		cms.CheckMessageDigest: CheckContent, cms.CheckSigningCertificate: CheckReference, cms.CheckSignature: CheckSignature}
	out := Check{Name: names[c.Name], Outcome: Passed}
	if out.Name == CheckReference && c.Err == nil && !r.SigningCertificate {
		return Check{CheckReference, Warning, "", "the certificate is not named under the signature (CAdES demands it)"}
	}
	switch {
	case c.Err == nil:
		return out
	case errors.Is(c.Err, cms.ErrContentMissing):
		out.Outcome, out.SubIndication, out.Reason = Unknown, SignedDataNotFound, "the signed content, or its "+hashName(r.Digest)+" digest, was not given"
	case errors.Is(c.Err, cms.ErrDigestMismatch):
		out.Outcome, out.SubIndication, out.Reason = Failed, HashFailure, "the content is not the one that was signed"
	case errors.Is(c.Err, cms.ErrSignature):
		out.Outcome, out.SubIndication, out.Reason = Failed, SigCryptoFailure, "the signature value does not verify with the signer's key"
	case errors.Is(c.Err, cms.ErrAlgorithm):
		out.Outcome, out.SubIndication, out.Reason = Unknown, CryptoConstraintsFailure, "an algorithm that is not known, or that contradicts another"
	case errors.Is(c.Err, cms.ErrNoCertificate):
		out.Outcome, out.SubIndication, out.Reason = Unknown, NoSigningCertificateFound, "the signer's certificate is neither inside nor was it given"
	case errors.Is(c.Err, cms.ErrSigningCertificate):
		out.Outcome, out.SubIndication, out.Reason = Unknown, NoSigningCertificateFound, "the signature names another certificate than the one found"
	default:
		out.Outcome, out.SubIndication, out.Reason = Failed, FormatFailure, "a signed attribute is missing, repeated or malformed"
	}
	return out
}

// bareCheck judges a signature straight over the content. The attributes of a
// signature can be cut off and passed off as its content: the value then fits a
// "content" that the signer never saw as one. Where all of the content went
// through our hands, content that is no such set of attributes is safe.
func bareCheck(sd *cms.SignedData, have content) Check {
	c := Check{Name: CheckAttributes, Outcome: Warning, Reason: "nothing is signed but the content: no time, no certificate"}
	switch {
	case !have.seen:
		c.Outcome, c.SubIndication = Unknown, SigConstraintsFailure
		c.Reason = "without signed attributes the whole content is needed, not only its digest"
	case looksLikeAttributes(have.head):
		c.Outcome, c.SubIndication = Unknown, SigConstraintsFailure
		c.Reason = "what is said to be the content has the form of another signature's attributes"
	}
	return c
}

// looksLikeAttributes: SET OF Attribute begins SET, SEQUENCE, OBJECT IDENTIFIER.
func looksLikeAttributes(head []byte) bool {
	skip := func(in []byte, tag byte) []byte {
		if len(in) < 2 || in[0] != tag {
			return nil
		}
		n := 2
		if in[1] > 0x80 {
			n += int(in[1] & 0x7f)
		}
		if len(in) <= n {
			return nil
		}
		return in[n:]
	}
	inner := skip(skip(head, 0x31), 0x30)
	return len(inner) > 0 && inner[0] == 0x06
}

func contentDigest(sd *cms.SignedData, h crypto.Hash, have content) []byte {
	if d := have.digest(h); d != nil {
		return d
	}
	if sd.Content == nil || !h.Available() {
		return nil
	}
	s := h.New()
	s.Write(sd.Content)
	return s.Sum(nil)
}

// embedded checks a CMS inside a container.
func (j *judge) embedded(ctx context.Context, e Embedded) ([]Found, error) {
	broken := Found{Scope: e.Scope, ClaimedTime: e.ClaimedTime, Checks: append(slices.Clone(e.Checks),
		Check{CheckFormat, Failed, FormatFailure, "the CMS inside cannot be read"})}
	sd, err := readCMS(e.CMS)
	if err != nil || len(sd.Signers) != 1 {
		return []Found{broken}, nil
	}
	if sd.Attached { // adbe.pkcs7.sha1: SHA-1 and nothing else
		broken.Checks[len(broken.Checks)-1] = Check{CheckFormat, Unknown, SigConstraintsFailure, "a CMS with content inside is not verified here"}
		return []Found{broken}, nil
	}
	have := content{size: -1, seen: !e.ByDigest, digests: map[crypto.Hash][]byte{}}
	for _, h := range needs(sd) {
		if have.digests[h], err = e.Digest(ctx, h); err != nil {
			return nil, err
		}
	}
	all, err := j.signerInfos(sd, have, e.Scope)
	for i := range all {
		all[i].Checks = append(slices.Clone(e.Checks), all[i].Checks...)
		if all[i].ClaimedTime.IsZero() {
			all[i].ClaimedTime = e.ClaimedTime
		}
		// PAdES has the signing time in the container (EN 319 142-1 §6.3).
		if all[i].Level == "" && slices.ContainsFunc(all[i].Checks, func(c Check) bool { return c.Name == CheckReference && c.Outcome == Passed }) {
			all[i].Level = "B"
			if len(all[i].Tokens) > 0 {
				all[i].Level = "T"
			}
		}
	}
	return all, err
}

// readFile reads a CMS from a file that need not fit into memory.
func readFile(file io.ReaderAt, size int64) (*cms.SignedData, error) {
	head := make([]byte, min(size, 16))
	if _, err := file.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if size <= MaxSignatureBytes {
		raw := make([]byte, size)
		if _, err := file.ReadAt(raw, 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return readCMS(raw)
	}
	return cms.ParseStream(io.NewSectionReader(file, 0, size), nil, MaxContentBytes)
}
