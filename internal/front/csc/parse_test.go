package csc

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// FuzzCredentialRequest: whatever comes as scope credential is refused or gives
// documents that each have one digest of the named size.
func FuzzCredentialRequest(f *testing.F) {
	f.Add("scope=credential&credentialID=a&numSignatures=1&hashAlgorithmOID=2.16.840.1.101.3.4.2.1&hashes=" + strings.Repeat("A", 43))
	f.Add("authorization_details=" + url.QueryEscape(`[{"type":"credential","credentialID":"a","hashAlgorithmOID":"2.16.840.1.101.3.4.2.2","documentDigests":[{"hash":"`+strings.Repeat("A", 64)+`","label":"x"}]}]`))
	f.Add("authorization_details=%5B%5B%5B")
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw)
		if err != nil {
			return
		}
		w, e := parseCredential(q)
		if e != nil {
			return
		}
		seen := map[string]bool{}
		for _, d := range w.documents {
			raw, ok := decodeHash(d.Digest)
			if _, size := hashByOID(oidOfHash(d.DigestAlgorithm)); !ok || len(raw) != size || size == 0 || seen[d.Digest] || d.Name == "" {
				t.Fatalf("%+v", d)
			}
			seen[d.Digest] = true
		}
		if len(seen) == 0 || w.credentialID == "" {
			t.Fatalf("%+v", w)
		}
	})
}

// FuzzTimestampRequest: what is accepted can be encoded.
func FuzzTimestampRequest(f *testing.F) {
	f.Add([]byte(`{"hash":"` + strings.Repeat("A", 43) + `=","hashAlgo":"2.16.840.1.101.3.4.2.1","nonce":"0f"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var in input
		if parse(body, &in) != nil {
			return
		}
		r, err := readTimestamp(in)
		if err != nil {
			if _, ok := err.(*refusal); !ok {
				t.Fatal(err)
			}
			return
		}
		if _, err := r.Marshal(); err != nil {
			t.Fatal(err)
		}
	})
}

// Codes and tokens: one changed character opens nothing, and one is never the other.
func TestCodesAndTokens(t *testing.T) {
	d := &Door{codeKey: []byte(strings.Repeat("c", 32)), tokenKey: []byte(strings.Repeat("t", 32))}
	id := uuid.Must(uuid.NewV7())
	at := now()
	code, token := d.newCode(id, at), d.tokenString(id)
	if got, err := d.parseCode(code, at.Add(CodeLife-time.Second)); err != nil || got != id {
		t.Errorf("code: %v %v", got, err)
	}
	if _, err := d.parseCode(code, at.Add(CodeLife+time.Second)); err == nil {
		t.Error("an old code is taken")
	}
	if got, err := d.parseToken(token); err != nil || got != id {
		t.Errorf("token: %v %v", got, err)
	}
	for i := range code {
		if _, err := d.parseCode(changed(code, i), at); err == nil {
			t.Errorf("code with character %d changed", i)
		}
	}
	for i := range token {
		if _, err := d.parseToken(changed(token, i)); err == nil {
			t.Errorf("token with character %d changed", i)
		}
	}
	for _, text := range []string{"", code, token + "A", token[:len(token)-1], strings.ToUpper(token)} {
		if _, err := d.parseToken(text); err == nil {
			t.Errorf("%q is a token", text)
		}
	}
}

func changed(s string, i int) string {
	c := byte('A')
	if s[i] == c {
		c = 'B'
	}
	return s[:i] + string(c) + s[i+1:]
}
