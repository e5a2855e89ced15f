package i18n

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode"
)

func load(t *testing.T) *Catalogue {
	t.Helper()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBothLanguagesAreComplete(t *testing.T) {
	c := load(t)
	for _, problem := range incomplete(c) {
		t.Error(problem)
	}
	if len(c.Keys()) < 50 {
		t.Fatalf("only %d keys: the catalogue was not read", len(c.Keys()))
	}
}

// incomplete lists what is wrong with a catalogue: texts missing or empty in a
// language, placeholders that differ, Chinese in English texts.
func incomplete(c *Catalogue) (problems []string) {
	for _, key := range c.Keys() {
		zh, inZh := c.texts[ZhHant][key]
		en, inEn := c.texts[En][key]
		switch {
		case !inZh || strings.TrimSpace(zh) == "":
			problems = append(problems, key+": no zh-Hant text")
		case !inEn || strings.TrimSpace(en) == "":
			problems = append(problems, key+": no en text")
		case !slices.Equal(Placeholders(zh), Placeholders(en)):
			problems = append(problems, key+": placeholders differ")
		case key != "site.other_language" && hasHan(en):
			problems = append(problems, key+": Chinese in the en text: "+en)
		}
	}
	return problems
}

func hasHan(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(unicode.Han, r) })
}

func TestIncompleteIsNoticed(t *testing.T) {
	for name, file := range map[string]string{
		"missing en":        `{"zh-Hant":{"a":"甲"},"en":{}}`,
		"missing zh":        `{"zh-Hant":{},"en":{"a":"A"}}`,
		"empty":             `{"zh-Hant":{"a":"甲"},"en":{"a":" "}}`,
		"other placeholder": `{"zh-Hant":{"a":"甲 {n}"},"en":{"a":"A {m}"}}`,
		"Chinese in en":     `{"zh-Hant":{"a":"甲"},"en":{"a":"A 甲"}}`,
	} {
		c, err := LoadFS(fstest.MapFS{"c/x.json": {Data: []byte(file)}}, "c")
		if err != nil {
			t.Fatal(err)
		}
		if len(incomplete(c)) != 1 {
			t.Errorf("%s: not noticed", name)
		}
	}
}

func TestEveryFaultHasANextStep(t *testing.T) {
	c := load(t)
	faults := 0
	for _, key := range c.Keys() {
		if !strings.HasPrefix(key, "fault.") || strings.HasSuffix(key, ".next") {
			continue
		}
		faults++
		for _, l := range Langs() {
			if c.texts[l][key+".next"] == "" {
				t.Errorf("%s: no next step in %s", key, l)
			}
		}
	}
	if faults == 0 {
		t.Fatal("no fault texts at all")
	}
}

func TestLoadRefusesDoubleKeysAndUnknownLanguages(t *testing.T) {
	_, err := LoadFS(fstest.MapFS{
		"c/a.json": {Data: []byte(`{"en":{"k":"x"}}`)},
		"c/b.json": {Data: []byte(`{"en":{"k":"y"}}`)},
	}, "c")
	if err == nil {
		t.Error("a key in two files was accepted")
	}
	if _, err = LoadFS(fstest.MapFS{"c/a.json": {Data: []byte(`{"fr":{"k":"x"}}`)}}, "c"); err == nil {
		t.Error("an unknown language was accepted")
	}
	if _, err = LoadFS(fstest.MapFS{"c/a.json": {Data: []byte(`{"en":{"k":"x"}}`)}}, "c"); err != nil {
		t.Error(err)
	}
}

func TestT(t *testing.T) {
	c, err := LoadFS(fstest.MapFS{"c/a.json": {Data: []byte(
		`{"zh-Hant":{"left":"還有 {n} 秒 {n}","only":"只有中文"},"en":{"left":"{n} seconds, {n}"}}`)}}, "c")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		lang   Lang
		key    string
		params []string
		want   string
	}{
		{ZhHant, "left", []string{"n", "30"}, "還有 30 秒 30"},
		{En, "left", []string{"n", "30"}, "30 seconds, 30"},
		{En, "left", []string{"n", "{n}"}, "{n} seconds, {n}"},
		{En, "only", nil, "只有中文"},
		{En, "nothing", nil, "nothing"},
	} {
		if got := c.T(tt.lang, tt.key, tt.params...); got != tt.want {
			t.Errorf("T(%s, %s) = %q, want %q", tt.lang, tt.key, got, tt.want)
		}
	}
}

func TestSelectTakesPrefixesThatEndInADotAndWholeKeys(t *testing.T) {
	c, err := LoadFS(fstest.MapFS{"c/a.json": {Data: []byte(
		`{"zh-Hant":{"qr.a":"1","qr.b":"2","qrx":"3","site.name":"4","site.name.long":"5"},"en":{}}`)}}, "c")
	if err != nil {
		t.Fatal(err)
	}
	got := c.Select(ZhHant, "qr.", "site.name")
	if len(got) != 3 || got["qr.a"] != "1" || got["qr.b"] != "2" || got["site.name"] != "4" {
		t.Errorf("Select gave %v", got)
	}
}

func TestNegotiate(t *testing.T) {
	for _, tt := range []struct {
		ui, cookie, accept string
		want               Lang
	}{
		{"", "", "", ZhHant},
		{"", "", "fr, de;q=0.9", ZhHant},
		{"", "", "fr, en-GB;q=0.9, zh-TW;q=0.8", En},
		{"", "", "zh-CN, en;q=0.9", ZhHant},
		{"", "", "en;q=0, zh;q=0.1", ZhHant},
		{"", "", "en;q=bad, fr", ZhHant},
		{"", "en", "zh-TW", En},
		{"", "klingon", "en", En},
		{"fr en zh-TW", "zh-Hant", "zh-TW", En},
		{"fr", "", "en", En},
	} {
		if got := Negotiate(tt.ui, tt.cookie, tt.accept); got != tt.want {
			t.Errorf("Negotiate(%q, %q, %q) = %s, want %s", tt.ui, tt.cookie, tt.accept, got, tt.want)
		}
	}
}

func TestDates(t *testing.T) {
	at := time.Date(2026, 11, 23, 6, 2, 0, 0, time.UTC)
	newYear := time.Date(2026, 12, 31, 16, 5, 0, 0, time.UTC)
	for _, tt := range []struct{ got, want string }{
		{DateTime(ZhHant, at), "115年11月23日 14:02"},
		{DateTime(En, at), "23 Nov 2026, 14:02"},
		{Machine(at), "2026-11-23T14:02:00+08:00"},
		{Date(ZhHant, newYear), "116年1月1日"},
		{Date(En, newYear), "1 Jan 2027"},
		{Date(ZhHant, time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)), "1 Jan 1900"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 4200: "4.2 kB", 999_499: "999 kB",
		999_500: "1.0 MB", 12_345_678: "12 MB", 1 << 30: "1.1 GB"} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
}

func FuzzNegotiate(f *testing.F) {
	f.Add("en", "zh-Hant", "en;q=0.5, zh")
	f.Fuzz(func(t *testing.T, ui, cookie, accept string) {
		if l := Negotiate(ui, cookie, accept); l != ZhHant && l != En {
			t.Fatalf("unknown language %q", l)
		}
	})
}
