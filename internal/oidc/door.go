package oidc

import (
	"net/http"
	"net/url"

	zoidc "github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/fault"
)

// AuthenticateClient checks who calls a token endpoint that another door
// serves (RFC 6749 §2.3), with the same methods, rules and audit entries as our
// own: by the header, or by the parameters of the form. An assertion that is
// returned must be consumed in the transaction that it pays for.
func (p *Provider) AuthenticateClient(r *http.Request, form url.Values) (*agency.Client, *UsedAssertion, error) {
	ctx := withAddress(r.Context(), p.cfg.Origin(r).IP)
	cc, err := clientCredentials(r, form)
	if err != nil {
		p.refused(ctx, audit.New(audit.ClientRefused), nil, fault.From(err))
		return nil, nil, err
	}
	c, err := p.authenticate(ctx, r.Header, cc)
	if err != nil {
		return nil, nil, err
	}
	return c.c, c.assertion, nil
}

// clientCredentials reads by what a caller wants to prove who it is: one way only.
func clientCredentials(r *http.Request, form url.Values) (*op.ClientCredentials, error) {
	cc := &op.ClientCredentials{ClientID: form.Get("client_id"), ClientSecret: form.Get("client_secret"),
		ClientAssertion: form.Get("client_assertion"), ClientAssertionType: form.Get("client_assertion_type")}
	if cc.ClientAssertion != "" && cc.ClientAssertionType != zoidc.ClientAssertionTypeJWTAssertion {
		return nil, ErrAssertionInvalid
	}
	if basicHeader(r.Header) {
		id, secret, ok := r.BasicAuth()
		var err, err2 error
		id, err = url.QueryUnescape(id)
		secret, err2 = url.QueryUnescape(secret)
		if !ok || err != nil || err2 != nil || cc.ClientSecret != "" || cc.ClientAssertion != "" || (cc.ClientID != "" && cc.ClientID != id) {
			return nil, ErrClientAuth
		}
		cc.ClientID, cc.ClientSecret = id, secret
	}
	return cc, nil
}
