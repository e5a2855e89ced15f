package oidc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"sealgate/internal/agency"
	"sealgate/internal/order"
)

// cpu is the processor time that this process has used; Postgres is another.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// verification measures one bare P-256 verification, the unit of all figures.
func verification(b *testing.B) time.Duration {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	const n = 2000
	start := cpu()
	for range n {
		if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig) {
			b.Fatal("signature")
		}
	}
	return (cpu() - start) / n
}

// parallel is how many steps run at a time: a server with work to do spends
// less on going to sleep and waking up.
const parallel = 8

// BenchmarkLogin measures the provider's three steps of a login, each through
// its HTTP handler on real Postgres: server CPU an operation, and how many
// bare P-256 verifications that is.
func BenchmarkLogin(b *testing.B) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	h := newHouse(b)
	p := h.bind(0)
	s := h.site("profile")
	r := chi.NewRouter()
	h.provider.Mount(r)
	unit := verification(b)
	measure := func(b *testing.B, n int, step func(i int)) {
		b.ResetTimer()
		start := cpu()
		var next atomic.Int64
		var workers sync.WaitGroup
		for range parallel {
			workers.Go(func() {
				for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
					step(i)
				}
			})
		}
		workers.Wait()
		used := cpu() - start
		b.ReportMetric(float64(used.Nanoseconds())/float64(n), "cpu-ns/op")
		b.ReportMetric(float64(used)/float64(n)/float64(unit), "verifications/op")
	}
	var key order.BrowserKey
	cookie := "browser=" + base64.RawURLEncoding.EncodeToString(key[:])
	ask := func(method, target, body string, want int) *httptest.ResponseRecorder {
		req := httptest.NewRequest(method, target, strings.NewReader(body))
		req.Header.Set("Cookie", cookie)
		if body != "" {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.SetBasicAuth(agency.DemoClientID, h.secret)
		}
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		if w.Code != want {
			b.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
		}
		return w
	}
	u, err := url.Parse(s.authURL())
	h.must(err)
	begin := func() order.ID {
		w := ask(http.MethodGet, u.RequestURI(), "", http.StatusSeeOther)
		id, err := order.ParseID(strings.TrimPrefix(w.Header().Get("Location"), "/o/"))
		h.must(err)
		return id
	}
	approved := func(n int) []order.ID {
		ids := make([]order.ID, n)
		for i := range ids {
			ids[i] = begin()
		}
		h.exec(`UPDATE orders SET state = 'approved', claim_hash = decode(repeat('00', 32), 'hex'), claim_source = 'scanner',
			scanned_at = now(), approved_at = now(), citizen_id = $1, acr = 'phr',
			device_id = (SELECT id FROM devices WHERE citizen_id = $1) WHERE state = 'created'`, p.citizen)
		return ids
	}
	ctx := context.Background()
	b.Run("authorize", func(b *testing.B) {
		measure(b, b.N, func(int) { begin() })
	})
	b.Run("return", func(b *testing.B) {
		ids := approved(b.N)
		measure(b, b.N, func(i int) {
			_, err := h.provider.Return(ctx, ids[i], key)
			h.must(err)
		})
	})
	b.Run("token", func(b *testing.B) {
		ids := approved(b.N)
		forms := make([]string, b.N)
		for i, id := range ids {
			to, err := h.provider.Return(ctx, id, key)
			h.must(err)
			back, err := url.Parse(to)
			h.must(err)
			forms[i] = s.tokenForm(back.Query().Get("code")).Encode()
		}
		measure(b, b.N, func(i int) { ask(http.MethodPost, "/oauth2/token", forms[i], http.StatusOK) })
	})
	b.Run("client_credentials", func(b *testing.B) {
		measure(b, b.N, func(int) { ask(http.MethodPost, "/oauth2/token", "grant_type=client_credentials", http.StatusOK) })
	})
}
