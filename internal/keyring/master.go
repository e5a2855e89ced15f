package keyring

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// masterKeySize is the length of a master key in bytes.
const masterKeySize = 32

// MasterKey seals all other keys. It is kept outside the database.
type MasterKey struct {
	id     string
	sealer *sealer
}

// NewMasterKey takes 32 bytes. They are copied into the cipher; the caller may clear them.
func NewMasterKey(raw []byte) (*MasterKey, error) {
	if len(raw) != masterKeySize {
		return nil, fmt.Errorf("keyring: a master key has %d bytes, not %d", masterKeySize, len(raw))
	}
	s, err := newSealer(raw)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	h.Write([]byte("sealgate/master-key-id/v1\x00"))
	h.Write(raw)
	return &MasterKey{id: hex.EncodeToString(h.Sum(nil)[:8]), sealer: s}, nil
}

// ID is the short public name of the key: 16 hex digits of a hash of it.
func (m *MasterKey) ID() string { return m.id }

// LoadMasterKey reads a master key: a file of exactly 32 bytes that only its
// owner may read. With create, a missing file is made from random bytes; when
// several processes do so at once, all end up with the same key.
func LoadMasterKey(path string, create bool) (*MasterKey, error) {
	raw, err := readMasterKey(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		if err := createMasterKey(path, true); err != nil {
			return nil, fmt.Errorf("keyring: create master key: %w", err)
		}
		raw, err = readMasterKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("keyring: master key: %w", err)
	}
	defer clear(raw)
	return NewMasterKey(raw)
}

// CreateMasterKey writes a new master key to a file that must not exist yet.
func CreateMasterKey(path string) (*MasterKey, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("keyring: %s exists: a master key is never replaced", path)
	}
	if err := createMasterKey(path, false); err != nil {
		return nil, fmt.Errorf("keyring: create master key: %w", err)
	}
	return LoadMasterKey(path, false)
}

func readMasterKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s may be read by others (mode %04o): chmod 600", path, info.Mode().Perm())
	}
	raw, err := io.ReadAll(io.LimitReader(f, masterKeySize+1))
	if err != nil {
		return nil, err
	}
	if len(raw) != masterKeySize {
		clear(raw)
		return nil, fmt.Errorf("%s does not have exactly %d bytes", path, masterKeySize)
	}
	return raw, nil
}

// createMasterKey writes the file complete or not at all: a key must never be
// half written, and never replace one that exists. Finding one is an error
// unless another process may have been first.
func createMasterKey(path string, shared bool) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".master-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	raw := make([]byte, masterKeySize)
	defer clear(raw)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !(shared && errors.Is(err, fs.ErrExist)) {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
