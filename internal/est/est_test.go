package est_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealgate/internal/egress"
	"sealgate/internal/est"
	"sealgate/internal/fault"
	"sealgate/internal/pkitest"
	"sealgate/internal/pkitest/esttest"
)

func start(t testing.TB, o esttest.Options) *esttest.Server {
	t.Helper()
	s, err := esttest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// client trusts the server's TLS root, unless another is given.
func client(t testing.TB, s *esttest.Server, user, password string, change ...func(*tls.Config, *egress.Config)) *est.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.TLSRoot.Certificate)
	cfg := egress.Config{AllowHosts: []string{s.Address()}, AllowLoopback: true, Timeout: 2 * time.Second, MaxBytes: 1 << 20, TLS: &tls.Config{RootCAs: roots}}
	for _, f := range change {
		f(cfg.TLS, &cfg)
	}
	out, err := egress.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c, err := est.New(est.Config{URL: s.URL(), Exchange: out.Exchange, User: user, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func request(t testing.TB, key any) []byte {
	t.Helper()
	if key == nil {
		key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "test"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestEnrolAndRenew(t *testing.T) {
	ctx := context.Background()
	s := start(t, esttest.Options{User: "sealgate", Password: "test only"})
	c := client(t, s, "sealgate", "test only")
	for _, renew := range []bool{false, true} {
		csr := request(t, nil)
		r, err := c.Enrol(ctx, csr, renew)
		if err != nil || len(r.Certificates) != 1 {
			t.Fatalf("renew %v: %v", renew, err)
		}
		asked, _ := x509.ParseCertificateRequest(csr)
		if !r.Certificates[0].PublicKey.(*ecdsa.PublicKey).Equal(asked.PublicKey) {
			t.Error("another key")
		}
	}
	certs, err := c.CACertificates(ctx)
	if err != nil || len(certs) != 2 || !certs[0].Equal(s.Issuing.Certificate) || !certs[1].Equal(s.Root.Certificate) {
		t.Errorf("cacerts: %v %v", certs, err)
	}
	if got := strings.Join(s.Requests(), " "); got != "/csrattrs /simpleenroll /simplereenroll /cacerts" {
		t.Errorf("asked %s", got)
	}
	if _, err := client(t, s, "sealgate", "wrong").Enrol(ctx, request(t, nil), false); !errors.Is(err, est.ErrUnauthorized) {
		t.Errorf("wrong password: %v", err)
	}
}

func TestClientCertificate(t *testing.T) {
	ctx := context.Background()
	root, err := pkitest.NewRoot(x509.Certificate{Subject: pkix.Name{CommonName: "clients"}})
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, esttest.Options{ClientCA: root.Certificate})
	with := func(by *pkitest.Authority) func(*tls.Config, *egress.Config) {
		who, err := by.Issue(x509.Certificate{Subject: pkix.Name{CommonName: "sealgate"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if err != nil {
			t.Fatal(err)
		}
		return func(c *tls.Config, _ *egress.Config) {
			c.Certificates = []tls.Certificate{{Certificate: [][]byte{who.Certificate.Raw}, PrivateKey: who.Key}}
		}
	}
	if _, err := client(t, s, "", "", with(root)).Enrol(ctx, request(t, nil), false); err != nil {
		t.Error(err)
	}
	stranger, _ := pkitest.NewRoot(x509.Certificate{Subject: pkix.Name{CommonName: "strangers"}})
	if _, err := client(t, s, "", "", with(stranger)).Enrol(ctx, request(t, nil), false); !errors.Is(err, egress.ErrFailed) {
		t.Errorf("a stranger's certificate: %v", err)
	}
	if _, err := client(t, s, "", "").Enrol(ctx, request(t, nil), false); !errors.Is(err, egress.ErrFailed) {
		t.Errorf("no certificate: %v", err)
	}
	other := func(c *tls.Config, _ *egress.Config) {
		c.RootCAs = x509.NewCertPool()
		c.RootCAs.AddCert(root.Certificate)
	}
	if _, err := client(t, s, "", "", with(root), other).Enrol(ctx, request(t, nil), false); !errors.Is(err, egress.ErrFailed) {
		t.Errorf("a server that leads to no anchor: %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	ctx := context.Background()
	s := start(t, esttest.Options{})
	c := client(t, s, "", "")
	for text, want := range map[string]time.Duration{"7": 7 * time.Second, "0": time.Second, "": time.Minute, "later": time.Minute,
		"99999999": 24 * time.Hour, "99999999999999999999": time.Minute, time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat): time.Second} {
		s.Wait(1, text)
		if r, err := c.Enrol(ctx, request(t, nil), false); err != nil || r.RetryAfter != want || r.Certificates != nil {
			t.Errorf("%q: %+v %v", text, r, err)
		}
	}
	s.Wait(1, time.Now().Add(100*time.Second).UTC().Format(http.TimeFormat))
	if r, err := c.Enrol(ctx, request(t, nil), false); err != nil || r.RetryAfter < 90*time.Second || r.RetryAfter > 100*time.Second {
		t.Errorf("a date: %v %v", r.RetryAfter, err)
	}
	if r, err := c.Enrol(ctx, request(t, nil), false); err != nil || len(r.Certificates) != 1 {
		t.Errorf("afterwards: %v", err)
	}
}

// A server may answer anything; nothing of it is believed, followed or waited for.
func TestServerThatLies(t *testing.T) {
	ctx := context.Background()
	s := start(t, esttest.Options{})
	certs := func(w http.ResponseWriter, text string) {
		w.Header().Set("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
		fmt.Fprint(w, text)
	}
	for name, lie := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   *fault.Error
	}{
		"huge": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/pkcs7-mime")
			for range 300 {
				fmt.Fprint(w, strings.Repeat("QUJD", 1024))
			}
		}, egress.ErrTooLarge},
		"slow":            {func(w http.ResponseWriter) { time.Sleep(3 * time.Second) }, egress.ErrFailed},
		"redirect":        {func(w http.ResponseWriter) { w.Header().Set("Location", "/other"); w.WriteHeader(302) }, est.ErrStatus},
		"HTML":            {func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/html"); fmt.Fprint(w, "<html>") }, est.ErrAnswer},
		"HTML as PKCS #7": {func(w http.ResponseWriter) { certs(w, "<html>") }, est.ErrAnswer},
		"no content type": {func(w http.ResponseWriter) { w.Header()["Content-Type"] = nil; fmt.Fprint(w, "QUJD") }, est.ErrAnswer},
		"another smime": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/pkcs7-mime; smime-type=server-generated-key")
			fmt.Fprint(w, "QUJD")
		}, est.ErrAnswer},
		"empty":            {func(w http.ResponseWriter) { certs(w, " \r\n") }, est.ErrAnswer},
		"other bytes":      {func(w http.ResponseWriter) { esttest.Answer(w, []byte("not PKCS #7")) }, est.ErrAnswer},
		"a bare cert":      {func(w http.ResponseWriter) { esttest.Answer(w, s.Root.Certificate.Raw) }, est.ErrAnswer},
		"binary":           {func(w http.ResponseWriter) { certs(w, string(s.Root.Certificate.Raw)) }, est.ErrAnswer},
		"refused":          {func(w http.ResponseWriter) { w.WriteHeader(400) }, est.ErrStatus},
		"forbidden":        {func(w http.ResponseWriter) { w.WriteHeader(403) }, est.ErrUnauthorized},
		"server error":     {func(w http.ResponseWriter) { w.WriteHeader(500) }, est.ErrStatus},
		"success, nothing": {func(w http.ResponseWriter) { w.WriteHeader(204) }, est.ErrStatus},
	} {
		s.Lie(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/.well-known/est/simpleenroll" {
				return false
			}
			lie.answer(w)
			return true
		})
		if r, err := client(t, s, "", "").Enrol(ctx, request(t, nil), false); !errors.Is(err, lie.want) || r.Certificates != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.Lie(nil)
	if _, err := client(t, s, "", "").Enrol(ctx, request(t, nil), false); err != nil {
		t.Errorf("the truth: %v", err)
	}
	for _, path := range s.Requests() {
		if path == "/other" {
			t.Error("the redirect was followed")
		}
	}
}

func TestAttributes(t *testing.T) {
	ctx := context.Background()
	oid := func(n ...int) asn1.RawValue {
		der, _ := asn1.Marshal(asn1.ObjectIdentifier(n))
		return asn1.RawValue{FullBytes: der}
	}
	type attribute struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}
	attr := func(values []asn1.RawValue, n ...int) asn1.RawValue {
		der, err := asn1.Marshal(attribute{n, values})
		if err != nil {
			t.Fatal(err)
		}
		return asn1.RawValue{FullBytes: der}
	}
	number := func(n int) asn1.RawValue { der, _ := asn1.Marshal(n); return asn1.RawValue{FullBytes: der} }
	list := func(v ...asn1.RawValue) []byte { der, _ := asn1.Marshal(v); return der }
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rsa2048, _ := rsa.GenerateKey(rand.Reader, 2048)
	ec := []int{1, 2, 840, 10045, 2, 1}
	for name, c := range map[string]struct {
		demand []byte
		key    any
		ok     bool
	}{
		"nothing":               {nil, p256, true},
		"an empty list":         {list(), p256, true},
		"EC":                    {list(oid(ec...)), p256, true},
		"EC, RSA key":           {list(oid(ec...)), rsa2048, false},
		"P-256":                 {list(attr([]asn1.RawValue{oid(1, 2, 840, 10045, 3, 1, 7)}, ec...)), p256, true},
		"P-384":                 {list(attr([]asn1.RawValue{oid(1, 3, 132, 0, 34)}, ec...)), p256, false},
		"RSA 2048":              {list(attr([]asn1.RawValue{number(2048)}, 1, 2, 840, 113549, 1, 1, 1)), rsa2048, true},
		"RSA 4096":              {list(attr([]asn1.RawValue{number(4096)}, 1, 2, 840, 113549, 1, 1, 1)), rsa2048, false},
		"ECDSA with SHA-256":    {list(oid(1, 2, 840, 10045, 4, 3, 2)), p256, true},
		"ECDSA with SHA-512":    {list(oid(1, 2, 840, 10045, 4, 3, 4)), p256, false},
		"challenge password":    {list(oid(1, 2, 840, 113549, 1, 9, 7)), p256, false},
		"an unknown attribute":  {list(oid(1, 3, 6, 1, 1, 1, 1, 22)), p256, false},
		"not a list":            {[]byte{5, 0}, p256, false},
		"a list with a boolean": {[]byte{0x30, 3, 1, 1, 0xff}, p256, false},
	} {
		s := start(t, esttest.Options{Attributes: c.demand})
		_, err := client(t, s, "", "").Enrol(ctx, request(t, c.key), false)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if sent := strings.Contains(strings.Join(s.Requests(), " "), "/simpleenroll"); sent != c.ok {
			t.Errorf("%s: sent %v", name, sent)
		}
		if err != nil && !errors.Is(err, est.ErrAttributes) && !errors.Is(err, est.ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
		s.Stop()
	}
}

// What openssl makes is read as well, and messages that are more than certificates are not.
func TestOpenSSLMessages(t *testing.T) {
	dir := t.TempDir()
	root, _ := pkitest.NewRoot(x509.Certificate{Subject: pkix.Name{CommonName: "root"}})
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	run := func(args ...string) []byte {
		out, err := exec.Command("openssl", args...).Output()
		if err != nil {
			t.Fatalf("openssl %v: %v", args, err)
		}
		return out
	}
	pemFile := file("root.pem", esttest.PEM(root.Certificate, root.Certificate))
	certs, err := est.ParseCertsOnly(run("crl2pkcs7", "-nocrl", "-certfile", pemFile, "-outform", "DER"))
	if err != nil || len(certs) != 2 || !certs[0].Equal(root.Certificate) {
		t.Errorf("%v %v", certs, err)
	}
	key, _ := x509.MarshalPKCS8PrivateKey(root.Key)
	keyFile := file("root.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	signed := run("cms", "-sign", "-signer", pemFile, "-inkey", keyFile, "-in", pemFile, "-outform", "DER", "-nodetach")
	if _, err := est.ParseCertsOnly(signed); !errors.Is(err, est.ErrAnswer) {
		t.Errorf("a signed message: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	send := func(context.Context, egress.Request) (egress.Answer, error) { return egress.Answer{}, nil }
	for _, address := range []string{"", "http://ca.example.test/.well-known/est", "https://ca.example.test/", "https://u:p@ca.example.test/.well-known/est", "https://ca.example.test/.well-known/est?x"} {
		if _, err := est.New(est.Config{URL: address, Exchange: send}); err == nil {
			t.Errorf("%q is taken", address)
		}
	}
	if _, err := est.New(est.Config{URL: "https://ca.example.test/.well-known/est/label/", Exchange: send}); err != nil {
		t.Error(err)
	}
}

func FuzzParseCertsOnly(f *testing.F) {
	root, _ := pkitest.NewRoot(x509.Certificate{Subject: pkix.Name{CommonName: "root"}})
	path := filepath.Join(f.TempDir(), "root.pem")
	_ = os.WriteFile(path, esttest.PEM(root.Certificate), 0o600)
	der, err := exec.Command("openssl", "crl2pkcs7", "-nocrl", "-certfile", path, "-outform", "DER").Output()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := est.ParseCertsOnly(data)
		if (err == nil) == (len(certs) == 0) {
			t.Errorf("%d certificates, %v", len(certs), err)
		}
		for _, c := range certs {
			if !bytes.Contains(data, c.Raw) {
				t.Error("a certificate that did not come")
			}
		}
	})
}

func FuzzAttributes(f *testing.F) {
	csr := request(f, nil)
	f.Add([]byte{0x30, 0})
	f.Add([]byte{0x30, 0x0b, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7})
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := est.ParseAttributes(data)
		if err == nil {
			_ = a.Satisfied(csr)
		}
	})
}
