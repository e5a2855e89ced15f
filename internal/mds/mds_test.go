package mds_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"context"
	"log/slog"

	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/mds"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
	"sealgate/internal/softauthn"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var phone = [16]byte(uuid.MustParse("5ea19a7e-0000-4000-8000-000000000001"))

func signer(t testing.TB) *softauthn.MetadataSigner {
	t.Helper()
	m, err := softauthn.NewMetadataSigner()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func blob(t testing.TB, m *softauthn.MetadataSigner, number int64, models ...softauthn.Model) []byte {
	t.Helper()
	raw, err := m.BLOB(number, "2099-01-31", models...)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func trust(m *softauthn.MetadataSigner) mds.Trust {
	return mds.Trust{Roots: certs(m)}
}

func sign(t testing.TB, m *softauthn.MetadataSigner, payload string) []byte {
	t.Helper()
	raw, err := m.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestReadIndexesModels(t *testing.T) {
	m := signer(t)
	u2f := strings.Repeat("ab", 20)
	raw := blob(t, m, 7,
		softauthn.Model{AAGUID: phone, Description: "A phone", Internal: true, Roots: certs(m),
			Reports: []softauthn.ModelReport{{Status: "FIDO_CERTIFIED_L1", Effective: "2024-01-01"}}},
		softauthn.Model{KeyIDs: []string{u2f}, Description: "An old key"})
	b, err := mds.Read(append(raw, '\n'), trust(m), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	e, ok := b.ByAAGUID(phone)
	if !ok || b.Number != 7 || b.Models() != 2 || e.Description != "A phone" || !e.Internal || len(e.Roots()) != 1 {
		t.Fatalf("blob = %+v, entry = %+v", b, e)
	}
	if _, ok := b.ByAAGUID(uuid.Nil); ok {
		t.Error("the zero AAGUID is somebody's")
	}
	if got := b.ByKeyIdentifier(mds.KeyIdentifier(bytes.Repeat([]byte{0xab}, 20))); len(got) != 1 || got[0].Description != "An old key" {
		t.Errorf("by key identifier: %v", got)
	}
	for day, stale := range map[string]bool{"2099-01-30": false, "2099-01-31": false, "2099-02-01": true} {
		at, _ := time.Parse(time.DateOnly, day)
		if b.Stale(at) != stale {
			t.Errorf("stale on %s = %v", day, !stale)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	m, other := signer(t), signer(t)
	model := softauthn.Model{AAGUID: phone, Description: "A phone"}
	good := blob(t, m, 1, model)
	if _, err := mds.Read(good, trust(m), time.Now()); err != nil {
		t.Fatalf("control: %v", err)
	}
	parts := strings.Split(string(good), ".")
	swapped := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"no":9,"nextUpdate":"2099-01-01","entries":[{}]}`)) + "." + parts[2]
	named := *m
	named.Name = "mds.example.com"
	ended := *m
	ended.NotAfter = time.Now().Add(-time.Hour)
	noChain := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256"}`)) + "." + parts[1] + "." + parts[2]
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	hmac := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + parts[1] + "." + parts[2]
	for _, tc := range []struct {
		name string
		raw  []byte
		want *fault.Error
	}{
		{"another payload under the signature", []byte(swapped), mds.ErrSignature},
		{"a signature of zeros", []byte(parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64))), mds.ErrSignature},
		{"signed under another root", blob(t, other, 1, model), mds.ErrSigner},
		{"the signer's certificate has ended", blob(t, &ended, 1, model), mds.ErrSigner},
		{"the signer has another name", blob(t, &named, 1, model), mds.ErrSigner},
		{"no certificates", []byte(noChain), mds.ErrSigner},
		{"no algorithm", []byte(none), mds.ErrMalformed},
		{"a symmetric algorithm", []byte(hmac), mds.ErrMalformed},
		{"empty", nil, mds.ErrMalformed},
		{"no JWS", []byte("{}"), mds.ErrMalformed},
		{"four parts", append(bytes.Clone(good), ".x"...), mds.ErrMalformed},
		{"too large", bytes.Repeat([]byte{'a'}, mds.MaxBLOB+1), mds.ErrMalformed},
		{"the same model twice", blob(t, m, 1, model, model), mds.ErrMalformed},
		{"number zero", blob(t, m, 0, model), mds.ErrMalformed},
		{"no models", blob(t, m, 1), mds.ErrMalformed},
		{"no date", sign(t, m, `{"no":1,"nextUpdate":"soon","entries":[{}]}`), mds.ErrMalformed},
		{"no JSON", sign(t, m, `{"no":1`), mds.ErrMalformed},
		{"deep", sign(t, m, `{"no":1,"nextUpdate":"2099-01-01","x":`+strings.Repeat("[", 50)+strings.Repeat("]", 50)+`,"entries":[{}]}`), mds.ErrMalformed},
		{"too many models", sign(t, m, `{"no":1,"nextUpdate":"2099-01-01","entries":[{}`+strings.Repeat(",{}", 20_000)+`]}`), mds.ErrMalformed},
		{"aaguid is none", sign(t, m, `{"no":1,"nextUpdate":"2099-01-01","entries":[{"aaguid":"x"}]}`), mds.ErrMalformed},
		{"a report without status", sign(t, m, `{"no":1,"nextUpdate":"2099-01-01","entries":[{"statusReports":[{}]}]}`), mds.ErrMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := mds.Read(tc.raw, trust(m), time.Now()); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
	if _, err := mds.Read(good, mds.Trust{}, time.Now()); !errors.Is(err, mds.ErrNoRoot) {
		t.Errorf("without a root: %v", err)
	}
	// The same bytes with the name we were told to expect.
	if _, err := mds.Read(blob(t, &named, 1, model), mds.Trust{Roots: certs(m), Signer: named.Name}, time.Now()); err != nil {
		t.Errorf("another configured name: %v", err)
	}
}

func TestStatuses(t *testing.T) {
	m := signer(t)
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	batch := certs(m)[0].Raw
	for _, tc := range []struct {
		name    string
		reports []softauthn.ModelReport
		level   string
		bad     bool
	}{
		{"nothing said", nil, "none", false},
		{"the old word", []softauthn.ModelReport{{Status: "FIDO_CERTIFIED"}}, "FIDO_CERTIFIED_L1", false},
		{"raised", []softauthn.ModelReport{{Status: "FIDO_CERTIFIED_L1", Effective: "2020-01-01"}, {Status: "FIDO_CERTIFIED_L2", Effective: "2021-01-01"}}, "FIDO_CERTIFIED_L2", false},
		{"order does not matter", []softauthn.ModelReport{{Status: "FIDO_CERTIFIED_L2", Effective: "2021-01-01"}, {Status: "FIDO_CERTIFIED_L1", Effective: "2020-01-01"}}, "FIDO_CERTIFIED_L2", false},
		{"taken away", []softauthn.ModelReport{{Status: "FIDO_CERTIFIED_L3", Effective: "2020-01-01"}, {Status: "NOT_FIDO_CERTIFIED", Effective: "2021-01-01"}}, "none", false},
		{"not yet", []softauthn.ModelReport{{Status: "FIDO_CERTIFIED_L1", Effective: "2026-06-02"}, {Status: "REVOKED", Effective: "2026-06-02"}}, "none", false},
		{"revoked", []softauthn.ModelReport{{Status: "FIDO_CERTIFIED_L1"}, {Status: "REVOKED", Effective: "2026-06-01"}}, "FIDO_CERTIFIED_L1", true},
		{"repaired later", []softauthn.ModelReport{{Status: "USER_KEY_REMOTE_COMPROMISE", Effective: "2020-01-01"}, {Status: "UPDATE_AVAILABLE", Effective: "2020-02-01"}}, "none", true},
		{"UV bypass", []softauthn.ModelReport{{Status: "USER_VERIFICATION_BYPASS"}}, "none", true},
		{"physical", []softauthn.ModelReport{{Status: "USER_KEY_PHYSICAL_COMPROMISE"}}, "none", true},
		{"one batch of keys", []softauthn.ModelReport{{Status: "ATTESTATION_KEY_COMPROMISE", Certificate: batch}}, "none", true},
		{"an unknown word", []softauthn.ModelReport{{Status: "SOMETHING_NEW"}}, "none", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, err := mds.Read(blob(t, m, 1, softauthn.Model{AAGUID: phone, Reports: tc.reports}), trust(m), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			e, _ := b.ByAAGUID(phone)
			if got := e.Certification(now).String(); got != tc.level {
				t.Errorf("level %s, want %s", got, tc.level)
			}
			if _, bad := e.Compromised(now, nil); bad != tc.bad {
				t.Errorf("compromised = %v", bad)
			}
			if tc.name == "one batch of keys" {
				if _, bad := e.Compromised(now, [][32]byte{{1}}); bad {
					t.Error("another batch is touched")
				}
				if _, bad := e.Compromised(now, [][32]byte{e.Reports[0].Certificate}); !bad {
					t.Error("this batch is not touched")
				}
			}
		})
	}
}

// directory is a node's view of a database; several may share one.
func directory(t *testing.T, db *postgres.DB, m *softauthn.MetadataSigner, change func(*mds.Config)) *mds.Directory {
	t.Helper()
	cfg := mds.Config{Trust: trust(m), Store: db.Metadata(), Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	d, err := mds.NewDirectory(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestNumbersNeverGoBack(t *testing.T) {
	ctx, m, db := t.Context(), signer(t), postgres.New(pgtest.Open(t))
	model := softauthn.Model{AAGUID: phone}
	a, b := directory(t, db, m, nil), directory(t, db, m, nil)
	entry := audit.New(audit.MetadataLoaded)
	five := blob(t, m, 5, model)
	if _, err := a.Accept(ctx, five, "operator", entry); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Accept(ctx, append(five, '\n'), "operator", audit.New(audit.MetadataLoaded)); err != nil {
		t.Errorf("the same one again: %v", err)
	}
	for name, raw := range map[string][]byte{"older": blob(t, m, 4, model), "same number, other bytes": blob(t, m, 5, model)} {
		for node, d := range map[string]*mds.Directory{"same node": a, "a node that has read nothing yet": directory(t, db, m, nil)} {
			if _, err := d.Accept(ctx, raw, "operator", audit.New(audit.MetadataLoaded)); !errors.Is(err, mds.ErrWentBack) {
				t.Errorf("%s on %s: %v", name, node, err)
			}
		}
	}
	if err := db.Metadata().Save(ctx, mds.Stored{Number: 5, NextUpdate: time.Now(), Raw: five, Source: "file", AcceptedAt: time.Now()}, audit.New(audit.MetadataLoaded)); !errors.Is(err, mds.ErrWentBack) {
		t.Errorf("the database took the same number: %v", err)
	}
	if b.Current() != nil {
		t.Fatal("the other node knows already")
	}
	if err := b.Sync(ctx); err != nil || b.Current().Number != 5 {
		t.Fatalf("the other node: %v, %v", b.Current(), err)
	}
	if _, err := b.Accept(ctx, blob(t, m, 6, model), "operator", audit.New(audit.MetadataLoaded)); err != nil {
		t.Fatal(err)
	}
	if err := a.Sync(ctx); err != nil || a.Current().Number != 6 {
		t.Fatalf("back to the first node: %v", err)
	}
	var entries int
	if err := db.Pool.QueryRow(ctx, "SELECT count(*) FROM audit_entries WHERE act = 'metadata.loaded'").Scan(&entries); err != nil || entries != 2 {
		t.Errorf("%d audit entries, %v; one for each accepted BLOB", entries, err)
	}
}

// A restart after the signer's certificate has ended still has the BLOB; a
// node that trusts another root does not.
func TestRestart(t *testing.T) {
	ctx, m, db := t.Context(), signer(t), postgres.New(pgtest.Open(t))
	if _, err := directory(t, db, m, nil).Accept(ctx, blob(t, m, 1, softauthn.Model{AAGUID: phone}), "operator", audit.New(audit.MetadataLoaded)); err != nil {
		t.Fatal(err)
	}
	later := directory(t, db, m, func(c *mds.Config) { c.Now = func() time.Time { return time.Now().AddDate(1, 0, 0) } })
	if err := later.Sync(ctx); err != nil || later.Current() == nil {
		t.Fatalf("a year later: %v", err)
	}
	other := directory(t, db, signer(t), nil)
	if err := other.Sync(ctx); !errors.Is(err, mds.ErrSigner) || other.Current() != nil {
		t.Errorf("under another root: %v", err)
	}
	if err := other.Sync(ctx); err != nil {
		t.Errorf("said twice: %v", err)
	}
}

func TestRefresh(t *testing.T) {
	ctx, m, db := t.Context(), signer(t), postgres.New(pgtest.Open(t))
	file := filepath.Join(t.TempDir(), "blob.jwt")
	model := softauthn.Model{AAGUID: phone}
	write := func(raw []byte) {
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	var asked int
	served := blob(t, m, 3, model)
	now := time.Now()
	d := directory(t, db, m, func(c *mds.Config) {
		c.File, c.URL = file, "https://mds.example/"
		c.Now = func() time.Time { return now }
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
		c.Get = func(_ context.Context, url, _ string, most int64) ([]byte, error) {
			asked++
			if most != mds.MaxBLOB {
				t.Errorf("at most %d bytes", most)
			}
			return served, nil
		}
	})
	write(blob(t, m, 1, model))
	if err := d.Refresh(ctx); err != nil || d.Current().Number != 1 || asked != 0 {
		t.Fatalf("from file: %v, asked %d times", err, asked)
	}
	write([]byte("rubbish"))
	if err := d.Refresh(ctx); !errors.Is(err, mds.ErrMalformed) || d.Current().Number != 1 {
		t.Fatalf("rubbish in the file: %v", err)
	}
	first := blob(t, m, 1, model)
	write(first) // another one with the same number, beside a good one: no trouble
	if err := d.Refresh(ctx); err != nil || asked != 0 || strings.Contains(log.String(), "STALE") {
		t.Fatalf("before nextUpdate: %v, asked %d times, %s", err, asked, &log)
	}
	write(blob(t, m, 2, model))
	if err := d.Refresh(ctx); err != nil || d.Current().Number != 2 {
		t.Fatal(err)
	}
	// Long after: the file's signer has ended, but the file is what we accepted.
	now = time.Date(2099, 2, 3, 0, 0, 0, 0, time.UTC)
	err := d.Refresh(ctx)
	if !errors.Is(err, mds.ErrSigner) || strings.Contains(err.Error(), "the file") || asked != 1 || !strings.Contains(log.String(), "STALE") {
		t.Fatalf("served under a certificate that has ended: %v, asked %d times; log: %s", err, asked, &log)
	}
	now = time.Now() // and served rightly
	served, _ = m.BLOB(3, "2000-01-01", model)
	write(served)
	if err := d.Refresh(ctx); err != nil || d.Current().Number != 3 {
		t.Fatalf("newer, though past its day: %v", err)
	}
	served = blob(t, m, 4, model)
	if err := d.Refresh(ctx); err != nil || d.Current().Number != 4 || asked != 3 {
		t.Fatalf("from the URL: %v, asked %d times", err, asked)
	}
}

func certs(m *softauthn.MetadataSigner) []*x509.Certificate { return []*x509.Certificate{m.Root} }

func FuzzRead(f *testing.F) {
	m := signer(f)
	f.Add(blob(f, m, 1, softauthn.Model{AAGUID: phone}))
	f.Add([]byte("a.b.c"))
	tr := trust(m)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if b, err := mds.Read(raw, tr, time.Now()); (b == nil) == (err == nil) {
			t.Fatal("neither or both")
		}
	})
}

// FuzzPayload has every payload signed rightly, so that the parser behind the
// signature is what is tried.
func FuzzPayload(f *testing.F) {
	good, _ := json.Marshal(map[string]any{"no": 1, "nextUpdate": "2099-01-01", "entries": []any{map[string]any{
		"aaguid": uuid.UUID(phone).String(), "statusReports": []any{map[string]string{"status": "REVOKED", "effectiveDate": "2020-01-01"}}}}})
	f.Add(string(good))
	f.Add(`{"no":1,"nextUpdate":"2099-01-01","entries":[{"attestationCertificateKeyIdentifiers":["` + strings.Repeat("ab", 20) + `"]}]}`)
	f.Fuzz(func(t *testing.T, payload string) {
		b, err := mds.Parse([]byte(payload))
		if err != nil {
			if fault.From(err).Code != "mds_malformed" {
				t.Fatal(err)
			}
			return
		}
		if b.Models() == 0 || b.Number <= 0 {
			t.Fatal("accepted without content")
		}
		for _, e := range b.Entries() {
			e.Roots()
			e.Compromised(time.Now(), nil)
			_ = fmt.Sprint(e.Certification(time.Now()))
		}
	})
}
