package server_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/cades"
	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/evidence"
	"sealgate/internal/pkitest"
	"sealgate/internal/signing"
)

// earlierSignature is somebody else's, over content.
func earlierSignature(t testing.TB, content []byte) []byte {
	t.Helper()
	start := time.Now().Add(-time.Hour)
	who := must(pkitest.NewRoot(x509.Certificate{Subject: pkix.Name{CommonName: "(測試用) 測試一號"}, NotBefore: start, NotAfter: start.AddDate(1, 0, 0)}))(t)
	sum := sha256.Sum256(content)
	return must(cms.SignDigest(rand.Reader, sum[:], cms.Signer{Certificate: who.Certificate, Key: who.Key}, cms.Options{SigningTime: time.Now().Add(-time.Minute)}))(t)
}

// A new signature joins an earlier one at every level: nothing of the earlier one
// is altered, both verify, and the phone names who signed before.
func TestJoiningAnEarlierSignature(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)
	content := []byte("signed before")
	earlier := earlierSignature(t, content)
	before := must(cms.Parse(earlier))(t).Signers[0]
	for _, level := range []string{"B-B", "B-T", "B-LTA"} {
		doc := document("a", content)
		doc["earlier"] = base64.StdEncoding.EncodeToString(earlier)
		var shown struct {
			Documents []struct {
				Earlier        string   `json:"earlier"`
				EarlierSigners []string `json:"earlier_signers"`
			} `json:"documents"`
		}
		id := w.approveOrder(t, phone, map[string]any{"level": level, "evidence": "embedded", "documents": []any{document("other", []byte("x")), doc}})
		if o := w.api().completed(t, id); o.State != "completed" {
			t.Fatalf("%+v\n%s", o, tail(w.log.String()))
		}
		if err := w.api().call(http.MethodGet, "/api/v1/sign-orders/"+id, nil, &shown); err != nil {
			t.Fatal(err)
		}
		if d := shown.Documents[1]; d.Earlier != digestOf(earlier) || len(d.EarlierSigners) != 1 || d.EarlierSigners[0] != "(測試用) 測試一號" {
			t.Errorf("%+v", d)
		}
		der := w.signature(t, w.api(), id, 1)
		sd := must(cms.Parse(der))(t)
		sum := sha256.Sum256(content)
		results := must(sd.Verify(cms.VerifyInput{RequireSigningCertificate: true, Digest: func(crypto.Hash) []byte { return sum[:] }}))(t)
		if err := cms.Good(results); err != nil || len(sd.Signers) != 2 {
			t.Fatalf("%d signers, %v", len(sd.Signers), err)
		}
		for i, si := range sd.Signers {
			if bytes.Equal(si.RawFields(), before.RawFields()) {
				if !bytes.Contains(der, before.RawFields()) || len(si.RawUnsigned()) != 0 {
					t.Error("the earlier signature was altered")
				}
				continue
			}
			if got := cades.SignerLevel(sd, i).String(); got != level {
				t.Errorf("our part is %s instead of %s", got, level)
			}
		}
		w.evidenceHolds(t, must(evidence.FromSignature(der))(t), content)
		var side rawJSON
		if err := w.api().call(http.MethodGet, "/api/v1/sign-orders/"+id+"/documents/1/evidence", nil, &side); err != nil {
			t.Fatal(err)
		}
		w.evidenceHolds(t, side, content)
	}
}

// evidenceHolds verifies a bundle, and that it holds for no other document.
func (w *world) evidenceHolds(t testing.TB, bundle, content []byte) {
	t.Helper()
	sum, other := sha256.Sum256(content), sha256.Sum256([]byte("other"))
	for digest, want := range map[[32]byte]evidence.Status{sum: evidence.Passed, other: evidence.Failed} {
		r := must(evidence.Verify(w.ctx, bundle, evidence.Options{Anchors: cardRoots(t), ServiceAnchors: w.serviceRoots(t),
			Documents: []evidence.Document{{Name: "a", Digests: map[string][]byte{"SHA-256": digest[:]}}}}))(t)
		if r.Verdict != want {
			t.Errorf("%s: %+v", r.Verdict, r.Links)
		}
	}
}

func cardRoots(t testing.TB) []*x509.Certificate {
	t.Helper()
	files := must(filepath.Glob(filepath.Join(cardsDir, "anchors", "*")))(t)
	var all []*x509.Certificate
	for _, f := range files {
		all = append(all, must(certpath.ParseCertificates(must(os.ReadFile(f))(t)))(t)...)
	}
	return all
}

func (w *world) serviceRoots(t testing.TB) []*x509.Certificate {
	t.Helper()
	var roots []*x509.Certificate
	for _, c := range pemCertificates(t, must(os.ReadFile(w.anchors(t)))(t)) {
		if bytes.Equal(c.RawIssuer, c.RawSubject) {
			roots = append(roots, c)
		}
	}
	return roots
}

// What is no signature over the document is refused when the order is made; one
// that was changed in the database is its document's failure alone.
func TestEarlierSignaturesThatCannotBeJoined(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	content := []byte("signed before")
	good := earlierSignature(t, content)
	changed := bytes.Clone(good)
	changed[len(changed)-5] ^= 1
	for name, der := range map[string][]byte{"control": good, "changed": changed, "another document": earlierSignature(t, []byte("other")),
		"not a signature": []byte("hello"), "too large": make([]byte, signing.MaxEarlier+1)} {
		doc := document("a", content)
		doc["earlier"] = base64.StdEncoding.EncodeToString(der)
		_, err := w.api().create(map[string]any{"documents": []any{doc}})
		var problem *softphone.Problem
		if good := err == nil; good != (name == "control") || !good && (!errors.As(err, &problem) || problem.Code != "signing_earlier") {
			t.Errorf("%s: %v", name, err)
		}
	}
	doc := document("a", content)
	doc["earlier"] = base64.StdEncoding.EncodeToString(good)
	o := must(w.api().create(map[string]any{"documents": []any{document("b", []byte("b")), doc}}))(t)
	if _, err := w.pool.Exec(w.ctx, `UPDATE order_inputs SET earlier = $1`, earlierSignature(t, content)); err != nil {
		t.Fatal(err)
	}
	desk, phone := w.browser(), w.enrol(0)
	id := must(desk.Open(w.ctx, o.StartURL))(t)
	if _, err := phone.Approve(w.ctx, w.scan(t, desk, phone, id)); err != nil {
		t.Fatal(err)
	}
	var done struct {
		Documents []struct{ State, Failure string } `json:"documents"`
	}
	w.api().completed(t, id)
	if err := w.api().call(http.MethodGet, "/api/v1/sign-orders/"+id, nil, &done); err != nil {
		t.Fatal(err)
	}
	if done.Documents[0].State != "signed" || done.Documents[1].State != "failed" || done.Documents[1].Failure != "signing_earlier" {
		t.Errorf("%+v", done)
	}
}

// The service puts a document into its signature as it passes through; another
// document is refused, or where it is too large for that the answer is cut.
func TestAttached(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	large := bytes.Repeat([]byte("0123456789abcdef"), 4<<20/16*5) // 20 MiB
	content := [][]byte{[]byte("small"), large}
	id := w.approveOrder(t, w.enrol(0), map[string]any{"level": "B-LT", "documents": []any{document("a", content[0]), document("b", content[1])}})
	api := w.api()
	api.completed(t, id)
	send := func(n int, body []byte) ([]byte, error) {
		req := must(http.NewRequestWithContext(w.ctx, http.MethodPost, w.origin+"/api/v1/sign-orders/"+id+"/documents/"+strconv.Itoa(n)+"/attached", bytes.NewReader(body)))(t)
		req.Header.Set("Content-Type", "application/octet-stream")
		var out []byte
		err := answer(api.client, req, &out)
		return out, err
	}
	for n, text := range content {
		der := must(send(n, text))(t)
		sd := must(cms.Parse(der))(t)
		results, err := sd.Verify(cms.VerifyInput{RequireSigningCertificate: true})
		if err != nil || cms.Good(results) != nil || !bytes.Equal(sd.Content, text) || cades.LevelOf(sd) != cades.LevelLT {
			t.Errorf("document %d: %v %v", n, err, cades.LevelOf(sd))
		}
		file := filepath.Join(t.TempDir(), "a.p7m")
		if err := os.WriteFile(file, der, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", file, "-CAfile", w.anchors(t), "-out", os.DevNull).CombinedOutput(); err != nil {
			t.Errorf("openssl: %s", out)
		}
		changed := bytes.Clone(text)
		changed[len(changed)-1] ^= 1
		der, err = send(n, changed)
		var problem *softphone.Problem
		if small := n == 0; err == nil || small != (errors.As(err, &problem) && problem.Code == "api_other_document") {
			t.Errorf("document %d, one byte changed: %v", n, err)
		}
		if _, err := cms.Parse(der); err == nil {
			t.Errorf("document %d, one byte changed: a signature came", n)
		}
	}
}

// Bare values are for clients with the scope for them.
func TestBareFormsNeedTheirScope(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	doc := document("a", []byte("a"))
	doc["form"] = "raw"
	if _, err := w.api().create(map[string]any{"documents": []any{doc}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.pool.Exec(w.ctx, `UPDATE clients SET scopes = array_remove(scopes, 'sign:raw')`); err != nil {
		t.Fatal(err)
	}
	var problem *softphone.Problem
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) { // until the node forgets what it knew of the client
		_, err := w.api().create(map[string]any{"documents": []any{doc}})
		if errors.As(err, &problem) && problem.Code == "api_bare_form" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%v", err)
		}
	}
	if _, err := w.api().create(map[string]any{"documents": []any{document("a", []byte("a"))}}); err != nil {
		t.Error(err)
	}
}
