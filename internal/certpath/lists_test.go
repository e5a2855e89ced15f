package certpath_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"math/big"
	"sync"
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/pkitest"
)

// web is a network of lists that tests can change.
type web struct {
	mu   sync.Mutex
	docs map[string][]byte
	gets map[string]int
}

func newWeb() *web { return &web{docs: map[string][]byte{}, gets: map[string]int{}} }

func (w *web) put(url string, der []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.docs[url] = der
}

func (w *web) count(url string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gets[url]
}

func (w *web) fetcher() certpath.Fetcher {
	return certpath.Fetcher{
		Get: func(_ context.Context, url, _ string, max int64) ([]byte, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.gets[url]++
			if d := w.docs[url]; d != nil && int64(len(d)) <= max {
				return d, nil
			}
			return nil, errors.New("no answer")
		},
		Post: func(context.Context, string, string, []byte, string, int64) ([]byte, error) {
			return nil, errors.New("no answer")
		},
	}
}

// shelf is a ListStore in memory.
type shelf struct {
	mu    sync.Mutex
	lists map[certpath.ListKey]certpath.StoredList
	down  bool
}

func keyOf(l certpath.StoredList) certpath.ListKey {
	return certpath.ListKey{URL: l.URL, Issuer: sha256.Sum256(l.Issuer.Raw)}
}

func (s *shelf) Latest(_ context.Context, key certpath.ListKey, have time.Time) (certpath.StoredList, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return certpath.StoredList{}, errors.New("down")
	}
	l := s.lists[key]
	if !l.ThisUpdate.After(have) {
		l.DER = nil
	}
	return l, nil
}

func (s *shelf) Keep(_ context.Context, l certpath.StoredList) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.lists[keyOf(l)]; !ok || !l.ThisUpdate.Before(old.ThisUpdate) {
		s.lists[keyOf(l)] = l
	}
	return nil
}

func (s *shelf) Known(_ context.Context, since time.Time) ([]certpath.StoredList, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []certpath.StoredList
	for _, l := range s.lists {
		if l.FetchedAt.After(since) {
			l.DER = nil
			out = append(out, l)
		}
	}
	return out, nil
}

const listURL = "http://lists.example.test/ca.crl"

// signList signs a list of h's CA, number n, with the given serial numbers.
func signList(t testing.TB, h *pkitest.Hierarchy, n int64, at time.Time, life time.Duration, serials ...*big.Int) []byte {
	t.Helper()
	l := pkitest.List{Number: big.NewInt(n), ThisUpdate: at, NextUpdate: at.Add(life)}
	for _, s := range serials {
		l.Entries = append(l.Entries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: at.Add(-time.Minute), ReasonCode: pkitest.ReasonKeyCompromise})
	}
	der, err := l.Sign(h.CA, h.CASigner())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// listedCard is a card whose status only a list at listURL tells.
func listedCard(t testing.TB, h *pkitest.Hierarchy) *x509.Certificate {
	t.Helper()
	c, err := h.Citizen(pkitest.CitizenOptions{NoOCSP: true, KeyType: pkitest.P256})
	if err != nil {
		t.Fatal(err)
	}
	cert := *c.Certificate
	cert.CRLDistributionPoints = []string{listURL}
	return &cert
}

func listChecker(t testing.TB, cfg certpath.CheckerConfig) *certpath.Checker {
	t.Helper()
	c, err := certpath.NewChecker(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRefreshKeepsListsYoung(t *testing.T) {
	h := hierarchy()
	clk := &clock{t: time.Now()}
	w := newWeb()
	c := listChecker(t, certpath.CheckerConfig{Fetch: w.fetcher(), Now: clk.now, Lists: []certpath.ListSource{{URL: listURL, Issuer: h.CA}}})
	ctx := context.Background()
	refresh := func() certpath.ListState {
		t.Helper()
		states, err := c.Refresh(ctx)
		if err != nil || len(states) != 1 || states[0].Anchor != certpath.AnchorID(h.CA) {
			t.Fatalf("%+v %v", states, err)
		}
		return states[0]
	}
	if st := refresh(); st.Err == nil || st.Renewed {
		t.Errorf("nothing there: %+v", st)
	}
	w.put(listURL, signList(t, h, 1, clk.now(), 24*time.Hour, big.NewInt(5), big.NewInt(6)))
	if st := refresh(); st.Err != nil || !st.Renewed || st.Entries != 2 || st.Number != "1" {
		t.Errorf("first: %+v", st)
	}
	n := w.count(listURL)
	if st := refresh(); st.Renewed || w.count(listURL) != n {
		t.Errorf("asked again at once: %+v", st)
	}
	clk.add(31 * time.Minute) // half of CRLMaxAge
	w.put(listURL, signList(t, h, 2, clk.now(), 24*time.Hour, big.NewInt(5)))
	if st := refresh(); !st.Renewed || st.Number != "2" || st.Entries != 1 {
		t.Errorf("second: %+v", st)
	}
	clk.add(31 * time.Minute)
	w.put(listURL, nil)
	if st := refresh(); st.Err == nil || st.Number != "2" {
		t.Errorf("source gone, list still in its time: %+v", st)
	}
	// With the list at hand no citizen waits for a source that is gone.
	cert := listedCard(t, h)
	if _, err := c.Check(ctx, cert, h.CA, clk.now()); err != nil {
		t.Error(err)
	}
	clk.add(24 * time.Hour)
	_, err := c.Check(ctx, cert, h.CA, clk.now())
	wantCode(t, "after nextUpdate", err, "cert_status_unknown")
}

// A short-lived list is renewed before its end although it was just fetched.
func TestRefreshMindsNextUpdate(t *testing.T) {
	h := hierarchy()
	clk := &clock{t: time.Now()}
	w := newWeb()
	c := listChecker(t, certpath.CheckerConfig{Fetch: w.fetcher(), Now: clk.now, Lists: []certpath.ListSource{{URL: listURL, Issuer: h.CA}}})
	w.put(listURL, signList(t, h, 1, clk.now(), 10*time.Minute))
	for _, step := range []struct {
		wait time.Duration
		want int
	}{{0, 1}, {5 * time.Minute, 1}, {4*time.Minute + 30*time.Second, 2}} {
		clk.add(step.wait)
		if _, err := c.Refresh(context.Background()); err != nil || w.count(listURL) != step.want {
			t.Errorf("after %v: %d downloads, want %d (%v)", step.wait, w.count(listURL), step.want, err)
		}
	}
}

func TestOlderListNeverReplacesNewer(t *testing.T) {
	h := hierarchy()
	cert := listedCard(t, h)
	for name, tc := range map[string]struct {
		first, second []byte
		revoked       bool
	}{
		"lower number":               {signList(t, h, 9, time.Now(), time.Hour, cert.SerialNumber), signList(t, h, 8, time.Now().Add(-time.Minute), 3*time.Hour), true},
		"lower number, younger date": {signList(t, h, 9, time.Now().Add(-time.Minute), 3*time.Hour, cert.SerialNumber), signList(t, h, 8, time.Now(), 3*time.Hour), true},
		"higher number":              {signList(t, h, 8, time.Now().Add(-time.Minute), 3*time.Hour, cert.SerialNumber), signList(t, h, 9, time.Now(), 3*time.Hour), false},
	} {
		clk := &clock{t: time.Now()}
		w := newWeb()
		store := &shelf{lists: map[certpath.ListKey]certpath.StoredList{}}
		cfg := certpath.CheckerConfig{Fetch: w.fetcher(), Now: clk.now, Store: store, CRLMaxAge: 10 * time.Minute}
		one := listChecker(t, cfg)
		ask := func(c *certpath.Checker) bool {
			_, err := c.Check(context.Background(), cert, h.CA, clk.now())
			if err != nil && !errors.Is(err, certpath.ErrRevoked) {
				t.Errorf("%s: %v", name, err)
			}
			return err != nil
		}
		w.put(listURL, tc.first)
		if !ask(one) {
			t.Errorf("%s: control", name)
		}
		w.put(listURL, tc.second)
		clk.add(20 * time.Minute)
		if got := ask(one); got != tc.revoked {
			t.Errorf("%s: revoked %v", name, got)
		}
		clk.add(6 * time.Minute)
		states, err := one.Refresh(context.Background())
		if err != nil || len(states) != 1 || (states[0].Err != nil) != tc.revoked { // the replay is told, not taken for news
			t.Errorf("%s: %+v %v", name, states, err)
		}
	}
}

// A CA that begins its numbers anew is believed once its last list has run out,
// and a list that has run out is never handed out for want of another.
func TestNumbersBegunAnew(t *testing.T) {
	h := hierarchy()
	cert := listedCard(t, h)
	clk := &clock{t: time.Now()}
	w := newWeb()
	c := listChecker(t, certpath.CheckerConfig{Fetch: w.fetcher(), Now: clk.now})
	ask := func(what, want string) {
		t.Helper()
		_, err := c.Check(context.Background(), cert, h.CA, clk.now())
		wantCode(t, what, err, want)
	}
	first := signList(t, h, 900, clk.now(), 2*time.Hour)
	w.put(listURL, first)
	ask("first", "")
	clk.add(90 * time.Minute)
	w.put(listURL, signList(t, h, 1, clk.now(), 24*time.Hour, cert.SerialNumber))
	ask("the first still serves", "")
	clk.add(40 * time.Minute)
	w.put(listURL, first)
	ask("the first has run out and is all there is", "cert_status_unknown")
	w.put(listURL, signList(t, h, 2, clk.now(), 24*time.Hour, cert.SerialNumber))
	clk.add(time.Minute)
	ask("the new numbers", "cert_revoked")
}

// What one node has fetched serves all: the source is asked once.
func TestListsAreSharedThroughTheStore(t *testing.T) {
	h := hierarchy()
	cert := listedCard(t, h)
	clk := &clock{t: time.Now()}
	w := newWeb()
	store := &shelf{lists: map[certpath.ListKey]certpath.StoredList{}}
	node := func() *certpath.Checker {
		return listChecker(t, certpath.CheckerConfig{Fetch: w.fetcher(), Now: clk.now, Store: store})
	}
	ask := func(c *certpath.Checker, want string) {
		t.Helper()
		_, err := c.Check(context.Background(), cert, h.CA, clk.now())
		wantCode(t, "check", err, want)
	}
	a, b := node(), node()
	w.put(listURL, signList(t, h, 1, clk.now(), 24*time.Hour))
	ask(a, "")
	ask(b, "")
	if n := w.count(listURL); n != 1 {
		t.Errorf("%d downloads for two nodes", n)
	}
	// The leader, a node that never saw the card, refreshes what the others use.
	clk.add(40 * time.Minute)
	w.put(listURL, signList(t, h, 2, clk.now(), 24*time.Hour, cert.SerialNumber))
	leader := node()
	if states, err := leader.Refresh(context.Background()); err != nil || len(states) != 1 || !states[0].Renewed {
		t.Errorf("%+v %v", states, err)
	}
	clk.add(25 * time.Minute) // past CRLMaxAge for a and b
	ask(a, "cert_revoked")
	ask(b, "cert_revoked")
	if n := w.count(listURL); n != 2 {
		t.Errorf("%d downloads", n)
	}
	// A store that is down costs a download; a list somebody put there is verified.
	store.down = true
	ask(node(), "cert_revoked")
	store.down = false
	stranger := ownHierarchy(t, pkitest.Options{})
	for k, l := range store.lists {
		l.DER, l.ThisUpdate, l.FetchedAt = signList(t, stranger, 3, clk.now(), time.Hour), clk.now(), clk.now()
		store.lists[k] = l
	}
	ask(node(), "cert_revoked")
}

func TestDeltaIsNoCompleteList(t *testing.T) {
	h := hierarchy()
	w := newWeb()
	c := listChecker(t, certpath.CheckerConfig{Fetch: w.fetcher()})
	w.put(listURL, makeCRL(t, h, func(l *x509.RevocationList) { l.ExtraExtensions = append(l.ExtraExtensions, deltaOf(1)) }))
	_, err := c.Check(context.Background(), listedCard(t, h), h.CA, time.Now())
	wantCode(t, "delta", err, "cert_status_unknown")
	w.put(listURL, makeCRL(t, h, nil))
	c = listChecker(t, certpath.CheckerConfig{Fetch: w.fetcher()})
	_, err = c.Check(context.Background(), listedCard(t, h), h.CA, time.Now())
	wantCode(t, "control", err, "")
}

// The bounds hold, and configured lists stay.
func TestListCacheIsBounded(t *testing.T) {
	h := hierarchy()
	w := newWeb()
	keep := certpath.ListSource{URL: "http://lists.example.test/keep.crl", Issuer: h.CA}
	c := listChecker(t, certpath.CheckerConfig{Fetch: w.fetcher(), CacheCRLs: 4, Lists: []certpath.ListSource{keep}})
	der := signList(t, h, 1, time.Now(), time.Hour)
	w.put(keep.URL, der)
	if _, err := c.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	cert := listedCard(t, h)
	for i := range 20 {
		url := "http://lists.example.test/" + big.NewInt(int64(i)).String()
		w.put(url, der)
		cert.CRLDistributionPoints = []string{url}
		if _, err := c.Check(context.Background(), cert, h.CA, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	states, err := c.Refresh(context.Background())
	if err != nil || len(states) != 4 || w.count(keep.URL) != 1 {
		t.Errorf("%d lists at hand, the configured one fetched %d times, %v", len(states), w.count(keep.URL), err)
	}
}

// A card names its part of the list first, as MOICA's do; the part is enough.
func TestPartitionedList(t *testing.T) {
	h := ownHierarchy(t, pkitest.Options{Partitions: 8})
	good := card(t, h, pkitest.CitizenOptions{NoOCSP: true, KeyType: pkitest.P256})
	revoked := card(t, h, pkitest.CitizenOptions{NoOCSP: true, KeyType: pkitest.P256, Revoked: true})
	var n counter
	c := checker(t, certpath.CheckerConfig{}, &n)
	ctx := context.Background()
	ev, err := c.Check(ctx, good.Certificate, h.CA, time.Now())
	if err != nil || ev.URL != good.Certificate.CRLDistributionPoints[0] {
		t.Errorf("%+v %v", ev, err)
	}
	_, err = c.Check(ctx, revoked.Certificate, h.CA, time.Now())
	wantCode(t, "revoked", err, "cert_revoked")
	// Another part does not cover it, though signed by the same CA and current.
	foreign := -1
	for i := range 8 {
		der, err := h.PartitionCRL(time.Now(), i)
		if err != nil {
			t.Fatal(err)
		}
		crl, err := certpath.ParseCRL(der)
		if err != nil {
			t.Fatal(err)
		}
		if crl.Covers(good.Certificate) == nil {
			foreign++
		}
	}
	if foreign != 0 {
		t.Errorf("%d parts cover one certificate", foreign+1)
	}
}
