package pkitest

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"sealgate/internal/certpath"
)

// Revocation reasons used in tests (RFC 5280 §5.3.1).
const (
	ReasonUnspecified     = 0
	ReasonKeyCompromise   = 1
	ReasonAffiliation     = 3
	ReasonSuperseded      = 4
	ReasonCessation       = 5
	ReasonCertificateHold = 6
)

// Paths served by Handler, below Options.BaseURL.
const (
	PathOCSP    = "/ocsp"
	PathCRL     = "/crl"
	PathRootCRL = "/root.crl"
	PathRoot    = "/root.cer"
	PathCA      = "/ca.cer"
)

func sha256Sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

// Revoke marks a certificate as revoked, for CRL and OCSP alike. Revoking the
// CA's own certificate puts it on the root's list.
func (h *Hierarchy) Revoke(cert *x509.Certificate, at time.Time, reason int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.revoked[cert.SerialNumber.String()] = revocation{at.UTC().Truncate(time.Second), reason}
}

// Unrevoke takes a certificate off the lists again (the end of a hold).
func (h *Hierarchy) Unrevoke(cert *x509.Certificate) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.revoked, cert.SerialNumber.String())
}

// ResponderFaults make the served sources misbehave.
type ResponderFaults struct {
	OCSPDown, CRLDown bool
	// DropNonce answers without the nonce; WrongNonce with another one.
	DropNonce, WrongNonce bool
	// Stale moves thisUpdate and nextUpdate into the past by this much.
	Stale time.Duration
	// WrongSerial answers about another certificate.
	WrongSerial bool
	// SignWith replaces the responder's certificate and key.
	SignWith    *x509.Certificate
	SignWithKey crypto.Signer
	// Unknown answers "unknown" to everything.
	Unknown bool
}

// SetFaults changes how the sources misbehave from now on.
func (h *Hierarchy) SetFaults(f ResponderFaults) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = f
}

// CRL is the citizen CA's list as of now, valid for a day.
func (h *Hierarchy) CRL(now time.Time) ([]byte, error) {
	return h.crl(h.CA, h.caKey, now, List{}, nil)
}

// RootCRL is the root's list of CA certificates (CARL).
func (h *Hierarchy) RootCRL(now time.Time) ([]byte, error) {
	return h.crl(h.Root, h.rootKey, now, List{}, nil)
}

// PartitionCRL is part n of the citizen CA's list, with its scope.
func (h *Hierarchy) PartitionCRL(now time.Time, n int) ([]byte, error) {
	return h.crl(h.CA, h.caKey, now, List{URL: h.partitionURL(n)}, func(serial *big.Int) bool { return h.partition(serial) == n })
}

// partition is the part of the list a certificate belongs to.
func (h *Hierarchy) partition(serial *big.Int) int {
	return int(new(big.Int).Mod(serial, big.NewInt(int64(h.partitions))).Int64())
}

func (h *Hierarchy) partitionURL(n int) string {
	return fmt.Sprintf("%s%s/%d-%d", h.baseURL, PathCRL, h.partitions, n)
}

// crl signs the list of who is revoked, as the faults of the moment have it.
func (h *Hierarchy) crl(issuer *x509.Certificate, key crypto.Signer, now time.Time, l List, in func(*big.Int) bool) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.crlNumber++
	l.Number = big.NewInt(h.crlNumber)
	l.ThisUpdate, l.NextUpdate = now.Add(-h.faults.Stale), now.Add(24*time.Hour-h.faults.Stale)
	for serial, r := range h.revoked {
		n, ok := new(big.Int).SetString(serial, 10)
		if !ok || r.At.After(now) || in != nil && !in(n) {
			continue
		}
		l.Entries = append(l.Entries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: r.At, ReasonCode: r.Reason})
	}
	return l.Sign(issuer, key)
}

// List is a revocation list to be signed.
type List struct {
	Number                 *big.Int
	ThisUpdate, NextUpdate time.Time
	// URL, when not empty, limits the list to certificates that name this
	// distribution point (RFC 5280 §5.2.5).
	URL     string
	Entries []x509.RevocationListEntry
}

// Sign signs the list as issuer.
func (l List) Sign(issuer *x509.Certificate, key crypto.Signer) ([]byte, error) {
	tpl := &x509.RevocationList{
		Number:                    l.Number,
		ThisUpdate:                l.ThisUpdate.UTC().Truncate(time.Second),
		NextUpdate:                l.NextUpdate.UTC().Truncate(time.Second),
		RevokedCertificateEntries: l.Entries,
	}
	if l.URL != "" {
		scope, err := issuingPoint(l.URL)
		if err != nil {
			return nil, err
		}
		tpl.ExtraExtensions = []pkix.Extension{scope}
	}
	return x509.CreateRevocationList(rand.Reader, tpl, issuer, key)
}

// issuingPoint encodes IssuingDistributionPoint with one URI.
func issuingPoint(uri string) (pkix.Extension, error) {
	var b cryptobyte.Builder
	constructed := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(constructed(0), func(b *cryptobyte.Builder) {
			b.AddASN1(constructed(0), func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.Tag(6).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(uri)) })
			})
		})
	})
	der, err := b.Bytes()
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: der}, err
}

// LargeList has n entries with random serial numbers of 16 octets, as MOICA's,
// every other one with a reason, spread over five years before now.
func LargeList(n int, now time.Time) List {
	l := List{Number: big.NewInt(now.Unix()), ThisUpdate: now, NextUpdate: now.AddDate(0, 0, 1)}
	l.Entries = make([]x509.RevocationListEntry, n)
	for i := range l.Entries {
		l.Entries[i] = x509.RevocationListEntry{SerialNumber: randomSerial(), RevocationTime: now.Add(-time.Duration(i%43000) * time.Hour), ReasonCode: i % 2 * ReasonSuperseded}
	}
	return l
}

// OCSP answers a request as the delegated responder, as of now.
func (h *Hierarchy) OCSP(request []byte, now time.Time) ([]byte, error) {
	req, err := certpath.ParseOCSPRequest(request)
	if err != nil {
		return certpath.OCSPMalformedRequest.Marshal(), nil
	}
	h.mu.Lock()
	faults := h.faults
	h.mu.Unlock()
	now = now.UTC().Truncate(time.Second)
	resp := certpath.OCSPResponse{ProducedAt: now, Nonce: req.Nonce}
	switch {
	case faults.DropNonce:
		resp.Nonce = nil
	case faults.WrongNonce:
		resp.Nonce = []byte("another nonce")
	}
	for _, id := range req.IDs {
		s := h.status(id, now, faults)
		if faults.WrongSerial {
			s.ID.Serial = new(big.Int).Add(id.Serial, big.NewInt(1))
		}
		resp.Statuses = append(resp.Statuses, s)
	}
	cert, key := h.responder, h.respKey
	if faults.SignWith != nil {
		cert, key = faults.SignWith, faults.SignWithKey
	}
	return certpath.SignOCSPResponse(rand.Reader, resp, cert, key, true)
}

func (h *Hierarchy) status(id certpath.CertID, now time.Time, faults ResponderFaults) certpath.SingleStatus {
	s := certpath.SingleStatus{ID: id, ThisUpdate: now.Add(-faults.Stale), NextUpdate: now.Add(time.Hour - faults.Stale)}
	ours, err := certpath.NewCertID(&x509.Certificate{SerialNumber: id.Serial}, h.CA, id.Hash)
	if err != nil || !ours.Equal(id) || faults.Unknown {
		return s // unknown
	}
	h.mu.Lock()
	r, revoked := h.revoked[id.Serial.String()]
	h.mu.Unlock()
	s.Status = certpath.StatusGood
	if revoked && !r.At.After(now) {
		s.Status, s.RevokedAt, s.Reason = certpath.StatusRevoked, r.At, r.Reason
	}
	return s
}

// Handler serves OCSP (GET and POST, RFC 6960 appendix A), both lists and both
// CA certificates at the Path constants.
func (h *Hierarchy) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+PathOCSP, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		if err != nil {
			http.Error(w, "body", http.StatusBadRequest)
			return
		}
		h.serveOCSP(w, body)
	})
	mux.HandleFunc("GET "+PathOCSP+"/", func(w http.ResponseWriter, r *http.Request) {
		text, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), PathOCSP+"/"))
		if err != nil {
			http.Error(w, "path", http.StatusBadRequest)
			return
		}
		body, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			http.Error(w, "base64", http.StatusBadRequest)
			return
		}
		h.serveOCSP(w, body)
	})
	mux.HandleFunc("GET "+PathCRL, func(w http.ResponseWriter, _ *http.Request) { h.serveCRL(w, h.CRL) })
	mux.HandleFunc("GET "+PathCRL+"/{part}", func(w http.ResponseWriter, r *http.Request) {
		var of, n int
		if _, err := fmt.Sscanf(r.PathValue("part"), "%d-%d", &of, &n); err != nil || of != h.partitions || n < 0 || n >= of {
			http.NotFound(w, r)
			return
		}
		h.serveCRL(w, func(now time.Time) ([]byte, error) { return h.PartitionCRL(now, n) })
	})
	mux.HandleFunc("GET "+PathRootCRL, func(w http.ResponseWriter, _ *http.Request) { h.serveCRL(w, h.RootCRL) })
	mux.HandleFunc("GET "+PathRoot, func(w http.ResponseWriter, _ *http.Request) { write(w, "application/pkix-cert", h.Root.Raw) })
	mux.HandleFunc("GET "+PathCA, func(w http.ResponseWriter, _ *http.Request) { write(w, "application/pkix-cert", h.CA.Raw) })
	return mux
}

func (h *Hierarchy) serveOCSP(w http.ResponseWriter, body []byte) {
	h.mu.Lock()
	down := h.faults.OCSPDown
	h.mu.Unlock()
	der, err := h.OCSP(body, time.Now())
	if down || err != nil {
		http.Error(w, "down", http.StatusInternalServerError)
		return
	}
	write(w, "application/ocsp-response", der)
}

func (h *Hierarchy) serveCRL(w http.ResponseWriter, make func(time.Time) ([]byte, error)) {
	h.mu.Lock()
	down := h.faults.CRLDown
	h.mu.Unlock()
	der, err := make(time.Now())
	if down || err != nil {
		http.Error(w, "down", http.StatusInternalServerError)
		return
	}
	write(w, "application/pkix-crl", der)
}

func write(w http.ResponseWriter, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Write(body)
}

// Start makes a hierarchy whose sources are served on a free loopback port. Stop
// ends the server. BaseURL in o is replaced.
func Start(o Options) (h *Hierarchy, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	o.BaseURL = fmt.Sprintf("http://%s", l.Addr())
	if h, err = NewHierarchy(o); err != nil {
		l.Close()
		return nil, nil, err
	}
	srv := &http.Server{Handler: h.Handler(), ReadHeaderTimeout: 5 * time.Second}
	go srv.Serve(l)
	return h, func() { srv.Close() }, nil
}

// BaseURL is where the sources are said to be.
func (h *Hierarchy) BaseURL() string { return h.baseURL }
