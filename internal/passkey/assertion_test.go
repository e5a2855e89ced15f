package passkey_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"sealgate/internal/fault"
	"sealgate/internal/passkey"
	"sealgate/internal/softauthn"
)

func TestAssertionFaults(t *testing.T) {
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
		{"other origin", faults{softauthn.WrongOrigin("https://id.example.evil.example")}, passkey.ErrOrigin},
		{"http origin", faults{softauthn.WrongOrigin("http://id.example")}, passkey.ErrOrigin},
		{"origin below the RP ID but not configured", faults{softauthn.WrongOrigin("https://www.id.example")}, passkey.ErrOrigin},
		{"origin with port", faults{softauthn.WrongOrigin("https://id.example:8443")}, passkey.ErrOrigin},
		{"origin with default port", faults{softauthn.OriginWithDefaultPort}, passkey.ErrOrigin},
		{"other RP ID", faults{softauthn.WrongRPID}, passkey.ErrRPID},
		{"counter the same", faults{softauthn.CounterSame}, passkey.ErrCounter},
		{"counter gone back", faults{softauthn.CounterBack}, passkey.ErrCounter},
		{"counter gone to zero", faults{softauthn.CounterAt(0)}, passkey.ErrCounter},
		{"bad signature", faults{softauthn.BadSignature}, passkey.ErrSignature},
		{"signature not DER", faults{softauthn.NotDERSignature}, passkey.ErrSignature},
		// A wrong signature must never suspend a device.
		{"bad signature and counter gone back", faults{softauthn.BadSignature, softauthn.CounterBack}, passkey.ErrSignature},
		{"bad signature and BE flipped", faults{softauthn.BadSignature, softauthn.BEFlipped}, passkey.ErrSignature},
		{"BE flipped", faults{softauthn.BEFlipped}, passkey.ErrBackupChanged},
		{"BS without BE", faults{softauthn.BSWithoutBE}, passkey.ErrMalformed},
		{"in a frame", faults{softauthn.CrossOrigin}, passkey.ErrOrigin},
		{"in a named frame", faults{softauthn.TopOrigin("https://agency.example")}, passkey.ErrOrigin},
		{"topOrigin without crossOrigin", faults{softauthn.TopOriginWithoutCrossOrigin("https://agency.example")}, passkey.ErrOrigin},
		{"tokenBinding", faults{softauthn.TokenBinding}, nil},
		{"tokenBinding of wrong type", faults{softauthn.BadTokenBinding}, passkey.ErrMalformed},
		{"unsolicited extension outputs", faults{softauthn.Unsolicited}, nil},
		{"bytes left over in authenticator data", faults{softauthn.LeftoverBytes}, passkey.ErrMalformed},
		{"attested data in an assertion", faults{softauthn.AttestedDataInAssertion}, passkey.ErrMalformed},
		{"no user handle", faults{softauthn.WithoutUserHandle}, passkey.ErrUserMismatch},
		{"other user handle", faults{softauthn.OtherUserHandle([]byte("somebody else"))}, passkey.ErrUserMismatch},
		{"other credential id", faults{softauthn.OtherCredentialID([]byte("not this one"))}, passkey.ErrUnknownCredential},
		{"trailing data", faults{softauthn.TrailingData}, passkey.ErrMalformed},
		{"id is not rawId", faults{softauthn.IDMismatch}, passkey.ErrMalformed},
		{"duplicate keys, right one first", faults{softauthn.DuplicateKeysRightFirst}, passkey.ErrMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rp := newRP(t)
			phone := softauthn.New(softauthn.Options{})
			c, err := register(t, rp, phone)
			if err != nil {
				t.Fatal(err)
			}
			v, err := login(t, rp, phone, c)
			if err != nil {
				t.Fatalf("positive control: %v", err)
			}
			c.SignCount = v.NewSignCount
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

// TestCounterRule: 0 to 0 is an authenticator without counter; anything else grows.
func TestCounterRule(t *testing.T) {
	for _, tc := range []struct {
		stored, sent uint32
		ok           bool
	}{
		{0, 0, true}, {0, 1, true}, {1, 2, true}, {1, 9, true}, {41, 42, true}, {1<<32 - 2, 1<<32 - 1, true},
		{1, 0, false}, {1, 1, false}, {2, 1, false}, {1<<32 - 1, 0, false},
	} {
		rp := newRP(t)
		phone := softauthn.New(softauthn.Options{})
		c, err := register(t, rp, phone)
		if err != nil {
			t.Fatal(err)
		}
		c.SignCount = tc.stored
		v, err := login(t, rp, phone, c, softauthn.CounterAt(tc.sent))
		if tc.ok && (err != nil || v.NewSignCount != tc.sent) {
			t.Fatalf("%d to %d: %+v %v", tc.stored, tc.sent, v, err)
		}
		if !tc.ok {
			wantFault(t, err, passkey.ErrCounter)
		}
	}
}

func TestBackupState(t *testing.T) {
	rp := newRP(t)
	for _, o := range []softauthn.Options{{}, {BackupEligible: true}, {BackupEligible: true, BackupState: true, Counter: softauthn.CounterZero}} {
		phone := softauthn.New(o)
		c, err := register(t, rp, phone)
		if err != nil || c.BackupEligible != o.BackupEligible || c.BackupState != o.BackupState {
			t.Fatalf("%+v: %+v %v", o, c, err)
		}
		v, err := login(t, rp, phone, c)
		if err != nil || v.BackupState != o.BackupState {
			t.Fatalf("%+v: %+v %v", o, v, err)
		}
		c.BackupState = !c.BackupState // may change
		if _, err := login(t, rp, phone, c); err != nil {
			t.Fatal(err)
		}
		_, err = login(t, rp, phone, c, softauthn.BEFlipped)
		wantFault(t, err, passkey.ErrBackupChanged)
	}
}

func TestFrames(t *testing.T) {
	rp := newRP(t, func(c *passkey.Config) {
		c.AllowCrossOrigin, c.TopOrigins = true, []string{"https://agency.example"}
	})
	phone := softauthn.New(softauthn.Options{})
	c, err := register(t, rp, phone)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []softauthn.Fault{softauthn.CrossOrigin, softauthn.TopOrigin("https://agency.example")} {
		if _, err := login(t, rp, phone, c, f); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []softauthn.Fault{
		softauthn.TopOrigin("https://other.example"), softauthn.TopOrigin("https://agency.example/"),
		softauthn.TopOrigin(origin), softauthn.TopOriginWithoutCrossOrigin("https://agency.example"),
	} {
		_, err := login(t, rp, phone, c, f)
		wantFault(t, err, passkey.ErrOrigin)
	}
}

// TestAnotherKey: a credential answers under its own key only.
func TestAnotherKey(t *testing.T) {
	for _, alg := range []int{passkey.ES256, passkey.EdDSA, passkey.RS256} {
		rp := newRP(t)
		mine, theirs := softauthn.New(softauthn.Options{Algorithm: alg}), softauthn.New(softauthn.Options{Algorithm: alg})
		a, err := register(t, rp, mine)
		if err != nil {
			t.Fatal(err)
		}
		b, err := register(t, rp, theirs)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := login(t, rp, mine, a); err != nil {
			t.Fatalf("positive control: %v", err)
		}
		_, err = login(t, rp, theirs, a, softauthn.OtherCredentialID(a.ID))
		wantFault(t, err, passkey.ErrSignature)
		mixed := *a
		mixed.PublicKey = b.PublicKey
		_, err = login(t, rp, mine, &mixed)
		wantFault(t, err, passkey.ErrSignature)
		mixed.PublicKey = append(bytes.Clone(a.PublicKey), 0)
		_, err = login(t, rp, mine, &mixed)
		wantFault(t, err, passkey.ErrKeyUnsupported)
	}
}

// answer makes one good response and its challenge.
func answer(t testing.TB, rp *passkey.RelyingParty, phone *softauthn.Authenticator) (response, challenge []byte) {
	t.Helper()
	challenge = newChallenge()
	options, err := rp.RequestOptions(challenge, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, err = phone.Get(origin, options); err != nil {
		t.Fatal(err)
	}
	return response, challenge
}

// TestEveryByteCounts changes each byte of a response in turn: it is refused, or
// says exactly the same as before (spelling of JSON that carries no meaning).
func TestEveryByteCounts(t *testing.T) {
	rp := newRP(t)
	phone := softauthn.New(softauthn.Options{})
	c, err := register(t, rp, phone)
	if err != nil {
		t.Fatal(err)
	}
	response, challenge := answer(t, rp, phone)
	good, err := passkey.ParseAssertion(response)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rp.Verify(good, *c, challenge); err != nil {
		t.Fatalf("positive control: %v", err)
	}
	for i := range response {
		for _, bit := range []byte{0x01, 0x20} {
			bent := bytes.Clone(response)
			bent[i] ^= bit
			a, err := passkey.ParseAssertion(bent)
			if err != nil {
				wantFault(t, err, passkey.ErrMalformed)
				continue
			}
			if _, err := rp.Verify(a, *c, challenge); err != nil {
				continue
			}
			if !bytes.Equal(a.ClientDataJSON, good.ClientDataJSON) || !bytes.Equal(a.AuthenticatorData, good.AuthenticatorData) ||
				!bytes.Equal(a.CredentialID, good.CredentialID) || !bytes.Equal(a.UserHandle, good.UserHandle) {
				t.Fatalf("byte %d changed to %q is accepted and says something else", i, bent[i])
			}
		}
	}
}

// edit changes a response as JSON.
func edit(t *testing.T, response []byte, change func(top, inner map[string]any)) []byte {
	t.Helper()
	var top map[string]any
	if err := json.Unmarshal(response, &top); err != nil {
		t.Fatal(err)
	}
	change(top, top["response"].(map[string]any))
	out, err := json.Marshal(top)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func decode(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func TestParseAssertionForm(t *testing.T) {
	rp := newRP(t)
	phone := softauthn.New(softauthn.Options{})
	if _, err := register(t, rp, phone); err != nil {
		t.Fatal(err)
	}
	response, _ := answer(t, rp, phone)
	type m = map[string]any
	for name, change := range map[string]func(top, inner m){
		"nothing changed":             func(_, _ m) {},
		"attachment null":             func(top, _ m) { top["authenticatorAttachment"] = nil },
		"user handle null":            func(_, in m) { in["userHandle"] = nil },
		"unknown members":             func(top, in m) { top["future"] = []any{1.5, true, nil, m{"a": "ü"}}; in["more"] = "x" },
		"no attachment":               func(top, _ m) { delete(top, "authenticatorAttachment") },
		"! no id":                     func(top, _ m) { delete(top, "id") },
		"! no rawId":                  func(top, _ m) { delete(top, "rawId") },
		"! empty id":                  func(top, _ m) { top["id"], top["rawId"] = "", "" },
		"! id over 1023 bytes":        func(top, _ m) { s := strings.Repeat("A", 1366); top["id"], top["rawId"] = s, s },
		"! id with line end":          func(top, _ m) { s := top["id"].(string) + "\n"; top["id"], top["rawId"] = s, s },
		"! other type":                func(top, _ m) { top["type"] = "password" },
		"! type a number":             func(top, _ m) { top["type"] = 1 },
		"! no response":               func(top, _ m) { delete(top, "response") },
		"! response a list":           func(top, _ m) { top["response"] = []any{} },
		"! no signature":              func(_, in m) { delete(in, "signature") },
		"! signature null":            func(_, in m) { in["signature"] = nil },
		"! no clientDataJSON":         func(_, in m) { delete(in, "clientDataJSON") },
		"! no authenticatorData":      func(_, in m) { delete(in, "authenticatorData") },
		"! authenticatorData short":   func(_, in m) { in["authenticatorData"] = "AAAA" },
		"! standard base64":           func(_, in m) { in["signature"] = "+/+/" },
		"! signature padded":          func(_, in m) { s := in["signature"].(string); in["signature"] = s + strings.Repeat("=", 4-len(s)%4) },
		"! trailing bits":             func(_, in m) { in["signature"] = "AB" },
		"! user handle over 64 bytes": func(_, in m) { in["userHandle"] = strings.Repeat("A", 87) },
		"! attestationObject":         func(_, in m) { in["attestationObject"] = "AAAA" },
		"! extension results a list":  func(top, _ m) { top["clientExtensionResults"] = []any{} },
		"! name in other case":        func(top, _ m) { top["rawid"] = top["rawId"] },
		"! inner name in other case":  func(_, in m) { in["Signature"] = in["signature"] },
		"! too deep": func(top, _ m) {
			v := any(1)
			for range 20 {
				v = []any{v}
			}
			top["x"] = v
		},
		"! too many members": func(_, in m) {
			for i := range 80 {
				in[strings.Repeat("x", i+1)] = 1
			}
		},
		"! transports too many": func(_, in m) { in["transports"] = strings.Split("a b c d e f g h i j", " ") },
		"! over 64 KiB":         func(top, _ m) { top["x"] = strings.Repeat("x", passkey.MaxResponse) },
	} {
		_, err := passkey.ParseAssertion(edit(t, response, change))
		if strings.HasPrefix(name, "!") {
			if !errors.Is(err, passkey.ErrMalformed) {
				t.Errorf("%s: got %v", name, err)
			}
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	escaped := bytes.Replace(response, []byte("public-key"), []byte(`public\u002dkey`), 1)
	if _, err := passkey.ParseAssertion(escaped); err != nil || bytes.Equal(escaped, response) {
		t.Errorf("JSON escapes: %v", err)
	}
	_, err := passkey.ParseAssertion(bytes.Repeat([]byte(" "), passkey.MaxResponse+1))
	if fault.From(err).Kind != fault.TooLarge {
		t.Fatalf("got %v", err)
	}
}

func TestVerifyOffline(t *testing.T) {
	for _, alg := range []int{passkey.ES256, passkey.EdDSA, passkey.RS256} {
		rp := newRP(t)
		phone := softauthn.New(softauthn.Options{Algorithm: alg})
		c, err := register(t, rp, phone)
		if err != nil {
			t.Fatal(err)
		}
		response, challenge := answer(t, rp, phone)
		a, err := passkey.ParseAssertion(response)
		if err != nil {
			t.Fatal(err)
		}
		good := passkey.Evidence{
			AuthenticatorData: a.AuthenticatorData, ClientDataJSON: a.ClientDataJSON, Signature: a.Signature,
			PublicKey: c.PublicKey, RPID: rpID, Origins: rp.Origins(), Challenge: challenge,
		}
		if v, err := passkey.VerifyOffline(good); err != nil || v.NewSignCount != 1 || v.Origin != origin {
			t.Fatalf("positive control: %+v %v", v, err)
		}
		for _, tc := range []struct {
			change func(e *passkey.Evidence)
			want   *fault.Error
		}{
			{func(e *passkey.Evidence) { e.Challenge = newChallenge() }, passkey.ErrChallenge},
			{func(e *passkey.Evidence) { e.RPID = "other.example" }, passkey.ErrRPID},
			{func(e *passkey.Evidence) { e.Origins = []string{"https://other.example"} }, passkey.ErrOrigin},
			{func(e *passkey.Evidence) { e.Origins = nil }, passkey.ErrOrigin},
			{func(e *passkey.Evidence) { e.Signature = e.Signature[:len(e.Signature)-1] }, passkey.ErrSignature},
			{func(e *passkey.Evidence) { e.Signature = nil }, passkey.ErrMalformed},
			{func(e *passkey.Evidence) { e.PublicKey = nil }, passkey.ErrKeyUnsupported},
			{func(e *passkey.Evidence) { e.ClientDataJSON = append(bytes.Clone(e.ClientDataJSON), ' ') }, passkey.ErrSignature},
			{func(e *passkey.Evidence) {
				e.AuthenticatorData = bytes.Clone(e.AuthenticatorData)
				e.AuthenticatorData[36]++
			}, passkey.ErrSignature},
		} {
			e := good
			tc.change(&e)
			_, err := passkey.VerifyOffline(e)
			wantFault(t, err, tc.want)
		}
	}
}

// TestFaultsTellNothing: neither the expected challenge nor another secret is in
// what a fault says, not even in its cause.
func TestFaultsTellNothing(t *testing.T) {
	rp := newRP(t)
	phone := softauthn.New(softauthn.Options{})
	c, err := register(t, rp, phone)
	if err != nil {
		t.Fatal(err)
	}
	response, _ := answer(t, rp, phone)
	a, err := passkey.ParseAssertion(response)
	if err != nil {
		t.Fatal(err)
	}
	_, err = rp.Verify(a, *c, bytes.Repeat([]byte{0xAB}, 32))
	wantFault(t, err, passkey.ErrChallenge)
	for _, secret := range []string{"q6ur", "abab", "171", string(a.ClientDataJSON)} {
		if strings.Contains(strings.ToLower(err.Error()), secret) {
			t.Fatalf("%q is in %q", secret, err)
		}
	}
}

// TestMisuse: misuse by the caller is refused too.
func TestMisuse(t *testing.T) {
	rp := newRP(t)
	phone := softauthn.New(softauthn.Options{})
	c, err := register(t, rp, phone)
	if err != nil {
		t.Fatal(err)
	}
	_, err = rp.Verify(nil, *c, newChallenge())
	wantFault(t, err, passkey.ErrMalformed)
	_, err = rp.Verify(&passkey.Assertion{CredentialID: c.ID, UserHandle: handle}, *c, newChallenge())
	wantFault(t, err, passkey.ErrMalformed)
	response, _ := answer(t, rp, phone)
	a, err := passkey.ParseAssertion(response)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rp.Verify(a, *c, nil); err == nil || fault.From(err).Kind != fault.Internal {
		t.Fatalf("an empty challenge must not verify: %v", err)
	}
	// A stored credential without a handle fits nobody.
	nameless := *c
	nameless.UserHandle = nil
	b := *a
	b.UserHandle = nil
	_, err = rp.Verify(&b, nameless, newChallenge())
	wantFault(t, err, passkey.ErrUserMismatch)
	_, err = rp.Verify(a, passkey.Credential{}, newChallenge())
	wantFault(t, err, passkey.ErrUnknownCredential)
}
