package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/config"
	"sealgate/internal/keyring"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
	"sealgate/internal/server"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

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
	url, dir := pgtest.URL(t), t.TempDir()
	one, two := filepath.Join(dir, "one.key"), filepath.Join(dir, "two.key")
	base := "public_origin: https://id.example.gov.tw\nmobile: {policy_oids: [2.16.886.101.0.3.3]}\nissuing: {tsa_policy_oid: 2.16.886.101.0.3.4}\ncard: {anchors_dir: " + dir + "}\ndatabase: {url: \"" + url + "\"}\n"
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

// The configuration's security module is the one whose keys are counted and swept.
func TestKeysInTheSecurityModule(t *testing.T) {
	ctx := context.Background()
	const module = "/usr/lib/softhsm/libsofthsm2.so"
	if _, err := os.Stat(module); err != nil {
		t.Fatalf("SoftHSM is needed: run make tools (%v)", err)
	}
	url, dir := pgtest.URL(t), t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("SOFTHSM2_CONF", file("softhsm2.conf", "directories.tokendir = "+dir+"\nobjectstore.backend = file\n"))
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "t", "--so-pin", "12345678", "--pin", "87654321").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text := "public_origin: https://id.example.gov.tw\nmobile: {policy_oids: [2.16.886.101.0.3.3]}\nissuing: {tsa_policy_oid: 2.16.886.101.0.3.4}\ncard: {anchors_dir: " + dir + "}\ndatabase: {url: \"" + url + "\"}\n" +
		"master_key_file: " + file("master.key", strings.Repeat("k", 32)) + "\n" +
		"hsm: {module: " + module + ", token_label: t, pin_file: " + file("pin", "87654321\n") + ", purposes: [\"ca-*\", oidc]}\n"
	cfg, err := config.Load(file("sealgate.yaml", text), nil)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	keys, closeToken, err := server.OpenKeyring(cfg, postgres.New(pool).Keyring(), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeToken()
	if _, err := keys.Generate(ctx, keyring.PurposeOIDC, keyring.P256); err != nil {
		t.Fatal(err)
	}
	if out, err := keysRun(t, text, "status"); err != nil || !strings.Contains(out, "security module") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := keysRun(t, text, "sweep", "--apply"); err != nil || !strings.Contains(out, "1 of our keys are in the security module, 0 of them without a row, 0 destroyed") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := keysRun(t, strings.Replace(text, "label: t,", "label: x,", 1), "sweep"); err == nil || strings.Contains(out+err.Error(), "87654321") {
		t.Errorf("a token that is not there: %v\n%s", err, out)
	}
}
