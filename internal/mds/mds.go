// Package mds reads the FIDO Metadata Service's BLOB (FIDO Metadata Service
// v3.0): a signed list of authenticator models with their attestation roots,
// certifications and known compromises.
//
// A BLOB is believed only when its JWS signature holds, the signer's chain leads
// to a configured root, the signer has the expected name, and its number is
// higher than that of the one before. The last good one stays in the database:
// every node and every restart has it, and a day without the Internet changes
// nothing but its age, which is told.
//
// What is kept in memory is an index: names, statuses, roots; no pictures.
package mds

import (
	"crypto/x509"
	"errors"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/fault"
)

// Bounds on what arrives.
const (
	MaxBLOB       = 16 << 20 // bytes of the whole JWS; the public one has about half of that
	maxHeader     = 64 << 10 // bytes of the JWS header, with its certificates
	maxChain      = 6        // certificates of the signer
	maxDepth      = 24       // of the payload's JSON
	maxEntries    = 20_000
	maxStatuses   = 100 // reports of one model
	maxRoots      = 200 // of one model
	maxKeyIDs     = 200 // of one model
	maxName       = 200 // bytes of a description that are kept
	maxRootLength = 8 << 10
)

// DefaultSigner is the name in the public BLOB's signing certificate.
const DefaultSigner = "mds.fidoalliance.org"

// Faults, to be compared with errors.Is. Operators meet them, never citizens.
var (
	// ErrMalformed: not a BLOB, or over a bound.
	ErrMalformed = fault.New(fault.Invalid, "mds_malformed")
	// ErrSignature: the signature or its algorithm is wrong.
	ErrSignature = fault.New(fault.Unprocessable, "mds_signature")
	// ErrSigner: the certificates do not lead to the root, are out of date, or
	// belong to somebody else.
	ErrSigner = fault.New(fault.Unprocessable, "mds_signer")
	// ErrWentBack: the number is lower than that of the BLOB we have, or equal
	// with other content.
	ErrWentBack = fault.New(fault.Conflict, "mds_went_back")
	// ErrNoRoot: no root is configured, so nothing can be believed.
	ErrNoRoot = fault.New(fault.Unprocessable, "mds_no_root")
)

// Blob is a BLOB that has been verified. It is read-only and may be shared.
type Blob struct {
	// Number is `no`: it grows with each issue.
	Number int64
	// NextUpdate is the day by which a newer one is promised (midnight, UTC).
	NextUpdate time.Time

	digest   [32]byte // SHA-256 of the JWS
	entries  []*Entry
	byAAGUID map[uuid.UUID]*Entry
	byKey    map[KeyIdentifier][]*Entry
}

// KeyIdentifier is an attestation certificate's key identifier as MDS writes it:
// SHA-1 of the subject public key's bits (RFC 5280 §4.2.1.2 method 1). U2F
// authenticators have no AAGUID and are found by it.
type KeyIdentifier [20]byte

// Entry is one authenticator model.
type Entry struct {
	AAGUID         uuid.UUID // zero for U2F
	KeyIdentifiers []KeyIdentifier
	Description    string
	// Internal says that the metadata name it part of the device
	// (attachmentHint "internal").
	Internal bool
	Reports  []Report
	roots    [][]byte
}

// Report is one status report: what was known of a model from a day on.
type Report struct {
	Status    Status
	Effective time.Time // zero: from always
	// Certificate is the SHA-256 of the attestation certificate that the report
	// is limited to; zero when it is about every authenticator of the model.
	Certificate [32]byte
}

// Models is the number of entries.
func (b *Blob) Models() int { return len(b.entries) }

// Entries lists all models in the BLOB's order.
func (b *Blob) Entries() []*Entry { return b.entries }

// ByAAGUID finds a FIDO2 model. The zero AAGUID is nobody's.
func (b *Blob) ByAAGUID(id uuid.UUID) (*Entry, bool) {
	e, ok := b.byAAGUID[id]
	return e, ok
}

// ByKeyIdentifier finds U2F models by an attestation certificate's key.
func (b *Blob) ByKeyIdentifier(id KeyIdentifier) []*Entry { return b.byKey[id] }

// Stale says that the promised newer BLOB has not come: the day of NextUpdate is over.
func (b *Blob) Stale(now time.Time) bool { return !now.Before(b.NextUpdate.AddDate(0, 0, 1)) }

// Roots gives the model's attestation trust anchors. Some are leaf
// certificates: then the leaf itself is trusted. What cannot be parsed is left
// out: it anchors nothing.
func (e *Entry) Roots() []*x509.Certificate {
	var all []*x509.Certificate
	for _, der := range e.roots {
		if c, err := x509.ParseCertificate(der); err == nil {
			all = append(all, c)
		}
	}
	return all
}

func malformed(why string) error { return ErrMalformed.Because(errors.New(why)) }
