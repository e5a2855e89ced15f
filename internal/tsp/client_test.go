package tsp_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/pkitest"
	"sealgate/internal/tsp"
)

// site is a client with authorities that tests break one by one.
type site struct {
	mu     sync.Mutex
	now    time.Time
	answer map[string]tsp.Poster
	asked  []string
	client *tsp.Client
}

func (s *site) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *site) forward(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// trust is a validator for the shared test authority's CA; status comes from a list.
func trust(t testing.TB, clock func() time.Time, revoked ...x509.RevocationListEntry) *certpath.Validator {
	t.Helper()
	a := shared()
	return trusting(t, clock, a.ca, a.caKey, revoked...)
}

func trusting(t testing.TB, clock func() time.Time, ca *x509.Certificate, key crypto.Signer, revoked ...x509.RevocationListEntry) *certpath.Validator {
	t.Helper()
	fetch := certpath.Fetcher{
		Get: func(context.Context, string, string, int64) ([]byte, error) {
			l := pkitest.List{Number: big.NewInt(1), ThisUpdate: clock().Add(-time.Minute), NextUpdate: clock().Add(time.Hour), Entries: revoked}
			return l.Sign(ca, key)
		},
		Post: func(context.Context, string, string, []byte, string, int64) ([]byte, error) {
			return nil, errors.New("no OCSP here")
		},
	}
	return &certpath.Validator{Store: must(certpath.NewTrustStore([]*x509.Certificate{ca}, nil)),
		Checker: must(certpath.NewChecker(certpath.CheckerConfig{Fetch: fetch, Now: clock}))}
}

// pki is a CA that may sign lists, and an authority below it that names its list.
type pki struct{ ca, tsa *pkitest.Authority }

var pkis = sync.OnceValue(func() pki {
	ca := must(pkitest.NewRoot(x509.Certificate{Subject: pkix.Name{CommonName: "(測試用) CA"}}))
	return pki{ca, must(ca.Issue(template()))}
})

// template is a time-stamp authority's certificate.
func template() x509.Certificate {
	purposes := must(asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}}))
	return x509.Certificate{Subject: pkix.Name{CommonName: "(測試用) TSA"}, KeyUsage: x509.KeyUsageDigitalSignature, CRLDistributionPoints: []string{"http://pki.test/crl"},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: purposes}}}
}

func newSite(t testing.TB, validator func(clock func() time.Time) *certpath.Validator, names ...string) *site {
	t.Helper()
	s := &site{now: time.Now(), answer: map[string]tsp.Poster{}}
	cfg := tsp.ClientConfig{Now: s.clock, Validator: validator(s.clock), Backoff: 10 * time.Second, MaxBackoff: time.Minute,
		Post: func(ctx context.Context, url, ct string, body []byte, accept string, max int64) ([]byte, error) {
			s.mu.Lock()
			s.asked = append(s.asked, url)
			answer := s.answer[url]
			s.mu.Unlock()
			return answer(ctx, url, ct, body, accept, max)
		}}
	r := must(tsp.NewResponder(tsp.ResponderConfig{Certificate: pkis().tsa.Certificate, Key: pkis().tsa.Key, Policy: policy, Now: s.clock}))
	for _, n := range names {
		cfg.Authorities = append(cfg.Authorities, tsp.Authority{Name: n, URL: n, Policy: policy, Timeout: 300 * time.Millisecond})
		s.answer[n] = poster(t, r, nil)
	}
	s.client = must(tsp.NewClient(cfg))
	return s
}

func listed(t testing.TB, revoked ...x509.RevocationListEntry) func(func() time.Time) *certpath.Validator {
	return func(clock func() time.Time) *certpath.Validator {
		return trusting(t, clock, pkis().ca.Certificate, pkis().ca.Key, revoked...)
	}
}

var down = tsp.Poster(func(context.Context, string, string, []byte, string, int64) ([]byte, error) {
	return nil, errors.New("connection refused")
})

func TestClientGoesDownTheList(t *testing.T) {
	s := newSite(t, listed(t), "one", "two", "three")
	imprint := tsp.ImprintOf([]byte("x"))
	stamped, err := s.client.Stamp(t.Context(), imprint)
	if err != nil || stamped.Authority != "one" || len(stamped.Failed) != 0 {
		t.Fatalf("%+v %v", stamped, err)
	}
	if len(stamped.Result.Path) != 2 || len(stamped.Result.Revocation) != 1 || stamped.Result.Revocation[0].Source != certpath.SourceCRL {
		t.Errorf("evidence: %+v", stamped.Result)
	}
	s.answer["one"] = down
	s.answer["two"] = func(ctx context.Context, _, _ string, _ []byte, _ string, _ int64) ([]byte, error) {
		<-ctx.Done() // never answers
		return nil, ctx.Err()
	}
	start := time.Now()
	stamped, err = s.client.Stamp(t.Context(), imprint)
	if err != nil || stamped.Authority != "three" || len(stamped.Failed) != 2 || time.Since(start) > 5*time.Second {
		t.Fatalf("%+v %v", stamped, err)
	}
	// The two that failed are left alone, then tried again.
	s.asked = nil
	if stamped, err = s.client.Stamp(t.Context(), imprint); err != nil || fmt.Sprint(s.asked) != "[three]" {
		t.Errorf("asked %v, %v", s.asked, err)
	}
	s.forward(11 * time.Second)
	s.asked = nil
	s.client.Stamp(t.Context(), imprint)
	if fmt.Sprint(s.asked) != "[one two three]" {
		t.Errorf("asked %v", s.asked)
	}
	s.forward(11 * time.Second) // the rest has doubled
	s.asked = nil
	s.client.Stamp(t.Context(), imprint)
	if fmt.Sprint(s.asked) != "[three]" {
		t.Errorf("asked %v", s.asked)
	}
	states := s.client.States()
	if states[0].Failures != 2 || states[0].Last == nil || states[2].Failures != 0 {
		t.Errorf("%+v", states)
	}
	// All are down: said which, and why, and when to come again.
	s.forward(time.Hour)
	s.answer["three"] = down
	_, err = s.client.Stamp(t.Context(), imprint)
	wantCode(t, "all down", err, "tsp_unavailable")
	for _, part := range []string{"one: connection refused", "two: context deadline exceeded", "three: connection refused"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %v", part, err)
		}
	}
	var f tsp.Failure
	if !errors.As(err, &f) {
		t.Error("no Failure")
	}
	s.asked = nil
	_, err = s.client.Stamp(t.Context(), imprint)
	wantCode(t, "all resting", err, "tsp_unavailable")
	if len(s.asked) != 0 {
		t.Errorf("asked %v", s.asked)
	}
	// The caller gives up: nobody's failure.
	s = newSite(t, listed(t), "one")
	ctx, cancel := context.WithCancel(t.Context())
	s.answer["one"] = func(ctx context.Context, _, _ string, _ []byte, _ string, _ int64) ([]byte, error) {
		cancel()
		return nil, ctx.Err()
	}
	if _, err := s.client.Stamp(ctx, imprint); !errors.Is(err, context.Canceled) || s.client.States()[0].Failures != 0 {
		t.Errorf("%v %+v", err, s.client.States())
	}
}

func TestClientBelievesNobodyElse(t *testing.T) {
	imprint := tsp.ImprintOf([]byte("x"))
	good := func(clock func() time.Time) *tsp.Responder {
		return must(tsp.NewResponder(tsp.ResponderConfig{Certificate: pkis().tsa.Certificate, Key: pkis().tsa.Key, Policy: policy, Now: clock}))
	}
	serial := pkis().tsa.Certificate.SerialNumber
	for name, tc := range map[string]struct {
		validator func(func() time.Time) *certpath.Validator
		answer    func(*site) tsp.Poster
		want      string
	}{
		"good":         {listed(t), func(s *site) tsp.Poster { return poster(t, good(s.clock), nil) }, ""},
		"revoked":      {listed(t, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: time.Now().Add(-time.Hour), ReasonCode: 1}), func(s *site) tsp.Poster { return poster(t, good(s.clock), nil) }, "cert_revoked"},
		"another CA's": {func(clock func() time.Time) *certpath.Validator { return trust(t, clock) }, func(s *site) tsp.Poster { return poster(t, good(s.clock), nil) }, "cert_untrusted"},
		"clock": {listed(t), func(s *site) tsp.Poster {
			return poster(t, good(func() time.Time { return s.clock().Add(-time.Minute * 6) }), nil)
		}, "tsp_invalid"},
		"policy": {listed(t), func(s *site) tsp.Poster {
			r := must(tsp.NewResponder(tsp.ResponderConfig{Certificate: pkis().tsa.Certificate, Key: pkis().tsa.Key, Policy: asn1.ObjectIdentifier{2, 999, 7}, Now: s.clock}))
			return poster(t, r, func(b []byte) []byte { q := must(tsp.ParseRequest(b)); q.Policy = nil; return must(q.Marshal()) })
		}, "tsp_mismatch"},
		"imprint": {listed(t), func(s *site) tsp.Poster {
			return poster(t, good(s.clock), func(b []byte) []byte {
				q := must(tsp.ParseRequest(b))
				q.Imprint = tsp.ImprintOf(nil)
				return must(q.Marshal())
			})
		}, "tsp_mismatch"},
		"nonce": {listed(t), func(s *site) tsp.Poster {
			return poster(t, good(s.clock), func(b []byte) []byte { q := must(tsp.ParseRequest(b)); q.Nonce = nil; return must(q.Marshal()) })
		}, "tsp_mismatch"},
		"refusal": {listed(t), func(s *site) tsp.Poster {
			return poster(t, good(s.clock), func(b []byte) []byte { return []byte("?") })
		}, "tsp_refused"},
		"nonsense": {listed(t), func(*site) tsp.Poster {
			return func(context.Context, string, string, []byte, string, int64) ([]byte, error) {
				return make([]byte, 300<<10), nil
			}
		}, "tsp_malformed"},
	} {
		s := newSite(t, tc.validator, "one")
		s.answer["one"] = tc.answer(s)
		_, err := s.client.Stamp(t.Context(), imprint)
		if tc.want == "" {
			wantCode(t, name, err, "")
			continue
		}
		var f tsp.Failure
		wantCode(t, name, err, "tsp_unavailable")
		if errors.As(err, &f); f.Err == nil {
			t.Errorf("%s: no reason", name)
			continue
		}
		wantCode(t, name, f.Err, tc.want)
	}
}

// After a rest one question goes out, however many are waiting.
func TestOneProbeAfterARest(t *testing.T) {
	s := newSite(t, listed(t), "one")
	s.answer["one"] = down
	s.client.Stamp(t.Context(), tsp.ImprintOf(nil))
	s.forward(time.Hour)
	s.asked = nil
	release := make(chan struct{})
	s.answer["one"] = func(ctx context.Context, _, _ string, _ []byte, _ string, _ int64) ([]byte, error) {
		<-release
		return nil, errors.New("still down")
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { s.client.Stamp(context.Background(), tsp.ImprintOf(nil)) })
	}
	time.Sleep(50 * time.Millisecond)
	close(release)
	wg.Wait()
	if len(s.asked) != 1 {
		t.Errorf("%d questions", len(s.asked))
	}
}

// OpenSSL as authority: our client takes its answer, over HTTP's bytes.
func TestClientTakesOpenSSLsAnswer(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("openssl is not installed: this counterpart was not asked")
	}
	dir := t.TempDir()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	cert := must(pkis().ca.Certify(template(), key.Public()))
	files := map[string][]byte{
		"tsa.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}),
		"key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))}),
		"serial":  []byte("01\n"),
		"ts.conf": []byte("[tsa]\ndefault_tsa=t\n[t]\nserial=" + dir + "/serial\nsigner_cert=" + dir + "/tsa.pem\nsigner_key=" + dir + "/key.pem\nsigner_digest=sha256\ndefault_policy=2.16.886.101.99.1\ndigests=sha256,sha384,sha512\naccuracy=secs:1,millisecs:500\nordering=yes\ness_cert_id_chain=no\ness_cert_id_alg=sha256\n"),
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newSite(t, listed(t), "openssl")
	s.answer["openssl"] = func(_ context.Context, _, _ string, body []byte, _ string, _ int64) ([]byte, error) {
		q, r := filepath.Join(dir, "q"), filepath.Join(dir, "r")
		if err := os.WriteFile(q, body, 0o600); err != nil {
			return nil, err
		}
		if out, err := exec.Command("openssl", "ts", "-reply", "-config", filepath.Join(dir, "ts.conf"), "-section", "t", "-queryfile", q, "-out", r).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s", out)
		}
		return os.ReadFile(r)
	}
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		s.client = must(tsp.NewClient(tsp.ClientConfig{Authorities: []tsp.Authority{{Name: "openssl", URL: "openssl", Policy: policy}}, Validator: listed(t)(s.clock), Now: s.clock,
			Post: func(ctx context.Context, url, ct string, body []byte, a string, m int64) ([]byte, error) {
				return s.answer["openssl"](ctx, url, ct, body, a, m)
			}}))
		stamped, err := s.client.Stamp(t.Context(), tsp.NewImprint(hash, []byte("x")))
		if err != nil {
			t.Fatal(err)
		}
		if i := stamped.Token.Info; i.Accuracy != 1500*time.Millisecond || !i.Ordering || !i.Policy.Equal(policy) {
			t.Errorf("%+v", i)
		}
	}
}
