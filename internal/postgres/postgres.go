// Package postgres is the cellar: every SQL statement of the service lives here.
//
// One file a domain. A store's exported method is exactly one transaction (or
// one read); unexported helpers take the open transaction or batch. Statements
// name their columns. Only internal/server, the commands and tests import it.
package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/audit"
	"sealgate/internal/throttle"
)

// DB is the door to the database, shared by all stores.
type DB struct {
	Pool *pgxpool.Pool
	// refusals sums what one address is refused too often; nil writes each.
	refusals *audit.Damper
}

// New wraps a pool.
func New(pool *pgxpool.Pool) *DB { return &DB{Pool: pool} }

// DampRefusals lets only so many refusals of an address have an audit entry
// each, from now on; the rest is summed. Flush of what it gives writes the sums.
func (db *DB) DampRefusals(limit *throttle.Limit) *audit.Damper {
	db.refusals = audit.NewDamper(db.Audit().write, limit)
	return db.refusals
}

// tx runs fn in one transaction; an error rolls everything back. fn must use
// only the transaction it is given: taking a second connection from the pool
// inside it can hang a small pool for good.
func (db *DB) tx(ctx context.Context, fn func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, db.Pool, fn)
}

// errNoRow says that a compare-and-set found no row in the expected state.
var errNoRow = errors.New("no row changed")

// batch collects statements that travel to the server together and are one
// transaction: the first that fails takes all of them back.
type batch struct {
	b      pgx.Batch
	checks []func(pgx.BatchResults) error
}

// exec queues a statement whose row count does not matter.
func (b *batch) exec(sql string, args ...any) {
	b.b.Queue(sql, args...)
	b.checks = append(b.checks, func(r pgx.BatchResults) error {
		_, err := r.Exec()
		return err
	})
}

// one queues a statement without RETURNING that must change exactly one row,
// else the whole transaction is taken back and the error is ifNot. The row
// count is judged by the database itself (one_row of the schema), so that no
// second round trip is needed between the check and the commit.
func (b *batch) one(ifNot error, sql string, args ...any) {
	b.b.Queue("WITH changed AS ("+sql+" RETURNING 1) SELECT one_row(count(*)) FROM changed", args...)
	b.checks = append(b.checks, func(r pgx.BatchResults) error {
		_, err := r.Exec()
		return otherwise(err, ifNot)
	})
}

// found queues a SELECT that must give exactly one row; it may lock it.
func (b *batch) found(ifNot error, sql string, args ...any) {
	b.b.Queue("WITH found AS ("+sql+") SELECT one_row(count(*)) FROM found", args...)
	b.checks = append(b.checks, func(r pgx.BatchResults) error {
		_, err := r.Exec()
		return otherwise(err, ifNot)
	})
}

// scan queues a statement with RETURNING that must change exactly one row, and
// hands that row to fn; otherwise the error is ifNone.
func (b *batch) scan(ifNone error, fn func(row pgx.Row) error, sql string, args ...any) {
	b.b.Queue("WITH changed AS ("+sql+"), counted AS (SELECT one_row(count(*)) AS ok FROM changed) "+
		"SELECT changed.* FROM counted LEFT JOIN changed ON counted.ok", args...)
	b.checks = append(b.checks, func(r pgx.BatchResults) error {
		return otherwise(fn(r.QueryRow()), ifNone)
	})
}

// codeNotOne is what one_row raises.
const codeNotOne = "SG001"

// otherwise turns "not one row" into the error that the caller named.
func otherwise(err, ifNot error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == codeNotOne {
		return ifNot
	}
	return err
}

// pipeline sends all queued statements as one transaction in one round trip.
// The statements of one Sync message are one transaction of their own
// (PostgreSQL documentation, Message Flow, Pipelining), so neither BEGIN nor
// COMMIT has to travel, and no connection is ever left inside a transaction.
func (db *DB) pipeline(ctx context.Context, fill func(b *batch)) error {
	b := &batch{}
	fill(b)
	return b.run(db.Pool.SendBatch(ctx, &b.b))
}

// within runs the batch inside an open transaction.
func (b *batch) within(ctx context.Context, tx pgx.Tx) error {
	return b.run(tx.SendBatch(ctx, &b.b))
}

// run reads every result; it stops at the first error. Closing waits for the
// commit, and tells of its failure.
func (b *batch) run(results pgx.BatchResults) (err error) {
	defer func() {
		if closeErr := results.Close(); err == nil {
			err = closeErr
		}
	}()
	for _, check := range b.checks {
		if err := check(results); err != nil {
			return err
		}
	}
	return nil
}

// isUnique reports a violation of the named unique constraint or index.
func isUnique(err error, constraint string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505" && pg.ConstraintName == constraint
}

// isForeign reports a violation of the named foreign key.
func isForeign(err error, constraint string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23503" && pg.ConstraintName == constraint
}
