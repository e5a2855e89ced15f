// Package agency knows the organisations that use Sealgate and their systems:
// agencies and clients, with the rules for their names, addresses and secrets,
// and the pairwise subject by which each sector knows a citizen.
package agency

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/fault"
)

// State says whether an agency or a client may be used.
type State string

// The states of agencies and clients.
const (
	Active    State = "active"
	Suspended State = "suspended"
)

// Names is one name in the two languages of the service.
type Names struct {
	ZhHant string `json:"zh-Hant"`
	En     string `json:"en"`
}

// In gives the name in a language; what is not English reads zh-Hant.
func (n Names) In(lang string) string {
	if lang == "en" {
		return n.En
	}
	return n.ZhHant
}

// Agency is an organisation: a government body or a company.
type Agency struct {
	ID   uuid.UUID
	Code string // stable short name, [A-Za-z0-9._-]{1,64}
	Name Names
	// Sector is "public" or "private". It is a register entry, not the sector
	// of pairwise subjects; that is Client.SectorIdentifier.
	Sector    string
	State     State
	CreatedAt time.Time
}

// AuthMethod is how a client proves itself at the token endpoint
// (OpenID Connect Core 1.0 §9).
type AuthMethod string

// The methods a client may be registered with.
const (
	AuthNone              AuthMethod = "none"
	AuthClientSecretBasic AuthMethod = "client_secret_basic"
	AuthClientSecretPost  AuthMethod = "client_secret_post"
	AuthPrivateKeyJWT     AuthMethod = "private_key_jwt"
)

// The grants a client may be registered for (RFC 6749 §4.1, §4.4).
const (
	GrantAuthorizationCode = "authorization_code"
	GrantClientCredentials = "client_credentials"
)

// Client is one system of an agency, with its OAuth credentials. Values handed
// out by Service are shared with its cache: read them, do not change them.
type Client struct {
	ID       uuid.UUID
	ClientID string // public identifier, [A-Za-z0-9._-]{1,128}
	Agency   Agency
	Name     Names
	// Host is what the phone shows as the place the citizen came from.
	Host       string
	AuthMethod AuthMethod
	// SecretMAC is HMAC-SHA-256 of the client secret under the keyring secret
	// "client-secret"; the secret itself is kept nowhere.
	SecretMAC []byte
	// JWKS holds the public keys of a private_key_jwt client (RFC 7517 §5).
	JWKS                   json.RawMessage
	RedirectURIs           []string // OpenID Connect, compared exactly
	PostLogoutRedirectURIs []string
	ReturnURIs             []string // sign orders, compared exactly
	GrantTypes             []string
	Scopes                 []string
	// SectorIdentifier is what pairwise subjects are made for (OpenID Connect
	// Core 1.0 §8.1): clients with the same value see the same subject.
	SectorIdentifier string
	// MinimumACR is the lowest road of approval the client accepts, "" for any.
	MinimumACR string
	// SyncedPasskeys is what the client makes of passkeys that are copied between
	// devices: "" (as the deployment), "allowed", "lower_acr" or "refused". It can
	// only be stricter than the deployment.
	SyncedPasskeys string
	// RequireSubject refuses sign orders of this client that name no citizen.
	RequireSubject bool
	// MaximumFrameAge narrows the age of a QR frame, 0 for the house rule.
	MaximumFrameAge time.Duration
	State           State
	// BuiltIn marks Sealgate's own pages.
	BuiltIn   bool
	CreatedAt time.Time
}

// The faults of this package.
var (
	ErrClientUnknown       = fault.New(fault.Unauthenticated, "client_unknown")
	ErrClientSuspended     = fault.New(fault.Forbidden, "client_suspended")
	ErrAgencySuspended     = fault.New(fault.Forbidden, "agency_suspended")
	ErrRedirectURIMismatch = fault.New(fault.Invalid, "redirect_uri_mismatch")
	ErrReturnURIMismatch   = fault.New(fault.Invalid, "return_uri_mismatch")
	ErrRedirectURIInvalid  = fault.New(fault.Unprocessable, "redirect_uri_invalid")
	ErrSecretWrong         = fault.New(fault.Unauthenticated, "client_secret_wrong")
	ErrGrantNotAllowed     = fault.New(fault.Forbidden, "client_grant_not_allowed")
	ErrClientInvalid       = fault.New(fault.Unprocessable, "client_invalid")
	ErrSubjectInvalid      = fault.New(fault.Invalid, "subject_invalid")
)

// Usable tells whether the client and its agency may be used now:
// ErrClientSuspended, ErrAgencySuspended or nil.
func (c *Client) Usable() error {
	if c.Agency.State != Active {
		return ErrAgencySuspended
	}
	if c.State != Active {
		return ErrClientSuspended
	}
	return nil
}

// MayUse tells whether the client is registered for a grant.
func (c *Client) MayUse(grant string) bool { return slices.Contains(c.GrantTypes, grant) }

// ScopeSignRaw lets a client ask for bare signature values (the forms pkcs1 and
// raw). Whoever has such a value decides what it is put into, so not every
// client may.
const ScopeSignRaw = "sign:raw"

// HasScope tells whether the client is registered for a scope.
func (c *Client) HasScope(scope string) bool { return slices.Contains(c.Scopes, scope) }

// CheckRedirectURI compares with the registered redirect URIs by simple string
// comparison (OpenID Connect Core 1.0 §3.1.2.1).
func (c *Client) CheckRedirectURI(uri string) error {
	if uri == "" || !slices.Contains(c.RedirectURIs, uri) {
		return ErrRedirectURIMismatch
	}
	return nil
}

// CheckReturnURI compares with the registered return addresses of sign orders,
// by simple string comparison.
func (c *Client) CheckReturnURI(uri string) error {
	if uri == "" || !slices.Contains(c.ReturnURIs, uri) {
		return ErrReturnURIMismatch
	}
	return nil
}
