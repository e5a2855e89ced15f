package issuing

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/certpath"
	"sealgate/internal/est"
	"sealgate/internal/fault"
)

// Faults of certificates that another CA issues. What is wrong with a
// certificate itself is ErrProfile, or one of package certpath.
var (
	// ErrRequestUnknown: no request was made for the certificate's key.
	ErrRequestUnknown = fault.New(fault.NotFound, "certificate_request_unknown")
	// ErrRequestDone: the request has ended with another certificate or, where one
	// is asked for or refused, without any.
	ErrRequestDone = fault.New(fault.Conflict, "certificate_request_done")
	// ErrRequestBusy: another node is asking for it right now, or it is not time yet.
	ErrRequestBusy = fault.New(fault.Conflict, "certificate_request_busy")
	// ErrOtherKey: the CA certified another key than it was asked to.
	ErrOtherKey = fault.New(fault.Unprocessable, "certificate_other_key")
	// ErrSeen: this issuer has used the serial number before.
	ErrSeen = fault.New(fault.Conflict, "certificate_seen")
	// errThinking: the CA took the request and has not decided yet.
	errThinking = fault.New(fault.Unavailable, "est_waiting")
)

// OutsidePrefix begins the register's names of other authorities.
const OutsidePrefix = "outside:"

// MaxCertificate bounds a certificate from outside in bytes of DER.
const MaxCertificate = 16 << 10

// Acceptance is what accepting a certificate writes. The store sets the state:
// good for an active device of an active citizen, held for a suspended one,
// revoked for one that was removed meanwhile, or where the request has ended, so
// that the CA hears of it.
type Acceptance struct {
	Request     uuid.UUID
	Certificate Certificate
	// Chain leads from the issuing CA to the anchor, in DER.
	Chain [][]byte
	At    time.Time
	By    audit.Entry // who brought it
}

// OldKeyLife is how long the key of a replaced certificate is kept, so that what
// was approved before is still signed.
const OldKeyLife = time.Hour

// Setback is an attempt that gave no certificate.
type Setback struct {
	Request uuid.UUID
	Code    string
	Next    time.Time
	// Audit is written where a certificate was refused; nil where none came.
	Audit *audit.Entry
}

// RequestStore keeps requests to an outside CA. Each method is one transaction.
type RequestStore interface {
	// Lease gives a waiting request whose time has come to one node and puts the
	// next attempt off until then; ErrRequestBusy, ErrRequestDone.
	Lease(ctx context.Context, id uuid.UUID, now, until time.Time) (Request, error)
	// Due lists waiting requests whose time has come, oldest first.
	Due(ctx context.Context, now time.Time, limit int) ([]uuid.UUID, error)
	// Waiting lists waiting requests after an id, in the order they were made.
	Waiting(ctx context.Context, after uuid.UUID, limit int) ([]Request, error)
	// ByKey finds a request in any state; ErrRequestUnknown.
	ByKey(ctx context.Context, keyHash [32]byte) (Request, error)
	// Accept registers a certificate, with its authority, and ends the request;
	// ErrRequestDone, ErrSeen.
	Accept(ctx context.Context, a Acceptance) error
	// Note writes a setback of a waiting request.
	Note(ctx context.Context, s Setback) error
	// Close ends a waiting request without a certificate; ErrRequestDone.
	Close(ctx context.Context, id uuid.UUID, code string, e audit.Entry) error
	// Chain gives the certificates from an outside authority to its anchor.
	Chain(ctx context.Context, authority string) ([][]byte, error)
}

// OutsideConfig is what an Outside needs.
type OutsideConfig struct {
	Store   RequestStore
	Profile *Profile
	// Anchors that certificates must lead to, and CAs on the way.
	Anchors, Intermediates []*x509.Certificate
	// TextSubject accepts a subject that says the same in other string types, as
	// CAs do that write names anew. Otherwise it is the card's, byte for byte.
	TextSubject bool
	// EST is asked where it is set; otherwise operators carry files.
	EST *est.Client
	Log *slog.Logger
	Now func() time.Time // nil: time.Now
}

// Outside gets mobile certificates from somebody else's CA. It is safe for
// concurrent use, and any number of nodes may work on the same requests.
type Outside struct {
	cfg  OutsideConfig
	path certpath.Validator
	rule certpath.Profile
}

// NewOutside checks the configuration.
func NewOutside(cfg OutsideConfig) (*Outside, error) {
	if cfg.Store == nil || cfg.Profile == nil || cfg.Log == nil {
		return nil, errors.New("issuing: store, profile and log are needed for an outside CA")
	}
	if len(cfg.Anchors) == 0 {
		return nil, errors.New("issuing: an outside CA needs a trust anchor")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	store, err := certpath.NewTrustStore(cfg.Anchors, cfg.Intermediates)
	if err != nil {
		return nil, fmt.Errorf("issuing: outside CA: %w", err)
	}
	rule := certpath.SigningProfile()
	// It was issued a moment ago, and the responder may not know it yet.
	rule.Name, rule.Revocation = "outside-mobile", certpath.RevocationNone
	for _, p := range cfg.Profile.policies {
		_, oid, err := parsePolicy(p.String())
		if err != nil {
			return nil, err
		}
		rule.Policies = append(rule.Policies, oid)
	}
	return &Outside{cfg: cfg, path: certpath.Validator{Store: store}, rule: rule}, nil
}

// leaseFor is how long a node has a request to itself; longer than any exchange.
const leaseFor = 2 * time.Minute

// Due lists requests that wait for an attempt: work for a job. Where operators
// carry files there are none.
func (o *Outside) Due(ctx context.Context, limit int) ([]uuid.UUID, error) {
	if o.cfg.EST == nil {
		return nil, nil
	}
	return o.cfg.Store.Due(ctx, o.cfg.Now(), limit)
}

// Attempt asks the EST server for one certificate. What goes wrong is noted with
// the request, which waits for its next attempt; the error is only that of our
// own database.
func (o *Outside) Attempt(ctx context.Context, id uuid.UUID) error {
	if o.cfg.EST == nil {
		return nil
	}
	now := o.cfg.Now().UTC().Truncate(time.Microsecond)
	r, err := o.cfg.Store.Lease(ctx, id, now, now.Add(leaseFor))
	if errors.Is(err, ErrRequestBusy) || errors.Is(err, ErrRequestDone) {
		return nil // somebody else has it
	}
	if err != nil {
		return err
	}
	if r.DeviceState == "removed" {
		err := o.cfg.Store.Close(ctx, id, EndedDeviceRemoved, o.entry(audit.CertificateRefused, r).Refuse(EndedDeviceRemoved))
		if errors.Is(err, ErrRequestDone) {
			return nil
		}
		return err
	}
	wait, err := o.enrol(ctx, r)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return nil // we are being stopped; the lease ends and another node goes on
	}
	if wait == 0 {
		wait = requestBackoff(r.Attempts)
	}
	o.cfg.Log.WarnContext(ctx, "no mobile certificate from the outside CA yet", "request", id, "attempt", r.Attempts+1, "next", wait.String(), "error", err)
	s := Setback{Request: id, Code: fault.CodeOf(err), Next: o.cfg.Now().UTC().Add(wait)}
	var bad refusal
	if errors.As(err, &bad) {
		e := o.entry(audit.CertificateRefused, r).Refuse(s.Code)
		s.Audit = &e
	}
	return o.cfg.Store.Note(ctx, s)
}

// enrol is one exchange and what follows from it; wait is what the CA asked for.
func (o *Outside) enrol(ctx context.Context, r Request) (wait time.Duration, err error) {
	reply, err := o.cfg.EST.Enrol(ctx, r.DER, r.Renews != uuid.Nil)
	if err != nil {
		return 0, err
	}
	if reply.RetryAfter > 0 {
		return reply.RetryAfter, errThinking
	}
	extra, err := o.cfg.EST.CACertificates(ctx)
	if err != nil {
		return 0, err
	}
	der := reply.Certificates[0].Raw
	for _, c := range reply.Certificates { // the one for our key, if there is any
		if h, err := keyHash(c.PublicKey); err == nil && h == r.KeyHash {
			der = c.Raw
		}
	}
	return 0, o.accept(ctx, r, der, append(extra, reply.Certificates...), audit.New(""))
}

// Accept takes in a certificate that an operator brought; extra may help to
// build its path. One whose request has ended without it is registered as
// revoked, so that its CA hears of it. The same certificate again is no error. With dry it is only
// judged. A refusal is told, and written to the audit log by the caller's name.
func (o *Outside) Accept(ctx context.Context, der []byte, extra []*x509.Certificate, by audit.Entry, dry bool) (Request, error) {
	cert, err := parseOutside(der)
	if err != nil {
		return Request{}, err
	}
	hash, err := keyHash(cert.PublicKey)
	if err != nil {
		return Request{}, ErrProfile.Because(err)
	}
	r, err := o.cfg.Store.ByKey(ctx, hash)
	if err != nil {
		return r, err
	}
	if r.State == RequestIssued && string(r.Certificate) == string(der) {
		return r, nil
	}
	if r.State == RequestIssued {
		return r, ErrRequestDone
	}
	if dry {
		_, _, err := o.check(ctx, r, der, extra)
		return r, err
	}
	err = o.accept(ctx, r, der, extra, by)
	var bad refusal
	if errors.As(err, &bad) {
		e := o.entry(audit.CertificateRefused, r).By(by.ActorKind, by.Actor).Refuse(fault.CodeOf(err))
		if noteErr := o.cfg.Store.Note(ctx, Setback{Request: r.ID, Code: fault.CodeOf(err), Next: o.cfg.Now().UTC(), Audit: &e}); noteErr != nil {
			err = errors.Join(err, noteErr)
		}
	}
	return r, err
}

// accept checks a certificate and registers it.
func (o *Outside) accept(ctx context.Context, r Request, der []byte, extra []*x509.Certificate, by audit.Entry) error {
	cert, path, err := o.check(ctx, r, der, extra)
	if err != nil {
		return refusal{err}
	}
	now := o.cfg.Now().UTC().Truncate(time.Microsecond)
	a := Acceptance{Request: r.ID, At: now, By: by, Certificate: Certificate{
		ID: uuid.Must(uuid.NewV7()), Serial: cert.SerialNumber.Bytes(), CitizenID: r.CitizenID, DeviceID: r.DeviceID, KeyID: r.KeyID,
		Authority: AuthorityOf(path[1]), DER: cert.Raw, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, State: Good, CreatedAt: now}}
	for _, c := range path[1:] {
		a.Chain = append(a.Chain, c.Raw)
	}
	err = o.cfg.Store.Accept(ctx, a)
	switch {
	case errors.Is(err, ErrRequestDone): // by another node, or by hand: with the same certificate?
		now, findErr := o.cfg.Store.ByKey(ctx, r.KeyHash)
		if findErr == nil && string(now.Certificate) == string(der) {
			return nil
		}
		return errors.Join(err, findErr)
	case errors.Is(err, ErrSeen):
		return refusal{err}
	}
	return err
}

// refusal marks an error as a certificate that was looked at and not accepted.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func (o *Outside) entry(act audit.Act, r Request) audit.Entry {
	return audit.New(act).Citizen(r.CitizenID).Device(r.DeviceID).With(audit.KeyKeyID, r.KeyID.String()).WithInt(audit.KeyAttempt, r.Attempts+1)
}

// AuthorityOf names an outside CA in the register: by its name and key, for
// several generations of one CA share a name and count serial numbers apart.
func AuthorityOf(issuer *x509.Certificate) string {
	h := sha256.New()
	h.Write(issuer.RawSubject)
	h.Write(issuer.RawSubjectPublicKeyInfo)
	return OutsidePrefix + hex.EncodeToString(h.Sum(nil)[:16])
}

// Chain is Anchors for package signing, which asks by authority; whatever is
// asked, it is our own.
func (ca *CA) Chain(ctx context.Context, _ string) ([]*x509.Certificate, error) {
	return ca.Anchors(ctx)
}

// ChainOf gives the certificates that go along with one of an authority's: our
// own CA's, or those that were kept when an outside certificate was accepted.
func ChainOf(ctx context.Context, ca *CA, store RequestStore, authority string) ([]*x509.Certificate, error) {
	if !strings.HasPrefix(authority, OutsidePrefix) {
		return ca.Chain(ctx, authority)
	}
	list, err := store.Chain(ctx, authority)
	if err != nil {
		return nil, err
	}
	out := make([]*x509.Certificate, len(list))
	for i, der := range list {
		if out[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("issuing: chain of %s: %w", authority, err)
		}
	}
	return out, nil
}

// Waits between attempts: 2 s, doubling to an hour.
const (
	firstRequestWait = 2 * time.Second
	lastRequestWait  = time.Hour
)

func requestBackoff(attempts int) time.Duration {
	if attempts > 12 {
		return lastRequestWait
	}
	return min(firstRequestWait<<max(attempts, 0), lastRequestWait)
}

// Waiting lists requests for an operator to carry to the CA.
func (o *Outside) Waiting(ctx context.Context, after uuid.UUID, limit int) ([]Request, error) {
	return o.cfg.Store.Waiting(ctx, after, limit)
}
