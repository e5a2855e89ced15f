package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/order"
)

// Open binds an order that was made over the API to its first browser. The
// phone shows that browser's origin, not the agency's server's.
func (s OrderStore) Open(ctx context.Context, id order.ID, startHash, browserHash []byte, started order.Origin, entry audit.Entry) error {
	origin, err := json.Marshal(started)
	if err != nil {
		return err
	}
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(order.ErrState, `UPDATE orders SET browser_hash = $3, started = $4
			WHERE id = $1 AND state = 'created' AND start_hash = $2 AND browser_hash IS NULL`, id.UUID(), startHash, browserHash, origin)
		queueAudit(b, entry)
	})
}

// Extend gives a created order more time.
func (s OrderStore) Extend(ctx context.Context, id order.ID, browserHash []byte, until time.Time, most int, entry audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(order.ErrState, `UPDATE orders SET expires_at = least($3, final_expires_at), extended = extended + 1
			WHERE id = $1 AND browser_hash = $2 AND state = 'created' AND expires_at > $5 AND extended < $4`,
			id.UUID(), browserHash, until, most, entry.At)
		queueAudit(b, entry)
	})
}

// Freeze holds one frame still.
func (s OrderStore) Freeze(ctx context.Context, id order.ID, browserHash []byte, step int, at time.Time, entry audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(order.ErrState, `UPDATE orders SET frozen_step = $3, frozen_at = $4
			WHERE id = $1 AND browser_hash = $2 AND state = 'created' AND expires_at > $4`, id.UUID(), browserHash, step, at)
		queueAudit(b, entry)
	})
}

// SetCode keeps the MAC of a typed code; an earlier code of the order ends.
func (s OrderStore) SetCode(ctx context.Context, id order.ID, browserHash, mac []byte, until time.Time, entry audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(order.ErrState, `UPDATE orders SET code_mac = $3, code_expires_at = $4, expires_at = greatest(expires_at, least($4, final_expires_at))
			WHERE id = $1 AND browser_hash = $2 AND state = 'created' AND expires_at > $5`, id.UUID(), browserHash, mac, until, entry.At)
		queueAudit(b, entry)
	})
}

// Check uses up one try at the two digits. The try is counted by the same
// statement that compares, so parallel guesses cannot share one; the last wrong
// one ends the order there too. Which entry is true follows from what it did.
func (s OrderStore) Check(ctx context.Context, c order.Checking) (passed bool, tries int, err error) {
	err = s.db.pipeline(ctx, func(b *batch) {
		b.scan(order.ErrState, func(row pgx.Row) error { return row.Scan(&passed, &tries) },
			`UPDATE orders SET check_tries = check_tries + 1,
			check_passed_at = CASE WHEN check_digits = $3 THEN $5::timestamptz END,
			state = CASE WHEN check_digits <> $3 AND check_tries + 1 >= $4 THEN 'failed' ELSE state END,
			ended_at = CASE WHEN check_digits <> $3 AND check_tries + 1 >= $4 THEN $5::timestamptz END,
			end_reason = CASE WHEN check_digits <> $3 AND check_tries + 1 >= $4 THEN 'check_failed' ELSE end_reason END
			WHERE id = $1 AND browser_hash = $2 AND state = 'scanned' AND expires_at > $5
			AND check_digits IS NOT NULL AND check_passed_at IS NULL AND check_tries < $4
			RETURNING check_passed_at IS NOT NULL, check_tries`, c.Order.UUID(), c.BrowserHash, c.Digits, c.Most, c.At)
		queueAuditWhen(b, c.Right, `EXISTS (SELECT FROM orders WHERE id = $13 AND check_passed_at IS NOT NULL)`, c.Order.UUID())
		queueAuditWhen(b, c.Wrong, `EXISTS (SELECT FROM orders WHERE id = $13 AND check_passed_at IS NULL AND state = 'scanned')`, c.Order.UUID())
		queueAuditWhen(b, c.Last, `EXISTS (SELECT FROM orders WHERE id = $13 AND state = 'failed')`, c.Order.UUID())
	})
	return passed, tries, err
}

// Collect takes an approved login order to completed.
func (s OrderStore) Collect(ctx context.Context, id order.ID, browserHash []byte, at time.Time, entry audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(order.ErrState, `UPDATE orders SET state = 'completed', completed_at = $3, ended_at = $3
			WHERE id = $1 AND browser_hash = $2 AND kind = 'login' AND state = 'approved'`, id.UUID(), browserHash, at)
		queueAudit(b, entry)
	})
}

// Expire marks open orders whose time has run out. A node that is writing one
// of them now is left to it.
func (s OrderStore) Expire(ctx context.Context, now time.Time, limit int) (int, error) {
	n := 0
	err := s.db.tx(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `UPDATE orders o SET state = 'expired', ended_at = $1, end_reason = 'time', code_mac = NULL
			FROM (SELECT id FROM orders WHERE state IN ('created', 'scanned') AND expires_at <= $1
				ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED) due
			WHERE o.id = due.id RETURNING o.id, o.client_id, o.kind`, now, limit)
		if err != nil {
			return err
		}
		type due struct {
			ID, Client uuid.UUID
			Kind       string
		}
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[due])
		if err != nil {
			return err
		}
		b := &batch{}
		for _, d := range list {
			queueAudit(b, audit.New(audit.OrderExpired).Order(d.ID).Client(d.Client).With(audit.KeyKind, d.Kind))
		}
		n = len(list)
		if n == 0 {
			return nil
		}
		return b.within(ctx, tx)
	})
	return n, err
}
