package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"sealgate/internal/postgres/cluster"
)

// privateServer is a cluster in a directory of this process alone.
type privateServer struct {
	cluster *cluster.Cluster
	dir     string
	lock    *os.File // held while the directory is in use
}

// settings trade durability for speed: the data lives as long as the tests.
var settings = map[string]string{
	"fsync":              "off",
	"synchronous_commit": "off",
	"full_page_writes":   "off",
	"autovacuum":         "off",
	"wal_level":          "minimal",
	"max_wal_senders":    "0",
	"max_wal_size":       "256MB",
	"shared_buffers":     "32MB",
	"max_connections":    "150",
}

// startPrivate starts a server on a copy of a seed: a database directory that
// initdb made once and that later test processes of the same user find again.
func startPrivate(ctx context.Context) (*privateServer, error) {
	base := filepath.Join(os.TempDir(), "sealgate-pgtest-"+strconv.Itoa(os.Geteuid()))
	if err := ownDirectory(base); err != nil {
		return nil, err
	}
	bin, err := cluster.Find(ctx, "", "")
	if err != nil {
		return nil, err
	}
	dir, lock, seed, err := reserve(ctx, base, bin)
	if err != nil {
		return nil, err
	}
	p := &privateServer{dir: dir, lock: lock}
	if err := cluster.Clone(seed, dir); err != nil {
		return nil, errors.Join(err, p.remove())
	}
	p.cluster, err = cluster.Start(ctx, cluster.Config{Dir: dir, Binaries: bin.Dir, Settings: settings})
	if err != nil {
		return nil, errors.Join(err, p.remove())
	}
	return p, nil
}

// reserve makes the process' own directory, removes those of processes that
// are gone, and makes the seed when it is missing. All under one lock, since
// go test runs several packages at a time.
func reserve(ctx context.Context, base string, bin cluster.Binaries) (dir string, lock *os.File, seed string, err error) {
	guard, err := lockFile(filepath.Join(base, "guard"), syscall.LOCK_EX)
	if err != nil {
		return "", nil, "", err
	}
	defer guard.Close() // closing releases
	sweep(base)
	id := sha256.Sum256([]byte(bin.Dir + "\n" + bin.Version))
	seed = filepath.Join(base, "seed-"+hex.EncodeToString(id[:6]))
	if err := cluster.Initialise(ctx, cluster.Config{Dir: seed, Binaries: bin.Dir, NoSync: true}); err != nil {
		return "", nil, "", err
	}
	dir, err = os.MkdirTemp(base, "run-")
	if err != nil {
		return "", nil, "", err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return "", nil, "", err
	}
	lock, err = lockFile(dir+".lock", syscall.LOCK_EX|syscall.LOCK_NB)
	return dir, lock, seed, err
}

// sweep removes directories whose lock nobody holds any more.
func sweep(base string) {
	locks, _ := filepath.Glob(filepath.Join(base, "run-*.lock"))
	for _, path := range locks {
		f, err := lockFile(path, syscall.LOCK_EX|syscall.LOCK_NB)
		if err != nil {
			continue // in use
		}
		_ = os.RemoveAll(strings.TrimSuffix(path, ".lock"))
		_ = os.Remove(path)
		_ = f.Close()
	}
}

func (p *privateServer) stop() error {
	// Nothing is worth keeping: an immediate stop is enough.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return errors.Join(p.cluster.Stop(ctx), p.remove())
}

func (p *privateServer) remove() error {
	err := os.RemoveAll(p.dir)
	if p.lock != nil {
		_ = os.Remove(p.dir + ".lock")
		_ = p.lock.Close()
	}
	return err
}

// lockFile opens the file, made when missing, and takes an advisory lock on
// it. The lock goes with the returned file, also when the process is killed.
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), how)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// ownDirectory makes the directory, or checks that it is ours: the temporary
// directory is shared and its names can be guessed.
func ownDirectory(dir string) error {
	if err := os.Mkdir(dir, 0o711); err != nil && !os.IsExist(err) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is not a directory of ours: remove it", dir)
	}
	if info.Mode().Perm() != 0o711 {
		return os.Chmod(dir, 0o711)
	}
	return nil
}
