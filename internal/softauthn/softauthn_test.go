package softauthn_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"

	"sealgate/internal/softauthn"
)

const origin = "https://id.example"

var challenge = base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))

func creation(userHandle, attestation string, more string) []byte {
	id := base64.RawURLEncoding.EncodeToString([]byte(userHandle))
	return []byte(`{"rp":{"id":"id.example","name":"x"},"user":{"id":"` + id + `","name":"n","displayName":"d"},"challenge":"` + challenge +
		`","pubKeyCredParams":[{"type":"public-key","alg":-7},{"type":"public-key","alg":-8},{"type":"public-key","alg":-257}],"attestation":"` +
		attestation + `"` + more + `}`)
}

func request(more string) []byte {
	return []byte(`{"challenge":"` + challenge + `","rpId":"id.example"` + more + `}`)
}

var params = []protocol.CredentialParameter{
	{Type: "public-key", Algorithm: webauthncose.AlgES256}, {Type: "public-key", Algorithm: webauthncose.AlgEdDSA}, {Type: "public-key", Algorithm: webauthncose.AlgRS256},
}

// TestAgainstLibrary: what the soft phone makes satisfies a relying party that
// is not ours, for each algorithm and attestation; and a fault does not.
func TestAgainstLibrary(t *testing.T) {
	for _, alg := range []int{softauthn.ES256, softauthn.EdDSA, softauthn.RS256} {
		for kind, want := range map[softauthn.Attestation]string{softauthn.None: "none", softauthn.PackedSelf: "packed", softauthn.PackedX5C: "packed", softauthn.FIDOU2F: "fido-u2f"} {
			if kind == softauthn.FIDOU2F && alg != softauthn.ES256 {
				continue
			}
			phone := softauthn.New(softauthn.Options{Algorithm: alg, Attestation: kind, AAGUID: [16]byte{1, 2, 3}})
			key := verifyCreation(t, phone, want)
			for _, fault := range []softauthn.Fault{nil, softauthn.BadSignature} {
				var faults []softauthn.Fault
				if fault != nil {
					faults = append(faults, fault)
				}
				response, err := phone.Get(origin, request(""), faults...)
				if err != nil {
					t.Fatal(err)
				}
				a, err := protocol.ParseCredentialRequestResponseBytes(response)
				if err != nil {
					t.Fatal(err)
				}
				err = a.Verify(challenge, "id.example", "", []string{origin}, nil, nil, protocol.TopOriginExplicitVerificationMode, false, true, true, key, protocol.SignaturePolicy{})
				if (err != nil) != (fault != nil) {
					t.Fatalf("algorithm %d, attestation %d: %v", alg, kind, err)
				}
				if string(a.Response.UserHandle) != "anna" {
					t.Fatalf("user handle %q", a.Response.UserHandle)
				}
			}
		}
	}
}

func verifyCreation(t *testing.T, phone *softauthn.Authenticator, format string) []byte {
	t.Helper()
	response, id, err := phone.Create(origin, creation("anna", "direct", ""))
	if err != nil {
		t.Fatal(err)
	}
	c, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Verify(challenge, "id.example", []string{origin}, nil, nil, protocol.TopOriginExplicitVerificationMode, false, true, true, nil, params, protocol.AttestationPolicy{}, protocol.SignaturePolicy{}); err != nil {
		t.Fatal(format, err)
	}
	if c.Response.AttestationObject.Format != format || !bytes.Equal(c.RawID, id) {
		t.Fatalf("format %s", c.Response.AttestationObject.Format)
	}
	return c.Response.AttestationObject.AuthData.AttData.CredentialPublicKey
}

func TestBrowserRules(t *testing.T) {
	phone := softauthn.New(softauthn.Options{})
	if _, err := phone.Get(origin, request("")); !errors.Is(err, softauthn.ErrNotAllowed) {
		t.Fatalf("no credential: %v", err)
	}
	_, first, err := phone.Create(origin, creation("anna", "none", ""))
	if err != nil {
		t.Fatal(err)
	}
	_, second, err := phone.Create("https://app.id.example", creation("ben", "none", ""))
	if err != nil {
		t.Fatal(err)
	}
	id := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	used := func(more string, faults ...softauthn.Fault) string {
		t.Helper()
		b, err := phone.Get(origin, request(more), faults...)
		if err != nil {
			t.Fatal(err)
		}
		var r struct{ ID string }
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatal(err)
		}
		return r.ID
	}
	if used("") != id(second) {
		t.Error("the newest passkey is not taken")
	}
	if used("", softauthn.Choose(first)) != id(first) || used(`,"allowCredentials":[{"type":"public-key","id":"`+id(first)+`"}]`) != id(first) {
		t.Error("the chosen passkey is not taken")
	}
	if _, err := phone.Get(origin, request(`,"allowCredentials":[{"type":"public-key","id":"AAAA"}]`)); !errors.Is(err, softauthn.ErrNotAllowed) {
		t.Errorf("foreign allow list: %v", err)
	}
	for _, o := range []string{"https://evil.example", "https://xid.example", "nonsense"} {
		if _, err := phone.Get(o, request("")); !errors.Is(err, softauthn.ErrSecurity) {
			t.Errorf("%s: %v", o, err)
		}
		if _, _, err := phone.Create(o, creation("anna", "none", "")); !errors.Is(err, softauthn.ErrSecurity) {
			t.Errorf("%s: %v", o, err)
		}
	}
	exclude := `,"excludeCredentials":[{"type":"public-key","id":"` + id(first) + `"}]`
	if _, _, err := phone.Create(origin, creation("carl", "none", exclude)); !errors.Is(err, softauthn.ErrExcluded) {
		t.Errorf("exclude list: %v", err)
	}
	if _, _, err := phone.Create(origin, creation("ben", "none", "")); err != nil || len(phone.Credentials("id.example")) != 2 {
		t.Errorf("a new passkey of the same user replaces the old one: %v", err)
	}
	phone.Forget(first)
	if list := phone.Credentials("id.example"); len(list) != 1 || string(list[0].UserHandle) != "ben" {
		t.Errorf("got %+v", list)
	}
}

func TestSaveAndLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "phone.json")
	phone, err := softauthn.Load(path, softauthn.Options{})
	if err != nil {
		t.Fatal("a missing file is a new phone:", err)
	}
	for _, u := range []string{"anna", "ben"} {
		if _, _, err := phone.Create(origin, creation(u, "none", "")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := phone.Get(origin, request("")); err != nil {
		t.Fatal(err)
	}
	if err := phone.Save(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("private keys with mode %v %v", info.Mode(), err)
	}
	again, err := softauthn.Load(path, softauthn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, want := again.Credentials("id.example"), phone.Credentials("id.example")
	if len(got) != 2 || string(got[1].UserHandle) != "ben" || got[1].Counter != 1 || !bytes.Equal(got[0].ID, want[0].ID) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	if _, err := again.Get(origin, request("")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"version":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := softauthn.Load(path, softauthn.Options{}); err == nil {
		t.Fatal("an unknown version is read")
	}
}

func TestConcurrentUse(t *testing.T) {
	phone := softauthn.New(softauthn.Options{})
	if _, _, err := phone.Create(origin, creation("anna", "none", "")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := phone.Get(origin, request("")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if c := phone.Credentials("id.example")[0].Counter; c != 160 {
		t.Fatalf("counter %d", c)
	}
}

func BenchmarkGet(b *testing.B) {
	phone := softauthn.New(softauthn.Options{})
	if _, _, err := phone.Create(origin, creation("anna", "none", "")); err != nil {
		b.Fatal(err)
	}
	options := request("")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := phone.Get(origin, options); err != nil {
			b.Fatal(err)
		}
	}
}
