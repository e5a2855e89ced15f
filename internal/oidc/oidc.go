// Package oidc is the OpenID Provider: the door by which agencies' systems get
// a verified identity (OpenID Connect Core 1.0), and API tokens for their own
// calls (RFC 6749 §4.4).
//
// Only the authorization code flow with PKCE S256 exists, for every kind of
// client. A login costs four commits: the order is created here, claimed and
// approved by the phone, and redeemed here. Nothing is stored for the
// authorization code: it is a MAC over the order and the time it was handed
// out, and the order's step from approved to completed makes it work once.
//
//	GET  /oauth2/authorize ─▶ order created, 303 to /o/{order}
//	     (phone approves, page goes to /o/{order}/return: Provider.Return)
//	POST /oauth2/token     ─▶ approved → completed + access token + audit entry
//
// The request parsing, client authentication dispatch and message types come
// from github.com/zitadel/oidc/v3; what that library leaves to its user or does
// too leniently (single use, PKCE for all, S256 only, RFC 9207, replay of client
// assertions, truth in the discovery document) is done here.
package oidc

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	zoidc "github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"sealgate/internal/agency"
	"sealgate/internal/citizen"
	"sealgate/internal/keyring"
	"sealgate/internal/order"
)

// Lifetimes.
const (
	// CodeLife is how long an authorization code works after the browser got it.
	CodeLife = 60 * time.Second
	// ReturnWindow is how long after the approval the starting browser may
	// fetch its way back (and may fetch it again, until a code was redeemed).
	ReturnWindow = 5 * time.Minute
	// IDTokenLife bounds the ID token (OpenID Connect Core 1.0 §2, exp).
	IDTokenLife = 5 * time.Minute
	// AccessTokenLife is how long userinfo may be read after a login.
	AccessTokenLife = 10 * time.Minute
	// ClientTokenLife is the life of tokens for our own API. They are verified
	// without the database, so this bounds how long a lost one is of use.
	ClientTokenLife = 10 * time.Minute
)

// Paths of the endpoints.
const (
	PathAuthorize  = "/oauth2/authorize"
	PathToken      = "/oauth2/token"
	PathUserinfo   = "/oauth2/userinfo"
	PathJWKS       = "/oauth2/jwks"
	PathIntrospect = "/oauth2/introspect"
	PathRevoke     = "/oauth2/revoke"
	PathLogout     = "/oauth2/logout"
	PathDiscovery  = zoidc.DiscoveryEndpoint
)

// Scopes that exist.
const (
	ScopeOpenID     = "openid"
	ScopeProfile    = "profile"     // the citizen's name
	ScopeNationalID = "national_id" // the national ID number
	ScopeSign       = "sign"        // sign orders over the REST API (client credentials)
)

// Config is what a Provider needs. All fields without a note are required.
type Config struct {
	// Issuer is our public address without a slash at the end.
	Issuer   string
	Store    Store
	Agencies *agency.Service
	Orders   *order.Service
	Keyring  *keyring.Keyring
	Vault    *citizen.Vault
	// CodeSecret is the keyring secret "code", 32 bytes: keys for authorization
	// codes and access tokens are derived from it.
	CodeSecret []byte
	// ReleaseNationalID lets a client that has the scope be told the national ID.
	// Without it the scope is left out of every grant, as a server may
	// (RFC 6749 §3.3), and nothing opens the sealed value.
	ReleaseNationalID bool

	// Browser gives the key of the asking browser and sets its cookie when it
	// has none.
	Browser func(http.ResponseWriter, *http.Request) order.BrowserKey
	// Origin describes where a request came from.
	Origin func(*http.Request) order.Origin
	// ErrorPage answers a fault with a page.
	ErrorPage func(http.ResponseWriter, *http.Request, error)

	Log *slog.Logger
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// Provider serves the endpoints.
type Provider struct {
	cfg       Config
	keys      *keys
	codeKey   []byte
	tokenKey  []byte
	discovery []byte
	machine   http.Handler // token, userinfo, introspection, revocation
	now       func() time.Time
}

// New makes a Provider and sees to it that a signing key exists.
func New(ctx context.Context, cfg Config) (*Provider, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Provider{cfg: cfg, now: func() time.Time { return cfg.Now().UTC().Truncate(time.Microsecond) }}
	var err error
	if p.codeKey, err = derive(cfg.CodeSecret, "authorization code"); err != nil {
		return nil, err
	}
	if p.tokenKey, err = derive(cfg.CodeSecret, "access token"); err != nil {
		return nil, err
	}
	if p.keys, err = newKeys(ctx, cfg.Keyring, p.now); err != nil {
		return nil, err
	}
	if p.discovery, err = p.discoveryDocument(); err != nil {
		return nil, err
	}
	p.machine = op.RegisterServer(&machineServer{p: p}, op.Endpoints{
		Token:         op.NewEndpoint(PathToken),
		Userinfo:      op.NewEndpoint(PathUserinfo),
		Introspection: op.NewEndpoint(PathIntrospect),
		Revocation:    op.NewEndpoint(PathRevoke),
	}, op.WithServerCORSOptions(nil))
	return p, nil
}

func (c *Config) validate() error {
	switch {
	case c.Store == nil, c.Agencies == nil, c.Orders == nil, c.Keyring == nil, c.Vault == nil, c.Log == nil,
		c.Browser == nil, c.Origin == nil, c.ErrorPage == nil:
		return errors.New("oidc: a part is missing from the configuration")
	case len(c.CodeSecret) < 32:
		return errors.New("oidc: the code secret is shorter than 32 bytes")
	case strings.HasSuffix(c.Issuer, "/"):
		return errors.New("oidc: the issuer must not end with a slash")
	}
	if err := op.ValidateIssuer(c.Issuer, true); err != nil {
		return fmt.Errorf("oidc: issuer: %w", err)
	}
	return nil
}

func derive(secret []byte, use string) ([]byte, error) {
	return hkdf.Key(sha256.New, secret, nil, "sealgate/oidc/v1/"+use, 32)
}

// Mount puts the endpoints on a router. What browsers open (authorize, logout)
// answers faults with pages, everything else with OAuth error objects.
func (p *Provider) Mount(r chi.Router) {
	r.Get(PathAuthorize, p.authorize)
	r.Post(PathAuthorize, p.authorizePosted)
	r.Get(PathLogout, p.logout)
	r.Post(PathLogout, p.logout)
	r.Get(PathDiscovery, p.serveDiscovery)
	r.Get(PathJWKS, p.serveJWKS)
	guarded := p.guard(p.machine)
	for _, path := range []string{PathToken, PathIntrospect, PathRevoke} {
		r.Method(http.MethodPost, path, guarded)
	}
	r.Method(http.MethodGet, PathUserinfo, guarded)
	r.Method(http.MethodPost, PathUserinfo, guarded)
}

// addressKey carries the caller's address to where audit entries are made.
type addressKey struct{}

func withAddress(ctx context.Context, ip netip.Addr) context.Context {
	return context.WithValue(ctx, addressKey{}, ip)
}

func address(ctx context.Context) netip.Addr {
	ip, _ := ctx.Value(addressKey{}).(netip.Addr)
	return ip
}
