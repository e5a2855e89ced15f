package devices

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/certpath"
	"sealgate/internal/citizen"
	"sealgate/internal/fault"
	"sealgate/internal/issuing"
)

// Limits of looking at cards again.
const (
	// sweepAge is how old the last look at a card may be before the sweep looks again.
	sweepAge     = 20 * time.Hour
	sweepBatch   = 200
	sweepWorkers = 4
)

// Card is a citizen certificate that bound devices.
type Card struct {
	ID, CitizenID uuid.UUID
	DER           []byte
	CheckedAt     time.Time
}

// CardEnd is what one transaction writes when a card is found to be good no
// longer: its state, its devices, their certificates, notices and entries.
type CardEnd struct {
	Card   Card
	State  citizen.CertificateState // revoked, expired
	Reason string                   // for the devices
	// Certificates is what happens to the devices' certificates.
	Certificates CertificateAct
	Revocation   int
	At           time.Time
	Audit        audit.Entry
}

// CardStore keeps what is known of cards. Each method is one transaction or one read.
type CardStore interface {
	// Unchecked lists good cards with active devices that were last looked at
	// before a time, the oldest first, after a place in that order.
	Unchecked(ctx context.Context, before time.Time, after Card, limit int) ([]Card, error)
	// Card reads one; citizen.ErrCitizenNotFound.
	Card(ctx context.Context, id uuid.UUID) (Card, error)
	// Checked notes that a card was found good at a time.
	Checked(ctx context.Context, id uuid.UUID, at time.Time) error
	// EndCard does what CardEnd says, once; a card that is not good is left alone.
	EndCard(ctx context.Context, e CardEnd) error
}

// CardsConfig is what looking at cards needs.
type CardsConfig struct {
	Store     CardStore
	Validator *certpath.Validator
	// MaxAge is how old the last look may be when a document is signed; older:
	// the card is looked at first, and no answer means no signature.
	MaxAge time.Duration
	// LoginGrace is the same for logins. It is longer, so that an authority that
	// is down for days does not lock people out of everything.
	LoginGrace time.Duration
	Changed    func() // as in Config
	Log        *slog.Logger
	Now        func() time.Time // nil: time.Now
}

// Cards looks at citizen certificates again after the binding. When one is
// revoked or has ended, its devices stop, with that reason. What they signed
// before stays valid.
type Cards struct {
	cfg CardsConfig
	now func() time.Time
}

// NewCards checks the configuration.
func NewCards(cfg CardsConfig) (*Cards, error) {
	if cfg.Store == nil || cfg.Validator == nil || cfg.Changed == nil || cfg.Log == nil || cfg.MaxAge <= 0 || cfg.LoginGrace < cfg.MaxAge {
		return nil, errors.New("devices: cards need a store, a validator, a log, and a grace that is not shorter than the age for signing")
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	return &Cards{cfg: cfg, now: func() time.Time { return now().UTC().Truncate(time.Microsecond) }}, nil
}

// AtUse decides whether a card may still stand behind an approval: nil,
// citizen.ErrCardRevoked, ErrCardExpired or ErrCardUnknown. What is found is kept.
// Where an operator's allowance let an unknown status pass, it gives the entries
// that the approving transaction must write.
func (c *Cards) AtUse(ctx context.Context, id uuid.UUID, checkedAt, notAfter time.Time, signing bool) ([]audit.Entry, error) {
	age, most, purpose := c.now().Sub(checkedAt), c.cfg.LoginGrace, certpath.ForLogin
	if signing {
		most, purpose = c.cfg.MaxAge, certpath.ForSigning
	}
	if age <= most && c.now().Before(notAfter) {
		return nil, nil
	}
	card, err := c.cfg.Store.Card(ctx, id)
	if err != nil {
		return nil, err
	}
	result, err := c.check(ctx, card, certpath.CitizenProfileFor(purpose))
	if err != nil || len(result.Allowed) == 0 {
		return nil, err
	}
	return citizen.UnknownAllowed(result.Allowed), nil
}

// Look asks for a card's status now, whatever was known, and gives the path with
// the answers: citizen.ErrCardRevoked, ErrCardExpired or ErrCardUnknown. What is
// found is kept. No allowance lets an unknown status pass here.
func (c *Cards) Look(ctx context.Context, id uuid.UUID) (*certpath.Result, error) {
	card, err := c.cfg.Store.Card(ctx, id)
	if err != nil {
		return nil, err
	}
	return c.check(ctx, card, certpath.CitizenProfile())
}

// Sweep looks at every card that was not looked at for most of a day. Cards
// whose status nobody can tell are looked at again the next time.
func (c *Cards) Sweep(ctx context.Context) error {
	var last Card
	var mu sync.Mutex
	unknown, total := 0, 0
	for ctx.Err() == nil {
		batch, err := c.cfg.Store.Unchecked(ctx, c.now().Add(-sweepAge), last, sweepBatch)
		if err != nil || len(batch) == 0 {
			if err == nil && unknown > 0 {
				err = fmt.Errorf("the status of %d of %d cards could not be learnt", unknown, total)
			}
			return err
		}
		last, total = batch[len(batch)-1], total+len(batch)
		work := make(chan Card)
		var all sync.WaitGroup
		for range sweepWorkers {
			all.Go(func() {
				for card := range work {
					if _, err := c.check(ctx, card, certpath.CitizenProfile()); err != nil && !errors.Is(err, citizen.ErrCardRevoked) && !errors.Is(err, citizen.ErrCardExpired) {
						mu.Lock()
						unknown++
						mu.Unlock()
					}
				}
			})
		}
		for _, card := range batch {
			work <- card
		}
		close(work)
		all.Wait()
	}
	return ctx.Err()
}

// check looks at one card now and keeps what is found. A status that stays
// unknown is not kept as a look, whether an allowance let it pass or not.
func (c *Cards) check(ctx context.Context, card Card, profile certpath.Profile) (*certpath.Result, error) {
	now := c.now()
	cert, err := x509.ParseCertificate(card.DER)
	if err != nil {
		return nil, fmt.Errorf("devices: stored card: %w", err)
	}
	if now.After(cert.NotAfter) {
		return nil, c.end(ctx, card, now, citizen.ErrCardExpired)
	}
	result, err := c.cfg.Validator.Validate(ctx, cert, nil, now, profile)
	switch {
	case err == nil && len(result.Allowed) > 0:
		return result, nil
	case err == nil:
		return result, c.cfg.Store.Checked(ctx, card.ID, now)
	case errors.Is(err, certpath.ErrRevoked):
		return nil, c.end(ctx, card, now, err)
	case errors.Is(err, certpath.ErrExpired):
		return nil, c.end(ctx, card, now, citizen.ErrCardExpired)
	}
	c.cfg.Log.WarnContext(ctx, "the status of a citizen card could not be learnt", "card", card.ID, "code", fault.CodeOf(err), "error", err)
	return nil, citizen.ErrCardUnknown.Because(err)
}

// end stops what a card stood behind. A card on hold may become good again, so
// its devices' certificates are only held; those of a revoked card are revoked.
// Those of an expired card have ended with it.
func (c *Cards) end(ctx context.Context, card Card, now time.Time, why error) error {
	e := CardEnd{Card: card, State: citizen.CertificateExpired, Reason: citizen.ReasonCardExpired, At: now,
		Audit: audit.New(audit.CardExpired).Citizen(card.CitizenID)}
	public := citizen.ErrCardExpired
	if errors.Is(why, certpath.ErrRevoked) {
		reason := fault.From(why).Params["reason"]
		e.State, e.Reason, e.Certificates, e.Revocation = citizen.CertificateRevoked, citizen.ReasonCardRevoked, Revoke, issuing.ReasonPrivilegeTaken
		if reason == "certificateHold" {
			e.Certificates = Hold
		}
		e.Audit = audit.New(audit.CardRevoked).Citizen(card.CitizenID).With(audit.KeyReason, reason)
		public = citizen.ErrCardRevoked
	}
	if err := c.cfg.Store.EndCard(ctx, e); err != nil {
		return err
	}
	c.cfg.Changed()
	return public
}
