package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/config"
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
	near, err := newOwnPKI(opts, s.ca, certpath.Fetcher{Get: f.egress.Get, Post: f.egress.Post})
	if err != nil {
		return nil, err
	}
	checker, err := certpath.NewChecker(certpath.CheckerConfig{Fetch: near.fetcher()})
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
		{"tsa.anchors_dir", cfg.TSA.AnchorsDir, []*[]*x509.Certificate{&t.anchors}},
		{"tsa.intermediates_dir", cfg.TSA.IntermediatesDir, []*[]*x509.Certificate{&t.between}},
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
