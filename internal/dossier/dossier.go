// Package dossier takes official documents (公文) over their points of approval
// (線上簽核).
//
// A client submits files, by digest, and a route of points in stages; one stage
// is open at a time, and the points of a stage stand beside each other. A point
// is signed by a sign order like any other: its files, each a document of its
// own that the phone shows, and the ds:SignedInfo of the point (RAW), which
// names the files, the earlier points and what the signer decides. The SI file
// (package xmldsig) is the record of all points.
//
//	open ──all points signed──▶ completed
//	  └──▶ returned (by a point's signature), withdrawn, expired
//
// A point taken into an order is a claim, written before the order is made.
// When the order is completed its claims are settled, each in one transaction
// that compares the dossier's version: whoever comes second finds the point
// taken. Settling may be interrupted and repeated anywhere. Nothing of the SI
// file need be kept while an order is out: the point is built again from the
// claim and must come to the digest that was signed.
package dossier

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/order"
)

// ID is a dossier's UUIDv7; 22 characters of base64url outside, as an order's.
type ID order.ID

// String gives the 22-character form.
func (id ID) String() string { return order.ID(id).String() }

// UUID gives the database's form.
func (id ID) UUID() uuid.UUID { return uuid.UUID(id) }

// MarshalText makes JSON carry the 22-character form.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// ParseID reads the one spelling of an id; else ErrNotFound.
func ParseID(s string) (ID, error) {
	id, err := order.ParseID(s)
	if err != nil {
		return ID{}, ErrNotFound
	}
	return ID(id), nil
}

// State is where a dossier stands.
type State string

// The states; all but Open are ends.
const (
	Open      State = "open"
	Completed State = "completed"
	Returned  State = "returned"
	Withdrawn State = "withdrawn"
	Expired   State = "expired"
)

// PointState is where a point stands.
type PointState string

// The states of points. A point in PointLater was passed, to be signed later
// (待補簽): the dossier goes on without it and does not end without it.
const (
	PointWaiting  PointState = "waiting"
	PointOpen     PointState = "open"
	PointLater    PointState = "later"
	PointSigned   PointState = "signed"
	PointReturned PointState = "returned"
)

// Decision is what a signer decides at a point.
type Decision string

// The decisions.
const (
	Approve Decision = "approve"
	Return  Decision = "return" // 退件
)

// File is one file of a dossier, known by its digest.
type File struct {
	Number          int // from 1
	Name, MediaType string
	Size            int64  // bytes
	Digest          []byte // by the dossier's algorithm
}

// Deputy may sign in the signer's place from NotBefore until before NotAfter (代理).
type Deputy struct {
	Citizen             uuid.UUID
	Reason              string
	NotBefore, NotAfter time.Time
}

// At says whether the deputy may sign at a time.
func (d Deputy) At(t time.Time) bool { return !t.Before(d.NotBefore) && t.Before(d.NotAfter) }

// Point is one point of approval (簽核點).
type Point struct {
	Number      int // from 1
	Stage       int // from 1; points of one stage are open together
	Title       string
	Citizen     uuid.UUID
	Files       []int // numbers of the files that it signs
	Deputies    []Deputy
	State       PointState
	OpenedAt    *time.Time
	LaterReason string
	SignedBy    *uuid.UUID
	Deputy      bool // SignedBy is one
	Comment     string
	SignedAt    *time.Time // when the signature was made
	Order       *uuid.UUID
	Document    *int // of the order: the SignedInfo
	// Failure is the fault code of the last order over this point that came to nothing.
	Failure string
}

// Waits says whether a signature is wanted.
func (p *Point) Waits() bool { return p.State == PointOpen || p.State == PointLater }

// DeputyOf finds a person's deputyship of the point.
func (p *Point) DeputyOf(citizen uuid.UUID) *Deputy {
	for i := range p.Deputies {
		if p.Deputies[i].Citizen == citizen {
			return &p.Deputies[i]
		}
	}
	return nil
}

// Dossier is one revision of an official document, whole.
type Dossier struct {
	ID               ID
	ClientID         uuid.UUID
	Reference, Title string
	Revision         int
	Previous         *ID
	PreviousDigest   []byte // SHA-256 … of the SI file before, by this dossier's algorithm
	Algorithm        string // of all digests
	Level            string // of the files' signatures
	State            State
	Stage            int // the open one; beyond the last when all stages are passed
	Version          int64
	SI               []byte
	CreatedAt        time.Time
	UpdatedAt        time.Time
	ExpiresAt        time.Time
	EndedAt          *time.Time
	EndReason        string
	Files            []File
	Points           []Point
}

// StateAt is the state that counts at a time, whether or not the job that marks
// what ran out has come by.
func (d *Dossier) StateAt(now time.Time) State {
	if d.State == Open && !now.Before(d.ExpiresAt) {
		return Expired
	}
	return d.State
}

// Point gives a point by its number; nil where there is none.
func (d *Dossier) Point(number int) *Point {
	if number < 1 || number > len(d.Points) {
		return nil
	}
	return &d.Points[number-1]
}

// advance opens the next stage as far as all points of the present one are
// signed or passed, and completes the dossier behind the last. It gives the
// numbers of the points that it opened.
func (d *Dossier) advance(now time.Time) (opened []int) {
	last := d.Points[len(d.Points)-1].Stage
	for d.Stage <= last {
		if slices.ContainsFunc(d.Points, func(p Point) bool { return p.Stage == d.Stage && (p.State == PointOpen || p.State == PointWaiting) }) {
			return opened
		}
		d.Stage++
		for i := range d.Points {
			if p := &d.Points[i]; p.Stage == d.Stage && p.State == PointWaiting {
				p.State, p.OpenedAt = PointOpen, &now
				opened = append(opened, p.Number)
			}
		}
	}
	if !slices.ContainsFunc(d.Points, func(p Point) bool { return p.State != PointSigned }) {
		d.end(Completed, "", now)
	}
	return opened
}

func (d *Dossier) end(state State, reason string, now time.Time) {
	d.State, d.EndReason, d.EndedAt = state, reason, &now
}

// ClaimState is what became of a claim.
type ClaimState string

// The states of claims: out until its order ends.
const (
	ClaimOut      ClaimState = "out"
	ClaimAttached ClaimState = "attached"
	ClaimLeftOut  ClaimState = "left_out" // the person left out one of its documents
	ClaimLost     ClaimState = "lost"     // signed, and the point could not take it any more
	ClaimVoid     ClaimState = "void"     // its order came to nothing
)

// Claim is a point in a sign order.
type Claim struct {
	Order    uuid.UUID
	Dossier  ID
	Point    int
	Decision Decision
	Citizen  uuid.UUID
	Deputy   bool
	Later    bool // the point had been passed when it was taken
	Comment  string
	MadeAt   time.Time // the point's own time, whole seconds
	Covers   []int     // earlier points
	Digest   []byte    // of the canonical SignedInfo
	First    int       // first document of the order that is this point's
	Document int       // the last: the SignedInfo
	State    ClaimState
	Failure  string
}

// Event is told to the client. It has ids and states only.
type Event struct {
	Type string
	Data map[string]any
}

// Faults of this package. Their texts are in the catalogue under fault.<code>.
var (
	ErrNotFound      = fault.New(fault.NotFound, "dossier_not_found")
	ErrPointNotFound = fault.New(fault.NotFound, "dossier_point_not_found")
	ErrExists        = fault.New(fault.Conflict, "dossier_exists")
	ErrInvalid       = fault.New(fault.Invalid, "dossier_invalid") // with field
	ErrTooMany       = fault.New(fault.TooLarge, "dossier_too_many")
	ErrEnded         = fault.New(fault.Conflict, "dossier_ended")
	ErrNotEnded      = fault.New(fault.Conflict, "dossier_not_ended")
	ErrPointState    = fault.New(fault.Conflict, "dossier_point_state")
	ErrPointTaken    = fault.New(fault.Conflict, "dossier_point_taken")
	ErrSigner        = fault.New(fault.Unprocessable, "dossier_signer")
	ErrNoPhone       = fault.New(fault.Conflict, "dossier_signer_no_phone")
	ErrDeputyPeriod  = fault.New(fault.Conflict, "dossier_deputy_period")
	ErrClients       = fault.New(fault.Invalid, "dossier_clients_mixed")
	ErrReturnAlone   = fault.New(fault.Invalid, "dossier_return_alone")
	ErrReason        = fault.New(fault.Invalid, "dossier_reason")
	ErrLeftOut       = fault.New(fault.Conflict, "dossier_left_out")
	ErrKeyKind       = fault.New(fault.Conflict, "dossier_key_kind")
	ErrOrderEnded    = fault.New(fault.Conflict, "dossier_order_ended")
	ErrNotSigned     = fault.New(fault.Conflict, "dossier_not_signed")
	ErrBusy          = fault.New(fault.Unavailable, "dossier_busy")
	// ErrMoved: the dossier is not at the version that was read. Never told.
	ErrMoved = fault.New(fault.Conflict, "dossier_moved")
)

// Limits on what a dossier may carry.
const (
	maxReference  = 64  // characters
	maxTitle      = 200 // characters
	maxPointTitle = 50
	maxReason     = 300
	maxName       = 150
	maxMediaType  = 100 // bytes
	maxSize       = 1 << 50
	maxFiles      = 100
	maxPoints     = 50
	maxDeputies   = 5
	defaultLife   = 30 * 24 * time.Hour
	minLife       = time.Hour
	maxLife       = 400 * 24 * time.Hour
	maxDeputyLife = 400 * 24 * time.Hour
)

// note starts an audit entry about a dossier.
func note(act audit.Act, d *Dossier, point int) audit.Entry {
	e := audit.New(act).Client(d.ClientID).With(audit.KeyDossier, d.ID.String())
	if point > 0 {
		e = e.WithInt(audit.KeyPoint, point)
	}
	return e
}

// event starts an event about a dossier.
func event(kind string, d *Dossier, point int) Event {
	data := map[string]any{"dossier": d.ID.String(), "state": string(d.State), "revision": d.Revision}
	if point > 0 {
		data["point"] = point
	}
	return Event{Type: "dossier." + kind, Data: data}
}
