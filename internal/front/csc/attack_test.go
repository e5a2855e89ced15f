package csc_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealgate/cmd/sealctl/softphone"
)

const (
	foreignHash = "400 invalid_request: Hash is not authorized by the SAD"
	badSAD      = "400 invalid_request: Invalid parameter SAD"
	badID       = "400 invalid_request: Invalid parameter credentialID"
	badGrant    = "400 invalid_grant: Authorization code is invalid or expired"
	expired     = "401 expired_token: The access token is expired or has been revoked"
)

// One house, one attack after the other; each with the same thing done right beside it.
func TestAttacks(t *testing.T) {
	h := newHouse(t)
	s := h.software()
	rival := h.addClient("rival", "{openid,sign,sign:raw}", "{authorization_code}")
	bare := h.addClient("no-right", "{openid,sign}", "{authorization_code}")
	mei, other := s.service(h.mei), s.service(h.other)
	p := people{s: s, rival: rival, bare: bare, mei: mei, other: other, id: s.ids(mei)[0], otherID: s.ids(other)[0], rivalMei: rival.service(h.mei)}
	p.rivalID = rival.ids(p.rivalMei)[0]
	h.with("credential ids are pairwise", func(h *house) {
		if p.id == p.rivalID || p.id == p.otherID {
			t.Error("one id for two clients, or for two people")
		}
	})
	h.with("signature activation data", func(h *house) { h.activation(p) })
	h.with("whose", func(h *house) { h.whose(p) })
	h.with("codes", func(h *house) { h.codes(p) })
	h.with("what is asked at the start", func(h *house) { h.starts(p) })
	h.with("parameters of signHash", func(h *house) { h.parameters(p) })
	h.with("the wrong phone", func(h *house) { h.wrongPhone(p) })
	h.with("other doors' tokens", func(h *house) { h.otherDoors(p) })
	h.with("two calls at once", func(h *house) { h.race(p) })
	h.with("ends", func(h *house) { h.ends(p) }) // last: it stops a person
}

// people are the two citizens as two clients know them.
type people struct {
	s, rival, bare       *software
	mei, other, rivalMei string // tokens of scope service
	id, otherID, rivalID string
}

func (s *software) in(h *house) *software {
	mine := *s
	mine.h = h
	return &mine
}

func (p people) at(h *house) people {
	p.s, p.rival, p.bare = p.s.in(h), p.rival.in(h), p.bare.in(h)
	return p
}

// activation: replay, more hashes than approved, a hash twice, revoked, expired.
func (h *house) activation(p people) {
	p = p.at(h)
	hashes := hashesOf("a", "b", "never shown")
	sad := p.s.sad(h.mei, p.id, hashes[0], hashes[1])
	sign := func(list ...[]byte) func() answer {
		return func() answer { return p.s.call(p.mei, "signatures/signHash", signing(p.id, sad, list...)) }
	}
	h.wants("another hash", foreignHash, "csc_hash_not_authorized", sign(hashes[2]))
	h.wants("one more than approved", foreignHash, "csc_hash_not_authorized", sign(hashes...))
	h.wants("one twice", foreignHash, "csc_sad_spent", sign(hashes[0], hashes[0]))
	if got := sign(hashes[1])(); got.status != 200 {
		h.t.Fatalf("the right call: %s", got.raw)
	}
	h.wants("replayed", foreignHash, "csc_sad_spent", sign(hashes[1]))
	h.wants("replayed with a fresh one", foreignHash, "csc_sad_spent", sign(hashes[0], hashes[1]))
	if got := sign(hashes[0])(); got.status != 200 {
		h.t.Fatalf("the rest: %s", got.raw)
	}
	h.wants("all used", foreignHash, "csc_sad_spent", sign(hashes[0]))

	sad = p.s.sad(h.mei, p.id, hashes[0])
	if got := p.rival.form("oauth2/revoke", url.Values{"token": {sad}}); got.status != http.StatusNoContent {
		h.t.Errorf("another client's revocation: %d", got.status)
	}
	if got := sign(hashes[0])(); got.status != 200 {
		h.t.Errorf("another client revoked it: %s", got.raw)
	}
	sad = p.s.sad(h.mei, p.id, hashes[0])
	if got := p.s.form("oauth2/revoke", url.Values{"token": {sad}, "token_type_hint": {"access_token"}}); got.status != http.StatusNoContent || len(got.raw) > 0 {
		h.t.Errorf("revoke: %d %s", got.status, got.raw)
	}
	h.wants("revoked", "400 invalid_request: SAD expired", "csc_sad_expired", sign(hashes[0]))
	sad = p.s.sad(h.mei, p.id, hashes[0])
	h.exec(`UPDATE csc_tokens SET expires_at = now() - interval '1 second' WHERE spent = '{}' AND scope = 'credential'`)
	h.wants("expired", "400 invalid_request: SAD expired", "csc_sad_expired", sign(hashes[0]))
	h.wants("expired as bearer", expired, "csc_token_expired", func() answer {
		return p.s.call(sad, "signatures/signHash", signing(p.id, "", hashes[0]))
	})
	h.wants("none", "400 invalid_request: Missing (or invalid type) string parameter SAD", "csc_parameter_missing", func() answer {
		return p.s.call(p.mei, "signatures/signHash", signing(p.id, "", hashes[0]))
	})
	h.wants("a token of scope service as SAD", badSAD, "csc_sad_invalid", func() answer {
		return p.s.call(p.mei, "signatures/signHash", signing(p.id, p.mei, hashes[0]))
	})
	h.wants("invented", badSAD, "csc_sad_invalid", func() answer {
		return p.s.call(p.mei, "signatures/signHash", signing(p.id, sad[:len(sad)-2]+"AA", hashes[0]))
	})
}

// whose: another client's bearer, another citizen's, another credential.
func (h *house) whose(p people) {
	p = p.at(h)
	hash := hashesOf("mine")[0]
	sad := p.s.sad(h.mei, p.id, hash)
	h.wants("another client's bearer", badSAD, "csc_sad_of_another", func() answer {
		return p.rival.call(p.rivalMei, "signatures/signHash", signing(p.rivalID, sad, hash))
	})
	h.wants("another citizen's bearer", badSAD, "csc_sad_of_another", func() answer {
		return p.s.call(p.other, "signatures/signHash", signing(p.id, sad, hash))
	})
	h.wants("another citizen's credential", badID, "csc_credential_invalid", func() answer {
		return p.s.call(p.mei, "signatures/signHash", signing(p.otherID, sad, hash))
	})
	h.wants("the id that another client knows", badID, "csc_credential_invalid", func() answer {
		return p.s.call(p.mei, "signatures/signHash", signing(p.rivalID, sad, hash))
	})
	second := p.s.sad(h.mei, p.id, hash)
	h.wants("two at once", "400 invalid_request: Signature activation data stands in the header and, another one, in parameter SAD", "csc_sad_twice",
		func() answer { return p.s.call(second, "signatures/signHash", signing(p.id, sad, hash)) })
	if got := p.s.call(p.mei, "signatures/signHash", signing(p.id, sad, hash)); got.status != 200 {
		h.t.Errorf("whose it is: %s", got.raw)
	}
	for name, id := range map[string]string{"another citizen's": p.otherID, "another client's": p.rivalID, "garbage": "GX0112348", "noise": strings.Repeat("A", 22)} {
		h.wants("info of "+name, badID, "csc_credential_invalid", func() answer {
			return p.s.call(p.mei, "credentials/info", map[string]any{"credentialID": id})
		})
	}
	h.wants("somebody's list", "400 invalid_request: userID parameter MUST be null", "csc_user_id", func() answer {
		return p.s.call(p.mei, "credentials/list", map[string]any{"userID": "somebody"})
	})
	if got := p.s.call(p.mei, "credentials/list", map[string]any{"userID": nil}); !slices.Equal(got.list("credentialIDs"), []string{p.id}) {
		h.t.Errorf("list: %s", got.raw)
	}
}

// codes: replay, another client, another verifier, another address, other doors.
func (h *house) codes(p people) {
	p = p.at(h)
	hash := hashesOf("code")[0]
	a := p.s.begin(forHashes(p.id, hash)).open()
	code := a.approve(h.mei).Get("code")
	exchange := func(s *software, change url.Values) func() answer {
		values := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {s.redirect}, "code_verifier": {a.verifier}}
		for name, v := range change {
			values[name] = v
		}
		return func() answer { return s.form("oauth2/token", values) }
	}
	h.wants("another client", badGrant, "oidc_code_client", exchange(p.rival, nil))
	h.wants("another verifier", badGrant, "oidc_code_verifier", exchange(p.s, url.Values{"code_verifier": {strings.Repeat("A", 43)}}))
	h.wants("no verifier", badGrant, "oidc_code_verifier", exchange(p.s, url.Values{"code_verifier": {""}}))
	h.wants("another address", "400 invalid_grant: redirect_uri parameter does not match", "oidc_code_redirect_uri", exchange(p.s, url.Values{"redirect_uri": {"https://else.example/"}}))
	h.wants("no grant type", "400 invalid_request: Missing parameter grant_type", "csc_grant_type", exchange(p.s, url.Values{"grant_type": {""}}))
	h.wants("client credentials", "400 invalid_request: Invalid parameter grant_type", "csc_grant_type", exchange(p.s, url.Values{"grant_type": {"client_credentials"}}))
	h.wants("no code", "400 invalid_request: Missing parameter code", "csc_code_missing", exchange(p.s, url.Values{"code": {""}}))
	h.wants("invented", badGrant, "oidc_code_unknown", exchange(p.s, url.Values{"code": {code[:len(code)-4] + "AAAA"}}))
	// At the OpenID Provider's own endpoint it is no code at all, nor is one of the provider's here.
	own := p.s.oauth2
	p.s.oauth2 = h.box.Origin + "/"
	if got := exchange(p.s, nil)(); got.status != 400 || got.text("error") != "invalid_grant" {
		h.t.Errorf("at the provider: %d %s", got.status, got.raw)
	}
	p.s.oauth2 = own
	wrong := p.s.in(h)
	wrong.secret = "wrong"
	if got := exchange(wrong, nil)(); got.told() != "401 invalid_client: Client authorization required" {
		h.t.Errorf("a wrong secret: %s", got.told())
	}
	got := exchange(p.s, nil)()
	if got.status != 200 || got.header.Get("Cache-Control") != "no-store" {
		h.t.Fatalf("the right call: %s", got.raw)
	}
	h.wants("replayed", badGrant, "oidc_code_used", exchange(p.s, nil))
	h.wants("what the first exchange got", "400 invalid_request: SAD expired", "csc_sad_expired", func() answer {
		return p.s.call(p.mei, "signatures/signHash", signing(p.id, got.text("access_token"), hash))
	})
	if page, err := a.desk.Get(h.ctx, "/o/"+a.order+"/return"); err != nil || page.Location != "" {
		h.t.Errorf("sent back once more: %v %s", err, page.Location)
	}

	b := p.s.begin(url.Values{"scope": {"service"}}).open()
	back := b.approve(h.mei)
	if got := b.redeem(back.Get("code")); got.status != 200 {
		h.t.Fatalf("service: %s", got.raw)
	}
	h.wants("a service code replayed", badGrant, "oidc_code_used", func() answer { return b.redeem(back.Get("code")) })
}

// starts: what cannot begin, and where the answer goes.
func (h *house) starts(p people) {
	p = p.at(h)
	hashes := hashesOf("x", "y")
	good := forHashes(p.id, hashes...)
	orders := h.count(`SELECT count(*) FROM orders`)
	details := func(v any) url.Values {
		raw, _ := json.Marshal(v)
		return url.Values{"authorization_details": {string(raw)}}
	}
	one := map[string]any{"type": "credential", "credentialID": p.id, "hashAlgorithmOID": oidSHA256,
		"documentDigests": []any{map[string]string{"hash": jsonHash(hashes[0]), "label": "a"}}}
	with := func(name string, v any) map[string]any {
		c := map[string]any{}
		for k, old := range one {
			c[k] = old
		}
		c[name] = v
		return c
	}
	but := func(change url.Values) url.Values {
		q := url.Values{}
		for k, v := range good {
			q[k] = v
		}
		for k, v := range change {
			q[k] = v
		}
		return q
	}
	for _, c := range []struct {
		name  string
		query url.Values
		want  string
	}{
		{"more signatures than hashes", but(url.Values{"numSignatures": {"3"}}), "invalid_request: numSignatures"},
		{"fewer signatures than hashes", but(url.Values{"numSignatures": {"1"}}), "invalid_request: numSignatures"},
		{"no number", but(url.Values{"numSignatures": nil}), "invalid_request: numSignatures"},
		{"no hashes", but(url.Values{"hashes": nil}), "invalid_request: Missing parameter hashes"},
		{"a hash twice", but(url.Values{"hashes": {urlHash(hashes[0]) + "," + urlHash(hashes[0])}}), "invalid_request: a hash stands twice"},
		{"short hash", but(url.Values{"hashes": {"AAAA," + urlHash(hashes[0])}}), "invalid_request: Invalid digest value length"},
		{"no base64", but(url.Values{"hashes": {"!," + urlHash(hashes[0])}}), "invalid_request: Invalid Base64"},
		{"SHA-1", but(url.Values{"hashAlgorithmOID": {"1.3.14.3.2.26"}}), "invalid_request: Invalid parameter hashAlgorithmOID"},
		{"another client's id", but(url.Values{"credentialID": {p.rivalID}}), "invalid_request: Invalid parameter credentialID"},
		{"no id", but(url.Values{"credentialID": nil}), "invalid_request: Missing parameter credentialID"},
		{"unknown scope", but(url.Values{"scope": {"service credential"}}), "invalid_scope"},
		{"implicit", but(url.Values{"response_type": {"token"}}), "unsupported_response_type"},
		{"plain PKCE", but(url.Values{"code_challenge_method": nil}), "invalid_request: code_challenge"},
		{"no PKCE", but(url.Values{"code_challenge": nil}), "invalid_request: code_challenge"},
		{"a parameter twice", but(url.Values{"hashes": {urlHash(hashes[0]), urlHash(hashes[1])}}), "invalid_request: a parameter stands twice"},
		{"pushed", but(url.Values{"request_uri": {"urn:x"}}), "invalid_request: pushed"},
		{"long description", but(url.Values{"description": {strings.Repeat("字", 501)}}), "invalid_request: description"},
		{"marks that turn the text", but(url.Values{"description": {"a\u202eb"}}), "invalid_request: description"},
		{"both forms", but(details([]any{one})), "invalid_request: hashes stands beside"},
		{"two details", details([]any{one, one}), "invalid_authorization_details"},
		{"another type", details([]any{with("type", "payment")}), "invalid_authorization_details"},
		{"details without id", details([]any{with("credentialID", "")}), "invalid_authorization_details"},
		{"no digests", details([]any{with("documentDigests", []any{})}), "invalid_request: Empty hash array"},
		{"label of two lines", details([]any{with("documentDigests", []any{map[string]string{"hash": jsonHash(hashes[0]), "label": "a\nb"}})}), "invalid_request: description"},
		{"service with details", url.Values{"scope": {"service"}, "authorization_details": {"[]"}}, "invalid_scope"},
	} {
		if got := p.s.begin(c.query).refusedWith(); !strings.HasPrefix(got, c.want) {
			h.t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if got := p.bare.begin(url.Values{"scope": {"service"}}).refusedWith(); !strings.HasPrefix(got, "unauthorized_client") {
		h.t.Errorf("a client without the right to bare values: %s", got)
	}
	for name, q := range map[string]url.Values{"another address": {"redirect_uri": {"https://else.example/"}}, "another client": {"client_id": {"nobody"}},
		"two addresses": {"redirect_uri": {p.s.redirect, "https://else.example/"}}} {
		if got := p.s.begin(q).refusedWith(); !strings.HasPrefix(got, "page 4") {
			h.t.Errorf("%s: %s", name, got)
		}
	}
	if n := h.count(`SELECT count(*) FROM orders`); n != orders {
		h.t.Errorf("%d orders were made", n-orders)
	}
	p.s.begin(good).open()
}

// parameters of signHash that are wrong in form, with the specification's words.
func (h *house) parameters(p people) {
	p = p.at(h)
	hash := hashesOf("form")[0]
	sad := p.s.sad(h.mei, p.id, hash)
	good := signing(p.id, sad, hash)
	for _, c := range []struct {
		member string
		value  any
		told   string
	}{
		{"credentialID", nil, "Missing (or invalid type) string parameter credentialID"},
		{"credentialID", 7, "Missing (or invalid type) string parameter credentialID"},
		{"SAD", []string{}, "Missing (or invalid type) string parameter SAD"},
		{"hashes", nil, "Missing (or invalid type) array parameter hashes"},
		{"hashes", jsonHash(hash), "Missing (or invalid type) array parameter hashes"},
		{"hashes", []string{}, "Empty hash array"},
		{"hashes", []string{"*"}, "Invalid Base64 hash string parameter"},
		{"hashes", []string{"AAAA"}, "Invalid digest value length"},
		{"signAlgo", nil, "Missing (or invalid type) string parameter signAlgo"},
		{"signAlgo", "1.2.3", "Invalid parameter signAlgo"},
		{"signAlgo", "1.2.840.113549.1.1.11", "Invalid parameter signAlgo"}, // not this key's
		{"signAlgo", "1.2.840.113549.1.1.10", "Invalid parameter signAlgo"},
		{"signAlgo", "1.2.840.10045.4.3.3", "Invalid digest value length"},
		{"signAlgoParams", "BQA=", "Invalid parameter signAlgoParams"},
		{"operationMode", "A", "Invalid parameter operationMode"},
	} {
		body := map[string]any{}
		for k, v := range good {
			body[k] = v
		}
		body[c.member] = c.value
		if got := p.s.call(p.mei, "signatures/signHash", body); got.told() != "400 invalid_request: "+c.told {
			h.t.Errorf("%s %v: %s", c.member, c.value, got.told())
		}
	}
	for name, c := range map[string]struct{ body, told string }{
		"no JSON":        {"{", "400 invalid_request: The request body must be one JSON object of media type application/json"},
		"a list":         {"[]", "400 invalid_request: The request body must be one JSON object of media type application/json"},
		"a member twice": {`{"SAD":"a","sad":"b"}`, "400 invalid_request: The request body must be one JSON object of media type application/json"},
		"too large":      {`{"SAD":"` + strings.Repeat("a", 600<<10) + `"}`, "413 invalid_request: The request body is too large"},
	} {
		if got := p.s.call(p.mei, "signatures/signHash", c.body); got.told() != c.told {
			h.t.Errorf("%s: %s", name, got.told())
		}
	}
	for _, c := range []struct {
		member string
		value  any
		told   string
	}{{"hash", nil, "Missing (or invalid type) string parameter hash"}, {"hash", "", "Empty hash parameter"}, {"hash", "*", "Invalid Base64 hash string parameter"},
		{"hash", "AAAA", "Invalid digest value length"}, {"hashAlgo", "1.3.14.3.2.26", "Invalid parameter hashAlgo"},
		{"nonce", "xyz", "Invalid parameter nonce"}, {"nonce", strings.Repeat("f", 33), "Invalid parameter nonce"}, {"nonce", -1, "Invalid parameter nonce"}} {
		body := map[string]any{"hash": jsonHash(hash), "hashAlgo": oidSHA256}
		body[c.member] = c.value
		if got := p.s.call(p.mei, "signatures/timestamp", body); got.told() != "400 invalid_request: "+c.told {
			h.t.Errorf("timestamp %s %v: %s", c.member, c.value, got.told())
		}
	}
	if got := p.s.call(p.mei, "credentials/info", map[string]any{"credentialID": p.id, "certificates": "all"}); got.told() != "400 invalid_request: Invalid parameter certificates" {
		h.t.Errorf("certificates: %s", got.told())
	}
	if got := p.s.call(p.mei, "credentials/authorize", map[string]any{}); got.status != http.StatusNotImplemented {
		h.t.Errorf("a method that is not offered: %d %s", got.status, got.raw)
	}
	if got := p.s.call(p.mei, "signatures/signHash", good); got.status != 200 {
		h.t.Errorf("the right call: %s", got.raw)
	}
}

// wrongPhone: only the phone of the certificate can approve, though another of
// the same person has everything else; and nobody else's.
func (h *house) wrongPhone(p people) {
	p = p.at(h)
	second, err := h.box.Enrol(h.ctx, h.box.Cards[0])
	h.must(err)
	ids := p.s.ids(p.mei)
	if len(ids) != 2 {
		h.t.Fatalf("a second phone makes %d credentials", len(ids))
	}
	hash := hashesOf("which phone")[0]
	for name, c := range map[string]struct {
		phone *softphone.Phone
		code  string
	}{"the same person's other phone": {second, "order_wrong_device"}, "another person's": {h.other, "order_wrong_citizen"}} {
		a := p.s.begin(forHashes(p.id, hash)).open()
		_, err := c.phone.Approve(h.ctx, a.claim(c.phone))
		if softphone.CodeOf(err) != c.code {
			h.t.Errorf("%s: %v", name, err)
		}
		if n := h.count(`SELECT count(*) FROM signatures s JOIN orders o ON o.id = s.order_id WHERE o.state <> 'completed'`); n != 0 {
			h.t.Errorf("%s: %d signatures", name, n)
		}
	}
	if sad := p.s.sad(h.mei, p.id, hash); p.s.call(p.mei, "signatures/signHash", signing(p.id, sad, hash)).status != 200 {
		h.t.Error("the right phone's signature is refused")
	}
}

// otherDoors: no token of another door opens this one, and none of this one another.
func (h *house) otherDoors(p people) {
	p = p.at(h)
	for name, c := range map[string]struct{ header, told, code string }{
		"none":       {"", "401 invalid_request: Malformed authorization header", "csc_token_missing"},
		"basic":      {"Basic " + base64.StdEncoding.EncodeToString([]byte(p.s.clientID+":"+p.s.secret)), "400 invalid_request: Malformed authorization header", "csc_header"},
		"garbage":    {"Bearer abc", "401 invalid_token: The access token is not valid", "csc_token_invalid"},
		"OpenID's":   {"Bearer sg_" + p.mei[4:], "401 invalid_token: The access token is not valid", "csc_token_invalid"},
		"a JWT":      {"Bearer " + h.apiToken(), "401 invalid_token: The access token is not valid", "csc_token_invalid"},
		"a guessed":  {"Bearer " + p.mei[:len(p.mei)-3] + "AAA", "401 invalid_token: The access token is not valid", "csc_token_invalid"},
		"two tokens": {"Bearer " + p.mei + " x", "400 invalid_request: Malformed authorization header", "csc_header"},
	} {
		h.wants(name, c.told, c.code, func() answer {
			req, err := http.NewRequestWithContext(h.ctx, http.MethodPost, p.s.base+"credentials/list", strings.NewReader("{}"))
			h.must(err)
			req.Header.Set("Content-Type", "application/json")
			if c.header != "" {
				req.Header.Set("Authorization", c.header)
			}
			a := p.s.send(req)
			if a.status == 401 && a.header.Get("WWW-Authenticate") == "" {
				h.t.Errorf("%s: no WWW-Authenticate", name)
			}
			return a
		})
	}
	for _, path := range []string{"/oauth2/userinfo", "/api/v1/sign-orders/AAAAAAAAAAAAAAAAAAAAAA"} {
		req, err := http.NewRequestWithContext(h.ctx, http.MethodGet, h.box.Origin+path, nil)
		h.must(err)
		req.Header.Set("Authorization", "Bearer "+p.mei)
		if a := p.s.send(req); a.status != 401 {
			h.t.Errorf("%s takes a token of this door: %d", path, a.status)
		}
	}
}

// apiToken is one of the REST API.
func (h *house) apiToken() string {
	s := h.software()
	s.oauth2 = h.box.Origin + "/"
	got := s.form("oauth2/token", url.Values{"grant_type": {"client_credentials"}, "scope": {"sign"}})
	if got.status != 200 {
		h.t.Fatalf("API token: %s", got.raw)
	}
	return got.text("access_token")
}

// race: of many calls at once, one gets the signature; of two exchanges, one the token.
func (h *house) race(p people) {
	p = p.at(h)
	hash := sha256.Sum256([]byte("race"))
	sad := p.s.sad(h.mei, p.id, hash[:])
	// Both have looked before either writes: the token's row is held until they wait for it.
	tx, err := h.pool.Begin(h.ctx)
	h.must(err)
	defer func() { _ = tx.Rollback(h.ctx) }()
	_, err = tx.Exec(h.ctx, `SELECT 1 FROM csc_tokens WHERE scope = 'credential' AND spent = '{}' FOR UPDATE`)
	h.must(err)
	time.AfterFunc(0, func() {
		for range 200 {
			var n int
			if err := tx.QueryRow(h.ctx, `SELECT count(*) FROM pg_locks WHERE NOT granted`).Scan(&n); err != nil || n >= 2 {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		_ = tx.Rollback(h.ctx)
	})
	if good := h.together(2, func() answer { return p.s.call(p.mei, "signatures/signHash", signing(p.id, sad, hash[:])) }); good != 1 {
		h.t.Errorf("%d calls got the signature", good)
	}
	a := p.s.begin(forHashes(p.id, hash[:])).open()
	code := a.approve(h.mei).Get("code")
	if good := h.together(8, func() answer { return a.redeem(code) }); good > 1 {
		h.t.Errorf("%d exchanges of one code", good)
	}
}

func (h *house) together(calls int, call func() answer) (good int) {
	var wait sync.WaitGroup
	var mu sync.Mutex
	for range calls {
		wait.Go(func() {
			a := call()
			mu.Lock()
			defer mu.Unlock()
			if a.status == http.StatusOK {
				good++
			} else if a.status != http.StatusBadRequest {
				h.t.Errorf("%d %s", a.status, a.raw)
			}
		})
	}
	wait.Wait()
	return good
}

// ends: what a person refuses, a certificate that is on hold, a person who is
// frozen, a client that loses its right.
func (h *house) ends(p people) {
	p = p.at(h)
	hash := hashesOf("ends")[0]
	a := p.s.begin(forHashes(p.otherID, hash)).open()
	h.must(h.other.Reject(h.ctx, a.claim(h.other), "not_me"))
	if back := a.back(); back.Get("error") != "access_denied" || back.Get("code") != "" {
		h.t.Errorf("rejected: %v", back)
	}
	sad := p.s.sad(h.other, p.otherID, hash)
	ask := func() answer { return p.s.call(p.other, "signatures/signHash", signing(p.otherID, sad, hash)) }
	person := `(SELECT citizen_id FROM csc_tokens ORDER BY created_at DESC LIMIT 1)`
	h.exec(`UPDATE mobile_certificates SET state = 'revoked', revoked_at = now(), reason = 9 WHERE citizen_id = ` + person)
	h.wants("revoked certificate", "400 invalid_request: The credential identified by credentialID is disabled", "csc_credential_disabled", ask)
	if got := p.s.call(p.other, "credentials/info", map[string]any{"credentialID": p.otherID}); !strings.Contains(string(got.raw), `"status":"revoked"`) ||
		!strings.Contains(string(got.raw), `"status":"disabled"`) {
		h.t.Errorf("info of a revoked certificate: %s", got.raw)
	}
	if got := p.s.begin(forHashes(p.otherID, hash)).refusedWith(); !strings.HasPrefix(got, "invalid_request: The credential") {
		h.t.Errorf("an authorization for a revoked certificate: %s", got)
	}
	h.exec(`UPDATE citizens SET state = 'frozen' WHERE id = ` + person)
	h.wants("frozen person", expired, "csc_token_expired", ask)
	h.exec(`UPDATE clients SET scopes = '{openid,sign}' WHERE client_id = 'rival'`)
	h.soon(func() error {
		if got := p.rival.call(p.rivalMei, "credentials/list", map[string]any{}); got.told() != "403 unauthorized_client: The client is not authorized to use this method" {
			return fmt.Errorf("a client without the right: %s", got.raw)
		}
		return nil
	})
}
