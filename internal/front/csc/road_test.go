package csc_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/digitorus/pkcs7"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/tsp"
)

// remoteKey is the citizen's key as document software has it: a digest goes out,
// the person approves exactly it on the phone, a value comes back.
type remoteKey struct {
	s          *software
	phone      *softphone.Phone
	service    string
	credential string
	public     crypto.PublicKey
}

func (k *remoteKey) Public() crypto.PublicKey { return k.public }

func (k *remoteKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 {
		return nil, fmt.Errorf("asked for %v", opts.HashFunc())
	}
	sad := k.s.sad(k.phone, k.credential, digest)
	got := k.s.call(k.service, "signatures/signHash", signing(k.credential, sad, digest))
	if got.status != http.StatusOK || len(got.list("signatures")) != 1 {
		return nil, fmt.Errorf("signHash: %d %s", got.status, got.raw)
	}
	return base64.StdEncoding.DecodeString(got.list("signatures")[0])
}

// Document software goes the whole road with nothing but the specification and
// makes a CMS with a library of its own; openssl accepts it, and not over a
// changed document.
func TestDocumentSoftware(t *testing.T) {
	h := newHouse(t)
	s := h.software()
	info := s.call("", "info", map[string]any{"lang": "en-US"})
	if info.status != http.StatusOK || info.text("specs") != "2.0.0.2" || info.text("lang") != "en" {
		t.Fatalf("info: %d %s", info.status, info.raw)
	}
	for _, method := range []string{"credentials/list", "credentials/info", "signatures/signHash", "signatures/timestamp", "oauth2/authorize"} {
		if !slices.Contains(info.list("methods"), method) {
			t.Errorf("info does not name %s", method)
		}
	}
	s.oauth2 = info.text("oauth2")
	logo, err := http.Get(info.text("logo"))
	h.must(err)
	logo.Body.Close()
	if logo.StatusCode != http.StatusOK || logo.Header.Get("Content-Type") != "image/png" {
		t.Errorf("logo: %s %s", logo.Status, logo.Header.Get("Content-Type"))
	}

	service := s.service(h.mei)
	listed := s.call(service, "credentials/list", map[string]any{"credentialInfo": true, "certificates": "chain", "certInfo": true,
		"authInfo": true, "onlyValid": true})
	ids := listed.list("credentialIDs")
	if listed.status != http.StatusOK || len(ids) != 1 || listed.body["onlyValid"] != true {
		t.Fatalf("list: %d %s", listed.status, listed.raw)
	}
	chain := h.describes(s.call(service, "credentials/info", map[string]any{"credentialID": ids[0], "certificates": "chain", "certInfo": true, "authInfo": true}))

	document := []byte("a contract that never leaves this computer\n")
	signed, err := pkcs7.NewSignedData(document)
	h.must(err)
	signed.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	key := &remoteKey{s, h.mei, service, ids[0], chain[0].PublicKey}
	h.must(signed.AddSignerChain(chain[0], key, chain[1:2], pkcs7.SignerInfoConfig{}))
	signed.Detach()
	der, err := signed.Finish()
	h.must(err)
	h.openssl(der, document)
	h.timestamp(s, service)
	h.credentialOnly(s, ids[0], chain[0])
	if n := h.count(`SELECT count(*) FROM audit_entries WHERE act = 'order.collected' AND result = 'ok'`); n != 2 {
		t.Errorf("%d entries of signatures handed out, want 2", n)
	}
}

// describes reads a credential's description and gives its certificates.
func (h *house) describes(a answer) []*x509.Certificate {
	h.t.Helper()
	var it struct {
		Key struct {
			Status string
			Algo   []string
			Len    int
			Curve  string
		}
		Cert struct {
			Status, IssuerDN, SerialNumber, SubjectDN, ValidFrom, ValidTo string
			Certificates                                                  []string
		}
		Auth      struct{ Mode string }
		SCAL      string
		Multisign int
	}
	h.must(json.Unmarshal(a.raw, &it))
	if a.status != 200 || it.Key.Status != "enabled" || it.Key.Len != 256 || it.Key.Curve != "1.2.840.10045.3.1.7" || !slices.Contains(it.Key.Algo, ecdsaSHA256) ||
		it.Cert.Status != "valid" || it.Auth.Mode != "oauth2code" || it.SCAL != "2" || it.Multisign < 200 || len(it.Cert.Certificates) != 3 {
		h.t.Fatalf("info: %d %s", a.status, a.raw)
	}
	var chain []*x509.Certificate
	for _, text := range it.Cert.Certificates {
		der, err := base64.StdEncoding.DecodeString(text)
		h.must(err)
		cert, err := x509.ParseCertificate(der)
		h.must(err)
		chain = append(chain, cert)
	}
	for i := range chain[:2] {
		h.must(chain[i].CheckSignatureFrom(chain[i+1]))
	}
	serial, err := hex.DecodeString(it.Cert.SerialNumber)
	h.must(err)
	if new(big.Int).SetBytes(serial).Cmp(chain[0].SerialNumber) != 0 || it.Cert.SubjectDN != chain[0].Subject.String() ||
		it.Cert.ValidTo != chain[0].NotAfter.UTC().Format("20060102150405Z") {
		h.t.Errorf("cert: %+v", it.Cert)
	}
	return chain
}

func (h *house) openssl(der, content []byte) {
	h.t.Helper()
	dir := h.t.TempDir()
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		h.must(os.WriteFile(p, b, 0o600))
		return p
	}
	verify := func(content []byte) error {
		out, err := exec.Command("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", write("sig.p7s", der), "-content", write("doc", content),
			"-CAfile", write("ca.pem", h.box.Server.AnchorsPEM()), "-purpose", "any", "-out", os.DevNull).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := verify(content); err != nil {
		h.t.Errorf("openssl refuses: %v", err)
	}
	if verify(append(slices.Clone(content), 'X')) == nil {
		h.t.Error("openssl accepts a changed document")
	}
}

// timestamp asks for a token with a nonce and reads it.
func (h *house) timestamp(s *software, service string) {
	h.t.Helper()
	sum := sha256.Sum256([]byte("stamp me"))
	got := s.call(service, "signatures/timestamp", map[string]any{"hash": jsonHash(sum[:]), "hashAlgo": oidSHA256, "nonce": "00c0ffee"})
	der, err := base64.StdEncoding.DecodeString(got.text("timestamp"))
	if got.status != http.StatusOK || err != nil {
		h.t.Fatalf("timestamp: %d %s", got.status, got.raw)
	}
	token, err := tsp.ParseToken(der)
	h.must(err)
	if _, err := token.Verify(tsp.Imprint{Hash: crypto.SHA256, Digest: sum[:]}); err != nil {
		h.t.Error(err)
	}
	if token.Info.Nonce == nil || token.Info.Nonce.Int64() != 0xc0ffee {
		h.t.Errorf("nonce %v", token.Info.Nonce)
	}
}

// credentialOnly goes without a service token, with authorization_details, three
// documents of which one is left out, in another order and in two calls.
func (h *house) credentialOnly(s *software, id string, cert *x509.Certificate) {
	h.t.Helper()
	hashes := hashesOf("one", "two", "three")
	details, err := json.Marshal([]any{map[string]any{"type": "credential", "credentialID": id, "hashAlgorithmOID": oidSHA256,
		"locations": []string{s.base}, "documentDigests": []any{
			map[string]string{"hash": jsonHash(hashes[0]), "label": "合約 Contract"}, map[string]string{"hash": jsonHash(hashes[1]), "label": "Terms"},
			map[string]string{"hash": jsonHash(hashes[2])}}}})
	h.must(err)
	a := s.begin(url.Values{"authorization_details": {string(details)}, "lang": {"en"}}).open()
	st, err := a.desk.Order(h.ctx, a.order)
	h.must(err)
	if len(st.Documents) != 3 || st.Documents[0].Name != "合約 Contract" || st.Documents[2].Name != "Document 3" {
		h.t.Errorf("documents %+v", st.Documents)
	}
	got := a.redeem(a.approve(h.mei, softphone.Answer{LeftOut: []int{1}}).Get("code"))
	granted, _ := got.body["authorization_details"].([]any)
	if got.status != http.StatusOK || len(granted) != 1 || len(granted[0].(map[string]any)["documentDigests"].([]any)) != 2 {
		h.t.Fatalf("token: %d %s", got.status, got.raw)
	}
	token := got.text("access_token")
	if got := s.call(token, "credentials/info", map[string]any{"credentialID": id}); got.status != http.StatusOK {
		h.t.Errorf("info with a credential token: %d %s", got.status, got.raw)
	}
	if got := s.call(token, "credentials/list", map[string]any{}); got.told() != "403 unauthorized_client: The access token has another scope than this method needs" {
		h.t.Errorf("list with a credential token: %s", got.told())
	}
	h.wants("left out", "400 invalid_request: Hash is not authorized by the SAD", "csc_hash_not_authorized", func() answer {
		return s.call(token, "signatures/signHash", signing(id, "", hashes...))
	})
	both := s.call(token, "signatures/signHash", signing(id, "", hashes[2], hashes[0]))
	values := both.list("signatures")
	if both.status != http.StatusOK || len(values) != 2 {
		h.t.Fatalf("signHash: %d %s", both.status, both.raw)
	}
	for i, sum := range [][]byte{hashes[2], hashes[0]} {
		value, err := base64.StdEncoding.DecodeString(values[i])
		h.must(err)
		if !ecdsa.VerifyASN1(cert.PublicKey.(*ecdsa.PublicKey), sum, value) {
			h.t.Errorf("value %d is not over its hash", i)
		}
	}
	if bytes.Equal([]byte(values[0]), []byte(values[1])) {
		h.t.Error("one value for two hashes")
	}
}

// With RSA keys, the hash is implied by the algorithm or named beside it.
func TestRSA(t *testing.T) {
	h := newHouse(t, map[string]string{"mobile.key_algorithm": "RSA-2048"})
	s := h.software()
	service := s.service(h.mei)
	id := s.ids(service)[0]
	info := s.call(service, "credentials/info", map[string]any{"credentialID": id})
	var it struct {
		Key  struct{ Algo []string }
		Cert struct{ Certificates []string }
	}
	h.must(json.Unmarshal(info.raw, &it))
	der, err := base64.StdEncoding.DecodeString(it.Cert.Certificates[0])
	h.must(err)
	cert, err := x509.ParseCertificate(der)
	h.must(err)
	hashes := hashesOf("implied", "named")
	sad := s.sad(h.mei, id, hashes...)
	for i, change := range []map[string]any{{"signAlgo": "1.2.840.113549.1.1.11", "hashAlgorithmOID": nil}, {"signAlgo": "1.2.840.113549.1.1.1"}} {
		if !slices.Contains(it.Key.Algo, change["signAlgo"].(string)) {
			t.Errorf("info does not name %s", change["signAlgo"])
		}
		body := signing(id, sad, hashes[i])
		for name, value := range change {
			body[name] = value
		}
		got := s.call(service, "signatures/signHash", body)
		if got.status != http.StatusOK {
			t.Fatalf("signHash: %s", got.raw)
		}
		value, err := base64.StdEncoding.DecodeString(got.list("signatures")[0])
		h.must(err)
		if err := rsa.VerifyPKCS1v15(cert.PublicKey.(*rsa.PublicKey), crypto.SHA256, hashes[i], value); err != nil {
			t.Error(err)
		}
	}
	sad = s.sad(h.mei, id, hashes[0])
	for member, c := range map[string]struct {
		value any
		told  string
	}{"hashAlgorithmOID": {nil, "Missing (or invalid type) string parameter hashAlgorithmOID"}, "signAlgo": {ecdsaSHA256, "Invalid parameter signAlgo"}} {
		body := signing(id, sad, hashes[0])
		body["signAlgo"] = "1.2.840.113549.1.1.1"
		body[member] = c.value
		if got := s.call(service, "signatures/signHash", body); got.told() != "400 invalid_request: "+c.told {
			t.Errorf("%s: %s", member, got.told())
		}
	}
}
