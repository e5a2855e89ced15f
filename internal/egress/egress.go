// Package egress is the only place in Sealgate that dials out.
//
// Addresses inside certificates (OCSP, CRL), time-stamp authorities and webhooks
// are written by others. A server that fetches whatever an uploaded certificate
// names can be steered at the cloud metadata service or at a neighbour's admin
// port (SSRF, CWE-918). So every outgoing request passes three gates:
//
//  1. the name and port must be on the operator's allow-list,
//  2. the address is judged after the name was resolved, at the moment of the
//     connect, so that a name that changes between look-up and connect (DNS
//     rebinding) gains nothing,
//  3. the answer is bounded in time and size; redirects are not followed,
//     because each would be a new, unchecked destination.
//
// Environment proxies are ignored: behind a proxy gate 2 would judge the proxy.
package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"sealgate/internal/fault"
)

// Faults a caller can meet. Their causes carry the detail for the log.
var (
	// ErrForbidden: the URL, host or resolved address is not allowed. Nothing was sent.
	ErrForbidden = fault.New(fault.Forbidden, "egress_forbidden")
	// ErrFailed: no usable answer (name, connect, TLS, time-out, status other than 200).
	ErrFailed = fault.New(fault.Unavailable, "egress_failed")
	// ErrTooLarge: the answer is larger than the caller or the configuration allows.
	ErrTooLarge = fault.New(fault.Unavailable, "egress_too_large")
)

// Limits used where Config leaves a value at zero.
const (
	DefaultTimeout  = 10 * time.Second
	DefaultMaxBytes = 16 << 20
)

// Config says where requests may go and how large and slow an answer may be.
type Config struct {
	// AllowHosts lists permitted destinations: "host" (ports 80 and 443),
	// "host:port", "*.suffix" (any name below suffix, not suffix itself) with or
	// without a port. A lone "*" permits every name. Empty permits nothing.
	AllowHosts []string
	// AllowLoopback permits 127.0.0.0/8 and ::1; for development and tests.
	AllowLoopback bool
	// AllowPrivate permits RFC 1918, RFC 4193 and RFC 6598 addresses, for
	// authorities that live in the operator's own network.
	AllowPrivate bool
	// Timeout bounds one whole exchange. Zero means DefaultTimeout.
	Timeout time.Duration
	// MaxBytes bounds any answer, whatever the caller asks. Zero means DefaultMaxBytes.
	MaxBytes int64
	// TLS may bring own roots and a client certificate, for a service that
	// knows us. Nil: the system's roots and no certificate. TLS 1.2 is the least.
	TLS *tls.Config
}

// Client fetches under the rules of its Config. It is safe for concurrent use.
type Client struct {
	hosts    hostList
	policy   addressPolicy
	maxBytes int64
	http     *http.Client
}

// New checks the configuration and makes a Client.
func New(cfg Config) (*Client, error) {
	hosts, err := parseHosts(cfg.AllowHosts)
	if err != nil {
		return nil, err
	}
	if cfg.Timeout < 0 || cfg.MaxBytes < 0 {
		return nil, errors.New("egress: negative limit")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	c := &Client{
		hosts:    hosts,
		policy:   addressPolicy{loopback: cfg.AllowLoopback, private: cfg.AllowPrivate},
		maxBytes: cfg.MaxBytes,
	}
	if cfg.TLS == nil {
		cfg.TLS = &tls.Config{}
	}
	secure := cfg.TLS.Clone()
	secure.MinVersion = max(secure.MinVersion, tls.VersionTLS12)
	dialer := &net.Dialer{Timeout: cfg.Timeout, ControlContext: c.control}
	c.http = &http.Client{
		Timeout: cfg.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
		Transport: &http.Transport{
			Proxy:                  nil,
			DialContext:            dialer.DialContext,
			TLSClientConfig:        secure,
			TLSHandshakeTimeout:    cfg.Timeout,
			ResponseHeaderTimeout:  cfg.Timeout,
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        30 * time.Second,
			// A compressed answer could grow a thousandfold; none is asked for.
			DisableCompression: true,
			ForceAttemptHTTP2:  true,
		},
	}
	return c, nil
}

// control is called by the dialler with the resolved address, before connect(2).
func (c *Client) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return ErrForbidden.Because(fmt.Errorf("network %q", network))
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return ErrForbidden.Because(err)
	}
	if !c.policy.permits(ap.Addr()) {
		return ErrForbidden.Because(fmt.Errorf("address %s is not public", ap.Addr()))
	}
	return nil
}

// Get fetches rawURL and returns the body of a 200 answer of at most max bytes.
func (c *Client) Get(ctx context.Context, rawURL, accept string, max int64) ([]byte, error) {
	return c.do(ctx, http.MethodGet, rawURL, "", nil, accept, max)
}

// Post sends body and returns the body of a 200 answer of at most max bytes.
func (c *Client) Post(ctx context.Context, rawURL, contentType string, body []byte, accept string, max int64) ([]byte, error) {
	return c.do(ctx, http.MethodPost, rawURL, contentType, body, accept, max)
}

func (c *Client) do(ctx context.Context, method, rawURL, contentType string, body []byte, accept string, max int64) ([]byte, error) {
	a, err := c.Exchange(ctx, Request{Method: method, URL: rawURL, ContentType: contentType, Body: body, Accept: accept, Max: max})
	if err != nil {
		return nil, err
	}
	if a.Status != http.StatusOK {
		return nil, ErrFailed.Because(fmt.Errorf("%s: status %d", method, a.Status))
	}
	return a.Body, nil
}

// Request is one exchange of a protocol that has more answers than 200.
type Request struct {
	Method, URL, ContentType, Accept string
	Body                             []byte
	// User and Password, when set, go along as HTTP Basic (RFC 7617), and only
	// over https.
	User, Password string
	// Header has further headers.
	Header map[string]string
	// Max bounds the answer's body in bytes; 0: the configuration's MaxBytes.
	Max int64
}

// Answer is what came back, whatever its status. Body is that of a 200 and
// bounded; with other statuses it is left unread.
type Answer struct {
	Status                  int
	ContentType, RetryAfter string
	Body                    []byte
}

// Exchange sends a request and gives the answer of any status. It is ErrFailed
// only when there is none.
func (c *Client) Exchange(ctx context.Context, r Request) (Answer, error) {
	if err := c.Permitted(r.URL); err != nil {
		return Answer{}, err
	}
	var reader io.Reader
	if r.Body != nil {
		reader = bytes.NewReader(r.Body)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, reader)
	if err != nil {
		return Answer{}, ErrForbidden.Because(err)
	}
	if r.User != "" || r.Password != "" {
		if req.URL.Scheme != "https" {
			return Answer{}, ErrForbidden.Because(errors.New("a password goes over https only"))
		}
		req.SetBasicAuth(r.User, r.Password)
	}
	for name, value := range r.Header {
		req.Header.Set(name, value)
	}
	for name, value := range map[string]string{"Content-Type": r.ContentType, "Accept": r.Accept, "User-Agent": "Sealgate"} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, ErrForbidden) { // raised by control, wrapped by net and url
			return Answer{}, ErrForbidden.Because(err)
		}
		return Answer{}, ErrFailed.Because(err)
	}
	defer resp.Body.Close()
	a := Answer{Status: resp.StatusCode, ContentType: resp.Header.Get("Content-Type"), RetryAfter: resp.Header.Get("Retry-After")}
	if a.Status == http.StatusOK {
		a.Body, err = c.read(resp, r.Max)
	}
	return a, err
}

// read takes at most max bytes, and one more to notice that there are too many.
func (c *Client) read(resp *http.Response, max int64) ([]byte, error) {
	if max <= 0 || max > c.maxBytes {
		max = c.maxBytes
	}
	if resp.ContentLength > max {
		return nil, ErrTooLarge.Because(fmt.Errorf("%d bytes announced, %d allowed", resp.ContentLength, max))
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, max+1))
	if err != nil {
		return nil, ErrFailed.Because(err)
	}
	if int64(len(data)) > max {
		return nil, ErrTooLarge.Because(fmt.Errorf("more than %d bytes", max))
	}
	return data, nil
}

// Permitted tells, without sending anything, whether the URL's form, scheme,
// host and port pass the allow-list. The address is judged only when dialling.
func (c *Client) Permitted(rawURL string) error {
	if len(rawURL) > 2048 {
		return ErrForbidden.Because(errors.New("URL too long"))
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return ErrForbidden.Because(err)
	}
	if u.Opaque != "" || u.User != nil || u.Host == "" {
		return ErrForbidden.Because(errors.New("URL must be scheme://host/path without credentials"))
	}
	port := u.Port()
	switch u.Scheme {
	case "http":
		port = orDefault(port, "80")
	case "https":
		port = orDefault(port, "443")
	default:
		return ErrForbidden.Because(fmt.Errorf("scheme %q", u.Scheme))
	}
	if !c.hosts.permits(u.Hostname(), port) {
		return ErrForbidden.Because(fmt.Errorf("host %q port %s is not on the allow-list", u.Hostname(), port))
	}
	return nil
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
