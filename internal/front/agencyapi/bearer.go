package agencyapi

import (
	"context"
	"net/http"
	"strings"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/front"
	"sealgate/internal/oidc"
	"sealgate/internal/order"
)

// caller is an authenticated client and where it calls from.
type caller struct {
	client *agency.Client
	from   order.Origin
}

// party is the caller as orders name it.
func (c caller) party() order.Client { return order.ClientOf(c.client) }

// forClient lets a call pass only with a good token of a client that may be used.
func (d *Door) forClient(next func(http.ResponseWriter, *http.Request, caller)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := caller{from: order.NewOrigin(front.ClientIP(r), r.UserAgent(), "")}
		err := d.authenticate(r, &c)
		if err != nil {
			challenge(w, err)
			d.fail(w, r, c, err)
			return
		}
		next(w, r, c)
	}
}

// authenticate finds the client behind the bearer token (RFC 6750 §2.1).
func (d *Door) authenticate(r *http.Request, c *caller) error {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return ErrTokenMissing
	}
	access, err := d.cfg.Provider.VerifyAccessToken(r.Context(), token)
	if err != nil {
		return err
	}
	if c.client, err = d.cfg.Agencies.ByClientID(r.Context(), access.ClientID); err != nil {
		return err
	}
	// The token may be older than the client's suspension or loss of the scope.
	if err := c.client.Usable(); err != nil {
		return err
	}
	if !access.Has(oidc.ScopeSign) || !c.client.HasScope(oidc.ScopeSign) {
		return ErrScopeMissing
	}
	return nil
}

// challenge names the scheme and what is wrong with the token (RFC 6750 §3).
// A call without any token gets no error code.
func challenge(w http.ResponseWriter, err error) {
	value := `Bearer realm="sealgate"`
	switch f := fault.From(err); {
	case f.Is(ErrScopeMissing):
		value += `, error="insufficient_scope", scope="` + oidc.ScopeSign + `"`
	case f.Is(ErrTokenMissing):
	case f.Kind == fault.Unauthenticated, f.Kind == fault.Forbidden:
		value += `, error="invalid_token"`
	default:
		return
	}
	w.Header().Set("WWW-Authenticate", value)
}

// fail answers a fault that this door found, and records the refusal.
func (d *Door) fail(w http.ResponseWriter, r *http.Request, c caller, err error) {
	if f := fault.From(err); f.Kind != fault.Internal && f.Kind != fault.Unavailable {
		e := audit.New(audit.ClientRefused)
		if c.client != nil {
			e = e.ByClient(c.client.ID, c.client.ClientID)
		}
		if c.from.IP.IsValid() {
			e = e.From(c.from.IP)
		}
		front.Recorded(r)
		if writeErr := d.cfg.Refused(context.WithoutCancel(r.Context()), e.Refuse(f.Code)); writeErr != nil {
			err = f.Because(writeErr)
		}
	}
	front.WriteProblem(w, r, err)
}
