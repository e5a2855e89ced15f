package pades_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"sealgate/internal/cms"
	"sealgate/internal/pades"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type identity struct {
	ca     *x509.Certificate
	signer cms.Signer
}

func makeIdentity(key crypto.Signer) identity {
	caKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Country: []string{"TW"}, CommonName: fmt.Sprintf("(test) CA of a %T", key)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	ca = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey))))
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{Country: []string{"TW"}, CommonName: "(test) signer"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
	}
	leaf = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey))))
	return identity{ca, cms.Signer{Certificate: leaf, Chain: []*x509.Certificate{ca}, Key: key}}
}

var (
	ec   = sync.OnceValue(func() identity { return makeIdentity(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))) })
	rsa2 = sync.OnceValue(func() identity { return makeIdentity(must(rsa.GenerateKey(rand.Reader, 2048))) })
)

// objects is the body of a one-page document.
var objects = []string{
	"<</Type/Catalog/Pages 2 0 R/Lang(zh-TW)>>",
	"<</Type/Pages/Kids[3 0 R]/Count 1>>",
	"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
	"<</Length 44>>\nstream\nBT /F 24 Tf 50 100 Td (Approved: 100) Tj ET \nendstream",
	"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
}

// classic writes a document with a cross-reference table.
func classic(objects ...string) []byte {
	var b bytes.Buffer
	b.WriteString("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
	offsets := writeObjects(&b, objects)
	start := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(objects)+1)
	for _, at := range offsets {
		fmt.Fprintf(&b, "%010d 00000 n \n", at)
	}
	fmt.Fprintf(&b, "trailer\n<</Size %d/Root 1 0 R/ID[<00><00>]>>\nstartxref\n%d\n%%%%EOF\n", len(objects)+1, start)
	return b.Bytes()
}

func writeObjects(b *bytes.Buffer, objects []string) (offsets []int) {
	for i, o := range objects {
		offsets = append(offsets, b.Len())
		fmt.Fprintf(b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	return offsets
}

func deflate(data []byte) []byte {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = w.Write(data)
	_ = w.Close()
	return b.Bytes()
}

// predicted is what most writers make of a cross-reference stream: PNG "up".
func predicted(rows [][]byte) []byte {
	var out []byte
	prev := make([]byte, len(rows[0]))
	for _, row := range rows {
		out = append(out, 2)
		for i, c := range row {
			out = append(out, c-prev[i])
		}
		prev = row
	}
	return out
}

// modern writes a document with an object stream and a cross-reference stream.
func modern(objects ...string) []byte {
	var b bytes.Buffer
	b.WriteString("%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
	var index, body bytes.Buffer
	rows := [][]byte{{0, 0, 0, 0}}
	inside := 0
	n := len(objects)
	for i, o := range objects {
		if strings.Contains(o, "stream") {
			rows = append(rows, row(1, b.Len(), 0))
			fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
			continue
		}
		fmt.Fprintf(&index, "%d %d ", i+1, body.Len())
		rows = append(rows, row(2, n+1, inside))
		inside++
		body.WriteString(o + " ")
	}
	rows = append(rows, row(1, b.Len(), 0))
	packed := deflate(append(index.Bytes(), body.Bytes()...))
	fmt.Fprintf(&b, "%d 0 obj\n<</Type/ObjStm/N %d/First %d/Filter/FlateDecode/Length %d>>\nstream\n%s\nendstream\nendobj\n", n+1, inside, index.Len(), len(packed), packed)
	start := b.Len()
	rows = append(rows, row(1, start, 0))
	table := deflate(predicted(rows))
	fmt.Fprintf(&b, "%d 0 obj\n<</Type/XRef/Size %d/W[1 2 1]/Root 1 0 R/Filter/FlateDecode/DecodeParms<</Predictor 12/Columns 4>>/Length %d>>\nstream\n%s\nendstream\nendobj\nstartxref\n%d\n%%%%EOF\n",
		n+2, n+3, len(table), table, start)
	return b.Bytes()
}

func row(class byte, second, third int) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{class}, uint16(second)), byte(third))
}

// hybrid hides object 5 from old readers: free in the table, present in a stream.
func hybrid() []byte {
	var b bytes.Buffer
	b.WriteString("%PDF-1.5\n")
	offsets := writeObjects(&b, objects)
	stm := b.Len()
	table := row(1, offsets[4], 0)
	fmt.Fprintf(&b, "6 0 obj\n<</Type/XRef/Size 7/W[1 2 1]/Index[5 1]/Root 1 0 R/Length %d>>\nstream\n%s\nendstream\nendobj\n", len(table), table)
	start := b.Len()
	b.WriteString("xref\n0 7\n0000000005 65535 f \n")
	for i, at := range offsets {
		if i == 4 {
			b.WriteString("0000000000 00000 f \n")
		} else {
			fmt.Fprintf(&b, "%010d 00000 n \n", at)
		}
	}
	fmt.Fprintf(&b, "%010d 00000 n \n", stm)
	fmt.Fprintf(&b, "trailer\n<</Size 7/Root 1 0 R/XRefStm %d>>\nstartxref\n%d\n%%%%EOF\n", stm, start)
	return b.Bytes()
}

func with(i int, body string) []string {
	out := append([]string(nil), objects...)
	for len(out) < i {
		out = append(out, "null")
	}
	out[i-1] = body
	return out
}

// forms are the shapes of documents that must be signable.
func forms() map[string][]byte {
	return map[string][]byte{
		"classic": classic(objects...),
		"modern":  modern(objects...),
		"hybrid":  hybrid(),
		"form of its own, fields of their own": classic(append(with(1, "<</Type/Catalog/Pages 2 0 R/AcroForm 6 0 R>>"),
			"<</Fields 7 0 R/DA(/F 0 Tf)>>", "[8 0 R]", "<</FT/Tx/T(Signature1)/V(text)>>")...),
		"form in the catalog": modern(append(with(1, "<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[6 0 R]/SigFlags 1>>>>"), "<</FT/Tx/T(a)/Kids[7 0 R]>>", "<</T(b)/Parent 6 0 R>>")...),
		"annotations in a list": modern(append(with(3, "<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Annots 6 0 R>>"), "[7 0 R]",
			"<</Type/Annot/Subtype/Text/Rect[0 0 10 10]/Contents(\xfe\xff\x4e\x2d)>>")...),
		"names with escapes": classic(with(1, "<</Type/Catalog/Pages 2 0 R/A#20B#2f(a\\)\\051\\\\)/Extensions<</X<abc>>>>>")...),
	}
}

func prepare(t testing.TB, pdf []byte, o pades.Options) *pades.Prepared {
	t.Helper()
	p, err := pades.Prepare(context.Background(), bytes.NewReader(pdf), int64(len(pdf)), o)
	if err != nil {
		t.Fatalf("%v (%v)", err, errors.Unwrap(err))
	}
	return p
}

func sign(t testing.TB, pdf []byte, id identity, o pades.Options) []byte {
	t.Helper()
	p := prepare(t, pdf, o)
	der := must(cms.SignDigest(rand.Reader, p.Digest, id.signer, cms.Options{Digest: p.Hash}))
	// What is kept between request and approval is all there is.
	var kept pades.Prepared
	if err := json.Unmarshal(must(json.Marshal(p)), &kept); err != nil {
		t.Fatal(err)
	}
	return append(bytes.Clone(pdf), must(kept.Embed(der))...)
}

func signatures(t testing.TB, pdf []byte) []pades.Signature {
	t.Helper()
	out, err := pades.Signatures(context.Background(), bytes.NewReader(pdf), int64(len(pdf)))
	if err != nil {
		t.Fatalf("%v (%v)", err, errors.Unwrap(err))
	}
	return out
}

// verify is what a verifier does with one signature.
func verify(pdf []byte, s pades.Signature) error {
	if s.Err != nil {
		return s.Err
	}
	sd, err := cms.Parse(s.Contents)
	if err != nil {
		return err
	}
	results, err := sd.Verify(cms.VerifyInput{RequireSigningCertificate: true, Digest: func(h crypto.Hash) []byte {
		d, _ := s.Digest(context.Background(), bytes.NewReader(pdf), h)
		return d
	}})
	if err != nil {
		return err
	}
	return cms.Good(results)
}

var options = pades.Options{Name: "王小明", Reason: "同意 (approved)", Location: `Taipei \ 臺北`, SigningTime: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}

func TestSignedTwice(t *testing.T) {
	for name, pdf := range forms() {
		t.Run(name, func(t *testing.T) {
			once := sign(t, pdf, ec(), options)
			if !bytes.HasPrefix(once, pdf) {
				t.Fatal("the original's bytes are not a prefix")
			}
			o := options
			o.Hash = crypto.SHA512
			twice := sign(t, once, rsa2(), o)
			for n, signed := range [][]byte{once, twice} {
				all := signatures(t, signed)
				if len(all) != n+1 {
					t.Fatalf("%d signatures in the document signed %d times", len(all), n+1)
				}
				for i, s := range all {
					if err := verify(signed, s); err != nil {
						t.Errorf("signature %d of %d: %v (%v)", i+1, n+1, err, errors.Unwrap(err))
					}
					want := pades.NoChange
					if i < n {
						want = pades.SignaturesAdded
					}
					if s.CoversWholeFile != (i == n) || s.Later != want {
						t.Errorf("signature %d of %d: whole %v, later %v", i+1, n+1, s.CoversWholeFile, s.Later)
					}
					if s.SubFilter != "ETSI.CAdES.detached" || s.Name != options.Name || s.Reason != options.Reason || s.Location != options.Location || !s.Time.Equal(options.SigningTime) {
						t.Errorf("it says %+v", s)
					}
				}
			}
		})
	}
}

func TestOneChangedByte(t *testing.T) {
	signed := sign(t, classic(objects...), ec(), options)
	s := signatures(t, signed)[0]
	if err := verify(signed, s); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(signed); at += 7 {
		if int64(at) >= s.ByteRange[1] && int64(at) < s.ByteRange[2] {
			continue
		}
		bad := bytes.Clone(signed)
		bad[at] ^= 1
		all, err := pades.Signatures(context.Background(), bytes.NewReader(bad), int64(len(bad)))
		if err != nil || len(all) == 0 {
			continue
		}
		for _, s := range all {
			if verify(bad, s) == nil {
				t.Fatalf("byte %d changed, and the signature is good", at)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	good := classic(objects...)
	prepare(t, good, options)
	certified := classic(append(with(1, "<</Type/Catalog/Pages 2 0 R/Perms<</DocMDP 6 0 R>>>>"),
		"<</Type/Sig/Reference[<</TransformMethod/DocMDP/TransformParams<</P 1>>>>]>>")...)
	for name, c := range map[string]struct {
		pdf  []byte
		want error
	}{
		"empty":            {nil, pades.ErrMalformed},
		"no PDF":           {[]byte("hello, this is no such thing"), pades.ErrMalformed},
		"cut":              {good[:len(good)-30], pades.ErrMalformed},
		"junk behind":      {append(bytes.Clone(good), "<script>"...), pades.ErrMalformed},
		"shifted table":    {bytes.Replace(good, []byte("%PDF-1.7\n"), []byte("%PDF-1.7\n \n"), 1), pades.ErrMalformed},
		"encrypted":        {bytes.Replace(good, []byte("/Root 1 0 R"), []byte("/Root 1 0 R/Encrypt<</V 1>>"), 1), pades.ErrEncrypted},
		"circle":           {bytes.Replace(good, []byte("/Root 1 0 R"), fmt.Appendf(nil, "/Root 1 0 R/Prev %d", bytes.LastIndex(good, []byte("xref\n0"))), 1), pades.ErrMalformed},
		"key there twice":  {classic(with(1, "<</Type/Catalog/Pages 2 0 R/Pages 2 0 R>>")...), pades.ErrMalformed},
		"no page":          {classic(with(2, "<</Type/Pages/Kids[]/Count 0>>")...), pades.ErrMalformed},
		"pages in circle":  {classic(with(2, "<</Type/Pages/Kids[2 0 R]/Count 1>>")...), pades.ErrMalformed},
		"fields in circle": {classic(append(with(1, "<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[6 0 R]>>>>"), "<</T(a)/Kids[6 0 R]>>")...), pades.ErrMalformed},
		"deep":             {classic(with(1, strings.Repeat("[", 1000))...), pades.ErrTooLarge},
		"locked":           {certified, pades.ErrLocked},
	} {
		_, err := pades.Prepare(context.Background(), bytes.NewReader(c.pdf), int64(len(c.pdf)), options)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v (%v)", name, err, errors.Unwrap(err))
		}
	}
	free := bytes.Replace(certified, []byte("/P 1"), []byte("/P 2"), 1)
	prepare(t, free, options)
}

func TestEmbedChecksWhatItIsGiven(t *testing.T) {
	p := prepare(t, classic(objects...), pades.Options{Reserve: 256})
	fits := append([]byte{0x30, 0x81, 0xfd}, make([]byte, 253)...)
	if _, err := p.Embed(fits); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Embed(append([]byte{0x30, 0x81, 0xfe}, make([]byte, 254)...)); !errors.Is(err, pades.ErrReserve) {
		t.Errorf("too large: %v", err)
	}
	for _, bad := range [][]byte{nil, fits[:100], append(bytes.Clone(fits), 0)} {
		if _, err := p.Embed(bad); !errors.Is(err, pades.ErrMalformed) {
			t.Errorf("%d bytes that are no DER element: %v", len(bad), err)
		}
	}
	p.ByteRange[1]++
	if _, err := p.Embed(fits); err == nil {
		t.Error("a changed range was taken")
	}
}

func TestDocumentTimeStampHasItsOwnType(t *testing.T) {
	pdf := classic(objects...)
	p := prepare(t, pdf, pades.Options{TimeStamp: true})
	all := signatures(t, append(pdf, must(p.Embed([]byte{0x30, 0x03, 1, 1, 0}))...))
	if all[0].Type != "DocTimeStamp" || all[0].SubFilter != "ETSI.RFC3161" || !bytes.Equal(all[0].Contents, []byte{0x30, 0x03, 1, 1, 0}) {
		t.Errorf("%+v", all[0])
	}
}
