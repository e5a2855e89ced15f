package sigverify

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/tsp"
)

// opened is a token after its imprint and signature were checked.
type opened struct {
	Token
	stamp  Stamp
	covers []Object
	err    error
}

// timestamps judges the tokens of a signature from the newest to the oldest, so
// that each can rest on what the later ones prove (§5.6.2.3).
func (j *judge) timestamps(ctx context.Context, s *Signature, f Found, extra []*x509.Certificate) {
	if len(f.Tokens) == 0 {
		s.add(CheckTimestamps, Skipped, "", "there is no time-stamp")
		return
	}
	if len(f.Tokens) > maxTokens {
		s.add(CheckTimestamps, Warning, "", fmt.Sprintf("only the first %d of %d time-stamps are looked at", maxTokens, len(f.Tokens)))
		f.Tokens = f.Tokens[:maxTokens]
	}
	var all []opened
	for _, t := range f.Tokens {
		if ctx.Err() != nil {
			return
		}
		o := opened{Token: t}
		if o.stamp, o.covers, o.err = t.Verify(); o.err == nil && (o.stamp.Info == nil || o.stamp.Certificate == nil) {
			o.err = errors.New("not read")
		}
		all = append(all, o)
	}
	slices.SortStableFunc(all, newestFirst)
	bad := 0
	for _, o := range all {
		t := j.timestamp(ctx, o, extra)
		s.Timestamps = append(s.Timestamps, t)
		if t.Indication != TotalPassed {
			bad++
			continue
		}
		index := len(s.Timestamps) - 1
		s.Proofs = append(s.Proofs, Proof{Time: t.Time, Source: t.Kind, NotBefore: t.Kind == ProofContentTimestamp, Timestamp: &index})
		if t.Kind == ProofContentTimestamp {
			continue
		}
		for _, object := range o.covers {
			j.poe.prove(object, t.Time)
		}
	}
	if bad > 0 {
		s.add(CheckTimestamps, Warning, "", fmt.Sprintf("%d of %d time-stamps do not hold and prove nothing", bad, len(all)))
		return
	}
	s.add(CheckTimestamps, Passed, "", fmt.Sprintf("%d time-stamps hold", len(all)))
}

// newestFirst orders what protects before what is protected: archive and
// document time-stamps before others, each kind by time; what cannot be read last.
func newestFirst(a, b opened) int {
	if (a.err == nil) != (b.err == nil) {
		if a.err == nil {
			return -1
		}
		return 1
	}
	if a.err != nil {
		return 0
	}
	if d := rank(a.Kind) - rank(b.Kind); d != 0 {
		return d
	}
	return b.stamp.Info.Time.Compare(a.stamp.Info.Time)
}

func rank(kind string) int {
	switch kind {
	case ProofArchiveTimestamp, ProofDocumentTimestamp:
		return 0
	case ProofSignatureTimestamp:
		return 1
	}
	return 2
}

// timestamp judges one token (EN 319 102-1 §5.4) for the time at which it is
// itself proven to have existed.
func (j *judge) timestamp(ctx context.Context, o opened, extra []*x509.Certificate) Timestamp {
	t := Timestamp{Kind: o.Kind, Chain: []Certificate{}, Revocation: []Revocation{}, Checks: []Check{}}
	add := func(name string, outcome Outcome, sub SubIndication, reason string) {
		t.Checks = append(t.Checks, Check{name, outcome, sub, reason})
	}
	if o.err != nil {
		t.describeUnread(o)
		return t.settled()
	}
	info, cert := o.stamp.Info, o.stamp.Certificate
	t.describe(info, cert)
	add(CheckImprint, Passed, "", "it stamps exactly this")
	add(CheckSignature, Passed, "", "signed by a certificate for time-stamping alone")
	at := j.poe.of(ObjectOf(o.Raw))
	t.JudgedAt = at
	switch {
	case info.Time.After(at.Add(skew)):
		add(CheckValidity, Unknown, TimestampOrderFailure, "it says a time later than "+stamp(at)+", when it is proven to have existed")
	case info.Time.Before(cert.NotBefore):
		add(CheckValidity, Failed, NotYetValid, "it says a time before its authority's certificate was valid")
	default:
		v := j.authority(ctx, o, extra, at)
		t.Chain, t.Revocation = v.chain, v.revocation
		t.Checks = append(t.Checks, v.checks("at "+stamp(at))...)
		for _, w := range []*weakness{j.policy.digest(info.Imprint.Hash, at), j.policy.key(cert.PublicKey, at)} {
			if w != nil {
				add(CheckConstraints, Unknown, CryptoConstraintsNoPOE, w.String())
			}
		}
	}
	return t.settled()
}

func (t Timestamp) settled() Timestamp {
	t.SubIndication = worst(t.Checks)
	t.Indication = t.SubIndication.indication()
	return t
}

// authority judges the certificate of a time-stamp authority. One that was
// revoked because it is no longer used, its key being safe, still speaks for
// the tokens from before (RFC 3161 §4).
func (j *judge) authority(ctx context.Context, o opened, extra []*x509.Certificate, at time.Time) verdict {
	q := question{o.stamp.Certificate, slices.Concat(o.stamp.Extra, extra), j.authorities, certpath.TimestampProfile(), at}
	v := j.certificate(ctx, q)
	if v.sub != RevokedNoPOE || !o.stamp.Info.Time.Before(v.revokedAt) || len(v.revocation) == 0 {
		return v
	}
	switch v.revocation[0].Reason {
	case reasons[3], reasons[4], reasons[5]:
		q.at = o.stamp.Info.Time
		return j.certificate(ctx, q)
	}
	return v
}

func (t *Timestamp) describe(info *tsp.Info, cert *x509.Certificate) {
	t.Time, t.Policy, t.Serial = info.Time.UTC(), info.Policy.String(), info.Serial.Text(16)
	t.Authority = nameOf(cert.Subject.CommonName, cert.Subject.OrganizationalUnit, cert.Subject.Organization)
	t.Imprint = &Digest{hashName(info.Imprint.Hash), hex.EncodeToString(info.Imprint.Digest)}
	if info.Accuracy > 0 {
		t.Accuracy = info.Accuracy.String()
	}
}

// describeUnread tells why a token is of no use, and the time it says, which
// nothing proves, when it can be read.
func (t *Timestamp) describeUnread(o opened) {
	c := Check{CheckImprint, Failed, HashFailure, "it stamps something else"}
	switch {
	case errors.Is(o.err, tsp.ErrMismatch):
	case errors.Is(o.err, tsp.ErrInvalid):
		c = Check{CheckSignature, Failed, SigCryptoFailure, "its signature is wrong, or its certificate is not a time-stamp authority's"}
	case errors.Is(o.err, errOldForm):
		c = Check{CheckFormat, Unknown, SigConstraintsFailure, "an archive time-stamp of before version 3, which is not verified here"}
	case errors.Is(o.err, errNotHere):
		c = Check{CheckImprint, Unknown, SignedDataNotFound, "what it stamps is not at hand"}
	default:
		c = Check{CheckFormat, Failed, FormatFailure, "it cannot be read, or does not cover what it must"}
	}
	t.Checks = append(t.Checks, c)
	if token, err := tsp.ParseToken(o.Raw); err == nil {
		t.Time, t.Policy, t.Serial = token.Info.Time.UTC(), token.Info.Policy.String(), token.Info.Serial.Text(16)
	}
}

// errNotHere: a token whose imprint needs a digest that was not given.
var errNotHere = errors.New("sigverify: the stamped data is not at hand")
