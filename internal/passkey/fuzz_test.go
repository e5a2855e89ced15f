package passkey

import (
	"bytes"
	"testing"
	"time"

	"github.com/go-webauthn/webauthn/protocol"

	"sealgate/internal/fault"
	"sealgate/internal/softauthn"
)

// seeds gives good responses and the W3C vectors to start from.
func seeds(f *testing.F) (registrations, assertions [][]byte) {
	rp, err := New(Config{RPID: "id.example", Origins: []string{"https://id.example"}, Attestation: AttestationMonitor})
	if err != nil {
		f.Fatal(err)
	}
	challenge := make([]byte, 32)
	creation, err := rp.CreationOptions(User{Handle: []byte{1}, Name: "x"}, challenge, nil)
	if err != nil {
		f.Fatal(err)
	}
	request, err := rp.RequestOptions(challenge, nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, o := range []softauthn.Options{
		{}, {Algorithm: EdDSA}, {Algorithm: RS256}, {Attestation: softauthn.PackedSelf}, {Attestation: softauthn.PackedX5C},
		{Attestation: softauthn.FIDOU2F},
	} {
		phone := softauthn.New(o)
		r, _, err := phone.Create("https://id.example", creation, softauthn.Unsolicited)
		if err != nil {
			f.Fatal(err)
		}
		a, err := phone.Get("https://id.example", request, softauthn.BOM)
		if err != nil {
			f.Fatal(err)
		}
		registrations, assertions = append(registrations, r), append(assertions, a)
	}
	for _, v := range loadVectors(f).Vectors {
		registrations = append(registrations, responseJSON(f, v.CredentialID, map[string][]byte{
			"clientDataJSON": v.Registration.ClientDataJSON, "attestationObject": v.Registration.AttestationObject}))
		assertions = append(assertions, responseJSON(f, v.CredentialID, map[string][]byte{
			"clientDataJSON": v.Assertion.ClientDataJSON, "authenticatorData": v.Assertion.AuthenticatorData, "signature": v.Assertion.Signature}))
	}
	return registrations, assertions
}

// FuzzParseAssertion: no panic; what is accepted, the library reads too and
// finds the same in it; what is refused is refused with our code.
func FuzzParseAssertion(f *testing.F) {
	_, assertions := seeds(f)
	for _, a := range assertions {
		f.Add(a)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := ParseAssertion(data)
		if err != nil {
			if fault.CodeOf(err) != ErrMalformed.Code {
				t.Fatalf("%v", err)
			}
			return
		}
		if bytes.HasPrefix(a.ClientDataJSON, []byte("\xEF\xBB\xBF")) {
			return // the library cannot read a BOM
		}
		theirs, err := protocol.ParseCredentialRequestResponseBytes(data)
		if err != nil {
			// The library judges the types of unsolicited extension outputs.
			return
		}
		if string(a.client.challenge) != theirs.Response.CollectedClientData.Challenge ||
			string(a.client.origin) != theirs.Response.CollectedClientData.Origin ||
			string(a.client.typ) != string(theirs.Response.CollectedClientData.Type) ||
			a.client.crossOrigin != theirs.Response.CollectedClientData.CrossOrigin ||
			a.auth.signCount != theirs.Response.AuthenticatorData.Counter ||
			a.auth.flags != byte(theirs.Response.AuthenticatorData.Flags) ||
			!bytes.Equal(a.Signature, theirs.Response.Signature) ||
			!bytes.Equal(a.CredentialID, theirs.RawID) {
			t.Fatalf("read differently: %+v %+v", a, theirs)
		}
	})
}

// FuzzRegister: no panic from the parser to the attestation's judgement. The
// JSON around the two members is the same that FuzzParseAssertion bends.
func FuzzRegister(f *testing.F) {
	registrations, _ := seeds(f)
	for _, r := range registrations {
		c, err := parseCredential(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(c.clientDataJSON, c.attestationObject)
	}
	rp, err := New(Config{RPID: "id.example", Origins: []string{"https://id.example"}, Attestation: AttestationMonitor})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, client, object []byte) {
		reg := &registration{credentialJSON: credentialJSON{clientDataJSON: client, attestationObject: object}}
		var err error
		if reg.client, err = parseClientData(client); err != nil {
			return
		}
		if reg.object, err = parseAttestationObject(object); err != nil {
			return
		}
		if reg.auth, err = parseAuthData(reg.object.RawAuthData, true); err != nil {
			if c := fault.CodeOf(err); c != ErrMalformed.Code && c != ErrKeyUnsupported.Code {
				t.Fatalf("%v", err)
			}
			return
		}
		if _, _, err := rp.judgeAttestation(reg, time.Now()); err != nil && fault.CodeOf(err) != ErrAttestation.Code {
			t.Fatalf("%v", err)
		}
	})
}

// FuzzParseKey: what we accept, the library accepts, and its thumbprint does not
// depend on what follows.
func FuzzParseKey(f *testing.F) {
	for _, alg := range []int{ES256, EdDSA, RS256} {
		key, _ := softauthn.TestKey(alg)
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, n, err := parseKey(data)
		if err != nil {
			return
		}
		if _, err := Thumbprint(data[:n]); err != nil {
			t.Fatal(err)
		}
	})
}
