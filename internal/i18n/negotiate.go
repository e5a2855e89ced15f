package i18n

import (
	"strconv"
	"strings"
)

// maxPreferences bounds how much of an Accept-Language header is read.
const maxPreferences = 20

// Match maps one language tag to a language we speak. Every kind of Chinese
// gets zh-Hant: a reader of simplified characters is served better by it than
// by English.
func Match(tag string) (Lang, bool) {
	tag = strings.ToLower(strings.TrimSpace(tag))
	switch {
	case tag == "zh" || strings.HasPrefix(tag, "zh-"):
		return ZhHant, true
	case tag == "en" || strings.HasPrefix(tag, "en-"):
		return En, true
	}
	return "", false
}

// Negotiate chooses the language of a page: what the request names itself
// (ui_locales, space-separated, OpenID Connect Core §3.1.2.1), else the cookie,
// else Accept-Language (RFC 9110 §12.5.4), else the default.
func Negotiate(uiLocales, cookie, acceptLanguage string) Lang {
	for i, tag := range strings.Fields(uiLocales) {
		if i == maxPreferences {
			break
		}
		if l, ok := Match(tag); ok {
			return l
		}
	}
	if l, ok := Match(cookie); ok {
		return l
	}
	return fromAccept(acceptLanguage)
}

func fromAccept(header string) Lang {
	best, bestQ := ZhHant, 0.0
	for i, part := range strings.Split(header, ",") {
		if i == maxPreferences {
			break
		}
		tag, params, _ := strings.Cut(part, ";")
		q := 1.0
		if _, v, ok := strings.Cut(params, "q="); ok {
			parsed, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
			if err != nil || parsed < 0 || parsed > 1 {
				continue
			}
			q = parsed
		}
		if l, ok := Match(tag); ok && q > bestQ {
			best, bestQ = l, q
		}
	}
	return best
}
