package front

import "sealgate/internal/fault"

// The shell's own faults; their words are in catalogue/fault.front.json.
var (
	errInternal     = fault.New(fault.Internal, "internal")
	errNotFound     = fault.New(fault.NotFound, "not_found")
	errMethod       = fault.New(fault.Invalid, "method_not_allowed")
	errCrossOrigin  = fault.New(fault.Forbidden, "cross_origin")
	errMalformed    = fault.New(fault.Invalid, "request_malformed")
	errUnknownField = fault.New(fault.Invalid, "request_unknown_field")
	errTooLarge     = fault.New(fault.TooLarge, "request_too_large")
	errMediaType    = fault.New(fault.Invalid, "request_media_type")
	errStreams      = fault.New(fault.TooMany, "too_many_streams")
)

// ErrRateLimited tells a caller to come back later; ErrSessionRequired sends a
// person to the login of our own pages; ErrBrowserRequired says that the
// browser has no cookie of ours.
var (
	ErrRateLimited     = fault.New(fault.TooMany, "rate_limited")
	ErrSessionRequired = fault.New(fault.Unauthenticated, "session_required")
	ErrBrowserRequired = fault.New(fault.Forbidden, "browser_required")
)
