package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	pgxuuid "github.com/vgarvardt/pgx-google-uuid/v5"
)

// Configure reads a database URL and sets what every connection of the service
// has: UUIDs in their binary form (through database/sql's Valuer each costs
// microseconds), and a name in the server's list of sessions.
func Configure(url string) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the database URL cannot be read") // the cause may show the password
	}
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "sealgate"
	}
	// Every statement of ours goes by an index, so one plan serves all values.
	// Planning anew for each value looks at every partition and costs far more
	// than the statement itself.
	cfg.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	cfg.ConnConfig.RuntimeParams["jit"] = "off"
	// A node whose machine dies says no goodbye: what its open transaction holds
	// is let go by the server after this, not after hours.
	cfg.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "30s"
	cfg.ConnConfig.RuntimeParams["tcp_keepalives_idle"] = "20"
	cfg.ConnConfig.RuntimeParams["tcp_keepalives_interval"] = "5"
	cfg.ConnConfig.RuntimeParams["tcp_keepalives_count"] = "3"
	cfg.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		pgxuuid.Register(conn.TypeMap())
		return nil
	}
	return cfg, nil
}

// Open gives a pool of at most most connections on a database that answers.
func Open(ctx context.Context, url string, most int) (*pgxpool.Pool, error) {
	cfg, err := Configure(url)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = int32(most)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("database: %w", err)
	}
	return pool, nil
}
