package passkey_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"testing"
	"time"

	"github.com/go-webauthn/webauthn/protocol"

	"sealgate/internal/passkey"
	"sealgate/internal/softauthn"
)

// BenchmarkES256 gives an assertion's cost as a multiple of the bare signature
// check, measured in turns in the same run.
func BenchmarkES256(b *testing.B) {
	rp := newRP(b)
	phone := softauthn.New(softauthn.Options{Counter: softauthn.CounterZero})
	c, err := register(b, rp, phone)
	if err != nil {
		b.Fatal(err)
	}
	response, challenge := answer(b, rp, phone)
	key, err := passkey.PublicKey(c.PublicKey)
	if err != nil {
		b.Fatal(err)
	}
	bare := key.(*ecdsa.PublicKey)
	a, err := passkey.ParseAssertion(response)
	if err != nil {
		b.Fatal(err)
	}
	hash := sha256.Sum256(a.ClientDataJSON)
	digest := sha256.Sum256(append(bytes.Clone(a.AuthenticatorData), hash[:]...))
	b.Run("bare ecdsa.VerifyASN1", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !ecdsa.VerifyASN1(bare, digest[:], a.Signature) {
				b.Fatal("refused")
			}
		}
	})
	b.Run("ParseAssertion", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := passkey.ParseAssertion(response); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ParseAssertion and Verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			a, err := passkey.ParseAssertion(response)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := rp.Verify(a, *c, challenge); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ratio", func(b *testing.B) {
		var bareTimes, fullTimes []time.Duration // the median, as other work preempts some
		for b.Loop() {
			start := time.Now()
			if !ecdsa.VerifyASN1(bare, digest[:], a.Signature) {
				b.Fatal("refused")
			}
			middle := time.Now()
			parsed, err := passkey.ParseAssertion(response)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := rp.Verify(parsed, *c, challenge); err != nil {
				b.Fatal(err)
			}
			bareTimes, fullTimes = append(bareTimes, middle.Sub(start)), append(fullTimes, time.Since(middle))
		}
		slices.Sort(bareTimes)
		slices.Sort(fullTimes)
		b.ReportMetric(float64(fullTimes[len(fullTimes)/2])/float64(bareTimes[len(bareTimes)/2]), "x-bare")
	})
	b.Run("the library, parse and verify", func(b *testing.B) {
		b.ReportAllocs()
		expected := base64.RawURLEncoding.EncodeToString(challenge)
		for b.Loop() {
			parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
			if err != nil {
				b.Fatal(err)
			}
			if err := parsed.Verify(expected, rpID, "", []string{origin}, nil, nil, protocol.TopOriginExplicitVerificationMode,
				false, true, true, c.PublicKey, protocol.SignaturePolicy{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("RequestOptions", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := rp.RequestOptions(challenge, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRegister is a whole registration answer without attestation.
func BenchmarkRegister(b *testing.B) {
	rp := newRP(b)
	challenge := newChallenge()
	options, err := rp.CreationOptions(user(), challenge, nil)
	if err != nil {
		b.Fatal(err)
	}
	response, _, err := softauthn.New(softauthn.Options{}).Create(origin, options)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := rp.Register(response, user(), challenge); err != nil {
			b.Fatal(err)
		}
	}
}
