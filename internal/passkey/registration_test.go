package passkey_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/fault"
	"sealgate/internal/passkey"
	"sealgate/internal/softauthn"
)

func TestRegistrationFaults(t *testing.T) {
	for _, tc := range []struct {
		name   string
		faults faults
		want   *fault.Error
	}{
		{"user not verified", faults{softauthn.WithoutUV}, passkey.ErrUserVerification},
		{"user not present", faults{softauthn.WithoutUP}, passkey.ErrUserPresence},
		{"other ceremony type", faults{softauthn.WrongType}, passkey.ErrMalformed},
		{"other challenge", faults{softauthn.WrongChallenge}, passkey.ErrChallenge},
		{"challenge padded", faults{softauthn.PaddedChallenge}, passkey.ErrChallenge},
		{"challenge a number", faults{softauthn.ChallengeAsNumber}, passkey.ErrMalformed},
		{"other origin", faults{softauthn.WrongOrigin("https://evil.example")}, passkey.ErrOrigin},
		{"other RP ID", faults{softauthn.WrongRPID}, passkey.ErrRPID},
		{"BS without BE", faults{softauthn.BSWithoutBE}, passkey.ErrMalformed},
		{"in a frame", faults{softauthn.CrossOrigin}, passkey.ErrOrigin},
		{"topOrigin without crossOrigin", faults{softauthn.TopOriginWithoutCrossOrigin(origin)}, passkey.ErrOrigin},
		{"tokenBinding", faults{softauthn.TokenBinding}, nil},
		{"tokenBinding of wrong type", faults{softauthn.BadTokenBinding}, passkey.ErrMalformed},
		{"unsolicited extension outputs", faults{softauthn.Unsolicited}, nil},
		{"bytes left over in authenticator data", faults{softauthn.LeftoverBytes}, passkey.ErrMalformed},
		{"trailing data", faults{softauthn.TrailingData}, passkey.ErrMalformed},
		{"id is not rawId", faults{softauthn.IDMismatch}, passkey.ErrMalformed},
		{"padded base64url", faults{softauthn.PaddedBase64}, passkey.ErrMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, kind := range []softauthn.Attestation{softauthn.None, softauthn.PackedSelf, softauthn.PackedX5C} {
				rp := newRP(t, func(c *passkey.Config) { c.Attestation = passkey.AttestationMonitor })
				o := softauthn.Options{Attestation: kind}
				if _, err := register(t, rp, softauthn.New(o)); err != nil {
					t.Fatalf("positive control: %v", err)
				}
				_, err := register(t, rp, softauthn.New(o), tc.faults...)
				if tc.want == nil && err != nil {
					t.Fatal(err)
				}
				if tc.want != nil {
					wantFault(t, err, tc.want)
				}
			}
		})
	}
}

// TestForgedAttestation: a statement that does not verify is refused under every policy.
func TestForgedAttestation(t *testing.T) {
	authority := newAuthority(t)
	for _, policy := range []passkey.AttestationPolicy{passkey.AttestationMonitor, passkey.AttestationEnforced} {
		for _, kind := range []softauthn.Attestation{softauthn.PackedSelf, softauthn.PackedX5C, softauthn.FIDOU2F} {
			rp := newRP(t, func(c *passkey.Config) {
				c.Attestation, c.AttestationRoots = policy, []*x509.Certificate{authority.Certificate}
			})
			o := softauthn.Options{Attestation: kind, Authority: authority}
			c, err := register(t, rp, softauthn.New(o))
			if policy == passkey.AttestationEnforced && kind == softauthn.PackedSelf {
				wantFault(t, err, passkey.ErrAttestation)
			} else if err != nil || c.Attested != (kind != softauthn.PackedSelf) {
				t.Fatalf("positive control: %+v %v", c, err)
			}
			_, err = register(t, rp, softauthn.New(o), softauthn.BadAttestation)
			wantFault(t, err, passkey.ErrAttestation)
		}
	}
}

// TestOff asks for no attestation, and phones send none.
func TestOff(t *testing.T) {
	rp := newRP(t)
	c, err := register(t, rp, softauthn.New(softauthn.Options{Attestation: softauthn.PackedX5C}))
	if err != nil || c.AttestationFormat != "none" || c.Attested {
		t.Fatalf("%+v %v", c, err)
	}
}

// TestOffJudgesWhatIsSent: a statement sent unasked is not trusted, and a forged
// one is refused all the same.
func TestOffJudgesWhatIsSent(t *testing.T) {
	authority := newAuthority(t)
	asking := newRP(t, func(c *passkey.Config) { c.Attestation = passkey.AttestationMonitor })
	off := newRP(t)
	challenge := newChallenge()
	options, err := asking.CreationOptions(user(), challenge, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []faults{nil, {softauthn.BadAttestation}} {
		response, _, err := softauthn.New(softauthn.Options{Attestation: softauthn.PackedX5C, Authority: authority}).Create(origin, options, f...)
		if err != nil {
			t.Fatal(err)
		}
		c, _, err := off.Register(response, user(), challenge)
		if f != nil {
			wantFault(t, err, passkey.ErrAttestation)
		} else if err != nil || c.Attested {
			t.Fatalf("positive control: %+v %v", c, err)
		}
	}
}

// TestUnknownFormat: a format nobody knows proves nothing; it is refused only
// where proof is asked for.
func TestUnknownFormat(t *testing.T) {
	authority := newAuthority(t)
	for _, policy := range []passkey.AttestationPolicy{passkey.AttestationMonitor, passkey.AttestationEnforced} {
		rp := newRP(t, func(c *passkey.Config) {
			c.Attestation, c.AttestationRoots = policy, []*x509.Certificate{authority.Certificate}
		})
		challenge := newChallenge()
		options, err := rp.CreationOptions(user(), challenge, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, _, err := softauthn.New(softauthn.Options{Attestation: softauthn.PackedX5C, Authority: authority}).Create(origin, options)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := rp.Register(response, user(), challenge); err != nil {
			t.Fatalf("positive control: %v", err)
		}
		// "packed" becomes "future": the same length, so the CBOR stays right.
		response = edit(t, response, func(_, inner map[string]any) {
			object := decode(t, inner["attestationObject"].(string))
			inner["attestationObject"] = encode(bytes.Replace(object, []byte("packed"), []byte("future"), 1))
		})
		c, _, err := rp.Register(response, user(), challenge)
		if policy == passkey.AttestationEnforced {
			wantFault(t, err, passkey.ErrAttestation)
		} else if err != nil || c.Attested || c.AttestationFormat != "future" {
			t.Fatalf("%+v %v", c, err)
		}
	}
}

func TestRegisterGivesCredentialAndEvidence(t *testing.T) {
	rp := newRP(t, func(c *passkey.Config) { c.Attestation = passkey.AttestationMonitor })
	phone := softauthn.New(softauthn.Options{
		AAGUID: model, BackupEligible: true, BackupState: true, Attestation: softauthn.PackedSelf, Transports: []string{"internal", "hybrid"},
	})
	challenge := newChallenge()
	options, err := rp.CreationOptions(user(), challenge, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, id, err := phone.Create(origin, options)
	if err != nil {
		t.Fatal(err)
	}
	c, evidence, err := rp.Register(response, user(), challenge)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(c.ID, id) || !bytes.Equal(c.UserHandle, handle) || c.AAGUID != model || !c.BackupEligible || !c.BackupState ||
		c.AttestationFormat != "packed" || c.Attested || c.Algorithm != passkey.ES256 || strings.Join(c.Transports, " ") != "internal hybrid" {
		t.Fatalf("got %+v", c)
	}
	if !bytes.Contains(evidence.ClientDataJSON, []byte(origin)) || !bytes.Contains(evidence.AttestationObject, c.PublicKey) {
		t.Fatal("the evidence is not what was sent")
	}
	if _, err := passkey.Thumbprint(c.PublicKey); err != nil {
		t.Fatal(err)
	}
	// The same answer for another challenge, or read as an assertion.
	_, _, err = rp.Register(response, user(), newChallenge())
	wantFault(t, err, passkey.ErrChallenge)
	_, err = passkey.ParseAssertion(response)
	wantFault(t, err, passkey.ErrMalformed)
	// authenticatorData beside the attestation object must be the same.
	bent := edit(t, response, func(_, inner map[string]any) { inner["authenticatorData"] = inner["publicKey"] })
	_, _, err = rp.Register(bent, user(), challenge)
	wantFault(t, err, passkey.ErrMalformed)
	// Another id than the attested one.
	bent = edit(t, response, func(top, _ map[string]any) { top["id"], top["rawId"] = "AAAA", "AAAA" })
	_, _, err = rp.Register(bent, user(), challenge)
	wantFault(t, err, passkey.ErrMalformed)
	_, _, err = rp.Register(bytes.Repeat([]byte("{"), passkey.MaxResponse+1), user(), challenge)
	if fault.From(err).Kind != fault.TooLarge {
		t.Fatalf("got %v", err)
	}
	if _, _, err := rp.Register(response, passkey.User{}, challenge); err == nil {
		t.Fatal("a user without handle is accepted")
	}
	if _, _, err := rp.Register(response, user(), nil); err == nil {
		t.Fatal("an empty challenge is accepted")
	}
}

// TestAlgorithmNotOffered: the phone may only use what was asked.
func TestAlgorithmNotOffered(t *testing.T) {
	narrow := newRP(t, func(c *passkey.Config) { c.Algorithms = []int{passkey.ES256} })
	wide := newRP(t)
	challenge := newChallenge()
	for alg, ok := range map[int]bool{passkey.ES256: true, passkey.EdDSA: false, passkey.RS256: false} {
		options, err := wide.CreationOptions(user(), challenge, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, _, err := softauthn.New(softauthn.Options{Algorithm: alg}).Create(origin, options)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = narrow.Register(response, user(), challenge)
		if ok && err != nil {
			t.Fatal(err)
		}
		if !ok {
			wantFault(t, err, passkey.ErrKeyUnsupported)
		}
	}
	options, err := narrow.CreationOptions(user(), challenge, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := softauthn.New(softauthn.Options{Algorithm: passkey.RS256}).Create(origin, options); !errors.Is(err, softauthn.ErrNotSupported) {
		t.Fatalf("got %v", err)
	}
}

func TestCreationOptions(t *testing.T) {
	rp := newRP(t, func(c *passkey.Config) { c.Attestation = passkey.AttestationMonitor; c.Timeout = 90 * time.Second })
	b, err := rp.CreationOptions(user(), bytes.Repeat([]byte{0xFB}, 32), [][]byte{{1, 2, 3}})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"rp":{"id":"id.example","name":"Sealgate"},` +
		`"user":{"id":"WlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlo","name":"測試手機","displayName":"測試民眾"},` +
		`"challenge":"-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s",` +
		`"pubKeyCredParams":[{"type":"public-key","alg":-7},{"type":"public-key","alg":-8},{"type":"public-key","alg":-257}],` +
		`"timeout":90000,"excludeCredentials":[{"type":"public-key","id":"AQID"}],` +
		`"authenticatorSelection":{"residentKey":"required","requireResidentKey":true,"userVerification":"required"},` +
		`"hints":["client-device"],"attestation":"direct"}`
	if string(b) != want {
		t.Fatalf("got\n%s\nwant\n%s", b, want)
	}
	if b, err = newRP(t).CreationOptions(user(), newChallenge(), nil); err != nil || !bytes.Contains(b, []byte(`"attestation":"none"`)) {
		t.Fatalf("%s %v", b, err)
	}
	for _, u := range []passkey.User{{}, {Handle: handle}, {Handle: make([]byte, 65), Name: "x"}} {
		if _, err := rp.CreationOptions(u, newChallenge(), nil); err == nil {
			t.Errorf("%+v is accepted", u)
		}
	}
	for _, n := range []int{0, 15, 65} {
		if _, err := rp.CreationOptions(user(), make([]byte, n), nil); err == nil {
			t.Errorf("a challenge of %d bytes is accepted", n)
		}
		if _, err := rp.RequestOptions(make([]byte, n), nil); err == nil {
			t.Errorf("a challenge of %d bytes is accepted", n)
		}
	}
}

func TestRequestOptions(t *testing.T) {
	rp := newRP(t)
	b, err := rp.RequestOptions(bytes.Repeat([]byte{0}, 32), nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"challenge":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","timeout":120000,"rpId":"id.example","userVerification":"required"}`
	if string(b) != want {
		t.Fatalf("got %s", b)
	}
	b, err = rp.RequestOptions(newChallenge(), [][]byte{{1}}, "hybrid")
	if err != nil || !bytes.Contains(b, []byte(`"allowCredentials":[{"type":"public-key","id":"AQ"}]`)) || !bytes.Contains(b, []byte(`"hints":["hybrid"]`)) {
		t.Fatalf("%s %v", b, err)
	}
	if _, err := rp.RequestOptions(newChallenge(), nil, "telepathy"); err == nil {
		t.Fatal("an unknown hint is accepted")
	}
	if _, err := rp.RequestOptions(newChallenge(), make([][]byte, 65)); err == nil {
		t.Fatal("too many credentials are accepted")
	}
	if !json.Valid(b) {
		t.Fatal("not JSON")
	}
}

func TestConfig(t *testing.T) {
	good := func() passkey.Config { return passkey.Config{RPID: rpID, Origins: []string{origin}} }
	for name, change := range map[string]func(c *passkey.Config){
		"nothing changed":     func(*passkey.Config) {},
		"sub-domain":          func(c *passkey.Config) { c.Origins = append(c.Origins, "https://app.id.example") },
		"port":                func(c *passkey.Config) { c.Origins = []string{"https://id.example:8443"} },
		"localhost over http": func(c *passkey.Config) { c.RPID, c.Origins = "localhost", []string{"http://localhost:8080"} },
		"related origin": func(c *passkey.Config) {
			c.Origins = append(c.Origins, "https://a.other")
			c.RelatedOrigins = []string{"https://a.other"}
		},
		"! no RPID":                func(c *passkey.Config) { c.RPID = "" },
		"! RPID upper case":        func(c *passkey.Config) { c.RPID = "ID.example" },
		"! RPID with port":         func(c *passkey.Config) { c.RPID = "id.example:443" },
		"! RPID an origin":         func(c *passkey.Config) { c.RPID = origin },
		"! no origin":              func(c *passkey.Config) { c.Origins = nil },
		"! origin with path":       func(c *passkey.Config) { c.Origins = []string{origin + "/"} },
		"! origin with query":      func(c *passkey.Config) { c.Origins = []string{origin + "?a"} },
		"! origin upper case":      func(c *passkey.Config) { c.Origins = []string{"https://ID.example"} },
		"! origin default port":    func(c *passkey.Config) { c.Origins = []string{origin + ":443"} },
		"! origin http":            func(c *passkey.Config) { c.Origins = []string{"http://id.example"} },
		"! origin of another site": func(c *passkey.Config) { c.Origins = []string{"https://xid.example"} },
		"! origin with userinfo":   func(c *passkey.Config) { c.Origins = []string{"https://u@id.example"} },
		"! top origin with path":   func(c *passkey.Config) { c.TopOrigins = []string{origin + "/x"} },
		"! related, not listed":    func(c *passkey.Config) { c.RelatedOrigins = []string{"https://a.other"} },
		"! ES256K":                 func(c *passkey.Config) { c.Algorithms = []int{-47} },
		"! RS1":                    func(c *passkey.Config) { c.Algorithms = []int{passkey.ES256, -65535} },
		"! enforced without roots": func(c *passkey.Config) { c.Attestation = passkey.AttestationEnforced },
		"! unknown policy":         func(c *passkey.Config) { c.Attestation = 9 },
		"! filter without policy":  func(c *passkey.Config) { c.PermittedAAGUIDs = []uuid.UUID{model} },
	} {
		c := good()
		change(&c)
		_, err := passkey.New(c)
		if (err != nil) != strings.HasPrefix(name, "!") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
