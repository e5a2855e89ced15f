package pdfsign

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"sealgate/internal/pades"
)

// maxAnswer bounds what a service may answer, in bytes.
const maxAnswer = 8 << 20

// service is a Sealgate over its REST API, as the client that was registered there.
type service struct {
	origin, client, secret string
	http                   *http.Client
	token                  string
	until                  time.Time
}

// order is what is read of a sign order's answer.
type order struct {
	Order      string `json:"order"`
	State      string `json:"state"`
	ExpiresAt  string `json:"expires_at"`
	StartURL   string `json:"start_url"`
	EndReason  string `json:"end_reason"`
	WaitReason string `json:"wait_reason"`
	Documents  []struct {
		State   string `json:"state"`
		Failure string `json:"failure"`
	} `json:"documents"`
}

// refused is a problem (RFC 9457) as people want to read it.
type refused struct {
	Status   int    `json:"-"`
	Code     string `json:"code"`
	Detail   string `json:"detail"`
	NextStep string `json:"next_step"`
	OAuth    string `json:"error"`
}

func (p *refused) Error() string {
	parts := []string{p.Code + p.OAuth, p.Detail, p.NextStep}
	return fmt.Sprintf("the service refused (%d): %s", p.Status, strings.TrimSpace(strings.Join(parts, " ")))
}

func (s *service) do(req *http.Request, out any) error {
	res, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		p := &refused{Status: res.StatusCode}
		_ = json.Unmarshal(raw, p)
		return p
	}
	if to, ok := out.(*[]byte); ok {
		*to = raw
		return nil
	}
	return json.Unmarshal(raw, out)
}

// bearer gets a token when the last one is old.
func (s *service) bearer(ctx context.Context) (string, error) {
	if time.Now().Before(s.until) {
		return s.token, nil
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"sign"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.origin+"/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(s.client), url.QueryEscape(s.secret)) // RFC 6749 §2.3.1
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := s.do(req, &answer); err != nil {
		return "", err
	}
	s.token, s.until = answer.AccessToken, time.Now().Add(time.Duration(answer.ExpiresIn)*time.Second/2)
	return s.token, nil
}

// call is one call of the REST API.
func (s *service) call(ctx context.Context, method, path string, in, out any) error {
	token, err := s.bearer(ctx)
	if err != nil {
		return err
	}
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.origin+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return s.do(req, out)
}

// create makes one sign order over prepared documents.
func (s *service) create(ctx context.Context, f signFlags, names []string, prepared []*pades.Prepared) (*order, error) {
	type document struct {
		Name            string `json:"name"`
		MediaType       string `json:"media_type"`
		Size            int64  `json:"size"`
		DigestAlgorithm string `json:"digest_algorithm"`
		Digest          string `json:"digest"`
		Form            string `json:"form"`
	}
	in := struct {
		Text      string     `json:"text"`
		ReturnURI string     `json:"return_uri,omitempty"`
		Subject   string     `json:"subject,omitempty"`
		Level     string     `json:"level,omitempty"`
		Documents []document `json:"documents"`
	}{f.text, f.returnURI, f.subject, f.level, nil}
	for i, p := range prepared {
		in.Documents = append(in.Documents, document{filepath.Base(names[i]), "application/pdf", p.OriginalSize,
			p.Hash.String(), base64.StdEncoding.EncodeToString(p.Digest), "pades"})
	}
	var o order
	return &o, s.call(ctx, http.MethodPost, "/api/v1/sign-orders", in, &o)
}

// await holds on until the order has ended. What it waits for is told once.
func (s *service) await(ctx context.Context, id string, tell func(string)) (*order, error) {
	told := ""
	for {
		var o order
		if err := s.call(ctx, http.MethodGet, "/api/v1/sign-orders/"+url.PathEscape(id)+"?wait=25", nil, &o); err != nil {
			return nil, err
		}
		switch o.State {
		case "completed":
			return &o, nil
		case "created", "scanned", "approved":
		default:
			return nil, errors.New(strings.TrimSpace("the order is " + o.State + " " + o.EndReason))
		}
		if now := strings.TrimSpace(o.State + " " + o.WaitReason); now != told {
			told = now
			tell(now)
		}
		select { // where the service answers at once, it is not asked without pause
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// signature collects one document's signature.
func (s *service) signature(ctx context.Context, id string, n int) ([]byte, error) {
	var der []byte
	return der, s.call(ctx, http.MethodGet, "/api/v1/sign-orders/"+url.PathEscape(id)+"/documents/"+strconv.Itoa(n)+"/signature", nil, &der)
}
