// Package enrolment binds a phone to a citizen certificate.
//
//	computer                          phone
//	Begin: ID, card's certificate
//	       QR code ─────────────────▶ claims the enrol order (package order)
//	                                  CreationOptions → makes its passkey
//	                                  Credential: the statement is fixed
//	Statement ◀── waits
//	card signs the statement
//	Complete: device, mobile key and mobile certificate in one transaction
//
// The card signs the thumbprint of the passkey, so anybody can later follow
// card → device → approval → document without trusting our word. The order
// stays "scanned" until Complete takes it through approved to completed.
//
// Instead of the card an earlier phone of the same person may agree (see
// ProofKind and BeginByPhone); what follows is the same.
//
// What is refused changes nothing and leaves one audit entry.
package enrolment

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/certpath"
	"sealgate/internal/citizen"
	"sealgate/internal/fault"
	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
)

// Bounds on what arrives.
const (
	MaxCertificate = 16 << 10 // bytes of DER
	MaxProof       = 64 << 10 // bytes of CMS
	maxCardNumber  = 32       // characters
)

// Faults of this package. Faults of packages order, passkey and certpath pass
// through it unchanged.
var (
	// ErrIDMismatch: the typed national ID does not end as the certificate says.
	ErrIDMismatch = fault.New(fault.Unprocessable, "enrol_id_mismatch")
	// ErrCertificate: the bytes are no certificate, or too many.
	ErrCertificate = fault.New(fault.Invalid, "enrol_certificate_malformed")
	// ErrNotCitizenCard: a certificate, but not of the form that citizens have.
	ErrNotCitizenCard = fault.New(fault.Unprocessable, "enrol_not_citizen_card")
	// ErrCitizenConflict: this ID and this card were first seen with another
	// card and another ID. A counter has to look at it.
	ErrCitizenConflict = fault.New(fault.Conflict, "enrol_citizen_conflict")
	// ErrCitizenStopped: the citizen is frozen or closed.
	ErrCitizenStopped = fault.New(fault.Forbidden, "enrol_citizen_stopped")
	// ErrDeviceLimit carries the parameter limit.
	ErrDeviceLimit = fault.New(fault.Conflict, "enrol_device_limit")
	// ErrPhoneBound: the passkey is already bound.
	ErrPhoneBound = fault.New(fault.Conflict, "enrol_phone_bound")
	// ErrCredentialSet: the phone already made its passkey for this order, and this is another.
	ErrCredentialSet = fault.New(fault.Conflict, "enrol_credential_set")
	// ErrDeviceName: empty, too long, or with characters that cannot be shown.
	ErrDeviceName = citizen.ErrDeviceName
	// ErrNoCredential: the phone has not made its passkey yet.
	ErrNoCredential = fault.New(fault.Conflict, "enrol_no_credential")
	// ErrProofMalformed: the card's answer cannot be read.
	ErrProofMalformed = fault.New(fault.Invalid, "enrol_proof_malformed")
	// ErrProofSignature: the card's signature does not hold over what it carries.
	ErrProofSignature = fault.New(fault.Unprocessable, "enrol_proof_signature")
	// ErrProofContent: the card signed something else than this order's statement.
	ErrProofContent = fault.New(fault.Unprocessable, "enrol_proof_content")
	// ErrProofCard: another card signed than the one that began.
	ErrProofCard = fault.New(fault.Unprocessable, "enrol_proof_card")
	// ErrProofKind: this binding was begun to be agreed to in another way.
	ErrProofKind = fault.New(fault.Conflict, "enrol_proof_kind")
	// ErrAddDepth: this phone stands too far from the card to add another.
	ErrAddDepth = fault.New(fault.Forbidden, "enrol_add_depth")
	// ErrDone: the order is completed, with another proof than this one.
	ErrDone = fault.New(fault.Conflict, "enrol_done")
)

// Enrolment is what an enrol order has gathered so far.
type Enrolment struct {
	Order                  *order.Order
	ProofKind              ProofKind // fixed at the beginning
	ByDeviceID             uuid.UUID // the phone that began, with ProofDevice
	InPerson               *InPerson // what was checked, with ProofRegistrar
	NationalIDMAC          []byte
	SealedNationalID       []byte
	SealedName             []byte
	SubjectSerial          string
	UserHandle             []byte
	Certificate            []byte // DER
	CertificateFingerprint []byte // SHA-256 of it
	CardNumber             string
	Credential             *passkey.Credential // nil until the phone made it
	DeviceName             string
	Statement              []byte // what is signed; nil until the passkey is there
	Proof                  []byte // of ProofKind; nil until completed
	CreatedAt              time.Time
	CompletedAt            *time.Time
}

// Standing is what is already known of a citizen.
type Standing struct {
	Known     bool
	CitizenID uuid.UUID
	State     citizen.State
	Devices   int      // bound and not removed
	Names     []string // of those
	// Conflict: the ID is known with another card serial, or the other way round.
	Conflict bool
}

// Store keeps enrolments. Each method is one transaction or one read.
type Store interface {
	// Begin inserts the order, its enrolment and the entry.
	Begin(ctx context.Context, e Enrolment, entries ...audit.Entry) error
	// Find reads an enrolment with its order; order.ErrNotFound where there is none.
	Find(ctx context.Context, id order.ID) (*Enrolment, error)
	// Standing reads what is known of a national ID's MAC and a subject serial.
	Standing(ctx context.Context, nationalIDMAC []byte, subjectSerial string) (Standing, error)
	// CredentialBound says whether a credential belongs to a device already.
	CredentialBound(ctx context.Context, credentialID []byte) (bool, error)
	// SaveCredential writes the passkey and the statement of a scanned order that
	// has none yet; order.ErrState when it is no longer so.
	SaveCredential(ctx context.Context, c CredentialStep) error
	// Complete binds the device. order.ErrState when the order is no longer
	// waiting for the card; ErrCitizenConflict, ErrCitizenStopped, ErrDeviceLimit
	// and ErrPhoneBound when that is what is found under the lock.
	Complete(ctx context.Context, b Binding) error
	// Outcome reads what Complete bound.
	Outcome(ctx context.Context, id order.ID) (*Bound, error)
	// Refused writes the entry of a step that was not allowed.
	Refused(ctx context.Context, entry audit.Entry) error
}

// Config is everything the service needs. All fields without a note are required.
type Config struct {
	Store        Store
	Losses       LossStore
	Phones       PhoneStore
	Registrars   RegistrarStore
	Vault        *citizen.Vault
	Validator    *certpath.Validator // the trust store of citizen certificates, with revocation
	RelyingParty *passkey.RelyingParty
	Keys         *keyring.Keyring // makes the mobile keys
	Issuer       issuing.Issuer   // issues the mobile certificates
	// Outside, where not nil, is asked for the certificates in place of Issuer:
	// the phone is bound with a request, and can sign once that is answered.
	Outside *issuing.Outside
	// Requested is told of every request that was stored; optional.
	Requested func(id uuid.UUID)
	Client    order.Client // the service's own, for whom enrol orders are made
	// Announce tells everybody who waits that an order changed; it returns at once.
	Announce func(order.ID)
	// Changed is called after certificates were held, revoked or restored; optional.
	Changed     func()
	Lifetime    time.Duration // of an order until a phone claims it
	MaxLifetime time.Duration // of an order in all
	CardStep    time.Duration // for the card to sign, after the passkey is there; 0: 5 minutes
	DeviceLimit int           // per citizen; 0: citizen.DefaultDeviceLimit
	// Cooldown is how long a phone that another phone added may not sign documents
	// nor manage other phones; 0: not at all.
	Cooldown time.Duration
	// Suspend stops a phone whose key seems to be copied; optional.
	Suspend order.SuspendFunc
	// KeyAlgorithm of the mobile keys; "" is P-256.
	KeyAlgorithm keyring.Algorithm
	Log          *slog.Logger
	Now          func() time.Time // nil: time.Now
}

// Service runs enrolments.
type Service struct {
	cfg Config
	now func() time.Time
}

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	switch {
	case cfg.Store == nil, cfg.Losses == nil, cfg.Phones == nil, cfg.Registrars == nil, cfg.Vault == nil, cfg.Validator == nil, cfg.RelyingParty == nil, cfg.Keys == nil,
		cfg.Issuer == nil, cfg.Announce == nil, cfg.Log == nil, cfg.Client.ID == uuid.Nil:
		return nil, errors.New("enrolment: a part is missing from the configuration")
	case cfg.Lifetime <= 0, cfg.MaxLifetime < cfg.Lifetime, cfg.CardStep < 0, cfg.DeviceLimit < 0, cfg.Cooldown < 0:
		return nil, errors.New("enrolment: a time or limit in the configuration is not sensible")
	}
	if cfg.CardStep == 0 {
		cfg.CardStep = 5 * time.Minute
	}
	if cfg.KeyAlgorithm == "" {
		cfg.KeyAlgorithm = keyring.P256
	}
	if cfg.DeviceLimit == 0 {
		cfg.DeviceLimit = citizen.DefaultDeviceLimit
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	// Postgres keeps microseconds: what is compared later must be what was stored.
	return &Service{cfg: cfg, now: func() time.Time { return now().UTC().Truncate(time.Microsecond) }}, nil
}

// refuse records that a step was not allowed and gives the caller's error back.
// Our own failures and those of what we depend on are left to the log, except
// that a certificate whose status cannot be learnt is a refusal (fail closed).
func (s *Service) refuse(ctx context.Context, e audit.Entry, err error) error {
	f := fault.From(err)
	if f.Kind == fault.Internal {
		return err
	}
	if writeErr := s.cfg.Store.Refused(ctx, e.Refuse(f.Code)); writeErr != nil {
		s.cfg.Log.ErrorContext(ctx, "audit entry of a refusal was not written", "code", f.Code, "error", writeErr)
	}
	return err
}

// entry starts an audit entry about an enrol order.
func (s *Service) entry(act audit.Act, id order.ID) audit.Entry {
	return audit.New(act).ByBrowser().Order(id.UUID()).Client(s.cfg.Client.ID)
}

// judge decides from what is known of a citizen whether one more phone may be bound.
//
// A certificate carries only the last four digits of the national ID, so the ID
// that a person types is proved by them and by nothing else. Whoever holds a
// card could type one of the many other valid IDs with the same ending. The
// first binding of an ID to a card's subject serial is therefore kept for good:
// the same ID with another serial, or the same serial with another ID, is
// refused and has to be sorted out at a household registration counter.
func (s *Service) judge(st Standing) error {
	switch {
	case st.Conflict:
		return ErrCitizenConflict
	case !st.Known:
		return nil
	case st.State != citizen.Active:
		return ErrCitizenStopped
	case st.Devices >= s.cfg.DeviceLimit:
		return ErrDeviceLimit.With("limit", strconv.Itoa(s.cfg.DeviceLimit))
	}
	return nil
}

// judging is judge for a binding that may take the place of the phones that
// have the same name.
func (s *Service) judging(name string, replace bool) func(Standing) error {
	return func(st Standing) error {
		if replace {
			for _, n := range st.Names {
				if n == name {
					st.Devices--
				}
			}
		}
		return s.judge(st)
	}
}

// Replaceable says whether the person already has a phone with the name that
// the new one was given: after a browser lost its passkey, the old binding is
// best replaced. It is empty where there is none.
func (s *Service) Replaceable(ctx context.Context, id order.ID, browser order.BrowserKey) (string, error) {
	e, err := s.cfg.Store.Find(ctx, id)
	if err == nil {
		err = ownBrowser(e.Order, browser)
	}
	if err != nil || e.Credential == nil {
		return "", err
	}
	st, err := s.cfg.Store.Standing(ctx, e.NationalIDMAC, e.SubjectSerial)
	if err != nil || st.Conflict || !slices.Contains(st.Names, e.DeviceName) {
		return "", err
	}
	return e.DeviceName, nil
}

// waiting checks that an order is claimed, in time, and has not gone on.
func waiting(o *order.Order, now time.Time) error {
	switch state := o.StateAt(now); state {
	case order.Scanned:
		if o.CheckNeeded() {
			return order.ErrCheckNeeded
		}
		return nil
	case order.Created:
		return order.ErrNotClaimed
	default:
		return state.Fault()
	}
}

// ownBrowser lets only the browser that began go on.
func ownBrowser(o *order.Order, key order.BrowserKey) error {
	if !o.StartedBy(key) {
		return order.ErrWrongBrowser
	}
	return nil
}

// parseCertificate reads one DER certificate and nothing behind it.
func parseCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) == 0 || len(der) > MaxCertificate {
		return nil, ErrCertificate
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, ErrCertificate.Because(err)
	}
	return cert, nil
}
