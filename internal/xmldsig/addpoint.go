package xmldsig

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// PointOptions say how a point is signed.
type PointOptions struct {
	// Certificate is the signer's; Chain goes beside it.
	Certificate *x509.Certificate
	Chain       []*x509.Certificate
	// Hash is of files, elements and signature: SHA-256 when zero.
	Hash crypto.Hash
	// PSS chooses RSASSA-PSS for an RSA key; few XML readers know it.
	PSS bool
	// Exclusive chooses exclusive canonicalisation; SI files have the inclusive one.
	Exclusive bool
	// Covers are the earlier points that this one signs. Nil is all of them, and then
	// none may be pending; a list lets signers beside each other be prepared at once.
	Covers []string
}

// ToBeSigned is a point that waits for its signature.
type ToBeSigned struct {
	Point string // its Id
	Hash  crypto.Hash
	// SignedInfo is in canonical form, Digest its hash, DigestInfo what an RSA key
	// signs RAW. For ECDSA, sign Digest.
	SignedInfo, Digest, DigestInfo []byte
	// XML is the file with the point in it, its signature value empty; Attach wants it.
	XML []byte
}

// AddPoint adds a point behind the others, and says what is to be signed. The
// file's own bytes are kept.
func (f *SIFile) AddPoint(p Point, o PointOptions) (*ToBeSigned, error) {
	if o.Hash == 0 {
		o.Hash = crypto.SHA256
	}
	if o.Certificate == nil {
		return nil, ErrNoCertificate
	}
	alg, err := methodFor(o.Certificate.PublicKey, o.Hash, o.PSS)
	if err != nil {
		return nil, err
	}
	if p.ID == "" {
		p.ID = f.freeID()
	}
	if err := f.checkPoint(&p, o.Hash); err != nil {
		return nil, err
	}
	covered, err := f.covered(o.Covers)
	if err != nil {
		return nil, err
	}
	b := builder{o: o, p: p, alg: alg, c14n: C14N}
	if o.Exclusive {
		b.c14n = ExclusiveC14N
	}
	// First without the signature, to digest the new object where it will stand.
	object := b.object()
	draft, err := Parse(f.insert(b.point(object, "")))
	if err != nil {
		return nil, err
	}
	var refs strings.Builder
	for _, file := range slices.Concat(p.Drafts, p.Files) {
		b.reference(&refs, file.URI, "", file.Digest)
	}
	for _, id := range append(covered, p.ID+"-object") {
		e := draft.ByID(id)
		if e == nil {
			return nil, ErrPoint.Because(fmt.Errorf("id %.40q", id))
		}
		sum, err := hashed(o.Hash, func(c *canonical) error { c.exclusive = o.Exclusive; return c.subtree(e) })
		if err != nil {
			return nil, err
		}
		b.reference(&refs, "#"+id, b.c14n, sum)
	}
	return b.finish(f.insert(b.point(object, b.signature(refs.String()))))
}

// finish reads the file as a verifier will, and takes the canonical SignedInfo.
func (b *builder) finish(xml []byte) (*ToBeSigned, error) {
	f, err := ParseSI(xml)
	if err != nil {
		return nil, err
	}
	p := f.find(b.p.ID)
	var canonicalInfo bytes.Buffer
	if err := p.sig.Elements()[0].Canonicalize(&canonicalInfo, b.c14n); err != nil {
		return nil, err
	}
	h := b.o.Hash.New()
	h.Write(canonicalInfo.Bytes())
	t := &ToBeSigned{Point: b.p.ID, Hash: b.o.Hash, SignedInfo: canonicalInfo.Bytes(), Digest: h.Sum(nil), XML: xml}
	t.DigestInfo, err = digestInfo(t.Hash, t.Digest)
	return t, err
}

func (f *SIFile) checkPoint(p *Point, hash crypto.Hash) error {
	bad := func(text string, a ...any) error { return ErrPoint.Because(fmt.Errorf(text, a...)) }
	switch {
	case f.doc.Root.Prefix != "" || f.list.endStart == f.list.startEnd && !bytes.HasPrefix(f.doc.source[f.list.endStart:], []byte("</")):
		return ErrStructure.Because(errors.New("points cannot be added to this file"))
	case !isID(p.ID) || len(f.doc.ids[p.ID])+len(f.doc.ids[p.ID+"-object"])+len(f.doc.ids[p.ID+"-signature"]) > 0:
		return bad("id %.40q", p.ID)
	case p.Flow != "" && f.doc.ByID(p.Flow) == nil:
		return bad("no flow %.40q", p.Flow)
	case len(f.points) >= maxSignatures || len(p.Drafts)+len(p.Files)+len(f.points) >= maxReferences:
		return ErrTooLarge
	}
	seen := map[string]bool{}
	for _, file := range slices.Concat(p.Drafts, p.Files) {
		u, err := url.Parse(file.URI)
		if err != nil || file.URI == "" || len(file.URI) > maxURI || strings.HasPrefix(file.URI, "#") || u.IsAbs() || u.Host != "" || seen[file.URI] {
			return bad("file name %.100q", file.URI)
		}
		if len(file.Digest) != hash.Size() {
			return bad("a digest of %d bytes", len(file.Digest))
		}
		seen[file.URI] = true
	}
	for _, text := range []string{p.Action, p.Reason, p.Name, p.Title, p.Record, p.Comment, p.For, strings.Join(fileNames(p), "")} {
		for _, r := range text {
			if !isChar(r) || r == '\ufffd' {
				return bad("character U+%04X", r)
			}
		}
	}
	return nil
}

func fileNames(p *Point) (out []string) {
	for _, file := range slices.Concat(p.Drafts, p.Files) {
		out = append(out, file.URI)
	}
	return out
}

// covered lists the Ids of earlier points to be signed.
func (f *SIFile) covered(want []string) ([]string, error) {
	if want == nil {
		want = f.Points()
	}
	for _, id := range want {
		p := f.find(id)
		if p == nil {
			return nil, ErrPoint.Because(fmt.Errorf("no point %.40q", id))
		}
		if p.pending {
			return nil, ErrPending
		}
	}
	return slices.Clone(want), nil
}

// insert puts text at the end of the list of points.
func (f *SIFile) insert(text string) []byte {
	at := f.list.endStart
	return slices.Concat(f.doc.source[:at], []byte(text), f.doc.source[at:])
}

type builder struct {
	o         PointOptions
	p         Point
	alg, c14n string
}

func (b *builder) point(object, signature string) string {
	flow := ""
	if b.p.Flow != "" {
		flow = ` URI="#` + b.p.Flow + `"`
	}
	return fmt.Sprintf("<%s Id=\"%s\"%s>%s%s</%s>\n", siPoint, b.p.ID, flow, object, signature, siPoint)
}

func (b *builder) object() string {
	var s strings.Builder
	text := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&s, "<%s>%s</%s>", name, escapeText.Replace(value), name)
		}
	}
	fmt.Fprintf(&s, "<Object Id=\"%s-object\"><%s>", b.p.ID, siChange)
	text(siRecord, b.p.Record)
	text(siAction, b.p.Action)
	text(siTitle, b.p.Title)
	text(siName, b.p.Name)
	if !b.p.Time.IsZero() {
		text(siTime, b.p.Time.Format(time.RFC3339))
	}
	text(siFor, b.p.For)
	text(siReason, b.p.Reason)
	text(siRemark, b.p.Comment)
	fmt.Fprintf(&s, "</%s><%s><%s>", siChange, siInfo, siFolder)
	for _, list := range []struct {
		name  string
		files []File
	}{{siDrafts, b.p.Drafts}, {siFiles, b.p.Files}} {
		fmt.Fprintf(&s, "<%s>", list.name)
		for _, file := range list.files {
			fmt.Fprintf(&s, "<%s %s=\"%s\"></%s>", siFile, siURI, escapeValue.Replace(file.URI), siFile)
		}
		fmt.Fprintf(&s, "</%s>", list.name)
	}
	fmt.Fprintf(&s, "</%s></%s></Object>", siFolder, siInfo)
	return s.String()
}

func (b *builder) reference(s *strings.Builder, uri, transform string, digest []byte) {
	fmt.Fprintf(s, `<Reference URI="%s">`, escapeValue.Replace(uri))
	if transform != "" {
		fmt.Fprintf(s, `<Transforms><Transform Algorithm="%s"></Transform></Transforms>`, transform)
	}
	fmt.Fprintf(s, `<DigestMethod Algorithm="%s"></DigestMethod><DigestValue>%s</DigestValue></Reference>`, digestURI(b.o.Hash), base64.StdEncoding.EncodeToString(digest))
}

func (b *builder) signature(refs string) string {
	var s strings.Builder
	fmt.Fprintf(&s, `<Signature xmlns="%s" Id="%s-signature"><SignedInfo><CanonicalizationMethod Algorithm="%s"></CanonicalizationMethod>`, nsDSig, b.p.ID, b.c14n)
	fmt.Fprintf(&s, `<SignatureMethod Algorithm="%s"></SignatureMethod>%s</SignedInfo><SignatureValue></SignatureValue><KeyInfo><X509Data>`, b.alg, refs)
	for _, cert := range append([]*x509.Certificate{b.o.Certificate}, b.o.Chain...) {
		fmt.Fprintf(&s, "<X509Certificate>%s</X509Certificate>", base64.StdEncoding.EncodeToString(cert.Raw))
	}
	s.WriteString("</X509Data></KeyInfo></Signature>")
	return s.String()
}

// Attach puts a signature value into a file with a pending point: PKCS #1 for RSA,
// r‖s or DER for ECDSA. A value that does not verify is refused.
func Attach(pending []byte, id string, signature []byte) ([]byte, error) {
	f, err := ParseSI(pending)
	if err != nil {
		return nil, err
	}
	p := f.find(id)
	if p == nil || !p.pending || p.value.endStart != p.value.startEnd || !bytes.HasPrefix(f.doc.source[p.value.endStart:], []byte("</")) {
		return nil, ErrPoint.Because(fmt.Errorf("no pending point %.40q", id))
	}
	v := verification{d: f.doc, sig: p.sig, r: &Result{}, work: newWork()}
	if parts := p.sig.Elements(); len(parts) > 2 && parts[2].is(nsDSig, "KeyInfo") {
		if err := v.key(parts[2]); err != nil {
			return nil, err
		}
	}
	if v.r.Certificate == nil {
		return nil, ErrNoCertificate
	}
	if key, ok := v.r.Certificate.PublicKey.(*ecdsa.PublicKey); ok {
		signature = rawPair(key, signature)
	}
	at := p.value.endStart
	out := slices.Concat(f.doc.source[:at], []byte(base64.StdEncoding.EncodeToString(signature)), f.doc.source[at:])
	done, err := ParseSI(out)
	if err != nil {
		return nil, err
	}
	if err := done.check(id); err != nil {
		return nil, err
	}
	return out, nil
}

// check verifies one point, files aside.
func (f *SIFile) check(id string) error {
	r, err := f.doc.verify(context.Background(), f.find(id).sig, VerifyOptions{}, newWork())
	if err != nil {
		return err
	}
	return r.Err
}
