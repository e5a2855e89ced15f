package certpath

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	"sealgate/internal/fault"
)

// Bounds on what others send.
const (
	maxExtra       = 64
	maxCertBytes   = 64 << 10
	defaultMaxPath = 6
	defaultRSABits = 2048
)

// Validator judges certificates against one trust store. Checker may be nil when
// every profile used has RevocationNone.
type Validator struct {
	Store   *TrustStore
	Checker *Checker
}

// Result is what was found, kept as evidence.
type Result struct {
	At         time.Time
	Profile    string
	Path       []*x509.Certificate // end certificate first, anchor last
	Anchor     *x509.Certificate
	Policies   []string   // object identifiers the path is valid for, in the anchor's terms; nil when any, or none asked for
	Revocation []Evidence // end certificate first
	// Allowed are the certificates whose status nobody knew, which an operator's
	// allowance let pass (CheckerConfig.AllowUnknown). They have no Evidence.
	Allowed []Allowed
}

// Validate builds a path from leaf to an anchor, valid at the time at, and checks
// it against the profile and for revocation. extra are certificates that may help
// to build the path; they are not trusted.
//
// With an error the Result is not nil when a path was found: it then holds the
// evidence seen so far, e.g. the answer that says "revoked".
func (v *Validator) Validate(ctx context.Context, leaf *x509.Certificate, extra []*x509.Certificate, at time.Time, p Profile) (*Result, error) {
	return v.validate(ctx, leaf, extra, at, p, func(ctx context.Context, r *Result, i int) (*Evidence, error) {
		if v.Checker == nil {
			return nil, ErrStatusUnknown.Because(errors.New("no checker configured"))
		}
		return v.Checker.Check(ctx, r.Path[i], r.Path[i+1], at)
	})
}

// status finds the revocation status of certificate i of a path.
type status func(ctx context.Context, r *Result, i int) (*Evidence, error)

func (v *Validator) validate(ctx context.Context, leaf *x509.Certificate, extra []*x509.Certificate, at time.Time, p Profile, ask status) (*Result, error) {
	m, others, err := v.admit(leaf, extra, p)
	if err != nil {
		return nil, err
	}
	var result *Result
	first := error(nil)
	b := builder{store: v.Store, extra: others, limit: max(p.maxPath(), 2) + 1, budget: maxSignatures}
	b.found = func(path []*member) bool {
		r := &Result{At: at, Profile: p.Name, Path: certificates(path), Anchor: path[len(path)-1].cert}
		var err error
		if r.Policies, err = checkInTime(path, at, p); err == nil {
			err = v.checkRevocation(ctx, r, p, ask)
		}
		if err == nil || worse(first, err) {
			result, first = r, err
		}
		return err == nil
	}
	b.extend([]*member{m})
	if result == nil {
		return nil, broken(ErrUntrusted, RulePath, leaf, "no path to an anchor")
	}
	return result, first
}

// admit checks form and bounds of what others send.
func (v *Validator) admit(leaf *x509.Certificate, extra []*x509.Certificate, p Profile) (*member, []*member, error) {
	if leaf == nil || len(leaf.Raw) == 0 || len(leaf.Raw) > maxCertBytes {
		return nil, nil, broken(ErrMalformed, RuleForm, nil, "missing or too large")
	}
	if leaf.Version != 3 {
		return nil, nil, broken(ErrMalformed, RuleForm, leaf, "version %d", leaf.Version)
	}
	if err := plausibleSerial(leaf.SerialNumber); err != nil {
		return nil, nil, broken(ErrMalformed, RuleForm, leaf, "%w", err)
	}
	if len(extra) > maxExtra {
		return nil, nil, broken(ErrMalformed, RuleForm, nil, "%d certificates", len(extra))
	}
	m := newMember(leaf)
	if m.form != nil {
		return nil, nil, broken(ErrMalformed, RuleForm, leaf, "%w", m.form)
	}
	var others []*member
	if !p.ConfiguredIssuersOnly {
		for _, c := range extra {
			if c != nil && len(c.Raw) <= maxCertBytes {
				others = append(others, newMember(c))
			}
		}
	}
	return m, others, nil
}

func certificates(path []*member) []*x509.Certificate {
	out := make([]*x509.Certificate, len(path))
	for i, m := range path {
		out[i] = m.cert
	}
	return out
}

// checkInTime is checkPath, with "expired" said of the end certificate where the
// path was good in its time and a CA has ended since as well.
func checkInTime(path []*member, at time.Time, p Profile) ([]string, error) {
	ids, err := checkPath(path, at, p)
	leaf := path[0].cert
	if fault.CodeOf(err) != ErrUntrusted.Code {
		return ids, err
	}
	w := walk{at: at}
	switch {
	case at.After(leaf.NotAfter):
		at = leaf.NotAfter
	case at.Before(leaf.NotBefore):
		at = leaf.NotBefore
	default:
		return ids, err
	}
	if _, then := checkPath(path, at, p); then == nil {
		return nil, w.checkValidity(leaf, true)
	}
	return ids, err
}

func plausibleSerial(n *big.Int) error {
	if n == nil || n.Sign() <= 0 || n.BitLen() > 8*maxSerialBytes {
		return errors.New("serial number is not a positive integer of at most 20 octets")
	}
	return nil
}

// checkRevocation asks for the end certificate's status and, if the profile says
// so, for those of the CAs. The anchor is trusted by decree.
func (v *Validator) checkRevocation(ctx context.Context, r *Result, p Profile, ask status) error {
	if p.Revocation == RevocationNone {
		return nil
	}
	for i := range len(r.Path) - 1 {
		cert := r.Path[i]
		if i > 0 && p.Revocation != RevocationAll && (p.Revocation != RevocationPath || !namesSource(cert)) {
			continue
		}
		ev, err := ask(ctx, r, i)
		if ev != nil {
			r.Revocation = append(r.Revocation, *ev)
		}
		if err != nil && v.Checker != nil {
			err = v.Checker.tolerate(ctx, r, cert, r.Path[i+1], err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func namesSource(c *x509.Certificate) bool {
	return len(c.OCSPServer) > 0 || len(c.CRLDistributionPoints) > 0
}

func revokedFault(ev *Evidence) *fault.Error {
	return ErrRevoked.With("revoked_at", ev.RevokedAt.UTC().Format(time.RFC3339)).
		With("reason", reasonName(ev.Reason)).
		Because(&Violation{RuleRevocation, ev.Certificate, fmt.Errorf("by %s %s", ev.Source, ev.URL)})
}

// reasonName gives the identifier of CRLReason (RFC 5280 §5.3.1).
func reasonName(reason int) string {
	names := []string{"unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded",
		"cessationOfOperation", "certificateHold", "", "removeFromCRL", "privilegeWithdrawn", "aACompromise"}
	if reason >= 0 && reason < len(names) && names[reason] != "" {
		return names[reason]
	}
	return names[0]
}
