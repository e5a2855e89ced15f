package certpath_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"sync"
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/pkitest"
)

// responderCert makes a certificate under h's CA with the properties of a
// delegated OCSP responder, changed by change.
func responderCert(t *testing.T, h *pkitest.Hierarchy, change func(*x509.Certificate)) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key := card(t, h, pkitest.CitizenOptions{KeyType: pkitest.P256}).Key
	tpl := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "(測試用) responder"},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		ExtraExtensions: []pkix.Extension{{
			Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}},
	}
	if change != nil {
		change(tpl)
	}
	cert, err := h.IssueUnder(tpl, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// askUnder asks for a certificate that has no CRL to fall back on, while the
// sources misbehave.
func askUnder(t *testing.T, h *pkitest.Hierarchy, crd *pkitest.Card, faults pkitest.ResponderFaults, cfg certpath.CheckerConfig, want string) {
	t.Helper()
	h.SetFaults(faults)
	defer h.SetFaults(pkitest.ResponderFaults{})
	ev, err := checker(t, cfg, nil).Check(context.Background(), crd.Certificate, h.CA, time.Now())
	wantCode(t, t.Name(), err, want)
	if err == nil && (ev.Source != certpath.SourceOCSP || ev.Status != certpath.StatusGood || ev.Responder == nil || len(ev.Raw) == 0) {
		t.Errorf("%+v", ev)
	}
}

func TestUnusableOCSPAnswersFailClosed(t *testing.T) {
	h := ownHierarchy(t, pkitest.Options{})
	good := card(t, h, pkitest.CitizenOptions{NoCRL: true})
	for name, tc := range map[string]struct {
		faults pkitest.ResponderFaults
		cfg    certpath.CheckerConfig
		want   string
	}{
		"control":                   {pkitest.ResponderFaults{}, certpath.CheckerConfig{}, ""},
		"SHA-256 in the question":   {pkitest.ResponderFaults{}, certpath.CheckerConfig{CertIDHash: crypto.SHA256}, ""},
		"down":                      {pkitest.ResponderFaults{OCSPDown: true}, certpath.CheckerConfig{}, "cert_status_unknown"},
		"unknown":                   {pkitest.ResponderFaults{Unknown: true}, certpath.CheckerConfig{}, "cert_status_unknown"},
		"stale":                     {pkitest.ResponderFaults{Stale: 2 * time.Hour}, certpath.CheckerConfig{}, "cert_status_unknown"},
		"from the future":           {pkitest.ResponderFaults{Stale: -time.Hour}, certpath.CheckerConfig{}, "cert_status_unknown"},
		"within the skew":           {pkitest.ResponderFaults{Stale: time.Hour + time.Minute}, certpath.CheckerConfig{}, ""},
		"about another certificate": {pkitest.ResponderFaults{WrongSerial: true}, certpath.CheckerConfig{}, "cert_status_unknown"},
		"another nonce":             {pkitest.ResponderFaults{WrongNonce: true}, certpath.CheckerConfig{}, "cert_status_unknown"},
		"no nonce":                  {pkitest.ResponderFaults{DropNonce: true}, certpath.CheckerConfig{}, ""},
		"no nonce, demanded":        {pkitest.ResponderFaults{DropNonce: true}, certpath.CheckerConfig{RequireNonce: true}, "cert_status_unknown"},
	} {
		t.Run(name, func(t *testing.T) { askUnder(t, h, good, tc.faults, tc.cfg, tc.want) })
	}
}

// Only the issuer, or whom it has appointed, may answer (RFC 6960 §4.2.2.2).
func TestOCSPResponderMustBeEntitled(t *testing.T) {
	h := ownHierarchy(t, pkitest.Options{})
	stranger := hierarchy()
	good := card(t, h, pkitest.CitizenOptions{NoCRL: true})
	with := func(h *pkitest.Hierarchy, change func(*x509.Certificate)) pkitest.ResponderFaults {
		cert, key := responderCert(t, h, change)
		return pkitest.ResponderFaults{SignWith: cert, SignWithKey: key}
	}
	noCheckGone := func(c *x509.Certificate) { c.ExtraExtensions = nil }
	listed := func(c *x509.Certificate) {
		c.ExtraExtensions = nil
		c.CRLDistributionPoints = []string{h.BaseURL() + pkitest.PathCRL}
	}
	revoked, revokedKey := responderCert(t, h, listed)
	h.Revoke(revoked, time.Now().Add(-time.Hour), pkitest.ReasonKeyCompromise)
	citizenAsResponder := card(t, h, pkitest.CitizenOptions{})
	for name, tc := range map[string]struct {
		faults pkitest.ResponderFaults
		want   string
	}{
		"signed by a delegate":       {with(h, nil), ""},
		"signed by the CA itself":    {pkitest.ResponderFaults{SignWith: h.CA, SignWithKey: h.CASigner()}, ""},
		"signed by the root":         {pkitest.ResponderFaults{SignWith: h.Root, SignWithKey: h.RootSigner()}, "cert_status_unknown"},
		"signed by a citizen":        {pkitest.ResponderFaults{SignWith: citizenAsResponder.Certificate, SignWithKey: citizenAsResponder.Key}, "cert_status_unknown"},
		"signed by the certificate":  {pkitest.ResponderFaults{SignWith: good.Certificate, SignWithKey: good.Key}, "cert_status_unknown"},
		"signed by a stranger's":     {with(stranger, nil), "cert_status_unknown"},
		"certificate and key differ": {pkitest.ResponderFaults{SignWith: h.CA, SignWithKey: h.RootSigner()}, "cert_status_unknown"},
		"delegate without purpose":   {with(h, func(c *x509.Certificate) { c.ExtKeyUsage = nil }), "cert_status_unknown"},
		"delegate for any purpose":   {with(h, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }), "cert_status_unknown"},
		"delegate that may not sign": {with(h, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), "cert_status_unknown"},
		"delegate expired": {with(h, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}), "cert_status_unknown"},
		"delegate that may be revoked": {with(h, noCheckGone), "cert_status_unknown"},
		"delegate found not revoked":   {with(h, listed), ""},
		"delegate found revoked":       {pkitest.ResponderFaults{SignWith: revoked, SignWithKey: revokedKey}, "cert_status_unknown"},
		"delegate, critical and unknown": {with(h, func(c *x509.Certificate) {
			c.ExtraExtensions[0] = pkix.Extension{Id: asn1.ObjectIdentifier{2, 16, 886, 9}, Critical: true, Value: []byte{5, 0}}
		}), "cert_status_unknown"},
	} {
		t.Run(name, func(t *testing.T) { askUnder(t, h, good, tc.faults, certpath.CheckerConfig{}, tc.want) })
	}
}

func TestCRLServesWhereOCSPDoesNot(t *testing.T) {
	h := ownHierarchy(t, pkitest.Options{})
	good := card(t, h, pkitest.CitizenOptions{})
	revoked := card(t, h, pkitest.CitizenOptions{Revoked: true})
	for name, tc := range map[string]struct {
		faults pkitest.ResponderFaults
		want   string
		then   string // for the revoked one
	}{
		"OCSP down":    {pkitest.ResponderFaults{OCSPDown: true}, "", "cert_revoked"},
		"OCSP unknown": {pkitest.ResponderFaults{Unknown: true}, "", "cert_revoked"},
		"wrong nonce":  {pkitest.ResponderFaults{WrongNonce: true}, "", "cert_revoked"},
		"both down":    {pkitest.ResponderFaults{OCSPDown: true, CRLDown: true}, "cert_status_unknown", "cert_status_unknown"},
		"list stale":   {pkitest.ResponderFaults{OCSPDown: true, Stale: 25 * time.Hour}, "cert_status_unknown", "cert_status_unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			h.SetFaults(tc.faults)
			defer h.SetFaults(pkitest.ResponderFaults{})
			c := checker(t, certpath.CheckerConfig{}, nil)
			ev, err := c.Check(context.Background(), good.Certificate, h.CA, time.Now())
			wantCode(t, "good", err, tc.want)
			if err == nil && ev.Source != certpath.SourceCRL {
				t.Errorf("source %s", ev.Source)
			}
			_, err = c.Check(context.Background(), revoked.Certificate, h.CA, time.Now())
			wantCode(t, "revoked", err, tc.then)
		})
	}
}

// clock is a time that tests can move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func TestOCSPAnswersAreRememberedForAWhile(t *testing.T) {
	h := ownHierarchy(t, pkitest.Options{})
	crd := card(t, h, pkitest.CitizenOptions{NoCRL: true})
	clk := &clock{t: time.Now()}
	var n counter
	c := checker(t, certpath.CheckerConfig{Now: clk.now, Skew: 30 * time.Minute}, &n)
	ask := func() error {
		_, err := c.Check(context.Background(), crd.Certificate, h.CA, clk.now())
		return err
	}
	for range 3 {
		wantCode(t, "good", ask(), "")
	}
	if _, posts := n.counts(); posts != 1 {
		t.Errorf("%d questions for three checks", posts)
	}
	h.Revoke(crd.Certificate, time.Now().Add(-time.Second), pkitest.ReasonCessation)
	wantCode(t, "remembered", ask(), "")
	clk.add(11 * time.Minute)
	wantCode(t, "after OCSPMaxAge", ask(), "cert_revoked")
}

func TestListsAreRememberedAndReplaced(t *testing.T) {
	h := ownHierarchy(t, pkitest.Options{})
	crd := card(t, h, pkitest.CitizenOptions{NoOCSP: true})
	clk := &clock{t: time.Now()}
	var n counter
	c := checker(t, certpath.CheckerConfig{Now: clk.now, Skew: time.Minute}, &n)
	ask := func() error {
		_, err := c.Check(context.Background(), crd.Certificate, h.CA, clk.now())
		return err
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { wantCode(t, "together", ask(), "") })
	}
	wg.Wait()
	if gets, _ := n.counts(); gets > 2 { // the second could start just as the first ends
		t.Errorf("%d downloads for twenty checks", gets)
	}
	h.SetFaults(pkitest.ResponderFaults{CRLDown: true})
	clk.add(2 * time.Hour)
	wantCode(t, "source down, list still in its time", ask(), "")
	clk.add(23 * time.Hour)
	wantCode(t, "source down, list out of its time", ask(), "cert_status_unknown")
}

func TestOlderListDoesNotReplaceNewer(t *testing.T) {
	h := ownHierarchy(t, pkitest.Options{})
	crd := card(t, h, pkitest.CitizenOptions{NoOCSP: true})
	clk := &clock{t: time.Now()}
	c := checker(t, certpath.CheckerConfig{Now: clk.now}, nil)
	h.Revoke(crd.Certificate, time.Now().Add(-time.Hour), pkitest.ReasonKeyCompromise)
	ask := func() error {
		_, err := c.Check(context.Background(), crd.Certificate, h.CA, clk.now())
		return err
	}
	wantCode(t, "newer list", ask(), "cert_revoked")
	// A replayed list from before the revocation, still in its time.
	h.Unrevoke(crd.Certificate)
	h.SetFaults(pkitest.ResponderFaults{Stale: 3 * time.Hour})
	clk.add(2 * time.Hour)
	wantCode(t, "older list", ask(), "cert_revoked")
}

func TestCancelledCallerDoesNotSpoilTheDownload(t *testing.T) {
	h := hierarchy()
	crd := card(t, h, pkitest.CitizenOptions{NoOCSP: true})
	c := checker(t, certpath.CheckerConfig{}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := c.Check(ctx, crd.Certificate, h.CA, time.Now())
	if err != nil && !errors.Is(err, context.Canceled) { // nil: the download was faster
		t.Errorf("%v", err)
	}
	_, err = c.Check(context.Background(), crd.Certificate, h.CA, time.Now())
	wantCode(t, "the next caller", err, "")
}

// An outage of OCSP costs one time-out, not one for each citizen.
func TestSilentResponderIsLeftAloneForAWhile(t *testing.T) {
	h := ownHierarchy(t, pkitest.Options{})
	both := card(t, h, pkitest.CitizenOptions{})
	alone := card(t, h, pkitest.CitizenOptions{NoCRL: true})
	clk := &clock{t: time.Now()}
	var n counter
	c := checker(t, certpath.CheckerConfig{Now: clk.now}, &n)
	ask := func(crd *pkitest.Card) (string, error) {
		ev, err := c.Check(context.Background(), crd.Certificate, h.CA, clk.now())
		if err != nil {
			return "", err
		}
		return ev.Source, nil
	}
	h.SetFaults(pkitest.ResponderFaults{OCSPDown: true})
	for range 5 {
		if src, err := ask(both); err != nil || src != certpath.SourceCRL {
			t.Fatalf("%s %v", src, err)
		}
	}
	if _, posts := n.counts(); posts != 1 {
		t.Errorf("%d questions to a silent responder", posts)
	}
	h.SetFaults(pkitest.ResponderFaults{})
	if src, err := ask(alone); err != nil || src != certpath.SourceOCSP {
		t.Errorf("a certificate without a list must still be asked for: %s %v", src, err)
	}
	clk.add(31 * time.Second)
	if src, err := ask(both); err != nil || src != certpath.SourceOCSP {
		t.Errorf("after the rest: %s %v", src, err)
	}
}

func TestCheckerConfigIsChecked(t *testing.T) {
	f := fetcher(t, nil)
	for name, cfg := range map[string]certpath.CheckerConfig{
		"no fetcher": {}, "negative": {Fetch: f, Skew: -1}, "digest": {Fetch: f, CertIDHash: crypto.MD5},
	} {
		if _, err := certpath.NewChecker(cfg); err == nil {
			t.Error(name)
		}
	}
}
