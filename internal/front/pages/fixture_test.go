package pages_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/audit"
	"sealgate/internal/enrolment"
	"sealgate/internal/front"
	"sealgate/internal/front/pages"
	"sealgate/internal/i18n"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
	"sealgate/web"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// desk is the pages at a computer, on a real database.
type desk struct {
	t       *testing.T
	orders  *order.Service
	server  *httptest.Server
	shell   *front.Shell
	pool    *pgxpool.Pool
	agency  order.Client
	own     order.Client
	citizen uuid.UUID // who has logged in, as CollectLogin says
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, pool: pgtest.Open(t), citizen: uuid.New()}
	d.server = httptest.NewUnstartedServer(nil)
	d.server.Start()
	t.Cleanup(d.server.Close)
	origin := d.server.URL
	rp, err := passkey.New(passkey.Config{RPID: "id.example", RPName: "Sealgate", Origins: []string{"https://id.example"}})
	if err != nil {
		t.Fatal(err)
	}
	db := postgres.New(d.pool)
	d.orders, err = order.New(order.Config{
		Store: db.Orders(), WaitingStore: db.Orders(), RelyingParty: rp, RPID: "id.example", PublicOrigin: origin,
		Frames:   order.FrameLimits{Step: 300 * time.Millisecond, Scanner: 10 * time.Second, Link: 45 * time.Second, Frozen: 60 * time.Second},
		Lifetime: 2 * time.Minute, MaxLifetime: 20 * time.Minute, PhoneStep: 3 * time.Minute, CodeLifetime: 5 * time.Minute,
		MaxExtend: 10, MaxDocuments: 5,
		CodeMAC: func(s string) []byte { m := sha256.Sum256([]byte(s)); return m[:] },
		Suspend: func(context.Context, uuid.UUID, string, audit.Entry) error { return nil },
		EnrolOptions: func(context.Context, uuid.UUID, [32]byte) ([]byte, string, error) {
			return []byte("{}"), "測○甲", nil
		},
		Finish: func(uuid.UUID) {}, Hub: order.NewHub(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	d.agency, d.own = d.client("demo-tax"), d.client("sealgate")
	d.mount(origin)
	return d
}

func (d *desk) client(name string) order.Client {
	d.t.Helper()
	agency, client := uuid.New(), uuid.New()
	for _, q := range []struct {
		sql  string
		args []any
	}{
		{`INSERT INTO agencies (id, code, name_zh, name_en) VALUES ($1, $2, '示範稅務局', 'Demonstration Tax Office')`, []any{agency, name}},
		{`INSERT INTO clients (id, client_id, agency_id, name_zh, name_en, token_endpoint_auth_method, sector_identifier)
			VALUES ($1, $2, $3, '示範報稅網', 'Demo tax site', 'none', $2)`, []any{client, name, agency}},
	} {
		if _, err := d.pool.Exec(context.Background(), q.sql, q.args...); err != nil {
			d.t.Fatal(err)
		}
	}
	return order.Client{ID: client, ClientID: name, Host: name + ".example", AgencyCode: name,
		Name:       order.Names{"zh-Hant": "示範報稅網", "en": "Demo tax site"},
		AgencyName: order.Names{"zh-Hant": "示範稅務局", "en": "Demonstration Tax Office"}}
}

func (d *desk) mount(origin string) {
	d.t.Helper()
	catalogue, err := i18n.Load()
	if err != nil {
		d.t.Fatal(err)
	}
	d.shell, err = front.New(front.Config{Origin: origin, Catalogue: catalogue, Templates: web.Templates(), Dist: web.Dist(),
		SessionKey: make([]byte, 32), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		if strings.Contains(err.Error(), "make web") {
			d.t.Skip(err)
		}
		d.t.Fatal(err)
	}
	d.t.Cleanup(d.shell.Close)
	p, err := pages.New(pages.Config{Shell: d.shell, Orders: d.orders, Enrolments: new(enrolment.Service), OwnClient: d.own,
		Return: func(_ context.Context, v *order.View, _ order.BrowserKey, _ order.Origin) (string, error) {
			return "https://demo-tax.example/back?code=" + v.ID.String(), nil
		},
		CollectLogin: func(ctx context.Context, id order.ID, browser order.BrowserKey, _ order.Origin) (*order.View, error) {
			v, err := d.orders.View(ctx, id, browser)
			if err == nil {
				device := uuid.New()
				v.CitizenID, v.DeviceID = &d.citizen, &device
			}
			return v, err
		},
		Signature: func(_ context.Context, id uuid.UUID, n int) ([]byte, error) {
			return fmt.Appendf(nil, "signature %d", n), nil
		}})
	if err != nil {
		d.t.Fatal(err)
	}
	r := chi.NewRouter()
	d.shell.Use(r)
	r.Handle("/assets/*", d.shell.Assets())
	r.Group(func(r chi.Router) {
		r.Use(d.shell.Browser)
		p.Mount(r)
	})
	d.server.Config.Handler = r
}

// browser is one browser with its cookies.
type browser struct {
	d *desk
	c *http.Client
}

func (d *desk) browser() *browser {
	jar, _ := cookiejar.New(nil)
	return &browser{d, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (b *browser) do(method, path, body string, headers ...string) (*http.Response, string) {
	b.d.t.Helper()
	r, err := http.NewRequest(method, b.d.server.URL+path, strings.NewReader(body))
	if err != nil {
		b.d.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := b.c.Do(r)
	if err != nil {
		b.d.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.d.t.Fatal(err)
	}
	return res, string(text)
}

// key gives the browser its cookie, and the key in it.
func (b *browser) key() order.BrowserKey {
	b.d.t.Helper()
	b.do("GET", "/enrol", "")
	u, _ := url.Parse(b.d.server.URL)
	r := httptest.NewRequest("GET", "/", nil)
	for _, c := range b.c.Jar.Cookies(u) {
		r.AddCookie(c)
	}
	var key order.BrowserKey
	found := false
	h := chi.NewRouter()
	b.d.shell.Use(h)
	h.Get("/", func(w http.ResponseWriter, r *http.Request) {
		k, ok := front.Browser(r)
		key, found = k, ok
	})
	h.ServeHTTP(httptest.NewRecorder(), r)
	if !found {
		b.d.t.Fatal("no browser cookie")
	}
	return key
}

func (b *browser) login() *order.Order {
	b.d.t.Helper()
	o, err := b.d.orders.CreateLogin(context.Background(), order.LoginRequest{Client: b.d.agency,
		Request: json.RawMessage(`{"state":"s"}`), Data: []string{"profile", "national_id"}, Browser: b.key()})
	if err != nil {
		b.d.t.Fatal(err)
	}
	return o
}

func stateJSON(t *testing.T, text string) (st struct {
	pages.State
	Frame, Code string
}) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &st); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return st
}

func codeOf(text string) string {
	var p struct{ Code string }
	_ = json.Unmarshal([]byte(text), &p)
	return p.Code
}
