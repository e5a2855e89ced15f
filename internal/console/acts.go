package console

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
)

// Kind says what a two-person act does. It is also the purpose of its statement.
type Kind string

// The kinds.
const (
	BindInPerson  Kind = "sealgate/bind-device-in-person"
	ResumeDevices Kind = "sealgate/console/resume-devices"
)

// rule says who may propose an act of a kind, who may confirm it, and how long
// it waits.
type rule struct {
	propose, confirm []Role
	life             time.Duration
	// counter: both stand at the same counter, and the confirmer types the two
	// digits that only the proposer's screen shows.
	counter bool
}

var rules = map[Kind]rule{
	BindInPerson:  {propose: []Role{Registrar}, confirm: []Role{Registrar}, life: 15 * time.Minute, counter: true},
	ResumeDevices: {propose: []Role{Support, Registrar}, confirm: []Role{Support, SecurityOfficer}, life: 24 * time.Hour},
}

// MayPropose and MayConfirm say which roles a kind needs.
func (k Kind) MayPropose() []Role { return rules[k].propose }

// MayConfirm lists the roles of which a confirming administrator needs one.
func (k Kind) MayConfirm() []Role { return rules[k].confirm }

// AtCounter says that the confirmer types two digits from the proposer's screen.
func (k Kind) AtCounter() bool { return rules[k].counter }

// ActState is where a two-person act stands.
type ActState string

// The states. An act that ran out is expired although nothing wrote so.
const (
	ActWaiting   ActState = "waiting"
	ActConfirmed ActState = "confirmed"
	ActRefused   ActState = "refused"   // by another administrator
	ActWithdrawn ActState = "withdrawn" // by the proposer
	ActExpired   ActState = "expired"
)

// Act is something that one administrator has proposed and another has to
// confirm with an assertion over the same statement.
type Act struct {
	ID         uuid.UUID
	Kind       Kind
	Statement  []byte
	Reason     string
	CitizenID  uuid.UUID
	OrderID    uuid.UUID // uuid.Nil where there is none
	Digits     string    // two, for the proposer's eyes; "" where there are none
	Tries      int       // wrong digits
	State      ActState
	ProposerID uuid.UUID
	Proposer   string // name
	// ProposerCredential is the passkey that proposed.
	ProposerCredential []byte
	CreatedAt          time.Time
	ExpiresAt          time.Time
	DecidedBy          string // name, "" while it waits
	DecidedAt          *time.Time
}

// StateAt is the state at a time.
func (a *Act) StateAt(now time.Time) ActState {
	if a.State == ActWaiting && !now.Before(a.ExpiresAt) {
		return ActExpired
	}
	return a.State
}

// ActStore keeps two-person acts. Each method is one transaction or one read.
// Confirming has none: it is part of the transaction of the act itself.
type ActStore interface {
	// Propose writes the approval and the act that waits.
	Propose(ctx context.Context, a *Approval, act Act, entry audit.Entry) error
	// Act reads one; ErrAct.
	Act(ctx context.Context, id uuid.UUID) (*Act, error)
	// ActOfOrder reads the newest act about an order; ErrAct.
	ActOfOrder(ctx context.Context, order uuid.UUID) (*Act, error)
	// Acts lists those that wait, and those decided since, newest first, bounded.
	Acts(ctx context.Context, now, since time.Time) ([]Act, error)
	// Close takes an act that waits to refused or withdrawn; ErrActState.
	Close(ctx context.Context, id uuid.UUID, to ActState, by uuid.UUID, at time.Time, entry audit.Entry) error
	// WrongDigits counts a wrong try; an act with too many is refused.
	WrongDigits(ctx context.Context, id uuid.UUID, most int, entry audit.Entry) error
}

// maxDigitTries is how often two digits may be wrong.
const maxDigitTries = 3

// Confirmation is the second administrator's approval of an act that waits.
// Only Service.Confirm makes it; the store of the act consumes it: the act must
// still wait, with this statement, by another administrator who still has the
// role, in the transaction that carries it out.
type Confirmation struct {
	Act      Act
	Approval *Approval
	// ProposerRoles are the roles of which the proposer must still have one.
	ProposerRoles []Role
	Entry         audit.Entry
}

// Executor carries out a confirmed act of its kind.
type Executor func(ctx context.Context, session *Session, c *Confirmation) error

// Handle says who carries out a kind of act. It is called while the server is
// assembled.
func (s *Service) Handle(k Kind, e Executor) { s.executors[k] = e }

// Proposal is what a proposed act is about, beside its statement.
type Proposal struct {
	Kind      Kind
	Reason    string
	CitizenID uuid.UUID
	OrderID   uuid.UUID
	// Until bounds the waiting; zero: the kind's own time.
	Until time.Time
}

// Propose keeps an act that waits for its second administrator.
func (s *Service) Propose(ctx context.Context, session *Session, p Proposal, a Answer) (*Act, error) {
	r, ok := rules[p.Kind]
	if !ok {
		return nil, ErrStatement
	}
	approval, err := s.Approve(ctx, session, StepPropose, string(p.Kind), a, r.propose...)
	if err != nil {
		return nil, err
	}
	now := s.now()
	act := Act{ID: newID(), Kind: p.Kind, Statement: a.Statement, Reason: p.Reason, CitizenID: p.CitizenID, OrderID: p.OrderID, State: ActWaiting,
		ProposerID: session.Administrator.ID, Proposer: session.Administrator.Name, ProposerCredential: session.Credential.ID,
		CreatedAt: now, ExpiresAt: now.Add(r.life)}
	if !p.Until.IsZero() && p.Until.Before(act.ExpiresAt) {
		act.ExpiresAt = p.Until
	}
	if r.counter {
		act.Digits = twoDigits()
	}
	entry := session.Entry(audit.ActProposed).Citizen(p.CitizenID).Order(p.OrderID).With(audit.KeyPurpose, string(p.Kind)).With(audit.KeyAct, act.ID.String())
	if err := s.cfg.Acts.Propose(ctx, approval, act, entry); err != nil {
		return nil, s.refuse(ctx, entry, err)
	}
	return &act, nil
}

// Act reads an act; ErrAct where there is none.
func (s *Service) Act(ctx context.Context, id uuid.UUID) (*Act, error) {
	return s.cfg.Acts.Act(ctx, id)
}

// ActOfOrder reads the newest act about an order.
func (s *Service) ActOfOrder(ctx context.Context, order uuid.UUID) (*Act, error) {
	return s.cfg.Acts.ActOfOrder(ctx, order)
}

// Acts lists what waits, and what was decided within a day.
func (s *Service) Acts(ctx context.Context) ([]Act, error) {
	return s.cfg.Acts.Acts(ctx, s.now(), s.now().Add(-24*time.Hour))
}

// Now is the service's clock, to judge an act's state by.
func (s *Service) Now() time.Time { return s.now() }

// MayDecide says whether the session's administrator may confirm the act.
func (s *Service) MayDecide(session *Session, act *Act) error {
	if act.StateAt(s.now()) != ActWaiting {
		return ErrActState
	}
	if act.ProposerID == session.Administrator.ID || bytes.Equal(act.ProposerCredential, session.Credential.ID) {
		return ErrSamePerson
	}
	return session.May(rules[act.Kind].confirm...)
}

// PrepareConfirm asks the second administrator for an assertion over the same
// statement. At a counter the two digits come first.
func (s *Service) PrepareConfirm(ctx context.Context, session *Session, id uuid.UUID, digits string) (*Prepared, error) {
	act, err := s.cfg.Acts.Act(ctx, id)
	if err == nil {
		err = s.MayDecide(session, act)
	}
	entry := s.actEntry(session, audit.ActConfirmed, act)
	if err == nil && act.Digits != "" && subtle.ConstantTimeCompare([]byte(digits), []byte(act.Digits)) != 1 {
		entry = entry.WithInt(audit.KeyAttempt, act.Tries+1).Refuse(ErrDigits.Code)
		return nil, errors.Join(ErrDigits, s.cfg.Acts.WrongDigits(ctx, id, maxDigitTries, entry))
	}
	if err != nil {
		return nil, s.refuse(ctx, entry, err)
	}
	return s.Prepare(session, StepConfirm, act.Statement)
}

// Confirm checks the second administrator's assertion and has the act carried
// out; both are one transaction, so of two that confirm at once one does it.
func (s *Service) Confirm(ctx context.Context, session *Session, id uuid.UUID, a Answer) (*Act, error) {
	act, err := s.cfg.Acts.Act(ctx, id)
	if err == nil {
		err = s.MayDecide(session, act)
	}
	entry := s.actEntry(session, audit.ActConfirmed, act)
	if err == nil && !bytes.Equal(act.Statement, a.Statement) {
		err = ErrStatement
	}
	if err != nil {
		return nil, s.refuse(ctx, entry, err)
	}
	approval, err := s.Approve(ctx, session, StepConfirm, string(act.Kind), a, rules[act.Kind].confirm...)
	if err != nil {
		return nil, err
	}
	execute := s.executors[act.Kind]
	if execute == nil {
		return nil, fmt.Errorf("console: nobody carries out acts of kind %s", act.Kind)
	}
	c := &Confirmation{Act: *act, Approval: approval, ProposerRoles: rules[act.Kind].propose, Entry: entry}
	if err := execute(ctx, session, c); err != nil {
		return nil, s.refuse(ctx, entry, err)
	}
	return act, nil
}

// Refuse and Withdraw end an act that waits: the first by another administrator
// who could confirm it, the second by the proposer.
func (s *Service) Refuse(ctx context.Context, session *Session, id uuid.UUID) error {
	act, err := s.cfg.Acts.Act(ctx, id)
	if err == nil {
		err = s.MayDecide(session, act)
	}
	entry := s.actEntry(session, audit.ActRefused, act)
	if err == nil {
		err = s.cfg.Acts.Close(ctx, id, ActRefused, session.Administrator.ID, s.now(), entry)
	}
	if err != nil {
		return s.refuse(ctx, entry, err)
	}
	return nil
}

// Withdraw takes an own proposal back.
func (s *Service) Withdraw(ctx context.Context, session *Session, id uuid.UUID) error {
	act, err := s.cfg.Acts.Act(ctx, id)
	if err == nil && act.ProposerID != session.Administrator.ID {
		err = ErrRole
	}
	entry := s.actEntry(session, audit.ActWithdrawn, act)
	if err == nil {
		err = s.cfg.Acts.Close(ctx, id, ActWithdrawn, session.Administrator.ID, s.now(), entry)
	}
	if err != nil {
		return s.refuse(ctx, entry, err)
	}
	return nil
}

func (s *Service) actEntry(session *Session, what audit.Act, act *Act) audit.Entry {
	entry := session.Entry(what)
	if act == nil {
		return entry
	}
	return entry.Citizen(act.CitizenID).Order(act.OrderID).With(audit.KeyPurpose, string(act.Kind)).With(audit.KeyAct, act.ID.String())
}

// Signed is one administrator's assertion as it is kept and handed on as
// evidence. Its JSON form is part of the evidence of a binding in person.
type Signed struct {
	Step              Step   `json:"step"`
	Administrator     string `json:"administrator"` // our id: a name is nobody's business there
	CredentialID      []byte `json:"credential_id"`
	PublicKey         []byte `json:"public_key"` // COSE_Key
	Nonce             []byte `json:"nonce"`
	AuthenticatorData []byte `json:"authenticator_data"`
	ClientDataJSON    []byte `json:"client_data_json"`
	Signature         []byte `json:"signature"`
}

// Signed gives an approval as evidence.
func (a *Approval) Signed() Signed {
	return Signed{Step: a.Step, Administrator: a.AdministratorID.String(), CredentialID: a.CredentialID, PublicKey: a.COSEKey, Nonce: a.Nonce,
		AuthenticatorData: a.AuthenticatorData, ClientDataJSON: a.ClientDataJSON, Signature: a.Signature}
}

// decode reads a statement that a ticket has covered.
func decode(statement []byte, v any) error {
	if err := json.Unmarshal(statement, v); err != nil {
		return ErrStatement.Because(err)
	}
	return nil
}

func twoDigits() string {
	n, err := rand.Int(rand.Reader, big.NewInt(100))
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return fmt.Sprintf("%02d", n.Int64())
}
