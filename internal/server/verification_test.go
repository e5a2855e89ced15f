package server_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/sigverify"
)

// ask posts JSON as a stranger would.
func (w *world) ask(t *testing.T, path string, in any) (int, http.Header, []byte) {
	t.Helper()
	body := must(json.Marshal(in))(t)
	res := must(http.Post(w.origin+"/api/v1/verifications"+path, "application/json", bytes.NewReader(body)))(t)
	defer res.Body.Close()
	return res.StatusCode, res.Header, must(io.ReadAll(res.Body))(t)
}

type verdict struct {
	Outlook string
	Simple  sigverify.Simple
	Report  sigverify.Report
}

// A stranger has a signature of the service judged, without account and without
// sending the document.
func TestAnybodyMayVerify(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	_, sign, contents := evidenceOrders(t, w)
	bundle := w.bundle(t, sign)
	p7s := base64.StdEncoding.EncodeToString(bundle.Signatures[0].CMS)
	digest := sha256.Sum256(contents[0])
	good := base64.StdEncoding.EncodeToString(digest[:])

	status, _, raw := w.ask(t, "/needs", map[string]any{"signature": p7s})
	var needs struct{ Digests []string }
	if err := json.Unmarshal(raw, &needs); err != nil || status != 200 || len(needs.Digests) != 1 || needs.Digests[0] != "SHA-256" {
		t.Fatalf("%d %s", status, raw)
	}
	judge := func(in map[string]any) verdict {
		t.Helper()
		status, _, raw := w.ask(t, "", in)
		var v verdict
		if err := json.Unmarshal(raw, &v); err != nil || status != 200 {
			t.Fatalf("%d %s", status, raw)
		}
		return v
	}
	v := judge(map[string]any{"signature": p7s, "digests": map[string]string{"SHA-256": good}})
	if v.Outlook != "valid" || v.Report.Indication != sigverify.TotalPassed || v.Simple.Sentence == "" {
		t.Fatalf("%s %s: %+v", v.Outlook, v.Report.SubIndication, v.Report.Signatures)
	}
	s := v.Report.Signatures[0]
	if len(s.Proofs) == 0 || s.Proofs[0].Source != sigverify.ProofRecord || s.ProvenTime.IsZero() || len(s.Revocation) == 0 {
		t.Errorf("proofs %+v, revocation %+v", s.Proofs, s.Revocation)
	}
	other := sha256.Sum256([]byte("another"))
	v = judge(map[string]any{"signature": p7s, "digests": map[string]string{"SHA-256": base64.StdEncoding.EncodeToString(other[:])}})
	if v.Outlook != "invalid" || v.Report.SubIndication != sigverify.HashFailure {
		t.Errorf("another document: %s %s", v.Outlook, v.Report.SubIndication)
	}
	if v = judge(map[string]any{"signature": p7s}); v.Report.SubIndication != sigverify.SignedDataNotFound {
		t.Errorf("no digest: %s", v.Report.SubIndication)
	}
	// The evidence beside it.
	raw = must(bundle.Encode())(t)
	v = judge(map[string]any{"signature": p7s, "digests": map[string]string{"SHA-256": good}, "evidence": base64.StdEncoding.EncodeToString(raw)})
	if v.Report.Evidence == nil || v.Report.Evidence.From != sigverify.FromRequest {
		t.Errorf("evidence: %+v", v.Report.Evidence)
	}
	w.signedReport(t, p7s, good)
	for name, in := range map[string]map[string]any{
		"neither":         {},
		"both":            {"signature": p7s, "pdf": map[string]any{"bytes": 1}},
		"wrong length":    {"signature": p7s, "digests": map[string]string{"SHA-256": "AAAA"}},
		"wrong algorithm": {"signature": p7s, "digests": map[string]string{"MD5": "AAAA"}},
	} {
		if status, _, raw := w.ask(t, "", in); status != 400 || !strings.Contains(string(raw), "verify_request") {
			t.Errorf("%s: %d %s", name, status, raw)
		}
	}
	if status, _, raw := w.ask(t, "/needs", map[string]any{"signature": base64.StdEncoding.EncodeToString([]byte("no signature"))}); status != 400 && status != 422 {
		t.Errorf("no signature: %d %s", status, raw)
	}
}

// signedReport: the report comes signed, and is itself a signature that holds.
func (w *world) signedReport(t *testing.T, p7s, digest string) {
	t.Helper()
	status, header, signed := w.ask(t, "?report=signed", map[string]any{"signature": p7s, "digests": map[string]string{"SHA-256": digest}})
	if status != 200 || header.Get("Content-Type") != "application/pkcs7-mime" {
		t.Fatalf("%d %s", status, signed)
	}
	sd := must(cms.ParseBER(signed))(t)
	var inside sigverify.Report
	if err := json.Unmarshal(sd.Content, &inside); err != nil || inside.Indication != sigverify.TotalPassed {
		t.Errorf("inside: %v %s", err, sd.Content)
	}
	store := must(certpath.NewTrustStore(w.judge(t).ServiceAnchors, nil))(t)
	v := must(sigverify.New(sigverify.Config{Signers: &certpath.Validator{Store: store}}))(t)
	r := must(v.Verify(w.ctx, sigverify.Request{Signature: signed, Offline: true}))(t)
	if s := r.Signatures[0]; s.Level != "B" || r.SubIndication != sigverify.TryLater || !strings.Contains(s.Signer.Name, "Verification Reports") {
		t.Errorf("the report's signature: %s %+v", r.SubIndication, s)
	}
	status, _, raw := w.ask(t, "", map[string]any{"signature": base64.StdEncoding.EncodeToString(signed)})
	var again verdict
	if err := json.Unmarshal(raw, &again); err != nil || status != 200 || again.Outlook != "valid" {
		t.Errorf("judged again: %d %s", status, raw)
	}
}

// What one address may ask is limited, before anything of it is read.
func TestVerificationsAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"limits.verifications": "1"})
	question := map[string]any{"signature": "AAAA"}
	var got []int
	for range 4 {
		status, _, _ := w.ask(t, "/needs", question)
		got = append(got, status)
	}
	if got[0] != 400 || got[1] != 400 || got[2] != 429 || got[3] != 429 {
		t.Errorf("%v", got)
	}
	big := map[string]any{"signature": strings.Repeat("A", 17<<20)}
	fresh := newWorld(t, nil)
	if status, _, raw := fresh.ask(t, "/needs", big); status != 413 {
		t.Errorf("17 MB: %d %.200s", status, raw)
	}
}
