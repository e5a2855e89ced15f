package pages

import (
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"sealgate/internal/front"
)

func (p *Pages) mountHelp(r chi.Router) {
	for path, page := range map[string]string{
		"/help": "pages/help", "/help/accessibility": "pages/help-accessibility",
		"/help/privacy": "pages/help-privacy",
	} {
		r.Get(path, func(w http.ResponseWriter, r *http.Request) {
			p.render.Page(w, r, http.StatusOK, page, nil)
		})
	}
	r.Get("/help/errors", p.errorCodes)
}

// ErrorCode is one row of the list of error codes.
type ErrorCode struct {
	Code, Happened, Next string
}

// errorCodes lists every fault there is; problems link here by their code.
func (p *Pages) errorCodes(w http.ResponseWriter, r *http.Request) {
	c, lang := p.cfg.Shell.Catalogue(), front.Lang(r)
	var rows []ErrorCode
	for _, key := range c.Keys() {
		code, ok := strings.CutPrefix(key, "fault.")
		if !ok || strings.HasSuffix(code, ".next") {
			continue
		}
		rows = append(rows, ErrorCode{Code: code, Happened: withoutPlaceholders(c.T(lang, key)), Next: withoutPlaceholders(c.T(lang, key+".next"))})
	}
	p.render.Page(w, r, http.StatusOK, "pages/help-errors", rows)
}

// withoutPlaceholders shows a placeholder as a dash of the sentence: {n} becomes "…".
func withoutPlaceholders(text string) string {
	for {
		open := strings.IndexByte(text, '{')
		if open < 0 {
			return text
		}
		end := strings.IndexByte(text[open:], '}')
		if end < 0 {
			return text
		}
		text = text[:open] + "…" + text[open+end+1:]
	}
}
