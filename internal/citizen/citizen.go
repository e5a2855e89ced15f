// Package citizen has the people of the service and their phones.
//
// A Citizen is known by a citizen certificate (自然人憑證). The national ID is
// kept only as a keyed hash and as a sealed value, the name only sealed: see
// Vault. A Device is one phone: one WebAuthn credential bound to one citizen.
//
//	device:  active ──suspend──▶ suspended
//	            └──────remove──────┴──▶ removed
//
// Only an active device of an active citizen may approve anything.
package citizen

import (
	"context"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/fault"
)

// DefaultDeviceLimit is how many phones a citizen may have bound at a time,
// suspended ones included.
const DefaultDeviceLimit = 5

// State is what a citizen may do.
type State string

// The states of a citizen.
const (
	Active State = "active"
	Frozen State = "frozen" // nothing may be approved until it is lifted
	Closed State = "closed" // for good
)

// Citizen is a person known by a citizen certificate.
type Citizen struct {
	ID uuid.UUID
	// NationalIDMAC is Vault.MAC of the national ID, 32 bytes.
	NationalIDMAC []byte
	// SealedNationalID and SealedName open with Vault.Open.
	SealedNationalID, SealedName []byte
	// SubjectSerial is the 16-digit serialNumber of the certificate's subject. It
	// belongs to the person and stays the same when the card is renewed.
	SubjectSerial string
	// UserHandle is the WebAuthn user handle of the citizen's first binding; each
	// device keeps its own.
	UserHandle []byte
	State      State
	CreatedAt  time.Time
}

// CertificateState is what is known of a citizen certificate since the last check.
type CertificateState string

// The states of a citizen certificate.
const (
	CertificateGood       CertificateState = "good"
	CertificateRevoked    CertificateState = "revoked"
	CertificateExpired    CertificateState = "expired"
	CertificateSuperseded CertificateState = "superseded"
)

// Certificate is a citizen certificate that once proved who a citizen is.
type Certificate struct {
	ID        uuid.UUID
	CitizenID uuid.UUID
	// Fingerprint is the SHA-256 of DER.
	Fingerprint         [32]byte
	DER                 []byte
	CardNumber          string
	NotBefore, NotAfter time.Time
	State               CertificateState
	CheckedAt           time.Time
	CreatedAt           time.Time
}

// DeviceState is whether a device may approve.
type DeviceState string

// The states of a device.
const (
	DeviceActive    DeviceState = "active"
	DeviceSuspended DeviceState = "suspended"
	DeviceRemoved   DeviceState = "removed"
)

// Device is a citizen's phone: one WebAuthn credential bound by a card.
type Device struct {
	ID                   uuid.UUID
	CitizenID            uuid.UUID
	CitizenCertificateID uuid.UUID
	EnrolmentID          uuid.UUID // the enrol order that bound it

	CredentialID  []byte
	COSEKey       []byte
	COSEAlgorithm int
	UserHandle    []byte
	SignCount     uint32
	AAGUID        uuid.UUID
	Transports    []string
	// BackupEligible never changes in a credential's life (WebAuthn Level 3 §6.1.3).
	BackupEligible, BackupState bool
	AttestationFormat           string
	// Attested: the attestation leads to a configured root.
	Attested bool

	Name        string
	State       DeviceState
	StateReason string
	CreatedAt   time.Time
	LastUsedAt  time.Time // zero: never
	// StateChangedAt is when State last changed; zero: never.
	StateChangedAt time.Time
	// AddedByDeviceID is the phone that added this one; nil where the card did.
	AddedByDeviceID *uuid.UUID
	// CooldownUntil: until then the device is new and reaches only the lowest
	// acr; zero: never was.
	CooldownUntil time.Time
}

// Reasons for suspending a device, fixed words for the audit log.
const (
	ReasonCounter     = "counter" // the signature counter went back: perhaps a copied key
	ReasonCitizen     = "asked_by_citizen"
	ReasonOperator    = "by_operator"
	ReasonCardRevoked = "card_revoked" // the citizen certificate behind it was revoked
	ReasonCardExpired = "card_expired" // the citizen certificate behind it has ended
	ReasonLoss        = "loss"         // reported lost with the card
	ReasonReplaced    = "replaced"     // another binding took its place
)

// The faults of this package.
var (
	ErrCitizenNotFound = fault.New(fault.NotFound, "citizen_not_found")
	ErrCitizenInactive = fault.New(fault.Forbidden, "citizen_inactive")
	ErrDeviceNotFound  = fault.New(fault.NotFound, "device_not_found")
	ErrDeviceInactive  = fault.New(fault.Forbidden, "device_inactive")
)

// Store keeps citizens and devices. Each method is one transaction or one read;
// what is not there is ErrCitizenNotFound or ErrDeviceNotFound.
type Store interface {
	// Citizen reads one citizen.
	Citizen(ctx context.Context, id uuid.UUID) (Citizen, error)
	// Devices lists a citizen's devices that are not removed, oldest first.
	Devices(ctx context.Context, citizen uuid.UUID) ([]Device, error)
	// DeviceByCredential finds a device, removed ones too, and the state of its
	// citizen in one query.
	DeviceByCredential(ctx context.Context, credentialID []byte) (Device, State, error)
	// MayAct says whether this is a citizen's active device, and the citizen is active.
	MayAct(ctx context.Context, citizen, device uuid.UUID) (bool, error)
	// Certificate reads the certificate that bound a device.
	Certificate(ctx context.Context, id uuid.UUID) (Certificate, error)
	// SuspendDevice takes an active device to suspended, writes the entry, and
	// gives ErrDeviceNotFound when there is no such active device.
	SuspendDevice(ctx context.Context, id uuid.UUID, reason string, entry audit.Entry) error
}

// Usable says whether this device of a citizen in this state may approve:
// nil, ErrDeviceInactive or ErrCitizenInactive.
func (d *Device) Usable(citizen State) error {
	if d.State != DeviceActive {
		return ErrDeviceInactive
	}
	if citizen != Active {
		return ErrCitizenInactive
	}
	return nil
}
