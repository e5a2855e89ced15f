package sigverify_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/fault"
	"sealgate/internal/sigverify"
)

// zeros is content without end, that counts how it is read.
type zeros struct{ left, largest int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.left)
	z.left, z.largest = z.left-n, max(z.largest, int64(len(p)))
	clear(p[:n])
	return int(n), nil
}

// Content is hashed as it comes, in small pieces, however long it is.
func TestContentIsNotKept(t *testing.T) {
	l := newLab()
	const size = 256 << 20
	h := crypto.SHA256.New()
	_, _ = io.Copy(h, &zeros{left: size})
	p7s := must(cms.SignDigest(rand.Reader, h.Sum(nil), l.cmsSigner(), cms.Options{SigningTime: years(1)}))
	z := &zeros{left: size}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := l.judge(t, p7s, sigverify.Content{Reader: z})
	runtime.ReadMemStats(&after)
	expect(t, r, "")
	if z.largest > 1<<20 || after.TotalAlloc-before.TotalAlloc > 16<<20 {
		t.Errorf("read in pieces of %d, %d octets allocated", z.largest, after.TotalAlloc-before.TotalAlloc)
	}
	if r.Signatures[0].Scope.Bytes != size {
		t.Errorf("scope of %d octets", r.Signatures[0].Scope.Bytes)
	}
}

// nested is BER that opens n indefinite elements and never closes them.
func nested(n int, tag byte) []byte { return bytes.Repeat([]byte{tag, 0x80}, n) }

func TestHostileForms(t *testing.T) {
	l := newLab()
	good := l.sign(t, years(1))
	for name, raw := range map[string][]byte{
		"empty":                 {},
		"text":                  []byte("hello"),
		"PEM of nothing":        []byte("-----BEGIN CMS-----\n-----END CMS-----\n"),
		"PEM cut short":         []byte("-----BEGIN CMS-----\nMIIB"),
		"deep sequences":        nested(1<<20, 0x30),
		"deep strings":          nested(1<<20, 0x24),
		"deep explicit tags":    nested(1<<20, 0xa0),
		"a length beyond":       {0x30, 0x84, 0xff, 0xff, 0xff, 0xff},
		"a length of 127 octet": append([]byte{0x30, 0xff}, make([]byte, 300)...),
		"cut short":             good[:len(good)/2],
		"more behind it":        append(bytes.Clone(good), 0),
		"nothing but zeros":     make([]byte, 1<<20),
	} {
		t.Run(name, func(t *testing.T) { expect(t, l.judge(t, raw, whole(document)), sigverify.FormatFailure) })
	}
	expect(t, l.judge(t, good, whole(document)), "")
	v := l.verifier(t)
	_, err := v.Verify(context.Background(), sigverify.Request{Signature: make([]byte, sigverify.MaxSignatureBytes+1)})
	if err != nil && fault.CodeOf(err) != sigverify.ErrTooLarge.Code {
		t.Errorf("too large: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := v.Verify(ctx, sigverify.Request{Signature: good, Content: whole(document)}); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that nobody waits for: %v", err)
	}
	if _, err := v.Verify(context.Background(), sigverify.Request{Signature: good, Content: sigverify.Content{Digests: map[crypto.Hash][]byte{crypto.SHA256: {1}}}}); fault.CodeOf(err) != sigverify.ErrRequest.Code {
		t.Errorf("a digest that is none: %v", err)
	}
	if _, err := v.Verify(context.Background(), sigverify.Request{Signature: good, Proofs: make([]sigverify.KnownProof, 1000)}); fault.CodeOf(err) != sigverify.ErrRequest.Code {
		t.Errorf("a thousand proofs: %v", err)
	}
}

// Sources are asked about each certificate once, and no more often than bounded,
// whatever a signature brings.
func TestSourcesAreAskedOnce(t *testing.T) {
	l := newLab()
	asked := 0
	answer := func(context.Context, string, string, int64) ([]byte, error) {
		asked++
		return crl(l.ca, years(1)).Raw, nil
	}
	checker := must(certpath.NewChecker(certpath.CheckerConfig{Now: func() time.Time { return years(1) }, Fetch: certpath.Fetcher{Get: answer,
		Post: func(context.Context, string, string, []byte, string, int64) ([]byte, error) {
			return nil, errors.New("no OCSP")
		}}}))
	v := l.verifier(t, func(c *sigverify.Config) { c.Signers.Checker = checker })
	p7s := l.sign(t, years(1))
	e := must(cms.Edit(p7s))
	for range 20 {
		e.AddSigner(must(cms.ParseBER(l.sign(t, years(1)))).Signers[0])
	}
	many := must(e.Bytes())
	r := must(v.Verify(context.Background(), sigverify.Request{Signature: many, Content: whole(document), At: years(1)}))
	expect(t, r, "")
	if len(r.Signatures) != 21 || asked != 1 || r.Signatures[20].Revocation[0].From != sigverify.FromOnline {
		t.Errorf("%d signatures, asked %d times", len(r.Signatures), asked)
	}
	asked = 0
	expect(t, must(v.Verify(context.Background(), sigverify.Request{Signature: p7s, Content: whole(document), At: years(1), Offline: true})), sigverify.TryLater)
	if asked != 0 {
		t.Error("offline asked somebody")
	}
}

// The attributes of a signature, cut off and passed off as the content of one
// without attributes, are not what anybody signed.
func TestAttributesAreNoContent(t *testing.T) {
	l := newLab()
	sd := must(cms.ParseBER(l.sign(t, years(1))))
	si := sd.Signers[0]
	attributes := bytes.Clone(si.SignedBytes())
	bare := stripped(t, sd.Raw, si)
	expect(t, l.judge(t, bare, whole(attributes)), sigverify.SigConstraintsFailure)
	expect(t, l.judge(t, bare, sigverify.Content{Digests: map[crypto.Hash][]byte{crypto.SHA256: digest(attributes)}}), sigverify.SigConstraintsFailure)
	expect(t, l.judge(t, bare, whole(document)), sigverify.SigCryptoFailure)
}

// stripped takes the signed attributes out of a SignedData with one signer, and
// mends the lengths around them.
func stripped(t testing.TB, raw []byte, si *cms.SignerInfo) []byte {
	t.Helper()
	attributes := bytes.Clone(si.SignedBytes())
	attributes[0] = 0xa0
	at := bytes.Index(raw, attributes)
	if at < 0 {
		t.Fatal("no attributes")
	}
	var cut func(der []byte) []byte
	cut = func(der []byte) []byte {
		var v asn1.RawValue
		var out, rest []byte
		for rest = der; len(rest) > 0; {
			next := must(asn1.Unmarshal(rest, &v))
			switch {
			case bytes.Equal(v.FullBytes, attributes):
			case v.IsCompound && bytes.Contains(v.FullBytes, attributes):
				out = append(out, must(asn1.Marshal(asn1.RawValue{Class: v.Class, Tag: v.Tag, IsCompound: true, Bytes: cut(v.Bytes)}))...)
			default:
				out = append(out, v.FullBytes...)
			}
			rest = next
		}
		return out
	}
	return cut(raw)
}

func seeds(f *testing.F) {
	l := newLab()
	b := l.sign(f, years(1))
	f.Add(b)
	f.Add(stamped(f, b, l.tsa, years(1)))
	f.Add([]byte("-----BEGIN CMS-----\nMIIB\n-----END CMS-----\n"))
	f.Add(nested(64, 0x30))
	for _, name := range []string{"hipki.p7m", "rsa-pss.p7s"} {
		if raw, err := os.ReadFile(filepath.Join("../cms/testdata", name)); err == nil {
			f.Add(raw)
		}
	}
}

// Whatever comes: a report or a fault, and never "passed" for what was not signed.
func FuzzVerify(f *testing.F) {
	seeds(f)
	l := newLab()
	v := l.verifier(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := v.Verify(context.Background(), sigverify.Request{Signature: raw, Content: whole(other), At: years(1), Evidence: evidenceOf(crl(l.ca, years(1)))})
		if err != nil {
			if fault.CodeOf(err) == "internal" {
				t.Fatal(err)
			}
			return
		}
		if r.Indication == sigverify.TotalPassed {
			t.Fatal("passed over a document that nobody signed")
		}
		if text := string(must(r.JSON())); !strings.Contains(text, "indication") {
			t.Fatal(text)
		}
	})
}

func FuzzNeeds(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if need, err := sigverify.Needs(raw); err == nil && len(need) > 5 {
			t.Fatalf("%d digests", len(need))
		}
	})
}
