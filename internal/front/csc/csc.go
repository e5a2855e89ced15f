// Package csc is the door of document software that speaks the API of the Cloud
// Signature Consortium, version 2 (CSC API 2.0.0.2), mounted at /csc/v2.
//
//	info                      what is offered
//	oauth2/authorize          scope service: the citizen lets a client see the certificates
//	                          scope credential: the citizen approves exactly these hashes
//	oauth2/token, revoke      the code for a token; a token's end
//	credentials/list, info    the citizen's mobile certificates
//	signatures/signHash       the signature values for hashes that were approved
//	signatures/timestamp      a token of the own time-stamp authority
//
// It is a way of speaking and nothing more: both authorizations are orders. Scope
// service is a login order; scope credential is a sign order for bare values
// (signing.FormPKCS1) that only the phone of the named certificate can approve.
// The signatures are made where all are made, by package signing, as soon as the
// person has approved. The signature activation data (SAD, SCAL2) is the access
// token of that order: bound to client, citizen, certificate and documents by the
// order itself, it hands each signature out once. No request of this door
// makes a key do anything.
//
// Nothing is stored for an authorization code: it is a MAC over the order and the
// time it was given to the browser. A token's row has the order as its primary
// key, so that a code works once.
package csc

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/front"
	"sealgate/internal/oidc"
	"sealgate/internal/order"
	"sealgate/internal/signing"
)

// Path is where the door stands.
const Path = "/csc/v2"

// Lifetimes.
const (
	// CodeLife is how long an authorization code works after the browser got it.
	CodeLife = 60 * time.Second
	// ReturnWindow is how long after the approval the browser may fetch its way back.
	ReturnWindow = 5 * time.Minute
	// ServiceLife is the life of a token of scope service.
	ServiceLife = time.Hour
	// CredentialLife is the life of signature activation data.
	CredentialLife = 5 * time.Minute
)

// Config is what the door needs. All fields are required.
type Config struct {
	Orders   *order.Service
	Agencies *agency.Service
	Signing  *signing.Service
	// Provider authenticates clients at the token endpoint.
	Provider *oidc.Provider
	Store    Store
	// Chain gives the certificates above those that an authority issued, by the
	// register's name (issuing.ChainOf), in any order.
	Chain func(ctx context.Context, authority string) ([]*x509.Certificate, error)
	// Stamp answers a request to our time-stamp authority (RFC 3161).
	Stamp func(ctx context.Context, request []byte) (response []byte, err error)
	// CodeSecret, 32 bytes: keys for authorization codes and tokens are derived from it.
	CodeSecret []byte
	// PublicOrigin is our public address without a slash at the end.
	PublicOrigin string
	// Logo is the path of a PNG of at most 256 by 256 pixels.
	Logo string
	// Most is how many documents one authorization may cover.
	Most int
	// Name and Description tell the service to people, in a language of ours.
	Name, Description func(lang string) string
	// Refused writes the audit entry of a call that was not allowed.
	Refused func(ctx context.Context, entry audit.Entry) error
	Log     *slog.Logger
}

// Door serves the API.
type Door struct {
	cfg               Config
	codeKey, tokenKey []byte
}

// New checks the configuration.
func New(cfg Config) (*Door, error) {
	switch {
	case cfg.Orders == nil, cfg.Agencies == nil, cfg.Signing == nil, cfg.Provider == nil, cfg.Store == nil, cfg.Chain == nil,
		cfg.Stamp == nil, cfg.Name == nil, cfg.Description == nil, cfg.Refused == nil, cfg.Log == nil, cfg.Most <= 0:
		return nil, errors.New("csc: a part is missing from the configuration")
	case len(cfg.CodeSecret) < 32:
		return nil, errors.New("csc: the code secret is shorter than 32 bytes")
	case cfg.PublicOrigin == "" || strings.HasSuffix(cfg.PublicOrigin, "/"):
		return nil, errors.New("csc: the public origin is missing or ends with a slash")
	}
	d := &Door{cfg: cfg}
	var err error
	if d.codeKey, err = hkdf.Key(sha256.New, cfg.CodeSecret, nil, "sealgate/csc/v1/authorization code", 32); err != nil {
		return nil, err
	}
	d.tokenKey, err = hkdf.Key(sha256.New, cfg.CodeSecret, nil, "sealgate/csc/v1/access token", 32)
	return d, err
}

// Mount puts the routes on a router that stands at Path and already has the shell's layers.
func (d *Door) Mount(r chi.Router) {
	r.Get("/oauth2/authorize", d.authorize)
	r.Post("/oauth2/token", d.token)
	r.Post("/oauth2/revoke", d.revoke)
	r.Post("/info", d.info)
	r.Post("/credentials/list", d.forBearer(d.list))
	r.Post("/credentials/info", d.forBearer(d.credential))
	r.Post("/signatures/signHash", d.forBearer(d.signHash))
	r.Post("/signatures/timestamp", d.forBearer(d.timestamp))
	r.NotFound(func(w http.ResponseWriter, r *http.Request) { writeError(w, errNotImplemented) })
}

// now has the precision of the database.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// from describes who asks.
func from(r *http.Request) order.Origin {
	return order.NewOrigin(front.ClientIP(r), r.UserAgent(), "")
}

// credentialID names a mobile certificate to one client: a pairwise identifier,
// as citizens have one, so that two clients cannot join what they know.
func (d *Door) credentialID(c *agency.Client, certificate uuid.UUID) string {
	return d.cfg.Agencies.Subject("csc credential\x00"+c.ClientID, certificate)
}

func (d *Door) parseCredentialID(c *agency.Client, id string) (uuid.UUID, error) {
	return d.cfg.Agencies.ParseSubject("csc credential\x00"+c.ClientID, id)
}

// mayUse says whether a client may use this door at all: it gets bare values, so
// it needs the right to them.
func mayUse(c *agency.Client) bool {
	return c.MayUse(agency.GrantAuthorizationCode) && c.AuthMethod != agency.AuthNone && c.HasScope(agency.ScopeSignRaw)
}
