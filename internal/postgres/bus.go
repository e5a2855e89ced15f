package postgres

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"hash/maphash"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/order"
)

// Bus carries wake-ups between nodes by LISTEN/NOTIFY: one listening
// connection a node, many order ids in one NOTIFY. Notifications travel apart
// from the transactions that changed the orders, because a commit that carries
// a NOTIFY takes a lock that all such commits share. A lost wake-up is covered
// by a slow poll of the orders that somebody waits for.
type Bus struct {
	db  *DB
	hub *order.Hub
	log *slog.Logger
	tag string // tells this node's own notifications from the others'
}

const (
	busChannel   = "sealgate_orders"
	busGather    = 4 * time.Millisecond // how long announcements are gathered before one NOTIFY
	busPoll      = 5 * time.Second
	busPollChunk = 2000
	busRetry     = time.Second
	// A NOTIFY payload holds less than 8000 bytes; an id and its comma take 23.
	busMaxIDs = 7900 / 23
	busTag    = 12
)

// NewBus connects a hub to the database.
func NewBus(db *DB, hub *order.Hub, log *slog.Logger) *Bus {
	return &Bus{db: db, hub: hub, log: log, tag: rand.Text()[:busTag]}
}

// Run carries wake-ups until the context ends.
func (b *Bus) Run(ctx context.Context) error {
	go b.send(ctx)
	go b.poll(ctx)
	for ctx.Err() == nil {
		if err := b.listen(ctx); err != nil && ctx.Err() == nil {
			b.log.WarnContext(ctx, "wake-ups from other nodes are interrupted; the slow poll serves", "error", err)
			sleep(ctx, busRetry)
		}
	}
	return ctx.Err()
}

// listen holds one connection of its own, outside the pool.
func (b *Bus) listen(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, b.db.Pool.Config().ConnConfig.Copy())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "listen "+busChannel); err != nil {
		return err
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		tag, ids, _ := strings.Cut(n.Payload, ":")
		if tag == b.tag {
			continue // the local waiters were woken when the change was announced
		}
		for _, s := range strings.Split(ids, ",") {
			if id, err := order.ParseID(s); err == nil {
				b.hub.Wake(id)
			}
		}
	}
}

// send gathers announcements and notifies the other nodes.
func (b *Bus) send(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.hub.Ready():
		}
		sleep(ctx, busGather)
		ids := b.hub.TakePending()
		for len(ids) > 0 {
			n := min(len(ids), busMaxIDs)
			if _, err := b.db.Pool.Exec(ctx, "SELECT pg_notify($1, $2)", busChannel, b.tag+":"+joinIDs(ids[:n])); err != nil && ctx.Err() == nil {
				b.log.WarnContext(ctx, "wake-ups were not sent; the slow poll serves", "count", n, "error", err)
			}
			ids = ids[n:]
		}
	}
}

func joinIDs(ids []order.ID) string {
	out := make([]byte, 0, 23*len(ids))
	for i, id := range ids {
		if i > 0 {
			out = append(out, ',')
		}
		out = base64.RawURLEncoding.AppendEncode(out, id[:])
	}
	return string(out)
}

// poll reads what changes of every watched order, in few statements, and wakes
// the waiters of those that changed.
func (b *Bus) poll(ctx context.Context) {
	seed := maphash.MakeSeed()
	for sleep(ctx, busPoll) {
		watched := b.hub.Watched()
		for len(watched) > 0 {
			n := min(len(watched), busPollChunk)
			if err := b.pollSome(ctx, seed, watched[:n]); err != nil && ctx.Err() == nil {
				b.log.WarnContext(ctx, "slow poll of waiting orders failed", "error", err)
				break
			}
			watched = watched[n:]
		}
	}
}

func (b *Bus) pollSome(ctx context.Context, seed maphash.Seed, some []order.ID) error {
	ids := make([]uuid.UUID, len(some))
	for i, id := range some {
		ids[i] = id.UUID()
	}
	rows, err := b.db.Pool.Query(ctx, `SELECT id, state || '/' || extended || '/' || coalesce(frozen_step, -1) || '/' || check_tries
		|| '/' || (check_passed_at IS NOT NULL) || '/' || expires_at || '/' || (browser_hash IS NOT NULL) FROM orders WHERE id = ANY($1)`, ids)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id uuid.UUID
		var print string
		if err := rows.Scan(&id, &print); err != nil {
			return err
		}
		b.hub.Saw(order.ID(id), maphash.String(seed, print))
	}
	return rows.Err()
}

// sleep waits and says whether the context still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
