package front

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"sealgate/internal/fault"
	"sealgate/internal/i18n"
)

func zipped(s string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(s))
	_ = z.Close()
	return b.Bytes()
}

var script = strings.Repeat("let a = 1;", 100)

// newShell makes a shell with a tiny set of pages; its log goes to the buffer.
func newShell(t testing.TB, origin string, change func(*Config)) (*Shell, *bytes.Buffer) {
	t.Helper()
	catalogue, err := i18n.Load()
	if err != nil {
		t.Fatal(err)
	}
	logged := new(bytes.Buffer)
	cfg := Config{
		Origin: origin, Catalogue: catalogue, SessionKey: bytes.Repeat([]byte{7}, 32),
		Log: slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Dist: fstest.MapFS{
			"manifest.json":        {Data: []byte(`{"a.js":"assets/a-1.js","b.worker.js":"assets/b.worker-1.js"}`)},
			"assets/a-1.js":        {Data: []byte(script)},
			"assets/a-1.js.gz":     {Data: zipped(script)},
			"assets/b.worker-1.js": {Data: []byte("1")},
		},
		Templates: fstest.MapFS{
			"layout/layout.html": {Data: []byte(`{{define "layout"}}<html lang="{{.Lang}}">{{template "main" .}}</html>{{end}}`)},
			"parts/parts.html":   {Data: []byte(`{{define "part"}}p{{end}}`)},
			"pages/error.html":   {Data: []byte(`{{define "main"}}{{.D.Happened}}|{{.D.Next}}|{{.D.Code}}|{{.Request}}{{end}}`)},
			"pages/hello.html":   {Data: []byte(`{{define "main"}}{{.T "site.name"}} {{.D}} {{.Asset "a.js"}}<script type="application/json">{{.JSON .D}}</script>{{end}}`)},
			"pages/broken.html":  {Data: []byte(`{{define "main"}}{{.Asset "nothing.js"}}{{end}}`)},
		},
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, logged
}

// serve puts handlers on a router as the server does.
func serve(s *Shell, pages, api map[string]http.HandlerFunc) http.Handler {
	r := chi.NewRouter()
	s.Use(r)
	r.Handle("/assets/*", s.Assets())
	r.Group(func(r chi.Router) {
		r.Use(s.Browser)
		for path, h := range pages {
			r.HandleFunc(path, h)
		}
	})
	r.Group(func(r chi.Router) {
		r.Use(s.API)
		for path, h := range api {
			r.HandleFunc(path, h)
		}
	})
	return r
}

func do(h http.Handler, method, target string, body io.Reader, headers ...string) *http.Response {
	r := httptest.NewRequest(method, target, body)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"origin with a path": func(c *Config) { c.Origin = "https://id.example/x" },
		"origin of no web":   func(c *Config) { c.Origin = "ftp://id.example" },
		"short key":          func(c *Config) { c.SessionKey = c.SessionKey[:31] },
		"no build":           func(c *Config) { c.Dist = fstest.MapFS{".keep": {}} },
		"a missing file":     func(c *Config) { c.Dist = fstest.MapFS{"manifest.json": {Data: []byte(`{"a.js":"assets/a.js"}`)}} },
		"a broken template": func(c *Config) {
			c.Templates = fstest.MapFS{"layout/l.html": {Data: []byte("{{")}, "parts/p.html": {Data: nil}}
		},
	} {
		catalogue, _ := i18n.Load()
		s, _ := newShell(t, "https://id.example", nil)
		cfg := Config{Origin: s.origin, Catalogue: catalogue, SessionKey: make([]byte, 32), Log: slog.New(slog.DiscardHandler),
			Dist: fstest.MapFS{"manifest.json": {Data: []byte("{}")}}, Templates: fstest.MapFS{"layout/l.html": {}, "parts/p.html": {}}}
		if _, err := New(cfg); err != nil {
			t.Fatalf("control: %v", err)
		}
		change(&cfg)
		_, err := New(cfg)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if name == "no build" && !strings.Contains(err.Error(), "make web") {
			t.Errorf("%s: the error does not say what to do: %v", name, err)
		}
	}
}

func TestPageHeaders(t *testing.T) {
	s, _ := newShell(t, "https://id.example", nil)
	h := serve(s, map[string]http.HandlerFunc{
		"/": func(w http.ResponseWriter, r *http.Request) { s.Render().Page(w, r, 200, "pages/hello", "<b>&") },
		"/camera": func(w http.ResponseWriter, r *http.Request) {
			Policy{Camera: true, WASM: true, Popups: true, Connect: []string{"http://localhost:1"}}.Apply(w)
			s.Render().Page(w, r, 200, "pages/hello", 1)
		},
	}, nil)
	res := do(h, "GET", "https://id.example/", nil)
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store",
		"Cross-Origin-Opener-Policy": "same-origin", "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
	} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	csp := res.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("CSP lacks %s: %s", want, csp)
		}
	}
	if strings.Contains(csp, "unsafe") || !strings.Contains(res.Header.Get("Permissions-Policy"), "camera=()") {
		t.Errorf("a plain page may too much: %s", csp)
	}
	body := text(t, res)
	if strings.Contains(body, "<b>") || !strings.Contains(body, `\u003cb\u003e\u0026`) || !strings.Contains(body, "/assets/a-1.js") {
		t.Errorf("not escaped: %s", body)
	}
	res = do(h, "GET", "https://id.example/camera", nil)
	csp = res.Header.Get("Content-Security-Policy")
	if !strings.Contains(csp, "'wasm-unsafe-eval'") || !strings.Contains(csp, "connect-src 'self' http://localhost:1;") ||
		!strings.Contains(res.Header.Get("Permissions-Policy"), "camera=(self)") ||
		res.Header.Get("Cross-Origin-Opener-Policy") != "same-origin-allow-popups" {
		t.Errorf("the policy was not applied: %s", csp)
	}
}

func TestCrossOriginWritesAreRefused(t *testing.T) {
	s, _ := newShell(t, "https://id.example", nil)
	ok := func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }
	h := serve(s, map[string]http.HandlerFunc{"/o": ok}, map[string]http.HandlerFunc{"/api/x": ok})
	for _, path := range []string{"/o", "/api/x"} {
		for _, tt := range []struct {
			method, name, value string
			want                int
		}{
			{"POST", "Sec-Fetch-Site", "same-origin", 204},
			{"POST", "Sec-Fetch-Site", "cross-site", 403},
			{"POST", "Sec-Fetch-Site", "same-site", 403},
			{"POST", "Origin", "https://evil.example", 403},
			{"POST", "Origin", "null", 403},
			{"POST", "Origin", "https://id.example", 204},
			{"DELETE", "Sec-Fetch-Site", "cross-site", 403},
			{"POST", "X-None", "", 204}, // not a browser
			{"GET", "Sec-Fetch-Site", "cross-site", 204},
		} {
			if res := do(h, tt.method, "https://id.example"+path, nil, tt.name, tt.value); res.StatusCode != tt.want {
				t.Errorf("%s %s with %s %s: %d, want %d", tt.method, path, tt.name, tt.value, res.StatusCode, tt.want)
			}
		}
	}
}

func TestFaultsBecomeProblemsAndPages(t *testing.T) {
	s, logged := newShell(t, "https://id.example", nil)
	answer := errors.New("nothing set")
	fail := func(w http.ResponseWriter, r *http.Request) { Fail(w, r, answer) }
	h := serve(s, map[string]http.HandlerFunc{"/page": fail}, map[string]http.HandlerFunc{"/api/x": fail})
	for kind, want := range map[fault.Kind]int{fault.Invalid: 400, fault.Unauthenticated: 401, fault.Forbidden: 403, fault.NotFound: 404,
		fault.Conflict: 409, fault.Gone: 410, fault.TooLarge: 413, fault.Unprocessable: 422, fault.TooMany: 429, fault.Unavailable: 503,
		fault.Internal: 500} {
		f := fault.New(kind, "rate_limited").With("n", "7").Because(errors.New("the cause"))
		f.RetryAfter = 1500 * time.Millisecond
		answer = f
		res := do(h, "GET", "https://id.example/api/x?national_id=A123456789", nil, "Accept-Language", "en", "Accept", "text/html")
		var p Problem
		if err := json.Unmarshal([]byte(text(t, res)), &p); err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != want || p.Status != want || p.Code != "rate_limited" || p.Instance == "" || p.NextStep == "" || p.Title == "" ||
			!strings.Contains(p.Detail, "7 seconds") || p.Type != "https://id.example/help/errors#rate_limited" {
			t.Errorf("kind %d: %d %+v", kind, res.StatusCode, p)
		}
		if res.Header.Get("Retry-After") != "2" || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("kind %d: headers %v", kind, res.Header)
		}
	}
	answer = errors.New("pq: password of admin is 1234")
	for _, path := range []string{"/api/x", "/page"} {
		res := do(h, "GET", "https://id.example"+path, nil, "Accept", "text/html")
		body := text(t, res)
		if res.StatusCode != 500 || strings.Contains(body, "1234") || !strings.Contains(body, "internal") {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
	if out := logged.String(); !strings.Contains(out, "password of admin") || strings.Contains(out, "A123456789") || strings.Contains(out, "192.0.2.1") {
		t.Errorf("the log must have the cause, and neither query nor address: %s", out)
	}
}

func TestPanicsAndBrokenPagesAreBland(t *testing.T) {
	s, logged := newShell(t, "https://id.example", nil)
	h := serve(s, map[string]http.HandlerFunc{
		"/panic":  func(http.ResponseWriter, *http.Request) { panic("A123456789") },
		"/broken": func(w http.ResponseWriter, r *http.Request) { s.Render().Page(w, r, 200, "pages/broken", nil) },
	}, nil)
	for _, path := range []string{"/panic", "/broken"} {
		res := do(h, "GET", "https://id.example"+path, nil, "Accept", "text/html")
		if body := text(t, res); res.StatusCode != 500 || !strings.Contains(body, "|internal|") {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
	if strings.Contains(logged.String(), "A123456789") {
		t.Error("the panic's value reached the log")
	}
	for _, path := range []string{"/nothing", "/assets/nothing.js"} {
		if res := do(h, "GET", "https://id.example"+path, nil); res.StatusCode != 404 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}

func TestAssets(t *testing.T) {
	s, _ := newShell(t, "https://id.example", nil)
	h := serve(s, nil, nil)
	res := do(h, "GET", "https://id.example/assets/a-1.js", nil)
	if text(t, res) != script || !strings.Contains(res.Header.Get("Cache-Control"), "immutable") ||
		!strings.HasPrefix(res.Header.Get("Content-Type"), "text/javascript") {
		t.Errorf("plain: %v", res.Header)
	}
	res = do(h, "GET", "https://id.example/assets/a-1.js", nil, "Accept-Encoding", "br, gzip")
	if res.Header.Get("Content-Encoding") != "gzip" || res.Header.Get("Vary") != "Accept-Encoding" || len(text(t, res)) >= len(script) {
		t.Errorf("gzip: %v", res.Header)
	}
	if res = do(h, "GET", "https://id.example/assets/a-1.js", nil, "Accept-Encoding", "gzip;q=0"); res.Header.Get("Content-Encoding") != "" {
		t.Error("gzip although refused")
	}
	if res = do(h, "GET", "https://id.example/assets/b.worker-1.js", nil); !strings.Contains(res.Header.Get("Content-Security-Policy"), "wasm") {
		t.Error("a worker may not compile WebAssembly")
	}
	if s.StaticAssets().URL("a.js") != "/assets/a-1.js" || s.StaticAssets().URL("none") != "" {
		t.Error("URL")
	}
}

func TestClientIP(t *testing.T) {
	s, _ := newShell(t, "https://id.example", func(c *Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")}
	})
	for _, tt := range []struct{ remote, forwarded, want string }{
		{"203.0.113.9:1", "198.51.100.1", "203.0.113.9"}, // not a proxy: the header is the client's own word
		{"192.0.2.1:1", "", "192.0.2.1"},
		{"192.0.2.1:1", "198.51.100.1", "198.51.100.1"},
		{"192.0.2.1:1", "6.6.6.6, 198.51.100.1, 10.1.1.1", "198.51.100.1"},
		{"192.0.2.1:1", "10.1.1.2, 10.1.1.1", "10.1.1.2"},
		{"192.0.2.1:1", "garbage", "192.0.2.1"},
		{"[::ffff:203.0.113.9]:1", "", "203.0.113.9"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = tt.remote
		if tt.forwarded != "" {
			r.Header.Set("X-Forwarded-For", tt.forwarded)
		}
		if got := s.clientIP(r).String(); got != tt.want {
			t.Errorf("%s via %q: %s, want %s", tt.remote, tt.forwarded, got, tt.want)
		}
	}
}

// within runs f inside a request of the shell, with the cookies given, and
// gives the cookies that came out.
func within(s *Shell, cookies []*http.Cookie, f http.HandlerFunc) []*http.Cookie {
	r := httptest.NewRequest("GET", s.origin+"/x", nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	serve(s, map[string]http.HandlerFunc{"/x": f}, nil).ServeHTTP(w, r)
	return w.Result().Cookies()
}

func TestBrowserCookie(t *testing.T) {
	s, _ := newShell(t, "https://id.example", nil)
	var first, second [32]byte
	cookies := within(s, nil, func(w http.ResponseWriter, r *http.Request) {
		if _, ok := Browser(r); ok {
			t.Error("a browser without a cookie has a key")
		}
		first = EnsureBrowser(w, r)
		if again := EnsureBrowser(w, r); again != first {
			t.Error("two keys in one request")
		}
	})
	if len(cookies) != 1 {
		t.Fatalf("%d cookies", len(cookies))
	}
	c := cookies[0]
	if c.Name != "__Host-sealgate_browser" || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
		t.Errorf("cookie %+v", c)
	}
	within(s, cookies, func(w http.ResponseWriter, r *http.Request) { second, _ = Browser(r) })
	if first != second || first == [32]byte{} {
		t.Error("the cookie does not give the same key")
	}
	for _, bad := range []string{"", "short", c.Value + "A", strings.Repeat("!", 43), c.Value[:42] + "_"} {
		within(s, []*http.Cookie{{Name: c.Name, Value: bad}}, func(w http.ResponseWriter, r *http.Request) {
			if key, ok := Browser(r); ok && key == first {
				t.Errorf("%q was accepted", bad)
			}
		})
	}
}

func TestSessions(t *testing.T) {
	s, _ := newShell(t, "https://id.example", nil)
	in := Session{CitizenID: uuid.New(), DeviceID: uuid.New(), OrderID: uuid.New(), Kind: DesktopSession}
	cookies := within(s, nil, func(w http.ResponseWriter, r *http.Request) {
		if err := s.Sessions().Put(w, r, in); err != nil {
			t.Error(err)
		}
	})
	get := func(cookies []*http.Cookie, kind SessionKind) (out Session, ok bool) {
		within(s, cookies, func(w http.ResponseWriter, r *http.Request) { out, ok = s.Sessions().Get(r, kind) })
		return out, ok
	}
	if out, ok := get(cookies, DesktopSession); !ok || out.CitizenID != in.CitizenID || out.DeviceID != in.DeviceID || out.OrderID != in.OrderID {
		t.Fatalf("control: %+v %v", out, ok)
	}
	var browser, session *http.Cookie
	for _, c := range cookies {
		if strings.HasSuffix(c.Name, "browser") {
			browser = c
		} else {
			session = c
		}
	}
	if strings.Contains(session.Value, in.CitizenID.String()) || !session.HttpOnly || !session.Secure {
		t.Error("the session is not sealed")
	}
	other := within(s, nil, func(w http.ResponseWriter, r *http.Request) { EnsureBrowser(w, r) })
	changed := *session
	changed.Value = "A" + changed.Value[1:]
	if changed.Value == session.Value {
		changed.Value = "B" + changed.Value[1:]
	}
	renamed := *session
	renamed.Name = s.Sessions().cookie(PhoneSession)
	for name, tt := range map[string]struct {
		cookies []*http.Cookie
		kind    SessionKind
	}{
		"no cookie":       {[]*http.Cookie{browser}, DesktopSession},
		"another browser": {[]*http.Cookie{other[0], session}, DesktopSession},
		"no browser":      {[]*http.Cookie{session}, DesktopSession},
		"changed":         {[]*http.Cookie{browser, &changed}, DesktopSession},
		"another kind":    {[]*http.Cookie{browser, &renamed}, PhoneSession},
	} {
		if _, ok := get(tt.cookies, tt.kind); ok {
			t.Errorf("%s: a session", name)
		}
	}
	in.At = time.Now().Add(-s.Sessions().Life() - time.Minute)
	old := within(s, []*http.Cookie{browser}, func(w http.ResponseWriter, r *http.Request) { _ = s.Sessions().Put(w, r, in) })
	if _, ok := get(append(old, browser), DesktopSession); ok {
		t.Error("an old session is still good")
	}
}

func TestLanguage(t *testing.T) {
	s, _ := newShell(t, "https://id.example", nil)
	h := serve(s, map[string]http.HandlerFunc{
		"/": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("suggest") {
				SuggestLang(r, i18n.En)
			}
			s.Render().Page(w, r, 200, "pages/hello", 1)
		},
	}, nil)
	for _, tt := range []struct{ path, cookie, accept, want string }{
		{"/", "", "", "zh-Hant"},
		{"/", "", "en", "en"},
		{"/", "en", "zh", "en"},
		{"/?lang=en", "zh-Hant", "zh", "en"},
		{"/?lang=tlh", "", "en", "en"},
		{"/?suggest", "", "zh", "en"},
		{"/?suggest", "zh-Hant", "zh", "zh-Hant"},
	} {
		headers := []string{"Accept-Language", tt.accept}
		if tt.cookie != "" {
			headers = append(headers, "Cookie", "sealgate_lang="+tt.cookie)
		}
		res := do(h, "GET", "https://id.example"+tt.path, nil, headers...)
		if got := res.Header.Get("Content-Language"); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
		if tt.path == "/?lang=en" && len(res.Cookies()) != 1 {
			t.Error("the choice was not remembered")
		}
	}
}

func TestStreamLimit(t *testing.T) {
	l := newStreamLimit(2, 3)
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2") // one household
	c := netip.MustParseAddr("192.0.2.1")
	r1, ok1 := l.acquire(a)
	_, ok2 := l.acquire(b)
	_, ok3 := l.acquire(a)
	_, ok4 := l.acquire(c)
	_, ok5 := l.acquire(c)
	if !ok1 || !ok2 || ok3 || !ok4 || ok5 {
		t.Errorf("%v %v %v %v %v", ok1, ok2, ok3, ok4, ok5)
	}
	r1()
	if _, ok := l.acquire(c); !ok {
		t.Error("a place that was given back is not free")
	}
}

func TestWaitingHasTheLimitsOfStreams(t *testing.T) {
	s, _ := newShell(t, "https://id.example", func(c *Config) { c.StreamsPerIP = 2 })
	var open []func()
	code := 0
	r := chi.NewRouter()
	s.Use(r)
	r.Get("/wait", func(w http.ResponseWriter, r *http.Request) {
		release, err := WaitOpen(w, r)
		if err != nil {
			WriteProblem(w, r, err)
			return
		}
		open = append(open, release)
	})
	ask := func() int {
		rec := httptest.NewRecorder()
		r.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/wait", nil))
		return rec.Code
	}
	for range 2 {
		if code = ask(); code != http.StatusOK {
			t.Fatal(code)
		}
	}
	if code = ask(); code != http.StatusTooManyRequests {
		t.Fatalf("one too many: %d", code)
	}
	open[0]()
	if code = ask(); code != http.StatusOK {
		t.Fatalf("after one went: %d", code)
	}
}
