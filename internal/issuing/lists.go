package issuing

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"

	"sealgate/internal/certpath"
)

// Part is one part of a revocation list: part Part (from 0) of Of. Of up to 1 is
// the complete list.
//
// A certificate's part follows from its serial number and from how many parts
// there were when it was issued, and both stand in the address that it names:
// it never changes, whatever becomes of the register. A part lists only
// certificates that name it.
type Part struct {
	Of, Part int
}

// MaxParts bounds the parts of a list.
const MaxParts = 1024

// PathPart is where a part is published, below Config.BaseURL.
func (p Part) PathPart() string {
	if p.Of <= 1 {
		return PathIssuingCRL
	}
	return fmt.Sprintf(pathPart, p.Of, p.Part)
}

const pathPart = "/pki/issuing-%d-%d.crl"

// RoutePart is the pattern of the parts' paths, for front/pki.
const RoutePart = "/pki/issuing-{of:[0-9]+}-{part:[0-9]+}.crl"

// valid: a power of two of parts, and one of them.
func (p Part) valid() bool {
	return p.Of >= 1 && p.Of <= MaxParts && p.Of&(p.Of-1) == 0 && p.Part >= 0 && p.Part < p.Of
}

// partOf gives a serial number's part; its last octets are random.
func partOf(serial []byte, of int) Part {
	if of <= 1 {
		return Part{}
	}
	return Part{of, int(binary.BigEndian.Uint32(serial[len(serial)-4:]) % uint32(of))}
}

// points are the addresses a certificate names: its part first, then the
// complete list, as MOICA's do.
func (ca *CA) points(p Part) []string {
	if p.Of <= 1 {
		return []string{ca.cfg.BaseURL + PathIssuingCRL}
	}
	return []string{ca.cfg.BaseURL + p.PathPart(), ca.cfg.BaseURL + PathIssuingCRL}
}

// partCount remembers in how many parts new certificates are listed.
type partCount struct {
	of    int
	until time.Time
}

// countParts is how often the register's size is looked at: it doubles in
// months.
const countParts = 10 * time.Minute

// partsNow is the number of parts for a certificate issued now: the smallest
// power of two that gives each part at most ListEntries certificates.
func (ca *CA) partsNow(ctx context.Context) (int, error) {
	now := ca.cfg.Now()
	ca.mu.Lock()
	known := ca.parts
	ca.mu.Unlock()
	if known.of > 0 && now.Before(known.until) {
		return known.of, nil
	}
	n, err := ca.cfg.Store.Population(ctx, Issuing)
	if err != nil {
		if known.of > 0 {
			return known.of, nil
		}
		return 0, err
	}
	of := 1
	for of < MaxParts && n > int64(of)*int64(ca.cfg.ListEntries) {
		of *= 2
	}
	ca.mu.Lock()
	ca.parts = partCount{of, now.Add(countParts)}
	ca.mu.Unlock()
	return of, nil
}

// keepExpired is how long a revoked certificate stays on the list after its
// end, so that a verifier of yesterday's signature still finds it.
const keepExpired = 30 * 24 * time.Hour

// Bounds on the lists a node keeps made.
const (
	// checkLists is how long a list is handed out before the database is asked
	// whether it is still the whole truth.
	checkLists = 250 * time.Millisecond
	maxLists   = 128
)

type listName struct {
	authority string
	part      Part
}

// PublishedList is a signed list. It must not be changed.
type PublishedList struct {
	DER []byte
	Tag string // changes with the content: for ETag

	mark    int64
	until   time.Time // made anew from then on, even if nothing has changed
	checked time.Time
}

// List gives the complete revocation list of root or issuing CA in DER, and
// until when this node hands it out without asking the database.
func (ca *CA) List(ctx context.Context, name string) (der []byte, until time.Time, err error) {
	l, err := ca.ListPart(ctx, name, Part{})
	if err != nil {
		return nil, time.Time{}, err
	}
	return l.DER, l.checked.Add(checkLists), nil
}

// ListPart gives a revocation list of root or issuing CA, complete or a part of
// the latter's. What was revoked on any node more than checkLists ago is on it.
func (ca *CA) ListPart(ctx context.Context, name string, part Part) (*PublishedList, error) {
	if part.Of <= 1 {
		part = Part{1, 0}
	}
	if name != Root && name != Issuing || name == Root && part.Of != 1 || !part.valid() {
		return nil, ErrNotFound.Because(fmt.Errorf("issuing: %q has no revocation list %d of %d", name, part.Part, part.Of))
	}
	key := listName{name, part}
	ca.mu.Lock()
	l := ca.lists[key]
	ca.mu.Unlock()
	if l != nil && ca.cfg.Now().Before(l.checked.Add(checkLists)) {
		return l, nil
	}
	shared := context.WithoutCancel(ctx) // many wait for one
	ch := ca.making.DoChan(fmt.Sprint(key), func() (any, error) { return ca.renew(shared, key, l) })
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-ch:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*PublishedList), nil
	}
}

// renew asks the database, and signs a new list if there is anything new or the
// one at hand, which may be nil, is old.
func (ca *CA) renew(ctx context.Context, key listName, have *PublishedList) (*PublishedList, error) {
	asked := ca.cfg.Now()
	q := RevocationQuery{Authority: key.authority, List: key.part, After: keepExpired, Unless: -1}
	if have != nil && asked.Before(have.until) {
		q.Unless = have.mark
	}
	revoked, err := ca.cfg.Store.Revocations(ctx, q)
	if err != nil {
		return nil, err
	}
	var l PublishedList
	if q.Unless >= 0 && revoked.Mark == q.Unless {
		l = *have
	} else {
		if l.DER, err = ca.signList(ctx, key, revoked); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(l.DER)
		l.Tag, l.mark, l.until = hex.EncodeToString(sum[:12]), revoked.Mark, asked.Add(ca.cfg.ListRefresh)
	}
	l.checked = asked
	ca.mu.Lock()
	defer ca.mu.Unlock()
	for k, old := range ca.lists {
		if len(ca.lists) < maxLists {
			break
		}
		if k != key && (k.part.Of > 1 || asked.After(old.until)) {
			delete(ca.lists, k)
		}
	}
	ca.lists[key] = &l
	return &l, nil
}

// numberShift leaves room for the clock in microseconds until the year 4253.
const numberShift = 56

// signList: the number rises with the mark, which is of the same snapshot as the
// lines, and with the clock: a higher number is never an older truth (RFC 5280
// §5.2.3), whichever node signs, and it needs no write.
func (ca *CA) signList(ctx context.Context, key listName, revoked Revocations) ([]byte, error) {
	issuer, err := ca.authority(ctx, key.authority)
	if err != nil {
		return nil, err
	}
	signer, err := ca.signer(ctx, issuer)
	if err != nil {
		return nil, err
	}
	number := new(big.Int).Lsh(big.NewInt(revoked.Mark), numberShift)
	tpl := certpath.ListTemplate{
		Number:     number.Add(number, big.NewInt(revoked.At.UnixMicro())),
		ThisUpdate: revoked.At.UTC().Truncate(time.Second),
		NextUpdate: revoked.At.Add(ca.cfg.ListLife).UTC().Truncate(time.Second),
		Revoked:    make([]certpath.RevokedSerial, len(revoked.Entries)),
	}
	if key.part.Of > 1 {
		tpl.Point = ca.cfg.BaseURL + key.part.PathPart()
	}
	for i, s := range revoked.Entries {
		tpl.Revoked[i] = certpath.RevokedSerial{Serial: s.Serial, At: s.RevokedAt, Reason: s.Reason}
	}
	return certpath.SignCRL(rand.Reader, tpl, issuer.cert, signer)
}
