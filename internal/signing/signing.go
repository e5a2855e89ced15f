// Package signing makes the signatures that a citizen has approved.
//
// The road from an approval to a signature has one gate:
//
//	evidence ──Authorize──▶ Authorization ──▶ keyring.Permit ──▶ the key
//
// Authorize verifies the kept WebAuthn assertion again, over exactly the
// content and the documents left in, and holds citizen, device, certificate
// and key together; nothing else makes an Authorization. The permit made from
// it lists the very values that the key may sign, and the keyring gives the key
// out only while the stored authorization for those digests is unused.
//
// Service.Complete signs one signature a document, brings it to the level that
// was approved (time-stamps, revocation answers, archive time-stamp: package
// cades) and then, in one transaction, consumes the authorization, stores the signatures and completes
// the order: all of it once, or nothing. Two nodes may do the work at the same
// time; one of them wins and the other throws its own away.
package signing

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"maps"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/cades"
	"sealgate/internal/fault"
	"sealgate/internal/keyring"
)

// Faults of this package.
var (
	// ErrNotFound: no such order or signature.
	ErrNotFound = fault.New(fault.NotFound, "signature_not_found")
	// ErrNotApproved: the order is not waiting for signatures.
	ErrNotApproved = fault.New(fault.Conflict, "signing_not_approved")
	// ErrConsumed: this approval's authorization was used before.
	ErrConsumed = fault.New(fault.Conflict, "signing_consumed")
	// ErrEvidence: the approval does not cover what is to be signed.
	ErrEvidence = fault.New(fault.Forbidden, "signing_evidence")
	// ErrCertificate: the mobile certificate is revoked, held or out of its time.
	ErrCertificate = fault.New(fault.Conflict, "signing_certificate")
	// ErrStopped: the device or the citizen was stopped after the approval.
	ErrStopped = fault.New(fault.Conflict, "signing_stopped")
	// ErrNoneSigned: every document of the order failed by itself.
	ErrNoneSigned = fault.New(fault.Unprocessable, "signing_none")
	// ErrKeyGone: the citizen's key was destroyed.
	ErrKeyGone = fault.New(fault.Gone, "signing_key_gone")
)

// Work is all that is stored about an approved sign order.
type Work struct {
	// State is the order's state, "approved" when there is something to do.
	State    string
	Attempts int
	// Waiting is the fault code of what held the last attempt up; "" for nothing.
	Waiting  string
	Evidence Evidence
	// Active: device and citizen are. Whoever took a phone away from a thief, or
	// froze a citizen, has also stopped what still waits for its signatures.
	Active bool
	// KeyActive: the private key is still there.
	KeyActive bool
	// Consumed: the authorization was used.
	Consumed bool
	// Earlier are the signatures that some of the new ones join, by document.
	Earlier map[int][]byte
}

// Signature is one finished signature.
type Signature struct {
	Document    int // place in the order, from 0
	Form        Form
	DER         []byte    // for the bare forms the value as it is
	Certificate uuid.UUID // the mobile certificate that made it
	CreatedAt   time.Time
	RenewAt     time.Time // of one at B-LTA, when it is stored: when its archive time-stamp is renewed
}

// Completion is what Complete writes.
type Completion struct {
	Order, Certificate uuid.UUID
	Citizen, Device    uuid.UUID
	DigestsHash        [32]byte
	Signatures         []Signature
	// Failures are documents that could not be signed: place to fault code.
	Failures map[int]string
	At       time.Time
	Entry    audit.Entry
}

// Store keeps signatures. Each method is one transaction or one read.
type Store interface {
	// Load reads what is stored about a sign order; ErrNotFound.
	Load(ctx context.Context, order uuid.UUID) (Work, error)
	// Complete consumes the authorization, writes the signatures and completes
	// the order. ErrConsumed when it was used or the order is no longer
	// approved, ErrCertificate when the certificate is no longer good, ErrStopped
	// when the device or the citizen is no longer active.
	Complete(ctx context.Context, c Completion) error
	// Fail ends an approved order for good and makes its authorization
	// useless; ErrNotApproved when it is no longer approved.
	Fail(ctx context.Context, order uuid.UUID, reason string, e audit.Entry) error
	// Postpone notes a failed attempt, when to try again, and for the people who
	// wait the fault code of what held it up; e is written where it is not nil.
	Postpone(ctx context.Context, order uuid.UUID, next time.Time, why string, e *audit.Entry) error
	// Unfinished lists approved sign orders whose time to try has come.
	Unfinished(ctx context.Context, limit int) ([]uuid.UUID, error)
	// Signatures lists an order's signatures by document.
	Signatures(ctx context.Context, order uuid.UUID) ([]Signature, error)
	// Signature reads one; ErrNotFound.
	Signature(ctx context.Context, order uuid.UUID, document int) (Signature, error)
}

// Config is what a Service needs.
type Config struct {
	Store Store
	Keys  *keyring.Keyring
	// Chain gives the certificates that go along with the signer's own: those of
	// the authority that issued it, by the register's name (issuing.ChainOf).
	// Self-signed ones are left out of the signature.
	Chain func(ctx context.Context, authority string) ([]*x509.Certificate, error)
	// Origins and RPID the approval must have been made for.
	Origins []string
	RPID    string
	// Sources are where time-stamps, and answers about certificates to be kept in a
	// signature, come from; nil: only B-B can be made.
	Sources *cades.Sources
	// Parallel is how many time-stamps an order asks for at a time. Zero is 8.
	Parallel int
	// Archives keeps archive time-stamps going, from RenewBefore the end of the newest
	// one's certificate; nil: nobody does.
	Archives    Archives
	RenewBefore time.Duration
	// Evidence gives, for an order, what makes the evidence bundle of each of its
	// documents; nil: none can be put into signatures.
	Evidence func(ctx context.Context, order uuid.UUID) (func(document int) ([]byte, error), error)
	// Changed is told of every order whose state Complete changed; may be nil.
	Changed func(order uuid.UUID)
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now
}

// Service makes signatures. It is safe for concurrent use.
type Service struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Keys == nil || cfg.Chain == nil || cfg.Log == nil || cfg.RPID == "" || len(cfg.Origins) == 0 {
		return nil, errors.New("signing: a part is missing from the configuration")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Changed == nil {
		cfg.Changed = func(uuid.UUID) {}
	}
	if cfg.Parallel <= 0 {
		cfg.Parallel = defaultParallel
	}
	return &Service{cfg: cfg}, nil
}

// Complete makes the signatures of an approved order. It may be called again
// and from several nodes: a completed order is left as it is. What can never
// work fails the order; everything else is noted, returned, and tried again
// through Unfinished.
func (s *Service) Complete(ctx context.Context, order uuid.UUID) error {
	w, err := s.cfg.Store.Load(ctx, order)
	if err != nil {
		return err
	}
	if w.State == "completed" {
		return nil
	}
	if w.State != "approved" {
		return ErrNotApproved
	}
	err = s.complete(ctx, w)
	if errors.Is(err, ErrConsumed) || errors.Is(err, keyring.ErrNotPermitted) {
		if w, err = s.lost(ctx, order, err); err == nil {
			return nil
		}
	}
	switch {
	case err == nil:
		s.cfg.Changed(order)
		return nil
	case permanent(err):
		return s.fail(ctx, w, err)
	case ctx.Err() != nil:
		return err // we are being stopped; another node finds the order
	}
	s.postpone(ctx, w, err)
	return err
}

// postpone notes a failed attempt, and in the audit log what the order waits
// for when that is something new. The page says it too.
func (s *Service) postpone(ctx context.Context, w Work, why error) {
	e, code := w.Evidence, fault.CodeOf(why)
	var entry *audit.Entry
	if code != w.Waiting {
		a := audit.New(audit.OrderWaiting).Order(e.Order).Citizen(e.Citizen).Device(e.Device).Fail(code)
		entry = &a
	}
	if err := s.cfg.Store.Postpone(ctx, e.Order, s.cfg.Now().Add(backoff(w.Attempts)), code, entry); err != nil {
		s.cfg.Log.WarnContext(ctx, "a failed signing attempt could not be noted", "order", e.Order, "error", err)
	}
	s.cfg.Changed(e.Order)
}

func (s *Service) complete(ctx context.Context, w Work) error {
	now := s.cfg.Now().UTC().Truncate(time.Microsecond)
	if w.Consumed {
		return ErrConsumed
	}
	auth, err := s.authorize(w.Evidence, now)
	if err != nil {
		return err
	}
	if !w.Active {
		return ErrStopped
	}
	if !w.KeyActive {
		return ErrKeyGone
	}
	signatures, failures, err := s.sign(ctx, auth, w.Earlier, now)
	if err != nil {
		return err
	}
	signatures, more, err := s.raise(ctx, auth, signatures, w.Earlier)
	if err != nil {
		return err
	}
	if failures == nil {
		failures = map[int]string{}
	}
	maps.Copy(failures, more)
	if len(signatures) == 0 {
		return ErrNoneSigned
	}
	if auth.level == LevelLTA {
		for i := range signatures {
			if signatures[i].Form == FormCMS {
				signatures[i].RenewAt = s.renewAt(signatures[i].DER, now)
			}
		}
	}
	return s.cfg.Store.Complete(ctx, Completion{
		Order: auth.order, Certificate: auth.certificate.ID, Citizen: auth.citizen, Device: auth.device, DigestsHash: auth.digestsHash,
		Signatures: signatures, Failures: failures, At: now,
		Entry: auth.entry(audit.OrderCompleted).WithInt(audit.KeySigned, len(signatures)).WithInt(audit.KeyFailed, len(failures)).
			WithInt(audit.KeyLeftOut, len(w.Evidence.LeftOut)),
	})
}

// lost looks at what became of an order that could not be completed because
// its authorization is not usable: nil when another node has done the work. An
// authorization that is used up while the order still waits cannot come from
// us, who change both together: it is refused for good.
func (s *Service) lost(ctx context.Context, order uuid.UUID, why error) (Work, error) {
	w, err := s.cfg.Store.Load(ctx, order)
	switch {
	case err != nil:
		return w, err
	case w.State == "completed":
		return w, nil
	case w.State != "approved":
		return w, ErrNotApproved
	case w.Consumed:
		return w, ErrEvidence.Because(ErrConsumed)
	}
	return w, why
}

// permanent says that trying again cannot help.
func permanent(err error) bool {
	return errors.Is(err, ErrEvidence) || errors.Is(err, ErrCertificate) || errors.Is(err, ErrStopped) || errors.Is(err, ErrKeyGone) || errors.Is(err, ErrNoneSigned) || errors.Is(err, ErrContent)
}

// fail ends the order. The citizen approved and gets no signature, so the
// audit entry says why, and so does the order's end reason.
func (s *Service) fail(ctx context.Context, w Work, why error) error {
	e := w.Evidence
	entry := audit.New(audit.OrderFailed).Order(e.Order).Citizen(e.Citizen).Device(e.Device).Fail(fault.CodeOf(why))
	if err := s.cfg.Store.Fail(ctx, e.Order, fault.CodeOf(why), entry); err != nil {
		if errors.Is(err, ErrNotApproved) {
			_, err = s.lost(ctx, e.Order, err)
		}
		return err
	}
	s.cfg.Changed(e.Order)
	return why
}

// Waits between attempts: 2 s, doubling to 5 minutes.
const (
	firstWait = 2 * time.Second
	lastWait  = 5 * time.Minute
)

func backoff(attempts int) time.Duration {
	if attempts > 10 {
		return lastWait
	}
	return min(firstWait<<max(attempts, 0), lastWait)
}

// Unfinished lists approved orders that wait for another attempt, or whose node
// went away before the first: work for a job.
func (s *Service) Unfinished(ctx context.Context, limit int) ([]uuid.UUID, error) {
	return s.cfg.Store.Unfinished(ctx, limit)
}

// Signatures lists a completed order's signatures. Whether the caller may have
// them is the caller's question.
func (s *Service) Signatures(ctx context.Context, order uuid.UUID) ([]Signature, error) {
	return s.cfg.Store.Signatures(ctx, order)
}

// Signature reads one document's signature.
func (s *Service) Signature(ctx context.Context, order uuid.UUID, document int) (Signature, error) {
	return s.cfg.Store.Signature(ctx, order, document)
}
