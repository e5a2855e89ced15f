package postgres

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/passkey"
)

// RecheckStore is passkey.RecheckStore on Postgres.
type RecheckStore struct{ db *DB }

// Rechecks gives the store of the job that looks at bound models again.
func (db *DB) Rechecks() RecheckStore { return RecheckStore{db} }

var _ passkey.RecheckStore = RecheckStore{}

// resumable are the devices that work, or that their holder can make work again.
// It is the predicate of the indexes devices_model and devices_u2f.
const resumable = `state <> 'removed' AND state_reason IN ('', 'asked_by_citizen', 'loss')`

// Models jumps from model to model along the index, however many devices each has.
func (s RecheckStore) Models(ctx context.Context) ([]uuid.UUID, error) {
	rows, err := s.db.Pool.Query(ctx, `WITH RECURSIVE m AS (
		(SELECT aaguid FROM devices WHERE `+resumable+` ORDER BY aaguid LIMIT 1)
		UNION ALL
		SELECT (SELECT d.aaguid FROM devices d WHERE `+resumable+` AND d.aaguid > m.aaguid ORDER BY d.aaguid LIMIT 1)
		FROM m WHERE m.aaguid IS NOT NULL)
		SELECT aaguid FROM m WHERE aaguid IS NOT NULL`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// Bound lists working and resumable devices of a model by id, with the facts kept at binding.
func (s RecheckStore) Bound(ctx context.Context, aaguid, after uuid.UUID, limit int) ([]passkey.Bound, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT d.id, d.citizen_id, d.aaguid, e.credential->'facts'
		FROM devices d LEFT JOIN enrolments e ON e.order_id = d.enrolment_id
		WHERE `+resumable+` AND d.aaguid = $1 AND d.id > $2 AND ($1 <> $4 OR d.attestation_format = 'fido-u2f')
		ORDER BY d.id LIMIT $3`, aaguid, after, limit, uuid.Nil)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (passkey.Bound, error) {
		var b passkey.Bound
		var facts []byte
		if err := row.Scan(&b.Device, &b.Citizen, &b.AAGUID, &facts); err != nil || facts == nil {
			return b, err
		}
		return b, json.Unmarshal(facts, &b.Facts)
	})
}

// Stop takes an active device to suspended. One that its holder stopped stays so,
// for the reason that the holder cannot lift.
func (s RecheckStore) Stop(ctx context.Context, device uuid.UUID, reason string, entry audit.Entry) error {
	return s.db.tx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE devices SET state = 'suspended', state_reason = $2, state_changed_at = $3 WHERE id = $1 AND `+resumable,
			device, reason, entry.At)
		if err != nil || tag.RowsAffected() != 1 {
			return err
		}
		if err := holdCertificates(ctx, tx, device, entry); err != nil {
			return err
		}
		return insertAudit(ctx, tx, entry)
	})
}
