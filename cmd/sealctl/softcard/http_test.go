package softcard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Pages differ in how they write "+" and "%": see the quirks of the protocol.
func TestFormQuirks(t *testing.T) {
	_, base := component(t, nil)
	b, err := json.Marshal(request(nil))
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if !strings.Contains(text, "+") {
		t.Fatal("the example has no + any more")
	}
	for _, tc := range []struct{ name, body, code string }{
		{"form encoded", url.Values{"tbsPackage": {text}}.Encode(), "0x0"},
		{"only + replaced", "tbsPackage=" + strings.ReplaceAll(text, "+", "%2B"), "0x0"},
		{"tbs encoded", "tbsPackage=" + strings.Replace(text, request(nil)["tbs"].(string), url.QueryEscape(request(nil)["tbs"].(string)), 1), "0x0"},
		{"+ left as it is", "tbsPackage=" + text, "0x7600000C"},
	} {
		if m := post(t, base+"/sign", tc.body); code(m) != tc.code {
			t.Errorf("%s: %v", tc.name, m)
		}
	}
	m := post(t, base+"/sign", `tbsPackage={"func":"MakeSignature","tbs":"100%25 %zz","pin":"`+pin+`"}`)
	if code(m) != "0x0" {
		t.Errorf("a lone %%: %v", m)
	}
}

func TestInsert(t *testing.T) {
	_, base := component(t, nil)
	for _, tc := range []struct {
		query, info, sign string
		slots             int
	}{
		{"card=2", "0x0", "0x0", 1},
		{"card=none", "0x76000006", "0x76000006", 1},
		{"card=no-reader", "0x76100003", "0x76100003", 0},
		{"card=cancel", "0x76000999", "0x76000999", 0},
		{"card=all", "0x0", "0x0", len(people)},
	} {
		get(t, base+"/insert?"+tc.query)
		info := get(t, base+"/pkcs11info?withcert=true")
		if code(info) != tc.info || len(info["slots"].([]any)) != tc.slots {
			t.Errorf("%s: pkcs11info %v", tc.query, info)
		}
		if m := sign(t, base, "", request(nil)); code(m) != tc.sign {
			t.Errorf("%s: sign %v", tc.query, m)
		}
	}
	get(t, base+"/insert?card=none")
	if s := first(t, get(t, base+"/pkcs11info")["slots"]); s["token"] != nil {
		t.Errorf("an empty reader has a token: %v", s)
	}
	for _, bad := range []string{"0", "7", "x"} {
		res, err := http.Get(base + "/insert?card=" + bad)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("card=%s: %d", bad, res.StatusCode)
		}
	}
}

func TestVersions(t *testing.T) {
	_, base := component(t, nil)
	if v := get(t, base+"/pkcs11info")["serverVersion"]; v != Version {
		t.Errorf("version %v", v)
	}
	for _, minimum := range []string{"1.3.4.103328", "1.3.4.13", "1.3.4.3"} {
		if less(Version, minimum) || !less(OldVersion, minimum) {
			t.Errorf("%s, %s against %s", OldVersion, Version, minimum)
		}
	}
	get(t, base+"/insert?version=old")
	if v := get(t, base+"/pkcs11info")["serverVersion"]; v != OldVersion {
		t.Errorf("version %v", v)
	}
	if _, base := component(t, func(c *Config) { c.OldVersion = true }); get(t, base+"/pkcs11info")["serverVersion"] != OldVersion {
		t.Error("OldVersion has no effect")
	}
}

// less compares as pages do: numbers between dots.
func less(a, b string) bool {
	var x, y [4]int
	_, _ = fmt.Sscanf(a, "%d.%d.%d.%d", &x[0], &x[1], &x[2], &x[3])
	_, _ = fmt.Sscanf(b, "%d.%d.%d.%d", &y[0], &y[1], &y[2], &y[3])
	return slices.Compare(x[:], y[:]) < 0
}

func TestTrustedSites(t *testing.T) {
	c, base := component(t, func(c *Config) { c.TrustedOrigins = []string{"https://id.example.gov.tw", "localhost"} })
	ask := func(origin string) (string, string) {
		q := "?origin=" + url.QueryEscape(origin)
		return code(get(t, base+"/pkcs11info"+q)), code(sign(t, base, q, request(nil)))
	}
	for origin, want := range map[string]string{
		"https://id.example.gov.tw":      "0x0",
		"http://localhost:8080":          "0x0",
		"http://id.example.gov.tw":       "0x76000031",
		"https://id.example.gov.tw:8443": "0x76000031",
		"https://localhost.example.org":  "0x76000031",
		"https://evil.example.org":       "0x76000031",
		"null":                           "0x76000031",
	} {
		if a, b := ask(origin); a != want || b != want {
			t.Errorf("%s: %s %s, want %s", origin, a, b, want)
		}
	}
	// Trusting a site takes a click in a page of ours.
	res, err := http.PostForm(base+"/addDomain", url.Values{"domain": {"evil.example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if a, _ := ask("https://evil.example.org"); a != "0x0" {
		t.Errorf("after adding: %s", a)
	}
	again, err := openStore(filepath.Dir(c.store.path), c.hierarchy)
	if err != nil || !slices.Equal(again.sites(), []string{"evil.example.org"}) {
		t.Errorf("kept: %v, %v", again.sites(), err)
	}
}

func TestOtherSitesCannotReachIt(t *testing.T) {
	c, base := component(t, nil)
	b, _ := json.Marshal(request(nil))
	body := url.Values{"tbsPackage": {string(b)}}.Encode()
	try := func(method, path string, header map[string]string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, base+path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for k, v := range header {
			if k == "Host" {
				r.Host = v
			}
			r.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		c.Handler().ServeHTTP(w, r)
		return w
	}
	for name, header := range map[string]map[string]string{
		"fetch metadata": {"Sec-Fetch-Site": "cross-site"},
		"same site":      {"Sec-Fetch-Site": "same-site"},
		"origin":         {"Origin": "http://localhost:8080"},
	} {
		if w := try("POST", "/sign", header); !strings.Contains(w.Body.String(), fmt.Sprint(codeForbidden)) || strings.Contains(w.Body.String(), "signature") {
			t.Errorf("%s: sign %s", name, w.Body)
		}
		for _, path := range []string{"POST /addDomain?domain=evil.example.org", "GET /insert?card=2"} {
			method, path, _ := strings.Cut(path, " ")
			if w := try(method, path, header); w.Code != http.StatusForbidden {
				t.Errorf("%s: %s %s gives %d", name, method, path, w.Code)
			}
		}
	}
	if w := try("POST", "/sign", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": base}); !strings.Contains(w.Body.String(), "signature") {
		t.Errorf("control: %s", w.Body)
	}
	if w := try("GET", "/pkcs11info", map[string]string{"Host": "rebound.example.org"}); w.Code != http.StatusMisdirectedRequest {
		t.Errorf("another host name: %d", w.Code)
	}
}

func TestPages(t *testing.T) {
	_, base := component(t, nil)
	for path, want := range map[string]string{
		"/popupForm": "測試甲", "/ChtPopupForm": "測試甲", "/selfTest.htm": nationalID(people[3].id8),
		"/addDomain?domain=id.example.gov.tw": "id.example.gov.tw", "/": "測試卡",
	} {
		res, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 200 || !bytes.Contains(b, []byte(want)) || !bytes.Contains(b, []byte("TEST")) || !bytes.Contains(b, []byte("測試元件")) {
			t.Errorf("%s: %d %.80s", path, res.StatusCode, b)
		}
		if res.Header.Get("Content-Security-Policy") == "" || res.Header.Get("Cross-Origin-Opener-Policy") != "" {
			t.Errorf("%s: headers %v", path, res.Header)
		}
	}
	for _, bad := range []string{"", "a b", "https://x/path", "javascript://x", "<b>"} {
		res, err := http.Get(base + "/addDomain?domain=" + url.QueryEscape(bad))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("domain %q: %d", bad, res.StatusCode)
		}
	}
}

func TestImageCarriesTheInfo(t *testing.T) {
	_, base := component(t, nil)
	res, err := http.Get(base + "/p11Image.bmp")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	if len(b) != 54+3*2000 || string(b[:2]) != "BM" || b[18] != 0xD0 || b[19] != 0x07 || b[22] != 1 || b[28] != 24 {
		t.Fatalf("%d bytes, header % x", len(b), b[:54])
	}
	var text []byte
	for p := b[54:]; p[0] != 0; p = p[3:] { // p is B, G, R
		text = append(text, p[:3]...)
	}
	var m map[string]any
	if err := json.Unmarshal(bytes.TrimRight(text, "\x00"), &m); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if m["func"] != "pkcs11info" || len(m["slots"].([]any)) != len(people) {
		t.Errorf("%v", m)
	}
}

func TestBitmapCutsWhatIsTooLong(t *testing.T) {
	b := bitmap(bytes.Repeat([]byte("x"), 10000))
	if len(b) != 54+6000 || b[len(b)-3] != 0 || b[len(b)-4] != 'x' {
		t.Errorf("%d bytes, end % x", len(b), b[len(b)-4:])
	}
}
