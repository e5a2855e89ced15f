package certpath

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"sealgate/internal/fault"
)

// Bounds on stored evidence for one validation.
const (
	maxStored      = 64
	maxStoredBytes = 64 << 20
	// maxLooks bounds how often a piece of evidence is looked at, which may cost
	// a signature: each answer can ask for the status of who signed it.
	maxLooks = 1024
	// maxSigners bounds the search for other keys that may have signed a list.
	maxSigners = 32
)

var errTooMuch = errors.New("too much evidence that leads nowhere")

// StoredEvidence is a revocation answer kept from another time: an OCSPResponse
// or a CertificateList in DER. It needs no trust, it is verified again.
type StoredEvidence struct {
	Source string // SourceOCSP or SourceCRL
	URL    string // where it came from, for reports
	Raw    []byte
}

// ValidateWith is Validate with stored revocation evidence in place of live
// sources: nothing is fetched, so the same input gives the same verdict years
// later. It serves the verification of old signatures (ETSI EN 319 102-1 §5.2.6).
//
// Evidence settles the status at the time at when it was current then
// (thisUpdate ≤ at ≤ nextUpdate), or was issued later, while the certificate had
// not yet expired, and so would name an earlier revocation. Whoever signed it is
// judged at the time of the answer. A revocation up to at counts whenever it
// was reported. That evidence existed at its own time, and was not made later
// with a stolen key of a responder, is for time stamps to prove, not for this
// function. Evidence that cannot be read or verified is passed over.
func (v *Validator) ValidateWith(ctx context.Context, leaf *x509.Certificate, extra []*x509.Certificate, at time.Time, p Profile, evidence []StoredEvidence) (*Result, error) {
	a, err := newArchive(v, extra, p, evidence)
	if err != nil {
		return nil, err
	}
	return v.validate(ctx, leaf, extra, at, p, func(_ context.Context, r *Result, i int) (*Evidence, error) {
		return a.check(r.Path, i, at, 0)
	})
}

// archive is the evidence of one validation, read once.
type archive struct {
	v         *Validator
	p         Profile
	extra     []*x509.Certificate
	now       time.Time
	skew      time.Duration
	maxAge    time.Duration
	lists     []storedCRL
	responses []storedOCSP
	unread    []error
	looks     int // left
	signers   int // left
}

type storedCRL struct {
	*CRL
	url string
}

type storedOCSP struct {
	*OCSPResponse
	url string
}

func newArchive(v *Validator, extra []*x509.Certificate, p Profile, evidence []StoredEvidence) (*archive, error) {
	a := &archive{v: v, p: p, extra: extra, now: time.Now(), skew: 5 * time.Minute, maxAge: 10 * time.Minute, looks: maxLooks, signers: maxSigners}
	if v.Checker != nil {
		a.now, a.skew = v.Checker.cfg.Now(), v.Checker.cfg.Skew
	}
	total := 0
	for _, e := range evidence {
		total += len(e.Raw)
	}
	if len(evidence) > maxStored || total > maxStoredBytes {
		return nil, broken(ErrMalformed, RuleForm, nil, "%d pieces of evidence, %d bytes", len(evidence), total)
	}
	for _, e := range evidence {
		var err error
		switch e.Source {
		case SourceCRL:
			var c *CRL
			if c, err = ParseCRL(e.Raw); err == nil {
				a.lists = append(a.lists, storedCRL{c, e.URL})
			}
		case SourceOCSP:
			var r *OCSPResponse
			if r, err = ParseOCSPResponse(e.Raw); err == nil {
				a.responses = append(a.responses, storedOCSP{r, e.URL})
			}
		default:
			err = fmt.Errorf("evidence of kind %q", e.Source)
		}
		if err != nil {
			a.unread = append(a.unread, err)
		}
	}
	return a, nil
}

// maxSignerDepth bounds the search for who signed a list: the path of a list's
// signer needs lists of its own.
const maxSignerDepth = 2

// check finds the status of certificate i of path at the time at.
func (a *archive) check(path []*x509.Certificate, i int, at time.Time, depth int) (*Evidence, error) {
	cert, issuer := path[i], path[i+1]
	reasons := append([]error(nil), a.unread...)
	var best *Evidence
	take := func(ev *Evidence) error {
		if ev.Status == StatusRevoked && !ev.RevokedAt.After(at) {
			return revokedFault(ev)
		}
		if err := a.settles(ev, at); err != nil {
			reasons = append(reasons, err)
			return nil
		}
		if best == nil || ev.ThisUpdate.After(best.ThisUpdate) {
			best = ev
		}
		return nil
	}
	for _, r := range a.responses {
		ev, err := a.answer(r, path, i, depth)
		if err != nil {
			reasons = append(reasons, err)
			continue
		}
		if err := take(ev); err != nil {
			return ev, err
		}
	}
	var covered reasonSet
	var last *Evidence
	for _, l := range a.lists {
		ev, set, err := a.entry(l, path, i, at, depth)
		if err != nil {
			reasons = append(reasons, err)
			continue
		}
		if ev.Status == StatusRevoked && !ev.RevokedAt.After(at) {
			return ev, revokedFault(ev)
		}
		if err := a.settles(ev, at); err != nil {
			reasons = append(reasons, err)
			continue
		}
		covered |= set
		if last == nil || ev.ThisUpdate.After(last.ThisUpdate) {
			last = ev
		}
	}
	if covered == allReasons { // lists for some reasons add up (RFC 5280 §6.3.3 (e))
		_ = take(last)
	}
	if best == nil {
		return nil, ErrStatusUnknown.Because(&Violation{RuleRevocation, cert, fmt.Errorf("no stored evidence of %s settles it: %w", issuer.Subject, errors.Join(reasons...))})
	}
	return best, nil
}

// settles tells whether an authentic answer other than "revoked before" decides
// the status at the time at.
func (a *archive) settles(ev *Evidence, at time.Time) error {
	switch {
	case ev.Status == StatusUnknown:
		return errors.New("the responder does not know the certificate")
	case ev.ThisUpdate.After(a.now.Add(a.skew)):
		return errors.New("the answer is of a time to come")
	case ev.ThisUpdate.After(ev.Certificate.NotAfter) && ev.Status != StatusRevoked:
		return errors.New("the answer was given after the certificate expired")
	case !at.After(ev.ThisUpdate):
		return nil
	case ev.NextUpdate.IsZero() && at.After(ev.ThisUpdate.Add(a.maxAge)), !ev.NextUpdate.IsZero() && at.After(ev.NextUpdate):
		return fmt.Errorf("the answer of %s was no longer current", ev.ThisUpdate.Format(time.RFC3339))
	}
	return nil
}

// answer reads an OCSP response about certificate i.
func (a *archive) answer(r storedOCSP, path []*x509.Certificate, i, depth int) (*Evidence, error) {
	cert, issuer := path[i], path[i+1]
	if a.looks--; a.looks < 0 {
		return nil, errTooMuch
	}
	responder, err := r.responder(issuer, r.ProducedAt, a.p.algorithms(), func(c *x509.Certificate) error {
		if depth >= maxSignerDepth {
			return errors.New("too deep")
		}
		_, err := a.check(append([]*x509.Certificate{c}, path[i+1:]...), 0, r.ProducedAt, depth+1)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r.about(cert, issuer, responder, r.url)
}

// about finds the part of a response that speaks of cert.
func (r *OCSPResponse) about(cert, issuer, responder *x509.Certificate, url string) (*Evidence, error) {
	for _, s := range r.Statuses {
		want, err := NewCertID(cert, issuer, s.ID.Hash)
		if err != nil || !want.Equal(s.ID) {
			continue
		}
		if !s.NextUpdate.IsZero() && s.NextUpdate.Before(s.ThisUpdate) {
			return nil, errors.New("nextUpdate lies before thisUpdate")
		}
		return &Evidence{Certificate: cert, Issuer: issuer, Source: SourceOCSP, URL: url, Raw: r.Raw,
			Status: s.Status, RevokedAt: s.RevokedAt, Reason: s.Reason,
			ThisUpdate: s.ThisUpdate, NextUpdate: s.NextUpdate, Responder: responder}, nil
	}
	return nil, errors.New("the response is about another certificate")
}

// entry reads a list about certificate i.
func (a *archive) entry(l storedCRL, path []*x509.Certificate, i int, at time.Time, depth int) (*Evidence, reasonSet, error) {
	cert, issuer := path[i], path[i+1]
	if a.looks--; a.looks < 0 {
		return nil, 0, errTooMuch
	}
	if !sameName(l.rawIssuer, issuer.RawSubject) {
		return nil, 0, errors.New("a list of another issuer")
	}
	set, err := l.covered(cert)
	if err != nil {
		return nil, 0, err
	}
	if l.NextUpdate.Before(l.ThisUpdate) {
		return nil, 0, errors.New("nextUpdate lies before thisUpdate")
	}
	if err := a.signed(l, path[i+1:], depth); err != nil {
		return nil, 0, err
	}
	ev := l.about(cert, issuer, l.url)
	for _, delta := range a.lists {
		if !delta.continues(l.CRL) || a.signed(delta, path[i+1:], depth) != nil {
			continue
		}
		update := delta.about(cert, issuer, delta.url)
		switch {
		case update.Status != StatusRevoked: // silent about this certificate
		case update.Reason != reasonRemoveFromCRL:
			ev = update
		case a.settles(update, at) == nil:
			update.Status, update.RevokedAt = StatusGood, time.Time{}
			ev = update
		}
	}
	return ev, set, nil
}

// reasonRemoveFromCRL in a delta takes an entry of the complete list back.
const reasonRemoveFromCRL = 8

// about is what a list says of a certificate that it covers.
func (c *CRL) about(cert, issuer *x509.Certificate, url string) *Evidence {
	ev := &Evidence{Certificate: cert, Issuer: issuer, Source: SourceCRL, URL: url, Raw: c.Raw,
		Status: StatusGood, ThisUpdate: c.ThisUpdate, NextUpdate: c.NextUpdate}
	if at, reason, revoked := c.Lookup(cert.SerialNumber); revoked {
		ev.Status, ev.RevokedAt, ev.Reason = StatusRevoked, at, reason
	}
	return ev
}

// signed verifies a list by the issuer's key or by another key of the same name
// whose certificate leads to the same anchor (RFC 5280 §6.3.3 (f)): a CA may
// sign lists with a key of their own, or with its next one.
func (a *archive) signed(l storedCRL, issuers []*x509.Certificate, depth int) error {
	err := l.verify(issuers[0], a.p.algorithms())
	if err == nil || depth >= maxSignerDepth {
		return err
	}
	anchor := issuers[len(issuers)-1]
	for _, c := range a.candidates() {
		if bytes.Equal(c.Raw, issuers[0].Raw) || !sameName(l.rawIssuer, c.RawSubject) {
			continue
		}
		if a.signers--; a.signers < 0 {
			return errTooMuch
		}
		if l.verify(c, a.p.algorithms()) != nil {
			continue
		}
		p := a.p
		p.Name, p.AllowCA, p.KeyUsageAll, p.KeyUsageAny, p.ExtKeyUsages = a.p.Name+" list signer", true, x509.KeyUsageCRLSign, 0, nil
		p.Policies, p.ExplicitPolicy, p.Revocation = nil, false, RevocationAll
		r, bad := a.v.validate(context.Background(), c, a.extra, l.ThisUpdate, p, func(_ context.Context, r *Result, i int) (*Evidence, error) {
			return a.check(r.Path, i, l.ThisUpdate, depth+1)
		})
		if bad == nil && bytes.Equal(r.Anchor.Raw, anchor.Raw) {
			return nil
		}
		err = errors.Join(err, bad)
	}
	return err
}

// candidates are the certificates at hand that may have signed a list.
func (a *archive) candidates() []*x509.Certificate {
	var out []*x509.Certificate
	for _, list := range a.v.Store.bySubject {
		for _, m := range list {
			if !a.v.Store.isAnchor(m) {
				out = append(out, m.cert)
			}
		}
	}
	if a.p.ConfiguredIssuersOnly {
		return out
	}
	for _, c := range a.extra {
		if c != nil && len(c.Raw) <= maxCertBytes {
			out = append(out, c)
		}
	}
	return out
}

// revokedCode tells a revocation of the certificate asked about from one that is
// only among the causes, such as a responder's.
func revokedCode(err error) bool { return fault.CodeOf(err) == ErrRevoked.Code }
