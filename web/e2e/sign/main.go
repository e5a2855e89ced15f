// Command sign makes a signed PDF and a signed SI file (XML) for browser tests:
//
//	go run ./web/e2e/sign -cert signer.pem -key signer.key -text WORDS -dir DIR
//
// writes signed.pdf, twice.pdf (two signatures), draft.di and flow.si, which
// refers to draft.di.
package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"sealgate/internal/cms"
	"sealgate/internal/pades"
	"sealgate/internal/xmldsig"
)

func main() {
	cert := flag.String("cert", "", "certificate, PEM")
	key := flag.String("key", "", "its key, PKCS#8 PEM")
	text := flag.String("text", "", "words that stand in the documents")
	dir := flag.String("dir", ".", "where the files are written")
	flag.Parse()
	if err := run(*cert, *key, *text, *dir); err != nil {
		log.Fatal(err)
	}
}

func run(cert, key, text, dir string) error {
	s, err := signer(cert, key)
	if err != nil {
		return err
	}
	once, err := signPDF(page(text), s)
	if err != nil {
		return err
	}
	twice, err := signPDF(once, s)
	if err != nil {
		return err
	}
	draft := []byte(text)
	si, err := signSI(draft, s)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"signed.pdf": once, "twice.pdf": twice, "draft.di": draft, "flow.si": si} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func signer(cert, key string) (s cms.Signer, err error) {
	read := func(name string) ([]byte, error) {
		raw, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		block, _ := pem.Decode(raw)
		if block == nil {
			return nil, errors.New(name + " is not PEM")
		}
		return block.Bytes, nil
	}
	raw, err := read(cert)
	if err != nil {
		return s, err
	}
	if s.Certificate, err = x509.ParseCertificate(raw); err != nil {
		return s, err
	}
	if raw, err = read(key); err != nil {
		return s, err
	}
	private, err := x509.ParsePKCS8PrivateKey(raw)
	if err != nil {
		return s, err
	}
	s.Key = private.(crypto.Signer)
	return s, nil
}

// page is a PDF with one page and the words in a comment.
func page(text string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%%PDF-1.7\n%%%s\n", text)
	var at []int
	for i, o := range []string{"<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[3 0 R]/Count 1>>", "<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>"} {
		at = append(at, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	xref := b.Len()
	b.WriteString("xref\n0 4\n0000000000 65535 f \n")
	for _, offset := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", offset)
	}
	fmt.Fprintf(&b, "trailer\n<</Size 4/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n", xref)
	return b.Bytes()
}

func signPDF(pdf []byte, s cms.Signer) ([]byte, error) {
	p, err := pades.Prepare(context.Background(), bytes.NewReader(pdf), int64(len(pdf)), pades.Options{SigningTime: time.Now()})
	if err != nil {
		return nil, err
	}
	p7s, err := cms.SignDigest(rand.Reader, p.Digest, s, cms.Options{})
	if err != nil {
		return nil, err
	}
	update, err := p.Embed(p7s)
	return append(bytes.Clone(pdf), update...), err
}

func signSI(draft []byte, s cms.Signer) ([]byte, error) {
	si, err := xmldsig.NewSI("flow1")
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(draft)
	tbs, err := si.AddPoint(xmldsig.Point{Flow: "flow1", Action: "承辦", Name: "測試一號", Time: time.Now(),
		Drafts: []xmldsig.File{{URI: "draft.di", Digest: digest[:]}}}, xmldsig.PointOptions{Certificate: s.Certificate})
	if err != nil {
		return nil, err
	}
	value, err := s.Key.Sign(rand.Reader, tbs.Digest, tbs.Hash)
	if err != nil {
		return nil, err
	}
	return xmldsig.Attach(tbs.XML, tbs.Point, value)
}
