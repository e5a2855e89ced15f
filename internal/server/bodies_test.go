package server_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/oauth2/clientcredentials"
)

// jsonRoute is a route that takes JSON, with a body of the right form.
type jsonRoute struct {
	path   string // with another method than POST before it
	client *http.Client
	body   map[string]any
}

func (r jsonRoute) method() string {
	if method, _, other := strings.Cut(r.path, " "); other {
		return method
	}
	return http.MethodPost
}

func (r jsonRoute) address() string { return r.path[strings.Index(r.path, " ")+1:] }

// jsonRoutes lists every route that takes a JSON body, with somebody who may call it.
func (w *world) jsonRoutes(t testing.TB) []jsonRoute {
	t.Helper()
	phone := w.enrol(0)
	desk := w.browser()
	if err := desk.LogIn(w.ctx, phone); err != nil {
		t.Fatal(err)
	}
	own := w.browser()
	if err := own.Phone(phone.Keys()).OpenSession(w.ctx); err != nil {
		t.Fatal(err)
	}
	_, starter, id := w.started(t)
	claim := w.scan(t, starter, phone, id)
	desk2, sign := w.signClaim(t, phone)
	e := w.enrolment(1)
	enrol, info, err := e.Begin(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	bind := w.scan(t, e.Browser, e.Phone, enrol)
	if err := e.Browser.Check(w.ctx, enrol, bind.Check.Digits); err != nil {
		t.Fatal(err)
	}
	cfg := clientcredentials.Config{ClientID: "demo-agency", ClientSecret: w.config.Secret, TokenURL: w.origin + "/oauth2/token", Scopes: []string{"sign"}}
	rest := cfg.Client(w.ctx)
	w.raw(t, rest, "GET", "/api/v1/health", nil, "") // the token is there before anybody counts entries
	device := "/api/device/v1"
	credential := map[string]any{"id": "AAAA", "rawId": "AAAA", "type": "public-key", "response": map[string]any{"clientDataJSON": "AAAA", "attestationObject": "AAAA"}}
	assertion := map[string]any{"id": "AAAA", "rawId": "AAAA", "type": "public-key",
		"response": map[string]any{"clientDataJSON": "AAAA", "authenticatorData": "AAAA", "signature": "AAAA", "userHandle": "AAAA"}}
	files := []any{map[string]any{"name": "a", "media_type": "text/plain", "size": 1, "digest_algorithm": "SHA-256", "digest": "AAAA"}}
	return []jsonRoute{
		{device + "/claims", phoneClient, map[string]any{"frame": "x", "source": "scanner"}},
		{device + "/claims", phoneClient, map[string]any{"code": "12345678", "source": "code"}},
		{device + "/claims", desk.Client(), map[string]any{"order": "x", "source": "same_device"}},
		{device + "/claims", phoneClient, map[string]any{"order": id, "claim_token": "x"}},
		{device + "/orders/" + sign.Order + "/options", phoneClient, map[string]any{"claim_token": "x", "left_out": []any{1}}},
		{device + "/orders/" + id + "/approve", phoneClient, map[string]any{"claim_token": claim.Token, "assertion": assertion, "left_out": []any{}}},
		{device + "/orders/" + enrol + "/credential", phoneClient, map[string]any{"claim_token": bind.Token, "credential": credential, "device_name": "Phone"}},
		{device + "/orders/" + id + "/reject", phoneClient, map[string]any{"claim_token": "x", "reason": "not_me"}},
		{device + "/sessions/options", phoneClient, map[string]any{}},
		{device + "/sessions", phoneClient, map[string]any{"challenge_token": "x", "assertion": assertion}},
		{"/o/" + id + "/check", starter.Client(), map[string]any{"digits": "12"}},
		{"/o/" + sign.Order + "/open", desk2.Client(), map[string]any{"start_token": "x"}},
		{"/enrol/card", desk.Client(), map[string]any{"national_id": "A123456789", "certificate": info.Certificate, "component_version": "1.3", "card_number": "CS00000000000001"}},
		{"/enrol/" + enrol + "/proof", e.Browser.Client(), map[string]any{"signature": "MAA=", "certificate": info.Certificate, "card_number": "1"}},
		{"/lost/statements", desk.Client(), map[string]any{"purpose": "report-loss", "certificate": info.Certificate, "card_number": "1"}},
		{"/lost/statements/" + uuid.NewString() + "/proof", desk.Client(), map[string]any{"signature": "MAA=", "certificate": "MAA=", "card_number": "1"}},
		{device + "/devices/" + uuid.NewString() + "/suspend", own.Client(), map[string]any{}},
		{"PATCH " + device + "/devices/" + uuid.NewString(), own.Client(), map[string]any{"name": "Phone"}},
		{device + "/notices/seen", own.Client(), map[string]any{"last": uuid.NewString()}},
		{"/sign/orders", desk.Client(), map[string]any{"documents": files}},
		{"/api/v1/sign-orders", rest, map[string]any{"text": "x", "return_uri": site + "/signed", "subject": "x", "documents": files}},
	}
}

// Bodies that are no JSON, too large, too deep, ambiguous or of unknown fields:
// each is refused with its code and one entry, and nothing changes.
func TestBadBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	deep := strings.Repeat(`{"a":`, 60) + "1" + strings.Repeat("}", 60)
	for _, r := range w.jsonRoutes(t) {
		good, _ := json.Marshal(r.body)
		first := ""
		for _, name := range slices.Sorted(maps.Keys(r.body)) {
			if _, text := r.body[name].(string); text || first == "" {
				first = name
			}
		}
		bad := map[string]string{
			"":                   "request_malformed",
			"{":                  "request_malformed",
			"[]":                 "request_malformed",
			`"x"`:                "request_malformed",
			"12":                 "request_malformed",
			"\x00":               "request_malformed",
			"\xff\xfe{}":         "request_malformed",
			"\xef\xbb\xbf{}":     "request_malformed",
			string(good) + "{}":  "request_malformed",
			string(good) + " x":  "request_malformed",
			deep:                 "request_malformed",
			`{"nobody_asked":1}`: "request_unknown_field",
			`{"__proto__":{}}`:   "request_unknown_field",
			`{"\u0061":1}`:       "request_malformed",
			`{"pad":"` + strings.Repeat("x", 9<<20) + `"}`: "request_too_large",
		}
		if first != "" {
			value, _ := json.Marshal(r.body[first])
			twice := fmt.Sprintf(`{%q:%s,%q:%s}`, first, value, first, value)
			otherCase := fmt.Sprintf(`{%q:%s,%q:%s}`, first, value, strings.ToUpper(first), value)
			bad[twice], bad[otherCase] = "request_malformed", "request_malformed"
			bad[fmt.Sprintf(`{%q:{"a":[[]]}}`, first)] = "request_malformed"
			bad[fmt.Sprintf(`{%q:1e999}`, first)] = "request_malformed"
		}
		t.Run(ids.ReplaceAllString(r.path, "{order}"), func(t *testing.T) {
			for body, want := range bad {
				w.refused(t, want, func() error {
					res, text := w.raw(t, r.client, r.method(), r.address(), http.Header{"Content-Type": {"application/json"}}, body)
					if res.StatusCode < 400 || res.StatusCode > 499 {
						t.Errorf("%.40q: %d %s", body, res.StatusCode, text)
					}
					return problemOf(text)
				})
				if t.Failed() {
					t.Fatalf("with the body %.60q", body)
				}
			}
		})
	}
}

// ids finds order ids in paths.
var ids = regexp.MustCompile(`[A-Za-z0-9_-]{22}`)

func problemOf(body string) error {
	return &codeError{codeOf(body)}
}

// Hostile values in every text of every body: refused or taken as plain text,
// never a failure of ours.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	hostile := []any{"", "\x00", "a\x00b", "\ufffd", "\u202eabc", strings.Repeat("A", 3000), "' OR 1=1; DROP TABLE orders --", "<script>alert(1)</script>",
		"\r\nX: y", "../../../etc/passwd", "%00", "𝕏\U0010ffff", nil, 1, -1, 1.5, true, []any{}, map[string]any{}, []any{nil}}
	type call struct {
		r     jsonRoute
		where string
		body  map[string]any
	}
	for _, r := range w.jsonRoutes(t) {
		var calls []call
		for name, value := range r.body {
			for _, v := range hostile {
				body := maps.Clone(r.body)
				body[name] = v
				calls = append(calls, call{r, name, body})
				if list, ok := value.([]any); ok && len(list) > 0 {
					if member, ok := list[0].(map[string]any); ok {
						for inner := range member {
							changed := maps.Clone(member)
							changed[inner] = v
							body := maps.Clone(r.body)
							body[name] = []any{changed}
							calls = append(calls, call{r, name + "." + inner, body})
						}
					}
				}
			}
		}
		for _, c := range calls {
			raw, err := json.Marshal(c.body)
			if err != nil {
				t.Fatal(err)
			}
			res, text := w.raw(t, c.r.client, c.r.method(), c.r.address(), http.Header{"Content-Type": {"application/json"}}, string(raw))
			if res.StatusCode >= 500 && codeOf(text) != "cert_status_unknown" {
				t.Errorf("%s, %s = %.40q: %d %s", c.r.path, c.where, fmt.Sprint(c.body[strings.Split(c.where, ".")[0]]), res.StatusCode, text)
			}
		}
	}
	if n := w.count(t, "SELECT count(*) FROM orders"); n < 3 {
		t.Errorf("%d orders are left", n)
	}
}
