package certpath_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"sealgate/internal/certpath"
	"sealgate/internal/pkitest"
)

// OCSP messages of x/crypto/ocsp and ours are read by each other.
func TestOCSPAgreesWithXCrypto(t *testing.T) {
	h := hierarchy()
	good := card(t, h, pkitest.CitizenOptions{}).Certificate
	revoked := card(t, h, pkitest.CitizenOptions{Revoked: true}).Certificate
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		theirs, err := ocsp.CreateRequest(good, h.CA, &ocsp.RequestOptions{Hash: hash})
		if err != nil {
			t.Fatal(err)
		}
		req, err := certpath.ParseOCSPRequest(theirs)
		if err != nil {
			t.Fatal(err)
		}
		id, err := certpath.NewCertID(good, h.CA, hash)
		if err != nil || !req.IDs[0].Equal(id) {
			t.Errorf("%v: CertID differs (%v)", hash, err)
		}
		ours, err := (&certpath.OCSPRequest{IDs: []certpath.CertID{id}}).Marshal()
		if err != nil || !bytes.Equal(ours, theirs) {
			t.Errorf("%v: requests differ\n%x\n%x", hash, ours, theirs)
		}
		for cert, want := range map[*x509.Certificate]int{good: ocsp.Good, revoked: ocsp.Revoked} {
			q, err := ocsp.CreateRequest(cert, h.CA, &ocsp.RequestOptions{Hash: hash})
			if err != nil {
				t.Fatal(err)
			}
			der, err := h.OCSP(q, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			resp, err := ocsp.ParseResponseForCert(der, cert, h.CA)
			if err != nil || resp.Status != want {
				t.Errorf("%v: %v, %v", hash, resp, err)
			}
		}
	}
}

func TestWeReadXCryptoOCSPResponses(t *testing.T) {
	h := hierarchy()
	good := card(t, h, pkitest.CitizenOptions{}).Certificate
	key := h.CASigner()
	for status, want := range map[int]certpath.CertStatus{ocsp.Good: certpath.StatusGood, ocsp.Revoked: certpath.StatusRevoked, ocsp.Unknown: certpath.StatusUnknown} {
		now := time.Now().UTC().Truncate(time.Minute)
		der, err := ocsp.CreateResponse(h.CA, h.CA, ocsp.Response{Status: status, SerialNumber: good.SerialNumber, IssuerHash: crypto.SHA256,
			ThisUpdate: now, NextUpdate: now.Add(time.Hour), RevokedAt: now, RevocationReason: ocsp.Superseded}, key)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := certpath.ParseOCSPResponse(der)
		if err != nil {
			t.Fatal(err)
		}
		s := resp.Statuses[0]
		if s.Status != want || !s.ThisUpdate.Equal(now) || want == certpath.StatusRevoked && (s.Reason != 4 || !s.RevokedAt.Equal(now)) {
			t.Errorf("%+v", s)
		}
		if _, err := resp.Responder(h.CA, time.Now(), nil); err != nil {
			t.Error(err)
		}
	}
	if _, err := certpath.ParseOCSPResponse(ocsp.TryLaterErrorResponse); err != certpath.OCSPTryLater {
		t.Errorf("try later: %v", err)
	}
	if !bytes.Equal(certpath.OCSPMalformedRequest.Marshal(), ocsp.MalformedRequestErrorResponse) {
		t.Error("error response differs")
	}
}

// writeTo makes files in one directory for openssl to read.
func writeTo(t *testing.T, dir string) func(name string, data []byte) string {
	return func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
}

// The answer of openssl's own responder, with nonce, is read and verified.
func TestOpenSSLResponderIsUnderstood(t *testing.T) {
	needOpenSSL(t)
	h := hierarchy()
	leaf := card(t, h, pkitest.CitizenOptions{}).Certificate
	dir := t.TempDir()
	file := writeTo(t, dir)
	key, err := x509.MarshalPKCS8PrivateKey(h.CASigner().(*rsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	ca := file("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.CA.Raw}))
	caKey := file("ca.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	for state, want := range map[string]certpath.CertStatus{"V": certpath.StatusGood, "R": certpath.StatusRevoked} {
		revokedAt := ""
		if state == "R" {
			revokedAt = "260101000000Z,superseded"
		}
		index := file("index.txt", fmt.Appendf(nil, "%s\t%s\t%s\t%s\tunknown\t/C=TW/CN=x\n", state,
			leaf.NotAfter.UTC().Format("060102150405Z"), revokedAt, strings.ToUpper(hexSerial(leaf))))
		id, err := certpath.NewCertID(leaf, h.CA, crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		nonce := make([]byte, 32)
		rand.Read(nonce)
		q, err := (&certpath.OCSPRequest{IDs: []certpath.CertID{id}, Nonce: nonce}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(dir, "resp.der")
		msg, err := exec.Command("openssl", "ocsp", "-index", index, "-CA", ca, "-rsigner", ca, "-rkey", caKey,
			"-reqin", file("req.der", q), "-respout", out, "-nmin", "10").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, msg)
		}
		der, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := certpath.ParseOCSPResponse(der)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := resp.Responder(h.CA, time.Now(), nil); err != nil {
			t.Error(err)
		}
		if s := resp.Statuses[0]; s.Status != want || !s.ID.Equal(id) || !bytes.Equal(resp.Nonce, nonce) {
			t.Errorf("%+v, nonce %x", s, resp.Nonce)
		}
	}
}

func hexSerial(c *x509.Certificate) string {
	s := c.SerialNumber.Text(16)
	if len(s)%2 == 1 {
		s = "0" + s
	}
	return s
}
