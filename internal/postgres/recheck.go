package postgres

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/passkey"
)

// RecheckStore is passkey.RecheckStore on Postgres.
type RecheckStore struct{ db *DB }

// Rechecks gives the store of the job that looks at bound models again.
func (db *DB) Rechecks() RecheckStore { return RecheckStore{db} }

var _ passkey.RecheckStore = RecheckStore{}

// Models jumps from model to model along the index, however many devices each has.
func (s RecheckStore) Models(ctx context.Context) ([]uuid.UUID, error) {
	rows, err := s.db.Pool.Query(ctx, `WITH RECURSIVE m AS (
		(SELECT aaguid FROM devices WHERE state = 'active' ORDER BY aaguid LIMIT 1)
		UNION ALL
		SELECT (SELECT d.aaguid FROM devices d WHERE d.state = 'active' AND d.aaguid > m.aaguid ORDER BY d.aaguid LIMIT 1)
		FROM m WHERE m.aaguid IS NOT NULL)
		SELECT aaguid FROM m WHERE aaguid IS NOT NULL`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// Bound lists active devices of a model by id, with the facts kept at binding.
func (s RecheckStore) Bound(ctx context.Context, aaguid, after uuid.UUID, limit int) ([]passkey.Bound, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT d.id, d.citizen_id, d.aaguid, e.credential->'facts'
		FROM devices d LEFT JOIN enrolments e ON e.order_id = d.enrolment_id
		WHERE d.state = 'active' AND d.aaguid = $1 AND d.id > $2 AND ($1 <> $4 OR d.attestation_format = 'fido-u2f')
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

// Stop takes an active device to suspended.
func (s RecheckStore) Stop(ctx context.Context, device uuid.UUID, reason string, entry audit.Entry) error {
	err := s.db.Citizens().SuspendDevice(ctx, device, reason, entry)
	if err == citizen.ErrDeviceNotFound {
		return nil
	}
	return err
}
