package server_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// follow asks for a login from an address behind the proxy.
func (w *world) follow(t testing.TB, from, accept string) *http.Response {
	t.Helper()
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, _ := w.raw(t, c, "GET", strings.TrimPrefix(w.relyingParty().begin().url, w.origin), http.Header{"X-Forwarded-For": {from}, "Accept": {accept}}, "")
	return res
}

// Nobody keeps a node busy with orders that nobody wants: an address has its
// share, everybody has theirs, and who asks too much is told when to come back.
func TestStartsAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"limits.starts": "3", "limits.node_starts": "8", "trusted_proxies": "127.0.0.1/32,::1/128"})
	orders := func() int { return w.count(t, "SELECT count(*) FROM orders") }
	for i := range 6 { // twice what a minute allows may come at once
		if res := w.follow(t, "192.0.2.1", "text/html"); res.StatusCode != http.StatusSeeOther {
			t.Fatalf("login %d: %s", i, res.Status)
		}
	}
	before, entries := orders(), w.count(t, "SELECT count(*) FROM audit_entries")
	for _, accept := range []string{"text/html", "application/json"} {
		res := w.follow(t, "192.0.2.1", accept)
		wait, err := strconv.Atoi(res.Header.Get("Retry-After"))
		if res.StatusCode != http.StatusTooManyRequests || err != nil || wait < 1 || wait > 60 || !strings.Contains(res.Header.Get("Content-Type"), map[string]string{"text/html": "html", "application/json": "problem+json"}[accept]) {
			t.Errorf("one too many: %s %v", res.Status, res.Header)
		}
	}
	if orders() != before || w.count(t, "SELECT count(*) FROM audit_entries") != entries {
		t.Error("what was refused wrote something")
	}
	for i := range 10 { // others, and the other computers of nobody's network, are not concerned
		if res := w.follow(t, fmt.Sprintf("2001:db8:%x::1", i), "text/html"); res.StatusCode != http.StatusSeeOther {
			t.Fatalf("another address: %s", res.Status)
		}
	}
	if res := w.follow(t, "2001:db8:ffff::1", "text/html"); res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("everybody together: %s", res.Status)
	}
	// What stands further left in the header was written by the caller.
	if res := w.follow(t, "198.51.100.7, 192.0.2.1", "text/html"); res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("an invented address: %s", res.Status)
	}
	if err := w.box.Server.FlushRefusals(w.ctx); err != nil {
		t.Fatal(err)
	}
	if n := w.count(t, `SELECT coalesce(sum((detail->>'count')::int), 0) FROM audit_entries WHERE act = 'refusals.summed' AND result = 'refused' AND detail->>'code' = 'rate_limited' AND ip = '192.0.2.1'`); n != 3 {
		t.Errorf("%d refusals are in the sums", n)
	}
}

// A whole office that arrives at nine behind one address gets in.
func TestOfficeBehindOneAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"limits.starts": "600", "limits.node_starts": "30000", "limits.claims": "1800"})
	url := w.relyingParty().begin().url
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for i := range 500 {
		res, err := c.Get(url)
		if err != nil || res.StatusCode != http.StatusSeeOther {
			t.Fatalf("person %d: %v %v", i, res, err)
		}
		res.Body.Close()
	}
}

// Wrong frames cost an entry each only so often; then they are counted.
func TestRefusalsAreSummed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"limits.refusals": "1", "limits.claims": "0"})
	wrong := func() {
		t.Helper()
		res, text := w.raw(t, http.DefaultClient, "POST", "/api/device/v1/claims", http.Header{"Content-Type": {"application/json"}}, `{"source":"scanner","frame":"https://elsewhere.example/q/x"}`)
		if res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusBadRequest && res.StatusCode != http.StatusGone {
			t.Fatalf("%s %s", res.Status, text)
		}
	}
	for range 25 {
		wrong()
	}
	rows := func() int {
		return w.count(t, "SELECT count(*) FROM audit_entries WHERE act = 'order.scanned' AND result = 'refused'")
	}
	if n := rows(); n != 10 {
		t.Errorf("%d entries", n)
	}
	if err := w.box.Server.FlushRefusals(w.ctx); err != nil {
		t.Fatal(err)
	}
	if n := w.count(t, `SELECT sum((detail->>'count')::int) FROM audit_entries WHERE act = 'refusals.summed' AND detail->>'of_act' = 'order.scanned' AND detail->>'code' = 'frame_unknown' AND ip IS NOT NULL`); n != 15 {
		t.Errorf("%d are counted", n)
	}
	if err := w.box.Server.FlushRefusals(w.ctx); err != nil || w.count(t, `SELECT count(*) FROM audit_entries WHERE act = 'refusals.summed'`) != 1 {
		t.Errorf("counted twice: %v", err)
	}
	// What is done, not refused, is written whatever happened before.
	if phone := w.enrol(0); phone == nil || w.count(t, "SELECT count(*) FROM audit_entries WHERE act = 'enrol.completed' AND result = 'ok'") != 1 {
		t.Error("an act has no entry")
	}
}
