package signing

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"sealgate/internal/cades"
	"sealgate/internal/cms"
	"sealgate/internal/fault"
	"sealgate/internal/tsp"
)

// Faults of levels above B-B.
var (
	// ErrTimestamps: no time-stamp authority gives time-stamps now. The order waits.
	ErrTimestamps = fault.New(fault.Unavailable, "tsa_unavailable")
	// ErrLevel: signatures of this level cannot be made here, or not in this form.
	ErrLevel = fault.New(fault.Unprocessable, "signing_level")
)

var levels = map[string]cades.Level{"": cades.LevelB, LevelB: cades.LevelB, LevelT: cades.LevelT, LevelLT: cades.LevelLT, LevelLTA: cades.LevelLTA}

// defaultParallel is how many time-stamps one order asks for at a time.
const defaultParallel = 8

// CanMake says whether this service can make signatures of a level in a form: without
// a time-stamp authority there is nothing above B-B, and a PDF keeps what is
// beyond B-T in itself, where only its owner can put it. Bare values have no
// level: whatever the order's is, they are made.
func (s *Service) CanMake(level string, form Form) error {
	l, ok := levels[level]
	switch {
	case !ok:
		return ErrLevel.Because(CheckLevel(level))
	case l == cades.LevelB || !form.Wrapped():
		return nil
	case s.cfg.Sources == nil:
		return ErrLevel.Because(errors.New("no time-stamp authority is configured"))
	case form == FormPAdES && l > cades.LevelT:
		return ErrLevel.Because(errors.New("a PDF's signature goes no further than B-T"))
	}
	return nil
}

// raise brings signatures to the level that was approved, several at a time. No
// key is open and no connection to the database is held meanwhile. What is
// wrong with one document alone is its failure, as in batch.sign; trouble of
// those who are asked outside is everybody's, and ends the work at once.
func (s *Service) raise(ctx context.Context, a Authorization, made []Signature, earlier map[int][]byte) ([]Signature, map[int]string, error) {
	to, ok := levels[a.level]
	if !ok {
		return nil, nil, ErrContent.Because(CheckLevel(a.level))
	}
	joins := map[int][]byte{}
	for _, d := range a.documents {
		if d.Earlier != nil {
			joins[d.Index] = earlier[d.Index]
		}
	}
	if to == cades.LevelB && len(joins) == 0 {
		return made, nil, nil
	}
	failed, err := s.raiseAll(ctx, made, to, joins)
	if err != nil {
		return nil, nil, err
	}
	out := make([]Signature, 0, len(made))
	var failures map[int]string
	for i, sig := range made {
		if its := (documentError{}); errors.As(failed[i], &its) {
			if failures == nil {
				failures = map[int]string{}
			}
			failures[sig.Document] = fault.CodeOf(its.cause)
			continue
		}
		out = append(out, sig)
	}
	return out, failures, nil
}

// raiseAll brings each to the level and joins it to what it joins. failed has what
// is wrong with one document alone; err is everybody's.
func (s *Service) raiseAll(ctx context.Context, made []Signature, to cades.Level, joins map[int][]byte) (failed []error, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	failed = make([]error, len(made))
	one := func(i int) {
		defer func() {
			if v := recover(); v != nil { // not to take the node along
				cancel(fmt.Errorf("signing: panic: %v\n%s", v, debug.Stack()))
			}
		}()
		der, err := s.raiseOne(ctx, made[i], to)
		if before := joins[made[i].Document]; before != nil && err == nil {
			der, err = join(before, der)
		}
		if its := (documentError{}); err != nil && !errors.As(err, &its) {
			cancel(err)
		}
		made[i].DER, failed[i] = der, err
	}
	turns := make(chan struct{}, s.cfg.Parallel)
	var all sync.WaitGroup
	first := true
	for i := range made {
		if !made[i].Form.Wrapped() || ctx.Err() != nil {
			continue
		}
		// One goes ahead: of an authority that was down one question is let through to
		// see whether it is back, and the refusal of the others would end that one.
		if first {
			one(i)
			first = false
			continue
		}
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			one(i)
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return failed, nil
}

func (s *Service) raiseOne(ctx context.Context, sig Signature, to cades.Level) ([]byte, error) {
	if to == cades.LevelB {
		return sig.DER, nil
	}
	if err := s.CanMake(to.String(), sig.Form); err != nil {
		return nil, documentError{err}
	}
	var der []byte
	var err error
	if sig.Form == FormPAdES {
		der, err = s.stamped(ctx, sig.DER)
	} else {
		var src cades.Sources
		if src, err = s.sources(sig.DER); err == nil {
			der, err = cades.Extend(ctx, sig.DER, to, src)
		}
	}
	return der, outside(err)
}

// outside tells whose trouble an error of the way up is: a signature that cannot
// carry what it should is one document's, everything else passes.
func outside(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tsp.ErrUnavailable):
		return ErrTimestamps.Because(err)
	case errors.Is(err, cades.ErrNotPossible), errors.Is(err, cms.ErrMalformed):
		return documentError{err}
	}
	return err
}

// stamped puts a signature-time-stamp on a signature in a PDF, which has no
// signing-time attribute and is therefore no CAdES.
func (s *Service) stamped(ctx context.Context, der []byte) ([]byte, error) {
	sd, err := cms.Parse(der)
	if err != nil {
		return nil, err
	}
	hash, err := sd.Signers[0].Hash()
	if err != nil {
		return nil, err
	}
	imprint := tsp.NewImprint(hash, sd.Signers[0].Signature())
	stamp, err := s.cfg.Sources.Stamp(ctx, imprint)
	if err != nil {
		return nil, err
	}
	edit, err := cms.Edit(der)
	if err != nil {
		return nil, err
	}
	edit.AddUnsigned(0, cms.NewAttribute(cms.OIDTimeStampToken, stamp.Token.Raw))
	return edit.Bytes()
}
