package main

import (
	"bytes"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"sealgate/internal/postgres/pgtest"
	"sealgate/internal/softauthn"
)

// TestAuthenticators walks the commands on a real database with a test
// metadata service.
func TestAuthenticators(t *testing.T) {
	m, err := softauthn.NewMetadataSigner()
	if err != nil {
		t.Fatal(err)
	}
	dir, roots := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(roots, "root.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.Root.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	good, bad := uuid.New(), uuid.New()
	blob := func(number int64) string {
		raw, err := m.BLOB(number, "2099-01-01",
			softauthn.Model{AAGUID: good, Description: "Good phone", Reports: []softauthn.ModelReport{{Status: "FIDO_CERTIFIED_L1"}}},
			softauthn.Model{AAGUID: bad, Description: "Bad phone", Reports: []softauthn.ModelReport{{Status: "REVOKED"}}})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "blob.jwt")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("DATABASE_URL", pgtest.URL(t))
	t.Setenv("SEALGATE_DEV", "true")
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		cmd := root()
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(append([]string{"authenticators"}, args...))
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	if _, err := run("mds", "load", blob(2)); err == nil || !strings.Contains(err.Error(), "roots_dir") {
		t.Fatalf("without a root: %v", err)
	}
	t.Setenv("SEALGATE_PASSKEY_MDS_ROOTS_DIR", roots)
	for _, step := range []struct {
		args  []string
		fails bool
		says  []string
	}{
		{[]string{"mds", "status"}, true, nil},
		{[]string{"mds", "load", blob(2)}, false, []string{"number       2", "models       2", "fresh"}},
		{[]string{"mds", "status"}, false, []string{"number       2", "from operator"}},
		{[]string{"check", good.String()}, false, []string{"Good phone", "FIDO_CERTIFIED_L1", "keep working"}},
		{[]string{"check", bad.String()}, false, []string{"REVOKED", "authenticator_compromised", "refused"}},
		{[]string{"check", "phone"}, true, nil},
		{[]string{"list"}, false, []string{"AAGUID"}},
		{[]string{"policy"}, false, []string{"passkey.synced_passkeys = allowed", "passkey.mds.when_stale", "A client may be stricter"}},
	} {
		out, err := run(step.args...)
		if (err != nil) != step.fails {
			t.Fatalf("%v: %v\n%s", step.args, err, out)
		}
		for _, want := range step.says {
			if !strings.Contains(out, want) {
				t.Errorf("%v does not say %q:\n%s", step.args, want, out)
			}
		}
	}
	if _, err := run("mds", "load", blob(1)); err == nil {
		t.Error("an older BLOB was taken")
	}
}
