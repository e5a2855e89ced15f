package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/pkitest"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/cluster"
)

// rig is what the load runs against.
type rig struct {
	cluster   *cluster.Cluster
	postgres  int // process id
	pool      *pgxpool.Pool
	hierarchy *pkitest.Hierarchy
	stopPKI   func()
	child     *exec.Cmd
	toChild   io.WriteCloser
	fromChild *bufio.Reader
	serving
	transport *http.Transport
	phones    chan *softphone.Phone // not in use
	finished  atomic.Int64
	token     atomic.Pointer[apiToken]
	bare      Bare
	level     string // of signatures; "" is the service's own
}

func newRig(ctx context.Context, cfg Config, dir string) (_ *rig, err error) {
	r := &rig{}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.cluster, err = cluster.Start(ctx, cluster.Config{Dir: filepath.Join(dir, "postgres")}); err != nil {
		return nil, err
	}
	if r.postgres, err = postmaster(filepath.Join(dir, "postgres")); err != nil {
		return nil, err
	}
	if r.pool, err = postgres.Open(ctx, r.cluster.URL(), 2); err != nil {
		return nil, err
	}
	if r.hierarchy, r.stopPKI, err = pkitest.Start(pkitest.Options{}); err != nil {
		return nil, err
	}
	pki := filepath.Join(dir, "pki")
	for name, der := range map[string][]byte{"anchors/root.cer": r.hierarchy.Root.Raw, "intermediates/ca.cer": r.hierarchy.CA.Raw} {
		file := filepath.Join(pki, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(file, der, 0o644); err != nil {
			return nil, err
		}
	}
	r.transport = newTransport(cfg.Concurrency)
	return r, r.startChild(ctx, cfg, dir, pki)
}

// newTransport keeps one connection for each order under way, as a reverse
// proxy in front would.
func newTransport(concurrency int) *http.Transport {
	return &http.Transport{MaxIdleConns: 4 * concurrency, MaxIdleConnsPerHost: 4 * concurrency, IdleConnTimeout: time.Minute,
		DisableCompression: true, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext}
}

// startChild starts the server as a process of its own and waits for its ports.
func (r *rig) startChild(ctx context.Context, cfg Config, dir, pki string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"bench", "serve", "--dir", dir, "--database", r.cluster.URL(), "--pki", pki,
		"--responder", strings.TrimPrefix(r.hierarchy.BaseURL(), "http://")}
	if cfg.Profile != "" {
		args = append(args, "--cpuprofile", cfg.Profile)
	}
	r.child = exec.Command(self, args...)
	var stderr bytes.Buffer
	r.child.Stderr = &stderr
	if r.toChild, err = r.child.StdinPipe(); err != nil {
		return err
	}
	out, err := r.child.StdoutPipe()
	if err != nil {
		return err
	}
	r.fromChild = bufio.NewReader(out)
	if err := r.child.Start(); err != nil {
		return err
	}
	line, err := r.fromChild.ReadBytes('\n')
	if err != nil {
		_ = r.child.Wait()
		r.child = nil
		return fmt.Errorf("the server did not start: %s", stderr.String())
	}
	return json.Unmarshal(line, &r.serving)
}

// memory makes the server collect its garbage and says what is left.
func (r *rig) memory() (memory, error) {
	var m memory
	if _, err := io.WriteString(r.toChild, "gc\n"); err != nil {
		return m, err
	}
	line, err := r.fromChild.ReadBytes('\n')
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(line, &m)
}

func (r *rig) close() {
	if r.transport != nil {
		r.transport.CloseIdleConnections()
	}
	if r.child != nil && r.child.Process != nil {
		_ = r.toChild.Close()
		timer := time.AfterFunc(20*time.Second, func() { _ = r.child.Process.Kill() })
		_ = r.child.Wait()
		timer.Stop()
	}
	if r.stopPKI != nil {
		r.stopPKI()
	}
	if r.pool != nil {
		r.pool.Close()
	}
	if r.cluster != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = r.cluster.Stop(ctx)
	}
}

// postmaster finds the process id of the cluster's server.
func postmaster(dir string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	var pid int
	if _, err := fmt.Sscan(string(raw), &pid); err != nil || pid <= 0 {
		return 0, errors.New("bench: postmaster.pid is not as expected")
	}
	return pid, nil
}

// phone takes a citizen's phone for one order; give it back. A phone answers
// one order at a time: two assertions that overtake each other look like a
// copied key, and the device is stopped.
func (r *rig) phone(ctx context.Context) (p *softphone.Phone, giveBack func(), err error) {
	select {
	case p = <-r.phones:
		return p, func() { r.phones <- p }, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}
