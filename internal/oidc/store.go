package oidc

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/order"
)

// Grant is what an approved login order gives its client.
type Grant struct {
	Order      uuid.UUID
	Client     uuid.UUID
	State      order.State
	Request    json.RawMessage // as stored by authorize
	Citizen    uuid.UUID
	Device     uuid.UUID
	ACR        string
	ApprovedAt time.Time
	// Attested says that the device proved to be certified hardware.
	Attested bool
	// Active is false where the citizen was frozen or closed meanwhile, or the
	// device that approved was stopped.
	Active bool
	// What is sealed about the citizen, and the MAC it is sealed for.
	NationalIDMAC, NationalIDSealed, NameSealed []byte
}

// Token is a stored access token and the grant it came from.
type Token struct {
	ID        uuid.UUID
	Client    uuid.UUID
	Subject   string
	Scopes    []string
	CreatedAt time.Time
	ExpiresAt time.Time
	Revoked   bool
	Grant     Grant
}

// Redemption is everything that the redeeming transaction writes.
type Redemption struct {
	Token     Token
	At        time.Time
	Assertion *UsedAssertion // nil unless the client signed one
	Audit     audit.Entry
}

// UsedAssertion makes a client assertion (RFC 7523 §3) work once.
type UsedAssertion struct {
	Hash      [32]byte // of client and jti
	ExpiresAt time.Time
}

// Store keeps what the provider needs. Every method is one transaction or one read.
type Store interface {
	// Grant reads a login order with its citizen and device; ErrGrantUnknown.
	Grant(ctx context.Context, order uuid.UUID) (*Grant, error)
	// RedeemCode takes the order from approved to completed and writes the
	// token and the entry: ErrCodeUsed when it is not approved any more,
	// ErrAssertionReplayed.
	RedeemCode(ctx context.Context, r Redemption) error
	// RevokeOrder revokes the tokens of an order and writes the entry.
	RevokeOrder(ctx context.Context, order uuid.UUID, at time.Time, entry audit.Entry) error
	// Token reads an access token with its grant; ErrTokenUnknown.
	Token(ctx context.Context, id uuid.UUID) (*Token, error)
	// RevokeToken revokes a token of this client and writes the entry;
	// ErrTokenUnknown when the client has no such unrevoked token.
	RevokeToken(ctx context.Context, id, client uuid.UUID, at time.Time, entry audit.Entry) error
	// UseAssertion consumes a client assertion alone; ErrAssertionReplayed.
	UseAssertion(ctx context.Context, assertion UsedAssertion) error
	// Issued writes the entry of a token that is not stored; ErrAssertionReplayed.
	Issued(ctx context.Context, assertion *UsedAssertion, entry audit.Entry) error
	// Refused writes the entry of something that was not allowed.
	Refused(ctx context.Context, entry audit.Entry) error
}

// The faults of this package. The OAuth error code that each becomes is in oauthError.
var (
	// Shown on a page: the way back to the client is not known or not safe.
	ErrRequestMalformed = fault.New(fault.Invalid, "oidc_request_malformed")
	ErrRequestDoubled   = fault.New(fault.Invalid, "oidc_request_doubled")
	ErrRequestTooLarge  = fault.New(fault.TooLarge, "oidc_request_too_large")
	ErrNotFinished      = fault.New(fault.Conflict, "oidc_login_not_finished")
	ErrReturned         = fault.New(fault.Gone, "oidc_login_returned")
	ErrLogoutInvalid    = fault.New(fault.Invalid, "oidc_logout_invalid")

	// Told to the client.
	ErrClientAuth        = fault.New(fault.Unauthenticated, "oidc_client_auth")
	ErrGrantUnknown      = fault.New(fault.NotFound, "oidc_code_unknown")
	ErrCodeExpired       = fault.New(fault.Gone, "oidc_code_expired")
	ErrCodeUsed          = fault.New(fault.Conflict, "oidc_code_used")
	ErrCodeClient        = fault.New(fault.Forbidden, "oidc_code_client")
	ErrCodeRedirect      = fault.New(fault.Invalid, "oidc_code_redirect_uri")
	ErrCodeVerifier      = fault.New(fault.Invalid, "oidc_code_verifier")
	ErrTokenUnknown      = fault.New(fault.Unauthenticated, "oidc_token_unknown")
	ErrTokenExpired      = fault.New(fault.Unauthenticated, "oidc_token_expired")
	ErrTokenRevoked      = fault.New(fault.Unauthenticated, "oidc_token_revoked")
	ErrAssertionInvalid  = fault.New(fault.Unauthenticated, "oidc_assertion_invalid")
	ErrAssertionReplayed = fault.New(fault.Unauthenticated, "oidc_assertion_replayed")
	ErrScope             = fault.New(fault.Invalid, "oidc_scope_not_allowed")
	ErrCitizenStopped    = fault.New(fault.Forbidden, "oidc_citizen_stopped")
)
