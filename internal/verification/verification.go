// Package verification lets anybody have signatures judged, at a bounded cost: so
// many at a time on a node, each for a bounded time. It adds to package sigverify
// what only this service knows: which signatures are its own and when they were
// completed, which is proof of their existence; and it signs reports.
package verification

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"log/slog"
	"time"

	"sealgate/internal/cms"
	"sealgate/internal/fault"
	"sealgate/internal/sigverify"
)

// Faults of this package.
var (
	// ErrBusy: this node verifies as much as it may; later it goes.
	ErrBusy = fault.New(fault.Unavailable, "verify_busy")
	// ErrTime: a verification took longer than it may.
	ErrTime = fault.New(fault.Unavailable, "verify_time")
)

// retryAfter is what a caller is told who came when everything was busy.
const retryAfter = 5 * time.Second

// Record is one signature of the service's own.
type Record struct {
	SHA256 [sha256.Size]byte // of the whole signature as it was handed out
	At     time.Time         // when it was stored
}

// Config is what the service stands on.
type Config struct {
	Verifier *sigverify.Verifier
	// Own finds which of these are signatures that this service made; optional.
	Own func(ctx context.Context, sums [][sha256.Size]byte) ([]Record, error)
	// CardAnchors and ServiceAnchors are roots for the approval's evidence.
	CardAnchors, ServiceAnchors []*x509.Certificate
	// Signer signs reports; optional.
	Signer func(ctx context.Context) (cms.Signer, error)
	// Slots is how many are verified at a time; Wait how long one waits for a
	// slot; Time how long one may take.
	Slots      int
	Wait, Time time.Duration
	Log        *slog.Logger
}

// Service is safe for concurrent use.
type Service struct {
	cfg   Config
	slots chan struct{}
}

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Verifier == nil || cfg.Log == nil || cfg.Slots < 1 || cfg.Wait <= 0 || cfg.Time <= 0 {
		return nil, errors.New("verification: verifier, log, slots and times are needed")
	}
	return &Service{cfg, make(chan struct{}, cfg.Slots)}, nil
}

// bounded runs work in a slot and within the time.
func (s *Service) bounded(ctx context.Context, work func(context.Context) error) error {
	wait := time.NewTimer(s.cfg.Wait)
	defer wait.Stop()
	select {
	case s.slots <- struct{}{}:
	case <-wait.C:
		busy := *ErrBusy
		busy.RetryAfter = retryAfter
		return &busy
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.slots }()
	limited, cancel := context.WithTimeout(ctx, s.cfg.Time)
	defer cancel()
	err := work(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return ErrTime.Because(err)
	}
	return err
}

// Ask tells what a verification will need beside the signature.
func (s *Service) Ask(ctx context.Context, r sigverify.Request) (wants sigverify.Wants, err error) {
	err = s.bounded(ctx, func(ctx context.Context) error {
		wants, err = s.cfg.Verifier.Ask(ctx, r)
		return err
	})
	return wants, err
}

// Verify judges. bundle is approval evidence brought beside the signature, or nil.
func (s *Service) Verify(ctx context.Context, r sigverify.Request, bundle []byte) (report *sigverify.Report, err error) {
	err = s.bounded(ctx, func(ctx context.Context) error {
		r.Proofs = s.proofs(ctx, r)
		r.Approval = &sigverify.Approval{Bundle: bundle, CardAnchors: s.cfg.CardAnchors, ServiceAnchors: s.cfg.ServiceAnchors}
		report, err = s.cfg.Verifier.Verify(ctx, r)
		return err
	})
	return report, err
}

// recordNote stands in the report beside a proof of ours.
const recordNote = "this service made the signature and stored it then"

// proofs are the times at which this service has itself stored what is asked
// about. When that cannot be learnt there is none, and the verdict says so.
func (s *Service) proofs(ctx context.Context, r sigverify.Request) []sigverify.KnownProof {
	if s.cfg.Own == nil {
		return nil
	}
	files := [][]byte{r.Signature}
	if r.Parts != nil {
		files = nil
		for _, p := range r.Parts.Signatures {
			files = append(files, p.CMS)
		}
	}
	sums := make([][sha256.Size]byte, len(files))
	for i, f := range files {
		sums[i] = sha256.Sum256(f)
	}
	records, err := s.cfg.Own(ctx, sums)
	if err != nil {
		s.cfg.Log.ErrorContext(ctx, "our own record of signatures could not be read for a verification", "error", err)
		return nil
	}
	var out []sigverify.KnownProof
	for _, record := range records {
		for i, sum := range sums {
			if sum != record.SHA256 {
				continue
			}
			sd, err := cms.Parse(files[i])
			if err != nil { // what we store is DER
				continue
			}
			for _, si := range sd.Signers {
				out = append(out, sigverify.KnownProof{Of: sigverify.ObjectOf(si.Signature()), Time: record.At, Note: recordNote})
			}
		}
	}
	return out[:min(len(out), maxProofs)]
}

// maxProofs is what package sigverify takes.
const maxProofs = 64

// Sign makes the signed report: an attached CMS over its JSON.
func (s *Service) Sign(ctx context.Context, report *sigverify.Report, at time.Time) (signed []byte, err error) {
	if s.cfg.Signer == nil {
		return nil, fault.New(fault.Unavailable, "authority_missing")
	}
	err = s.bounded(ctx, func(ctx context.Context) error {
		signer, err := s.cfg.Signer(ctx)
		if err != nil {
			return err
		}
		signed, err = report.Sign(rand.Reader, signer, cms.Options{SigningTime: at})
		return err
	})
	return signed, err
}
