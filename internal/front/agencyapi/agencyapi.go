// Package agencyapi is the door for agencies' systems: sign orders over REST.
//
//	POST /sign-orders                                  ask a citizen to sign digests
//	GET  /sign-orders/{order}?wait=25                  how it stands; waits on request
//	POST /sign-orders/{order}/cancel                   take it back
//	GET  /sign-orders/{order}/documents/{n}/signature  the detached signature (.p7s)
//	GET  /sign-orders/{order}/documents/{n}/evidence   the chain for one document, without the others
//	GET  /sign-orders/{order}/evidence                 the chain from card to signatures, to check offline
//	POST /dossiers …                                   official documents on their way, see dossiers.go
//	GET  /health                                       this door answers
//
// Every call but the last carries a bearer token of the client credentials
// grant with the scope "sign" (RFC 6750; only the Authorization header counts).
// A client sees its own orders; every other order does not exist for it. The
// documents never come here: an order holds digests.
package agencyapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/dossier"
	"sealgate/internal/fault"
	"sealgate/internal/front"
	"sealgate/internal/oidc"
	"sealgate/internal/order"
	"sealgate/internal/signing"
)

// Limits on what one call may carry or take.
const (
	maxOrder = 8 << 20 // bytes of a sign order; 2000 documents fit, or signing.MaxEarlierAll of earlier signatures
	maxWait  = 25 * time.Second
)

// Faults of this door. Their texts are in the catalogue under fault.<code>.
var (
	ErrTokenMissing     = fault.New(fault.Unauthenticated, "api_token_missing")
	ErrScopeMissing     = fault.New(fault.Forbidden, "api_scope_missing")
	ErrNotSigned        = fault.New(fault.Conflict, "api_not_signed")
	ErrDocumentUnknown  = fault.New(fault.NotFound, "api_document_unknown")
	ErrDocumentLeftOut  = fault.New(fault.NotFound, "api_document_left_out")
	ErrSubjectNeeded    = fault.New(fault.Unprocessable, "api_subject_needed")
	ErrLengthRequired   = fault.New(fault.Invalid, "api_length_required")
	ErrOtherDocument    = fault.New(fault.Unprocessable, "api_other_document")
	ErrNotAttachable    = fault.New(fault.Conflict, "api_not_attachable")
	ErrBareForm         = fault.New(fault.Forbidden, "api_bare_form")
	ErrDocumentFailed   = fault.New(fault.NotFound, "api_document_failed")
	ErrEvidenceNotReady = fault.New(fault.Conflict, "api_evidence_not_ready")
)

// Config is what the door stands on; every field is required.
type Config struct {
	Orders   *order.Service
	Agencies *agency.Service
	Signing  *signing.Service
	Dossiers *dossier.Service
	// Provider verifies access tokens.
	Provider *oidc.Provider
	// PublicOrigin is our public address without a slash at the end.
	PublicOrigin string
	// Evidence gives the evidence bundle of an approved order (package evidence),
	// of one document where that is not negative.
	Evidence func(ctx context.Context, order uuid.UUID, document int) ([]byte, error)
	// Refused writes the audit entry of a call that was not allowed.
	Refused func(ctx context.Context, entry audit.Entry) error
}

// Door answers agencies' systems.
type Door struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Door, error) {
	if cfg.Orders == nil || cfg.Agencies == nil || cfg.Signing == nil || cfg.Dossiers == nil || cfg.Provider == nil || cfg.Evidence == nil || cfg.Refused == nil {
		return nil, errors.New("agencyapi: a part is missing from the configuration")
	}
	if cfg.PublicOrigin == "" || strings.HasSuffix(cfg.PublicOrigin, "/") {
		return nil, errors.New("agencyapi: the public origin is missing or ends with a slash")
	}
	return &Door{cfg}, nil
}

// Mount puts the routes on a router, below the prefix where it is mounted.
func (d *Door) Mount(r chi.Router) {
	r.Get("/health", d.health)
	d.mountDossiers(r)
	r.Post("/sign-orders", d.forClient(d.create))
	r.Route("/sign-orders/{order}", func(r chi.Router) {
		r.Get("/", d.forClient(d.read))
		r.Post("/cancel", d.forClient(d.cancel))
		r.Get("/documents/{document}/signature", d.forClient(d.signature))
		r.Post("/documents/{document}/attached", d.forClient(d.attached))
		r.Get("/documents/{document}/evidence", d.forClient(d.oneEvidence))
		r.Get("/evidence", d.forClient(d.evidence))
	})
}

// health says that the door answers; whether the node is fit to serve is for
// /readyz to say.
func (d *Door) health(w http.ResponseWriter, _ *http.Request) {
	front.WriteJSON(w, http.StatusOK, map[string]string{"status": "ok", "server_time": stamp(time.Now())})
}

// stamp writes a time as RFC 3339 in UTC with milliseconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
