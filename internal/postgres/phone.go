package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/order"
)

// PhoneStore serves a person who looks at their own things on the phone.
type PhoneStore struct{ db *DB }

// Phone gives the store behind order.Phone.
func (db *DB) Phone() PhoneStore { return PhoneStore{db} }

var _ order.PhoneStore = PhoneStore{}

// ByCredential reads the device that owns a credential.
func (s PhoneStore) ByCredential(ctx context.Context, credentialID []byte, now time.Time) (*order.Device, error) {
	d, err := scanDevice(s.db.Pool.QueryRow(ctx, deviceForApproval, credentialID, now))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return d, err
}

// Used says whether a challenge was used up.
func (s PhoneStore) Used(ctx context.Context, challenge []byte) (bool, error) {
	var used bool
	err := s.db.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM used_challenges WHERE challenge = $1)`, challenge).Scan(&used)
	return used, err
}

// StartSession uses up the challenge and moves the signature counter.
func (s PhoneStore) StartSession(ctx context.Context, start order.SessionStart) error {
	err := s.db.pipeline(ctx, func(b *batch) {
		b.one(order.ErrChallengeUsed, `INSERT INTO used_challenges (challenge, expires_at) VALUES ($1, $2)`, start.Challenge, start.ExpiresAt)
		queueDeviceUse(b, start.Device, start.Verified.NewSignCount, start.Verified.BackupState, start.At)
		queueAudit(b, start.Audit)
	})
	if isUnique(err, "used_challenges_pkey") {
		return order.ErrChallengeUsed
	}
	return err
}

// queueDeviceUse moves a device's signature counter. It is compared again: of
// two assertions at once by a counting authenticator only one may pass.
func queueDeviceUse(b *batch, d order.Device, count uint32, backupState bool, at time.Time) {
	b.one(order.ErrDeviceStopped, `UPDATE devices SET sign_count = $2, backup_state = $3, last_used_at = $4
		WHERE id = $1 AND state = 'active' AND (sign_count = $5 OR ($2 = 0 AND sign_count = 0))`,
		d.ID, int64(count), backupState, at, int64(d.Credential.SignCount))
}

// History lists a citizen's approved orders, newest first.
func (s PhoneStore) History(ctx context.Context, citizen uuid.UUID, before order.ID, limit int) ([]*order.Order, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT `+orderColumns+` FROM orders
		WHERE citizen_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3`, citizen, before.UUID(), limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*order.Order, error) { return scanOrder(row) })
}

// Refused writes the audit entry of a step that was not allowed.
func (s PhoneStore) Refused(ctx context.Context, entry audit.Entry) error {
	return s.db.Audit().Append(ctx, entry)
}
