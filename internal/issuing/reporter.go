package issuing

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// AddReporter makes the signer of reports where the authorities are older than
// it. Several nodes may do so at once: one is kept.
func (ca *CA) AddReporter(ctx context.Context) error {
	known, err := ca.load(ctx)
	if err != nil || known[Reporter] != nil {
		return err
	}
	issuer := known[Issuing]
	if issuer == nil {
		return ErrNoAuthority.Because(errors.New("no issuing CA"))
	}
	key, err := ca.signer(ctx, issuer)
	if err != nil {
		return err
	}
	b := builder{ca: ca, now: ca.cfg.Now().UTC().Add(-clockSkew).Truncate(time.Second)}
	tpl := b.reportTemplate()
	if tpl.NotAfter.After(issuer.cert.NotAfter) {
		tpl.NotAfter = issuer.cert.NotAfter
	}
	b.add(Reporter, &made{name: Issuing, cert: issuer.cert, key: key}, tpl)
	if b.err != nil {
		return fmt.Errorf("issuing: signer of reports: %w", b.err)
	}
	if err := ca.cfg.Store.CreateAuthorities(ctx, b.authorities, b.keys, b.entries); err != nil {
		return err
	}
	_, err = ca.load(ctx)
	return err
}

// responderTemplate is the certificate of one of our responders.
func (b *builder) responderTemplate(name string) *x509.Certificate {
	switch name {
	case OCSP:
		return b.ocspTemplate()
	case TSA:
		return b.tsaTemplate()
	}
	return b.reportTemplate()
}

// ReportSigner gives what reports are signed with: certificate, issuing CA, key.
func (ca *CA) ReportSigner(ctx context.Context) (cert, issuer *x509.Certificate, key crypto.Signer, err error) {
	own, err := ca.authority(ctx, Reporter)
	if err != nil {
		return nil, nil, nil, err
	}
	above, err := ca.authority(ctx, Issuing)
	if err != nil {
		return nil, nil, nil, err
	}
	key, err = ca.signer(ctx, own)
	return own.cert, above.cert, key, err
}
