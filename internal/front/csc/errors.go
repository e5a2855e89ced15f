package csc

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/front"
)

// refusal is an answer that is no success, in the words of the specification
// (CSC API 2.0.0.2 §10.2): clients are told error and description; the code
// is for the audit log and lies behind /help/errors nowhere.
type refusal struct {
	status      int
	err         string
	description string
	code        string
}

// Error is the code, for the log.
func (e *refusal) Error() string { return e.code }

// invalid is a refusal of a request's form or of what it asks for.
func invalid(code, description string) *refusal {
	return &refusal{http.StatusBadRequest, "invalid_request", description, "csc_" + code}
}

// missing is the refusal of a parameter that is not there or of another type.
func missing(kind, name string) *refusal {
	return invalid("parameter_missing", "Missing (or invalid type) "+kind+" parameter "+name)
}

// wrong is the refusal of a parameter's value.
func wrong(name string) *refusal { return invalid("parameter_invalid", "Invalid parameter "+name) }

// The refusals that have one place in the specification each. What concerns
// signature activation data has codes of its own, to be told apart in the audit log.
var (
	errNotImplemented = &refusal{http.StatusNotImplemented, "invalid_request", "The method is not implemented, see the methods of info", "csc_not_implemented"}
	errHeader         = invalid("header", "Malformed authorization header")
	errTokenMissing   = &refusal{http.StatusUnauthorized, "invalid_request", "Malformed authorization header", "csc_token_missing"}
	errToken          = &refusal{http.StatusUnauthorized, "invalid_token", "The access token is not valid", "csc_token_invalid"}
	errTokenExpired   = &refusal{http.StatusUnauthorized, "expired_token", "The access token is expired or has been revoked", "csc_token_expired"}
	errTokenScope     = &refusal{http.StatusForbidden, "unauthorized_client", "The access token has another scope than this method needs", "csc_token_scope"}
	errClient         = &refusal{http.StatusForbidden, "unauthorized_client", "The client is not authorized to use this method", "csc_client_not_allowed"}
	errBody           = invalid("body", "The request body must be one JSON object of media type application/json")
	errBodyTooLarge   = &refusal{http.StatusRequestEntityTooLarge, "invalid_request", "The request body is too large", "csc_body_too_large"}
	errForm           = invalid("form", "The parameters must be one application/x-www-form-urlencoded body, each once")

	errSAD         = &refusal{http.StatusBadRequest, "invalid_request", "Invalid parameter SAD", "csc_sad_invalid"}
	errSADForeign  = &refusal{http.StatusBadRequest, "invalid_request", "Invalid parameter SAD", "csc_sad_of_another"}
	errSADExpired  = &refusal{http.StatusBadRequest, "invalid_request", "SAD expired", "csc_sad_expired"}
	errSADTwice    = invalid("sad_twice", "Signature activation data stands in the header and, another one, in parameter SAD")
	errCredential  = invalid("credential_invalid", "Invalid parameter credentialID")
	errDisabled    = invalid("credential_disabled", "The credential identified by credentialID is disabled")
	errCertificate = invalid("credential_expired", "Signing certificate is expired")
	errHashForeign = invalid("hash_not_authorized", "Hash is not authorized by the SAD")
	errHashSpent   = &refusal{http.StatusBadRequest, "invalid_request", "Hash is not authorized by the SAD", "csc_sad_spent"}
	errHashLength  = invalid("hash_length", "Invalid digest value length")
	errHashBase64  = invalid("hash_base64", "Invalid Base64 hash string parameter")
	errHashEmpty   = invalid("hash_empty", "Empty hash array")

	errBusy     = &refusal{http.StatusServiceUnavailable, "temporarily_unavailable", "Try again in a moment", "csc_unavailable"}
	errInternal = &refusal{http.StatusInternalServerError, "server_error", "The service met an unexpected condition", "internal"}
)

// wire is how a refusal leaves.
type wire struct {
	Error       string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

func writeError(w http.ResponseWriter, e *refusal) {
	switch e.status {
	case http.StatusUnauthorized:
		value := `Bearer realm="sealgate"`
		if e != errTokenMissing {
			value += `, error="invalid_token"` // RFC 6750 §3.1 has one word for both
		}
		w.Header().Set("WWW-Authenticate", value)
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", strconv.Itoa(5))
	}
	front.WriteJSON(w, e.status, wire{e.err, e.description})
}

// as turns any error into a refusal; one that is none of ours goes to the log.
func (d *Door) as(ctx context.Context, err error) *refusal {
	if e, ok := err.(*refusal); ok {
		return e
	}
	f := fault.From(err)
	switch {
	case f.Is(agency.ErrClientSuspended), f.Is(agency.ErrAgencySuspended):
		return errClient
	case ctx.Err() != nil:
		return errBusy
	}
	d.cfg.Log.ErrorContext(ctx, "csc request failed", "code", f.Code, "error", err)
	if f.Kind == fault.Unavailable {
		return errBusy
	}
	return errInternal
}

// recordTime bounds the writing of an entry.
const recordTime = 3 * time.Second

// fail answers an error and writes its one audit entry.
func (d *Door) fail(w http.ResponseWriter, r *http.Request, e audit.Entry, err error) {
	told := d.as(r.Context(), err)
	if told.status < http.StatusInternalServerError {
		d.record(r, e, told.code)
	}
	writeError(w, told)
}

// record writes the entry of something that was not allowed.
func (d *Door) record(r *http.Request, e audit.Entry, code string) {
	front.Recorded(r)
	if ip := front.ClientIP(r); ip.IsValid() {
		e = e.From(ip)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), recordTime)
	defer cancel()
	if err := d.cfg.Refused(ctx, e.Refuse(code)); err != nil {
		d.cfg.Log.ErrorContext(ctx, "audit entry of a refusal was not written", "code", code, "error", err)
	}
}
