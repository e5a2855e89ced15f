package issuing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/keyring"
)

// ErrReplaced: another node has replaced this authority meanwhile.
var ErrReplaced = errors.New("issuing: the authority was replaced meanwhile")

// oldKeyLife is how long the key of a replaced authority is kept: much longer
// than any node goes on using it.
const oldKeyLife = 24 * time.Hour

// Replacement is an authority with the key and the entries that are written
// with it.
type Replacement struct {
	Authority     Authority
	OldKey        uuid.UUID
	DestroyOldKey time.Time
	Key           keyring.Row
	Entries       []audit.Entry
}

// ReplaceEnding gives a new key and a new certificate to each of our responders
// (OCSP, time-stamps, reports) whose certificate is in the last quarter of its life. It
// is safe to call again and on several nodes at once: one replacement is kept.
// The others learn of it within a minute, without a restart.
//
// What a replaced one signed stays valid: OCSP answers and time-stamps carry its
// certificate, which stays good to its own end. Root and issuing CA are not
// replaced: that is a ceremony, since everybody's trust hangs on them; Ends warns
// of their end.
func (ca *CA) ReplaceEnding(ctx context.Context) (replaced []string, err error) {
	if _, err := ca.load(ctx); err != nil {
		return nil, err
	}
	for _, name := range []string{OCSP, TSA, Reporter} {
		done, failed := ca.replaceEnding(ctx, name)
		if done {
			replaced = append(replaced, name)
		}
		err = errors.Join(err, failed)
	}
	if len(replaced) > 0 {
		_, failed := ca.load(ctx)
		err = errors.Join(err, failed)
	}
	return replaced, err
}

func (ca *CA) replaceEnding(ctx context.Context, name string) (bool, error) {
	old, err := ca.authority(ctx, name)
	if err != nil {
		return false, err
	}
	now := ca.cfg.Now().UTC()
	life := old.cert.NotAfter.Sub(old.cert.NotBefore)
	if now.Before(old.cert.NotAfter.Add(-life / 4)) {
		return false, nil
	}
	issuer, err := ca.authority(ctx, Issuing)
	if err != nil {
		return false, err
	}
	if !issuer.cert.NotAfter.After(old.cert.NotAfter) {
		return false, nil // nothing can be gained; Ends warns
	}
	key, err := ca.signer(ctx, issuer)
	if err != nil {
		return false, err
	}
	b := builder{ca: ca, now: now.Add(-clockSkew).Truncate(time.Second)}
	tpl := b.responderTemplate(name)
	if tpl.NotAfter.After(issuer.cert.NotAfter) {
		tpl.NotAfter = issuer.cert.NotAfter
	}
	b.add(name, &made{name: Issuing, cert: issuer.cert, key: key}, tpl)
	if b.err != nil {
		return false, fmt.Errorf("issuing: replace: %w", b.err)
	}
	b.entries = append(b.entries, audit.New(audit.AuthorityReplaced).With(audit.KeyAuthority, name).
		With(audit.KeySerial, fmt.Sprintf("%x", old.cert.SerialNumber)).With(audit.KeyKeyID, old.KeyID.String()))
	err = ca.cfg.Store.ReplaceAuthority(ctx, Replacement{Authority: b.authorities[0], OldKey: old.KeyID, DestroyOldKey: now.Add(oldKeyLife),
		Key: b.keys[0], Entries: b.entries})
	if errors.Is(err, ErrReplaced) {
		return false, nil
	}
	return err == nil, err
}

// End is how long one of our certificates lasts.
type End struct {
	Name     string
	NotAfter time.Time
	// Soon says that somebody must do something: the issuing CA or the root ends
	// within the life of what it issues, or a responder was not replaced in time.
	Soon bool
}

// issuerNotice is how long before an issuer begins to shorten what it issues its
// end is warned of.
const issuerNotice = 90 * 24 * time.Hour

// Ends tells when our certificates end, in the order of their names.
func (ca *CA) Ends(ctx context.Context) ([]End, error) {
	var ends []End
	for _, name := range []string{Issuing, OCSP, Reporter, Root, TSA} {
		a, err := ca.authority(ctx, name)
		if err != nil {
			return nil, err
		}
		left := a.cert.NotAfter.Sub(ca.cfg.Now())
		e := End{Name: name, NotAfter: a.cert.NotAfter}
		switch name {
		case Issuing, Root:
			e.Soon = left < ca.profile.life+issuerNotice
		default:
			e.Soon = left < a.cert.NotAfter.Sub(a.cert.NotBefore)/8
		}
		ends = append(ends, e)
	}
	return slices.Clip(ends), nil
}
