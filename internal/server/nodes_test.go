package server_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/softauthn"
)

// Two nodes on one database: created on one, scanned and approved on the
// other, awaited on the first by stream and by long poll, redeemed on the other.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	other := w.process().address
	keys := w.enrol(0).Keys()

	t.Run("login", func(t *testing.T) {
		a := w.relyingParty("profile").begin()
		desk := w.browser()
		id := must(desk.Follow(w.ctx, a.url))(t)
		// states carries what the first node's stream tells, and when.
		type told struct {
			state string
			at    time.Time
		}
		states := make(chan told, 20)
		go func() {
			defer close(states)
			_ = desk.Events(w.ctx, id, func(e softphone.Event) bool {
				var st struct{ State string }
				if e.Name == "state" && json.Unmarshal([]byte(e.Data), &st) == nil {
					states <- told{st.State, time.Now()}
				}
				return st.State != "completed"
			})
		}()
		until := func(want string) time.Time {
			for s := range states {
				if s.state == want {
					return s.at
				}
			}
			t.Fatalf("the first node's stream never said %q", want)
			return time.Time{}
		}
		until("created")
		far := w.phone(keys, other)
		claim := w.scan(t, desk, far, id)
		scanned := time.Now()
		// Well under the slow poll: the wake-up itself has crossed.
		if lag := until("scanned").Sub(scanned); lag > 3*time.Second {
			t.Errorf("the first node heard of the scan %v late", lag)
		}
		polled := make(chan *softphone.Status, 1)
		go func() { // the phone's own long poll, on the first node
			st, err := w.phone(keys).Status(w.ctx, claim, 20*time.Second)
			if err != nil {
				t.Error(err)
			}
			polled <- st
		}()
		time.Sleep(50 * time.Millisecond)
		began := time.Now()
		if _, err := far.Approve(w.ctx, claim); err != nil {
			t.Fatal(err)
		}
		until("approved")
		if st := <-polled; st == nil || st.State != "approved" {
			t.Fatalf("the long poll said %+v", st)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the approval took %v to reach the first node", took)
		}
		back := must(desk.Return(w.ctx, id))(t)
		a.rp.ctx = oidcClient(w.ctx, other)
		who, err := a.finish(back)
		if err != nil || who.Name != w.cards[0].Name {
			t.Fatalf("%+v %v", who, err)
		}
		until("completed")
		if _, err := a.finish(back); err == nil {
			t.Fatal("the code worked twice")
		}
	})
	t.Run("sign", func(t *testing.T) {
		client, content := w.api(), []byte("two nodes")
		o, err := client.create(map[string]any{"documents": []any{document("a", content)}})
		if err != nil {
			t.Fatal(err)
		}
		desk := w.browser(other)
		id := must(desk.Open(w.ctx, o.StartURL))(t)
		polled := make(chan *restOrder, 1)
		go func() { // until the phone on the other node has scanned it
			o, err := client.read(id, 20)
			if err != nil {
				t.Error(err)
			}
			polled <- o
		}()
		far := w.phone(keys, other)
		claim := w.scan(t, desk, far, id)
		if o := <-polled; o == nil || o.State != "scanned" {
			t.Fatalf("the long poll said %+v", o)
		}
		if _, err := far.Approve(w.ctx, claim); err != nil {
			t.Fatal(err)
		}
		if o := client.completed(t, id); o.State != "completed" {
			t.Fatalf("%+v", o)
		}
		w.opensslVerifies(t, w.signature(t, client, id, 0), content)
	})
	t.Run("enrol", func(t *testing.T) { // card on one node, phone on the other
		e := w.enrolment(1)
		e.Phone = w.phone(softauthn.New(softauthn.Options{}), other)
		if _, err := e.Run(w.ctx); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("session cookies", func(t *testing.T) { // sealed on one, read on the other
		desk := w.browser()
		here := desk.Phone(keys)
		if err := here.OpenSession(w.ctx); err != nil {
			t.Fatal(err)
		}
		far := softphone.New(softphone.Config{Server: w.origin, Keys: keys, HTTP: moved(desk.Client(), other)})
		var list struct{ Items []map[string]any }
		if err := far.Read(w.ctx, "history", &list); err != nil || len(list.Items) == 0 {
			t.Fatalf("%v %v", list, err)
		}
	})
}

// kill -9 between approve and collect loses nothing: the approved login still
// redeems and the approved documents still get signed, on another node.
func TestKilledBetweenApproveAndCollect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	victim := w.process()
	keys := w.enrol(0, victim.address).Keys()
	phone := w.phone(keys, victim.address)

	a := w.relyingParty("profile").begin()
	desk := w.browser(victim.address)
	login := must(desk.Follow(w.ctx, a.url))(t)
	loginClaim := w.scan(t, desk, phone, login)

	client, content := w.api(), [][]byte{[]byte("first"), []byte("second")}
	o, err := client.create(map[string]any{"documents": []any{document("a", content[0]), document("b", content[1])}})
	if err != nil {
		t.Fatal(err)
	}
	signer := w.browser(victim.address)
	sign := must(signer.Open(w.ctx, o.StartURL))(t)
	signClaim := w.scan(t, signer, phone, sign)

	// Whoever stores signatures now waits, in the middle of its transaction.
	release := w.hold(t, "LOCK TABLE signatures IN EXCLUSIVE MODE")
	if _, err := phone.Approve(w.ctx, loginClaim); err != nil {
		t.Fatal(err)
	}
	if _, err := phone.Approve(w.ctx, signClaim); err != nil {
		t.Fatal(err)
	}
	w.blocked(t)
	victim.kill()
	release()

	desk = w.browserLike(t, desk) // the same browser, at the node that is left
	who, err := a.finish(must(desk.Return(w.ctx, login))(t))
	if err != nil || who.Name != w.cards[0].Name {
		t.Fatalf("the login is lost: %+v %v", who, err)
	}
	if o := client.completed(t, sign); o.State != "completed" {
		t.Fatalf("the signatures are lost: %+v", o)
	}
	for n := range content {
		w.opensslVerifies(t, w.signature(t, client, sign, n), content[n])
	}
	if n := w.count(t, "SELECT count(*) FROM signatures"); n != len(content) {
		t.Fatalf("%d signatures of %d documents", n, len(content))
	}
}

// hold keeps a lock in a transaction of the test's own until release.
func (w *world) hold(t testing.TB, sql string) (release func()) {
	t.Helper()
	conn, err := pgx.Connect(w.ctx, w.config.URL)
	if err != nil {
		t.Fatal(err)
	}
	done := false
	release = func() {
		if !done {
			done = true
			_ = conn.Close(w.ctx)
		}
	}
	t.Cleanup(release)
	for _, s := range []string{"BEGIN", sql} {
		if _, err := conn.Exec(w.ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	return release
}

// blocked waits until somebody waits for a lock, or so many do.
func (w *world) blocked(t testing.TB, many ...int) {
	t.Helper()
	n := 1
	if len(many) > 0 {
		n = many[0]
	}
	for range 1000 {
		if w.count(t, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) >= n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("nobody got as far as the lock")
}

func (w *world) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := w.pool.Exec(w.ctx, sql, args...); err != nil {
		t.Fatal(err)
	}
}

func (w *world) count(t testing.TB, sql string, args ...any) int {
	t.Helper()
	var n int
	if err := w.pool.QueryRow(w.ctx, sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// kill -9 in the middle of completing a binding: all or nothing, and the same
// proof completes it on another node.
func TestKilledWhileBinding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	victim := w.process()
	e := w.enrolment(0, victim.address)
	id, info, err := e.Begin(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	claim := w.scan(t, e.Browser, e.Phone, id)
	if err := e.Browser.Check(w.ctx, id, claim.Check.Digits); err != nil {
		t.Fatal(err)
	}
	if err := e.Phone.Bind(w.ctx, claim, "Phone"); err != nil {
		t.Fatal(err)
	}
	before := w.snapshot(t)
	// The certificate is written after citizen, device and key: all of these are in the open transaction.
	release := w.hold(t, "LOCK TABLE mobile_certificates IN EXCLUSIVE MODE")
	failed := make(chan error, 1)
	go func() {
		_, err := e.Prove(w.ctx, id, info)
		failed <- err
	}()
	w.blocked(t)
	if n := w.count(t, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND backend_xid IS NOT NULL`); n != 1 {
		t.Fatalf("%d transactions have written and wait", n) // it has written, and not yet everything
	}
	victim.kill()
	release()
	if err := <-failed; err == nil {
		t.Fatal("a killed node answered")
	}
	w.quiet(t)
	if changed := before.changed(w.snapshot(t)); len(changed) > 0 {
		t.Fatalf("half done: %s", strings.Join(changed, ", "))
	}
	// The same browser, card and phone go on at the node that is left.
	desk := w.browserLike(t, e.Browser)
	e.Browser = desk
	if _, err := e.Prove(w.ctx, id, info); err != nil {
		t.Fatalf("the other node: %v", err)
	}
	for table, want := range map[string]int{"citizens": 1, "devices": 1, "mobile_certificates": 1} {
		if n := w.count(t, "SELECT count(*) FROM "+table); n != want {
			t.Errorf("%d %s", n, table)
		}
	}
	a := w.relyingParty().begin()
	desk = w.browser()
	login := w.approved(t, a, desk, w.phone(e.Phone.Keys()))
	if _, err := a.finish(must(desk.Return(w.ctx, login))(t)); err != nil {
		t.Fatal(err)
	}
}
