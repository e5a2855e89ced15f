package issuing_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/crypto/ocsp"

	"sealgate/internal/audit"
	"sealgate/internal/certpath"
	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/pkitest"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const baseURL = "http://pki.example.test"

func newCA(t testing.TB, pool *pgxpool.Pool, change ...func(*issuing.Config)) (*issuing.CA, *keyring.Keyring) {
	t.Helper()
	master, err := keyring.NewMasterKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	db := postgres.New(pool)
	keys, err := keyring.New(keyring.Config{MasterKeys: []*keyring.MasterKey{master}, Store: db.Keyring()})
	if err != nil {
		t.Fatal(err)
	}
	cfg := issuing.Config{Store: db.Issuing(), Keys: keys, Name: "(測試用) Sealgate", BaseURL: baseURL}
	for _, c := range change {
		c(&cfg)
	}
	ca, err := issuing.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ca, keys
}

// newCAWith gives a second CA over the same authorities with another profile, as
// after a change of the configuration.
func newCAWith(t testing.TB, like *issuing.CA, keys *keyring.Keyring, c issuing.ProfileConfig) *issuing.CA {
	t.Helper()
	cfg := like.Config()
	cfg.Keys, cfg.Profile = keys, profile(t, c)
	ca, err := issuing.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func bootstrapped(t testing.TB, pool *pgxpool.Pool, change ...func(*issuing.Config)) (*issuing.CA, *keyring.Keyring) {
	t.Helper()
	ca, keys := newCA(t, pool, change...)
	if err := ca.Bootstrap(context.Background()); err != nil {
		t.Fatal(err)
	}
	return ca, keys
}

var cards = sync.OnceValues(func() (*pkitest.Hierarchy, error) { return pkitest.NewHierarchy(pkitest.Options{}) })

// card makes a test citizen's card.
func card(t testing.TB, o pkitest.CitizenOptions) *pkitest.Card {
	t.Helper()
	h, err := cards()
	if err != nil {
		t.Fatal(err)
	}
	c, err := h.Citizen(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// register stores what enrolment would: citizen, card, device, key, certificate.
func register(t testing.TB, pool *pgxpool.Pool, c issuing.Certificate, key keyring.Row, serial16 string) {
	t.Helper()
	ctx := context.Background()
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := pool.Exec(ctx, sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	random := func(n int) []byte {
		b := make([]byte, n)
		_, _ = rand.Read(b)
		return b
	}
	certificate := uuid.New()
	exec(`INSERT INTO citizens (id, national_id_mac, national_id_sealed, name_sealed, subject_serial, user_handle) VALUES ($1, $2, '', '', $3, $4)`,
		c.CitizenID, random(32), serial16, random(32))
	exec(`INSERT INTO citizen_certificates (id, citizen_id, fingerprint, der, not_before, not_after, checked_at) VALUES ($1, $2, $3, '', now(), now(), now())`,
		certificate, c.CitizenID, random(32))
	exec(`INSERT INTO devices (id, citizen_id, citizen_certificate_id, enrolment_id, credential_id, cose_key, cose_algorithm, user_handle, aaguid, backup_eligible, backup_state, attestation_format, name)
VALUES ($1, $2, $3, $4, $5, '', -7, '', $1, false, false, 'none', '手機')`, c.DeviceID, c.CitizenID, certificate, uuid.New(), random(32))
	exec(`INSERT INTO keys (id, purpose, algorithm, public_key, sealed, master_key_id) VALUES ($1, $2, $3, $4, $5, $6)`,
		key.ID, key.Purpose, string(key.Algorithm), key.PublicKey, key.Sealed, key.MasterKeyID)
	exec(`INSERT INTO mobile_certificates (id, serial, citizen_id, device_id, key_id, authority, der, not_before, not_after) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		c.ID, c.Serial, c.CitizenID, c.DeviceID, c.KeyID, c.Authority, c.DER, c.NotBefore, c.NotAfter)
}

// issue gives a stored mobile certificate for a new test citizen.
func issue(t testing.TB, pool *pgxpool.Pool, ca *issuing.CA, keys *keyring.Keyring, serial16 string) (issuing.Certificate, *x509.Certificate) {
	t.Helper()
	row, public, err := keys.SealNewKey(keyring.P256)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.Issue(context.Background(), issuing.MobileRequest{CitizenID: uuid.New(), DeviceID: uuid.New(), KeyID: row.ID,
		Citizen: card(t, pkitest.CitizenOptions{Name: "測試一號", Serial16: serial16, NationalID: "A123456789"}).Certificate, PublicKey: public})
	if err != nil {
		t.Fatal(err)
	}
	register(t, pool, c, row, serial16)
	parsed, err := x509.ParseCertificate(c.DER)
	if err != nil {
		t.Fatal(err)
	}
	return c, parsed
}

func TestBootstrapOnceOnManyNodes(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Open(t)
	if ca, _ := newCA(t, pool); func() bool { _, err := ca.Anchors(ctx); return !errors.Is(err, issuing.ErrNoAuthority) }() {
		t.Error("anchors before bootstrap")
	}
	var wg sync.WaitGroup
	pems := make([][]byte, 6)
	for i := range pems {
		ca, _ := newCA(t, pool)
		wg.Go(func() {
			if err := ca.Bootstrap(ctx); err != nil {
				t.Error(err)
			}
			pems[i], _ = ca.AnchorsPEM(ctx)
		})
	}
	wg.Wait()
	for _, p := range pems {
		if len(p) == 0 || !bytes.Equal(p, pems[0]) {
			t.Fatal("nodes have different anchors")
		}
	}
	var authorities, keys, entries int
	if err := pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM authorities), (SELECT count(*) FROM keys), (SELECT count(*) FROM audit_entries)`).Scan(&authorities, &keys, &entries); err != nil || authorities != 5 || keys != 5 || entries != 10 {
		t.Errorf("%d authorities, %d keys, %d entries, %v", authorities, keys, entries, err)
	}
}

func TestMobileCertificateProfile(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Open(t)
	ca, keys := bootstrapped(t, pool)
	c, cert := issue(t, pool, ca, keys, "0000000012345678")
	info, err := certpath.ParseCitizen(cert)
	if err != nil || info.Name != "測試一號" || info.SubjectSerial != "0000000012345678" || info.IDLast4 != "6789" ||
		info.CardType != "mobile" || !info.SubjectType.Equal(certpath.SubjectTypeCitizen) {
		t.Errorf("subject: %v", err)
	}
	if len(c.Serial) != 20 || cert.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment {
		t.Errorf("serial %x, usage %b", c.Serial, cert.KeyUsage)
	}
	anchors, _ := ca.Anchors(ctx)
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(anchors[0])
	between.AddCert(anchors[1])
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Errorf("path: %v", err)
	}
	if !strings.Contains(anchors[0].Subject.CommonName, "測試用") || cert.OCSPServer[0] != baseURL+"/pki/ocsp" {
		t.Errorf("names %q, ocsp %v", anchors[0].Subject, cert.OCSPServer)
	}
	dir := t.TempDir()
	bundle, _ := ca.AnchorsPEM(ctx)
	writeFile(t, filepath.Join(dir, "ca.pem"), bundle)
	writeFile(t, filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER}))
	out, err := exec.Command("openssl", "verify", "-x509_strict", "-CAfile", filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem")).CombinedOutput()
	if err != nil {
		t.Errorf("openssl verify: %s", out)
	}
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestValidityNeverPassesYearCardOrIssuer(t *testing.T) {
	ctx := context.Background()
	ca, keys := bootstrapped(t, pgtest.Open(t))
	_, public, err := keys.SealNewKey(keyring.P256)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	soon := card(t, pkitest.CitizenOptions{Serial16: "0000000000000021", NationalID: "A123456789", NotBefore: now.AddDate(-4, 0, 0), NotAfter: now.Add(48 * time.Hour)}).Certificate
	late := card(t, pkitest.CitizenOptions{Serial16: "0000000000000022", NationalID: "A123456789", NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(4, 0, 0)}).Certificate
	for name, c := range map[string]struct {
		r    issuing.MobileRequest
		most time.Time
	}{
		"card ends soon":    {issuing.MobileRequest{Citizen: soon}, soon.NotAfter},
		"card ends late":    {issuing.MobileRequest{Citizen: late}, now.AddDate(1, 0, 0)},
		"asked for decades": {issuing.MobileRequest{Citizen: late, NotAfter: now.AddDate(30, 0, 0)}, now.AddDate(1, 0, 0)},
		"asked for less":    {issuing.MobileRequest{Citizen: late, NotAfter: now.Add(time.Hour)}, now.Add(time.Hour)},
	} {
		c.r.PublicKey = public
		cert, err := ca.Issue(ctx, c.r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if cert.NotAfter.After(c.most) || c.most.Sub(cert.NotAfter) > 36*time.Hour {
			t.Errorf("%s: ends %v, expected by %v", name, cert.NotAfter, c.most)
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	ctx := context.Background()
	ca, keys := bootstrapped(t, pgtest.Open(t))
	_, good, err := keys.SealNewKey(keyring.P256)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	short, _ := rsa.GenerateKey(rand.Reader, 1024)
	other, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	fine := card(t, pkitest.CitizenOptions{Serial16: "0000000000000031", NationalID: "A123456789"})
	for name, r := range map[string]issuing.MobileRequest{
		"control":           {Citizen: fine.Certificate, PublicKey: good},
		"no certificate":    {PublicKey: good},
		"no key":            {Citizen: fine.Certificate},
		"expired card":      {Citizen: card(t, pkitest.CitizenOptions{Serial16: "0000000000000032", NationalID: "A123456789", NotBefore: now.AddDate(-5, 0, 0), NotAfter: now.AddDate(0, 0, -1)}).Certificate, PublicKey: good},
		"card of tomorrow":  {Citizen: card(t, pkitest.CitizenOptions{Serial16: "0000000000000033", NationalID: "A123456789", NotBefore: now.AddDate(0, 0, 1), NotAfter: now.AddDate(5, 0, 0)}).Certificate, PublicKey: good},
		"four attributes":   {Citizen: card(t, pkitest.CitizenOptions{Serial16: "0000000000000034", NationalID: "A123456789", SubjectExtra: "單位"}).Certificate, PublicKey: good},
		"no attributes":     {Citizen: card(t, pkitest.CitizenOptions{Serial16: "0000000000000035", NationalID: "A123456789", NoDirectoryAttributes: true}).Certificate, PublicKey: good},
		"short RSA":         {Citizen: fine.Certificate, PublicKey: short.Public()},
		"weak curve":        {Citizen: fine.Certificate, PublicKey: other.Public()},
		"the card's key":    {Citizen: fine.Certificate, PublicKey: fine.Certificate.PublicKey},
		"ends before start": {Citizen: fine.Certificate, PublicKey: good, NotAfter: now.Add(-time.Hour)},
		"already over":      {Citizen: fine.Certificate, PublicKey: good, NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)},
	} {
		_, err := ca.Issue(ctx, r)
		if name == "control" {
			if err != nil {
				t.Errorf("control: %v", err)
			}
		} else if !errors.Is(err, issuing.ErrProfile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCheckProfileNamesEachBrokenRule changes one thing at a time in a good
// certificate and looks for the rule that must notice.
func TestCheckProfileNamesEachBrokenRule(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Open(t)
	ca, keys := bootstrapped(t, pool)
	_, good := issue(t, pool, ca, keys, "0000000000000041")
	anchors, _ := ca.Anchors(ctx)
	holder := card(t, pkitest.CitizenOptions{Name: "測試一號", Serial16: "0000000000000041", NationalID: "A123456789"}).Certificate
	if err := ca.CheckProfile(good, anchors[1], holder); err != nil {
		t.Fatalf("control: %v", err)
	}
	for rule, change := range map[string]func(c *x509.Certificate){
		"version_3":                func(c *x509.Certificate) { c.Version = 1 },
		"serial_20_random_octets":  func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) },
		"subject_same_person":      func(c *x509.Certificate) { c.RawSubject = anchors[0].RawSubject },
		"validity_within_bounds":   func(c *x509.Certificate) { c.NotAfter = c.NotBefore.AddDate(1, 0, 1) },
		"key_usage_exact":          func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign },
		"not_a_ca":                 func(c *x509.Certificate) { c.IsCA = true },
		"no_other_names_or_usages": func(c *x509.Certificate) { c.DNSNames = []string{"example.test"} },
		"policy_is_ours":           func(c *x509.Certificate) { c.Policies = nil },
		"key_strong_and_new":       func(c *x509.Certificate) { c.PublicKey = holder.PublicKey },
		"key_identifiers":          func(c *x509.Certificate) { c.AuthorityKeyId = c.SubjectKeyId },
		"status_locations":         func(c *x509.Certificate) { c.CRLDistributionPoints = nil },
		"extensions_known":         func(c *x509.Certificate) { c.Extensions = c.Extensions[1:] },
		"issuer_matches":           func(c *x509.Certificate) { c.RawIssuer = anchors[0].RawSubject },
	} {
		bad := *good
		change(&bad)
		err := ca.CheckProfile(&bad, anchors[1], holder)
		if !errors.Is(err, issuing.ErrProfile) || !strings.Contains(err.Error(), rule+" (") {
			t.Errorf("%s: %v", rule, err)
		}
	}
}

func TestOCSPAnswersFromTheRegister(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Open(t)
	ca, keys := bootstrapped(t, pool)
	c, cert := issue(t, pool, ca, keys, "0000000000000051")
	anchors, _ := ca.Anchors(ctx)
	tsa, _ := ca.Certificate(ctx, issuing.TSA)
	ask := func(cert, issuer *x509.Certificate, hash crypto.Hash) *ocsp.Response {
		t.Helper()
		req, err := ocsp.CreateRequest(cert, issuer, &ocsp.RequestOptions{Hash: hash})
		if err != nil {
			t.Fatal(err)
		}
		der, _, err := ca.RespondOCSP(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := ocsp.ParseResponseForCert(der, cert, anchors[1])
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		if r := ask(cert, anchors[1], hash); r.Status != ocsp.Good || r.NextUpdate.Sub(r.ThisUpdate) != 10*time.Minute {
			t.Errorf("%v: status %d, %v to %v", hash, r.Status, r.ThisUpdate, r.NextUpdate)
		}
	}
	if r := ask(tsa, anchors[1], crypto.SHA1); r.Status != ocsp.Good {
		t.Errorf("own authority: status %d", r.Status)
	}
	stranger := *cert
	stranger.SerialNumber = new(big.Int).Add(cert.SerialNumber, big.NewInt(1))
	if r := ask(&stranger, anchors[1], crypto.SHA1); r.Status != ocsp.Unknown {
		t.Errorf("never issued: status %d", r.Status)
	}
	if r := ask(cert, anchors[0], crypto.SHA1); r.Status != ocsp.Unknown {
		t.Errorf("asked about another issuer: status %d", r.Status)
	}
	if err := ca.Revoke(ctx, c.Serial, issuing.ReasonKeyCompromise, audit.New("").ByOperator("test")); err != nil {
		t.Fatal(err)
	}
	if r := ask(cert, anchors[1], crypto.SHA256); r.Status != ocsp.Revoked || r.RevocationReason != issuing.ReasonKeyCompromise || time.Since(r.RevokedAt) > time.Minute {
		t.Errorf("revoked: status %d, reason %d, at %v", r.Status, r.RevocationReason, r.RevokedAt)
	}
	if err := ca.Revoke(ctx, c.Serial, issuing.ReasonSuperseded, audit.New("").ByOperator("test")); !errors.Is(err, issuing.ErrRevoked) {
		t.Errorf("revoked twice: %v", err)
	}
	if err := ca.Revoke(ctx, stranger.SerialNumber.Bytes(), issuing.ReasonSuperseded, audit.New("").ByOperator("test")); !errors.Is(err, issuing.ErrNotFound) {
		t.Errorf("revoked what was never issued: %v", err)
	}
	der, _, err := ca.RespondOCSP(ctx, []byte("nonsense"))
	if !bytes.Equal(der, ocsp.MalformedRequestErrorResponse) || err != nil {
		t.Errorf("nonsense: %x, %v", der, err)
	}
	var entries int
	if err := pool.QueryRow(ctx, `SELECT count(*) FROM audit_entries WHERE act = 'certificate.revoked' AND citizen_id = $1 AND actor = 'test'`, c.CitizenID).Scan(&entries); err != nil || entries != 1 {
		t.Errorf("%d entries, %v", entries, err)
	}
}

func TestOCSPEchoesTheNonce(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Open(t)
	ca, keys := bootstrapped(t, pool)
	_, cert := issue(t, pool, ca, keys, "0000000000000061")
	anchors, _ := ca.Anchors(ctx)
	id, err := certpath.NewCertID(cert, anchors[1], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for _, nonce := range [][]byte{nil, []byte("0123456789abcdef")} {
		req, _ := (&certpath.OCSPRequest{IDs: []certpath.CertID{id}, Nonce: nonce}).Marshal()
		der, fresh, err := ca.RespondOCSP(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := certpath.ParseOCSPResponse(der)
		if err != nil || !bytes.Equal(resp.Nonce, nonce) || fresh != (nonce != nil) {
			t.Errorf("nonce %q: %v", nonce, err)
		}
	}
}

func TestRevocationList(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Open(t)
	now := time.Now()
	ca, keys := bootstrapped(t, pool, func(c *issuing.Config) { c.Now = func() time.Time { return now } })
	c, cert := issue(t, pool, ca, keys, "0000000000000071")
	anchors, _ := ca.Anchors(ctx)
	list := func(name string, issuer *x509.Certificate) *x509.RevocationList {
		t.Helper()
		der, _, err := ca.List(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.CheckSignatureFrom(issuer); err != nil {
			t.Error(err)
		}
		return l
	}
	first := list(issuing.Issuing, anchors[1])
	if len(first.RevokedCertificateEntries) != 0 || !first.NextUpdate.After(first.ThisUpdate) {
		t.Errorf("empty list: %+v", first)
	}
	if again := list(issuing.Issuing, anchors[1]); again.Number.Cmp(first.Number) != 0 {
		t.Error("a list is made anew for each reader")
	}
	if err := ca.Revoke(ctx, c.Serial, issuing.ReasonSuperseded, audit.New("")); err != nil {
		t.Fatal(err)
	}
	second := list(issuing.Issuing, anchors[1])
	if second.Number.Cmp(first.Number) <= 0 || len(second.RevokedCertificateEntries) != 1 ||
		second.RevokedCertificateEntries[0].SerialNumber.Cmp(cert.SerialNumber) != 0 ||
		second.RevokedCertificateEntries[0].ReasonCode != issuing.ReasonSuperseded {
		t.Errorf("after revoking: %+v", second.RevokedCertificateEntries)
	}
	now = now.Add(6 * time.Minute)
	if third := list(issuing.Issuing, anchors[1]); third.Number.Cmp(second.Number) <= 0 {
		t.Error("the list was not renewed")
	}
	if root := list(issuing.Root, anchors[0]); len(root.RevokedCertificateEntries) != 0 {
		t.Error("the root's list has entries of the issuing CA")
	}
	if _, _, err := ca.List(ctx, issuing.TSA); err == nil {
		t.Error("a list of the time-stamp authority")
	}
}

func TestOpenSSLAgreesOnStatus(t *testing.T) {
	ctx := context.Background()
	pool := pgtest.Open(t)
	ca, keys := bootstrapped(t, pool)
	c, cert := issue(t, pool, ca, keys, "0000000000000081")
	anchors, _ := ca.Anchors(ctx)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	bundle, _ := ca.AnchorsPEM(ctx)
	writeFile(t, file("ca.pem"), bundle)
	toPEM := func(c *x509.Certificate) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	writeFile(t, file("cert.pem"), toPEM(cert))
	writeFile(t, file("issuing.pem"), toPEM(anchors[1]))
	run := func(args ...string) (string, error) {
		out, err := exec.Command("openssl", args...).CombinedOutput()
		return string(out), err
	}
	check := func(want string, crlGood bool) {
		t.Helper()
		if out, err := run("ocsp", "-issuer", file("issuing.pem"), "-cert", file("cert.pem"), "-reqout", file("req.der")); err != nil {
			t.Fatalf("request: %s", out)
		}
		req, _ := os.ReadFile(file("req.der"))
		der, fresh, err := ca.RespondOCSP(ctx, req)
		if err != nil || !fresh {
			t.Fatalf("answer: %v", err)
		}
		writeFile(t, file("resp.der"), der)
		// -no_nonce: keep the nonce that the request has instead of making another.
		out, err := run("ocsp", "-no_nonce", "-issuer", file("issuing.pem"), "-cert", file("cert.pem"), "-reqin", file("req.der"), "-respin", file("resp.der"), "-CAfile", file("ca.pem"))
		if err != nil || !strings.Contains(out, "Response verify OK") || !strings.Contains(out, "cert.pem: "+want) || strings.Contains(out, "WARNING") {
			t.Errorf("openssl ocsp, want %s: %s", want, out)
		}
		var lists []byte
		for _, name := range []string{issuing.Root, issuing.Issuing} {
			der, _, err := ca.List(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			lists = append(lists, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
		}
		writeFile(t, file("crl.pem"), lists)
		if out, err := run("verify", "-crl_check_all", "-x509_strict", "-CAfile", file("ca.pem"), "-CRLfile", file("crl.pem"), file("cert.pem")); (err == nil) != crlGood {
			t.Errorf("openssl verify with lists, want good %v: %s", crlGood, out)
		}
	}
	check("good", true)
	if err := ca.Revoke(ctx, c.Serial, issuing.ReasonKeyCompromise, audit.New("")); err != nil {
		t.Fatal(err)
	}
	check("revoked", false)
}

func TestConfigIsChecked(t *testing.T) {
	pool := pgtest.Open(t)
	_, keys := newCA(t, pool)
	good := issuing.Config{Store: postgres.New(pool).Issuing(), Keys: keys, Name: "X", BaseURL: baseURL}
	if _, err := issuing.New(good); err != nil {
		t.Fatalf("control: %v", err)
	}
	for name, change := range map[string]func(*issuing.Config){
		"no name":  func(c *issuing.Config) { c.Name = "" },
		"path":     func(c *issuing.Config) { c.BaseURL = baseURL + "/x" },
		"scheme":   func(c *issuing.Config) { c.BaseURL = "ldap://x" },
		"policy":   func(c *issuing.Config) { c.TSAPolicy = "1.x" },
		"no store": func(c *issuing.Config) { c.Store = nil },
	} {
		c := good
		change(&c)
		if _, err := issuing.New(c); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
