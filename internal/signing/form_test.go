package signing_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"sealgate/internal/cms"
	"sealgate/internal/keyring"
	"sealgate/internal/signing"
)

// formOrder asks for the same text in each form.
func formOrder(text string, forms ...map[string]string) asked {
	a := asked{id: uuid.Must(uuid.NewV7())}
	sum := sha256.Sum256([]byte(text))
	for _, f := range forms {
		f["digest"], f["digest_algorithm"], f["name"] = base64.RawURLEncoding.EncodeToString(sum[:]), "SHA-256", "文件"
	}
	a.content, _ = json.Marshal(map[string]any{"documents": forms, "kind": "sign", "order": oid(a.id), "v": 2})
	return a
}

func TestForms(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	for _, alg := range []keyring.Algorithm{keyring.P256, keyring.RSA2048} {
		p := w.person(alg)
		id := w.approve(p, formOrder("SignedInfo", map[string]string{"form": "pkcs1"}, map[string]string{"form": "raw"},
			map[string]string{"form": "pkcs1", "signature_algorithm": "RSASSA-PSS"}, map[string]string{"signature_algorithm": "RSASSA-PSS"},
			map[string]string{"form": "pades"}))
		w.ok(w.service.Complete(ctx, id))
		list, err := w.service.Signatures(ctx, id)
		w.ok(err)
		if len(list) != 5 {
			t.Fatalf("%s: %d signatures", alg, len(list))
		}
		certificate, err := x509.ParseCertificate(p.certificate.DER)
		w.ok(err)
		public := opensslKey(t, certificate)
		public.check("pkcs1", list[0].DER, "SignedInfo")
		if alg == keyring.RSA2048 {
			if !bytes.Equal(list[0].DER, list[1].DER) {
				t.Error("RAW over the DigestInfo is not PKCS#1 v1.5 over the digest")
			}
			public.check("PSS", list[2].DER, "SignedInfo", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest")
		} else if len(list[1].DER) != 64 {
			t.Errorf("raw ECDSA has %d bytes", len(list[1].DER))
		}
		documents, err := signing.Documents(formContent(w, id), nil)
		w.ok(err)
		for i := range 3 {
			if err := documents[i].Verify(certificate.PublicKey, list[i].DER); err != nil {
				t.Errorf("%s: document %d: %v", alg, i, err)
			}
			changed := bytes.Clone(list[i].DER)
			changed[len(changed)-1] ^= 1
			if documents[i].Verify(certificate.PublicKey, changed) == nil {
				t.Errorf("%s: a changed byte of document %d is accepted", alg, i)
			}
		}
		for _, s := range list[3:] {
			checkWithOpenSSL(t, w, s.DER, []byte("SignedInfo"))
		}
		if sd, err := cms.Parse(list[4].DER); err != nil || !sd.Signers[0].SigningTime().IsZero() {
			t.Errorf("%s: a signature in a PDF says its own time: %v", alg, err)
		}
	}
}

func formContent(w *world, id uuid.UUID) (content []byte) {
	w.ok(w.pool.QueryRow(context.Background(), `SELECT content FROM orders WHERE id = $1`, id).Scan(&content))
	return content
}

// counterpart verifies bare values with openssl.
type counterpart struct {
	t   *testing.T
	dir string
}

func opensslKey(t *testing.T, c *x509.Certificate) counterpart {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(c.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	k := counterpart{t, t.TempDir()}
	k.write("key.der", der)
	return k
}

func (k counterpart) write(name string, data []byte) string {
	path := filepath.Join(k.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		k.t.Fatal(err)
	}
	return path
}

func (k counterpart) check(name string, value []byte, text string, options ...string) {
	k.t.Helper()
	for _, data := range []string{text, text + "x"} {
		args := append([]string{"dgst", "-sha256", "-verify", filepath.Join(k.dir, "key.der"), "-keyform", "DER", "-signature", k.write("value", value)}, options...)
		out, err := exec.Command("openssl", append(args, k.write("text", []byte(data)))...).CombinedOutput()
		if good := err == nil; good != (data == text) {
			k.t.Errorf("openssl, %s, %q: %v %s", name, data, good, out)
		}
	}
}

func TestDigestInfo(t *testing.T) {
	sum := sha256.Sum256([]byte("SignedInfo"))
	prefix, _ := hex.DecodeString("3031300d060960864801650304020105000420")
	good := append(prefix, sum[:]...)
	if algorithm, digest, err := signing.ParseDigestInfo(good); err != nil || algorithm != "SHA-256" || !bytes.Equal(digest, sum[:]) {
		t.Fatalf("%s %x %v", algorithm, digest, err)
	}
	for name, bad := range map[string][]byte{
		"nothing":        nil,
		"a digest":       sum[:],
		"short":          good[:len(good)-1],
		"something more": append(bytes.Clone(good), 0),
		"no parameters":  append([]byte{0x30, 0x2f, 0x30, 0x0b, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 4, 0x20}, sum[:]...),
		"SHA-1":          append([]byte{0x30, 0x21, 0x30, 9, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0, 4, 0x14}, sum[:20]...),
		"BER length":     append([]byte{0x30, 0x81}, good[1:]...),
		"text":           []byte(strings.Repeat("a", len(good))),
	} {
		if _, _, err := signing.ParseDigestInfo(bad); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func FuzzDigestInfo(f *testing.F) {
	sum := sha256.Sum256(nil)
	f.Add(append([]byte{0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20}, sum[:]...))
	f.Fuzz(func(t *testing.T, der []byte) {
		_, digest, err := signing.ParseDigestInfo(der)
		if err == nil && (!bytes.HasSuffix(der, digest) || len(der)-len(digest) != 19) {
			t.Errorf("%x", der)
		}
	})
}
