package pdfsign

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sealgate/cmd/sealctl/onebox"
	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/cades"
	"sealgate/internal/cms"
	"sealgate/internal/pades"
	"sealgate/internal/pkitest"
	"sealgate/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// writePDF writes a document of one page.
func writePDF(t *testing.T, name string) string {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
	var at []int
	for i, o := range []string{"<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[3 0 R]/Count 1>>",
		"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]>>"} {
		at = append(at, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	start := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(at)+1)
	for _, o := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(&b, "trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n", len(at)+1, start)
	path := filepath.Join(t.TempDir(), name)
	ok(t, os.WriteFile(path, b.Bytes(), 0o600))
	return path
}

// sealctl runs a command of this package.
func sealctl(ctx context.Context, out io.Writer, args ...string) error {
	cmd := Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(out)
	cmd.SetErr(io.Discard)
	return cmd.ExecuteContext(ctx)
}

func signaturesOf(t *testing.T, file string) []pades.Signature {
	t.Helper()
	raw, err := os.ReadFile(file)
	ok(t, err)
	all, err := pades.Signatures(context.Background(), bytes.NewReader(raw), int64(len(raw)))
	ok(t, err)
	return all
}

// TestPrepareAndEmbed is the road of an integration that makes orders itself;
// here a signer stands in for the service.
func TestPrepareAndEmbed(t *testing.T) {
	ctx := context.Background()
	root, err := pkitest.NewRoot(x509.Certificate{Subject: pkix.Name{CommonName: "(測試用) root"}})
	ok(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	cert, err := root.Certify(x509.Certificate{Subject: pkix.Name{CommonName: "測試甲"}, KeyUsage: x509.KeyUsageDigitalSignature}, key.Public())
	ok(t, err)
	file := writePDF(t, "公文.pdf")
	original, err := os.ReadFile(file)
	ok(t, err)
	var printed bytes.Buffer
	ok(t, sealctl(ctx, &printed, "prepare", file, "--reason", "同意"))
	var told struct {
		Form, Digest string
		Size         int64
	}
	ok(t, json.Unmarshal(printed.Bytes(), &told))
	p, err := readPrepared(preparedName(file))
	ok(t, err)
	if told.Form != "pades" || told.Size != int64(len(original)) || told.Digest == "" {
		t.Errorf("%s", printed.Bytes())
	}
	sign := func(digest []byte) string {
		der, err := cms.SignDigest(rand.Reader, digest, cms.Signer{Certificate: cert, Key: key}, cms.Options{Digest: p.Hash})
		ok(t, err)
		name := filepath.Join(t.TempDir(), "signature.p7s")
		ok(t, os.WriteFile(name, der, 0o600))
		return name
	}
	good := sign(p.Digest)
	other := bytes.Clone(p.Digest)
	other[0] ^= 1
	signed := signedName(file)
	refuse := func(why string, args ...string) {
		t.Helper()
		if err := sealctl(ctx, io.Discard, append([]string{"embed", file}, args...)...); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want a refusal with %q", err, why)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".signed-*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	refuse("not one over this document", "--signature", sign(other))
	changed := bytes.Replace(original, []byte("300 200"), []byte("300 201"), 1)
	ok(t, os.WriteFile(file, changed, 0o600))
	refuse("has changed", "--signature", good)
	ok(t, os.WriteFile(file, append(original, ' '), 0o600))
	refuse("has changed", "--signature", good)
	ok(t, os.WriteFile(file, original, 0o600))
	if _, err := os.Stat(signed); err == nil {
		t.Fatal("a refusal left a signed file")
	}
	ok(t, sealctl(ctx, io.Discard, "embed", file, "--signature", good))
	refuse("--force", "--signature", good)
	ok(t, sealctl(ctx, io.Discard, "embed", file, "--signature", good, "--force"))
	raw, err := os.ReadFile(signed)
	ok(t, err)
	if !bytes.HasPrefix(raw, original) {
		t.Error("the original's bytes are not at the start")
	}
	if all := signaturesOf(t, signed); len(all) != 1 || all[0].Reason != "同意" || all[0].Err != nil {
		t.Errorf("%+v", all)
	}
}

// TestSignAgainstService signs two documents in one order, then one of them by
// a second order, against a whole service.
func TestSignAgainstService(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	box, err := onebox.Start(ctx, onebox.Config{Dir: t.TempDir(), Pool: pgtest.Open(t), Cards: true})
	ok(t, err)
	defer box.Close()
	phone, err := box.Enrol(ctx, box.Cards[0])
	ok(t, err)
	t.Setenv(secretVariable, box.Secret)
	a, b := writePDF(t, "a.pdf"), writePDF(t, "b.PDF")
	base := []string{"sign", "--server", box.Origin, "--client", box.ClientID, "--text", "請簽署"}
	out, err := walk(ctx, t, box, phone, nil, append(base, a, b, "--qr")...)
	ok(t, err)
	for _, f := range []string{a, b} {
		if !strings.Contains(out, signedName(f)) || len(signaturesOf(t, signedName(f))) != 1 {
			t.Errorf("%s is not signed: %s", f, out)
		}
	}
	first, err := os.ReadFile(signedName(a))
	ok(t, err)
	twice := filepath.Join(t.TempDir(), "twice.pdf")
	_, err = walk(ctx, t, box, phone, nil, append(base, signedName(a), "-o", twice)...)
	ok(t, err)
	all := signaturesOf(t, twice)
	if len(all) != 2 || all[0].Err != nil || all[1].Err != nil || all[0].Later != pades.SignaturesAdded || !all[1].CoversWholeFile {
		t.Errorf("%+v", all)
	}
	again, err := os.ReadFile(twice)
	ok(t, err)
	if !bytes.HasPrefix(again, first) {
		t.Error("the second signature altered the first document")
	}
	pdfsig(t, twice)
	t.Run("one left out", func(t *testing.T) {
		c, d := writePDF(t, "c.pdf"), writePDF(t, "d.pdf")
		_, err := walk(ctx, t, box, phone, []int{1}, append(base, c, d)...)
		if err == nil || !strings.Contains(err.Error(), "left_out") {
			t.Errorf("%v", err)
		}
		if len(signaturesOf(t, signedName(c))) != 1 {
			t.Error("the other one is not signed")
		}
		if _, err := os.Stat(signedName(d)); err == nil {
			t.Error("a document that was left out has a signed file")
		}
	})
	t.Run("with a time-stamp", func(t *testing.T) {
		file := writePDF(t, "t.pdf")
		_, err := walk(ctx, t, box, phone, nil, append(base, file, "--level", "B-T")...)
		ok(t, err)
		all := signaturesOf(t, signedName(file))
		if len(all) != 1 {
			t.Fatalf("%+v", all)
		}
		sd, err := cms.Parse(all[0].Contents)
		ok(t, err)
		stamps, err := cades.Timestamps(sd, 0)
		if err != nil || len(stamps) != 1 || stamps[0].Kind != cades.KindSignature {
			t.Errorf("%v %+v", err, stamps)
		}
	})
	t.Run("refused", func(t *testing.T) {
		t.Setenv(secretVariable, "not the secret")
		if err := sealctl(ctx, io.Discard, append(base, a, "--force")...); err == nil || !strings.Contains(err.Error(), "invalid_client") {
			t.Errorf("%v", err)
		}
	})
}

// walk runs the command and plays browser and phone beside it.
func walk(ctx context.Context, t *testing.T, box *onebox.Box, phone *softphone.Phone, leaveOut []int, args ...string) (string, error) {
	t.Helper()
	var out syncBuffer
	done := make(chan error, 1)
	go func() { done <- sealctl(ctx, &out, args...) }()
	var start string
	for start == "" {
		if m := regexp.MustCompile(`http\S+/start/\S+`).FindString(out.String()); m != "" {
			start = m
			break
		}
		select {
		case err := <-done:
			t.Fatalf("ended early: %v\n%s", err, out.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
	desk, err := softphone.NewBrowser(box.Origin, nil)
	ok(t, err)
	path, _, _ := strings.Cut(strings.TrimPrefix(start, box.Origin), "#")
	_, err = desk.Get(ctx, path)
	ok(t, err)
	id, err := desk.Open(ctx, start)
	ok(t, err)
	frame, err := desk.Frame(ctx, id)
	ok(t, err)
	claim, err := phone.Scan(ctx, frame)
	ok(t, err)
	_, err = phone.Approve(ctx, claim, softphone.Answer{LeftOut: leaveOut})
	ok(t, err)
	err = <-done
	return out.String(), err
}

// pdfsig is the counterpart: poppler's verifier.
func pdfsig(t *testing.T, file string) {
	t.Helper()
	if _, err := exec.LookPath("pdfsig"); err != nil {
		t.Log("pdfsig is not here")
		return
	}
	out, _ := exec.Command("pdfsig", "-nocert", file).CombinedOutput()
	if n := strings.Count(string(out), "Signature is Valid"); n != 2 {
		t.Errorf("pdfsig finds %d valid signatures:\n%s", n, out)
	}
}

// syncBuffer is written by the command while the test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
