package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealgate/internal/agency"
	"sealgate/internal/keyring"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
)

// An address is set only with --apply, its secret is told once and kept sealed.
func TestClientsWebhook(t *testing.T) {
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
	master := filepath.Join(dir, "master.key")
	if _, err := keyring.LoadMasterKey(master, true); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "sealgate.yaml")
	text := "dev: true\nlisten: localhost:8080\nmaster_key_file: " + master + "\ndatabase: {url: \"" + url + "\"}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		args  []string
		fails bool
		says  string
		url   string
	}{
		{[]string{agency.DemoClientID, "--url", "https://agency.example/hook"}, false, "dry run", ""},
		{[]string{agency.DemoClientID, "--url", "https://agency.example/hook", "--apply"}, false, "whsec_", "https://agency.example/hook"},
		{[]string{agency.DemoClientID, "--url", "http://agency.example/hook", "--apply"}, true, "", "https://agency.example/hook"},
		{[]string{agency.DemoClientID, "--apply"}, true, "", "https://agency.example/hook"},
		{[]string{agency.BuiltInClientID, "--url", "https://agency.example/hook", "--apply"}, true, "", "https://agency.example/hook"},
		{[]string{"nobody", "--none", "--apply"}, true, "", "https://agency.example/hook"},
		{[]string{agency.DemoClientID, "--none", "--apply"}, false, "-> -", ""},
	} {
		cmd := clientsCommand()
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(append([]string{"webhook", "--config", config}, step.args...))
		err := cmd.ExecuteContext(ctx)
		if (err != nil) != step.fails || !strings.Contains(out.String(), step.says) {
			t.Fatalf("%v: %v\n%s", step.args, err, out.String())
		}
		var address string
		var secret []byte
		if err := pool.QueryRow(ctx, `SELECT webhook_url, webhook_secret FROM clients WHERE client_id = $1`, agency.DemoClientID).Scan(&address, &secret); err != nil {
			t.Fatal(err)
		}
		if address != step.url || (len(secret) > 32) != (address != "") {
			t.Errorf("%v: %q with a secret of %d bytes", step.args, address, len(secret))
		}
	}
}
