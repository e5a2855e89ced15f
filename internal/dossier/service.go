package dossier

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/order"
	"sealgate/internal/signing"
)

// Step is one change of a dossier, written whole or not at all.
type Step struct {
	// Dossier is as it shall be, but for Version, which is the one that was read.
	Dossier *Dossier
	Points  []int // numbers of the points that change
	// Claim, when not nil, becomes attached; Signatures are the point's, by file,
	// 0 for the value in the SI file.
	Claim      *Claim
	Signatures map[int][]byte
	// Deputy, when not nil, is new at the first of Points.
	Deputy *Deputy
	Audit  audit.Entry
	Events []Event
}

// Release is a claim that came to nothing for its point.
type Release struct {
	Claim   *Claim
	State   ClaimState
	Failure string
	Audit   audit.Entry
}

// Store keeps dossiers. Every method is one transaction or one read.
type Store interface {
	// Create inserts a dossier: ErrExists where its reference and revision are
	// taken, ErrSigner where a citizen is unknown.
	Create(ctx context.Context, d *Dossier, entry audit.Entry, events ...Event) error
	// Find reads one; ErrNotFound.
	Find(ctx context.Context, id ID) (*Dossier, error)
	// List lists a client's dossiers, newest first, older than before; in any
	// state where state is "". Their points and files are left out.
	List(ctx context.Context, client uuid.UUID, state State, before ID, limit int) ([]*Dossier, error)
	// Step writes a change: ErrMoved where the dossier is no longer open at the
	// version that was read, or the claim no longer out; ErrSigner where the new
	// deputy is unknown.
	Step(ctx context.Context, step Step) error
	// Overdue lists open dossiers whose time has run out.
	Overdue(ctx context.Context, now time.Time, limit int) ([]ID, error)
	// Inbox lists points that wait for a person, as signer or as deputy at this
	// time, oldest first; Signed what they signed, newest first.
	Inbox(ctx context.Context, citizen uuid.UUID, now time.Time, limit int) ([]PointRef, error)
	Signed(ctx context.Context, citizen uuid.UUID, limit int) ([]PointRef, error)
	// Signature reads the signature of a point over a file, 0 for the value in
	// the SI file; ErrNotSigned.
	Signature(ctx context.Context, id ID, point, file int) ([]byte, error)
}

// ClaimStore keeps what is out in sign orders.
type ClaimStore interface {
	// Claim writes the claims of one order that is about to be made.
	Claim(ctx context.Context, claims []Claim, entries []audit.Entry) error
	// Claims lists an order's claims, in the order of its documents.
	Claims(ctx context.Context, order uuid.UUID) ([]Claim, error)
	// OfDossier lists a dossier's claims, newest first.
	OfDossier(ctx context.Context, id ID, limit int) ([]Claim, error)
	// Release ends a claim that is out; one that is not is left as it is.
	Release(ctx context.Context, r Release) error
	// Unsettled lists orders that have ended, or are not there, with claims out.
	Unsettled(ctx context.Context, now time.Time, limit int) ([]uuid.UUID, error)
	// Certificates lists the mobile certificates by which a person can sign now,
	// newest first, as DER.
	Certificates(ctx context.Context, citizen uuid.UUID, now time.Time) ([][]byte, error)
	// Certificate reads one by its id, in whatever state.
	Certificate(ctx context.Context, id uuid.UUID) ([]byte, error)
	// Refused writes the audit entry of a step that was not allowed.
	Refused(ctx context.Context, entry audit.Entry) error
}

// Config is everything the service needs; all fields without a note are required.
type Config struct {
	Store    Store
	Claims   ClaimStore
	Orders   *order.Service
	Signing  *signing.Service
	Agencies *agency.Service
	// Chain goes beside the signer's certificate in a point: the issuing CA.
	// Self-signed certificates are left out.
	Chain        func(ctx context.Context) ([]*x509.Certificate, error)
	MaxDocuments int // of one sign order
	Log          *slog.Logger
	Now          func() time.Time // nil for time.Now
}

// Service takes dossiers on their way. It is safe for concurrent use.
type Service struct {
	cfg Config
	now func() time.Time
}

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Claims == nil || cfg.Orders == nil || cfg.Signing == nil || cfg.Agencies == nil || cfg.Chain == nil || cfg.MaxDocuments < 2 || cfg.Log == nil {
		return nil, errors.New("dossier: a part is missing from the configuration")
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	return &Service{cfg: cfg, now: func() time.Time { return now().UTC().Truncate(time.Microsecond) }}, nil
}

// Owned reads a client's own dossier; another's does not exist.
func (s *Service) Owned(ctx context.Context, id ID, client uuid.UUID) (*Dossier, error) {
	d, err := s.cfg.Store.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	if d.ClientID != client {
		return nil, ErrNotFound
	}
	return d, nil
}

// maxPage bounds a page of a list.
const maxPage = 100

// List lists a client's dossiers, newest first, without points and files. The
// zero ID begins; the last one of a page leads to the next.
func (s *Service) List(ctx context.Context, client uuid.UUID, state State, before ID, limit int) ([]*Dossier, error) {
	switch state {
	case "", Open, Completed, Returned, Withdrawn, Expired:
	default:
		return nil, ErrInvalid.With("field", "state")
	}
	if before == (ID{}) {
		for i := range before {
			before[i] = 0xff
		}
	}
	if limit < 1 || limit > maxPage {
		limit = maxPage
	}
	return s.cfg.Store.List(ctx, client, state, before, limit)
}

// Claims lists what was taken of a dossier into sign orders, newest first.
func (s *Service) Claims(ctx context.Context, d *Dossier) ([]Claim, error) {
	return s.cfg.Claims.OfDossier(ctx, d.ID, maxPage)
}

// Signature reads a signed point's signature over a file; file 0 is the value
// that stands in the SI file.
func (s *Service) Signature(ctx context.Context, d *Dossier, point, file int) ([]byte, error) {
	if d.Point(point) == nil || file < 0 || file > len(d.Files) {
		return nil, ErrPointNotFound
	}
	return s.cfg.Store.Signature(ctx, d.ID, point, file)
}

// change reads, changes and writes a dossier until nobody came in between.
// fn may be called several times; an error of its own ends it.
func (s *Service) change(ctx context.Context, id ID, fn func(d *Dossier) (Step, error)) (*Dossier, error) {
	for range tries {
		d, err := s.cfg.Store.Find(ctx, id)
		if err != nil {
			return nil, err
		}
		d.UpdatedAt = s.now()
		step, err := fn(d)
		if err != nil {
			return d, err
		}
		step.Dossier = d
		if err = s.cfg.Store.Step(ctx, step); !errors.Is(err, ErrMoved) {
			return d, err
		}
	}
	return nil, ErrBusy
}

// tries is how often a change is begun again when others change the same dossier.
const tries = 20

// Withdraw ends an open dossier in the name of its client.
func (s *Service) Withdraw(ctx context.Context, id ID, c order.Client, reason string, origin order.Origin) (*Dossier, error) {
	if !line(reason, 0, maxReason) {
		return nil, ErrReason
	}
	return s.change(ctx, id, func(d *Dossier) (Step, error) {
		if d.ClientID != c.ID {
			return Step{}, ErrNotFound
		}
		if d.StateAt(s.now()) != Open {
			return Step{}, ErrEnded
		}
		d.end(Withdrawn, reason, s.now())
		return Step{Audit: from(note(audit.DossierWithdrawn, d, 0).By(audit.ActorClient, c.ClientID), origin), Events: []Event{event("withdrawn", d, 0)}}, nil
	})
}

// Later passes an open point, to be signed later (待補簽).
func (s *Service) Later(ctx context.Context, id ID, number int, c order.Client, reason string, origin order.Origin) (*Dossier, error) {
	if !line(reason, 1, maxReason) {
		return nil, ErrReason
	}
	return s.change(ctx, id, func(d *Dossier) (Step, error) {
		if d.ClientID != c.ID {
			return Step{}, ErrNotFound
		}
		p := d.Point(number)
		switch {
		case p == nil:
			return Step{}, ErrPointNotFound
		case d.StateAt(s.now()) != Open:
			return Step{}, ErrEnded
		case p.State != PointOpen:
			return Step{}, ErrPointState
		}
		p.State, p.LaterReason = PointLater, reason
		changed, events := s.follow(d, number)
		return Step{Points: changed, Events: append([]Event{event("point_later", d, number)}, events...),
			Audit: from(note(audit.DossierLater, d, number).By(audit.ActorClient, c.ClientID), origin)}, nil
	})
}

// Depute names one more deputy of a point that is not signed yet. A deputyship
// is never changed: what is signed under it states its reason.
func (s *Service) Depute(ctx context.Context, id ID, number int, c order.Client, deputy Deputy, origin order.Origin) (*Dossier, error) {
	return s.change(ctx, id, func(d *Dossier) (Step, error) {
		if d.ClientID != c.ID {
			return Step{}, ErrNotFound
		}
		p := d.Point(number)
		switch {
		case p == nil:
			return Step{}, ErrPointNotFound
		case d.StateAt(s.now()) != Open:
			return Step{}, ErrEnded
		case p.State == PointSigned || p.State == PointReturned:
			return Step{}, ErrPointTaken
		case len(p.Deputies) >= maxDeputies:
			return Step{}, ErrTooMany
		}
		// Those who are there were checked when they came; their periods may be over.
		one := Point{Citizen: p.Citizen, Deputies: []Deputy{deputy}}
		if err := checkDeputies(&one, s.now()); err != nil {
			return Step{}, err
		}
		if p.DeputyOf(deputy.Citizen) != nil {
			return Step{}, ErrInvalid.With("field", "deputies")
		}
		p.Deputies = append(p.Deputies, one.Deputies[0])
		return Step{Points: []int{number}, Deputy: &one.Deputies[0],
			Audit: from(note(audit.DossierDeputed, d, number).By(audit.ActorClient, c.ClientID).Citizen(deputy.Citizen), origin)}, nil
	})
}

// follow moves the dossier on after a change of one point: which points are to
// be written, and what else is to be told.
func (s *Service) follow(d *Dossier, number int) (changed []int, events []Event) {
	opened := d.advance(s.now())
	if len(opened) > 0 {
		e := event("stage_opened", d, 0)
		e.Data["stage"] = d.Stage
		events = append(events, e)
	}
	if d.State == Completed {
		events = append(events, event("completed", d, 0))
	}
	return append([]int{number}, opened...), events
}

func (s *Service) expire(ctx context.Context, d *Dossier) error {
	d.end(Expired, "", s.now())
	d.UpdatedAt = s.now()
	return s.cfg.Store.Step(ctx, Step{Dossier: d, Audit: note(audit.DossierExpired, d, 0), Events: []Event{event("expired", d, 0)}})
}

// Sweep marks what has run out: work for the leader. Such dossiers count as
// expired already.
func (s *Service) Sweep(ctx context.Context) error {
	ids, err := s.cfg.Store.Overdue(ctx, s.now(), sweepMost)
	for _, id := range ids {
		d, findErr := s.cfg.Store.Find(ctx, id)
		if findErr != nil {
			return findErr
		}
		if stepErr := s.expire(ctx, d); stepErr != nil && !errors.Is(stepErr, ErrMoved) {
			return stepErr
		}
	}
	return err
}

// sweepMost bounds one round of a job.
const sweepMost = 500

// refuse records that a person's step was not allowed, and gives the error back.
func (s *Service) refuse(ctx context.Context, e audit.Entry, err error) error {
	f := fault.From(err)
	if f.Kind == fault.Internal || f.Kind == fault.Unavailable {
		return err
	}
	if writeErr := s.cfg.Claims.Refused(ctx, e.Refuse(f.Code)); writeErr != nil {
		s.cfg.Log.ErrorContext(ctx, "audit entry of a refusal was not written", "code", f.Code, "error", writeErr)
	}
	return err
}
