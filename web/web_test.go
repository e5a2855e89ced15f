package web

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sealgate/internal/i18n"
)

// luminance is the relative luminance of WCAG 2.2.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(hex, "#"), 16, 32)
	if err != nil || len(hex) != 7 {
		t.Fatalf("not a colour: %q", hex)
	}
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		c := float64(n>>(16-8*i)&255) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

func ratio(t *testing.T, a, b string) float64 {
	x, y := luminance(t, a), luminance(t, b)
	return (math.Max(x, y) + 0.05) / (math.Min(x, y) + 0.05)
}

// tokens reads the colours of both themes from _tokens.css.
func tokens(t *testing.T) (light, dark map[string]string) {
	t.Helper()
	css, err := os.ReadFile("src/css/_tokens.css")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.SplitN(string(css), "@media (prefers-color-scheme: dark)", 2)
	if len(parts) != 2 {
		t.Fatal("no dark theme")
	}
	read := func(text string, into map[string]string) map[string]string {
		for _, m := range regexp.MustCompile(`--([a-z-]+):\s*(#[0-9a-f]{6})`).FindAllStringSubmatch(text, -1) {
			into[m[1]] = m[2]
		}
		return into
	}
	light = read(parts[0], map[string]string{})
	dark = map[string]string{}
	for k, v := range light {
		dark[k] = v
	}
	return light, read(parts[1], dark)
}

func TestContrast(t *testing.T) {
	light, dark := tokens(t)
	for theme, c := range map[string]map[string]string{"light": light, "dark": dark} {
		check := func(front, back string, least float64) {
			if r := ratio(t, c[front], c[back]); r < least {
				t.Errorf("%s: %s on %s is %.2f, needs %.1f", theme, front, back, r, least)
			}
		}
		for _, back := range []string{"bg", "surface"} {
			for _, front := range []string{"text", "muted", "link", "visited", "ok", "warn", "danger", "primary"} {
				check(front, back, 4.5)
			}
			check("border-strong", back, 3)
		}
		for _, kind := range []string{"ok", "warn", "danger", "info"} {
			check(kind, kind+"-bg", 4.5)
			check("text", kind+"-bg", 4.5)
		}
		check("muted", "sunken", 4.5)
		check("on-primary", "primary", 4.5)
		check("on-primary", "primary-hover", 4.5)
	}
	if r := ratio(t, light["focus-line"], light["bg"]); r < 3 {
		t.Errorf("the focus line is not seen on white: %.2f", r)
	}
	if r := ratio(t, dark["focus"], dark["bg"]); r < 3 {
		t.Errorf("the focus ring is not seen on dark: %.2f", r)
	}
	// The test can fail: yellow alone on white is too pale.
	if r := ratio(t, light["focus"], light["bg"]); r > 3 {
		t.Errorf("the computation is wrong: yellow on white %.2f", r)
	}
}

// TestTextsExist looks for every literal key in the templates and in the
// scripts of the pages at a computer.
func TestTextsExist(t *testing.T) {
	catalogue, err := i18n.Load()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, k := range catalogue.Keys() {
		known[k] = true
	}
	look := func(root string, pattern *regexp.Regexp, ext string) (found int) {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ext {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
				found++
				if !known[m[1]] {
					t.Errorf("%s: no text %q", path, m[1])
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if n := look("templates", regexp.MustCompile(`\.T "([^"]+)"`), ".html"); n < 50 {
		t.Errorf("only %d keys in the templates", n)
	}
	n := look("src/desk", regexp.MustCompile(`\bt\("([^"]+)"`), ".ts") + look("src/entries", regexp.MustCompile(`\bt\("([^"]+)"`), ".ts")
	if n < 40 {
		t.Errorf("only %d keys in the scripts", n)
	}
	computed := []string{}
	for _, kind := range []string{"login", "sign", "enrol"} {
		for _, state := range []string{"approved", "completed", "rejected"} {
			computed = append(computed, fmt.Sprintf("qr.%s.%s", state, kind))
		}
	}
	for _, state := range []string{"created", "scanned", "approved", "completed", "rejected", "expired", "cancelled", "failed"} {
		computed = append(computed, "qr.title."+state)
	}
	computed = append(computed, "qr.expired", "qr.cancelled", "qr.failed")
	reasons := regexp.MustCompile(`(?s)export type CardReason =(.*?);`)
	source, err := os.ReadFile("src/desk/card.ts")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`"([a-z_]+)"`).FindAllStringSubmatch(reasons.FindString(string(source)), -1) {
		computed = append(computed, "card."+m[1], "card."+m[1]+".next")
	}
	if len(computed) < 50 {
		t.Errorf("only %d computed keys", len(computed))
	}
	for _, key := range computed {
		if !known[key] {
			t.Errorf("no text %q", key)
		}
	}
}

// TestLockFileNamesNoHost keeps the lock file free of registries' addresses.
func TestLockFileNamesNoHost(t *testing.T) {
	lock, err := os.ReadFile("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(lock), `"resolved"`) || !strings.Contains(string(lock), `"integrity"`) {
		t.Error("package-lock.json must have integrity and no resolved addresses")
	}
}
