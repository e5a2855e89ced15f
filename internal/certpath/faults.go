package certpath

import "sealgate/internal/fault"

// What can be wrong with a certificate, as told to people. The cause says which
// certificate of the path it was, and why.
var (
	// ErrMalformed: not a certificate of the expected form.
	ErrMalformed = fault.New(fault.Invalid, "cert_malformed")
	// ErrUntrusted: no path to a trust anchor, or a path that breaks a rule.
	ErrUntrusted = fault.New(fault.Unprocessable, "cert_untrusted")
	// ErrExpired and ErrNotYetValid: outside the validity period at the time asked for.
	ErrExpired     = fault.New(fault.Unprocessable, "cert_expired")
	ErrNotYetValid = fault.New(fault.Unprocessable, "cert_not_yet_valid")
	// ErrPolicy: a required certificate policy is missing.
	ErrPolicy = fault.New(fault.Unprocessable, "cert_policy")
	// ErrKeyUsage: the certificate is not for this use.
	ErrKeyUsage = fault.New(fault.Unprocessable, "cert_key_usage")
	// ErrRevoked carries the parameters "revoked_at" (RFC 3339) and "reason".
	ErrRevoked = fault.New(fault.Unprocessable, "cert_revoked")
	// ErrStatusUnknown: nobody could say whether it is revoked. Trying later may help.
	ErrStatusUnknown = fault.New(fault.Unavailable, "cert_status_unknown")
)
