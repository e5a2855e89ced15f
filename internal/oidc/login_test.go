package oidc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"sealgate/internal/agency"
	"sealgate/internal/keyring"
	"sealgate/internal/oidc"
	"sealgate/internal/order"
)

func TestLogin(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	s, p := h.site("profile"), h.bind(0)
	b := h.browser()
	id := b.start(s.authURL())
	b.approve(id, p)
	q := b.back(id)
	if q.Get("state") != "the state & more" || q.Get("iss") != h.server.URL {
		t.Fatalf("answer %v", q)
	}
	commits := h.count(`SELECT count(*) FROM audit_entries WHERE order_id = $1`, id.UUID())
	token, err := s.exchange(q.Get("code"))
	if err != nil {
		t.Fatal(err)
	}
	if commits != 3 {
		t.Errorf("%d entries before the exchange, want 3: created, scanned, approved", commits)
	}
	raw, _ := token.Extra("id_token").(string)
	idToken, err := s.verifier.Verify(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := idToken.VerifyAccessToken(token.AccessToken); err != nil {
		t.Errorf("at_hash: %v", err)
	}
	var claims map[string]any
	h.must(idToken.Claims(&claims))
	c, err := h.agencies.ByClientID(ctx, agency.DemoClientID)
	h.must(err)
	if back, err := h.agencies.ParseSubject(c.SectorIdentifier, idToken.Subject); err != nil || back != p.citizen {
		t.Errorf("subject %q: %v %v", idToken.Subject, back, err)
	}
	if idToken.Nonce != "the-nonce" || claims["name"] != "測試甲" || claims["acr"] != order.ACRPHR || claims["sid"] != id.String() {
		t.Errorf("claims %v", claims)
	}
	if _, there := claims["national_id"]; there {
		t.Error("the national ID was given without its scope")
	}
	if amr, _ := json.Marshal(claims["amr"]); string(amr) != `["swk","user","mfa"]` {
		t.Errorf("amr %s", amr)
	}
	if at := int64(claims["auth_time"].(float64)); time.Since(time.Unix(at, 0)) > time.Minute {
		t.Errorf("auth_time %d", at)
	}
	info, err := s.provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	h.must(err)
	var user map[string]any
	h.must(info.Claims(&user))
	if info.Subject != idToken.Subject || user["name"] != "測試甲" || user["national_id"] != nil {
		t.Errorf("userinfo %v", user)
	}
	if o, err := h.orders.Find(ctx, id); err != nil || o.State != order.Completed {
		t.Errorf("order %v %v", o.State, err)
	}
	if status, code, _ := b.open(h.server.URL + "/o/" + id.String() + "/return"); status != http.StatusConflict || code != "oidc_login_returned" {
		t.Errorf("return after the exchange: %d %s", status, code)
	}
}

func TestNationalIDNeedsItsScope(t *testing.T) {
	h := newHouse(t)
	s, p := h.site("national_id"), h.bind(0)
	code, _ := h.code(s, p)
	token, err := s.exchange(code)
	h.must(err)
	idToken, err := s.verifier.Verify(context.Background(), token.Extra("id_token").(string))
	h.must(err)
	var claims map[string]any
	h.must(idToken.Claims(&claims))
	if claims["national_id"] != "A123456789" || claims["name"] != nil {
		t.Errorf("claims %v", claims)
	}
}

// Where the deployment releases no national IDs, a client that has the scope is
// granted the rest, the phone is asked for the rest, and no document offers it.
func TestNationalIDStaysHereWithoutTheSetting(t *testing.T) {
	h := newHouseWith(t, func(c *oidc.Config) { c.ReleaseNationalID = false })
	s, p := h.site("national_id", "profile"), h.bind(0)
	code, id := h.code(s, p)
	token, err := s.exchange(code)
	h.must(err)
	idToken, err := s.verifier.Verify(context.Background(), token.Extra("id_token").(string))
	h.must(err)
	var claims, user map[string]any
	h.must(idToken.Claims(&claims))
	info, err := s.provider.UserInfo(context.Background(), oauth2.StaticTokenSource(token))
	h.must(err)
	h.must(info.Claims(&user))
	if claims["national_id"] != nil || user["national_id"] != nil || user["name"] != "測試甲" {
		t.Errorf("claims %v, userinfo %v", claims, user)
	}
	if scope, _ := token.Extra("scope").(string); strings.Contains(scope, "national_id") || !strings.Contains(scope, "profile") {
		t.Errorf("granted %q", scope)
	}
	o, err := h.orders.Find(context.Background(), id)
	h.must(err)
	if bytes.Contains(o.Content, []byte("national_id")) {
		t.Errorf("the phone was asked for it: %s", o.Content)
	}
	var document map[string]any
	h.must(s.provider.Claims(&document))
	if text := fmt.Sprint(document); strings.Contains(text, "national_id") {
		t.Errorf("the discovery document offers it: %s", text)
	}
}

func TestSubjectIsPairwise(t *testing.T) {
	h := newHouse(t)
	p := h.bind(0)
	subject := func(s *site) string {
		code, _ := h.code(s, p)
		token, err := s.exchange(code)
		h.must(err)
		idToken, err := s.verifier.Verify(context.Background(), token.Extra("id_token").(string))
		h.must(err)
		return idToken.Subject
	}
	first := subject(h.site())
	if again := subject(h.site()); again != first {
		t.Error("the same citizen has two subjects at one client")
	}
	other := h.otherSite(agency.AuthNone, nil)
	if subject(other) == first {
		t.Error("two sectors see the same subject")
	}
}

// otherSite registers another client with the same redirect URI.
func (h *house) otherSite(method agency.AuthMethod, jwks []byte) *site {
	h.t.Helper()
	ctx := context.Background()
	demo, err := h.agencies.ByClientID(ctx, agency.DemoClientID)
	h.must(err)
	c := agency.Client{ClientID: "other-" + string(method), Agency: demo.Agency, Name: agency.Names{ZhHant: "另一系統", En: "Another system"},
		AuthMethod: method, SectorIdentifier: "other.example", RedirectURIs: []string{redirectURI}, JWKS: jwks,
		GrantTypes: []string{"authorization_code"}, Scopes: []string{"openid", "profile", "sign"}}
	if method != agency.AuthNone {
		c.GrantTypes = append(c.GrantTypes, "client_credentials")
	}
	if method == agency.AuthClientSecretPost {
		c.SecretMAC = h.agencies.SecretMAC(h.secret)
	}
	_, err = h.agencies.SaveClient(ctx, c)
	h.must(err)
	s := h.site("profile")
	s.config.ClientID = c.ClientID
	s.config.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	if method != agency.AuthClientSecretPost {
		s.config.ClientSecret = ""
	}
	s.verifier = s.provider.Verifier(&gooidc.Config{ClientID: c.ClientID})
	return s
}

func TestPublicAndPostClients(t *testing.T) {
	h := newHouse(t)
	p := h.bind(0)
	for _, method := range []agency.AuthMethod{agency.AuthNone, agency.AuthClientSecretPost} {
		s := h.otherSite(method, nil)
		code, _ := h.code(s, p)
		token, err := s.exchange(code)
		if err != nil {
			t.Errorf("%s: %v", method, err)
			continue
		}
		if _, err := s.verifier.Verify(context.Background(), token.Extra("id_token").(string)); err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
}

func TestCodeWorksOnce(t *testing.T) {
	h := newHouse(t)
	s, p := h.site(), h.bind(0)
	code, id := h.code(s, p)
	const n = 3
	var wg sync.WaitGroup
	status := make([]int, n)
	errs := make([]any, n)
	for i := range n {
		wg.Go(func() {
			var answer map[string]any
			status[i], answer, _ = h.post("/oauth2/token", agency.DemoClientID, h.secret, s.tokenForm(code))
			errs[i] = answer["error"]
		})
	}
	wg.Wait()
	sorted := slices.Sorted(slices.Values(status))
	if !slices.Equal(sorted, []int{200, 400, 400}) {
		t.Fatalf("%v %v", status, errs)
	}
	if n := h.count(`SELECT count(*) FROM access_tokens WHERE order_id = $1`, id.UUID()); n != 1 {
		t.Errorf("%d access tokens", n)
	}
	if n := h.count(`SELECT count(*) FROM audit_entries WHERE order_id = $1 AND act = 'token.issued'`, id.UUID()); n != 1 {
		t.Errorf("%d entries of an issued token", n)
	}
}

func TestReplayRevokesTheToken(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	s, p := h.site(), h.bind(0)
	code, _ := h.code(s, p)
	token, err := s.exchange(code)
	h.must(err)
	if _, err := s.provider.UserInfo(ctx, oauth2.StaticTokenSource(token)); err != nil {
		t.Fatalf("control: %v", err)
	}
	status, answer, _ := h.post("/oauth2/token", agency.DemoClientID, h.secret, s.tokenForm(code))
	if status != 400 || answer["error"] != "invalid_grant" || !strings.Contains(answer["error_description"].(string), "oidc_code_used") {
		t.Errorf("replay: %d %v", status, answer)
	}
	if got := h.lastEntry(); got != "token.refused refused oidc_code_used" {
		t.Errorf("entry %q", got)
	}
	_, err = s.provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("userinfo after the replay: %v", err)
	}
}

func TestReturnTellsEveryEnd(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	s, p := h.site(), h.bind(0)
	start := func() (*browser, order.ID) {
		b := h.browser()
		return b, b.start(s.authURL())
	}
	expect := func(name string, b *browser, id order.ID, want string) {
		t.Helper()
		q := b.back(id)
		if q.Get("error") != want || q.Get("state") != "the state & more" || q.Get("iss") != h.server.URL || q.Has("code") {
			t.Errorf("%s: %v", name, q)
		}
	}
	b, id := start()
	if status, code, _ := b.open(h.server.URL + "/o/" + id.String() + "/return"); status != 409 || code != "oidc_login_not_finished" {
		t.Errorf("too early: %d %s", status, code)
	}
	if status, code, _ := h.browser().open(h.server.URL + "/o/" + id.String() + "/return"); status != 409 || code != "order_wrong_browser" {
		t.Errorf("another browser: %d %s", status, code)
	}
	key := b.key()
	claim, err := h.orders.Claim(ctx, order.ClaimRequest{Source: order.SameDevice, Order: id.String(), Browser: &key})
	h.must(err)
	if err := h.orders.Reject(ctx, order.RejectRequest{Order: id, Token: claim.Token, Reason: "not_me"}); err != nil {
		t.Fatal(err)
	}
	expect("rejected", b, id, "access_denied")

	b, id = start()
	if err := h.orders.Cancel(ctx, id, b.key(), order.Origin{}); err != nil {
		t.Fatal(err)
	}
	expect("cancelled", b, id, "access_denied")

	b, id = start()
	h.clock.pass(3 * time.Minute)
	expect("expired", b, id, "access_denied")

	b, id = start()
	b.approve(id, p)
	first := b.back(id).Get("code")
	h.clock.pass(2 * time.Second)
	if again := b.back(id).Get("code"); again == "" || again == first {
		t.Error("the way back must be open until the code is used")
	}
	h.clock.pass(6 * time.Minute)
	expect("too late", b, id, "access_denied")
}

func TestACRValues(t *testing.T) {
	h := newHouse(t)
	s, p := h.site(), h.bind(0)
	acr := func(values string) string {
		code, _ := h.code(s, p, oauth2.SetAuthURLParam("acr_values", values))
		token, err := s.exchange(code)
		h.must(err)
		idToken, err := s.verifier.Verify(context.Background(), token.Extra("id_token").(string))
		h.must(err)
		var claims struct{ ACR string }
		h.must(idToken.Claims(&claims))
		return claims.ACR
	}
	for asked, want := range map[string]string{
		"phr": "phr", "urn:sealgate:acr:qr": "urn:sealgate:acr:qr", "urn:sealgate:acr:qr phr": "phr", "urn:other phr": "phr",
	} {
		if got := acr(asked); got != want {
			t.Errorf("acr_values=%q: %q, want %q", asked, got, want)
		}
	}
	// Demanded: the QR road is refused at the claim.
	b := h.browser()
	id := b.start(s.authURL(oauth2.SetAuthURLParam("acr_values", "phr")))
	view, err := h.orders.View(context.Background(), id, b.key())
	h.must(err)
	_, err = h.orders.Claim(context.Background(), order.ClaimRequest{Source: order.Scanner, Frame: h.orders.Frame(view, h.clock.now())})
	if err == nil || !strings.Contains(err.Error(), "order_road_refused") {
		t.Errorf("QR road for acr_values=phr: %v", err)
	}
}

func TestClientCredentials(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	cc := clientcredentials.Config{ClientID: agency.DemoClientID, ClientSecret: h.secret, TokenURL: h.server.URL + "/oauth2/token",
		Scopes: []string{"sign"}, AuthStyle: oauth2.AuthStyleInHeader}
	token, err := cc.Token(ctx)
	if err != nil {
		t.Fatal(err)
	}
	before := h.db.Pool.Stat().AcquireCount()
	access, err := h.provider.VerifyAccessToken(ctx, token.AccessToken)
	if err != nil || access.ClientID != agency.DemoClientID || !access.Has("sign") || access.Has("openid") {
		t.Errorf("%+v %v", access, err)
	}
	if after := h.db.Pool.Stat().AcquireCount(); after != before {
		t.Errorf("verifying took %d connections", after-before)
	}
	if got := h.lastEntry(); got != "token.issued ok" {
		t.Errorf("entry %q", got)
	}
	h.clock.pass(11 * time.Minute)
	if _, err := h.provider.VerifyAccessToken(ctx, token.AccessToken); err == nil || err.Error() != "oidc_token_expired" {
		t.Errorf("after its life: %v", err)
	}
	cc.Scopes = nil
	if token, err = cc.Token(ctx); err != nil || token.Extra("scope") != "sign" {
		t.Errorf("without a scope: %v %v", token, err)
	}
	for _, scope := range []string{"profile", "openid", "nonsense"} {
		status, answer, _ := h.post("/oauth2/token", agency.DemoClientID, h.secret,
			map[string][]string{"grant_type": {"client_credentials"}, "scope": {scope}})
		if status != 400 || answer["error"] != "invalid_scope" {
			t.Errorf("scope %s: %d %v", scope, status, answer)
		}
	}
}

func TestIDTokenIsNoAccessToken(t *testing.T) {
	h := newHouse(t)
	s, p := h.site(), h.bind(0)
	code, _ := h.code(s, p)
	token, err := s.exchange(code)
	h.must(err)
	for _, no := range []string{token.Extra("id_token").(string), token.AccessToken, "", "a.b.c", strings.Repeat("x", 5000)} {
		if _, err := h.provider.VerifyAccessToken(context.Background(), no); err == nil {
			t.Errorf("%.20q was accepted for the API", no)
		}
	}
}

func TestKeyRotation(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	s, p := h.site(), h.bind(0)
	login := func() *gooidc.IDToken {
		code, _ := h.code(s, p)
		token, err := s.exchange(code)
		h.must(err)
		idToken, err := s.verifier.Verify(ctx, token.Extra("id_token").(string))
		if err != nil {
			t.Fatal(err)
		}
		return idToken
	}
	login()
	if _, err := h.ring.Generate(ctx, keyring.PurposeOIDC, keyring.P256); err != nil {
		t.Fatal(err)
	}
	h.clock.pass(11 * time.Second)
	kids := func() []string {
		res, err := http.Get(h.server.URL + "/oauth2/jwks")
		h.must(err)
		defer res.Body.Close()
		var set struct{ Keys []struct{ Kid, D string } }
		h.must(json.NewDecoder(res.Body).Decode(&set))
		var out []string
		for _, k := range set.Keys {
			if k.D != "" {
				t.Fatal("a private key is published")
			}
			out = append(out, k.Kid)
		}
		return out
	}
	signing := func() string {
		token, err := (&clientcredentials.Config{ClientID: agency.DemoClientID, ClientSecret: h.secret,
			TokenURL: h.server.URL + "/oauth2/token", AuthStyle: oauth2.AuthStyleInHeader}).Token(ctx)
		h.must(err)
		return kidOf(t, token.AccessToken)
	}
	if k := kids(); len(k) != 2 || signing() != k[1] {
		t.Errorf("a fresh key must be published before it signs")
	}
	h.clock.pass(30 * time.Second)
	if k := kids(); signing() != k[0] {
		t.Errorf("after that the newest key signs")
	}
	login()
}
