package site

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

func (s *Site) tax(w http.ResponseWriter, r *http.Request) {
	_, session := s.sessions.get(w, r)
	s.pages.show(w, r, http.StatusOK, "tax", map[string]any{"Who": session.identity(), "Issuer": s.cfg.Issuer})
}

// startLogin sends the browser to Sealgate: code flow with PKCE, state and nonce.
func (s *Site) startLogin(w http.ResponseWriter, r *http.Request) {
	p, err := s.provider(r.Context())
	if err != nil {
		s.unreachable(w, r, err)
		return
	}
	_, session := s.sessions.get(w, r)
	state, pending := random(), pendingLogin{nonce: random(), verifier: oauth2.GenerateVerifier(), at: time.Now()}
	session.expect(state, pending)
	http.Redirect(w, r, p.login.AuthCodeURL(state, gooidc.Nonce(pending.nonce), oauth2.S256ChallengeOption(pending.verifier),
		oauth2.SetAuthURLParam("ui_locales", string(langOf(r)))), http.StatusSeeOther)
}

// callback receives the answer, exchanges the code and checks the ID token.
func (s *Site) callback(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	name, session := s.sessions.get(w, r)
	pending, known := session.take(q.Get("state"))
	// RFC 9207: the answer must come from the provider we asked.
	if !known || q.Get("iss") != s.cfg.Issuer {
		s.pages.fail(w, r, http.StatusBadRequest, "error.state", "")
		return
	}
	if code := q.Get("error"); code != "" {
		s.pages.fail(w, r, http.StatusOK, "error.login", code+": "+q.Get("error_description"))
		return
	}
	p, err := s.provider(r.Context())
	if err != nil {
		s.unreachable(w, r, err)
		return
	}
	ctx := gooidc.ClientContext(r.Context(), s.client)
	token, err := p.login.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(pending.verifier))
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "code exchange", "error", err)
		var answer *oauth2.RetrieveError
		detail := ""
		if errors.As(err, &answer) {
			detail = answer.ErrorCode
		}
		s.pages.fail(w, r, http.StatusBadGateway, "error.exchange", detail)
		return
	}
	raw, _ := token.Extra("id_token").(string)
	idToken, err := p.verifier.Verify(ctx, raw)
	if err == nil && idToken.Nonce != pending.nonce {
		err = errors.New("nonce")
	}
	if err == nil {
		err = idToken.VerifyAccessToken(token.AccessToken)
	}
	var claims struct {
		Name     string   `json:"name"`
		ACR      string   `json:"acr"`
		AMR      []string `json:"amr"`
		AuthTime int64    `json:"auth_time"`
	}
	if err == nil {
		err = idToken.Claims(&claims)
	}
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "ID token", "error", err)
		s.pages.fail(w, r, http.StatusBadGateway, "error.exchange", "id_token")
		return
	}
	session.mu.Lock()
	session.who = &identity{Subject: idToken.Subject, Name: claims.Name, ACR: claims.ACR, AMR: claims.AMR,
		AuthTime: time.Unix(claims.AuthTime, 0), IDToken: raw}
	session.mu.Unlock()
	s.sessions.renew(w, name, session)
	http.Redirect(w, r, "/tax", http.StatusSeeOther)
}

// logout ends our session and tells Sealgate (OpenID Connect RP-Initiated Logout 1.0).
func (s *Site) logout(w http.ResponseWriter, r *http.Request) {
	name, session := s.sessions.get(w, r)
	who := session.identity()
	s.sessions.end(w, name)
	if who == nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	q := url.Values{"id_token_hint": {who.IDToken}, "post_logout_redirect_uri": {s.cfg.Origin + "/"}}
	http.Redirect(w, r, s.cfg.Issuer+"/oauth2/logout?"+q.Encode(), http.StatusSeeOther)
}

func (s *Site) unreachable(w http.ResponseWriter, r *http.Request, err error) {
	s.cfg.Log.WarnContext(r.Context(), "Sealgate does not answer", "error", err)
	s.pages.fail(w, r, http.StatusBadGateway, "error.unreachable", "")
}
