package bench

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"sealgate/cmd/sealctl/softphone"
)

// loginSteps are the HTTP calls of one login.
var loginSteps = []string{"authorize", "frame", "claim", "approve", "return", "token"}

// logIn is one whole login: a new browser, a phone, and the agency's call.
func (r *rig) logIn(ctx context.Context, l *lap) error {
	desk, err := softphone.NewBrowser(r.Origin, r.transport)
	if err != nil {
		return err
	}
	verifier := rand.Text() + rand.Text()
	id, err := desk.Follow(ctx, r.authorizeURL(verifier))
	if err != nil {
		return fmt.Errorf("authorize: %w", err)
	}
	l.step()
	frame, err := desk.Frame(ctx, id)
	if err != nil {
		return fmt.Errorf("frame: %w", err)
	}
	l.step()
	phone, giveBack, err := r.phone(ctx)
	if err != nil {
		return err
	}
	defer giveBack()
	claim, err := phone.Scan(ctx, frame)
	if err != nil {
		return fmt.Errorf("claim: %w", err)
	}
	l.step()
	if _, err := phone.Approve(ctx, claim); err != nil {
		return fmt.Errorf("approve: %w", err)
	}
	l.step()
	back, err := desk.Return(ctx, id)
	if err != nil {
		return fmt.Errorf("return: %w", err)
	}
	l.step()
	u, err := url.Parse(back)
	if err != nil {
		return err
	}
	var tokens struct {
		IDToken string `json:"id_token"`
	}
	err = r.askToken(ctx, url.Values{"grant_type": {"authorization_code"}, "code": {u.Query().Get("code")},
		"redirect_uri": {r.Site + "/callback"}, "code_verifier": {verifier}}, &tokens)
	if err == nil && tokens.IDToken == "" {
		err = errors.New("no ID token")
	}
	if err != nil {
		return fmt.Errorf("token: %w", err)
	}
	l.step()
	return nil
}

func (r *rig) authorizeURL(verifier string) string {
	challenge := sha256.Sum256([]byte(verifier))
	return r.Origin + "/oauth2/authorize?" + url.Values{"response_type": {"code"}, "client_id": {r.ClientID}, "scope": {"openid profile"},
		"redirect_uri": {r.Site + "/callback"}, "state": {rand.Text()}, "nonce": {rand.Text()}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}}.Encode()
}

// askToken calls the token endpoint as the demonstration client.
func (r *rig) askToken(ctx context.Context, form url.Values, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Origin+"/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(r.ClientID, r.Secret)
	return r.do(req, http.StatusOK, out)
}

// do sends a request and reads JSON, or the bytes into a *[]byte.
func (r *rig) do(req *http.Request, want int, out any) error {
	res, err := r.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != want {
		return fmt.Errorf("%s: %s", res.Status, body)
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = body
		return nil
	}
	return json.Unmarshal(body, out)
}
