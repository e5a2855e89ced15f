// Package postgres is the cellar: every SQL statement of the service lives here.
//
// One file a domain. A store's exported method is exactly one transaction (or
// one read); unexported helpers take the open transaction or batch. Statements
// name their columns. Only internal/server, the commands and tests import it.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DB is the door to the database, shared by all stores.
type DB struct {
	Pool *pgxpool.Pool
}

// New wraps a pool.
func New(pool *pgxpool.Pool) *DB { return &DB{Pool: pool} }

// tx runs fn in one transaction; an error rolls everything back. fn must use
// only the transaction it is given: taking a second connection from the pool
// inside it can hang a small pool for good.
func (db *DB) tx(ctx context.Context, fn func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, db.Pool, fn)
}

// rollbackTimeout bounds the clean-up of a failed transaction.
const rollbackTimeout = 3 * time.Second

// errNoRow says that a compare-and-set found no row in the expected state.
var errNoRow = errors.New("no row changed")

// batch collects statements that travel to the server together.
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

// one queues a statement that must change exactly one row, else the whole
// transaction is rolled back with ifNot.
func (b *batch) one(ifNot error, sql string, args ...any) {
	b.b.Queue(sql, args...)
	b.checks = append(b.checks, func(r pgx.BatchResults) error {
		tag, err := r.Exec()
		if err != nil {
			return err
		}
		if tag.RowsAffected() != 1 {
			return ifNot
		}
		return nil
	})
}

// scan queues a statement and hands its single row to fn; no row gives ifNone.
func (b *batch) scan(ifNone error, fn func(row pgx.Row) error, sql string, args ...any) {
	b.b.Queue(sql, args...)
	b.checks = append(b.checks, func(r pgx.BatchResults) error {
		err := fn(r.QueryRow())
		if errors.Is(err, pgx.ErrNoRows) {
			return ifNone
		}
		return err
	})
}

// pipeline sends BEGIN and all queued statements in one round trip, checks each
// result, and commits in a second one. The first failing check rolls back.
func (db *DB) pipeline(ctx context.Context, fill func(b *batch)) error {
	conn, err := db.Pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("acquire connection: %w", err)
	}
	defer conn.Release()
	b := &batch{}
	b.exec("begin")
	fill(b)
	if err := b.run(ctx, conn.Conn()); err != nil {
		rollback(conn.Conn())
		return err
	}
	tag, err := conn.Exec(ctx, "commit")
	if err != nil {
		rollback(conn.Conn())
		return fmt.Errorf("commit: %w", err)
	}
	if tag.String() == "ROLLBACK" {
		return errors.New("commit: transaction was rolled back")
	}
	return nil
}

// run sends the batch and reads every result; it stops at the first error.
func (b *batch) run(ctx context.Context, conn *pgx.Conn) (err error) {
	results := conn.SendBatch(ctx, &b.b)
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

// rollback ends a failed transaction. It ignores the request's context, which
// may be over: a connection must never go back to the pool inside a transaction.
func rollback(conn *pgx.Conn) {
	if conn.IsClosed() || conn.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
	defer cancel()
	if _, err := conn.Exec(ctx, "rollback"); err != nil {
		_ = conn.Close(ctx)
	}
}

// isUnique reports a violation of the named unique constraint or index.
func isUnique(err error, constraint string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505" && pg.ConstraintName == constraint
}
