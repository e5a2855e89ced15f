package order

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/fault"
	"sealgate/internal/passkey"
	"sealgate/internal/signing"
)

// Device is what approving needs to know of the phone that answers.
type Device struct {
	ID            uuid.UUID
	CitizenID     uuid.UUID
	Name          string
	Active        bool
	CitizenActive bool
	UserHandle    []byte
	Credential    passkey.Credential
	// Certificate is the mobile certificate that signs, nil where there is none in force.
	Certificate *Certificate
	// CertificatePending: there is none, and an outside CA is being asked for one.
	CertificatePending bool
	// StopReason is why it is not active, a fixed word of package citizen.
	StopReason string
	// LastUsedAt is the time of the answer that left the signature counter where it
	// stands; zero where there was none since the binding.
	LastUsedAt time.Time
	// CooldownUntil: until then the device is new and reaches only ACRQR.
	CooldownUntil *time.Time
	// Card is the citizen certificate that bound the device.
	Card Card
}

// Card is what is known of the citizen certificate behind a device.
type Card struct {
	ID                  uuid.UUID
	CheckedAt, NotAfter time.Time
}

// CardFunc decides whether the card behind a device may still stand behind an
// approval; signing says that documents are signed. No error means that it may;
// the entries say under which allowance, and are written with the approval.
type CardFunc func(ctx context.Context, id uuid.UUID, checkedAt, notAfter time.Time, signing bool) ([]audit.Entry, error)

// Stopped is why a device that is not active may not approve.
func (d *Device) Stopped() error { return citizen.StopFault(d.StopReason, ErrDeviceStopped) }

// Certificate points to a citizen's mobile certificate and its key.
type Certificate struct {
	ID    uuid.UUID
	KeyID uuid.UUID
}

// Claiming is what the first phone writes into an order.
type Claiming struct {
	Order       ID
	ClaimHash   []byte
	Source      Source
	Claimed     Origin
	At          time.Time
	ExpiresAt   time.Time // the store caps it at the order's final expiry
	CheckDigits string    // "" for roads that need no check
	BrowserHash []byte    // not nil: only this browser may claim (same device, hybrid)
	Audit       audit.Entry
}

// Approval is everything one approving transaction writes.
type Approval struct {
	Order         ID
	ClaimHash     []byte
	Device        Device
	Assertion     *passkey.Assertion
	Verified      *passkey.Verified
	Content       []byte
	LeftOut       []int
	RPID          string
	ACR           string
	At            time.Time
	Authorization *Authorization // for sign orders
	Audit         audit.Entry
	Allowed       []audit.Entry // uses of an operator's allowance, for the same transaction
}

// Authorization lets one key sign exactly the digests of one approval, once.
type Authorization struct {
	Certificate Certificate
	DigestsHash [32]byte
}

// Checking is one try at the two digits, with the entry for each outcome: one
// of them is written.
type Checking struct {
	Order              ID
	BrowserHash        []byte
	Digits             string
	Most               int // tries
	At                 time.Time
	Right, Wrong, Last audit.Entry
}

// Ending takes an order to one of its ends. Exactly one of the three proofs of
// who ends it is set; none means that the service itself does.
type Ending struct {
	Order       ID
	To          State
	Reason      string
	ClaimHash   []byte
	BrowserHash []byte
	ClientID    *uuid.UUID
	At          time.Time
	Audit       audit.Entry
}

// Store keeps orders. Every method is one transaction or one read. A step that
// finds the order in another state changes nothing and returns ErrState.
type Store interface {
	// Create inserts an order in state created.
	Create(ctx context.Context, o *Order, entry audit.Entry) error
	// Find reads one order; ErrNotFound where there is none.
	Find(ctx context.Context, id ID) (*Order, error)
	// FindByCode finds the created order whose typed code has this MAC.
	FindByCode(ctx context.Context, mac []byte, now time.Time) (*Order, error)
	// Claim takes a created order to scanned.
	Claim(ctx context.Context, c Claiming) (*Order, error)
	// ForApproval reads an order and the device that owns a credential, in one
	// round trip; the device is nil where the credential is unknown.
	ForApproval(ctx context.Context, id ID, credentialID []byte, now time.Time) (*Order, *Device, error)
	// Approve takes a scanned order to approved, with counter, evidence,
	// authorization and audit entry.
	Approve(ctx context.Context, a Approval) error
	// End takes an open order to an end.
	End(ctx context.Context, e Ending) error
	// Refused writes the audit entry of a step that was not allowed.
	Refused(ctx context.Context, entry audit.Entry) error
}

// WaitingStore keeps what happens to an order while it waits. Every method but
// Expire is one compare-and-set on an order of the browser that waits.
type WaitingStore interface {
	// Open binds an order that was made over the API to its first browser, which
	// from then on is where it was started.
	Open(ctx context.Context, id ID, startHash, browserHash []byte, started Origin, entry audit.Entry) error
	// Extend gives a created order more time and returns the new expiry.
	Extend(ctx context.Context, id ID, browserHash []byte, until time.Time, most int, entry audit.Entry) error
	// Freeze holds one frame still.
	Freeze(ctx context.Context, id ID, browserHash []byte, step int, at time.Time, entry audit.Entry) error
	// SetCode keeps the MAC of a code that can be typed instead of scanning.
	SetCode(ctx context.Context, id ID, browserHash, mac []byte, until time.Time, entry audit.Entry) error
	// Check uses up one try at the two digits and says whether they were right.
	// The last wrong try fails the order, in the same transaction.
	Check(ctx context.Context, c Checking) (passed bool, tries int, err error)
	// Collect takes an approved login order to completed.
	Collect(ctx context.Context, id ID, browserHash []byte, at time.Time, entry audit.Entry) error
	// Expire marks open orders whose time has run out, at most limit of them, each
	// with an audit entry, and says how many there were.
	Expire(ctx context.Context, now time.Time, limit int) (int, error)
}

// SuspendFunc stops a device, with the reason kept.
type SuspendFunc func(ctx context.Context, deviceID uuid.UUID, reason string, entry audit.Entry) error

// EnrolOptionsFunc gives the creation options for an enrol order's phone, and
// the masked name to show.
type EnrolOptionsFunc func(ctx context.Context, id uuid.UUID, challenge [32]byte) (optionsJSON []byte, maskedName string, err error)

// Config is everything the service needs. All fields without a note are required.
type Config struct {
	Store        Store
	WaitingStore WaitingStore
	RelyingParty *passkey.RelyingParty
	RPID         string
	PublicOrigin string // "https://host", no slash at the end
	Frames       FrameLimits
	Lifetime     time.Duration // of an order until a phone claims it, and of each extension
	MaxLifetime  time.Duration // of an order in all
	PhoneStep    time.Duration // how long the phone may take
	CodeLifetime time.Duration // of a typed code
	MaxExtend    int           // how often a browser may ask for more time
	MaxDocuments int
	CodeMAC      func(digits string) []byte
	Suspend      SuspendFunc
	Card         CardFunc // nil: cards are not looked at again
	EnrolOptions EnrolOptionsFunc
	// SyncedPasskeys is the deployment's rule; clients may be stricter. "" allows them.
	SyncedPasskeys passkey.SyncedRule
	// Level is that of signatures whose order names none; "" is signing.LevelB.
	Level string
	// CanMake says whether signatures of a level can be made in a form; nil: all.
	CanMake func(level string, form signing.Form) error
	// Finish is told of every approved sign order; it must return at once.
	Finish func(id uuid.UUID)
	Hub    *Hub
	Log    *slog.Logger
	Now    func() time.Time // nil for time.Now
}

// Service runs orders.
type Service struct {
	cfg Config
	now func() time.Time
}

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	switch {
	case cfg.Store == nil, cfg.WaitingStore == nil, cfg.RelyingParty == nil, cfg.Hub == nil, cfg.Log == nil,
		cfg.CodeMAC == nil, cfg.Suspend == nil, cfg.EnrolOptions == nil, cfg.Finish == nil:
		return nil, errors.New("order: a part is missing from the configuration")
	case cfg.Frames.Step <= 0, cfg.Lifetime <= 0, cfg.MaxLifetime < cfg.Lifetime, cfg.PhoneStep <= 0, cfg.MaxDocuments <= 0:
		return nil, errors.New("order: a time or limit in the configuration is not sensible")
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	// Postgres keeps microseconds: what is compared later must be what was stored.
	return &Service{cfg: cfg, now: func() time.Time { return now().UTC().Truncate(time.Microsecond) }}, nil
}

// entry starts an audit entry about an order.
func entry(act audit.Act, o *Order, from Origin) audit.Entry {
	id, client := o.ID.UUID(), o.ClientID
	e := audit.New(act).Order(id).Client(client)
	if from.IP.IsValid() {
		e = e.From(from.IP)
	}
	return e
}

// refuse records that a step was not allowed and gives the caller's error
// back. What is refused leaves no trace but this entry. Internal faults are
// not refusals and are left to the log.
func (s *Service) refuse(ctx context.Context, e audit.Entry, err error) error {
	f := fault.From(err)
	if f.Kind == fault.Internal || f.Kind == fault.Unavailable {
		return err
	}
	if writeErr := s.cfg.Store.Refused(ctx, e.Refuse(f.Code)); writeErr != nil {
		s.cfg.Log.ErrorContext(ctx, "audit entry of a refusal was not written", "code", f.Code, "error", writeErr)
	}
	return err
}

// explain turns a lost compare-and-set into the reason a person can act on.
func (s *Service) explain(ctx context.Context, id ID, err error) error {
	if !errors.Is(err, ErrState) {
		return err
	}
	o, findErr := s.cfg.Store.Find(ctx, id)
	if findErr != nil {
		return findErr
	}
	return o.StateAt(s.now()).Fault()
}

// Find reads an order for a door that has its own way to know that the caller
// may see it (the OpenID Provider, the REST door).
func (s *Service) Find(ctx context.Context, id ID) (*Order, error) {
	return s.cfg.Store.Find(ctx, id)
}

// Sweep marks what has run out. Such orders count as expired already; the mark
// and its audit entry are for the record.
func (s *Service) Sweep(ctx context.Context) error {
	const most = 1000
	for {
		n, err := s.cfg.WaitingStore.Expire(ctx, s.now(), most)
		if err != nil || n < most {
			return err
		}
	}
}

// Wake tells every waiting reader on all nodes that an order changed.
func (s *Service) Wake(id ID) { s.cfg.Hub.Announce(id) }

// Watch gives a channel that fires when an order may have changed: read it
// again then. stop must be called.
func (s *Service) Watch(id ID) (changed <-chan struct{}, stop func()) { return s.cfg.Hub.Watch(id) }

// authorization is what lets the key sign what was approved.
func authorization(o *Order, d *Device, leftOut []int) (*Authorization, error) {
	if o.Kind != Sign {
		return nil, nil
	}
	if d.Certificate == nil && d.CertificatePending {
		return nil, ErrCertificatePending
	}
	if d.Certificate == nil {
		return nil, ErrNoCertificate
	}
	hash, err := signing.DigestsHash(o.Content, leftOut)
	if err != nil {
		return nil, err
	}
	return &Authorization{Certificate: *d.Certificate, DigestsHash: hash}, nil
}
