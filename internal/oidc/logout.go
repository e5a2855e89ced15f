package oidc

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
)

// logout ends what a login gave (OpenID Connect RP-Initiated Logout 1.0): the
// access tokens of the order named by the ID token. There is no session of
// ours to end, since every login is fresh; a logout without a valid
// id_token_hint therefore changes nothing.
func (p *Provider) logout(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	raw := r.URL.RawQuery
	if r.Method == http.MethodPost {
		var err error
		if raw, err = readForm(w, r, maxQuery); err != nil {
			p.refusePage(w, r, nil, err)
			return
		}
	}
	q, err := parseQuery(raw)
	if err != nil {
		p.refusePage(w, r, nil, err)
		return
	}
	if name, twice := doubled(q); twice {
		p.refusePage(w, r, nil, ErrRequestDoubled.With("parameter", printable(name)))
		return
	}
	ctx := withAddress(r.Context(), p.cfg.Origin(r).IP)
	client, session, err := p.logoutClient(ctx, q)
	if err != nil {
		p.refusePage(w, r, client, err)
		return
	}
	to := "/"
	if uri := q.Get("post_logout_redirect_uri"); uri != "" {
		if client == nil || !slices.Contains(client.PostLogoutRedirectURIs, uri) {
			p.refusePage(w, r, client, ErrLogoutInvalid)
			return
		}
		to = uri
		if state := q.Get("state"); state != "" && len(state) <= maxState {
			separator := "?"
			if strings.Contains(uri, "?") {
				separator = "&"
			}
			to += separator + url.Values{"state": {state}}.Encode()
		}
	}
	if session != uuid.Nil {
		entry := audit.New(audit.SessionEnded).ByBrowser().Client(client.ID).Order(session)
		if ip := address(ctx); ip.IsValid() {
			entry = entry.From(ip)
		}
		if err := p.cfg.Store.RevokeOrder(ctx, session, p.now(), entry); err != nil {
			p.cfg.ErrorPage(w, r, err)
			return
		}
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// logoutClient finds the client that asks, and the order whose login is over.
func (p *Provider) logoutClient(ctx context.Context, q url.Values) (*agency.Client, uuid.UUID, error) {
	clientID, session := q.Get("client_id"), uuid.Nil
	if hint := q.Get("id_token_hint"); hint != "" {
		claims, err := p.verifyHint(ctx, hint)
		if err != nil || (clientID != "" && clientID != claims.Audience) {
			return nil, uuid.Nil, ErrLogoutInvalid
		}
		raw, err := b64.DecodeString(claims.SessionID)
		if err != nil || len(raw) != 16 {
			return nil, uuid.Nil, ErrLogoutInvalid
		}
		clientID, session = claims.Audience, uuid.UUID(raw)
	}
	if clientID == "" {
		return nil, uuid.Nil, nil
	}
	c, err := p.cfg.Agencies.ByClientID(ctx, clientID)
	return c, session, err
}

// verifyHint checks an ID token of ours; it may have expired (RP-Initiated
// Logout 1.0 §2).
func (p *Provider) verifyHint(ctx context.Context, hint string) (idClaims, error) {
	var claims idClaims
	if len(hint) > maxJWT {
		return claims, ErrLogoutInvalid
	}
	jws, err := jose.ParseSignedCompact(hint, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || len(jws.Signatures) != 1 {
		return claims, ErrLogoutInvalid
	}
	header := jws.Signatures[0].Protected
	set, err := p.keys.current(ctx)
	if err != nil {
		return claims, err
	}
	public, ok := set.byID[header.KeyID]
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); !ok || typ != "JWT" {
		return claims, ErrLogoutInvalid
	}
	payload, err := jws.Verify(public)
	if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Issuer != p.cfg.Issuer {
		return claims, ErrLogoutInvalid
	}
	return claims, nil
}
