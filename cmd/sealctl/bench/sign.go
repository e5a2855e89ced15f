package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"sealgate/cmd/sealctl/softphone"
)

// signSteps are the HTTP calls of one signature.
var signSteps = []string{"create", "open", "frame", "claim", "approve", "wait", "collect"}

// apiToken is the client's token for the REST API, used until it is old.
type apiToken struct {
	value string
	until time.Time
}

func (r *rig) bearer(ctx context.Context) (string, error) {
	if t := r.token.Load(); t != nil && time.Now().Before(t.until) {
		return t.value, nil
	}
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := r.askToken(ctx, url.Values{"grant_type": {"client_credentials"}, "scope": {"sign"}}, &answer); err != nil {
		return "", fmt.Errorf("API token: %w", err)
	}
	r.token.Store(&apiToken{answer.AccessToken, time.Now().Add(time.Duration(answer.ExpiresIn) * time.Second / 2)})
	return answer.AccessToken, nil
}

// api is one call of the REST door.
func (r *rig) api(ctx context.Context, method, path string, in any, want int, out any) error {
	token, err := r.bearer(ctx)
	if err != nil {
		return err
	}
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, r.Origin+path, &body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return r.do(req, want, out)
}

// signOrder is what the bench reads of a sign order's answer.
type signOrder struct {
	Order     string `json:"order"`
	State     string `json:"state"`
	StartURL  string `json:"start_url"`
	EndReason string `json:"end_reason"`
}

// signOne is one whole sign order over n documents; the first is collected.
func (r *rig) signOne(ctx context.Context, l *lap, n int) error {
	documents := make([]map[string]any, n)
	for i := range documents {
		var digest [32]byte
		_, _ = rand.Read(digest[:]) // a digest is as good as any
		documents[i] = map[string]any{"name": fmt.Sprintf("公文 %d.pdf", i+1), "media_type": "application/pdf", "size": 123456,
			"digest_algorithm": "SHA-256", "digest": base64.StdEncoding.EncodeToString(digest[:])}
	}
	in := map[string]any{"text": "核閱", "documents": documents}
	if r.level != "" {
		in["level"] = r.level
	}
	var o signOrder
	if err := r.api(ctx, http.MethodPost, "/api/v1/sign-orders", in, http.StatusCreated, &o); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	l.step()
	desk, err := softphone.NewBrowser(r.Origin, r.transport)
	if err != nil {
		return err
	}
	if _, err := desk.Get(ctx, "/start/"+o.Order); err != nil { // the page gives the cookie
		return err
	}
	if _, err := desk.Open(ctx, o.StartURL); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	l.step()
	frame, err := desk.Frame(ctx, o.Order)
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
	if err := r.awaitSigned(ctx, &o); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	l.step()
	var der []byte
	if err := r.api(ctx, http.MethodGet, "/api/v1/sign-orders/"+o.Order+"/documents/0/signature", nil, http.StatusOK, &der); err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	l.step()
	return nil
}

// awaitSigned polls, long, until the order has ended.
func (r *rig) awaitSigned(ctx context.Context, o *signOrder) error {
	for range 20 {
		if err := r.api(ctx, http.MethodGet, "/api/v1/sign-orders/"+o.Order+"?wait=25", nil, http.StatusOK, o); err != nil {
			return err
		}
		switch o.State {
		case "completed":
			return nil
		case "approved":
		default:
			return fmt.Errorf("the order is %s %s", o.State, o.EndReason)
		}
	}
	return errors.New("the order stays approved")
}
