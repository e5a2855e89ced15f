package sigverify

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"

	"sealgate/internal/certpath"
	"sealgate/internal/fault"
)

// piece is one revocation answer with where it comes from.
type piece struct {
	certpath.StoredEvidence
	from   string
	object Object
}

// pool is the revocation data at hand in one verification, each piece once.
type pool struct {
	pieces []piece
	seen   map[Object]bool
	left   int // questions that may still be asked
	work   int // octets of answers that may still be read
	asked  map[Object]bool
}

func (p *pool) add(from string, all ...certpath.StoredEvidence) {
	for _, e := range all {
		o := ObjectOf(e.Raw)
		if p.seen[o] || len(e.Raw) == 0 {
			continue
		}
		p.seen[o] = true
		p.pieces = append(p.pieces, piece{e, from, o})
	}
}

func (p *pool) from(o Object) string {
	for _, e := range p.pieces {
		if e.object == o {
			return e.from
		}
	}
	return ""
}

// choose gives what is handed to one judgement: the newest found come first,
// within the bound of package certpath.
func (p *pool) choose(without []Object) []certpath.StoredEvidence {
	var out []certpath.StoredEvidence
	total := 0
	for _, e := range slices.Backward(p.pieces) {
		if total+len(e.Raw) > MaxSignatureBytes || len(out) == maxEvidence || len(e.Raw) > p.work || slices.Contains(without, e.object) {
			continue
		}
		total += len(e.Raw)
		p.work -= len(e.Raw)
		out = append(out, e.StoredEvidence)
	}
	return out
}

// verdict is what was found about one certificate for one time.
type verdict struct {
	sub        SubIndication
	check      string // the check that did not pass
	reason     string
	chain      []Certificate
	revocation []Revocation
	revokedAt  time.Time // of the certificate itself
}

// question is what is asked of one certificate.
type question struct {
	leaf      *x509.Certificate
	extra     []*x509.Certificate
	validator *certpath.Validator
	profile   certpath.Profile
	at        time.Time // for which it is judged
}

// certificate judges a certificate for a time: path, validity, revocation, and
// that each answer used existed while whoever signed it could be relied on.
func (j *judge) certificate(ctx context.Context, q question) verdict {
	q.profile.SignatureAlgorithms = j.policy.algorithms(q.at)
	q.profile.MinRSABits = j.policy.rsaBits(q.at)
	if q.leaf.KeyUsage == 0 { // without the extension a key is for anything (RFC 5280 §4.2.1.3)
		q.profile.KeyUsageAny, q.profile.KeyUsageAll = 0, 0
	}
	q.extra = boundExtra(q.extra)
	j.ask(ctx, q)
	var without []Object
	var first *verdict // before anything was left out
	for range maxRounds {
		if ctx.Err() != nil {
			break
		}
		result, err := q.validator.ValidateWith(ctx, q.leaf, q.extra, q.at, q.profile, j.pool.choose(without))
		v := j.describe(result)
		if err != nil {
			if first != nil && fault.CodeOf(err) == certpath.ErrStatusUnknown.Code {
				break
			}
			j.explain(&v, q, err)
			return v
		}
		bad := j.unproven(result)
		if len(bad) == 0 {
			return v
		}
		if first == nil {
			first = &v
		}
		without = append(without, bad...) // judge again without what cannot be relied on any more
	}
	if first == nil { // nobody waits any more
		return verdict{sub: TryLater, check: CheckRevocation, reason: "not judged to the end", chain: []Certificate{}, revocation: []Revocation{}}
	}
	first.sub, first.check = RevocationOutOfBoundsNoPOE, CheckRevocation
	first.reason = "an answer is signed with a certificate that has ended or was revoked since, and nothing proves that the answer is older"
	return *first
}

// boundExtra keeps to what package certpath takes.
func boundExtra(all []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	seen := map[Object]bool{}
	for _, c := range all {
		if c == nil || seen[ObjectOf(c.Raw)] || len(out) == 64 {
			continue
		}
		seen[ObjectOf(c.Raw)] = true
		out = append(out, c)
	}
	return out
}

// ask brings fresh answers about a path into the pool. What cannot be had is
// noted; whether it matters is decided by what is in the pool.
func (j *judge) ask(ctx context.Context, q question) {
	if j.offline || q.validator.Checker == nil {
		return
	}
	p := q.profile
	p.Revocation = certpath.RevocationNone
	result, _ := q.validator.ValidateWith(ctx, q.leaf, q.extra, q.at, p, nil)
	if result == nil {
		return
	}
	for i, c := range result.Path[:len(result.Path)-1] {
		o := ObjectOf(c.Raw)
		if j.pool.asked[o] || i > 0 && len(c.OCSPServer) == 0 && len(c.CRLDistributionPoints) == 0 {
			continue
		}
		j.pool.asked[o] = true
		if j.pool.left--; j.pool.left < 0 || ctx.Err() != nil {
			return
		}
		ev, err := q.validator.Checker.Check(ctx, c, result.Path[i+1], j.now)
		if ev != nil {
			j.pool.add(FromOnline, certpath.StoredEvidence{Source: ev.Source, URL: ev.URL, Raw: ev.Raw})
		} else if err != nil {
			j.unanswered = true
		}
	}
}

// unproven lists the answers of a result whose signer had ended, or was revoked,
// before they are proven to have existed: they could have been made later with
// that signer's key.
func (j *judge) unproven(r *certpath.Result) []Object {
	var bad []Object
	for _, ev := range r.Revocation {
		signer := ev.Responder
		if signer == nil {
			signer = ev.Issuer
		}
		o := ObjectOf(ev.Raw)
		proven := j.poe.of(o)
		if proven.After(signer.NotAfter) {
			bad = append(bad, o)
			continue
		}
		for _, other := range r.Revocation { // the issuer's own status, later than the time judged for
			if other.Status == certpath.StatusRevoked && other.Certificate.Equal(signer) && !proven.Before(other.RevokedAt) {
				bad = append(bad, o)
			}
		}
	}
	return bad
}

// describe writes a result into a report.
func (j *judge) describe(r *certpath.Result) verdict {
	v := verdict{chain: []Certificate{}, revocation: []Revocation{}}
	if r == nil {
		return v
	}
	for i, c := range r.Path {
		v.chain = append(v.chain, certificateOf(c, i == len(r.Path)-1))
	}
	for _, ev := range r.Revocation {
		o := ObjectOf(ev.Raw)
		line := Revocation{Certificate: fingerprint(ev.Certificate.Raw), Source: ev.Source, From: j.pool.from(o), URL: ev.URL,
			Status: ev.Status.String(), ThisUpdate: ev.ThisUpdate.UTC(), NextUpdate: ev.NextUpdate.UTC(),
			ProvenTime: j.poe.of(o), SHA256: fingerprint(ev.Raw)}
		if ev.NextUpdate.IsZero() {
			line.NextUpdate = time.Time{}
		}
		if ev.Status == certpath.StatusRevoked {
			line.RevokedAt, line.Reason = ev.RevokedAt.UTC(), reasons[ev.Reason]
			if len(r.Path) > 0 && ev.Certificate.Equal(r.Path[0]) {
				v.revokedAt = line.RevokedAt
			}
		}
		v.revocation = append(v.revocation, line)
	}
	return v
}

// explain turns a fault of package certpath into a sub-indication.
func (j *judge) explain(v *verdict, q question, err error) {
	var rule certpath.Rule
	var broken *certpath.Violation
	if errors.As(err, &broken) {
		rule = broken.Rule
	}
	v.check = CheckChain
	switch fault.CodeOf(err) {
	case certpath.ErrRevoked.Code:
		v.check, v.sub, v.reason = CheckRevocation, RevokedNoPOE, "the certificate was revoked before the time it is judged for"
		if v.revokedAt.IsZero() {
			v.sub, v.reason = RevokedCANoPOE, "the certificate of a CA in the path was revoked before the time it is judged for"
		}
	case certpath.ErrExpired.Code:
		v.check, v.sub = CheckValidity, OutOfBoundsNoPOE
		v.reason = "the certificate ended " + stamp(q.leaf.NotAfter) + ", before the time it is judged for"
	case certpath.ErrNotYetValid.Code:
		v.check, v.sub = CheckValidity, NotYetValid
		v.reason = "the signature is proven to be older than the certificate, valid from " + stamp(q.leaf.NotBefore)
	case certpath.ErrStatusUnknown.Code:
		v.check, v.sub, v.reason = CheckRevocation, TryLater, "no answer at hand settles whether the certificate was revoked"
		if j.now.After(q.leaf.NotAfter) {
			v.sub, v.reason = OutOfBoundsNoPOE, "the certificate has ended and no answer from its lifetime is at hand"
		}
	default:
		v.sub, v.reason = j.ofRule(rule, broken, q)
	}
	if len(v.chain) == 0 {
		v.chain = []Certificate{certificateOf(q.leaf, false)}
	}
}

// ofRule tells which sub-indication a broken rule of path validation is.
func (j *judge) ofRule(rule certpath.Rule, broken *certpath.Violation, q question) (SubIndication, string) {
	switch rule {
	case certpath.RulePath:
		return NoCertificateChainFound, "no path leads to a trust anchor"
	case certpath.RuleAlgorithm, certpath.RuleKeyStrength:
		return CryptoConstraintsNoPOE, "a certificate of the path: " + detail(broken)
	case certpath.RuleValidity:
		return OutOfBoundsNoPOE, "a CA certificate of the path was not valid at " + stamp(q.at)
	case certpath.RuleForm:
		return ChainGeneralFailure, "a certificate of the path is malformed"
	case "":
		return ChainGeneralFailure, "the path could not be judged"
	}
	return ChainConstraintsFailure, string(rule) + ": " + detail(broken)
}

// detail is what package certpath found, made safe to print: it may hold what a
// certificate says.
func detail(v *certpath.Violation) string {
	if v == nil || v.Detail == nil {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, v.Detail.Error()[:min(300, len(v.Detail.Error()))])
}

// stamp writes a time into a reason.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
