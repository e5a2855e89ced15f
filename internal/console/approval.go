package console

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/gowebpki/jcs"

	"sealgate/internal/audit"
	"sealgate/internal/passkey"
	"sealgate/internal/signing"
)

// Step is what an assertion is given for. It is part of the challenge: who
// proposed has not confirmed, whatever else is equal.
type Step string

// The steps.
const (
	StepSignIn  Step = "sign-in"
	StepJoin    Step = "join"    // the passkey of a new administrator
	StepAct     Step = "act"     // an act of one person
	StepPropose Step = "propose" // a two-person act, by the first
	StepConfirm Step = "confirm" // the same, by the second
)

// Challenge is what an administrator's passkey signs:
//
//	SHA-256("sealgate/console/" ‖ step ‖ "/v1" ‖ 0x00 ‖ nonce ‖ SHA-256(statement))
//
// Anybody who has nonce and statement can compute it again. The nonce is 32
// bytes that only the service can make, for one session and one time.
func Challenge(step Step, nonce, statement []byte) [32]byte {
	return signing.AdministratorChallenge(string(step), nonce, statement)
}

// ticketSize is expiry and random bytes.
const ticketSize = 8 + 24

// newTicket gives what comes back with the answer, and the nonce it stands for.
// bound ties it to a session, a browser or an invitation.
func (s *Service) newTicket(step Step, bound, statement []byte) (ticket string, nonce []byte) {
	raw := make([]byte, ticketSize)
	binary.BigEndian.PutUint64(raw, uint64(s.now().Add(ticketLife).UnixMilli()))
	_, _ = rand.Read(raw[8:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(raw), s.nonce(step, bound, statement, raw)
}

// nonce covers everything about a ceremony, so that a ticket serves for no other.
func (s *Service) nonce(step Step, bound, statement, ticket []byte) []byte {
	m := hmac.New(sha256.New, s.cfg.Secret)
	sum := sha256.Sum256(statement)
	fmt.Fprintf(m, "sealgate/console/nonce/v1\x00%s\x00%d\x00", step, len(bound))
	for _, part := range [][]byte{bound, sum[:], ticket} {
		m.Write(part)
	}
	return m.Sum(nil)
}

// openTicket gives the nonce of a ticket that has not run out, and when it does.
func (s *Service) openTicket(step Step, bound, statement []byte, ticket string) (nonce []byte, until time.Time, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(ticket)
	if err != nil || len(raw) != ticketSize {
		return nil, until, ErrTicket
	}
	until = time.UnixMilli(int64(binary.BigEndian.Uint64(raw))).UTC()
	if left := until.Sub(s.now()); left <= 0 || left > ticketLife {
		return nil, until, ErrTicket
	}
	return s.nonce(step, bound, statement, raw), until, nil
}

// Use is a verified answer to a challenge, to be written once: the challenge is
// used up and the passkey's counter moves on in the act's transaction.
type Use struct {
	Challenge    [32]byte
	Until        time.Time // when the challenge may be forgotten
	CredentialID []byte
	SignCount    uint32
	BackupState  bool
	At           time.Time
}

// Approval is an administrator's verified assertion over a statement. Only
// Service.Approve makes it; a store writes it, once, with the act.
type Approval struct {
	Use
	ID                uuid.UUID
	AdministratorID   uuid.UUID
	Roles             []Role // of which one is needed, still, in the transaction
	SessionHash       []byte
	Step              Step
	Purpose           string
	Statement, Nonce  []byte
	COSEKey           []byte
	AuthenticatorData []byte
	ClientDataJSON    []byte
	Signature         []byte
	RPID              string
}

// Prepared is what a page needs to ask for an assertion.
type Prepared struct {
	Statement []byte
	Ticket    string
	Options   []byte // PublicKeyCredentialRequestOptionsJSON
}

// Canonical gives the bytes of a statement (RFC 8785).
func Canonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(raw)
}

// Purpose reads what a statement is for.
func Purpose(statement []byte) (string, error) {
	var head struct {
		Version int    `json:"v"`
		Purpose string `json:"purpose"`
	}
	if len(statement) > maxStatement || json.Unmarshal(statement, &head) != nil || head.Version != 1 || head.Purpose == "" {
		return "", ErrStatement
	}
	return head.Purpose, nil
}

const maxStatement = 16 << 10

// Prepare asks the session's administrator for an assertion over a statement.
func (s *Service) Prepare(session *Session, step Step, statement []byte) (*Prepared, error) {
	ticket, nonce := s.newTicket(step, session.Hash, statement)
	challenge := Challenge(step, nonce, statement)
	options, err := s.cfg.RelyingParty.RequestOptions(challenge[:], [][]byte{session.Credential.ID})
	if err != nil {
		return nil, err
	}
	return &Prepared{Statement: statement, Ticket: ticket, Options: options}, nil
}

// Answer is what the page sends back.
type Answer struct {
	Statement []byte
	Ticket    string
	Assertion []byte // AuthenticationResponseJSON
}

// Approve checks an answer: the challenge was made for this session, this step
// and this statement, and the passkey of this session signed it. It writes
// nothing; needs are the roles of which the administrator must have one.
func (s *Service) Approve(ctx context.Context, session *Session, step Step, purpose string, a Answer, needs ...Role) (*Approval, error) {
	approval, err := s.approve(session, step, purpose, a, needs)
	if err != nil {
		return nil, s.refuse(ctx, session.Entry(audit.ConsoleRefused).With(audit.KeyPurpose, purpose), err)
	}
	return approval, nil
}

func (s *Service) approve(session *Session, step Step, purpose string, a Answer, needs []Role) (*Approval, error) {
	if err := session.May(needs...); err != nil {
		return nil, err
	}
	if got, err := Purpose(a.Statement); err != nil || got != purpose {
		return nil, ErrStatement
	}
	nonce, until, err := s.openTicket(step, session.Hash, a.Statement, a.Ticket)
	if err != nil {
		return nil, err
	}
	challenge := Challenge(step, nonce, a.Statement)
	assertion, err := passkey.ParseAssertion(a.Assertion)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(assertion.CredentialID, session.Credential.ID) {
		return nil, ErrSignIn.Because(errors.New("another passkey than the session's"))
	}
	v, err := s.cfg.RelyingParty.Verify(assertion, session.Credential.Credential, challenge[:])
	if errors.Is(err, passkey.ErrChallenge) {
		return nil, ErrTicket.Because(err)
	}
	if err != nil {
		return nil, err
	}
	return &Approval{
		Use: Use{Challenge: challenge, Until: until, CredentialID: session.Credential.ID, SignCount: v.NewSignCount, BackupState: v.BackupState, At: s.now()},
		ID:  uuid.Must(uuid.NewV7()), AdministratorID: session.Administrator.ID, Roles: needs, SessionHash: session.Hash, Step: step, Purpose: purpose,
		Statement: a.Statement, Nonce: nonce, COSEKey: session.Credential.PublicKey, AuthenticatorData: assertion.AuthenticatorData,
		ClientDataJSON: assertion.ClientDataJSON, Signature: assertion.Signature, RPID: s.cfg.RelyingParty.RPID(),
	}, nil
}
