package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the operating-system account that runs postgres.
type account struct {
	self     string // our own user name
	name     string // the server's user name
	uid, gid int
	drop     bool // we are root and it is not
}

// serverAccount is our own account, or an unprivileged one when we are root:
// postgres does not run as root.
func serverAccount() (account, error) {
	self, err := user.Current()
	if err != nil {
		return account{}, fmt.Errorf("cluster: who are we: %w", err)
	}
	if os.Geteuid() != 0 {
		return account{self: self.Username, name: self.Username, uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2); err != nil {
			return account{}, fmt.Errorf("cluster: user %s: %w", name, err)
		}
		return account{self: self.Username, name: name, uid: uid, gid: gid, drop: true}, nil
	}
	return account{}, errors.New("cluster: postgres does not run as root and there is no user postgres or nobody to run it as")
}

// systemNames are the users let in over the socket.
func (a account) systemNames() []string {
	if a.self == a.name {
		return []string{a.self}
	}
	return []string{a.self, a.name}
}

// take gives a file or directory of ours to the account.
func (a account) take(path string) error {
	if !a.drop {
		return nil
	}
	if err := os.Chown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// ErrClosedParent: the directory lies below one that the unprivileged account
// may not pass through, such as root's home.
var ErrClosedParent = errors.New("cluster: closed directory")

// makePassable makes dir, with parents the account can pass through. A parent
// that was there before and is closed is reported, not opened: it is not ours
// to open.
func (a account) makePassable(dir string) error {
	if !a.drop {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
		return nil
	}
	_, err := os.Stat(dir)
	fresh := os.IsNotExist(err)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if fresh { // the process' umask may have taken the bit away
		if err := os.Chmod(dir, 0o711); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
	}
	for p := dir; ; p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
		if !a.passes(info) {
			return fmt.Errorf("%w: user %s, which runs postgres for root, cannot pass through %s (mode %04o): "+
				"choose a data directory elsewhere, allow passing with chmod o+x, or set DATABASE_URL", ErrClosedParent, a.name, p, info.Mode().Perm())
		}
		if p == filepath.Dir(p) {
			return nil
		}
	}
}

// passes says whether the account may traverse the directory.
func (a account) passes(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode().Perm(); {
	case !ok:
		return true
	case int(st.Uid) == a.uid:
		return mode&0o100 != 0
	case int(st.Gid) == a.gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}

// process gives the attributes of a child that runs as the account, in a
// process group of its own, so that a ^C in the terminal reaches us alone and
// we decide the order of stopping.
func (a account) process() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a.drop {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	dieWithParent(attr)
	return attr
}
