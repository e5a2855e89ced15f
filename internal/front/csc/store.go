package csc

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/issuing"
	"sealgate/internal/oidc"
	"sealgate/internal/order"
)

// The scopes of the API (CSC API 2.0.0.2 §8.4).
const (
	ScopeService    = "service"
	ScopeCredential = "credential"
)

// DoorName marks the stored request of an order that this door made.
const DoorName = "csc"

// Request is what an order keeps of the authorization request.
type Request struct {
	Door          string `json:"door"` // DoorName
	Scope         string `json:"scope"`
	ClientID      string `json:"client_id"`
	RedirectURI   string `json:"redirect_uri"`
	State         string `json:"state,omitempty"`
	CodeChallenge string `json:"code_challenge"` // S256
	// For scope credential: which certificate, by both its names, and whether the
	// hashes came as authorization_details (RFC 9396).
	Certificate  uuid.UUID `json:"certificate,omitzero"`
	CredentialID string    `json:"credential_id,omitempty"`
	Details      bool      `json:"details,omitempty"`
}

// Grant is what an order of this door gives its client.
type Grant struct {
	Order, Client   uuid.UUID
	Kind            order.Kind
	State           order.State
	Request         json.RawMessage
	Citizen, Device uuid.UUID // zero before the approval
	// Active: citizen and device are.
	Active bool
	// Redeemed: there is a token already.
	Redeemed bool
}

// Token is an access token. Its id is its order's.
type Token struct {
	Order, Client, Citizen uuid.UUID
	Scope                  string
	Certificate            uuid.UUID // zero for scope service
	Spent                  []int     // documents whose signatures were handed out
	CreatedAt, ExpiresAt   time.Time
	Revoked                bool
	// Active: citizen and device still are.
	Active bool
	Device uuid.UUID
}

// Redemption is everything that the redeeming transaction writes.
type Redemption struct {
	Token     Token
	Assertion *oidc.UsedAssertion // nil unless the client signed one
	Audit     audit.Entry
}

// Credential is a mobile certificate as this door shows it.
type Credential struct {
	ID, Citizen, Device uuid.UUID
	DER                 []byte
	Authority           string // who issued it, by the register's name
	State               issuing.State
	NotBefore, NotAfter time.Time
	// DeviceName is what its owner calls the phone.
	DeviceName string
	// Active: citizen and device are.
	Active bool
	// Superseded: another certificate took its place, as at a renewal.
	Superseded bool
}

// Store keeps what the door needs. Every method is one transaction or one read.
type Store interface {
	// Grant reads an order that this door made; oidc.ErrGrantUnknown.
	Grant(ctx context.Context, order uuid.UUID) (*Grant, error)
	// Redeem writes the token of an order and the entry; for scope service it also
	// takes the login order from approved to completed. oidc.ErrCodeUsed when
	// there is a token already, or the order is not where it should be;
	// oidc.ErrAssertionReplayed.
	Redeem(ctx context.Context, r Redemption) error
	// Token reads a token; oidc.ErrTokenUnknown.
	Token(ctx context.Context, order uuid.UUID) (*Token, error)
	// Revoke ends a token of this client and writes the entry; oidc.ErrTokenUnknown
	// when the client has no such unrevoked token.
	Revoke(ctx context.Context, order, client uuid.UUID, at time.Time, entry audit.Entry) error
	// UseAssertion consumes a client assertion alone; oidc.ErrAssertionReplayed.
	UseAssertion(ctx context.Context, assertion oidc.UsedAssertion) error
	// Credentials lists a citizen's certificates: of each device that is not
	// removed, the newest.
	Credentials(ctx context.Context, citizen uuid.UUID) ([]Credential, error)
	// Credential reads one certificate, also one whose place another took;
	// ErrCredentialUnknown.
	Credential(ctx context.Context, certificate uuid.UUID) (*Credential, error)
	// Spend marks documents of a token as handed out, each once, and writes the
	// entry; ErrSpent when one was before, or the token is over.
	Spend(ctx context.Context, order uuid.UUID, documents []int, at time.Time, entry audit.Entry) error
}

// Faults of the store. What a client is told of them stands in errors.go.
var (
	ErrCredentialUnknown = fault.New(fault.NotFound, "csc_credential_unknown")
	ErrSpent             = fault.New(fault.Conflict, "csc_sad_spent")
)
