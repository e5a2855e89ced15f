package passkey_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"sealgate/internal/fault"
	"sealgate/internal/passkey"
	"sealgate/internal/softauthn"
)

const (
	rpID   = "id.example"
	origin = "https://id.example"
)

var handle = bytes.Repeat([]byte{0x5A}, 32)

func user() passkey.User {
	return passkey.User{Handle: handle, Name: "測試手機", DisplayName: "測試民眾"}
}

func newRP(t testing.TB, change ...func(*passkey.Config)) *passkey.RelyingParty {
	t.Helper()
	cfg := passkey.Config{RPID: rpID, RPName: "Sealgate", Origins: []string{origin}}
	for _, f := range change {
		f(&cfg)
	}
	rp, err := passkey.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return rp
}

func newChallenge() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return b
}

// register runs a whole registration ceremony.
func register(t testing.TB, rp *passkey.RelyingParty, phone *softauthn.Authenticator, faults ...softauthn.Fault) (*passkey.Credential, error) {
	t.Helper()
	challenge := newChallenge()
	options, err := rp.CreationOptions(user(), challenge, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, _, err := phone.Create(origin, options, faults...)
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := rp.Register(response, user(), challenge)
	return c, err
}

// login runs a whole assertion ceremony.
func login(t testing.TB, rp *passkey.RelyingParty, phone *softauthn.Authenticator, c *passkey.Credential, faults ...softauthn.Fault) (*passkey.Verified, error) {
	t.Helper()
	challenge := newChallenge()
	options, err := rp.RequestOptions(challenge, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := phone.Get(origin, options, faults...)
	if err != nil {
		t.Fatal(err)
	}
	a, err := passkey.ParseAssertion(response)
	if err != nil {
		return nil, err
	}
	return rp.Verify(a, *c, challenge)
}

func wantFault(t testing.TB, err error, want *fault.Error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %s", err, want.Code)
	}
}

func TestHappyPath(t *testing.T) {
	for _, alg := range []int{passkey.ES256, passkey.EdDSA, passkey.RS256} {
		rp := newRP(t)
		phone := softauthn.New(softauthn.Options{Algorithm: alg})
		c, err := register(t, rp, phone)
		if err != nil {
			t.Fatal(alg, err)
		}
		for range 3 {
			v, err := login(t, rp, phone, c)
			if err != nil {
				t.Fatal(alg, err)
			}
			c.SignCount = v.NewSignCount
		}
		if c.SignCount != 3 || c.Algorithm != alg {
			t.Fatalf("got %+v", c)
		}
	}
}
