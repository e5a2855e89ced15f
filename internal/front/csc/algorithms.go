package csc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"strings"
)

// hashes are the algorithms of digests that may be signed, by OID and by the
// name that orders use.
var hashes = []struct {
	oid, name string
	size      int
}{
	{"2.16.840.1.101.3.4.2.1", "SHA-256", 32},
	{"2.16.840.1.101.3.4.2.2", "SHA-384", 48},
	{"2.16.840.1.101.3.4.2.3", "SHA-512", 64},
}

// hashByOID gives a hash algorithm's name and size, "" for one that is not taken.
func hashByOID(oid string) (name string, size int) {
	for _, h := range hashes {
		if h.oid == oid {
			return h.name, h.size
		}
	}
	return "", 0
}

func oidOfHash(name string) string {
	for _, h := range hashes {
		if h.name == name {
			return h.oid
		}
	}
	return ""
}

// rsaEncryption is PKCS #1 v1.5 with the hash named beside it (RFC 8017 A.1).
const rsaEncryption = "1.2.840.113549.1.1.1"

// signAlgorithms are the signature algorithms with the hash that each implies.
// RSASSA-PSS is not among them: which of the two an RSA key makes must stand in
// what the person approves, and the API names it only afterwards.
var signAlgorithms = []struct {
	oid, hash string // hash "": named beside it
	rsa       bool
}{
	{"1.2.840.10045.4.3.2", "SHA-256", false},
	{"1.2.840.10045.4.3.3", "SHA-384", false},
	{"1.2.840.10045.4.3.4", "SHA-512", false},
	{rsaEncryption, "", true},
	{"1.2.840.113549.1.1.11", "SHA-256", true},
	{"1.2.840.113549.1.1.12", "SHA-384", true},
	{"1.2.840.113549.1.1.13", "SHA-512", true},
}

// algorithmsOf lists the algorithms of one kind of key.
func algorithmsOf(isRSA bool) []string {
	var out []string
	for _, a := range signAlgorithms {
		if a.rsa == isRSA {
			out = append(out, a.oid)
		}
	}
	return out
}

// curves by the name that crypto/elliptic gives them.
var curves = map[string]string{"P-256": "1.2.840.10045.3.1.7", "P-384": "1.3.132.0.34", "P-521": "1.3.132.0.35"}

// keyOf describes a public key as the API does.
func keyOf(public any) (algorithms []string, bits int, curve string, ok bool) {
	switch pub := public.(type) {
	case *rsa.PublicKey:
		return algorithmsOf(true), pub.N.BitLen(), "", true
	case *ecdsa.PublicKey:
		if pub.Curve == nil || pub.Curve == elliptic.P224() {
			return nil, 0, "", false
		}
		p := pub.Curve.Params()
		return algorithmsOf(false), p.BitSize, curves[p.Name], true
	}
	return nil, 0, "", false
}

// decodeHash takes a digest in base64 of either alphabet, padded or not: the API
// uses one in addresses and the other in JSON. The spelling must be the only one
// in its alphabet.
func decodeHash(text string) ([]byte, bool) {
	text = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(text), "=")
	raw, err := base64.RawStdEncoding.Strict().DecodeString(text)
	return raw, err == nil && !strings.ContainsAny(text, "\r\n")
}
