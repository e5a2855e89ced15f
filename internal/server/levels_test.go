package server_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/cades"
	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/pkitest"
	"sealgate/internal/sigverify"
	"sealgate/internal/tsp"
)

// stampLab is a time-stamp authority that tests can switch off or make wrong.
type stampLab struct {
	*httptest.Server
	root, tsa *pkitest.Authority
	mode      atomic.Value // of string
	asked     atomic.Int64
}

func newStampLab(t testing.TB) *stampLab {
	t.Helper()
	start := time.Now().Add(-time.Hour)
	l := &stampLab{}
	l.mode.Store("good")
	l.Server = httptest.NewServer(http.HandlerFunc(l.serve))
	t.Cleanup(l.Close)
	l.root = must(pkitest.NewRoot(x509.Certificate{Subject: pkix.Name{CommonName: "(測試用) TSA root"}, NotBefore: start, NotAfter: start.AddDate(20, 0, 0)}))(t)
	purposes := must(asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}}))(t)
	l.tsa = must(l.root.Issue(x509.Certificate{Subject: pkix.Name{CommonName: "(測試用) TSA"}, NotBefore: start, NotAfter: start.AddDate(5, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, CRLDistributionPoints: []string{l.URL + "/root.crl"},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: purposes}}}))(t)
	return l
}

func (l *stampLab) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, ".crl") {
		now := time.Now()
		der, err := pkitest.List{Number: big.NewInt(now.UnixNano()), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(24 * time.Hour)}.Sign(l.root.Certificate, l.root.Key)
		if err != nil {
			panic(err)
		}
		w.Header().Set("Content-Type", "application/pkix-crl")
		_, _ = w.Write(der)
		return
	}
	l.asked.Add(1)
	body, _ := io.ReadAll(r.Body)
	req, err := tsp.ParseRequest(body)
	if err != nil {
		panic(err)
	}
	switch l.mode.Load() {
	case "down":
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	case "hang":
		select {
		case <-r.Context().Done():
		case <-time.After(20 * time.Second):
		}
		return
	case "imprint":
		req.Imprint = tsp.ImprintOf([]byte("something else"))
	case "nonce":
		req.Nonce = new(big.Int).Add(req.Nonce, big.NewInt(1))
	}
	body, _ = req.Marshal()
	responder, err := tsp.NewResponder(tsp.ResponderConfig{Certificate: l.tsa.Certificate, Key: l.tsa.Key, Policy: asn1.ObjectIdentifier{2, 999, 7}})
	if err != nil {
		panic(err)
	}
	answer, err := responder.Respond(body)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", tsp.MediaTypeReply)
	_, _ = w.Write(answer)
}

// stampSettings name authorities, the labs' roots, and what may be called.
func stampSettings(t testing.TB, authorities string, labs ...*stampLab) map[string]string {
	t.Helper()
	testCards(t)
	dir := t.TempDir()
	allow := []string{strings.TrimPrefix(testCards(t).RepositoryURL(), "http://")}
	for i, l := range labs {
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.root.Certificate.Raw})
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.pem", i)), text, 0o600); err != nil {
			t.Fatal(err)
		}
		allow = append(allow, strings.TrimPrefix(l.URL, "http://"))
	}
	return map[string]string{"tsa.authorities": authorities, "tsa.anchors_dir": dir, "tsa.backoff": "100ms", "egress.allow": strings.Join(allow, ",")}
}

// approveOrder lets a phone approve a new sign order.
func (w *world) approveOrder(t testing.TB, phone *softphone.Phone, body map[string]any, node ...string) string {
	t.Helper()
	o, err := w.api().create(body)
	if err != nil {
		t.Fatal(err)
	}
	desk := w.browser(node...)
	id := must(desk.Open(w.ctx, o.StartURL))(t)
	if _, err := phone.Approve(w.ctx, w.scan(t, desk, phone, id)); err != nil {
		t.Fatal(err)
	}
	return id
}

// opensslCAdES lets openssl check a signature as CAdES, and refuse another document.
func (w *world) opensslCAdES(t testing.TB, der, content []byte) {
	t.Helper()
	dir, roots := t.TempDir(), w.anchors(t)
	check := func(content []byte) error {
		signature, doc := filepath.Join(dir, "a.p7s"), filepath.Join(dir, "a")
		for name, data := range map[string][]byte{signature: der, doc: content} {
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command("openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", signature,
			"-content", doc, "-CAfile", roots, "-out", os.DevNull).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := check(content); err != nil {
		t.Error(err)
	}
	if check(append([]byte("x"), content...)) == nil {
		t.Error("openssl takes a changed document")
	}
}

// judgeOffline verifies a signature by nothing but what is in it and the roots.
func (w *world) judgeOffline(t testing.TB, der, content []byte, labs ...*stampLab) *sigverify.Report {
	t.Helper()
	anchors := w.serviceRoots(t)
	for _, l := range labs {
		anchors = append(anchors, l.root.Certificate)
	}
	store := must(certpath.NewTrustStore(anchors, nil))(t)
	cut := func(context.Context, string, string, int64) ([]byte, error) { return nil, errors.New("offline") }
	checker := must(certpath.NewChecker(certpath.CheckerConfig{Fetch: certpath.Fetcher{Get: cut, Post: func(context.Context, string, string, []byte, string, int64) ([]byte, error) {
		return nil, errors.New("offline")
	}}}))(t)
	v := must(sigverify.New(sigverify.Config{Signers: &certpath.Validator{Store: store, Checker: checker}}))(t)
	sum := sha256.Sum256(content)
	return must(v.Verify(w.ctx, sigverify.Request{Signature: der, Offline: true, Content: sigverify.Content{Digests: map[crypto.Hash][]byte{crypto.SHA256: sum[:]}}}))(t)
}

func pemCertificates(t testing.TB, text []byte) []*x509.Certificate {
	t.Helper()
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return all
		}
		all = append(all, must(x509.ParseCertificate(block.Bytes))(t))
	}
}

func levelOf(t testing.TB, der []byte) cades.Level {
	t.Helper()
	return cades.LevelOf(must(cms.Parse(der))(t))
}

// Every level, by the service's own authority: openssl accepts it, and so does
// the verifier, who from B-LT on needs nobody to ask.
func TestLevels(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)
	content := [][]byte{[]byte("一"), []byte("two"), []byte("three")}
	for _, level := range []string{"B-B", "B-T", "B-LT", "B-LTA"} {
		t.Run(level, func(t *testing.T) {
			id := w.approveOrder(t, phone, map[string]any{"level": level, "documents": []any{document("a", content[0]), document("b", content[1]), document("c", content[2])}})
			if o := w.api().completed(t, id); o.State != "completed" {
				t.Fatalf("%+v\n%s", o, tail(w.log.String()))
			}
			for n, text := range content {
				der := w.signature(t, w.api(), id, n)
				if got := levelOf(t, der).String(); got != level {
					t.Errorf("document %d is %s", n, got)
				}
				w.opensslCAdES(t, der, text)
				report := w.judgeOffline(t, der, text)
				passed := report.Indication == sigverify.TotalPassed
				if passed != strings.HasPrefix(level, "B-L") { // below it, somebody must be asked whether the signer was revoked
					t.Errorf("document %d: %s %s", n, report.Indication, report.SubIndication)
				}
				if bad := w.judgeOffline(t, der, append([]byte("x"), text...)); bad.Indication != sigverify.TotalFailed {
					t.Errorf("another document: %s", bad.Indication)
				}
			}
		})
	}
}

// While the time-stamp authority is down the order stays approved and says what
// it waits for; nothing of it is given out; then it is finished by itself, also
// when the node that took the approval is gone.
func TestTimestampAuthorityDown(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed %v", killed), func(t *testing.T) {
			t.Parallel()
			lab := newStampLab(t)
			w := newWorld(t, stampSettings(t, lab.URL+"/tsr name=lab", lab))
			var victim *process
			var at []string
			if killed {
				victim = w.process()
				at = []string{victim.address}
			}
			phone := w.enrol(0, at...)
			lab.mode.Store("down")
			if killed {
				lab.mode.Store("hang")
			}
			content := []byte("waits for its time-stamp")
			id := w.approveOrder(t, phone, map[string]any{"level": "B-T", "documents": []any{document("a", content), document("b", content)}}, at...)
			if killed {
				for lab.asked.Load() == 0 {
					time.Sleep(20 * time.Millisecond)
				}
				victim.kill()
				lab.mode.Store("down")
			}
			var o struct {
				State      string `json:"state"`
				WaitReason string `json:"wait_reason"`
			}
			for end := time.Now().Add(60 * time.Second); o.WaitReason == ""; time.Sleep(50 * time.Millisecond) {
				if err := w.api().call(http.MethodGet, "/api/v1/sign-orders/"+id, nil, &o); err != nil {
					t.Fatal(err)
				}
				if time.Now().After(end) {
					t.Fatalf("%+v\n%s", o, tail(w.log.String()))
				}
			}
			if o.State != "approved" || o.WaitReason != "tsa_unavailable" {
				t.Fatalf("%+v", o)
			}
			var der []byte
			var problem *softphone.Problem
			if err := w.api().call(http.MethodGet, "/api/v1/sign-orders/"+id+"/documents/0/signature", nil, &der); !errors.As(err, &problem) || problem.Code != "api_not_signed" {
				t.Fatalf("a signature before its time-stamp: %v %d bytes", err, len(der))
			}
			var kept, waits int
			if err := w.pool.QueryRow(w.ctx, `SELECT (SELECT count(*) FROM signatures), (SELECT count(*) FROM audit_entries WHERE act = 'order.waiting')`).Scan(&kept, &waits); err != nil || kept != 0 || waits != 1 {
				t.Fatalf("%d signatures kept, %d entries, %v", kept, waits, err)
			}
			lab.mode.Store("good")
			if o := w.api().completed(t, id); o.State != "completed" {
				t.Fatalf("%+v", o)
			}
			der = w.signature(t, w.api(), id, 1)
			if levelOf(t, der) != cades.LevelT {
				t.Error("no time-stamp")
			}
			w.opensslCAdES(t, der, content)
		})
	}
}

// The first authority hangs, the second gives what is not over our signature,
// the third somebody else's nonce: the fourth is taken.
func TestSeveralAuthoritiesInOrder(t *testing.T) {
	t.Parallel()
	hangs, imprint, nonce, good := newStampLab(t), newStampLab(t), newStampLab(t), newStampLab(t)
	hangs.mode.Store("hang")
	imprint.mode.Store("imprint")
	nonce.mode.Store("nonce")
	w := newWorld(t, stampSettings(t, fmt.Sprintf("%s/tsr name=hangs timeout=300ms,%s/tsr name=imprint,%s/tsr name=nonce,%s/tsr name=good policy=2.999.7,own",
		hangs.URL, imprint.URL, nonce.URL, good.URL), hangs, imprint, nonce, good))
	content := []byte("in order")
	id := w.approveOrder(t, w.enrol(0), map[string]any{"level": "B-LT", "documents": []any{document("a", content)}})
	if o := w.api().completed(t, id); o.State != "completed" {
		t.Fatalf("%+v", o)
	}
	for _, l := range []*stampLab{hangs, imprint, nonce, good} {
		if l.asked.Load() != 1 {
			t.Errorf("%s was asked %d times", l.mode.Load(), l.asked.Load())
		}
	}
	der := w.signature(t, w.api(), id, 0)
	stamps := must(cades.Timestamps(must(cms.Parse(der))(t), 0))(t)
	if len(stamps) != 1 || !bytes.Contains(stamps[0].Raw, good.tsa.Certificate.RawSubject) {
		t.Fatal("the time-stamp is not the good authority's")
	}
	if report := w.judgeOffline(t, der, content, good); report.Indication != sigverify.TotalPassed {
		t.Errorf("%s %s", report.Indication, report.SubIndication)
	}
}

// Levels that cannot be made are refused when the order is made, not after the
// approval.
func TestLevelsThatCannotBeMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"signing.level": "B-LT"})
	pdf := document("a.pdf", []byte("%PDF"))
	pdf["form"] = "pades"
	for level, code := range map[string]string{"B-T": "", "": "", "B-LT": "signing_level", "B-X": "signature_level_invalid"} {
		o, err := w.api().create(map[string]any{"level": level, "documents": []any{pdf}})
		var problem *softphone.Problem
		if code == "" && err != nil || code != "" && (!errors.As(err, &problem) || problem.Code != code) {
			t.Errorf("%q: %+v %v", level, o, err)
		}
	}
	id := w.approveOrder(t, w.enrol(0), map[string]any{"documents": []any{pdf}})
	w.api().completed(t, id)
	sd := must(cms.Parse(w.signature(t, w.api(), id, 0)))(t)
	if unsigned := sd.Signers[0].Unsigned(); len(unsigned) != 1 || !unsigned[0].Type.Equal(cms.OIDTimeStampToken) || !sd.Signers[0].SigningTime().IsZero() {
		t.Error("a PDF's signature without a time-stamp, or with a time of its own")
	}
}
