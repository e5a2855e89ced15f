// Package pgtest gives every test a PostgreSQL database of its own.
//
// The first Open of a test process starts a private server (see
// internal/postgres/cluster) with durability switched off, migrates one
// template database, and each test then gets a copy of it, which is dropped
// when the test ends. DATABASE_URL or SEALGATE_TEST_DATABASE_URL names a server
// to use instead; its role must be allowed to create databases.
//
// A package that uses it has
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// which stops the server and removes its files. Without it, or when the test
// process is killed, the kernel stops the server (on Linux) and the next test
// process removes the files.
package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/postgres"
	"sealgate/internal/postgres/cluster"
	"sealgate/internal/postgres/migrate"
	"sealgate/migrations"
)

// PoolSize is the number of connections of a pool that Open returns.
const PoolSize = 16

const (
	stepTimeout  = 90 * time.Second // start, migrate
	dropTimeout  = 20 * time.Second
	closeTimeout = 3 * time.Second // for connections the test has not released
)

// server is the one server of this test process.
var server struct {
	once      sync.Once
	err       error
	url       string // of a database to give commands from
	private   *privateServer
	templates sync.Map // fs.FS -> *template
}

// template is a migrated database that is copied for each test.
type template struct {
	once sync.Once
	name string
	err  error
}

// Main runs the tests and then stops the private server. Use it as the whole
// of TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if err := Shutdown(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		if code == 0 {
			code = 1
		}
	}
	os.Exit(code)
}

// Shutdown is what Main does after the tests, for a TestMain that has more to do.
func Shutdown() error {
	if server.url == "" {
		return nil
	}
	if server.private != nil {
		return server.private.stop()
	}
	var errs []error
	server.templates.Range(func(_, v any) bool {
		if t := v.(*template); t.name != "" {
			errs = append(errs, command(context.Background(), "DROP DATABASE IF EXISTS "+quote(t.name)+" WITH (FORCE)"))
		}
		return true
	})
	return errors.Join(errs...)
}

// Open gives a pool on a fresh database with the schema of
// sealgate/migrations. Pool and database go when the test ends; a connection
// the test has not given back by then is an error of the test.
func Open(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return open(t, migrations.FS)
}

// OpenFS is Open with other migrations.
func OpenFS(t testing.TB, files fs.FS) *pgxpool.Pool {
	t.Helper()
	return open(t, files)
}

// URL gives the connection string of a fresh migrated database, for tests
// that run a whole server, or several, on it. It is dropped when the test ends.
func URL(t testing.TB) string {
	t.Helper()
	return database(t, migrations.FS)
}

// EmptyURL gives the connection string of a fresh database without any schema.
func EmptyURL(t testing.TB) string {
	t.Helper()
	return database(t, nil)
}

func open(t testing.TB, files fs.FS) *pgxpool.Pool {
	t.Helper()
	cfg, err := postgres.Configure(database(t, files))
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	cfg.MaxConns = PoolSize
	cfg.MinConns = 0
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		done := make(chan struct{})
		go func() { pool.Close(); close(done) }()
		select {
		case <-done:
		case <-time.After(closeTimeout):
			t.Errorf("pgtest: %d connections were never released to the pool", pool.Stat().AcquiredConns())
		}
	})
	return pool
}

// database makes the test's database and has it dropped at the end.
func database(t testing.TB, files fs.FS) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	server.once.Do(func() { server.err = start(ctx) })
	if server.err != nil {
		t.Fatalf("pgtest: %v", server.err)
	}
	source := "template1"
	if files != nil {
		var err error
		if source, err = migrated(ctx, files); err != nil {
			t.Fatalf("pgtest: %v", err)
		}
	}
	name := "sgt_" + randomName()
	if err := command(ctx, "CREATE DATABASE "+quote(name)+" TEMPLATE "+quote(source)); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
		defer cancel()
		if err := command(ctx, "DROP DATABASE "+quote(name)+" WITH (FORCE)"); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return withDatabase(server.url, name)
}

// start finds or starts the server.
func start(ctx context.Context) error {
	for _, name := range []string{"SEALGATE_TEST_DATABASE_URL", "DATABASE_URL"} {
		if v := os.Getenv(name); v != "" {
			if _, err := url.Parse(v); err != nil {
				return fmt.Errorf("%s is not a URL", name) // it may hold a password: not shown
			}
			server.url = v
			return nil
		}
	}
	p, err := startPrivate(ctx)
	if err != nil {
		if errors.Is(err, cluster.ErrNoBinaries) {
			return fmt.Errorf("these tests run on a real PostgreSQL: %w", err)
		}
		return err
	}
	server.private, server.url = p, p.cluster.DatabaseURL("postgres")
	return nil
}

// migrated gives the name of the template database for these migrations and
// makes it when it is the first time. Maps and pointers behind an fs.FS are
// told apart by identity, not by content.
func migrated(ctx context.Context, files fs.FS) (string, error) {
	v, _ := server.templates.LoadOrStore(key(files), &template{})
	t := v.(*template)
	t.once.Do(func() { t.name, t.err = makeTemplate(ctx, files) })
	return t.name, t.err
}

// key is something comparable that stands for the file system.
func key(files fs.FS) any {
	if files == fs.FS(migrations.FS) {
		return "sealgate/migrations"
	}
	return fmt.Sprintf("%T %p", files, files)
}

func makeTemplate(ctx context.Context, files fs.FS) (string, error) {
	name := "sgtemplate_" + randomName()
	if err := command(ctx, "CREATE DATABASE "+quote(name)); err != nil {
		return "", err
	}
	pool, err := pgxpool.New(ctx, withDatabase(server.url, name))
	if err != nil {
		return "", err
	}
	// A database that is copied must have no connections.
	defer pool.Close()
	if _, err := migrate.UpFS(ctx, pool, files); err != nil {
		return "", err
	}
	return name, nil
}

// command runs one statement on a connection of its own: databases cannot be
// made or dropped inside a transaction, and few are.
func command(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, server.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql)
	return err
}

func withDatabase(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		return "" // start has parsed it already
	}
	u.Path = "/" + name
	return u.String()
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func randomName() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
