package postgres

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/keyring"
)

// KeyringStore is keyring.Store on Postgres.
type KeyringStore struct{ db *DB }

// Keyring gives the store of keys.
func (db *DB) Keyring() KeyringStore { return KeyringStore{db} }

var _ keyring.Store = KeyringStore{}

const keyColumns = `k.id, k.purpose, k.algorithm, k.public_key, k.sealed, k.master_key_id, k.provider, k.handle, k.state, k.created_at`

// insertKey writes a key row in the caller's transaction (the binding of a phone).
func insertKey(ctx context.Context, tx pgx.Tx, k keyring.Row) error {
	_, err := tx.Exec(ctx, insertKeySQL, keyArgs(k)...)
	return err
}

const insertKeySQL = `
INSERT INTO keys (id, purpose, algorithm, public_key, sealed, master_key_id, provider, handle, state, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`

func keyArgs(k keyring.Row) []any {
	return []any{k.ID, k.Purpose, string(k.Algorithm), k.PublicKey, k.Sealed, k.MasterKeyID, k.Provider, k.Handle,
		string(k.State), k.CreatedAt}
}

// Insert writes a new key.
func (s KeyringStore) Insert(ctx context.Context, k keyring.Row, e audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.exec(insertKeySQL, keyArgs(k)...)
		queueAudit(b, e)
	})
}

// InsertFirst writes the key unless its purpose already has an active one. The
// advisory lock orders the nodes that come at the same time.
func (s KeyringStore) InsertFirst(ctx context.Context, k keyring.Row, e audit.Entry) (keyring.Row, error) {
	err := s.db.tx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtext('sealgate.keys'), hashtext($1))`, k.Purpose); err != nil {
			return err
		}
		found, err := currentKey(ctx, tx, k.Purpose)
		if err == nil {
			k = found
			return nil
		}
		if !errors.Is(err, keyring.ErrNoKey) {
			return err
		}
		if err := insertKey(ctx, tx, k); err != nil {
			return err
		}
		return insertAudit(ctx, tx, e)
	})
	return k, err
}

// ServiceKey reads a service key by id.
func (s KeyringStore) ServiceKey(ctx context.Context, id uuid.UUID, purpose string) (keyring.Row, error) {
	return scanKey(s.db.Pool.QueryRow(ctx, `SELECT `+keyColumns+` FROM keys k
WHERE k.id = $1 AND k.purpose = $2 AND k.purpose <> 'mobile' AND k.state <> 'destroyed'`, id, purpose), keyring.ErrNoKey)
}

// Current reads the newest active service key of a purpose.
func (s KeyringStore) Current(ctx context.Context, purpose string) (keyring.Row, error) {
	return currentKey(ctx, s.db.Pool, purpose)
}

type queryRower interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func currentKey(ctx context.Context, q queryRower, purpose string) (keyring.Row, error) {
	return scanKey(q.QueryRow(ctx, `SELECT `+keyColumns+` FROM keys k
WHERE k.purpose = $1 AND k.purpose <> 'mobile' AND k.state = 'active'
ORDER BY k.created_at DESC, k.id DESC LIMIT 1`, purpose), keyring.ErrNoKey)
}

// maxKeyRows bounds List: rotation keeps a few keys of a purpose.
const maxKeyRows = 100

// List reads the active and retired service keys of a purpose, newest first.
func (s KeyringStore) List(ctx context.Context, purpose string) ([]keyring.Row, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT `+keyColumns+` FROM keys k
WHERE k.purpose = $1 AND k.purpose <> 'mobile' AND k.state IN ('active', 'retired')
ORDER BY k.created_at DESC, k.id DESC LIMIT $2`, purpose, maxKeyRows)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (keyring.Row, error) {
		return scanKey(row, keyring.ErrNoKey)
	})
}

// Retire takes an active service key out of use.
func (s KeyringStore) Retire(ctx context.Context, id uuid.UUID, e audit.Entry) error {
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(keyring.ErrNoKey, `UPDATE keys SET state = 'retired', retired_at = $2
WHERE id = $1 AND state = 'active' AND purpose <> 'mobile'`, id, e.At)
		queueAudit(b, e)
	})
}

// PermittedKey reads a citizen's key only while an unused authorization for
// exactly these digests exists: there is no other way to its ciphertext.
func (s KeyringStore) PermittedKey(ctx context.Context, order, key uuid.UUID, digestsHash [32]byte) (keyring.Row, error) {
	return scanKey(s.db.Pool.QueryRow(ctx, `SELECT `+keyColumns+` FROM keys k
JOIN signing_authorizations a ON a.key_id = k.id
WHERE a.order_id = $1 AND k.id = $2 AND a.digests_hash = $3 AND a.consumed_at IS NULL
  AND k.purpose = 'mobile' AND k.state = 'active'`, order, key, digestsHash[:]), keyring.ErrNotPermitted)
}

func scanKey(row pgx.Row, none error) (keyring.Row, error) {
	var k keyring.Row
	err := row.Scan(&k.ID, &k.Purpose, &k.Algorithm, &k.PublicKey, &k.Sealed, &k.MasterKeyID, &k.Provider, &k.Handle,
		&k.State, &k.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return k, none
	}
	return k, err
}

// Custody counts the keys that are not destroyed.
func (s KeyringStore) Custody(ctx context.Context) ([]keyring.Custody, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT provider, master_key_id, purpose, state, count(*) FROM keys
WHERE state <> 'destroyed' GROUP BY provider, master_key_id, purpose, state ORDER BY provider, master_key_id, purpose, state`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (keyring.Custody, error) {
		var c keyring.Custody
		err := row.Scan(&c.Provider, &c.MasterKeyID, &c.Purpose, &c.State, &c.Keys)
		return c, err
	})
}

// Stale lists rows under another master key, by id. One pass through the table
// reads it once, along its primary key: an index on the master key would serve
// nothing else, and would keep resealing from updating in place.
func (s KeyringStore) Stale(ctx context.Context, master string, after uuid.UUID, limit int) ([]keyring.Row, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT `+keyColumns+` FROM keys k
WHERE k.id > $1 AND k.provider = 'sealed' AND k.state <> 'destroyed' AND k.master_key_id <> $2
ORDER BY k.id LIMIT $3`, after, master, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (keyring.Row, error) {
		return scanKey(row, keyring.ErrNoKey)
	})
}

// Reseal replaces sealed bytes that still are what they were. The rows are
// locked by id first, so that two runs wait for each other in one order.
func (s KeyringStore) Reseal(ctx context.Context, rows []keyring.Resealed, e audit.Entry) (int, error) {
	ids := make([]uuid.UUID, len(rows))
	old, fresh := make([][]byte, len(rows)), make([][]byte, len(rows))
	from, to := make([]string, len(rows)), make([]string, len(rows))
	for i, r := range rows {
		ids[i], old[i], fresh[i], from[i], to[i] = r.ID, r.Old, r.New, r.OldMaster, r.NewMaster
	}
	var changed int
	err := s.db.tx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT id FROM keys WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE`, ids); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE keys SET sealed = n.fresh, master_key_id = n.moved
FROM unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::text[], $5::text[]) AS n (id, old, fresh, was, moved)
WHERE keys.id = n.id AND keys.sealed = n.old AND keys.master_key_id = n.was AND keys.state <> 'destroyed'`,
			ids, old, fresh, from, to)
		if err != nil {
			return err
		}
		if changed = int(tag.RowsAffected()); changed == 0 {
			return nil
		}
		return insertAudit(ctx, tx, e.WithInt(audit.KeyCount, changed))
	})
	return changed, err
}

// Unknown tells which of the ids no living key in a token has.
func (s KeyringStore) Unknown(ctx context.Context, ids []uuid.UUID) ([]uuid.UUID, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT i.id FROM unnest($1::uuid[]) AS i (id)
WHERE NOT EXISTS (SELECT 1 FROM keys k WHERE k.id = i.id AND k.provider = 'pkcs11' AND k.state <> 'destroyed')`, ids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// Note writes an audit entry by itself: of an act outside the database.
func (s KeyringStore) Note(ctx context.Context, e audit.Entry) error {
	_, err := s.db.Pool.Exec(ctx, insertAuditSQL, auditArgs(e)...)
	return err
}
