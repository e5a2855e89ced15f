package cades_test

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealgate/internal/cades"
	"sealgate/internal/cms"
)

// need skips without a program or file, except where CI says that all are there.
func need(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		_, err := os.Stat(n)
		if !strings.HasPrefix(n, "/") {
			_, err = exec.LookPath(n)
		}
		if err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skipf("%s is missing: this counterpart was not asked", n)
		}
	}
}

func file(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openssl(args ...string) (string, error) {
	out, err := exec.Command("openssl", args...).CombinedOutput()
	return string(out), err
}

// levels makes a signature of each level, and one renewed with another algorithm.
func levels(t *testing.T, w *world) map[string][]byte {
	t.Helper()
	src := w.sources(t, w.early, crypto.SHA256)
	out := map[string][]byte{"B-B": w.sign(t, w.alice)}
	for _, l := range []cades.Level{cades.LevelT, cades.LevelLT, cades.LevelLTA} {
		out[l.String()] = must(cades.Extend(t.Context(), out["B-B"], l, src))
	}
	both := must(cms.Edit(out["B-LTA"]))
	bob := parse(t, w.sign(t, w.bob))
	both.AddSigner(bob.Signers[0])
	both.AddCertificates(bob.Certificates...)
	out["two signers"] = must(cades.Extend(t.Context(), must(both.Bytes()), cades.LevelLTA, src))
	w.now = w.now.Add(time.Hour)
	out["renewed"] = must(cades.Renew(t.Context(), out["B-LTA"], w.sources(t, w.late, crypto.SHA512)))
	return out
}

func TestOpenSSLAcceptsEveryLevel(t *testing.T) {
	need(t, "openssl")
	w := newWorld(t)
	pemOf := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
	root, ca := file(t, "root.pem", pemOf(w.root.Certificate.Raw)), file(t, "ca.pem", pemOf(w.ca.Certificate.Raw))
	doc, other := file(t, "doc", document), file(t, "other", append([]byte("x"), document...))
	for name, der := range levels(t, w) {
		p7s := file(t, "doc.p7s", der)
		verify := func(content string) (string, error) {
			return openssl("cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", p7s, "-content", content, "-CAfile", root, "-certfile", ca, "-purpose", "any", "-out", os.DevNull)
		}
		if out, err := verify(doc); err != nil {
			t.Errorf("%s: %s", name, out)
		}
		if _, err := verify(other); err == nil {
			t.Errorf("%s: openssl accepts another document", name)
		}
		// Each token by openssl ts, against the imprint that openssl computes.
		sd := parse(t, der)
		for _, ts := range must(cades.Timestamps(sd, 0)) {
			if ts.Kind != cades.KindSignature {
				continue
			}
			check := func(data []byte) (string, error) {
				return openssl("ts", "-verify", "-token_in", "-in", file(t, "token", ts.Raw), "-data", file(t, "data", data), "-CAfile", root, "-untrusted", ca)
			}
			if out, err := check(sd.Signers[0].Signature()); err != nil {
				t.Errorf("%s: %s", name, out)
			}
			if _, err := check(document); err == nil {
				t.Errorf("%s: openssl accepts a token over something else", name)
			}
		}
	}
}

func TestBouncyCastleAgreesOnEveryLevel(t *testing.T) {
	jars := []string{"/usr/share/java/bcprov.jar", "/usr/share/java/bcpkix.jar", "/usr/share/java/bcutil.jar"}
	need(t, append(jars, "java", "javac")...)
	w := newWorld(t)
	all := levels(t, w)
	// Signers, signature-time-stamps, archive time-stamps, lists, OCSP responses. The
	// CA's list, which the authority's certificate needed, settles what comes later too.
	want := map[string]string{"B-B": "good 1 0 0 0 0", "B-T": "good 1 1 0 0 0", "B-LT": "good 1 1 0 2 1", "B-LTA": "good 1 1 1 2 1", "two signers": "good 2 2 2 2 1", "renewed": "good 1 1 2 2 1"}
	doc, other := file(t, "doc", document), file(t, "other", append([]byte("x"), document...))
	var args, wants []string
	for name, der := range all {
		p7s := file(t, "doc.p7s", der)
		args, wants = append(args, p7s, doc, p7s, other), append(wants, want[name], "bad")
	}
	sd := parse(t, all["B-LTA"])
	list := sd.RawRevocations()[0]
	changed := bytes.Clone(all["B-LTA"])
	changed[bytes.Index(changed, list)+len(list)-1] ^= 1
	args, wants = append(args, file(t, "changed.p7s", changed), doc), append(wants, "bad java.lang.Exception: the index names revocations")
	out, err := exec.Command("java", append([]string{"-cp", strings.Join(jars, ":"), "testdata/bouncycastle/VerifyLevels.java"}, args...)...).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != len(wants) {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, wants[i]) {
			t.Errorf("BouncyCastle says %q, want %q", line, wants[i])
		}
	}
}
