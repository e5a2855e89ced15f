package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	zoidc "github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/fault"
)

// client is an authenticated client in the shape the library wants.
type client struct {
	*registration
	// assertion must be consumed in the transaction that uses it.
	assertion *UsedAssertion
}

// registration keeps the library's method names from clashing with the fields
// of agency.Client.
type registration struct{ c *agency.Client }

var _ op.Client = (*client)(nil)

// The methods of op.Client. Those about redirects, lifetimes and claims are
// not asked on the roads we use; their answers are the strictest.
func (r *registration) GetID() string                        { return r.c.ClientID }
func (r *registration) RedirectURIs() []string               { return r.c.RedirectURIs }
func (r *registration) PostLogoutRedirectURIs() []string     { return r.c.PostLogoutRedirectURIs }
func (r *registration) ApplicationType() op.ApplicationType  { return op.ApplicationTypeWeb }
func (r *registration) AuthMethod() zoidc.AuthMethod         { return zoidc.AuthMethod(r.c.AuthMethod) }
func (r *registration) LoginURL(id string) string            { return "/o/" + id }
func (r *registration) AccessTokenType() op.AccessTokenType  { return op.AccessTokenTypeBearer }
func (r *registration) IDTokenLifetime() time.Duration       { return IDTokenLife }
func (r *registration) DevMode() bool                        { return false }
func (r *registration) IsScopeAllowed(scope string) bool     { return r.c.HasScope(scope) }
func (r *registration) IDTokenUserinfoClaimsAssertion() bool { return true }
func (r *registration) ClockSkew() time.Duration             { return 0 }
func (r *registration) ResponseTypes() []zoidc.ResponseType {
	return []zoidc.ResponseType{zoidc.ResponseTypeCode}
}
func (r *registration) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return func([]string) []string { return nil }
}
func (r *registration) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func([]string) []string { return nil }
}

func (r *registration) GrantTypes() []zoidc.GrantType {
	out := make([]zoidc.GrantType, len(r.c.GrantTypes))
	for i, g := range r.c.GrantTypes {
		out[i] = zoidc.GrantType(g)
	}
	return out
}

// authenticate checks who calls (RFC 6749 §2.3), by the one method that the
// client is registered with. The faults for an unknown client and a wrong
// secret are told apart in the audit log only.
func (p *Provider) authenticate(ctx context.Context, header http.Header, cc *op.ClientCredentials) (*client, error) {
	c, used, err := p.checkCredentials(ctx, header, cc)
	if err != nil {
		f := fault.From(err)
		e := audit.New(audit.ClientRefused)
		if c != nil {
			e = e.ByClient(c.ID, c.ClientID)
		}
		p.refused(ctx, e, c, f)
		if errors.Is(err, agency.ErrClientUnknown) || errors.Is(err, agency.ErrSecretWrong) {
			err = ErrClientAuth
		}
		return nil, err
	}
	return &client{registration: &registration{c}, assertion: used}, nil
}

func (p *Provider) checkCredentials(ctx context.Context, header http.Header, cc *op.ClientCredentials) (*agency.Client, *UsedAssertion, error) {
	if cc.ClientAssertion != "" {
		return p.checkAssertion(ctx, cc)
	}
	c, err := p.cfg.Agencies.ByClientID(ctx, cc.ClientID)
	if err != nil {
		return nil, nil, err
	}
	basic := basicHeader(header)
	switch c.AuthMethod {
	case agency.AuthClientSecretBasic, agency.AuthClientSecretPost:
		if basic != (c.AuthMethod == agency.AuthClientSecretBasic) {
			return c, nil, ErrClientAuth
		}
		if err := p.cfg.Agencies.CheckSecret(c, cc.ClientSecret); err != nil {
			return c, nil, err
		}
	case agency.AuthNone:
		if basic || cc.ClientSecret != "" {
			return c, nil, ErrClientAuth
		}
	default:
		return c, nil, ErrClientAuth
	}
	return c, nil, c.Usable()
}

// Limits on client assertions.
const (
	assertionLife = 10 * time.Minute // how far ahead exp may lie
	clockSkew     = 30 * time.Second
	maxJTI        = 256
)

// checkAssertion verifies a private_key_jwt (RFC 7523 §3, OpenID Connect Core
// 1.0 §9): signature by a registered key, iss = sub = client_id, aud = us, exp
// near, jti present. The jti is consumed later, in the transaction that the
// assertion pays for.
func (p *Provider) checkAssertion(ctx context.Context, cc *op.ClientCredentials) (*agency.Client, *UsedAssertion, error) {
	if len(cc.ClientAssertion) > maxJWT || cc.ClientSecret != "" {
		return nil, nil, ErrAssertionInvalid
	}
	token, err := jwt.ParseSigned(cc.ClientAssertion, assertionAlgorithms)
	if err != nil {
		return nil, nil, ErrAssertionInvalid.Because(err)
	}
	var claims jwt.Claims
	if err := token.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return nil, nil, ErrAssertionInvalid.Because(err)
	}
	if claims.Issuer != claims.Subject || (cc.ClientID != "" && cc.ClientID != claims.Issuer) {
		return nil, nil, ErrAssertionInvalid
	}
	c, err := p.cfg.Agencies.ByClientID(ctx, claims.Issuer)
	if err != nil {
		return nil, nil, err
	}
	if c.AuthMethod != agency.AuthPrivateKeyJWT {
		return c, nil, ErrClientAuth
	}
	key, err := assertionKey(c, token.Headers[0].KeyID)
	if err != nil {
		return c, nil, ErrAssertionInvalid.Because(err)
	}
	if err := token.Claims(key, &claims); err != nil {
		return c, nil, ErrAssertionInvalid.Because(err)
	}
	now := p.now()
	switch {
	case !claims.Audience.Contains(p.cfg.Issuer) && !claims.Audience.Contains(p.cfg.Issuer+PathToken),
		claims.Expiry == nil, claims.Expiry.Time().After(now.Add(assertionLife)),
		claims.ID == "", len(claims.ID) > maxJTI,
		claims.ValidateWithLeeway(jwt.Expected{Time: now}, clockSkew) != nil:
		return c, nil, ErrAssertionInvalid
	}
	return c, &UsedAssertion{
		Hash:      sha256.Sum256([]byte("sealgate/client-assertion/v1\x00" + c.ClientID + "\x00" + claims.ID)),
		ExpiresAt: claims.Expiry.Time().Add(clockSkew),
	}, c.Usable()
}

// assertionKey finds the registered key that a header names; a header without
// a name will do where there is one key only.
func assertionKey(c *agency.Client, kid string) (*jose.JSONWebKey, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(c.JWKS, &set); err != nil {
		return nil, err
	}
	if kid == "" && len(set.Keys) == 1 {
		return &set.Keys[0], nil
	}
	for i, k := range set.Keys {
		if k.KeyID == kid && kid != "" && k.IsPublic() && k.Use != "enc" {
			return &set.Keys[i], nil
		}
	}
	return nil, errors.New("no such key")
}
