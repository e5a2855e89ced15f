package enrolment

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/gowebpki/jcs"

	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/order"
)

// LossPurpose is what a card's holder asks about lost phones.
type LossPurpose string

// The purposes. The statement that the card signs carries them with the prefix
// "sealgate/", so that no signature for one serves for another.
const (
	ReportLoss LossPurpose = "report-loss" // all phones stop at once
	UndoLoss   LossPurpose = "undo-loss"   // those that were stopped so work again
)

const (
	// UndoWindow is how long a reported loss can be taken back with the card.
	UndoWindow = 72 * time.Hour
	// lossLife is how long the card may take to sign.
	lossLife = 10 * time.Minute
)

// Faults of reporting a loss.
var (
	// ErrLossNobody: no phone was ever bound with this person's card. Told only
	// when the card has signed.
	ErrLossNobody = fault.New(fault.NotFound, "loss_nobody")
	// ErrLossNothing: there is no phone that this would change.
	ErrLossNothing = fault.New(fault.Conflict, "loss_nothing")
	// ErrLossGone: the statement is not known, is used, or has run out.
	ErrLossGone = fault.New(fault.Gone, "loss_gone")
)

// LossStatement is what the card signs: all phones of its holder.
type LossStatement struct {
	Version int       `json:"v"`
	Purpose string    `json:"purpose"`
	ID      uuid.UUID `json:"id"`
	Devices string    `json:"devices"` // "all"
	RPID    string    `json:"rp_id"`
	Time    string    `json:"time"`
	Nonce   string    `json:"nonce"`
}

// Loss is a statement on its way.
type Loss struct {
	ID          uuid.UUID
	Purpose     LossPurpose
	CitizenID   uuid.UUID // zero until the card has signed
	BrowserHash []byte
	Certificate []byte
	CardNumber  string
	Statement   []byte
	CreatedAt   time.Time
	ExpiresAt   time.Time
	CompletedAt *time.Time
}

// LossEnd is what the transaction of a proven statement writes.
type LossEnd struct {
	Loss              *Loss
	Code              string // for the help desk
	Proof, Revocation []byte
	At                time.Time
	UndoAfter         time.Time // undo: only what was stopped after this
	Audit             audit.Entry
}

// LossOutcome is told to the holder of the card.
type LossOutcome struct {
	Code    string
	At      time.Time
	Devices []string // names of the phones that changed
	Until   time.Time
}

// LossStore keeps statements about lost phones.
type LossStore interface {
	// CitizenBySerial finds who holds cards with a subject serial; ErrLossNobody.
	CitizenBySerial(ctx context.Context, subjectSerial string) (uuid.UUID, error)
	// BeginLoss inserts the statement and the entry.
	BeginLoss(ctx context.Context, l Loss, e audit.Entry) error
	// FindLoss reads it back; ErrLossGone.
	FindLoss(ctx context.Context, id uuid.UUID) (*Loss, error)
	// EndLoss uses the statement up, for its CitizenID, and stops, or resumes, the phones with their
	// certificates. It gives their names; ErrLossGone, ErrLossNothing.
	EndLoss(ctx context.Context, e LossEnd) ([]string, error)
}

// LossRequest is a card that was read to report a loss.
type LossRequest struct {
	Purpose     LossPurpose
	Certificate []byte
	CardNumber  string
	Browser     order.BrowserKey
	From        order.Origin
}

// BeginLoss gives what the card has to sign. Certificates are public: nothing is
// told about the holder, and nothing changes, before the card has signed. Nobody
// is looked up until then, so that answer and time are the same for all cards.
func (s *Service) BeginLoss(ctx context.Context, r LossRequest) (id uuid.UUID, statement []byte, nonce string, err error) {
	e := audit.New(audit.LossStarted).ByBrowser().From(r.From.IP).With(audit.KeyPurpose, string(r.Purpose))
	l, nonce, err := s.newLoss(ctx, r)
	if err == nil {
		err = s.cfg.Losses.BeginLoss(ctx, *l, e)
	}
	if err != nil {
		return uuid.Nil, nil, "", s.refuse(ctx, e, err)
	}
	return l.ID, l.Statement, nonce, nil
}

func (s *Service) newLoss(ctx context.Context, r LossRequest) (*Loss, string, error) {
	if r.Purpose != ReportLoss && r.Purpose != UndoLoss {
		return nil, "", ErrProofMalformed
	}
	number, ok := normalCardNumber(r.CardNumber)
	if !ok {
		return nil, "", ErrCertificate
	}
	now := s.now()
	card, err := s.readCard(ctx, r.Certificate, now, forLoss)
	if err != nil {
		return nil, "", err
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	l := &Loss{ID: uuid.Must(uuid.NewV7()), Purpose: r.Purpose, BrowserHash: r.Browser.Hash(), Certificate: card.cert.Raw,
		CardNumber: number, CreatedAt: now, ExpiresAt: now.Add(lossLife)}
	st := LossStatement{Version: 1, Purpose: "sealgate/" + string(r.Purpose), ID: l.ID, Devices: "all", RPID: s.cfg.RelyingParty.RPID(),
		Time: now.Format("2006-01-02T15:04:05.000Z"), Nonce: base64.RawURLEncoding.EncodeToString(raw)}
	text, err := json.Marshal(st)
	if err == nil {
		l.Statement, err = jcs.Transform(text)
	}
	if err != nil {
		return nil, "", fmt.Errorf("enrolment: loss: %w", err)
	}
	return l, st.Nonce, nil
}

// EndLoss checks the card's signature as for a binding and stops, or resumes,
// all of the holder's phones at once.
func (s *Service) EndLoss(ctx context.Context, id uuid.UUID, r CompleteRequest) (*LossOutcome, error) {
	e := audit.New(audit.LossReported).ByBrowser().From(r.From.IP)
	out, err := s.endLoss(ctx, id, r, &e)
	if err != nil {
		return nil, s.refuse(ctx, e, err)
	}
	if s.cfg.Changed != nil {
		s.cfg.Changed()
	}
	return out, nil
}

func (s *Service) endLoss(ctx context.Context, id uuid.UUID, r CompleteRequest, e *audit.Entry) (*LossOutcome, error) {
	l, err := s.cfg.Losses.FindLoss(ctx, id)
	if err != nil {
		return nil, err
	}
	if l.Purpose == UndoLoss {
		e.Act = audit.LossUndone
	}
	now := s.now()
	switch {
	case subtle.ConstantTimeCompare(l.BrowserHash, r.Browser.Hash()) != 1:
		return nil, order.ErrWrongBrowser
	case l.CompletedAt != nil || !now.Before(l.ExpiresAt):
		return nil, ErrLossGone
	}
	fingerprint := sha256.Sum256(l.Certificate)
	ev, err := s.checkCard(ctx, &Enrolment{Certificate: l.Certificate, CertificateFingerprint: fingerprint[:], Statement: l.Statement,
		CardNumber: l.CardNumber}, r, now, forLoss)
	if err != nil {
		return nil, err
	}
	if l.CitizenID, err = s.cfg.Losses.CitizenBySerial(ctx, ev.card.info.SubjectSerial); err != nil {
		return nil, err
	}
	*e = e.Citizen(l.CitizenID)
	end := LossEnd{Loss: l, Code: lossCode(), Proof: ev.proof, Revocation: ev.revocation, At: now, UndoAfter: now.Add(-UndoWindow),
		Audit: e.By(audit.ActorCitizen, l.CitizenID.String()).With(audit.KeyRevocation, ev.card.checked())}
	names, err := s.cfg.Losses.EndLoss(ctx, end)
	if err != nil {
		return nil, err
	}
	return &LossOutcome{Code: end.Code, At: now, Devices: names, Until: now.Add(UndoWindow)}, nil
}

// lossCode is what a person reads to the help desk: eight characters that look
// like no other.
func lossCode() string {
	const letters = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
	raw := make([]byte, 8)
	_, _ = rand.Read(raw)
	for i := range raw {
		raw[i] = letters[int(raw[i])%len(letters)]
	}
	return string(raw[:4]) + "-" + string(raw[4:])
}
