package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/pkitest"
	"sealgate/internal/pkitest/esttest"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
)

// byFiles is a database with one bound phone that waits for its certificate.
type byFiles struct {
	t      *testing.T
	pool   *pgxpool.Pool
	dir    string
	config string
	ca     *pkitest.Authority
	caKey  string
	device uuid.UUID
}

func newByFiles(t *testing.T) *byFiles {
	t.Helper()
	f := &byFiles{t: t, dir: t.TempDir()}
	url := pgtest.URL(t)
	var err error
	if f.pool, err = pgxpool.New(context.Background(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.pool.Close)
	policy, _ := x509.ParseOID("2.16.886.101.0.3.3")
	if f.ca, err = pkitest.NewRoot(x509.Certificate{Subject: pkix.Name{CommonName: "(測試用) CA by files"}, Policies: []x509.OID{policy}, NotAfter: time.Now().AddDate(5, 0, 0)}); err != nil {
		t.Fatal(err)
	}
	f.write("anchors/ca.pem", esttest.PEM(f.ca.Certificate))
	key, err := x509.MarshalPKCS8PrivateKey(f.ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	f.caKey = f.write("ca.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	f.config = f.write("sealgate.yaml", []byte("dev: true\nmobile: {policy_oids: [2.16.886.101.0.3.3]}\nissuing: {mode: pkcs10, anchors_dir: "+
		filepath.Join(f.dir, "anchors")+"}\ndatabase: {url: \""+url+"\"}\n"))
	f.bind(policy.String())
	return f
}

func (f *byFiles) write(name string, data []byte) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// bind stores what a binding does.
func (f *byFiles) bind(policy string) {
	f.t.Helper()
	ctx := context.Background()
	random := func(n int) []byte { b := make([]byte, n); _, _ = rand.Read(b); return b }
	master, err := keyring.NewMasterKey(random(32))
	if err != nil {
		f.t.Fatal(err)
	}
	db := postgres.New(f.pool)
	keys, err := keyring.New(keyring.Config{Store: db.Keyring(), MasterKeys: []*keyring.MasterKey{master}})
	if err != nil {
		f.t.Fatal(err)
	}
	h, err := pkitest.NewHierarchy(pkitest.Options{})
	if err != nil {
		f.t.Fatal(err)
	}
	card, err := h.Citizen(pkitest.CitizenOptions{Name: "(測試用) 王小明", Serial16: "9999999900000001", NationalID: "A123456789", KeyType: pkitest.P256})
	if err != nil {
		f.t.Fatal(err)
	}
	profile, err := issuing.NewProfile(issuing.ProfileConfig{Policies: []string{policy}})
	if err != nil {
		f.t.Fatal(err)
	}
	outside, err := issuing.NewOutside(issuing.OutsideConfig{Store: db.Requests(), Profile: profile, Anchors: []*x509.Certificate{f.ca.Certificate}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.t.Fatal(err)
	}
	f.device = uuid.New()
	i, err := issuing.Desk{Keys: keys, Algorithm: keyring.P256, Outside: outside}.Issue(ctx,
		issuing.MobileRequest{CitizenID: uuid.New(), DeviceID: f.device, Citizen: card.Certificate}, uuid.Nil)
	if err != nil {
		f.t.Fatal(err)
	}
	r, k, cc := i.Request, i.Key, uuid.New()
	exec := func(sql string, args ...any) {
		f.t.Helper()
		if _, err := f.pool.Exec(ctx, sql, args...); err != nil {
			f.t.Fatal(err)
		}
	}
	exec(`INSERT INTO citizens (id, national_id_mac, national_id_sealed, name_sealed, subject_serial, user_handle) VALUES ($1, $2, '', '', '9999999900000001', $3)`, r.CitizenID, random(32), random(32))
	exec(`INSERT INTO citizen_certificates (id, citizen_id, fingerprint, der, not_before, not_after, checked_at) VALUES ($1, $2, $3, $4, now(), now(), now())`, cc, r.CitizenID, random(32), card.Certificate.Raw)
	exec(`INSERT INTO devices (id, citizen_id, citizen_certificate_id, enrolment_id, credential_id, cose_key, cose_algorithm, user_handle, aaguid, backup_eligible, backup_state, attestation_format, name)
VALUES ($1, $2, $3, $4, $5, '', -7, '', $1, false, false, 'none', '手機')`, r.DeviceID, r.CitizenID, cc, uuid.New(), random(32))
	exec(`INSERT INTO keys (id, purpose, algorithm, public_key, sealed, master_key_id) VALUES ($1, $2, $3, $4, $5, $6)`, k.ID, k.Purpose, string(k.Algorithm), k.PublicKey, k.Sealed, k.MasterKeyID)
	exec(`INSERT INTO certificate_requests (id, citizen_id, device_id, key_id, key_hash, request, next_attempt_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, now(), $7)`,
		r.ID, r.CitizenID, r.DeviceID, r.KeyID, r.KeyHash[:], r.DER, r.CreatedAt)
}

func (f *byFiles) run(args ...string) (string, error) {
	f.t.Helper()
	cmd := issuingCommand()
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(append(args, "--config", f.config))
	err := cmd.ExecuteContext(context.Background())
	return out.String(), err
}

func (f *byFiles) expect(want string, args ...string) {
	f.t.Helper()
	if out, err := f.run(args...); err != nil || !strings.Contains(out, want) {
		f.t.Errorf("%v: %v\n%s\nwant %q", args, err, out, want)
	}
}

// openssl signs a request as a CA does, keeping its extensions.
func (f *byFiles) openssl(csr, out, extensions string) {
	f.t.Helper()
	ext := f.write("ext.cnf", []byte(extensions))
	for _, args := range [][]string{
		{"req", "-in", csr, "-verify", "-noout"},
		{"x509", "-req", "-in", csr, "-CA", filepath.Join(f.dir, "anchors/ca.pem"), "-CAkey", f.caKey, "-days", "90", "-sha256", "-copy_extensions", "copyall",
			"-extfile", ext, "-out", out},
	} {
		if msg, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
			f.t.Fatalf("openssl %v: %v\n%s", args, err, msg)
		}
	}
}

// The whole way by files, with openssl as the CA.
func TestIssuingByFiles(t *testing.T) {
	f := newByFiles(t)
	requests, certificates := filepath.Join(f.dir, "requests"), filepath.Join(f.dir, "certificates")
	for range 2 { // again is the same
		f.expect("1 requests written", "requests", "export", "--out", requests)
	}
	list, _ := filepath.Glob(filepath.Join(requests, "*.csr"))
	manifest, err := os.ReadFile(filepath.Join(requests, "manifest.csv"))
	if err != nil || len(list) != 1 || !strings.Contains(string(manifest), filepath.Base(list[0])) || !strings.Contains(string(manifest), f.device.String()) {
		t.Fatalf("%v\n%s", list, manifest)
	}
	good := filepath.Join(certificates, "a.pem")
	f.write("certificates/bad.pem", []byte("not a certificate"))
	f.openssl(list[0], filepath.Join(certificates, "server.pem"), "crlDistributionPoints=URI:http://crl.example.test/\nextendedKeyUsage=serverAuth\n")

	if out, err := f.run("certificates", "import", certificates, "--apply"); err == nil || !strings.Contains(out, "server.pem: refused: certificate_profile") ||
		!strings.Contains(out, "bad.pem: refused: cert_malformed") || !strings.Contains(out, "0 accepted, 2 refused") {
		t.Errorf("%v\n%s", err, out)
	}
	_ = os.Remove(filepath.Join(certificates, "bad.pem"))
	_ = os.Remove(filepath.Join(certificates, "server.pem"))
	f.openssl(list[0], good, "crlDistributionPoints=URI:http://crl.example.test/\n")
	f.expect("would be accepted", "certificates", "import", certificates)
	f.expect("a.pem: accepted, request", "certificates", "import", good, "--apply")
	f.expect("accepted before", "certificates", "import", good, "--apply")
	f.expect("0 requests written", "requests", "export", "--out", requests)

	lines := filepath.Join(f.dir, "revocations.csv")
	f.expect("0 lines", "revocations", "export", "--out", lines)
	if _, err := f.pool.Exec(context.Background(), `UPDATE mobile_certificates SET state = 'revoked', revoked_at = now(), reason = 5`); err != nil {
		t.Fatal(err)
	}
	f.expect("1 lines", "revocations", "export", "--out", lines)
	if raw, _ := os.ReadFile(lines); !strings.Contains(string(raw), ",revoke,5,") {
		t.Errorf("%s", raw)
	}
	f.expect("dry run: 1 lines", "revocations", "reported", lines)
	f.expect("1 noted", "revocations", "reported", lines, "--apply")
	f.expect("0 noted", "revocations", "reported", lines, "--apply")
	f.expect("0 lines", "revocations", "export", "--out", lines)
	f.expect("1 lines", "revocations", "export", "--out", lines, "--since", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
	f.wrote(map[string]int{"requests.exported": 3, "certificate.refused": 1, "certificate.issued": 1, "revocations.reported": 1})
}

// wrote counts the audit entries by operators.
func (f *byFiles) wrote(want map[string]int) {
	f.t.Helper()
	for act, n := range want {
		var have int
		err := f.pool.QueryRow(context.Background(), `SELECT count(*) FROM audit_entries WHERE act = $1 AND actor_kind = 'operator' AND actor = $2`, act, operator()).Scan(&have)
		if err != nil || have != n {
			f.t.Errorf("%s: %d entries, want %d, %v", act, have, n, err)
		}
	}
}

// A request that the CA will not certify is ended by hand: dry unless asked, with
// a reason, once. What the CA certifies all the same comes in as revoked.
func TestRefuseRequest(t *testing.T) {
	f := newByFiles(t)
	requests := filepath.Join(f.dir, "requests")
	f.expect("1 requests written", "requests", "export", "--out", requests)
	list, _ := filepath.Glob(filepath.Join(requests, "*.csr"))
	id := strings.TrimSuffix(filepath.Base(list[0]), ".csr")
	for name, args := range map[string][]string{
		"no reason":     {"requests", "refuse", id, "--apply"},
		"an empty one":  {"requests", "refuse", id, "--reason", " ", "--apply"},
		"a long one":    {"requests", "refuse", id, "--reason", strings.Repeat("字", 201), "--apply"},
		"no such":       {"requests", "refuse", uuid.NewString(), "--reason", "x", "--apply"},
		"not a request": {"requests", "refuse", "all", "--reason", "x", "--apply"},
		"more than one": {"requests", "refuse", id, id, "--reason", "x", "--apply"},
	} {
		if out, err := f.run(args...); err == nil {
			t.Errorf("%s: %s", name, out)
		}
	}
	f.expect("dry run", "requests", "refuse", id, "--reason", "the CA does not know this card")
	f.wrote(map[string]int{"certificate.refused": 0})
	f.expect("1 requests written", "requests", "export", "--out", requests)
	f.expect("has ended", "requests", "refuse", id, "--reason", "the CA does not know this card", "--apply")
	if out, err := f.run("requests", "refuse", id, "--reason", "again", "--apply"); err == nil {
		t.Errorf("twice: %s", out)
	}
	f.wrote(map[string]int{"certificate.refused": 1})
	var reason, code string
	if err := f.pool.QueryRow(context.Background(), `SELECT detail->>'reason', detail->>'code' FROM audit_entries WHERE act = 'certificate.refused'`).Scan(&reason, &code); err != nil ||
		reason != "the CA does not know this card" || code != issuing.EndedByOperator {
		t.Errorf("%q %q %v", reason, code, err)
	}
	f.expect("0 requests written", "requests", "export", "--out", t.TempDir())
	if n, _, err := postgres.New(f.pool).Requests().Outstanding(context.Background()); n != 0 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
	if n, err := postgres.New(f.pool).Keyring().DestroyKeys(context.Background(), time.Now().Add(time.Minute)); n != 1 || err != nil {
		t.Errorf("%d keys destroyed, %v", n, err)
	}

	good, lines := filepath.Join(f.dir, "late/a.pem"), filepath.Join(f.dir, "revocations.csv")
	f.write("late/.keep", nil)
	f.openssl(list[0], good, "crlDistributionPoints=URI:http://crl.example.test/\n")
	f.expect("0 lines", "revocations", "export", "--out", lines)
	f.expect("had ended (refused_by_operator)", "certificates", "import", good, "--apply")
	f.expect("accepted before", "certificates", "import", good, "--apply")
	f.expect("1 lines", "revocations", "export", "--out", lines)
	if raw, _ := os.ReadFile(lines); !strings.Contains(string(raw), ",revoke,5,") {
		t.Errorf("%s", raw)
	}
	var good0 int
	if err := f.pool.QueryRow(context.Background(), `SELECT count(*) FROM mobile_certificates WHERE state <> 'revoked' OR superseded_at IS NULL`).Scan(&good0); err != nil || good0 != 0 {
		t.Errorf("%d certificates in force, %v", good0, err)
	}
}
