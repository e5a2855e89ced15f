package pki_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"golang.org/x/crypto/ocsp"

	"sealgate/internal/certpath"
	"sealgate/internal/front/pki"
	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func newDoor(t *testing.T) (*httptest.Server, *issuing.CA) {
	t.Helper()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	master, err := keyring.NewMasterKey(make([]byte, 32))
	ok(err)
	db := postgres.New(pgtest.Open(t))
	keys, err := keyring.New(keyring.Config{MasterKeys: []*keyring.MasterKey{master}, Store: db.Keyring()})
	ok(err)
	ca, err := issuing.New(issuing.Config{Store: db.Issuing(), Keys: keys, Name: "(測試用) Sealgate", BaseURL: "http://pki.example.test"})
	ok(err)
	ok(ca.Bootstrap(context.Background()))
	r := chi.NewRouter()
	ok(pki.Mount(r, pki.Config{CA: ca, Log: slog.New(slog.DiscardHandler)}))
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	return server, ca
}

// call makes one request and returns status, headers and body.
func call(t *testing.T, method, target, mediaType string, body []byte, headers ...string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, target, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, out
}

func TestCertificatesAndLists(t *testing.T) {
	server, ca := newDoor(t)
	anchors, _ := ca.Anchors(context.Background())
	for path, want := range map[string]struct {
		mediaType string
		check     func(body []byte) bool
	}{
		"/pki/root.cer":    {"application/pkix-cert", func(b []byte) bool { return bytes.Equal(b, anchors[0].Raw) }},
		"/pki/issuing.cer": {"application/pkix-cert", func(b []byte) bool { return bytes.Equal(b, anchors[1].Raw) }},
		"/pki/ca.pem":      {"application/pem-certificate-chain", func(b []byte) bool { return bytes.Count(b, []byte("BEGIN CERTIFICATE")) == 2 }},
		"/pki/root.crl": {"application/pkix-crl", func(b []byte) bool {
			l, err := x509.ParseRevocationList(b)
			return err == nil && l.CheckSignatureFrom(anchors[0]) == nil
		}},
		"/pki/issuing.crl": {"application/pkix-crl", func(b []byte) bool {
			l, err := x509.ParseRevocationList(b)
			return err == nil && l.CheckSignatureFrom(anchors[1]) == nil
		}},
	} {
		status, header, body := call(t, "GET", server.URL+path, "", nil)
		if status != 200 || header.Get("Content-Type") != want.mediaType || !want.check(body) ||
			!strings.Contains(header.Get("Cache-Control"), "max-age=") {
			t.Errorf("%s: %d %v", path, status, header)
		}
		if status, _, body := call(t, "GET", server.URL+path, "", nil, "If-None-Match", header.Get("ETag")); status != 304 || len(body) != 0 {
			t.Errorf("%s: conditional request: %d", path, status)
		}
		if status, _, _ := call(t, "HEAD", server.URL+path, "", nil); status != 200 {
			t.Errorf("%s: HEAD %d", path, status)
		}
		if status, _, _ := call(t, "POST", server.URL+path, "", nil); status != 405 {
			t.Errorf("%s: POST %d", path, status)
		}
	}
}

// The parts of the issuing CA's list are there whether or not anybody names them
// yet; what is no part is not found.
func TestPartsOfTheList(t *testing.T) {
	server, ca := newDoor(t)
	anchors, _ := ca.Anchors(context.Background())
	for path, want := range map[string]int{
		"/pki/issuing-2-0.crl": 200, "/pki/issuing-2-1.crl": 200, "/pki/issuing-1024-1023.crl": 200,
		"/pki/issuing-2-2.crl": 404, "/pki/issuing-3-0.crl": 404, "/pki/issuing-1-0.crl": 404, "/pki/issuing-02-1.crl": 404,
		"/pki/issuing-2048-1.crl": 404, "/pki/issuing-x-1.crl": 404, "/pki/root-2-0.crl": 404, "/pki/issuing-99999999999999999999-1.crl": 404,
	} {
		status, header, body := call(t, "GET", server.URL+path, "", nil)
		if status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
		if want != 200 {
			continue
		}
		l, err := certpath.ParseCRL(body)
		if err != nil || l.Verify(anchors[1]) != nil || header.Get("Cache-Control") != "public, no-transform, max-age=0" {
			t.Errorf("%s: %v %v", path, err, header)
		}
		named := x509.Certificate{RawIssuer: anchors[1].RawSubject}
		if l.Covers(&named) == nil {
			t.Errorf("%s: covers certificates that do not name it", path)
		}
	}
}

func TestOCSP(t *testing.T) {
	server, ca := newDoor(t)
	anchors, _ := ca.Anchors(context.Background())
	tsa, _ := ca.Certificate(context.Background(), issuing.TSA)
	request, err := ocsp.CreateRequest(tsa, anchors[1], nil)
	if err != nil {
		t.Fatal(err)
	}
	good := func(what string, status int, header http.Header, body []byte) {
		t.Helper()
		resp, err := ocsp.ParseResponseForCert(body, tsa, anchors[1])
		if status != 200 || header.Get("Content-Type") != "application/ocsp-response" || err != nil || resp.Status != ocsp.Good {
			t.Errorf("%s: %d %v %v", what, status, header, err)
		}
	}
	status, header, body := call(t, "POST", server.URL+"/pki/ocsp", "application/ocsp-request", request)
	good("POST", status, header, body)
	if header.Get("Cache-Control") != "no-store" {
		t.Errorf("POST may be cached: %v", header)
	}
	path := server.URL + "/pki/ocsp/" + url.PathEscape(base64.StdEncoding.EncodeToString(request))
	status, header, body = call(t, "GET", path, "", nil)
	good("GET", status, header, body)
	if header.Get("Cache-Control") != "public, no-transform, max-age=1" {
		t.Errorf("GET: %v", header)
	}
	for name, c := range map[string]struct {
		method, target, mediaType string
		body                      []byte
		want                      int
	}{
		"wrong media type": {"POST", server.URL + "/pki/ocsp", "text/plain", request, 415},
		"no media type":    {"POST", server.URL + "/pki/ocsp", "", request, 415},
		"too large":        {"POST", server.URL + "/pki/ocsp", "application/ocsp-request", make([]byte, 20<<10), 413},
		"not base64":       {"GET", server.URL + "/pki/ocsp/%25%25", "", nil, 400},
		"long path":        {"GET", server.URL + "/pki/ocsp/" + strings.Repeat("A", 30<<10), "", nil, 400},
	} {
		if status, _, _ := call(t, c.method, c.target, c.mediaType, c.body); status != c.want {
			t.Errorf("%s: %d, want %d", name, status, c.want)
		}
	}
	if status, _, body := call(t, "POST", server.URL+"/pki/ocsp", "application/ocsp-request", []byte("x")); status != 200 || !bytes.Equal(body, ocsp.MalformedRequestErrorResponse) {
		t.Errorf("malformed request: %d %x", status, body)
	}
}

func TestTimeStampThatOpenSSLAccepts(t *testing.T) {
	server, ca := newDoor(t)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(file(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("doc", []byte("some text"))
	write("other", []byte("some other text"))
	bundle, _ := ca.AnchorsPEM(context.Background())
	write("ca.pem", bundle)
	if out, err := exec.Command("openssl", "ts", "-query", "-data", file("doc"), "-sha256", "-cert", "-out", file("req")).CombinedOutput(); err != nil {
		t.Fatalf("query: %s", out)
	}
	request, err := os.ReadFile(file("req"))
	if err != nil {
		t.Fatal(err)
	}
	status, header, body := call(t, "POST", server.URL+"/pki/tsa", "application/timestamp-query", request)
	if status != 200 || header.Get("Content-Type") != "application/timestamp-reply" {
		t.Fatalf("%d %v %s", status, header, body)
	}
	write("resp", body)
	verify := func(data string) (string, error) {
		out, err := exec.Command("openssl", "ts", "-verify", "-data", file(data), "-in", file("resp"), "-CAfile", file("ca.pem")).CombinedOutput()
		return string(out), err
	}
	if out, err := verify("doc"); err != nil {
		t.Errorf("openssl refuses: %s", out)
	}
	if out, err := verify("other"); err == nil {
		t.Errorf("openssl accepts it for another text: %s", out)
	}
	if status, _, _ := call(t, "POST", server.URL+"/pki/tsa", "text/plain", request); status != 415 {
		t.Errorf("wrong media type: %d", status)
	}
}
