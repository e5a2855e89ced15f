package issuing

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// RULES.md names every rule, and the tests that it names exist.
func TestRulesTable(t *testing.T) {
	page, err := os.ReadFile("RULES.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, rules := range [][]rule{everyRule, ownRules, outsideRules} {
		for _, r := range rules {
			if !strings.Contains(string(page), "| `"+r.name+"` |") {
				t.Errorf("rule %s is not in the table", r.name)
			}
		}
	}
	var tests strings.Builder
	for _, dir := range []string{".", "../enrolment", "../config", "../keyring", "../est", "../server", "../../cmd/sealctl"} {
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if strings.HasSuffix(f.Name(), "_test.go") {
				text, err := os.ReadFile(dir + "/" + f.Name())
				if err != nil {
					t.Fatal(err)
				}
				tests.Write(text)
			}
		}
	}
	named := regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) < 10 {
		t.Fatalf("only %d tests are named", len(named))
	}
	for _, n := range named {
		if !strings.Contains(tests.String(), "func "+n[1]+"(t ") {
			t.Errorf("%s is named and does not exist", n[1])
		}
	}
}
