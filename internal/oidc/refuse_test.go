package oidc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
	"golang.org/x/oauth2"

	"sealgate/internal/agency"
)

// with gives the authorization address with parameters replaced ("" removes).
func (s *site) with(pairs ...string) string {
	u, _ := url.Parse(s.authURL())
	q := u.Query()
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			q.Del(pairs[i])
		} else {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// What concerns the client or the way back to it is never redirected.
func TestAuthorizeRefusesOnAPage(t *testing.T) {
	h := newHouse(t)
	s := h.site()
	if status, code, to := h.browser().open(s.authURL()); status != 303 || !strings.HasPrefix(to.Path, "/o/") {
		t.Fatalf("control: %d %s", status, code)
	}
	for name, tc := range map[string]struct{ address, code string }{
		"unknown client":         {s.with("client_id", "nobody"), "client_unknown"},
		"no client":              {s.with("client_id", ""), "client_unknown"},
		"odd client":             {s.with("client_id", "a b\x00"), "client_unknown"},
		"no redirect URI":        {s.with("redirect_uri", ""), "redirect_uri_mismatch"},
		"another redirect URI":   {s.with("redirect_uri", "https://evil.example/callback"), "redirect_uri_mismatch"},
		"redirect URI with more": {s.with("redirect_uri", redirectURI+"/"), "redirect_uri_mismatch"},
		"redirect URI query":     {s.with("redirect_uri", redirectURI+"?x=1"), "redirect_uri_mismatch"},
		"another port":           {s.with("redirect_uri", "http://localhost:9999/callback"), "redirect_uri_mismatch"},
		"doubled redirect URI":   {s.authURL() + "&redirect_uri=https://evil.example/", "oidc_request_doubled"},
		"doubled client":         {s.authURL() + "&client_id=other", "oidc_request_doubled"},
		"too long":               {s.with("state", strings.Repeat("x", 9000)), "oidc_request_too_large"},
		"too many":               {s.authURL() + strings.Repeat("&a=1", 70), "oidc_request_too_large"},
		"malformed":              {s.authURL() + "&x=%zz", "oidc_request_malformed"},
	} {
		orders := h.count(`SELECT count(*) FROM orders`)
		entries := h.count(`SELECT count(*) FROM audit_entries`)
		status, code, to := h.browser().open(tc.address)
		if status != 400 || code != tc.code || to != nil {
			t.Errorf("%s: %d %q %v, want a page with %q", name, status, code, to, tc.code)
		}
		if h.count(`SELECT count(*) FROM orders`) != orders {
			t.Errorf("%s: an order was made", name)
		}
		if n := h.count(`SELECT count(*) FROM audit_entries`) - entries; n != 1 {
			t.Errorf("%s: %d audit entries", name, n)
		}
	}
}

func TestSuspended(t *testing.T) {
	h := newHouse(t)
	s, p := h.site(), h.bind(0)
	code, _ := h.code(s, p)
	token, err := s.exchange(code)
	h.must(err)
	code, _ = h.code(s, p)
	for _, tc := range []struct{ off, on, code string }{
		{`UPDATE clients SET state = 'suspended'`, `UPDATE clients SET state = 'active'`, "client_suspended"},
		{`UPDATE agencies SET state = 'suspended'`, `UPDATE agencies SET state = 'active'`, "agency_suspended"},
	} {
		h.exec(tc.off)
		h.clock.pass(6 * time.Second)
		if status, got, to := h.browser().open(s.authURL()); status != 400 || got != tc.code || to != nil {
			t.Errorf("authorize: %d %s %v", status, got, to)
		}
		status, answer, _ := h.post("/oauth2/token", agency.DemoClientID, h.secret, s.tokenForm(code))
		if status != 401 || answer["error"] != "invalid_client" {
			t.Errorf("token: %d %v", status, answer)
		}
		if _, err := s.provider.UserInfo(context.Background(), oauth2.StaticTokenSource(token)); err == nil {
			t.Errorf("%s: userinfo still answers", tc.code)
		}
		h.exec(tc.on)
		h.clock.pass(6 * time.Second)
	}
	if _, err := s.exchange(code); err != nil {
		t.Errorf("control, active again: %v", err)
	}
}

// What may be told to the client is told by redirect, with state and iss.
func TestAuthorizeTellsTheClient(t *testing.T) {
	h := newHouse(t)
	s := h.site()
	const challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	for name, tc := range map[string]struct{ address, want string }{
		"prompt none":         {s.with("prompt", "none"), "login_required"},
		"prompt none login":   {s.with("prompt", "none login"), "invalid_request"},
		"prompt unknown":      {s.with("prompt", "create"), "invalid_request"},
		"no PKCE":             {s.with("code_challenge", "", "code_challenge_method", ""), "invalid_request"},
		"plain PKCE":          {s.with("code_challenge", challenge, "code_challenge_method", "plain"), "invalid_request"},
		"PKCE of no method":   {s.with("code_challenge_method", ""), "invalid_request"},
		"short challenge":     {s.with("code_challenge", "abc"), "invalid_request"},
		"unknown scope":       {s.with("scope", "openid email"), "invalid_scope"},
		"no openid":           {s.with("scope", "profile"), "invalid_scope"},
		"no scope":            {s.with("scope", ""), "invalid_scope"},
		"implicit":            {s.with("response_type", "id_token token"), "unsupported_response_type"},
		"hybrid":              {s.with("response_type", "code id_token"), "unsupported_response_type"},
		"no response type":    {s.with("response_type", ""), "invalid_request"},
		"fragment":            {s.with("response_mode", "fragment"), "invalid_request"},
		"request object":      {s.with("request", "a.b.c"), "request_not_supported"},
		"request_uri":         {s.with("request_uri", "https://agency.example/r"), "request_uri_not_supported"},
		"unmet acr":           {s.with("acr_values", "urn:other:loa4"), "unmet_authentication_requirements"},
		"max_age":             {s.with("max_age", "-1"), "invalid_request"},
		"doubled nonce":       {s.authURL() + "&nonce=2", "invalid_request"},
		"nonce too long":      {s.with("nonce", strings.Repeat("n", 600)), "invalid_request"},
		"nonce with a zero":   {s.with("nonce", "a\x00b"), "invalid_request"},
		"nonce not UTF-8":     {s.with("nonce", "a\xffb"), "invalid_request"},
		"login_hint too long": {s.with("login_hint", strings.Repeat("n", 3000)), "invalid_request"},
	} {
		entries := h.count(`SELECT count(*) FROM audit_entries`)
		status, code, to := h.browser().open(tc.address)
		if status != 303 || to == nil || !strings.HasPrefix(to.String(), redirectURI+"?") {
			t.Errorf("%s: %d %s %v", name, status, code, to)
			continue
		}
		q := to.Query()
		if q.Get("error") != tc.want || q.Get("state") != "the state & more" || q.Get("iss") != h.server.URL || q.Has("code") {
			t.Errorf("%s: %v, want %s", name, q, tc.want)
		}
		if n := h.count(`SELECT count(*) FROM audit_entries`) - entries; n != 1 {
			t.Errorf("%s: %d audit entries", name, n)
		}
	}
	// A doubled state cannot be given back.
	_, _, to := h.browser().open(s.authURL() + "&state=2")
	if to == nil || to.Query().Get("error") != "invalid_request" || to.Query().Has("state") {
		t.Errorf("doubled state: %v", to)
	}
	for name, address := range map[string]string{
		"max_age": s.with("max_age", "0"), "prompt login": s.with("prompt", "login"), "claims ignored": s.with("claims", "{}"),
		"without state": s.with("state", ""), "without nonce": s.with("nonce", ""),
	} {
		if status, code, to := h.browser().open(address); status != 303 || !strings.HasPrefix(to.Path, "/o/") {
			t.Errorf("control %s: %d %s %v", name, status, code, to)
		}
	}
}

func TestAuthorizePostAndLanguage(t *testing.T) {
	h := newHouse(t)
	s, b := h.site(), h.browser()
	u, _ := url.Parse(s.with("ui_locales", "en-GB zh-Hant"))
	res, err := b.PostForm(h.server.URL+"/oauth2/authorize", u.Query())
	h.must(err)
	res.Body.Close()
	to, _ := res.Location()
	if res.StatusCode != 303 || to.Path != "/oauth2/authorize" {
		t.Fatalf("%d %v", res.StatusCode, to)
	}
	if _, _, next := b.open(to.String()); next == nil || !strings.HasPrefix(next.Path, "/o/") || next.Query().Get("lang") != "en" {
		t.Errorf("then %v", next)
	}
}

func TestTokenRefusals(t *testing.T) {
	h := newHouse(t)
	p := h.bind(0)
	s := h.site()
	other := h.otherSite(agency.AuthNone, nil)
	code, id := h.code(s, p)
	otherCode, _ := h.code(other, p)
	change := func(pairs ...string) url.Values {
		form := s.tokenForm(code)
		for i := 0; i < len(pairs); i += 2 {
			form.Set(pairs[i], pairs[i+1])
			if pairs[i+1] == "" {
				form.Del(pairs[i])
			}
		}
		return form
	}
	flipped := []byte(code)
	flipped[40] ^= 1
	row := func() (s string) {
		h.must(h.db.Pool.QueryRow(context.Background(), `SELECT o::text FROM orders o WHERE id = $1`, id.UUID()).Scan(&s))
		return s
	}
	before := row()
	for name, tc := range map[string]struct {
		user, secret string
		form         url.Values
		status       int
		err, entry   string
	}{
		"wrong secret":      {agency.DemoClientID, agency.NewSecret(), change(), 401, "invalid_client", "client.refused refused client_secret_wrong"},
		"empty secret":      {agency.DemoClientID, "", change(), 401, "invalid_client", "client.refused refused client_secret_wrong"},
		"unknown client":    {"nobody", h.secret, change(), 401, "invalid_client", "client.refused refused client_unknown"},
		"secret in body":    {"", "", change("client_id", agency.DemoClientID, "client_secret", h.secret), 401, "invalid_client", "client.refused refused oidc_client_auth"},
		"no authentication": {"", "", change("client_id", agency.DemoClientID), 401, "invalid_client", "client.refused refused oidc_client_auth"},
		"two methods":       {agency.DemoClientID, h.secret, change("client_id", agency.DemoClientID, "client_secret", h.secret), 400, "invalid_request", ""},
		"wrong verifier":    {agency.DemoClientID, h.secret, change("code_verifier", oauth2.GenerateVerifier()), 400, "invalid_grant", "token.refused refused oidc_code_verifier"},
		"no verifier":       {agency.DemoClientID, h.secret, change("code_verifier", ""), 400, "invalid_grant", "token.refused refused oidc_code_verifier"},
		"wrong redirect":    {agency.DemoClientID, h.secret, change("redirect_uri", redirectURI+"/"), 400, "invalid_grant", "token.refused refused oidc_code_redirect_uri"},
		"no redirect":       {agency.DemoClientID, h.secret, change("redirect_uri", ""), 400, "invalid_request", ""},
		"forged code":       {agency.DemoClientID, h.secret, change("code", string(flipped)), 400, "invalid_grant", "token.refused refused oidc_code_unknown"},
		"short code":        {agency.DemoClientID, h.secret, change("code", code[1:]), 400, "invalid_grant", "token.refused refused oidc_code_unknown"},
		"other's code":      {agency.DemoClientID, h.secret, change("code", otherCode), 400, "invalid_grant", "token.refused refused oidc_code_client"},
		"code for other":    {"", "", change("client_id", "other-none"), 400, "invalid_grant", "token.refused refused oidc_code_client"},
		"doubled":           {agency.DemoClientID, h.secret, url.Values{"grant_type": {"authorization_code", "authorization_code"}, "code": {code}}, 400, "invalid_request", "client.refused refused oidc_request_doubled"},
		"too large":         {agency.DemoClientID, h.secret, change("x", strings.Repeat("x", 9000)), 413, "invalid_request", "client.refused refused oidc_request_too_large"},
		"no grant":          {agency.DemoClientID, h.secret, change("grant_type", ""), 400, "invalid_request", ""},
		"refresh":           {agency.DemoClientID, h.secret, change("grant_type", "refresh_token", "refresh_token", "x"), 400, "unauthorized_client", ""},
		"jwt bearer":        {agency.DemoClientID, h.secret, change("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion", "x"), 400, "unsupported_grant_type", ""},
		"unknown grant":     {agency.DemoClientID, h.secret, change("grant_type", "password"), 400, "unsupported_grant_type", ""},
	} {
		status, answer, header := h.post("/oauth2/token", tc.user, tc.secret, tc.form)
		if status != tc.status || answer["error"] != tc.err {
			t.Errorf("%s: %d %v, want %d %s", name, status, answer, tc.status, tc.err)
		}
		if header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: may be cached", name)
		}
		if status == 401 && tc.user != "" && !strings.HasPrefix(header.Get("WWW-Authenticate"), "Basic") {
			t.Errorf("%s: no challenge", name)
		}
		if tc.entry != "" && h.lastEntry() != tc.entry {
			t.Errorf("%s: entry %q, want %q", name, h.lastEntry(), tc.entry)
		}
	}
	if status, answer, _ := h.post("/oauth2/token?grant_type=authorization_code", agency.DemoClientID, h.secret, change()); status != 400 || answer["error"] != "invalid_request" {
		t.Errorf("parameters in the address: %d %v", status, answer)
	}
	if status, answer, _ := h.postBody("/oauth2/token", agency.DemoClientID, h.secret, "application/json", `{"code":"x"}`); status != 400 || answer["error"] != "invalid_request" {
		t.Errorf("JSON body: %d %v", status, answer)
	}
	if res, err := http.Get(h.server.URL + "/oauth2/token"); err != nil || res.StatusCode != 405 {
		t.Errorf("GET: %v %v", res.StatusCode, err)
	}
	if row() != before {
		t.Error("a refused request changed the order")
	}
	if status, answer, _ := h.post("/oauth2/token", agency.DemoClientID, h.secret, change()); status != 200 {
		t.Errorf("control: after all refusals the code still works: %d %v", status, answer)
	}
}

func TestCodeExpires(t *testing.T) {
	h := newHouse(t)
	s, p := h.site(), h.bind(0)
	code, _ := h.code(s, p)
	h.clock.pass(61 * time.Second)
	status, answer, _ := h.post("/oauth2/token", agency.DemoClientID, h.secret, s.tokenForm(code))
	if status != 400 || answer["error"] != "invalid_grant" || h.lastEntry() != "token.refused refused oidc_code_expired" {
		t.Errorf("%d %v %s", status, answer, h.lastEntry())
	}
	code, _ = h.code(s, p)
	h.clock.pass(50 * time.Second)
	if status, answer, _ := h.post("/oauth2/token", agency.DemoClientID, h.secret, s.tokenForm(code)); status != 200 {
		t.Errorf("control: %d %v", status, answer)
	}
}

func TestFrozenCitizenGetsNothing(t *testing.T) {
	h := newHouse(t)
	s, p := h.site(), h.bind(0)
	code, _ := h.code(s, p)
	token, err := s.exchange(code)
	h.must(err)
	code, _ = h.code(s, p)
	h.exec(`UPDATE citizens SET state = 'frozen' WHERE id = $1`, p.citizen)
	status, answer, _ := h.post("/oauth2/token", agency.DemoClientID, h.secret, s.tokenForm(code))
	if status != 400 || answer["error"] != "invalid_grant" {
		t.Errorf("%d %v", status, answer)
	}
	if _, err := s.provider.UserInfo(context.Background(), oauth2.StaticTokenSource(token)); err == nil {
		t.Error("userinfo of a frozen citizen")
	}
}

func TestUserinfoRefusals(t *testing.T) {
	h := newHouse(t)
	s, p := h.site(), h.bind(0)
	code, _ := h.code(s, p)
	token, err := s.exchange(code)
	h.must(err)
	get := func(authorization, query string) (int, string) {
		req, _ := http.NewRequest(http.MethodGet, h.server.URL+"/oauth2/userinfo"+query, nil)
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		res, err := http.DefaultClient.Do(req)
		h.must(err)
		res.Body.Close()
		return res.StatusCode, res.Header.Get("WWW-Authenticate")
	}
	if status, _ := get("Bearer "+token.AccessToken, ""); status != 200 {
		t.Fatalf("control: %d", status)
	}
	if status, challenge := get("", ""); status != 401 || challenge != `Bearer realm="sealgate"` {
		t.Errorf("no token: %d %s", status, challenge)
	}
	forged := token.AccessToken[:len(token.AccessToken)-2] + "AA"
	unknown := "sg_" + base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	for _, bad := range []string{forged, unknown, "x", token.Extra("id_token").(string)} {
		if status, challenge := get("Bearer "+bad, ""); status != 401 || !strings.Contains(challenge, "invalid_token") {
			t.Errorf("%.10q: %d %s", bad, status, challenge)
		}
	}
	if status, _ := get("", "?access_token="+token.AccessToken); status != 400 {
		t.Errorf("token in the address: %d", status)
	}
	h.clock.pass(11 * time.Minute)
	if status, _ := get("Bearer "+token.AccessToken, ""); status != 401 {
		t.Errorf("expired: %d", status)
	}
}

func TestIntrospectAndRevoke(t *testing.T) {
	h := newHouse(t)
	s, p := h.site("profile"), h.bind(0)
	other := h.otherSite(agency.AuthClientSecretPost, nil)
	code, _ := h.code(s, p)
	token, err := s.exchange(code)
	h.must(err)
	form := url.Values{"token": {token.AccessToken}}
	foreign := url.Values{"token": {token.AccessToken}, "client_id": {other.config.ClientID}, "client_secret": {h.secret}}
	status, answer, _ := h.post("/oauth2/introspect", agency.DemoClientID, h.secret, form)
	if status != 200 || answer["active"] != true || answer["scope"] != "openid profile" || answer["client_id"] != agency.DemoClientID {
		t.Errorf("introspect: %d %v", status, answer)
	}
	if status, answer, _ := h.post("/oauth2/introspect", "", "", foreign); status != 200 || answer["active"] != false || len(answer) != 1 {
		t.Errorf("another's token: %d %v", status, answer)
	}
	if status, _, _ := h.post("/oauth2/introspect", agency.DemoClientID, "wrong", form); status != 401 {
		t.Errorf("wrong secret: %d", status)
	}
	if status, _, _ := h.post("/oauth2/revoke", "", "", foreign); status != 200 {
		t.Errorf("revoking another's token is no error: %d", status)
	}
	if _, answer, _ := h.post("/oauth2/introspect", agency.DemoClientID, h.secret, form); answer["active"] != true {
		t.Error("another client revoked the token")
	}
	if status, _, _ := h.post("/oauth2/revoke", agency.DemoClientID, h.secret, form); status != 200 || h.lastEntry() != "token.revoked ok" {
		t.Errorf("revoke: %d %s", status, h.lastEntry())
	}
	if _, answer, _ := h.post("/oauth2/introspect", agency.DemoClientID, h.secret, form); answer["active"] != false {
		t.Error("revoked token is active")
	}
	if status, _, _ := h.post("/oauth2/revoke", agency.DemoClientID, h.secret, url.Values{"token": {"nonsense"}}); status != 200 {
		t.Errorf("unknown token: %d", status)
	}
}

func TestLogout(t *testing.T) {
	h := newHouse(t)
	s, p := h.site(), h.bind(0)
	code, _ := h.code(s, p)
	token, err := s.exchange(code)
	h.must(err)
	hint := token.Extra("id_token").(string)
	address := func(pairs ...string) string {
		q := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			q.Set(pairs[i], pairs[i+1])
		}
		return h.server.URL + "/oauth2/logout?" + q.Encode()
	}
	const after = "http://localhost:8090/"
	for name, bad := range map[string]string{
		"unregistered address": address("id_token_hint", hint, "post_logout_redirect_uri", "https://evil.example/"),
		"no client":            address("post_logout_redirect_uri", after),
		"forged hint":          address("id_token_hint", hint[:len(hint)-4]+"AAAA", "post_logout_redirect_uri", after),
		"another client":       address("id_token_hint", hint, "client_id", "sealgate"),
		"doubled":              address("id_token_hint", hint) + "&state=1&state=2",
	} {
		if status, _, to := h.browser().open(bad); status != 400 || to != nil {
			t.Errorf("%s: %d %v", name, status, to)
		}
	}
	if _, err := s.provider.UserInfo(context.Background(), oauth2.StaticTokenSource(token)); err != nil {
		t.Fatalf("control: %v", err)
	}
	h.clock.pass(7 * time.Minute) // the hint has expired, which is allowed
	status, code, to := h.browser().open(address("id_token_hint", hint, "post_logout_redirect_uri", after, "state", "s 1"))
	if status != 303 || to.String() != after+"?state=s+1" {
		t.Errorf("%d %s %v", status, code, to)
	}
	if _, err := s.provider.UserInfo(context.Background(), oauth2.StaticTokenSource(token)); err == nil {
		t.Error("the access token outlived the logout")
	}
}

func TestPrivateKeyJWT(t *testing.T) {
	h := newHouse(t)
	p := h.bind(0)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	h.must(err)
	jwks, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
	h.must(err)
	s := h.otherSite(agency.AuthPrivateKeyJWT, jwks)
	id := s.config.ClientID
	assertion := func(k *ecdsa.PrivateKey, change func(*jwt.Claims)) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: k, KeyID: "k1"}}, nil)
		h.must(err)
		now := h.clock.now()
		c := jwt.Claims{Issuer: id, Subject: id, Audience: jwt.Audience{h.server.URL}, ID: uuid.NewString(),
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Minute))}
		if change != nil {
			change(&c)
		}
		raw, err := jwt.Signed(signer).Claims(c).Serialize()
		h.must(err)
		return raw
	}
	call := func(form url.Values, assertion string) (int, map[string]any) {
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
		status, answer, _ := h.post("/oauth2/token", "", "", form)
		return status, answer
	}
	cc := func() url.Values { return url.Values{"grant_type": {"client_credentials"}} }
	good := assertion(key, nil)
	if status, answer := call(cc(), good); status != 200 {
		t.Fatalf("control: %d %v", status, answer)
	}
	if status, answer := call(cc(), good); status != 401 || answer["error"] != "invalid_client" || h.lastEntry() != "token.refused refused oidc_assertion_replayed" {
		t.Errorf("replayed: %d %v %s", status, answer, h.lastEntry())
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	h.must(err)
	for name, bad := range map[string]string{
		"other key":    assertion(stranger, nil),
		"audience":     assertion(key, func(c *jwt.Claims) { c.Audience = jwt.Audience{"https://other.example"} }),
		"no audience":  assertion(key, func(c *jwt.Claims) { c.Audience = nil }),
		"expired":      assertion(key, func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(h.clock.now().Add(-2 * time.Minute)) }),
		"no expiry":    assertion(key, func(c *jwt.Claims) { c.Expiry = nil }),
		"far expiry":   assertion(key, func(c *jwt.Claims) { c.Expiry = jwt.NewNumericDate(h.clock.now().Add(time.Hour)) }),
		"no jti":       assertion(key, func(c *jwt.Claims) { c.ID = "" }),
		"sub":          assertion(key, func(c *jwt.Claims) { c.Subject = agency.DemoClientID }),
		"other client": assertion(key, func(c *jwt.Claims) { c.Issuer, c.Subject = agency.DemoClientID, agency.DemoClientID }),
		"no token":     "a.b.c",
	} {
		if status, answer := call(cc(), bad); status != 401 || answer["error"] != "invalid_client" {
			t.Errorf("%s: %d %v", name, status, answer)
		}
	}
	// In a login the assertion is consumed with the code: one transaction.
	code, _ := h.code(s, p)
	used := assertion(key, nil)
	if status, answer := call(cc(), used); status != 200 {
		t.Fatalf("%d %v", status, answer)
	}
	if status, _ := call(s.tokenForm(code), used); status != 401 {
		t.Errorf("replayed on the code: %d", status)
	}
	if status, answer := call(s.tokenForm(code), assertion(key, nil)); status != 200 {
		t.Errorf("the code must still work: %d %v", status, answer)
	}
}

func TestDiscoveryTellsTheTruth(t *testing.T) {
	h := newHouse(t)
	res, err := http.Get(h.server.URL + "/.well-known/openid-configuration")
	h.must(err)
	defer res.Body.Close()
	var d map[string]any
	h.must(json.NewDecoder(res.Body).Decode(&d))
	for key, want := range map[string]string{
		"subject_types_supported": `["pairwise"]`, "response_types_supported": `["code"]`, "response_modes_supported": `["query"]`,
		"grant_types_supported":                 `["authorization_code","client_credentials"]`,
		"id_token_signing_alg_values_supported": `["ES256"]`, "code_challenge_methods_supported": `["S256"]`,
		"authorization_response_iss_parameter_supported": `true`, "request_parameter_supported": `false`,
		"request_uri_parameter_supported": `false`, "claims_parameter_supported": `false`,
		"ui_locales_supported": `["zh-Hant","en"]`,
	} {
		if got, _ := json.Marshal(d[key]); string(got) != want {
			t.Errorf("%s: %s, want %s", key, got, want)
		}
	}
	if res.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Error("CORS with credentials")
	}
}
