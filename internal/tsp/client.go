package tsp

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/fault"
)

// Authority is a time-stamp authority to ask.
type Authority struct {
	// Name is for logs and reports.
	Name string
	URL  string
	// Policy is asked for, and must be in the token. Nil: the authority's choice.
	Policy asn1.ObjectIdentifier
	// Timeout bounds one question with all that belongs to it, the certificate's
	// status included. Zero is 10 s.
	Timeout time.Duration
}

// ClientConfig says whom to ask, in order, and whom to believe.
type ClientConfig struct {
	Authorities []Authority
	Post        Poster
	// Validator judges the authorities' certificates and collects the evidence;
	// its store holds the anchors of time-stamp authorities.
	Validator *certpath.Validator
	// Profile of their certificates. Without a name it is certpath.TimestampProfile.
	Profile certpath.Profile
	// Backoff is how long an authority is left alone after a failure; it doubles
	// with each further one up to MaxBackoff. Zero is 15 s and 10 min.
	Backoff, MaxBackoff time.Duration
	// MaxSkew is how far an authority's clock may be from ours, besides the
	// accuracy it names. Zero is 5 min.
	MaxSkew time.Duration
	// Now is the clock. Nil is time.Now.
	Now func() time.Time
}

// Stamped is a token that was asked for, with what shows that it can be relied on.
type Stamped struct {
	Token       *Token
	Certificate *x509.Certificate
	Authority   string
	// Result is the path and the revocation evidence, to be kept beside the token.
	Result *certpath.Result
	// Failed are the authorities that were asked before, in vain.
	Failed []Failure
}

// Failure says which authority gave no token that can be relied on, and why. It is
// for logs.
type Failure struct {
	Authority string
	Err       error
}

// Error names both.
func (f Failure) Error() string { return "tsp: " + f.Authority + ": " + f.Err.Error() }

// Unwrap gives the reason.
func (f Failure) Unwrap() error { return f.Err }

// errResting is the reason for an authority that is left alone for a while.
var errResting = errors.New("left alone after failures")

// Client asks several authorities in order. It is safe for concurrent use.
type Client struct {
	cfg    ClientConfig
	mu     sync.Mutex
	states []authorityState
}

type authorityState struct {
	failures int
	until    time.Time // left alone until then
	last     error
}

// AuthorityState is how an authority has been doing on this node.
type AuthorityState struct {
	Name     string
	Failures int       // in a row
	Until    time.Time // left alone until then; zero when it is not
	Last     error     // the last failure; nil after a success
}

// NewClient checks the configuration and makes a Client.
func NewClient(cfg ClientConfig) (*Client, error) {
	if len(cfg.Authorities) == 0 || cfg.Post == nil || cfg.Validator == nil {
		return nil, errors.New("tsp: a client needs authorities, a way to ask them and a validator")
	}
	if cfg.Profile.Name == "" {
		cfg.Profile = certpath.TimestampProfile()
	}
	cfg.Authorities = append([]Authority(nil), cfg.Authorities...)
	for i := range cfg.Authorities {
		a := &cfg.Authorities[i]
		if a.URL == "" || a.Timeout < 0 {
			return nil, fmt.Errorf("tsp: authority %q has no address, or a negative time-out", a.Name)
		}
		a.Timeout = defaultTo(a.Timeout, 10*time.Second)
		if a.Name == "" {
			a.Name = a.URL
		}
	}
	cfg.Backoff = defaultTo(cfg.Backoff, 15*time.Second)
	cfg.MaxBackoff = max(defaultTo(cfg.MaxBackoff, 10*time.Minute), cfg.Backoff)
	cfg.MaxSkew = defaultTo(cfg.MaxSkew, 5*time.Minute)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Client{cfg: cfg, states: make([]authorityState, len(cfg.Authorities))}, nil
}

func defaultTo(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// Stamp asks one authority after the other until one gives a token over imprint
// whose signature, nonce, policy, time and certificate are right. Without any it is
// ErrUnavailable, with a Failure for each authority in the cause and RetryAfter set.
func (c *Client) Stamp(ctx context.Context, imprint Imprint) (*Stamped, error) {
	var failed []Failure
	for i, a := range c.cfg.Authorities {
		if !c.admit(i) {
			failed = append(failed, Failure{a.Name, errResting})
			continue
		}
		s, err := c.ask(ctx, a, imprint)
		if ctx.Err() != nil && err != nil {
			c.release(i)
			return nil, ctx.Err() // the caller gave up: nobody's failure
		}
		c.settle(i, err)
		if err == nil {
			s.Failed = failed
			return s, nil
		}
		failed = append(failed, Failure{a.Name, err})
	}
	causes := make([]error, len(failed))
	for i, f := range failed {
		causes[i] = f
	}
	unavailable := *ErrUnavailable
	unavailable.RetryAfter = c.retryAfter()
	return nil, (&unavailable).Because(errors.Join(causes...))
}

// ErrUnavailable: no authority gave a token that can be relied on. Trying later helps.
var ErrUnavailable = fault.New(fault.Unavailable, "tsp_unavailable")

// admit tells whether an authority may be asked now. When its rest is over one
// question goes out first; the others wait for how that one ends.
func (c *Client) admit(i int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, now := &c.states[i], c.cfg.Now()
	if s.failures == 0 {
		return true
	}
	if now.Before(s.until) {
		return false
	}
	s.until = now.Add(c.cfg.Authorities[i].Timeout)
	return true
}

func (c *Client) release(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.states[i].failures > 0 {
		c.states[i].until = c.cfg.Now()
	}
}

func (c *Client) settle(i int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.states[i]
	if err == nil {
		*s = authorityState{}
		return
	}
	s.failures++
	s.last = err
	rest := c.cfg.Backoff
	for n := 1; n < s.failures && rest < c.cfg.MaxBackoff; n++ {
		rest *= 2
	}
	s.until = c.cfg.Now().Add(min(rest, c.cfg.MaxBackoff))
}

func (c *Client) retryAfter() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.cfg.Now()
	wait := c.cfg.MaxBackoff
	for _, s := range c.states {
		wait = min(wait, max(s.until.Sub(now), time.Second))
	}
	return wait
}

// States tells how the authorities have been doing, for metrics and alarms.
func (c *Client) States() []AuthorityState {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]AuthorityState, len(c.states))
	for i, s := range c.states {
		out[i] = AuthorityState{c.cfg.Authorities[i].Name, s.failures, s.until, s.last}
	}
	return out
}

// ask puts one question and judges the answer.
func (c *Client) ask(ctx context.Context, a Authority, imprint Imprint) (*Stamped, error) {
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	token, cert, err := request(ctx, c.cfg.Post, a.URL, imprint, a.Policy)
	if err != nil {
		return nil, err
	}
	now := c.cfg.Now()
	if off := token.Info.Time.Sub(now).Abs(); off > c.cfg.MaxSkew+token.Info.Accuracy {
		return nil, ErrInvalid.Because(fmt.Errorf("the authority's clock is off by %v", off))
	}
	at := token.Info.Time
	if at.After(now) {
		at = now // nobody knows a status in the future
	}
	result, err := c.cfg.Validator.Validate(ctx, cert, token.Certificates, at, c.cfg.Profile)
	if err != nil {
		return nil, err
	}
	return &Stamped{Token: token, Certificate: cert, Authority: a.Name, Result: result}, nil
}

// request sends a question and verifies what comes back: imprint, nonce, policy,
// signature, and that the signer is a time-stamp authority.
func request(ctx context.Context, post Poster, url string, imprint Imprint, policy asn1.ObjectIdentifier) (*Token, *x509.Certificate, error) {
	nonce := make([]byte, 8)
	rand.Read(nonce)
	req := &Request{Imprint: imprint, Policy: policy, Nonce: new(big.Int).SetBytes(nonce), CertReq: true}
	body, err := req.Marshal()
	if err != nil {
		return nil, nil, err
	}
	answer, err := post(ctx, url, MediaTypeQuery, body, MediaTypeReply, maxResponseBytes)
	if err != nil {
		return nil, nil, err
	}
	raw, err := ParseResponse(answer)
	if err != nil {
		return nil, nil, err
	}
	token, err := ParseToken(raw)
	if err != nil {
		return nil, nil, err
	}
	if token.Info.Nonce == nil || token.Info.Nonce.Cmp(req.Nonce) != 0 {
		return nil, nil, ErrMismatch.Because(errors.New("the nonce is not ours"))
	}
	if policy != nil && !token.Info.Policy.Equal(policy) {
		return nil, nil, ErrMismatch.Because(fmt.Errorf("policy %s instead of %s", token.Info.Policy, policy))
	}
	signer, err := token.Verify(imprint)
	if err != nil {
		return nil, nil, err
	}
	return token, signer, nil
}
