package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/devices"
	"sealgate/internal/issuing"
)

var _ devices.RenewalStore = DeviceStore{}

// Renewable reads a person's device with certificate and card.
func (s DeviceStore) Renewable(ctx context.Context, person, device uuid.UUID) (*devices.Renewable, error) {
	d := &devices.Renewable{}
	var certificate, key *uuid.UUID
	var serial []byte
	var end, used *time.Time
	var state *issuing.State
	var count int64
	c := &d.Credential
	err := s.db.Pool.QueryRow(ctx, `SELECT d.citizen_id, d.id, p.state = 'active', d.state, d.state_reason, d.cooldown_until, d.last_used_at, d.user_handle,
	d.credential_id, d.cose_key, d.cose_algorithm, d.sign_count, d.aaguid, d.backup_eligible, d.backup_state, d.attestation_format, d.attested,
	cc.id, cc.not_after, m.id, m.serial, m.key_id, m.not_after, m.state, m.der,
	EXISTS (SELECT 1 FROM certificate_requests r WHERE r.device_id = d.id AND r.state = 'waiting')
FROM devices d JOIN citizens p ON p.id = d.citizen_id
JOIN citizen_certificates cc ON cc.id = d.citizen_certificate_id
LEFT JOIN LATERAL (SELECT id, serial, key_id, not_after, state, der FROM mobile_certificates
	WHERE device_id = d.id AND superseded_at IS NULL ORDER BY created_at DESC LIMIT 1) m ON true
WHERE d.id = $1 AND d.citizen_id = $2 AND d.state <> 'removed'`, device, person).Scan(&d.CitizenID, &d.DeviceID, &d.CitizenActive, &d.State, &d.StateReason,
		&d.CooldownUntil, &used, &d.UserHandle, &c.ID, &c.PublicKey, &c.Algorithm, &count, &c.AAGUID, &c.BackupEligible, &c.BackupState,
		&c.AttestationFormat, &c.Attested, &d.CardID, &d.CardNotAfter, &certificate, &serial, &key, &end, &state, &d.DER, &d.Pending)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, citizen.ErrDeviceNotFound
	}
	if err != nil {
		return nil, err
	}
	c.SignCount, c.UserHandle = uint32(count), d.UserHandle
	if used != nil {
		d.LastUsedAt = *used
	}
	if certificate != nil {
		d.Certificate = &devices.Certificate{ID: *certificate, Serial: serial, KeyID: *key, NotAfter: *end, State: *state}
	}
	return d, nil
}

// BeginRenewal keeps a statement that the phone will sign.
func (s DeviceStore) BeginRenewal(ctx context.Context, r devices.Renewal, e audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.exec(`DELETE FROM device_statements WHERE device_id = $1 AND purpose = 'renew-certificate' AND completed_at IS NULL`, r.DeviceID)
		b.one(errNoRow, `INSERT INTO device_statements (id, purpose, citizen_id, device_id, old_certificate_id, certificate, statement, created_at, expires_at)
VALUES ($1, 'renew-certificate', $2, $3, $4, $5, $6, $7, $8)`, r.ID, r.CitizenID, r.DeviceID, r.OldCertificate, r.OldDER, r.Statement, r.CreatedAt, r.ExpiresAt)
		queueAudit(b, e)
	})
}

// FindRenewal reads a statement back.
func (s DeviceStore) FindRenewal(ctx context.Context, id uuid.UUID) (*devices.Renewal, error) {
	var r devices.Renewal
	err := s.db.Pool.QueryRow(ctx, `SELECT id, citizen_id, device_id, old_certificate_id, certificate, statement, created_at, expires_at, completed_at
FROM device_statements WHERE id = $1 AND purpose = 'renew-certificate'`, id).Scan(&r.ID, &r.CitizenID, &r.DeviceID, &r.OldCertificate, &r.OldDER,
		&r.Statement, &r.CreatedAt, &r.ExpiresAt, &r.CompletedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, devices.ErrRenewGone
	}
	return &r, err
}

// deadlockTries bounds how often a transaction that was chosen to end a
// deadlock is tried: finishing an order locks certificate and device in another
// order than this does.
const deadlockTries = 3

// Renew puts a new certificate in the place of the old one.
func (s DeviceStore) Renew(ctx context.Context, e devices.RenewalEnd) error {
	return s.db.txAgain(ctx, func(tx pgx.Tx) error { return renew(ctx, tx, e) })
}

// txAgain is tx, tried again after a deadlock.
func (db *DB) txAgain(ctx context.Context, fn func(tx pgx.Tx) error) error {
	var err error
	for range deadlockTries {
		err = db.tx(ctx, fn)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "40P01" {
			return err
		}
	}
	return err
}

func renew(ctx context.Context, tx pgx.Tx, e devices.RenewalEnd) error {
	r, d := e.Renewal, e.Device
	b := &batch{}
	// The citizen's row orders what happens to all of a person's devices.
	b.found(devices.ErrRenewMoved, `SELECT id FROM citizens WHERE id = $1 AND state = 'active' FOR NO KEY UPDATE`, r.CitizenID)
	b.one(devices.ErrRenewMoved, `UPDATE devices SET sign_count = $2, backup_state = $3, last_used_at = $4
WHERE id = $1 AND citizen_id = $6 AND state = 'active' AND (sign_count = $5 OR ($2 = 0 AND sign_count = 0))`,
		d.DeviceID, int64(e.Verified.NewSignCount), e.Verified.BackupState, e.At, int64(d.Credential.SignCount), r.CitizenID)
	b.found(citizen.ErrCardRevoked, `SELECT id FROM citizen_certificates WHERE id = $1 AND state = 'good' FOR SHARE`, d.CardID)
	if e.Request != nil {
		b.found(devices.ErrRenewed, `SELECT id FROM mobile_certificates WHERE id = $1 AND device_id = $2 AND state = 'good' AND superseded_at IS NULL FOR SHARE`,
			r.OldCertificate, r.DeviceID)
		return requestRenewal(ctx, tx, e, b)
	}
	b.one(devices.ErrRenewed, `UPDATE mobile_certificates SET superseded_at = $2 WHERE id = $1 AND device_id = $3 AND state = 'good' AND superseded_at IS NULL`,
		r.OldCertificate, e.At, r.DeviceID)
	b.one(devices.ErrRenewed, `UPDATE keys SET destroy_after = $2 WHERE id = $1 AND purpose = 'mobile'`, d.Certificate.KeyID, e.DestroyOldKey)
	if err := b.within(ctx, tx); err != nil {
		return err
	}
	if err := insertKey(ctx, tx, e.Key); err != nil {
		return err
	}
	if err := insertMobileCertificate(ctx, tx, e.Mobile); err != nil {
		return err
	}
	b = &batch{}
	b.one(devices.ErrRenewGone, `UPDATE device_statements SET proof = $2, revocation = $3, new_certificate_id = $4, completed_at = $5
WHERE id = $1 AND statement = $6 AND completed_at IS NULL AND expires_at > $5`, r.ID, e.Proof, e.Revocation, e.Mobile.ID, e.At, r.Statement)
	b.exec(`UPDATE device_notices SET seen_at = $2 WHERE about_id = $1 AND seen_at IS NULL AND kind LIKE 'certificate\_ends\_%'`, r.DeviceID, e.At)
	queueAudit(b, e.Mobile.Issued())
	for _, entry := range e.Audit {
		queueAudit(b, entry)
	}
	if err := b.within(ctx, tx); err != nil {
		return err
	}
	return insertNotices(ctx, tx, r.CitizenID, r.DeviceID, r.DeviceID, "certificate_renewed", e.At)
}

// requestRenewal ends a renewal with a request to another CA: the old
// certificate and its key stay in force until Accept replaces them.
func requestRenewal(ctx context.Context, tx pgx.Tx, e devices.RenewalEnd, b *batch) error {
	if err := b.within(ctx, tx); err != nil {
		return err
	}
	if err := insertKey(ctx, tx, e.Key); err != nil {
		return err
	}
	err := insertRequest(ctx, tx, *e.Request)
	if isUnique(err, "certificate_requests_waiting") {
		return devices.ErrRenewPending
	}
	if err != nil {
		return err
	}
	b = &batch{}
	b.one(devices.ErrRenewGone, `UPDATE device_statements SET proof = $2, revocation = $3, new_request_id = $4, completed_at = $5
WHERE id = $1 AND statement = $6 AND completed_at IS NULL AND expires_at > $5`, e.Renewal.ID, e.Proof, e.Revocation, e.Request.ID, e.At, e.Renewal.Statement)
	queueAudit(b, e.Request.Requested())
	for _, entry := range e.Audit {
		queueAudit(b, entry)
	}
	return b.within(ctx, tx)
}

// Warn writes notices about certificates that end soon, on the phones that
// they are of, and notes on the certificate that it was done.
func (s DeviceStore) Warn(ctx context.Context, w devices.Warning) (int, error) {
	tag, err := s.db.Pool.Exec(ctx, `
WITH ending AS (
	SELECT m.id, m.device_id, d.citizen_id, cc.not_after <= m.not_after + interval '1 day' AS card
	FROM mobile_certificates m JOIN devices d ON d.id = m.device_id JOIN citizen_certificates cc ON cc.id = d.citizen_certificate_id
	WHERE m.state = 'good' AND m.superseded_at IS NULL AND d.state = 'active'
	AND m.not_after > $1 AND m.not_after <= $1 + make_interval(days => $2) AND (m.warned_days IS NULL OR m.warned_days > $2)
	ORDER BY m.not_after LIMIT $5 FOR NO KEY UPDATE OF m SKIP LOCKED),
told AS (UPDATE mobile_certificates SET warned_days = $2 WHERE id IN (SELECT id FROM ending))
INSERT INTO device_notices (id, citizen_id, device_id, about_id, kind, created_at)
SELECT gen_random_uuid(), citizen_id, device_id, device_id, CASE WHEN card THEN $4 ELSE $3 END, $1 FROM ending`,
		w.At, w.Days, w.Kind, w.Card, w.Limit)
	return int(tag.RowsAffected()), err
}
