package server_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/issuing"
	"sealgate/internal/pkitest/esttest"
)

// otherCA is a test CA behind EST, and the settings of a service that uses it.
func otherCA(t *testing.T, more map[string]string) (*esttest.Server, map[string]string) {
	t.Helper()
	policy, err := x509.ParseOID(issuing.DefaultPolicy)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := esttest.New(esttest.Options{Policies: []x509.OID{policy}, User: "sealgate", Password: "test only"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ca.Stop)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	settings := map[string]string{
		"issuing.mode":              "est",
		"issuing.anchors_dir":       filepath.Dir(write("anchors/root.pem", esttest.PEM(ca.Root.Certificate))),
		"issuing.est.url":           ca.URL(),
		"issuing.est.roots_file":    write("tls.pem", esttest.PEM(ca.TLSRoot.Certificate)),
		"issuing.est.user":          "sealgate",
		"issuing.est.password_file": write("password", []byte("test only\n")),
	}
	for k, v := range more {
		settings[k] = v
	}
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(testCards(t).RepositoryURL(), "http://"))
	settings["egress.allow"] = fmt.Sprintf("localhost:%s,127.0.0.1:%s,%s", port, port, ca.Address())
	return ca, settings
}

// signOrder makes an order for one document and lets the phone scan it.
func (w *world) signOrder(t testing.TB, phone *softphone.Phone, content []byte) (*api, string, *softphone.Claim) {
	t.Helper()
	client, desk := w.api(), w.browser()
	o, err := client.create(map[string]any{"text": "請簽核", "return_uri": site + "/signed", "documents": []any{document("一.pdf", content)}})
	if err != nil {
		t.Fatal(err)
	}
	id := must(desk.Open(w.ctx, o.StartURL))(t)
	return client, id, w.scan(t, desk, phone, id)
}

func problemCode(err error) string {
	var p *softphone.Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return fmt.Sprint(err)
}

// The other CA is down when the phone is bound: the phone logs in, signing says
// why it must wait, and once the CA is back the very same order is signed.
func TestOutsideAuthorityDownAtBinding(t *testing.T) {
	t.Parallel()
	ca, settings := otherCA(t, nil)
	w := newWorld(t, settings)
	ca.Stop()
	phone := w.enrol(0)
	a := w.relyingParty("profile").begin()
	desk := w.browser()
	if _, err := a.finish(must(desk.Return(w.ctx, w.approved(t, a, desk, phone)))(t)); err != nil {
		t.Fatalf("login: %v", err)
	}
	content := []byte("第一件公文")
	client, id, claim := w.signOrder(t, phone, content)
	if _, err := phone.Approve(w.ctx, claim); problemCode(err) != "certificate_pending" {
		t.Fatalf("signing: %v", err)
	}
	if err := ca.Start(); err != nil {
		t.Fatal(err)
	}
	var err error
	for range 200 {
		if _, err = phone.Approve(w.ctx, claim); problemCode(err) != "certificate_pending" {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	if o := client.completed(t, id); o.State != "completed" {
		t.Fatalf("%+v", o)
	}
	w.opensslVerifiesUnder(t, w.signature(t, client, id, 0), content, esttest.PEM(ca.Root.Certificate))
}

// Up, the certificate is there a moment after the binding; a phone that is
// removed cannot sign at once, and the CA is to be told.
func TestOutsideAuthorityAtBinding(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"P-384", "RSA-2048"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			ca, settings := otherCA(t, map[string]string{"mobile.key_algorithm": algorithm})
			w := newWorld(t, settings)
			phone := w.enrol(1)
			start := time.Now()
			w.issued(t, 1)
			t.Logf("the certificate came %s after the binding", time.Since(start).Round(time.Millisecond))
			content := []byte("公文")
			client, id, claim := w.signOrder(t, phone, content)
			if _, err := phone.Approve(w.ctx, claim); err != nil {
				t.Fatal(err)
			}
			if o := client.completed(t, id); o.State != "completed" {
				t.Fatalf("%+v", o)
			}
			der := w.signature(t, client, id, 0)
			w.opensslVerifiesUnder(t, der, content, esttest.PEM(ca.Root.Certificate))

			// Our own responder does not speak for it.
			if status := w.opensslStatus(t, ca, ca.Issued()[0]); !strings.Contains(status, "unknown") && !strings.Contains(status, "unauthorized") {
				t.Errorf("our OCSP says %s", status)
			}
			var device uuid.UUID
			if err := w.pool.QueryRow(w.ctx, `SELECT device_id FROM mobile_certificates`).Scan(&device); err != nil {
				t.Fatal(err)
			}
			_, id, claim = w.signOrder(t, phone, content)
			if _, err := w.pool.Exec(w.ctx, `UPDATE mobile_certificates SET state = 'held', revoked_at = now(), reason = 6`); err != nil {
				t.Fatal(err)
			}
			if _, err := phone.Approve(w.ctx, claim); problemCode(err) != "sign_certificate_missing" {
				t.Errorf("a held certificate: %v", err)
			}
			_ = id
		})
	}
}

// issued waits until n certificates are registered.
func (w *world) issued(t testing.TB, n int) {
	t.Helper()
	for range 300 {
		var have int
		if err := w.pool.QueryRow(w.ctx, `SELECT count(*) FROM mobile_certificates`).Scan(&have); err != nil {
			t.Fatal(err)
		}
		if have >= n {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("no certificate came\n%s", tail(w.log.String()))
}

// A certificate that breaks a rule is not taken, however often it is sent; when
// the CA sends a right one, it is.
func TestOutsideAuthorityMisissues(t *testing.T) {
	t.Parallel()
	ca, settings := otherCA(t, nil)
	w := newWorld(t, settings)
	ca.Change(func(c *x509.Certificate) { c.DNSNames = []string{"example.test"} })
	w.enrol(2)
	for range 100 {
		var code string
		if err := w.pool.QueryRow(w.ctx, `SELECT last_error FROM certificate_requests`).Scan(&code); err != nil {
			t.Fatal(err)
		}
		if code == "certificate_profile" {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	var refused int
	if err := w.pool.QueryRow(w.ctx, `SELECT count(*) FROM audit_entries WHERE act = 'certificate.refused' AND detail->>'code' = 'certificate_profile'`).Scan(&refused); err != nil || refused == 0 {
		t.Fatalf("%d refusals in the audit log, %v", refused, err)
	}
	ca.Change(nil)
	w.issued(t, 1)
}

func TestOutsideSettingsAreChecked(t *testing.T) {
	t.Parallel()
	_, settings := otherCA(t, nil)
	for name, change := range map[string]func(map[string]string){
		"right":            func(map[string]string) {},
		"host not allowed": func(s map[string]string) { s["egress.allow"] = "other.example.test" },
		"open password": func(s map[string]string) {
			path := filepath.Join(t.TempDir(), "p")
			if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
			s["issuing.est.password_file"] = path
		},
		"no roots": func(s map[string]string) { s["issuing.est.roots_file"] = s["issuing.est.password_file"] },
		"no anchors": func(s map[string]string) {
			s["issuing.anchors_dir"] = t.TempDir()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bad := map[string]string{}
			for k, v := range settings {
				bad[k] = v
			}
			change(bad)
			w := prepare(t, bad)
			w.config.Listen = w.node
			box, err := w.config.start(w.ctx, w.pool, slog.New(slog.DiscardHandler))
			if err == nil {
				_ = box.Close()
			}
			if name == "right" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), "issuing") {
				t.Errorf("the server starts, or fails for another reason: %v", err)
			}
		})
	}
}

// opensslVerifiesUnder lets openssl verify a signature with these roots alone.
func (w *world) opensslVerifiesUnder(t testing.TB, der, content, roots []byte) {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string][]byte{"a.p7s": der, "a": content, "roots.pem": roots} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	verify := func(roots string) error {
		out, err := exec.Command("openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", filepath.Join(dir, "a.p7s"),
			"-content", filepath.Join(dir, "a"), "-CAfile", roots, "-purpose", "any", "-out", os.DevNull).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := verify(filepath.Join(dir, "roots.pem")); err != nil {
		t.Fatal(err)
	}
	if verify(w.anchors(t)) == nil {
		t.Error("the signature also leads to our own authority")
	}
}

// opensslStatus asks our own OCSP responder about a certificate of the other CA.
func (w *world) opensslStatus(t testing.TB, ca *esttest.Server, cert *x509.Certificate) string {
	t.Helper()
	dir := t.TempDir()
	for name, c := range map[string]*x509.Certificate{"issuer.pem": ca.Issuing.Certificate, "cert.pem": cert} {
		if err := os.WriteFile(filepath.Join(dir, name), esttest.PEM(c), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, _ := exec.Command("openssl", "ocsp", "-issuer", filepath.Join(dir, "issuer.pem"), "-cert", filepath.Join(dir, "cert.pem"),
		"-url", w.origin+issuing.PathOCSP, "-noverify").CombinedOutput()
	return string(out)
}

// A renewal asks by /simplereenroll. The old certificate signs until the new one
// has come, and nothing after that; asking twice is refused.
func TestOutsideAuthorityRenewal(t *testing.T) {
	t.Parallel()
	ca, settings := otherCA(t, nil)
	w := newWorld(t, settings)
	phone := w.citizenPhone(t, 3, "一號")
	w.issued(t, 1)
	d := named(t, w.devices(t, phone), "一號")
	w.ends(t, d.ID, 24*time.Hour)
	ca.Stop()
	if _, err := phone.Renew(w.ctx); err != nil {
		t.Fatal(err)
	}
	_, err := phone.Renew(w.ctx)
	wantCode(t, err, "renewal_pending")
	sign := func() []byte {
		content := []byte("公文")
		client, id, claim := w.signOrder(t, phone, content)
		if _, err := phone.Approve(w.ctx, claim); err != nil {
			t.Fatal(err)
		}
		if o := client.completed(t, id); o.State != "completed" {
			t.Fatalf("%+v", o)
		}
		der := w.signature(t, client, id, 0)
		w.opensslVerifiesUnder(t, der, content, esttest.PEM(ca.Root.Certificate))
		return der
	}
	before := sign()
	if err := ca.Start(); err != nil {
		t.Fatal(err)
	}
	w.issued(t, 2)
	after := sign()
	issued := ca.Issued()
	if !bytes.Contains(before, issued[0].Raw) || !bytes.Contains(after, issued[1].Raw) || bytes.Contains(after, issued[0].Raw) {
		t.Error("the wrong certificate signs")
	}
	if asked := strings.Join(ca.Requests(), " "); !strings.Contains(asked, "/simplereenroll") {
		t.Errorf("asked %s", asked)
	}
	var good int
	if err := w.pool.QueryRow(w.ctx, `SELECT count(*) FROM device_statements s JOIN mobile_certificates m ON m.id = s.new_certificate_id
JOIN mobile_certificates o ON o.id = s.old_certificate_id JOIN keys k ON k.id = o.key_id
WHERE m.superseded_at IS NULL AND o.superseded_at IS NOT NULL AND k.destroy_after IS NOT NULL`).Scan(&good); err != nil || good != 1 {
		t.Errorf("%d renewals are whole, %v", good, err)
	}
}
