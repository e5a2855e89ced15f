// Package softphone is a phone without a browser: it binds, scans, approves and
// rejects through the same public device API as the phone app. Beside it stand
// the two other parties of a test: Browser plays the desktop page that started
// an order, and Card plays the person at the card reader.
//
//	phone := softphone.New(softphone.Config{Server: url, Keys: keys})
//	desk, _ := softphone.NewBrowser(url, nil)
//	id, _ := desk.Follow(ctx, authorizeURL)        // the agency sent the browser here
//	frame, _ := desk.Frame(ctx, id)                // what the QR picture says
//	claim, _ := phone.Scan(ctx, frame)
//	outcome, _ := phone.Approve(ctx, claim)
//	back, _ := desk.Return(ctx, id)                // the way back to the agency
//
// Its keys are ordinary software keys (internal/softauthn): it proves nothing
// about a person. It is for tests, load runs and scripts.
package softphone

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sealgate/internal/softauthn"
)

// deviceAPI is the prefix of the phone's routes.
const deviceAPI = "/api/device/v1"

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 8 << 20

// userAgent says plainly what this is.
const userAgent = "Sealgate-softphone/1"

// Problem is a refusal as the server tells it (RFC 9457).
type Problem struct {
	Status   int               `json:"status"`
	Code     string            `json:"code"`
	Title    string            `json:"title"`
	Detail   string            `json:"detail"`
	NextStep string            `json:"next_step"`
	Instance string            `json:"instance"`
	Params   map[string]string `json:"params"`
}

// Error gives code and text.
func (p *Problem) Error() string {
	return fmt.Sprintf("%d %s: %s %s", p.Status, p.Code, p.Detail, p.NextStep)
}

// CodeOf gives the stable code of a refusal, "" for anything else.
func CodeOf(err error) string {
	var p *Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return ""
}

// Names is a text by language.
type Names map[string]string

// Party is who asks.
type Party struct {
	Name Names  `json:"name"`
	Host string `json:"host"`
}

// Document is one document of a sign order as the phone shows it.
type Document struct {
	Index           int    `json:"index"`
	Name            string `json:"name"`
	MediaType       string `json:"media_type"`
	Size            int64  `json:"size"`
	DigestAlgorithm string `json:"digest_algorithm"`
	Digest          string `json:"digest"`
	DigestCode      string `json:"digest_code"`
}

// Check is the pair of digits that must be typed at the computer.
type Check struct {
	Required bool   `json:"required"`
	Digits   string `json:"digits"`
	Passed   bool   `json:"passed"`
}

// Claim is an order that this phone holds.
type Claim struct {
	Order     string          `json:"order"`
	Kind      string          `json:"kind"`
	Token     string          `json:"claim_token"`
	ExpiresAt time.Time       `json:"expires_at"`
	Agency    Party           `json:"agency"`
	Client    Party           `json:"client"`
	Text      string          `json:"text"`
	Data      []string        `json:"data"`
	Documents []Document      `json:"documents"`
	Source    string          `json:"source"`
	ACR       string          `json:"acr"`
	Check     Check           `json:"check"`
	PublicKey json.RawMessage `json:"public_key"`
	Enrol     *struct {
		MaskedName string `json:"masked_name"`
	} `json:"enrol"`
}

// Outcome is the server's answer to an approval.
type Outcome struct {
	State  string `json:"state"`
	ACR    string `json:"acr"`
	Next   string `json:"next"` // same device: where this browser goes on
	Device struct {
		Name string `json:"name"`
	} `json:"device"`
}

// Status is how a held order stands.
type Status struct {
	Order     string `json:"order"`
	State     string `json:"state"`
	Check     Check  `json:"check"`
	EndReason string `json:"end_reason"`
	Next      string `json:"next"`
}

// Config is what a phone needs.
type Config struct {
	// Server is the service's public address.
	Server string
	// Keys are the phone's passkeys; nil for a phone with none yet.
	Keys *softauthn.Authenticator
	// HTTP is the client to call with; nil for one with a time limit.
	HTTP *http.Client
}

// Phone is a phone. Its methods may be used from many goroutines.
type Phone struct {
	server string
	keys   *softauthn.Authenticator
	http   *http.Client
}

// New makes a phone.
func New(cfg Config) *Phone {
	if cfg.Keys == nil {
		cfg.Keys = softauthn.New(softauthn.Options{})
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{Timeout: time.Minute}
	}
	return &Phone{server: strings.TrimSuffix(cfg.Server, "/"), keys: cfg.Keys, http: cfg.HTTP}
}

// Keys gives the phone's passkeys, to save them.
func (p *Phone) Keys() *softauthn.Authenticator { return p.keys }

// Scan takes the order of a frame as the phone app's own scanner does.
func (p *Phone) Scan(ctx context.Context, frame string) (*Claim, error) {
	return p.claim(ctx, map[string]string{"frame": frame, "source": "scanner"})
}

// OpenLink takes the order of a frame as a phone's camera does.
func (p *Phone) OpenLink(ctx context.Context, frame string) (*Claim, error) {
	return p.claim(ctx, map[string]string{"frame": frame, "source": "link"})
}

// TypeCode takes an order by the eight digits that its page shows.
func (p *Phone) TypeCode(ctx context.Context, code string) (*Claim, error) {
	return p.claim(ctx, map[string]string{"code": code, "source": "code"})
}

// Here takes an order that was started in this phone's own browser: the phone
// must be made by Browser.Phone.
func (p *Phone) Here(ctx context.Context, order string) (*Claim, error) {
	return p.claim(ctx, map[string]string{"order": order, "source": "same_device"})
}

// Resume reads an order again that this phone holds already.
func (p *Phone) Resume(ctx context.Context, order, token string) (*Claim, error) {
	return p.claim(ctx, map[string]string{"order": order, "claim_token": token})
}

func (p *Phone) claim(ctx context.Context, body any) (*Claim, error) {
	var c Claim
	if err := p.call(ctx, http.MethodPost, deviceAPI+"/claims", nil, body, &c); err != nil {
		return nil, err
	}
	return &c, nil
}

// Answer is what the person on the phone decides beside yes.
type Answer struct {
	LeftOut []int             // documents not to be signed, rising
	Faults  []softauthn.Fault // what this phone does wrong, for tests
}

// Approve makes the assertion over a claimed order and sends it.
func (p *Phone) Approve(ctx context.Context, c *Claim, how ...Answer) (*Outcome, error) {
	var a Answer
	if len(how) > 0 {
		a = how[0]
	}
	options := c.PublicKey
	if len(a.LeftOut) > 0 {
		var fresh struct {
			PublicKey json.RawMessage `json:"public_key"`
		}
		body := map[string]any{"claim_token": c.Token, "left_out": a.LeftOut}
		if err := p.call(ctx, http.MethodPost, orderPath(c.Order, "options"), nil, body, &fresh); err != nil {
			return nil, err
		}
		options = fresh.PublicKey
	}
	assertion, err := p.keys.Get(p.server, options, a.Faults...)
	if err != nil {
		return nil, err
	}
	return p.SendAssertion(ctx, c, assertion, a.LeftOut)
}

// SendAssertion sends an assertion that was made elsewhere or before, for tests
// that replay one or mix them up.
func (p *Phone) SendAssertion(ctx context.Context, c *Claim, assertion []byte, leftOut []int) (*Outcome, error) {
	body := map[string]any{"claim_token": c.Token, "assertion": json.RawMessage(assertion)}
	if len(leftOut) > 0 {
		body["left_out"] = leftOut
	}
	var out Outcome
	if err := p.call(ctx, http.MethodPost, orderPath(c.Order, "approve"), nil, body, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// Assert makes the assertion for a claimed order without sending it.
func (p *Phone) Assert(c *Claim, faults ...softauthn.Fault) ([]byte, error) {
	return p.keys.Get(p.server, c.PublicKey, faults...)
}

// Bind makes the passkey that an enrol order asks for and sends it. The card's
// signature at the computer completes the binding.
func (p *Phone) Bind(ctx context.Context, c *Claim, deviceName string, faults ...softauthn.Fault) error {
	credential, _, err := p.keys.Create(p.server, c.PublicKey, faults...)
	if err != nil {
		return err
	}
	body := map[string]any{"claim_token": c.Token, "credential": json.RawMessage(credential), "device_name": deviceName}
	return p.call(ctx, http.MethodPost, orderPath(c.Order, "credential"), nil, body, nil)
}

// Reject says no: reason is not_me, changed_mind or fraud.
func (p *Phone) Reject(ctx context.Context, c *Claim, reason string) error {
	body := map[string]string{"claim_token": c.Token, "reason": reason}
	return p.call(ctx, http.MethodPost, orderPath(c.Order, "reject"), nil, body, nil)
}

// Status asks how a held order stands; wait, in whole seconds, lets the server
// answer when it changes.
func (p *Phone) Status(ctx context.Context, c *Claim, wait time.Duration) (*Status, error) {
	path := orderPath(c.Order, "")
	if wait > 0 {
		path += fmt.Sprintf("?wait=%d", int(wait/time.Second))
	}
	var st Status
	err := p.call(ctx, http.MethodGet, path, http.Header{"Authorization": {"Claim " + c.Token}}, nil, &st)
	return &st, err
}

// OpenSession shows that this is the person's phone, to read history and
// devices. The session is a cookie: the phone's HTTP client needs a jar.
func (p *Phone) OpenSession(ctx context.Context) error {
	var o struct {
		ChallengeToken string          `json:"challenge_token"`
		PublicKey      json.RawMessage `json:"public_key"`
	}
	if err := p.call(ctx, http.MethodPost, deviceAPI+"/sessions/options", nil, struct{}{}, &o); err != nil {
		return err
	}
	assertion, err := p.keys.Get(p.server, o.PublicKey)
	if err != nil {
		return err
	}
	body := map[string]any{"challenge_token": o.ChallengeToken, "assertion": json.RawMessage(assertion)}
	return p.call(ctx, http.MethodPost, deviceAPI+"/sessions", nil, body, nil)
}

// Read gets a JSON list of the phone's session: "history" or "devices".
func (p *Phone) Read(ctx context.Context, what string, out any) error {
	return p.call(ctx, http.MethodGet, deviceAPI+"/"+url.PathEscape(what), nil, nil, out)
}

func orderPath(order, step string) string {
	path := deviceAPI + "/orders/" + url.PathEscape(order)
	if step != "" {
		path += "/" + step
	}
	return path
}

func (p *Phone) call(ctx context.Context, method, path string, header http.Header, in, out any) error {
	return call(ctx, p.http, method, p.server+path, header, in, out)
}

// call sends JSON and reads JSON. Any answer that is no success is a *Problem.
func call(ctx context.Context, client *http.Client, method, address string, header http.Header, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return problem(res, raw)
	}
	if out == nil || len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("%s %s: the answer is not the JSON we expect: %w", method, req.URL.Path, err)
	}
	return nil
}

func problem(res *http.Response, raw []byte) error {
	p := Problem{Status: res.StatusCode, Title: res.Status}
	_ = json.Unmarshal(raw, &p) // a proxy in between may answer anything
	p.Status = res.StatusCode
	return &p
}
