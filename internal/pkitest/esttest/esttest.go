// Package esttest is a TEST certificate authority behind EST (RFC 7030), the
// counterpart of package est. It speaks the real protocol over TLS on a free
// port, issues from a throw-away hierarchy, and can be told to lie. Its PKCS #7
// comes from github.com/digitorus/pkcs7, so that it does not share our reading
// of the format. Nothing but tests may use it.
package esttest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/digitorus/pkcs7"

	"sealgate/internal/pkitest"
)

// Options say how the server is to be.
type Options struct {
	// Policies that the issuing CA may give.
	Policies []x509.OID
	// User and Password are asked for by HTTP Basic; empty: not asked.
	User, Password string
	// ClientCA, where set, must have issued the client's TLS certificate.
	ClientCA *x509.Certificate
	// Attributes is CsrAttrs in DER; nil: 204.
	Attributes []byte
	// Address to listen on; "" is a free port.
	Address string
}

// Server is a running CA.
type Server struct {
	// Root and Issuing are the CA's certificates, TLSRoot that of its web server.
	Root, Issuing, TLSRoot *pkitest.Authority
	opts                   Options
	pair                   tls.Certificate
	mu                     sync.Mutex
	http                   *http.Server
	address                string
	lie                    func(w http.ResponseWriter, r *http.Request) bool
	change                 func(tpl *x509.Certificate)
	waits                  int
	wait                   string
	requests               []string
	issued                 []*x509.Certificate
}

// New makes the hierarchy and starts the server.
func New(o Options) (*Server, error) {
	s := &Server{opts: o, address: o.Address}
	var err error
	name := func(cn string) pkix.Name {
		return pkix.Name{Country: []string{"TW"}, Organization: []string{"(測試用) Another CA"}, CommonName: cn}
	}
	end := time.Now().AddDate(8, 0, 0)
	if s.Root, err = pkitest.NewRoot(x509.Certificate{Subject: name("(測試用) Other Root"), NotAfter: end}); err != nil {
		return nil, err
	}
	if s.Issuing, err = s.Root.CA(x509.Certificate{Subject: name("(測試用) Other Issuing CA"), NotAfter: end, Policies: o.Policies}); err != nil {
		return nil, err
	}
	if s.TLSRoot, err = pkitest.NewRoot(x509.Certificate{Subject: name("(測試用) TLS Root")}); err != nil {
		return nil, err
	}
	web, err := s.TLSRoot.Issue(x509.Certificate{Subject: name("localhost"), DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		return nil, err
	}
	s.pair = tls.Certificate{Certificate: [][]byte{web.Certificate.Raw}, PrivateKey: web.Key}
	return s, s.Start()
}

// Start begins to listen, after Stop on the same port as before.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.address == "" {
		s.address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	s.address = listener.Addr().String()
	cfg := &tls.Config{Certificates: []tls.Certificate{s.pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	if s.opts.ClientCA != nil {
		cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		cfg.ClientCAs.AddCert(s.opts.ClientCA)
	}
	s.http = &http.Server{Handler: s.handler(), TLSConfig: cfg, ReadHeaderTimeout: 10 * time.Second}
	go func(h *http.Server) { _ = h.ServeTLS(listener, "", "") }(s.http)
	return nil
}

// Stop ends all connections at once.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		_ = s.http.Close()
	}
}

// Address is host and port, URL the base of the operations.
func (s *Server) Address() string { return s.address }

// URL is the base of the operations.
func (s *Server) URL() string { return "https://" + s.address + "/.well-known/est" }

// Lie lets a function answer in place of the server; it gives false to leave a
// request to the server. nil ends the lying.
func (s *Server) Lie(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lie = f
}

// Change edits every certificate before it is signed; nil edits none.
func (s *Server) Change(f func(tpl *x509.Certificate)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change = f
}

// Wait makes the next n requests wait, with this Retry-After.
func (s *Server) Wait(n int, retryAfter string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits, s.wait = n, retryAfter
}

// Requests lists the operations that were asked for, in order.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

// Issued lists the certificates that were issued.
func (s *Server) Issued() []*x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*x509.Certificate(nil), s.issued...)
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	const base = "/.well-known/est"
	mux.HandleFunc("GET "+base+"/cacerts", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, append(bytes.Clone(s.Issuing.Certificate.Raw), s.Root.Certificate.Raw...))
	})
	mux.HandleFunc("GET "+base+"/csrattrs", func(w http.ResponseWriter, _ *http.Request) {
		if s.opts.Attributes == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/csrattrs")
		fmt.Fprintln(w, base64.StdEncoding.EncodeToString(s.opts.Attributes))
	})
	mux.HandleFunc("POST "+base+"/simpleenroll", s.enrol)
	mux.HandleFunc("POST "+base+"/simplereenroll", s.enrol)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		lie := s.lie
		s.requests = append(s.requests, r.URL.Path[len(base):])
		s.mu.Unlock()
		if lie != nil && lie(w, r) {
			return
		}
		if user, password, _ := r.BasicAuth(); s.opts.User != "" && (user != s.opts.User || password != s.opts.Password) {
			w.Header().Set("WWW-Authenticate", `Basic realm="test CA"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *Server) enrol(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil || r.Header.Get("Content-Type") != "application/pkcs10" {
		http.Error(w, "not a request", http.StatusBadRequest)
		return
	}
	der, err := base64.StdEncoding.DecodeString(string(body)) // skips line ends
	if err != nil {
		http.Error(w, "not base64", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	if s.waits > 0 {
		s.waits--
		w.Header().Set("Retry-After", s.wait)
		s.mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
		return
	}
	s.mu.Unlock()
	cert, err := s.Certify(der)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer(w, cert.Raw)
}

// Certify issues what a PKCS #10 request in DER asks for.
func (s *Server) Certify(der []byte) (*x509.Certificate, error) {
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	if err := request.CheckSignature(); err != nil {
		return nil, err
	}
	tpl := x509.Certificate{RawSubject: request.RawSubject, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().AddDate(0, 11, 0),
		ExtraExtensions: request.Extensions, CRLDistributionPoints: []string{"http://crl.example.test/other.crl"}}
	s.mu.Lock()
	change := s.change
	s.mu.Unlock()
	if change != nil {
		change(&tpl)
	}
	cert, err := s.Issuing.Certify(tpl, request.PublicKey)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issued = append(s.issued, cert)
	return cert, nil
}

// answer writes a certs-only PKCS #7 of one or more certificates in DER.
func answer(w http.ResponseWriter, certificates []byte) {
	der, err := pkcs7.DegenerateCertificate(certificates)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	Answer(w, der)
}

// Answer writes bytes as a certs-only answer; for lies.
func Answer(w http.ResponseWriter, der []byte) {
	w.Header().Set("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
	w.Header().Set("Content-Transfer-Encoding", "base64")
	text := base64.StdEncoding.EncodeToString(der)
	for len(text) > 64 {
		fmt.Fprintln(w, text[:64])
		text = text[64:]
	}
	fmt.Fprintln(w, text)
}

// PEM writes certificates as a file has them.
func PEM(certs ...*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return out.Bytes()
}
