// Package cluster runs a private PostgreSQL server for development and tests.
//
// Start makes a database directory when there is none, runs the postgres
// program on it as a child process that listens on a unix socket only, and
// waits until it takes connections. A second Start on the same directory
// finds the data again. Nothing here knows what the data is: schema and
// migrations are other packages' work.
//
// The layout below Config.Dir:
//
//	data/   the database directory (PGDATA), owned by the account that runs postgres
//	sock/   the unix socket; in a short temporary directory instead when the
//	        path would not fit into a socket address (107 bytes)
//
// postgres refuses to run as root. When we are root it is run as the user
// "postgres", or "nobody" where there is no such user, and every directory
// made on the way is passable (0711) for that user.
//
// The server goes when we go: Stop asks it to, and on Linux the kernel asks
// when our process is killed (PR_SET_PDEATHSIG).
package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// role is the database role that owns everything; our operating-system
	// user is mapped to it (pg_ident.conf).
	role = "app"
	// Database is the database that URL names; it is made at the first start.
	Database = "sealgate"

	startTimeout  = 60 * time.Second // includes crash recovery
	stopTimeout   = 10 * time.Second // after this SIGINT becomes SIGQUIT
	quitTimeout   = 5 * time.Second  // after this SIGQUIT becomes SIGKILL
	leftoverWait  = 8 * time.Second  // for a server whose parent has just died
	maxSocketPath = 107              // sun_path less its final zero, Linux
	socketName    = ".s.PGSQL.5432"
)

// Config says where and how to run the server.
type Config struct {
	// Dir holds data and socket; it is made when missing. Required.
	Dir string
	// Binaries is the directory with initdb and postgres. Empty: search as
	// Find describes.
	Binaries string
	// DownloadFrom is the Maven repository to get the programs from when Find
	// finds none anywhere; they are kept in Dir/programs. Empty: no download.
	DownloadFrom string
	// Log receives what initdb and postgres print. Nil: only kept for error
	// messages.
	Log io.Writer
	// Settings are postgres settings (postgresql.conf names), which win over
	// this package's defaults. listen_addresses and unix_socket_directories
	// are not to be set.
	Settings map[string]string
	// NoSync makes initdb skip its final sync to disk: for throw-away data.
	NoSync bool
}

// Cluster is a running server.
type Cluster struct {
	socketDir  string
	tempSocket bool
	cmd        *exec.Cmd
	done       chan struct{}
	waitErr    error // valid once done is closed
	output     *tail
	stopOnce   sync.Once
	stopErr    error
}

// Start makes the database directory if it is new, runs the server and
// returns when it takes connections. The context bounds starting only; the
// server runs until Stop.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	if cfg.Dir == "" {
		return nil, errors.New("cluster: no directory given")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	owner, err := serverAccount()
	if err != nil {
		return nil, err
	}
	if err := owner.makePassable(dir); err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	version, err := dataVersion(data)
	if err != nil {
		return nil, err
	}
	out := &tail{next: cfg.Log}
	bin, err := Find(ctx, cfg.Binaries, version)
	if errors.Is(err, ErrNoBinaries) && cfg.DownloadFrom != "" && cfg.Binaries == "" && os.Getenv("PG_BIN") == "" {
		bin, err = download(ctx, filepath.Join(dir, "programs"), cfg.DownloadFrom, version, out)
	}
	if err != nil {
		return nil, err
	}
	if version == "" {
		if err := initialise(ctx, bin, data, owner, cfg.NoSync, out); err != nil {
			return nil, err
		}
	}
	if err := writeAccess(data, owner); err != nil {
		return nil, err
	}
	c := &Cluster{output: out, done: make(chan struct{})}
	if err := c.chooseSocket(dir, owner); err != nil {
		return nil, err
	}
	waitForLeftover(ctx, data)
	if err := c.run(bin, data, owner, cfg.Settings); err != nil {
		c.removeSocket()
		return nil, err
	}
	if err := c.awaitReady(ctx, data); err != nil {
		_ = c.Stop(context.Background())
		return nil, err
	}
	if err := c.ensureDatabase(ctx); err != nil {
		_ = c.Stop(context.Background())
		return nil, err
	}
	return c, nil
}

// URL is the connection string of the database "sealgate" on the socket, in
// the form pgx and libpq take.
func (c *Cluster) URL() string { return c.DatabaseURL(Database) }

// DatabaseURL is URL for another database of the cluster.
func (c *Cluster) DatabaseURL(name string) string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Path: "/" + name}
	u.RawQuery = url.Values{"host": {c.socketDir}, "sslmode": {"disable"}}.Encode()
	return u.String()
}

// SocketDir is the directory of the unix socket (psql -h).
func (c *Cluster) SocketDir() string { return c.socketDir }

// Done is closed when the server process has ended, whoever ended it.
func (c *Cluster) Done() <-chan struct{} { return c.done }

// Stop ends the server: a fast shutdown (open connections are closed, data is
// flushed), after ten seconds or when ctx ends an immediate one, which the
// next start repairs from the write-ahead log. Stop may be called again; it
// returns the same answer.
func (c *Cluster) Stop(ctx context.Context) error {
	c.stopOnce.Do(func() {
		defer c.removeSocket()
		c.stopErr = c.stop(ctx)
	})
	return c.stopErr
}

func (c *Cluster) stop(ctx context.Context) error {
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, stopTimeout}, {syscall.SIGQUIT, quitTimeout}, {syscall.SIGKILL, quitTimeout}} {
		if err := c.cmd.Process.Signal(step.signal); err != nil {
			if !errors.Is(err, os.ErrProcessDone) {
				return fmt.Errorf("cluster: stop: %w", err)
			}
		}
		timer := time.NewTimer(step.wait)
		select {
		case <-c.done:
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			// Out of patience: what follows must not wait for the caller again.
			ctx = context.WithoutCancel(ctx)
		case <-timer.C:
		}
	}
	return errors.New("cluster: postgres does not end, even on SIGKILL")
}

// chooseSocket puts the socket into dir/sock, or into a short temporary
// directory when its path is too long for a socket address.
func (c *Cluster) chooseSocket(dir string, owner account) error {
	c.socketDir = filepath.Join(dir, "sock")
	if !fitsSocket(c.socketDir) {
		for _, parent := range []string{os.TempDir(), "/tmp"} {
			d, err := os.MkdirTemp(parent, "sgpg")
			if err != nil {
				continue
			}
			if fitsSocket(d) {
				c.socketDir, c.tempSocket = d, true
				return owner.take(d)
			}
			_ = os.Remove(d)
		}
		return fmt.Errorf("cluster: no directory short enough for a unix socket (%d bytes): set TMPDIR to a short path", maxSocketPath)
	}
	if err := os.MkdirAll(c.socketDir, 0o700); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return owner.take(c.socketDir)
}

func fitsSocket(dir string) bool { return len(dir)+1+len(socketName) <= maxSocketPath }

func (c *Cluster) removeSocket() {
	if c.tempSocket {
		_ = os.RemoveAll(c.socketDir)
	}
}

// run starts postgres. The goroutine that starts it keeps its operating-system
// thread until postgres has ended, because the parent-death signal is tied to
// that thread, not to the process.
func (c *Cluster) run(bin Binaries, data string, owner account, settings map[string]string) error {
	all := map[string]string{
		"listen_addresses":        "",
		"unix_socket_directories": c.socketDir,
		"unix_socket_permissions": "0700",
		"logging_collector":       "off",
		"log_destination":         "stderr",
		"max_connections":         "200",
	}
	for k, v := range settings {
		all[k] = v
	}
	args := []string{"-D", data}
	for k, v := range all {
		args = append(args, "-c", k+"="+v)
	}
	cmd := exec.Command(bin.path("postgres"), args...)
	cmd.Dir = data
	cmd.Env = bin.environment()
	cmd.Stdout, cmd.Stderr = c.output, c.output
	cmd.WaitDelay = quitTimeout
	cmd.SysProcAttr = owner.process()
	c.cmd = cmd
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.waitErr = cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("cluster: start postgres: %w", err)
	}
	return nil
}

// awaitReady watches the status line of postmaster.pid, as pg_ctl -w does.
func (c *Cluster) awaitReady(ctx context.Context, data string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return fmt.Errorf("cluster: postgres ended at once (%v):\n%s", c.waitErr, c.output)
		case <-ctx.Done():
			return fmt.Errorf("cluster: postgres is not ready (%w):\n%s", ctx.Err(), c.output)
		case <-tick.C:
		}
		pid, status := readPidFile(data)
		if pid == c.cmd.Process.Pid && status == "ready" {
			return nil
		}
	}
}

// ensureDatabase makes the database that URL names.
func (c *Cluster) ensureDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.DatabaseURL("postgres"))
	if err != nil {
		return fmt.Errorf("cluster: connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)", Database).Scan(&there); err != nil {
		return fmt.Errorf("cluster: look for database: %w", err)
	}
	if there {
		return nil
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{Database}.Sanitize()); err != nil {
		return fmt.Errorf("cluster: create database: %w", err)
	}
	slog.DebugContext(ctx, "database created", "database", Database)
	return nil
}

// readPidFile gives the process id and the status word ("starting",
// "ready", "stopping", "standby") of postmaster.pid; zero values when the
// file is missing or not yet complete.
func readPidFile(data string) (pid int, status string) {
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0, ""
	}
	lines := strings.Split(string(b), "\n")
	pid, _ = strconv.Atoi(strings.TrimSpace(lines[0]))
	if len(lines) >= 8 {
		status = strings.TrimSpace(lines[7])
	}
	return pid, status
}

// waitForLeftover gives a server whose parent was killed a moment ago the time
// to finish its shutdown. A server that stays is left to postgres to report:
// it says clearly that the directory is in use.
func waitForLeftover(ctx context.Context, data string) {
	deadline := time.Now().Add(leftoverWait)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		pid, status := readPidFile(data)
		if pid <= 0 || syscall.Kill(pid, 0) == syscall.ESRCH {
			return
		}
		if status == "ready" && parentAlive(pid) {
			return // somebody is using it: no point in waiting
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// tail passes output on and keeps the end of it for error messages.
type tail struct {
	mu   sync.Mutex
	next io.Writer
	buf  []byte
}

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if n := len(t.buf) - tailSize; n > 0 {
		t.buf = append(t.buf[:0], t.buf[n:]...)
	}
	if t.next != nil {
		// A log that cannot be written must not stop the database.
		_, _ = t.next.Write(p)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
