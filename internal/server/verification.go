package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/config"
	"sealgate/internal/front/pki"
	"sealgate/internal/issuing"
	"sealgate/internal/postgres"
	"sealgate/internal/sigverify"
	"sealgate/internal/verification"
)

// verifyWait is how long a question waits for its turn.
const verifyWait = 3 * time.Second

// newVerification judges signatures by all roots that this service believes.
func newVerification(ctx context.Context, opts Options, db *postgres.DB, f *foundation, s *services) (*verification.Service, error) {
	cfg := opts.Config
	trust, err := verifyTrust(ctx, cfg, s.ca)
	if err != nil {
		return nil, err
	}
	store, err := certpath.NewTrustStore(trust.anchors, trust.between)
	if err != nil {
		return nil, err
	}
	near := &nearPKI{base: cfg.PublicOrigin + "/pki/", router: chi.NewRouter(), far: certpath.Fetcher{Get: f.egress.Get, Post: f.egress.Post}}
	if err := pki.Mount(near.router, pki.Config{CA: s.ca, Log: opts.Log}); err != nil {
		return nil, err
	}
	checker, err := certpath.NewChecker(certpath.CheckerConfig{Fetch: certpath.Fetcher{Get: near.get, Post: near.post}})
	if err != nil {
		return nil, err
	}
	v, err := sigverify.New(sigverify.Config{Signers: &certpath.Validator{Store: store, Checker: checker},
		Containers: []sigverify.Container{sigverify.PDF(), sigverify.XML()}})
	if err != nil {
		return nil, err
	}
	return verification.New(verification.Config{Verifier: v, Own: db.OwnSignatures, CardAnchors: trust.cards, ServiceAnchors: trust.mobile,
		Slots: cfg.Verify.Parallel, Wait: verifyWait, Time: cfg.Verify.Timeout, Log: opts.Log,
		Signer: func(ctx context.Context) (cms.Signer, error) {
			cert, issuer, key, err := s.ca.ReportSigner(ctx)
			return cms.Signer{Certificate: cert, Key: key, Chain: []*x509.Certificate{issuer}}, err
		}})
}

// trust are the roots that signatures are judged by.
type trust struct{ anchors, between, cards, mobile []*x509.Certificate }

// verifyTrust gathers the roots of cards, of our own authority, of another CA
// that issues for us, and those of verify.anchors_dir.
func verifyTrust(ctx context.Context, cfg config.Config, ca *issuing.CA) (t trust, err error) {
	own, err := ca.Anchors(ctx)
	if err != nil {
		return t, err
	}
	t.mobile, t.between = own[:1], own[1:]
	for _, d := range []struct {
		key, dir string
		to       []*[]*x509.Certificate
	}{
		{"card.anchors_dir", cfg.Card.AnchorsDir, []*[]*x509.Certificate{&t.anchors, &t.cards}},
		{"card.intermediates_dir", cfg.Card.IntermediatesDir, []*[]*x509.Certificate{&t.between}},
		{"issuing.anchors_dir", cfg.Issuing.AnchorsDir, []*[]*x509.Certificate{&t.anchors, &t.mobile}},
		{"issuing.intermediates_dir", cfg.Issuing.IntermediatesDir, []*[]*x509.Certificate{&t.between}},
		{"verify.anchors_dir", cfg.Verify.AnchorsDir, []*[]*x509.Certificate{&t.anchors}},
		{"verify.intermediates_dir", cfg.Verify.IntermediatesDir, []*[]*x509.Certificate{&t.between}},
	} {
		certs, err := readCertificates(d.dir)
		if err != nil {
			return t, fmt.Errorf("%s: %w", d.key, err)
		}
		for _, to := range d.to {
			*to = append(*to, certs...)
		}
	}
	t.anchors = append(t.anchors, own[0])
	return t, nil
}

// nearPKI answers for our own certificates without a network, and asks others
// through the only dialler: a node need not reach its own public address.
type nearPKI struct {
	base   string
	router *chi.Mux
	far    certpath.Fetcher
}

func (n *nearPKI) get(ctx context.Context, url, accept string, most int64) ([]byte, error) {
	if !strings.HasPrefix(url, n.base) {
		return n.far.Get(ctx, url, accept, most)
	}
	return n.answer(ctx, http.MethodGet, url, "", nil)
}

func (n *nearPKI) post(ctx context.Context, url, contentType string, body []byte, accept string, most int64) ([]byte, error) {
	if !strings.HasPrefix(url, n.base) {
		return n.far.Post(ctx, url, contentType, body, accept, most)
	}
	return n.answer(ctx, http.MethodPost, url, contentType, body)
}

func (n *nearPKI) answer(ctx context.Context, method, url, contentType string, body []byte) ([]byte, error) {
	// The question may come out of a request of our own router, whose place in the
	// routes must not be taken for this one's.
	ctx = context.WithValue(ctx, chi.RouteCtxKey, nil)
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	a := nearAnswer{header: http.Header{}, status: http.StatusOK}
	n.router.ServeHTTP(&a, req)
	if a.status != http.StatusOK {
		return nil, errors.New("server: our own certificate service has no answer")
	}
	return a.body.Bytes(), nil
}

// nearAnswer keeps an answer in memory.
type nearAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *nearAnswer) Header() http.Header         { return a.header }
func (a *nearAnswer) WriteHeader(status int)      { a.status = status }
func (a *nearAnswer) Write(p []byte) (int, error) { return a.body.Write(p) }
