package sigverify

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/fault"
)

// Config is what verdicts rest on.
type Config struct {
	// Signers judges signing certificates: its trust store has the anchors. With a
	// Checker, revocation sources are asked, unless a request is offline.
	Signers *certpath.Validator
	// Authorities judges time-stamp authorities. Nil: as Signers.
	Authorities *certpath.Validator
	// Policy is DefaultCryptoPolicy where its Name is empty.
	Policy CryptoPolicy
	// Containers are the formats known beside CMS.
	Containers []Container
	// Now is the clock. Nil is time.Now.
	Now func() time.Time
}

// Verifier judges signatures. It is safe for concurrent use.
type Verifier struct{ cfg Config }

// New checks the configuration and makes a Verifier.
func New(cfg Config) (*Verifier, error) {
	if cfg.Signers == nil || cfg.Signers.Store == nil {
		return nil, errors.New("sigverify: no trust store for signers")
	}
	if cfg.Authorities == nil {
		cfg.Authorities = cfg.Signers
	}
	if cfg.Policy.Name == "" {
		cfg.Policy = DefaultCryptoPolicy()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Verifier{cfg}, nil
}

// KnownProof is a time that the caller can answer for: the signature existed at
// Time or, with NotBefore, did not exist yet.
type KnownProof struct {
	// Of is ObjectOf the signature value; the zero Object stands for every
	// signature of the file, which the caller has then known as a whole.
	Of        Object
	Time      time.Time
	NotBefore bool
	Note      string // e.g. "completed in our records"; goes into the report
}

// Request is one question.
type Request struct {
	// Signature is the signature file: CMS in DER, BER or PEM, or what a Container
	// takes. File, with its Size, stands for one that is not in memory.
	Signature []byte
	File      io.ReaderAt
	Size      int64
	// Parts stands for a document that was taken apart where it lies.
	Parts *Parts
	// Content belongs to a detached signature.
	Content Content
	// At is the time to validate for. Zero is now. It is no proof that the
	// signature existed then: with a time in the past, that is assumed.
	At time.Time
	// Certificates help to find signers and paths; they are not trusted.
	Certificates []*x509.Certificate
	// Evidence are revocation answers that did not come with the signature.
	Evidence []certpath.StoredEvidence
	Proofs   []KnownProof
	// Offline asks nobody.
	Offline bool
	// Approval asks about the approval evidence as well.
	Approval *Approval
}

// Verify judges every signature of a file. What is wrong with the signatures is
// in the report; the error is about the request, the reader, or ctx.
func (v *Verifier) Verify(ctx context.Context, r Request) (*Report, error) {
	if len(r.Proofs) > maxProofs || len(r.Evidence) > maxEvidence {
		return nil, ErrRequest.Because(errors.New("too many proofs or answers"))
	}
	now := v.cfg.Now()
	if !r.At.IsZero() {
		now = r.At
	}
	j := &judge{signers: v.cfg.Signers, authorities: v.cfg.Authorities, policy: v.cfg.Policy, now: now.UTC(), offline: r.Offline,
		pool: &pool{seen: map[Object]bool{}, asked: map[Object]bool{}, left: maxQuestions, work: maxWork},
		poe:  &existence{now: now.UTC(), at: map[Object]time.Time{}}, proofs: r.Proofs, extra: r.Certificates}
	report := &Report{Type: Type, ValidationTime: now.UTC().Truncate(time.Second), Signatures: []Signature{}, Checks: []Check{}}
	file, size := r.File, r.Size
	if file == nil {
		file, size = bytes.NewReader(r.Signature), int64(len(r.Signature))
	}
	found, err := v.open(ctx, j, report, file, size, r)
	if err != nil {
		return nil, err
	}
	j.pool.add(FromRequest, r.Evidence...)
	for _, f := range found {
		j.collect(f)
	}
	for _, f := range found {
		j.all(ctx, report, f, nil)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	report.conclude()
	if r.Approval != nil {
		if err := report.approval(ctx, found, *r.Approval); err != nil {
			return nil, err
		}
	}
	return report, nil
}

// all judges a signature and those that countersign it.
func (j *judge) all(ctx context.Context, report *Report, f Found, of *int) {
	if len(report.Signatures) >= maxSignatures || ctx.Err() != nil {
		if len(report.Signatures) == maxSignatures && !slices.ContainsFunc(report.Checks, func(c Check) bool { return c.Name == CheckScope }) {
			report.Checks = append(report.Checks, Check{CheckScope, Unknown, SigConstraintsFailure, "more signatures than are looked at"})
		}
		return
	}
	s := j.signature(ctx, f)
	s.Index, s.CounterOf = len(report.Signatures), of
	report.Signatures = append(report.Signatures, s)
	for _, c := range f.Counter {
		j.all(ctx, report, c, &s.Index)
	}
}

// conclude draws the whole outcome: the worst there is.
func (r *Report) conclude() {
	all := slices.Clone(r.Checks)
	for _, s := range r.Signatures {
		if s.Indication != TotalPassed {
			all = append(all, Check{Outcome: Failed, SubIndication: s.SubIndication})
		}
	}
	r.SubIndication = worst(all)
	if len(r.Signatures) == 0 && r.SubIndication == "" {
		r.SubIndication = NoSignature
	}
	r.Indication = r.SubIndication.indication()
}

// open finds the signatures of a file, whatever its format.
func (v *Verifier) open(ctx context.Context, j *judge, report *Report, file io.ReaderAt, size int64, r Request) ([]Found, error) {
	if r.Parts != nil {
		o, err := r.Parts.open(ctx, report)
		if err != nil {
			return nil, err
		}
		return j.container(ctx, report, o)
	}
	head := make([]byte, min(size, headBytes))
	if _, err := file.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	sums, _, err := Digests(ctx, io.NewSectionReader(file, 0, size), []crypto.Hash{crypto.SHA256}, MaxContentBytes)
	if err != nil {
		return nil, err
	}
	report.Input = Input{Format: "cms", Bytes: size, SHA256: hex.EncodeToString(sums[crypto.SHA256])}
	for _, c := range v.cfg.Containers {
		if !c.Detect(head) {
			continue
		}
		report.Input.Format = c.Name
		o, err := c.Open(ctx, file, size, r.Content)
		if err != nil {
			return nil, report.unreadable(ctx, err)
		}
		return j.container(ctx, report, o)
	}
	sd, err := readFile(file, size)
	if err != nil {
		return nil, report.unreadable(ctx, err)
	}
	return j.cms(ctx, report, sd, r.Content)
}

// unreadable puts what is wrong with a file's form into the report; what is
// wrong with us, or with the time left, is an error.
func (r *Report) unreadable(ctx context.Context, err error) error {
	var f *fault.Error
	if ctx.Err() != nil || !errors.As(err, &f) || f.Kind == fault.Internal || f.Kind == fault.Unavailable {
		return err
	}
	if f.Kind == fault.TooLarge {
		return ErrTooLarge.Because(err)
	}
	r.Checks = append(r.Checks, Check{CheckFormat, Failed, FormatFailure, "the file cannot be read: " + f.Code})
	return nil
}

// container turns what a Container found into signatures of one kind.
func (j *judge) container(ctx context.Context, report *Report, o *Opened) ([]Found, error) {
	j.pool.add(FromSignature, o.Evidence...)
	j.extra = append(slices.Clone(j.extra), o.Certificates...)
	all := slices.Clone(o.Found)
	for _, e := range o.CMS {
		some, err := j.embedded(ctx, e)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	for i := range all { // each token over the file may prove each signature older
		all[i].Tokens = append(all[i].Tokens, o.Tokens...)
		if len(o.Tokens) > 0 && all[i].Level == "B" {
			all[i].Level = "T"
		}
	}
	return all, nil
}
