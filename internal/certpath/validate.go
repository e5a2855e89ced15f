package certpath

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"sealgate/internal/fault"
)

// Bounds on what others send.
const (
	maxExtra       = 64
	maxCertBytes   = 64 << 10
	maxPaths       = 8
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
	Revocation []Evidence // end certificate first
}

// Validate builds a path from leaf to an anchor, valid at the time at, and checks
// it against the profile and for revocation. extra are certificates that may help
// to build the path; they are not trusted.
//
// With an error the Result is not nil when a path was found: it then holds the
// evidence seen so far, e.g. the answer that says "revoked".
func (v *Validator) Validate(ctx context.Context, leaf *x509.Certificate, extra []*x509.Certificate, at time.Time, p Profile) (*Result, error) {
	paths, err := v.paths(leaf, extra, at, p)
	if err != nil {
		return nil, err
	}
	var first error
	var firstResult *Result
	for _, path := range paths {
		r := &Result{At: at, Profile: p.Name, Path: path, Anchor: path[len(path)-1]}
		err := checkPath(path, p)
		if err == nil {
			err = v.checkRevocation(ctx, r, p)
		}
		if err == nil {
			return r, nil
		}
		// Keep the first reason, unless a later path knows of a revocation.
		if first == nil || errors.Is(err, ErrRevoked) && !errors.Is(first, ErrRevoked) {
			first, firstResult = err, r
		}
	}
	return firstResult, first
}

// paths gives candidate paths with valid signatures, names, basic constraints,
// path lengths, key usage of CAs, name constraints, validity periods and no
// unknown critical extension: RFC 5280 §6.1 as far as crypto/x509 goes.
func (v *Validator) paths(leaf *x509.Certificate, extra []*x509.Certificate, at time.Time, p Profile) ([][]*x509.Certificate, error) {
	if leaf == nil || len(leaf.Raw) == 0 || len(leaf.Raw) > maxCertBytes {
		return nil, ErrMalformed
	}
	if leaf.Version != 3 {
		return nil, ErrMalformed.Because(fmt.Errorf("version %d", leaf.Version))
	}
	if err := plausibleSerial(leaf.SerialNumber); err != nil {
		return nil, ErrMalformed.Because(err)
	}
	if len(extra) > maxExtra {
		return nil, ErrMalformed.Because(fmt.Errorf("%d certificates", len(extra)))
	}
	opts := x509.VerifyOptions{
		Roots: v.Store.roots, Intermediates: x509.NewCertPool(), CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, c := range v.Store.intermediates {
		opts.Intermediates.AddCert(c)
	}
	if !p.ConfiguredIssuersOnly {
		for _, c := range extra {
			if c != nil && len(c.Raw) <= maxCertBytes {
				opts.Intermediates.AddCert(c)
			}
		}
	}
	if len(p.ExtKeyUsages) > 0 {
		opts.KeyUsages = p.ExtKeyUsages
	}
	chains, err := leaf.Verify(opts)
	if err != nil {
		return nil, whyNoPath(leaf, opts, at, err)
	}
	chains = slices.DeleteFunc(chains, func(c []*x509.Certificate) bool { return len(c) < 2 })
	if len(chains) == 0 {
		return nil, ErrUntrusted.Because(errors.New("an anchor is not an end certificate"))
	}
	return chains[:min(len(chains), maxPaths)], nil
}

func plausibleSerial(n *big.Int) error {
	if n == nil || n.Sign() <= 0 || n.BitLen() > 8*maxSerialBytes {
		return errors.New("serial number is not a positive integer of at most 20 octets")
	}
	return nil
}

// whyNoPath turns crypto/x509's error into ours. "Expired" is said of the end
// certificate alone, and only when the path would have been good in its time:
// otherwise a stranger's expired certificate would look like an old friend's.
func whyNoPath(leaf *x509.Certificate, opts x509.VerifyOptions, at time.Time, cause error) error {
	early, late := at.Before(leaf.NotBefore), at.After(leaf.NotAfter)
	if early || late {
		opts.CurrentTime = leaf.NotBefore
		if late {
			opts.CurrentTime = leaf.NotAfter
		}
		if _, err := leaf.Verify(opts); err != nil {
			return ErrUntrusted.Because(errors.Join(cause, err))
		}
		if early {
			return ErrNotYetValid.With("not_before", leaf.NotBefore.UTC().Format(time.RFC3339)).Because(cause)
		}
		return ErrExpired.With("not_after", leaf.NotAfter.UTC().Format(time.RFC3339)).Because(cause)
	}
	var invalid x509.CertificateInvalidError
	if errors.As(cause, &invalid) && invalid.Reason == x509.IncompatibleUsage {
		return ErrKeyUsage.Because(cause)
	}
	return ErrUntrusted.Because(cause)
}

// checkPath applies what crypto/x509 leaves out.
func checkPath(path []*x509.Certificate, p Profile) error {
	maxPath := p.MaxPath
	if maxPath == 0 {
		maxPath = defaultMaxPath
	}
	if len(path) > maxPath {
		return ErrUntrusted.Because(fmt.Errorf("path of %d certificates, %d allowed", len(path), maxPath))
	}
	for i, c := range path {
		anchor := i == len(path)-1
		if err := checkKey(c, p); err != nil {
			return ErrUntrusted.Because(fmt.Errorf("%s: %w", c.Subject, err))
		}
		if anchor {
			break
		}
		if err := checkAlgorithm(c, p); err != nil {
			return ErrUntrusted.Because(fmt.Errorf("%s: %w", c.Subject, err))
		}
	}
	if err := checkLeafUsage(path[0], p); err != nil {
		return err
	}
	return checkPolicies(path, p)
}

func checkKey(c *x509.Certificate, p Profile) error {
	minBits := p.MinRSABits
	if minBits == 0 {
		minBits = defaultRSABits
	}
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minBits {
			return fmt.Errorf("RSA key of %d bits, %d demanded", k.N.BitLen(), minBits)
		}
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize < 256 {
			return fmt.Errorf("curve of %d bits", k.Curve.Params().BitSize)
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("key of type %T", k)
	}
	return nil
}

func checkAlgorithm(c *x509.Certificate, p Profile) error {
	allowed := p.SignatureAlgorithms
	if allowed == nil {
		allowed = DefaultSignatureAlgorithms
	}
	if !slices.Contains(allowed, c.SignatureAlgorithm) {
		return fmt.Errorf("signature algorithm %s is not allowed", c.SignatureAlgorithm)
	}
	return nil
}

func checkLeafUsage(leaf *x509.Certificate, p Profile) error {
	switch {
	case leaf.IsCA && !p.AllowCA:
		return ErrKeyUsage.Because(errors.New("a CA certificate"))
	case leaf.KeyUsage&p.KeyUsageAll != p.KeyUsageAll:
		return ErrKeyUsage.Because(fmt.Errorf("key usage %09b lacks %09b", leaf.KeyUsage, p.KeyUsageAll))
	case p.KeyUsageAny != 0 && leaf.KeyUsage&p.KeyUsageAny == 0:
		return ErrKeyUsage.Because(fmt.Errorf("key usage %09b has none of %09b", leaf.KeyUsage, p.KeyUsageAny))
	}
	for _, want := range p.ExtKeyUsages {
		if !slices.Contains(leaf.ExtKeyUsage, want) {
			return ErrKeyUsage.Because(fmt.Errorf("extended key usage %d is missing", want))
		}
	}
	return nil
}

// checkRevocation asks for the end certificate's status and, if the profile says
// so, for each CA's that names a source. The anchor is trusted by decree.
func (v *Validator) checkRevocation(ctx context.Context, r *Result, p Profile) error {
	if p.Revocation == RevocationNone {
		return nil
	}
	if v.Checker == nil {
		return ErrStatusUnknown.Because(errors.New("no checker configured"))
	}
	for i := 0; i < len(r.Path)-1; i++ {
		cert, issuer := r.Path[i], r.Path[i+1]
		if i > 0 && (p.Revocation != RevocationPath || !namesSource(cert)) {
			continue
		}
		ev, err := v.Checker.Check(ctx, cert, issuer, r.At)
		if ev != nil {
			r.Revocation = append(r.Revocation, *ev)
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
		Because(fmt.Errorf("%s: serial %x, by %s %s", ev.Certificate.Issuer, ev.Certificate.SerialNumber, ev.Source, ev.URL))
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
