package pgtest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"sealgate/internal/postgres/migrate"
)

func TestMain(m *testing.M) { Main(m) }

func own(sql string) fs.FS {
	return fstest.MapFS{"0001_own.sql": {Data: []byte("-- +goose Up\n" + sql + "\n")}}
}

func TestOpenHasTheSchema(t *testing.T) {
	pool := Open(t)
	steps, err := migrate.Status(t.Context(), pool)
	if err != nil || len(steps) == 0 {
		t.Fatalf("steps %v, %v", steps, err)
	}
	for _, s := range steps {
		if s.AppliedAt.IsZero() {
			t.Errorf("%s is not applied", s.File)
		}
	}
}

func TestDatabasesAreApart(t *testing.T) {
	files := own("CREATE TABLE own (n int PRIMARY KEY);")
	a, b := OpenFS(t, files), OpenFS(t, files)
	if _, err := a.Exec(t.Context(), "INSERT INTO own VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := b.QueryRow(t.Context(), "SELECT count(*) FROM own").Scan(&n); err != nil || n != 0 {
		t.Errorf("the other database has %d rows, %v", n, err)
	}
	if err := a.QueryRow(t.Context(), "SELECT count(*) FROM own").Scan(&n); err != nil || n != 1 {
		t.Errorf("the own database has %d rows, %v", n, err)
	}
}

func TestManyAtOnce(t *testing.T) {
	files := own("CREATE TABLE own ();")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := OpenFS(t, files).Exec(t.Context(), "SELECT FROM own"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestDroppedAtTheEnd(t *testing.T) {
	var url string
	t.Run("inner", func(t *testing.T) {
		url = URL(t)
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		// Left open on purpose: dropping must not wait for it.
		_ = conn
	})
	if conn, err := pgx.Connect(t.Context(), url); err == nil {
		conn.Close(t.Context())
		t.Error("the database is still there")
	}
}

// recorder stands in for a test that leaks a connection.
type recorder struct {
	testing.TB
	failed   bool
	cleanups []func()
}

func (r *recorder) Errorf(string, ...any) { r.failed = true }
func (r *recorder) Cleanup(f func())      { r.cleanups = append(r.cleanups, f) }
func (r *recorder) finish() {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
}

func TestLeakedConnectionIsAnError(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the time limit")
	}
	for _, leak := range []bool{false, true} {
		t.Run(fmt.Sprint("leak ", leak), func(t *testing.T) {
			t.Parallel()
			r := &recorder{TB: t}
			conn, err := OpenFS(r, own("CREATE TABLE own ();")).Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !leak {
				conn.Release()
			}
			r.finish()
			if r.failed != leak {
				t.Errorf("failed = %v", r.failed)
			}
		})
	}
}

func TestSweepLeavesWhatIsInUse(t *testing.T) {
	base := t.TempDir()
	for _, name := range []string{"run-gone", "run-used"} {
		if err := os.MkdirAll(filepath.Join(base, name, "data"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(base, name+".lock"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	held, err := lockFile(filepath.Join(base, "run-used.lock"), syscall.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	sweep(base)
	if _, err := os.Stat(filepath.Join(base, "run-gone")); !os.IsNotExist(err) {
		t.Error("the left-over stays")
	}
	if _, err := os.Stat(filepath.Join(base, "run-used", "data")); err != nil {
		t.Error("what is in use was removed")
	}
}

func TestCopyIsFast(t *testing.T) {
	Open(t) // the template is made
	begin := time.Now()
	Open(t)
	took := time.Since(begin)
	t.Logf("one more database: %v", took)
	if took > 5*time.Second {
		t.Errorf("a copy took %v", took)
	}
}
