package certpath_test

import (
	"context"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/egress"
	"sealgate/internal/fault"
	"sealgate/internal/pkitest"
)

// hierarchy is shared by tests that do not make its sources misbehave.
var hierarchy = sync.OnceValue(func() *pkitest.Hierarchy {
	h, _, err := pkitest.Start(pkitest.Options{})
	if err != nil {
		panic(err)
	}
	return h
})

// ownHierarchy is for tests that do.
func ownHierarchy(t *testing.T, o pkitest.Options) *pkitest.Hierarchy {
	t.Helper()
	h, stop, err := pkitest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return h
}

func card(t *testing.T, h *pkitest.Hierarchy, o pkitest.CitizenOptions) *pkitest.Card {
	t.Helper()
	c, err := h.Citizen(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// counter counts requests on their way through a fetcher.
type counter struct {
	mu         sync.Mutex
	gets, post int
}

func (c *counter) counts() (gets, posts int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gets, c.post
}

func fetcher(t testing.TB, n *counter) certpath.Fetcher {
	t.Helper()
	return certpath.Fetcher{
		Get: func(ctx context.Context, url, accept string, max int64) ([]byte, error) {
			if n != nil {
				n.mu.Lock()
				n.gets++
				n.mu.Unlock()
			}
			return client(t, url).Get(ctx, url, accept, max)
		},
		Post: func(ctx context.Context, url, ct string, body []byte, accept string, max int64) ([]byte, error) {
			if n != nil {
				n.mu.Lock()
				n.post++
				n.mu.Unlock()
			}
			return client(t, url).Post(ctx, url, ct, body, accept, max)
		},
	}
}

// client allows exactly the port of the URL, on loopback.
func client(t testing.TB, url string) *egress.Client {
	host := strings.TrimPrefix(url, "http://")
	host, _, _ = strings.Cut(host, "/")
	c, err := egress.New(egress.Config{AllowHosts: []string{host}, AllowLoopback: true, Timeout: 3 * time.Second})
	if err != nil {
		t.Error(err)
	}
	return c
}

func checker(t testing.TB, cfg certpath.CheckerConfig, n *counter) *certpath.Checker {
	t.Helper()
	cfg.Fetch = fetcher(t, n)
	c, err := certpath.NewChecker(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func store(t testing.TB, anchors []*x509.Certificate, intermediates ...*x509.Certificate) *certpath.TrustStore {
	t.Helper()
	s, err := certpath.NewTrustStore(anchors, intermediates)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validator(t testing.TB, h *pkitest.Hierarchy) *certpath.Validator {
	t.Helper()
	return &certpath.Validator{
		Store:   store(t, []*x509.Certificate{h.Root}, h.CA),
		Checker: checker(t, certpath.CheckerConfig{}, nil),
	}
}

// wantCode checks the public code; "" wants success.
func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	if got := fault.CodeOf(err); got != code {
		t.Errorf("%s: code %q, want %q (%v)", what, got, code, err)
	}
}

func TestCitizenRules(t *testing.T) {
	h := hierarchy()
	other, err := pkitest.NewHierarchy(pkitest.Options{BaseURL: h.BaseURL()})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		from *pkitest.Hierarchy
		opts pkitest.CitizenOptions
		want string
	}{
		"good":                       {h, pkitest.CitizenOptions{}, ""},
		"good for an alien resident": {h, pkitest.CitizenOptions{SubjectType: pkitest.OIDSubjectResident}, ""},
		"expired":                    {h, pkitest.CitizenOptions{Expired: true}, "cert_expired"},
		"not yet valid":              {h, pkitest.CitizenOptions{NotYetValid: true}, "cert_not_yet_valid"},
		"revoked":                    {h, pkitest.CitizenOptions{Revoked: true}, "cert_revoked"},
		"wrong policy":               {h, pkitest.CitizenOptions{Policy: []int{2, 16, 886, 101, 0, 3, 1}}, "cert_policy"},
		"no policy":                  {h, pkitest.CitizenOptions{NoPolicy: true}, "cert_policy"},
		"anyPolicy in a leaf":        {h, pkitest.CitizenOptions{Policy: []int{2, 5, 29, 32, 0}}, "cert_policy"},
		"encryption certificate":     {h, pkitest.CitizenOptions{KeyUsage: x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment}, "cert_key_usage"},
		"no key usage":               {h, pkitest.CitizenOptions{NoKeyUsage: true}, "cert_key_usage"},
		"critical unknown extension": {h, pkitest.CitizenOptions{CriticalUnknown: true}, "cert_untrusted"},
		"short key":                  {h, pkitest.CitizenOptions{KeyType: pkitest.RSA1024}, "cert_untrusted"},
		"CA of the same name":        {other, pkitest.CitizenOptions{}, "cert_untrusted"},
		"expired, of another CA":     {other, pkitest.CitizenOptions{Expired: true}, "cert_untrusted"},
		"no source of status":        {h, pkitest.CitizenOptions{NoOCSP: true, NoCRL: true}, "cert_status_unknown"},
		"OCSP alone":                 {h, pkitest.CitizenOptions{NoCRL: true}, ""},
		"CRL alone":                  {h, pkitest.CitizenOptions{NoOCSP: true}, ""},
		"revoked, CRL alone":         {h, pkitest.CitizenOptions{NoOCSP: true, Revoked: true}, "cert_revoked"},
		"revoked, OCSP alone":        {h, pkitest.CitizenOptions{NoCRL: true, Revoked: true}, "cert_revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			c := card(t, tc.from, tc.opts)
			v := validator(t, h) // a fresh one: the CRL of an earlier case must not serve
			// The stranger's CA comes along with the message: it must not help.
			r, err := v.Validate(context.Background(), c.Certificate, []*x509.Certificate{tc.from.CA, tc.from.Root}, time.Now(), certpath.CitizenProfile())
			wantCode(t, name, err, tc.want)
			if err == nil && (len(r.Path) != 3 || !r.Anchor.Equal(h.Root) || len(r.Revocation) != 2) {
				t.Errorf("result %d certificates, %d answers", len(r.Path), len(r.Revocation))
			}
			if tc.want == "cert_revoked" && (r == nil || len(r.Revocation) != 1 || r.Revocation[0].Status != certpath.StatusRevoked || len(r.Revocation[0].Raw) == 0) {
				t.Error("the evidence of the revocation is missing")
			}
		})
	}
}

func TestRevokedTellsTimeAndReason(t *testing.T) {
	h := hierarchy()
	c := card(t, h, pkitest.CitizenOptions{})
	at := time.Now().Add(-2 * time.Hour).UTC().Truncate(time.Second)
	h.Revoke(c.Certificate, at, pkitest.ReasonKeyCompromise)
	_, err := validator(t, h).Validate(context.Background(), c.Certificate, nil, time.Now(), certpath.CitizenProfile())
	f := fault.From(err)
	if f.Code != "cert_revoked" || f.Params["reason"] != "keyCompromise" || f.Params["revoked_at"] != at.Format(time.RFC3339) {
		t.Errorf("%v %v", f, f.Params)
	}
}

// A signature made before the revocation stays good (RFC 5280 §6.3, RFC 6960 §2.2).
func TestRevocationCountsFromItsTime(t *testing.T) {
	h := hierarchy()
	for _, o := range []pkitest.CitizenOptions{{NoCRL: true}, {NoOCSP: true}} {
		c := card(t, h, o)
		revoked := time.Now().Add(-time.Hour)
		h.Revoke(c.Certificate, revoked, pkitest.ReasonSuperseded)
		v := validator(t, h)
		before, err := v.Validate(context.Background(), c.Certificate, nil, revoked.Add(-time.Minute), certpath.CitizenProfile())
		wantCode(t, "before", err, "")
		if before != nil && before.Revocation[0].Status != certpath.StatusRevoked {
			t.Error("the later revocation must be reported")
		}
		_, err = v.Validate(context.Background(), c.Certificate, nil, revoked.Add(time.Second), certpath.CitizenProfile())
		wantCode(t, "after", err, "cert_revoked")
	}
}

func TestFutureTimeIsUnknown(t *testing.T) {
	h := hierarchy()
	c := card(t, h, pkitest.CitizenOptions{})
	_, err := validator(t, h).Validate(context.Background(), c.Certificate, nil, time.Now().Add(24*time.Hour), certpath.CitizenProfile())
	wantCode(t, "tomorrow", err, "cert_status_unknown")
}

// Lists drop expired certificates, so "not listed" says nothing about them.
func TestStatusOfPastTimeOfExpiredCertificateIsUnknown(t *testing.T) {
	h := hierarchy()
	v := validator(t, h)
	weekAgo := time.Now().AddDate(0, 0, -7)
	expired := card(t, h, pkitest.CitizenOptions{Expired: true})
	_, err := v.Validate(context.Background(), expired.Certificate, nil, weekAgo, certpath.CitizenProfile())
	wantCode(t, "expired since", err, "cert_status_unknown")
	current := card(t, h, pkitest.CitizenOptions{})
	_, err = v.Validate(context.Background(), current.Certificate, nil, weekAgo, certpath.CitizenProfile())
	wantCode(t, "control", err, "")
}

func TestRevokedIntermediateIsNoticed(t *testing.T) {
	h := ownHierarchy(t, pkitest.Options{})
	c := card(t, h, pkitest.CitizenOptions{})
	ctx := context.Background()
	_, err := validator(t, h).Validate(ctx, c.Certificate, nil, time.Now(), certpath.CitizenProfile())
	wantCode(t, "control", err, "")
	h.Revoke(h.CA, time.Now().Add(-time.Minute), 2)
	_, err = validator(t, h).Validate(ctx, c.Certificate, nil, time.Now(), certpath.CitizenProfile())
	wantCode(t, "CA on the root's list", err, "cert_revoked")
	leafOnly := certpath.CitizenProfile()
	leafOnly.Revocation = certpath.RevocationLeaf
	_, err = validator(t, h).Validate(ctx, c.Certificate, nil, time.Now(), leafOnly)
	wantCode(t, "profile that asks for the leaf alone", err, "")
	leafOnly.Revocation = certpath.RevocationNone
	_, err = (&certpath.Validator{Store: store(t, []*x509.Certificate{h.Root}, h.CA)}).Validate(ctx, c.Certificate, nil, time.Now(), leafOnly)
	wantCode(t, "profile that asks nobody", err, "")
}

// MOICA's three generations have one subject name; the key identifier and the
// signature tell them apart.
func TestAnchorsOfOneNameAreToldApart(t *testing.T) {
	g2 := hierarchy()
	g3 := ownHierarchy(t, pkitest.Options{})
	s := store(t, []*x509.Certificate{g2.CA, g3.CA})
	v := &certpath.Validator{Store: s, Checker: checker(t, certpath.CheckerConfig{}, nil)}
	for _, h := range []*pkitest.Hierarchy{g2, g3} {
		r, err := v.Validate(context.Background(), card(t, h, pkitest.CitizenOptions{}).Certificate, nil, time.Now(), certpath.CitizenProfile())
		if err != nil || !r.Anchor.Equal(h.CA) {
			t.Errorf("%v", err)
		}
	}
	if certpath.AnchorID(g2.CA) == certpath.AnchorID(g3.CA) {
		t.Error("anchor IDs must differ")
	}
}

func TestRealMOICACertificateIsAnAnchor(t *testing.T) {
	data, err := os.ReadFile("testdata/MOICA-G3.cer")
	if err != nil {
		t.Fatal(err)
	}
	certs, err := certpath.ParseCertificates(data)
	if err != nil {
		t.Fatal(err)
	}
	h := hierarchy()
	s := store(t, []*x509.Certificate{certs[0], h.Root}, h.CA)
	if got := certpath.AnchorID(certs[0]); got != "4720a3b1264bcd6d48acf2640886972c7454115f" {
		t.Errorf("anchor ID %s", got)
	}
	v := &certpath.Validator{Store: s, Checker: checker(t, certpath.CheckerConfig{}, nil)}
	_, err = v.Validate(context.Background(), card(t, h, pkitest.CitizenOptions{}).Certificate, nil, time.Now(), certpath.CitizenProfile())
	wantCode(t, "beside a test anchor", err, "")
}

func TestIntermediatesFromTheMessage(t *testing.T) {
	h := hierarchy()
	c := card(t, h, pkitest.CitizenOptions{})
	v := &certpath.Validator{Store: store(t, []*x509.Certificate{h.Root}), Checker: checker(t, certpath.CheckerConfig{}, nil)}
	_, err := v.Validate(context.Background(), c.Certificate, []*x509.Certificate{h.CA}, time.Now(), certpath.CitizenProfile())
	wantCode(t, "profile with configured issuers only", err, "cert_untrusted")
	_, err = v.Validate(context.Background(), c.Certificate, []*x509.Certificate{h.CA}, time.Now(), certpath.SigningProfile())
	wantCode(t, "profile that takes them", err, "")
	_, err = v.Validate(context.Background(), c.Certificate, make([]*x509.Certificate, 65), time.Now(), certpath.SigningProfile())
	wantCode(t, "too many", err, "cert_malformed")
}

func TestCAIsNoEndCertificate(t *testing.T) {
	h := hierarchy()
	v := validator(t, h)
	p := certpath.SigningProfile()
	_, err := v.Validate(context.Background(), h.CA, nil, time.Now(), p)
	wantCode(t, "intermediate as leaf", err, "cert_key_usage")
	_, err = v.Validate(context.Background(), h.Root, nil, time.Now(), p)
	wantCode(t, "anchor as leaf", err, "cert_untrusted")
	_, err = v.Validate(context.Background(), nil, nil, time.Now(), p)
	wantCode(t, "nothing", err, "cert_malformed")
	p.AllowCA = true
	_, err = v.Validate(context.Background(), h.CA, nil, time.Now(), p)
	wantCode(t, "control", err, "")
}

// pathLen 0 (RFC 5280 §4.2.1.9): the citizen CA must not have a CA below it.
func TestPathLengthConstraint(t *testing.T) {
	h := hierarchy()
	sub := card(t, h, pkitest.CitizenOptions{})
	caTpl := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		RawSubject: sub.Certificate.RawSubject}
	rogueCA, err := h.IssueUnder(caTpl, sub.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	leaf := signedBy(t, rogueCA, sub, &x509.Certificate{SerialNumber: big.NewInt(7), KeyUsage: x509.KeyUsageDigitalSignature})
	p := certpath.SigningProfile()
	p.Revocation = certpath.RevocationNone
	_, err = validator(t, h).Validate(context.Background(), leaf, []*x509.Certificate{rogueCA}, time.Now(), p)
	wantCode(t, "CA below pathlen 0", err, "cert_untrusted")
	// And a leaf that plays CA without being one.
	leaf = signedBy(t, sub.Certificate, sub, &x509.Certificate{SerialNumber: big.NewInt(8), KeyUsage: x509.KeyUsageDigitalSignature})
	_, err = validator(t, h).Validate(context.Background(), leaf, []*x509.Certificate{sub.Certificate}, time.Now(), p)
	wantCode(t, "leaf as CA", err, "cert_untrusted")
}

func TestMaxPathAndAlgorithms(t *testing.T) {
	h := hierarchy()
	c := card(t, h, pkitest.CitizenOptions{})
	for name, change := range map[string]func(*certpath.Profile){
		"path of 2":   func(p *certpath.Profile) { p.MaxPath = 2 },
		"RSA-3072":    func(p *certpath.Profile) { p.MinRSABits = 3072 },
		"ECDSA alone": func(p *certpath.Profile) { p.SignatureAlgorithms = []x509.SignatureAlgorithm{x509.ECDSAWithSHA256} },
	} {
		p := certpath.CitizenProfile()
		change(&p)
		_, err := validator(t, h).Validate(context.Background(), c.Certificate, nil, time.Now(), p)
		wantCode(t, name, err, "cert_untrusted")
	}
	p := certpath.CitizenProfile()
	p.ExtKeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}
	_, err := validator(t, h).Validate(context.Background(), c.Certificate, nil, time.Now(), p)
	wantCode(t, "extended key usage", err, "cert_key_usage")
}

func TestTrustStoreRefusesWhatIsNoCA(t *testing.T) {
	h := hierarchy()
	leaf := card(t, h, pkitest.CitizenOptions{}).Certificate
	if _, err := certpath.NewTrustStore(nil, nil); err == nil {
		t.Error("empty")
	}
	if _, err := certpath.NewTrustStore([]*x509.Certificate{leaf}, nil); err == nil {
		t.Error("leaf as anchor")
	}
	if _, err := certpath.NewTrustStore([]*x509.Certificate{h.Root}, []*x509.Certificate{leaf}); err == nil {
		t.Error("leaf as intermediate")
	}
	if _, err := certpath.NewTrustStore([]*x509.Certificate{nil}, nil); err == nil {
		t.Error("nil")
	}
	if s, err := certpath.NewTrustStore([]*x509.Certificate{h.Root, h.Root}, nil); err != nil || len(s.Anchors()) != 1 {
		t.Error("the same anchor twice is one")
	}
}

func TestFaultsCompareByCode(t *testing.T) {
	err := certpath.ErrRevoked.With("reason", "superseded").Because(errors.New("x"))
	if !errors.Is(err, certpath.ErrRevoked) || errors.Is(err, certpath.ErrExpired) {
		t.Error("errors.Is")
	}
}
