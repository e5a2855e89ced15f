package api_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/crypto/ocsp"

	"sealgate/cmd/sealctl/onebox"
	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/postgres/pgtest"
	"sealgate/internal/softauthn"
	"sealgate/internal/tsp"
)

// road is a whole service whose every answer is kept.
type road struct {
	*testing.T
	ctx   context.Context
	box   *onebox.Box
	seen  *recorder
	http  *http.Client
	phone *softphone.Phone
	token string // for the REST API
	pool  *pgxpool.Pool
}

func TestMainRoadAnswersAsDocumented(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	r := &road{T: t, ctx: ctx, seen: &recorder{}, pool: pgtest.Open(t)}
	var err error
	r.box, err = onebox.Start(ctx, onebox.Config{Dir: t.TempDir(), Pool: r.pool, Cards: true})
	r.must(err)
	defer r.box.Close()
	r.http = &http.Client{Transport: r.seen, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r.phone = softphone.New(softphone.Config{Server: r.box.Origin, HTTP: r.http})
	r.operation()
	r.authority()
	r.enrol()
	r.logIn()
	r.consortium()
	r.orderPage()
	r.signOrders()
	r.dossiers()
	r.device()
	r.ownFiles()
	r.phones()
	r.verifications()
	r.refusals()
	r.judge()
}

func (r *road) must(err error) {
	if err != nil {
		r.Helper()
		r.Fatal(err)
	}
}

// refused wants a problem with a code.
func (r *road) refused(err error, code string) {
	r.Helper()
	if got := softphone.CodeOf(err); got != code {
		r.Errorf("got %v, want %s", err, code)
	}
}

func (r *road) browser() *softphone.Browser {
	b, err := softphone.NewBrowser(r.box.Origin, r.seen)
	r.must(err)
	return b
}

// send makes a call and gives status and body.
func (r *road) send(method, path, contentType string, body []byte, header ...string) (int, []byte) {
	r.Helper()
	address := path
	if strings.HasPrefix(path, "/") {
		address = r.box.Origin + path
	}
	req, err := http.NewRequestWithContext(r.ctx, method, address, bytes.NewReader(body))
	r.must(err)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := r.http.Do(req)
	r.must(err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	r.must(err)
	return res.StatusCode, raw
}

func (r *road) want(status int, method, path, contentType string, body []byte, header ...string) []byte {
	r.Helper()
	got, raw := r.send(method, path, contentType, body, header...)
	if got != status {
		r.Fatalf("%s %s: %d %s", method, path, got, raw)
	}
	return raw
}

func (r *road) form(status int, path string, values url.Values) map[string]any {
	r.Helper()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(r.box.ClientID)+":"+url.QueryEscape(r.box.Secret)))
	raw := r.want(status, http.MethodPost, path, "application/x-www-form-urlencoded", []byte(values.Encode()), "Authorization", basic)
	var out map[string]any
	_ = json.Unmarshal(raw, &out)
	return out
}

// rest is a call of the REST API as the client.
func (r *road) rest(status int, method, path string, in any) map[string]any {
	r.Helper()
	var body []byte
	contentType := ""
	if in != nil {
		var err error
		body, err = json.Marshal(in)
		r.must(err)
		contentType = "application/json"
	}
	var out map[string]any
	_ = json.Unmarshal(r.want(status, method, path, contentType, body, "Authorization", "Bearer "+r.token), &out)
	return out
}

func (r *road) operation() {
	r.want(204, "GET", "/healthz", "", nil)
	r.want(200, "GET", "/readyz", "", nil)
	r.want(200, "GET", "/api/v1/health", "", nil)
	r.want(200, "GET", "/.well-known/openid-configuration", "", nil)
	r.want(200, "GET", "/oauth2/jwks", "", nil)
}

func (r *road) authority() {
	for _, path := range []string{"/pki/root.cer", "/pki/issuing.cer", "/pki/ca.pem", "/pki/root.crl", "/pki/issuing.crl"} {
		r.want(200, "GET", path, "", nil)
		r.want(200, "HEAD", path, "", nil)
	}
	var certs []*x509.Certificate
	for rest := r.want(200, "GET", "/pki/ca.pem", "", nil); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		r.must(err)
		certs = append(certs, c)
	}
	root, issuing := certs[0], certs[len(certs)-1]
	if issuing.CheckSignatureFrom(root) != nil {
		root, issuing = issuing, root
	}
	ask, err := ocsp.CreateRequest(issuing, root, &ocsp.RequestOptions{Hash: crypto.SHA256})
	r.must(err)
	r.want(200, "POST", "/pki/ocsp", "application/ocsp-request", ask)
	r.want(200, "GET", "/pki/ocsp/"+url.PathEscape(base64.StdEncoding.EncodeToString(ask)), "", nil)
	digest := sha256.Sum256([]byte("x"))
	stamp, err := (&tsp.Request{Imprint: tsp.Imprint{Hash: crypto.SHA256, Digest: digest[:]}, CertReq: true}).Marshal()
	r.must(err)
	r.want(200, "POST", "/pki/tsa", "application/timestamp-query", stamp)
}

func (r *road) enrolment(card int) softphone.Enrolment {
	c := r.box.Cards[card]
	return softphone.Enrolment{Browser: r.browser(), Phone: r.phone, NationalID: c.NationalID, DeviceName: "測試手機",
		Card: softphone.Card{Component: r.box.Component, Number: c.Number, PIN: c.PIN}}
}

func (r *road) enrol() {
	early := r.enrolment(0)
	id, _, err := early.Begin(r.ctx)
	r.must(err)
	status, _ := r.pageSend(early.Browser, "GET", "/enrol/"+id+"/statement", nil)
	if status != 409 {
		r.Errorf("a statement before the passkey: %d", status)
	}
	_, err = early.Browser.Step(r.ctx, id, "cancel", nil)
	r.must(err)
	_, err = r.enrolment(0).Run(r.ctx)
	r.must(err)
	for card, code := range map[int]string{4: "cert_expired", 5: "cert_revoked"} {
		_, _, err := r.enrolment(card).Begin(r.ctx)
		r.refused(err, code)
	}
	other := r.enrolment(1)
	other.NationalID = r.box.Cards[2].NationalID
	_, _, err = other.Begin(r.ctx)
	r.refused(err, "enrol_id_mismatch")
}

// pageSend is a call of a page's script, with the browser's cookies.
func (r *road) pageSend(b *softphone.Browser, method, path string, in any) (int, []byte) {
	r.Helper()
	raw, err := json.Marshal(in)
	r.must(err)
	req, err := http.NewRequestWithContext(r.ctx, method, r.box.Origin+path, bytes.NewReader(raw))
	r.must(err)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	} else {
		req.Body = http.NoBody
	}
	res, err := b.Client().Do(req)
	r.must(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	r.must(err)
	return res.StatusCode, body
}

const verifier = "a-verifier-that-is-long-enough-for-the-rules-0123456789"

func (r *road) authorizeValues() url.Values {
	challenge := sha256.Sum256([]byte(verifier))
	return url.Values{"response_type": {"code"}, "client_id": {r.box.ClientID}, "scope": {"openid profile national_id"}, "state": {"s"}, "nonce": {rand.Text()},
		"redirect_uri": {r.box.Site + "/callback"}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}}
}

// begin starts a login in a new browser.
func (r *road) begin() (*softphone.Browser, string) {
	r.Helper()
	desk := r.browser()
	id, err := desk.Follow(r.ctx, "/oauth2/authorize?"+r.authorizeValues().Encode())
	r.must(err)
	return desk, id
}

func (r *road) scan(desk *softphone.Browser, id string) *softphone.Claim {
	r.Helper()
	frame, err := desk.Frame(r.ctx, id)
	r.must(err)
	claim, err := r.phone.Scan(r.ctx, frame)
	r.must(err)
	return claim
}

func (r *road) logIn() {
	desk, id := r.begin()
	claim := r.scan(desk, id)
	_, err := r.phone.Approve(r.ctx, claim)
	r.must(err)
	back, err := desk.Return(r.ctx, id)
	r.must(err)
	u, err := url.Parse(back)
	r.must(err)
	exchange := url.Values{"grant_type": {"authorization_code"}, "code": {u.Query().Get("code")}, "redirect_uri": {r.box.Site + "/callback"}, "code_verifier": {verifier}}
	r.form(400, "/oauth2/token", url.Values{"grant_type": {"authorization_code"}, "code": {"wrong"}, "redirect_uri": {r.box.Site + "/callback"}, "code_verifier": {verifier}})
	tokens := r.form(200, "/oauth2/token", exchange)
	access := tokens["access_token"].(string)
	r.want(200, "GET", "/oauth2/userinfo", "", nil, "Authorization", "Bearer "+access)
	r.want(200, "POST", "/oauth2/userinfo", "", nil, "Authorization", "Bearer "+access)
	r.want(401, "GET", "/oauth2/userinfo", "", nil, "Authorization", "Bearer wrong")
	if a := r.form(200, "/oauth2/introspect", url.Values{"token": {access}}); a["active"] != true {
		r.Errorf("introspection: %v", a)
	}
	r.form(200, "/oauth2/revoke", url.Values{"token": {access}})
	if a := r.form(200, "/oauth2/introspect", url.Values{"token": {access}}); a["active"] != false {
		r.Errorf("introspection after revocation: %v", a)
	}
	r.form(400, "/oauth2/token", exchange) // a second time
	logout := url.Values{"id_token_hint": {tokens["id_token"].(string)}, "client_id": {r.box.ClientID}}
	if status, _ := r.send("GET", "/oauth2/logout?"+logout.Encode(), "", nil); status > 399 {
		r.Errorf("logout: %d", status)
	}
	if status, _ := r.send("POST", "/oauth2/logout", "application/x-www-form-urlencoded", []byte(logout.Encode())); status > 399 {
		r.Errorf("logout posted: %d", status)
	}
	r.want(303, "POST", "/oauth2/authorize", "application/x-www-form-urlencoded", []byte(r.authorizeValues().Encode()))
	r.token = r.form(200, "/oauth2/token", url.Values{"grant_type": {"client_credentials"}, "scope": {"sign"}})["access_token"].(string)
}

// cscToken goes through an authorization of the Cloud Signature Consortium's API.
func (r *road) cscToken(more url.Values) string {
	q := r.authorizeValues()
	for name, values := range more {
		q[name] = values
	}
	desk := r.browser()
	id, err := desk.Follow(r.ctx, "/csc/v2/oauth2/authorize?"+q.Encode())
	r.must(err)
	_, err = r.phone.Approve(r.ctx, r.scan(desk, id))
	r.must(err)
	if q.Get("scope") == "credential" {
		_, err = desk.WaitFor(r.ctx, id, "completed")
		r.must(err)
	}
	back, err := desk.Return(r.ctx, id)
	r.must(err)
	u, err := url.Parse(back)
	r.must(err)
	return r.form(200, "/csc/v2/oauth2/token", url.Values{"grant_type": {"authorization_code"}, "code": {u.Query().Get("code")},
		"redirect_uri": {r.box.Site + "/callback"}, "code_verifier": {verifier}})["access_token"].(string)
}

// consortium walks the Cloud Signature Consortium's API; how it is attacked is
// its own package's test.
func (r *road) consortium() {
	r.want(200, "POST", "/csc/v2/info", "application/json", []byte("{}"))
	r.want(400, "GET", "/csc/v2/oauth2/authorize?redirect_uri=https%3A%2F%2Felse.example%2F&client_id="+r.box.ClientID, "", nil, "Accept", "text/html")
	service := "Bearer " + r.cscToken(url.Values{"scope": {"service"}})
	ask := func(status int, method string, in any) (out map[string]any) {
		body, err := json.Marshal(in)
		r.must(err)
		r.must(json.Unmarshal(r.want(status, "POST", "/csc/v2/"+method, "application/json", body, "Authorization", service), &out))
		return out
	}
	listed := ask(200, "credentials/list", map[string]any{"credentialInfo": true, "certInfo": true, "onlyValid": true})
	id := listed["credentialIDs"].([]any)[0].(string)
	ask(200, "credentials/info", map[string]any{"credentialID": id, "certificates": "chain"})
	ask(400, "credentials/info", map[string]any{})
	sum := sha256.Sum256([]byte("csc"))
	const oid = "2.16.840.1.101.3.4.2.1"
	sad := r.cscToken(url.Values{"scope": {"credential"}, "credentialID": {id}, "numSignatures": {"1"}, "hashAlgorithmOID": {oid},
		"hashes": {base64.RawURLEncoding.EncodeToString(sum[:])}, "description": {"測試"}})
	hash := base64.StdEncoding.EncodeToString(sum[:])
	sign := map[string]any{"credentialID": id, "SAD": sad, "hashes": []string{hash}, "signAlgo": "1.2.840.10045.4.3.2"}
	ask(200, "signatures/signHash", sign)
	ask(400, "signatures/signHash", sign) // a second time
	ask(200, "signatures/timestamp", map[string]any{"hash": hash, "hashAlgo": oid})
	r.want(401, "POST", "/csc/v2/credentials/list", "application/json", []byte("{}"))
	r.form(400, "/csc/v2/oauth2/token", url.Values{"grant_type": {"authorization_code"}, "code": {"wrong"}, "redirect_uri": {"x"}, "code_verifier": {"x"}})
	r.form(204, "/csc/v2/oauth2/revoke", url.Values{"token": {sad}})
}

func (r *road) orderPage() {
	desk, id := r.begin()
	for _, step := range []string{"freeze", "extend", "code"} {
		_, err := desk.Step(r.ctx, id, step, nil)
		r.must(err)
	}
	st, err := desk.Step(r.ctx, id, "code", nil)
	r.must(err)
	r.must(desk.Events(r.ctx, id, func(softphone.Event) bool { return false }))
	_, err = desk.Step(r.ctx, id, "check", map[string]string{"digits": "00"})
	r.refused(err, "order_check_none")
	_, err = r.browser().Order(r.ctx, id)
	r.refused(err, "browser_required")
	stranger, _ := r.begin()
	_, err = stranger.Order(r.ctx, id)
	r.refused(err, "order_wrong_browser")
	claim, err := r.phone.TypeCode(r.ctx, st.Code)
	r.must(err)
	_, err = r.phone.Approve(r.ctx, claim)
	r.refused(err, "order_check_needed")
	wrong := "00"
	if claim.Check.Digits == wrong {
		wrong = "11"
	}
	r.refused(desk.Check(r.ctx, id, wrong), "order_check_wrong")
	r.must(desk.Check(r.ctx, id, claim.Check.Digits))
	_, err = desk.Step(r.ctx, id, "extend", nil)
	r.refused(err, "order_claimed")
	_, err = desk.Step(r.ctx, id, "cancel", nil)
	r.must(err)
	_, err = r.phone.Approve(r.ctx, claim)
	r.refused(err, "order_cancelled")
}

func files(n int) []softphone.Document {
	out := make([]softphone.Document, n)
	for i := range out {
		sum := sha256.Sum256(fmt.Appendf(nil, "file %d", i))
		out[i] = softphone.Document{Name: fmt.Sprintf("公文%d.pdf", i), MediaType: "application/pdf", Size: 6, DigestAlgorithm: "SHA-256",
			Digest: base64.StdEncoding.EncodeToString(sum[:])}
	}
	return out
}

func newDocuments(n int) []map[string]any {
	var out []map[string]any
	for _, f := range files(n) {
		out = append(out, map[string]any{"name": f.Name, "media_type": f.MediaType, "size": f.Size, "digest_algorithm": f.DigestAlgorithm, "digest": f.Digest})
	}
	return out
}

func (r *road) signOrders() {
	body := map[string]any{"text": "請簽核", "return_uri": r.box.Site + "/signed", "documents": newDocuments(3)}
	made := r.rest(201, "POST", "/api/v1/sign-orders", body)
	path := "/api/v1/sign-orders/" + made["order"].(string)
	r.rest(200, "GET", path+"?wait=1", nil)
	r.rest(409, "GET", path+"/documents/0/signature", nil)
	r.rest(409, "GET", path+"/evidence", nil)
	desk := r.browser()
	_, err := desk.Get(r.ctx, "/start/"+made["order"].(string))
	r.must(err)
	_, err = desk.Step(r.ctx, made["order"].(string), "open", map[string]string{"start_token": "AAAA"})
	r.refused(err, "start_token_wrong")
	id, err := desk.Open(r.ctx, made["start_url"].(string))
	r.must(err)
	claim := r.scan(desk, id)
	_, err = r.phone.Status(r.ctx, claim, 0)
	r.must(err)
	_, err = r.phone.Approve(r.ctx, claim, softphone.Answer{LeftOut: []int{0, 1, 2}})
	r.refused(err, "left_out_invalid")
	_, err = r.phone.Approve(r.ctx, claim, softphone.Answer{LeftOut: []int{1}})
	r.must(err)
	_, err = desk.WaitFor(r.ctx, id, "completed")
	r.must(err)
	r.rest(200, "GET", path, nil)
	r.rest(200, "GET", path+"/documents/2/signature", nil)
	r.rest(404, "GET", path+"/documents/1/signature", nil)
	r.rest(404, "GET", path+"/documents/9/signature", nil)
	for status, content := range map[int]string{200: "file 2", 422: "another"} {
		r.want(status, "POST", path+"/documents/2/attached", "application/octet-stream", []byte(content), "Authorization", "Bearer "+r.token)
	}
	r.rest(200, "GET", path+"/evidence", nil)
	r.rest(200, "GET", path+"/documents/0/evidence", nil)
	r.rest(409, "POST", path+"/cancel", nil)
	other := r.rest(201, "POST", "/api/v1/sign-orders", map[string]any{"documents": newDocuments(1)})
	r.rest(200, "POST", "/api/v1/sign-orders/"+other["order"].(string)+"/cancel", nil)
}

func (r *road) device() {
	desk, id := r.begin()
	here := desk.Phone(r.phone.Keys())
	claim, err := here.Here(r.ctx, id)
	r.must(err)
	_, err = here.Resume(r.ctx, claim.Order, claim.Token)
	r.must(err)
	_, err = here.Status(r.ctx, claim, time.Second)
	r.must(err)
	_, err = here.Approve(r.ctx, claim)
	r.must(err)
	_, err = here.Approve(r.ctx, claim)
	r.refused(err, "order_approved")
	desk, id = r.begin()
	claim = r.scan(desk, id)
	frame := r.phone
	r.must(frame.Reject(r.ctx, claim, "fraud"))
	_, err = r.phone.Scan(r.ctx, r.box.Origin+"/q/AAAAAAAAAAAAAAAAAAAAAA.1.AAAAAAAAAAA")
	r.refused(err, "frame_unknown")
	_, err = r.phone.TypeCode(r.ctx, "12345678")
	r.refused(err, "code_unknown")
	_, err = r.phone.Resume(r.ctx, claim.Order, strings.Repeat("A", 43))
	r.refused(err, "order_wrong_claim")

	me := r.browser().Phone(r.phone.Keys())
	var list struct{ Items []any }
	r.refused(me.Read(r.ctx, "history", &list), "session_required")
	r.must(me.OpenSession(r.ctx))
	r.must(me.Read(r.ctx, "history", &list))
	r.must(me.Read(r.ctx, "devices", &list))
	r.renewal(me)
	r.want(204, "DELETE", "/api/device/v1/sessions", "", nil)
}

// renewal puts a new certificate in the place of one that ends soon.
func (r *road) renewal(me *softphone.Phone) {
	_, err := me.Renew(r.ctx)
	r.refused(err, "renewal_early")
	_, err = r.pool.Exec(r.ctx, `UPDATE mobile_certificates SET not_after = now() + interval '9 days'`)
	r.must(err)
	begun, err := me.BeginRenewal(r.ctx)
	r.must(err)
	_, err = me.CompleteRenewal(r.ctx, begun)
	r.must(err)
	_, err = me.CompleteRenewal(r.ctx, begun)
	r.refused(err, "renewal_gone")
}

// phones is the life of a second phone, and a loss reported with the card.
func (r *road) phones() {
	first := r.phone
	second := r.enrolment(0)
	second.Phone = softphone.New(softphone.Config{Server: r.box.Origin, HTTP: r.http})
	bound, err := second.Run(r.ctx)
	r.must(err)
	me := r.browser().Phone(first.Keys())
	r.refused(me.RenameDevice(r.ctx, bound.Device.ID, "x"), "session_required")
	r.must(me.OpenSession(r.ctx))
	r.must(me.RenameDevice(r.ctx, bound.Device.ID, "舊手機"))
	r.refused(me.ChangeDevice(r.ctx, "00000000-0000-0000-0000-000000000000", "suspend"), "device_not_found")
	r.must(me.ChangeDevice(r.ctx, bound.Device.ID, "suspend"))
	r.refused(me.ChangeDevice(r.ctx, bound.Device.ID, "suspend"), "device_state")
	r.must(me.ChangeDevice(r.ctx, bound.Device.ID, "resume"))
	r.must(me.ChangeDevice(r.ctx, bound.Device.ID, "remove"))
	list, err := me.Devices(r.ctx)
	r.must(err)
	if len(list.Items) != 1 {
		r.Fatalf("devices: %+v", list)
	}
	r.addition(first)
	r.must(me.Post(r.ctx, "/notices/seen", map[string]string{"last": bound.Device.ID}, nil))
	r.want(200, "GET", "/pki/issuing-2-1.crl", "", nil)
	r.want(200, "HEAD", "/pki/issuing-2-1.crl", "", nil)
	for _, purpose := range []string{"report-loss", "undo-loss"} {
		r.loss(purpose)
	}
}

// addition adds a phone from the first one.
func (r *road) addition(first *softphone.Phone) {
	b := r.browser()
	a := softphone.Addition{Browser: b, First: b.Phone(first.Keys()), DeviceName: "新手機"}
	r.refused(a.First.Post(r.ctx, "/additions", struct{}{}, nil), "session_required")
	id, err := a.Begin(r.ctx)
	r.must(err)
	second := softphone.New(softphone.Config{Server: r.box.Origin, HTTP: r.http})
	r.must(a.Bind(r.ctx, id, second))
	n, err := a.Newcomer(r.ctx, id)
	r.must(err)
	_, err = a.Agree(r.ctx, id, n, softauthn.WithoutUV)
	r.refused(err, "passkey_user_verification")
	added, err := a.Agree(r.ctx, id, n)
	r.must(err)
	list, err := a.First.Devices(r.ctx)
	r.must(err)
	if len(list.Items) != 2 || list.Items[1].AddedBy == nil || list.Items[1].CooldownUntil == "" {
		r.Fatalf("devices: %+v", list)
	}
	r.must(a.First.ChangeDevice(r.ctx, added.Device.ID, "remove"))
}

// loss lets the card sign a statement about all phones.
func (r *road) loss(purpose string) {
	card := r.enrolment(0).Card
	info, err := card.Read(r.ctx)
	r.must(err)
	desk := r.browser()
	_, err = desk.Get(r.ctx, "/lost/card")
	r.must(err)
	status, raw := r.pageSend(desk, "POST", "/lost/statements", map[string]string{"purpose": purpose, "certificate": info.Certificate, "card_number": info.CardNumber})
	if status != 201 {
		r.Fatalf("%s: %d %s", purpose, status, raw)
	}
	var statement struct{ ID, TBS, Nonce string }
	r.must(json.Unmarshal(raw, &statement))
	signed, err := card.Sign(r.ctx, statement.TBS, statement.Nonce, info.Reader)
	r.must(err)
	proof := map[string]string{"signature": signed.Signature, "certificate": signed.Certificate, "card_number": signed.CardNumber}
	path := "/lost/statements/" + statement.ID + "/proof"
	if status, raw := r.pageSend(desk, "POST", path, proof); status != 200 {
		r.Fatalf("%s: %d %s", purpose, status, raw)
	}
	if status, raw := r.pageSend(desk, "POST", path, proof); status != 410 {
		r.Errorf("%s a second time: %d %s", purpose, status, raw)
	}
}

func (r *road) ownFiles() {
	_, err := r.browser().SignFiles(r.ctx, files(1))
	r.refused(err, "session_required")
	desk := r.browser()
	r.must(desk.LogIn(r.ctx, r.phone))
	id, err := desk.SignFiles(r.ctx, files(2))
	r.must(err)
	_, err = r.phone.Approve(r.ctx, r.scan(desk, id))
	r.must(err)
	_, err = desk.WaitFor(r.ctx, id, "completed")
	r.must(err)
	page, err := desk.Get(r.ctx, "/o/"+id+"/documents/1.p7s")
	r.must(err)
	if page.Status != 200 {
		r.Errorf("download: %d %s", page.Status, page.Body)
	}
}

// verifications has a signature of the service judged by anybody.
func (r *road) verifications() {
	made := r.rest(201, "POST", "/api/v1/sign-orders", map[string]any{"documents": newDocuments(1)})
	desk := r.browser()
	id, err := desk.Open(r.ctx, made["start_url"].(string))
	r.must(err)
	_, err = r.phone.Approve(r.ctx, r.scan(desk, id))
	r.must(err)
	_, err = desk.WaitFor(r.ctx, id, "completed")
	r.must(err)
	p7s := r.want(200, "GET", "/api/v1/sign-orders/"+made["order"].(string)+"/documents/0/signature", "", nil, "Authorization", "Bearer "+r.token)
	question := map[string]any{"signature": p7s}
	ask := func(status int, path string) map[string]any {
		body, err := json.Marshal(question)
		r.must(err)
		var out map[string]any
		_ = json.Unmarshal(r.want(status, "POST", "/api/v1/verifications"+path, "application/json", body), &out)
		return out
	}
	if needs := ask(200, "/needs"); fmt.Sprint(needs["digests"]) != "[SHA-256]" {
		r.Errorf("needs: %v", needs)
	}
	question["digests"] = map[string]any{"SHA-256": files(1)[0].Digest}
	if a := ask(200, ""); a["outlook"] != "valid" {
		r.Errorf("a signature of the service: %v", a)
	}
	ask(200, "?report=signed")
	question["digests"] = map[string]any{"SHA-256": "AAAA"}
	ask(400, "")
	question = map[string]any{"signature": []byte("no signature")}
	ask(400, "/needs")
}

func (r *road) refusals() {
	order := "/api/v1/sign-orders"
	r.want(401, "POST", order, "application/json", []byte(`{}`))
	r.rest(400, "POST", order, map[string]any{"documents": newDocuments(1), "return_uri": "https://elsewhere.example/"})
	r.rest(400, "POST", order, map[string]any{"documents": newDocuments(1), "unknown": true})
	r.rest(400, "POST", order, map[string]any{"documents": []any{}})
	r.rest(404, "GET", order+"/AAAAAAAAAAAAAAAAAAAAAA", nil)
	r.want(415, "POST", "/api/device/v1/claims", "text/plain", []byte(`{}`))
	r.want(400, "POST", "/api/device/v1/claims", "application/json", []byte(`{"source":"wish"}`))
	r.want(401, "POST", "/oauth2/token", "application/x-www-form-urlencoded", []byte("grant_type=client_credentials&client_id="+r.box.ClientID+"&client_secret=wrong"))
}

// judge validates every kept exchange.
func (r *road) judge() {
	d := readDocument(r.T)
	operations := d.operations()
	done, problems := map[string]bool{}, 0
	for _, e := range r.seen.seen {
		name := d.operation(e.request)
		op := operations[name]
		if op == nil {
			if strings.HasPrefix(e.request.URL.Path, "/api/") {
				r.Errorf("%s %s is not documented", e.request.Method, e.request.URL.Path)
			}
			continue
		}
		status := e.response.StatusCode
		if status < 400 {
			done[name] = true
		}
		r.validate(d, name, e)
		if e.response.Header.Get("Content-Type") == "application/problem+json" {
			problems++
			var p struct{ Code string }
			r.must(json.Unmarshal(e.received, &p))
			if !contains(problemCodes(r.T, op), p.Code) {
				r.Errorf("%s answers the code %q, which it does not list", name, p.Code)
			}
		}
	}
	for name := range operations {
		if !done[name] {
			r.Errorf("%s was never answered with success on this road", name)
		}
	}
	if problems < 20 {
		r.Errorf("only %d problems were seen", problems)
	}
	r.Logf("%d calls, %d operations, %d problems", len(r.seen.seen), len(done), problems)
}

// validate holds an answer, and a call that was accepted, against the document.
func (r *road) validate(d *document, name string, e exchange) {
	stream := strings.HasPrefix(e.response.Header.Get("Content-Type"), "text/event-stream")
	if stream || e.request.Method == http.MethodHead {
		return
	}
	e.request.Body = io.NopCloser(bytes.NewReader(e.sent))
	if e.response.StatusCode < 400 {
		if ok, errs := d.validator.ValidateHttpRequestSync(e.request); !ok {
			for _, err := range errs {
				r.Errorf("%s: the call: %s %s %v", name, err.Message, err.Reason, err.SchemaValidationErrors)
			}
		}
	}
	e.request.Body = io.NopCloser(bytes.NewReader(e.sent))
	e.response.Body = io.NopCloser(bytes.NewReader(e.received))
	if ok, errs := d.validator.ValidateHttpResponse(e.request, e.response); !ok {
		for _, err := range errs {
			r.Errorf("%s: the answer %d: %s %s\n%v\n%.300s", name, e.response.StatusCode, err.Message, err.Reason, err.SchemaValidationErrors, e.received)
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// TestValidationCanFail shows that the validator notices a wrong answer.
func TestValidationCanFail(t *testing.T) {
	d := readDocument(t)
	req, err := http.NewRequest(http.MethodGet, "https://id.example.gov.tw/api/v1/health", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer := func(body string) bool {
		ok, _ := d.validator.ValidateHttpResponse(req, &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(strings.NewReader(body)), Request: req})
		return ok
	}
	if !answer(`{"status":"ok","server_time":"2026-01-02T03:04:05.678Z"}`) {
		t.Error("a right answer is refused")
	}
	for _, wrong := range []string{`{"status":"ok"}`, `{"status":"bad","server_time":"2026-01-02T03:04:05.678Z"}`,
		`{"status":"ok","server_time":"2026-01-02T03:04:05.678Z","more":1}`, `{"status":"ok","server_time":"yesterday"}`} {
		if answer(wrong) {
			t.Errorf("a wrong answer is accepted: %s", wrong)
		}
	}
}
