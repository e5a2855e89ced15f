// Package console is the domain behind the administrators' console: who the
// administrators are, how they sign in, what each may do, and the acts that
// need a fresh assertion or a second person.
//
// Administrators have passkeys and nothing else. Their passkeys belong to the
// same relying party as citizens' phones but live in tables of their own: one
// never counts as the other.
//
//	invite ──link, once──▶ administrator + passkey ──sign in──▶ session
//	session ──Prepare(statement)──▶ assertion over the statement ──▶ Approval
//	Approval ──▶ the act itself, or a two-person act that waits
//	two-person act ──another administrator's Approval of the same statement──▶ the act
//
// A statement is canonical JSON that is shown before it is approved. The
// challenge is a hash over it and over a nonce that only this service can make,
// so an assertion is evidence of exactly that statement (see Challenge), and is
// used up in the transaction of the act.
package console

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/fault"
	"sealgate/internal/passkey"
)

// Role says what an administrator may do.
type Role string

// The roles. Nobody has all of them by being first: the first administrator is
// a security officer and invites the others.
const (
	Registrar       Role = "registrar"        // proves people in person, with a second registrar
	Support         Role = "support"          // finds a person's phones, stops them, proposes to resume them
	SecurityOfficer Role = "security_officer" // invites and removes administrators, stops phones
	Auditor         Role = "auditor"          // reads; changes nothing
)

// Roles lists the roles in the order in which they are offered.
func Roles() []Role { return []Role{Registrar, Support, SecurityOfficer, Auditor} }

// Limits of sessions and ceremonies.
const (
	IdleLimit     = 15 * time.Minute // without a request by a person
	AbsoluteLimit = 8 * time.Hour    // in all
	InviteLife    = 24 * time.Hour
	touchEvery    = time.Minute     // how often a session's last use is written
	ticketLife    = 5 * time.Minute // of a challenge
	grantLife     = IdleLimit       // of the right to look at a person after a look-up
	maxReason     = 300             // characters of a reason
	maxName       = 60              // characters of a name
)

// Faults of this package.
var (
	// ErrSignedOut: there is no session, or it has ended.
	ErrSignedOut = fault.New(fault.Unauthenticated, "console_signed_out")
	// ErrSignIn: the passkey is no administrator's, or the answer is wrong.
	ErrSignIn = fault.New(fault.Unauthenticated, "console_sign_in")
	// ErrRole: the administrator's roles do not reach.
	ErrRole = fault.New(fault.Forbidden, "console_role")
	// ErrInvite: the link is unknown, used or has run out.
	ErrInvite = fault.New(fault.Gone, "console_invite")
	// ErrTicket: the challenge is not ours, too old, used, or for another statement.
	ErrTicket = fault.New(fault.Conflict, "console_ticket")
	// ErrStatement: the statement is not one that this step approves.
	ErrStatement = fault.New(fault.Invalid, "console_statement")
	// ErrName: a name is missing or cannot be shown.
	ErrName = fault.New(fault.Invalid, "console_name")
	// ErrRoles: no role, or one that does not exist.
	ErrRoles = fault.New(fault.Invalid, "console_roles")
	// ErrReason: a reason is missing or too long.
	ErrReason = fault.New(fault.Invalid, "console_reason")
	// ErrQuery: what was typed to find a person has no form that is known.
	ErrQuery = fault.New(fault.Invalid, "console_query")
	// ErrPerson: nobody was found, or the look-up is not this session's.
	ErrPerson = fault.New(fault.NotFound, "console_person")
	// ErrNothing: there is no phone that this would change.
	ErrNothing = fault.New(fault.Conflict, "console_nothing")
	// ErrAct: the act is not known.
	ErrAct = fault.New(fault.NotFound, "console_act")
	// ErrActState: the act no longer waits: decided, withdrawn or run out.
	ErrActState = fault.New(fault.Conflict, "console_act_state")
	// ErrSamePerson: an act is confirmed by another administrator than who proposed it.
	ErrSamePerson = fault.New(fault.Forbidden, "console_same_person")
	// ErrDigits: the two digits are not the ones at the counter.
	ErrDigits = fault.New(fault.Unprocessable, "console_digits")
	// ErrLastOfficer: somebody must be left who can invite administrators.
	ErrLastOfficer = fault.New(fault.Conflict, "console_last_officer")
	// ErrPasskeyKnown: the passkey is an administrator's already.
	ErrPasskeyKnown = fault.New(fault.Conflict, "console_passkey_known")
)

// Administrator is a person who may use the console.
type Administrator struct {
	ID        uuid.UUID
	Name      string
	Roles     []Role
	Active    bool
	CreatedAt time.Time
	RemovedAt *time.Time
	InvitedBy uuid.UUID // uuid.Nil for the first
	Passkeys  []Passkey
}

// Has says whether one of the administrator's roles is among those.
func (a Administrator) Has(roles ...Role) bool {
	return slices.ContainsFunc(a.Roles, func(r Role) bool { return slices.Contains(roles, r) })
}

// Passkey is an administrator's credential.
type Passkey struct {
	passkey.Credential
	Name       string
	CreatedAt  time.Time
	LastUsedAt *time.Time
}

// Session is an administrator who is signed in.
type Session struct {
	Hash          []byte // SHA-256 of the cookie's secret
	BrowserHash   []byte
	Administrator Administrator
	Credential    Passkey // that opened it
	CreatedAt     time.Time
	SeenAt        time.Time
	EndsAt        time.Time // at the latest
	IP            netip.Addr
}

// Entry starts an audit entry by the session's administrator.
func (s *Session) Entry(act audit.Act) audit.Entry {
	return audit.New(act).By(audit.ActorOperator, s.Administrator.ID.String()).From(s.IP)
}

// May gives ErrRole unless the administrator has one of the roles.
func (s *Session) May(roles ...Role) error {
	if s.Administrator.Has(roles...) {
		return nil
	}
	return ErrRole
}

// Config is everything the service needs.
type Config struct {
	Administrators AdministratorStore
	Sessions       SessionStore
	Acts           ActStore
	People         PeopleStore
	RelyingParty   *passkey.RelyingParty // for administrators: not the citizens' policy
	Vault          *citizen.Vault
	Secret         []byte // makes nonces; all nodes share it
	// Changed is called after certificates were held or restored; optional.
	Changed func()
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now
}

// Service is the console's domain.
type Service struct {
	cfg       Config
	now       func() time.Time
	executors map[Kind]Executor
}

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Administrators == nil || cfg.Sessions == nil || cfg.Acts == nil || cfg.People == nil || cfg.RelyingParty == nil ||
		cfg.Vault == nil || len(cfg.Secret) < 32 || cfg.Log == nil {
		return nil, errors.New("console: a part is missing from the configuration")
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	s := &Service{cfg: cfg, now: func() time.Time { return now().UTC().Truncate(time.Microsecond) }}
	s.executors = map[Kind]Executor{ResumeDevices: s.resume}
	return s, nil
}

// refuse keeps a trace of what was not allowed and gives the error back.
func (s *Service) refuse(ctx context.Context, e audit.Entry, err error) error {
	f := fault.From(err)
	if f.Kind == fault.Internal {
		return err
	}
	if writeErr := s.cfg.Administrators.Refused(ctx, e.Refuse(f.Code)); writeErr != nil {
		s.cfg.Log.ErrorContext(ctx, "audit entry of a refusal was not written", "code", f.Code, "error", writeErr)
	}
	return err
}
