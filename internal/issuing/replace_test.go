package issuing_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"sealgate/internal/issuing"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
	"sealgate/internal/tsp"
)

// clock is one that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }
func (c *clock) to(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
}

// stamped asks a CA for a time-stamp.
func stamped(t *testing.T, ca *issuing.CA) []byte {
	t.Helper()
	request := tsp.Request{Imprint: tsp.ImprintOf([]byte("document")), CertReq: true}
	der, err := request.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	response, err := ca.RespondTSA(context.Background(), der)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// answeredBy asks a CA about a certificate and gives the responder's certificate.
func answeredBy(t *testing.T, ca *issuing.CA, about *x509.Certificate) (*ocsp.Response, *x509.Certificate) {
	t.Helper()
	issuer, err := ca.Certificate(context.Background(), issuing.Issuing)
	if err != nil {
		t.Fatal(err)
	}
	request, err := ocsp.CreateRequest(about, issuer, &ocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	der, _, err := ca.RespondOCSP(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	response, err := ocsp.ParseResponseForCert(der, about, issuer)
	if err != nil {
		t.Fatal(err)
	}
	return response, response.Certificate
}

// The responders' certificates are replaced before they end, once, by whichever
// node; the others follow without a restart.
func TestReplaceEnding(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Open(t)
	c := &clock{at: time.Now()}
	at := func(cfg *issuing.Config) { cfg.Now = c.now }
	one, keys := bootstrapped(t, pool, at)
	two, _ := newCA(t, pool, at)
	first := map[string]*x509.Certificate{}
	for _, name := range []string{issuing.OCSP, issuing.TSA} {
		cert, err := two.Certificate(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		first[name] = cert
	}
	stamped(t, two)
	before, _ := answeredBy(t, two, first[issuing.TSA])
	if before.Status != ocsp.Good || !bytes.Equal(before.Certificate.Raw, first[issuing.OCSP].Raw) {
		t.Fatalf("before: %+v", before)
	}
	if done, err := one.ReplaceEnding(ctx); err != nil || len(done) != 0 {
		t.Fatalf("replaced at once: %v, %v", done, err)
	}

	c.to(first[issuing.OCSP].NotAfter.AddDate(0, -5, 0)) // in the last quarter of two years
	var all sync.WaitGroup
	results := make([][]string, 2)
	errs := make([]error, 2)
	for i, ca := range []*issuing.CA{one, two} {
		all.Go(func() { results[i], errs[i] = ca.ReplaceEnding(ctx) })
	}
	all.Wait()
	if got := slices.Concat(results...); errs[0] != nil || errs[1] != nil || len(got) != 1 || got[0] != issuing.OCSP {
		t.Fatalf("two nodes replaced %v, %v", results, errs)
	}
	fresh, _ := newCA(t, pool, at)
	replacement, err := fresh.Certificate(ctx, issuing.OCSP)
	if err != nil || replacement.Equal(first[issuing.OCSP]) || !replacement.NotAfter.After(first[issuing.OCSP].NotAfter) {
		t.Fatalf("the new one: %v", err)
	}
	if bytes.Equal(replacement.RawSubjectPublicKeyInfo, first[issuing.OCSP].RawSubjectPublicKeyInfo) {
		t.Error("the key was not replaced")
	}
	c.to(c.now().Add(2 * time.Minute))
	for name, ca := range map[string]*issuing.CA{"one": one, "two": two} {
		if answer, by := answeredBy(t, ca, first[issuing.TSA]); answer.Status != ocsp.Good || !by.Equal(replacement) {
			t.Errorf("node %s answers by the old responder", name)
		}
	}

	c.to(first[issuing.TSA].NotAfter.AddDate(-1, 0, 0)) // the OCSP responder again, the time-stamp authority and the signer of reports
	if done, err := one.ReplaceEnding(ctx); err != nil || len(done) != 3 {
		t.Fatalf("replaced %v, %v", done, err)
	}
	c.to(c.now().Add(2 * time.Minute))
	own, err := two.Certificate(ctx, issuing.TSA)
	if err != nil || own.Equal(first[issuing.TSA]) {
		t.Fatalf("node two has the old time-stamp authority: %v", err)
	}
	response := stamped(t, two)
	if !bytes.Contains(response, own.Raw) || bytes.Contains(response, first[issuing.TSA].Raw) {
		t.Error("node two stamps with the old authority")
	}
	if answer, _ := answeredBy(t, two, first[issuing.TSA]); answer.Status != ocsp.Good {
		t.Error("the replaced time-stamp authority is not good any more: what it stamped would fall")
	}

	var waiting, destroyed int
	count := func(sql string) (n int) {
		t.Helper()
		if err := pool.QueryRow(ctx, sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if waiting = count(`SELECT count(*) FROM keys WHERE destroy_after IS NOT NULL`); waiting != 4 {
		t.Errorf("%d keys wait to be destroyed, want 4", waiting)
	}
	if _, err := postgres.New(pool).Keyring().DestroyKeys(ctx, c.now().Add(25*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if destroyed = count(`SELECT count(*) FROM keys WHERE state = 'destroyed' AND sealed IS NULL`); destroyed != 4 {
		t.Errorf("%d keys destroyed, want 4", destroyed)
	}
	if n := count(`SELECT count(*) FROM audit_entries WHERE act = 'authority.replaced'`); n != 4 {
		t.Errorf("%d entries", n)
	}
	last, _ := newCA(t, pool, at, func(cfg *issuing.Config) { cfg.Keys = keys })
	stamped(t, last) // the keys in force are there
	answeredBy(t, last, first[issuing.TSA])
}

// Ends warns of what only people can replace, and of what was not replaced.
func TestEnds(t *testing.T) {
	ctx := context.Background()
	c := &clock{at: time.Now()}
	ca, _ := bootstrapped(t, pgtest.Open(t), func(cfg *issuing.Config) { cfg.Now = c.now })
	soon := func() (names []string) {
		t.Helper()
		ends, err := ca.Ends(ctx)
		if err != nil || len(ends) != 5 {
			t.Fatalf("%v, %v", ends, err)
		}
		for _, e := range ends {
			if e.Soon {
				names = append(names, e.Name)
			}
		}
		return names
	}
	if names := soon(); len(names) != 0 {
		t.Errorf("a new one warns of %v", names)
	}
	issuer, err := ca.Certificate(ctx, issuing.Issuing)
	if err != nil {
		t.Fatal(err)
	}
	c.to(issuer.NotAfter.AddDate(-1, -2, 0))
	if names := soon(); !slices.Equal(names, []string{issuing.Issuing, issuing.OCSP, issuing.Reporter, issuing.TSA}) {
		t.Errorf("before the end of the issuing CA: %v", names)
	}
	if done, err := ca.ReplaceEnding(ctx); err != nil || len(done) != 3 {
		t.Fatalf("%v, %v", done, err)
	}
	if names := soon(); !slices.Equal(names, []string{issuing.Issuing}) {
		t.Errorf("after replacing: %v", names)
	}
	for _, name := range []string{issuing.OCSP, issuing.TSA} {
		if cert, err := ca.Certificate(ctx, name); err != nil || cert.NotAfter.After(issuer.NotAfter) {
			t.Errorf("%s outlasts its issuer: %v", name, err)
		}
	}
}
