package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func newServer(t *testing.T, h http.HandlerFunc) (hostPort, base string) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://"), srv.URL
}

func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGetAndPost(t *testing.T) {
	host, base := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "application/x-answer" {
			t.Errorf("Accept = %q", r.Header.Get("Accept"))
		}
		w.Write([]byte(r.Method + " " + r.Header.Get("Content-Type")))
	})
	c := newClient(t, Config{AllowHosts: []string{host}, AllowLoopback: true})
	got, err := c.Get(context.Background(), base+"/a", "application/x-answer", 100)
	if err != nil || string(got) != "GET " {
		t.Fatalf("Get = %q, %v", got, err)
	}
	got, err = c.Post(context.Background(), base+"/a", "text/x-question", []byte("?"), "application/x-answer", 100)
	if err != nil || string(got) != "POST text/x-question" {
		t.Fatalf("Post = %q, %v", got, err)
	}
}

func TestResolvedAddressIsJudgedAtDialTime(t *testing.T) {
	reached := false
	host, base := newServer(t, func(http.ResponseWriter, *http.Request) { reached = true })
	_, port, _ := net.SplitHostPort(host)
	// "localhost" is on the list by name, and resolves to a forbidden address.
	c := newClient(t, Config{AllowHosts: []string{host, "localhost:" + port}})
	for _, u := range []string{base, "http://localhost:" + port + "/"} {
		_, err := c.Get(context.Background(), u, "", 10)
		if !errors.Is(err, ErrForbidden) {
			t.Errorf("Get(%s) = %v, want egress_forbidden", u, err)
		}
	}
	if reached {
		t.Error("the server was reached")
	}
	ok := newClient(t, Config{AllowHosts: []string{host}, AllowLoopback: true})
	if _, err := ok.Get(context.Background(), base, "", 10); err != nil {
		t.Errorf("control: %v", err)
	}
}

func TestSizeIsBoundedWithAndWithoutContentLength(t *testing.T) {
	host, base := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/chunked" {
			w.(http.Flusher).Flush()
		}
		w.Write(make([]byte, 1000))
	})
	c := newClient(t, Config{AllowHosts: []string{host}, AllowLoopback: true, MaxBytes: 1000})
	for _, path := range []string{"/plain", "/chunked"} {
		if _, err := c.Get(context.Background(), base+path, "", 999); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s with 999: %v, want egress_too_large", path, err)
		}
		if b, err := c.Get(context.Background(), base+path, "", 1000); err != nil || len(b) != 1000 {
			t.Errorf("%s with 1000: %d bytes, %v", path, len(b), err)
		}
	}
	small := newClient(t, Config{AllowHosts: []string{host}, AllowLoopback: true, MaxBytes: 500})
	if _, err := small.Get(context.Background(), base+"/plain", "", 1<<40); !errors.Is(err, ErrTooLarge) {
		t.Errorf("the configuration's limit must win: %v", err)
	}
}

func TestRedirectsAndOtherStatusesAreFailures(t *testing.T) {
	var second bool
	host, base := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/go":
			http.Redirect(w, r, "/there", http.StatusFound)
		case "/there":
			second = true
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	c := newClient(t, Config{AllowHosts: []string{host}, AllowLoopback: true})
	for _, path := range []string{"/go", "/nothing"} {
		if _, err := c.Get(context.Background(), base+path, "", 10); !errors.Is(err, ErrFailed) {
			t.Errorf("%s: %v, want egress_failed", path, err)
		}
	}
	if second {
		t.Error("the redirect was followed")
	}
}

func TestSlowAnswerEnds(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	host, base := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-release
	})
	c := newClient(t, Config{AllowHosts: []string{host}, AllowLoopback: true, Timeout: 50 * time.Millisecond})
	start := time.Now()
	if _, err := c.Get(context.Background(), base, "", 10); !errors.Is(err, ErrFailed) {
		t.Errorf("got %v, want egress_failed", err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestPermitted(t *testing.T) {
	c := newClient(t, Config{AllowHosts: []string{"ocsp.example", "tsa.example:318", "*.nat.gov.tw", "[::1]:80"}})
	for u, want := range map[string]bool{
		"http://ocsp.example/x":                            true,
		"https://OCSP.example./x":                          true,
		"http://ocsp.example:8080/":                        false,
		"http://tsa.example:318/":                          true,
		"http://tsa.example/":                              false,
		"http://moica.nat.gov.tw/OCSP":                     true,
		"http://a.b.nat.gov.tw/":                           true,
		"http://nat.gov.tw/":                               false,
		"http://evilnat.gov.tw/":                           false,
		"http://nat.gov.tw.evil.example/":                  false,
		"http://[::1]/":                                    true,
		"ftp://ocsp.example/":                              false,
		"file:///etc/passwd":                               false,
		"ldap://ocsp.example/":                             false,
		"http://user@ocsp.example/":                        false,
		"http:ocsp.example":                                false,
		"http://evil.example#ocsp.example":                 false,
		"//ocsp.example/":                                  false,
		"":                                                 false,
		"http://ocsp.example/" + strings.Repeat("a", 2048): false,
	} {
		if got := c.Permitted(u) == nil; got != want {
			t.Errorf("Permitted(%.60q) = %v, want %v", u, got, want)
		}
	}
	none := newClient(t, Config{})
	if none.Permitted("http://ocsp.example/") == nil {
		t.Error("an empty list must permit nothing")
	}
}

func TestAddressPolicy(t *testing.T) {
	type row struct{ strict, loopback, private bool }
	for addr, want := range map[string]row{
		"8.8.8.8":                {true, true, true},
		"2606:4700::1111":        {true, true, true},
		"127.0.0.1":              {false, true, false},
		"::1":                    {false, true, false},
		"::ffff:127.0.0.1":       {false, true, false},
		"10.1.2.3":               {false, false, true},
		"172.16.0.1":             {false, false, true},
		"192.168.1.1":            {false, false, true},
		"fd12::1":                {false, false, true},
		"100.64.0.1":             {false, false, true},
		"::ffff:10.0.0.1":        {false, false, true},
		"100.100.100.200":        {},
		"169.254.169.254":        {},
		"::ffff:169.254.169.254": {},
		"fd00:ec2::254":          {},
		"fe80::1":                {},
		"fe80::1%eth0":           {},
		"0.0.0.0":                {},
		"::":                     {},
		"0.1.2.3":                {},
		"224.0.0.1":              {},
		"ff02::1":                {},
		"255.255.255.255":        {},
		"198.18.0.1":             {},
		"64:ff9b::7f00:1":        {},
		"2002:7f00:1::":          {},
		"::7f00:1":               {},
	} {
		a := netip.MustParseAddr(addr)
		got := row{
			addressPolicy{}.permits(a),
			addressPolicy{loopback: true}.permits(a),
			addressPolicy{private: true}.permits(a),
		}
		if got != want {
			t.Errorf("%s: strict, loopback, private = %v, want %v", addr, got, want)
		}
	}
}

func TestNewRefusesBadConfiguration(t *testing.T) {
	for _, h := range []string{"", "*.", "a*b", "http://x", "x:0", "x:99999", "x:y", "*.*.x", "user@x"} {
		if _, err := New(Config{AllowHosts: []string{h}}); err == nil {
			t.Errorf("AllowHosts %q was accepted", h)
		}
	}
	if _, err := New(Config{Timeout: -1}); err == nil {
		t.Error("negative timeout was accepted")
	}
	if _, err := New(Config{AllowHosts: []string{"x", "x:1", "*.x", "*.x:1", "*", "::1", "[::1]:5"}}); err != nil {
		t.Errorf("control: %v", err)
	}
}

func FuzzPermitted(f *testing.F) {
	f.Add("http://ocsp.example/")
	f.Add("http://ocsp.example@evil.example/")
	c, err := New(Config{AllowHosts: []string{"ocsp.example"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, u string) {
		if c.Permitted(u) != nil {
			return
		}
		req, err := http.NewRequest(http.MethodGet, u, nil)
		if err != nil || normalName(req.URL.Hostname()) != "ocsp.example" {
			t.Errorf("%q permitted, goes to %v (%v)", u, req, err)
		}
	})
}

func TestExchangeGivesEveryStatusAndGuardsThePassword(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); ok && (user != "ra" || password != "secret") {
			t.Errorf("credentials %q %q", user, password)
		}
		w.Header().Set("Retry-After", "7")
		w.Header().Set("Content-Type", "text/x-later")
		if r.TLS == nil {
			w.WriteHeader(http.StatusAccepted)
		}
		w.Write([]byte(r.Method))
	}
	host, base := newServer(t, answer)
	c := newClient(t, Config{AllowHosts: []string{host}, AllowLoopback: true})
	a, err := c.Exchange(context.Background(), Request{Method: http.MethodPost, URL: base, Body: []byte("?")})
	if err != nil || a.Status != http.StatusAccepted || a.RetryAfter != "7" || a.ContentType != "text/x-later" || a.Body != nil {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := c.Exchange(context.Background(), Request{Method: http.MethodGet, URL: base, User: "ra", Password: "secret"}); !errors.Is(err, ErrForbidden) {
		t.Errorf("a password in the clear: %v", err)
	}
	secure := httptest.NewTLSServer(http.HandlerFunc(answer))
	t.Cleanup(secure.Close)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	known := newClient(t, Config{AllowHosts: []string{strings.TrimPrefix(secure.URL, "https://")}, AllowLoopback: true, TLS: &tls.Config{RootCAs: roots}})
	if a, err := known.Exchange(context.Background(), Request{Method: http.MethodGet, URL: secure.URL, User: "ra", Password: "secret"}); err != nil || string(a.Body) != "GET" {
		t.Errorf("over TLS with own roots: %+v, %v", a, err)
	}
	stranger := newClient(t, Config{AllowHosts: []string{strings.TrimPrefix(secure.URL, "https://")}, AllowLoopback: true})
	if _, err := stranger.Get(context.Background(), secure.URL, "", 10); !errors.Is(err, ErrFailed) {
		t.Errorf("an unknown root: %v", err)
	}
}
