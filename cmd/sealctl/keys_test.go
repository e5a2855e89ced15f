package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/keyring"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
)

// keysRun runs "sealctl keys" with the given configuration.
func keysRun(t *testing.T, config string, args ...string) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sealgate.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := keysCommand()
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(append(args, "--config", path))
	err := cmd.ExecuteContext(context.Background())
	return out.String(), err
}

// The whole change of a master key, as the help tells it.
func TestChangingTheMasterKey(t *testing.T) {
	ctx := context.Background()
	t.Cleanup(func() { _ = pgtest.Shutdown() })
	url, dir := pgtest.URL(t), t.TempDir()
	one, two := filepath.Join(dir, "one.key"), filepath.Join(dir, "two.key")
	base := "public_origin: https://id.example.gov.tw\ncard: {anchors_dir: " + dir + "}\ndatabase: {url: \"" + url + "\"}\n"
	expect := func(config, want string, args ...string) string {
		t.Helper()
		out, err := keysRun(t, config, args...)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v: %v\n%s\nwant %q", args, err, out, want)
		}
		return out
	}

	expect(base+"dev: true\nmaster_key_file: "+one, "dry run", "master", "new", one)
	if _, err := os.Stat(one); err == nil {
		t.Fatal("the dry run wrote the file")
	}
	expect(base+"dev: true\nmaster_key_file: "+one, "written to", "master", "new", one, "--apply")
	if _, err := keysRun(t, base, "master", "new", one, "--apply"); err == nil {
		t.Error("an existing master key was replaced")
	}

	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	old, err := keyring.LoadMasterKey(one, false)
	if err != nil {
		t.Fatal(err)
	}
	k, err := keyring.New(keyring.Config{Store: postgres.New(pool).Keyring(), MasterKeys: []*keyring.MasterKey{old}})
	if err != nil {
		t.Fatal(err)
	}
	for _, purpose := range []string{keyring.PurposeOIDC, keyring.PurposeCARoot} {
		if _, err := k.Generate(ctx, purpose, keyring.P256); err != nil {
			t.Fatal(err)
		}
	}
	first := base + "master_key_file: " + one + "\n"
	expect(first, "nothing to do", "reseal", "--apply")
	expect(base, "written to", "master", "new", two, "--apply")
	both := base + "master_key_file: " + two + "\nother_master_key_files: [" + one + "]\n"
	out := expect(both, "2 keys are under a master key that only opens", "status")
	if !strings.Contains(out, old.ID()) || !strings.Contains(out, "ca-root") {
		t.Errorf("status:\n%s", out)
	}
	expect(both, "dry run: 2 keys would be resealed", "reseal")
	expect(both, "2 keys are under a master key that only opens", "status")
	expect(both, "2 keys resealed", "reseal", "--apply", "--batch", "1")
	expect(both, "nothing to do", "reseal", "--apply")
	alone := base + "master_key_file: " + two + "\n"
	if out := expect(alone, "is loaded and seals", "status"); strings.Contains(out, old.ID()) {
		t.Errorf("the old master key is still in use:\n%s", out)
	}
	if out, err := keysRun(t, first, "status"); err == nil || !strings.Contains(out, "NOT LOADED") {
		t.Errorf("with the old master key alone: %v\n%s", err, out)
	}
	if out, err := keysRun(t, alone, "sweep"); err == nil {
		t.Errorf("sweep without a security module:\n%s", out)
	}
}
