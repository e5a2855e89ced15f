package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha1" // old signatures, only where the caller allows it
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// digests are the digest algorithms known (RFC 5754 §2, RFC 3370 §2.1).
var digests = []struct {
	hash crypto.Hash
	oid  asn1.ObjectIdentifier
}{
	{crypto.SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}},
	{crypto.SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}},
	{crypto.SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}},
	{crypto.SHA1, asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}},
}

// scheme is how a signature value is made.
type scheme uint8

const (
	schemePKCS1 scheme = iota + 1
	schemePSS
	schemeECDSA
	schemeEd25519
)

func (s scheme) String() string {
	switch s {
	case schemePKCS1:
		return "rsa-pkcs1"
	case schemePSS:
		return "rsa-pss"
	case schemeECDSA:
		return "ecdsa"
	case schemeEd25519:
		return "ed25519"
	}
	return ""
}

var (
	oidRSA  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidPSS  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidMGF1 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
)

// signatures are identifiers that name a digest too (RFC 5754 §3).
var signatures = []struct {
	oid    asn1.ObjectIdentifier
	scheme scheme
	hash   crypto.Hash
}{
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, schemePKCS1, crypto.SHA256},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, schemePKCS1, crypto.SHA384},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, schemePKCS1, crypto.SHA512},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, schemePKCS1, crypto.SHA1},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, schemeECDSA, crypto.SHA256},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, schemeECDSA, crypto.SHA384},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, schemeECDSA, crypto.SHA512},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}, schemeECDSA, crypto.SHA1},
	{asn1.ObjectIdentifier{1, 3, 101, 112}, schemeEd25519, crypto.SHA512}, // RFC 8419 §3.1
}

// algorithmID is a decoded AlgorithmIdentifier with its received encoding.
type algorithmID struct {
	oid    asn1.ObjectIdentifier
	params []byte // whole element, nil when absent
	raw    []byte // the whole AlgorithmIdentifier
}

func readAlgorithm(in *cryptobyte.String) (algorithmID, bool) {
	var a algorithmID
	var raw, seq, params cryptobyte.String
	var tag cbasn1.Tag
	if !in.ReadASN1Element(&raw, cbasn1.SEQUENCE) {
		return a, false
	}
	a.raw = raw
	if !raw.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1ObjectIdentifier(&a.oid) {
		return a, false
	}
	if !seq.Empty() {
		if !seq.ReadAnyASN1Element(&params, &tag) || !seq.Empty() {
			return a, false
		}
		a.params = params
	}
	return a, true
}

func (a algorithmID) plain() bool { return len(a.params) == 0 || bytes.Equal(a.params, derNull) }

// digest names the hash. Parameters are absent or NULL (RFC 5754 §2).
func (a algorithmID) digest() (crypto.Hash, error) {
	for _, d := range digests {
		if a.oid.Equal(d.oid) {
			if !a.plain() {
				return 0, errors.New("unexpected digest parameters")
			}
			return d.hash, nil
		}
	}
	return 0, fmt.Errorf("digest algorithm %s is not known", a.oid)
}

// signature names scheme and salt length for a signature whose signer info says
// that the digest is hash. An identifier that names another digest is refused.
func (a algorithmID) signature(hash crypto.Hash) (scheme, int, error) {
	switch {
	case a.oid.Equal(oidRSA): // RFC 3370 §3.2: the digest is named beside it
		if !a.plain() {
			return 0, 0, errors.New("unexpected RSA parameters")
		}
		return schemePKCS1, 0, nil
	case a.oid.Equal(oidPSS):
		salt, err := readPSS(a.params, hash)
		return schemePSS, salt, err
	}
	for _, s := range signatures {
		if !a.oid.Equal(s.oid) {
			continue
		}
		if s.hash != hash {
			return 0, 0, errors.New("signature and digest algorithm contradict each other")
		}
		if (s.scheme == schemeECDSA || s.scheme == schemeEd25519) && len(a.params) != 0 || !a.plain() {
			return 0, 0, errors.New("unexpected signature parameters")
		}
		return s.scheme, 0, nil
	}
	return 0, 0, fmt.Errorf("signature algorithm %s is not known", a.oid)
}

// readPSS reads RSASSA-PSS-params (RFC 4055 §3.1). Digest and MGF1 digest must be
// the signer info's, the trailer field the only one there is. The defaults mean
// SHA-1 and are refused with it.
func readPSS(der []byte, hash crypto.Hash) (saltLength int, err error) {
	bad := errors.New("unexpected RSASSA-PSS parameters")
	in := cryptobyte.String(der)
	var seq, hashPart, mgfPart cryptobyte.String
	var hasHash, hasMGF bool
	var trailer int
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() ||
		!seq.ReadOptionalASN1(&hashPart, &hasHash, explicit(0)) ||
		!seq.ReadOptionalASN1(&mgfPart, &hasMGF, explicit(1)) ||
		!seq.ReadOptionalASN1Integer(&saltLength, explicit(2), 20) ||
		!seq.ReadOptionalASN1Integer(&trailer, explicit(3), 1) || !seq.Empty() || !hasHash || !hasMGF {
		return 0, bad
	}
	h, ok := readAlgorithm(&hashPart)
	if !ok || !hashPart.Empty() {
		return 0, bad
	}
	mgf, ok := readAlgorithm(&mgfPart)
	if !ok || !mgfPart.Empty() || !mgf.oid.Equal(oidMGF1) {
		return 0, bad
	}
	mgfParams := cryptobyte.String(mgf.params)
	mgfHash, ok := readAlgorithm(&mgfParams)
	if !ok || !mgfParams.Empty() {
		return 0, bad
	}
	h1, err1 := h.digest()
	h2, err2 := mgfHash.digest()
	if err1 != nil || err2 != nil || h1 != hash || h2 != hash || trailer != 1 ||
		saltLength < 1 || saltLength > 1024 { // zero would mean "any" to crypto/rsa
		return 0, bad
	}
	return saltLength, nil
}

func explicit(tag uint8) cbasn1.Tag { return cbasn1.Tag(tag).ContextSpecific().Constructed() }

// verifyValue checks a signature value over an already computed digest; Ed25519
// signs the message itself (RFC 8419 §2.3), which is nil when it is not here.
func verifyValue(key crypto.PublicKey, s scheme, salt int, hash crypto.Hash, message, digest, value []byte) error {
	switch pub := key.(type) {
	case *rsa.PublicKey:
		if pub.N.BitLen() > 16384 {
			return errors.New("RSA key too long")
		}
		switch s {
		case schemePKCS1:
			return rsa.VerifyPKCS1v15(pub, hash, digest, value)
		case schemePSS:
			return rsa.VerifyPSS(pub, hash, digest, value, &rsa.PSSOptions{SaltLength: salt, Hash: hash})
		}
	case *ecdsa.PublicKey:
		if s == schemeECDSA {
			if ecdsa.VerifyASN1(pub, digest, value) {
				return nil
			}
			return errors.New("ECDSA verification failed")
		}
	case ed25519.PublicKey:
		if s == schemeEd25519 && message != nil {
			if ed25519.Verify(pub, message, value) {
				return nil
			}
			return errors.New("Ed25519 verification failed")
		}
	}
	return fmt.Errorf("key of type %T does not fit the signature algorithm", key)
}

// pure tells whether the key signs messages and not digests.
func pure(pub crypto.PublicKey) bool {
	_, ok := pub.(ed25519.PublicKey)
	return ok
}

// digestAlgorithm encodes the identifier of a digest, parameters absent (RFC 5754 §2).
func digestAlgorithm(hash crypto.Hash) ([]byte, error) {
	for _, d := range digests {
		if d.hash == hash && hash != crypto.SHA1 { // never sign with SHA-1
			oid, err := encodeOID(d.oid)
			return tlv(tagSequence, oid), err
		}
	}
	return nil, ErrAlgorithm.Because(fmt.Errorf("digest %v", hash))
}

// signatureAlgorithm encodes the identifier for a key and digest.
func signatureAlgorithm(pub crypto.PublicKey, hash crypto.Hash, pss bool) ([]byte, error) {
	var want scheme
	switch pub.(type) {
	case *rsa.PublicKey:
		want = schemePKCS1
		if pss {
			return pssAlgorithm(hash)
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
		want = schemeECDSA
		if pure(pub) {
			want = schemeEd25519
		}
		if pss {
			return nil, ErrAlgorithm.Because(errors.New("RSASSA-PSS needs an RSA key"))
		}
	default:
		return nil, ErrAlgorithm.Because(fmt.Errorf("key of type %T", pub))
	}
	for _, s := range signatures {
		if s.scheme == want && s.hash == hash {
			oid, err := encodeOID(s.oid)
			if want == schemePKCS1 {
				return tlv(tagSequence, oid, derNull), err // RFC 5754 §3.2: NULL
			}
			return tlv(tagSequence, oid), err // RFC 5754 §3.3: absent
		}
	}
	return nil, ErrAlgorithm.Because(fmt.Errorf("digest %v", hash))
}

// pssAlgorithm: the salt is as long as the digest (RFC 4055 §3.1 recommends it).
func pssAlgorithm(hash crypto.Hash) ([]byte, error) {
	digest, err := digestAlgorithm(hash)
	if err != nil {
		return nil, err
	}
	pss, err1 := encodeOID(oidPSS)
	mgf, err2 := encodeOID(oidMGF1)
	return tlv(tagSequence, pss, tlv(tagSequence,
		tlv(tagContext0, digest),
		tlv(tagContext1, tlv(tagSequence, mgf, digest)),
		tlv(tagContext2, tlv(tagInteger, []byte{byte(hash.Size())})),
	)), errors.Join(err1, err2)
}
