package enrolment

import (
	"bytes"
	"context"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
)

// minCredentialID is the least length of a credential id: 100 bits of entropy
// at least (WebAuthn Level 3 §4, "credential ID").
const minCredentialID = 16

// CreationOptions gives the phone's navigator.credentials.create options for an
// enrol order, and the masked name of whose card it is. It is given to package
// order as its EnrolOptionsFunc.
func (s *Service) CreationOptions(ctx context.Context, id uuid.UUID, challenge [32]byte) ([]byte, string, error) {
	e, err := s.cfg.Store.Find(ctx, order.ID(id))
	if err != nil {
		return nil, "", err
	}
	user, err := s.user(ctx, e)
	if err != nil {
		return nil, "", err
	}
	// For a card no credentials are excluded: whoever has one may bind the same
	// phone anew. A phone adds others, not itself.
	var exclude [][]byte
	if e.ProofKind == ProofDevice {
		adder, err := s.adder(ctx, e)
		if err != nil {
			return nil, "", err
		}
		exclude = adder.Credentials
	}
	options, err := s.cfg.RelyingParty.CreationOptions(user, challenge[:], exclude)
	return options, user.Name, err
}

// user is whom the passkey is made for. The phone's list of passkeys shows the
// masked name: others may look at it.
func (s *Service) user(ctx context.Context, e *Enrolment) (passkey.User, error) {
	name, err := s.cfg.Vault.Open(ctx, citizen.FieldName, e.NationalIDMAC, e.SealedName)
	if err != nil {
		return passkey.User{}, err
	}
	masked := citizen.Masked(name)
	return passkey.User{Handle: e.UserHandle, Name: masked, DisplayName: masked}, nil
}

// CredentialRequest is the phone's new passkey.
type CredentialRequest struct {
	Order      order.ID
	Token      string // the claim token
	Response   []byte // RegistrationResponseJSON, as navigator.credentials.create gave it
	DeviceName string // what the person calls this phone, 1 to 60 characters
	From       order.Origin
}

// CredentialStep is what one transaction writes when the passkey is there.
type CredentialStep struct {
	Order       order.ID
	ClaimHash   []byte
	Credential  *passkey.Credential
	Attestation *passkey.Attestation
	DeviceName  string
	Statement   []byte
	At          time.Time
	// ExpiresAt gives the card its time; the store caps it at the order's final expiry.
	ExpiresAt time.Time
	Audit     audit.Entry
}

// Credential accepts the passkey that the claiming phone has made over the
// order's challenge, and fixes the statement that the card has to sign. The same
// passkey may be sent again (an answer got lost); another one may not.
func (s *Service) Credential(ctx context.Context, r CredentialRequest) error {
	err := s.credential(ctx, r)
	if err != nil {
		return s.refuse(ctx, s.entry(audit.EnrolCredential, r.Order).From(r.From.IP), err)
	}
	return nil
}

func (s *Service) credential(ctx context.Context, r CredentialRequest) error {
	e, err := s.cfg.Store.Find(ctx, r.Order)
	if err != nil {
		return err
	}
	if !e.Order.Holds(r.Token) {
		return order.ErrWrongClaim
	}
	now := s.now()
	if err := waiting(e.Order, now); err != nil {
		return err
	}
	name, err := citizen.ParseDeviceName(r.DeviceName)
	if err != nil {
		return err
	}
	step, err := s.register(ctx, e, r, name, now)
	if err != nil {
		return err
	}
	if e.Credential != nil {
		if bytes.Equal(e.Credential.ID, step.Credential.ID) && bytes.Equal(e.Credential.PublicKey, step.Credential.PublicKey) {
			return nil
		}
		return ErrCredentialSet
	}
	bound, err := s.cfg.Store.CredentialBound(ctx, step.Credential.ID)
	if err != nil {
		return err
	}
	if bound {
		return ErrPhoneBound
	}
	if err := s.cfg.Store.SaveCredential(ctx, *step); err != nil {
		return s.explain(ctx, r.Order, err)
	}
	s.cfg.Announce(r.Order)
	return nil
}

// register judges the registration and prepares what is written for it.
func (s *Service) register(ctx context.Context, e *Enrolment, r CredentialRequest, name string, now time.Time) (*CredentialStep, error) {
	user, err := s.user(ctx, e)
	if err != nil {
		return nil, err
	}
	challenge := e.Order.Challenge(nil)
	c, attestation, err := s.cfg.RelyingParty.Register(r.Response, user, challenge[:])
	if err != nil {
		return nil, err
	}
	if len(c.ID) < minCredentialID {
		return nil, passkey.ErrMalformed
	}
	var by []byte
	if e.ProofKind == ProofDevice {
		adder, err := s.adder(ctx, e)
		if err != nil {
			return nil, err
		}
		by = adder.Device.COSEKey
	}
	var more func(*Statement)
	life := s.cfg.CardStep
	if e.ProofKind == ProofRegistrar {
		life = inPersonStep
		if more, err = s.inPerson(ctx, e); err != nil {
			return nil, err
		}
	}
	statement, err := newStatement(e.Order.ID, c, attestation, name, s.cfg.RelyingParty.RPID(), now, by, more)
	if err != nil {
		return nil, err
	}
	entry := s.entry(audit.EnrolCredential, r.Order).From(r.From.IP).
		With(audit.KeyFormat, c.AttestationFormat).With(audit.KeyAAGUID, c.AAGUID.String())
	return &CredentialStep{
		Order: r.Order, ClaimHash: e.Order.ClaimHash, Credential: c, Attestation: attestation,
		DeviceName: name, Statement: statement, At: now, ExpiresAt: now.Add(life), Audit: entry,
	}, nil
}

// explain turns a lost compare-and-set into what the person can act on.
func (s *Service) explain(ctx context.Context, id order.ID, err error) error {
	if err != order.ErrState {
		return err
	}
	e, findErr := s.cfg.Store.Find(ctx, id)
	if findErr != nil {
		return findErr
	}
	if stateErr := waiting(e.Order, s.now()); stateErr != nil {
		return stateErr
	}
	if e.Credential != nil {
		return ErrCredentialSet
	}
	return err
}
