package enrolment

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/console"
	"sealgate/internal/fault"
	"sealgate/internal/order"
)

// Faults of binding in person.
var (
	// ErrInPersonUnknown: no citizen certificate of this person is known here, or
	// none that is still good. The mobile certificate takes its subject from it,
	// and two administrators must not be able to make up a person.
	ErrInPersonUnknown = fault.New(fault.Unprocessable, "enrol_in_person_unknown")
	// ErrInPersonName: the name on the document is not the certificate's.
	ErrInPersonName = fault.New(fault.Unprocessable, "enrol_in_person_name")
	// ErrInPersonChecked: what was checked is not filled in.
	ErrInPersonChecked = fault.New(fault.Invalid, "enrol_in_person_checked")
)

// inPersonStep is how long two registrars may take after the passkey is there.
const inPersonStep = 15 * time.Minute

// DocumentKinds are the documents that a registrar may check.
func DocumentKinds() []string { return []string{"id_card", "passport", "health_card", "residence"} }

// CardStates are the reasons for not using the card.
func CardStates() []string { return []string{"locked", "lost", "absent", "no_reader"} }

// InPerson is what a registrar has checked. It becomes part of the statement.
type InPerson struct {
	Registrar    uuid.UUID `json:"registrar"` // who entered it
	DocumentKind string    `json:"document_kind"`
	// DocumentTail is the last four characters of the document's own number.
	DocumentTail string `json:"document_tail"`
	CardState    string `json:"card_state"`
}

// Known is a person who was bound with a card before.
type Known struct {
	Citizen     citizen.Citizen
	Certificate citizen.Certificate // the newest that is good
}

// RegistrarStore reads what a binding in person needs.
type RegistrarStore interface {
	// KnownCitizen finds a person by national ID; ErrInPersonUnknown.
	KnownCitizen(ctx context.Context, nationalIDMAC []byte) (*Known, error)
	// Proposal reads the first registrar's assertion of an act; console.ErrAct.
	Proposal(ctx context.Context, act uuid.UUID) (*console.Signed, error)
}

// InPersonRequest is what a registrar enters at the counter.
type InPersonRequest struct {
	Registrar  uuid.UUID
	NationalID string // must not be logged
	Name       string // as on the document
	Checked    InPerson
	Browser    order.BrowserKey // the registrar's
	Started    order.Origin
	Text       string // shown on the phone
}

// BeginInPerson makes an enrol order for a person at a counter. That the person
// holds the phone is for two registrars to see.
func (s *Service) BeginInPerson(ctx context.Context, r InPersonRequest) (*Begun, error) {
	begun, err := s.beginInPerson(ctx, r)
	if err != nil {
		e := audit.New(audit.EnrolStarted).By(audit.ActorOperator, r.Registrar.String()).Client(s.cfg.Client.ID).From(r.Started.IP)
		return nil, s.refuse(ctx, e.With(audit.KeyProof, string(ProofRegistrar)), err)
	}
	return begun, nil
}

func (s *Service) beginInPerson(ctx context.Context, r InPersonRequest) (*Begun, error) {
	id, err := citizen.ParseNationalID(r.NationalID)
	if err != nil {
		return nil, err
	}
	checked, err := r.Checked.normal(r.Registrar)
	if err != nil {
		return nil, err
	}
	known, err := s.cfg.Registrars.KnownCitizen(ctx, s.cfg.Vault.MAC(id))
	if err != nil {
		return nil, err
	}
	now := s.now()
	card, err := s.readCard(ctx, known.Certificate.DER, now, forPhone)
	if err != nil {
		return nil, err
	}
	if sameName(r.Name) == "" || sameName(r.Name) != sameName(card.info.Name) {
		return nil, ErrInPersonName
	}
	c := known.Citizen
	standing, err := s.cfg.Store.Standing(ctx, c.NationalIDMAC, c.SubjectSerial)
	if err == nil {
		err = s.judge(standing)
	}
	if err != nil {
		return nil, err
	}
	o, err := order.NewEnrol(order.EnrolParams{Client: s.cfg.Client, Browser: r.Browser, Started: r.Started, Text: r.Text,
		Now: now, Lifetime: s.cfg.Lifetime, MaxLifetime: s.cfg.MaxLifetime})
	if err != nil {
		return nil, err
	}
	fingerprint := sha256.Sum256(card.cert.Raw)
	e := Enrolment{Order: o, ProofKind: ProofRegistrar, InPerson: checked, NationalIDMAC: c.NationalIDMAC, SealedNationalID: c.SealedNationalID,
		SealedName: c.SealedName, SubjectSerial: c.SubjectSerial, UserHandle: newUserHandle(), Certificate: card.cert.Raw,
		CertificateFingerprint: fingerprint[:], CardNumber: known.Certificate.CardNumber, CreatedAt: now}
	entry := s.entry(audit.EnrolStarted, o.ID).By(audit.ActorOperator, r.Registrar.String()).Citizen(c.ID).From(r.Started.IP).
		With(audit.KeyProof, string(ProofRegistrar)).With(audit.KeyRevocation, card.checked()).With(audit.KeyReason, checked.CardState)
	if err := s.cfg.Store.Begin(ctx, e, entry); err != nil {
		return nil, err
	}
	return &Begun{Order: o.ID, MaskedName: citizen.Masked(card.info.Name), NotAfter: card.cert.NotAfter}, nil
}

// normal checks what was checked.
func (p InPerson) normal(registrar uuid.UUID) (*InPerson, error) {
	p.Registrar = registrar
	p.DocumentTail = strings.ToUpper(strings.TrimSpace(p.DocumentTail))
	letters := len(p.DocumentTail) == 4 && !strings.ContainsFunc(p.DocumentTail, func(c rune) bool { return (c < '0' || c > '9') && (c < 'A' || c > 'Z') })
	if !letters || !slices.Contains(DocumentKinds(), p.DocumentKind) || !slices.Contains(CardStates(), p.CardState) {
		return nil, ErrInPersonChecked
	}
	return &p, nil
}

// sameName brings a name to the form in which two are compared: no spaces, one
// case, one kind of dot.
func sameName(name string) string {
	return strings.ToUpper(strings.Map(func(r rune) rune {
		switch r {
		case ' ', '\u3000', '-', '\t':
			return -1
		case '‧', '．', '・', '•', '.':
			return '·'
		}
		return r
	}, name))
}

// inPerson completes a statement with what was checked, and whose card stands
// behind it: the registrars sign over all of that.
func (s *Service) inPerson(ctx context.Context, e *Enrolment) (func(*Statement), error) {
	name, err := s.cfg.Vault.Open(ctx, citizen.FieldName, e.NationalIDMAC, e.SealedName)
	if err != nil || e.InPerson == nil {
		return nil, errors.Join(err, errors.New("enrolment: what the registrar has checked is missing"))
	}
	return func(st *Statement) {
		st.Purpose = InPersonPurpose
		st.Person, st.Card = citizen.Masked(name), base64.RawURLEncoding.EncodeToString(e.CertificateFingerprint)
		st.DocumentKind, st.DocumentTail, st.CardState = e.InPerson.DocumentKind, e.InPerson.DocumentTail, e.InPerson.CardState
	}, nil
}

// InPersonStatement is what two registrars have to sign.
type InPersonStatement struct {
	Statement []byte
	CitizenID uuid.UUID
	CardState string
	Until     time.Time // when the order ends
}

// InPersonStatement gives the first registrar's browser the statement;
// ErrNoCredential before the phone has made its passkey. It changes nothing.
func (s *Service) InPersonStatement(ctx context.Context, id order.ID, browser order.BrowserKey) (*InPersonStatement, error) {
	e, err := s.cfg.Store.Find(ctx, id)
	if err == nil {
		err = ownBrowser(e.Order, browser)
	}
	if err == nil {
		err = waiting(e.Order, s.now())
	}
	switch {
	case err != nil:
		return nil, err
	case e.ProofKind != ProofRegistrar:
		return nil, ErrProofKind
	case e.Credential == nil:
		return nil, ErrNoCredential
	}
	known, err := s.cfg.Registrars.KnownCitizen(ctx, e.NationalIDMAC)
	if err != nil {
		return nil, err
	}
	return &InPersonStatement{Statement: e.Statement, CitizenID: known.Citizen.ID, CardState: e.InPerson.CardState, Until: e.Order.ExpiresAt}, nil
}

// InPersonOrder reads which order a statement of this kind is about.
func InPersonOrder(statement []byte) (order.ID, error) {
	st, err := ParseStatement(statement)
	if err != nil || st.Purpose != InPersonPurpose {
		return order.ID{}, console.ErrStatement.Because(err)
	}
	return st.Order, nil
}

// CompleteInPerson binds the phone that two registrars have agreed to. It is the
// executor of console.BindInPerson: the confirmation is consumed in the
// transaction that binds.
func (s *Service) CompleteInPerson(ctx context.Context, session *console.Session, c *console.Confirmation) error {
	from := order.Origin{IP: session.IP}
	id := order.ID(c.Act.OrderID)
	if err := s.completeInPerson(ctx, id, c, from); err != nil {
		return s.refuse(ctx, s.entry(audit.EnrolCompleted, id).By(audit.ActorOperator, session.Administrator.ID.String()).From(from.IP).
			With(audit.KeyProof, string(ProofRegistrar)), err)
	}
	return nil
}

func (s *Service) completeInPerson(ctx context.Context, id order.ID, c *console.Confirmation, from order.Origin) error {
	e, err := s.cfg.Store.Find(ctx, id)
	if err != nil {
		return err
	}
	now := s.now()
	if err := waiting(e.Order, now); err != nil {
		return err
	}
	switch {
	case e.ProofKind != ProofRegistrar:
		return ErrProofKind
	case e.Credential == nil:
		return ErrNoCredential
	case !bytes.Equal(e.Statement, c.Act.Statement):
		return console.ErrStatement
	}
	card, err := s.readCard(ctx, e.Certificate, now, forPhone)
	if err != nil {
		return err
	}
	revocation, err := card.revocationEvidence()
	if err != nil {
		return err
	}
	first, err := s.cfg.Registrars.Proposal(ctx, c.Act.ID)
	if err != nil {
		return err
	}
	proof, err := json.Marshal([]console.Signed{*first, c.Approval.Signed()})
	if err != nil {
		return err
	}
	a := &agreement{kind: ProofRegistrar, card: card, cardNumber: e.CardNumber, proof: proof, revocation: revocation, confirmed: c}
	_, err = s.bind(ctx, e, a, bindOptions{from: from}, now)
	return err
}
