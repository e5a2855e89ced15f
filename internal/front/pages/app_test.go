package pages_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"sealgate/internal/front"
	"sealgate/internal/front/pages"
	"sealgate/internal/i18n"
	"sealgate/web"
)

// newApp serves the phone pages as the server does, without anything behind them.
func newApp(t *testing.T) http.Handler {
	t.Helper()
	return newAppAt(t, "https://id.example.test")
}

func newAppAt(t *testing.T, origin string) http.Handler {
	t.Helper()
	texts, err := i18n.Load()
	if err != nil {
		t.Fatal(err)
	}
	shell, err := front.New(front.Config{Origin: origin, Catalogue: texts, Templates: web.Templates(), Dist: web.Dist(),
		SessionKey: make([]byte, 32), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		if strings.Contains(err.Error(), "make web") {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	app, err := pages.NewApp(shell)
	if err != nil {
		t.Fatal(err)
	}
	r := chi.NewRouter()
	shell.Use(r)
	r.Handle("/assets/*", shell.Assets())
	r.Group(func(r chi.Router) {
		r.Use(shell.Browser)
		app.Mount(r)
	})
	return r
}

func get(t *testing.T, h http.Handler, path, lang string) (*http.Response, string) {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, path, nil)
	req.Header.Set("Accept", "text/html")
	req.Header.Set("Accept-Language", lang)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	body, _ := io.ReadAll(rec.Result().Body)
	return rec.Result(), string(body)
}

const (
	aFrame = "/q/AZq0cv3GcTqXqUVK1x5Zrg.7f.c2lnbmF0dXI"
	anID   = "/app/order/AZq0cv3GcTqXqUVK1x5Zrg"
)

func TestAppPages(t *testing.T) {
	h := newApp(t)
	for _, path := range []string{aFrame, anID, "/app", "/app/scan", "/app/code", "/app/history", "/app/devices", "/app/offline", "/lost"} {
		for _, lang := range []string{"zh-Hant", "en"} {
			resp, body := get(t, h, path, lang)
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("%s %s: status %d", path, lang, resp.StatusCode)
			}
			if !strings.Contains(body, `<html lang="`+lang+`">`) {
				t.Errorf("%s: page is not in %s", path, lang)
			}
			if n := strings.Count(body, "<h1"); n != 1 {
				t.Errorf("%s %s: %d headings of level 1, want 1", path, lang, n)
			}
			if n := strings.Count(body, `role="status"`); n != 1 {
				t.Errorf("%s %s: %d status regions, want 1", path, lang, n)
			}
			if strings.Contains(body, ">app.") || strings.Contains(body, `"app.`+`.`) {
				t.Errorf("%s %s: a text is missing", path, lang)
			}
			if strings.Contains(body, " style=") || strings.Contains(body, "<style") || strings.Contains(body, "<script>") {
				t.Errorf("%s %s: something inline, which the policy refuses", path, lang)
			}
		}
	}
}

// Opening a page must not touch anything: no cookie is set, nothing is written.
func TestFramePageOnlyShows(t *testing.T) {
	h := newApp(t)
	resp, body := get(t, h, aFrame, "en")
	if c := resp.Header.Values("Set-Cookie"); len(c) != 0 {
		t.Errorf("cookies set: %v", c)
	}
	if got := resp.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q, want no-store", got)
	}
	var facts struct{ Frame, Order, Lang string }
	block(t, body, "page", &facts)
	if facts.Frame != strings.TrimPrefix(aFrame, "/q/") || facts.Lang != "en" {
		t.Errorf("page data: %+v", facts)
	}
	var texts map[string]string
	block(t, body, "texts", &texts)
	if texts["app.order.reject"] != "Not me, refuse" || texts["app.scan.title"] != "" {
		t.Errorf("texts of the order page: %d, reject %q", len(texts), texts["app.order.reject"])
	}
}

func block(t *testing.T, body, id string, v any) {
	t.Helper()
	_, rest, ok := strings.Cut(body, `<script type="application/json" id="`+id+`">`)
	data, _, end := strings.Cut(rest, "</script>")
	if !ok || !end {
		t.Fatalf("no data block %q", id)
	}
	if err := json.Unmarshal([]byte(data), v); err != nil {
		t.Fatalf("data block %q: %v", id, err)
	}
}

func TestAppPathsOfAnotherForm(t *testing.T) {
	h := newApp(t)
	for _, path := range []string{"/q/" + strings.Repeat("a", 65), "/q/%3Cscript%3E", "/q/a%2Fb", "/app/order/a%20b", "/app/order/" + strings.Repeat("a", 33)} {
		if resp, _ := get(t, h, path, "en"); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", path, resp.StatusCode)
		}
	}
	if resp, _ := get(t, h, anID, "en"); resp.StatusCode != http.StatusOK {
		t.Errorf("control: status %d", resp.StatusCode)
	}
}

// The camera and WebAssembly are allowed on the scan page and nowhere else.
func TestScanPolicy(t *testing.T) {
	h := newApp(t)
	for path, want := range map[string]bool{"/app/scan": true, "/app": false, aFrame: false, "/app/code": false} {
		resp, _ := get(t, h, path, "en")
		if got := strings.Contains(resp.Header.Get("Permissions-Policy"), "camera=(self)"); got != want {
			t.Errorf("%s: camera allowed %v, want %v", path, got, want)
		}
		if got := strings.Contains(resp.Header.Get("Content-Security-Policy"), "'wasm-unsafe-eval'"); got != want {
			t.Errorf("%s: WebAssembly allowed %v, want %v", path, got, want)
		}
	}
	resp, body := get(t, h, "/app/scan-worker.js", "en")
	if resp.StatusCode != http.StatusOK || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "'wasm-unsafe-eval'") || body == "" {
		t.Errorf("worker: status %d, policy %q", resp.StatusCode, resp.Header.Get("Content-Security-Policy"))
	}
}

// The page on which a person decides must come quickly on a bad line: 25 kB compressed.
func TestOrderPageIsSmall(t *testing.T) {
	const budget = 25_000
	h := newApp(t)
	_, body := get(t, h, aFrame, "zh-Hant")
	total := gzipped(t, []byte(body))
	links := regexp.MustCompile(`(?:href|src)="(/assets/[^"]+\.(?:css|js|svg))"`).FindAllStringSubmatch(body, -1)
	if len(links) < 4 {
		t.Fatalf("found %d files, want style sheets, script and icon", len(links))
	}
	for _, l := range links {
		_, content := get(t, h, l[1], "en")
		total += gzipped(t, []byte(content))
	}
	if total > budget {
		t.Errorf("%d bytes, budget %d", total, budget)
	}
	t.Logf("%d bytes in %d files", total, len(links)+1)
}

func gzipped(t *testing.T, b []byte) int {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Len()
}

func TestServiceWorkerKeepsOnlyTheShell(t *testing.T) {
	h := newApp(t)
	resp, body := get(t, h, "/sw.js", "en")
	if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(ct, "text/javascript") {
		t.Fatalf("Content-Type %q", ct)
	}
	line, _, _ := strings.Cut(strings.TrimPrefix(body, "self.SHELL="), ";\n")
	var shell struct {
		Version, Offline string
		Files            []string
	}
	if err := json.Unmarshal([]byte(line), &shell); err != nil {
		t.Fatal(err)
	}
	if len(shell.Files) != 11 {
		t.Errorf("%d files kept, want 11: %v", len(shell.Files), shell.Files)
	}
	for _, f := range append(shell.Files, shell.Offline) {
		if !strings.HasPrefix(f, "/assets/") && f != "/app/offline" {
			t.Errorf("%s must not be kept", f)
		}
		if resp, _ := get(t, h, f, "en"); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d: installing the worker would fail", f, resp.StatusCode)
		}
	}
}

func TestManifest(t *testing.T) {
	h := newApp(t)
	_, body := get(t, h, "/manifest.webmanifest", "zh-Hant")
	var m struct {
		Name, Scope string
		Start       string `json:"start_url"`
		Icons       []struct{ Src string }
	}
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatal(err)
	}
	if m.Name != "行動身分" || m.Start != "/app" || m.Scope != "/app" || len(m.Icons) != 3 {
		t.Errorf("manifest: %+v", m)
	}
	for _, icon := range m.Icons {
		if resp, _ := get(t, h, icon.Src, "en"); resp.StatusCode != http.StatusOK {
			t.Errorf("icon %q: status %d", icon.Src, resp.StatusCode)
		}
	}
}

// TestServeApp serves the phone pages to web/e2e/app.test.mjs, which plays the
// device API itself. It ends when its standard input does.
func TestServeApp(t *testing.T) {
	origin := os.Getenv("SEALGATE_APP_ORIGIN")
	if origin == "" {
		t.Skip("only for the browser test of the phone app")
	}
	server := httptest.NewServer(newAppAt(t, origin))
	defer server.Close()
	fmt.Printf("serving %s\n", server.URL)
	_, _ = io.Copy(io.Discard, os.Stdin)
}
