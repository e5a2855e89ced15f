package cades_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"

	"sealgate/internal/cades"
	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/fault"
	"sealgate/internal/pkitest"
	"sealgate/internal/tsp"
)

var document = []byte("公文內容\r\nsecond line\n")

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// world is a small public key infrastructure with a clock that tests turn: a root,
// a CA, two signers, two time-stamp authorities of which the first ends early.
type world struct {
	now        time.Time
	root, ca   *pkitest.Authority
	alice, bob *pkitest.Authority
	early      *pkitest.Authority // ends after a year
	late       *pkitest.Authority
	anchors    *certpath.TrustStore
	validator  *certpath.Validator
	serial     int64
	asked      int // questions to OCSP and CRL
}

const base = "http://pki.test"

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{now: time.Now().Truncate(time.Second)}
	years := func(n int) time.Time { return w.now.AddDate(n, 0, 0) }
	start := w.now.Add(-time.Hour)
	w.root = must(pkitest.NewRoot(x509.Certificate{Subject: pkix.Name{CommonName: "(測試用) root"}, NotBefore: start, NotAfter: years(30)}))
	w.ca = must(w.root.CA(x509.Certificate{Subject: pkix.Name{CommonName: "(測試用) CA"}, NotBefore: start, NotAfter: years(20),
		CRLDistributionPoints: []string{base + "/root.crl"}}))
	signer := func(name string) *pkitest.Authority {
		return must(w.ca.Issue(x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: start, NotAfter: years(2),
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment, OCSPServer: []string{base + "/ocsp"}}))
	}
	w.alice, w.bob = signer("(測試用) Alice"), signer("(測試用) Bob")
	tsa := func(name string, end time.Time) *pkitest.Authority {
		purposes := must(asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}}))
		return must(w.ca.Issue(x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: start, NotAfter: end,
			KeyUsage: x509.KeyUsageDigitalSignature, CRLDistributionPoints: []string{base + "/ca.crl"},
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: purposes}}}))
	}
	w.early, w.late = tsa("(測試用) early TSA", years(1)), tsa("(測試用) late TSA", years(10))
	w.anchors = must(certpath.NewTrustStore([]*x509.Certificate{w.root.Certificate}, []*x509.Certificate{w.ca.Certificate}))
	checker := must(certpath.NewChecker(certpath.CheckerConfig{Fetch: certpath.Fetcher{Get: w.get, Post: w.post}, Now: w.clock, CertIDHash: crypto.SHA256}))
	w.validator = &certpath.Validator{Store: w.anchors, Checker: checker}
	return w
}

func (w *world) clock() time.Time { return w.now }

func (w *world) get(_ context.Context, url, _ string, _ int64) ([]byte, error) {
	w.asked++
	w.serial++
	by := map[string]*pkitest.Authority{base + "/root.crl": w.root, base + "/ca.crl": w.ca}[url]
	if by == nil {
		return nil, errors.New("no such address")
	}
	l := pkitest.List{Number: big.NewInt(w.serial), ThisUpdate: w.now.Add(-time.Minute), NextUpdate: w.now.Add(24 * time.Hour)}
	return l.Sign(by.Certificate, by.Key)
}

func (w *world) post(_ context.Context, _, _ string, body []byte, _ string, _ int64) ([]byte, error) {
	w.asked++
	req, err := certpath.ParseOCSPRequest(body)
	if err != nil {
		return nil, err
	}
	r := certpath.OCSPResponse{ProducedAt: w.now, Nonce: req.Nonce}
	for _, id := range req.IDs {
		r.Statuses = append(r.Statuses, certpath.SingleStatus{ID: id, Status: certpath.StatusGood, ThisUpdate: w.now.Add(-time.Minute), NextUpdate: w.now.Add(time.Hour)})
	}
	return certpath.SignOCSPResponse(rand.Reader, r, w.ca.Certificate, w.ca.Key, false)
}

// sources asks one time-stamp authority, with the real client.
func (w *world) sources(t testing.TB, tsa *pkitest.Authority, hash crypto.Hash) cades.Sources {
	t.Helper()
	r := must(tsp.NewResponder(tsp.ResponderConfig{Certificate: tsa.Certificate, Key: tsa.Key, Policy: asn1.ObjectIdentifier{2, 999, 1, 2}, Now: w.clock}))
	client := must(tsp.NewClient(tsp.ClientConfig{
		Authorities: []tsp.Authority{{Name: "test", URL: base + "/tsa"}}, Validator: w.validator, Now: w.clock,
		Post: func(_ context.Context, _, _ string, body []byte, _ string, _ int64) ([]byte, error) {
			return r.Respond(body)
		},
	}))
	return cades.Sources{Stamp: client.Stamp, Collect: cades.Collector(w.validator, certpath.SigningProfile(), certpath.TimestampProfile()), Hash: hash, Now: w.clock,
		Digest: func(h crypto.Hash) []byte { return tsp.NewImprint(h, document).Digest }}
}

func (w *world) sign(t testing.TB, who *pkitest.Authority) []byte {
	t.Helper()
	return must(cms.SignDigest(rand.Reader, tsp.ImprintOf(document).Digest, cms.Signer{Certificate: who.Certificate, Key: who.Key, Chain: []*x509.Certificate{w.ca.Certificate}}, cms.Options{SigningTime: w.now}))
}

func parse(t testing.TB, der []byte) *cms.SignedData {
	t.Helper()
	sd, err := cms.ParseBER(der)
	if err != nil {
		t.Fatal(err)
	}
	return sd
}

func wantCode(t testing.TB, what string, err error, code string) {
	t.Helper()
	if got := fault.CodeOf(err); got != code {
		t.Errorf("%s: code %q, want %q (%v)", what, got, code, err)
	}
}

// verifyAll verifies signatures and every time-stamp of a file, offline: with
// nothing but the anchor and what the file holds.
func (w *world) verifyAll(t testing.TB, der []byte) error {
	t.Helper()
	sd := parse(t, der)
	digest := func(h crypto.Hash) []byte { return tsp.NewImprint(h, document).Digest }
	results, err := sd.Verify(cms.VerifyInput{Digest: digest, RequireSigningCertificate: true})
	if err == nil {
		err = cms.Good(results)
	}
	if err != nil {
		return err
	}
	cut := func(context.Context, string, string, int64) ([]byte, error) { return nil, errors.New("offline") }
	offline := &certpath.Validator{Store: must(certpath.NewTrustStore([]*x509.Certificate{w.root.Certificate}, nil)),
		Checker: must(certpath.NewChecker(certpath.CheckerConfig{Fetch: certpath.Fetcher{Get: cut, Post: func(context.Context, string, string, []byte, string, int64) ([]byte, error) {
			return nil, errors.New("offline")
		}}, Now: w.clock}))}
	for i, r := range results {
		values := cades.ValuesOf(sd, i)
		stamps := must(cades.Timestamps(sd, i))
		var proven time.Time
		for _, ts := range stamps {
			s, err := cades.Verify(sd, i, ts, digest)
			if err != nil {
				return err
			}
			if proven.IsZero() {
				proven = s.Time
			}
			if cades.SignerLevel(sd, i) < cades.LevelLT {
				continue
			}
			if ts.Kind == cades.KindArchive && ts.Attribute == stamps[len(stamps)-1].Attribute {
				continue // the newest needs live sources: nothing later holds its evidence
			}
			if _, err := offline.ValidateWith(t.Context(), s.Certificate, values.Certificates, s.Time, certpath.TimestampProfile(), values.Stored()); err != nil {
				return err
			}
		}
		if cades.SignerLevel(sd, i) < cades.LevelLT {
			continue
		}
		if _, err := offline.ValidateWith(t.Context(), r.Certificate, values.Certificates, proven, certpath.SigningProfile(), values.Stored()); err != nil {
			return err
		}
	}
	return nil
}
