package csc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/front"
	"sealgate/internal/oidc"
	"sealgate/internal/order"
)

// maxForm bounds what the token endpoint reads; authorization_details may come again.
const maxForm = 64 << 10

// tokenAnswer is the answer of the token endpoint (CSC API 2.0.0.2 §8.4.4).
type tokenAnswer struct {
	AccessToken string   `json:"access_token"`
	TokenType   string   `json:"token_type"`
	ExpiresIn   int      `json:"expires_in"`
	Details     []detail `json:"authorization_details,omitempty"`
}

// token redeems an authorization code.
func (d *Door) token(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	form, err := readForm(r)
	if err != nil {
		d.fail(w, r, audit.New(audit.ClientRefused), err)
		return
	}
	client, assertion, err := d.client(r, form)
	if err != nil {
		d.failClient(w, r, err)
		return
	}
	answer, err := d.redeem(r, client, assertion, form)
	if err != nil {
		e := audit.New(audit.TokenRefused).ByClient(client.ID, client.ClientID)
		if id, codeErr := d.parseCode(form.Get("code"), now()); codeErr == nil || errors.Is(codeErr, oidc.ErrCodeExpired) {
			e = e.Order(id)
		}
		d.fail(w, r, e, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, answer)
}

// readForm reads a bounded form in which everything stands once.
func readForm(r *http.Request) (url.Values, error) {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" || r.URL.RawQuery != "" {
		return nil, errForm
	}
	body, err := front.ReadBody(r, maxForm)
	if fault.From(err).Kind == fault.TooLarge {
		return nil, errBodyTooLarge
	}
	if err != nil {
		return nil, errForm
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || len(form) > maxParams {
		return nil, errForm
	}
	for _, values := range form {
		if len(values) > 1 {
			return nil, errForm
		}
	}
	return form, nil
}

// client authenticates the caller; the provider has recorded what it refused.
func (d *Door) client(r *http.Request, form url.Values) (*agency.Client, *oidc.UsedAssertion, error) {
	c, assertion, err := d.cfg.Provider.AuthenticateClient(r, form)
	if err != nil {
		return nil, nil, err
	}
	if c.AuthMethod == agency.AuthNone {
		d.record(r, audit.New(audit.ClientRefused).ByClient(c.ID, c.ClientID), errClient.code)
		return nil, nil, oidc.ErrClientAuth
	}
	return c, assertion, nil
}

// failClient answers a caller who could not prove who it is (RFC 6749 §5.2).
func (d *Door) failClient(w http.ResponseWriter, r *http.Request, err error) {
	front.Recorded(r)
	f := fault.From(err)
	if f.Kind == fault.Internal || f.Kind == fault.Unavailable {
		writeError(w, d.as(r.Context(), err))
		return
	}
	if r.Header.Get("Authorization") != "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="sealgate"`)
	}
	front.WriteJSON(w, http.StatusUnauthorized, wire{"invalid_client", "Client authorization required"})
}

// grantError says what a client is told of a code that gives nothing.
func grantError(err error) error {
	f := fault.From(err)
	for _, known := range []*fault.Error{oidc.ErrGrantUnknown, oidc.ErrCodeExpired, oidc.ErrCodeUsed, oidc.ErrCodeClient,
		oidc.ErrCodeVerifier, oidc.ErrCitizenStopped, oidc.ErrAssertionReplayed} {
		if f.Is(known) {
			return &refusal{http.StatusBadRequest, "invalid_grant", "Authorization code is invalid or expired", f.Code}
		}
	}
	if f.Is(oidc.ErrCodeRedirect) {
		return &refusal{http.StatusBadRequest, "invalid_grant", "redirect_uri parameter does not match", f.Code}
	}
	return err
}

// redeem checks everything about a code and then writes its token.
func (d *Door) redeem(r *http.Request, c *agency.Client, assertion *oidc.UsedAssertion, form url.Values) (*tokenAnswer, error) {
	switch {
	case form.Get("grant_type") == "":
		return nil, invalid("grant_type", "Missing parameter grant_type")
	case form.Get("grant_type") != agency.GrantAuthorizationCode:
		return nil, invalid("grant_type", "Invalid parameter grant_type")
	case form.Get("code") == "":
		return nil, invalid("code_missing", "Missing parameter code")
	case !mayUse(c):
		return nil, &refusal{http.StatusBadRequest, "unauthorized_client", errClient.description, errClient.code}
	}
	at := now()
	id, codeErr := d.parseCode(form.Get("code"), at)
	if codeErr != nil && !errors.Is(codeErr, oidc.ErrCodeExpired) {
		return nil, grantError(codeErr)
	}
	g, err := d.cfg.Store.Grant(r.Context(), id)
	if err != nil {
		return nil, grantError(err)
	}
	request, err := g.request()
	switch {
	case err != nil:
		return nil, err
	case g.Client != c.ID:
		return nil, grantError(oidc.ErrCodeClient)
	case g.Redeemed:
		return nil, d.replayed(r, c, id)
	case codeErr != nil:
		return nil, grantError(codeErr)
	}
	if err := checkExchange(g, request, form); err != nil {
		return nil, grantError(err)
	}
	answer, redemption, err := d.prepare(r, c, g, request, at)
	if err != nil {
		return nil, err
	}
	redemption.Assertion = assertion
	switch err := d.cfg.Store.Redeem(r.Context(), redemption); {
	case errors.Is(err, oidc.ErrCodeUsed):
		return nil, d.replayed(r, c, id)
	case err != nil:
		return nil, grantError(err)
	}
	d.cfg.Orders.Wake(order.ID(id))
	return answer, nil
}

// checkExchange compares a token request with the grant it wants.
func checkExchange(g *Grant, request *Request, form url.Values) error {
	ready := g.Kind == order.Login && g.State == order.Approved
	if request.Scope == ScopeCredential {
		ready = g.Kind == order.Sign && g.State == order.Completed
	}
	verifier := form.Get("code_verifier")
	switch {
	case !ready:
		return oidc.ErrGrantUnknown
	case !g.Active:
		return oidc.ErrCitizenStopped
	case form.Get("redirect_uri") != request.RedirectURI:
		return oidc.ErrCodeRedirect
	case len(verifier) < 43 || len(verifier) > 128: // RFC 7636 §4.1
		return oidc.ErrCodeVerifier
	}
	sum := sha256.Sum256([]byte(verifier))
	want, ok := decodeHash(request.CodeChallenge)
	if !ok || subtle.ConstantTimeCompare(sum[:], want) != 1 {
		return oidc.ErrCodeVerifier
	}
	return nil
}

// prepare makes the token and its answer; nothing is written yet.
func (d *Door) prepare(r *http.Request, c *agency.Client, g *Grant, request *Request, at time.Time) (*tokenAnswer, Redemption, error) {
	life := ServiceLife
	if request.Scope == ScopeCredential {
		life = CredentialLife
	}
	t := Token{Order: g.Order, Client: c.ID, Citizen: g.Citizen, Scope: request.Scope, Certificate: request.Certificate,
		CreatedAt: at, ExpiresAt: at.Add(life)}
	e := audit.New(audit.TokenIssued).ByClient(c.ID, c.ClientID).Order(g.Order).Citizen(g.Citizen).Device(g.Device).
		With(audit.KeyGrant, agency.GrantAuthorizationCode).With(audit.KeyScopes, request.Scope)
	if ip := front.ClientIP(r); ip.IsValid() {
		e = e.From(ip)
	}
	answer := &tokenAnswer{AccessToken: d.tokenString(g.Order), TokenType: "Bearer", ExpiresIn: int(life.Seconds())}
	if request.Details {
		granted, err := d.granted(r.Context(), g.Order, request.CredentialID)
		if err != nil {
			return nil, Redemption{}, err
		}
		answer.Details = []detail{granted}
	}
	return answer, Redemption{Token: t, Audit: e}, nil
}

// granted tells what the person approved: without the documents that were left out
// (RFC 9396 §7).
func (d *Door) granted(ctx context.Context, id uuid.UUID, credentialID string) (detail, error) {
	out := detail{Type: ScopeCredential, CredentialID: credentialID, DocumentDigests: []digest{}}
	o, asked, err := d.asked(ctx, id)
	if err != nil {
		return out, err
	}
	for i, document := range asked.Documents {
		out.HashAlgorithmOID = oidOfHash(document.DigestAlgorithm)
		if slices.Contains(o.LeftOut, i) || o.Failures[i] != "" {
			continue
		}
		raw, _ := decodeHash(document.Digest)
		out.DocumentDigests = append(out.DocumentDigests, digest{Hash: encodeStandard(raw), Label: document.Name})
	}
	return out, nil
}

// asked reads an order with its content.
func (d *Door) asked(ctx context.Context, id uuid.UUID) (*order.Order, order.Content, error) {
	o, err := d.cfg.Orders.Find(ctx, order.ID(id))
	if err != nil {
		return nil, order.Content{}, err
	}
	asked, err := order.ParseContent(o.Content)
	return o, asked, err
}

// replayed answers a code that comes a second time: it is refused, and what the
// first exchange got is revoked (RFC 6749 §4.1.2).
func (d *Door) replayed(r *http.Request, c *agency.Client, id uuid.UUID) error {
	e := audit.New(audit.TokenRevoked).ByClient(c.ID, c.ClientID).Order(id).With(audit.KeyReason, "code_replayed")
	if ip := front.ClientIP(r); ip.IsValid() {
		e = e.From(ip)
	}
	err := d.cfg.Store.Revoke(context.WithoutCancel(r.Context()), id, c.ID, now(), e)
	if err != nil && !errors.Is(err, oidc.ErrTokenUnknown) {
		return err
	}
	return grantError(oidc.ErrCodeUsed)
}

// revoke ends a token (RFC 7009). Unknown tokens are no error.
func (d *Door) revoke(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	form, err := readForm(r)
	if err == nil && form.Get("token") == "" {
		err = invalid("token_missing", "Missing parameter token")
	}
	if err != nil {
		d.fail(w, r, audit.New(audit.ClientRefused), err)
		return
	}
	c, assertion, err := d.client(r, form)
	if err == nil && assertion != nil {
		err = d.cfg.Store.UseAssertion(r.Context(), *assertion)
	}
	if err != nil {
		d.failClient(w, r, err)
		return
	}
	if id, err := d.parseToken(form.Get("token")); err == nil {
		e := audit.New(audit.TokenRevoked).ByClient(c.ID, c.ClientID).Order(id)
		if ip := front.ClientIP(r); ip.IsValid() {
			e = e.From(ip)
		}
		if err := d.cfg.Store.Revoke(r.Context(), id, c.ID, now(), e); err != nil && !errors.Is(err, oidc.ErrTokenUnknown) {
			d.fail(w, r, e, err)
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}
