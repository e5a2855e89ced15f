// Package est asks a certificate authority for certificates by Enrollment over
// Secure Transport (RFC 7030, with the clarifications of RFC 8951).
//
// It is the client of a registration authority: the service proves itself by
// HTTP Basic or a TLS client certificate, and sends requests that others' keys
// have signed. It trusts nothing of what comes back: the bytes are bounded and
// read strictly, and whether a certificate is good is package issuing's question.
//
// Operations: /cacerts, /csrattrs, /simpleenroll, /simplereenroll. Redirects are
// not followed, and keys are never made by the other side (/serverkeygen).
package est

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"sealgate/internal/egress"
	"sealgate/internal/fault"
)

// Faults of this package. They are for the log, the register of requests and
// operators; a citizen never meets them.
var (
	// ErrAnswer: the server answered with something that is not the protocol.
	ErrAnswer = fault.New(fault.Unavailable, "est_answer")
	// ErrStatus: the server refused, with a status that is no success.
	ErrStatus = fault.New(fault.Unavailable, "est_status")
	// ErrUnauthorized: the server does not accept our password or certificate.
	ErrUnauthorized = fault.New(fault.Unavailable, "est_unauthorized")
	// ErrAttributes: the server demands of requests what ours do not have.
	ErrAttributes = fault.New(fault.Unprocessable, "est_attributes")
)

// Bounds on what arrives, in bytes of the transfer encoding.
const (
	maxAnswer = 256 << 10
	maxCerts  = 16
)

// Bounds on what a server may ask us to wait.
const (
	minRetry     = time.Second
	maxRetry     = 24 * time.Hour
	defaultRetry = time.Minute
)

// Statuses of RFC 9110 §15, and its form of dates (§5.6.7).
const (
	statusOK             = 200
	statusAccepted       = 202
	statusNoContent      = 204
	statusUnauthorized   = 401
	statusForbidden      = 403
	statusNotFound       = 404
	statusNotImplemented = 501
	httpDate             = "Mon, 02 Jan 2006 15:04:05 GMT"
)

// knownFor is how long /cacerts and /csrattrs are remembered.
const knownFor = 10 * time.Minute

// Config is what a Client needs.
type Config struct {
	// URL is the server's base: https://HOST/.well-known/est or, for a server
	// with several CAs, https://HOST/.well-known/est/LABEL (RFC 7030 §3.2.2).
	URL string
	// Exchange is the method of an egress.Client whose TLS configuration has
	// the explicit trust anchors (§3.3.1) and may have a client certificate.
	Exchange func(ctx context.Context, r egress.Request) (egress.Answer, error)
	// User and Password for HTTP Basic (§3.2.3); empty: none.
	User, Password string
	Now            func() time.Time // nil: time.Now
}

// Client talks to one server. It is safe for concurrent use.
type Client struct {
	cfg Config

	mu    sync.Mutex
	chain known[[]*x509.Certificate]
	attrs known[Attributes]
}

type known[T any] struct {
	value T
	until time.Time
}

// New checks the configuration. Nothing is sent.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("est: %q is no https address without password, query and fragment", cfg.URL)
	}
	if !strings.HasPrefix(u.Path, "/.well-known/est") {
		return nil, fmt.Errorf("est: the path of %q does not begin with /.well-known/est (RFC 7030 §3.2.2)", cfg.URL)
	}
	if cfg.Exchange == nil {
		return nil, errors.New("est: nothing to send with")
	}
	cfg.URL = strings.TrimRight(cfg.URL, "/")
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Client{cfg: cfg}, nil
}

// Reply is the answer to a request for a certificate: certificates, or, while
// the CA still thinks, a time to ask again.
type Reply struct {
	Certificates []*x509.Certificate
	// RetryAfter is not zero when there is no certificate yet (§4.2.3): the same
	// request is to be sent again then.
	RetryAfter time.Duration
}

// Enrol sends a PKCS #10 request in DER to /simpleenroll or, to renew, to
// /simplereenroll (§4.2). What the server demands of requests is read first and
// the request held against it.
func (c *Client) Enrol(ctx context.Context, request []byte, renew bool) (Reply, error) {
	demands, err := c.Attributes(ctx)
	if err != nil {
		return Reply{}, err
	}
	if err := demands.Satisfied(request); err != nil {
		return Reply{}, err
	}
	path := "/simpleenroll"
	if renew {
		path = "/simplereenroll"
	}
	a, err := c.exchange(ctx, egress.Request{Method: "POST", URL: c.cfg.URL + path, ContentType: "application/pkcs10",
		Body: encode(request), Accept: "application/pkcs7-mime", Max: maxAnswer})
	if err != nil {
		return Reply{}, err
	}
	switch a.Status {
	case statusAccepted:
		return Reply{RetryAfter: c.retryAfter(a.RetryAfter)}, nil
	case statusOK:
		certs, err := certificates(a)
		return Reply{Certificates: certs}, err
	}
	return Reply{}, refused(path, a)
}

// CACertificates asks for the CA's certificates (§4.1). They help to build a
// path; nothing is trusted because it came from here.
func (c *Client) CACertificates(ctx context.Context) ([]*x509.Certificate, error) {
	c.mu.Lock()
	k := c.chain
	c.mu.Unlock()
	if c.cfg.Now().Before(k.until) {
		return k.value, nil
	}
	a, err := c.exchange(ctx, egress.Request{Method: "GET", URL: c.cfg.URL + "/cacerts", Accept: "application/pkcs7-mime", Max: maxAnswer})
	if err != nil {
		return nil, err
	}
	if a.Status != statusOK {
		return nil, refused("/cacerts", a)
	}
	certs, err := certificates(a)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.chain = known[[]*x509.Certificate]{certs, c.cfg.Now().Add(knownFor)}
	c.mu.Unlock()
	return certs, nil
}

// Attributes asks what the server demands of requests (§4.5). A server that has
// no such address, or nothing to say, demands nothing (§4.5.2).
func (c *Client) Attributes(ctx context.Context) (Attributes, error) {
	c.mu.Lock()
	k := c.attrs
	c.mu.Unlock()
	if c.cfg.Now().Before(k.until) {
		return k.value, nil
	}
	a, err := c.exchange(ctx, egress.Request{Method: "GET", URL: c.cfg.URL + "/csrattrs", Accept: "application/csrattrs", Max: maxAnswer})
	if err != nil {
		return Attributes{}, err
	}
	var demands Attributes
	switch a.Status {
	case statusNoContent, statusNotFound, statusNotImplemented:
	case statusOK:
		if err := contentType(a.ContentType, "application/csrattrs"); err != nil {
			return Attributes{}, err
		}
		der, err := decode(a.Body)
		if err != nil {
			return Attributes{}, err
		}
		if demands, err = ParseAttributes(der); err != nil {
			return Attributes{}, err
		}
	default:
		return Attributes{}, refused("/csrattrs", a)
	}
	c.mu.Lock()
	c.attrs = known[Attributes]{demands, c.cfg.Now().Add(knownFor)}
	c.mu.Unlock()
	return demands, nil
}

func (c *Client) exchange(ctx context.Context, r egress.Request) (egress.Answer, error) {
	r.User, r.Password = c.cfg.User, c.cfg.Password
	return c.cfg.Exchange(ctx, r)
}

func refused(path string, a egress.Answer) error {
	err := fmt.Errorf("%s: status %d", path, a.Status)
	if a.Status == statusUnauthorized || a.Status == statusForbidden {
		return ErrUnauthorized.Because(err)
	}
	return ErrStatus.Because(err)
}

// retryAfter reads seconds or a date (RFC 9110 §10.2.3), within bounds.
func (c *Client) retryAfter(text string) time.Duration {
	d := defaultRetry
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		d = time.Duration(n) * time.Second
	} else if at, err := time.Parse(httpDate, text); err == nil {
		d = at.Sub(c.cfg.Now())
	}
	return min(max(d, minRetry), maxRetry)
}

// certificates reads a certs-only answer (§4.1.3, §4.2.3).
func certificates(a egress.Answer) ([]*x509.Certificate, error) {
	if err := contentType(a.ContentType, "application/pkcs7-mime"); err != nil {
		return nil, err
	}
	der, err := decode(a.Body)
	if err != nil {
		return nil, err
	}
	return ParseCertsOnly(der)
}

// contentType holds the answer's type; parameters but smime-type do not matter.
func contentType(header, want string) error {
	got, params, err := mime.ParseMediaType(header)
	if err != nil || got != want {
		return ErrAnswer.Because(fmt.Errorf("content type %.80q, not %s", header, want))
	}
	if t, ok := params["smime-type"]; ok && !strings.EqualFold(t, "certs-only") {
		return ErrAnswer.Because(fmt.Errorf("smime-type %.40q, not certs-only", t))
	}
	return nil
}

// lineLength is that of the base64 lines we send; RFC 8951 §3.1 allows any.
const lineLength = 76

// encode is base64 in lines (RFC 4648 §4, RFC 8951 §3.1).
func encode(der []byte) []byte {
	text := base64.StdEncoding.EncodeToString(der)
	var out bytes.Buffer
	for len(text) > lineLength {
		out.WriteString(text[:lineLength] + "\r\n")
		text = text[lineLength:]
	}
	out.WriteString(text + "\r\n")
	return out.Bytes()
}

// decode reads base64, with white space anywhere (RFC 8951 §3.1).
func decode(body []byte) ([]byte, error) {
	text := make([]byte, 0, len(body))
	for _, b := range body {
		switch b {
		case ' ', '\t', '\r', '\n':
		default:
			text = append(text, b)
		}
	}
	if len(text) == 0 {
		return nil, ErrAnswer.Because(errors.New("an empty answer"))
	}
	der, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil {
		return nil, ErrAnswer.Because(err)
	}
	return der, nil
}
