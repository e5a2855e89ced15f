package passkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"math/big"
)

// COSE labels, key types and curves (RFC 9052 §7.1, RFC 9053 §7).
const (
	labelKty, labelAlg       = 1, 3
	labelCrv, labelX, labelY = -1, -2, -3 // of RSA: -1 is n, -2 is e
	ktyOKP, ktyEC2, ktyRSA   = 1, 2, 3
	crvP256, crvEd25519      = 1, 6
	minRSABytes, maxRSABytes = 256, 512 // 2048 to 4096 bits
	maxKeyElements           = 5
)

// publicKey is a parsed credential key: exactly one of the pointers is set.
type publicKey struct {
	kty, alg, crv int64
	n             []byte // label -1 of RSA: the modulus
	x             []byte // label -2: the x coordinate, of RSA the exponent
	y             []byte // label -3: the y coordinate
	ec            *ecdsa.PublicKey
	ed            ed25519.PublicKey
	rsa           *rsa.PublicKey
}

var errKey = errors.New("not a credential key")

// parseKey reads one COSE_Key from the front of b and gives its length in bytes.
// It accepts exactly what WebAuthn Level 3 §6.5.1.1 describes for ES256, EdDSA
// and RS256: the required members and no other, in CTAP2 canonical encoding,
// key type, curve and algorithm fitting each other, a point on its curve, RSA of
// at least 2048 bits.
func parseKey(b []byte) (publicKey, int, error) {
	k, n, err := readKey(b)
	if err != nil {
		return k, 0, err
	}
	switch {
	case k.kty == ktyEC2 && k.alg == ES256 && k.crv == crvP256 && k.n == nil:
		if len(k.x) != 32 || len(k.y) != 32 {
			return k, 0, errors.New("EC2 coordinates have another length")
		}
		var point [65]byte
		point[0] = 4
		copy(point[1:], k.x)
		copy(point[33:], k.y)
		if k.ec, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point[:]); err != nil {
			return k, 0, errors.New("the point is not on its curve")
		}
	case k.kty == ktyOKP && k.alg == EdDSA && k.crv == crvEd25519:
		if len(k.x) != ed25519.PublicKeySize || k.y != nil || k.n != nil {
			return k, 0, errors.New("OKP key has another form")
		}
		k.ed = k.x
	case k.kty == ktyRSA && k.alg == RS256 && k.y == nil:
		if err := k.readRSA(); err != nil {
			return k, 0, err
		}
	default:
		return k, 0, errors.New("key type, algorithm and curve do not fit or are not supported")
	}
	return k, n, nil
}

func (k *publicKey) readRSA() error {
	n, e := k.n, k.x
	if len(n) < minRSABytes || len(n) > maxRSABytes || n[0] < 0x80 && len(n) == minRSABytes {
		return errors.New("RSA modulus is too short or too long")
	}
	if n[0] == 0 || n[len(n)-1]&1 == 0 {
		return errors.New("RSA modulus is padded or even")
	}
	if len(e) == 0 || len(e) > 4 || e[0] == 0 || e[len(e)-1]&1 == 0 {
		return errors.New("RSA exponent has another form")
	}
	exponent := 0
	for _, c := range e {
		exponent = exponent<<8 | int(c)
	}
	if exponent < 3 || exponent > 1<<31-1 {
		return errors.New("RSA exponent is out of range")
	}
	k.rsa = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: exponent}
	return nil
}

// readKey decodes the map: each label once, and none besides.
func readKey(b []byte) (k publicKey, n int, err error) {
	r := cborReader{data: b}
	count, err := r.head(5)
	if err != nil || count > maxKeyElements {
		return k, 0, errKey
	}
	var seen [7]bool // by label + 3
	for range count {
		label, err := r.integer()
		if err != nil || label < labelY || label > labelAlg || seen[label-labelY] {
			return k, 0, errors.New("COSE key has an unknown or repeated label")
		}
		seen[label-labelY] = true
		switch {
		case label == labelKty:
			k.kty, err = r.integer()
		case label == labelAlg:
			k.alg, err = r.integer()
		case label == labelCrv && r.major() == 2:
			k.n, err = r.bytes(maxRSABytes)
		case label == labelCrv:
			k.crv, err = r.integer()
		case label == labelX:
			k.x, err = r.bytes(maxRSABytes)
		case label == labelY:
			k.y, err = r.bytes(maxRSABytes)
		default:
			err = errKey
		}
		if err != nil {
			return k, 0, err
		}
	}
	return k, r.pos, nil
}

// verify checks a signature over message. ECDSA signatures are strict DER
// (WebAuthn Level 3 §6.5.5).
func (k publicKey) verify(message, sig []byte) bool {
	switch {
	case k.ec != nil:
		digest := sha256.Sum256(message)
		return ecdsa.VerifyASN1(k.ec, digest[:], sig)
	case k.ed != nil:
		return ed25519.Verify(k.ed, message, sig)
	case k.rsa != nil:
		digest := sha256.Sum256(message)
		return rsa.VerifyPKCS1v15(k.rsa, crypto.SHA256, digest[:], sig) == nil
	}
	return false
}

// parseStoredKey reads a COSE_Key that fills b.
func parseStoredKey(b []byte) (publicKey, error) {
	k, n, err := parseKey(b)
	if err == nil && n != len(b) {
		err = errKey
	}
	return k, err
}

// PublicKey gives the Go public key within a COSE_Key: *ecdsa.PublicKey,
// ed25519.PublicKey or *rsa.PublicKey.
func PublicKey(coseKey []byte) (crypto.PublicKey, error) {
	k, err := parseStoredKey(coseKey)
	switch {
	case err != nil:
		return nil, ErrKeyUnsupported.Because(err)
	case k.ec != nil:
		return k.ec, nil
	case k.ed != nil:
		return k.ed, nil
	default:
		return k.rsa, nil
	}
}

// Thumbprint is the COSE Key Thumbprint with SHA-256 (RFC 9679): the hash of the
// required members alone in deterministic CBOR, so it does not depend on how the
// phone ordered them or on alg.
func Thumbprint(coseKey []byte) ([32]byte, error) {
	k, err := parseStoredKey(coseKey)
	if err != nil {
		return [32]byte{}, ErrKeyUnsupported.Because(err)
	}
	b := make([]byte, 0, len(coseKey)+8)
	switch k.kty {
	case ktyEC2:
		b = append(b, 0xA4, 0x01, ktyEC2, 0x20, crvP256)
		b = appendCBORBytes(append(b, 0x21), k.x)
		b = appendCBORBytes(append(b, 0x22), k.y)
	case ktyOKP:
		b = append(b, 0xA3, 0x01, ktyOKP, 0x20, crvEd25519)
		b = appendCBORBytes(append(b, 0x21), k.x)
	case ktyRSA:
		b = append(b, 0xA3, 0x01, ktyRSA)
		b = appendCBORBytes(append(b, 0x20), k.n)
		b = appendCBORBytes(append(b, 0x21), k.x)
	}
	return sha256.Sum256(b), nil
}
