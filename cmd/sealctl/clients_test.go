package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealgate/internal/agency"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
)

// What a client demands is shown, changed only with --apply, and each change is
// in the audit log under the operator's name.
func TestClientsSet(t *testing.T) {
	ctx := context.Background()
	url, dir := pgtest.URL(t), t.TempDir()
	pool, err := postgres.Open(ctx, url, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	store := postgres.New(pool).Agency()
	agencies, err := agency.New(agency.Config{Store: store, SecretKey: bytes.Repeat([]byte{1}, 32), PairwiseSecret: bytes.Repeat([]byte{2}, 32), AllowLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := agencies.SeedBuiltIn(ctx, "http://localhost:8080"); err != nil {
		t.Fatal(err)
	}
	if err := agencies.SeedDemo(ctx, "http://localhost:8090", agency.NewSecret()); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "sealgate.yaml")
	if err := os.WriteFile(config, []byte("dev: true\nlisten: localhost:8080\ndatabase: {url: \""+url+"\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		cmd := clientsCommand()
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(append(args, "--config", config))
		err := cmd.ExecuteContext(ctx)
		return out.String(), err
	}
	changes := func() (n int) {
		if err := pool.QueryRow(ctx, `SELECT count(*) FROM audit_entries WHERE act = 'client.changed' AND actor_kind = 'operator' AND actor <> ''
			AND detail->>'reason' = 'synced_passkeys=refused require_subject=true'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, step := range []struct {
		args  []string
		fails bool
		says  string
		rule  string
		count int
	}{
		{[]string{"set", agency.DemoClientID, "--synced-passkeys", "refused", "--require-subject"}, false, "dry run", "", 0},
		{[]string{"set", agency.DemoClientID, "--synced-passkeys", "refused", "--require-subject", "--apply"}, false, "synced_passkeys: inherit -> refused", "refused", 1},
		{[]string{"list"}, false, "refused", "refused", 1},
		{[]string{"set", agency.DemoClientID, "--synced-passkeys", "sometimes", "--apply"}, true, "", "refused", 1},
		{[]string{"set", agency.DemoClientID, "--minimum-acr", "best", "--apply"}, true, "", "refused", 1},
		{[]string{"set", agency.DemoClientID, "--apply"}, true, "", "refused", 1},
		{[]string{"set", "nobody", "--synced-passkeys", "refused", "--apply"}, true, "", "refused", 1},
		{[]string{"set", agency.BuiltInClientID, "--synced-passkeys", "refused", "--apply"}, true, "", "refused", 1},
		{[]string{"set", agency.DemoClientID, "--synced-passkeys", "inherit", "--apply"}, false, "refused -> inherit", "", 1},
	} {
		out, err := run(step.args...)
		if (err != nil) != step.fails || !strings.Contains(out, step.says) {
			t.Fatalf("%v: %v\n%s", step.args, err, out)
		}
		c, err := store.ClientByClientID(ctx, agency.DemoClientID)
		if err != nil || c.SyncedPasskeys != step.rule || changes() != step.count {
			t.Errorf("%v: rule %q, %d entries, %v", step.args, c.SyncedPasskeys, changes(), err)
		}
	}
	if c, err := store.ClientByClientID(ctx, agency.DemoClientID); err != nil || !c.RequireSubject {
		t.Errorf("what was not named was changed: %+v %v", c, err)
	}
	help, err := run("set", "--help")
	if err != nil || !strings.Contains(help, "lower_acr") || !strings.Contains(help, "approval.sub") {
		t.Errorf("help: %v\n%s", err, help)
	}
}
