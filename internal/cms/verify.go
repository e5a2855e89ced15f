package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// VerifyInput is what a verification needs besides the SignedData itself.
type VerifyInput struct {
	// Content of a detached signature, or Digest, which gives its digest for each
	// algorithm asked for, nil when it has none. For an attached signature both
	// may be left out; what is given must agree with the content inside.
	Content []byte
	Digest  func(crypto.Hash) []byte
	// Certificates to look for signers in, besides the embedded ones.
	Certificates []*x509.Certificate
	// RequireSigningCertificate demands the ESS attribute (CAdES). Without it, the
	// attribute is checked when present.
	RequireSigningCertificate bool
	// AllowSHA1 accepts SHA-1 digests, for signatures from before its end.
	AllowSHA1 bool
	// AllowNoSignedAttributes accepts a signature straight over the content. It
	// opens the door to an attack that turns a signature over attributes into one
	// over a content of the same bytes; leave it off where such content could come.
	AllowNoSignedAttributes bool
}

// The names of checks, in the order made.
const (
	CheckCertificate        = "signer_certificate"
	CheckAlgorithms         = "algorithms"
	CheckContentType        = "content_type"
	CheckMessageDigest      = "message_digest"
	CheckSigningCertificate = "signing_certificate"
	CheckSignature          = "signature"
)

// Check is one named step of a verification.
type Check struct {
	Name string
	Err  error // nil: passed
}

// SignerResult is what one signer info turned out to be.
type SignerResult struct {
	Signer      *SignerInfo
	Certificate *x509.Certificate // nil when not found
	SigningTime time.Time         // claimed; zero when absent
	Digest      crypto.Hash
	PSS         bool
	// Scheme is "rsa-pkcs1", "rsa-pss", "ecdsa" or "ed25519".
	Scheme string
	// SigningCertificate tells that the ESS attribute is there and right.
	SigningCertificate bool
	// Checks made, up to the first failure of each kind.
	Checks []Check
	// Err is the first failure; nil means the signature is good.
	Err error
}

// Verify checks every signer. The error is about the whole: no signer, no
// content. Each signer's own outcome is in its result, and all must be looked at;
// Good is the short way to do so.
func (sd *SignedData) Verify(in VerifyInput) ([]SignerResult, error) {
	if len(sd.Signers) == 0 {
		return nil, ErrMalformed.Because(errors.New("no signer"))
	}
	if !sd.Attached && in.Content == nil && in.Digest == nil {
		return nil, ErrContentMissing
	}
	if sd.streamed != nil && in.Content != nil {
		return nil, ErrContentMissing.Because(errors.New("the content went by already; give its digest"))
	}
	if sd.Attached && in.Content != nil && !bytes.Equal(sd.Content, in.Content) {
		return nil, ErrDigestMismatch.Because(errors.New("the content inside is another one"))
	}
	cache := make(map[crypto.Hash][]byte)
	digest := func(h crypto.Hash) ([]byte, error) {
		if d, ok := cache[h]; ok {
			return d, nil
		}
		d, err := sd.digest(in, h)
		if err == nil {
			cache[h] = d
		}
		return d, err
	}
	results := make([]SignerResult, len(sd.Signers))
	for i, si := range sd.Signers {
		results[i] = sd.verifySigner(si, in, digest, sd.checkContentType)
	}
	return results, nil
}

// Good gives the first failure among results, or nil when there is at least one
// signer and all are good.
func Good(results []SignerResult) error {
	if len(results) == 0 {
		return ErrMalformed
	}
	for _, r := range results {
		if r.Err != nil {
			return r.Err
		}
	}
	return nil
}

func (sd *SignedData) digest(in VerifyInput, hash crypto.Hash) ([]byte, error) {
	if !hash.Available() {
		return nil, ErrAlgorithm
	}
	content := in.Content
	if sd.Attached {
		content = sd.Content
	}
	own, given := sd.streamed[hash], []byte(nil)
	if content != nil {
		own = hashOf(hash, content)
	}
	if in.Digest != nil {
		given = in.Digest(hash)
		if given != nil && len(given) != hash.Size() {
			return nil, ErrContentMissing.Because(fmt.Errorf("digest of %d octets for %v", len(given), hash))
		}
	}
	switch {
	case own == nil && given == nil:
		return nil, ErrContentMissing.Because(fmt.Errorf("no digest for %v", hash))
	case own != nil && given != nil && !bytes.Equal(own, given):
		return nil, ErrDigestMismatch.Because(errors.New("digest and content disagree"))
	case own != nil:
		return own, nil
	}
	return given, nil
}

// verifySigner goes through RFC 5652 §5.4 to §5.6 and RFC 5035 §4, and goes on
// after a failure where the next step does not depend on it.
// attributes checks what is demanded of the signed ones besides the digest.
func (sd *SignedData) verifySigner(si *SignerInfo, in VerifyInput, digest func(crypto.Hash) ([]byte, error), attributes func(*SignerInfo) error) SignerResult {
	r := SignerResult{Signer: si, SigningTime: si.SigningTime()}
	step := func(name string, err error) bool {
		r.Checks = append(r.Checks, Check{name, err})
		if r.Err == nil {
			r.Err = err
		}
		return err == nil
	}
	hash, sch, salt, err := si.algorithms(in.AllowSHA1)
	r.Digest, r.PSS, r.Scheme = hash, sch == schemePSS, sch.String()
	if !step(CheckAlgorithms, err) {
		return r
	}
	content, err := digest(hash)
	if err != nil {
		step(CheckMessageDigest, err)
		return r
	}
	if si.signedAttrs != nil {
		step(CheckContentType, attributes(si))
		step(CheckMessageDigest, checkMessageDigest(si, content))
	} else if !in.AllowNoSignedAttributes || !sd.ContentType.Equal(OIDData) { // §5.3: a MUST for other types
		step(CheckContentType, ErrAttributes.Because(errors.New("no signed attributes")))
		return r
	}
	r.Certificate = sd.findSigner(si, in.Certificates)
	if r.Certificate == nil {
		step(CheckCertificate, ErrNoCertificate)
		return r
	}
	step(CheckCertificate, nil)
	present, err := checkESS(si, r.Certificate)
	if err == nil && !present && in.RequireSigningCertificate {
		err = ErrSigningCertificate.Because(errors.New("the attribute is missing"))
	}
	r.SigningCertificate = present && err == nil
	step(CheckSigningCertificate, err)
	if err = si.verifyValue(r.Certificate, sch, salt, hash, content); err != nil {
		err = ErrSignature.Because(err)
	}
	step(CheckSignature, err)
	return r
}

// verifyValue checks the signature over the signed attributes as they were
// received or, where these are not in DER, over their DER (RFC 5652 §5.4: signers
// use DER, and some send another order than they signed); without signed
// attributes, over the content's digest.
func (si *SignerInfo) verifyValue(cert *x509.Certificate, s scheme, salt int, hash crypto.Hash, content []byte) error {
	if si.signedAttrs == nil {
		return verifyValue(cert.PublicKey, s, salt, hash, nil, content, si.signature)
	}
	err := verifyValue(cert.PublicKey, s, salt, hash, si.signedAttrs, hashOf(hash, si.signedAttrs), si.signature)
	if err == nil {
		return nil
	}
	sorted, serr := marshalAttributes(tagSet, si.attributes)
	if serr != nil || bytes.Equal(sorted, si.signedAttrs) {
		return err
	}
	return verifyValue(cert.PublicKey, s, salt, hash, sorted, hashOf(hash, sorted), si.signature)
}

// algorithms resolves digest and signature algorithm and checks them against the
// algorithm protection attribute when there is one (RFC 6211).
func (si *SignerInfo) algorithms(allowSHA1 bool) (crypto.Hash, scheme, int, error) {
	hash, err := si.digestAlg.digest()
	if err != nil {
		return 0, 0, 0, ErrAlgorithm.Because(err)
	}
	if hash == crypto.SHA1 && !allowSHA1 {
		return hash, 0, 0, ErrAlgorithm.Because(errors.New("SHA-1"))
	}
	sch, salt, err := si.signatureAlg.signature(hash)
	if err != nil {
		return hash, sch, 0, ErrAlgorithm.Because(err)
	}
	if !has(si.attributes, OIDAlgorithmProtection) {
		return hash, sch, salt, nil
	}
	value, ok := si.SignedAttribute(OIDAlgorithmProtection)
	if !ok || !si.protects(value) {
		return hash, sch, salt, ErrAlgorithm.Because(errors.New("algorithm protection attribute contradicts the signer info"))
	}
	return hash, sch, salt, nil
}

// protects compares CMSAlgorithmProtection ::= SEQUENCE { digestAlgorithm,
// signatureAlgorithm [1] IMPLICIT OPTIONAL, macAlgorithm [2] IMPLICIT OPTIONAL }.
func (si *SignerInfo) protects(value []byte) bool {
	in := cryptobyte.String(value)
	var seq, sig cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
		return false
	}
	dig, ok := readAlgorithm(&seq)
	if !ok || !seq.ReadASN1Element(&sig, explicit(1)) || !seq.Empty() {
		return false
	}
	sequence := bytes.Clone(sig)
	sequence[0] = tagSequence
	return bytes.Equal(dig.raw, si.digestAlg.raw) && bytes.Equal(sequence, si.signatureAlg.raw)
}

func (sd *SignedData) checkContentType(si *SignerInfo) error {
	value, ok := si.SignedAttribute(OIDContentType)
	if !ok {
		return ErrAttributes.Because(errors.New("content type is missing or repeated"))
	}
	in := cryptobyte.String(value)
	var oid asn1.ObjectIdentifier
	if !in.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(sd.ContentType) {
		return ErrAttributes.Because(errors.New("content type is another one"))
	}
	return checkSigningTime(si)
}

// checkSigningTime: at most one, with one value, well formed (RFC 5652 §11.3).
func checkSigningTime(si *SignerInfo) error {
	if has(si.attributes, OIDSigningTime) {
		v, ok := si.SignedAttribute(OIDSigningTime)
		if !ok {
			return ErrAttributes.Because(errors.New("signing time is repeated"))
		}
		if _, err := decodeTime(v); err != nil {
			return ErrAttributes.Because(err)
		}
	}
	return nil
}

func checkMessageDigest(si *SignerInfo, content []byte) error {
	value, ok := si.SignedAttribute(OIDMessageDigest)
	if !ok {
		return ErrAttributes.Because(errors.New("message digest is missing or repeated"))
	}
	in := cryptobyte.String(value)
	var md cryptobyte.String
	if !in.ReadASN1(&md, cbasn1.OCTET_STRING) {
		return ErrAttributes.Because(errors.New("message digest is malformed"))
	}
	if !sameOctets(md, content) {
		return ErrDigestMismatch
	}
	return nil
}

// findSigner looks for the certificate the signer info names. Several may carry
// the same key identifier, or issuer and number; then the one the ESS hash names
// is meant, or else the first.
func (sd *SignedData) findSigner(si *SignerInfo, more []*x509.Certificate) *x509.Certificate {
	return si.FindCertificate(slices.Concat(sd.Certificates, more))
}

// FindCertificate gives the certificate of a list that the signer info names, by
// the hash in its signed attributes where several fit; nil when none does. That it
// made the signature is for Verify to say.
func (si *SignerInfo) FindCertificate(list []*x509.Certificate) *x509.Certificate {
	var first *x509.Certificate
	for _, c := range list {
		if c == nil || !si.names(c) {
			continue
		}
		if present, err := checkESS(si, c); present && err == nil {
			return c
		}
		if first == nil {
			first = c
		}
	}
	return first
}

func (si *SignerInfo) names(c *x509.Certificate) bool {
	if si.keyID != nil {
		return bytes.Equal(si.keyID, c.SubjectKeyId)
	}
	return si.serial != nil && c.SerialNumber.Cmp(si.serial) == 0 && bytes.Equal(si.issuer, c.RawIssuer)
}

// checkESS compares signing-certificate and signing-certificate-v2 with the
// certificate (RFC 5035 §3, §4; RFC 2634 §5.4). The first entry is the signer's.
func checkESS(si *SignerInfo, cert *x509.Certificate) (present bool, err error) {
	for _, v := range []struct {
		oid asn1.ObjectIdentifier
		def crypto.Hash
	}{{OIDSigningCertificateV2, crypto.SHA256}, {OIDSigningCertificate, crypto.SHA1}} {
		if !has(si.attributes, v.oid) {
			continue
		}
		present = true
		value, ok := si.SignedAttribute(v.oid)
		if !ok {
			return true, ErrSigningCertificate.Because(errors.New("the attribute is repeated"))
		}
		if err := matchESS(value, v.def, cert); err != nil {
			return true, ErrSigningCertificate.Because(err)
		}
	}
	return present, nil
}

func matchESS(value []byte, hash crypto.Hash, cert *x509.Certificate) error {
	malformed := errors.New("malformed attribute")
	in := cryptobyte.String(value)
	var seq, ids, id, certHash cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1(&ids, cbasn1.SEQUENCE) ||
		!seq.SkipOptionalASN1(cbasn1.SEQUENCE) || !seq.Empty() || !ids.ReadASN1(&id, cbasn1.SEQUENCE) {
		return malformed
	}
	if hash != crypto.SHA1 && id.PeekASN1Tag(cbasn1.SEQUENCE) { // hashAlgorithm, only in version 2
		alg, ok := readAlgorithm(&id)
		if !ok {
			return malformed
		}
		var err error
		if hash, err = alg.digest(); err != nil {
			return err
		}
	}
	if !id.ReadASN1(&certHash, cbasn1.OCTET_STRING) {
		return malformed
	}
	h := hash.New()
	h.Write(cert.Raw)
	if !sameOctets(h.Sum(nil), certHash) {
		return errors.New("another certificate's hash")
	}
	if id.Empty() {
		return nil
	}
	return matchIssuerSerial(id, cert)
}

// matchIssuerSerial compares IssuerSerial ::= SEQUENCE { GeneralNames, INTEGER }:
// one directoryName, the certificate's issuer (RFC 5035 §5).
func matchIssuerSerial(in cryptobyte.String, cert *x509.Certificate) error {
	var seq, names, name cryptobyte.String
	serial := new(big.Int)
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1(&names, cbasn1.SEQUENCE) ||
		!seq.ReadASN1Integer(serial) {
		return errors.New("malformed issuerSerial")
	}
	if !seq.Empty() { // issuerUID, as good as never used
		return errors.New("unexpected issuerUID")
	}
	if !names.ReadASN1(&name, explicit(4)) || !names.Empty() || !bytes.Equal(name, cert.RawIssuer) || serial.Cmp(cert.SerialNumber) != 0 {
		return errors.New("another certificate's issuer or serial number")
	}
	return nil
}
