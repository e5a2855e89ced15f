package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/order"
)

// raw sends a request as it is and gives status, header and body.
func (w *world) raw(t testing.TB, c *http.Client, method, path string, header http.Header, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(w.ctx, method, w.origin+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

// codeOf is the stable code of an answer, of whatever form.
func codeOf(body string) string {
	var p struct{ Code string }
	if json.Unmarshal([]byte(body), &p) == nil && p.Code != "" {
		return p.Code
	}
	if m := codeOnPage.FindStringSubmatch(body); m != nil {
		return m[1]
	}
	return ""
}

// Another site makes the victim's browser send every writing request there is,
// with all of its cookies: nothing happens.
func TestCrossSite(t *testing.T) {
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
	login := must(desk.Follow(w.ctx, w.relyingParty().begin().url))(t)
	claim := func() *softphone.Claim { return w.scan(t, desk, phone, login) }
	files := fmt.Sprintf(`{"documents":[{"name":"a","media_type":"text/plain","size":1,"digest_algorithm":"SHA-256","digest":%q}]}`, digestOf([]byte("a")))
	rest, err := w.api().create(map[string]any{"documents": []any{document("a", []byte("a"))}})
	if err != nil {
		t.Fatal(err)
	}
	token := rest.StartURL[strings.Index(rest.StartURL, "#")+1:]
	routes := []struct{ method, path, mediaType, body string }{
		{"POST", "/o/" + login + "/cancel", "", ""},
		{"POST", "/o/" + login + "/extend", "", ""},
		{"POST", "/o/" + login + "/freeze", "", ""},
		{"POST", "/o/" + login + "/code", "", ""},
		{"POST", "/o/" + login + "/check", "application/x-www-form-urlencoded", "digits=00"},
		{"POST", "/o/" + rest.Order + "/open", "application/json", `{"start_token":"` + token + `"}`},
		{"POST", "/sign/orders", "application/json", files},
		{"POST", "/session/logout", "", ""},
		{"POST", "/lang", "application/x-www-form-urlencoded", "lang=en"},
		{"POST", "/enrol/card", "application/json", `{"national_id":"A123456789","certificate":"MAA="}`},
		{"POST", "/api/device/v1/claims", "application/json", `{"order":"` + login + `","source":"same_device"}`},
		{"POST", "/api/device/v1/claims", "application/json", `{"order":"` + login + `","source":"hybrid"}`},
		{"POST", "/api/device/v1/sessions/options", "application/json", `{}`},
		{"POST", "/api/device/v1/sessions", "application/json", `{"challenge_token":"x","assertion":{}}`},
		{"DELETE", "/api/device/v1/sessions", "", ""},
		{"POST", "/api/v1/sign-orders", "application/json", files},
	}
	for name, headers := range map[string]http.Header{
		"another site":          {"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}},
		"another host of ours":  {"Sec-Fetch-Site": {"same-site"}, "Origin": {"https://other.localhost"}},
		"an old browser":        {"Origin": {"https://evil.example"}},
		"a page without origin": {"Sec-Fetch-Site": {"cross-site"}, "Origin": {"null"}},
		"another port":          {"Origin": {"http://localhost:1"}},
		"another scheme":        {"Origin": {strings.Replace(w.origin, "http:", "https:", 1)}, "Sec-Fetch-Site": {"cross-site"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := w.snapshot(t)
			for _, r := range routes {
				h := headers.Clone()
				if r.mediaType != "" {
					h.Set("Content-Type", r.mediaType)
				}
				res, body := w.raw(t, desk.Client(), r.method, r.path, h, r.body)
				if res.StatusCode != http.StatusForbidden || codeOf(body) != "cross_origin" || len(res.Header["Set-Cookie"]) > 0 {
					t.Errorf("%s %s: %d %s, cookies %v", r.method, r.path, res.StatusCode, codeOf(body), res.Header["Set-Cookie"])
				}
			}
			if changed := before.changed(w.snapshot(t)); len(changed) > 0 {
				t.Errorf("changed %v", changed)
			}
		})
	}
	t.Run("every writing route there is", func(t *testing.T) {
		// These are for programs, which send no cookie, or are meant to be posted to by agencies' pages.
		open := map[string]bool{"/oauth2/token": true, "/oauth2/introspect": true, "/oauth2/revoke": true, "/oauth2/userinfo": true,
			"/oauth2/authorize": true, "/oauth2/logout": true, "/pki/ocsp": true, "/pki/tsa": true}
		before, n := w.snapshot(t), 0
		err := chi.Walk(w.box.Server.Routes(), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
			route = strings.TrimSuffix(strings.ReplaceAll(route, "/*/", "/"), "/")
			if method == http.MethodGet || method == http.MethodHead || open[route] || strings.HasPrefix(route, "/assets") {
				return nil
			}
			path := ids.ReplaceAllString(strings.NewReplacer("{oid}", login, "{order}", login, "{device}", "x", "{id}", "x").Replace(route), login)
			h := http.Header{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://evil.example"}, "Content-Type": {"application/json"}}
			res, body := w.raw(t, desk.Client(), method, path, h, "{}")
			if n++; res.StatusCode != http.StatusForbidden || codeOf(body) != "cross_origin" {
				t.Errorf("%s %s: %d %s", method, path, res.StatusCode, codeOf(body))
			}
			return nil
		})
		if err != nil || n < 25 {
			t.Fatalf("%d routes, %v", n, err)
		}
		if changed := before.changed(w.snapshot(t)); len(changed) > 0 {
			t.Errorf("changed %v", changed)
		}
	})
	t.Run("forms do not speak JSON", func(t *testing.T) { // what no header betrays, the media type does
		for _, r := range routes {
			if r.mediaType != "application/json" || strings.HasPrefix(r.path, "/api/v1/") {
				continue
			}
			for _, mediaType := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""} {
				h := http.Header{}
				if mediaType != "" {
					h.Set("Content-Type", mediaType)
				}
				if res, body := w.raw(t, desk.Client(), r.method, r.path, h, r.body); res.StatusCode != http.StatusUnsupportedMediaType {
					t.Errorf("%s as %q: %d %s", r.path, mediaType, res.StatusCode, body)
				}
			}
		}
	})
	t.Run("our own pages may", func(t *testing.T) { // positive control, last: it does act
		own := http.Header{"Sec-Fetch-Site": {"same-origin"}, "Origin": {w.origin}, "Content-Type": {"application/json"}}
		if _, err := phone.Approve(w.ctx, claim()); err != nil { // nothing above has touched the order
			t.Fatal(err)
		}
		if res, body := w.raw(t, desk.Client(), "POST", "/sign/orders", own, files); res.StatusCode != http.StatusCreated {
			t.Errorf("%d %s", res.StatusCode, body)
		}
		if res, _ := w.raw(t, desk.Client(), "POST", "/session/logout", own, ""); res.StatusCode != http.StatusSeeOther || len(res.Header["Set-Cookie"]) == 0 {
			t.Errorf("logging out: %d", res.StatusCode)
		}
	})
}

// Cookies are for our own host's requests alone, and no script reads them.
func TestCookies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)
	desk := w.browser()
	id := must(desk.Follow(w.ctx, "/session/login"))(t)
	if _, err := phone.Approve(w.ctx, w.scan(t, desk, phone, id)); err != nil {
		t.Fatal(err)
	}
	page := must(desk.Get(w.ctx, "/o/"+id+"/return"))(t)
	first := must(w.browser().Get(w.ctx, "/session/login"))(t)
	lang := must(w.browser().Get(w.ctx, "/?lang=en"))(t)
	seen := 0
	for _, p := range []*softphone.Page{page, first, lang} {
		for _, c := range p.Header["Set-Cookie"] {
			seen++
			for _, want := range []string{"HttpOnly", "SameSite=Lax", "Path=/"} {
				if !strings.Contains(c, want) {
					t.Errorf("%s is missing in %s", want, strings.SplitN(c, "=", 2)[0])
				}
			}
			if strings.Contains(c, "Domain=") {
				t.Errorf("a cookie for other hosts too: %s", c)
			}
		}
	}
	if seen != 3 {
		t.Errorf("%d cookies", seen)
	}
}

// Reading changes nothing, on any route: link previews, reloads and crawlers
// open pages too. The three that must make or finish something are named.
func TestReadingChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)
	desk := w.browser()
	if err := desk.LogIn(w.ctx, phone); err != nil {
		t.Fatal(err)
	}
	if err := desk.Phone(phone.Keys()).OpenSession(w.ctx); err != nil {
		t.Fatal(err)
	}
	waiting := must(desk.Follow(w.ctx, w.relyingParty().begin().url))(t)
	frame := must(url.Parse(must(desk.Frame(w.ctx, waiting))(t)))(t)
	approved := must(desk.Follow(w.ctx, w.relyingParty().begin().url))(t)
	if _, err := phone.Approve(w.ctx, w.scan(t, desk, phone, approved)); err != nil {
		t.Fatal(err)
	}
	writing := map[string]bool{"/oauth2/authorize": true, "/session/login": true, "/oauth2/logout": true}
	before, n := w.snapshot(t), 0
	err := chi.Walk(w.box.Server.Routes(), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		route = strings.TrimSuffix(strings.ReplaceAll(route, "/*/", "/"), "/")
		if method != http.MethodGet && method != http.MethodHead || writing[route] || strings.HasSuffix(route, "/events") {
			return nil
		}
		for _, id := range []string{waiting, approved} {
			path := strings.NewReplacer("{oid}", id, "{order}", id, "{n}", "0", "{document}", "0", "{frame}", strings.TrimPrefix(frame.Path, "/q/"), "*", "x").Replace(route)
			if path == "" {
				path = "/"
			}
			res, body := w.raw(t, desk.Client(), method, path, http.Header{"Accept": {"text/html"}}, "")
			if res.StatusCode >= 500 && !strings.Contains(path, "/pki/") {
				t.Errorf("%s %s: %d %s", method, path, res.StatusCode, body)
			}
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 60 {
		t.Errorf("only %d addresses read", n)
	}
	if changed := before.changed(w.snapshot(t)); len(changed) > 0 {
		t.Errorf("reading changed %v", changed)
	}
	// The order still waits, and the approved one still goes back with its code.
	if st := must(desk.Order(w.ctx, waiting))(t); st.State != "created" {
		t.Errorf("the waiting order is %s", st.State)
	}
	if back := must(desk.Return(w.ctx, approved))(t); !strings.Contains(back, "code=") {
		t.Errorf("sent back to %s", back)
	}
}

// Whatever host a request names, no answer leads there.
func TestHostHeader(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	desk := w.browser()
	const evil = "evil.example"
	for _, path := range []string{"/", "/help", "/enrol", "/session/login", "/.well-known/openid-configuration", "/nothing", "/api/v1/nothing",
		"/o/AZ8AAAAAcAAAAAAAAAAAAA", strings.TrimPrefix(w.relyingParty().begin().url, w.origin), "/manifest.webmanifest", "/app", "/sign"} {
		for name, h := range map[string]http.Header{
			"Host":      {"Host": {evil}},
			"forwarded": {"X-Forwarded-Host": {evil}, "X-Forwarded-Proto": {"https"}, "Forwarded": {"host=" + evil}, "X-Original-Host": {evil}, "X-Rewrite-Url": {"//" + evil + "/"}},
		} {
			for _, accept := range []string{"text/html", "application/json"} {
				h := h.Clone()
				h.Set("Accept", accept)
				res, body := w.raw(t, desk.Client(), "GET", path, h, "")
				if strings.Contains(body, evil) || strings.Contains(fmt.Sprint(res.Header), evil) {
					t.Errorf("%s by %s: the answer names %s", path, name, evil)
				}
			}
		}
	}
	// A path that looks like another host does not become a link to it.
	for _, path := range []string{"//" + evil + "/", "//" + evil, "/\\" + evil + "/", "/%2f" + evil + "/", "///" + evil + "/x"} {
		req, err := http.NewRequestWithContext(w.ctx, "GET", w.origin+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = path
		req.Header.Set("Accept", "text/html")
		res, err := desk.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		for _, bad := range []string{`"//` + evil, `"/\` + evil, `"///` + evil, `"http://` + evil, `"https://` + evil} {
			if bytes.Contains(body, []byte(bad)) {
				t.Errorf("%s: the page links to %s", path, bad)
			}
		}
		if to := res.Header.Get("Location"); strings.HasPrefix(to, "//") || strings.Contains(to, "://"+evil) {
			t.Errorf("%s: sent to %s", path, to)
		}
	}
}

// The address of a caller is the peer's, whatever it writes, unless the peer is
// a proxy we trust; and then it is what that proxy saw.
func TestForwardedFor(t *testing.T) {
	t.Parallel()
	spoof := http.Header{"X-Forwarded-For": {"198.51.100.7, 203.0.113.9"}, "X-Real-Ip": {"198.51.100.7"}, "Forwarded": {"for=198.51.100.7"}, "True-Client-Ip": {"198.51.100.7"}}
	address := func(w *world) string {
		res, _ := w.raw(t, w.browser().Client(), "GET", "/session/login", spoof, "")
		id := must(order.ParseID(strings.TrimPrefix(res.Header.Get("Location"), "/o/")))(t)
		var ip, started string
		err := w.pool.QueryRow(w.ctx, `SELECT host(a.ip), o.started->>'ip' FROM audit_entries a JOIN orders o ON o.id = a.order_id
			WHERE a.order_id = $1 AND act = 'order.created'`, id.UUID()).Scan(&ip, &started)
		if err != nil || ip != started {
			t.Fatalf("%s %s %v", ip, started, err)
		}
		return ip
	}
	if ip := address(newWorld(t, nil)); ip != "127.0.0.1" && ip != "::1" {
		t.Errorf("an untrusted peer wrote itself %s", ip)
	}
	if ip := address(newWorld(t, map[string]string{"trusted_proxies": "127.0.0.0/8,::1/128"})); ip != "203.0.113.9" {
		t.Errorf("behind a trusted proxy the caller is %s", ip)
	}
}

// Nobody is sent to another site: not by our own login, not by an order's end.
func TestOpenRedirect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)
	for _, target := range []string{"//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil.example", "/%5cevil.example", "/.//evil.example",
		"/..//evil.example", "/\t/evil.example", "/%09/evil.example", "javascript:alert(1)", "/sign/../..//evil.example", "/%2f/evil.example", "/sign?x=//evil.example",
		"/\r\nLocation: https://evil.example", "http:evil.example", "///evil.example", "/@evil.example", "/sign", strings.Repeat("/a", 200)} {
		t.Run(target, func(t *testing.T) {
			desk := w.browser()
			id := must(desk.Follow(w.ctx, "/session/login?return="+url.QueryEscape(target)))(t)
			if _, err := phone.Approve(w.ctx, w.scan(t, desk, phone, id)); err != nil {
				t.Fatal(err)
			}
			res, _ := w.raw(t, desk.Client(), "GET", "/o/"+id+"/return", nil, "")
			to := res.Header.Get("Location")
			if res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t") {
				t.Fatalf("%d to %q", res.StatusCode, to)
			}
			if u := must(must(url.Parse(w.origin))(t).Parse(to))(t); u.Scheme+"://"+u.Host != w.origin {
				t.Errorf("sent to %s", u)
			}
			if target == "/sign" && to != "/sign" {
				t.Errorf("the honest one is sent to %s", to)
			}
		})
	}
	t.Run("redirect_uri", func(t *testing.T) {
		for _, uri := range []string{"https://evil.example/callback", site + "/callback/", site + "/callback?x", site + "/callback#x", site + "/callback/../x", strings.ToUpper(site) + "/callback",
			"http://localhost:9@evil.example/callback", "http://localhost:90/callback", "http://localhost/callback", "", "javascript:alert(1)", site + "/callback%00", site + "//callback"} {
			a := w.relyingParty().begin()
			u := must(url.Parse(a.url))(t)
			q := u.Query()
			q.Set("redirect_uri", uri)
			u.RawQuery = q.Encode()
			w.refused(t, "redirect_uri_mismatch", func() error {
				res, body := w.raw(t, w.browser().Client(), "GET", "/oauth2/authorize?"+u.RawQuery, http.Header{"Accept": {"text/html"}}, "")
				if res.Header.Get("Location") != "" {
					t.Errorf("%s: sent to %s", uri, res.Header.Get("Location"))
				}
				return &softphone.Problem{Code: codeOf(body)}
			})
		}
		must(w.browser().Follow(w.ctx, w.relyingParty().begin().url))(t)
	})
}

// What an authorization request may not be: each parameter missing, twice,
// hostile. None makes an order, none breaks us, none is sent to strangers.
func TestAuthorizeParameters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	good := must(url.Parse(w.relyingParty("profile").begin().url))(t).Query()
	orders := func() int { return w.count(t, "SELECT count(*) FROM orders") }
	send := func(q string) (*http.Response, string) {
		return w.raw(t, w.browser().Client(), "GET", "/oauth2/authorize?"+q, http.Header{"Accept": {"text/html"}}, "")
	}
	if res, _ := send(good.Encode()); res.StatusCode != http.StatusSeeOther || orders() != 1 {
		t.Fatalf("the honest request: %d", res.StatusCode)
	}
	hostile := []string{"", "\x00", "\ufffd", "a\x00b", "\r\nSet-Cookie: x=y", "<script>alert(1)</script>", strings.Repeat("A", 3000), "\xff\xfe", "' OR 1=1 --", "плохо"}
	for _, name := range []string{"client_id", "redirect_uri", "response_type", "scope", "state", "nonce", "code_challenge", "code_challenge_method",
		"acr_values", "ui_locales", "prompt", "max_age", "response_mode", "request", "request_uri", "claims", "login_hint", "display"} {
		for _, value := range hostile {
			before := orders()
			q := url.Values{}
			for k, v := range good {
				q[k] = v
			}
			q.Set(name, value)
			res, body := send(q.Encode())
			if res.StatusCode >= 500 {
				t.Errorf("%s=%q: %d %s", name, value, res.StatusCode, codeOf(body))
			}
			to := res.Header.Get("Location")
			if to != "" && !strings.HasPrefix(to, site+"/callback?") && !strings.HasPrefix(to, "/o/") {
				t.Errorf("%s=%q: sent to %q", name, value, to)
			}
			if len(res.Header["Set-Cookie"]) > 1 || strings.Contains(body, "<script>alert") {
				t.Errorf("%s=%q came through: %v", name, value, res.Header["Set-Cookie"])
			}
			if (orders() == before+1) != strings.HasPrefix(to, "/o/") {
				t.Errorf("%s=%q: sent to %q, %d orders more", name, value, to, orders()-before)
			}
		}
		if good.Has(name) {
			before := orders()
			send(good.Encode() + "&" + url.Values{name: {good.Get(name)}}.Encode())
			if orders() != before {
				t.Errorf("%s twice made an order", name)
			}
		}
	}
	for _, c := range []struct{ name, value string }{{"code_challenge_method", "plain"}, {"code_challenge_method", ""}, {"code_challenge", ""}, {"response_type", "token"},
		{"response_type", "code id_token"}, {"prompt", "none"}, {"scope", "profile"}, {"scope", "openid sign admin"}, {"acr_values", "urn:other"}} {
		q := url.Values{}
		for k, v := range good {
			q[k] = v
		}
		q.Set(c.name, c.value)
		before := orders()
		res, _ := send(q.Encode())
		to := must(url.Parse(res.Header.Get("Location")))(t)
		if to.Query().Get("error") == "" || to.Query().Get("state") != good.Get("state") || to.Query().Get("iss") != w.origin || orders() != before {
			t.Errorf("%s=%q: sent to %s", c.name, c.value, to)
		}
	}
}
