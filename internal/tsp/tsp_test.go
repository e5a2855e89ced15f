package tsp_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
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

	"github.com/digitorus/timestamp"

	"sealgate/internal/cms"
	"sealgate/internal/fault"
	"sealgate/internal/tsp"
)

var policy = asn1.ObjectIdentifier{2, 16, 886, 101, 99, 1}

type authority struct {
	ca, tsa *x509.Certificate
	caKey   crypto.Signer
	key     crypto.Signer
}

var shared = sync.OnceValue(func() authority {
	a := authority{caKey: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "(測試用) CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte{1}}
	a.ca = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tpl, tpl, a.caKey.Public(), a.caKey))))
	a.tsa = a.issue(true, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8})
	return a
})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// issue makes a certificate for the authority's key with these purposes.
func (a authority) issue(critical bool, purposes ...asn1.ObjectIdentifier) *x509.Certificate {
	tpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "(測試用) TSA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature}
	if len(purposes) > 0 {
		tpl.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: critical, Value: must(asn1.Marshal(purposes))}}
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tpl, a.ca, a.key.Public(), a.caKey))))
}

func responder(t testing.TB, change func(*tsp.ResponderConfig)) *tsp.Responder {
	t.Helper()
	a := shared()
	cfg := tsp.ResponderConfig{Certificate: a.tsa, Chain: []*x509.Certificate{a.ca}, Key: a.key, Policy: policy}
	if change != nil {
		change(&cfg)
	}
	r, err := tsp.NewResponder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// poster answers as the responder, with a hand on the wire.
func poster(t testing.TB, r *tsp.Responder, meddle func(request []byte) []byte) tsp.Poster {
	return func(_ context.Context, _, contentType string, body []byte, accept string, _ int64) ([]byte, error) {
		if contentType != tsp.MediaTypeQuery || accept != tsp.MediaTypeReply {
			t.Errorf("media types %q %q", contentType, accept)
		}
		if meddle != nil {
			body = meddle(body)
		}
		out, _ := r.Respond(body)
		return out, nil
	}
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	if got := fault.CodeOf(err); got != code {
		t.Errorf("%s: code %q, want %q (%v)", what, got, code, err)
	}
}

func TestRequestToken(t *testing.T) {
	at := time.Now().Truncate(time.Second).UTC()
	r := responder(t, func(c *tsp.ResponderConfig) {
		c.Now = func() time.Time { return at.Add(300 * time.Millisecond) }
		c.Accuracy = 1500 * time.Millisecond
	})
	imprint := tsp.ImprintOf([]byte("signature value"))
	token, signer, err := tsp.RequestToken(context.Background(), poster(t, r, nil), "http://tsa", imprint)
	if err != nil {
		t.Fatal(err)
	}
	if !signer.Equal(shared().tsa) || !token.Info.Time.Equal(at) || !token.Info.Policy.Equal(policy) || token.Info.Accuracy != 1500*time.Millisecond {
		t.Errorf("%+v", token.Info)
	}
	again, err := tsp.ParseToken(token.Raw)
	if err != nil || again.Info.Serial.Cmp(token.Info.Serial) != 0 {
		t.Fatal(err)
	}
	_, err = again.Verify(tsp.ImprintOf([]byte("another")))
	wantCode(t, "another imprint", err, "tsp_mismatch")
	second, _, err := tsp.RequestToken(context.Background(), poster(t, r, nil), "http://tsa", imprint)
	if err != nil || second.Info.Serial.Cmp(token.Info.Serial) == 0 {
		t.Errorf("serial numbers repeat: %v", err)
	}
}

func TestClientRefusesOtherAnswers(t *testing.T) {
	imprint := tsp.ImprintOf([]byte("x"))
	rewrite := func(change func(*tsp.Request)) func([]byte) []byte {
		return func(b []byte) []byte {
			req := must(tsp.ParseRequest(b))
			change(req)
			return must(req.Marshal())
		}
	}
	for name, tc := range map[string]struct {
		meddle func([]byte) []byte
		want   string
	}{
		"control":         {rewrite(func(*tsp.Request) {}), ""},
		"another nonce":   {rewrite(func(r *tsp.Request) { r.Nonce = big.NewInt(5) }), "tsp_mismatch"},
		"no nonce":        {rewrite(func(r *tsp.Request) { r.Nonce = nil }), "tsp_mismatch"},
		"another imprint": {rewrite(func(r *tsp.Request) { r.Imprint = tsp.ImprintOf([]byte("y")) }), "tsp_mismatch"},
		"no certificate":  {rewrite(func(r *tsp.Request) { r.CertReq = false }), "tsp_invalid"},
		"another policy":  {rewrite(func(r *tsp.Request) { r.Policy = asn1.ObjectIdentifier{1, 2, 3} }), "tsp_refused"},
		"junk":            {func([]byte) []byte { return []byte("junk") }, "tsp_refused"},
	} {
		_, _, err := tsp.RequestToken(context.Background(), poster(t, responder(t, nil), tc.meddle), "http://tsa", imprint)
		wantCode(t, name, err, tc.want)
	}
	_, _, err := tsp.RequestToken(context.Background(), func(context.Context, string, string, []byte, string, int64) ([]byte, error) {
		return []byte{0x30, 0}, nil
	}, "http://tsa", imprint)
	wantCode(t, "malformed response", err, "tsp_malformed")
	down := errors.New("down")
	_, _, err = tsp.RequestToken(context.Background(), func(context.Context, string, string, []byte, string, int64) ([]byte, error) {
		return nil, down
	}, "http://tsa", imprint)
	if !errors.Is(err, down) {
		t.Errorf("the dialler's error must come through: %v", err)
	}
}

func TestChangedTokenIsRefused(t *testing.T) {
	imprint := tsp.ImprintOf([]byte("x"))
	token, _, err := tsp.RequestToken(context.Background(), poster(t, responder(t, nil), nil), "", imprint)
	if err != nil {
		t.Fatal(err)
	}
	year := []byte(token.Info.Time.Format("20060102"))
	later := bytes.Replace(token.Raw, year, []byte("20990101"), 1)
	parsed, err := tsp.ParseToken(later)
	if err != nil || parsed.Info.Time.Year() != 2099 {
		t.Fatal(err)
	}
	_, err = parsed.Verify(imprint)
	wantCode(t, "another time", err, "tsp_invalid")
}

// RFC 3161 §2.3: the extended key usage is critical and time stamping alone.
func TestResponderCertificate(t *testing.T) {
	a := shared()
	stamping, server := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	for name, cert := range map[string]*x509.Certificate{
		"not critical":    a.issue(false, stamping),
		"another purpose": a.issue(true, server),
		"two purposes":    a.issue(true, stamping, server),
		"no purpose":      a.issue(true),
	} {
		if _, err := tsp.NewResponder(tsp.ResponderConfig{Certificate: cert, Key: a.key, Policy: policy}); err == nil {
			t.Errorf("%s: accepted as responder", name)
		}
		// A token signed by it, made around the responder's check, is refused too.
		token := tokenBy(t, cert, a.key)
		parsed, err := tsp.ParseToken(token)
		if err != nil {
			t.Fatal(err)
		}
		_, err = parsed.Verify(tsp.ImprintOf([]byte("x")))
		wantCode(t, name, err, "tsp_invalid")
	}
	parsed, err := tsp.ParseToken(tokenBy(t, a.tsa, a.key))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parsed.Verify(tsp.ImprintOf([]byte("x")))
	wantCode(t, "control", err, "")
}

// tokenBy signs the TSTInfo of a good token with any certificate.
func tokenBy(t *testing.T, cert *x509.Certificate, key crypto.Signer) []byte {
	t.Helper()
	good, _, err := tsp.RequestToken(context.Background(), poster(t, responder(t, nil), nil), "", tsp.ImprintOf([]byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	content := must(cms.Parse(good.Raw)).Content
	digest := tsp.ImprintOf(content).Digest
	tbs := must(cms.SignedAttributes(digest, cms.Signer{Certificate: cert, Key: key}, cms.Options{ContentType: cms.OIDTSTInfo, SigningTime: time.Now()}))
	return must(cms.AssembleAttached(cms.OIDTSTInfo, content, []*x509.Certificate{cert}, must(tbs.Sign(rand.Reader))))
}

func TestRespondRefusesWithTheRightBit(t *testing.T) {
	r := responder(t, nil)
	sha256Imprint := tsp.ImprintOf([]byte("x"))
	good := must((&tsp.Request{Imprint: sha256Imprint}).Marshal())
	sha1 := bytes.Replace(good, []byte{0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1}, []byte{0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 9}, 1)
	version := bytes.Clone(good)
	version[4] = 2
	extension := append(bytes.Clone(good), 0xa0, 0)
	extension[1] += 2
	for name, tc := range map[string]struct {
		req []byte
		bit int
	}{
		"unknown digest": {sha1, 0}, "version": {version, 2}, "trailing": {append(bytes.Clone(good), 0), 5}, "junk": {nil, 5},
		"policy":    {must((&tsp.Request{Imprint: sha256Imprint, Policy: asn1.ObjectIdentifier{1, 2}}).Marshal()), 15},
		"extension": {extension, 16},
	} {
		out, err := r.Respond(tc.req)
		if err == nil {
			t.Errorf("%s: no error for the log", name)
		}
		var resp struct {
			Status struct {
				Status int
				Fail   asn1.BitString
			}
		}
		if rest, err := asn1.Unmarshal(out, &resp); err != nil || len(rest) > 0 {
			t.Fatalf("%s: %v", name, err)
		}
		if resp.Status.Status != 2 || resp.Status.Fail.At(tc.bit) != 1 || resp.Status.Fail.BitLength != tc.bit+1 {
			t.Errorf("%s: %+v, want bit %d", name, resp.Status, tc.bit)
		}
		_, err = tsp.ParseResponse(out)
		wantCode(t, name, err, "tsp_refused")
	}
	out, err := r.Respond(good)
	if err != nil {
		t.Errorf("control: %v", err)
	}
	token := must(tsp.ParseToken(must(tsp.ParseResponse(out))))
	if len(token.Certificates) != 0 {
		t.Error("certificates without certReq")
	}
	broken := responder(t, func(c *tsp.ResponderConfig) {
		c.Serial = func() (*big.Int, error) { return nil, errors.New("no number") }
	})
	if out, err = broken.Respond(good); err == nil {
		t.Error("no serial number, and no error")
	}
	_, err = tsp.ParseResponse(out)
	wantCode(t, "system failure", err, "tsp_refused")
	late := responder(t, func(c *tsp.ResponderConfig) { c.Now = func() time.Time { return time.Now().AddDate(2, 0, 0) } })
	if _, err := late.Respond(good); err == nil {
		t.Error("stamped with an expired certificate")
	}
}

func TestGenTimeForms(t *testing.T) {
	token := must(tsp.ParseToken(tokenBy(t, shared().tsa, shared().key)))
	content := must(cms.Parse(token.Raw)).Content
	i := bytes.Index(content, []byte{0x18, 15})
	for text, ok := range map[string]bool{
		"20261123010203Z": true, "20261123010203.5Z": true, "20261123010203.123456Z": true,
		"20261123010203.50Z": false, "20261123010203.Z": false, "20261123010203": false, "20261123010203+0800": false,
		"2026112301020Z": false, "20261323010203Z": false, "20261123010260Z": false, "20261123010203,5Z": false,
	} {
		changed := bytes.Join([][]byte{content[:i], {0x18, byte(len(text))}, []byte(text), content[i+17:]}, nil)
		changed[1] += byte(len(text) - 15)
		tbs := must(cms.SignedAttributes(tsp.ImprintOf(changed).Digest, cms.Signer{Certificate: shared().tsa, Key: shared().key}, cms.Options{ContentType: cms.OIDTSTInfo}))
		der := must(cms.AssembleAttached(cms.OIDTSTInfo, changed, nil, must(tbs.Sign(rand.Reader))))
		_, err := tsp.ParseToken(der)
		if (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestOpenSSLAgrees(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("openssl is not installed: this counterpart was not asked")
	}
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	run := func(args ...string) (string, error) {
		out, err := exec.Command("openssl", args...).CombinedOutput()
		return string(out), err
	}
	data := file("data", []byte("文件"))
	other := file("other", []byte("另一份"))
	ca := file("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: shared().ca.Raw}))
	query := filepath.Join(dir, "q.tsq")
	for _, hash := range []string{"-sha256", "-sha512"} {
		if out, err := run("ts", "-query", "-data", data, hash, "-cert", "-out", query); err != nil {
			t.Fatal(out)
		}
		resp, err := responder(t, nil).Respond(must(os.ReadFile(query)))
		if err != nil {
			t.Fatal(err)
		}
		reply := file("r.tsr", resp)
		if out, err := run("ts", "-verify", "-queryfile", query, "-in", reply, "-CAfile", ca); err != nil {
			t.Errorf("query: %s", out)
		}
		if out, err := run("ts", "-verify", "-data", data, "-in", reply, "-CAfile", ca); err != nil {
			t.Errorf("data: %s", out)
		}
		if out, err := run("ts", "-verify", "-data", other, "-in", reply, "-CAfile", ca); err == nil {
			t.Errorf("other data was accepted: %s", out)
		}
		text, err := run("ts", "-reply", "-in", reply, "-text")
		if err != nil || !strings.Contains(text, "Accuracy: 0x01 seconds") {
			t.Errorf("text: %s", text)
		}
	}
}

func TestDigitorusAgrees(t *testing.T) {
	data := []byte("文件")
	query := must(timestamp.CreateRequest(bytes.NewReader(data), &timestamp.RequestOptions{Hash: crypto.SHA256, Certificates: true}))
	resp, err := responder(t, nil).Respond(query)
	if err != nil {
		t.Fatal(err)
	}
	ts, err := timestamp.ParseResponse(resp)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ts.HashedMessage, tsp.ImprintOf(data).Digest) || !ts.Policy.Equal(policy) || ts.Accuracy != time.Second {
		t.Errorf("%+v", ts)
	}
	// And theirs by us.
	a := shared()
	stamp := timestamp.Timestamp{HashAlgorithm: crypto.SHA256, HashedMessage: ts.HashedMessage, Time: time.Now(), Policy: policy,
		SerialNumber: big.NewInt(7), AddTSACertificate: true, Certificates: []*x509.Certificate{a.ca}, ExtraExtensions: nil}
	theirs, err := stamp.CreateResponseWithOpts(a.tsa, a.key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	token := must(tsp.ParseToken(must(tsp.ParseResponse(theirs))))
	if _, err := token.Verify(tsp.ImprintOf(data)); err != nil {
		t.Errorf("theirs: %v", err)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add(must((&tsp.Request{Imprint: tsp.ImprintOf([]byte("x")), Policy: policy, Nonce: big.NewInt(-5), CertReq: true}).Marshal()))
	r := responder(f, nil)
	f.Fuzz(func(t *testing.T, der []byte) {
		req, err := tsp.ParseRequest(der)
		out, _ := r.Respond(der)
		if len(out) == 0 {
			t.Error("no answer")
		}
		if err != nil {
			return
		}
		back, err := tsp.ParseRequest(must(req.Marshal()))
		if err != nil || !back.Imprint.Equal(req.Imprint) || back.CertReq != req.CertReq {
			t.Errorf("%v", err)
		}
	})
}

func FuzzParseToken(f *testing.F) {
	r := responder(f, nil)
	out, _ := r.Respond(must((&tsp.Request{Imprint: tsp.ImprintOf([]byte("x")), CertReq: true}).Marshal()))
	f.Add(out)
	f.Fuzz(func(t *testing.T, der []byte) {
		raw, err := tsp.ParseResponse(der)
		if err != nil {
			raw = der
		}
		if token, err := tsp.ParseToken(raw); err == nil {
			token.Verify(token.Info.Imprint)
		}
	})
}
