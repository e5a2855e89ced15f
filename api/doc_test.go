// Package api_test holds openapi.yaml to the truth: every route of the
// assembled server is in it or is named here as a page, nothing else is in it,
// and what a whole main road really answers validates against its schemas.
package api_test

import (
	"context"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	v3 "github.com/pb33f/libopenapi/datamodel/high/v3"

	"sealgate/cmd/sealctl/onebox"
	"sealgate/internal/i18n"
	"sealgate/internal/postgres/pgtest"
)

// pages are the routes that answer people: HTML, redirects, pictures, files of
// the pages. Whatever is not here must be in the document.
var pages = []string{
	"GET /", "POST /lang", "GET /o/{oid}", "GET /o/{oid}/qr.png", "GET /o/{oid}/return", "GET /start/{oid}",
	"GET /enrol", "GET /enrol/{oid}", "GET /sign", "GET /sign/{oid}", "GET /verify", "GET /documents*", "POST /documents*", "GET /session/login", "POST /session/logout",
	"GET /help", "GET /help/*", "GET /dev/*", "GET /app", "GET /app/*", "GET /q/{frame}", "GET /lost", "GET /lost/card", "GET /sw.js", "GET /manifest.webmanifest",
	"* /assets/*",
	"* /admin*", // the console: its JSON is between its pages and their own script
}

func isPage(route string) bool {
	for _, p := range pages {
		method, pattern, _ := strings.Cut(p, " ")
		m, path, _ := strings.Cut(route, " ")
		if method != "*" && method != m {
			continue
		}
		if prefix, ok := strings.CutSuffix(pattern, "*"); path == pattern || ok && strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// document is the description, read once a test.
type document struct {
	model     *v3.Document
	validator validator.Validator
}

func readDocument(t *testing.T) *document {
	t.Helper()
	raw, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d, err := libopenapi.NewDocument(raw)
	if err != nil {
		t.Fatal(err)
	}
	model, err := d.BuildV3Model()
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(d, config.WithFormatAssertions(), config.WithoutSecurityValidation())
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return &document{&model.Model, v}
}

// operations lists "METHOD /path" of the document.
func (d *document) operations() map[string]*v3.Operation {
	out := map[string]*v3.Operation{}
	for path, item := range d.model.Paths.PathItems.FromOldest() {
		for method, op := range item.GetOperations().FromOldest() {
			out[strings.ToUpper(method)+" "+path] = op
		}
	}
	return out
}

// problemCodes are the codes an operation says it may answer.
func problemCodes(t *testing.T, op *v3.Operation) []string {
	t.Helper()
	codes := []string{"request_malformed", "request_unknown_field", "request_media_type", "request_too_large", "not_found",
		"method_not_allowed", "cross_origin", "internal"}
	if op.Extensions == nil {
		return codes
	}
	node, ok := op.Extensions.Get("x-problem-codes")
	if !ok {
		return codes
	}
	var more []string
	if err := node.Decode(&more); err != nil {
		t.Fatal(err)
	}
	return append(codes, more...)
}

func TestDocumentIsValid(t *testing.T) {
	d := readDocument(t)
	if ok, errs := d.validator.ValidateDocument(); !ok {
		for _, e := range errs {
			t.Error(e)
		}
	}
	ids := map[string]string{}
	for name, op := range d.operations() {
		if op.OperationId == "" || op.Summary == "" || len(op.Tags) != 1 {
			t.Errorf("%s: operationId, summary or its one tag is missing", name)
		}
		if other, twice := ids[op.OperationId]; twice {
			t.Errorf("%s and %s have one operationId", name, other)
		}
		ids[op.OperationId] = name
	}
}

func TestProblemCodesHaveTexts(t *testing.T) {
	catalogue, err := i18n.Load()
	if err != nil {
		t.Fatal(err)
	}
	for name, op := range readDocument(t).operations() {
		for _, code := range problemCodes(t, op) {
			if _, ok := catalogue.Lookup(i18n.ZhHant, "fault."+code); !ok {
				t.Errorf("%s: nobody has words for the code %q", name, code)
			}
		}
	}
}

// The document writes a route's "*" and its patterns as plain parameters.
var (
	wildcard = regexp.MustCompile(`/\*$`)
	pattern  = regexp.MustCompile(`\{(\w+):[^}]*\}`)
)

func TestRoutesAndDocumentAgree(t *testing.T) {
	box, err := onebox.Start(context.Background(), onebox.Config{Dir: t.TempDir(), Pool: pgtest.Open(t), Cards: true})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	var routes []string
	err = chi.Walk(box.Server.Routes(), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if len(route) > 1 {
			route = strings.TrimSuffix(route, "/")
		}
		name := method + " " + route
		if isPage(name) {
			return nil
		}
		routes = append(routes, pattern.ReplaceAllString(wildcard.ReplaceAllString(name, "/{request}"), "{$1}"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(routes) < 40 {
		t.Fatalf("only %d routes: the server was not walked", len(routes))
	}
	documented := readDocument(t).operations()
	for _, r := range routes {
		if documented[r] == nil {
			t.Errorf("%s is served and not in openapi.yaml", r)
		}
	}
	for r := range documented {
		if !slices.Contains(routes, r) {
			t.Errorf("%s is in openapi.yaml and not served", r)
		}
	}
}
