package oidc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	zoidc "github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/order"
)

// machineServer is the library's view of the endpoints that programs call. What
// is not overridden here answers that it does not exist.
type machineServer struct {
	op.UnimplementedServer
	p *Provider
}

// VerifyClient authenticates the caller before every token request.
func (s *machineServer) VerifyClient(ctx context.Context, r *op.Request[op.ClientCredentials]) (op.Client, error) {
	c, err := s.p.authenticate(ctx, r.Header, r.Data)
	if err == nil && c.assertion != nil && r.URL.Path != PathToken {
		err = s.p.cfg.Store.UseAssertion(ctx, *c.assertion)
	}
	if err != nil {
		return nil, s.p.oauthError(ctx, err)
	}
	return c, nil
}

// CodeExchange redeems an authorization code (RFC 6749 §4.1.3).
func (s *machineServer) CodeExchange(ctx context.Context, r *op.ClientRequest[zoidc.AccessTokenRequest]) (*op.Response, error) {
	c := r.Client.(*client)
	tokens, err := s.p.redeem(ctx, c, r.Data)
	if err != nil {
		return nil, s.p.oauthError(ctx, err)
	}
	return op.NewResponse(tokens), nil
}

// redeem checks everything about a code and then, in one transaction, takes
// its order to completed.
func (p *Provider) redeem(ctx context.Context, c *client, asked *zoidc.AccessTokenRequest) (*zoidc.AccessTokenResponse, error) {
	now := p.now()
	refuse := func(order uuid.UUID, err error) error {
		e := audit.New(audit.TokenRefused).ByClient(c.c.ID, c.c.ClientID).Order(order)
		p.refused(ctx, e, c.c, fault.From(err))
		return err
	}
	id, codeErr := p.parseCode(asked.Code, now)
	if codeErr != nil && !errors.Is(codeErr, ErrCodeExpired) {
		return nil, refuse(uuid.Nil, codeErr)
	}
	g, err := p.cfg.Store.Grant(ctx, id)
	if err != nil {
		return nil, refuse(id, err)
	}
	if g.Client != c.c.ID {
		return nil, refuse(id, ErrCodeClient)
	}
	if g.State == order.Completed {
		return nil, p.replayed(ctx, c.c, id)
	}
	if codeErr != nil {
		return nil, refuse(id, codeErr)
	}
	var request Request
	if err := json.Unmarshal(g.Request, &request); err != nil {
		return nil, fmt.Errorf("request of order %s: %w", id, err)
	}
	if err := checkExchange(g, &request, asked); err != nil {
		return nil, refuse(id, err)
	}
	response, redemption, err := p.prepare(ctx, c, g, &request)
	if err != nil {
		return nil, err
	}
	switch err := p.cfg.Store.RedeemCode(ctx, redemption); {
	case errors.Is(err, ErrCodeUsed):
		return nil, p.replayed(ctx, c.c, id)
	case errors.Is(err, ErrAssertionReplayed):
		return nil, refuse(id, err)
	case err != nil:
		return nil, err
	}
	p.cfg.Orders.Wake(order.ID(id))
	return response, nil
}

// checkExchange compares a token request with the grant it wants.
func checkExchange(g *Grant, r *Request, asked *zoidc.AccessTokenRequest) error {
	switch {
	case g.State != order.Approved:
		return ErrGrantUnknown
	case !g.Active:
		return ErrCitizenStopped
	case asked.RedirectURI != r.RedirectURI:
		return ErrCodeRedirect
	case len(asked.CodeVerifier) < verifierMin || len(asked.CodeVerifier) > verifierMax:
		return ErrCodeVerifier
	}
	sum := sha256.Sum256([]byte(asked.CodeVerifier))
	if subtle.ConstantTimeCompare([]byte(b64.EncodeToString(sum[:])), []byte(r.CodeChallenge)) != 1 {
		return ErrCodeVerifier
	}
	return nil
}

// prepare makes both tokens before anything is written: whatever fails here
// leaves the code as it was.
func (p *Provider) prepare(ctx context.Context, c *client, g *Grant, r *Request) (*zoidc.AccessTokenResponse, Redemption, error) {
	now := p.now()
	tokenID, err := uuid.NewV7()
	if err != nil {
		return nil, Redemption{}, err
	}
	subject := p.cfg.Agencies.Subject(c.c.SectorIdentifier, g.Citizen)
	info, err := p.openClaims(ctx, g, subject, r.Scopes)
	if err != nil {
		return nil, Redemption{}, err
	}
	accessToken := p.tokenString(tokenID)
	idToken, err := p.idToken(ctx, g, r, info, accessToken, now)
	if err != nil {
		return nil, Redemption{}, err
	}
	token := Token{ID: tokenID, Client: c.c.ID, Subject: subject, Scopes: r.Scopes, CreatedAt: now,
		ExpiresAt: now.Add(AccessTokenLife), Grant: *g}
	entry := audit.New(audit.TokenIssued).ByClient(c.c.ID, c.c.ClientID).Order(g.Order).Citizen(g.Citizen).Device(g.Device).
		With(audit.KeyGrant, agency.GrantAuthorizationCode).With(audit.KeyACR, g.ACR)
	if ip := address(ctx); ip.IsValid() {
		entry = entry.From(ip)
	}
	return &zoidc.AccessTokenResponse{
		AccessToken: accessToken, TokenType: zoidc.BearerToken, ExpiresIn: uint64(AccessTokenLife.Seconds()),
		IDToken: idToken, Scope: r.Scopes,
	}, Redemption{Token: token, At: now, Assertion: c.assertion, Audit: entry}, nil
}

// replayed answers a code that comes a second time: it is refused, and what
// the first exchange got is revoked (RFC 6749 §4.1.2).
func (p *Provider) replayed(ctx context.Context, c *agency.Client, id uuid.UUID) error {
	e := audit.New(audit.TokenRefused).ByClient(c.ID, c.ClientID).Order(id).Refuse(ErrCodeUsed.Code)
	if ip := address(ctx); ip.IsValid() {
		e = e.From(ip)
	}
	if err := p.cfg.Store.RevokeOrder(context.WithoutCancel(ctx), id, p.now(), e); err != nil {
		return err
	}
	return ErrCodeUsed
}

// apiScopes are the scopes that a client may get for itself.
var apiScopes = []string{ScopeSign}

// ClientCredentialsExchange gives a client a token for our API (RFC 6749 §4.4).
func (s *machineServer) ClientCredentialsExchange(ctx context.Context, r *op.ClientRequest[zoidc.ClientCredentialsRequest]) (*op.Response, error) {
	c := r.Client.(*client)
	response, err := s.p.issueAPIToken(ctx, c, r.Data.Scope)
	if err != nil {
		if f := fault.From(err); f.Is(ErrScope) || f.Is(ErrAssertionReplayed) {
			s.p.refused(ctx, audit.New(audit.TokenRefused).ByClient(c.c.ID, c.c.ClientID), c.c, f)
		}
		return nil, s.p.oauthError(ctx, err)
	}
	return op.NewResponse(response), nil
}

func (p *Provider) issueAPIToken(ctx context.Context, c *client, asked []string) (*zoidc.AccessTokenResponse, error) {
	var scopes []string
	for _, scope := range asked {
		if !slices.Contains(apiScopes, scope) || !c.c.HasScope(scope) {
			return nil, ErrScope.With("scope", printable(scope))
		}
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	if len(asked) == 0 {
		scopes = slices.DeleteFunc(slices.Clone(apiScopes), func(scope string) bool { return !c.c.HasScope(scope) })
	}
	if len(scopes) == 0 {
		return nil, ErrScope
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	token, err := p.apiToken(ctx, c.c, id, scopes, p.now())
	if err != nil {
		return nil, err
	}
	entry := audit.New(audit.TokenIssued).ByClient(c.c.ID, c.c.ClientID).
		With(audit.KeyGrant, agency.GrantClientCredentials).With(audit.KeyScopes, strings.Join(scopes, " "))
	if ip := address(ctx); ip.IsValid() {
		entry = entry.From(ip)
	}
	if err := p.cfg.Store.Issued(ctx, c.assertion, entry); err != nil {
		return nil, err
	}
	return &zoidc.AccessTokenResponse{
		AccessToken: token, TokenType: zoidc.BearerToken, ExpiresIn: uint64(ClientTokenLife.Seconds()), Scope: scopes,
	}, nil
}
