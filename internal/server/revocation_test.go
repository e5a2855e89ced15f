package server_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/config"
	"sealgate/internal/fault"
	"sealgate/internal/pkitest"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
	"sealgate/internal/server"
)

// listSite is an authority's web site with nothing but revocation lists, and a
// clock that the test moves.
type listSite struct {
	mu    sync.Mutex
	lists map[string][]byte
	asked map[string]int
	at    time.Time
}

func (l *listSite) now() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at
}

func (l *listSite) pass(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = l.at.Add(d)
}

func (l *listSite) put(url string, der []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if der == nil {
		delete(l.lists, url)
		return
	}
	l.lists[url] = der
}

func (l *listSite) times(url string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked[url]
}

func (l *listSite) fetcher() certpath.Fetcher {
	return certpath.Fetcher{
		Get: func(_ context.Context, url, _ string, _ int64) ([]byte, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.asked[url]++
			if der := l.lists[url]; der != nil {
				return der, nil
			}
			return nil, errors.New("no answer")
		},
		Post: func(context.Context, string, string, []byte, string, int64) ([]byte, error) {
			return nil, errors.New("no answer")
		},
	}
}

func certificates(t testing.TB, list ...*x509.Certificate) string {
	t.Helper()
	dir := t.TempDir()
	var text []byte
	for _, c := range list {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	if err := os.WriteFile(filepath.Join(dir, "certificates.pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The lists of other authorities are fetched before they end, by whoever leads,
// and lie in the database for every node and for a restart. What has run out
// is not used.
func TestForeignListsAreKeptFresh(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	pool := pgtest.Open(t)
	h, err := pkitest.NewHierarchy(pkitest.Options{BaseURL: "http://lists.example.test"})
	if err != nil {
		t.Fatal(err)
	}
	site := &listSite{lists: map[string][]byte{}, asked: map[string]int{}, at: time.Now().Truncate(time.Second)}
	card := func() *x509.Certificate {
		c, err := h.Citizen(pkitest.CitizenOptions{NoOCSP: true, KeyType: pkitest.P256})
		if err != nil {
			t.Fatal(err)
		}
		return c.Certificate
	}
	good, bad := card(), card()
	ofCards, ofCAs := good.CRLDistributionPoints[0], h.CA.CRLDistributionPoints[0]
	publish := func() {
		site.put(ofCards, must(h.CRL(site.now()))(t))
		site.put(ofCAs, must(h.RootCRL(site.now()))(t))
	}
	cfg := config.Card{AnchorsDir: certificates(t, h.Root), IntermediatesDir: certificates(t, h.CA)}
	log := &lockedBuffer{}
	node := func() interface {
		Refresh(context.Context) error
		Validator() *certpath.Validator
	} {
		return must(server.NewCardStatus(cfg, site.fetcher(), postgres.New(pool).Lists(), slog.New(slog.NewJSONHandler(log, nil)), site.now))(t)
	}
	judge := func(n interface{ Validator() *certpath.Validator }, c *x509.Certificate, want string) {
		t.Helper()
		_, err := n.Validator().Validate(ctx, c, nil, site.now(), certpath.CitizenProfile())
		if got := fault.CodeOf(err); got != want {
			t.Errorf("got %q (%v), want %q", got, err, want)
		}
	}
	publish()
	a := node()
	if err := a.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if site.times(ofCAs) != 1 {
		t.Error("the list that a path cannot do without was not fetched ahead")
	}
	judge(a, good, "")
	judge(a, bad, "")
	before := site.times(ofCards)

	b := node() // another node, or this one started again, while the site is silent
	site.put(ofCards, nil)
	site.put(ofCAs, nil)
	judge(b, good, "")
	if site.times(ofCards) != before {
		t.Error("the second node downloaded what lay in the database")
	}

	h.Revoke(bad, site.now(), pkitest.ReasonKeyCompromise)
	site.pass(23 * time.Hour) // an hour before the end
	publish()
	if err := b.Refresh(ctx); err != nil { // the other node leads now
		t.Fatal(err)
	}
	after := site.times(ofCards)
	judge(a, bad, "cert_revoked")
	judge(b, bad, "cert_revoked")
	judge(a, good, "")
	if site.times(ofCards) != after {
		t.Error("the first node downloaded what the leader had just fetched")
	}

	site.put(ofCards, nil)
	site.put(ofCAs, nil)
	site.pass(20 * time.Hour)
	if err := b.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "could not be renewed; the one at hand serves") {
		t.Error("the log does not say that a list could not be renewed")
	}
	judge(b, good, "") // still in its time
	site.pass(5 * time.Hour)
	if err := b.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "none is in force") {
		t.Error("the log does not say that a list has ended")
	}
	for _, n := range []interface{ Validator() *certpath.Validator }{a, b} {
		judge(n, good, "cert_status_unknown")
		judge(n, bad, "cert_revoked") // a revocation does not end with the list that told it
	}
	judge(node(), bad, "cert_status_unknown")
	// Where an operator lets the unknown pass, a node that starts anew still
	// learns from the list that has ended in the database.
	cfg.AllowUnknownStatus, cfg.AllowUnknownReason = []string{"login"}, "test"
	cfg.AllowUnknownUntil = site.now().Add(time.Hour).Format(time.RFC3339)
	for c, want := range map[*x509.Certificate]string{good: "", bad: "cert_revoked"} {
		_, err := node().Validator().Validate(ctx, c, nil, site.now(), certpath.CitizenProfileFor(certpath.ForLogin))
		if got := fault.CodeOf(err); got != want {
			t.Errorf("allowed: got %q (%v), want %q", got, err, want)
		}
	}
}

// The operator's switch lets exactly its purpose go on, only until its end, and
// each time says so in the transaction of what it let through. Without it
// nothing passes.
func TestUnknownStatusAllowed(t *testing.T) {
	metrics := freeAddress(t)
	until := time.Now().Add(time.Hour).Format(time.RFC3339)
	w := newWorld(t, map[string]string{"card.allow_unknown_status": "login,binding", "card.allow_unknown_until": until,
		"card.allow_unknown_reason": "the authority is down", "metrics.listen": metrics})
	entries := func(act, purpose string) int {
		return w.count(t, `SELECT count(*) FROM audit_entries WHERE act = $1 AND detail->>'purpose' = $2 AND detail->>'reason' = 'the authority is down'`, act, purpose)
	}
	if entries("revocation.allowance", "login") != 1 || entries("revocation.allowance", "binding") != 1 || entries("revocation.allowance", "signing") != 0 {
		t.Error("the start did not say what is allowed")
	}
	if res, text := w.raw(t, http.DefaultClient, "GET", "/readyz", nil, ""); res.StatusCode != 200 || !strings.Contains(text, "binding, login") {
		t.Errorf("/readyz says %s", text)
	}
	phone := w.citizenPhone(t, 2, "手機")
	_, sign := w.signer(t, phone)
	authority := testCards(t).Hierarchy()
	down := pkitest.ResponderFaults{OCSPDown: true, CRLDown: true}
	authority.SetFaults(down)
	defer authority.SetFaults(pkitest.ResponderFaults{})
	w.exec(t, `DELETE FROM foreign_lists`)
	w.age(t, 9*24*time.Hour)
	if err := w.logIn(t, phone); err != nil {
		t.Errorf("a login that is allowed: %v", err)
	}
	if n := entries("revocation.unknown_allowed", "login"); n != 1 {
		t.Errorf("%d entries of what was let through", n)
	}
	if n := w.count(t, `SELECT count(*) FROM audit_entries e JOIN audit_entries o ON o.order_id = e.order_id AND o.act = 'order.approved' AND o.xmin = e.xmin
		WHERE e.act = 'revocation.unknown_allowed' AND e.device_id = o.device_id`); n != 1 {
		t.Errorf("%d entries in the transaction of the approval", n)
	}
	_, err := sign()
	wantCode(t, err, "card_status_unknown") // not among the purposes
	w.until(t, metrics, `sealgate_revocation_unknown_allowed_total{purpose="login"}`, func(n string) bool { return n == "1" })
	if !strings.Contains(w.log.String(), "REVOCATION UNKNOWN AND ALLOWED") || !strings.Contains(w.log.String(), "REVOCATION FAILS OPEN") {
		t.Error("the log is silent")
	}

	e := w.enrolment(0)
	if _, err := e.Run(w.ctx); err != nil {
		t.Fatalf("a binding that is allowed: %v", err)
	}
	if n := entries("revocation.unknown_allowed", "binding"); n != 2 { // at the reading of the card, and at the binding
		t.Errorf("%d entries for a binding", n)
	}
	if n := w.count(t, `SELECT count(*) FROM citizen_certificates WHERE checked_at < '2000-01-01'`); n != 1 {
		t.Errorf("a card that nobody looked at counts as looked at (%d)", n)
	}
	// A card that we know to be revoked is not brought back by silence.
	w.exec(t, `UPDATE citizen_certificates SET state = 'revoked'`)
	_, err = w.enrolment(0).Run(w.ctx)
	if err == nil || !strings.Contains(err.Error(), "card_revoked") {
		t.Errorf("a card known to be revoked: %v", err)
	}
}

// Without the switch, and after its end, an unknown status stops everything.
func TestUnknownStatusFailsClosed(t *testing.T) {
	for name, settings := range map[string]map[string]string{
		"no switch": nil,
		"its end has passed": {"card.allow_unknown_status": "login,signing,binding", "card.allow_unknown_reason": "r",
			"card.allow_unknown_until": time.Now().Add(-time.Minute).Format(time.RFC3339)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, settings)
			phone := w.citizenPhone(t, 2, "手機")
			_, sign := w.signer(t, phone)
			testCards(t).Hierarchy().SetFaults(pkitest.ResponderFaults{OCSPDown: true, CRLDown: true})
			defer testCards(t).Hierarchy().SetFaults(pkitest.ResponderFaults{})
			w.exec(t, `DELETE FROM foreign_lists`)
			w.age(t, 9*24*time.Hour)
			wantCode(t, w.logIn(t, phone), "card_status_unknown")
			_, err := sign()
			wantCode(t, err, "card_status_unknown")
			if _, err := w.enrolment(0).Run(w.ctx); err == nil || !strings.Contains(err.Error(), "cert_status_unknown") {
				t.Errorf("bound: %v", err)
			}
			if n := w.count(t, `SELECT count(*) FROM audit_entries WHERE act LIKE 'revocation.%'`); n != 0 {
				t.Errorf("%d entries of an allowance", n)
			}
		})
	}
}
