package postgres

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/devices"
	"sealgate/internal/enrolment"
)

var _ enrolment.LossStore = EnrolmentStore{}

// CitizenBySerial finds who holds cards with a subject serial.
func (s EnrolmentStore) CitizenBySerial(ctx context.Context, serial string) (uuid.UUID, error) {
	var id uuid.UUID
	err := s.db.Pool.QueryRow(ctx, `SELECT id FROM citizens WHERE subject_serial = $1`, serial).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		err = enrolment.ErrLossNobody
	}
	return id, err
}

// BeginLoss inserts a statement that a card will sign.
func (s EnrolmentStore) BeginLoss(ctx context.Context, l enrolment.Loss, e audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(errNoRow, `INSERT INTO device_statements (id, purpose, browser_hash, certificate, card_number, statement, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, l.ID, l.Purpose, l.BrowserHash, l.Certificate, l.CardNumber, l.Statement, l.CreatedAt, l.ExpiresAt)
		queueAudit(b, e)
	})
}

// FindLoss reads a statement back.
func (s EnrolmentStore) FindLoss(ctx context.Context, id uuid.UUID) (*enrolment.Loss, error) {
	var l enrolment.Loss
	err := s.db.Pool.QueryRow(ctx, `SELECT id, purpose, browser_hash, certificate, card_number, statement, created_at, expires_at, completed_at
FROM device_statements WHERE id = $1 AND purpose IN ('report-loss', 'undo-loss')`, id).Scan(&l.ID, &l.Purpose, &l.BrowserHash,
		&l.Certificate, &l.CardNumber, &l.Statement, &l.CreatedAt, &l.ExpiresAt, &l.CompletedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, enrolment.ErrLossGone
	}
	return &l, err
}

// EndLoss uses a statement up and changes the phones it is about.
func (s EnrolmentStore) EndLoss(ctx context.Context, e enrolment.LossEnd) ([]string, error) {
	var names []string
	err := s.db.tx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT 1 FROM citizens WHERE id = $1 FOR NO KEY UPDATE`, e.Loss.CitizenID); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE device_statements SET proof = $2, revocation = $3, code = $4, completed_at = $5, citizen_id = $6
WHERE id = $1 AND completed_at IS NULL AND expires_at > $5`, e.Loss.ID, e.Proof, e.Revocation, e.Code, e.At, e.Loss.CitizenID)
		if err != nil {
			return err
		}
		if tag.RowsAffected() != 1 {
			return enrolment.ErrLossGone
		}
		names, err = lossDevices(ctx, tx, e)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			return enrolment.ErrLossNothing
		}
		return insertAudit(ctx, tx, e.Audit.WithInt(audit.KeyCount, len(names)))
	})
	return names, err
}

// lossDevices stops all active phones, or resumes those that a loss had stopped.
func lossDevices(ctx context.Context, tx pgx.Tx, e enrolment.LossEnd) ([]string, error) {
	step := devices.Change{CitizenID: e.Loss.CitizenID, From: []citizen.DeviceState{citizen.DeviceActive}, To: citizen.DeviceSuspended,
		Reason: citizen.ReasonLoss, Certificates: devices.Hold, Notice: "loss_reported", At: e.At}
	act, which := audit.DeviceSuspended, `SELECT id, name FROM devices WHERE citizen_id = $1 AND state = 'active' AND $2::timestamptz IS NOT NULL ORDER BY id`
	if e.Loss.Purpose == enrolment.UndoLoss {
		step.From, step.To, step.Reason, step.Certificates, step.Notice = []citizen.DeviceState{citizen.DeviceSuspended}, citizen.DeviceActive, "", devices.Restore, "device_resumed"
		step.Reasons = []string{citizen.ReasonLoss}
		act, which = audit.DeviceResumed, `SELECT id, name FROM devices WHERE citizen_id = $1 AND state = 'suspended'
AND state_reason = 'loss' AND state_changed_at > $2 ORDER BY id`
	}
	rows, err := tx.Query(ctx, which, e.Loss.CitizenID, e.UndoAfter)
	if err != nil {
		return nil, err
	}
	var ids []uuid.UUID
	var names []string
	var id uuid.UUID
	var name string
	if _, err = pgx.ForEachRow(rows, []any{&id, &name}, func() error {
		ids, names = append(ids, id), append(names, name)
		return nil
	}); err != nil {
		return nil, err
	}
	for _, id := range ids {
		step.DeviceID = id
		step.Audit = audit.New(act).ByCitizen(e.Loss.CitizenID).Device(id).From(e.Audit.IP).With(audit.KeyReason, citizen.ReasonLoss)
		if err := changeDevice(ctx, tx, step); err != nil {
			return nil, err
		}
	}
	return names, nil
}
