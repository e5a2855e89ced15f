package pades_test

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
	"fmt"
	"io"
	"math/big"
	"runtime"
	"slices"
	"testing"
	"time"

	"sealgate/internal/cms"
	"sealgate/internal/pades"
	"sealgate/internal/tsp"
)

// parts is a document whose middle is size zeros that are nowhere in memory.
type parts struct {
	head []byte
	size int64
	tail []byte
}

func (p parts) Size() int64 { return int64(len(p.head)) + p.size + int64(len(p.tail)) }

func (p parts) ReadAt(b []byte, at int64) (int, error) {
	head, body := int64(len(p.head)), int64(len(p.head))+p.size
	n := 0
	for n < len(b) {
		switch here := at + int64(n); {
		case here < head:
			n += copy(b[n:], p.head[here:])
		case here < body:
			some := min(int64(len(b)-n), body-here)
			clear(b[n : int64(n)+some])
			n += int(some)
		case here < p.Size():
			n += copy(b[n:], p.tail[here-body:])
		default:
			return n, io.EOF
		}
	}
	return n, nil
}

// A document is never held whole.
func TestLargeDocument(t *testing.T) {
	const size = 256 << 20
	var b bytes.Buffer
	b.WriteString("%PDF-1.7\n")
	offsets := []int64{}
	for i, o := range with(4, fmt.Sprintf("<</Length %d>>\nstream\n", size)) {
		offsets = append(offsets, int64(b.Len()))
		fmt.Fprintf(&b, "%d 0 obj\n%s", i+1, o)
		if i == 3 {
			break
		}
		b.WriteString("\nendobj\n")
	}
	doc := parts{head: bytes.Clone(b.Bytes()), size: size}
	b.Reset()
	b.WriteString("\nendstream\nendobj\n")
	start := int64(len(doc.head)) + size + int64(b.Len())
	b.WriteString("xref\n0 5\n0000000000 65535 f \n")
	for _, at := range offsets {
		fmt.Fprintf(&b, "%010d 00000 n \n", at)
	}
	fmt.Fprintf(&b, "trailer\n<</Size 5/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n", start)
	doc.tail = bytes.Clone(b.Bytes())

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p := must(pades.Prepare(context.Background(), doc, doc.Size(), pades.Options{}))
	der := must(cms.SignDigest(rand.Reader, p.Digest, ec().signer, cms.Options{Digest: p.Hash}))
	doc.tail = append(doc.tail, must(p.Embed(der))...)
	all := must(pades.Signatures(context.Background(), doc, doc.Size()))
	digest := must(all[0].Digest(context.Background(), doc, crypto.SHA256))
	runtime.ReadMemStats(&after)
	if !bytes.Equal(digest, p.Digest) || !bytes.Equal(all[0].Contents, der) || all[0].Err != nil {
		t.Errorf("%+v", all)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
		t.Errorf("%d bytes were allocated", used)
	}
}

// B-T: the token is over the signature value, and the room is enough for both.
func TestWithTimeStamp(t *testing.T) {
	pdf := classic(objects...)
	p := prepare(t, pdf, options)
	tbs := must(cms.SignedAttributes(p.Digest, ec().signer, cms.Options{Digest: p.Hash}))
	si := must(tbs.Sign(rand.Reader))
	imprint := tsp.ImprintOf(si.Signature())
	si = si.WithUnsigned(cms.NewAttribute(cms.OIDTimeStampToken, token(t, imprint)))
	der := must(cms.Assemble([]*x509.Certificate{ec().signer.Certificate, ec().ca}, si))
	signed := append(bytes.Clone(pdf), must(p.Embed(der))...)
	s := signatures(t, signed)[0]
	if err := verify(signed, s); err != nil {
		t.Fatal(err)
	}
	value, ok := must(cms.Parse(s.Contents)).Signers[0].UnsignedAttribute(cms.OIDTimeStampToken)
	if !ok {
		t.Fatal("the token is gone")
	}
	if _, err := must(tsp.ParseToken(value)).Verify(imprint); err != nil {
		t.Error(err)
	}
	needTool(t, "pdfsig")
	if out := pdfsig(t, trusting(t, ec()), signed); !bytes.Contains([]byte(out), []byte("Signature is Valid.")) {
		t.Error(out)
	}
}

// The security store of another's document is found, and adding one is no change
// of what is shown.
func TestSecurityStore(t *testing.T) {
	signed := sign(t, classic(objects...), ec(), options)
	if s := must(pades.SecurityStore(context.Background(), bytes.NewReader(signed), int64(len(signed)))); s.Certificates != nil {
		t.Errorf("%+v", s)
	}
	catalog := signed[bytes.LastIndex(signed, []byte("1 0 obj\n"))+8:]
	catalog = catalog[:bytes.Index(catalog, []byte("\nendobj"))]
	withDSS := append(bytes.Clone(catalog[:len(catalog)-2]), "/DSS<</Certs[20 0 R]/OCSPs[]>>>>"...)
	packed := deflate(ec().ca.Raw)
	later := increment(signed, map[int]string{1: string(withDSS), 20: fmt.Sprintf("<</Filter/FlateDecode/Length %d>>\nstream\n%s\nendstream", len(packed), packed)}, "")
	s := must(pades.SecurityStore(context.Background(), bytes.NewReader(later), int64(len(later))))
	if len(s.Certificates) != 1 || !slices.Equal(s.Certificates[0], ec().ca.Raw) || s.OCSPs != nil {
		t.Errorf("%d certificates", len(s.Certificates))
	}
	if got := signatures(t, later)[0]; got.Later != pades.SignaturesAdded || got.Err != nil {
		t.Errorf("%+v", got)
	}
}

// token is a time-stamp token over an imprint.
func token(t *testing.T, imprint tsp.Imprint) []byte {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	purpose := must(asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}}))
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "(test) TSA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: purpose}},
	}
	cert := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key))))
	r := must(tsp.NewResponder(tsp.ResponderConfig{Certificate: cert, Key: key, Policy: asn1.ObjectIdentifier{2, 999, 1}}))
	request := tsp.Request{Imprint: imprint, Nonce: big.NewInt(99), CertReq: true}
	return must(tsp.ParseResponse(must(r.Respond(must(request.Marshal())))))
}
