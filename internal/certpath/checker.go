package certpath

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// Fetcher brings bytes from an address. Its fields are the method values of
// egress.Client: Fetcher{Get: client.Get, Post: client.Post}.
type Fetcher struct {
	Get  func(ctx context.Context, url, accept string, max int64) ([]byte, error)
	Post func(ctx context.Context, url, contentType string, body []byte, accept string, max int64) ([]byte, error)
}

// CheckerConfig says how status is asked for. The zero value of each field but
// Fetch is a working choice.
type CheckerConfig struct {
	Fetch Fetcher
	// Now is the clock. Nil is time.Now.
	Now func() time.Time
	// Skew is how far a responder's clock may differ from ours. Zero is 5 minutes.
	Skew time.Duration
	// OCSPMaxAge bounds how long an OCSP answer is reused, and how old one without
	// nextUpdate may be. Zero is 10 minutes: a revoked card stops that fast.
	OCSPMaxAge time.Duration
	// CRLMaxAge bounds how long a list is reused before a newer one is asked for.
	// If none is to be had, the old one serves until its nextUpdate. Zero is 1 hour.
	CRLMaxAge time.Duration
	// MaxCRLBytes bounds one list. Zero is 16 MiB (MOICA's complete list has 5 MiB).
	MaxCRLBytes int64
	// Timeout bounds one question to one source. Zero is 8 s.
	Timeout time.Duration
	// CertIDHash is used in questions. Zero is SHA-1, which every responder knows
	// (RFC 5019 §2.1.1); it names a certificate here and secures nothing.
	CertIDHash crypto.Hash
	// RequireNonce refuses answers that leave out our nonce. Many responders
	// answer from a store and cannot (RFC 5019 §4).
	RequireNonce bool
	// AllowUnknown lets purposes, by Profile.Name, go on where the status of a
	// certificate is unknown; RecordAllowed is called at each use, writes the
	// audit entry, and must succeed for the allowance to count.
	AllowUnknown  map[string]Allowance
	RecordAllowed func(ctx context.Context, use Allowed) error
	// CacheEntries bounds remembered OCSP answers. Zero is 16,384.
	CacheEntries int
	// CacheCRLs and CacheCRLBytes bound remembered lists, by number and by octets.
	// Zero is 64, and 256 MiB.
	CacheCRLs     int
	CacheCRLBytes int64
	// Lists are lists to have at hand before a certificate names them; Refresh
	// fetches them.
	Lists []ListSource
	// Store shares lists between nodes, and over a restart. Nil: memory alone.
	Store ListStore
}

// Checker asks for the revocation status of certificates: OCSP first, else CRL.
// It is safe for concurrent use.
type Checker struct {
	cfg   CheckerConfig
	mu    sync.Mutex
	ocsp  map[[32]byte]Evidence
	crls  map[ListKey]*cachedCRL
	ended map[ListKey]*CRL     // read from the store for want of a list in force
	rest  map[string]time.Time // addresses that did not answer, until when
	load  singleflight.Group
}

// restAfterFailure is how long an address that did not answer is left alone
// where there is another way, such as a CRL instead of OCSP or the list at hand
// instead of a newer one: an outage must not cost everyone Timeout.
const restAfterFailure = 30 * time.Second

// maxRemembered bounds the size of a remembered OCSP answer; usual ones have 2 KiB.
const maxRemembered = 16 << 10

// Sources of Evidence.
const (
	SourceOCSP = "ocsp"
	SourceCRL  = "crl"
)

// Evidence is one authentic answer about one certificate, kept so that anybody
// can check it again. Raw is shared between answers from one list: do not change it.
type Evidence struct {
	Certificate *x509.Certificate
	Issuer      *x509.Certificate
	Source      string // SourceOCSP or SourceCRL
	URL         string
	Raw         []byte // OCSPResponse or CertificateList, DER
	Status      CertStatus
	RevokedAt   time.Time // when StatusRevoked; may lie after the time asked for
	Reason      int       // RFC 5280 §5.3.1
	ThisUpdate  time.Time
	NextUpdate  time.Time         // zero when the answer names none
	Responder   *x509.Certificate // who signed an OCSP answer
}

// NewChecker checks the configuration and makes a Checker.
func NewChecker(cfg CheckerConfig) (*Checker, error) {
	if cfg.Fetch.Get == nil || cfg.Fetch.Post == nil {
		return nil, errors.New("certpath: a checker needs a fetcher")
	}
	if cfg.CertIDHash == 0 {
		cfg.CertIDHash = crypto.SHA1
	}
	if _, err := oidByHash(cfg.CertIDHash); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&cfg.Skew, 5 * time.Minute}, {&cfg.OCSPMaxAge, 10 * time.Minute}, {&cfg.CRLMaxAge, time.Hour}, {&cfg.Timeout, 8 * time.Second}} {
		if *d.v < 0 {
			return nil, errors.New("certpath: negative duration")
		}
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if cfg.MaxCRLBytes <= 0 {
		cfg.MaxCRLBytes = 16 << 20
	}
	if cfg.CacheEntries <= 0 {
		cfg.CacheEntries = 16384
	}
	if cfg.CacheCRLs <= 0 {
		cfg.CacheCRLs = 64
	}
	if cfg.CacheCRLBytes <= 0 {
		cfg.CacheCRLBytes = 256 << 20
	}
	for _, l := range cfg.Lists {
		if l.Issuer == nil || len(httpOnly([]string{l.URL})) == 0 {
			return nil, fmt.Errorf("certpath: list %q needs an http address and an issuer", l.URL)
		}
	}
	if err := checkAllowances(cfg); err != nil {
		return nil, err
	}
	return &Checker{cfg: cfg, ocsp: make(map[[32]byte]Evidence), crls: make(map[ListKey]*cachedCRL), ended: make(map[ListKey]*CRL), rest: make(map[string]time.Time)}, nil
}

// Check asks whether cert, issued by issuer, was revoked at the time at. Evidence
// comes with ErrRevoked too. Every other failure is ErrStatusUnknown: a source
// that cannot be reached, is stale, or is not authentic says nothing.
//
// The sources speak about now. For a time in the past a revocation after that
// time is reported in the Evidence and is no error. A time in the future is
// unknown. So is the state of a certificate that has expired since: lists drop
// expired certificates (RFC 5280 §3.3), so "not listed" proves nothing any more.
func (c *Checker) Check(ctx context.Context, cert, issuer *x509.Certificate, at time.Time) (*Evidence, error) {
	if at.After(c.cfg.Now().Add(c.cfg.Skew)) {
		return nil, ErrStatusUnknown.Because(errors.New("status of a future time"))
	}
	if err := plausibleSerial(cert.SerialNumber); err != nil {
		return nil, ErrMalformed.Because(err)
	}
	var reasons []error
	canFallBack := len(httpOnly(cert.CRLDistributionPoints)) > 0
	for _, url := range httpOnly(cert.OCSPServer) {
		if canFallBack && c.resting(url) {
			reasons = append(reasons, fmt.Errorf("OCSP %s: did not answer a moment ago", url))
			continue
		}
		ev, err := c.askOCSP(ctx, url, cert, issuer)
		if err == nil {
			err = c.conclusive(ev)
		}
		if err == nil {
			return judge(ev, at)
		}
		reasons = append(reasons, fmt.Errorf("OCSP %s: %w", url, err))
	}
	ev, err := c.checkCRLs(ctx, cert, issuer)
	if err == nil {
		return judge(ev, at)
	}
	reasons = append(reasons, err)
	if ev := c.knownRevoked(cert, issuer); ev != nil && !ev.RevokedAt.After(at) {
		return judge(ev, at)
	}
	return nil, ErrStatusUnknown.Because(&Violation{RuleRevocation, cert, errors.Join(reasons...)})
}

// knownRevoked remembers a revocation that is final although the answer that
// told it is no longer fresh: silence must not bring a certificate back.
func (c *Checker) knownRevoked(cert, issuer *x509.Certificate) *Evidence {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ev, ok := c.ocsp[cacheKey(cert, issuer)]; ok && final(&ev) {
		return &ev
	}
	id := sha256.Sum256(issuer.Raw)
	for key, l := range c.crls {
		if key.Issuer != id {
			continue
		}
		if _, err := l.crl.covered(cert); err != nil {
			continue
		}
		if ev := l.crl.about(cert, issuer, key.URL); final(ev) {
			return ev
		}
	}
	return nil
}

// final: revoked, and not only on hold (RFC 5280 §5.3.1).
func final(ev *Evidence) bool { return ev.Status == StatusRevoked && ev.Reason != reasonHold }

const reasonHold = 6

// checkCRLs asks the distribution points in the order of the certificate.
func (c *Checker) checkCRLs(ctx context.Context, cert, issuer *x509.Certificate) (*Evidence, error) {
	var reasons []error
	for _, url := range httpOnly(cert.CRLDistributionPoints) {
		ev, err := c.askCRL(ctx, url, cert, issuer)
		if err == nil {
			err = c.conclusive(ev)
		}
		if err == nil {
			return ev, nil
		}
		reasons = append(reasons, fmt.Errorf("CRL %s: %w", url, err))
	}
	if len(reasons) == 0 {
		return nil, errors.New("the certificate names no CRL")
	}
	return nil, errors.Join(reasons...)
}

// conclusive tells whether an authentic answer settles the question.
func (c *Checker) conclusive(ev *Evidence) error {
	switch {
	case ev.Status == StatusRevoked:
		return nil
	case ev.Status != StatusGood:
		return errors.New("the responder does not know the certificate")
	case ev.ThisUpdate.After(ev.Certificate.NotAfter):
		return errors.New("the answer was given after the certificate expired")
	}
	return nil
}

func judge(ev *Evidence, at time.Time) (*Evidence, error) {
	if ev.Status == StatusRevoked && !ev.RevokedAt.After(at) {
		return ev, revokedFault(ev)
	}
	return ev, nil
}

// httpOnly leaves out ldap and anything else we do not speak, and bounds the number.
func httpOnly(urls []string) []string {
	var out []string
	for _, u := range urls {
		lower := strings.ToLower(u)
		if len(out) < 4 && (strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "https://")) {
			out = append(out, u)
		}
	}
	return out
}

// fresh checks an answer's period against the clock (RFC 6960 §4.2.2.1).
func (c *Checker) fresh(this, next time.Time, maxAge time.Duration) error {
	now := c.cfg.Now()
	switch {
	case this.After(now.Add(c.cfg.Skew)):
		return fmt.Errorf("thisUpdate %s lies in the future", this.Format(time.RFC3339))
	case next.IsZero() && now.Sub(this) > maxAge+c.cfg.Skew:
		return fmt.Errorf("answer of %s without nextUpdate is too old", this.Format(time.RFC3339))
	case !next.IsZero() && next.Before(this):
		return errors.New("nextUpdate lies before thisUpdate")
	case !next.IsZero() && now.After(next.Add(c.cfg.Skew)):
		return fmt.Errorf("answer is stale since %s", next.Format(time.RFC3339))
	}
	return nil
}

func (c *Checker) askOCSP(ctx context.Context, url string, cert, issuer *x509.Certificate) (*Evidence, error) {
	key := cacheKey(cert, issuer)
	if ev, ok := c.cachedOCSP(key); ok {
		return ev, nil
	}
	id, err := NewCertID(cert, issuer, c.cfg.CertIDHash)
	if err != nil {
		return nil, err
	}
	req := OCSPRequest{IDs: []CertID{id}, Nonce: make([]byte, 32)} // RFC 9654 §2.1
	rand.Read(req.Nonce)
	body, err := req.Marshal()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	raw, err := c.cfg.Fetch.Post(ctx, url, "application/ocsp-request", body, "application/ocsp-response", maxOCSPResponseBytes)
	if err != nil {
		if !errors.Is(err, context.Canceled) { // the caller left: nothing is known about the source
			c.letRest(url)
		}
		return nil, err
	}
	resp, err := ParseOCSPResponse(raw)
	if err != nil {
		return nil, err
	}
	if resp.Nonce == nil && c.cfg.RequireNonce || resp.Nonce != nil && string(resp.Nonce) != string(req.Nonce) {
		return nil, errors.New("the nonce is not ours")
	}
	ev, err := c.readAnswer(ctx, resp, cert, issuer)
	if err != nil {
		return nil, err
	}
	ev.URL = url
	c.rememberOCSP(key, ev)
	return ev, nil
}

// readAnswer verifies a response and finds the part about cert.
func (c *Checker) readAnswer(ctx context.Context, resp *OCSPResponse, cert, issuer *x509.Certificate) (*Evidence, error) {
	notRevoked := func(responder *x509.Certificate) error {
		// By list only: asking the responder about itself would prove nothing.
		ev, err := c.checkCRLs(ctx, responder, issuer)
		if err == nil {
			_, err = judge(ev, c.cfg.Now())
		}
		return err
	}
	responder, err := resp.Responder(issuer, c.cfg.Now(), notRevoked)
	if err != nil {
		return nil, err
	}
	ev, err := resp.about(cert, issuer, responder, "")
	if err == nil {
		err = c.fresh(ev.ThisUpdate, ev.NextUpdate, c.cfg.OCSPMaxAge)
	}
	if err != nil {
		return nil, err
	}
	return ev, nil
}

// cacheKey names a certificate under one issuing key: serial numbers are unique
// only there.
func cacheKey(cert, issuer *x509.Certificate) [32]byte {
	h := sha256.New()
	h.Write(issuer.Raw)
	h.Write(cert.Raw)
	return [32]byte(h.Sum(nil))
}

func (c *Checker) cachedOCSP(key [32]byte) (*Evidence, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ev, ok := c.ocsp[key]
	if !ok {
		return nil, false
	}
	if !c.reusable(ev) {
		if !final(&ev) {
			delete(c.ocsp, key)
		}
		return nil, false
	}
	return &ev, true
}

// reusable: until nextUpdate and no older than OCSPMaxAge. The age counts from
// thisUpdate at the earliest, so a stored answer does not get a second life.
func (c *Checker) reusable(ev Evidence) bool {
	now := c.cfg.Now()
	return !ev.NextUpdate.IsZero() && now.Before(ev.NextUpdate) && now.Before(ev.ThisUpdate.Add(c.cfg.OCSPMaxAge)) &&
		!ev.ThisUpdate.After(now.Add(c.cfg.Skew))
}

func (c *Checker) rememberOCSP(key [32]byte, ev *Evidence) {
	if ev.Status == StatusUnknown || len(ev.Raw) > maxRemembered || !c.reusable(*ev) && !final(ev) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ocsp) >= c.cfg.CacheEntries {
		for k, old := range c.ocsp {
			if !c.reusable(old) && !final(&old) {
				delete(c.ocsp, k)
			}
		}
		for k := range c.ocsp { // still full: any will do, order of a map is random
			if len(c.ocsp) < c.cfg.CacheEntries {
				break
			}
			delete(c.ocsp, k)
		}
	}
	c.ocsp[key] = *ev
}

func (c *Checker) resting(url string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.rest[url]
	if ok && c.cfg.Now().After(until) {
		delete(c.rest, url)
		return false
	}
	return ok
}

func (c *Checker) letRest(url string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.rest) < 1024 { // addresses come from certificates of trusted CAs: few
		c.rest[url] = c.cfg.Now().Add(restAfterFailure)
	}
}
