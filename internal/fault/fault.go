// Package fault is the one error type that may reach a person or a client.
//
// Domain packages return *Error for everything a caller can act on. The doors
// (internal/front) translate it once: Kind chooses the HTTP status, Code is the
// stable public name, the message catalogue (internal/i18n) has the words under
// the keys "fault.<Code>" (what happened) and "fault.<Code>.next" (what to do).
// The cause stays inside: it is for the log and is never shown.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind is the coarse class of a fault. It decides the HTTP status and nothing else.
type Kind uint8

// The kinds, with the HTTP status each becomes at the edge.
const (
	Internal        Kind = iota // 500: our own mistake; the public sees a bland text
	Invalid                     // 400: the request cannot be understood or breaks a rule of form
	Unauthenticated             // 401: who asks is not known
	Forbidden                   // 403: who asks is known and may not
	NotFound                    // 404: no such thing, or not for the one who asks
	Conflict                    // 409: the thing is in another state than the step needs
	Gone                        // 410: it was there and has ended (expired, purged)
	TooLarge                    // 413: a limit of size or number is passed
	Unprocessable               // 422: well formed, but the content is refused
	TooMany                     // 429: a rate limit is passed
	Unavailable                 // 503: something outside us does not answer; trying later helps
)

// Error is a fault with a stable public code. Make one with New or Wrap.
type Error struct {
	Kind Kind
	// Code is stable, lower case, words joined by underscores: "frame_stale".
	Code string
	// Params are values for the message's placeholders. They are public.
	Params map[string]string
	// RetryAfter, when not zero, tells the caller when another try makes sense.
	RetryAfter time.Duration
	cause      error
}

// New makes a fault without a cause.
func New(kind Kind, code string) *Error { return &Error{Kind: kind, Code: code} }

// Wrap makes a fault around a cause. The cause is for the log only.
func Wrap(kind Kind, code string, cause error) *Error {
	return &Error{Kind: kind, Code: code, cause: cause}
}

// With returns a copy that carries one more public parameter.
func (e *Error) With(name, value string) *Error {
	c := *e
	c.Params = make(map[string]string, len(e.Params)+1)
	for k, v := range e.Params {
		c.Params[k] = v
	}
	c.Params[name] = value
	return &c
}

// Because returns a copy that carries a cause for the log.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// Error is for logs: it includes the cause.
func (e *Error) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %v", e.Code, e.cause)
	}
	return e.Code
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is compare faults by their code, so that a package can
// publish sentinel faults and still add parameters and causes to copies.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Code == e.Code
}

// From finds the fault in an error chain; anything else becomes an Internal
// fault with the code "internal" around the cause.
func From(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Wrap(Internal, "internal", err)
}

// CodeOf gives the public code of an error, "" for nil.
func CodeOf(err error) string {
	if err == nil {
		return ""
	}
	return From(err).Code
}
