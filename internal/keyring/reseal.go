package keyring

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
)

// UpkeepStore is what changing the master key and tidying a token need of the
// database. Only operators' tools and jobs come here, never a request.
type UpkeepStore interface {
	// Custody counts the keys that are not destroyed.
	Custody(ctx context.Context) ([]Custody, error)
	// Stale lists rows sealed under another master key than the given one with
	// an id above after, by id, at most limit.
	Stale(ctx context.Context, master string, after uuid.UUID, limit int) ([]Row, error)
	// Reseal replaces the sealed bytes of rows that still are as they were
	// read, and writes the entry with the number of rows it changed: all in
	// one transaction. A row that changed meanwhile is left alone.
	Reseal(ctx context.Context, rows []Resealed, e audit.Entry) (changed int, err error)
	// Unknown tells which of the ids, at most 1000, no row has that is kept in
	// a token and not destroyed.
	Unknown(ctx context.Context, ids []uuid.UUID) ([]uuid.UUID, error)
	// Note writes an audit entry by itself.
	Note(ctx context.Context, e audit.Entry) error
}

// Custody is how many keys of one purpose and state one master key seals, or
// the token keeps.
type Custody struct {
	Provider    string
	MasterKeyID string // of sealed rows
	Purpose     string
	State       State
	Keys        int64
}

// Resealed is a row with its new sealed bytes.
type Resealed struct {
	ID        uuid.UUID
	Old, New  []byte
	OldMaster string
	NewMaster string
}

// Custody counts the keys that are not destroyed, by where they are kept.
func (k *Keyring) Custody(ctx context.Context) ([]Custody, error) { return k.store.Custody(ctx) }

// MasterKeys lists the public names of the loaded master keys; the first seals.
func (k *Keyring) MasterKeys() []string {
	ids := make([]string, len(k.sealed.masters))
	for i, m := range k.sealed.masters {
		ids[i] = m.id
	}
	return ids
}

// Resealing says how to move rows to the current master key.
type Resealing struct {
	// Apply writes; without it every row is opened and nothing is changed.
	Apply bool
	// Batch is how many rows one transaction changes, 0: 200, at most 1000.
	Batch int
	// Pause is the time between batches, to leave the database to others.
	Pause time.Duration
	// Operator is who asked, for the audit log.
	Operator string
	// Progress is told after each batch; may be nil.
	Progress func(ResealProgress)
}

// ResealProgress counts rows.
type ResealProgress struct {
	Seen       int // rows found under another master key
	Resealed   int // rows changed
	Changed    int // rows that somebody else changed or moved at the same time
	Unreadable int // rows that could not be opened, and were left as they are
	// FirstUnreadable says why the first of those could not be opened.
	FirstUnreadable error
}

// Limits of one transaction of Reseal, in rows.
const (
	resealBatch    = 200
	resealBatchMax = 1000
)

// resealPasses bounds how often Reseal starts from the first row again: a node
// that still seals under an older master key could go on for ever.
const resealPasses = 5

// Reseal moves every row that is sealed under an older master key to the
// current one, in small transactions, while the service signs. It may be
// stopped at any time and started again, and two may run at once. A row that
// cannot be opened, or whose parts do not belong together, is never carried
// over: it stays as it is and is counted. All nodes must be able to open what
// the current master key seals before this begins.
func (k *Keyring) Reseal(ctx context.Context, r Resealing) (ResealProgress, error) {
	if r.Batch <= 0 {
		r.Batch = resealBatch
	}
	r.Batch = min(r.Batch, resealBatchMax)
	if r.Progress == nil {
		r.Progress = func(ResealProgress) {}
	}
	bad := map[uuid.UUID]bool{} // seen again in each pass
	var p ResealProgress
	for range resealPasses {
		before := p.Resealed
		if err := k.resealPass(ctx, r, &p, bad); err != nil {
			return p, err
		}
		if !r.Apply || p.Resealed == before {
			break
		}
	}
	if p.Unreadable > 0 {
		return p, ErrUnreadable.Because(fmt.Errorf("%d keys were left under their master key, the first: %w", p.Unreadable, p.FirstUnreadable))
	}
	return p, nil
}

// resealPass goes through the rows once, by id.
func (k *Keyring) resealPass(ctx context.Context, r Resealing, p *ResealProgress, bad map[uuid.UUID]bool) error {
	master := k.sealed.masters[0].id
	var after uuid.UUID
	for {
		rows, err := k.store.Stale(ctx, master, after, r.Batch)
		if err != nil || len(rows) == 0 {
			return err
		}
		after = rows[len(rows)-1].ID
		list := make([]Resealed, 0, len(rows))
		for _, row := range rows {
			if bad[row.ID] {
				continue
			}
			p.Seen++
			fresh, err := k.reseal(row)
			if err != nil {
				bad[row.ID] = true
				if p.Unreadable++; p.FirstUnreadable == nil {
					p.FirstUnreadable = err
				}
				continue
			}
			list = append(list, fresh)
		}
		if r.Apply && len(list) > 0 {
			n, err := k.store.Reseal(ctx, list, audit.New(audit.KeyResealed).ByOperator(r.Operator).With(audit.KeyMasterKey, master))
			if err != nil {
				return err
			}
			p.Resealed += n
			p.Changed += len(list) - n
		}
		r.Progress(*p)
		if err := pause(ctx, r.Pause); err != nil {
			return err
		}
	}
}

// reseal opens a row with all the checks of using it, and seals its bytes anew.
func (k *Keyring) reseal(row Row) (Resealed, error) {
	plain, err := k.sealed.unseal(row)
	if err != nil {
		return Resealed{}, err
	}
	defer clear(plain)
	switch {
	case row.Algorithm == Secret256 && len(plain) != secretSize:
		return Resealed{}, ErrUnreadable.Because(fmt.Errorf("secret %s has %d bytes", row.ID, len(plain)))
	case row.Algorithm != Secret256:
		private, err := parseKey(row, plain)
		if err != nil {
			return Resealed{}, err
		}
		wipe(private)
	}
	fresh := k.sealed.seal(row, plain)
	return Resealed{ID: row.ID, Old: row.Sealed, New: fresh.Sealed, OldMaster: row.MasterKeyID, NewMaster: fresh.MasterKeyID}, nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// sweepAge is how old a token's object without a row must be before Sweep
// takes it for a left-over. Its age is in its id. Between making a key and
// writing its row lie seconds.
const sweepAge = time.Hour

// Swept is what Sweep found and did.
type Swept struct {
	Held      int         // keys of ours in the token
	Orphans   []uuid.UUID // those that no row has, or whose row is destroyed
	Destroyed int
}

// Sweep looks for keys in the token that no row of the database has: their
// transaction was rolled back, or their row was destroyed since. With apply
// they are destroyed, each after an audit entry. Keys of other deployments in
// the same token have other labels and are not touched.
func (k *Keyring) Sweep(ctx context.Context, operator string, apply bool) (Swept, error) {
	var s Swept
	if k.token == nil {
		return s, nil
	}
	for _, purpose := range Purposes() {
		if err := k.sweepPurpose(ctx, purpose, operator, apply, &s); err != nil {
			return s, err
		}
	}
	return s, nil
}

// unknownMax is how many ids one question to the database has.
const unknownMax = 1000

func (k *Keyring) sweepPurpose(ctx context.Context, purpose, operator string, apply bool, s *Swept) error {
	label, err := k.label(ctx, purpose)
	if err != nil {
		return err
	}
	held, err := k.token.Held(ctx, label)
	if err != nil {
		return err
	}
	s.Held += len(held)
	var old []uuid.UUID
	for _, id := range held {
		if id.Version() == 7 && time.Since(time.Unix(id.Time().UnixTime())) > sweepAge {
			old = append(old, id)
		}
	}
	for len(old) > 0 {
		n := min(len(old), unknownMax)
		orphans, err := k.store.Unknown(ctx, old[:n])
		if err != nil {
			return err
		}
		old = old[n:]
		s.Orphans = append(s.Orphans, orphans...)
		for _, id := range orphans {
			if !apply {
				break
			}
			if err := k.destroyOrphan(ctx, purpose, label, id, operator); err != nil {
				return err
			}
			s.Destroyed++
		}
	}
	return nil
}

func (k *Keyring) destroyOrphan(ctx context.Context, purpose, label string, id uuid.UUID, operator string) error {
	e := audit.New(audit.KeyDestroyed).ByOperator(operator).With(audit.KeyPurpose, purpose).
		With(audit.KeyProvider, ProviderPKCS11).With(audit.KeyKeyID, id.String()).With(audit.KeyReason, "orphan")
	if err := k.store.Note(ctx, e); err != nil {
		return err
	}
	if err := k.token.Destroy(ctx, label, id); err != nil && !errors.Is(err, ErrNoKey) {
		return err
	}
	return nil
}
