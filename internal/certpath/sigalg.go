package certpath

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha1" // CertID hashes (RFC 6960 §4.1.1); never a signature
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Algorithm identifiers of signatures understood on OCSP answers and CRLs
// (RFC 4055, RFC 5758). SHA-1 is understood, so that a profile for documents of
// its time can allow it; nothing else does. RSA-PSS is left out on purpose.
var signatureOIDs = []struct {
	oid asn1.ObjectIdentifier
	alg x509.SignatureAlgorithm
}{
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, x509.SHA1WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, x509.SHA256WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}, x509.SHA384WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}, x509.SHA512WithRSA},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, x509.ECDSAWithSHA256},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, x509.ECDSAWithSHA384},
	{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, x509.ECDSAWithSHA512},
	{asn1.ObjectIdentifier{1, 3, 101, 112}, x509.PureEd25519},
}

// maxSerialBytes is RFC 5280 §4.1.2.2: conforming serial numbers have at most 20 octets.
const maxSerialBytes = 20

var derNull = []byte{5, 0}

// signatureAlgorithm reads an AlgorithmIdentifier. Parameters must be NULL or
// absent for RSA and absent for the others (RFC 4055 §5, RFC 5758 §3.2).
func signatureAlgorithm(oid asn1.ObjectIdentifier, params []byte) (x509.SignatureAlgorithm, error) {
	for _, s := range signatureOIDs {
		if !oid.Equal(s.oid) {
			continue
		}
		rsaKind := s.alg == x509.SHA1WithRSA || s.alg == x509.SHA256WithRSA || s.alg == x509.SHA384WithRSA || s.alg == x509.SHA512WithRSA
		if len(params) == 0 || rsaKind && bytes.Equal(params, derNull) {
			return s.alg, nil
		}
		return 0, errors.New("unexpected signature algorithm parameters")
	}
	return 0, errors.New("signature algorithm " + oid.String() + " is not accepted")
}

// signingAlgorithm chooses how our own responders sign with a key.
func signingAlgorithm(pub crypto.PublicKey) (x509.SignatureAlgorithm, crypto.Hash, asn1.ObjectIdentifier, error) {
	alg, hash := x509.SHA256WithRSA, crypto.SHA256
	switch k := pub.(type) {
	case *rsa.PublicKey:
	case *ecdsa.PublicKey:
		alg = x509.ECDSAWithSHA256
		if k.Curve == elliptic.P384() {
			alg, hash = x509.ECDSAWithSHA384, crypto.SHA384
		}
	default:
		return 0, 0, nil, errors.New("certpath: unsupported key type")
	}
	for _, s := range signatureOIDs {
		if s.alg == alg {
			return alg, hash, s.oid, nil
		}
	}
	return 0, 0, nil, errors.New("certpath: unsupported key type")
}

// Digest algorithms of a CertID.
var hashOIDs = []struct {
	oid  asn1.ObjectIdentifier
	hash crypto.Hash
}{
	{asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, crypto.SHA1},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, crypto.SHA256},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA384},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, crypto.SHA512},
}

func hashByOID(oid asn1.ObjectIdentifier) (crypto.Hash, error) {
	for _, h := range hashOIDs {
		if oid.Equal(h.oid) {
			return h.hash, nil
		}
	}
	return 0, errors.New("digest algorithm " + oid.String() + " is not known")
}

func oidByHash(hash crypto.Hash) (asn1.ObjectIdentifier, error) {
	for _, h := range hashOIDs {
		if h.hash == hash {
			return h.oid, nil
		}
	}
	return nil, errors.New("certpath: unsupported digest algorithm")
}

// readAlgorithm reads AlgorithmIdentifier ::= SEQUENCE { OID, parameters ANY OPTIONAL }.
func readAlgorithm(in *cryptobyte.String) (oid asn1.ObjectIdentifier, params []byte, ok bool) {
	var seq, rest cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1ObjectIdentifier(&oid) {
		return nil, nil, false
	}
	if !seq.Empty() {
		var tag cbasn1.Tag
		if !seq.ReadAnyASN1Element(&rest, &tag) || !seq.Empty() {
			return nil, nil, false
		}
	}
	return oid, rest, true
}

// addAlgorithm writes an AlgorithmIdentifier, with NULL parameters when asked.
func addAlgorithm(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, null bool) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if null {
			b.AddASN1NULL()
		}
	})
}
