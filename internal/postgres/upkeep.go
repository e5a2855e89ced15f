package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
)

// upkeepBatch is how many rows one transaction of a cleaning job takes.
const upkeepBatch = 200

// DestroyKeys destroys the private halves of keys whose time has come, in one
// transaction for some, and says how many. A citizen's key for which an approved
// order still waits is left for later. A token's object is removed by
// keyring.Sweep, which finds that no living row has it.
func (s KeyringStore) DestroyKeys(ctx context.Context, at time.Time) (int, error) {
	n := 0
	err := s.db.tx(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
UPDATE keys SET state = 'destroyed', sealed = NULL, destroy_after = NULL, retired_at = coalesce(retired_at, $1)
WHERE id IN (SELECT k.id FROM keys k WHERE k.destroy_after <= $1 AND NOT EXISTS (
		SELECT 1 FROM orders o JOIN signing_authorizations a ON a.order_id = o.id
		WHERE o.state = 'approved' AND o.kind = 'sign' AND a.key_id = k.id AND a.consumed_at IS NULL)
	ORDER BY k.destroy_after LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING id, purpose`, at, upkeepBatch)
		if err != nil {
			return err
		}
		type gone struct {
			ID      uuid.UUID
			Purpose string
		}
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[gone])
		if err != nil {
			return err
		}
		n = len(list)
		b := &batch{}
		for _, k := range list {
			queueAudit(b, audit.New(audit.KeyDestroyed).With(audit.KeyPurpose, k.Purpose).With(audit.KeyKeyID, k.ID.String()).With(audit.KeyReason, "superseded"))
		}
		return b.within(ctx, tx)
	})
	return n, err
}

// Abandoned deletes what was begun and never finished, with the personal values
// in it: enrolments whose order ran out or ended before a time, and statements
// about devices that ran out before it. It says how many there were.
func (db *DB) Abandoned(ctx context.Context, before time.Time) (int, error) {
	n := 0
	err := db.tx(ctx, func(tx pgx.Tx) error {
		for _, sql := range []string{`
DELETE FROM enrolments WHERE order_id IN (SELECT e.order_id FROM enrolments e
	WHERE e.completed_at IS NULL AND e.created_at < $1 AND NOT EXISTS (
		SELECT 1 FROM orders o WHERE o.id = e.order_id AND (o.state = 'completed' OR coalesce(o.ended_at, o.final_expires_at) >= $1))
	ORDER BY e.created_at LIMIT $2)`, `
DELETE FROM device_statements WHERE id IN (SELECT id FROM device_statements
	WHERE completed_at IS NULL AND expires_at < $1 ORDER BY expires_at LIMIT $2)`,
		} {
			tag, err := tx.Exec(ctx, sql, before, upkeepBatch)
			if err != nil {
				return err
			}
			n += int(tag.RowsAffected())
		}
		if n == 0 {
			return nil
		}
		return insertAudit(ctx, tx, audit.New(audit.AbandonedPurged).WithInt(audit.KeyCount, n))
	})
	return n, err
}
