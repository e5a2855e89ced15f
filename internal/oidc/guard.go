package oidc

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	zoidc "github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/fault"
)

// guard stands before the endpoints that programs call. It bounds and parses
// the body once, refuses doubled parameters and parameters in the address
// (they end up in logs; RFC 6749 §2.3.1, RFC 6750 §2.3), forbids caching, and
// names the scheme of a 401 as RFC 6749 §5.2 and RFC 6750 §3 want.
func (p *Provider) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Pragma", "no-cache")
		r = r.WithContext(withAddress(r.Context(), p.cfg.Origin(r).IP))
		w = &challenger{ResponseWriter: w, request: r}
		form, err := machineForm(w, r)
		if err != nil {
			p.refused(r.Context(), audit.New(audit.ClientRefused), nil, fault.From(err))
			op.WriteError(w, r, p.oauthError(r.Context(), err), nil)
			return
		}
		r.Form, r.PostForm = form, form // the library finds the body parsed
		next.ServeHTTP(w, r)
	})
}

func machineForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.URL.RawQuery != "" {
		return nil, ErrRequestMalformed.With("reason", "parameters belong into the body")
	}
	if r.Method == http.MethodGet {
		return url.Values{}, nil
	}
	raw, err := readForm(w, r, maxQuery)
	if err != nil {
		return nil, err
	}
	form, err := parseQuery(raw)
	if err != nil {
		return nil, err
	}
	if name, twice := doubled(form); twice {
		return nil, ErrRequestDoubled.With("parameter", printable(name))
	}
	return form, nil
}

// readForm reads a bounded application/x-www-form-urlencoded body as it is.
func readForm(w http.ResponseWriter, r *http.Request, limit int64) (string, error) {
	if r.ContentLength != 0 { // userinfo may be posted without a body
		mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || mediaType != "application/x-www-form-urlencoded" {
			return "", ErrRequestMalformed.With("reason", "content type")
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return "", ErrRequestTooLarge
	case err != nil:
		return "", ErrRequestMalformed.Because(err)
	}
	return string(body), nil
}

// retryAfter is when a program may try again after a 503, in seconds.
const retryAfter = "5"

// challenger adds WWW-Authenticate to a 401, and Retry-After to a 503.
type challenger struct {
	http.ResponseWriter
	request *http.Request
}

func (c *challenger) WriteHeader(status int) {
	if status == http.StatusServiceUnavailable {
		c.Header().Set("Retry-After", retryAfter)
	}
	if status == http.StatusUnauthorized {
		authorization := c.request.Header.Get("Authorization")
		value := ""
		switch {
		case c.request.URL.Path != PathUserinfo && authorization != "":
			value = `Basic realm="sealgate"`
		case c.request.URL.Path == PathUserinfo && authorization == "":
			value = `Bearer realm="sealgate"`
		case c.request.URL.Path == PathUserinfo:
			value = `Bearer realm="sealgate", error="invalid_token"`
		}
		if value != "" {
			c.Header().Set("WWW-Authenticate", value)
		}
	}
	c.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController see the writer below.
func (c *challenger) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// oauthCodes says which OAuth error code a fault becomes (RFC 6749 §5.2).
var oauthCodes = map[string]string{
	agency.ErrClientUnknown.Code:   string(zoidc.InvalidClient),
	agency.ErrClientSuspended.Code: string(zoidc.InvalidClient),
	agency.ErrAgencySuspended.Code: string(zoidc.InvalidClient),
	agency.ErrSecretWrong.Code:     string(zoidc.InvalidClient),
	ErrClientAuth.Code:             string(zoidc.InvalidClient),
	ErrAssertionInvalid.Code:       string(zoidc.InvalidClient),
	ErrAssertionReplayed.Code:      string(zoidc.InvalidClient),
	agency.ErrGrantNotAllowed.Code: string(zoidc.UnauthorizedClient),
	ErrGrantUnknown.Code:           string(zoidc.InvalidGrant),
	ErrCodeExpired.Code:            string(zoidc.InvalidGrant),
	ErrCodeUsed.Code:               string(zoidc.InvalidGrant),
	ErrCodeClient.Code:             string(zoidc.InvalidGrant),
	ErrCodeRedirect.Code:           string(zoidc.InvalidGrant),
	ErrCodeVerifier.Code:           string(zoidc.InvalidGrant),
	ErrCitizenStopped.Code:         string(zoidc.InvalidGrant),
	ErrScope.Code:                  string(zoidc.InvalidScope),
	ErrTokenUnknown.Code:           "invalid_token", // RFC 6750 §3.1
	ErrTokenExpired.Code:           "invalid_token",
	ErrTokenRevoked.Code:           "invalid_token",
	ErrRequestMalformed.Code:       string(zoidc.InvalidRequest),
	ErrRequestDoubled.Code:         string(zoidc.InvalidRequest),
	ErrRequestTooLarge.Code:        string(zoidc.InvalidRequest),
}

// oauthError turns any error into one that the library may show. Only the
// public code of a fault passes; a cause goes to the log.
func (p *Provider) oauthError(ctx context.Context, err error) error {
	f := fault.From(err)
	code, known := oauthCodes[f.Code]
	if !known {
		p.cfg.Log.ErrorContext(ctx, "oidc request failed", "code", f.Code, "error", err)
		if f.Kind == fault.Unavailable {
			// What we stand on is away for a while (the signing key's module): nothing
			// was used up, the same request may come again.
			e := zoidc.ErrServerError().WithDescription("%s", f.Code+": try again")
			e.ErrorType = "temporarily_unavailable"
			return op.NewStatusError(e, http.StatusServiceUnavailable)
		}
		return op.NewStatusError(zoidc.ErrServerError().WithDescription("internal"), http.StatusInternalServerError)
	}
	e := zoidc.ErrInvalidRequest().WithDescription("%s", f.Code+": see "+p.cfg.Issuer+"/help/errors#"+f.Code)
	switch code {
	case string(zoidc.InvalidClient):
		e.ErrorType = zoidc.InvalidClient
		return op.NewStatusError(e, http.StatusUnauthorized)
	case "invalid_token":
		e.ErrorType = "invalid_token"
		return op.NewStatusError(e, http.StatusUnauthorized)
	case string(zoidc.UnauthorizedClient):
		e.ErrorType = zoidc.UnauthorizedClient
	case string(zoidc.InvalidGrant):
		e.ErrorType = zoidc.InvalidGrant
	case string(zoidc.InvalidScope):
		e.ErrorType = zoidc.InvalidScope
	}
	if f.Kind == fault.TooLarge {
		return op.NewStatusError(e, http.StatusRequestEntityTooLarge)
	}
	return e
}

// refused writes the one audit entry of a refusal. Our own failures are not
// refusals and are left to the log.
func (p *Provider) refused(ctx context.Context, e audit.Entry, c *agency.Client, f *fault.Error) {
	if f.Kind == fault.Internal || f.Kind == fault.Unavailable {
		return
	}
	if c != nil {
		e = e.Client(c.ID)
	}
	if ip := address(ctx); ip.IsValid() {
		e = e.From(ip)
	}
	if err := p.cfg.Store.Refused(context.WithoutCancel(ctx), e.Refuse(f.Code)); err != nil {
		p.cfg.Log.ErrorContext(ctx, "audit entry of a refusal was not written", "code", f.Code, "error", err)
	}
}

// basicHeader says whether the caller used HTTP Basic authentication.
func basicHeader(h http.Header) bool {
	scheme, _, _ := strings.Cut(h.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Basic")
}
