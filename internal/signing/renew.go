package signing

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/cades"
	"sealgate/internal/cms"
	"sealgate/internal/fault"
	"sealgate/internal/tsp"
)

// Due is a stored signature whose archive time-stamp is to be renewed.
type Due struct {
	Order    uuid.UUID
	Document int
	DER      []byte
}

// Renewal is a signature with one archive time-stamp more.
type Renewal struct {
	Due              // as it was read
	Was     [32]byte // SHA-256 of what it was: another node may have been faster
	New     []byte
	RenewAt time.Time // zero: never
	Entry   audit.Entry
}

// Archives keeps archive time-stamps going. Each method is one transaction or read.
type Archives interface {
	// DueRenewals lists signatures whose time has come.
	DueRenewals(ctx context.Context, now time.Time, limit int) ([]Due, error)
	// Renew replaces a signature by its longer self; ErrNotFound when it is no
	// longer what it was.
	Renew(ctx context.Context, r Renewal) error
	// PutOffRenewal notes when to try again.
	PutOffRenewal(ctx context.Context, order uuid.UUID, document int, next time.Time) error
}

// renewalRound bounds one round of the job; renewalPause is between attempts at
// one signature.
const (
	renewalRound = 100
	renewalPause = time.Hour
)

// renewAt tells when a signature is due; zero is never. Halfway to the end of the
// authority's certificate is the earliest, so that a short-lived one does not
// make a signature due again and again. Who is beside us in a file may have no
// archive time-stamp: then it is not renewed.
func (s *Service) renewAt(der []byte, now time.Time) time.Time {
	sd, err := cms.ParseBER(der)
	if err != nil {
		return time.Time{}
	}
	p, err := cades.Protection(sd)
	if err != nil {
		return time.Time{}
	}
	at := p.Until.Add(-s.cfg.RenewBefore)
	if half := now.Add(p.Until.Sub(now) / 2); at.Before(half) {
		at = half
	}
	return at.UTC().Truncate(time.Second)
}

// sources are those for one signature: hashed by what it was made with, the
// only digest of the document that is at hand.
func (s *Service) sources(der []byte) (cades.Sources, error) {
	src := *s.cfg.Sources
	sd, err := cms.ParseBER(der)
	if err == nil && len(sd.Signers) > 0 {
		src.Hash, err = sd.Signers[0].Hash()
	}
	if src.Now == nil {
		src.Now = s.cfg.Now
	}
	return src, err
}

// RenewArchives gives signatures whose time has come a further archive time-stamp.
// Nothing of them is altered. It is work for the leader's job: what cannot be
// done is tried again in an hour. The error is the store's, or that no
// time-stamp authority answers.
func (s *Service) RenewArchives(ctx context.Context) error {
	if s.cfg.Archives == nil || s.cfg.Sources == nil {
		return nil
	}
	for ctx.Err() == nil {
		now := s.cfg.Now().UTC().Truncate(time.Microsecond)
		list, err := s.cfg.Archives.DueRenewals(ctx, now, renewalRound)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, due := range list {
			if err := s.renewArchive(ctx, due, now); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func (s *Service) renewArchive(ctx context.Context, due Due, now time.Time) error {
	src, err := s.sources(due.DER)
	var der []byte
	if err == nil {
		der, err = cades.Renew(ctx, due.DER, src)
	}
	if err == nil {
		entry := audit.New(audit.SignatureRenewed).Order(due.Order).WithInt(audit.KeyDocument, due.Document)
		err = s.cfg.Archives.Renew(ctx, Renewal{Due: due, Was: sha256.Sum256(due.DER), New: der, RenewAt: s.renewAt(der, now), Entry: entry})
		if err == nil || errors.Is(err, ErrNotFound) {
			return nil
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.cfg.Log.ErrorContext(ctx, "an archive time-stamp could not be renewed", "order", due.Order, "document", due.Document, "code", fault.CodeOf(err), "error", err)
	if e := s.cfg.Archives.PutOffRenewal(ctx, due.Order, due.Document, now.Add(renewalPause)); e != nil {
		return e
	}
	if errors.Is(err, tsp.ErrUnavailable) {
		return err
	}
	return nil
}
