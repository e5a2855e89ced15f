package oidc

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"sealgate/internal/agency"
	"sealgate/internal/citizen"
)

// idClaims are the claims of an ID token (OpenID Connect Core 1.0 §2, §3.1.3.6).
type idClaims struct {
	Issuer     string   `json:"iss"`
	Subject    string   `json:"sub"`
	Audience   string   `json:"aud"`
	Expiry     int64    `json:"exp"`
	IssuedAt   int64    `json:"iat"`
	AuthTime   int64    `json:"auth_time"`
	Nonce      string   `json:"nonce,omitempty"`
	ACR        string   `json:"acr"`
	AMR        []string `json:"amr"`
	AtHash     string   `json:"at_hash"`
	SessionID  string   `json:"sid"` // the order: OpenID Connect Front-Channel Logout 1.0 §3
	Name       string   `json:"name,omitempty"`
	NationalID string   `json:"national_id,omitempty"`
}

// userinfo is the answer of the userinfo endpoint (OpenID Connect Core 1.0 §5.3.2).
type userinfo struct {
	Subject    string `json:"sub"`
	Name       string `json:"name,omitempty"`
	NationalID string `json:"national_id,omitempty"`
}

// methods tells how the person proved who they are (RFC 8176 §2): a key,
// in certified hardware or not, and the verification of the user on the phone.
func methods(g *Grant) []string {
	if g.Attested {
		return []string{"hwk", "user", "mfa"}
	}
	return []string{"swk", "user", "mfa"}
}

// released leaves out of a list of scopes or claims what this deployment tells
// nobody.
func (p *Provider) released(names []string) []string {
	if p.cfg.ReleaseNationalID {
		return names
	}
	return slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == ScopeNationalID })
}

// openClaims opens what the scopes allow of the citizen's sealed values.
func (p *Provider) openClaims(ctx context.Context, g *Grant, subject string, scopes []string) (userinfo, error) {
	info := userinfo{Subject: subject}
	var err error
	if slices.Contains(scopes, ScopeProfile) {
		if info.Name, err = p.cfg.Vault.Open(ctx, citizen.FieldName, g.NationalIDMAC, g.NameSealed); err != nil {
			return info, err
		}
	}
	if p.cfg.ReleaseNationalID && slices.Contains(scopes, ScopeNationalID) {
		info.NationalID, err = p.cfg.Vault.Open(ctx, citizen.FieldNationalID, g.NationalIDMAC, g.NationalIDSealed)
	}
	return info, err
}

// idToken makes the ID token of a grant.
func (p *Provider) idToken(ctx context.Context, g *Grant, r *Request, info userinfo, accessToken string, now time.Time) (string, error) {
	set, err := p.keys.current(ctx)
	if err != nil {
		return "", err
	}
	half := sha256.Sum256([]byte(accessToken))
	return sign(set.idToken, idClaims{
		Issuer: p.cfg.Issuer, Subject: info.Subject, Audience: r.ClientID,
		Expiry: now.Add(IDTokenLife).Unix(), IssuedAt: now.Unix(), AuthTime: g.ApprovedAt.Unix(),
		Nonce: r.Nonce, ACR: r.reportedACR(g.ACR), AMR: methods(g), AtHash: b64.EncodeToString(half[:16]),
		SessionID: b64.EncodeToString(g.Order[:]), Name: info.Name, NationalID: info.NationalID,
	})
}

// A stored access token is "sg_" and base64url(row id ‖ truncated HMAC): a guess
// never reaches the database.
const (
	tokenPrefix = "sg_"
	tokenSize   = 16 + 16
	tokenLength = len(tokenPrefix) + (tokenSize*8+5)/6
)

func (p *Provider) tokenMAC(id uuid.UUID) []byte {
	m := hmac.New(sha256.New, p.tokenKey)
	m.Write(id[:])
	return m.Sum(nil)[:16]
}

func (p *Provider) tokenString(id uuid.UUID) string {
	return tokenPrefix + b64.EncodeToString(append(id[:], p.tokenMAC(id)...))
}

func (p *Provider) parseToken(token string) (uuid.UUID, error) {
	if len(token) != tokenLength || !strings.HasPrefix(token, tokenPrefix) {
		return uuid.Nil, ErrTokenUnknown
	}
	raw, err := b64.DecodeString(token[len(tokenPrefix):])
	if err != nil || len(raw) != tokenSize {
		return uuid.Nil, ErrTokenUnknown
	}
	id := uuid.UUID(raw[:16])
	if subtle.ConstantTimeCompare(raw[16:], p.tokenMAC(id)) != 1 {
		return uuid.Nil, ErrTokenUnknown
	}
	return id, nil
}

// accessTokenType is the typ of JWT access tokens (RFC 9068 §2.1). It keeps an
// ID token, signed with the same key, from being taken for one.
const accessTokenType = "at+jwt"

const maxJWT = 4 << 10

// apiClaims are the claims of an access token for our own API (RFC 9068 §2.2).
type apiClaims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"` // the client itself
	Audience string `json:"aud"`
	Expiry   int64  `json:"exp"`
	IssuedAt int64  `json:"iat"`
	ID       string `json:"jti"`
	ClientID string `json:"client_id"`
	Scope    string `json:"scope"`
}

// audience names our REST API in access tokens.
func (p *Provider) audience() string { return p.cfg.Issuer + "/api/v1" }

func (p *Provider) apiToken(ctx context.Context, c *agency.Client, id uuid.UUID, scopes []string, now time.Time) (string, error) {
	set, err := p.keys.current(ctx)
	if err != nil {
		return "", err
	}
	return sign(set.accessToken, apiClaims{
		Issuer: p.cfg.Issuer, Subject: c.ClientID, Audience: p.audience(), Expiry: now.Add(ClientTokenLife).Unix(),
		IssuedAt: now.Unix(), ID: b64.EncodeToString(id[:]), ClientID: c.ClientID, Scope: strings.Join(scopes, " "),
	})
}

// Access is what a valid API token says.
type Access struct {
	ClientID  string
	Scopes    []string
	ExpiresAt time.Time
}

// Has tells whether the token carries a scope.
func (a Access) Has(scope string) bool { return slices.Contains(a.Scopes, scope) }

// VerifyAccessToken checks a token of the client credentials grant for our own
// API: signature, type, issuer, audience, time. It asks no database; whether
// the client may still be used is for the caller to check with the agency
// service. Faults: ErrTokenUnknown, ErrTokenExpired.
func (p *Provider) VerifyAccessToken(ctx context.Context, token string) (Access, error) {
	if len(token) > maxJWT {
		return Access{}, ErrTokenUnknown
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || len(jws.Signatures) != 1 {
		return Access{}, ErrTokenUnknown
	}
	header := jws.Signatures[0].Protected
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); typ != accessTokenType {
		return Access{}, ErrTokenUnknown
	}
	set, err := p.keys.current(ctx)
	if err != nil {
		return Access{}, err
	}
	public, ok := set.byID[header.KeyID]
	if !ok {
		return Access{}, ErrTokenUnknown
	}
	payload, err := jws.Verify(public)
	if err != nil {
		return Access{}, ErrTokenUnknown
	}
	var claims apiClaims
	if err := json.Unmarshal(payload, &claims); err != nil ||
		claims.Issuer != p.cfg.Issuer || claims.Audience != p.audience() || claims.ClientID == "" {
		return Access{}, ErrTokenUnknown
	}
	expires := time.Unix(claims.Expiry, 0)
	if !p.now().Before(expires) {
		return Access{}, ErrTokenExpired
	}
	return Access{ClientID: claims.ClientID, Scopes: strings.Fields(claims.Scope), ExpiresAt: expires}, nil
}
