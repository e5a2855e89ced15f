package pages

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"

	"sealgate/internal/fault"
	"sealgate/internal/front"
	"sealgate/internal/i18n"
)

// errAppPath answers links that cannot be ours: a frame or order of another form.
var errAppPath = fault.New(fault.NotFound, "not_found")

// App serves the pages of the phone app. They are shells: what an order says
// is fetched by their scripts from the device API, and opening a page changes
// nothing (link previews open pages too).
type App struct {
	shell   *front.Shell
	worker  []byte // the service worker with its list of files, made once
	offline string
}

// appPage is what the template app/page sees.
type appPage struct {
	Name    string // home, scan, code, order, history, devices, lost, offline
	Title   string
	Entry   string     // plain name of the page's script, "" for none
	Script  *appScript // what that script is told, nil for nothing
	Host    string
	Bar     bool // the bar at the bottom; not where a person must decide
	Working bool // the script begins with work, not with a question
}

// appScript is the data block #page (texts.ts, PageData).
type appScript struct {
	Lang    i18n.Lang         `json:"lang"`
	Title   string            `json:"title"`
	Service string            `json:"service"`
	Order   string            `json:"order,omitempty"`
	Frame   string            `json:"frame,omitempty"`
	Assets  map[string]string `json:"assets,omitempty"`
}

// NewApp prepares the phone app's pages on a shell.
func NewApp(shell *front.Shell) (*App, error) {
	a := &App{shell: shell, offline: "/app/offline"}
	var err error
	a.worker, err = a.serviceWorker()
	return a, err
}

// Mount puts the routes on a router of browser pages (front.Shell.Browser).
func (a *App) Mount(r chi.Router) {
	r.Get("/q/{frame}", a.frame)
	r.Get("/app", a.page(appPage{Name: "home", Title: "app.home.title", Entry: "app-home.js", Script: &appScript{}, Bar: true}))
	r.Get("/app/code", a.page(appPage{Name: "code", Title: "app.code.title", Entry: "app-code.js", Script: &appScript{}, Bar: true}))
	r.Get("/app/history", a.page(appPage{Name: "history", Title: "app.history.title", Entry: "app-history.js", Script: &appScript{}, Bar: true, Working: true}))
	r.Get("/app/devices", a.page(appPage{Name: "devices", Title: "app.devices.title", Entry: "app-devices.js", Script: &appScript{}, Bar: true, Working: true}))
	r.Get("/app/order/{order}", a.order)
	r.Get("/app/scan", a.scan)
	r.Get("/app/scan-worker.js", a.scanWorker)
	r.Get(a.offline, a.page(appPage{Name: "offline", Title: "app.offline.title", Entry: "app-offline.js"}))
	r.Get("/lost", a.page(appPage{Name: "lost", Title: "app.lost.title", Bar: true}))
	r.Get("/sw.js", a.serveWorker)
	r.Get("/manifest.webmanifest", a.manifest)
}

// page answers a page that is the same for everybody.
func (a *App) page(p appPage) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { a.render(w, r, p) }
}

// render fills in the language and writes the page. p is a copy; so is its script.
func (a *App) render(w http.ResponseWriter, r *http.Request, p appPage) {
	lang := front.Lang(r)
	p.Title = a.shell.Catalogue().T(lang, p.Title)
	p.Host = a.host()
	if p.Script != nil {
		s := *p.Script
		s.Lang, s.Title, s.Service = lang, p.Title, a.shell.Catalogue().T(lang, "site.name")
		p.Script = &s
	}
	a.shell.Render().Page(w, r, http.StatusOK, "app/page", p)
}

// frame is where a QR picture leads. The script takes the order; the GET does not.
func (a *App) frame(w http.ResponseWriter, r *http.Request) {
	f := chi.URLParam(r, "frame")
	if !plain(f, 64) {
		front.ErrorPage(w, r, errAppPath)
		return
	}
	a.render(w, r, appPage{Name: "order", Title: "app.order.page", Entry: "app-order.js", Script: &appScript{Frame: f}, Working: true})
}

// order continues a claim of this phone, or begins one in the browser that
// started the order.
func (a *App) order(w http.ResponseWriter, r *http.Request) {
	id := chi.URLParam(r, "order")
	if !plain(id, 32) {
		front.ErrorPage(w, r, errAppPath)
		return
	}
	a.render(w, r, appPage{Name: "order", Title: "app.order.page", Entry: "app-order.js", Script: &appScript{Order: id}, Working: true})
}

// plain says whether a path segment is made of the letters that frames and ids
// use. What they mean is judged by the device API.
func plain(s string, most int) bool {
	return s != "" && len(s) <= most && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// scan is the only page with the camera.
func (a *App) scan(w http.ResponseWriter, r *http.Request) {
	front.Policy{WASM: true, Camera: true}.Apply(w)
	a.render(w, r, appPage{Name: "scan", Title: "app.scan.title", Entry: "app-scan.js", Bar: true, Script: &appScript{
		Assets: map[string]string{"worker": "/app/scan-worker.js", "wasm": a.shell.StaticAssets().URL("zxing_reader.wasm")}}})
}

// scanWorker serves the decoder's worker. A worker lives under the policy of
// its own file (CSP Level 3 §4.2.2), and only this one may compile WebAssembly.
func (a *App) scanWorker(w http.ResponseWriter, r *http.Request) {
	front.Policy{WASM: true}.Apply(w)
	a.shell.StaticAssets().Serve(w, r, "scan.worker.js")
}

// shellFiles are kept by the service worker. The decoder is not among them: it
// is large, and is kept when it was first needed.
var shellFiles = []string{
	"base.css", "app.css", "favicon.svg", "app/icon-192.png",
	"app-home.js", "app-order.js", "app-scan.js", "app-code.js", "app-history.js", "app-devices.js", "app-offline.js",
}

// serviceWorker puts the list of files before the worker's code. The version
// changes with any file, and with it the browser fetches the new shell.
func (a *App) serviceWorker() ([]byte, error) {
	assets := a.shell.StaticAssets()
	files := make([]string, 0, len(shellFiles))
	for _, name := range shellFiles {
		if u := assets.URL(name); u != "" {
			files = append(files, u)
		}
	}
	code, _ := assets.Read("sw.js")
	sum := sha256.Sum256(append([]byte(strings.Join(files, "\n")), code...))
	head, err := json.Marshal(map[string]any{"version": hex.EncodeToString(sum[:6]), "files": files, "offline": a.offline})
	if err != nil {
		return nil, err
	}
	return append([]byte("self.SHELL="+string(head)+";\n"), code...), nil
}

func (a *App) serveWorker(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	_, _ = w.Write(a.worker)
}

// manifest describes the installable app (W3C Web Application Manifest).
func (a *App) manifest(w http.ResponseWriter, r *http.Request) {
	lang, texts := front.Lang(r), a.shell.Catalogue()
	icon := func(name, sizes, purpose string) map[string]string {
		return map[string]string{"src": a.shell.StaticAssets().URL(name), "sizes": sizes, "type": "image/png", "purpose": purpose}
	}
	name := texts.T(lang, "site.name")
	w.Header().Set("Content-Type", "application/manifest+json")
	w.Header().Set("Cache-Control", "no-cache")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"id": "/app", "start_url": "/app", "scope": "/app", "display": "standalone", "lang": lang, "dir": "ltr",
		"name": name, "short_name": name, "description": texts.T(lang, "app.manifest.description"),
		"background_color": "#ffffff", "theme_color": "#0b3a66",
		"icons": []map[string]string{
			icon("app/icon-192.png", "192x192", "any"), icon("app/icon-512.png", "512x512", "any"), icon("app/icon-maskable-512.png", "512x512", "maskable"),
		},
		"shortcuts": []map[string]any{{"name": texts.T(lang, "app.scan.title"), "url": "/app/scan"}, {"name": texts.T(lang, "app.history.title"), "url": "/app/history"}},
	})
}

// host is what people type to reach us.
func (a *App) host() string {
	u, err := url.Parse(a.shell.Origin())
	if err != nil {
		return a.shell.Origin()
	}
	return u.Host
}
