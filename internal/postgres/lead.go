package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// leadLock is the advisory lock whose holder leads the jobs.
const leadLock = 0x5ea1_6a7e

// leadCheck is how often the leader makes sure that its connection, and so the
// lock, is still there.
const leadCheck = 5 * time.Second

// Lead runs lead while this node holds the leader's lock; it returns false at
// once where another node holds it. The lock lives with a connection of its
// own: a node that dies gives it up.
func (db *DB) Lead(ctx context.Context, lead func(ctx context.Context)) (bool, error) {
	conn, err := pgx.ConnectConfig(ctx, db.Pool.Config().ConnConfig.Copy())
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var held bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", leadLock).Scan(&held); err != nil || !held {
		return false, err
	}
	leading, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		lead(leading)
	}()
	defer func() {
		stop()
		<-done
	}()
	for sleep(ctx, leadCheck) {
		if err := conn.Ping(ctx); err != nil {
			return true, err
		}
	}
	return true, nil
}

// EnsurePartitions makes the partitions of the growing tables for the coming days.
func (db *DB) EnsurePartitions(ctx context.Context, days int) error {
	_, err := db.Pool.Exec(ctx, "SELECT ensure_partitions($1)", days)
	return err
}

// ForgetChallenges removes used session challenges that have expired anyway.
func (db *DB) ForgetChallenges(ctx context.Context, now time.Time) error {
	_, err := db.Pool.Exec(ctx, "DELETE FROM used_challenges WHERE expires_at < $1", now.Add(-time.Hour))
	return err
}
