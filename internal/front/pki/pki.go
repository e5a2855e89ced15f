// Package pki is the door where certificates are answered for: to programs of
// any verifier, without authentication, in the formats of the standards.
//
//	GET  /pki/root.cer, /pki/issuing.cer   certificates (DER)
//	GET  /pki/ca.pem                       both, for openssl -CAfile
//	GET  /pki/root.crl, /pki/issuing.crl   revocation lists, complete
//	GET  /pki/issuing-{of}-{part}.crl      part of the issuing CA's list
//	POST /pki/ocsp, GET /pki/ocsp/{base64} OCSP (RFC 6960 appendix A)
//	POST /pki/tsa                          time stamps (RFC 3161 §3.4)
//
// These addresses stand in certificates, so they answer over plain http too and
// never redirect.
package pki

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"sealgate/internal/issuing"
)

// Bounds on requests, in bytes. Both kinds of request are some hundred bytes.
const (
	maxOCSPRequest = 16 << 10
	maxTSARequest  = 16 << 10
)

// maxAgeOCSP is how long caches on the way may hand out an answer. RFC 5019 §6
// would allow longer; here a revocation counts within a second.
const maxAgeOCSP = time.Second

// Media types (RFC 2585 §4, RFC 6960 appendix C, RFC 3161 §3.4, RFC 8555 §9.1).
const (
	typeCertificate  = "application/pkix-cert"
	typeChain        = "application/pem-certificate-chain"
	typeList         = "application/pkix-crl"
	typeOCSPRequest  = "application/ocsp-request"
	typeOCSPResponse = "application/ocsp-response"
	typeTSARequest   = "application/timestamp-query"
	typeTSAResponse  = "application/timestamp-reply"
)

// Config is what the door needs.
type Config struct {
	CA  *issuing.CA
	Log *slog.Logger
}

// Mount adds the routes.
func Mount(r chi.Router, cfg Config) error {
	if cfg.CA == nil || cfg.Log == nil {
		return errors.New("pki: CA and log are needed")
	}
	d := door{cfg}
	for path, handler := range map[string]http.HandlerFunc{
		issuing.PathRoot:       d.certificate(issuing.Root),
		issuing.PathIssuing:    d.certificate(issuing.Issuing),
		issuing.PathBundle:     d.bundle,
		issuing.PathRootCRL:    d.list(issuing.Root),
		issuing.PathIssuingCRL: d.list(issuing.Issuing),
	} {
		r.Get(path, handler)
		r.Head(path, handler)
	}
	r.Get(issuing.RoutePart, d.part)
	r.Head(issuing.RoutePart, d.part)
	r.Post(issuing.PathOCSP, d.postOCSP)
	r.Get(issuing.PathOCSP+"/*", d.getOCSP)
	r.Post(issuing.PathTSA, d.postTSA)
	return nil
}

type door struct{ cfg Config }

func (d door) certificate(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		cert, err := d.cfg.CA.Certificate(r.Context(), name)
		if err != nil {
			d.unavailable(w, r, err)
			return
		}
		serve(w, r, typeCertificate, cert.Raw, cert.NotBefore, 24*time.Hour)
	}
}

func (d door) bundle(w http.ResponseWriter, r *http.Request) {
	pem, err := d.cfg.CA.AnchorsPEM(r.Context())
	if err != nil {
		d.unavailable(w, r, err)
		return
	}
	w.Header().Set("Content-Disposition", `attachment; filename="sealgate-ca.pem"`)
	serve(w, r, typeChain, pem, time.Time{}, 24*time.Hour)
}

func (d door) list(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { d.serveList(w, r, name, issuing.Part{}) }
}

func (d door) part(w http.ResponseWriter, r *http.Request) {
	of, err1 := strconv.Atoi(chi.URLParam(r, "of"))
	part, err2 := strconv.Atoi(chi.URLParam(r, "part"))
	p := issuing.Part{Of: of, Part: part}
	if err1 != nil || err2 != nil || of < 2 || r.URL.Path != p.PathPart() {
		http.NotFound(w, r)
		return
	}
	d.serveList(w, r, issuing.Issuing, p)
}

// serveList lets caches keep a list but ask each time whether it is still the
// one: a revocation counts within a second, on any node.
func (d door) serveList(w http.ResponseWriter, r *http.Request, name string, part issuing.Part) {
	l, err := d.cfg.CA.ListPart(r.Context(), name, part)
	if errors.Is(err, issuing.ErrNotFound) {
		http.NotFound(w, r)
		return
	}
	if err != nil {
		d.unavailable(w, r, err)
		return
	}
	serveTagged(w, r, typeList, l.DER, l.Tag, time.Time{}, 0)
}

// serve answers GET and HEAD, conditional ones too, with something public that
// stays the same for a while.
func serve(w http.ResponseWriter, r *http.Request, mediaType string, body []byte, modified time.Time, fresh time.Duration) {
	sum := sha256.Sum256(body)
	serveTagged(w, r, mediaType, body, hex.EncodeToString(sum[:12]), modified, fresh)
}

func serveTagged(w http.ResponseWriter, r *http.Request, mediaType string, body []byte, tag string, modified time.Time, fresh time.Duration) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("ETag", `"`+tag+`"`)
	h.Set("Cache-Control", "public, no-transform, max-age="+seconds(fresh))
	http.ServeContent(w, r, "", modified, bytes.NewReader(body))
}

func seconds(d time.Duration) string { return strconv.Itoa(int(max(d, 0) / time.Second)) }

func (d door) postOCSP(w http.ResponseWriter, r *http.Request) {
	body, ok := read(w, r, typeOCSPRequest, maxOCSPRequest)
	if !ok {
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	response, _ := d.ocsp(r.Context(), body)
	write(w, typeOCSPResponse, response)
}

// getOCSP takes the request base64-encoded in the path (RFC 6960 appendix A.1),
// so that caches can keep the answer (RFC 5019 §6).
func (d door) getOCSP(w http.ResponseWriter, r *http.Request) {
	encoded := strings.TrimPrefix(r.URL.EscapedPath(), issuing.PathOCSP+"/")
	text, err := url.PathUnescape(encoded)
	if err != nil || len(text) > base64.StdEncoding.EncodedLen(maxOCSPRequest) {
		http.Error(w, "malformed path", http.StatusBadRequest)
		return
	}
	request, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		http.Error(w, "malformed base64", http.StatusBadRequest)
		return
	}
	response, fresh := d.ocsp(r.Context(), request)
	if fresh {
		w.Header().Set("Cache-Control", "no-store")
		write(w, typeOCSPResponse, response)
		return
	}
	serve(w, r, typeOCSPResponse, response, time.Time{}, maxAgeOCSP)
}

// ocsp gives the response and whether it is for this request alone.
func (d door) ocsp(ctx context.Context, request []byte) (response []byte, fresh bool) {
	response, fresh, err := d.cfg.CA.RespondOCSP(ctx, request)
	if err != nil {
		d.cfg.Log.ErrorContext(ctx, "an OCSP request could not be answered", "error", err)
	}
	return response, fresh
}

func (d door) postTSA(w http.ResponseWriter, r *http.Request) {
	body, ok := read(w, r, typeTSARequest, maxTSARequest)
	if !ok {
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	response, err := d.cfg.CA.RespondTSA(r.Context(), body)
	if err != nil {
		d.cfg.Log.ErrorContext(r.Context(), "a time stamp could not be given", "error", err)
	}
	if response == nil {
		d.unavailable(w, r, err)
		return
	}
	write(w, typeTSAResponse, response)
}

// read takes a bounded body of the right media type.
func read(w http.ResponseWriter, r *http.Request, mediaType string, limit int64) ([]byte, bool) {
	got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || got != mediaType {
		w.Header().Set("Accept-Post", mediaType)
		http.Error(w, "the body must be "+mediaType, http.StatusUnsupportedMediaType)
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		http.Error(w, "the body is too large", http.StatusRequestEntityTooLarge)
		return nil, false
	}
	if err != nil {
		http.Error(w, "the body could not be read", http.StatusBadRequest)
		return nil, false
	}
	return body, true
}

func write(w http.ResponseWriter, mediaType string, body []byte) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the client went away: nothing to do
}

func (d door) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	d.cfg.Log.ErrorContext(r.Context(), "a certificate service is not available", "path", r.URL.Path, "error", err)
	w.Header().Set("Retry-After", "30")
	http.Error(w, "not available at the moment", http.StatusServiceUnavailable)
}
