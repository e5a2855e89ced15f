package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// dataVersion gives the major version of an existing database directory, or
// "" when there is none.
func dataVersion(data string) (string, error) {
	b, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if os.IsNotExist(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cluster: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// initialise runs initdb beside the final place and then renames, so that a
// start that is cut short leaves no half-made database directory.
func initialise(ctx context.Context, bin Binaries, data string, owner account, noSync bool, out *tail) error {
	if entries, err := os.ReadDir(data); err == nil && len(entries) > 0 {
		return fmt.Errorf("cluster: %s exists but is no database directory; move it away", data)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(data), "initdb-")
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	defer os.RemoveAll(fresh) // a no-op after the rename
	if err := owner.take(fresh); err != nil {
		return err
	}
	locale := "C.UTF-8"
	if runtime.GOOS != "linux" {
		locale = "C"
	}
	args := []string{"-D", fresh, "-U", role, "-A", "peer", "-E", "UTF8", "--locale=" + locale, "--data-checksums"}
	if noSync {
		args = append(args, "--no-sync", "--wal-segsize=1")
	}
	cmd := exec.CommandContext(ctx, bin.path("initdb"), args...)
	cmd.Dir = "/"
	cmd.Env = bin.environment()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = owner.process()
	// The parent-death signal follows the thread; see run.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cluster: initdb: %w:\n%s", err, out)
	}
	_ = os.Remove(data) // an empty directory may be there
	if err := os.Rename(fresh, data); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// writeAccess lets our operating-system user, and the one that runs postgres,
// in as the role "app" over the socket, and nobody else. It is written at
// every start because the user may be another one than last time.
func writeAccess(data string, owner account) error {
	hba := "# Written at every start by internal/postgres/cluster.\nlocal all " + role + " peer map=" + role + "\n"
	ident := "# Written at every start by internal/postgres/cluster.\n"
	for _, name := range owner.systemNames() {
		ident += role + " \"" + name + "\" " + role + "\n"
	}
	for file, text := range map[string]string{"pg_hba.conf": hba, "pg_ident.conf": ident} {
		path := filepath.Join(data, file)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return fmt.Errorf("cluster: %w", err)
		}
		if err := owner.take(path); err != nil {
			return err
		}
	}
	return nil
}
