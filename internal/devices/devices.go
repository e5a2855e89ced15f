// Package devices is the life of a phone after it was bound.
//
//	active ──suspend──▶ suspended ──resume──▶ active
//	   └──────remove──────┴──▶ removed (for good)
//
// A device and its mobile certificate change together, in one transaction: a
// suspended device's certificate is on hold, a removed device's is revoked, a
// resumed device's hold is lifted. What was signed before stays valid.
//
// A phone that another phone added has a cool-down: until it is over, it manages
// no phone but itself. It can be stopped and removed by any other at once.
//
// Who may do what: a person with a phone session renames, suspends, resumes and
// removes their own devices; for all but renaming the session must have been
// opened moments ago (Config.Fresh), which took a fingerprint or a face. What
// the card, the counter of a copied key or an operator stopped cannot be
// resumed from another phone.
package devices

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/fault"
	"sealgate/internal/issuing"
)

// DefaultFresh is how long after its opening a phone session may do what needs
// the person to be there.
const DefaultFresh = 5 * time.Minute

// Faults of this package.
var (
	// ErrStale: the session was opened too long ago for this act; open a new one.
	ErrStale = fault.New(fault.Unauthenticated, "session_stale")
	// ErrState: the device is not in a state that this act starts from.
	ErrState = fault.New(fault.Conflict, "device_state")
	// ErrResume: what stopped this device cannot be undone from another phone.
	ErrResume = fault.New(fault.Forbidden, "device_resume")
)

// Actor is a person with a phone session.
type Actor struct {
	CitizenID, DeviceID uuid.UUID
	// At is when the session was opened with an assertion.
	At time.Time
	IP netip.Addr
	// CooldownUntil is of the acting phone; until then it manages only itself.
	CooldownUntil time.Time
}

// CertificateAct is what happens to a device's mobile certificates.
type CertificateAct int

// What happens to the certificates.
const (
	Keep    CertificateAct = iota
	Hold                   // good → held
	Restore                // held → good
	Revoke                 // good, held → revoked
)

// Change is one step in a device's life, as one transaction writes it.
type Change struct {
	CitizenID, DeviceID uuid.UUID
	// By is the device that asks; it must still be active.
	By           uuid.UUID
	From         []citizen.DeviceState
	Reasons      []string // the device must have been stopped for one of these; nil: for any
	To           citizen.DeviceState
	Reason       string
	Certificates CertificateAct
	// Revocation is the CRL reason of Revoke (RFC 5280 §5.3.1).
	Revocation int
	Notice     string // kind of the notice to all other devices
	At         time.Time
	Audit      audit.Entry
}

// Notice tells a person on one phone what happened to another.
type Notice struct {
	ID        uuid.UUID
	Kind      string // device_added, device_suspended, device_resumed, device_removed, loss_reported …
	AboutID   uuid.UUID
	AboutName string
	CreatedAt time.Time
}

// Detail is a device with what stands behind it.
type Detail struct {
	citizen.Device
	// Certificate is the newest mobile certificate; nil where there is none.
	Certificate *Certificate
	// Pending: an outside CA is being asked for one.
	Pending bool
	// CardState and CardNotAfter are of the citizen certificate that bound it.
	CardState    citizen.CertificateState
	CardNotAfter time.Time
}

// Certificate is a mobile certificate as its holder sees it.
type Certificate struct {
	ID       uuid.UUID
	Serial   []byte
	KeyID    uuid.UUID
	NotAfter time.Time
	State    issuing.State
}

// Store keeps devices. Each method is one transaction or one read.
type Store interface {
	// List reads a citizen's devices that are not removed, oldest first.
	List(ctx context.Context, citizenID uuid.UUID) ([]Detail, error)
	// Gone lists the credentials of a citizen's removed devices, the newest first.
	Gone(ctx context.Context, citizenID uuid.UUID) ([][]byte, error)
	// Rename gives an active or suspended device a new name; ErrDeviceNotFound.
	Rename(ctx context.Context, citizenID, deviceID uuid.UUID, name string, e audit.Entry) error
	// Change takes a device from one state to another with its certificates,
	// notices and entries. It gives citizen.ErrDeviceNotFound, ErrState or ErrResume.
	Change(ctx context.Context, c Change) error
	// Notices lists what a device has not been told yet, newest first.
	Notices(ctx context.Context, deviceID uuid.UUID) ([]Notice, error)
	// Seen marks a device's notices up to and including one as told.
	Seen(ctx context.Context, deviceID, last uuid.UUID, at time.Time) error
	// Refused writes the entry of an act that was not allowed.
	Refused(ctx context.Context, e audit.Entry) error
}

// Config is what the service needs.
type Config struct {
	Store Store
	// Changed is called after a certificate's state changed, so that this node
	// makes a new revocation list.
	Changed func()
	Fresh   time.Duration    // 0: DefaultFresh
	Now     func() time.Time // nil: time.Now
}

// Service changes devices.
type Service struct {
	cfg Config
	now func() time.Time
}

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Changed == nil || cfg.Fresh < 0 {
		return nil, errors.New("devices: a part is missing from the configuration")
	}
	if cfg.Fresh == 0 {
		cfg.Fresh = DefaultFresh
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	return &Service{cfg: cfg, now: func() time.Time { return now().UTC().Truncate(time.Microsecond) }}, nil
}

// List reads a citizen's devices that are not removed, oldest first.
func (s *Service) List(ctx context.Context, citizenID uuid.UUID) ([]Detail, error) {
	return s.cfg.Store.List(ctx, citizenID)
}

// Gone lists the credentials of a citizen's removed devices, some of which their
// phones may still offer.
func (s *Service) Gone(ctx context.Context, citizenID uuid.UUID) ([][]byte, error) {
	return s.cfg.Store.Gone(ctx, citizenID)
}

// Notices lists what the actor's phone has not been told yet.
func (s *Service) Notices(ctx context.Context, deviceID uuid.UUID) ([]Notice, error) {
	return s.cfg.Store.Notices(ctx, deviceID)
}

// Seen marks the notices up to and including one as told.
func (s *Service) Seen(ctx context.Context, deviceID, last uuid.UUID) error {
	return s.cfg.Store.Seen(ctx, deviceID, last, s.now())
}

// Rename gives a device a new name.
func (s *Service) Rename(ctx context.Context, a Actor, device uuid.UUID, name string) error {
	name, err := citizen.ParseDeviceName(name)
	if err != nil {
		return err
	}
	if err := s.settled(a, device); err != nil {
		return s.refuse(ctx, a.entry(audit.DeviceRenamed, device), err)
	}
	return s.cfg.Store.Rename(ctx, a.CitizenID, device, name, a.entry(audit.DeviceRenamed, device))
}

// Suspend stops an active device for the time being; its certificate is put on hold.
func (s *Service) Suspend(ctx context.Context, a Actor, device uuid.UUID) error {
	return s.change(ctx, a, Change{DeviceID: device, From: []citizen.DeviceState{citizen.DeviceActive}, To: citizen.DeviceSuspended,
		Reason: citizen.ReasonCitizen, Certificates: Hold, Notice: "device_suspended", Audit: a.entry(audit.DeviceSuspended, device)})
}

// Resume lets a device that its holder suspended work again.
func (s *Service) Resume(ctx context.Context, a Actor, device uuid.UUID) error {
	return s.change(ctx, a, Change{DeviceID: device, From: []citizen.DeviceState{citizen.DeviceSuspended}, Reasons: []string{citizen.ReasonCitizen},
		To: citizen.DeviceActive, Certificates: Restore, Notice: "device_resumed", Audit: a.entry(audit.DeviceResumed, device)})
}

// Remove ends a device for good; its certificate is revoked.
func (s *Service) Remove(ctx context.Context, a Actor, device uuid.UUID) error {
	return s.change(ctx, a, Change{DeviceID: device, From: []citizen.DeviceState{citizen.DeviceActive, citizen.DeviceSuspended},
		To: citizen.DeviceRemoved, Reason: citizen.ReasonCitizen, Certificates: Revoke, Revocation: issuing.ReasonCessation,
		Notice: "device_removed", Audit: a.entry(audit.DeviceRemoved, device)})
}

func (s *Service) change(ctx context.Context, a Actor, c Change) error {
	now := s.now()
	c.CitizenID, c.By, c.At = a.CitizenID, a.DeviceID, now
	if c.Reason != "" {
		c.Audit = c.Audit.With(audit.KeyReason, c.Reason)
	}
	err := s.settled(a, c.DeviceID)
	if err == nil {
		err = s.Fresh(a)
	}
	if err == nil {
		err = s.cfg.Store.Change(ctx, c)
	}
	if err != nil {
		return s.refuse(ctx, c.Audit, err)
	}
	s.cfg.Changed()
	return nil
}

// settled says whether the acting phone may manage another one.
func (s *Service) settled(a Actor, device uuid.UUID) error {
	if device != a.DeviceID && s.now().Before(a.CooldownUntil) {
		return citizen.CooldownFault(a.CooldownUntil)
	}
	return nil
}

// Fresh says whether the person was there moments ago; ErrStale.
func (s *Service) Fresh(a Actor) error {
	if age := s.now().Sub(a.At); age > s.cfg.Fresh || age < -time.Minute {
		return ErrStale
	}
	return nil
}

// refuse keeps a trace of what was not allowed and gives the error back.
func (s *Service) refuse(ctx context.Context, e audit.Entry, err error) error {
	f := fault.From(err)
	if f.Kind == fault.Internal || slices.Contains([]string{ErrStale.Code}, f.Code) {
		return err // our own failure, or only a question to confirm again
	}
	return errors.Join(err, s.cfg.Store.Refused(ctx, e.Refuse(f.Code)))
}

func (a Actor) entry(act audit.Act, device uuid.UUID) audit.Entry {
	return audit.New(act).ByCitizen(a.CitizenID).Device(device).From(a.IP)
}
