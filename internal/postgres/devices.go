package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/devices"
	"sealgate/internal/issuing"
)

// DeviceStore is devices.Store on Postgres.
type DeviceStore struct{ db *DB }

// Devices gives the store of devices' lives.
func (db *DB) Devices() DeviceStore { return DeviceStore{db} }

var _ devices.Store = DeviceStore{}

// List reads a citizen's devices that are not removed, oldest first.
func (s DeviceStore) List(ctx context.Context, id uuid.UUID) ([]devices.Detail, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT `+deviceColumns+`, cc.state, cc.not_after, m.id, m.serial, m.key_id, m.not_after, m.state,
	EXISTS (SELECT 1 FROM certificate_requests r WHERE r.device_id = d.id AND r.state = 'waiting')
FROM devices d JOIN citizen_certificates cc ON cc.id = d.citizen_certificate_id
LEFT JOIN LATERAL (SELECT id, serial, key_id, not_after, state FROM mobile_certificates
	WHERE device_id = d.id AND superseded_at IS NULL ORDER BY created_at DESC LIMIT 1) m ON true
WHERE d.citizen_id = $1 AND d.state <> 'removed' ORDER BY d.created_at, d.id LIMIT $2`, id, maxDevices)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (devices.Detail, error) {
		var d devices.Detail
		var certificate, key *uuid.UUID
		var serial []byte
		var end *time.Time
		var state *issuing.State
		targets, finish := deviceTargets(&d.Device)
		err := row.Scan(append(targets, &d.CardState, &d.CardNotAfter, &certificate, &serial, &key, &end, &state, &d.Pending)...)
		finish()
		if certificate != nil {
			d.Certificate = &devices.Certificate{ID: *certificate, Serial: serial, KeyID: *key, NotAfter: *end, State: *state}
		}
		return d, err
	})
}

// Gone lists the credentials of a citizen's removed devices, the newest first.
func (s DeviceStore) Gone(ctx context.Context, id uuid.UUID) ([][]byte, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT credential_id FROM devices WHERE citizen_id = $1 AND state = 'removed'
ORDER BY state_changed_at DESC NULLS LAST, id DESC LIMIT $2`, id, maxDevices)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[[]byte])
}

// Rename gives a device that is not removed a new name.
func (s DeviceStore) Rename(ctx context.Context, person, device uuid.UUID, name string, e audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(citizen.ErrDeviceNotFound, `UPDATE devices SET name = $3 WHERE id = $1 AND citizen_id = $2 AND state <> 'removed'`, device, person, name)
		queueAudit(b, e)
	})
}

// Change takes a device from one state to another.
func (s DeviceStore) Change(ctx context.Context, c devices.Change) error {
	return s.db.tx(ctx, func(tx pgx.Tx) error {
		// The citizen's row orders what happens to all of a person's devices.
		if _, err := tx.Exec(ctx, `SELECT 1 FROM citizens WHERE id = $1 FOR NO KEY UPDATE`, c.CitizenID); err != nil {
			return err
		}
		return changeDevice(ctx, tx, c)
	})
}

// changeDevice is Change within the caller's transaction.
func changeDevice(ctx context.Context, tx pgx.Tx, c devices.Change) error {
	tag, err := tx.Exec(ctx, `UPDATE devices d SET state = $3, state_reason = $4, state_changed_at = $5
WHERE d.id = $1 AND d.citizen_id = $2 AND d.state = ANY ($6) AND ($7::text[] IS NULL OR d.state_reason = ANY ($7))
AND ($8 = '00000000-0000-0000-0000-000000000000'::uuid OR EXISTS
	(SELECT 1 FROM devices a WHERE a.id = $8 AND a.citizen_id = $2 AND a.state = 'active'))`,
		c.DeviceID, c.CitizenID, c.To, c.Reason, c.At, states(c.From), c.Reasons, c.By)
	if err != nil {
		return err
	}
	if tag.RowsAffected() != 1 {
		return whyNotChanged(ctx, tx, c)
	}
	if err := changeCertificates(ctx, tx, c); err != nil {
		return err
	}
	if c.Notice != "" {
		if err := insertNotices(ctx, tx, c.CitizenID, c.DeviceID, c.By, c.Notice, c.At); err != nil {
			return err
		}
	}
	return insertAudit(ctx, tx, c.Audit)
}

func whyNotChanged(ctx context.Context, tx pgx.Tx, c devices.Change) error {
	var state citizen.DeviceState
	var reason string
	var in bool
	err := tx.QueryRow(ctx, `SELECT state, state_reason, state = ANY ($3) FROM devices WHERE id = $1 AND citizen_id = $2`, c.DeviceID, c.CitizenID,
		states(c.From)).Scan(&state, &reason, &in)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && state == citizen.DeviceRemoved:
		return citizen.ErrDeviceNotFound
	case err != nil:
		return err
	case in && c.Reasons != nil:
		return citizen.StopFault(reason, devices.ErrResume)
	}
	return devices.ErrState
}

func states(list []citizen.DeviceState) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return out
}

// changeCertificates lets the certificates of a device follow it, and what it
// waits for.
func changeCertificates(ctx context.Context, tx pgx.Tx, c devices.Change) error {
	if endsRequests(c) {
		if err := endRequests(ctx, tx, c); err != nil {
			return err
		}
	}
	switch c.Certificates {
	case devices.Hold:
		return holdCertificates(ctx, tx, c.DeviceID, c.Audit)
	case devices.Restore:
		return certificateStep(ctx, tx, audit.CertificateRestored, c.Audit, 0, `UPDATE mobile_certificates
SET state = 'good', revoked_at = NULL, reason = NULL WHERE device_id = $1 AND state = 'held' RETURNING serial`, c.DeviceID)
	case devices.Revoke:
		return certificateStep(ctx, tx, audit.CertificateRevoked, c.Audit, c.Revocation, `UPDATE mobile_certificates
SET state = 'revoked', revoked_at = coalesce(revoked_at, $2), reason = $3 WHERE device_id = $1 AND state IN ('good', 'held') RETURNING serial`,
			c.DeviceID, c.At, c.Revocation)
	}
	return nil
}

// holdCertificates puts a device's certificates on hold (RFC 5280 §5.3.1).
func holdCertificates(ctx context.Context, tx pgx.Tx, device uuid.UUID, by audit.Entry) error {
	return certificateStep(ctx, tx, audit.CertificateHeld, by, issuing.ReasonHold, `UPDATE mobile_certificates
SET state = 'held', revoked_at = $2, reason = $3 WHERE device_id = $1 AND state = 'good' RETURNING serial`, device, by.At, issuing.ReasonHold)
}

// certificateStep changes certificates and writes one entry for each, by whoever
// made the change.
func certificateStep(ctx context.Context, tx pgx.Tx, act audit.Act, by audit.Entry, reason int, sql string, args ...any) error {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	serials, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return err
	}
	for _, serial := range serials {
		e := audit.New(act).By(by.ActorKind, by.Actor).From(by.IP).With(audit.KeySerial, fmt.Sprintf("%x", serial)).WithInt(audit.KeyReason, reason)
		e.CitizenID, e.DeviceID, e.OrderID = by.CitizenID, by.DeviceID, by.OrderID
		if err := insertAudit(ctx, tx, e); err != nil {
			return err
		}
	}
	return nil
}

// insertNotices tells all of a person's devices but the acting one what happened
// to one of them; a suspended one reads it when it works again.
func insertNotices(ctx context.Context, tx pgx.Tx, person, about, by uuid.UUID, kind string, at time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO device_notices (id, citizen_id, device_id, about_id, kind, created_at)
SELECT gen_random_uuid(), $1, d.id, $2, $4, $5 FROM devices d
WHERE d.citizen_id = $1 AND d.state <> 'removed' AND d.id <> $3 AND (d.id <> $2 OR $4 <> 'device_added')`, person, about, by, kind, at)
	return err
}

// maxNotices bounds what a phone is told at once.
const maxNotices = 20

// Notices lists what a device has not been told yet, newest first.
func (s DeviceStore) Notices(ctx context.Context, device uuid.UUID) ([]devices.Notice, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT n.id, n.kind, n.about_id, d.name, n.created_at FROM device_notices n
JOIN devices d ON d.id = n.about_id WHERE n.device_id = $1 AND n.seen_at IS NULL ORDER BY n.created_at DESC, n.id LIMIT $2`, device, maxNotices)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (devices.Notice, error) {
		var n devices.Notice
		err := row.Scan(&n.ID, &n.Kind, &n.AboutID, &n.AboutName, &n.CreatedAt)
		return n, err
	})
}

// Seen marks a device's notices up to and including one as told.
func (s DeviceStore) Seen(ctx context.Context, device, last uuid.UUID, at time.Time) error {
	_, err := s.db.Pool.Exec(ctx, `UPDATE device_notices SET seen_at = $3 WHERE device_id = $1 AND seen_at IS NULL
AND created_at <= (SELECT created_at FROM device_notices WHERE id = $2 AND device_id = $1)`, device, last, at)
	return err
}

// Refused writes the audit entry of an act that was not allowed.
func (s DeviceStore) Refused(ctx context.Context, e audit.Entry) error {
	return s.db.Audit().Append(ctx, e)
}
