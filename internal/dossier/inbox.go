package dossier

import (
	"context"

	"github.com/google/uuid"

	"sealgate/internal/order"
)

// Waiting is a point as its signer or deputy sees it.
type Waiting struct {
	Dossier *Dossier
	Point   *Point
	Deputy  *Deputy // as which the person sees it; nil for the signer
	Client  order.Client
}

// Taken is what became of one point in a person's sign order.
type Taken struct {
	Claim
	Title, Reference string
}

// Limits of what a person is shown at once.
const (
	maxInbox  = 200
	maxSigned = 50
)

// Inbox lists the points that wait for a person, as signer or as deputy today,
// oldest first.
func (s *Service) Inbox(ctx context.Context, citizen uuid.UUID) ([]Waiting, error) {
	refs, err := s.cfg.Store.Inbox(ctx, citizen, s.now(), maxInbox)
	if err != nil {
		return nil, err
	}
	return s.read(ctx, citizen, refs)
}

// Signed lists what a person signed, newest first.
func (s *Service) Signed(ctx context.Context, citizen uuid.UUID) ([]Waiting, error) {
	refs, err := s.cfg.Store.Signed(ctx, citizen, maxSigned)
	if err != nil {
		return nil, err
	}
	return s.read(ctx, citizen, refs)
}

func (s *Service) read(ctx context.Context, citizen uuid.UUID, refs []PointRef) ([]Waiting, error) {
	dossiers := map[ID]*Dossier{}
	out := make([]Waiting, 0, len(refs))
	for _, ref := range refs {
		d := dossiers[ref.Dossier]
		if d == nil {
			var err error
			if d, err = s.cfg.Store.Find(ctx, ref.Dossier); err != nil {
				return nil, err
			}
			dossiers[d.ID] = d
		}
		client, err := s.cfg.Agencies.ByID(ctx, d.ClientID)
		if err != nil {
			return nil, err
		}
		p := d.Point(ref.Point)
		w := Waiting{Dossier: d, Point: p, Client: order.ClientOf(client)}
		if p.Citizen != citizen {
			w.Deputy = p.DeputyOf(citizen)
		}
		out = append(out, w)
	}
	return out, nil
}

// Progress tells what became of the points in a person's own sign order.
func (s *Service) Progress(ctx context.Context, citizen uuid.UUID, id order.ID) ([]Taken, error) {
	claims, err := s.cfg.Claims.Claims(ctx, id.UUID())
	if err != nil {
		return nil, err
	}
	out := make([]Taken, 0, len(claims))
	for _, c := range claims {
		if c.Citizen != citizen {
			return nil, ErrNotFound
		}
		d, err := s.cfg.Store.Find(ctx, c.Dossier)
		if err != nil {
			return nil, err
		}
		out = append(out, Taken{Claim: c, Title: d.Title, Reference: d.Reference})
	}
	return out, nil
}
