package site

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"strings"
	"time"
)

// lang is a language of the site.
type lang string

const (
	zhHant lang = "zh-Hant"
	en     lang = "en"

	langCookie = "demoagency_lang"
)

// langOf is the language to answer in: what was asked for, else the cookie,
// else the browser's first language, else zh-Hant.
func langOf(r *http.Request) lang {
	asked := r.URL.Query().Get("lang")
	if c, err := r.Cookie(langCookie); asked == "" && err == nil {
		asked = c.Value
	}
	if asked == "" {
		asked = r.Header.Get("Accept-Language")
	}
	if strings.HasPrefix(strings.ToLower(asked), "en") {
		return en
	}
	return zhHant
}

// pages draws the site.
type pages struct {
	templates map[string]*template.Template
	texts     map[lang]map[string]string
	css       []byte
}

// view is what every template gets.
type view struct {
	Lang  lang
	Path  string
	Page  string
	Data  map[string]any
	texts map[string]string
}

// T gives a text of the site in the language of the page.
func (v *view) T(key string) string {
	if t, ok := v.texts[key]; ok {
		return t
	}
	return key
}

// Time shows a time in Taipei.
func (v *view) Time(t time.Time) string {
	at := t.In(taipei)
	if v.Lang == en {
		return at.Format("2 Jan 2006, 15:04")
	}
	return fmt.Sprintf("%d年%d月%d日 %s", at.Year()-1911, at.Month(), at.Day(), at.Format("15:04"))
}

// Machine gives a time in the form of <time datetime>.
func (v *view) Machine(t time.Time) string { return t.In(taipei).Format(time.RFC3339) }

// Other is the language to switch to.
func (v *view) Other() lang {
	if v.Lang == en {
		return zhHant
	}
	return en
}

var pageNames = []string{"home", "tax", "documents", "clock-in", "transfer", "signed", "error"}

func loadPages(fsys fs.FS) (*pages, error) {
	p := &pages{templates: make(map[string]*template.Template)}
	for _, name := range pageNames {
		t, err := template.ParseFS(fsys, "templates/layout.html", "templates/"+name+".html")
		if err != nil {
			return nil, err
		}
		p.templates[name] = t
	}
	raw, err := fs.ReadFile(fsys, "texts.json")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &p.texts); err != nil {
		return nil, fmt.Errorf("texts.json: %w", err)
	}
	p.css, err = fs.ReadFile(fsys, "static/site.css")
	return p, err
}

func (p *pages) show(w http.ResponseWriter, r *http.Request, status int, name string, data map[string]any) {
	v := &view{Lang: langOf(r), Path: r.URL.Path, Page: name, Data: data}
	v.texts = p.texts[v.Lang]
	if r.URL.Query().Get("lang") != "" {
		http.SetCookie(w, &http.Cookie{Name: langCookie, Value: string(v.Lang), Path: "/", MaxAge: 365 * 24 * 3600, SameSite: http.SameSiteLaxMode})
	}
	var buf bytes.Buffer
	if err := p.templates[name].ExecuteTemplate(&buf, "layout", v); err != nil {
		http.Error(w, "500", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", string(v.Lang))
	w.WriteHeader(status)
	_, _ = buf.WriteTo(w)
}

// fail shows what went wrong and what to do; detail is a code for the help desk.
func (p *pages) fail(w http.ResponseWriter, r *http.Request, status int, key, detail string) {
	p.show(w, r, status, "error", map[string]any{"Key": key, "Next": key + ".next", "Detail": detail})
}

func (p *pages) serveCSS(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/css; charset=utf-8")
	h.Set("Cache-Control", "public, max-age=300")
	_, _ = w.Write(p.css)
}
