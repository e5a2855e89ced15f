package enrolment

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/fault"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
	"sealgate/internal/signing"
)

// MaxChain is how many bindings may follow from one card, one phone adding the
// next: the card's own phone counts as the first (evidence.MaxDepth).
const MaxChain = 4

// Adder is a bound phone that adds another, with what stands behind it.
type Adder struct {
	Device      citizen.Device
	Citizen     citizen.Citizen
	Certificate citizen.Certificate // of the card that bound it, or the phone before it
	// Depth is 1 for a phone that a card bound, 2 for one that such a phone added …
	Depth int
	// Credentials are those of all the person's phones.
	Credentials [][]byte
}

// AddedBy is the phone that agreed, as the completing transaction needs it.
type AddedBy struct {
	CitizenID, Device uuid.UUID
	SignCount         uint32 // as it was read; compared again
	Verified          *passkey.Verified
}

// PhoneProof is the assertion over signing.DeviceProofChallenge of the
// statement, kept as JSON in the place of a card's message.
type PhoneProof struct {
	AuthenticatorData []byte `json:"authenticator_data"`
	ClientDataJSON    []byte `json:"client_data_json"`
	Signature         []byte `json:"signature"`
}

// PhoneStore reads phones that add phones.
type PhoneStore interface {
	// Adder reads a phone that is not removed; citizen.ErrDeviceNotFound.
	Adder(ctx context.Context, device uuid.UUID) (*Adder, error)
}

// Phone is a person with a phone session.
type Phone struct{ CitizenID, DeviceID uuid.UUID }

// BeginByPhone makes an enrol order for one more phone of the person who holds
// this one. The session that asks must be fresh, which the caller has seen to.
func (s *Service) BeginByPhone(ctx context.Context, p Phone, browser order.BrowserKey, started order.Origin, text string) (*Begun, error) {
	begun, err := s.beginByPhone(ctx, p, browser, started, text)
	if err != nil {
		e := audit.New(audit.EnrolStarted).ByCitizen(p.CitizenID).Device(p.DeviceID).Client(s.cfg.Client.ID).From(started.IP)
		return nil, s.refuse(ctx, e.With(audit.KeyProof, string(ProofDevice)), err)
	}
	return begun, nil
}

func (s *Service) beginByPhone(ctx context.Context, p Phone, browser order.BrowserKey, started order.Origin, text string) (*Begun, error) {
	now := s.now()
	adder, err := s.cfg.Phones.Adder(ctx, p.DeviceID)
	if err == nil {
		err = adder.mayAdd(p, now)
	}
	if err != nil {
		return nil, err
	}
	card, err := s.readCard(ctx, adder.Certificate.DER, now, forPhone)
	if err != nil {
		return nil, err
	}
	c := adder.Citizen
	standing, err := s.cfg.Store.Standing(ctx, c.NationalIDMAC, c.SubjectSerial)
	if err != nil {
		return nil, err
	}
	if err := s.judge(standing); err != nil {
		return nil, err
	}
	o, err := order.NewEnrol(order.EnrolParams{Client: s.cfg.Client, Browser: browser, Started: started, Text: text,
		Now: now, Lifetime: s.cfg.Lifetime, MaxLifetime: s.cfg.MaxLifetime})
	if err != nil {
		return nil, err
	}
	fingerprint := sha256.Sum256(card.cert.Raw)
	e := Enrolment{Order: o, ProofKind: ProofDevice, ByDeviceID: p.DeviceID, NationalIDMAC: c.NationalIDMAC, SealedNationalID: c.SealedNationalID,
		SealedName: c.SealedName, SubjectSerial: c.SubjectSerial, UserHandle: newUserHandle(), Certificate: card.cert.Raw,
		CertificateFingerprint: fingerprint[:], CardNumber: adder.Certificate.CardNumber, CreatedAt: now}
	entry := s.phoneEntry(audit.EnrolStarted, o.ID, p).From(started.IP).With(audit.KeyRevocation, card.checked())
	if err := s.cfg.Store.Begin(ctx, e, entry); err != nil {
		return nil, err
	}
	return &Begun{Order: o.ID, MaskedName: citizen.Masked(card.info.Name), NotAfter: card.cert.NotAfter}, nil
}

// mayAdd holds what a phone needs to add another.
func (a *Adder) mayAdd(p Phone, now time.Time) error {
	switch {
	case a.Device.CitizenID != p.CitizenID || a.Citizen.ID != p.CitizenID:
		return citizen.ErrDeviceNotFound
	case a.Citizen.State != citizen.Active:
		return ErrCitizenStopped
	case a.Device.State != citizen.DeviceActive:
		return citizen.StopFault(a.Device.StateReason, order.ErrDeviceStopped)
	case now.Before(a.Device.CooldownUntil):
		return citizen.CooldownFault(a.Device.CooldownUntil)
	case a.Depth >= MaxChain:
		return ErrAddDepth
	}
	return nil
}

// adder reads the phone that began a binding, as it is now.
func (s *Service) adder(ctx context.Context, e *Enrolment) (*Adder, error) {
	a, err := s.cfg.Phones.Adder(ctx, e.ByDeviceID)
	if err == nil {
		err = a.mayAdd(Phone{CitizenID: a.Citizen.ID, DeviceID: e.ByDeviceID}, s.now())
	}
	return a, err
}

func (s *Service) phoneEntry(act audit.Act, id order.ID, p Phone) audit.Entry {
	return s.entry(act, id).ByCitizen(p.CitizenID).Device(p.DeviceID).With(audit.KeyProof, string(ProofDevice))
}

// ProofKind says who agrees to a binding in the end.
func (s *Service) ProofKind(ctx context.Context, id order.ID) (ProofKind, error) {
	e, err := s.cfg.Store.Find(ctx, id)
	if err != nil {
		return "", err
	}
	return e.ProofKind, nil
}

// Newcomer is what a new phone says of itself, for the person to look at
// before they agree.
type Newcomer struct {
	Name   string // as typed on it
	Origin order.Origin
	// Model is the authenticator's name when its attestation proves it, else "".
	Model string
	// Options are for navigator.credentials.get on the phone that agrees.
	Options []byte
}

// Newcomer reads what there is to agree to; ErrNoCredential before the new phone
// has made its passkey. It changes nothing.
func (s *Service) Newcomer(ctx context.Context, id order.ID, p Phone, browser order.BrowserKey) (*Newcomer, error) {
	e, err := s.ownEnrolment(ctx, id, p, browser)
	if err != nil {
		return nil, err
	}
	adder, err := s.agreeing(ctx, e, p)
	if err != nil {
		return nil, err
	}
	challenge := signing.DeviceProofChallenge(e.Statement)
	options, err := s.cfg.RelyingParty.RequestOptions(challenge[:], [][]byte{adder.Device.CredentialID}, "client-device")
	if err != nil {
		return nil, err
	}
	n := &Newcomer{Name: e.DeviceName, Origin: e.Order.Claimed, Options: options}
	if e.Credential.Attested {
		n.Model = e.Credential.Facts.Model
	}
	return n, nil
}

// agreeing sees that an enrolment waits for the agreement of this phone, which
// may give it.
func (s *Service) agreeing(ctx context.Context, e *Enrolment, p Phone) (*Adder, error) {
	if err := waiting(e.Order, s.now()); err != nil {
		return nil, err
	}
	if e.Credential == nil {
		return nil, ErrNoCredential
	}
	adder, err := s.cfg.Phones.Adder(ctx, p.DeviceID)
	if err == nil {
		err = adder.mayAdd(p, s.now())
	}
	return adder, err
}

// ownEnrolment reads an enrolment that this phone began in this browser.
func (s *Service) ownEnrolment(ctx context.Context, id order.ID, p Phone, browser order.BrowserKey) (*Enrolment, error) {
	e, err := s.cfg.Store.Find(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case e.ProofKind != ProofDevice:
		return nil, ErrProofKind
	case e.ByDeviceID != p.DeviceID:
		return nil, order.ErrWrongBrowser
	}
	return e, ownBrowser(e.Order, browser)
}

// PhoneProofRequest brings the earlier phone's assertion over the statement.
type PhoneProofRequest struct {
	Order     order.ID
	Phone     Phone
	Browser   order.BrowserKey
	Assertion []byte // the JSON of PublicKeyCredential.toJSON()
	From      order.Origin
}

// CompleteByPhone checks the assertion and binds the new phone. The same proof
// sent again gives the same answer.
func (s *Service) CompleteByPhone(ctx context.Context, r PhoneProofRequest) (*Bound, error) {
	bound, err := s.completeByPhone(ctx, r)
	if err != nil {
		return nil, s.refuse(ctx, s.phoneEntry(audit.EnrolCompleted, r.Order, r.Phone).From(r.From.IP), err)
	}
	return bound, nil
}

func (s *Service) completeByPhone(ctx context.Context, r PhoneProofRequest) (*Bound, error) {
	assertion, err := passkey.ParseAssertion(r.Assertion)
	if err != nil {
		return nil, err
	}
	proof, err := json.Marshal(PhoneProof{AuthenticatorData: assertion.AuthenticatorData, ClientDataJSON: assertion.ClientDataJSON,
		Signature: assertion.Signature})
	if err != nil {
		return nil, err
	}
	bound, err := s.tryByPhone(ctx, r, assertion, proof)
	if errors.Is(err, order.ErrDeviceStopped) {
		// Another use of the same phone may have come between reading and writing;
		// what it left is judged once more.
		bound, err = s.tryByPhone(ctx, r, assertion, proof)
	}
	if errors.Is(err, order.ErrState) {
		return s.lost(ctx, r.Order, proof, err)
	}
	return bound, err
}

func (s *Service) tryByPhone(ctx context.Context, r PhoneProofRequest, assertion *passkey.Assertion, proof []byte) (*Bound, error) {
	e, err := s.ownEnrolment(ctx, r.Order, r.Phone, r.Browser)
	if err != nil {
		return nil, err
	}
	if e.CompletedAt != nil {
		return s.again(ctx, e, proof)
	}
	adder, err := s.agreeing(ctx, e, r.Phone)
	if err != nil {
		return nil, err
	}
	now := s.now()
	a, err := s.checkPhone(ctx, e, adder, assertion, now)
	if err != nil {
		return nil, err
	}
	a.proof = proof
	return s.bind(ctx, e, a, bindOptions{from: r.From}, now)
}

// checkPhone checks the earlier phone's assertion over the statement, and that
// the card behind it is good now.
func (s *Service) checkPhone(ctx context.Context, e *Enrolment, adder *Adder, assertion *passkey.Assertion, now time.Time) (*agreement, error) {
	d := adder.Device
	if !bytes.Equal(assertion.CredentialID, d.CredentialID) {
		return nil, passkey.ErrUnknownCredential
	}
	challenge := signing.DeviceProofChallenge(e.Statement)
	verified, err := s.cfg.RelyingParty.Verify(assertion, passkey.Credential{ID: d.CredentialID, PublicKey: d.COSEKey, Algorithm: d.COSEAlgorithm,
		SignCount: d.SignCount, BackupEligible: d.BackupEligible, BackupState: d.BackupState, UserHandle: d.UserHandle}, challenge[:])
	if errors.Is(err, passkey.ErrCounter) {
		return nil, s.stopCloned(ctx, e, adder, assertion, err)
	}
	if err != nil {
		return nil, err
	}
	card, err := s.readCard(ctx, e.Certificate, now, forPhone)
	if err != nil {
		return nil, err
	}
	revocation, err := card.revocationEvidence()
	if err != nil {
		return nil, err
	}
	return &agreement{kind: ProofDevice, card: card, cardNumber: e.CardNumber, revocation: revocation,
		by: &AddedBy{CitizenID: d.CitizenID, Device: d.ID, SignCount: d.SignCount, Verified: verified}}, nil
}

// stopCloned suspends a phone whose signature counter went back, unless the
// same answer came twice and the other one moved the counter (order.Approve):
// that is order.ErrState. An answer that its own phone overtook is refused and
// no more.
func (s *Service) stopCloned(ctx context.Context, e *Enrolment, adder *Adder, a *passkey.Assertion, err error) error {
	again, findErr := s.cfg.Store.Find(ctx, e.Order.ID)
	if findErr != nil {
		return findErr
	}
	if again.CompletedAt != nil {
		return order.ErrState
	}
	if a.Overtaken(adder.Device.SignCount, statedAt(e.Statement), adder.Device.LastUsedAt) {
		return passkey.ErrOvertaken.Because(err)
	}
	if s.cfg.Suspend != nil {
		d := adder.Device
		entry := audit.New(audit.DeviceSuspended).Citizen(d.CitizenID).Device(d.ID).Order(e.Order.ID.UUID()).With(audit.KeyReason, "counter")
		if suspendErr := s.cfg.Suspend(ctx, d.ID, "counter", entry); suspendErr != nil {
			return fault.Wrap(fault.Unavailable, "internal", errors.Join(err, suspendErr))
		}
	}
	return order.ErrDeviceCounter.Because(err)
}
