package cluster

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Initialise makes the database directory below dir as Start would, without
// starting a server. It does nothing when there is one already.
func Initialise(ctx context.Context, cfg Config) error {
	owner, err := serverAccount()
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if err := owner.makePassable(dir); err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	version, err := dataVersion(data)
	if err != nil || version != "" {
		return err
	}
	bin, err := Find(ctx, cfg.Binaries, "")
	if err != nil {
		return err
	}
	return initialise(ctx, bin, data, owner, cfg.NoSync, &tail{next: cfg.Log})
}

// Clone copies the database directory below from, which no server may be
// using, to the directory to. It saves the second or two that initdb takes.
// The copies share a system identifier: never make one the standby of another.
func Clone(from, to string) error {
	owner, err := serverAccount()
	if err != nil {
		return err
	}
	if to, err = filepath.Abs(to); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if err := owner.makePassable(to); err != nil {
		return err
	}
	src, dst := filepath.Join(from, "data"), filepath.Join(to, "data")
	err = filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		target := filepath.Join(dst, rel)
		if d.IsDir() {
			if err := os.Mkdir(target, 0o700); err != nil {
				return err
			}
		} else if err := copyFile(path, target); err != nil {
			return err
		}
		return owner.take(target)
	})
	if err != nil {
		return fmt.Errorf("cluster: clone: %w", err)
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}
