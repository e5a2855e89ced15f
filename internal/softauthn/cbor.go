package softauthn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"math/big"
)

// The few CBOR items needed, appended in CTAP2 canonical form
// (RFC 8949 §3; CTAP 2.1 §8).

func appendHead(b []byte, major byte, n uint64) []byte {
	m := major << 5
	switch {
	case n < 24:
		return append(b, m|byte(n))
	case n < 1<<8:
		return append(b, m|24, byte(n))
	case n < 1<<16:
		return append(b, m|25, byte(n>>8), byte(n))
	default:
		return append(b, m|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
}

func appendInt(b []byte, n int) []byte {
	if n >= 0 {
		return appendHead(b, 0, uint64(n))
	}
	return appendHead(b, 1, uint64(-1-n))
}

func appendBytes(b, v []byte) []byte { return append(appendHead(b, 2, uint64(len(v))), v...) }

func appendText(b []byte, v string) []byte { return append(appendHead(b, 3, uint64(len(v))), v...) }

func appendMap(b []byte, n int) []byte { return appendHead(b, 5, uint64(n)) }

func appendArray(b []byte, n int) []byte { return appendHead(b, 4, uint64(n)) }

// COSE key types and curves (RFC 9053 §7).
const (
	ktyOKP, ktyEC2, ktyRSA   = 1, 2, 3
	crvP256, crvP384, crvEdw = 1, 2, 6
)

// coseKey encodes a public key as COSE_Key (RFC 9052 §7), bent by the faults.
func coseKey(pub crypto.PublicKey, algorithm int, c *Ceremony) []byte {
	var b []byte
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return nil
		}
		x, y := point[1:33], point[33:65]
		if c.offCurve {
			y[31] ^= 1
		}
		kty, crv := ktyEC2, crvP256
		if c.curveMismatch {
			crv = crvP384
		}
		if c.ktyMismatch {
			kty = ktyOKP
		}
		n := 5
		if c.missingCoordinates {
			n = 3
		}
		b = appendMap(b, n)
		b = appendInt(appendInt(b, 1), kty)
		b = appendInt(appendInt(b, 3), algorithm)
		b = appendInt(appendInt(b, -1), crv)
		if !c.missingCoordinates {
			b = appendBytes(appendInt(b, -2), x)
			b = appendBytes(appendInt(b, -3), y)
		}
	case ed25519.PublicKey:
		b = appendMap(b, 4)
		b = appendInt(appendInt(b, 1), ktyOKP)
		b = appendInt(appendInt(b, 3), algorithm)
		b = appendInt(appendInt(b, -1), crvEdw)
		b = appendBytes(appendInt(b, -2), k)
	case *rsa.PublicKey:
		b = appendMap(b, 4)
		b = appendInt(appendInt(b, 1), ktyRSA)
		b = appendInt(appendInt(b, 3), algorithm)
		b = appendBytes(appendInt(b, -1), rsaModulus(k, c))
		b = appendBytes(appendInt(b, -2), big.NewInt(int64(k.E)).Bytes())
	}
	return b
}

// rsaModulus gives the modulus, or a shorter odd number in its place.
func rsaModulus(k *rsa.PublicKey, c *Ceremony) []byte {
	n := k.N.Bytes()
	if c.rsaBits > 0 {
		n = n[len(n)-c.rsaBits/8:]
		n[0] |= 0x80
	}
	return n
}
