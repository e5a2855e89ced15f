package passkey_test

import (
	"crypto/x509"
	"testing"

	"github.com/google/uuid"

	"sealgate/internal/fault"
	"sealgate/internal/passkey"
	"sealgate/internal/softauthn"
)

// The cases a measured run of the WebAuthn library decided otherwise than a
// relying party like ours must. Each is named after its case in that run; an
// accepted ceremony of the same kind stands before each refusal.

type faults = []softauthn.Fault

func TestGapsRegistration(t *testing.T) {
	es256 := softauthn.Options{Algorithm: softauthn.ES256}
	x5c := softauthn.Options{Algorithm: softauthn.ES256, Attestation: softauthn.PackedX5C, AAGUID: model}
	rs256 := softauthn.Options{Algorithm: softauthn.RS256}
	u2f := softauthn.Options{Algorithm: softauthn.ES256, Attestation: softauthn.FIDOU2F, AAGUID: model}
	for _, tc := range []struct {
		name   string
		phone  softauthn.Options
		faults faults
		want   *fault.Error // nil: to be accepted
	}{
		{"AttResp-2 X-4 origin with path", es256, faults{softauthn.OriginWithPath}, passkey.ErrOrigin},
		{"AttResp-2 X-4 origin with userinfo", es256, faults{softauthn.OriginWithUserinfo}, passkey.ErrOrigin},
		{"AttResp-2 X-5 origin upper case", es256, faults{softauthn.OriginUpperCase}, passkey.ErrOrigin},
		{"AttResp-2 X-5 origin with default port", es256, faults{softauthn.OriginWithDefaultPort}, passkey.ErrOrigin},
		{"AttResp-2 X-9 clientDataJSON keys in other case", es256, faults{softauthn.OtherCaseKeys}, passkey.ErrMalformed},
		{"AttResp-2 X-10 duplicate challenge keys, last wins", es256, faults{softauthn.DuplicateKeys}, passkey.ErrMalformed},
		{"AttResp-2 X-10 duplicate challenge keys, first wins", es256, faults{softauthn.DuplicateKeysRightFirst}, passkey.ErrMalformed},
		{"AttResp-2 X-11 UTF-8 BOM before clientDataJSON", es256, faults{softauthn.BOM}, nil},
		{"AttResp-3 X-7 credential key: EC point not on curve", x5c, faults{softauthn.OffCurveKey}, passkey.ErrKeyUnsupported},
		{"AttResp-3 X-8 credential key: crv P-384 with ES256", x5c, faults{softauthn.CurveMismatch}, passkey.ErrKeyUnsupported},
		{"AttResp-3 X-9 credential key: kty OKP with ES256", x5c, faults{softauthn.KtyMismatch}, passkey.ErrKeyUnsupported},
		{"AttResp-3 X-10 credential key: coordinates missing", x5c, faults{softauthn.MissingCoordinates}, passkey.ErrKeyUnsupported},
		{"AttResp-3 X-14 RSA key 512 bit (fmt none)", rs256, faults{softauthn.WeakRSA(512)}, passkey.ErrKeyUnsupported},
		{"AttResp-3 X-14 RSA key 1024 bit (fmt none)", rs256, faults{softauthn.WeakRSA(1024)}, passkey.ErrKeyUnsupported},
		{"AttResp-3 X-15 fmt none + off-curve EC point", es256, faults{softauthn.OffCurveKey}, passkey.ErrKeyUnsupported},
		{"AttResp-5 F-10 full chain including root", x5c, faults{softauthn.FullChain}, passkey.ErrAttestation},
		{"AttResp-8 F-1 u2f with non-zero AAGUID", u2f, faults{softauthn.KeepAAGUID}, passkey.ErrAttestation},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rp := newRP(t, func(c *passkey.Config) { c.Attestation = passkey.AttestationMonitor })
			if _, err := register(t, rp, softauthn.New(tc.phone)); err != nil {
				t.Fatalf("positive control: %v", err)
			}
			_, err := register(t, rp, softauthn.New(tc.phone), tc.faults...)
			if tc.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantFault(t, err, tc.want)
		})
	}
}

func TestGapsAssertion(t *testing.T) {
	for _, tc := range []struct {
		name   string
		faults faults
		want   *fault.Error
	}{
		{"AsrResp-1 X-4 base64url with padding in signature", faults{softauthn.PaddedBase64}, passkey.ErrMalformed},
		{"AsrResp-2 X-4 origin with path", faults{softauthn.OriginWithPath}, passkey.ErrOrigin},
		{"AsrResp-2 X-4 origin with userinfo", faults{softauthn.OriginWithUserinfo}, passkey.ErrOrigin},
		{"AsrResp-2 X-5 origin upper case", faults{softauthn.OriginUpperCase}, passkey.ErrOrigin},
		{"AsrResp-2 X-9 clientDataJSON keys in other case", faults{softauthn.OtherCaseKeys}, passkey.ErrMalformed},
		{"AsrResp-2 X-10 duplicate challenge keys, last wins", faults{softauthn.DuplicateKeys}, passkey.ErrMalformed},
		{"AsrResp-2 X-11 UTF-8 BOM before clientDataJSON", faults{softauthn.BOM}, nil},
		// The conformance tool wants these two accepted when verification is only
		// preferred or discouraged. WebAuthn requires presence (§7.2 step 17), and
		// here verification is always required.
		{"AsrResp-3 P-4 UV and UP clear, preferred", faults{softauthn.WithoutUP, softauthn.WithoutUV}, passkey.ErrUserPresence},
		{"AsrResp-3 P-7 UV and UP clear, discouraged", faults{softauthn.WithoutUP, softauthn.WithoutUV}, passkey.ErrUserPresence},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rp := newRP(t)
			phone := softauthn.New(softauthn.Options{Algorithm: softauthn.ES256})
			c, err := register(t, rp, phone)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := login(t, rp, phone, c); err != nil {
				t.Fatalf("positive control: %v", err)
			}
			_, err = login(t, rp, phone, c, tc.faults...)
			if tc.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantFault(t, err, tc.want)
		})
	}
}

var model = uuid.MustParse("6a1ed5f0-4c26-4f0e-9d21-6b1f6bd1c0de")

// enforced makes a relying party that trusts the authority's models only.
func enforced(t *testing.T, authority *softauthn.Authority, permitted ...uuid.UUID) *passkey.RelyingParty {
	t.Helper()
	return newRP(t, func(c *passkey.Config) {
		c.Attestation = passkey.AttestationEnforced
		c.AttestationRoots = []*x509.Certificate{authority.Certificate}
		c.PermittedAAGUIDs = permitted
	})
}

func newAuthority(t *testing.T) *softauthn.Authority {
	t.Helper()
	a, err := softauthn.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestGapsAttestation holds the cases about what an attestation is worth.
func TestGapsAttestation(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	good := softauthn.Options{Attestation: softauthn.PackedX5C, Authority: ours, AAGUID: model}
	control := func(t *testing.T, rp *passkey.RelyingParty) {
		t.Helper()
		c, err := register(t, rp, softauthn.New(good))
		if err != nil || !c.Attested || c.AAGUID != model || c.AttestationFormat != "packed" {
			t.Fatalf("positive control: %+v %v", c, err)
		}
	}
	for _, tc := range []struct {
		name  string
		rp    *passkey.RelyingParty
		phone softauthn.Options
	}{
		{"AttResp-7 X-1 fmt none + MDS configured + unknown AAGUID", enforced(t, ours),
			softauthn.Options{AAGUID: uuid.New()}},
		{"Advisory GHSA-6hxq-nomds chain without an anchor", enforced(t, ours),
			softauthn.Options{Attestation: softauthn.PackedX5C, Authority: other, AAGUID: model}},
		{"self attestation is not enough", enforced(t, ours),
			softauthn.Options{Attestation: softauthn.PackedSelf, AAGUID: model}},
		{"Filter X-1 PermittedAAGUIDs set, zero AAGUID, fmt none", enforced(t, ours, model),
			softauthn.Options{}},
		{"Filter X-2 PermittedAAGUIDs set, listed AAGUID claimed with fmt none", enforced(t, ours, model),
			softauthn.Options{AAGUID: model}},
		{"Filter X-3 PermittedAAGUIDs set, another attested model", enforced(t, ours, model),
			softauthn.Options{Attestation: softauthn.PackedX5C, Authority: ours, AAGUID: uuid.New()}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			control(t, tc.rp)
			_, err := register(t, tc.rp, softauthn.New(tc.phone))
			wantFault(t, err, passkey.ErrAttestation)
		})
	}
	t.Run("Advisory GHSA-6hxq-nomds same, no MDS provider configured", func(t *testing.T) {
		rp := newRP(t, func(c *passkey.Config) { c.Attestation = passkey.AttestationMonitor })
		c, err := register(t, rp, softauthn.New(good))
		if err != nil || c.Attested {
			t.Fatalf("without anchors nothing is attested: %+v %v", c, err)
		}
	})
	t.Run("Filter needs enforced attestation", func(t *testing.T) {
		for _, policy := range []passkey.AttestationPolicy{passkey.AttestationOff, passkey.AttestationMonitor} {
			_, err := passkey.New(passkey.Config{RPID: rpID, Origins: []string{origin}, Attestation: policy, PermittedAAGUIDs: []uuid.UUID{model}})
			if err == nil {
				t.Fatal("a filter on what anybody can claim must not be accepted")
			}
		}
	})
}

// TestGapSessionX2Replay: nothing here remembers a challenge, so that the caller
// must consume it. What can be seen here: a replay dies at the counter, and
// never fits another challenge.
func TestGapSessionX2Replay(t *testing.T) {
	rp := newRP(t)
	phone := softauthn.New(softauthn.Options{})
	c, err := register(t, rp, phone)
	if err != nil {
		t.Fatal(err)
	}
	challenge := newChallenge()
	options, err := rp.RequestOptions(challenge, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := phone.Get(origin, options)
	if err != nil {
		t.Fatal(err)
	}
	a, err := passkey.ParseAssertion(response)
	if err != nil {
		t.Fatal(err)
	}
	v, err := rp.Verify(a, *c, challenge)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rp.Verify(a, *c, challenge); err != nil {
		t.Fatalf("Verify keeps no state, so the same answer passes: %v", err)
	}
	c.SignCount = v.NewSignCount
	_, err = rp.Verify(a, *c, challenge)
	wantFault(t, err, passkey.ErrCounter)
	_, err = rp.Verify(a, *c, newChallenge())
	wantFault(t, err, passkey.ErrChallenge)
}
