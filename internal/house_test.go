// Package internal_test holds the rules of the house (internal/README.md) as
// tests. When a rule gets in the way of something better, it is changed here,
// in the code and in the README in one commit.
package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "sealgate"

// rings says how far down a package lies. Imports point down, or sideways
// where sideways names it.
var rings = map[string]int{
	"fault": 0, "i18n": 0, "certpath": 0, "cms": 0, "tsp": 0, "egress": 0, "throttle": 0, "pades": 0, "xmldsig": 0, "cades": 0,
	"audit": 1, "keyring": 1, "keyring/hsm": 1, "agency": 1, "citizen": 1, "passkey": 1, "mds": 1, "est": 1,
	"issuing": 2, "signing": 2, "sigverify": 2, "evidence": 2,
	"order": 3, "enrolment": 3, "devices": 3, "console": 3, "dossier": 3, "webhook": 3, "verification": 3,
	"front": 4, "oidc": 4, "jobs": 4,
	"front/agencyapi": 4, "front/verifyapi": 4, "front/deviceapi": 4, "front/pages": 4, "front/pki": 4, "front/spapi": 4, "front/console": 4, "front/csc": 4,
	"postgres": 5, "postgres/cluster": 5, "postgres/migrate": 5, "postgres/pgtest": 5, "config": 5,
	"server": 6,
	// Tools of tests and of the test card and the soft phone.
	"softauthn": 1, "pkitest": 1, "pkitest/esttest": 1,
}

// sideways lists imports within one ring that are meant, with the reason.
var sideways = map[string]string{
	"certpath→fault": "every package may name a fault", "cms→fault": "as above", "tsp→fault": "as above", "egress→fault": "as above",
	"pades→fault": "as above", "xmldsig→fault": "as above",
	"tsp→cms":               "a time-stamp token is CMS SignedData",
	"tsp→certpath":          "a client judges the certificate of who answered",
	"cades→*":               "long-term forms put signature, time-stamp and evidence together",
	"tsp→egress":            "an authority is asked through the only dialler",
	"certpath→egress":       "OCSP and CRLs come through the only dialler",
	"keyring→audit":         "a key's creation is an audited act",
	"keyring/*→keyring":     "a PKCS #11 token is one of the places where keys are kept",
	"agency→audit":          "a client's change is an audited act",
	"citizen→audit":         "a device's stop is an audited act",
	"mds→audit":             "accepting a metadata BLOB is an audited act",
	"passkey→mds":           "what is known of a model decides whether its passkeys are accepted",
	"passkey→audit":         "stopping a model's devices is an audited act",
	"signing→issuing":       "a signature names the certificate that was issued",
	"evidence→signing":      "an approval's challenge has one definition",
	"sigverify→evidence":    "a signature may carry the evidence of its approval",
	"enrolment→order":       "binding a phone is an order of kind enrol",
	"dossier→order":         "a point is signed by a sign order",
	"enrolment→console":     "two registrars' confirmation is consumed by the binding itself",
	"front/agencyapi→oidc":  "the provider issues and checks this door's access tokens",
	"pkitest/*→pkitest":     "a test server of another CA issues from a throw-away hierarchy",
	"front/csc→oidc":        "the provider authenticates this door's clients, and its faults of codes and tokens are theirs",
	"front/*→front":         "doors stand in the shell",
	"postgres/*→postgres/*": "the cellar's own rooms",
	"postgres/*→postgres":   "as above",
}

// source is one Go file with what the rules look at.
type source struct {
	path string // from the module's root, with slashes
	pkg  string // "internal/order", "cmd/sealgate"
	test bool
	file *ast.File
	set  *token.FileSet
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	root := ".."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if name := d.Name(); name == "node_modules" || name == "var" || name == "testdata" || name == "zz_deps" || (strings.HasPrefix(name, ".") && rel != ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{path: rel, pkg: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(rel, "_test.go"), file: f, set: set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("only %d files found: the rules would hold for nothing", len(all))
	}
	return all
}

func imports(s source) []string {
	var out []string
	for _, i := range s.file.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		out = append(out, path)
	}
	return out
}

// inner is a package's name below internal/, "" for others.
func inner(path string) string {
	name, ok := strings.CutPrefix(path, module+"/internal/")
	if !ok {
		return ""
	}
	return name
}

func TestImportsPointDown(t *testing.T) {
	for _, s := range sources(t) {
		from, ok := strings.CutPrefix(s.pkg, "internal/")
		if !ok || s.test {
			continue
		}
		ring, known := rings[from]
		if !known {
			t.Errorf("%s: package %s has no ring; give it one here and in internal/README.md", s.path, from)
			continue
		}
		for _, path := range imports(s) {
			to := inner(path)
			if to == "" {
				continue
			}
			below, known := rings[to]
			if !known || below > ring || below == ring && !meant(from, to) {
				t.Errorf("%s (ring %d) imports %s (ring %d): imports point down", s.path, ring, to, below)
			}
		}
	}
}

func meant(from, to string) bool {
	for _, pair := range []string{from + "→" + to, from + "→*", group(from) + "→" + to, from + "→" + group(to), group(from) + "→" + group(to)} {
		if _, ok := sideways[pair]; ok {
			return true
		}
	}
	return false
}

func group(name string) string {
	if i := strings.LastIndex(name, "/"); i >= 0 {
		return name[:i] + "/*"
	}
	return name
}

func TestDoorsNeverImportEachOther(t *testing.T) {
	for _, s := range sources(t) {
		if from, ok := strings.CutPrefix(s.pkg, "internal/front/"); ok && !s.test {
			for _, path := range imports(s) {
				if to, ok := strings.CutPrefix(path, module+"/internal/front/"); ok && to != from {
					t.Errorf("%s imports the door %s", s.path, to)
				}
			}
		}
	}
}

// No package serves HTTP and speaks SQL; only the cellar speaks SQL; only the
// builder, the commands and tests open the cellar.
func TestSQLStaysInTheCellar(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		cellar := strings.HasPrefix(s.pkg, "internal/postgres") || s.pkg == "internal/config" // which checks the database URL
		builder := s.pkg == "internal/server" || strings.HasPrefix(s.pkg, "cmd/")
		for _, path := range imports(s) {
			switch {
			case strings.HasPrefix(path, "github.com/jackc/pgx") || path == "database/sql":
				if !cellar && !builder {
					t.Errorf("%s imports %s", s.path, path)
				}
			case path == "net/http" && cellar && s.pkg != "internal/postgres/cluster":
				t.Errorf("%s serves HTTP in the cellar", s.path)
			case strings.HasPrefix(path, module+"/internal/postgres") && !cellar && !builder:
				t.Errorf("%s opens the cellar", s.path)
			}
		}
	}
}

// Formats, nouns and stories know nothing of serving HTTP.
func TestDomainsKnowNoHTTPServer(t *testing.T) {
	for _, s := range sources(t) {
		from, ok := strings.CutPrefix(s.pkg, "internal/")
		if !ok || s.test || rings[from] > 3 || from == "egress" || from == "pkitest" || from == "pkitest/esttest" {
			continue
		}
		if slices.Contains(imports(s), "net/http") {
			t.Errorf("%s imports net/http", s.path)
		}
	}
}

func TestOnlyEgressDials(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || !strings.HasPrefix(s.pkg, "internal/") {
			continue
		}
		switch s.pkg {
		case "internal/egress", "internal/postgres/cluster", "internal/server":
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := call.X.(*ast.Ident); ok {
				name := x.Name + "." + call.Sel.Name
				switch name {
				case "http.Get", "http.Post", "http.DefaultClient", "http.Client", "net.Dial", "net.DialTimeout", "net.Dialer", "tls.Dial":
					t.Errorf("%s: %s uses %s: only package egress calls out", s.path, s.pkg, name)
				}
			}
			return true
		})
	}
}

func TestNoBucketsNoInitNoCgo(t *testing.T) {
	banned := []string{"util", "utils", "common", "helpers", "models", "handlers", "services", "mocks", "misc"}
	for _, s := range sources(t) {
		for _, part := range strings.Split(s.pkg, "/") {
			if slices.Contains(banned, part) {
				t.Errorf("%s: a directory named %s attracts the unnamed", s.path, part)
			}
		}
		for _, path := range imports(s) {
			if path == "C" && s.pkg != "internal/keyring/hsm" {
				t.Errorf("%s uses cgo", s.path)
			}
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s has init(): behaviour must not depend on imports", s.path)
			}
		}
	}
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mod), "\nreplace ") {
		t.Error("go.mod has a replace line")
	}
}

func TestEveryPackageIsDescribed(t *testing.T) {
	described, seen := map[string]bool{}, map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		seen[s.pkg] = true
		described[s.pkg] = described[s.pkg] || s.file.Doc != nil
	}
	for pkg := range seen {
		if !described[pkg] {
			t.Errorf("package %s has no doc comment", pkg)
		}
	}
}

// Small rooms: a file over 600 lines or a function over 60 is asking to be two.
func TestSmallRooms(t *testing.T) {
	for _, s := range sources(t) {
		if lines := s.set.Position(s.file.End()).Line; lines > 600 && !s.test {
			t.Errorf("%s has %d lines", s.path, lines)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil || s.test {
				continue
			}
			if n := s.set.Position(f.Body.Rbrace).Line - s.set.Position(f.Body.Lbrace).Line; n > 60 {
				t.Errorf("%s: %s has %d lines", s.path, f.Name.Name, n)
			}
		}
	}
}

// A domain's Store names what is done, in at most eight methods.
func TestStoresAreSmall(t *testing.T) {
	found := 0
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			ts, ok := n.(*ast.TypeSpec)
			if !ok || !strings.HasSuffix(ts.Name.Name, "Store") {
				return true
			}
			if i, ok := ts.Type.(*ast.InterfaceType); ok {
				found++
				if methods := i.Methods.NumFields(); methods > 8 {
					t.Errorf("%s: %s has %d methods", s.path, ts.Name.Name, methods)
				}
			}
			return true
		})
	}
	if found < 3 {
		t.Fatal(fmt.Sprintf("only %d stores found", found))
	}
}
