package issuing_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/audit"
	"sealgate/internal/certpath"
	"sealgate/internal/egress"
	"sealgate/internal/est"
	"sealgate/internal/fault"
	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/pkitest"
	"sealgate/internal/pkitest/esttest"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
)

// abroad is a register whose certificates come from the test CA of esttest.
type abroad struct {
	t       testing.TB
	pool    *pgxpool.Pool
	keys    *keyring.Keyring
	ca      *issuing.CA
	server  *esttest.Server
	store   postgres.RequestStore
	outside *issuing.Outside
	people  int
}

func newAbroad(t testing.TB, change ...func(*issuing.OutsideConfig)) *abroad {
	t.Helper()
	pool := pgtest.Open(t)
	a := &abroad{t: t, pool: pool, store: postgres.New(pool).Requests()}
	a.ca, a.keys = bootstrapped(t, pool)
	policy, err := x509.ParseOID(issuing.DefaultPolicy)
	if err != nil {
		t.Fatal(err)
	}
	if a.server, err = esttest.New(esttest.Options{Policies: []x509.OID{policy}, User: "u", Password: "test only"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.server.Stop)
	a.outside = a.node(change...)
	return a
}

// node is one more node.
func (a *abroad) node(change ...func(*issuing.OutsideConfig)) *issuing.Outside {
	a.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.server.TLSRoot.Certificate)
	out, err := egress.New(egress.Config{AllowHosts: []string{a.server.Address()}, AllowLoopback: true, Timeout: 5 * time.Second, TLS: &tls.Config{RootCAs: roots}})
	if err != nil {
		a.t.Fatal(err)
	}
	client, err := est.New(est.Config{URL: a.server.URL(), Exchange: out.Exchange, User: "u", Password: "test only"})
	if err != nil {
		a.t.Fatal(err)
	}
	cfg := issuing.OutsideConfig{Store: a.store, Profile: profile(a.t, issuing.ProfileConfig{}), EST: client,
		Anchors: []*x509.Certificate{a.server.Root.Certificate}, Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&cfg)
	}
	o, err := issuing.NewOutside(cfg)
	if err != nil {
		a.t.Fatal(err)
	}
	return o
}

// ask binds a new test citizen's phone, as enrolment does, and gives the request.
func (a *abroad) ask(alg keyring.Algorithm) issuing.Request {
	a.t.Helper()
	a.people++
	serial := "99999999" + time.Now().Format("0405") + string(rune('0'+a.people/10)) + string(rune('0'+a.people%10)) + "00"
	c := card(a.t, pkitest.CitizenOptions{Name: "測試二號", Serial16: serial, NationalID: "A123456789", KeyType: pkitest.P256})
	desk := issuing.Desk{Keys: a.keys, Algorithm: alg, Issuer: a.ca, Outside: a.outside}
	i, err := desk.Issue(context.Background(), issuing.MobileRequest{CitizenID: uuid.New(), DeviceID: uuid.New(), Citizen: c.Certificate}, uuid.Nil)
	if err != nil {
		a.t.Fatal(err)
	}
	r := *i.Request
	a.bind(r, i.Key, c.Certificate, serial)
	return r
}

func (a *abroad) exec(sql string, args ...any) {
	a.t.Helper()
	if _, err := a.pool.Exec(context.Background(), sql, args...); err != nil {
		a.t.Fatal(err)
	}
}

func (a *abroad) bind(r issuing.Request, key keyring.Row, c *x509.Certificate, serial string) {
	random := func(n int) []byte { b := make([]byte, n); _, _ = rand.Read(b); return b }
	certificate := uuid.New()
	a.exec(`INSERT INTO citizens (id, national_id_mac, national_id_sealed, name_sealed, subject_serial, user_handle) VALUES ($1, $2, '', '', $3, $4)`,
		r.CitizenID, random(32), serial, random(32))
	a.exec(`INSERT INTO citizen_certificates (id, citizen_id, fingerprint, der, not_before, not_after, checked_at) VALUES ($1, $2, $3, $4, now(), now(), now())`,
		certificate, r.CitizenID, random(32), c.Raw)
	a.exec(`INSERT INTO devices (id, citizen_id, citizen_certificate_id, enrolment_id, credential_id, cose_key, cose_algorithm, user_handle, aaguid, backup_eligible, backup_state, attestation_format, name)
VALUES ($1, $2, $3, $4, $5, '', -7, '', $1, false, false, 'none', '手機')`, r.DeviceID, r.CitizenID, certificate, uuid.New(), random(32))
	a.exec(`INSERT INTO keys (id, purpose, algorithm, public_key, sealed, master_key_id) VALUES ($1, $2, $3, $4, $5, $6)`,
		key.ID, key.Purpose, string(key.Algorithm), key.PublicKey, key.Sealed, key.MasterKeyID)
	a.exec(`INSERT INTO certificate_requests (id, citizen_id, device_id, key_id, key_hash, request, next_attempt_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, now() - interval '1 second', $7)`,
		r.ID, r.CitizenID, r.DeviceID, r.KeyID, r.KeyHash[:], r.DER, r.CreatedAt)
}

// stands reads a request as it stands.
func (a *abroad) stands(r issuing.Request) issuing.Request {
	a.t.Helper()
	now, err := a.store.ByKey(context.Background(), r.KeyHash)
	if err != nil {
		a.t.Fatal(err)
	}
	return now
}

func (a *abroad) count(sql string, args ...any) (n int) {
	a.t.Helper()
	if err := a.pool.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		a.t.Fatal(err)
	}
	return n
}

func (a *abroad) attempt(r issuing.Request) issuing.Request {
	a.t.Helper()
	a.exec(`UPDATE certificate_requests SET next_attempt_at = now() - interval '1 second' WHERE id = $1`, r.ID)
	if err := a.outside.Attempt(context.Background(), r.ID); err != nil {
		a.t.Fatal(err)
	}
	return a.stands(r)
}

func TestOutsideEveryKeyAlgorithm(t *testing.T) {
	a := newAbroad(t)
	for _, alg := range []keyring.Algorithm{keyring.P256, keyring.P384, keyring.RSA2048, keyring.RSA3072} {
		r := a.ask(alg)
		opensslRequest(t, r.DER)
		if now := a.attempt(r); now.State != issuing.RequestIssued || len(now.Certificate) == 0 {
			t.Fatalf("%s: %s %s", alg, now.State, now.LastError)
		}
		cert, err := x509.ParseCertificate(a.stands(r).Certificate)
		if err != nil || keyring.AlgorithmOf(cert.PublicKey) != alg {
			t.Errorf("%s: %v", alg, err)
		}
	}
	chain, err := issuing.ChainOf(context.Background(), a.ca, a.store, issuing.AuthorityOf(a.server.Issuing.Certificate))
	if err != nil || len(chain) != 2 || !chain[0].Equal(a.server.Issuing.Certificate) {
		t.Errorf("chain %v %v", chain, err)
	}
	if own, err := issuing.ChainOf(context.Background(), a.ca, a.store, issuing.Issuing); err != nil || own[0].Subject.String() == chain[0].Subject.String() {
		t.Errorf("our own chain: %v", err)
	}
	if n := a.count(`SELECT count(*) FROM audit_entries WHERE act = 'certificate.issued'`); n != 4 {
		t.Errorf("%d entries", n)
	}
}

// opensslRequest lets openssl check the request's form and signature.
func opensslRequest(t testing.TB, der []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "r.der")
	if err := os.WriteFile(path, der, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("openssl", "req", "-inform", "DER", "-in", path, "-verify", "-noout", "-text").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "verify OK") || !strings.Contains(string(out), "X509v3 Key Usage: critical") || !strings.Contains(string(out), issuing.DefaultPolicy) {
		t.Fatalf("%v\n%s", err, out)
	}
}

// Everything that can be wrong with what comes back is refused, kept with its
// reason, and does not end the request.
func TestOutsideRefusesBadCertificates(t *testing.T) {
	a := newAbroad(t)
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	foreign, err := pkitest.NewRoot(x509.Certificate{Subject: pkix.Name{CommonName: "(測試用) nobody's root"}})
	if err != nil {
		t.Fatal(err)
	}
	certify := func(r *http.Request, key crypto.PublicKey, by *pkitest.Authority) ([]byte, error) {
		tpl := x509.Certificate{RawSubject: a.server.Issued()[0].RawSubject, CRLDistributionPoints: []string{"http://crl.example.test/"}}
		c, err := by.Certify(tpl, key)
		return c.Raw, err
	}
	extension := func(tpl *x509.Certificate, id asn1.ObjectIdentifier) *pkix.Extension {
		for i := range tpl.ExtraExtensions {
			if tpl.ExtraExtensions[i].Id.Equal(id) {
				return &tpl.ExtraExtensions[i]
			}
		}
		t.Fatalf("no extension %s", id)
		return nil
	}
	drop := func(tpl *x509.Certificate, id asn1.ObjectIdentifier) {
		e := extension(tpl, id)
		e.Id = asn1.ObjectIdentifier{2, 999, 7}
		e.Critical = false
	}
	a.attempt(a.ask(keyring.P256)) // the positive control, and a first certificate to copy from
	if n := len(a.server.Issued()); n != 1 {
		t.Fatalf("%d issued", n)
	}
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		lie    func(w http.ResponseWriter, r *http.Request) bool
		want   string
	}{
		"another subject": {change: func(c *x509.Certificate) { c.RawSubject = nil; c.Subject = pkix.Name{CommonName: "somebody else"} }, want: "certificate_profile"},
		"another person":  {change: func(c *x509.Certificate) { c.RawSubject = a.server.Root.Certificate.RawSubject }, want: "certificate_profile"},
		"no policy":       {change: func(c *x509.Certificate) { drop(c, asn1.ObjectIdentifier{2, 5, 29, 32}) }, want: "cert_policy"},
		"no key usage":    {change: func(c *x509.Certificate) { drop(c, asn1.ObjectIdentifier{2, 5, 29, 15}) }, want: "cert_key_usage"},
		"no attributes":   {change: func(c *x509.Certificate) { drop(c, asn1.ObjectIdentifier{2, 5, 29, 9}) }, want: "certificate_profile"},
		"too long":        {change: func(c *x509.Certificate) { c.NotAfter = c.NotBefore.AddDate(2, 0, 0) }, want: "certificate_profile"},
		"over already": {change: func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}, want: "cert_expired"},
		"begins tomorrow": {change: func(c *x509.Certificate) { c.NotBefore = time.Now().Add(24 * time.Hour) }, want: "cert_not_yet_valid"},
		"a CA":            {change: func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, want: "cert_"},
		"for servers":     {change: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, want: "certificate_profile"},
		"a host name":     {change: func(c *x509.Certificate) { c.DNSNames = []string{"example.test"} }, want: "certificate_profile"},
		"no status":       {change: func(c *x509.Certificate) { c.CRLDistributionPoints = nil }, want: "certificate_profile"},
		"a serial of before": {change: func(c *x509.Certificate) { c.SerialNumber = a.server.Issued()[0].SerialNumber },
			want: "certificate_seen"},
		"another key": {lie: func(w http.ResponseWriter, r *http.Request) bool {
			der, _ := certify(r, other.Public(), a.server.Issuing)
			esttest.Answer(w, degenerate(t, der))
			return true
		}, want: "certificate_other_key"},
		"another CA": {lie: func(w http.ResponseWriter, r *http.Request) bool {
			return false
		}, change: func(c *x509.Certificate) {}, want: ""},
		"somebody else's certificate": {lie: func(w http.ResponseWriter, r *http.Request) bool {
			esttest.Answer(w, degenerate(t, a.server.Issued()[0].Raw))
			return true
		}, want: "certificate_other_key"},
	} {
		r := a.ask(keyring.P256)
		a.server.Change(c.change)
		a.server.Lie(func(w http.ResponseWriter, req *http.Request) bool {
			return c.lie != nil && strings.HasSuffix(req.URL.Path, "/simpleenroll") && c.lie(w, req)
		})
		node := a.outside
		if name == "another CA" { // the same answers, judged by another anchor
			node, c.want = a.node(func(o *issuing.OutsideConfig) { o.Anchors = []*x509.Certificate{foreign.Certificate} }), "cert_untrusted"
		}
		if err := node.Attempt(context.Background(), r.ID); err != nil {
			t.Fatal(err)
		}
		now := a.stands(r)
		if now.State != issuing.RequestWaiting || !strings.HasPrefix(now.LastError, c.want) || now.LastError == "" || now.Attempts != 1 {
			t.Errorf("%s: %s %q after %d, want %s", name, now.State, now.LastError, now.Attempts, c.want)
		}
		if n := a.count(`SELECT count(*) FROM audit_entries WHERE act = 'certificate.refused' AND device_id = $1 AND result = 'refused' AND detail->>'code' LIKE $2 || '%'`, r.DeviceID, c.want); n != 1 {
			t.Errorf("%s: %d entries", name, n)
		}
		if n := a.count(`SELECT count(*) FROM mobile_certificates WHERE device_id = $1`, r.DeviceID); n != 0 {
			t.Errorf("%s: it was registered", name)
		}
		a.server.Change(nil)
		a.server.Lie(nil)
		if now := a.attempt(r); now.State != issuing.RequestIssued {
			t.Errorf("%s: afterwards %s %q", name, now.State, now.LastError)
		}
	}
}

// degenerate wraps one certificate.
func degenerate(t testing.TB, der []byte) []byte {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "c.pem")
	if err := os.WriteFile(path, esttest.PEM(c), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("openssl", "crl2pkcs7", "-nocrl", "-certfile", path, "-outform", "DER").Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A subject in other string types is the same only where the configuration says so.
func TestOutsideSubjectMapping(t *testing.T) {
	a := newAbroad(t)
	retyped := func(c *x509.Certificate) {
		raw := []byte(string(c.RawSubject))
		for i := 0; i+1 < len(raw); i++ { // the country as UTF8String
			if raw[i] == asn1.TagPrintableString && raw[i+1] == 2 {
				raw[i] = asn1.TagUTF8String
				break
			}
		}
		c.RawSubject = raw
	}
	a.server.Change(retyped)
	r := a.ask(keyring.P256)
	if now := a.attempt(r); now.State != issuing.RequestWaiting || now.LastError != "certificate_profile" {
		t.Errorf("exact: %s %q", now.State, now.LastError)
	}
	a.outside = a.node(func(o *issuing.OutsideConfig) { o.TextSubject = true })
	if now := a.attempt(r); now.State != issuing.RequestIssued {
		t.Errorf("text: %s %q", now.State, now.LastError)
	}
	other := a.ask(keyring.P256)
	a.server.Change(func(c *x509.Certificate) {
		retyped(c)
		c.RawSubject[len(c.RawSubject)-1] ^= 1
	})
	if now := a.attempt(other); now.LastError != "certificate_profile" {
		t.Errorf("another number: %s %q", now.State, now.LastError)
	}
}

func TestOutsideBusyDownAndWaiting(t *testing.T) {
	ctx := context.Background()
	a := newAbroad(t)
	r := a.ask(keyring.P256)
	if ids, err := a.outside.Due(ctx, 10); err != nil || len(ids) != 1 || ids[0] != r.ID {
		t.Fatalf("due: %v %v", ids, err)
	}
	a.server.Wait(1, "120")
	if now := a.attempt(r); now.LastError != "est_waiting" {
		t.Errorf("202: %s %q", now.State, now.LastError)
	}
	if n := a.count(`SELECT extract(epoch FROM next_attempt_at - now())::int FROM certificate_requests WHERE id = $1`, r.ID); n < 110 || n > 121 {
		t.Errorf("asked to wait 120 s, next in %d s", n)
	}
	asked := len(a.server.Requests())
	if err := a.outside.Attempt(ctx, r.ID); err != nil || len(a.server.Requests()) != asked {
		t.Errorf("the server was asked before its time: %v", err)
	}
	a.server.Stop()
	if now := a.attempt(r); now.State != issuing.RequestWaiting || now.LastError != "egress_failed" || now.Attempts != 2 {
		t.Errorf("down: %s %q", now.State, now.LastError)
	}
	if err := a.server.Start(); err != nil {
		t.Fatal(err)
	}
	if now := a.attempt(r); now.State != issuing.RequestIssued {
		t.Errorf("back: %s %q", now.State, now.LastError)
	}
	asked = len(a.server.Requests())
	if now := a.attempt(r); now.State != issuing.RequestIssued || len(a.server.Requests()) != asked {
		t.Error("a request that is answered was sent again")
	}
}

// Two nodes, and an operator with a file, at the same time: one certificate.
func TestOutsideTwoNodesAtOnce(t *testing.T) {
	ctx := context.Background()
	a := newAbroad(t)
	nodes := []*issuing.Outside{a.outside, a.node(), a.node()}
	for range 8 {
		r := a.ask(keyring.P256)
		cert, err := a.server.Certify(r.DER)
		if err != nil {
			t.Fatal(err)
		}
		extra := []*x509.Certificate{a.server.Issuing.Certificate}
		var all sync.WaitGroup
		for _, n := range nodes {
			all.Go(func() {
				if err := n.Attempt(ctx, r.ID); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() {
				_, err := n.Accept(ctx, cert.Raw, extra, audit.New("").ByOperator("test"), false)
				if err != nil && !errors.Is(err, issuing.ErrRequestDone) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := a.count(`SELECT count(*) FROM mobile_certificates WHERE device_id = $1`, r.DeviceID); n != 1 || a.stands(r).State != issuing.RequestIssued {
			t.Fatalf("%d certificates, request %s", n, a.stands(r).State)
		}
		if n := a.count(`SELECT count(*) FROM audit_entries WHERE act = 'certificate.issued' AND device_id = $1`, r.DeviceID); n != 1 {
			t.Errorf("%d entries", n)
		}
	}
}

// By hand: what the EST server does not do, an operator does.
func TestOutsideByHand(t *testing.T) {
	ctx := context.Background()
	a := newAbroad(t)
	hand := a.node(func(o *issuing.OutsideConfig) {
		o.EST = nil
		o.Intermediates = []*x509.Certificate{a.server.Issuing.Certificate}
	})
	r, by := a.ask(keyring.P256), audit.New("").ByOperator("tester")
	if ids, err := hand.Due(ctx, 10); err != nil || len(ids) != 0 {
		t.Errorf("due: %v %v", ids, err)
	}
	if list, err := hand.Waiting(ctx, uuid.Nil, 10); err != nil || len(list) != 1 || list[0].ID != r.ID {
		t.Errorf("waiting: %v %v", list, err)
	}
	cert, err := a.server.Certify(r.DER)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hand.Accept(ctx, cert.Raw, nil, by, true); err != nil || a.stands(r).State != issuing.RequestWaiting {
		t.Errorf("dry: %v, %s", err, a.stands(r).State)
	}
	bad := *cert
	for name, c := range map[string]struct {
		der  []byte
		want *fault.Error
	}{
		"nothing":      {nil, certpath.ErrMalformed},
		"with a tail":  {append(append([]byte{}, bad.Raw...), 0), certpath.ErrMalformed},
		"no request":   {a.server.Root.Certificate.Raw, issuing.ErrRequestUnknown},
		"without a CA": {selfSigned(t), issuing.ErrRequestUnknown},
	} {
		if _, err := hand.Accept(ctx, c.der, nil, by, false); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 2 { // twice is the same
		if _, err := hand.Accept(ctx, cert.Raw, nil, by, false); err != nil {
			t.Fatal(err)
		}
	}
	if n := a.count(`SELECT count(*) FROM audit_entries WHERE act = 'certificate.issued' AND actor_kind = 'operator' AND actor = 'tester' AND device_id = $1`, r.DeviceID); n != 1 {
		t.Errorf("%d entries", n)
	}
	second, _ := a.server.Certify(r.DER)
	if _, err := hand.Accept(ctx, second.Raw, nil, by, false); !errors.Is(err, issuing.ErrRequestDone) {
		t.Errorf("a second certificate: %v", err)
	}
}

func selfSigned(t testing.TB) []byte {
	t.Helper()
	a, err := pkitest.NewRoot(x509.Certificate{Subject: pkix.Name{CommonName: "x"}, SerialNumber: big.NewInt(7)})
	if err != nil {
		t.Fatal(err)
	}
	return a.Certificate.Raw
}

// What happens to a phone before its certificate comes, the certificate follows,
// and the CA hears of it.
func TestOutsideCertificateOfAStoppedPhone(t *testing.T) {
	ctx := context.Background()
	a := newAbroad(t)
	for state, want := range map[string]issuing.State{"active": issuing.Good, "suspended": issuing.Held, "removed": issuing.Revoked} {
		r := a.ask(keyring.P256)
		cert, err := a.server.Certify(r.DER)
		if err != nil {
			t.Fatal(err)
		}
		a.exec(`UPDATE devices SET state = $2 WHERE id = $1`, r.DeviceID, state)
		if _, err := a.outside.Accept(ctx, cert.Raw, []*x509.Certificate{a.server.Issuing.Certificate}, audit.New(""), false); err != nil {
			t.Fatalf("%s: %v", state, err)
		}
		if n := a.count(`SELECT count(*) FROM mobile_certificates WHERE device_id = $1 AND state = $2`, r.DeviceID, want); n != 1 {
			t.Errorf("%s: not %s", state, want)
		}
		list, err := a.store.Unreported(ctx, time.Time{}, uuid.Nil, 100)
		if err != nil {
			t.Fatal(err)
		}
		told := 0
		for _, l := range list {
			if string(l.Serial) == string(cert.SerialNumber.Bytes()) {
				told++
				if l.State != want {
					t.Errorf("%s is told as %s", want, l.State)
				}
				for i := range 2 {
					if ok, err := a.store.Reported(ctx, l, audit.New(audit.RevocationsReported)); err != nil || ok != (i == 0) {
						t.Errorf("reported the %d. time: %v %v", i+1, ok, err)
					}
				}
			}
		}
		if (told == 1) != (want != issuing.Good) {
			t.Errorf("%s: told %d times", state, told)
		}
	}
	// A removed phone's request is not sent any more.
	r := a.ask(keyring.P256)
	a.exec(`UPDATE devices SET state = 'removed' WHERE id = $1`, r.DeviceID)
	asked := len(a.server.Requests())
	if now := a.attempt(r); now.State != issuing.RequestRefused || now.LastError != "device_removed" || len(a.server.Requests()) != asked {
		t.Errorf("%s %q", now.State, now.LastError)
	}
	// A release is told as well.
	held := a.count(`SELECT count(*) FROM mobile_certificates WHERE state = 'held'`)
	a.exec(`UPDATE mobile_certificates SET state = 'good', revoked_at = NULL, reason = NULL WHERE state = 'held'`)
	list, err := a.store.Unreported(ctx, time.Time{}, uuid.Nil, 100)
	if err != nil || held != 1 || len(list) != 1 || list[0].State != issuing.Good {
		t.Errorf("%d held, to tell %+v, %v", held, list, err)
	}
}

// The same serial number from two issuers is two certificates, and our own OCSP
// says nothing about the other's.
func TestSerialNumbersOfTwoIssuers(t *testing.T) {
	ctx := context.Background()
	a := newAbroad(t)
	own, _ := issue(t, a.pool, a.ca, a.keys, "9999999912345678")
	r := a.ask(keyring.P256)
	a.server.Change(func(c *x509.Certificate) { c.SerialNumber = new(big.Int).SetBytes(own.Serial) })
	if now := a.attempt(r); now.State != issuing.RequestIssued {
		t.Fatalf("%s %q", now.State, now.LastError)
	}
	if err := a.ca.Revoke(ctx, own.Serial, issuing.ReasonCessation, audit.New("")); err != nil {
		t.Fatal(err)
	}
	if n := a.count(`SELECT count(*) FROM mobile_certificates WHERE serial = $1 AND state = 'good'`, own.Serial); n != 1 {
		t.Errorf("revoking ours left %d of theirs good", n)
	}
	only := a.ask(keyring.P256)
	a.server.Change(nil)
	a.attempt(only)
	theirs, _ := x509.ParseCertificate(a.stands(only).Certificate)
	if err := a.ca.Revoke(ctx, theirs.SerialNumber.Bytes(), issuing.ReasonCessation, audit.New("")); !errors.Is(err, issuing.ErrNotFound) {
		t.Errorf("ours revokes theirs: %v", err)
	}
}
