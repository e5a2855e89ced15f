// Package order is the heart of the service: one order is one thing that a
// client asks a citizen to approve with a phone.
//
// The content of an order is fixed when it is made. The WebAuthn challenge is
// computed over that content, so the assertion signs what the person saw.
//
//	created ──claim──▶ scanned ──approve──▶ approved ──collect/sign──▶ completed
//	   │                  │                    │
//	   └── cancelled, expired, rejected ◀──────┴──▶ failed
//
// Each step is one compare-and-set in one database transaction, with its audit
// entry. Only the first phone claims an order, only the browser that started
// it (or the client that owns it) receives its result, and reading never
// changes state. What has run out counts as expired at once, whether or not
// the sweeping job has marked the row yet.
package order

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/fault"
)

// ID is an order's UUIDv7. In links and JSON it is 22 characters of unpadded
// base64url.
type ID uuid.UUID

// String gives the 22-character form.
func (id ID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// UUID gives the database's form.
func (id ID) UUID() uuid.UUID { return uuid.UUID(id) }

// MarshalText makes JSON carry the 22-character form.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the 22-character form.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseID(string(text))
	*id = parsed
	return err
}

// ParseID reads the 22-character form. It accepts only the one canonical
// spelling of an id, so that one order has one link.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 22 {
		return id, ErrNotFound
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) != 16 {
		return id, ErrNotFound
	}
	copy(id[:], raw)
	return id, nil
}

// Kind is what an order asks for.
type Kind string

// The kinds of orders.
const (
	Login Kind = "login" // prove who you are to a client
	Sign  Kind = "sign"  // sign documents
	Enrol Kind = "enrol" // bind this phone
)

// State is where an order stands.
type State string

// The states. The last five are ends.
const (
	Created   State = "created"
	Scanned   State = "scanned"
	Approved  State = "approved"
	Completed State = "completed"
	Rejected  State = "rejected"
	Expired   State = "expired"
	Cancelled State = "cancelled"
	Failed    State = "failed"
)

// Ended says whether nothing more can happen to an order in this state.
func (s State) Ended() bool {
	switch s {
	case Completed, Rejected, Expired, Cancelled, Failed:
		return true
	}
	return false
}

// Source is the road by which a phone came to an order.
type Source string

// The roads. SameDevice and Hybrid are proven near by the browsers themselves;
// the others can be relayed and get a lower acr.
const (
	Scanner    Source = "scanner"     // our own scanner read a live frame
	Link       Source = "link"        // the phone's camera opened the frame's link
	Frozen     Source = "frozen"      // a frame that was held still
	Code       Source = "code"        // the eight digits were typed
	SameDevice Source = "same_device" // the browser that started the order is on the phone
	Hybrid     Source = "hybrid"      // WebAuthn hybrid transport from the starting browser
)

// The authentication context class references that a login can reach.
// PHR and PHRH are the values of the OpenID Extended Authentication Profile;
// QR is ours and says honestly that the road could be relayed.
const (
	ACRQR   = "urn:sealgate:acr:qr"
	ACRPHR  = "phr"
	ACRPHRH = "phrh"
)

// BrowserKey is the random value in the cookie of the browser that started an
// order. The order keeps only its SHA-256.
type BrowserKey [32]byte

// Hash is what is stored of a browser key.
func (k BrowserKey) Hash() []byte {
	h := sha256.Sum256(k[:])
	return h[:]
}

// Origin describes where a request came from, as far as the person on the
// phone should see it. It holds no cookie and no account.
type Origin struct {
	IP      netip.Addr `json:"ip,omitzero"`
	Browser string     `json:"browser,omitempty"`
	OS      string     `json:"os,omitempty"`
	Mobile  bool       `json:"mobile,omitempty"`
	Country string     `json:"country,omitempty"` // ISO 3166-1 alpha-2, where the proxy tells it
}

// Names is a text in the languages of the service, keyed by BCP 47 tag.
type Names map[string]string

// Order is one row, whole.
type Order struct {
	ID               ID
	Kind             Kind
	State            State
	ClientID         uuid.UUID
	Content          []byte // RFC 8785 canonical JSON, never changed
	Request          json.RawMessage
	ReturnURI        string
	QRSecret         []byte
	BrowserHash      []byte
	StartHash        []byte
	SubjectCitizenID *uuid.UUID
	// SubjectCertificateID: only the device with this mobile certificate may
	// approve; nil for any device of who may.
	SubjectCertificateID *uuid.UUID
	Started              Origin
	CreatedAt            time.Time
	ExpiresAt            time.Time
	FinalExpiresAt       time.Time
	Extended             int
	FrozenStep           *int
	FrozenAt             *time.Time
	ClaimHash            []byte
	ClaimSource          Source
	Claimed              Origin
	ScannedAt            *time.Time
	CheckDigits          string
	CheckTries           int
	CheckPassedAt        *time.Time
	CitizenID            *uuid.UUID
	DeviceID             *uuid.UUID
	ACR                  string
	LeftOut              []int
	ApprovedAt           *time.Time
	CompletedAt          *time.Time
	EndedAt              *time.Time
	EndReason            string
	// Failures are documents that could not be signed while others of the same
	// order were: place to fault code.
	Failures map[int]string
	// WaitReason is the fault code of what an approved sign order waits for; ""
	// when nothing is known to hold it up.
	WaitReason string
	// Earlier are the signatures that new ones join; only when an order is made.
	Earlier []Earlier
}

// Earlier is a signature over a document that a new one joins.
type Earlier struct {
	Document int
	DER      []byte // DER or BER, as it came
}

// What may have become of one document of a sign order.
const (
	DocumentPending = "pending"
	DocumentSigned  = "signed"
	DocumentLeftOut = "left_out"
	DocumentFailed  = "failed"
)

// DocumentState tells what has become of one document.
func (o *Order) DocumentState(index int, now time.Time) string {
	state := o.StateAt(now)
	_, failed := o.Failures[index]
	switch {
	case slices.Contains(o.LeftOut, index):
		return DocumentLeftOut
	case failed:
		return DocumentFailed
	case state == Completed:
		return DocumentSigned
	case state.Ended():
		return DocumentFailed
	}
	return DocumentPending
}

// StateAt is the state that counts at a time: an open order whose time has run
// out is expired, whatever the row still says.
func (o *Order) StateAt(now time.Time) State {
	if (o.State == Created || o.State == Scanned) && !now.Before(o.ExpiresAt) {
		return Expired
	}
	return o.State
}

// CheckNeeded says that the computer must still be given the two digits.
func (o *Order) CheckNeeded() bool { return o.CheckDigits != "" && o.CheckPassedAt == nil }

// Faults of this package. Their texts are in the catalogue under fault.<code>.
var (
	ErrNotFound      = fault.New(fault.NotFound, "order_not_found")
	ErrWrongBrowser  = fault.New(fault.Forbidden, "order_wrong_browser")
	ErrClaimed       = fault.New(fault.Conflict, "order_claimed")
	ErrNotClaimed    = fault.New(fault.Conflict, "order_not_claimed")
	ErrExpired       = fault.New(fault.Gone, "order_expired")
	ErrApproved      = fault.New(fault.Conflict, "order_approved")
	ErrCancelled     = fault.New(fault.Gone, "order_cancelled")
	ErrRejected      = fault.New(fault.Gone, "order_rejected")
	ErrFailed        = fault.New(fault.Gone, "order_failed")
	ErrState         = fault.New(fault.Conflict, "order_state")
	ErrWrongClaim    = fault.New(fault.Forbidden, "order_wrong_claim")
	ErrFrameUnknown  = fault.New(fault.NotFound, "frame_unknown")
	ErrFrameForged   = fault.New(fault.Forbidden, "frame_forged")
	ErrFrameStale    = fault.New(fault.Gone, "frame_stale")
	ErrCodeUnknown   = fault.New(fault.NotFound, "code_unknown")
	ErrSource        = fault.New(fault.Invalid, "claim_source")
	ErrRoadRefused   = fault.New(fault.Forbidden, "order_road_refused")
	ErrSyncedPasskey = fault.New(fault.Forbidden, "order_synced_passkey")
	ErrCheckNeeded   = fault.New(fault.Conflict, "order_check_needed")
	ErrCheckWrong    = fault.New(fault.Unprocessable, "order_check_wrong")
	ErrCheckNone     = fault.New(fault.Conflict, "order_check_none")
	ErrExtendLimit   = fault.New(fault.Conflict, "order_extend_limit")
	ErrWrongCitizen  = fault.New(fault.Forbidden, "order_wrong_citizen")
	ErrWrongDevice   = fault.New(fault.Forbidden, "order_wrong_device")
	ErrDeviceUnknown = fault.New(fault.Unauthenticated, "device_unknown")
	ErrDeviceStopped = fault.New(fault.Forbidden, "device_suspended")
	ErrCitizenFrozen = fault.New(fault.Forbidden, "citizen_frozen")
	ErrDeviceCounter = fault.New(fault.Forbidden, "device_counter")
	ErrNoCertificate = fault.New(fault.Forbidden, "sign_certificate_missing")
	ErrLeftOut       = fault.New(fault.Invalid, "left_out_invalid")
	ErrDocuments     = fault.New(fault.Invalid, "documents_invalid")
	ErrTooMany       = fault.New(fault.TooLarge, "documents_too_many")
	ErrDigest        = fault.New(fault.Invalid, "document_digest_invalid")
	ErrForm          = fault.New(fault.Invalid, "document_form_invalid")
	ErrLevel         = fault.New(fault.Invalid, "signature_level_invalid")
	ErrText          = fault.New(fault.Invalid, "text_invalid")
	ErrStartToken    = fault.New(fault.Forbidden, "start_token_wrong")
	ErrKind          = fault.New(fault.Conflict, "order_kind")
	// ErrCertificatePending: the outside CA has not issued the certificate yet.
	// The order stays open: the same phone may approve when it has come.
	ErrCertificatePending = fault.New(fault.Conflict, "certificate_pending")
)

// Fault says in words a caller can act on why a step is not possible in a state.
func (s State) Fault() error {
	switch s {
	case Scanned:
		return ErrClaimed
	case Approved, Completed:
		return ErrApproved
	case Expired:
		return ErrExpired
	case Cancelled:
		return ErrCancelled
	case Rejected:
		return ErrRejected
	case Failed:
		return ErrFailed
	}
	return ErrState
}
