package softcard

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/digitorus/pkcs7"
	"golang.org/x/crypto/ocsp"
)

// seedDir is a directory with the cards, made once: keys take seconds.
var seedDir = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "softcard")
	if err != nil {
		return "", err
	}
	c, err := New(Config{Dir: dir, ComponentAddr: "localhost:0", RepositoryAddr: "localhost:0"})
	if err != nil {
		return "", err
	}
	c.close()
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := seedDir(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// component is a fresh component with the seed's cards.
func component(t *testing.T, change func(*Config)) (*Component, string) {
	t.Helper()
	seed, err := seedDir()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(seed, "hierarchy.json"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hierarchy.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: dir, ComponentAddr: "localhost:0", RepositoryAddr: "localhost:0"}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c, c.URL()
}

func get(t *testing.T, url string) map[string]any {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, res)
}

func decode(t *testing.T, res *http.Response) map[string]any {
	t.Helper()
	defer res.Body.Close()
	if v := res.Header.Get("Access-Control-Allow-Origin"); v != "" {
		t.Errorf("CORS header %q", v)
	}
	var m map[string]any
	if err := json.NewDecoder(res.Body).Decode(&m); err != nil {
		t.Fatalf("%s: %v", res.Request.URL, err)
	}
	return m
}

// sign posts a request in the way a careful page and the popup do.
func sign(t *testing.T, base, query string, fields map[string]any) map[string]any {
	t.Helper()
	b, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return post(t, base+"/sign"+query, "tbsPackage="+strings.ReplaceAll(string(b), "+", "%2B"))
}

func post(t *testing.T, url, body string) map[string]any {
	t.Helper()
	res, err := http.Post(url, "application/x-www-form-urlencoded", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, res)
}

func keys(m map[string]any) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// need checks that every field of the protocol is there and nothing else is,
// apart from what is marked as our own.
func need(t *testing.T, what string, m map[string]any, fields, own []string) {
	t.Helper()
	for _, f := range fields {
		if _, ok := m[f]; !ok {
			t.Errorf("%s: no field %q in %v", what, f, keys(m))
		}
	}
	for k := range m {
		if !slices.Contains(fields, k) && !slices.Contains(own, k) {
			t.Errorf("%s: field %q is not in the protocol", what, k)
		}
	}
}

func first(t *testing.T, v any) map[string]any {
	t.Helper()
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		t.Fatalf("empty list: %v", v)
	}
	return list[0].(map[string]any)
}

func code(m map[string]any) string { return fmt.Sprintf("0x%X", int64(m["ret_code"].(float64))) }

func request(change map[string]any) map[string]any {
	r := map[string]any{
		"func": "MakeSignature", "tbs": base64.StdEncoding.EncodeToString([]byte("statement\xfb\xef\xbe")), "tbsEncoding": "base64",
		"hashAlgorithm": "SHA256", "signatureType": "PKCS7", "pin": pin, "withCardSN": "true", "nonce": "n0nce",
	}
	for k, v := range change {
		r[k] = v
	}
	return r
}

func TestInfoHasTheFieldsOfTheProtocol(t *testing.T) {
	_, base := component(t, nil)
	own := []string{"last_error", "message"}
	plain := get(t, base+"/pkcs11info")
	need(t, "pkcs11info", plain, []string{"func", "ret_code", "serverVersion", "libraryVersion", "slots"}, own)
	if plain["func"] != "pkcs11info" || code(plain) != "0x0" || len(plain["slots"].([]any)) != len(people) {
		t.Errorf("%v", plain)
	}
	need(t, "token without certificates", first(t, plain["slots"])["token"].(map[string]any),
		[]string{"serialNumber", "label", "model"}, []string{"pinTriesLeft"})

	full := get(t, base+"/pkcs11info?withcert=true")
	s := first(t, full["slots"])
	need(t, "slot", s, []string{"slotDescription", "token"}, nil)
	token := s["token"].(map[string]any)
	need(t, "token", token, []string{"serialNumber", "label", "model", "certs", "keys"}, []string{"pinTriesLeft"})
	if !strings.HasPrefix(token["serialNumber"].(string), "TP") {
		t.Errorf("card number %v", token["serialNumber"])
	}
	var usages []string
	for _, v := range token["certs"].([]any) {
		m := v.(map[string]any)
		need(t, "cert", m, []string{"certb64", "label", "usage", "sn", "subjectDN", "issuerDN", "notBeforeT", "notAfterT", "subjectID"}, nil)
		der, err := base64.StdEncoding.DecodeString(m["certb64"].(string))
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if int64(m["notAfterT"].(float64)) != cert.NotAfter.Unix() || m["subjectID"] != nationalID(people[0].id8)[6:] {
			t.Errorf("%v", m)
		}
		if !strings.Contains(m["subjectDN"].(string), "測試甲") || !strings.Contains(m["issuerDN"].(string), "測試用") {
			t.Errorf("names: %v %v", m["subjectDN"], m["issuerDN"])
		}
		usages = append(usages, m["usage"].(string))
	}
	if !slices.Equal(usages, []string{"digitalSignature", "keyEncipherment|dataEncipherment"}) {
		t.Errorf("usages %v", usages)
	}
}

func TestSignHasTheFieldsOfTheProtocol(t *testing.T) {
	c, base := component(t, nil)
	m := sign(t, base, "", request(nil))
	need(t, "sign", m, []string{"func", "ret_code", "last_error", "message", "signature", "certb64", "cardSN", "serverVersion"}, nil)
	if m["func"] != "sign" || code(m) != "0x0" {
		t.Fatalf("%v", m)
	}
	der, err := base64.StdEncoding.DecodeString(m["signature"].(string))
	if err != nil {
		t.Fatal(err)
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if string(p7.Content) != "statement\xfb\xef\xbe" {
		t.Errorf("content %q", p7.Content)
	}
	roots, mids := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(c.Hierarchy().Root)
	mids.AddCert(c.Hierarchy().CA)
	p7.Certificates = append(p7.Certificates, c.Hierarchy().CA)
	if err := p7.VerifyWithChainAtTime(roots, time.Now()); err != nil {
		t.Error(err)
	}
	p7.Content = []byte("another statement")
	if err := p7.Verify(); err == nil {
		t.Error("another content verifies")
	}
}

func TestSignatureTypes(t *testing.T) {
	c, base := component(t, nil)
	key := c.store.cards[0].signing.Certificate.PublicKey.(*rsa.PublicKey)
	data := []byte("to be signed")
	d256, d512 := sha256.Sum256(data), sha512.Sum512(data)
	info := append([]byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, d256[:]...)
	for _, tc := range []struct {
		kind, encoding, tbs, hash string
		with                      crypto.Hash
		digest                    []byte
	}{
		{"PKCS1", "NONE", string(data), "SHA256", crypto.SHA256, d256[:]},
		{"PKCS1", "base64", base64.StdEncoding.EncodeToString(data), "SHA512", crypto.SHA512, d512[:]},
		{"RAW", "base64", base64.StdEncoding.EncodeToString(info), "", crypto.SHA256, d256[:]},
	} {
		m := sign(t, base, "", request(map[string]any{"signatureType": tc.kind, "tbsEncoding": tc.encoding, "tbs": tc.tbs, "hashAlgorithm": tc.hash}))
		sig, err := base64.StdEncoding.DecodeString(fmt.Sprint(m["signature"]))
		if err != nil || code(m) != "0x0" {
			t.Fatalf("%s: %v", tc.kind, m)
		}
		if err := rsa.VerifyPKCS1v15(key, tc.with, tc.digest, sig); err != nil {
			t.Errorf("%s %s: %v", tc.kind, tc.hash, err)
		}
		if err := rsa.VerifyPKCS1v15(key, tc.with, bytes.Repeat([]byte{1}, len(tc.digest)), sig); err == nil {
			t.Errorf("%s: another digest verifies", tc.kind)
		}
	}
}

func TestSlotDescriptionChoosesTheCard(t *testing.T) {
	c, base := component(t, nil)
	for _, k := range c.Cards()[:3] {
		m := sign(t, base, "", request(map[string]any{"slotDescription": k.Reader}))
		want := base64.StdEncoding.EncodeToString(c.store.cards[k.Number-1].signing.Certificate.Raw)
		if m["certb64"] != want {
			t.Errorf("%s signs with another card", k.Reader)
		}
	}
	m := sign(t, base, "?card=2", request(nil))
	if m["cardSN"] != c.store.cards[1].signing.CardNumber {
		t.Errorf("card=2 gives %v", m["cardSN"])
	}
	if m := sign(t, base, "", request(map[string]any{"slotDescription": "another reader"})); code(m) != "0x76000006" {
		t.Errorf("unknown reader: %v", m)
	}
}

func TestWrongPINsLockTheCard(t *testing.T) {
	c, base := component(t, nil)
	for _, want := range []struct{ left, last float64 }{{2, 0xA0}, {1, 0xA0}, {0, 0xA4}, {0, 0xA4}} {
		m := sign(t, base, "", request(map[string]any{"pin": "87654321"}))
		if code(m) != "0x76100006" || m["last_error"] != want.last || m["pinTriesLeft"] != want.left || m["signature"] != nil {
			t.Errorf("want %v, got %v", want, m)
		}
		if want.left > 0 && !strings.Contains(m["message"].(string), fmt.Sprint(want.left, " tries left")) {
			t.Errorf("message %q", m["message"])
		}
	}
	if m := sign(t, base, "", request(nil)); m["last_error"] != float64(0xA4) {
		t.Errorf("the right PIN opens a locked card: %v", m)
	}
	info := get(t, base+"/pkcs11info")
	if left := first(t, info["slots"])["token"].(map[string]any)["pinTriesLeft"]; left != float64(0) {
		t.Errorf("the token tells %v tries", left)
	}
	if m := sign(t, base, "?card=2", request(nil)); code(m) != "0x0" {
		t.Errorf("another card is locked too: %v", m)
	}
	get(t, base+"/insert?card=1&unlock=true")
	if m := sign(t, base, "", request(nil)); code(m) != "0x0" {
		t.Errorf("after unlocking: %v", m)
	}
	// A right PIN forgets the wrong ones.
	sign(t, base, "", request(map[string]any{"pin": "87654321"}))
	sign(t, base, "", request(nil))
	if left := c.store.triesLeft(c.store.cards[0]); left != 3 {
		t.Errorf("%d tries left", left)
	}
}

func TestRefusals(t *testing.T) {
	_, base := component(t, nil)
	for _, tc := range []struct {
		name   string
		change map[string]any
		code   string
		last   float64
	}{
		{"control", nil, "0x0", 0},
		{"no PIN", map[string]any{"pin": ""}, "0x76000998", 0},
		{"short PIN", map[string]any{"pin": "1"}, "0x76100006", 0xA2},
		{"nothing to sign", map[string]any{"tbs": ""}, "0x76000003", 0},
		{"not base64", map[string]any{"tbs": "%%%"}, "0x7600000C", 0},
		{"encoding", map[string]any{"tbsEncoding": "rot13"}, "0x7600000C", 0},
		{"hash", map[string]any{"hashAlgorithm": "MD5"}, "0x7600000C", 0},
		{"type", map[string]any{"signatureType": "XML"}, "0x7600000C", 0},
		{"hash we do not do in PKCS7", map[string]any{"hashAlgorithm": "SHA1"}, "0x7600000E", 0},
		{"raw too long", map[string]any{"signatureType": "RAW", "tbs": base64.StdEncoding.EncodeToString(make([]byte, 300))}, "0x7600000C", 0},
		{"func", map[string]any{"func": "Format"}, "0x7600000E", 0},
		{"expired card", map[string]any{"slotDescription": "Sealgate TEST Reader 5"}, "0x76500002", 0},
		{"field of the wrong kind", map[string]any{"tbs": 7}, "0x7600000B", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := sign(t, base, "", request(tc.change))
			if code(m) != tc.code || m["last_error"] != tc.last || (m["signature"] != nil) != (tc.code == "0x0") {
				t.Errorf("%v", m)
			}
		})
	}
	if m := post(t, base+"/sign", "tbsPackage={"); code(m) != "0x7600000B" {
		t.Errorf("%v", m)
	}
	if m := post(t, base+"/sign", "x=y"); code(m) != "0x7600000C" {
		t.Errorf("%v", m)
	}
	if m := post(t, base+"/sign", "tbsPackage="+strings.Repeat("x", maxBody)); code(m) != "0x7600000C" {
		t.Errorf("%v", m)
	}
}

func TestRestartKeepsCardsAndPINs(t *testing.T) {
	c, base := component(t, nil)
	sign(t, base, "", request(map[string]any{"pin": "00000000"}))
	again, err := New(Config{Dir: filepath.Dir(c.store.path), ComponentAddr: "localhost:0", RepositoryAddr: "localhost:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	for i, k := range again.store.cards {
		if !k.signing.Certificate.Equal(c.store.cards[i].signing.Certificate) {
			t.Errorf("card %d is another one", i+1)
		}
	}
	if left := again.store.triesLeft(again.store.cards[0]); left != 2 {
		t.Errorf("%d tries left", left)
	}
}

func TestTrustStoreOnDisk(t *testing.T) {
	c, _ := component(t, nil)
	dir := filepath.Dir(c.store.path)
	read := func(pattern string) *x509.Certificate {
		names, _ := filepath.Glob(filepath.Join(dir, pattern))
		if len(names) != 1 {
			t.Fatalf("%s: %v", pattern, names)
		}
		b, err := os.ReadFile(names[0])
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(b)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	roots, mids := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(read("anchors/*.cer"))
	mids.AddCert(read("intermediates/*.cer"))
	for _, k := range c.store.cards {
		_, err := k.signing.Certificate.Verify(x509.VerifyOptions{Roots: roots, Intermediates: mids, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if (err != nil) != (k.state == Expired) {
			t.Errorf("%s: %v", k.signing.Name, err)
		}
	}
}

func TestRepositoryKnowsTheRevokedCard(t *testing.T) {
	c, _ := component(t, nil)
	address := "http://" + publicAddr("localhost:0", c.repository)
	for _, k := range c.store.cards {
		req, err := ocsp.CreateRequest(k.signing.Certificate, c.Hierarchy().CA, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.Post(address+"/ocsp", "application/ocsp-request", bytes.NewReader(req))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		answer, err := ocsp.ParseResponseForCert(b, k.signing.Certificate, c.Hierarchy().CA)
		if err != nil {
			t.Fatal(err)
		}
		want := ocsp.Good
		if k.state == Revoked {
			want = ocsp.Revoked
		}
		if answer.Status != want {
			t.Errorf("%s: status %d, want %d", k.signing.Name, answer.Status, want)
		}
	}
}

func TestNationalIDs(t *testing.T) {
	if got := nationalID("A12345678"); got != "A123456789" {
		t.Errorf("%s", got) // the example everybody knows
	}
	seen := map[string]bool{}
	for _, p := range people {
		id := nationalID(p.id8)
		if seen[id] || seen[id[6:]] || !strings.Contains(p.name, "測試") {
			t.Errorf("%s %s", p.name, id)
		}
		seen[id], seen[id[6:]] = true, true
	}
}

func TestPrint(t *testing.T) {
	c, base := component(t, nil)
	var out bytes.Buffer
	c.Print(&out)
	for _, want := range []string{"TEST ONLY", "測試丁", nationalID(people[0].id8), pin, "revoked", "expired", base} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestLogHasNoPIN(t *testing.T) {
	var out bytes.Buffer
	c, _ := component(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&out, nil)) })
	b, _ := json.Marshal(request(map[string]any{"slotDescription": "Sealgate TEST Reader 2"}))
	r := httptest.NewRequest("POST", "http://localhost/sign", strings.NewReader(url.Values{"tbsPackage": {string(b)}}.Encode()))
	c.Handler().ServeHTTP(httptest.NewRecorder(), r)
	if !strings.Contains(out.String(), "func=sign ret_code=0x0") {
		t.Errorf("the request is not in the log: %s", out.String())
	}
	if strings.Contains(out.String(), pin) || strings.Contains(out.String(), nationalID(people[1].id8)) {
		t.Errorf("the log tells too much: %s", out.String())
	}
}

func FuzzSign(f *testing.F) {
	seed, err := seedDir()
	if err != nil {
		f.Fatal(err)
	}
	c, err := New(Config{Dir: seed, ComponentAddr: "localhost:0", RepositoryAddr: "localhost:0"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(c.close)
	b, _ := json.Marshal(request(map[string]any{"pin": ""}))
	f.Add("tbsPackage=" + string(b))
	f.Add("tbsPackage={%22func%22:%22MakeSignature%22,%22tbsEncoding%22:%22base64%22}&x=%zz")
	f.Fuzz(func(t *testing.T, body string) {
		text, ok := formField(body, "tbsPackage")
		if !ok {
			return
		}
		if a := c.sign(0, text); a.RetCode == 0 && a.Signature == "" {
			t.Errorf("success without a signature: %+v", a)
		}
	})
}
