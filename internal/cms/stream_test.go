package cms_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"sealgate/internal/cms"
)

// pattern is content of any size that takes no memory.
type pattern struct{ left int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(b)), p.left)
	for i := range b[:n] {
		b[i] = byte(p.left >> 9)
	}
	p.left -= n
	return int(n), nil
}

func digestOfReader(t testing.TB, h crypto.Hash, r io.Reader) []byte {
	t.Helper()
	d, _, err := cms.DigestReader(t.Context(), r, h, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func attached(t testing.TB, s cms.Signer, digest []byte, size int64) cms.Attached {
	t.Helper()
	si := must(must(cms.SignedAttributes(digest, s, cms.Options{SigningTime: time.Now()})).Sign(rand.Reader))
	return cms.Attached{Size: size, Certificates: append(s.Chain, s.Certificate), Signers: []*cms.SignerInfo{si}}
}

func TestWriteAttachedIsAssembleAttached(t *testing.T) {
	for _, n := range []int64{0, 1, 127, 128, 255, 256, 65535, 65536, 1 << 20} {
		content := must(io.ReadAll(&pattern{n}))
		a := attached(t, p256(), digestOf(crypto.SHA256, content), n)
		a.Content = bytes.NewReader(content)
		var out bytes.Buffer
		if err := cms.WriteAttached(&out, a); err != nil {
			t.Fatal(err)
		}
		if want := must(cms.AssembleAttached(cms.OIDData, content, a.Certificates, a.Signers...)); !bytes.Equal(out.Bytes(), want) {
			t.Fatalf("%d octets: not what AssembleAttached makes", n)
		}
		var back bytes.Buffer
		sd, err := cms.ParseStream(bytes.NewReader(out.Bytes()), &back, n)
		if err != nil || !sd.Attached || sd.ContentSize != n || !bytes.Equal(back.Bytes(), content) {
			t.Fatalf("%d octets: %v", n, err)
		}
		if err := cms.Good(must(sd.Verify(cms.VerifyInput{RequireSigningCertificate: true}))); err != nil {
			t.Error(err)
		}
	}
	a := attached(t, p256(), digestOf(crypto.SHA256, document), int64(len(document)))
	for name, tc := range map[string]struct {
		content []byte
		size    int64
		code    string
	}{
		"shorter": {document[1:], int64(len(document)), "internal"}, "longer": {append([]byte("x"), document...), int64(len(document)), "internal"},
		"another": {bytes.Repeat([]byte("x"), len(document)), int64(len(document)), "cms_digest_mismatch"}, "good": {document, int64(len(document)), ""},
	} {
		a.Content, a.Size = bytes.NewReader(tc.content), tc.size
		wantCode(t, name, cms.WriteAttached(io.Discard, a), tc.code)
	}
}

func TestParseStreamNoticesChanges(t *testing.T) {
	a := attached(t, p256(), digestOf(crypto.SHA256, document), int64(len(document)))
	der := must(cms.AssembleAttached(cms.OIDData, document, a.Certificates, a.Signers...))
	try := func(der []byte) error {
		sd, err := cms.ParseStream(bytes.NewReader(der), nil, 1<<20)
		if err != nil {
			return err
		}
		r, err := sd.Verify(cms.VerifyInput{RequireSigningCertificate: true})
		if err != nil {
			return err
		}
		return cms.Good(r)
	}
	if err := try(der); err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(der)
	changed[bytes.Index(der, document)] ^= 1
	wantCode(t, "content", try(changed), "cms_digest_mismatch")
	for n := range len(der) {
		if try(der[:n]) == nil {
			t.Fatalf("cut at %d, and good", n)
		}
	}
	wantCode(t, "octets after the end", try(append(bytes.Clone(der), 0)), "cms_malformed")
	_, err := cms.ParseStream(bytes.NewReader(der), nil, int64(len(document))-1)
	wantCode(t, "too large", err, "cms_content_too_large")
	// Given digest and content that went by must agree.
	sd := must(cms.ParseStream(bytes.NewReader(der), nil, 1<<20))
	_, err = sd.Verify(cms.VerifyInput{Content: document})
	wantCode(t, "content twice", err, "cms_content_missing")
	r := must(sd.Verify(cms.VerifyInput{Digest: func(h crypto.Hash) []byte { return digestOf(h, []byte("x")) }}))
	wantCode(t, "another digest", cms.Good(r), "cms_digest_mismatch")
	detached := must(cms.ParseStream(bytes.NewReader(sign(t, kinds[0], document)), nil, 1<<20))
	if err := cms.Good(must(detached.Verify(cms.VerifyInput{Content: document}))); err != nil || detached.Attached {
		t.Errorf("a detached signature: %v", err)
	}
}

// Content far larger than what may lie in memory: the heap stays where it was.
func TestStreamsAreBounded(t *testing.T) {
	size := int64(1<<32) + 12345 // lengths of five octets
	if testing.Short() || os.Getenv("SEALGATE_LARGE") == "" {
		size = 200<<20 + 12345
	}
	a := attached(t, p256(), digestOfReader(t, crypto.SHA256, &pattern{size}), size)
	a.Content = &pattern{size}
	r, w := io.Pipe()
	go func() { w.CloseWithError(cms.WriteAttached(w, a)) }()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	sd, err := cms.ParseStream(r, nil, size)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if err := cms.Good(must(sd.Verify(cms.VerifyInput{}))); err != nil || sd.ContentSize != size {
		t.Error(err)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("%d octets of content took %d of memory", size, grown)
	}
}

func TestOpenSSLReadsWhatWeStream(t *testing.T) {
	needTool(t, "openssl")
	const size = 5 << 20
	a := attached(t, rsa2k(), digestOfReader(t, crypto.SHA256, &pattern{size}), size)
	a.Content = &pattern{size}
	name := filepath.Join(t.TempDir(), "attached.p7m")
	f := must(os.Create(name))
	if err := cms.WriteAttached(f, a); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if out, err := exec.Command("openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", name, "-CAfile", caFile(t), "-purpose", "any", "-out", os.DevNull).CombinedOutput(); err != nil {
		t.Errorf("%s", out)
	}
	// And the other way round: openssl streams in BER, in parts.
	files, _ := foreign(t)
	for _, name := range []string{"openssl stream attached", "openssl cades stream", "BouncyCastle attached.ber"} {
		var content bytes.Buffer
		sd, err := cms.ParseStream(bytes.NewReader(files[name]), &content, 1<<20)
		if err != nil || !bytes.Equal(content.Bytes(), document) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := cms.Good(must(sd.Verify(cms.VerifyInput{}))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDeepAndManyElementsAreRefused(t *testing.T) {
	deep := bytes.Repeat([]byte{0x30, 0x80}, 100_000)
	deep = append(deep, make([]byte, 200_000)...)
	many := append([]byte{0x30, 0x80}, bytes.Repeat([]byte{5, 0}, 300_000)...)
	many = append(many, 0, 0)
	for name, der := range map[string][]byte{"deep": deep, "many": many, "empty": {}, "end": {0, 0}, "long length": {0x30, 0x88, 255, 255, 255, 255, 255, 255, 255, 255}, "primitive indefinite": {4, 0x80, 0, 0}} {
		start := time.Now()
		_, err := cms.ParseBER(der)
		wantCode(t, name, err, "cms_malformed")
		_, err = cms.ParseStream(bytes.NewReader(der), nil, 1<<20)
		wantCode(t, name+" streamed", err, "cms_malformed")
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("%s: %v", name, d)
		}
	}
}

func TestEvidenceAttribute(t *testing.T) {
	der := sign(t, kinds[0], document)
	if _, ok, err := parse(t, der).Signers[0].Evidence(); ok || err != nil {
		t.Error("evidence where there is none")
	}
	put := func(der []byte, e cms.Evidence) []byte {
		ed := must(cms.Edit(der))
		ed.AddUnsigned(0, must(cms.EvidenceAttribute(e)))
		return must(ed.Bytes())
	}
	for _, want := range []cms.Evidence{{Bundle: []byte("{}")}, {Bundle: make([]byte, cms.MaxEvidence), Inclusion: make([]byte, cms.MaxInclusion)}} {
		with := put(der, want)
		got, ok, err := parse(t, with).Signers[0].Evidence()
		if err != nil || !ok || !bytes.Equal(got.Bundle, want.Bundle) || !bytes.Equal(got.Inclusion, want.Inclusion) {
			t.Errorf("%v %v", ok, err)
		}
		if _, err := verify(with, document); err != nil {
			t.Error(err)
		}
	}
	twice := put(put(der, cms.Evidence{Bundle: []byte("a")}), cms.Evidence{Bundle: []byte("b")})
	_, _, err := parse(t, twice).Signers[0].Evidence()
	wantCode(t, "twice", err, "cms_attributes")
	for _, e := range []cms.Evidence{{}, {Bundle: make([]byte, cms.MaxEvidence+1)}, {Bundle: []byte("x"), Inclusion: make([]byte, cms.MaxInclusion+1)}} {
		if _, err := cms.EvidenceAttribute(e); err == nil {
			t.Error("out of bounds")
		}
	}
}

// The smallest way to be wrong while reading: the reader itself fails.
func TestStreamReaderFails(t *testing.T) {
	der := sign(t, kinds[0], document)
	broken := io.MultiReader(bytes.NewReader(der[:40]), readerFunc(func([]byte) (int, error) { return 0, errors.New("gone") }))
	_, err := cms.ParseStream(broken, nil, 1<<20)
	wantCode(t, "a reader that fails", err, "cms_malformed")
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
