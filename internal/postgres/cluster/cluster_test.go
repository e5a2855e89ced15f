package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

var quick = map[string]string{"fsync": "off", "shared_buffers": "16MB"}

// passableTemp is a temporary directory the unprivileged user can enter;
// t.TempDir is closed to others.
func passableTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sgcluster")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// seed is a database directory that initdb made once: it takes a second or two.
var seed = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sgseed")
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o711), Initialise(context.Background(), Config{Dir: dir, NoSync: true}))
	}
	return dir, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := seed(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// seeded gives a directory below parent with a database in it.
func seeded(t *testing.T, dir string) string {
	t.Helper()
	from, err := seed()
	if err == nil {
		err = Clone(from, dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, dir string) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), Config{Dir: dir, Settings: quick, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop(context.Background()) })
	return c
}

func connect(t *testing.T, c *Cluster) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestStartStopStartFindsTheData(t *testing.T) {
	dir := filepath.Join(passableTemp(t), "a", "b")
	c := start(t, dir)
	conn := connect(t, c)
	if _, err := conn.Exec(t.Context(), "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	var listen, checksums string
	if err := conn.QueryRow(t.Context(), "SELECT current_setting('listen_addresses'), current_setting('data_checksums')").Scan(&listen, &checksums); err != nil {
		t.Fatal(err)
	}
	if listen != "" || checksums != "on" {
		t.Errorf("listen_addresses %q, data_checksums %q", listen, checksums)
	}

	// A second server on the same directory is refused while this one runs.
	if second, err := Start(t.Context(), Config{Dir: dir, Settings: quick}); err == nil {
		_ = second.Stop(context.Background())
		t.Error("two servers on one directory")
	} else if !strings.Contains(err.Error(), "postmaster.pid") {
		t.Errorf("unclear error: %v", err)
	}

	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Errorf("second stop: %v", err)
	}
	select {
	case <-c.Done():
	default:
		t.Error("stopped, but Done is open")
	}

	again := start(t, dir)
	var n int
	if err := connect(t, again).QueryRow(t.Context(), "SELECT n FROM kept").Scan(&n); err != nil || n != 7 {
		t.Errorf("n = %d, %v", n, err)
	}
}

func TestKilledServerIsRecovered(t *testing.T) {
	dir := seeded(t, passableTemp(t))
	c := start(t, dir)
	if _, err := connect(t, c).Exec(t.Context(), "CREATE TABLE kept ()"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(c.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("Done stays open after the server was killed")
	}
	if _, err := connect(t, start(t, dir)).Exec(t.Context(), "SELECT FROM kept"); err != nil {
		t.Error(err)
	}
}

func TestStopWithoutPatience(t *testing.T) {
	c := start(t, seeded(t, passableTemp(t)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func TestLongDirectoryUsesShortSocket(t *testing.T) {
	dir := filepath.Join(passableTemp(t), strings.Repeat("long-", 20))
	c := start(t, seeded(t, dir))
	connect(t, c)
	if !c.tempSocket || !fitsSocket(c.SocketDir()) {
		t.Errorf("socket directory %q", c.SocketDir())
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.SocketDir()); !os.IsNotExist(err) {
		t.Errorf("socket directory is left behind: %v", err)
	}
}

func TestBadSettingIsReportedWithTheServersWords(t *testing.T) {
	_, err := Start(t.Context(), Config{Dir: seeded(t, passableTemp(t)), Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("error: %v", err)
	}
}

func TestForeignDirectoryIsNotTouched(t *testing.T) {
	dir := passableTemp(t)
	file := filepath.Join(dir, "data", "letter.txt")
	if err := os.MkdirAll(filepath.Dir(file), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Config{Dir: dir}); err == nil {
		t.Error("started in somebody's directory")
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

func TestClosedParentIsNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs postgres as another user")
	}
	parent := filepath.Join(passableTemp(t), "closed")
	if err := os.Mkdir(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Config{Dir: filepath.Join(parent, "db")})
	if err == nil || !strings.Contains(err.Error(), parent+" (mode 0700)") {
		t.Errorf("error: %v", err)
	}
}

// fakeBinaries makes a directory whose postgres only tells its version.
func fakeBinaries(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"initdb", "postgres"} {
		script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFind(t *testing.T) {
	old, beta, good := fakeBinaries(t, "14.9"), fakeBinaries(t, "19beta1"), fakeBinaries(t, "16.2 (Debian 16.2-1)")
	t.Setenv("PG_BIN", "")
	for _, tc := range []struct {
		name, explicit, pgBin, major string
		want, wantErr                string
	}{
		{name: "explicit", explicit: good, want: "16.2"},
		{name: "PG_BIN", pgBin: good, want: "16.2"},
		{name: "explicit wins", explicit: good, pgBin: beta, want: "16.2"},
		{name: "beta", explicit: beta, want: "19beta1"},
		{name: "too old", explicit: old, wantErr: "15 or newer"},
		{name: "right major", explicit: good, major: "16", want: "16.2"},
		{name: "wrong major", explicit: good, major: "15", wantErr: "made by PostgreSQL 15"},
		{name: "empty directory", explicit: t.TempDir(), wantErr: "DATABASE_URL"},
		{name: "PG_BIN leads nowhere", pgBin: "/nowhere", wantErr: "as PG_BIN says"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("PG_BIN", tc.pgBin)
			b, err := Find(t.Context(), tc.explicit, tc.major)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("error %v, want %q", err, tc.wantErr)
				}
				return
			}
			if err != nil || b.Version != tc.want {
				t.Errorf("version %q, %v; want %q", b.Version, err, tc.want)
			}
		})
	}
	t.Run("PATH", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir()+string(os.PathListSeparator)+good)
		if b, err := Find(t.Context(), "", "16"); err != nil || b.Dir != good {
			t.Errorf("%+v, %v", b, err)
		}
	})
	t.Run("none is its own error", func(t *testing.T) {
		if _, err := Find(t.Context(), t.TempDir(), ""); !errors.Is(err, ErrNoBinaries) {
			t.Error(err)
		}
	})
}

func TestHighestFirst(t *testing.T) {
	base := t.TempDir()
	for _, v := range []string{"9", "15", "100"} {
		if err := os.MkdirAll(filepath.Join(base, v, "bin"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, d := range highestFirst(filepath.Join(base, "*", "bin")) {
		got = append(got, filepath.Base(filepath.Dir(d)))
	}
	if strings.Join(got, " ") != "100 15 9" {
		t.Errorf("order %v", got)
	}
}
