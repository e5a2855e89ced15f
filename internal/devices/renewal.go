package devices

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/gowebpki/jcs"

	"sealgate/internal/audit"
	"sealgate/internal/certpath"
	"sealgate/internal/citizen"
	"sealgate/internal/fault"
	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/passkey"
)

// RenewalPurpose is the purpose of a renewal's statement.
const RenewalPurpose = "sealgate/renew-certificate"

// renewalDomain separates what a phone signs for a renewal from all else.
const renewalDomain = "sealgate/renewal/v1\x00"

const (
	// renewalLife is how long a person may take to confirm.
	renewalLife = 3 * time.Minute
	// oldKeyLife is how long the key of a renewed certificate is kept, so that
	// nodes that have just read it may finish what was approved before.
	oldKeyLife = time.Hour
	// leastGain is by how much a new certificate must outlast the old one.
	leastGain = 24 * time.Hour
)

// Faults of renewing.
var (
	// ErrRenewEarly: the certificate does not end soon.
	ErrRenewEarly = fault.New(fault.Conflict, "renewal_early")
	// ErrRenewLate: it ended so long ago that the phone has to be bound again.
	ErrRenewLate = fault.New(fault.Conflict, "renewal_late")
	// ErrRenewCard: the card ends too, so a new certificate would not last longer.
	ErrRenewCard = fault.New(fault.Conflict, "renewal_card_ends")
	// ErrRenewNone: there is no certificate in force that could be renewed.
	ErrRenewNone = fault.New(fault.Conflict, "renewal_certificate")
	// ErrRenewed: the certificate has been renewed already.
	ErrRenewed = fault.New(fault.Conflict, "renewal_done")
	// ErrRenewPending: another CA was asked for the new certificate already.
	ErrRenewPending = fault.New(fault.Conflict, "renewal_pending")
	// ErrRenewGone: the statement was used, has run out, or is another phone's.
	ErrRenewGone = fault.New(fault.Gone, "renewal_gone")
	// ErrRenewPhone: another phone's passkey answered.
	ErrRenewPhone = fault.New(fault.Forbidden, "renewal_phone")
	// ErrRenewCooldown: the phone is new and trusted less for some time yet.
	ErrRenewCooldown = fault.New(fault.Forbidden, "renewal_cooldown")
	// ErrRenewStopped: phone or person was stopped.
	ErrRenewStopped = fault.New(fault.Forbidden, "renewal_stopped")
	// ErrRenewMoved: the phone's row changed between reading and writing. The
	// service tries once more and gives it to the caller only after that.
	ErrRenewMoved = fault.New(fault.Unavailable, "renewal_moved")
)

// RenewalStatement is what a phone's passkey signs: this phone asks for a new
// certificate in the place of this one. It is kept and signed as RFC 8785
// canonical JSON; the challenge is RenewalChallenge of it.
type RenewalStatement struct {
	Version           int       `json:"v"`
	Purpose           string    `json:"purpose"`
	ID                uuid.UUID `json:"id"`
	Device            uuid.UUID `json:"device"`
	CredentialID      string    `json:"credential_id"`      // base64url without padding
	CertificateSerial string    `json:"certificate_serial"` // of the old certificate, lower-case hex
	CertificateSHA256 string    `json:"certificate_sha256"` // of its DER, base64url without padding
	RPID              string    `json:"rp_id"`
	Time              string    `json:"time"`  // RFC 3339, UTC, milliseconds
	Nonce             string    `json:"nonce"` // 32 random bytes, base64url without padding
}

// RenewalChallenge is the WebAuthn challenge of a renewal.
func RenewalChallenge(statement []byte) [32]byte {
	return sha256.Sum256(append([]byte(renewalDomain), statement...))
}

// RenewalProof is the assertion over a statement, as it is kept in JSON.
type RenewalProof struct {
	CredentialID      []byte `json:"credential_id"`
	COSEKey           []byte `json:"cose_key"`
	AuthenticatorData []byte `json:"authenticator_data"`
	ClientDataJSON    []byte `json:"client_data_json"`
	Signature         []byte `json:"signature"`
	RPID              string `json:"rp_id"`
}

// Renewal is one statement on its way.
type Renewal struct {
	ID, CitizenID, DeviceID uuid.UUID
	OldCertificate          uuid.UUID
	OldDER                  []byte
	Statement               []byte
	CreatedAt, ExpiresAt    time.Time
	CompletedAt             *time.Time
}

// Renewable is a device with all that a renewal is judged by.
type Renewable struct {
	CitizenID, DeviceID uuid.UUID
	CitizenActive       bool
	State               citizen.DeviceState
	StateReason         string
	CooldownUntil       *time.Time
	LastUsedAt          time.Time // of the answer that left the counter; zero: none since the binding
	UserHandle          []byte
	Credential          passkey.Credential
	CardID              uuid.UUID
	CardNotAfter        time.Time
	// Certificate is the newest one that was not renewed; nil where there is none.
	Certificate *Certificate
	DER         []byte // of Certificate
	// Pending: an outside CA is being asked for a certificate.
	Pending bool
}

// RenewalEnd is what the renewing transaction writes.
type RenewalEnd struct {
	Renewal    *Renewal
	Device     Renewable
	Verified   *passkey.Verified
	Proof      []byte // RenewalProof
	Revocation []byte // certpath.RevocationRecord
	Key        keyring.Row
	Mobile     issuing.Certificate
	// Request is set in place of Mobile where another CA issues: the old
	// certificate then signs on until the new one has come.
	Request *issuing.Request
	// DestroyOldKey is when the old key may go, if nothing waits for it then.
	DestroyOldKey time.Time
	At            time.Time
	Audit         []audit.Entry
}

// Renewed is the certificate in force after a renewal: the new one or, where
// another CA has yet to issue it, the old one.
type Renewed struct {
	Certificate
	Pending bool
}

// Warning asks for notices about certificates that end within some days.
type Warning struct {
	Days       int
	Kind, Card string // kinds of the notices: renew it; the card ends too
	At         time.Time
	Limit      int
}

// RenewalStore keeps renewals. Each method is one transaction or one read.
type RenewalStore interface {
	// Renewable reads a person's device; citizen.ErrDeviceNotFound.
	Renewable(ctx context.Context, citizenID, deviceID uuid.UUID) (*Renewable, error)
	// BeginRenewal keeps a statement; an open one of the same device is dropped.
	BeginRenewal(ctx context.Context, r Renewal, e audit.Entry) error
	// FindRenewal reads it back; ErrRenewGone.
	FindRenewal(ctx context.Context, id uuid.UUID) (*Renewal, error)
	// Renew uses the statement up, puts the new certificate in the place of the
	// old one and tells the person's other devices; ErrRenewGone, ErrRenewed,
	// ErrRenewMoved, citizen.ErrCardRevoked.
	Renew(ctx context.Context, e RenewalEnd) error
	// Warn writes notices, each once, and says how many.
	Warn(ctx context.Context, w Warning) (int, error)
	// Refused writes the audit entry of what was not allowed.
	Refused(ctx context.Context, e audit.Entry) error
}

// RenewalsConfig is what renewing needs; every field but Grace and Now is required.
type RenewalsConfig struct {
	Store        RenewalStore
	RelyingParty *passkey.RelyingParty
	Keys         *keyring.Keyring
	KeyAlgorithm keyring.Algorithm
	Issuer       issuing.Issuer
	// Outside, where not nil, is asked in place of Issuer; Requested is told of
	// every request that was stored.
	Outside   *issuing.Outside
	Requested func(id uuid.UUID)
	// Look asks for the card's status now (Cards.Look).
	Look func(ctx context.Context, card uuid.UUID) (*certpath.Result, error)
	// Suspend stops a device whose key may have been copied.
	Suspend func(ctx context.Context, device uuid.UUID, reason string, e audit.Entry) error
	// Life is how long certificates are issued for. Before and Grace are how long
	// before and after its end a certificate may be renewed.
	Life, Before, Grace time.Duration
	Now                 func() time.Time // nil: time.Now
}

// Renewals puts a new mobile certificate in the place of one that ends.
type Renewals struct {
	cfg RenewalsConfig
	now func() time.Time
}

// NewRenewals checks the configuration.
func NewRenewals(cfg RenewalsConfig) (*Renewals, error) {
	if cfg.Store == nil || cfg.RelyingParty == nil || cfg.Keys == nil || cfg.Issuer == nil || cfg.Look == nil || cfg.Suspend == nil ||
		cfg.KeyAlgorithm == "" || cfg.Life <= 0 || cfg.Before <= 0 || cfg.Grace < 0 {
		return nil, errors.New("devices: a part is missing from the configuration of renewals")
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	return &Renewals{cfg: cfg, now: func() time.Time { return now().UTC().Truncate(time.Microsecond) }}, nil
}

// Due says whether the holder of a listed device should renew now.
func (s *Renewals) Due(d *Detail) bool {
	return d.State == citizen.DeviceActive && d.Certificate != nil && d.Certificate.State == issuing.Good &&
		!d.CooldownUntil.After(s.now()) && s.window(d.Certificate.NotAfter, d.CardNotAfter) == nil
}

// window says whether a certificate may be renewed now: soon before its end or
// not long after, and only where the new one would last longer.
func (s *Renewals) window(end, cardEnd time.Time) error {
	now := s.now()
	gain := min(leastGain, s.cfg.Life/2)
	switch {
	case now.After(end.Add(s.cfg.Grace)):
		return ErrRenewLate
	case now.Before(end.Add(-s.cfg.Before)):
		return ErrRenewEarly
	case cardEnd.Before(end.Add(gain)) || !cardEnd.After(now):
		return ErrRenewCard
	case now.Add(s.cfg.Life).Before(end.Add(gain)):
		return ErrRenewEarly
	}
	return nil
}

// judge says whether a device may renew its certificate now.
func (s *Renewals) judge(d *Renewable) error {
	switch {
	case !d.CitizenActive:
		return ErrRenewStopped
	case d.State != citizen.DeviceActive:
		return citizen.StopFault(d.StateReason, ErrRenewStopped)
	case d.CooldownUntil != nil && d.CooldownUntil.After(s.now()):
		return ErrRenewCooldown
	case d.Certificate == nil || d.Certificate.State != issuing.Good:
		return ErrRenewNone
	case d.Pending:
		return ErrRenewPending
	}
	return s.window(d.Certificate.NotAfter, d.CardNotAfter)
}

// Begin gives the statement that the actor's phone is to sign, with request
// options for its passkey.
func (s *Renewals) Begin(ctx context.Context, a Actor) (r *Renewal, optionsJSON []byte, err error) {
	e := a.entry(audit.RenewalStarted, a.DeviceID)
	r, d, err := s.begin(ctx, a)
	if err == nil {
		err = s.cfg.Store.BeginRenewal(ctx, *r, e)
	}
	if err != nil {
		return nil, nil, s.refuse(ctx, e, err)
	}
	challenge := RenewalChallenge(r.Statement)
	optionsJSON, err = s.cfg.RelyingParty.RequestOptions(challenge[:], [][]byte{d.Credential.ID}, "client-device")
	return r, optionsJSON, err
}

func (s *Renewals) begin(ctx context.Context, a Actor) (*Renewal, *Renewable, error) {
	d, err := s.cfg.Store.Renewable(ctx, a.CitizenID, a.DeviceID)
	if err != nil {
		return nil, nil, err
	}
	if err := s.judge(d); err != nil {
		return nil, nil, err
	}
	now := s.now()
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	hash := sha256.Sum256(d.DER)
	b64 := base64.RawURLEncoding.EncodeToString
	r := &Renewal{ID: uuid.Must(uuid.NewV7()), CitizenID: d.CitizenID, DeviceID: d.DeviceID, OldCertificate: d.Certificate.ID, OldDER: d.DER,
		CreatedAt: now, ExpiresAt: now.Add(renewalLife)}
	raw, err := json.Marshal(RenewalStatement{Version: 1, Purpose: RenewalPurpose, ID: r.ID, Device: r.DeviceID, CredentialID: b64(d.Credential.ID),
		CertificateSerial: fmt.Sprintf("%x", d.Certificate.Serial), CertificateSHA256: b64(hash[:]), RPID: s.cfg.RelyingParty.RPID(),
		Time: now.Format("2006-01-02T15:04:05.000Z"), Nonce: b64(nonce)})
	if err == nil {
		r.Statement, err = jcs.Transform(raw)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("devices: renewal: %w", err)
	}
	return r, d, nil
}

// Complete checks the passkey's signature over the statement, asks for the
// card's status, and puts a new key and certificate in the place of the old ones.
// It gives the certificate that is in force then.
func (s *Renewals) Complete(ctx context.Context, a Actor, id uuid.UUID, assertionJSON []byte) (*Renewed, error) {
	e := a.entry(audit.CertificateRenewed, a.DeviceID)
	made, err := s.complete(ctx, a, id, assertionJSON, e)
	if errors.Is(err, ErrRenewMoved) { // judged once more on what moved it
		made, err = s.complete(ctx, a, id, assertionJSON, e)
	}
	if err != nil {
		return nil, s.refuse(ctx, e, err)
	}
	return made, nil
}

func (s *Renewals) complete(ctx context.Context, a Actor, id uuid.UUID, assertionJSON []byte, e audit.Entry) (*Renewed, error) {
	r, err := s.cfg.Store.FindRenewal(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.CitizenID != a.CitizenID || r.DeviceID != a.DeviceID || r.CompletedAt != nil || !s.now().Before(r.ExpiresAt) {
		return nil, ErrRenewGone
	}
	assertion, err := passkey.ParseAssertion(assertionJSON)
	if err != nil {
		return nil, err
	}
	d, err := s.cfg.Store.Renewable(ctx, a.CitizenID, a.DeviceID)
	if err != nil {
		return nil, err
	}
	if d.Certificate != nil && d.Certificate.ID != r.OldCertificate {
		return nil, ErrRenewed
	}
	if err := s.judge(d); err != nil {
		return nil, err
	}
	verified, err := s.verify(ctx, r, d, assertion)
	if err != nil {
		return nil, err
	}
	look, err := s.cfg.Look(ctx, d.CardID)
	if err != nil {
		return nil, err
	}
	end, err := s.prepare(ctx, r, d, look)
	if err != nil {
		return nil, err
	}
	end.Verified = verified
	end.Proof, err = json.Marshal(RenewalProof{CredentialID: d.Credential.ID, COSEKey: d.Credential.PublicKey, AuthenticatorData: assertion.AuthenticatorData,
		ClientDataJSON: assertion.ClientDataJSON, Signature: assertion.Signature, RPID: s.cfg.RelyingParty.RPID()})
	if err != nil {
		return nil, err
	}
	end.Audit = []audit.Entry{
		a.entry(audit.KeyCreated, d.DeviceID).With(audit.KeyPurpose, end.Key.Purpose).With(audit.KeyProvider, end.Key.Provider).
			With(audit.KeyAlgorithm, string(end.Key.Algorithm)).With(audit.KeyKeyID, end.Key.ID.String()),
		e.With(audit.KeySerial, fmt.Sprintf("%x", d.Certificate.Serial)),
	}
	if err := s.cfg.Store.Renew(ctx, *end); err != nil {
		return nil, err
	}
	if end.Request == nil {
		return &Renewed{Certificate: Certificate{ID: end.Mobile.ID, Serial: end.Mobile.Serial, KeyID: end.Mobile.KeyID, NotAfter: end.Mobile.NotAfter, State: end.Mobile.State}}, nil
	}
	if s.cfg.Requested != nil {
		s.cfg.Requested(end.Request.ID)
	}
	return &Renewed{Certificate: *d.Certificate, Pending: true}, nil
}

// verify judges the assertion. A counter that went back stops the phone, unless
// the same answer came twice, or the phone itself overtook it.
func (s *Renewals) verify(ctx context.Context, r *Renewal, d *Renewable, a *passkey.Assertion) (*passkey.Verified, error) {
	if !bytes.Equal(a.CredentialID, d.Credential.ID) || !bytes.Equal(a.UserHandle, d.UserHandle) {
		return nil, ErrRenewPhone
	}
	challenge := RenewalChallenge(r.Statement)
	verified, err := s.cfg.RelyingParty.Verify(a, d.Credential, challenge[:])
	if !errors.Is(err, passkey.ErrCounter) {
		return verified, err
	}
	if now, findErr := s.cfg.Store.FindRenewal(ctx, r.ID); findErr != nil || now.CompletedAt != nil {
		return nil, errors.Join(findErr, ErrRenewGone)
	}
	if a.Overtaken(d.Credential.SignCount, r.CreatedAt, d.LastUsedAt) {
		return nil, passkey.ErrOvertaken.Because(err)
	}
	stop := audit.New(audit.DeviceSuspended).Citizen(d.CitizenID).Device(d.DeviceID).With(audit.KeyReason, citizen.ReasonCounter)
	if stopErr := s.cfg.Suspend(ctx, d.DeviceID, citizen.ReasonCounter, stop); stopErr != nil {
		return nil, stopErr
	}
	return nil, ErrRenewStopped.Because(err)
}

// prepare makes key and certificate.
func (s *Renewals) prepare(ctx context.Context, r *Renewal, d *Renewable, look *certpath.Result) (*RenewalEnd, error) {
	revocation, err := look.Records()
	if err != nil {
		return nil, err
	}
	old, err := x509.ParseCertificate(r.OldDER)
	if err != nil {
		return nil, fmt.Errorf("devices: renewal: old certificate: %w", err)
	}
	card := look.Path[0]
	if !bytes.Equal(old.RawSubject, card.RawSubject) {
		return nil, fmt.Errorf("devices: renewal: certificate and card name different people")
	}
	desk := issuing.Desk{Keys: s.cfg.Keys, Algorithm: s.cfg.KeyAlgorithm, Issuer: s.cfg.Issuer, Outside: s.cfg.Outside}
	issued, err := desk.Issue(ctx, issuing.MobileRequest{CitizenID: d.CitizenID, DeviceID: d.DeviceID, Citizen: card}, d.Certificate.ID)
	if err != nil {
		return nil, err
	}
	if issued.Request == nil && !issued.Certificate.NotAfter.After(d.Certificate.NotAfter) {
		return nil, issuing.ErrProfile.Because(errors.New("the new certificate would not outlast the old one: the issuer ends too"))
	}
	now := s.now()
	return &RenewalEnd{Renewal: r, Device: *d, Revocation: revocation, Key: issued.Key, Mobile: issued.Certificate, Request: issued.Request, DestroyOldKey: now.Add(oldKeyLife), At: now}, nil
}

// refuse keeps a trace of what was not allowed and gives the error back.
func (s *Renewals) refuse(ctx context.Context, e audit.Entry, err error) error {
	f := fault.From(err)
	if f.Kind == fault.Internal {
		return err
	}
	return errors.Join(err, s.cfg.Store.Refused(ctx, e.Refuse(f.Code)))
}

// warnings are the notices about an end that comes, the nearest first.
var warnings = []Warning{
	{Days: 1, Kind: "certificate_ends_day", Card: "card_ends_day"},
	{Days: 7, Kind: "certificate_ends_week", Card: "card_ends_week"},
	{Days: 30, Kind: "certificate_ends_month", Card: "card_ends_month"},
}

// warnBatch is how many notices one transaction writes.
const warnBatch = 500

// Warn makes the notices "your certificate ends soon": 30, 7 and 1 days before,
// each once. A phone that was away for longer is told only the nearest.
func (s *Renewals) Warn(ctx context.Context) error {
	for _, w := range warnings { // the nearest first, so that the farther ones find it told
		w.At, w.Limit = s.now(), warnBatch
		for n := warnBatch; n == warnBatch && ctx.Err() == nil; {
			var err error
			if n, err = s.cfg.Store.Warn(ctx, w); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}
