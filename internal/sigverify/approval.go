package sigverify

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"

	"sealgate/internal/evidence"
)

// Approval asks whether the approval evidence holds that a signature carries, or
// that is brought beside it (api/EVIDENCE.md).
type Approval struct {
	// Bundle is a side file; nil takes what the signatures carry.
	Bundle []byte
	// CardAnchors are roots of citizen certificates, ServiceAnchors of mobile ones.
	CardAnchors, ServiceAnchors []*x509.Certificate
	// Revocation are answers that the bundle names by their hash alone.
	Revocation [][]byte
}

// approval judges the evidence and that it is about a signature here. The
// verdict is a check beside the signatures, which stand for themselves: evidence
// that does not hold makes a good signature no worse.
func (r *Report) approval(ctx context.Context, found []Found, a Approval) error {
	bundle, from, of := a.Bundle, FromRequest, found
	for i, f := range found {
		if bundle == nil && f.approval != nil {
			bundle, from, of = f.approval, FromSignature, found[i:i+1]
		}
	}
	if bundle == nil {
		r.Checks = append(r.Checks, Check{CheckEvidence, Skipped, "", "there is no approval evidence"})
		return nil
	}
	o := evidence.Options{Anchors: a.CardAnchors, ServiceAnchors: a.ServiceAnchors, Revocation: a.Revocation}
	signer := approved(bundle, of)
	if signer != nil && signer.Scope.Digest != nil {
		if digest, err := hex.DecodeString(signer.Scope.Digest.Value); err == nil {
			o.Documents = []evidence.Document{{Name: "content", Digests: map[string][]byte{signer.Scope.Digest.Algorithm: digest}}}
		}
	}
	report, err := evidence.Verify(ctx, bundle, o)
	if err != nil {
		return ErrRequest.Because(err)
	}
	r.Evidence = &EvidenceReport{From: from, Verdict: string(report.Verdict), Order: report.Order, Links: []EvidenceLink{}}
	for _, l := range report.Links {
		r.Evidence.Links = append(r.Evidence.Links, EvidenceLink{l.Name, string(l.Status), l.Reason})
	}
	r.Checks = append(r.Checks, evidenceCheck(report, signer, from))
	return nil
}

// approved finds the signature whose signer is the one the bundle speaks of.
func approved(bundle []byte, found []Found) *Found {
	b, err := evidence.Parse(bundle)
	if err != nil || b.Mobile == nil {
		return nil
	}
	for i, f := range found {
		if f.Certificate != nil && bytes.Equal(f.Certificate.Raw, b.Mobile.Certificate) {
			return &found[i]
		}
	}
	return nil
}

// evidenceCheck tells whether the evidence holds and belongs to a signature here.
func evidenceCheck(report *evidence.Report, signer *Found, from string) Check {
	c := Check{Name: CheckEvidence, Outcome: Passed, Reason: "the chain from card to device to approval to this signature holds"}
	for _, l := range report.Links {
		// A signature cannot hold a bundle that holds the signature: there that link
		// is made by the comparison of signer and document.
		if l.Status == evidence.Passed || l.Name == evidence.LinkSignatures && l.Status == evidence.Indeterminate && from == FromSignature {
			continue
		}
		if l.Status == evidence.Failed {
			return Check{CheckEvidence, Failed, "", l.Name + ": " + l.Reason}
		}
		if c.Outcome == Passed {
			c.Outcome, c.Reason = Unknown, l.Name+": "+l.Reason
		}
	}
	switch {
	case signer == nil:
		return Check{CheckEvidence, Failed, "", "the evidence is about another certificate than the signer's"}
	case signer.Scope.Digest == nil && c.Outcome == Passed:
		c.Outcome, c.Reason = Unknown, "the signed content is not at hand to compare with what was approved"
	}
	return c
}
