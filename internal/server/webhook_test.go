package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealgate/internal/audit"
	"sealgate/internal/config"
	"sealgate/internal/postgres"
	"sealgate/internal/server"
	"sealgate/internal/webhook"
)

// receiver is a client's end of webhooks.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	secret []byte
	status int
	told   []string
	bad    []string
	tries  int
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{status: 204}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// ServeHTTP checks a message as api/README.md says.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries++
	h := req.Header
	mac := hmac.New(sha256.New, r.secret)
	fmt.Fprintf(mac, "%s.%s.%s", h.Get("webhook-id"), h.Get("webhook-timestamp"), body)
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); h.Get("webhook-signature") != want || h.Get("webhook-id") == "" {
		r.bad = append(r.bad, string(body))
	}
	if r.status/100 == 3 {
		w.Header().Set("Location", "http://169.254.169.254/")
	}
	w.WriteHeader(r.status)
	if r.status/100 == 2 {
		var m struct {
			Type string
			Data map[string]any
		}
		_ = json.Unmarshal(body, &m)
		r.told = append(r.told, fmt.Sprintf("%s %v%v", m.Type, m.Data["state"], m.Data["point"]))
	}
}

func (r *receiver) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

func (r *receiver) heard() (told []string, tries int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.told), r.tries
}

// tell sets where the demonstration client is told.
func (w *world) tell(t *testing.T, r *receiver, address string) {
	t.Helper()
	cfg, err := config.LoadPreset("", nil, map[string]string{"dev": "true", "listen": "localhost:0", "public_origin": w.origin,
		"database.url": w.config.URL, "master_key_file": filepath.Join(w.config.Dir, "master.key")})
	if err != nil {
		t.Fatal(err)
	}
	db := postgres.New(w.pool)
	keys, stop, err := server.OpenKeyring(cfg, db.Keyring(), false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	client := must(db.Agency().ClientByClientID(w.ctx, "demo-agency"))(t)
	r.mu.Lock()
	r.secret = webhook.NewSecret()
	r.mu.Unlock()
	sealed := must(keys.Seal(w.ctx, webhook.Purpose, client.ID[:], r.secret))(t)
	if err := db.Agency().SetWebhook(w.ctx, client.ID, address, sealed, audit.New(audit.ClientChanged)); err != nil {
		t.Fatal(err)
	}
}

func withReceiver(t *testing.T) (*receiver, map[string]string) {
	r := newReceiver(t)
	return r, map[string]string{"egress.allow": strings.TrimPrefix(testCards(t).RepositoryURL(), "http://") + "," + strings.TrimPrefix(r.URL, "http://")}
}

// Each step is told, signed by the client's secret; what cannot be told is told
// again, and nothing is told twice that was taken.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	r, settings := withReceiver(t)
	o := newOffice(t, 1, settings)
	before := must(o.api.create(m{"documents": []any{document("a", []byte("a"))}}))(t)
	if err := o.api.call("POST", "/api/v1/sign-orders/"+before.Order+"/cancel", nil, nil); err != nil {
		t.Fatal(err)
	}
	if n := o.count(t, "SELECT count(*) FROM webhook_messages"); n != 0 {
		t.Errorf("%d messages for nobody", n)
	}
	o.tell(t, r, r.URL+"/hook")
	d := o.submit(o.point(1, "承辦人", 0), o.point(2, "科長", 0))
	o.sign(d.Dossier, 1, 0, nil)
	o.until(d.Dossier, "open: signed open")
	o.sign(d.Dossier, 2, 0, m{"decision": "return", "comment": "重擬"})
	o.until(d.Dossier, "returned: signed returned")
	want := []string{"dossier.stage_opened open<nil>", "sign_order.completed completed<nil>", "dossier.point_signed open1", "dossier.stage_opened open<nil>",
		"sign_order.completed completed<nil>", "dossier.returned returned2"}
	slices.Sort(want)
	told := r.until(t, len(want))
	slices.Sort(told)
	if !slices.Equal(told, want) {
		t.Errorf("told %q\nwant %q", told, want)
	}
	if len(r.bad) > 0 {
		t.Errorf("signatures do not verify: %q", r.bad)
	}
	for _, status := range []int{500, 302, 410} { // down, redirecting, gone
		r.answer(status)
		_, tries := r.heard()
		o.cancelled(t)
		state := map[bool]string{true: "dead_at IS NOT NULL", false: "attempts > 0 AND next_attempt_at > now()"}[status == 410]
		for end := time.Now().Add(20 * time.Second); o.count(t, "SELECT count(*) FROM webhook_messages WHERE delivered_at IS NULL AND "+state+
			fmt.Sprintf(" AND last_error = 'status %d'", status)) == 0; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d: never tried", status)
			}
		}
		if _, now := r.heard(); now != tries+1 {
			t.Errorf("%d: tried %d times at once", status, now-tries)
		}
		r.answer(204)
		must(o.pool.Exec(o.ctx, "UPDATE webhook_messages SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL"))(t)
		if status != 410 {
			want = append(want, "")
		}
		r.until(t, len(want))
	}
	time.Sleep(3 * time.Second)
	if told, _ := r.heard(); len(told) != len(want) {
		t.Errorf("told %d times, want %d: %q", len(told), len(want), told)
	}
	if n := o.count(t, "SELECT count(*) FROM audit_entries WHERE act = 'webhook.dead'"); n != 1 {
		t.Errorf("%d entries of given-up messages", n)
	}
	// Another port of this machine is not on the list: nothing is sent.
	o.tell(t, r, "http://localhost:1/")
	o.cancelled(t)
	for end := time.Now().Add(20 * time.Second); o.count(t, "SELECT count(*) FROM webhook_messages WHERE last_error = 'egress_forbidden'") == 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never tried")
		}
	}
}

// cancelled makes a sign order end.
func (o *office) cancelled(t *testing.T) {
	t.Helper()
	made := must(o.api.create(m{"documents": []any{document("a", []byte("a"))}}))(t)
	if err := o.api.call("POST", "/api/v1/sign-orders/"+made.Order+"/cancel", nil, nil); err != nil {
		t.Fatal(err)
	}
}

func (r *receiver) until(t *testing.T, n int) []string {
	t.Helper()
	var told []string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if told, _ = r.heard(); len(told) >= n {
			return told
		}
	}
	t.Fatalf("told %d of %d: %q", len(told), n, told)
	return nil
}
