package postgres

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"sealgate/internal/certpath"
)

// ListStore is certpath.ListStore on Postgres: revocation lists of other CAs.
type ListStore struct{ db *DB }

// Lists gives the store of other CAs' revocation lists.
func (db *DB) Lists() ListStore { return ListStore{db} }

var _ certpath.ListStore = ListStore{}

// maxKnownLists bounds what a leader's job looks after.
const maxKnownLists = 1024

// Latest reads the newest list kept; its bytes only when it is newer than have.
func (s ListStore) Latest(ctx context.Context, key certpath.ListKey, have time.Time) (certpath.StoredList, error) {
	var l certpath.StoredList
	var issuer []byte
	err := s.db.Pool.QueryRow(ctx, `
SELECT url, issuer, this_update, next_update, fetched_at, CASE WHEN this_update > $3 THEN der END
FROM foreign_lists WHERE url = $1 AND issuer_hash = $2`, key.URL, key.Issuer[:], have).
		Scan(&l.URL, &issuer, &l.ThisUpdate, &l.NextUpdate, &l.FetchedAt, &l.DER)
	if errors.Is(err, pgx.ErrNoRows) {
		return certpath.StoredList{}, nil
	}
	if err != nil {
		return certpath.StoredList{}, err
	}
	l.Issuer, err = x509.ParseCertificate(issuer)
	return l, err
}

// Keep takes a list in, unless a newer one is kept; of the same one only the
// time of asking is new, and its bytes are not written again.
func (s ListStore) Keep(ctx context.Context, l certpath.StoredList) error {
	hash := sha256.Sum256(l.Issuer.Raw)
	return s.db.tx(ctx, func(tx pgx.Tx) error {
		same, err := tx.Exec(ctx, `
UPDATE foreign_lists SET fetched_at = greatest(fetched_at, $4) WHERE url = $1 AND issuer_hash = $2 AND this_update = $3`,
			l.URL, hash[:], l.ThisUpdate, l.FetchedAt)
		if err != nil || same.RowsAffected() > 0 {
			return err
		}
		_, err = tx.Exec(ctx, `
INSERT INTO foreign_lists AS f (url, issuer_hash, issuer, this_update, next_update, fetched_at, der) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (url, issuer_hash) DO UPDATE SET this_update = excluded.this_update, next_update = excluded.next_update,
  fetched_at = excluded.fetched_at, der = excluded.der WHERE f.this_update < excluded.this_update`,
			l.URL, hash[:], l.Issuer.Raw, l.ThisUpdate, l.NextUpdate, l.FetchedAt, l.DER)
		return err
	})
}

// Known lists what was fetched after since.
func (s ListStore) Known(ctx context.Context, since time.Time) ([]certpath.StoredList, error) {
	rows, err := s.db.Pool.Query(ctx, `
SELECT url, issuer, this_update, next_update, fetched_at FROM foreign_lists WHERE fetched_at > $1 ORDER BY url LIMIT $2`, since, maxKnownLists)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (certpath.StoredList, error) {
		var l certpath.StoredList
		var issuer []byte
		err := row.Scan(&l.URL, &issuer, &l.ThisUpdate, &l.NextUpdate, &l.FetchedAt)
		if err == nil {
			l.Issuer, err = x509.ParseCertificate(issuer)
		}
		return l, err
	})
}
