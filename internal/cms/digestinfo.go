package cms

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// SignPKCS1 makes a bare signature over a digest, for those who asked for
// "PKCS#1": RSASSA-PKCS1-v1_5 (RFC 8017 §8.2) with an RSA key, an ECDSA-Sig-Value
// (RFC 3279 §2.2.3) with an EC key. hash is SHA-256, SHA-384 or SHA-512.
func SignPKCS1(rand io.Reader, key crypto.Signer, hash crypto.Hash, digest []byte) ([]byte, error) {
	if _, err := digestAlgorithm(hash); err != nil {
		return nil, err
	}
	if len(digest) != hash.Size() {
		return nil, ErrAlgorithm.Because(fmt.Errorf("digest of %d octets for %v", len(digest), hash))
	}
	if _, err := signatureAlgorithm(key.Public(), hash, false); err != nil {
		return nil, err
	}
	if pure(key.Public()) {
		return nil, ErrAlgorithm.Because(errors.New("Ed25519 signs no digest"))
	}
	return key.Sign(rand, digest, hash)
}

// VerifyPKCS1 checks what SignPKCS1 made.
func VerifyPKCS1(pub crypto.PublicKey, hash crypto.Hash, digest, value []byte) error {
	alg := schemeECDSA
	if _, ok := pub.(*rsa.PublicKey); ok {
		alg = schemePKCS1
	}
	if _, err := digestAlgorithm(hash); err != nil {
		return err
	}
	if len(digest) != hash.Size() {
		return ErrAlgorithm
	}
	if err := verifyValue(pub, alg, 0, hash, nil, digest, value); err != nil {
		return ErrSignature.Because(err)
	}
	return nil
}

// ParseDigestInfo reads the DigestInfo of a RAW signature request (RFC 8017 §9.2).
// Nothing but SHA-256, SHA-384 and SHA-512 in their one DER encoding with NULL
// parameters is read: a RAW signature is over exactly a digest that was approved,
// and has no room for anything else.
func ParseDigestInfo(der []byte) (crypto.Hash, []byte, error) {
	bad := ErrAlgorithm.Because(errors.New("not the DigestInfo of SHA-256, SHA-384 or SHA-512"))
	in := cryptobyte.String(der)
	var seq, digest cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
		return 0, nil, bad
	}
	alg, ok := readAlgorithm(&seq)
	if !ok || !seq.ReadASN1(&digest, cbasn1.OCTET_STRING) || !seq.Empty() {
		return 0, nil, bad
	}
	hash, err := alg.digest()
	if err != nil || hash == crypto.SHA1 {
		return 0, nil, bad
	}
	if again, err := DigestInfo(hash, digest); err != nil || !bytes.Equal(again, der) {
		return 0, nil, bad
	}
	return hash, bytes.Clone(digest), nil
}

// DigestInfo encodes what ParseDigestInfo reads.
func DigestInfo(hash crypto.Hash, digest []byte) ([]byte, error) {
	if len(digest) != hash.Size() {
		return nil, ErrAlgorithm
	}
	for _, d := range digests {
		if d.hash == hash && hash != crypto.SHA1 {
			return tlv(tagSequence, tlv(tagSequence, mustOID(d.oid), derNull), tlv(tagOctets, digest)), nil
		}
	}
	return nil, ErrAlgorithm
}

// SignDigestInfo makes a RAW signature: SignPKCS1 over the digest a strictly read
// DigestInfo names. With an RSA key the result is the same octets that padding and
// signing the DigestInfo itself would give.
func SignDigestInfo(rand io.Reader, key crypto.Signer, der []byte) ([]byte, error) {
	hash, digest, err := ParseDigestInfo(der)
	if err != nil {
		return nil, err
	}
	return SignPKCS1(rand, key, hash, digest)
}
