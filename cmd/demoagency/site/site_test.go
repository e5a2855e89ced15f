package site

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T, issuer string) *httptest.Server {
	t.Helper()
	s, err := New(Config{Addr: "localhost:8090", Issuer: issuer, ClientID: "demo-agency", ClientSecret: "x"})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return server
}

// Every text exists in both languages, and every text that the pages use exists.
func TestTextsAreComplete(t *testing.T) {
	p, err := loadPages(files)
	if err != nil {
		t.Fatal(err)
	}
	for key := range p.texts[zhHant] {
		if p.texts[en][key] == "" {
			t.Errorf("%q has no English", key)
		}
	}
	if len(p.texts[en]) != len(p.texts[zhHant]) || len(p.texts[en]) < 80 {
		t.Errorf("%d and %d texts", len(p.texts[zhHant]), len(p.texts[en]))
	}
	use := regexp.MustCompile(`\.T "([^"]+)"`)
	err = fs.WalkDir(files, "templates", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(files, path)
		for _, m := range use.FindAllStringSubmatch(string(raw), -1) {
			if p.texts[zhHant][m[1]] == "" {
				t.Errorf("%s uses %q, which has no text", path, m[1])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPages(t *testing.T) {
	server := open(t, "http://localhost:1")
	for path, want := range map[string]int{"/": 200, "/tax": 200, "/documents": 200, "/documents/0": 200, "/documents/9": 404, "/clock-in": 200,
		"/transfer": 200, "/signed": 404, "/signed/0/signature": 404, "/nowhere": 404, "/static/site.css": 200, "/callback?code=x&state=y": 400} {
		for _, l := range []string{"zh-Hant", "en"} {
			address := server.URL + path + "?lang=" + l
			if strings.Contains(path, "?") {
				address = server.URL + path + "&lang=" + l
			}
			res, err := http.Get(address)
			if err != nil {
				t.Fatal(err)
			}
			var body strings.Builder
			_ = res.Write(&body)
			res.Body.Close()
			if res.StatusCode != want {
				t.Errorf("%s: %d, want %d", address, res.StatusCode, want)
			}
			if strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") && !strings.Contains(body.String(), `<html lang="`+l+`"`) {
				t.Errorf("%s is not in %s", address, l)
			}
			if !strings.Contains(res.Header.Get("Content-Security-Policy"), "default-src 'none'") {
				t.Errorf("%s has no policy", address)
			}
		}
	}
}

func TestOtherSitesCannotPost(t *testing.T) {
	server := open(t, "http://localhost:1")
	req, _ := http.NewRequest(http.MethodPost, server.URL+"/logout", nil)
	req.Header.Set("Origin", "https://evil.example")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusForbidden {
		t.Errorf("%v %v", res.StatusCode, err)
	}
	res.Body.Close()
}

func TestPrepare(t *testing.T) {
	now := time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)
	good := map[string]url.Values{
		"documents": {"document0": {"on"}, "document1": {"on"}}, "clock-in": {"kind": {"out"}},
		"transfer": {"account": {"004-123456789012"}, "amount": {"12000"}, "note": {"房租"}},
	}
	for what, form := range good {
		for _, l := range []lang{zhHant, en} {
			text, files, err := prepare(what, form, l, now)
			if err != nil || text == "" || len(files) == 0 || len(files[0].Content) == 0 {
				t.Errorf("%s %s: %q %v", what, l, text, err)
			}
		}
	}
	if text, _, _ := prepare("transfer", good["transfer"], zhHant, now); text != "轉帳新臺幣 12,000 元至 004-123456789012" {
		t.Errorf("%q", text)
	}
	for name, bad := range map[string]struct {
		what string
		form url.Values
	}{
		"nothing chosen": {"documents", url.Values{}}, "kind": {"clock-in", url.Values{"kind": {"x"}}}, "what": {"x", url.Values{}},
		"account":     {"transfer", url.Values{"account": {"1"}, "amount": {"1"}}},
		"amount zero": {"transfer", url.Values{"account": {"004-123456789012"}, "amount": {"0"}}},
		"note":        {"transfer", url.Values{"account": {"004-123456789012"}, "amount": {"1"}, "note": {"a\u202eb"}}},
	} {
		if _, _, err := prepare(bad.what, bad.form, zhHant, now); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The REST side against a stand-in that answers as the API document says.
func TestSignThroughTheAPI(t *testing.T) {
	var got apiSignOrder
	var stand *httptest.Server
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": stand.URL, "authorization_endpoint": stand.URL + "/a",
			"token_endpoint": stand.URL + "/t", "jwks_uri": stand.URL + "/j", "id_token_signing_alg_values_supported": []string{"ES256"}})
	})
	mux.HandleFunc("POST /t", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token":"the-token","token_type":"Bearer","expires_in":600}`))
	})
	mux.HandleFunc("POST /api/v1/sign-orders", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer the-token" {
			w.WriteHeader(401)
			return
		}
		_ = json.NewDecoder(r.Body).Decode(&got)
		w.WriteHeader(201)
		_ = json.NewEncoder(w).Encode(map[string]any{"order": "abc", "state": "created", "start_url": stand.URL + "/start/abc#token"})
	})
	mux.HandleFunc("GET /api/v1/sign-orders/abc", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"order":"abc","state":"completed","documents":[{"index":0,"name":"x","state":"signed"},{"index":1,"name":"y","state":"left_out"}]}`))
	})
	mux.HandleFunc("GET /api/v1/sign-orders/abc/documents/0/signature", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("p7s"))
	})
	stand = httptest.NewServer(mux)
	defer stand.Close()
	server := open(t, stand.URL)
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := browser.PostForm(server.URL+"/sign/documents", url.Values{"document0": {"on"}, "document1": {"on"}})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 303 || res.Header.Get("Location") != stand.URL+"/start/abc#token" {
		t.Fatalf("%d %s", res.StatusCode, res.Header.Get("Location"))
	}
	if len(got.Documents) != 2 || got.Documents[0].DigestAlgorithm != "SHA-256" || len(got.Documents[0].Digest) != 43 || got.ReturnURI != "http://localhost:8090/signed" {
		t.Errorf("order %+v", got)
	}
	for path, want := range map[string]string{"/signed?lang=en": "not signed (you removed it)", "/signed/0/signature": "p7s"} {
		res, err := browser.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		var body strings.Builder
		_ = res.Write(&body)
		res.Body.Close()
		if res.StatusCode != 200 || !strings.Contains(body.String(), want) {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}
