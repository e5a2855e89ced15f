package cms

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"
)

// Signer is who signs.
type Signer struct {
	Certificate *x509.Certificate
	// Chain is embedded beside Certificate; the anchor is better left out.
	Chain []*x509.Certificate
	// Key belongs to Certificate. It may be nil for Prepare, when TBS.SignWith
	// brings it later: a key that can be used only after an approval.
	Key crypto.Signer
	// PSS chooses RSASSA-PSS over PKCS #1 v1.5 for an RSA key.
	PSS bool
}

// Options are what varies between signatures of one signer.
type Options struct {
	// Digest is the algorithm of content digest and signature. Zero is SHA-256.
	Digest crypto.Hash
	// SigningTime is claimed in the signed attribute. Zero leaves it out, which
	// CAdES B-B does not allow (EN 319 122-1 §6.3) and PAdES demands.
	SigningTime time.Time
	// ContentType of the content. Nil is id-data.
	ContentType asn1.ObjectIdentifier
	// Extra signed attributes.
	Extra []Attribute
}

// Prepared holds what is the same in every signature of a signer. It is immutable
// and safe for concurrent use.
type Prepared struct {
	signer       Signer
	hash         crypto.Hash
	sid          []byte // IssuerAndSerialNumber
	digestAlg    []byte
	signatureAlg []byte
	essAttr      []byte // signing-certificate-v2, whole attribute
	typeAttr     []byte // content type id-data, whole attribute
	mdOID        []byte
	timeOID      []byte
	certs        []*x509.Certificate
	certSet      []byte // certificates of SignedData, encoded
}

// Prepare checks that key, certificate and algorithms fit each other, and encodes
// the constant parts. hash zero is SHA-256.
func Prepare(s Signer, hash crypto.Hash) (*Prepared, error) {
	if hash == 0 {
		hash = crypto.SHA256
	}
	if s.Certificate == nil {
		return nil, errors.New("cms: a signer needs a certificate")
	}
	if s.Key != nil && !sameKey(s.Certificate, s.Key) {
		return nil, errors.New("cms: the key does not belong to the certificate")
	}
	p := &Prepared{signer: s, hash: hash, certs: append([]*x509.Certificate{s.Certificate}, s.Chain...)}
	p.certSet = marshalCertificates(p.certs)
	var err error
	if p.digestAlg, err = digestAlgorithm(hash); err != nil {
		return nil, err
	}
	if p.signatureAlg, err = signatureAlgorithm(s.Certificate.PublicKey, hash, s.PSS); err != nil {
		return nil, err
	}
	p.sid = tlv(tagSequence, s.Certificate.RawIssuer, encodeInteger(s.Certificate.SerialNumber))
	ess, err := SigningCertificateV2(s.Certificate, hash)
	if err != nil {
		return nil, err
	}
	p.mdOID, p.timeOID = mustOID(OIDMessageDigest), mustOID(OIDSigningTime)
	if p.essAttr, err = ess.marshal(); err != nil {
		return nil, err
	}
	p.typeAttr, err = NewAttribute(OIDContentType, derData).marshal()
	return p, err
}

func sameKey(cert *x509.Certificate, key crypto.Signer) bool {
	pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(key.Public())
}

// encodeInteger encodes a certificate's serial number as it was: positive or,
// from careless issuers, negative.
func encodeInteger(n *big.Int) []byte {
	der, err := asn1.Marshal(n)
	if err != nil {
		return nil
	}
	return der
}

// SigningCertificateV2 makes the ESS attribute that binds the signature to one
// certificate (RFC 5035 §3), with issuer and serial number.
func SigningCertificateV2(cert *x509.Certificate, hash crypto.Hash) (Attribute, error) {
	alg, err := digestAlgorithm(hash)
	if err != nil {
		return Attribute{}, err
	}
	if hash == crypto.SHA256 {
		alg = nil // the DEFAULT, left out in DER
	}
	h := hash.New()
	h.Write(cert.Raw)
	// GeneralName directoryName is [4] EXPLICIT, because Name is a CHOICE.
	issuer := tlv(tagSequence, tlv(tagContext4, cert.RawIssuer))
	id := tlv(tagSequence, alg, tlv(tagOctets, h.Sum(nil)),
		tlv(tagSequence, issuer, encodeInteger(cert.SerialNumber)))
	return NewAttribute(OIDSigningCertificateV2, tlv(tagSequence, tlv(tagSequence, id))), nil
}

// TBS is a signature not yet made: the signed attributes of one document.
type TBS struct {
	p   *Prepared
	set []byte // SET OF Attribute with its universal tag
}

// SignedAttributes builds the attributes over a content digest made with the
// prepared algorithm. Options.Digest is ignored here.
func (p *Prepared) SignedAttributes(digest []byte, o Options) (*TBS, error) {
	if len(digest) != p.hash.Size() {
		return nil, ErrAlgorithm.Because(fmt.Errorf("digest of %d octets for %v", len(digest), p.hash))
	}
	typeAttr := p.typeAttr
	if o.ContentType != nil && !o.ContentType.Equal(OIDData) {
		oid, err := encodeOID(o.ContentType)
		if err != nil {
			return nil, err
		}
		if typeAttr, err = NewAttribute(OIDContentType, oid).marshal(); err != nil {
			return nil, err
		}
	}
	elements := make([][]byte, 0, 4+len(o.Extra))
	if typeAttr != nil { // nil in a countersignature
		elements = append(elements, typeAttr)
	}
	elements = append(elements, tlv(tagSequence, p.mdOID, tlv(tagSet, tlv(tagOctets, digest))), p.essAttr)
	if !o.SigningTime.IsZero() {
		elements = append(elements, tlv(tagSequence, p.timeOID, tlv(tagSet, encodeTime(o.SigningTime))))
	}
	for _, a := range o.Extra {
		if slices.ContainsFunc(ownAttributes, a.Type.Equal) {
			return nil, ErrAttributes.Because(fmt.Errorf("%s is set by this package", a.Type))
		}
		der, err := a.marshal()
		if err != nil {
			return nil, err
		}
		elements = append(elements, der)
	}
	return &TBS{p: p, set: setOf(tagSet, elements)}, nil
}

// ownAttributes must not come in through Options.Extra: they occur once (RFC 5652 §11).
var ownAttributes = []asn1.ObjectIdentifier{OIDContentType, OIDMessageDigest, OIDSigningTime, OIDSigningCertificate, OIDSigningCertificateV2}

// SignedAttributes prepares and builds in one step, for a single signature.
func SignedAttributes(digest []byte, s Signer, o Options) (*TBS, error) {
	p, err := Prepare(s, o.Digest)
	if err != nil {
		return nil, err
	}
	return p.SignedAttributes(digest, o)
}

// Bytes are what the key signs: DER SET OF Attribute (RFC 5652 §5.4).
func (t *TBS) Bytes() []byte { return slices.Clone(t.set) }

// Digest is the hash of Bytes, which the key operation takes (but for Ed25519, which
// takes Bytes).
func (t *TBS) Digest() []byte {
	h := t.p.hash.New()
	h.Write(t.set)
	return h.Sum(nil)
}

// Sign uses the signer's key.
func (t *TBS) Sign(rand io.Reader) (*SignerInfo, error) {
	if t.p.signer.Key == nil {
		return nil, errors.New("cms: no key")
	}
	return t.sign(rand, t.p.signer.Key)
}

// SignWith uses a key that was not there when the signer was prepared.
func (t *TBS) SignWith(rand io.Reader, key crypto.Signer) (*SignerInfo, error) {
	if !sameKey(t.p.signer.Certificate, key) {
		return nil, errors.New("cms: the key does not belong to the certificate")
	}
	return t.sign(rand, key)
}

func (t *TBS) sign(rand io.Reader, key crypto.Signer) (*SignerInfo, error) {
	var opts crypto.SignerOpts = t.p.hash
	if t.p.signer.PSS {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: t.p.hash}
	}
	input := t.Digest()
	if pure(t.p.signer.Certificate.PublicKey) {
		input, opts = t.set, crypto.Hash(0)
	}
	value, err := key.Sign(rand, input, opts)
	if err != nil {
		return nil, fmt.Errorf("cms: signing: %w", err)
	}
	si := &SignerInfo{
		version: 1, sid: t.p.sid, signedAttrs: t.set, signature: value,
		digestAlg: algorithmID{raw: t.p.digestAlg}, signatureAlg: algorithmID{raw: t.p.signatureAlg},
	}
	return si, nil
}

// SignDigest makes a detached CAdES B-B signature over a content digest, with the
// prepared signer's certificates inside.
func (p *Prepared) SignDigest(rand io.Reader, digest []byte, o Options) ([]byte, error) {
	tbs, err := p.SignedAttributes(digest, o)
	if err != nil {
		return nil, err
	}
	si, err := tbs.Sign(rand)
	if err != nil {
		return nil, err
	}
	return assemble(derData, nil, p.certSet, si)
}

// SignDigest prepares and signs in one step, for a single signature.
func SignDigest(rand io.Reader, digest []byte, s Signer, o Options) ([]byte, error) {
	p, err := Prepare(s, o.Digest)
	if err != nil {
		return nil, err
	}
	return p.SignDigest(rand, digest, o)
}

// Certificates are the signer's own and its chain, for Assemble.
func (p *Prepared) Certificates() []*x509.Certificate { return slices.Clone(p.certs) }

// Assemble makes a detached SignedData over id-data. The signer infos may come
// from Parse: that is how a signature is added to an earlier one.
func Assemble(certs []*x509.Certificate, signers ...*SignerInfo) ([]byte, error) {
	if len(certs) > maxCerts {
		return nil, fmt.Errorf("cms: %d certificates", len(certs))
	}
	return assemble(derData, nil, marshalCertificates(certs), signers...)
}

// AssembleAttached makes a SignedData with the content inside.
func AssembleAttached(contentType asn1.ObjectIdentifier, content []byte, certs []*x509.Certificate, signers ...*SignerInfo) ([]byte, error) {
	if len(certs) > maxCerts {
		return nil, fmt.Errorf("cms: %d certificates", len(certs))
	}
	oid, err := encodeOID(contentType)
	if err != nil {
		return nil, err
	}
	return assemble(oid, tlv(tagContext0, tlv(tagOctets, content)), marshalCertificates(certs), signers...)
}

var (
	derData       = mustOID(OIDData)
	derSignedData = mustOID(OIDSignedData)
)

// marshalCertificates encodes CertificateSet with its [0] tag, each certificate
// once; nothing for none.
func marshalCertificates(certs []*x509.Certificate) []byte {
	var raw [][]byte
	for _, c := range certs {
		raw = appendNew(raw, c.Raw)
	}
	if len(raw) == 0 {
		return nil
	}
	return setOf(tagContext0, raw)
}

func assemble(contentType, content, certSet []byte, signers ...*SignerInfo) ([]byte, error) {
	version, digestAlgs, infos, err := signerSets(contentType, signers)
	if err != nil {
		return nil, err
	}
	sd := tlv(tagSequence, []byte{tagInteger, 1, version}, setOf(tagSet, digestAlgs),
		tlv(tagSequence, contentType, content), certSet, setOf(tagSet, infos))
	return tlv(tagSequence, derSignedData, tlv(tagContext0, sd)), nil
}

// signerSets encodes what a SignedData says of and by its signers.
func signerSets(contentType []byte, signers []*SignerInfo) (version byte, digestAlgs, infos [][]byte, err error) {
	if len(signers) == 0 || len(signers) > maxSigners {
		return 0, nil, nil, fmt.Errorf("cms: %d signers", len(signers))
	}
	version = 1 // RFC 5652 §5.1
	if !bytes.Equal(contentType, derData) {
		version = 3
	}
	digestAlgs, infos = make([][]byte, 0, 1), make([][]byte, 0, len(signers))
	for _, si := range signers {
		if si == nil {
			return 0, nil, nil, errors.New("cms: missing signer")
		}
		if si.version == 3 {
			version = 3
		}
		der, err := si.marshal()
		if err != nil {
			return 0, nil, nil, err
		}
		infos = append(infos, der)
		digestAlgs = appendNew(digestAlgs, si.digestAlg.raw)
	}
	return version, digestAlgs, infos, nil
}

func appendNew(list [][]byte, der []byte) [][]byte {
	if slices.ContainsFunc(list, func(have []byte) bool { return bytes.Equal(have, der) }) {
		return list
	}
	return append(list, der)
}

// DigestReader hashes a stream in bounded memory. More than max bytes, or the end
// of ctx, is an error.
func DigestReader(ctx context.Context, r io.Reader, hash crypto.Hash, max int64) (digest []byte, n int64, err error) {
	if !hash.Available() {
		return nil, 0, ErrAlgorithm.Because(fmt.Errorf("digest %v", hash))
	}
	h := hash.New()
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return nil, n, err
		}
		k, err := r.Read(buf)
		n += int64(k)
		if n > max {
			return nil, n, ErrContentTooLarge
		}
		h.Write(buf[:k])
		if err == io.EOF {
			return h.Sum(nil), n, nil
		}
		if err != nil {
			return nil, n, err
		}
	}
}
