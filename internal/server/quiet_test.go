package server_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sealgate/cmd/sealctl/softphone"
)

// The log has nothing about a person and nothing that opens anything, whatever
// happens: after people bound phones, logged in and signed, and after every
// refusal we can think of.
func TestLogTellsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	secrets := map[string]string{"client secret": w.config.Secret}
	keep := func(what, value string) {
		if len(value) < 4 {
			t.Fatalf("%s is %q", what, value)
		}
		secrets[what] = value
	}
	for i, c := range w.cards {
		keep(fmt.Sprint("national ID ", i), c.NationalID)
		keep(fmt.Sprint("name ", i), c.Name)
		keep(fmt.Sprint("PIN ", i), c.PIN)
	}
	for i := range w.cards { // the last two are expired and revoked
		e := w.enrolment(i)
		if i == 2 {
			e.NationalID = w.cards[0].NationalID // another person's
		}
		_, _ = e.Run(w.ctx)
		for _, c := range e.Phone.Keys().Credentials("localhost") {
			keep(fmt.Sprint("user handle ", i), b64(c.UserHandle))
			keep(fmt.Sprint("credential ", i), b64(c.ID))
		}
	}
	phone := w.enrol(0)
	a := w.relyingParty("profile", "national_id").begin()
	desk := w.browser()
	id := must(desk.Follow(w.ctx, a.url))(t)
	frame := must(desk.Frame(w.ctx, id))(t)
	keep("frame", frame[strings.LastIndex(frame, ".")+1:])
	claim := must(phone.Scan(w.ctx, frame))(t)
	keep("claim token", claim.Token)
	assertion := must(phone.Assert(claim))(t)
	keep("assertion", string(assertion[20:80]))
	_, _ = phone.SendAssertion(w.ctx, claim, append([]byte(`{"x":`), append(assertion, '}')...), nil)
	if _, err := phone.SendAssertion(w.ctx, claim, assertion, nil); err != nil {
		t.Fatal(err)
	}
	back := must(desk.Return(w.ctx, id))(t)
	code := must(a.code(back))(t)
	keep("code", code)
	keep("state", a.state)
	keep("nonce", a.nonce)
	keep("verifier", a.verifier)
	who, err := a.redeem(code)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = a.redeem(code)
	keep("access token", who.token.AccessToken)
	keep("ID token", who.token.Extra("id_token").(string))
	keep("subject", who.Subject)
	_, coder, coded := w.started(t)
	keep("typed code", strings.ReplaceAll(must(coder.Step(w.ctx, coded, "code", nil))(t).Code, " ", ""))
	if err := desk.LogIn(w.ctx, phone); err != nil {
		t.Fatal(err)
	}
	if err := desk.Phone(phone.Keys()).OpenSession(w.ctx); err != nil {
		t.Fatal(err)
	}
	keep("document", "機密文件之名.pdf")
	keep("text", "只給當事人看的文字")
	o, err := w.api().create(map[string]any{"text": secrets["text"], "documents": []any{document(secrets["document"], []byte("a"))}})
	if err != nil {
		t.Fatal(err)
	}
	keep("start token", o.StartURL[strings.Index(o.StartURL, "#")+1:])
	sign := must(desk.Open(w.ctx, o.StartURL))(t)
	if _, err := phone.Approve(w.ctx, w.scan(t, desk, phone, sign)); err != nil {
		t.Fatal(err)
	}
	w.api().completed(t, sign)
	keep("API token", must(tokenOf(w))(t))
	for i, c := range desk.Client().Jar.Cookies(must(url.Parse(w.origin))(t)) {
		keep(fmt.Sprint("cookie ", i), c.Value)
	}
	for _, path := range []string{"/nothing/" + secrets["national ID 0"], "/?q=" + secrets["national ID 0"], "/app/" + secrets["code"], "/oauth2/authorize?client_id=" + secrets["code"], "/o/" + secrets["code"]} {
		must(desk.Get(w.ctx, path))(t)
	}
	w.hurt(t, desk, phone) // our own failures are logged with their cause

	log := w.log.String() + libraries.String()
	if n := strings.Count(log, `"msg":"http"`); n < 50 {
		t.Fatalf("only %d requests are logged", n)
	}
	if !strings.Contains(log, `"msg":"fault"`) || !strings.Contains(log, `"status":500`) {
		t.Error("no failure of ours is logged: this test looks at too little")
	}
	for what, value := range secrets {
		for _, form := range []string{value, url.QueryEscape(value), strings.ToLower(value)} {
			if i := strings.Index(log, form); i >= 0 {
				t.Errorf("the log has the %s: …%s…", what, log[max(0, i-200):min(len(log), i+60)])
				break
			}
		}
	}
	for _, ip := range []string{"127.0.0.1", "[::1]"} {
		if strings.Contains(log, ip) {
			t.Errorf("the log has addresses: %s", ip)
		}
	}
}

// hurt makes the database fail under requests, so that causes reach the log.
func (w *world) hurt(t testing.TB, desk *softphone.Browser, phone *softphone.Phone) {
	_, other, id := w.started(t)
	claim := w.scan(t, other, phone, id)
	w.exec(t, "ALTER TABLE approvals RENAME TO approvals_away")
	if _, err := phone.Approve(w.ctx, claim); err == nil {
		t.Error("approved without a place for the evidence")
	}
	w.exec(t, "ALTER TABLE approvals_away RENAME TO approvals")
	if st := must(other.Order(w.ctx, id))(t); st.State != "scanned" {
		t.Errorf("after a failed approval the order is %s", st.State)
	}
	if _, err := phone.Approve(w.ctx, claim); err != nil {
		t.Errorf("and once more: %v", err)
	}
}

// A login writes four times and no more, a signature four times, and whoever
// only looks writes nothing. (Wake-ups between nodes take a transaction id and
// write no table: they are counted apart.) Transaction ids are the whole
// server's, so this test runs alone.
func TestCommits(t *testing.T) {
	w := newWorld(t, nil)
	phone := w.enrol(0)
	client := w.api()
	tokenWarm := must(client.create(map[string]any{"documents": []any{document("a", []byte("a"))}}))(t)
	listener, err := pgx.Connect(w.ctx, w.config.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close(w.ctx)
	if _, err := listener.Exec(w.ctx, "LISTEN sealgate_orders"); err != nil {
		t.Fatal(err)
	}
	// writes counts the transactions that took an id while f ran, without the
	// wake-ups. The server's own housekeeping takes ids too, now and then: the
	// least of a few runs is what f takes.
	writes := func(f func()) int {
		least := 1 << 30
		for range 3 {
			least = min(least, w.writes(t, listener, f))
		}
		return least
	}

	rp := w.relyingParty("profile", "national_id")
	if n := writes(func() {
		a, desk := rp.begin(), w.browser()
		id := w.approved(t, a, desk, phone)
		for range 5 {
			must(desk.Order(w.ctx, id))(t)
			must(desk.Return(w.ctx, id))(t)
		}
		who, err := a.finish(must(desk.Return(w.ctx, id))(t))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := a.rp.provider.UserInfo(w.ctx, oauthSource(who)); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 4 {
		t.Errorf("a login wrote %d times", n)
	}
	if n := writes(func() {
		o := must(client.create(map[string]any{"documents": []any{document("a", []byte("a")), document("b", []byte("b"))}}))(t)
		desk := w.browser()
		id := must(desk.Open(w.ctx, o.StartURL))(t)
		if _, err := phone.Approve(w.ctx, w.scan(t, desk, phone, id)); err != nil {
			t.Fatal(err)
		}
		client.completed(t, id)
		w.signature(t, client, id, 0)
	}); n != 5 { // created, opened, claimed, approved, completed
		t.Errorf("signing wrote %d times", n)
	}
	if n := writes(func() {
		for _, path := range []string{"/", "/enrol", "/app", "/help", "/o/" + tokenWarm.Order} {
			must(w.browser().Get(w.ctx, path))(t)
		}
		must(client.read(tokenWarm.Order, 0))(t)
	}); n != 0 {
		t.Errorf("looking wrote %d times", n)
	}
}

// writes counts the transactions that took an id while f ran, less the
// notifications that were heard.
func (w *world) writes(t testing.TB, listener *pgx.Conn, f func()) int {
	next := func() int { return w.count(t, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint") }
	heard := func() (n int) {
		for {
			ctx, cancel := context.WithTimeout(w.ctx, 50*time.Millisecond)
			_, err := listener.WaitForNotification(ctx)
			cancel()
			if err != nil {
				return n
			}
			n++
		}
	}
	w.quiet(t)
	heard()
	before := next()
	f()
	w.quiet(t)
	wakeups := heard()
	return next() - before - wakeups
}

// Requests whose callers go away at any moment leave nothing open and nothing
// half done: no transaction, no connection, no waiter, no stream.
func TestCallersGoAway(t *testing.T) {
	t.Parallel()
	metrics := freeAddress(t)
	w := newWorld(t, map[string]string{"metrics.listen": metrics})
	phone := w.enrol(0)
	var all sync.WaitGroup
	for range 24 {
		_, desk, id := w.started(t)
		claim := w.scan(t, desk, phone, id)
		assertion := must(phone.Assert(claim))(t)
		all.Go(func() {
			ctx, cancel := context.WithTimeout(w.ctx, time.Duration(rand.IntN(12_000))*time.Microsecond)
			defer cancel()
			_, _ = phone.SendAssertion(ctx, claim, assertion, nil)
		})
		all.Wait()
	}
	w.quiet(t)
	for what, sql := range map[string]string{
		"approved orders without evidence":   "SELECT count(*) FROM orders o WHERE state = 'approved' AND NOT EXISTS (SELECT FROM approvals a WHERE a.order_id = o.id)",
		"evidence of orders not approved":    "SELECT count(*) FROM approvals a JOIN orders o ON o.id = a.order_id WHERE o.state = 'scanned'",
		"approvals without one entry":        "SELECT count(*) FROM approvals a WHERE 1 <> (SELECT count(*) FROM audit_entries e WHERE e.order_id = a.order_id AND act = 'order.approved' AND result = 'ok')",
		"entries of approvals that were not": "SELECT count(*) FROM audit_entries e JOIN orders o ON o.id = e.order_id WHERE e.act = 'order.approved' AND e.result = 'ok' AND o.state = 'scanned'",
		"connections inside a transaction":   "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
	} {
		if n := w.count(t, sql); n != 0 {
			t.Errorf("%d %s", n, what)
		}
	}
	// Streams and long polls whose callers go.
	ctx, cancel := context.WithCancel(w.ctx)
	_, desk, id := w.started(t)
	for range 40 {
		go func() { _ = desk.Events(ctx, id, func(softphone.Event) bool { return true }) }()
	}
	_, desk2, id2 := w.started(t)
	claim := w.scan(t, desk2, phone, id2)
	for range 20 {
		go func() { _, _ = phone.Status(ctx, claim, 25*time.Second) }()
	}
	w.until(t, metrics, "sealgate_http_streams", func(n string) bool { return n == "40" })
	w.until(t, metrics, "sealgate_waiting_orders", func(n string) bool { return n == "2" })
	cancel()
	w.until(t, metrics, "sealgate_http_streams", func(n string) bool { return n == "0" })
	w.until(t, metrics, "sealgate_waiting_orders", func(n string) bool { return n == "0" })
	w.until(t, metrics, "sealgate_pool_connections", func(n string) bool { return n == "0" })
}

// until waits for a metric of the node in this process.
func (w *world) until(t testing.TB, address, name string, good func(string) bool) {
	t.Helper()
	last := ""
	for range 800 {
		res, err := http.Get("http://" + address + "/metrics")
		if err == nil {
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			for line := range strings.Lines(string(body)) {
				if value, ok := strings.CutPrefix(line, name+" "); ok {
					if last = strings.TrimSpace(value); good(last) {
						return
					}
				}
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%s is %s", name, last)
}
