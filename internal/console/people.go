package console

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
)

// PurposeStop is the purpose of a statement that stops phones.
const PurposeStop = "sealgate/console/stop-devices"

// Why somebody looks at a person, or stops their phones: fixed words, so that
// they can be counted and hold nothing personal.
const (
	LookLoss     = "loss"     // reports a loss
	LookTrouble  = "trouble"  // something does not work
	LookFraud    = "fraud"    // somebody else may be acting
	LookInPerson = "inperson" // stands at the counter
	LookRequest  = "request"  // a written request
)

// LookReasons lists the reasons for looking a person up.
func LookReasons() []string {
	return []string{LookLoss, LookTrouble, LookFraud, LookInPerson, LookRequest}
}

// Person is what the desk sees of a citizen: no more than it needs.
type Person struct {
	ID         uuid.UUID
	State      citizen.State
	MaskedName string
	Phones     []Phone
	mac, name  []byte
}

// WithName sets what MaskedName is opened from; for the store.
func (p *Person) WithName(nationalIDMAC, sealedName []byte) {
	p.mac, p.name = nationalIDMAC, sealedName
}

// Phone is a device as the desk sees it.
type Phone struct {
	ID            uuid.UUID
	Name          string
	State         citizen.DeviceState
	Reason        string
	BoundAt       time.Time
	LastUsedAt    *time.Time
	ChangedAt     *time.Time
	Serial        []byte // of the mobile certificate; nil without
	Certificate   string // good, held, revoked
	CertificateTo *time.Time
}

// PersonQuery finds a person by one of these.
type PersonQuery struct {
	NationalIDMAC []byte
	DeviceID      uuid.UUID
	Serial        []byte
}

// Stop is what the transaction writes that stops a person's phones.
type Stop struct {
	CitizenID uuid.UUID
	Devices   []uuid.UUID
	At        time.Time
}

// PeopleStore reads and changes a person's phones for the desk.
type PeopleStore interface {
	// FindPerson looks a person up and writes the entry, found or not; ErrPerson.
	FindPerson(ctx context.Context, q PersonQuery, entry audit.Entry) (uuid.UUID, error)
	// Person reads a person with their phones that are not removed; ErrPerson.
	Person(ctx context.Context, id uuid.UUID) (*Person, error)
	// StopPhones writes the approval and stops those of the phones that are
	// active, with their certificates, as lost; ErrNothing where none is.
	StopPhones(ctx context.Context, a *Approval, stop Stop, entry audit.Entry) (int, error)
	// ResumePhones consumes the confirmation and lets the phones that a loss
	// stopped work again; ErrNothing.
	ResumePhones(ctx context.Context, c *Confirmation, devices []uuid.UUID, at time.Time) (int, error)
}

// Look finds a person by a typed national ID, a device's id or a certificate's
// serial number. Every look-up has a reason and leaves an audit entry; what is
// given back lets this session see the person for a while.
func (s *Service) Look(ctx context.Context, session *Session, typed, reason string) (id uuid.UUID, grant string, err error) {
	entry := session.Entry(audit.PersonLookedUp).With(audit.KeyReason, reason)
	id, err = s.look(ctx, session, typed, reason, entry)
	if err != nil {
		return uuid.Nil, "", s.refuse(ctx, entry, err)
	}
	return id, s.grant(session, id), nil
}

func (s *Service) look(ctx context.Context, session *Session, typed, reason string, entry audit.Entry) (uuid.UUID, error) {
	if err := session.May(Support, Registrar, SecurityOfficer); err != nil {
		return uuid.Nil, err
	}
	if !slices.Contains(LookReasons(), reason) {
		return uuid.Nil, ErrReason
	}
	q, how, err := s.parseQuery(typed)
	if err != nil {
		return uuid.Nil, err
	}
	return s.cfg.People.FindPerson(ctx, q, entry.With(audit.KeySource, how))
}

// parseQuery tells by its form what was typed.
func (s *Service) parseQuery(typed string) (q PersonQuery, how string, err error) {
	if len(typed) > 100 {
		return q, "", ErrQuery
	}
	typed = strings.TrimSpace(typed)
	if id, err := citizen.ParseNationalID(typed); err == nil {
		return PersonQuery{NationalIDMAC: s.cfg.Vault.MAC(id)}, "national_id", nil
	}
	if id, err := uuid.Parse(typed); err == nil && len(typed) == 36 {
		return PersonQuery{DeviceID: id}, "device", nil
	}
	digits := strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(typed, ":", ""), " ", ""))
	if serial, err := hex.DecodeString(digits); err == nil && len(serial) >= 8 && len(serial) <= 20 {
		return PersonQuery{Serial: serial}, "serial", nil
	}
	return q, "", ErrQuery
}

// grant lets one session see one person until it runs out.
func (s *Service) grant(session *Session, id uuid.UUID) string {
	until := binary.BigEndian.AppendUint64(nil, uint64(s.now().Add(grantLife).Unix()))
	return base64.RawURLEncoding.EncodeToString(append(until, s.grantMAC(session, id, until)...))
}

func (s *Service) grantMAC(session *Session, id uuid.UUID, until []byte) []byte {
	m := hmac.New(sha256.New, s.cfg.Secret)
	fmt.Fprintf(m, "sealgate/console/grant/v1\x00")
	for _, part := range [][]byte{session.Hash, id[:], until} {
		m.Write(part)
	}
	return m.Sum(nil)[:16]
}

// Person reads a person whom this session has looked up.
func (s *Service) Person(ctx context.Context, session *Session, id uuid.UUID, grant string) (*Person, error) {
	if err := session.May(Support, Registrar, SecurityOfficer); err != nil {
		return nil, s.refuse(ctx, session.Entry(audit.ConsoleRefused), err)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(grant)
	if err != nil || len(raw) != 24 || !hmac.Equal(raw[8:], s.grantMAC(session, id, raw[:8])) ||
		s.now().Unix() > int64(binary.BigEndian.Uint64(raw)) {
		return nil, ErrPerson
	}
	p, err := s.cfg.People.Person(ctx, id)
	if err != nil {
		return nil, err
	}
	name, err := s.cfg.Vault.Open(ctx, citizen.FieldName, p.mac, p.name)
	if err != nil {
		return nil, err
	}
	p.MaskedName = citizen.Masked(name)
	return p, nil
}

// PhonesStatement is what is approved about a person's phones: to stop them, or
// to let them work again.
type PhonesStatement struct {
	Version int           `json:"v"`
	Purpose string        `json:"purpose"`
	ID      uuid.UUID     `json:"id"`
	Citizen uuid.UUID     `json:"citizen"`
	Person  string        `json:"person"` // the masked name, as it was shown
	Devices []PhoneNaming `json:"devices"`
	Reason  string        `json:"reason"`
	RPID    string        `json:"rp_id"`
	Time    string        `json:"time"`
}

// PhoneNaming is a phone in a statement.
type PhoneNaming struct {
	ID   uuid.UUID `json:"id"`
	Name string    `json:"name"`
}

func (st *PhonesStatement) ids() []uuid.UUID {
	out := make([]uuid.UUID, len(st.Devices))
	for i, d := range st.Devices {
		out[i] = d.ID
	}
	return out
}

// preparePhones makes the statement about those of the person's phones that are
// in the state; device is uuid.Nil for all of them.
func (s *Service) preparePhones(session *Session, p *Person, purpose string, step Step, device uuid.UUID, reason string, fits func(Phone) bool) (*Prepared, error) {
	reason, err := parseReason(reason)
	if err != nil {
		return nil, err
	}
	st := PhonesStatement{Version: 1, Purpose: purpose, ID: newID(), Citizen: p.ID, Person: p.MaskedName, Reason: reason,
		RPID: s.cfg.RelyingParty.RPID(), Time: s.timestamp()}
	for _, d := range p.Phones {
		if fits(d) && (device == uuid.Nil || device == d.ID) {
			st.Devices = append(st.Devices, PhoneNaming{d.ID, d.Name})
		}
	}
	if len(st.Devices) == 0 {
		return nil, ErrNothing
	}
	statement, err := Canonical(st)
	if err != nil {
		return nil, err
	}
	return s.Prepare(session, step, statement)
}

// PrepareStop asks for an assertion over the stop of one or, with uuid.Nil, all
// of a person's phones.
func (s *Service) PrepareStop(session *Session, p *Person, device uuid.UUID, reason string) (*Prepared, error) {
	if err := session.May(Support, SecurityOfficer); err != nil {
		return nil, err
	}
	return s.preparePhones(session, p, PurposeStop, StepAct, device, reason, func(d Phone) bool { return d.State == citizen.DeviceActive })
}

// Stop stops phones that were reported lost: nothing can be approved with them
// from now on, their certificates are on hold. The citizen can take it back with
// the card as an own report, or the desk with two people.
func (s *Service) Stop(ctx context.Context, session *Session, a Answer) (int, error) {
	approval, err := s.Approve(ctx, session, StepAct, PurposeStop, a, Support, SecurityOfficer)
	if err != nil {
		return 0, err
	}
	var st PhonesStatement
	if err := decode(a.Statement, &st); err != nil {
		return 0, err
	}
	entry := session.Entry(audit.LossReported).Citizen(st.Citizen).With(audit.KeyReason, "administrator").With(audit.KeyApproval, approval.ID.String())
	n, err := s.cfg.People.StopPhones(ctx, approval, Stop{CitizenID: st.Citizen, Devices: st.ids(), At: s.now()}, entry)
	if err != nil {
		return 0, s.refuse(ctx, entry, err)
	}
	s.cfg.Changed()
	return n, nil
}

// Resumable says whether the desk may propose to let a phone work again: only
// what a reported loss has stopped.
func Resumable(d Phone) bool {
	return d.State == citizen.DeviceSuspended && d.Reason == citizen.ReasonLoss
}

// PrepareResume asks for the proposing assertion.
func (s *Service) PrepareResume(session *Session, p *Person, reason string) (*Prepared, error) {
	if err := session.May(ResumeDevices.MayPropose()...); err != nil {
		return nil, err
	}
	return s.preparePhones(session, p, string(ResumeDevices), StepPropose, uuid.Nil, reason, Resumable)
}

// ProposeResume keeps the proposal until another administrator confirms it.
func (s *Service) ProposeResume(ctx context.Context, session *Session, a Answer) (*Act, error) {
	var st PhonesStatement
	if err := decode(a.Statement, &st); err != nil {
		return nil, err
	}
	return s.Propose(ctx, session, Proposal{Kind: ResumeDevices, Reason: st.Reason, CitizenID: st.Citizen}, a)
}

// resume carries a confirmed proposal out.
func (s *Service) resume(ctx context.Context, _ *Session, c *Confirmation) error {
	var st PhonesStatement
	if err := decode(c.Act.Statement, &st); err != nil {
		return err
	}
	if _, err := s.cfg.People.ResumePhones(ctx, c, st.ids(), s.now()); err != nil {
		return err
	}
	s.cfg.Changed()
	return nil
}

// whys are the reasons for a stop that have words of their own.
var whys = []string{citizen.ReasonLoss, citizen.ReasonCitizen, "card_revoked", "card_expired", "card_held", "counter"}

// Why gives the reason of a stop as a word that the catalogue knows.
func (d Phone) Why() string {
	if slices.Contains(whys, d.Reason) {
		return d.Reason
	}
	return "other"
}
