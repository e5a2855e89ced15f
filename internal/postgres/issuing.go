package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"sealgate/internal/audit"
	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
)

// IssuingStore is issuing.Store on Postgres.
type IssuingStore struct{ db *DB }

// Issuing gives the store of authorities and of the register.
func (db *DB) Issuing() IssuingStore { return IssuingStore{db} }

var _ issuing.Store = IssuingStore{}

// maxAuthorities bounds the list of our own authorities.
const maxAuthorities = 50

// Authorities lists our own authorities.
func (s IssuingStore) Authorities(ctx context.Context) ([]issuing.Authority, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT name, key_id, certificate, issuer, created_at, NULL::timestamptz AS replaced_at FROM authorities WHERE key_id IS NOT NULL
UNION ALL SELECT name, key_id, certificate, issuer, created_at, replaced_at FROM replaced_authorities
ORDER BY replaced_at DESC NULLS FIRST, name LIMIT $1`, maxAuthorities)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (issuing.Authority, error) {
		var a issuing.Authority
		err := row.Scan(&a.Name, &a.KeyID, &a.Certificate, &a.Issuer, &a.CreatedAt, &a.ReplacedAt)
		return a, err
	})
}

// CreateAuthorities writes a set of authorities, once: the advisory lock orders
// nodes that start together, and the later ones find the set.
func (s IssuingStore) CreateAuthorities(ctx context.Context, list []issuing.Authority, keys []keyring.Row, entries []audit.Entry) error {
	return s.db.tx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtext('sealgate.authorities'))`); err != nil {
			return err
		}
		names := make([]string, len(list))
		for i, a := range list {
			names[i] = a.Name
		}
		var exist bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM authorities WHERE name = ANY ($1) AND key_id IS NOT NULL)`, names).Scan(&exist); err != nil || exist {
			return err
		}
		for _, k := range keys {
			if err := insertKey(ctx, tx, k); err != nil {
				return err
			}
		}
		for _, a := range list {
			if _, err := tx.Exec(ctx, `INSERT INTO authorities (name, key_id, certificate, issuer, created_at) VALUES ($1, $2, $3, $4, $5)`,
				a.Name, a.KeyID, a.Certificate, a.Issuer, a.CreatedAt); err != nil {
				return err
			}
		}
		for _, e := range entries {
			if err := insertAudit(ctx, tx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// ReplaceAuthority puts a new key and certificate in the place of old ones.
func (s IssuingStore) ReplaceAuthority(ctx context.Context, r issuing.Replacement) error {
	a := r.Authority
	return s.db.pipeline(ctx, func(b *batch) {
		b.one(issuing.ErrReplaced, `INSERT INTO replaced_authorities (key_id, name, certificate, issuer, created_at, replaced_at)
SELECT key_id, name, certificate, issuer, created_at, $3 FROM authorities WHERE name = $1 AND key_id = $2 FOR UPDATE`, a.Name, r.OldKey, a.CreatedAt)
		b.exec(insertKeySQL, keyArgs(r.Key)...)
		b.one(issuing.ErrReplaced, `UPDATE authorities SET key_id = $2, certificate = $3, issuer = $4, created_at = $5 WHERE name = $1 AND key_id = $6`,
			a.Name, a.KeyID, a.Certificate, a.Issuer, a.CreatedAt, r.OldKey)
		b.one(issuing.ErrReplaced, `UPDATE keys SET destroy_after = $2 WHERE id = $1`, r.OldKey, r.DestroyOldKey)
		for _, e := range r.Entries {
			queueAudit(b, e)
		}
	})
}

// insertMobileCertificate writes a certificate in the caller's transaction (the
// binding of a phone, or a renewal), which writes the audit entry too: only it
// knows by whom and in which order.
func insertMobileCertificate(ctx context.Context, tx pgx.Tx, c issuing.Certificate) error {
	_, err := tx.Exec(ctx, `
INSERT INTO mobile_certificates (id, serial, citizen_id, device_id, key_id, authority, der, not_before, not_after, state, created_at, list_of, list_part)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'good', $10, $11, $12)`,
		c.ID, c.Serial, c.CitizenID, c.DeviceID, c.KeyID, c.Authority, c.DER, c.NotBefore, c.NotAfter, c.CreatedAt, max(1, c.List.Of), c.List.Part)
	return err
}

// Certificate reads one certificate that our own CA issued.
func (s IssuingStore) Certificate(ctx context.Context, serial []byte) (issuing.Certificate, error) {
	var c issuing.Certificate
	var reason *int16
	err := s.db.Pool.QueryRow(ctx, `
SELECT id, serial, citizen_id, device_id, key_id, authority, der, not_before, not_after, state, revoked_at, reason, created_at
FROM mobile_certificates WHERE serial = $1 AND authority NOT LIKE 'outside:%'`, serial).Scan(&c.ID, &c.Serial, &c.CitizenID, &c.DeviceID, &c.KeyID, &c.Authority,
		&c.DER, &c.NotBefore, &c.NotAfter, &c.State, &c.RevokedAt, &reason, &c.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, issuing.ErrNotFound
	}
	if reason != nil {
		c.Reason = int(*reason)
	}
	return c, err
}

// Statuses reads the state of the given serial numbers.
func (s IssuingStore) Statuses(ctx context.Context, authority string, serials [][]byte) ([]issuing.Status, error) {
	rows, err := s.db.Pool.Query(ctx, `
SELECT serial, state, coalesce(revoked_at, 'epoch'), coalesce(reason, 0) FROM mobile_certificates
WHERE serial = ANY ($1) AND authority = $2`, serials, authority)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanStatus)
}

// Population counts the certificates of an authority that have not ended.
// Beyond some hundred thousand the planner's estimate of the table serves: it
// decides how many parts a list gets and need not be exact.
func (s IssuingStore) Population(ctx context.Context, authority string) (int64, error) {
	const countBelow = 200_000
	var n int64
	err := s.db.Pool.QueryRow(ctx, `
SELECT CASE WHEN reltuples > $2 THEN reltuples::bigint
  ELSE (SELECT count(*) FROM mobile_certificates WHERE authority = $1 AND not_after > now()) END
FROM pg_class WHERE oid = 'mobile_certificates'::regclass`, authority, countBelow).Scan(&n)
	return n, err
}

const revocationMark = `SELECT coalesce((SELECT changed FROM revocation_marks WHERE authority = $1), 0), clock_timestamp()`

// Revocations lists what is revoked or held as of the database's clock, unless
// nothing has changed since q.Unless. Mark and lines are of one snapshot.
func (s IssuingStore) Revocations(ctx context.Context, q issuing.RevocationQuery) (issuing.Revocations, error) {
	var r issuing.Revocations
	if q.Unless >= 0 {
		err := s.db.Pool.QueryRow(ctx, revocationMark, q.Authority).Scan(&r.Mark, &r.At)
		if err != nil || r.Mark == q.Unless {
			return r, err
		}
	}
	err := pgx.BeginTxFunc(ctx, s.db.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, revocationMark, q.Authority).Scan(&r.Mark, &r.At); err != nil {
			return err
		}
		sql, args := revokedLines, []any{q.Authority, r.At.Add(-q.After)}
		if q.List.Of > 1 {
			sql, args = sql+` AND list_of = $3 AND list_part = $4`, append(args, q.List.Of, q.List.Part)
		}
		var packed []byte
		if err := tx.QueryRow(ctx, sql, args...).Scan(&packed); err != nil {
			return err
		}
		r.Entries = unpackLines(packed)
		return nil
	})
	return r, err
}

// revokedLines gives the lines of a list as one value: 20 octets of serial
// number, 8 of Unix seconds, 2 of reason each. A list can have a hundred
// thousand lines; as rows they cost ten times as much.
const revokedLines = `
SELECT coalesce(string_agg(substr(decode(repeat('00', 20), 'hex') || serial, octet_length(serial) + 1)
  || int8send(floor(extract(epoch FROM revoked_at))::bigint) || int2send(coalesce(reason, 0)::smallint), ''::bytea), ''::bytea)
FROM mobile_certificates WHERE revoked_at IS NOT NULL AND authority = $1 AND not_after > $2`

func unpackLines(packed []byte) []issuing.Status {
	const serial, size = 20, 30
	out := make([]issuing.Status, len(packed)/size)
	for i := range out {
		line := packed[size*i:][:size]
		out[i] = issuing.Status{Serial: line[:serial:serial], State: issuing.Revoked,
			RevokedAt: time.Unix(int64(binary.BigEndian.Uint64(line[serial:])), 0).UTC(), Reason: int(binary.BigEndian.Uint16(line[serial+8:]))}
	}
	return out
}

func scanStatus(row pgx.CollectableRow) (issuing.Status, error) {
	var st issuing.Status
	err := row.Scan(&st.Serial, &st.State, &st.RevokedAt, &st.Reason)
	return st, err
}

// Revoke ends a certificate. One that was held keeps the time it was held from.
func (s IssuingStore) Revoke(ctx context.Context, st issuing.Status, e audit.Entry) error {
	err := s.db.tx(ctx, func(tx pgx.Tx) error {
		return revokeMobileCertificate(ctx, tx, st, e)
	})
	if !errors.Is(err, errNoRow) {
		return err
	}
	if _, err := s.Certificate(ctx, st.Serial); err != nil {
		return err
	}
	return issuing.ErrRevoked
}

// revokeMobileCertificate ends a certificate in the caller's transaction, with
// its audit entry; errNoRow when it is unknown or revoked already.
func revokeMobileCertificate(ctx context.Context, tx pgx.Tx, st issuing.Status, e audit.Entry) error {
	err := tx.QueryRow(ctx, `
UPDATE mobile_certificates SET state = 'revoked', revoked_at = coalesce(revoked_at, $2), reason = $3
WHERE serial = $1 AND authority NOT LIKE 'outside:%' AND state IN ('good', 'held') RETURNING citizen_id, device_id`,
		st.Serial, st.RevokedAt, st.Reason).Scan(&e.CitizenID, &e.DeviceID)
	if errors.Is(err, pgx.ErrNoRows) {
		return errNoRow
	}
	if err != nil {
		return err
	}
	return insertAudit(ctx, tx, e)
}
