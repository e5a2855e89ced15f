package oidc

import (
	"context"
	"errors"
	"net/http"
	"strings"

	zoidc "github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/fault"
)

// UserInfo answers who the citizen is to the holder of an access token
// (OpenID Connect Core 1.0 §5.3).
func (s *machineServer) UserInfo(ctx context.Context, r *op.Request[zoidc.UserInfoRequest]) (*op.Response, error) {
	info, err := s.p.userinfo(ctx, r.Data.AccessToken)
	if err != nil {
		return nil, s.p.oauthError(ctx, err)
	}
	return op.NewResponse(info), nil
}

func (p *Provider) userinfo(ctx context.Context, accessToken string) (userinfo, error) {
	t, err := p.liveToken(ctx, accessToken)
	if err != nil {
		if t != nil { // a token we did give out
			p.refused(ctx, audit.New(audit.TokenRefused).Order(t.Grant.Order).Client(t.Client), nil, fault.From(err))
		}
		return userinfo{}, err
	}
	return p.openClaims(ctx, &t.Grant, t.Subject, t.Scopes)
}

// liveToken finds a stored access token that still opens something. With a
// fault it gives the token too, where there is one.
func (p *Provider) liveToken(ctx context.Context, accessToken string) (*Token, error) {
	id, err := p.parseToken(accessToken)
	if err != nil {
		return nil, err
	}
	t, err := p.cfg.Store.Token(ctx, id)
	if err != nil {
		return nil, err
	}
	switch {
	case t.Revoked:
		return t, ErrTokenRevoked
	case !p.now().Before(t.ExpiresAt):
		return t, ErrTokenExpired
	case !t.Grant.Active:
		return t, ErrTokenRevoked
	}
	c, err := p.cfg.Agencies.ByID(ctx, t.Client)
	if err != nil {
		return t, err
	}
	if c.Usable() != nil {
		return t, ErrTokenRevoked
	}
	return t, nil
}

// introspection is the answer about a token (RFC 7662 §2.2).
type introspection struct {
	Active   bool   `json:"active"`
	Issuer   string `json:"iss,omitempty"`
	Subject  string `json:"sub,omitempty"`
	ClientID string `json:"client_id,omitempty"`
	Scope    string `json:"scope,omitempty"`
	Expiry   int64  `json:"exp,omitempty"`
	IssuedAt int64  `json:"iat,omitempty"`
	Type     string `json:"token_type,omitempty"`
}

// Introspect tells a client about its own tokens, and about no others.
func (s *machineServer) Introspect(ctx context.Context, r *op.Request[op.IntrospectionRequest]) (*op.Response, error) {
	c, err := s.p.authenticate(ctx, r.Header, r.Data.ClientCredentials)
	if err == nil && c.c.AuthMethod == agency.AuthNone {
		err = ErrClientAuth
	}
	if err == nil && c.assertion != nil {
		err = s.p.cfg.Store.UseAssertion(ctx, *c.assertion)
	}
	if err != nil {
		return nil, s.p.oauthError(ctx, err)
	}
	answer, err := s.p.introspect(ctx, c.c, r.Data.Token)
	if err != nil {
		return nil, s.p.oauthError(ctx, err)
	}
	return op.NewResponse(answer), nil
}

func (p *Provider) introspect(ctx context.Context, c *agency.Client, token string) (introspection, error) {
	if !strings.HasPrefix(token, tokenPrefix) {
		access, err := p.VerifyAccessToken(ctx, token)
		if err != nil || access.ClientID != c.ClientID {
			return introspection{}, outage(err)
		}
		return introspection{Active: true, Issuer: p.cfg.Issuer, Subject: c.ClientID, ClientID: c.ClientID,
			Scope: strings.Join(access.Scopes, " "), Expiry: access.ExpiresAt.Unix(), Type: zoidc.BearerToken}, nil
	}
	t, err := p.liveToken(ctx, token)
	if err != nil || t.Client != c.ID {
		return introspection{}, outage(err)
	}
	return introspection{Active: true, Issuer: p.cfg.Issuer, Subject: t.Subject, ClientID: c.ClientID,
		Scope: strings.Join(t.Scopes, " "), Expiry: t.ExpiresAt.Unix(), IssuedAt: t.CreatedAt.Unix(), Type: zoidc.BearerToken}, nil
}

// outage keeps only errors that say nothing about the token.
func outage(err error) error {
	if err == nil {
		return nil
	}
	if f := fault.From(err); f.Kind == fault.Internal || f.Kind == fault.Unavailable {
		return err
	}
	return nil
}

// Revocation ends an access token (RFC 7009). Unknown tokens are no error.
func (s *machineServer) Revocation(ctx context.Context, r *op.ClientRequest[zoidc.RevocationRequest]) (*op.Response, error) {
	p, c := s.p, r.Client.(*client)
	id, err := p.parseToken(r.Data.Token)
	if err != nil {
		if _, err := p.VerifyAccessToken(ctx, r.Data.Token); err == nil {
			// RFC 7009 §2.2.1: tokens that are verified without us cannot be called back.
			e := zoidc.ErrInvalidRequest().WithDescription("tokens for the API cannot be revoked, they expire soon")
			e.ErrorType = "unsupported_token_type"
			return nil, op.NewStatusError(e, http.StatusBadRequest)
		}
		return op.NewResponse(nil), nil
	}
	entry := audit.New(audit.TokenRevoked).ByClient(c.c.ID, c.c.ClientID)
	if ip := address(ctx); ip.IsValid() {
		entry = entry.From(ip)
	}
	if err := p.cfg.Store.RevokeToken(ctx, id, c.c.ID, p.now(), entry); err != nil && !errors.Is(err, ErrTokenUnknown) {
		return nil, p.oauthError(ctx, err)
	}
	return op.NewResponse(nil), nil
}
