package sigverify

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"sealgate/internal/certpath"
)

// skew is how far a clock may be ahead before it is called wrong.
const skew = 5 * time.Minute

// existence is what is proven to have existed, since when.
type existence struct {
	now time.Time
	at  map[Object]time.Time
}

// of gives the earliest time proven; the time of validation without any.
func (e *existence) of(o Object) time.Time {
	if t, ok := e.at[o]; ok && t.Before(e.now) {
		return t
	}
	return e.now
}

func (e *existence) prove(o Object, t time.Time) {
	if t.Before(e.of(o)) {
		e.at[o] = t
	}
}

// judge holds one verification.
type judge struct {
	signers, authorities *certpath.Validator
	policy               CryptoPolicy
	now                  time.Time
	offline              bool
	pool                 *pool
	poe                  *existence
	proofs               []KnownProof
	extra                []*x509.Certificate
	unanswered           bool // a source could not be reached
}

// collect takes the revocation data of a signature into the pool before anything
// is judged: what one signature carries may settle another's.
func (j *judge) collect(f Found) {
	j.pool.add(FromSignature, f.Evidence...)
	for _, c := range f.Counter {
		j.collect(c)
	}
}

// signature judges one signature (EN 319 102-1 §5.6, of which §5.3 and §5.5 are
// the cases without and with a time-stamp).
func (j *judge) signature(ctx context.Context, f Found) Signature {
	s := Signature{Scope: f.Scope, ClaimedTime: f.ClaimedTime, Level: f.Level, Proofs: []Proof{}, Chain: []Certificate{},
		Revocation: []Revocation{}, Timestamps: []Timestamp{}, Checks: slices.Clone(f.Checks)}
	if f.Digest != 0 {
		s.Algorithms.Digest = hashName(f.Digest)
	}
	s.Algorithms.Signature = f.Scheme
	extra := slices.Concat(f.Certificates, j.extra)
	j.timestamps(ctx, &s, f, extra)
	earliest := j.records(&s, f)
	best := j.poe.of(ObjectOf(f.Value))
	if best.Before(j.now) {
		s.ProvenTime = best
		s.add(CheckProofOfTime, Passed, "", "the signature existed at "+stamp(best))
	} else {
		s.add(CheckProofOfTime, Warning, "", "nothing proves that the signature existed before the time of validation")
	}
	j.claimed(&s, best)
	if f.Certificate == nil {
		for _, name := range []string{CheckChain, CheckValidity, CheckRevocation, CheckConstraints} {
			s.add(name, Skipped, "", "there is no signing certificate to judge")
		}
	} else {
		s.Signer, s.Algorithms.Key = identityOf(f.Certificate), keyName(f.Certificate.PublicKey)
		j.signer(ctx, &s, f, extra, best, earliest)
	}
	s.settle()
	return s
}

// signer judges the signing certificate for the earliest time proven.
func (j *judge) signer(ctx context.Context, s *Signature, f Found, extra []*x509.Certificate, best, earliest time.Time) {
	v := j.certificate(ctx, question{f.Certificate, extra, j.signers, certpath.SigningProfile(), best})
	s.Chain, s.Revocation = v.chain, v.revocation
	// With proof that the signature is younger than the end of its certificate,
	// there is nothing left to find out (§5.1.3, REVOKED and EXPIRED).
	switch {
	case v.sub == RevokedNoPOE && !earliest.IsZero() && earliest.After(v.revokedAt):
		v.sub, v.reason = Revoked, "the signature is proven to be younger than the certificate's revocation"
	case v.sub == OutOfBoundsNoPOE && !earliest.IsZero() && earliest.After(f.Certificate.NotAfter):
		v.sub, v.reason = Expired, "the signature is proven to be younger than the end of its certificate"
	}
	s.addVerdict(v, "at "+stamp(best))
	sub, reason := j.constraints(f, best)
	outcome := Passed
	if sub != "" {
		outcome = Unknown
	} else {
		reason = "good enough at " + stamp(best) + " by " + j.policy.Name
	}
	s.add(CheckConstraints, outcome, sub, reason)
}

// constraints holds digest and key against the policy at a time (§5.2.8).
func (j *judge) constraints(f Found, at time.Time) (SubIndication, string) {
	for _, w := range []*weakness{j.policy.digest(f.Digest, at), j.policy.key(f.Certificate.PublicKey, at)} {
		switch {
		case w == nil:
		case w.never:
			return CryptoConstraintsFailure, w.String()
		default:
			return CryptoConstraintsNoPOE, w.String() + ", and nothing proves that the signature is older"
		}
	}
	return "", ""
}

// records takes what others know about when the signature existed, and gives
// the latest time at which it is proven not to have been there yet.
func (j *judge) records(s *Signature, f Found) (earliest time.Time) {
	for _, p := range j.proofs {
		if p.Of != ObjectOf(f.Value) && p.Of != (Object{}) {
			continue
		}
		if p.Time.After(j.now.Add(skew)) {
			continue
		}
		s.Proofs = append(s.Proofs, Proof{Time: p.Time.UTC(), Source: ProofRecord, NotBefore: p.NotBefore, Note: p.Note})
		if !p.NotBefore {
			j.poe.prove(ObjectOf(f.Value), p.Time)
		}
	}
	slices.SortStableFunc(s.Proofs, func(a, b Proof) int {
		if a.NotBefore != b.NotBefore {
			if b.NotBefore {
				return -1
			}
			return 1
		}
		return a.Time.Compare(b.Time)
	})
	for _, p := range s.Proofs {
		if p.NotBefore && p.Time.After(earliest) {
			earliest = p.Time
		}
	}
	return earliest
}

// claimed compares what the signer says with what is proven.
func (j *judge) claimed(s *Signature, best time.Time) {
	switch {
	case s.ClaimedTime.IsZero():
		s.add(CheckClaimedTime, Skipped, "", "the signer claims no time")
	case s.ClaimedTime.After(best.Add(skew)):
		s.add(CheckClaimedTime, Warning, "", fmt.Sprintf("the signer claims %s, but the signature was there at %s", stamp(s.ClaimedTime), stamp(best)))
	default:
		s.add(CheckClaimedTime, Passed, "", "claimed by the signer, proven by nothing: "+stamp(s.ClaimedTime))
	}
}

func (s *Signature) add(name string, o Outcome, sub SubIndication, reason string) {
	s.Checks = append(s.Checks, Check{name, o, sub, reason})
}

// addVerdict writes the three checks of a certificate.
func (s *Signature) addVerdict(v verdict, good string) {
	s.Checks = append(s.Checks, v.checks(good)...)
}

func (v verdict) checks(good string) []Check {
	var out []Check
	stop := false
	for _, name := range []string{CheckChain, CheckValidity, CheckRevocation} {
		switch {
		case stop:
			out = append(out, Check{Name: name, Outcome: Skipped})
		case v.sub != "" && v.check == name:
			stop = true
			o := Unknown
			if v.sub.total() {
				o = Failed
			}
			out = append(out, Check{name, o, v.sub, v.reason})
		default:
			out = append(out, Check{Name: name, Outcome: Passed, Reason: good})
		}
	}
	return out
}

// settle draws the outcome from the checks: a total failure before anything
// else, then the first that is not settled.
func (s *Signature) settle() {
	s.SubIndication = worst(s.Checks)
	s.Indication = s.SubIndication.indication()
	s.holdLevel()
}

func worst(checks []Check) SubIndication {
	var first SubIndication
	for _, c := range checks {
		if c.Outcome != Failed && c.Outcome != Unknown {
			continue
		}
		sub := c.SubIndication
		if sub == "" { // a check that fails without saying what it means
			sub = SigConstraintsFailure
		}
		if sub.total() {
			return sub
		}
		if first == "" {
			first = sub
		}
	}
	return first
}

// holdLevel lowers the level to what holds: a time-stamp that is wrong proves
// nothing, however well it is placed.
func (s *Signature) holdLevel() {
	good := func(kinds ...string) bool {
		return slices.ContainsFunc(s.Timestamps, func(t Timestamp) bool {
			return t.Indication == TotalPassed && slices.Contains(kinds, t.Kind)
		})
	}
	if s.Level == "LTA" && !good(ProofArchiveTimestamp, ProofDocumentTimestamp) {
		s.Level = "LT"
	}
	if (s.Level == "T" || s.Level == "LT") && !good(ProofSignatureTimestamp, ProofArchiveTimestamp, ProofDocumentTimestamp) {
		s.Level = "B"
	}
}
