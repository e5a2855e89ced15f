package api_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"sealgate/cmd/sealctl/onebox"
	"sealgate/cmd/sealctl/pdfsign"
	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/postgres/pgtest"
)

// TestMain lets the test program play sealctl for the guide's script.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "sealctl" {
		root := &cobra.Command{Use: "sealctl", SilenceUsage: true}
		root.AddCommand(softphone.Command(), pdfsign.Command())
		if err := root.Execute(); err != nil {
			os.Exit(1)
		}
		return
	}
	pgtest.Main(m)
}

// script joins the guide's blocks marked sh.
func script(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	parts := strings.Split(string(raw), "\n```")
	for i := 1; i < len(parts); i += 2 {
		if code, ok := strings.CutPrefix(parts[i], "sh\n"); ok {
			out.WriteString(code + "\n")
		}
	}
	return out.String()
}

// TestGuide runs the guide, as a reader would, against a whole server.
func TestGuide(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "jq", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the guide needs %s", tool)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	box, err := onebox.Start(ctx, onebox.Config{Dir: t.TempDir(), Pool: pgtest.Open(t), Cards: true})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin, dir := t.TempDir(), t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "sealctl")); err != nil {
		t.Fatal(err)
	}
	code := script(t)
	if n := strings.Count(code, "sealctl softphone"); n != 4 {
		t.Fatalf("the guide's script was not read: %d soft phones", n)
	}
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", code)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "SEALGATE="+box.Origin,
		"CLIENT_ID="+box.ClientID, "CLIENT_SECRET="+box.Secret, "REDIRECT_URI="+box.Site+"/callback", "RETURN_URI="+box.Site+"/signed",
		"COMPONENT="+box.Component, "CARD_ID="+box.Cards[0].NationalID)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`"acr": "urn:sealgate:acr:qr"`, `"nonce": "a-nonce"`, "decision.txt signed", "annex.txt signed", "letter-twice.pdf", "CAdES Verification successful"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not in the output:\n%s", want, out)
		}
	}
}
