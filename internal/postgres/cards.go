package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/devices"
)

var _ devices.CardStore = DeviceStore{}

// Unchecked lists good cards with active devices, looked at before a time.
func (s DeviceStore) Unchecked(ctx context.Context, before time.Time, after devices.Card, limit int) ([]devices.Card, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT c.id, c.citizen_id, c.der, c.checked_at FROM citizen_certificates c
WHERE c.state = 'good' AND c.checked_at < $1 AND (c.checked_at, c.id) > ($2, $3)
AND EXISTS (SELECT 1 FROM devices d WHERE d.citizen_id = c.citizen_id AND d.citizen_certificate_id = c.id AND d.state = 'active')
ORDER BY c.checked_at, c.id LIMIT $4`, before, after.CheckedAt, after.ID, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (devices.Card, error) { return scanCard(row) })
}

func scanCard(row pgx.Row) (devices.Card, error) {
	var c devices.Card
	err := row.Scan(&c.ID, &c.CitizenID, &c.DER, &c.CheckedAt)
	return c, err
}

// Card reads one citizen certificate.
func (s DeviceStore) Card(ctx context.Context, id uuid.UUID) (devices.Card, error) {
	c, err := scanCard(s.db.Pool.QueryRow(ctx, `SELECT id, citizen_id, der, checked_at FROM citizen_certificates WHERE id = $1`, id))
	if errors.Is(err, pgx.ErrNoRows) {
		err = citizen.ErrCitizenNotFound
	}
	return c, err
}

// Checked notes that a card was found good.
func (s DeviceStore) Checked(ctx context.Context, id uuid.UUID, at time.Time) error {
	_, err := s.db.Pool.Exec(ctx, `UPDATE citizen_certificates SET checked_at = $2 WHERE id = $1 AND state = 'good' AND checked_at < $2`, id, at)
	return err
}

// EndCard ends a good card and stops its devices: those that work, and those that
// their holder stopped and could resume, which then stay stopped because of the
// card. One that was stopped for another reason keeps that reason. The
// certificates of all follow, and what they wait for ends.
func (s DeviceStore) EndCard(ctx context.Context, e devices.CardEnd) error {
	return s.db.tx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT 1 FROM citizens WHERE id = $1 FOR NO KEY UPDATE`, e.Card.CitizenID); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE citizen_certificates SET state = $2, checked_at = $3 WHERE id = $1 AND state = 'good'`, e.Card.ID, e.State, e.At)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT id, `+resumable+` AS stops FROM devices WHERE citizen_id = $1 AND citizen_certificate_id = $2 AND state <> 'removed' ORDER BY id`,
			e.Card.CitizenID, e.Card.ID)
		if err != nil {
			return err
		}
		type bound struct {
			ID    uuid.UUID
			Stops bool
		}
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[bound])
		if err != nil {
			return err
		}
		stopped := 0
		for _, d := range list {
			c := devices.Change{CitizenID: e.Card.CitizenID, DeviceID: d.ID, From: []citizen.DeviceState{citizen.DeviceActive, citizen.DeviceSuspended},
				To: citizen.DeviceSuspended, Reason: e.Reason, Certificates: e.Certificates, Revocation: e.Revocation, Notice: "card_stopped", At: e.At,
				Audit: audit.New(audit.DeviceSuspended).Citizen(e.Card.CitizenID).Device(d.ID).With(audit.KeyReason, e.Reason)}
			follow := changeCertificates
			if d.Stops {
				follow = changeDevice
				stopped++
			}
			if err := follow(ctx, tx, c); err != nil {
				return err
			}
		}
		return insertAudit(ctx, tx, e.Audit.WithInt(audit.KeyCount, stopped))
	})
}
