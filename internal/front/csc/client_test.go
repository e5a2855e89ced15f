package csc_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/cmd/sealctl/onebox"
	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// house is a whole service with two people and clients that speak the API.
type house struct {
	t          *testing.T
	ctx        context.Context
	box        *onebox.Box
	pool       *pgxpool.Pool
	mei, other *softphone.Phone
}

func newHouse(t *testing.T, settings ...map[string]string) *house {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	h := &house{t: t, ctx: ctx, pool: pgtest.Open(t)}
	cfg := onebox.Config{Dir: t.TempDir(), Pool: h.pool, Cards: true}
	if len(settings) > 0 {
		cfg.Settings = settings[0]
	}
	var err error
	h.box, err = onebox.Start(ctx, cfg)
	h.must(err)
	t.Cleanup(func() { h.must(h.box.Close()) })
	h.mei, err = h.box.Enrol(ctx, h.box.Cards[0])
	h.must(err)
	h.other, err = h.box.Enrol(ctx, h.box.Cards[1])
	h.must(err)
	return h
}

func (h *house) must(err error) {
	if err != nil {
		h.t.Helper()
		h.t.Fatal(err)
	}
}

func (h *house) exec(sql string, args ...any) {
	h.t.Helper()
	_, err := h.pool.Exec(h.ctx, sql, args...)
	h.must(err)
}

func (h *house) count(sql string, args ...any) (n int) {
	h.t.Helper()
	h.must(h.pool.QueryRow(h.ctx, sql, args...).Scan(&n))
	return n
}

// with runs a part of a test on the same house.
func (h *house) with(name string, test func(h *house)) {
	h.t.Run(name, func(t *testing.T) {
		mine := *h
		mine.t = t
		test(&mine)
	})
}

// addClient registers a copy of the demonstration client, with the same secret.
func (h *house) addClient(clientID, scopes, grants string) *software {
	h.t.Helper()
	h.exec(`INSERT INTO clients (id, client_id, agency_id, name_zh, name_en, host, token_endpoint_auth_method, secret_mac, redirect_uris,
	  return_uris, grant_types, scopes, sector_identifier)
	SELECT gen_random_uuid(), $1, agency_id, name_zh, name_en, 'other.example', token_endpoint_auth_method, secret_mac, redirect_uris,
	  return_uris, $3::text[], $2::text[], 'other.example' FROM clients WHERE client_id = $4`, clientID, scopes, grants, h.box.ClientID)
	s := h.software()
	s.clientID = clientID
	return s
}

// software is document software that knows nothing of the service but its
// address, and of the API what the specification says.
type software struct {
	h                          *house
	base                       string // where the API stands
	oauth2                     string // told by info
	clientID, secret, redirect string
	http                       *http.Client
}

func (h *house) software() *software {
	return &software{h: h, base: h.box.Origin + "/csc/v2/", oauth2: h.box.Origin + "/csc/v2/", clientID: h.box.ClientID, secret: h.box.Secret,
		redirect: h.box.Site + "/callback", http: &http.Client{Timeout: time.Minute}}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	raw    []byte
	body   map[string]any
}

func (a answer) text(name string) string { s, _ := a.body[name].(string); return s }

// told is "status error: description".
func (a answer) told() string {
	return fmt.Sprintf("%d %s: %s", a.status, a.text("error"), a.text("error_description"))
}

func (a answer) list(name string) (out []string) {
	list, _ := a.body[name].([]any)
	for _, item := range list {
		s, _ := item.(string)
		out = append(out, s)
	}
	return out
}

func (s *software) send(req *http.Request) answer {
	s.h.t.Helper()
	res, err := s.http.Do(req)
	s.h.must(err)
	defer res.Body.Close()
	a := answer{status: res.StatusCode, header: res.Header}
	a.raw, err = io.ReadAll(res.Body)
	s.h.must(err)
	_ = json.Unmarshal(a.raw, &a.body)
	return a
}

// call calls a method of the API; a string body goes as it is.
func (s *software) call(token, method string, in any) answer {
	s.h.t.Helper()
	body, isText := in.(string)
	if !isText {
		raw, err := json.Marshal(in)
		s.h.must(err)
		body = string(raw)
	}
	req, err := http.NewRequestWithContext(s.h.ctx, http.MethodPost, s.base+method, strings.NewReader(body))
	s.h.must(err)
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return s.send(req)
}

// form posts to an OAuth endpoint as the client.
func (s *software) form(endpoint string, values url.Values) answer {
	s.h.t.Helper()
	req, err := http.NewRequestWithContext(s.h.ctx, http.MethodPost, s.oauth2+endpoint, strings.NewReader(values.Encode()))
	s.h.must(err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(s.clientID), url.QueryEscape(s.secret))
	return s.send(req)
}

// authorization is one that the software has begun.
type authorization struct {
	s               *software
	state, verifier string
	url             string
	desk            *softphone.Browser
	order           string
}

// begin makes the address of an authorization.
func (s *software) begin(more url.Values) *authorization {
	a := &authorization{s: s, state: rand.Text(), verifier: rand.Text() + rand.Text()}
	sum := sha256.Sum256([]byte(a.verifier))
	q := url.Values{"response_type": {"code"}, "client_id": {s.clientID}, "redirect_uri": {s.redirect}, "state": {a.state},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}}
	for name, values := range more {
		q[name] = values
		if values == nil {
			delete(q, name)
		}
	}
	a.url = s.oauth2 + "oauth2/authorize?" + q.Encode()
	return a
}

// open lets a browser follow the address to the order's page.
func (a *authorization) open() *authorization {
	h := a.s.h
	h.t.Helper()
	var err error
	a.desk, err = softphone.NewBrowser(h.box.Origin, nil)
	h.must(err)
	a.order, err = a.desk.Follow(h.ctx, a.url)
	h.must(err)
	return a
}

// refusedWith opens the address and gives the error that the browser brings back.
func (a *authorization) refusedWith() string {
	h := a.s.h
	h.t.Helper()
	desk, err := softphone.NewBrowser(h.box.Origin, nil)
	h.must(err)
	page, err := desk.Get(h.ctx, a.url)
	h.must(err)
	if !strings.HasPrefix(page.Location, a.s.redirect) {
		return fmt.Sprintf("page %d", page.Status)
	}
	u, err := url.Parse(page.Location)
	h.must(err)
	if u.Query().Get("state") != a.state {
		h.t.Errorf("state is lost: %s", page.Location)
	}
	return u.Query().Get("error") + ": " + u.Query().Get("error_description")
}

// claim lets a phone scan the order.
func (a *authorization) claim(phone *softphone.Phone) *softphone.Claim {
	h := a.s.h
	h.t.Helper()
	frame, err := a.desk.Frame(h.ctx, a.order)
	h.must(err)
	c, err := phone.Scan(h.ctx, frame)
	h.must(err)
	return c
}

// approve lets a phone approve and the browser come back with the code.
func (a *authorization) approve(phone *softphone.Phone, how ...softphone.Answer) url.Values {
	h := a.s.h
	h.t.Helper()
	_, err := phone.Approve(h.ctx, a.claim(phone), how...)
	h.must(err)
	return a.back()
}

// back is what the browser brings.
func (a *authorization) back() url.Values {
	h := a.s.h
	h.t.Helper()
	_, err := a.desk.WaitFor(h.ctx, a.order, "approved", "completed", "rejected", "cancelled", "failed")
	h.must(err)
	if st, err := a.desk.Order(h.ctx, a.order); err == nil && st.Kind == "sign" && st.State == "approved" {
		_, err = a.desk.WaitFor(h.ctx, a.order, "completed", "failed")
		h.must(err)
	}
	back, err := a.desk.Return(h.ctx, a.order)
	h.must(err)
	u, err := url.Parse(back)
	h.must(err)
	if !strings.HasPrefix(back, a.s.redirect) || u.Query().Get("state") != a.state {
		h.t.Fatalf("sent to %s", back)
	}
	return u.Query()
}

// redeem exchanges a code.
func (a *authorization) redeem(code string) answer {
	a.s.h.t.Helper()
	return a.s.form("oauth2/token", url.Values{"grant_type": {"authorization_code"}, "code": {code}, "client_id": {a.s.clientID},
		"redirect_uri": {a.s.redirect}, "code_verifier": {a.verifier}})
}

// service gets a token of scope service from a person.
func (s *software) service(phone *softphone.Phone) string {
	s.h.t.Helper()
	a := s.begin(url.Values{"scope": {"service"}, "lang": {"en"}}).open()
	got := a.redeem(a.approve(phone).Get("code"))
	if got.status != http.StatusOK || got.text("token_type") != "Bearer" {
		s.h.t.Fatalf("token: %s", got.raw)
	}
	return got.text("access_token")
}

// ids lists the credentials behind a service token.
func (s *software) ids(token string) []string {
	s.h.t.Helper()
	return s.call(token, "credentials/list", map[string]any{}).list("credentialIDs")
}

const oidSHA256 = "2.16.840.1.101.3.4.2.1"
const ecdsaSHA256 = "1.2.840.10045.4.3.2"

func urlHash(sum []byte) string  { return base64.URLEncoding.EncodeToString(sum) }
func jsonHash(sum []byte) string { return base64.StdEncoding.EncodeToString(sum) }

// hashesOf are digests of texts.
func hashesOf(texts ...string) (out [][]byte) {
	for _, t := range texts {
		sum := sha256.Sum256([]byte(t))
		out = append(out, sum[:])
	}
	return out
}

// forHashes are the parameters of scope credential in the classical form.
func forHashes(credential string, hashes ...[]byte) url.Values {
	list := make([]string, len(hashes))
	for i, sum := range hashes {
		list[i] = urlHash(sum)
	}
	return url.Values{"scope": {"credential"}, "credentialID": {credential}, "numSignatures": {fmt.Sprint(len(hashes))},
		"hashes": {strings.Join(list, ",")}, "hashAlgorithmOID": {oidSHA256}, "description": {"請簽署合約 Contract"}}
}

// sad gets signature activation data over hashes.
func (s *software) sad(phone *softphone.Phone, credential string, hashes ...[]byte) string {
	s.h.t.Helper()
	a := s.begin(forHashes(credential, hashes...)).open()
	got := a.redeem(a.approve(phone).Get("code"))
	if got.status != http.StatusOK {
		s.h.t.Fatalf("token: %s", got.raw)
	}
	return got.text("access_token")
}

// signing is the body of signHash.
func signing(credential, sad string, hashes ...[]byte) map[string]any {
	list := make([]string, len(hashes))
	for i, sum := range hashes {
		list[i] = jsonHash(sum)
	}
	body := map[string]any{"credentialID": credential, "hashes": list, "signAlgo": ecdsaSHA256, "hashAlgorithmOID": oidSHA256,
		"clientData": "a note"}
	if sad != "" {
		body["SAD"] = sad
	}
	return body
}

// refusals counts audit entries that refuse with a code.
func (h *house) refusals(code string) int {
	h.t.Helper()
	return h.count(`SELECT count(*) FROM audit_entries WHERE result = 'refused' AND detail->>'code' = $1`, code)
}

// wants holds an answer against the specification's words, with one audit entry of a code.
func (h *house) wants(name, told, code string, call func() answer) {
	h.t.Helper()
	before := h.refusals(code)
	a := call()
	if a.told() != told {
		h.t.Errorf("%s: %s, want %s", name, bytes.TrimSpace(a.raw), told)
	}
	if got := h.refusals(code); got != before+1 {
		h.t.Errorf("%s: %d entries %s more, want 1", name, got-before, code)
	}
}

// soon tries until something is so: clients are cached for a while.
func (h *house) soon(so func() error) {
	h.t.Helper()
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if err = so(); err == nil {
			return
		}
	}
	h.t.Error(err)
}
