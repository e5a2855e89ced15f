package front

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"sealgate/internal/i18n"
)

// Renderer writes pages. Templates are parsed once, at start; each page file
// (pages/*.html, app/*.html, console/*.html) is joined with layout/*.html and parts/*.html and
// is called by its path without ".html". A page file defines the blocks
// "title", "head" (optional) and "main"; the layout does the rest.
type Renderer struct {
	pages     map[string]*template.Template
	assets    *Assets
	catalogue *i18n.Catalogue
	origin    string
	texts     sync.Map // textsKey → template.JS
	buffers   sync.Pool
}

func newRenderer(fsys fs.FS, assets *Assets, catalogue *i18n.Catalogue, origin string) (*Renderer, error) {
	rd := &Renderer{pages: map[string]*template.Template{}, assets: assets, catalogue: catalogue, origin: origin}
	rd.buffers.New = func() any { return new(bytes.Buffer) }
	base, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{"pairs": pairs}).
		ParseFS(fsys, "layout/*.html", "parts/*.html")
	if err != nil {
		return nil, fmt.Errorf("front: templates: %w", err)
	}
	for _, dir := range []string{"pages", "app", "console"} {
		names, err := fs.Glob(fsys, dir+"/*.html")
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			t, err := template.Must(base.Clone()).ParseFS(fsys, name)
			if err != nil {
				return nil, fmt.Errorf("front: templates: %w", err)
			}
			rd.pages[strings.TrimSuffix(name, path.Ext(name))] = t
		}
	}
	return rd, nil
}

// pairs makes a map of its arguments, to hand several values to a part.
func pairs(kv ...any) (map[string]any, error) {
	m := make(map[string]any, len(kv)/2)
	for i := 0; i+1 < len(kv); i += 2 {
		k, ok := kv[i].(string)
		if !ok {
			return nil, fmt.Errorf("pairs: argument %d is not a name", i)
		}
		m[k] = kv[i+1]
	}
	return m, nil
}

// View is what a template sees as ".": the page's own data in D, and the
// functions below.
type View struct {
	D       any
	Lang    i18n.Lang
	Path    string // of the request, escaped, for the language switch
	Request string // id, for the help desk
	Origin  string
	rd      *Renderer
}

// Page renders a page in the request's language.
func (rd *Renderer) Page(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	buf := rd.buffers.Get().(*bytes.Buffer)
	defer rd.buffers.Put(buf)
	buf.Reset()
	view := &View{D: data, Lang: Lang(r), Path: ownPath(r), Request: RequestID(r), Origin: rd.origin, rd: rd}
	if err := rd.execute(buf, name, view); err != nil {
		if name == "pages/error" {
			http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
			return
		}
		ErrorPage(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", string(view.Lang))
	h.Set("Content-Length", strconv.Itoa(buf.Len()))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(buf.Bytes())
	}
}

// Part renders one block of a page, to take the place of a part of it.
func (rd *Renderer) Part(w http.ResponseWriter, r *http.Request, page, block string, data any) error {
	t, ok := rd.pages[page]
	if !ok {
		return fmt.Errorf("front: no page %q", page)
	}
	var buf bytes.Buffer
	view := &View{D: data, Lang: Lang(r), Path: ownPath(r), Request: RequestID(r), Origin: rd.origin, rd: rd}
	if err := t.ExecuteTemplate(&buf, block, view); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", string(view.Lang))
	_, _ = w.Write(buf.Bytes())
	return nil
}

// ownPath is the path of the request as a link on our own host: one that begins
// with two slashes would lead to another ("//evil.example/", also as "/%2f…").
func ownPath(r *http.Request) string {
	return "/" + strings.TrimLeft(r.URL.EscapedPath(), "/")
}

func (rd *Renderer) execute(buf *bytes.Buffer, name string, view *View) error {
	t, ok := rd.pages[name]
	if !ok {
		return fmt.Errorf("front: no page %q", name)
	}
	return t.ExecuteTemplate(buf, "layout", view)
}

// defaultsForPage gives an answer the headers of a page when it did not come
// through Shell.Browser.
func defaultsForPage(w http.ResponseWriter) { Policy{}.Apply(w) }

// T gives a text; params are pairs of name and value.
func (v *View) T(key string, params ...any) string {
	words := make([]string, len(params))
	for i, p := range params {
		words[i] = fmt.Sprint(p)
	}
	return v.rd.catalogue.T(v.Lang, key, words...)
}

// Name chooses the language of a pair of names that an agency gave.
func (v *View) Name(names map[string]string) string {
	if n := names[string(v.Lang)]; n != "" {
		return n
	}
	return names[string(i18n.ZhHant)]
}

// Scope gives the words for a kind of data that a client asks for; a scope
// without words stands for itself.
func (v *View) Scope(scope string) string {
	if text, ok := v.rd.catalogue.Lookup(v.Lang, "app.data."+scope); ok {
		return text
	}
	return scope
}

// Asset gives the address of a built file.
func (v *View) Asset(name string) (string, error) {
	if u := v.rd.assets.URL(name); u != "" {
		return u, nil
	}
	return "", fmt.Errorf("front: no asset %q", name)
}

// OtherLang is the language that the switch leads to.
func (v *View) OtherLang() i18n.Lang { return v.Lang.Other() }

// Date, DateTime, Clock and Machine write times; Size writes bytes.
func (v *View) Date(t time.Time) string     { return i18n.Date(v.Lang, t) }
func (v *View) DateTime(t time.Time) string { return i18n.DateTime(v.Lang, t) }
func (v *View) Clock(t time.Time) string    { return i18n.Clock(t) }
func (v *View) Machine(t time.Time) string  { return i18n.Machine(t) }
func (v *View) Size(n int64) string         { return i18n.Size(n) }

// JSON writes a value for a data block that a script of the page reads:
// <script type="application/json" id="page">{{.JSON .D.Page}}</script>.
func (v *View) JSON(value any) (template.JS, error) {
	b, err := json.Marshal(value) // escapes <, > and & so that no tag can end the block
	return template.JS(b), err
}

// Texts writes the texts whose keys begin with the prefixes ("qr.") as a JSON
// object, for the scripts of the page. The result is made once and kept.
func (v *View) Texts(prefixes ...string) (template.JS, error) {
	key := string(v.Lang) + "\x00" + strings.Join(prefixes, "\x00")
	if js, ok := v.rd.texts.Load(key); ok {
		return js.(template.JS), nil
	}
	js, err := v.JSON(v.rd.catalogue.Select(v.Lang, prefixes...))
	if err == nil {
		v.rd.texts.Store(key, js)
	}
	return js, err
}
