// Package i18n holds the words people read, in every language the pages speak.
//
// A message has a key ("qr.ready", "fault.order_claimed") and one text a
// language; placeholders are written {name}. The texts lie in catalogue/*.json,
// one file an owner, each of the form
//
//	{"zh-Hant": {"key": "text"}, "en": {"key": "text"}}
//
// and are merged when the program starts. The tests hold that both languages
// are complete and use the same placeholders.
package i18n

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Lang is a language tag of RFC 5646, as it stands in the lang attribute.
type Lang string

// The languages, the default first.
const (
	ZhHant Lang = "zh-Hant"
	En     Lang = "en"
)

// Langs lists all languages, the default first.
func Langs() []Lang { return []Lang{ZhHant, En} }

// Other gives the language that the switch on a page leads to.
func (l Lang) Other() Lang {
	if l == En {
		return ZhHant
	}
	return En
}

//go:embed catalogue/*.json
var embedded embed.FS

// Catalogue is the merged set of messages. It does not change once loaded and
// may be used from many goroutines.
type Catalogue struct {
	texts map[Lang]map[string]string
}

// Load merges the embedded catalogue files. It fails when a file is not of the
// form above or when a key stands twice.
func Load() (*Catalogue, error) { return LoadFS(embedded, "catalogue") }

// LoadFS merges the catalogue files of a directory.
func LoadFS(fsys fs.FS, dir string) (*Catalogue, error) {
	names, err := fs.Glob(fsys, dir+"/*.json")
	if err != nil {
		return nil, err
	}
	c := &Catalogue{texts: map[Lang]map[string]string{}}
	for _, l := range Langs() {
		c.texts[l] = map[string]string{}
	}
	for _, name := range names {
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		var file map[Lang]map[string]string
		if err := json.Unmarshal(data, &file); err != nil {
			return nil, fmt.Errorf("i18n: %s: %w", name, err)
		}
		if err := c.add(name, file); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Catalogue) add(name string, file map[Lang]map[string]string) error {
	for lang, texts := range file {
		into, known := c.texts[lang]
		if !known {
			return fmt.Errorf("i18n: %s: unknown language %q", name, lang)
		}
		for key, text := range texts {
			if _, twice := into[key]; twice {
				return fmt.Errorf("i18n: %s: key %q stands in another file too", name, key)
			}
			into[key] = text
		}
	}
	return nil
}

// T gives the text of a key with its placeholders filled; params are pairs of
// name and value. A key that does not exist gives the key itself, so that a
// missing text is seen and not silent. Values are put in as they are: the
// caller's template escapes the whole.
func (c *Catalogue) T(lang Lang, key string, params ...string) string {
	text, ok := c.Lookup(lang, key)
	if !ok {
		return key
	}
	if len(params) < 2 || !strings.Contains(text, "{") {
		return text
	}
	pairs := make([]string, 0, len(params))
	for i := 0; i+1 < len(params); i += 2 {
		pairs = append(pairs, "{"+params[i]+"}", params[i+1])
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// Lookup gives the raw text of a key, and whether there is one. A language
// without the key falls back to the default language.
func (c *Catalogue) Lookup(lang Lang, key string) (string, bool) {
	if text, ok := c.texts[lang][key]; ok {
		return text, true
	}
	text, ok := c.texts[ZhHant][key]
	return text, ok
}

// Select gives the texts whose keys begin with one of the prefixes, for the
// scripts of a page. A prefix that is a whole key selects that key.
func (c *Catalogue) Select(lang Lang, prefixes ...string) map[string]string {
	out := map[string]string{}
	for key := range c.texts[ZhHant] {
		for _, p := range prefixes {
			if key == p || (strings.HasPrefix(key, p) && strings.HasSuffix(p, ".")) {
				out[key], _ = c.Lookup(lang, key)
				break
			}
		}
	}
	return out
}

// Keys lists every key of any language in order.
func (c *Catalogue) Keys() []string {
	set := map[string]bool{}
	for _, texts := range c.texts {
		for k := range texts {
			set[k] = true
		}
	}
	keys := make([]string, 0, len(set))
	for k := range set {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Placeholders lists the {names} of a text, sorted, each once.
func Placeholders(text string) []string {
	var out []string
	for {
		open := strings.IndexByte(text, '{')
		if open < 0 {
			break
		}
		end := strings.IndexByte(text[open:], '}')
		if end < 0 {
			break
		}
		if name := text[open+1 : open+end]; !slices.Contains(out, name) {
			out = append(out, name)
		}
		text = text[open+end+1:]
	}
	slices.Sort(out)
	return out
}
