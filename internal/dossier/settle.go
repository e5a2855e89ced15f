package dossier

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/order"
	"sealgate/internal/signing"
	"sealgate/internal/xmldsig"
)

// Settle does for the dossiers what follows from the end of a sign order: each
// claimed point gets its signature, or is free again. It may be called for any
// order, again, and from several nodes at once.
func (s *Service) Settle(ctx context.Context, id uuid.UUID) error {
	claims, err := s.cfg.Claims.Claims(ctx, id)
	if err != nil {
		return err
	}
	claims = slices.DeleteFunc(claims, func(c Claim) bool { return c.State != ClaimOut })
	if len(claims) == 0 {
		return nil
	}
	o, err := s.cfg.Orders.Find(ctx, order.ID(id))
	switch {
	case errors.Is(err, order.ErrNotFound):
		// Never made: its maker died first. One that is being made is left alone.
		if s.now().Sub(claims[0].MadeAt) < time.Minute {
			return nil
		}
		return s.releaseAll(ctx, claims, ErrOrderEnded.Code)
	case err != nil:
		return err
	case !o.State.Ended():
		return nil
	case o.State != order.Completed:
		return s.releaseAll(ctx, claims, fault.CodeOf(o.State.Fault()))
	}
	made, err := s.cfg.Signing.Signatures(ctx, id)
	if err != nil {
		return err
	}
	signatures := make(map[int]signing.Signature, len(made))
	for _, sig := range made {
		signatures[sig.Document] = sig
	}
	var all error
	for i := range claims {
		// Each is its own; what cannot be done for one is tried again by the job.
		if err := s.attach(ctx, o, &claims[i], signatures); err != nil {
			all = errors.Join(all, fmt.Errorf("dossier %s point %d: %w", claims[i].Dossier, claims[i].Point, err))
		}
	}
	return all
}

// CatchUp settles what a node left behind: work for the leader.
func (s *Service) CatchUp(ctx context.Context) error {
	ids, err := s.cfg.Claims.Unsettled(ctx, s.now(), sweepMost)
	for _, id := range ids {
		err = errors.Join(err, s.Settle(ctx, id))
	}
	return err
}

func (s *Service) releaseAll(ctx context.Context, claims []Claim, code string) error {
	var all error
	for i := range claims {
		all = errors.Join(all, s.release(ctx, &claims[i], ClaimVoid, code))
	}
	return all
}

// release lets a point go from an order that came to nothing for it.
func (s *Service) release(ctx context.Context, c *Claim, state ClaimState, code string) error {
	e := audit.New(audit.DossierReleased).Order(c.Order).Citizen(c.Citizen).With(audit.KeyDossier, c.Dossier.String()).
		WithInt(audit.KeyPoint, c.Point).With(audit.KeyReason, string(state)).Fail(code)
	return s.cfg.Claims.Release(ctx, Release{Claim: c, State: state, Failure: code, Audit: e})
}

// attach puts the signatures of one claim into its dossier.
func (s *Service) attach(ctx context.Context, o *order.Order, c *Claim, signatures map[int]signing.Signature) error {
	for n := c.First; n <= c.Document; n++ {
		if slices.Contains(o.LeftOut, n) {
			return s.release(ctx, c, ClaimLeftOut, ErrLeftOut.Code)
		}
		if code := o.Failures[n]; code != "" {
			return s.release(ctx, c, ClaimVoid, code)
		}
		if _, made := signatures[n]; !made {
			return fmt.Errorf("order %s is completed without the signature of document %d", o.ID, n)
		}
	}
	value := signatures[c.Document]
	certificate, chain, err := s.certificate(ctx, value.Certificate)
	if err != nil {
		return err
	}
	_, err = s.change(ctx, c.Dossier, func(d *Dossier) (Step, error) {
		if err := takes(d, c, o); err != nil {
			return Step{}, err
		}
		tbs, err := rebuilt(d, c, certificate, chain)
		if err != nil {
			return Step{}, err
		}
		if d.SI, err = xmldsig.Attach(tbs.XML, tbs.Point, value.DER); err != nil {
			return Step{}, err
		}
		return s.signed(d, c, o, signatures), nil
	})
	if f := (*fault.Error)(nil); errors.As(err, &f) && f.Kind != fault.Unavailable && f.Kind != fault.Internal && !f.Is(ErrMoved) {
		return s.release(ctx, c, ClaimLost, f.Code)
	}
	return err
}

// takes says whether the point still takes this signature.
func takes(d *Dossier, c *Claim, o *order.Order) error {
	p := d.Point(c.Point)
	switch {
	case d.State != Open:
		return ErrEnded
	case p.State == PointSigned || p.State == PointReturned:
		return ErrPointTaken
	case !p.Waits(), c.Decision == Return && p.State != PointOpen:
		return ErrPointState
	case o.CitizenID == nil || *o.CitizenID != c.Citizen || o.ApprovedAt == nil:
		return ErrSigner
	case !o.ApprovedAt.Before(d.ExpiresAt):
		return ErrEnded
	}
	if q := p.DeputyOf(c.Citizen); c.Deputy && (q == nil || !q.At(*o.ApprovedAt)) {
		return ErrDeputyPeriod
	}
	return nil
}

// signed moves the dossier on by a signed point.
func (s *Service) signed(d *Dossier, c *Claim, o *order.Order, signatures map[int]signing.Signature) Step {
	p := d.Point(c.Point)
	at := *o.ApprovedAt
	p.State, p.SignedBy, p.Deputy, p.Comment, p.SignedAt, p.Order, p.Document, p.Failure =
		PointSigned, &c.Citizen, c.Deputy, c.Comment, &at, &c.Order, &c.Document, ""
	step := Step{Claim: c, Points: []int{p.Number}, Signatures: map[int][]byte{0: signatures[c.Document].DER}}
	if c.Decision == Return {
		p.State = PointReturned
		d.end(Returned, c.Comment, s.now())
		step.Audit = note(audit.DossierReturned, d, p.Number)
		step.Events = []Event{event("returned", d, p.Number)}
	} else {
		for i, n := range p.Files {
			step.Signatures[n] = signatures[c.First+i].DER
		}
		var events []Event
		step.Points, events = s.follow(d, p.Number)
		step.Audit = note(audit.DossierSigned, d, p.Number)
		step.Events = append([]Event{event("point_signed", d, p.Number)}, events...)
	}
	step.Audit = step.Audit.Order(c.Order).ByCitizen(c.Citizen)
	return step
}

// certificate reads the certificate that made a signature.
func (s *Service) certificate(ctx context.Context, id uuid.UUID) (*x509.Certificate, []*x509.Certificate, error) {
	der, err := s.cfg.Claims.Certificate(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	chain, err := s.chain(ctx)
	return certificate, chain, err
}
