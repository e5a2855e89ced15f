package server_test

import (
	"bytes"
	"testing"

	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/sigverify"
)

// A real signature of the service, judged by a stranger with the two roots, and
// the evidence of its approval beside it or inside it.
func TestSignaturesAndTheirEvidence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	_, sign, contents := evidenceOrders(t, w)
	options := w.judge(t)
	bundle := w.bundle(t, sign)
	raw := must(bundle.Encode())(t)
	p7s := []byte(bundle.Signatures[0].CMS)
	store := must(certpath.NewTrustStore(options.ServiceAnchors, nil))(t)
	v := must(sigverify.New(sigverify.Config{Signers: &certpath.Validator{Store: store}}))(t)
	approval := sigverify.Approval{CardAnchors: options.Anchors, ServiceAnchors: options.ServiceAnchors, Revocation: options.Revocation}
	ask := func(p7s, content, side []byte) (*sigverify.Report, sigverify.Check) {
		a := approval
		a.Bundle = side
		r := must(v.Verify(w.ctx, sigverify.Request{Signature: p7s, Content: sigverify.Content{Reader: bytes.NewReader(content)}, Offline: true, Approval: &a}))(t)
		for _, c := range r.Checks {
			if c.Name == sigverify.CheckEvidence {
				return r, c
			}
		}
		t.Fatal("nothing about the evidence")
		return nil, sigverify.Check{}
	}
	r, c := ask(p7s, contents[0], raw)
	if c.Outcome != sigverify.Passed || r.Evidence.Verdict != "passed" || r.Evidence.From != sigverify.FromRequest {
		t.Errorf("beside it: %+v, %+v", c, r.Evidence)
	}
	// Offline, and without an answer in it, nobody can tell whether the certificate
	// was revoked; everything else holds.
	if s := r.Signatures[0]; r.SubIndication != sigverify.TryLater || s.Signer == nil || s.Signer.IDLast4 == "" || len(s.Chain) < 2 {
		t.Errorf("%s: %+v", r.SubIndication, s.Signer)
	}
	if _, c = ask(p7s, contents[1], raw); c.Outcome != sigverify.Failed {
		t.Errorf("a document that was left out: %+v", c)
	}
	if _, c = ask(p7s, contents[0], nil); c.Outcome != sigverify.Skipped {
		t.Errorf("without evidence: %+v", c)
	}
	bundle.Signatures = nil // a signature cannot hold what holds it
	if err := bundle.Seal(); err != nil {
		t.Fatal(err)
	}
	inner := must(bundle.Encode())(t)
	e := must(cms.Edit(p7s))(t)
	e.AddUnsigned(0, must(cms.EvidenceAttribute(cms.Evidence{Bundle: inner}))(t))
	carrying := must(e.Bytes())(t)
	if r, c = ask(carrying, contents[0], nil); c.Outcome != sigverify.Passed || r.Evidence.From != sigverify.FromSignature {
		t.Errorf("inside it: %+v", c)
	}
	if _, c = ask(p7s, contents[0], inner); c.Outcome == sigverify.Passed {
		t.Errorf("evidence that holds no signature, beside one: %+v", c)
	}
	other := w.bundle(t, sign)
	other.Approval.Signature[0] ^= 1
	if err := other.Seal(); err != nil {
		t.Fatal(err)
	}
	if _, c = ask(p7s, contents[0], must(other.Encode())(t)); c.Outcome != sigverify.Failed {
		t.Errorf("another approval: %+v", c)
	}
}
