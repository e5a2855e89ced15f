package front

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"sealgate/internal/fault"
)

type sampleBody struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
	Inner struct {
		List []string       `json:"list"`
		Free map[string]any `json:"free"`
	} `json:"inner"`
}

func TestDecodeJSON(t *testing.T) {
	const plain = "application/json"
	for _, tt := range []struct{ name, mediaType, body, want string }{
		{"control", plain, `{"name":"甲","count":3,"inner":{"list":["a","a"],"free":{"x":{"name":1}}}}`, ""},
		{"charset", "application/json; charset=utf-8", `{"name":"a"}`, ""},
		{"a name that comes again in another object", plain, `{"name":"a","inner":{"free":{"name":1,"inner":{"name":2}}}}`, ""},
		{"a string with braces and quotes", plain, `{"name":"{\"name\":[,}\\"}`, ""},
		{"form", "application/x-www-form-urlencoded", `{"name":"a"}`, "request_media_type"},
		{"no media type", "", `{"name":"a"}`, "request_media_type"},
		{"unknown member", plain, `{"nome":"a"}`, "request_unknown_field"},
		{"unknown member inside", plain, `{"inner":{"lust":[]}}`, "request_unknown_field"},
		{"twice", plain, `{"name":"a","count":1,"name":"b"}`, "request_malformed"},
		{"twice in other case", plain, `{"name":"a","NAME":"b"}`, "request_malformed"},
		{"twice, hidden by an escape", plain, `{"name":"a","n\u0061me":"b"}`, "request_malformed"},
		{"twice inside a list", plain, `{"inner":{"free":{"x":[{"a":1,"a":2}]}}}`, "request_malformed"},
		{"more behind", plain, `{"name":"a"}{"name":"b"}`, "request_malformed"},
		{"cut", plain, `{"name":"a"`, "request_malformed"},
		{"empty", plain, ``, "request_malformed"},
		{"wrong type", plain, `{"count":"3"}`, "request_malformed"},
		{"not UTF-8", plain, "{\"name\":\"\xff\"}", "request_malformed"},
		{"too deep", plain, `{"inner":{"free":{"x":` + strings.Repeat("[", 30) + strings.Repeat("]", 30) + `}}}`, "request_malformed"},
		{"too large", plain, `{"name":"` + strings.Repeat("a", 2000) + `"}`, "request_too_large"},
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(tt.body))
		if tt.mediaType != "" {
			r.Header.Set("Content-Type", tt.mediaType)
		}
		var v sampleBody
		if got := fault.CodeOf(DecodeJSON(r, &v, 1000)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		r = httptest.NewRequest("POST", "/", strings.NewReader(tt.body))
		r.ContentLength = -1 // sent in chunks
		r.Header.Set("Content-Type", tt.mediaType)
		if got := fault.CodeOf(DecodeJSON(r, &v, 1000)); got != tt.want {
			t.Errorf("%s in chunks: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzDecodeJSON(f *testing.F) {
	f.Add([]byte(`{"name":"a","inner":{"free":{"x":[{"a":1}]}}}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var v map[string]any
		if decodeStrict(body, &v) != nil {
			return
		}
		// What was accepted is valid, and says the same however it is read.
		if !utf8.Valid(body) || !json.Valid(body) {
			t.Fatal("accepted what is not JSON")
		}
		var again map[string]any
		if err := json.Unmarshal(body, &again); err != nil || len(again) != len(v) {
			t.Fatalf("read differently: %v", err)
		}
	})
}

func BenchmarkDecodeJSON(b *testing.B) {
	body := []byte(`{"claim_token":"` + strings.Repeat("a", 43) + `","assertion":{"id":"` + strings.Repeat("b", 60) +
		`","response":{"clientDataJSON":"` + strings.Repeat("c", 300) + `","signature":"` + strings.Repeat("d", 100) + `"}},"left_out":[]}`)
	var v struct {
		ClaimToken string          `json:"claim_token"`
		Assertion  json.RawMessage `json:"assertion"`
		LeftOut    []int           `json:"left_out"`
	}
	for b.Loop() {
		if err := decodeStrict(body, &v); err != nil {
			b.Fatal(err)
		}
	}
}
