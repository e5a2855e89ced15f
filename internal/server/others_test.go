package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/agency"
	"sealgate/internal/postgres"
)

// call sends JSON or nothing with a browser's cookies.
func (w *world) call(c *http.Client, method, path string, body any) error {
	req, err := jsonRequest(w.ctx, method, w.origin+path, body)
	if err != nil {
		return err
	}
	return answer(c, req, new([]byte))
}

// A browser that did not start an order gets nothing of it, on any route.
func TestAnotherBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)
	thief := w.browser()
	must(thief.Get(w.ctx, "/enrol"))(t) // it has a cookie of its own
	nobody := w.browser()               // it has none

	_, desk, login := w.started(t)
	must(phone.OpenLink(w.ctx, must(desk.Frame(w.ctx, login))(t)))(t)
	e := w.enrolment(1)
	enrol, _, err := e.Begin(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	owner := w.browser()
	if err := owner.LogIn(w.ctx, phone); err != nil {
		t.Fatal(err)
	}
	sign := must(owner.SignFiles(w.ctx, []softphone.Document{{Name: "a", MediaType: "text/plain", Size: 1, DigestAlgorithm: "SHA-256", Digest: digestOf([]byte("a"))}}))(t)
	if _, err := phone.Approve(w.ctx, w.scan(t, owner, phone, sign)); err != nil {
		t.Fatal(err)
	}
	must(owner.WaitFor(w.ctx, sign, "completed"))(t)

	for _, route := range []struct {
		method, path string
		body         any
		acts         bool // a step on the order, which leaves an audit entry
	}{
		{"GET", "/o/" + login + "/state", nil, false},
		{"GET", "/o/" + login + "/events", nil, false},
		{"GET", "/o/" + login, nil, false},
		{"GET", "/o/" + login + "/qr.png", nil, false},
		{"GET", "/o/" + login + "/return", nil, false},
		{"POST", "/o/" + login + "/cancel", struct{}{}, true},
		{"POST", "/o/" + login + "/extend", struct{}{}, true},
		{"POST", "/o/" + login + "/freeze", struct{}{}, true},
		{"POST", "/o/" + login + "/code", struct{}{}, true},
		{"POST", "/o/" + login + "/check", map[string]string{"digits": "00"}, true},
		{"GET", "/enrol/" + enrol, nil, false},
		{"GET", "/o/" + enrol + "/state", nil, false},
		{"GET", "/enrol/" + enrol + "/statement", nil, true},
		{"POST", "/enrol/" + enrol + "/proof", map[string]string{"signature": "MAA=", "certificate": "MAA="}, true},
		{"GET", "/sign/" + sign, nil, false},
		{"GET", "/o/" + sign + "/documents/0.p7s", nil, false},
		{"POST", "/api/device/v1/claims", map[string]string{"order": login, "source": "same_device"}, true},
		{"POST", "/api/device/v1/claims", map[string]string{"order": login, "source": "hybrid"}, true},
	} {
		t.Run(route.method+" "+strings.NewReplacer(login, "login", enrol, "enrol", sign, "sign").Replace(route.path), func(t *testing.T) {
			attempt := func() error { return w.call(thief.Client(), route.method, route.path, route.body) }
			if route.acts {
				w.refused(t, "order_wrong_browser", attempt)
			} else {
				w.silent(t, "order_wrong_browser", attempt)
			}
			err := w.call(nobody.Client(), route.method, route.path, route.body)
			if code := refusalCode(err); code != "browser_required" && code != "order_wrong_browser" {
				t.Errorf("without a cookie: %v", err)
			}
		})
	}
	// Positive control: the owners are served.
	for _, own := range []struct {
		b    *softphone.Browser
		path string
	}{{desk, "/o/" + login + "/state"}, {e.Browser, "/enrol/" + enrol}, {owner, "/sign/" + sign}, {owner, "/o/" + sign + "/documents/0.p7s"}} {
		if err := w.call(own.b.Client(), "GET", own.path, nil); err != nil {
			t.Errorf("%s: %v", own.path, err)
		}
	}
}

// Another citizen, or the right one on a phone that may not, approves nothing.
func TestAnotherCitizen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first, second := w.enrol(0), w.enrol(1)
	desk := w.browser()
	if err := desk.LogIn(w.ctx, first); err != nil {
		t.Fatal(err)
	}
	file := []softphone.Document{{Name: "a", MediaType: "text/plain", Size: 1, DigestAlgorithm: "SHA-256", Digest: digestOf([]byte("a"))}}
	id := must(desk.SignFiles(w.ctx, file))(t)

	t.Run("own files are for oneself", func(t *testing.T) {
		claim := w.scan(t, desk, second, id)
		w.refused(t, "order_wrong_citizen", func() error { return attempted(second.Approve(w.ctx, claim)) })
		if _, err := first.Approve(w.ctx, claim); err != nil { // the same claim, the right person
			t.Fatal(err)
		}
		must(desk.WaitFor(w.ctx, id, "completed"))(t)
	})
	t.Run("history is one's own", func(t *testing.T) {
		there := w.browser()
		here := there.Phone(second.Keys())
		if err := here.OpenSession(w.ctx); err != nil {
			t.Fatal(err)
		}
		var list struct {
			Items []struct{ Order string }
		}
		if err := here.Read(w.ctx, "history", &list); err != nil {
			t.Fatal(err)
		}
		for _, item := range list.Items {
			if item.Order == id {
				t.Error("the first citizen's signature is in the second one's history")
			}
		}
		if err := w.call(there.Client(), "GET", "/o/"+id+"/documents/0.p7s", nil); refusalCode(err) != "order_wrong_browser" {
			t.Errorf("the first citizen's signature: %v", err)
		}
	})
	t.Run("a subject the agency named", func(t *testing.T) {
		a := w.relyingParty().begin()
		back := w.browser()
		who, err := a.finish(must(back.Return(w.ctx, w.approved(t, a, back, first)))(t))
		if err != nil {
			t.Fatal(err)
		}
		o, err := w.api().create(map[string]any{"subject": who.Subject, "documents": []any{document("a", []byte("a"))}})
		if err != nil {
			t.Fatal(err)
		}
		desk := w.browser()
		claim := w.scan(t, desk, second, must(desk.Open(w.ctx, o.StartURL))(t))
		w.refused(t, "order_wrong_citizen", func() error { return attempted(second.Approve(w.ctx, claim)) })
		if _, err := first.Approve(w.ctx, claim); err != nil {
			t.Fatal(err)
		}
	})
}

// other registers a second agency with a client of its own.
func (w *world) other(t testing.TB) (id, secret string) {
	t.Helper()
	db := postgres.New(w.pool)
	key := make([]byte, 32)
	agencies, err := agency.New(agency.Config{Store: db.Agency(), SecretKey: key, PairwiseSecret: key, AllowLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	a, err := agencies.SaveAgency(w.ctx, agency.Agency{Code: "other", Name: agency.Names{ZhHant: "另一機關", En: "Another Agency"}})
	if err != nil {
		t.Fatal(err)
	}
	// The secret's MAC is under the server's own key: borrow the demonstration client's secret.
	var mac []byte
	if err := w.pool.QueryRow(w.ctx, "SELECT secret_mac FROM clients WHERE client_id = 'demo-agency'").Scan(&mac); err != nil {
		t.Fatal(err)
	}
	_, err = agencies.SaveClient(w.ctx, agency.Client{ClientID: "other-client", Agency: a, Name: agency.Names{ZhHant: "另一系統", En: "Another system"},
		Host: "other.example", AuthMethod: agency.AuthClientSecretBasic, SecretMAC: mac, SectorIdentifier: "other.example",
		RedirectURIs: []string{"http://localhost:10/callback"}, ReturnURIs: []string{"http://localhost:10/signed"},
		GrantTypes: []string{agency.GrantAuthorizationCode, agency.GrantClientCredentials}, Scopes: []string{"openid", "profile", "sign"}})
	if err != nil {
		t.Fatal(err)
	}
	return "other-client", w.config.Secret
}

// Another client gets nothing of an agency's orders, codes and subjects.
func TestAnotherClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)
	id, secret := w.other(t)
	mine, theirs := w.api(), w.apiOf(id, secret)
	o, err := mine.create(map[string]any{"documents": []any{document("a", []byte("a"))}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.create(map[string]any{"documents": []any{document("a", []byte("a"))}}); err != nil { // their token is good
		t.Fatal(err)
	}
	t.Run("orders", func(t *testing.T) {
		base := "/api/v1/sign-orders/" + o.Order
		for _, route := range [][2]string{{"GET", base}, {"GET", base + "?wait=20"}, {"POST", base + "/cancel"},
			{"GET", base + "/documents/0/signature"}, {"GET", base + "/evidence"}} {
			w.refused(t, "order_not_found", func() error { return theirs.call(route[0], route[1], nil, nil) })
		}
		if again, err := mine.read(o.Order, 0); err != nil || again.State != "created" {
			t.Fatalf("%+v %v", again, err)
		}
	})
	t.Run("return address", func(t *testing.T) {
		w.refused(t, "return_uri_mismatch", func() error {
			return attempted(theirs.create(map[string]any{"return_uri": site + "/signed", "documents": []any{document("a", []byte("a"))}}))
		})
		for _, uri := range []string{site + "/signed/", site + "/signed?x=1", strings.ToUpper(site) + "/signed", "http://localhost:9@evil.example/signed",
			"https://evil.example/signed", "javascript:alert(1)", "//evil.example/signed", site + "/signed#x"} {
			w.refused(t, "return_uri_mismatch", func() error {
				return attempted(mine.create(map[string]any{"return_uri": uri, "documents": []any{document("a", []byte("a"))}}))
			})
		}
	})
	t.Run("code", func(t *testing.T) {
		a := w.relyingParty("profile").begin()
		desk := w.browser()
		code, err := a.code(must(desk.Return(w.ctx, w.approved(t, a, desk, phone)))(t))
		if err != nil {
			t.Fatal(err)
		}
		b := w.relyingPartyOf(id, secret, "http://localhost:10/callback", "profile").begin()
		b.verifier = a.verifier
		w.refused(t, "oidc_code_client", func() error { return attempted(b.redeem(code)) })
		// The right client with what belongs to another login of its own: code injection.
		victim := w.relyingParty("profile").begin()
		w.refused(t, "oidc_code_verifier", func() error { return attempted(victim.redeem(code)) })
		a.rp.config.RedirectURL = site + "/other"
		w.refused(t, "oidc_code_redirect_uri", func() error { return attempted(a.redeem(code)) })
		a.rp.config.RedirectURL = site + "/callback"
		wrong := w.relyingPartyOf("demo-agency", secret+"x", site+"/callback").begin()
		wrong.verifier = a.verifier
		w.refused(t, "oidc_client_auth", func() error { return attempted(wrong.redeem(code)) }, "client_secret_wrong")
		unknown := w.relyingPartyOf("nobody", secret, site+"/callback").begin()
		w.refused(t, "oidc_client_auth", func() error { return attempted(unknown.redeem(code)) }, "client_unknown")
		who, err := a.redeem(code) // none of that has used the code up
		if err != nil {
			t.Fatal(err)
		}
		desk = w.browser()
		elsewhere, err := b.finish(must(desk.Return(w.ctx, w.approved(t, b, desk, phone)))(t))
		if err == nil {
			t.Fatalf("a verifier of another login passed: %v", elsewhere)
		}
		c := w.relyingPartyOf(id, secret, "http://localhost:10/callback", "profile").begin()
		desk = w.browser()
		if elsewhere, err = c.finish(must(desk.Return(w.ctx, w.approved(t, c, desk, phone)))(t)); err != nil {
			t.Fatal(err)
		}
		if elsewhere.Subject == who.Subject {
			t.Error("two sectors know a citizen by one subject")
		}
		w.refused(t, "subject_invalid", func() error { // in 63 of 64; else the order is for nobody
			return attempted(theirs.create(map[string]any{"subject": who.Subject + "x", "documents": []any{document("a", []byte("a"))}}))
		})
	})
	t.Run("tokens", func(t *testing.T) { wrongTokens(t, w, phone, o.Order) })
	t.Run("suspended", func(t *testing.T) {
		w.exec(t, "UPDATE clients SET state = 'suspended' WHERE client_id = 'other-client'")
		time.Sleep(5500 * time.Millisecond) // the cache's life
		w.refused(t, "client_suspended", func() error {
			return attempted(theirs.create(map[string]any{"documents": []any{document("a", []byte("a"))}}))
		})
		if _, err := mine.read(o.Order, 0); err != nil {
			t.Fatal(err)
		}
	})
}

// wrongTokens brings tokens of another kind or scope to each door.
func wrongTokens(t *testing.T, w *world, phone *softphone.Phone, order string) {
	a := w.relyingParty("profile").begin()
	desk := w.browser()
	who, err := a.finish(must(desk.Return(w.ctx, w.approved(t, a, desk, phone)))(t))
	if err != nil {
		t.Fatal(err)
	}
	idToken, _ := who.token.Extra("id_token").(string)
	get := func(path, authorization string) error {
		req, err := jsonRequest(w.ctx, http.MethodGet, w.origin+path, nil)
		if err != nil {
			return err
		}
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		return answer(http.DefaultClient, req, nil)
	}
	rest := "/api/v1/sign-orders/" + order
	w.refused(t, "api_token_missing", func() error { return get(rest, "") })
	w.refused(t, "api_token_missing", func() error { return get(rest, "Basic "+who.token.AccessToken) })
	for name, token := range map[string]string{"login's access token": who.token.AccessToken, "ID token": idToken, "nonsense": "x",
		"unsigned": unsigned(t, idToken), "changed": idToken[:len(idToken)-4] + "AAAA"} {
		t.Run(name, func(t *testing.T) {
			w.refused(t, "oidc_token_unknown", func() error { return get(rest, "Bearer "+token) })
		})
	}
	// A token in the address is no token: it would end in logs.
	w.refused(t, "api_token_missing", func() error { return get(rest+"?access_token="+who.token.AccessToken, "") })

	token, err := tokenOf(w)
	if err != nil {
		t.Fatal(err)
	}
	if err := get(rest, "Bearer "+token); err != nil { // positive control
		t.Fatal(err)
	}
	if err := get("/oauth2/userinfo", "Bearer "+token); err == nil {
		t.Error("an API token reads who a citizen is")
	}
	if err := get("/oauth2/userinfo", "Bearer "+who.token.AccessToken); err != nil {
		t.Fatal(err)
	}
}

// tokenOf gets an API token of the demonstration client.
func tokenOf(w *world) (string, error) { return tokenFor(w, "demo-agency", w.config.Secret) }

// unsigned rewrites a JWS with alg none and the type of an access token.
func unsigned(t testing.TB, jws string) string {
	t.Helper()
	parts := strings.Split(jws, ".")
	if len(parts) != 3 {
		t.Fatalf("no JWS: %d parts", len(parts))
	}
	header, _ := json.Marshal(map[string]string{"alg": "none", "typ": "at+jwt"})
	return b64(header) + "." + parts[1] + "."
}

// A cookie that is carried to another browser opens nothing, and the session
// of a phone that was suspended is over.
func TestSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)
	desk := w.browser()
	if err := desk.LogIn(w.ctx, phone); err != nil {
		t.Fatal(err)
	}
	here := desk.Phone(phone.Keys())
	if err := here.OpenSession(w.ctx); err != nil {
		t.Fatal(err)
	}
	var list struct{ Items []map[string]any }
	files := []softphone.Document{{Name: "a", MediaType: "text/plain", Size: 1, DigestAlgorithm: "SHA-256", Digest: digestOf([]byte("a"))}}
	if err := here.Read(w.ctx, "history", &list); err != nil {
		t.Fatal(err)
	}
	id := must(desk.SignFiles(w.ctx, files))(t)
	if _, err := phone.Approve(w.ctx, w.scan(t, desk, phone, id)); err != nil {
		t.Fatal(err)
	}
	must(desk.WaitFor(w.ctx, id, "completed"))(t)

	t.Run("stolen cookie", func(t *testing.T) {
		u := must(url.Parse(w.origin))(t)
		var names []string
		for _, c := range desk.Client().Jar.Cookies(u) {
			if c.Name == "sealgate_browser" {
				continue // with this one too it would be the whole browser
			}
			names = append(names, c.Name)
		}
		if len(names) < 2 {
			t.Fatalf("cookies %v", names)
		}
		thief := w.browser()
		must(thief.Get(w.ctx, "/enrol"))(t)
		for _, c := range desk.Client().Jar.Cookies(u) {
			if c.Name != "sealgate_browser" {
				thief.Client().Jar.SetCookies(u, []*http.Cookie{c})
			}
		}
		if err := thief.Phone(phone.Keys()).Read(w.ctx, "history", &list); refusalCode(err) != "session_required" {
			t.Errorf("history: %v", err)
		}
		if _, err := thief.SignFiles(w.ctx, files); refusalCode(err) != "session_required" {
			t.Errorf("sign: %v", err)
		}
		// The desktop's session under the phone's name.
		jar, _ := cookiejar.New(nil)
		for _, c := range desk.Client().Jar.Cookies(u) {
			if c.Name == "sealgate_desktop" {
				c.Name = "sealgate_phone"
			} else if c.Name == "sealgate_phone" {
				continue
			}
			jar.SetCookies(u, []*http.Cookie{c})
		}
		if err := w.call(&http.Client{Jar: jar}, "GET", "/api/device/v1/history", nil); refusalCode(err) != "session_required" {
			t.Errorf("a desktop's session as a phone's: %v", err)
		}
	})
	t.Run("suspended device", func(t *testing.T) {
		w.exec(t, "UPDATE devices SET state = 'suspended'")
		defer w.exec(t, "UPDATE devices SET state = 'active'")
		if err := here.Read(w.ctx, "history", &list); refusalCode(err) != "session_required" {
			t.Errorf("history: %v", err)
		}
		if err := here.Read(w.ctx, "devices", &list); refusalCode(err) != "session_required" {
			t.Errorf("devices: %v", err)
		}
		if _, err := desk.SignFiles(w.ctx, files); refusalCode(err) != "session_required" {
			t.Errorf("a new sign order: %v", err)
		}
		if page := must(desk.Get(w.ctx, "/sign"))(t); page.Status != http.StatusSeeOther {
			t.Errorf("the signing page: %d", page.Status)
		}
		// A signature of an order that this very browser started stays its own;
		// one that only the session opens does not.
		w.exec(t, "UPDATE orders SET browser_hash = sha256('another') WHERE kind = 'sign'")
		if err := w.call(desk.Client(), "GET", fmt.Sprintf("/o/%s/documents/0.p7s", id), nil); err == nil {
			t.Error("an old signature is still given out")
		}
	})
	t.Run("frozen citizen", func(t *testing.T) {
		w.exec(t, "UPDATE citizens SET state = 'frozen'")
		defer w.exec(t, "UPDATE citizens SET state = 'active'")
		if err := here.Read(w.ctx, "history", &list); refusalCode(err) != "session_required" {
			t.Errorf("history: %v", err)
		}
		if _, err := desk.SignFiles(w.ctx, files); refusalCode(err) != "session_required" {
			t.Errorf("a new sign order: %v", err)
		}
	})
	t.Run("active again", func(t *testing.T) {
		if err := here.Read(w.ctx, "history", &list); err != nil {
			t.Fatal(err)
		}
		if err := w.call(desk.Client(), "GET", fmt.Sprintf("/o/%s/documents/0.p7s", id), nil); err != nil {
			t.Fatal(err)
		}
		must(desk.SignFiles(w.ctx, files))(t)
	})
}
