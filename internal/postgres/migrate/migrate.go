// Package migrate brings a database to the schema of sealgate/migrations.
//
// Nodes may start at the same moment: a session advisory lock lets one of
// them work while the others wait and then find nothing left to do.
package migrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"sealgate/migrations"
)

const (
	// lockID names the advisory lock: "sealgate" read as a number, so that it
	// does not meet another program's lock on a shared server.
	lockID int64 = 0x7365616c67617465
	// A node that waits for another's migration asks once a second and gives
	// up after lockTries; a migration that takes longer is run by hand.
	lockEverySeconds = 1
	lockTries        = 300
)

// Step is one migration and its state.
type Step struct {
	// Version is the number at the start of the file name.
	Version int64
	// File is the file name.
	File string
	// AppliedAt is the time it was run; zero when it is still to be run.
	AppliedAt time.Time
}

// Up runs what is missing, each file in its own transaction unless the file
// says "-- +goose NO TRANSACTION". It is safe to call from several nodes at
// once. It returns the steps it ran itself.
func Up(ctx context.Context, pool *pgxpool.Pool) ([]Step, error) {
	return up(ctx, pool, migrations.FS)
}

// UpFS is Up with other files: for tests of stores whose tables are not in
// the schema yet.
func UpFS(ctx context.Context, pool *pgxpool.Pool, files fs.FS) ([]Step, error) {
	return up(ctx, pool, files)
}

func up(ctx context.Context, pool *pgxpool.Pool, files fs.FS) ([]Step, error) {
	p, done, err := provider(pool, files)
	if err != nil {
		return nil, err
	}
	defer done()
	results, err := p.Up(ctx)
	steps := make([]Step, 0, len(results))
	for _, r := range results {
		if r.Error != nil {
			continue
		}
		steps = append(steps, Step{Version: r.Source.Version, File: r.Source.Path, AppliedAt: time.Now()})
		slog.DebugContext(ctx, "migration applied", "file", r.Source.Path, "took", r.Duration)
	}
	var partial *goose.PartialError
	if errors.As(err, &partial) && partial.Failed != nil {
		return steps, fmt.Errorf("migrate: %s: %w", partial.Failed.Source.Path, partial.Err)
	}
	if err != nil {
		return steps, fmt.Errorf("migrate: %w", err)
	}
	return steps, nil
}

// Status lists every migration known to this program, in order. It changes
// nothing except that it makes the version table when there is none.
func Status(ctx context.Context, pool *pgxpool.Pool) ([]Step, error) {
	p, done, err := provider(pool, migrations.FS)
	if err != nil {
		return nil, err
	}
	defer done()
	list, err := p.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate: status: %w", err)
	}
	steps := make([]Step, 0, len(list))
	for _, s := range list {
		step := Step{Version: s.Source.Version, File: s.Source.Path}
		if s.State == goose.StateApplied {
			step.AppliedAt = s.AppliedAt
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// provider wires goose to the pool. done gives the pool's connections back.
func provider(pool *pgxpool.Pool, files fs.FS) (*goose.Provider, func(), error) {
	locker, err := lock.NewPostgresSessionLocker(
		lock.WithLockID(lockID),
		lock.WithLockTimeout(lockEverySeconds, lockTries),
		lock.WithUnlockTimeout(lockEverySeconds, 5),
	)
	if err != nil {
		return nil, nil, fmt.Errorf("migrate: %w", err)
	}
	db := stdlib.OpenDBFromPool(pool)
	// No Go migrations, and none that another import may have registered.
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		_ = db.Close()
		return nil, nil, fmt.Errorf("migrate: %w", err)
	}
	return p, func() { _ = db.Close() }, nil
}
