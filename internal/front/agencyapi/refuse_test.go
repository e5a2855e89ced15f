package agencyapi_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"
)

// refusals counts the audit entries of this door with a code.
func (h *house) refusals(code string) (n int) {
	h.t.Helper()
	h.must(h.pool.QueryRow(h.ctx, `SELECT count(*) FROM audit_entries WHERE act = 'client.refused' AND result = 'refused' AND detail->>'code' = $1`, code).Scan(&n))
	return n
}

func (h *house) orders() (n int) {
	h.t.Helper()
	h.must(h.pool.QueryRow(h.ctx, `SELECT count(*) FROM orders`).Scan(&n))
	return n
}

func TestRefusals(t *testing.T) {
	h := newHouse(t)
	token := h.token(h.box.ClientID, "sign")
	path := "/api/v1/sign-orders"
	good := map[string]any{"documents": documents("a"), "return_uri": h.box.Site + "/signed", "text": "t"}
	with := func(name string, value any) map[string]any {
		out := map[string]any{}
		for k, v := range good {
			out[k] = v
		}
		out[name] = value
		return out
	}
	doc := func(name string, value any) map[string]any {
		d := map[string]any{"name": "a.pdf", "size": 1, "digest_algorithm": "SHA-256", "digest": documents("a")[0].Digest}
		d[name] = value
		return with("documents", []any{d})
	}
	short := base64.StdEncoding.EncodeToString([]byte("too short"))
	sum := sha256.Sum224([]byte("a"))
	for _, c := range []struct {
		name   string
		body   any
		status int
		code   string
	}{
		{"return address not registered", with("return_uri", h.box.Site+"/signed/"), 400, "return_uri_mismatch"},
		{"return address elsewhere", with("return_uri", "https://evil.example/"), 400, "return_uri_mismatch"},
		{"subject that is none", with("subject", "AAAAAAAAAAAAAAAAAAAAAA"), 400, "subject_invalid"},
		{"no documents", with("documents", []any{}), 400, "documents_invalid"},
		{"too many documents", with("documents", many(201)), 413, "documents_too_many"},
		{"digest too short", doc("digest", short), 400, "document_digest_invalid"},
		{"weak digest", doc("digest_algorithm", "SHA-1"), 400, "document_digest_invalid"},
		{"digest of another length", doc("digest", base64.StdEncoding.EncodeToString(sum[:])), 400, "document_digest_invalid"},
		{"name that turns direction", doc("name", "a\u202efdp.exe"), 400, "documents_invalid"},
		{"negative size", doc("size", -1), 400, "documents_invalid"},
		{"text with control characters", with("text", "a\u0007b"), 400, "text_invalid"},
		{"text too long", with("text", strings.Repeat("長", 501)), 400, "text_invalid"},
		{"unknown field", with("amount", 1), 400, "request_unknown_field"},
		{"no JSON", "{", 400, "request_malformed"},
		{"member twice", `{"text":"a","text":"b","documents":[]}`, 400, "request_malformed"},
		{"something behind", `{"documents":[]} {}`, 400, "request_malformed"},
		{"too large", `{"text":"` + strings.Repeat("a", 8<<20) + `"}`, 413, "request_too_large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := *h
			h.t = t
			orders, entries := h.orders(), h.refusals(c.code)
			a := h.call(token, http.MethodPost, path, c.body)
			if a.status != c.status || a.code() != c.code || a.text("next_step") == "" {
				t.Fatalf("%d %s", a.status, a.raw)
			}
			if h.orders() != orders {
				t.Error("an order was made")
			}
			if got := h.refusals(c.code); got != entries+1 {
				t.Errorf("%d audit entries more, want 1", got-entries)
			}
		})
	}
	h.create(token, good) // the same call without a mistake
}

func many(n int) []document {
	out := make([]document, n)
	for i := range out {
		out[i] = documents("a")[0]
	}
	return out
}

func TestTokens(t *testing.T) {
	h := newHouse(t)
	h.addClient("plain", "{openid}")
	h.addClient("leaving", "{sign}")
	h.addClient("losing", "{sign}")
	good := h.token(h.box.ClientID, "sign")
	path := "/api/v1/sign-orders/AAAAAAAAAAAAAAAAAAAAAA"
	for _, c := range []struct{ name, token, code, challenge string }{
		{"none", "", "api_token_missing", `Bearer realm="sealgate"`},
		{"garbage", "abc", "oidc_token_unknown", `Bearer realm="sealgate", error="invalid_token"`},
		{"changed", good[:len(good)-4] + "AAAA", "oidc_token_unknown", `Bearer realm="sealgate", error="invalid_token"`},
	} {
		a := h.call(c.token, http.MethodGet, path, nil)
		if a.status != 401 || a.code() != c.code || a.header.Get("WWW-Authenticate") != c.challenge {
			t.Errorf("%s: %d %s %s", c.name, a.status, a.header.Get("WWW-Authenticate"), a.raw)
		}
		if h.refusals(c.code) == 0 {
			t.Errorf("%s: no audit entry", c.name)
		}
	}
	if a := h.call(good, http.MethodGet, path, nil); a.status != 404 || a.code() != "order_not_found" {
		t.Errorf("a good token: %d %s", a.status, a.raw)
	}
	// In the address tokens end up in logs (RFC 6750 §2.3): it does not count.
	if a := h.call("", http.MethodGet, path+"?access_token="+good, nil); a.code() != "api_token_missing" {
		t.Errorf("token in the address: %s", a.raw)
	}
	leaving, losing := h.token("leaving", "sign"), h.token("losing", "sign")
	h.exec(`UPDATE clients SET state = 'suspended' WHERE client_id = 'leaving'`)
	h.exec(`UPDATE clients SET scopes = '{openid}' WHERE client_id = 'losing'`)
	h.soon(leaving, path, "client_suspended", `Bearer realm="sealgate", error="invalid_token"`)
	h.soon(losing, path, "api_scope_missing", `Bearer realm="sealgate", error="insufficient_scope", scope="sign"`)
	if a := h.call("", http.MethodGet, "/api/v1/health", nil); a.status != 200 || a.text("status") != "ok" {
		t.Errorf("health: %d %s", a.status, a.raw)
	}
}

// soon calls until the client's change has come through, within ten seconds.
func (h *house) soon(token, path, code, challenge string) {
	h.t.Helper()
	var a answer
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if a = h.call(token, http.MethodGet, path, nil); a.status == 403 {
			break
		}
	}
	if a.status != 403 || a.code() != code || a.header.Get("WWW-Authenticate") != challenge {
		h.t.Errorf("%d %s %s", a.status, a.header.Get("WWW-Authenticate"), a.raw)
	}
}
