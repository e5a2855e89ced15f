package signing_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The tests that RULES.md names exist.
func TestRulesTable(t *testing.T) {
	page := must(os.ReadFile("RULES.md"))
	var tests strings.Builder
	for _, dir := range []string{".", "../keyring", "../server"} {
		for _, f := range must(filepath.Glob(filepath.Join(dir, "*_test.go"))) {
			tests.Write(must(os.ReadFile(f)))
		}
	}
	named := regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) < 20 {
		t.Fatalf("only %d tests are named", len(named))
	}
	for _, n := range named {
		if !strings.Contains(tests.String(), "func "+n[1]+"(t ") {
			t.Errorf("%s is named and does not exist", n[1])
		}
	}
}
