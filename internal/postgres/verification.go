package postgres

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/jackc/pgx/v5"

	"sealgate/internal/verification"
)

// OwnSignatures finds which of the hashes are of signatures that this service
// made, and when it stored them.
func (db *DB) OwnSignatures(ctx context.Context, sums [][sha256.Size]byte) ([]verification.Record, error) {
	wanted := make([][]byte, len(sums))
	for i, sum := range sums {
		wanted[i] = sum[:]
	}
	rows, err := db.Pool.Query(ctx, `SELECT sha256(der), min(created_at) FROM signatures WHERE sha256(der) = ANY ($1) GROUP BY 1`, wanted)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (verification.Record, error) {
		var sum []byte
		var at time.Time
		err := row.Scan(&sum, &at)
		if err != nil {
			return verification.Record{}, err
		}
		return verification.Record{SHA256: [sha256.Size]byte(sum), At: at}, nil
	})
}
