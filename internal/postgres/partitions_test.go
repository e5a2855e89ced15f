package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
)

// New partitions are made while others read and write every growing table, in
// any order: nobody waits for anybody, or midnight would be an outage.
func TestPartitionsAreMadeBesideWork(t *testing.T) {
	ctx, pool := t.Context(), pgtest.Open(t)
	tx, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	tables := []string{"audit_entries", "orders", "approvals", "signing_authorizations", "signatures", "access_tokens", "order_inputs"}
	for _, table := range tables {
		if _, err := tx.Exec(ctx, fmt.Sprintf("LOCK TABLE %s IN ROW EXCLUSIVE MODE", table)); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- postgres.New(pool).EnsurePartitions(ctx, 20) }()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the partitions wait for those who work")
	}
	if _, err := tx.Exec(ctx, "SELECT 1"); err != nil { // ended by the server for being idle too long
		t.Fatal("the partitions waited for those who work:", err)
	}
	for _, table := range tables {
		var n int
		if err := pool.QueryRow(ctx, `SELECT count(*) FROM pg_inherits WHERE inhparent = $1::regclass`, table).Scan(&n); err != nil || n < 22 {
			t.Errorf("%s has %d partitions, %v", table, n, err)
		}
		// What the parent demands holds in a partition that was attached.
		var indexes, parents int
		last := table + "_p" + time.Now().UTC().AddDate(0, 0, 20).Format("20060102")
		if err := pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM pg_index WHERE indrelid = $1::regclass AND indisvalid),
  (SELECT count(*) FROM pg_index WHERE indrelid = $2::regclass)`, last, table).Scan(&indexes, &parents); err != nil || indexes != parents {
			t.Errorf("%s has %d indexes of %d, %v", last, indexes, parents, err)
		}
	}
	if err := postgres.New(pool).EnsurePartitions(ctx, 20); err != nil {
		t.Errorf("again: %v", err)
	}
}
