package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/mds"
)

// MetadataStore is mds.Store on Postgres.
type MetadataStore struct{ db *DB }

// Metadata gives the store of the FIDO metadata BLOB.
func (db *DB) Metadata() MetadataStore { return MetadataStore{db} }

var _ mds.Store = MetadataStore{}

// Save replaces the BLOB by one with a higher number.
func (s MetadataStore) Save(ctx context.Context, m mds.Stored, entry audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(mds.ErrWentBack, `INSERT INTO mds_blob AS b (number, next_update, raw, source, accepted_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (only_one) DO UPDATE SET number = excluded.number, next_update = excluded.next_update,
			raw = excluded.raw, source = excluded.source, accepted_at = excluded.accepted_at
			WHERE b.number < excluded.number`, m.Number, m.NextUpdate, m.Raw, m.Source, m.AcceptedAt)
		queueAudit(b, entry)
	})
}

// Newer reads the BLOB when its number is higher.
func (s MetadataStore) Newer(ctx context.Context, than int64) (*mds.Stored, error) {
	var m mds.Stored
	err := s.db.Pool.QueryRow(ctx, `SELECT number, next_update, raw, source, accepted_at FROM mds_blob WHERE number > $1`, than).
		Scan(&m.Number, &m.NextUpdate, &m.Raw, &m.Source, &m.AcceptedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &m, err
}
