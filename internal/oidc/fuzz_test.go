package oidc

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/agency"
)

func FuzzParseRequest(f *testing.F) {
	c := &agency.Client{ClientID: "c", RedirectURIs: []string{"https://agency.example/cb?x=1"}, Scopes: []string{"openid", "profile"}}
	p := &Provider{cfg: Config{Issuer: "https://id.example"}}
	f.Add("client_id=c&redirect_uri=https://agency.example/cb?x=1&response_type=code&scope=openid+profile&state=s&nonce=n" +
		"&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256&acr_values=phr&max_age=0&ui_locales=en")
	f.Add("prompt=none%20login&response_mode=fragment&a=1&a=2")
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw)
		if err != nil {
			return
		}
		r, e := parseRequest(q, c)
		if e != nil {
			to := p.redirectError(c.RedirectURIs[0], q.Get("state"), e)
			u, err := url.Parse(to)
			if err != nil || u.Host != "agency.example" || u.Query().Get("error") == "" || u.Query().Get("iss") != "https://id.example" {
				t.Fatalf("error for %q leads to %q", raw, to)
			}
			if d := u.Query().Get("error_description"); strings.ContainsFunc(d, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
				t.Fatalf("description %q", d)
			}
			return
		}
		for _, values := range q {
			if len(values) != 1 {
				t.Fatalf("doubled parameter accepted: %q", raw)
			}
		}
		if q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || len(r.CodeChallenge) != 43 || len(r.State) > maxState {
			t.Fatalf("accepted %q", raw)
		}
		for _, s := range r.Scopes {
			if !c.HasScope(s) {
				t.Fatalf("scope %q accepted", s)
			}
		}
	})
}

func FuzzParseCode(f *testing.F) {
	p := &Provider{codeKey: make([]byte, 32), tokenKey: make([]byte, 32)}
	now := time.Now()
	id := uuid.Must(uuid.NewV7())
	f.Add(p.newCode(id, now))
	f.Add(p.tokenString(id))
	f.Add("")
	f.Fuzz(func(t *testing.T, in string) {
		if id, err := p.parseCode(in, now); err == nil && len(in) != codeLength {
			t.Fatalf("%q gives %v", in, id)
		}
		if id, err := p.parseToken(in); err == nil && p.tokenString(id) != in {
			t.Fatalf("%q has another spelling", in)
		}
	})
}

// The lengths that the parsers demand are those that the makers give.
func TestCodeAndTokenForms(t *testing.T) {
	p := &Provider{codeKey: make([]byte, 32), tokenKey: make([]byte, 32)}
	now := time.Now()
	id := uuid.Must(uuid.NewV7())
	if got, err := p.parseCode(p.newCode(id, now), now); err != nil || got != id {
		t.Errorf("code: %v %v", got, err)
	}
	if got, err := p.parseToken(p.tokenString(id)); err != nil || got != id {
		t.Errorf("token: %v %v", got, err)
	}
	if _, err := p.parseCode(p.newCode(id, now.Add(-CodeLife-2*time.Second)), now); err == nil {
		t.Error("an old code is accepted")
	}
	other := &Provider{codeKey: make([]byte, 31), tokenKey: make([]byte, 31)}
	other.codeKey[0], other.tokenKey[0] = 1, 1
	if _, err := other.parseCode(p.newCode(id, now), now); err == nil {
		t.Error("another key's code is accepted")
	}
	if _, err := other.parseToken(p.tokenString(id)); err == nil {
		t.Error("another key's token is accepted")
	}
}
