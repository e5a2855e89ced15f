package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"sealgate/internal/cades"
	"sealgate/internal/certpath"
	"sealgate/internal/config"
	"sealgate/internal/front/pki"
	"sealgate/internal/issuing"
	"sealgate/internal/tsp"
)

// stamping is where signatures above B-B get what goes into them: time-stamps of
// the configured authorities, and answers about certificates. Zero without an
// authority.
type stamping struct {
	client  *tsp.Client
	collect func(ctx context.Context, p cades.Purpose, cert *x509.Certificate, extra []*x509.Certificate, at time.Time) (*certpath.Result, error)
}

// newStamping joins the configured authorities with the service's own PKI.
func newStamping(opts Options, ca *issuing.CA, f *foundation) (*stamping, error) {
	cfg := opts.Config
	list, err := cfg.TSA.List()
	if err != nil || len(list) == 0 {
		return &stamping{}, err
	}
	own, err := newOwnPKI(opts, ca, certpath.Fetcher{Get: f.egress.Get, Post: f.egress.Post})
	if err != nil {
		return nil, err
	}
	checker, err := certpath.NewChecker(certpath.CheckerConfig{Fetch: own.fetcher()})
	if err != nil {
		return nil, err
	}
	authorities := make([]tsp.Authority, len(list))
	var roots []*x509.Certificate
	for i, a := range list {
		authorities[i] = tsp.Authority{Name: a.Name, URL: a.URL, Timeout: a.Timeout}
		if a.URL == "" {
			authorities[i].URL = cfg.PublicOrigin + issuing.PathTSA
			roots = own.roots
		}
		if a.Policy != "" {
			if authorities[i].Policy, err = objectIdentifier(a.Policy); err != nil {
				return nil, err
			}
		}
	}
	stamps, err := tsaStore(cfg.TSA, roots, own.issuers)
	if err != nil {
		return nil, err
	}
	signers, err := signerStore(cfg.Issuing, own)
	if err != nil {
		return nil, err
	}
	tsas := &certpath.Validator{Store: stamps, Checker: checker}
	s := &stamping{}
	s.client, err = tsp.NewClient(tsp.ClientConfig{Authorities: authorities, Post: own.post, Validator: tsas, Backoff: cfg.TSA.Backoff})
	if err != nil {
		return nil, err
	}
	mobile := cades.Collector(&certpath.Validator{Store: signers, Checker: checker}, certpath.SigningProfile(), certpath.TimestampProfile())
	stamped := cades.Collector(tsas, certpath.SigningProfile(), certpath.TimestampProfile())
	s.collect = func(ctx context.Context, p cades.Purpose, cert *x509.Certificate, extra []*x509.Certificate, at time.Time) (*certpath.Result, error) {
		if p == cades.PurposeTimestamp {
			return stamped(ctx, p, cert, extra, at)
		}
		return mobile(ctx, p, cert, extra, at)
	}
	return s, nil
}

// signerStore are the roots of mobile certificates: our own, and another CA's
// where one issues or has issued them.
func signerStore(cfg config.Issuing, own *ownPKI) (*certpath.TrustStore, error) {
	anchors, err := readCertificates(cfg.AnchorsDir)
	if err != nil {
		return nil, err
	}
	between, err := readCertificates(cfg.IntermediatesDir)
	if err != nil {
		return nil, err
	}
	return certpath.NewTrustStore(append(anchors, own.roots...), append(between, own.issuers...))
}

// tsaStore are the roots of time-stamp authorities.
func tsaStore(cfg config.TSA, roots, issuers []*x509.Certificate) (*certpath.TrustStore, error) {
	anchors, err := readCertificates(cfg.AnchorsDir)
	if err != nil {
		return nil, err
	}
	between, err := readCertificates(cfg.IntermediatesDir)
	if err != nil {
		return nil, err
	}
	return certpath.NewTrustStore(append(anchors, roots...), append(between, issuers...))
}

func objectIdentifier(text string) (asn1.ObjectIdentifier, error) {
	var out asn1.ObjectIdentifier
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil, fmt.Errorf("policy %q: %w", text, err)
		}
		out = append(out, n)
	}
	return out, nil
}

// sources are those of package signing; nil without an authority.
func (s *stamping) sources() *cades.Sources {
	if s.client == nil {
		return nil
	}
	return &cades.Sources{Stamp: s.client.Stamp, Collect: s.collect}
}

// collectors are the figures about the authorities.
func (s *stamping) collectors() []prometheus.Collector {
	if s.client == nil {
		return nil
	}
	var all []prometheus.Collector
	for i, st := range s.client.States() {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sealgate_tsa_failures",
			Help: "Failures in a row of each time-stamp authority on this node; 0 after a success.", ConstLabels: prometheus.Labels{"authority": st.Name}},
			func() float64 { return float64(s.client.States()[i].Failures) }))
	}
	return all
}

// ownPKI answers for the service's own certificates without a network: a node
// need not be able to reach its own public address.
type ownPKI struct {
	base           string
	router         http.Handler
	next           certpath.Fetcher
	roots, issuers []*x509.Certificate
}

func newOwnPKI(opts Options, ca *issuing.CA, next certpath.Fetcher) (*ownPKI, error) {
	r := chi.NewRouter()
	if err := pki.Mount(r, pki.Config{CA: ca, Log: opts.Log}); err != nil {
		return nil, err
	}
	o := &ownPKI{base: opts.Config.PublicOrigin + "/pki/", router: r, next: next}
	all, err := ca.Anchors(context.Background())
	for _, c := range all {
		if bytes.Equal(c.RawSubject, c.RawIssuer) {
			o.roots = append(o.roots, c)
		} else {
			o.issuers = append(o.issuers, c)
		}
	}
	return o, err
}

func (o *ownPKI) fetcher() certpath.Fetcher { return certpath.Fetcher{Get: o.get, Post: o.post} }

func (o *ownPKI) get(ctx context.Context, url, accept string, most int64) ([]byte, error) {
	if !strings.HasPrefix(url, o.base) {
		return o.next.Get(ctx, url, accept, most)
	}
	return o.answer(ctx, http.MethodGet, url, "", nil)
}

func (o *ownPKI) post(ctx context.Context, url, contentType string, body []byte, accept string, most int64) ([]byte, error) {
	if !strings.HasPrefix(url, o.base) {
		return o.next.Post(ctx, url, contentType, body, accept, most)
	}
	return o.answer(ctx, http.MethodPost, url, contentType, body)
}

func (o *ownPKI) answer(ctx context.Context, method, url, contentType string, body []byte) ([]byte, error) {
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
	var answer memoryAnswer
	o.router.ServeHTTP(&answer, req)
	if answer.status != 0 && answer.status != http.StatusOK {
		return nil, errors.New("our own certificate service answers with " + strconv.Itoa(answer.status))
	}
	return answer.body.Bytes(), nil
}

// memoryAnswer keeps an answer in memory.
type memoryAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header is that of an http.ResponseWriter.
func (a *memoryAnswer) Header() http.Header {
	if a.header == nil {
		a.header = http.Header{}
	}
	return a.header
}

// WriteHeader keeps the status.
func (a *memoryAnswer) WriteHeader(status int) { a.status = status }

// Write keeps the body.
func (a *memoryAnswer) Write(p []byte) (int, error) { return a.body.Write(p) }
