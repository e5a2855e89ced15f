package passkey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/go-webauthn/webauthn/protocol/webauthncose"

	"sealgate/internal/softauthn"
)

// TestThumbprintRFC9679 is the example of RFC 9679 §6, with alg added, which the
// thumbprint leaves out.
func TestThumbprintRFC9679(t *testing.T) {
	x, _ := hex.DecodeString("65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d")
	y, _ := hex.DecodeString("1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c")
	key := ec2Key(x, y)
	got, err := Thumbprint(key)
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(got[:]) != "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec" {
		t.Fatalf("got %x", got)
	}
	// Another order of the members is the same key.
	other := append([]byte{0xA5, 0x20, 0x01, 0x22, 0x58, 0x20}, y...)
	other = append(append(other, 0x21, 0x58, 0x20), x...)
	other = append(other, 0x03, 0x26, 0x01, 0x02)
	if again, err := Thumbprint(other); err != nil || again != got {
		t.Fatalf("%x %v", again, err)
	}
	if _, err := Thumbprint(append(key, 0)); !errors.Is(err, ErrKeyUnsupported) {
		t.Fatal("a byte behind the key is accepted")
	}
}

func ec2Key(x, y []byte) []byte {
	b := appendCBORBytes([]byte{0xA5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21}, x)
	return appendCBORBytes(append(b, 0x22), y)
}

func rsaKey(n, e []byte) []byte {
	b := appendCBORBytes([]byte{0xA4, 0x01, 0x03, 0x03, 0x39, 0x01, 0x00, 0x20}, n)
	return appendCBORBytes(append(b, 0x21), e)
}

func okpKey(x []byte) []byte {
	return appendCBORBytes([]byte{0xA4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21}, x)
}

func TestParseKeyForms(t *testing.T) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := priv.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y := point[1:33], point[33:]
	good := ec2Key(x, y)
	n := bytes.Repeat([]byte{0xC1}, 256)
	e := []byte{1, 0, 1}
	change := func(key []byte, at int, v byte) []byte {
		key = bytes.Clone(key)
		key[at] = v
		return key
	}
	// A coordinate that ends in zero, for a key that leaves the zero off.
	var ends []byte
	for ends == nil || ends[32] != 0 {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		ends, _ = k.PublicKey.Bytes()
	}
	p := elliptic.P256().Params().P.Bytes()
	for _, tc := range []struct {
		name string
		key  []byte
		ok   bool
	}{
		{"ES256", good, true},
		{"EdDSA", okpKey(x), true},
		{"RS256 2048", rsaKey(n, e), true},
		{"RS256 4096", rsaKey(bytes.Repeat(n, 2), e), true},
		{"empty", nil, false},
		{"empty map", []byte{0xA0}, false},
		{"not a map", []byte{0x80}, false},
		{"cut off", good[:len(good)-1], false},
		{"alg ES384", change(good, 4, 0x38), false},
		{"alg ES256K", append(append([]byte{0xA5, 1, 2, 3, 0x38, 46}, good[5:]...), nil...), false},
		{"curve P-384", change(good, 6, 2), false},
		{"kty OKP", change(good, 2, 1), false},
		{"kty RSA", change(good, 2, 3), false},
		{"kty twice", change(good, 3, 1), false},
		{"compressed point", append(append(bytes.Clone(good[:7+1+2+32]), 0x22), 0xF5), false},
		{"x short", ec2Key(x[1:], y), false},
		{"x without its last zero", ec2Key(ends[1:32], ends[33:]), false},
		{"x twice", append(change(okpKey(x), 0, 0xA5), okpKey(x)[7:]...), false},
		{"x long", ec2Key(append([]byte{0}, x...), y), false},
		{"x not reduced", ec2Key(p, y), false},
		{"point at infinity", ec2Key(make([]byte, 32), make([]byte, 32)), false},
		{"off curve", ec2Key(y, x), false},
		{"extra member", append(change(good, 0, 0xA6), 0x04, 0x41, 0x00), false},
		{"indefinite map", append(change(good, 0, 0xBF), 0xFF), false},
		{"number not minimal", append([]byte{0xA5, 0x18, 0x01}, good[2:]...), false},
		{"tagged", append([]byte{0xC1}, good...), false},
		{"OKP short", okpKey(x[1:]), false},
		{"OKP with curve X25519", change(okpKey(x), 6, 4), false},
		{"OKP alg ES256", change(okpKey(x), 4, 0x26), false},
		{"RSA 2040 bit", rsaKey(n[1:], e), false},
		{"RSA 2047 bit", rsaKey(change(n, 0, 0x7F), e), false},
		{"RSA padded modulus", rsaKey(append([]byte{0}, n...), e), false},
		{"RSA even modulus", rsaKey(change(n, 255, 0xC0), e), false},
		{"RSA over 4096 bit", rsaKey(append(bytes.Repeat(n, 2), 0xC1), e), false},
		{"RSA exponent 1", rsaKey(n, []byte{1}), false},
		{"RSA exponent even", rsaKey(n, []byte{1, 0, 0}), false},
		{"RSA exponent empty", rsaKey(n, nil), false},
		{"RSA exponent padded", rsaKey(n, []byte{0, 1, 0, 1}), false},
		{"RSA exponent huge", rsaKey(n, []byte{0xFF, 0xFF, 0xFF, 0xFF}), false},
		{"RSA alg RS1", append(append([]byte{0xA4, 1, 3, 3, 0x39, 0xFF, 0xFE}, rsaKey(n, e)[7:]...), nil...), false},
		{"RSA alg PS256", append(append([]byte{0xA4, 1, 3, 3, 0x38, 36}, rsaKey(n, e)[7:]...), nil...), false},
	} {
		k, err := parseStoredKey(tc.key)
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
		if err == nil {
			if _, err := webauthncose.ParsePublicKey(tc.key); err != nil {
				t.Errorf("%s: the library refuses what we accept: %v", tc.name, err)
			}
			if k.ec == nil && k.ed == nil && k.rsa == nil {
				t.Errorf("%s: no key", tc.name)
			}
		}
	}
}

// TestSignaturesAgree compares verification with the library's over right and
// wrong signatures of each algorithm.
func TestSignaturesAgree(t *testing.T) {
	message := []byte("what was signed")
	for _, alg := range []int{ES256, EdDSA, RS256} {
		key, sign := softauthn.TestKey(alg)
		k, err := parseStoredKey(key)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := webauthncose.ParsePublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		sig := sign(message)
		if !k.verify(message, sig) {
			t.Fatal("positive control")
		}
		cases := [][]byte{sig, nil, {0}, sig[:len(sig)-1], append(bytes.Clone(sig), 0)}
		for i := range sig {
			bent := bytes.Clone(sig)
			bent[i] ^= 0x01
			cases = append(cases, bent)
		}
		for _, c := range cases {
			ok, err := webauthncose.VerifySignature(theirs, message, c)
			if got := k.verify(message, c); got != (ok && err == nil) {
				t.Fatalf("alg %d, signature %x: %v, the library %v %v", alg, c, got, ok, err)
			}
		}
	}
}
