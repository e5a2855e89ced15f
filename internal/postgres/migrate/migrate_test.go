package migrate_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/postgres/migrate"
	"sealgate/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func empty(t *testing.T, conns int32) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(pgtest.EmptyURL(t))
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConns = conns
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func TestUpThenNothingLeft(t *testing.T) {
	pool := empty(t, 4)
	before, err := migrate.Status(t.Context(), pool)
	if err != nil || len(before) == 0 || !before[0].AppliedAt.IsZero() {
		t.Fatalf("before: %+v, %v", before, err)
	}
	steps, err := migrate.Up(t.Context(), pool)
	if err != nil || len(steps) != len(before) {
		t.Fatalf("up: %d of %d steps, %v", len(steps), len(before), err)
	}
	after, err := migrate.Status(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range after {
		if s.AppliedAt.IsZero() {
			t.Errorf("%s is not applied", s.File)
		}
	}
	if steps, err := migrate.Up(t.Context(), pool); err != nil || len(steps) != 0 {
		t.Errorf("second up: %+v, %v", steps, err)
	}
}

// A node may be configured with one connection: the lock must not need a second.
func TestOneConnectionIsEnough(t *testing.T) {
	if _, err := migrate.Up(t.Context(), empty(t, 1)); err != nil {
		t.Error(err)
	}
}

func TestNodesAtOnce(t *testing.T) {
	url := pgtest.EmptyURL(t)
	files := fstest.MapFS{
		"0001_a.sql": {Data: []byte("-- +goose Up\nCREATE TABLE a (); SELECT pg_sleep(0.3);\n")},
		"0002_b.sql": {Data: []byte("-- +goose Up\nCREATE TABLE b ();\n")},
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	ran := 0
	for range 4 {
		wg.Go(func() {
			pool, err := pgxpool.New(t.Context(), url)
			if err != nil {
				t.Error(err)
				return
			}
			defer pool.Close()
			steps, err := migrate.UpFS(t.Context(), pool, files)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			ran += len(steps)
			mu.Unlock()
		})
	}
	wg.Wait()
	if ran != 2 {
		t.Errorf("%d steps were run by four nodes, want 2", ran)
	}
}

func TestFailedStepIsUndone(t *testing.T) {
	pool := empty(t, 2)
	files := fstest.MapFS{
		"0001_a.sql": {Data: []byte("-- +goose Up\nCREATE TABLE a ();\n")},
		"0002_b.sql": {Data: []byte("-- +goose Up\nCREATE TABLE b ();\nSELECT 1/0;\n")},
	}
	_, err := migrate.UpFS(t.Context(), pool, files)
	if err == nil || !strings.Contains(err.Error(), "0002_b.sql") {
		t.Fatalf("error: %v", err)
	}
	var a, b bool
	if err := pool.QueryRow(t.Context(), "SELECT to_regclass('a') IS NOT NULL, to_regclass('b') IS NOT NULL").Scan(&a, &b); err != nil {
		t.Fatal(err)
	}
	if !a || b {
		t.Errorf("table a there: %v (want true), b there: %v (want false)", a, b)
	}
	if pool.Stat().AcquiredConns() != 0 {
		t.Error("a connection is still held")
	}
}
