package server_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"sealgate/cmd/sealctl/softphone"
)

// relyingParty is an agency's system on an ordinary OpenID Connect library.
type relyingParty struct {
	ctx      context.Context // carries the HTTP client
	config   oauth2.Config
	verifier *oidc.IDTokenVerifier
	provider *oidc.Provider
}

func (w *world) relyingParty(scopes ...string) *relyingParty {
	w.t.Helper()
	return w.relyingPartyOf("demo-agency", w.config.Secret, site+"/callback", scopes...)
}

func (w *world) relyingPartyOf(id, secret, callback string, scopes ...string) *relyingParty {
	w.t.Helper()
	provider, err := oidc.NewProvider(w.ctx, w.origin)
	if err != nil {
		w.t.Fatal(err)
	}
	endpoint := provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader // or the library tries a second way after a refusal
	return &relyingParty{ctx: w.ctx, provider: provider, verifier: provider.Verifier(&oidc.Config{ClientID: id}),
		config: oauth2.Config{ClientID: id, ClientSecret: secret, RedirectURL: callback,
			Endpoint: endpoint, Scopes: append([]string{oidc.ScopeOpenID}, scopes...)}}
}

// attempt is one login that the agency has begun.
type attempt struct {
	rp                     *relyingParty
	state, nonce, verifier string
	url                    string
}

func (rp *relyingParty) begin(more ...oauth2.AuthCodeOption) *attempt {
	a := &attempt{rp: rp, state: rand.Text(), nonce: rand.Text(), verifier: oauth2.GenerateVerifier()}
	more = append([]oauth2.AuthCodeOption{oidc.Nonce(a.nonce), oauth2.S256ChallengeOption(a.verifier)}, more...)
	a.url = rp.config.AuthCodeURL(a.state, more...)
	return a
}

// identity is what the agency learns.
type identity struct {
	Subject    string   `json:"sub"`
	Name       string   `json:"name"`
	NationalID string   `json:"national_id"`
	ACR        string   `json:"acr"`
	AMR        []string `json:"amr"`
	AuthTime   int64    `json:"auth_time"`
	Nonce      string   `json:"nonce"`
	token      *oauth2.Token
}

// code reads the code from the address the browser was sent back to.
func (a *attempt) code(back string) (string, error) {
	u, err := url.Parse(back)
	if err != nil {
		return "", err
	}
	q := u.Query()
	if q.Get("error") != "" || q.Get("state") != a.state || q.Get("iss") == "" || q.Get("code") == "" {
		return "", fmt.Errorf("sent back with %s", q)
	}
	return q.Get("code"), nil
}

// finish redeems the code and checks the ID token.
func (a *attempt) finish(back string) (*identity, error) {
	code, err := a.code(back)
	if err != nil {
		return nil, err
	}
	return a.redeem(code)
}

func (a *attempt) redeem(code string) (*identity, error) {
	token, err := a.rp.config.Exchange(a.rp.ctx, code, oauth2.VerifierOption(a.verifier))
	if err != nil {
		return nil, err
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := a.rp.verifier.Verify(a.rp.ctx, raw)
	if err != nil {
		return nil, err
	}
	if id.Nonce != a.nonce {
		return nil, fmt.Errorf("nonce %q", id.Nonce)
	}
	out := &identity{token: token}
	return out, id.Claims(out)
}

func oauthSource(who *identity) oauth2.TokenSource { return oauth2.StaticTokenSource(who.token) }

// scan lets the phone scan what the browser shows.
func (w *world) scan(t testing.TB, desk *softphone.Browser, phone *softphone.Phone, id string) *softphone.Claim {
	t.Helper()
	frame, err := desk.Frame(w.ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	claim, err := phone.Scan(w.ctx, frame)
	if err != nil {
		t.Fatal(err)
	}
	return claim
}

// approved walks a login up to the phone's yes.
func (w *world) approved(t testing.TB, a *attempt, desk *softphone.Browser, phone *softphone.Phone) (id string) {
	t.Helper()
	id, err := desk.Follow(w.ctx, a.url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := phone.Approve(w.ctx, w.scan(t, desk, phone, id)); err != nil {
		t.Fatal(err)
	}
	return id
}

// api is an agency's system at the REST API.
type api struct {
	w      *world
	client *http.Client
}

func (w *world) api() *api { return w.apiOf("demo-agency", w.config.Secret) }

func (w *world) apiOf(id, secret string) *api {
	cfg := clientcredentials.Config{ClientID: id, ClientSecret: secret, TokenURL: w.origin + "/oauth2/token",
		Scopes: []string{"sign"}, AuthStyle: oauth2.AuthStyleInHeader}
	return &api{w: w, client: cfg.Client(w.ctx)}
}

// restOrder is a sign order as the API tells it.
type restOrder struct {
	Order     string `json:"order"`
	State     string `json:"state"`
	StartURL  string `json:"start_url"`
	Documents []struct {
		State     string `json:"state"`
		Signature string `json:"signature"`
	} `json:"documents"`
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return b64(sum[:])
}

// rawJSON is JSON that is handed on as it came.
type rawJSON = json.RawMessage

// phoneClient is a client without cookies.
var phoneClient = &http.Client{Timeout: time.Minute}

// parse reads a certificate in base64.
func parse(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	return must(x509.ParseCertificate(must(base64.StdEncoding.DecodeString(text))(t)))(t)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// document is one document of a sign order, for the API.
func document(name string, content []byte) map[string]any {
	return map[string]any{"name": name, "media_type": "application/pdf", "size": len(content),
		"digest_algorithm": "SHA-256", "digest": digestOf(content)}
}

func (a *api) create(body map[string]any) (*restOrder, error) {
	var o restOrder
	return &o, a.call(http.MethodPost, "/api/v1/sign-orders", body, &o)
}

func (a *api) read(id string, wait int) (*restOrder, error) {
	var o restOrder
	return &o, a.call(http.MethodGet, fmt.Sprintf("/api/v1/sign-orders/%s?wait=%d", id, wait), nil, &o)
}

// completed waits for the signatures of an approved order.
func (a *api) completed(t testing.TB, id string) *restOrder {
	t.Helper()
	for {
		o, err := a.read(id, 5)
		if err != nil {
			t.Fatal(err)
		}
		if o.State != "approved" {
			return o
		}
	}
}

func (a *api) call(method, path string, in, out any) error {
	req, err := jsonRequest(a.w.ctx, method, a.w.origin+path, in)
	if err != nil {
		return err
	}
	return answer(a.client, req, out)
}

func jsonRequest(ctx context.Context, method, address string, in any) (*http.Request, error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = strings.NewReader(string(raw))
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err == nil && in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, err
}

var codeOnPage = regexp.MustCompile(`<span class="mono">([a-z_]+)・`)

// answer sends a request; an answer that is no success is a *softphone.Problem.
func answer(c *http.Client, req *http.Request, out any) error {
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode > 299 {
		p := &softphone.Problem{}
		if json.Unmarshal(raw, p) != nil { // an error page names its code for the help desk
			if m := codeOnPage.FindSubmatch(raw); m != nil {
				p.Code = string(m[1])
			}
		}
		p.Status = res.StatusCode
		return p
	}
	switch v := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*v = raw
		return nil
	}
	return json.Unmarshal(raw, out)
}

// The main road, as people and agencies walk it.
func TestMainRoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	phone := w.enrol(0)
	t.Run("login", func(t *testing.T) {
		a := w.relyingParty("profile", "national_id").begin()
		desk := w.browser()
		id := w.approved(t, a, desk, phone)
		who, err := a.finish(must(desk.Return(w.ctx, id))(t))
		if err != nil {
			t.Fatal(err)
		}
		if who.Name != w.cards[0].Name || who.NationalID != w.cards[0].NationalID || who.ACR != "urn:sealgate:acr:qr" ||
			!slices.Contains(who.AMR, "user") || time.Since(time.Unix(who.AuthTime, 0)) > time.Minute {
			t.Fatalf("%+v", who)
		}
		info, err := a.rp.provider.UserInfo(w.ctx, oauth2.StaticTokenSource(who.token))
		if err != nil || info.Subject != who.Subject {
			t.Fatalf("%v %v", info, err)
		}
		again := w.relyingParty().begin()
		desk = w.browser()
		second, err := again.finish(must(desk.Return(w.ctx, w.approved(t, again, desk, phone)))(t))
		if err != nil || second.Subject != who.Subject || second.Name != "" {
			t.Fatalf("the same person is %+v, %v", second, err)
		}
	})
	t.Run("sign", func(t *testing.T) { signOverREST(t, w, phone) })
}

func signOverREST(t *testing.T, w *world, phone *softphone.Phone) {
	content := [][]byte{[]byte("第一件公文"), []byte("left out"), []byte("third")}
	client, desk := w.api(), w.browser()
	o, err := client.create(map[string]any{"text": "請簽核", "return_uri": site + "/signed", "documents": []any{
		document("一.pdf", content[0]), document("二.pdf", content[1]), document("三.pdf", content[2])}})
	if err != nil {
		t.Fatal(err)
	}
	id := must(desk.Open(w.ctx, o.StartURL))(t)
	claim := w.scan(t, desk, phone, id)
	if _, err := phone.Approve(w.ctx, claim, softphone.Answer{LeftOut: []int{1}}); err != nil {
		t.Fatal(err)
	}
	if o = client.completed(t, id); o.State != "completed" || o.Documents[1].State != "left_out" {
		t.Fatalf("%+v", o)
	}
	for _, n := range []int{0, 2} {
		w.opensslVerifies(t, w.signature(t, client, id, n), content[n])
	}
	if back := must(desk.Return(w.ctx, id))(t); back != site+"/signed" {
		t.Fatalf("sent back to %s", back)
	}
}

func (w *world) signature(t testing.TB, client *api, id string, n int) []byte {
	t.Helper()
	var der []byte
	if err := client.call(http.MethodGet, fmt.Sprintf("/api/v1/sign-orders/%s/documents/%d/signature", id, n), nil, &der); err != nil {
		t.Fatal(err)
	}
	return der
}

// anchors gives a file with the service's own roots.
func (w *world) anchors(t testing.TB) string {
	t.Helper()
	page := must(w.browser().Get(w.ctx, "/pki/ca.pem"))(t)
	if page.Status != http.StatusOK {
		t.Fatalf("the roots: %d", page.Status)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, page.Body, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// opensslVerifies lets openssl check a signature, and sees that it refuses one
// changed byte.
func (w *world) opensslVerifies(t testing.TB, der, content []byte) {
	t.Helper()
	dir, roots := t.TempDir(), w.anchors(t)
	check := func(content []byte) error {
		signature, document := filepath.Join(dir, "a.p7s"), filepath.Join(dir, "a")
		for name, data := range map[string][]byte{signature: der, document: content} {
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", signature,
			"-content", document, "-CAfile", roots, "-out", os.DevNull).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := check(content); err != nil {
		t.Fatal(err)
	}
	changed := slices.Clone(content)
	changed[0] ^= 1
	if check(changed) == nil {
		t.Fatal("openssl takes a changed document")
	}
}
