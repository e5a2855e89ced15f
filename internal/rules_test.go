package internal_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// RULES.md names only tests that exist, has a table for each part of a
// credential's life, and no row without a test or another page of rules.
func TestRulesTableIsTrue(t *testing.T) {
	page, err := os.ReadFile("RULES.md")
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	for _, root := range []string{".", "../cmd", "../api"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			code, err := os.ReadFile(path)
			for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(code, -1) {
				exists[string(m[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(exists) < 200 || exists["TestNothingOfTheKind"] {
		t.Fatalf("%d tests found: this test looks at the wrong place", len(exists))
	}
	for n := range 8 {
		if !strings.Contains(string(page), fmt.Sprintf("\n## %d. ", n+1)) {
			t.Errorf("no table %d", n+1)
		}
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| rule") {
			continue
		}
		rows++
		cells := strings.Split(line, " | ")
		held := false
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[len(cells)-1], -1) {
			name := m[1]
			switch {
			case strings.HasPrefix(name, "Test"), strings.HasPrefix(name, "Fuzz"):
				held = held || exists[name]
				if !exists[name] {
					t.Errorf("%s does not exist", name)
				}
			case strings.HasSuffix(name, ".test.mjs"):
				if _, err := os.Stat(filepath.Join("..", "web", "e2e", name)); err != nil {
					t.Error(err)
				}
				held = true
			case strings.HasSuffix(name, "RULES.md"):
				if _, err := os.Stat(name); err != nil {
					t.Error(err)
				}
				held = true
			}
		}
		if !held {
			t.Errorf("nothing holds: %s", line)
		}
	}
	if rows < 40 {
		t.Errorf("%d rows", rows)
	}
}
