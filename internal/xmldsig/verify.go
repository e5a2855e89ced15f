package xmldsig

import (
	"bytes"
	"context"
	"crypto"
	_ "crypto/sha1" // for signatures from before its end, when asked
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// VerifyOptions are what a verification needs besides the document.
type VerifyOptions struct {
	// Files gives the digest of a file that a reference names; nil and no error when
	// the file is not at hand. Without Files, none is.
	Files func(uri string, hash crypto.Hash) ([]byte, error)
	// Key verifies instead of the certificate in KeyInfo.
	Key crypto.PublicKey
	// AllowSHA1 accepts SHA-1 and RSA keys from 1024 bits, for old signatures.
	AllowSHA1 bool
}

// Reference is one thing that a signature covers.
type Reference struct {
	URI string
	// Element is what was hashed, for a reference into this document; the root
	// where the whole document is covered. Nil for files.
	Element *Element
	// Enveloped: the signature itself was left out of what was hashed.
	Enveloped bool
	Hash      crypto.Hash
	Digest    []byte // as signed
	// Checked tells that Digest was compared, and held. It is false without Err when
	// the file was not at hand.
	Checked bool
	Err     error
}

// Result is what one signature turned out to be.
type Result struct {
	// Certificate is the signer's, Certificates all in KeyInfo. Whether it may be
	// relied on is package certpath's question.
	Certificate    *x509.Certificate
	Certificates   []*x509.Certificate
	Algorithm      string // the SignatureMethod
	Hash           crypto.Hash
	PSS            bool
	SignatureValue []byte // for ECDSA r‖s
	References     []Reference
	// Err is the first failure. nil means that the value is good, and each reference
	// that could be checked too; see Complete.
	Err error
}

// Complete tells that every reference was checked and held.
func (r *Result) Complete() bool {
	return r.Err == nil && len(r.References) > 0 && !slices.ContainsFunc(r.References, func(ref Reference) bool { return !ref.Checked })
}

// Verify checks one signature of the document. The error is ctx's; everything
// about the signature is in the result.
func (d *Document) Verify(ctx context.Context, sig *Element, o VerifyOptions) (*Result, error) {
	return d.verify(ctx, sig, o, newWork())
}

// work is shared by the verifications of one document: what may still be hashed,
// and what was. Each point of a long chain covers all before it.
type work struct {
	budget int64
	done   map[hashing][]byte
}

type hashing struct {
	e         *Element
	exclusive bool
	prefixes  string
	hash      crypto.Hash
}

func newWork() *work { return &work{budget: maxHashed, done: map[hashing][]byte{}} }

func (d *Document) verify(ctx context.Context, sig *Element, o VerifyOptions, w *work) (*Result, error) {
	r := &Result{}
	v := verification{ctx: ctx, d: d, o: o, sig: sig, r: r, work: w}
	r.Err = v.run()
	return r, ctx.Err()
}

type verification struct {
	ctx  context.Context
	d    *Document
	o    VerifyOptions
	sig  *Element
	r    *Result
	work *work
}

func form(text string, a ...any) error { return ErrForm.Because(fmt.Errorf(text, a...)) }

func (v *verification) run() error {
	if !v.sig.is(nsDSig, "Signature") {
		return form("no signature")
	}
	parts := v.sig.Elements()
	if len(parts) < 2 || !parts[0].is(nsDSig, "SignedInfo") || !parts[1].is(nsDSig, "SignatureValue") {
		return form("no SignedInfo and SignatureValue")
	}
	var info *Element
	for i, part := range parts[2:] {
		switch {
		case i == 0 && part.is(nsDSig, "KeyInfo"):
			info = part
		case !part.is(nsDSig, "Object"):
			return form("<%.40s> in a signature", part.Local)
		}
	}
	var err error
	if v.r.SignatureValue, err = binary(parts[1], 1<<12); err != nil {
		return err
	}
	if err := v.key(info); err != nil {
		return err
	}
	if err := v.signedInfo(parts[0]); err != nil {
		return err
	}
	for i := range v.r.References {
		if err := v.r.References[i].Err; err != nil {
			return err
		}
	}
	return nil
}

// binary decodes an element's base64 text.
func binary(e *Element, limit int) ([]byte, error) {
	if len(e.Elements()) > 0 {
		return nil, form("elements in <%.40s>", e.Local)
	}
	text := strings.Map(func(r rune) rune {
		if r < 0x80 && white(byte(r)) {
			return -1
		}
		return r
	}, e.Text())
	out, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(out) > limit {
		return nil, form("base64 in <%.40s>", e.Local)
	}
	return out, nil
}

// key finds the signer's certificate. What else KeyInfo says is not looked at: a
// bare key proves nothing about who holds it.
func (v *verification) key(info *Element) error {
	if info == nil {
		return nil
	}
	for _, data := range info.Elements() {
		if !data.is(nsDSig, "X509Data") {
			continue
		}
		for _, e := range data.Elements() {
			if !e.is(nsDSig, "X509Certificate") {
				continue
			}
			der, err := binary(e, maxCertificate)
			if err != nil {
				return err
			}
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return form("a certificate: %w", err)
			}
			if len(v.r.Certificates) >= maxChain {
				return ErrTooLarge.Because(errors.New("too many certificates"))
			}
			v.r.Certificates = append(v.r.Certificates, cert)
		}
	}
	v.r.Certificate = leaf(v.r.Certificates)
	return nil
}

// leaf is the certificate that issued no other one here.
func leaf(certs []*x509.Certificate) *x509.Certificate {
	for _, c := range certs {
		if !slices.ContainsFunc(certs, func(other *x509.Certificate) bool {
			return other != c && bytes.Equal(other.RawIssuer, c.RawSubject)
		}) {
			return c
		}
	}
	if len(certs) > 0 {
		return certs[0]
	}
	return nil
}

func (v *verification) signedInfo(info *Element) error {
	parts := info.Elements()
	if len(parts) < 3 || !parts[0].is(nsDSig, "CanonicalizationMethod") || !parts[1].is(nsDSig, "SignatureMethod") {
		return form("the order in SignedInfo")
	}
	if len(parts)-2 > maxReferences {
		return ErrTooLarge.Because(errors.New("too many references"))
	}
	m, err := canonicalMethod(parts[0])
	if err != nil {
		return err
	}
	alg, _ := parts[1].Attr("Algorithm")
	v.r.Algorithm = alg
	method, ok := signatureMethods[alg]
	if !ok || len(parts[1].Elements()) > 0 || method.hash == crypto.SHA1 && !v.o.AllowSHA1 {
		return ErrAlgorithm.Because(fmt.Errorf("signature method %.100q", alg))
	}
	v.r.Hash, v.r.PSS = method.hash, method.pss
	for _, part := range parts[2:] {
		ref, err := v.reference(part)
		if err != nil {
			return err
		}
		v.r.References = append(v.r.References, ref)
	}
	h := method.hash.New()
	if err := (&canonical{method: m, w: h, budget: &v.work.budget}).subtree(info); err != nil {
		return err
	}
	key := v.o.Key
	if key == nil {
		if v.r.Certificate == nil {
			return ErrNoCertificate
		}
		key = v.r.Certificate.PublicKey
	}
	return method.verify(key, h.Sum(nil), v.r.SignatureValue, v.o.AllowSHA1)
}

// canonicalMethod reads a CanonicalizationMethod, or a Transform that is one.
func canonicalMethod(e *Element) (method, error) {
	alg, _ := e.Attr("Algorithm")
	m, ok := methodOf(alg)
	if !ok {
		return m, ErrAlgorithm.Because(fmt.Errorf("canonicalisation %.100q", alg))
	}
	children := e.Elements()
	if len(children) == 0 {
		return m, nil
	}
	if len(children) > 1 || !m.exclusive || !children[0].is(nsExcC14, "InclusiveNamespaces") {
		return m, form("parameters of a canonicalisation")
	}
	list, _ := children[0].Attr("PrefixList")
	prefixes := strings.Fields(list)
	if len(prefixes) > maxPrefixes {
		return m, ErrTooLarge
	}
	m.setPrefixes(prefixes)
	return m, nil
}

var digestMethods = map[string]crypto.Hash{
	"http://www.w3.org/2000/09/xmldsig#sha1":        crypto.SHA1,
	"http://www.w3.org/2001/04/xmlenc#sha256":       crypto.SHA256,
	"http://www.w3.org/2001/04/xmldsig-more#sha384": crypto.SHA384,
	"http://www.w3.org/2001/04/xmlenc#sha512":       crypto.SHA512,
}

const enveloped = nsDSig + "enveloped-signature"

// reference reads one Reference and compares what it names. The error is about the
// reference's form; a digest that differs is in ref.Err.
func (v *verification) reference(e *Element) (ref Reference, err error) {
	if err := v.ctx.Err(); err != nil {
		return ref, err
	}
	uri, ok := e.Attr("URI")
	if !e.is(nsDSig, "Reference") || !ok {
		return ref, form("a reference without URI")
	}
	ref.URI = uri
	parts := e.Elements()
	var transforms []*Element
	if len(parts) > 0 && parts[0].is(nsDSig, "Transforms") {
		transforms, parts = parts[0].Elements(), parts[1:]
	}
	if len(parts) != 2 || !parts[0].is(nsDSig, "DigestMethod") || !parts[1].is(nsDSig, "DigestValue") {
		return ref, form("the parts of a reference")
	}
	alg, _ := parts[0].Attr("Algorithm")
	if ref.Hash, ok = digestMethods[alg]; !ok || ref.Hash == crypto.SHA1 && !v.o.AllowSHA1 {
		return ref, ErrAlgorithm.Because(fmt.Errorf("digest method %.100q", alg))
	}
	if ref.Digest, err = binary(parts[1], 64); err != nil {
		return ref, err
	}
	if len(ref.Digest) != ref.Hash.Size() {
		return ref, form("a digest of %d bytes", len(ref.Digest))
	}
	got, err := v.dereference(&ref, transforms)
	if err != nil {
		return ref, err
	}
	ref.Checked = got != nil && subtle.ConstantTimeCompare(got, ref.Digest) == 1
	if got != nil && !ref.Checked {
		ref.Err = ErrDigest.Because(fmt.Errorf("reference %.100q", uri))
	}
	return ref, nil
}

// dereference hashes what a reference names; nil when it is not at hand.
func (v *verification) dereference(ref *Reference, transforms []*Element) ([]byte, error) {
	if ref.URI != "" && !strings.HasPrefix(ref.URI, "#") {
		if len(transforms) > 0 {
			return nil, form("a transform of a file")
		}
		if v.o.Files == nil {
			return nil, nil
		}
		return v.o.Files(ref.URI, ref.Hash)
	}
	m := method{} // what a node set becomes without saying so
	for i, t := range transforms {
		alg, _ := t.Attr("Algorithm")
		switch {
		case !t.is(nsDSig, "Transform"):
			return nil, form("the list of transforms")
		case alg == enveloped && i == 0 && len(t.Elements()) == 0:
			ref.Enveloped = true
		case alg != enveloped && i == len(transforms)-1:
			var err error
			if m, err = canonicalMethod(t); err != nil {
				return nil, err
			}
		default:
			return nil, form("transform %.100q here", alg)
		}
	}
	m.comments = false // both kinds of reference leave comments out (§4.4.3.3)
	return v.inside(ref, m)
}

// inside hashes what a reference into the document names.
func (v *verification) inside(ref *Reference, m method) ([]byte, error) {
	h := ref.Hash.New()
	c := &canonical{method: m, w: h, budget: &v.work.budget}
	ref.Element = v.d.Root
	if ref.URI != "" {
		if ref.Element = v.d.ByID(ref.URI[1:]); ref.Element == nil {
			return nil, form("%.100q is not the name of one element", ref.URI)
		}
	}
	if ref.Enveloped {
		if !ref.Element.contains(v.sig) {
			return nil, form("an enveloped signature that is elsewhere")
		}
		c.without = v.sig
	}
	if ref.URI == "" {
		err := c.document(v.d)
		return h.Sum(nil), err
	}
	key := hashing{ref.Element, m.exclusive, strings.Join(slices.Sorted(maps.Keys(m.prefixes)), " "), ref.Hash}
	if sum, ok := v.work.done[key]; ok && !ref.Enveloped {
		return sum, nil
	}
	if err := c.subtree(ref.Element); err != nil {
		return nil, err
	}
	sum := h.Sum(nil)
	if !ref.Enveloped {
		v.work.done[key] = sum
	}
	return sum, nil
}

func (e *Element) contains(other *Element) bool {
	for other = other.parent; other != nil; other = other.parent {
		if other == e {
			return true
		}
	}
	return false
}
