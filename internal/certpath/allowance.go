package certpath

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"sealgate/internal/fault"
)

// maxAllowance is the longest time an allowance may be set for: an emergency
// that lasts longer must be looked at again.
const maxAllowance = 90 * 24 * time.Hour

// Allowance is an operator's decision that one purpose goes on while nobody can
// tell the status of a certificate. Without one everything fails closed.
type Allowance struct {
	Until  time.Time // at most 90 days ahead
	Reason string    // for the audit log
}

// Allowed is one use of an Allowance.
type Allowed struct {
	Profile     string
	Certificate *x509.Certificate
	At          time.Time // the time the path was judged for
	Allowance   Allowance
	Cause       error // why the status is unknown; for the log alone
}

// checkAllowances refuses what would be an allowance without end or trace.
func checkAllowances(cfg CheckerConfig) error {
	if len(cfg.AllowUnknown) > 0 && cfg.RecordAllowed == nil {
		return errors.New("certpath: an allowance needs somewhere to be recorded")
	}
	for profile, a := range cfg.AllowUnknown {
		switch {
		case profile == "":
			return errors.New("certpath: an allowance for no profile")
		case a.Reason == "" || a.Until.IsZero():
			return fmt.Errorf("certpath: the allowance for %q needs a reason and an end", profile)
		case a.Until.After(cfg.Now().Add(maxAllowance)):
			return fmt.Errorf("certpath: the allowance for %q lasts longer than 90 days", profile)
		}
	}
	return nil
}

// tolerate turns "unknown" into a pass where the operator has allowed that, and
// only if the use could be recorded. Revoked is never passed, and neither is a
// time to come.
func (c *Checker) tolerate(ctx context.Context, r *Result, cert, issuer *x509.Certificate, cause error) error {
	a, ok := c.cfg.AllowUnknown[r.Profile]
	now := c.cfg.Now()
	if !ok || fault.CodeOf(cause) != ErrStatusUnknown.Code || now.After(a.Until) || r.At.After(now.Add(c.cfg.Skew)) {
		return cause
	}
	if ev := c.storedRevoked(ctx, cert, issuer); ev != nil && !ev.RevokedAt.After(r.At) {
		return revokedFault(ev)
	}
	use := Allowed{Profile: r.Profile, Certificate: cert, At: r.At, Allowance: a, Cause: cause}
	if err := c.cfg.RecordAllowed(ctx, use); err != nil {
		return ErrStatusUnknown.Because(errors.Join(cause, fmt.Errorf("allowance not used, it could not be recorded: %w", err)))
	}
	r.Allowed = append(r.Allowed, use)
	return nil
}

// storedRevoked looks for a final revocation in the lists that lie in the store,
// also those that have ended: what they say of a certificate cannot be taken back,
// and where nothing newer is known an allowance must not overrule it.
func (c *Checker) storedRevoked(ctx context.Context, cert, issuer *x509.Certificate) *Evidence {
	if c.cfg.Store == nil {
		return nil
	}
	for _, url := range httpOnly(cert.CRLDistributionPoints) {
		key := ListSource{url, issuer}.key()
		c.mu.Lock()
		crl := c.ended[key]
		c.mu.Unlock()
		var have time.Time
		if crl != nil {
			have = crl.ThisUpdate
		}
		if stored, err := c.cfg.Store.Latest(ctx, key, have); err == nil && stored.DER != nil {
			if newer, err := ParseCRL(stored.DER); err == nil && newer.Verify(issuer) == nil {
				crl = newer
				c.mu.Lock()
				if len(c.ended) < c.cfg.CacheCRLs {
					c.ended[key] = crl
				}
				c.mu.Unlock()
			}
		}
		if crl == nil || crl.Covers(cert) != nil {
			continue
		}
		if ev := crl.about(cert, issuer, url); final(ev) {
			return ev
		}
	}
	return nil
}
