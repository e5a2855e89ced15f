package signing_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sealgate/internal/cades"
	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/keyring"
	"sealgate/internal/pkitest"
	"sealgate/internal/signing"
	"sealgate/internal/sigverify"
	"sealgate/internal/tsp"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// archiveLab is a clock that tests turn, and a time-stamp authority for each of
// its ages.
type archiveLab struct {
	w          *world
	root       *pkitest.Authority
	early      *pkitest.Authority // ends after two years
	late       *pkitest.Authority
	ahead      atomic.Int64 // of the real clock, in seconds
	down       atomic.Bool
	validators struct{ signers, stamps *certpath.Validator }
}

func (l *archiveLab) now() time.Time {
	return time.Now().Add(time.Duration(l.ahead.Load()) * time.Second)
}

func newArchiveLab(w *world) *archiveLab {
	start := time.Now().Add(-time.Hour)
	l := &archiveLab{w: w}
	l.root = must(pkitest.NewRoot(x509.Certificate{Subject: pkix.Name{CommonName: "(測試用) TSA root"}, NotBefore: start, NotAfter: start.AddDate(40, 0, 0)}))
	tsa := func(name string, years int) *pkitest.Authority {
		purposes := must(asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}}))
		return must(l.root.Issue(x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: start, NotAfter: start.AddDate(years, 0, 0),
			KeyUsage: x509.KeyUsageDigitalSignature, CRLDistributionPoints: []string{"http://lab.test/root.crl"},
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: purposes}}}))
	}
	l.early, l.late = tsa("(測試用) early TSA", 2), tsa("(測試用) late TSA", 20)
	fetch := certpath.Fetcher{Get: l.get, Post: l.post}
	stamps := must(certpath.NewTrustStore([]*x509.Certificate{l.root.Certificate}, nil))
	l.validators.stamps = &certpath.Validator{Store: stamps, Checker: must(certpath.NewChecker(certpath.CheckerConfig{Fetch: fetch, Now: l.now}))}
	anchors := must(w.ca.Anchors(context.Background()))
	signers := must(certpath.NewTrustStore(anchors[:1], anchors[1:]))
	l.validators.signers = &certpath.Validator{Store: signers, Checker: must(certpath.NewChecker(certpath.CheckerConfig{Fetch: fetch}))}
	return l
}

func (l *archiveLab) get(ctx context.Context, url, _ string, _ int64) ([]byte, error) {
	if url == "http://lab.test/root.crl" {
		now := l.now()
		return pkitest.List{Number: big.NewInt(now.UnixNano()), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(24 * time.Hour)}.Sign(l.root.Certificate, l.root.Key)
	}
	if strings.HasSuffix(url, "root.crl") {
		der, _, err := l.w.ca.List(ctx, "root")
		return der, err
	}
	return nil, errors.New("no such address " + url)
}

func (l *archiveLab) post(ctx context.Context, _, _ string, body []byte, _ string, _ int64) ([]byte, error) {
	der, _, err := l.w.ca.RespondOCSP(ctx, body)
	return der, err
}

func (l *archiveLab) stamp(_ context.Context, _, _ string, body []byte, _ string, _ int64) ([]byte, error) {
	if l.down.Load() {
		return nil, errors.New("down")
	}
	by := l.early
	if l.now().After(by.Certificate.NotAfter.AddDate(0, -6, 0)) {
		by = l.late
	}
	return must(tsp.NewResponder(tsp.ResponderConfig{Certificate: by.Certificate, Key: by.Key, Policy: asn1.ObjectIdentifier{2, 999, 7}, Now: l.now})).Respond(body)
}

func (l *archiveLab) node() *signing.Service {
	client := must(tsp.NewClient(tsp.ClientConfig{Authorities: []tsp.Authority{{Name: "lab", URL: "http://lab.test/tsr"}}, Post: l.stamp,
		Validator: l.validators.stamps, Now: l.now, Backoff: time.Millisecond, MaxBackoff: time.Millisecond}))
	signer := cades.Collector(l.validators.signers, certpath.SigningProfile(), certpath.TimestampProfile())
	stamp := cades.Collector(l.validators.stamps, certpath.SigningProfile(), certpath.TimestampProfile())
	return l.w.nodeWith(func(c *signing.Config) {
		c.Now = l.now
		c.Archives, c.RenewBefore = l.w.db.Signing(), 90*24*time.Hour
		c.Sources = &cades.Sources{Stamp: client.Stamp, Collect: func(ctx context.Context, p cades.Purpose, cert *x509.Certificate, extra []*x509.Certificate, at time.Time) (*certpath.Result, error) {
			if p == cades.PurposeTimestamp {
				return stamp(ctx, p, cert, extra, at)
			}
			return signer(ctx, p, cert, extra, at)
		}}
	})
}

// judge verifies a signature by what is in it and the status of authorities today, at the lab's time.
func (l *archiveLab) judge(t *testing.T, der, content []byte) *sigverify.Report {
	t.Helper()
	cut := func(context.Context, string, string, int64) ([]byte, error) { return nil, errors.New("offline") }
	checker := must(certpath.NewChecker(certpath.CheckerConfig{Now: l.now, Fetch: certpath.Fetcher{Get: cut, Post: func(context.Context, string, string, []byte, string, int64) ([]byte, error) {
		return nil, errors.New("offline")
	}}}))
	anchors := must(l.w.ca.Anchors(context.Background()))
	v := must(sigverify.New(sigverify.Config{Now: l.now, Signers: &certpath.Validator{Checker: checker,
		Store: must(certpath.NewTrustStore([]*x509.Certificate{anchors[0], l.root.Certificate}, nil))}}))
	sum := sha256.Sum256(content)
	list := must(l.get(context.Background(), "http://lab.test/root.crl", "", 0)) // of today: nothing inside can hold what the newest authority's status will be
	return must(v.Verify(context.Background(), sigverify.Request{Signature: der, Offline: true, Evidence: []certpath.StoredEvidence{{Source: certpath.SourceCRL, Raw: list}},
		Content: sigverify.Content{Digests: map[crypto.Hash][]byte{crypto.SHA256: sum[:]}}}))
}

// An archive time-stamp is followed by another before its authority's certificate
// ends; nothing of the signature is altered, and it verifies after that end.
func TestArchiveTimestampsAreRenewed(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	l := newArchiveLab(w)
	service := l.node()
	text := []byte("holds for decades")
	a := order(text)
	a.content = bytes.Replace(a.content, []byte(`"kind":"sign",`), []byte(`"kind":"sign","level":"B-LTA",`), 1)
	id := w.approve(w.person(keyring.P256), a)
	w.ok(service.Complete(ctx, id))
	first := must(service.Signature(ctx, id, 0)).DER
	if cades.LevelOf(must(cms.Parse(first))) != cades.LevelLTA {
		t.Fatal("not B-LTA")
	}
	renewed := func() (n int) {
		w.ok(w.pool.QueryRow(ctx, `SELECT renewals FROM signatures WHERE order_id = $1`, id).Scan(&n))
		return n
	}
	w.ok(service.RenewArchives(ctx))
	if renewed() != 0 {
		t.Fatal("renewed before it was due")
	}
	day := int64(24 * 60 * 60)
	l.ahead.Store(day * 650) // within 90 days of the early authority's end
	l.down.Store(true)
	if err := service.RenewArchives(ctx); !errors.Is(err, tsp.ErrUnavailable) || renewed() != 0 {
		t.Fatalf("without an authority: %v, %d", err, renewed())
	}
	l.down.Store(false)
	l.ahead.Store(day*650 + 2*60*60) // put off for an hour
	done := make(chan error, 2)
	for range 2 { // on two nodes at once
		go func() { done <- l.node().RenewArchives(ctx) }()
	}
	for range 2 {
		w.ok(<-done)
	}
	second := must(service.Signature(ctx, id, 0)).DER
	if renewed() != 1 || bytes.Equal(first, second) {
		t.Fatalf("renewed %d times", renewed())
	}
	before, after := must(cms.Parse(first)).Signers[0], must(cms.Parse(second)).Signers[0]
	if !bytes.Equal(before.RawFields(), after.RawFields()) || len(after.RawUnsigned()) != len(before.RawUnsigned())+1 {
		t.Error("the signature was altered")
	}
	for _, u := range before.RawUnsigned() {
		if !bytes.Contains(second, u.Values[0]) {
			t.Error("an attribute was altered")
		}
	}
	l.ahead.Store(day * 365 * 4) // the mobile certificate and the early authority's have ended
	if r := l.judge(t, second, text); r.Indication != sigverify.TotalPassed {
		t.Errorf("after renewal: %s %s", r.Indication, r.SubIndication)
	}
	if r := l.judge(t, first, text); r.Indication == sigverify.TotalPassed {
		t.Error("what was not renewed holds too")
	}
	if r := l.judge(t, second, []byte("other")); r.Indication != sigverify.TotalFailed {
		t.Errorf("another document: %s", r.Indication)
	}
	w.ok(service.RenewArchives(ctx))
	if renewed() != 1 {
		t.Error("renewed again although the new one lasts")
	}
}

// Of a batch, what cannot carry its level is reported alone; SHA-512 documents
// get archive time-stamps too.
func TestLevelsOfABatch(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	service := newArchiveLab(w).node()
	a := order([]byte("a"), []byte("b"), []byte("c"))
	a.content = bytes.Replace(a.content, []byte(`"kind":"sign",`), []byte(`"kind":"sign","level":"B-LTA",`), 1)
	a.content = bytes.Replace(a.content, []byte(`"digest_algorithm":"SHA-256","name"`), []byte(`"digest_algorithm":"SHA-256","form":"pades","name"`), 1)
	id := w.approve(w.person(keyring.P256), a)
	w.ok(service.Complete(ctx, id))
	if o := w.outcome(id); o.state != "completed" || o.signatures != 2 {
		t.Fatalf("%+v", o)
	}
	var failures string
	w.ok(w.pool.QueryRow(ctx, `SELECT failures::text FROM orders WHERE id = $1`, id).Scan(&failures))
	if failures != `{"0": "signing_level"}` {
		t.Error(failures)
	}
	other := order([]byte("a"))
	s := []byte(`"digest_algorithm":"SHA-256"`)
	other.content = bytes.Replace(bytes.Replace(other.content, []byte(`"kind":"sign",`), []byte(`"kind":"sign","level":"B-LTA",`), 1), s, []byte(`"digest_algorithm":"SHA-512"`), 1)
	other.content = bytes.Replace(other.content, digestMember([]byte("a")), digest512([]byte("a")), 1)
	id = w.approve(w.person(keyring.RSA2048), other)
	w.ok(service.Complete(ctx, id))
	if der := must(service.Signature(ctx, id, 0)).DER; cades.LevelOf(must(cms.Parse(der))) != cades.LevelLTA {
		t.Error("SHA-512: not B-LTA")
	}
}

func digestMember(text []byte) []byte {
	sum := sha256.Sum256(text)
	return []byte(`"` + base64.RawURLEncoding.EncodeToString(sum[:]) + `"`)
}

func digest512(text []byte) []byte {
	sum := sha512.Sum512(text)
	return []byte(`"` + base64.RawURLEncoding.EncodeToString(sum[:]) + `"`)
}
