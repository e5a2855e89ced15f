package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/signing"
)

var _ signing.Archives = SigningStore{}

// DueRenewals lists signatures whose archive time-stamp is to be renewed.
func (s SigningStore) DueRenewals(ctx context.Context, now time.Time, limit int) ([]signing.Due, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT order_id, document, der FROM signatures
WHERE renew_at <= $1 ORDER BY renew_at LIMIT $2`, now, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (signing.Due, error) {
		var d signing.Due
		return d, row.Scan(&d.Order, &d.Document, &d.DER)
	})
}

// Renew replaces a signature that is still what it was.
func (s SigningStore) Renew(ctx context.Context, r signing.Renewal) error {
	var at *time.Time
	if !r.RenewAt.IsZero() {
		at = &r.RenewAt
	}
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(signing.ErrNotFound, `UPDATE signatures SET der = $4, renew_at = $5, renewals = renewals + 1
WHERE order_id = $1 AND document = $2 AND sha256(der) = $3`, r.Order, r.Document, r.Was[:], r.New, at)
		queueAudit(b, r.Entry)
	})
}

// PutOffRenewal notes when to try again.
func (s SigningStore) PutOffRenewal(ctx context.Context, order uuid.UUID, document int, next time.Time) error {
	_, err := s.db.Pool.Exec(ctx, `UPDATE signatures SET renew_at = $3 WHERE order_id = $1 AND document = $2`, order, document, next)
	return err
}
