package oidc_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"golang.org/x/oauth2"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/fault"
	"sealgate/internal/keyring"
	"sealgate/internal/oidc"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
	"sealgate/internal/softauthn"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	passkeyOrigin = "https://id.example"
	redirectURI   = "http://localhost:8090/callback"
)

// house is a whole provider on a real database behind a real HTTP server.
type house struct {
	t        testing.TB
	db       *postgres.DB
	ring     *keyring.Keyring
	vault    *citizen.Vault
	agencies *agency.Service
	orders   *order.Service
	provider *oidc.Provider
	rp       *passkey.RelyingParty
	server   *httptest.Server
	clock    *clock
	secret   string
}

type clock struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off)
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off += d
}

func newHouse(t testing.TB) *house {
	t.Helper()
	return newHouseWith(t, func(*oidc.Config) {})
}

// newHouseWith is a house whose provider is configured otherwise, and whose
// OIDC keys lie in a token where one is given.
func newHouseWith(t testing.TB, change func(*oidc.Config), token ...keyring.Provider) *house {
	t.Helper()
	ctx := context.Background()
	h := &house{t: t, db: postgres.New(pgtest.Open(t)), clock: &clock{}, secret: agency.NewSecret()}
	var routes http.Handler
	h.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { routes.ServeHTTP(w, r) }))
	t.Cleanup(h.server.Close)

	master := make([]byte, 32)
	rand.Read(master)
	mk, err := keyring.NewMasterKey(master)
	h.must(err)
	kc := keyring.Config{MasterKeys: []*keyring.MasterKey{mk}, Store: h.db.Keyring()}
	if len(token) > 0 {
		kc.Token, kc.TokenPurposes = token[0], []string{keyring.PurposeOIDC}
	}
	h.ring, err = keyring.New(kc)
	h.must(err)
	secret := func(name string) []byte {
		s, err := h.ring.Secret(ctx, name)
		h.must(err)
		return s
	}
	h.vault, err = citizen.NewVault(citizen.VaultConfig{LookupSecret: secret(keyring.SecretIDLookup), Seal: h.ring.Seal, Open: h.ring.Open})
	h.must(err)
	h.agencies, err = agency.New(agency.Config{Store: h.db.Agency(), SecretKey: secret(keyring.SecretClientSecret),
		PairwiseSecret: secret(keyring.SecretPairwise), AllowLoopback: true, Now: h.clock.now})
	h.must(err)
	h.must(h.agencies.SeedDemo(ctx, "http://localhost:8090", h.secret))
	h.orders = h.orderService()
	cfg := oidc.Config{
		Issuer: h.server.URL, Store: h.db.OIDC(), Agencies: h.agencies, Orders: h.orders, Keyring: h.ring, Vault: h.vault,
		CodeSecret: secret(keyring.SecretCode), ReleaseNationalID: true, Log: slog.New(slog.DiscardHandler), Now: h.clock.now,
		Browser: browserKey,
		Origin: func(r *http.Request) order.Origin {
			return order.Origin{IP: netip.MustParseAddr("192.0.2.10"), Browser: "Chrome", OS: "Windows"}
		},
		ErrorPage: func(w http.ResponseWriter, r *http.Request, err error) {
			w.Header().Set("X-Fault", fault.CodeOf(err))
			w.WriteHeader(http.StatusBadRequest)
		},
	}
	change(&cfg)
	h.provider, err = oidc.New(ctx, cfg)
	h.must(err)
	r := chi.NewRouter()
	h.provider.Mount(r)
	r.Get("/o/{oid}/return", func(w http.ResponseWriter, r *http.Request) {
		id, err := order.ParseID(chi.URLParam(r, "oid"))
		h.must(err)
		to, err := h.provider.Return(r.Context(), id, browserKey(w, r))
		if err != nil {
			w.Header().Set("X-Fault", fault.CodeOf(err))
			w.WriteHeader(http.StatusConflict)
			return
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	})
	routes = r
	return h
}

func browserKey(w http.ResponseWriter, r *http.Request) (key order.BrowserKey) {
	if c, err := r.Cookie("browser"); err == nil {
		raw, _ := base64.RawURLEncoding.DecodeString(c.Value)
		copy(key[:], raw)
		return key
	}
	rand.Read(key[:])
	http.SetCookie(w, &http.Cookie{Name: "browser", Value: base64.RawURLEncoding.EncodeToString(key[:]), Path: "/"})
	return key
}

func (h *house) must(err error) {
	if err != nil {
		h.t.Helper()
		h.t.Fatal(err)
	}
}

func (h *house) orderService() *order.Service {
	var err error
	h.rp, err = passkey.New(passkey.Config{RPID: "id.example", RPName: "Sealgate", Origins: []string{passkeyOrigin}})
	h.must(err)
	s, err := order.New(order.Config{
		Store: h.db.Orders(), WaitingStore: h.db.Orders(), RelyingParty: h.rp, RPID: "id.example", PublicOrigin: passkeyOrigin,
		Frames:   order.FrameLimits{Step: 2 * time.Second, Scanner: 10 * time.Second, Link: 45 * time.Second, Frozen: time.Minute},
		Lifetime: 2 * time.Minute, MaxLifetime: 20 * time.Minute, PhoneStep: 3 * time.Minute, CodeLifetime: 5 * time.Minute,
		MaxExtend: 10, MaxDocuments: 200,
		CodeMAC:      func(s string) []byte { m := sha256.Sum256([]byte(s)); return m[:] },
		Suspend:      func(context.Context, uuid.UUID, string, audit.Entry) error { return nil },
		EnrolOptions: func(context.Context, uuid.UUID, [32]byte) ([]byte, string, error) { return nil, "", nil },
		Finish:       func(uuid.UUID) {},
		Hub:          order.NewHub(), Log: slog.New(slog.DiscardHandler), Now: h.clock.now,
	})
	h.must(err)
	return s
}

func (h *house) exec(sql string, args ...any) {
	h.t.Helper()
	_, err := h.db.Pool.Exec(context.Background(), sql, args...)
	h.must(err)
}

// phone is a citizen with a bound soft phone.
type phone struct {
	auth    *softauthn.Authenticator
	citizen uuid.UUID
}

// bind adds the test citizen 測試甲 with a phone, as enrolment would leave them.
func (h *house) bind(n int) *phone {
	h.t.Helper()
	ctx := context.Background()
	p := &phone{auth: softauthn.New(softauthn.Options{}), citizen: uuid.Must(uuid.NewV7())}
	id, err := citizen.ParseNationalID("A123456789")
	h.must(err)
	mac := h.vault.MAC(id)
	if n > 0 {
		sum := sha256.Sum256(fmt.Append(nil, n))
		mac = sum[:]
	}
	handle := h.vault.UserHandle(mac)
	user := passkey.User{Handle: handle, Name: "測○甲", DisplayName: "測○甲"}
	challenge := sha256.Sum256(handle)
	opts, err := h.rp.CreationOptions(user, challenge[:], nil)
	h.must(err)
	response, _, err := p.auth.Create(passkeyOrigin, opts)
	h.must(err)
	c, _, err := h.rp.Register(response, user, challenge[:])
	h.must(err)
	name, err := h.vault.Seal(ctx, citizen.FieldName, mac, "測試甲")
	h.must(err)
	number, err := h.vault.Seal(ctx, citizen.FieldNationalID, mac, "A123456789")
	h.must(err)
	h.exec(`INSERT INTO citizens (id, national_id_mac, national_id_sealed, name_sealed, subject_serial, user_handle)
		VALUES ($1, $2, $3, $4, $5, $6)`, p.citizen, mac, number, name, fmt.Sprintf("%016d", n), handle)
	card := uuid.New()
	h.exec(`INSERT INTO citizen_certificates (id, citizen_id, fingerprint, der, not_before, not_after, checked_at)
		VALUES ($1, $2, $3, 'x', now() - interval '1 day', now() + interval '1 year', now())`, card, p.citizen, mac)
	h.exec(`INSERT INTO devices (id, citizen_id, citizen_certificate_id, enrolment_id, credential_id, cose_key, cose_algorithm,
		user_handle, sign_count, aaguid, backup_eligible, backup_state, attestation_format, name)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, '測試手機')`,
		uuid.Must(uuid.NewV7()), p.citizen, card, uuid.New(), c.ID, c.PublicKey, c.Algorithm, handle, int64(c.SignCount), c.AAGUID,
		c.BackupEligible, c.BackupState, c.AttestationFormat)
	return p
}

// browser is a person's browser: it keeps cookies and does not follow redirects.
type browser struct {
	h *house
	*http.Client
}

func (h *house) browser() *browser {
	jar, err := cookiejar.New(nil)
	h.must(err)
	return &browser{h, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (b *browser) key() (key order.BrowserKey) {
	u, _ := url.Parse(b.h.server.URL)
	for _, c := range b.Jar.Cookies(u) {
		if c.Name == "browser" {
			raw, _ := base64.RawURLEncoding.DecodeString(c.Value)
			copy(key[:], raw)
		}
	}
	return key
}

// open gets a page and gives the status, the fault of an error page and where it leads.
func (b *browser) open(address string) (status int, code string, to *url.URL) {
	b.h.t.Helper()
	res, err := b.Get(address)
	b.h.must(err)
	defer res.Body.Close()
	to, _ = res.Location()
	return res.StatusCode, res.Header.Get("X-Fault"), to
}

// site is an agency's system built on ordinary client libraries.
type site struct {
	config   oauth2.Config
	provider *gooidc.Provider
	verifier *gooidc.IDTokenVerifier
	pkce     string
}

func (h *house) site(scopes ...string) *site {
	h.t.Helper()
	p, err := gooidc.NewProvider(context.Background(), h.server.URL)
	h.must(err)
	endpoint := p.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	return &site{
		config: oauth2.Config{ClientID: agency.DemoClientID, ClientSecret: h.secret, Endpoint: endpoint,
			RedirectURL: redirectURI, Scopes: append([]string{"openid"}, scopes...)},
		provider: p, verifier: p.Verifier(&gooidc.Config{ClientID: agency.DemoClientID}), pkce: oauth2.GenerateVerifier(),
	}
}

func (s *site) authURL(more ...oauth2.AuthCodeOption) string {
	options := append([]oauth2.AuthCodeOption{gooidc.Nonce("the-nonce"), oauth2.S256ChallengeOption(s.pkce)}, more...)
	return s.config.AuthCodeURL("the state & more", options...)
}

func (s *site) exchange(code string) (*oauth2.Token, error) {
	return s.config.Exchange(context.Background(), code, oauth2.VerifierOption(s.pkce))
}

// start opens the authorization address and gives the order it made.
func (b *browser) start(address string) order.ID {
	b.h.t.Helper()
	status, code, to := b.open(address)
	if status != http.StatusSeeOther || !strings.HasPrefix(to.Path, "/o/") {
		b.h.t.Fatalf("authorize: %d %s %v", status, code, to)
	}
	id, err := order.ParseID(strings.TrimPrefix(to.Path, "/o/"))
	b.h.must(err)
	return id
}

// approve lets the phone approve an order of this browser on the same device.
func (b *browser) approve(id order.ID, p *phone) {
	b.h.t.Helper()
	key := b.key()
	c, err := b.h.orders.Claim(context.Background(), order.ClaimRequest{Source: order.SameDevice, Order: id.String(), Browser: &key})
	b.h.must(err)
	answer, err := p.auth.Get(passkeyOrigin, c.Options)
	b.h.must(err)
	_, err = b.h.orders.Approve(context.Background(), order.ApproveRequest{Order: c.ID, Token: c.Token, Assertion: answer})
	b.h.must(err)
}

// back follows the way back to the client and gives its parameters.
func (b *browser) back(id order.ID) url.Values {
	b.h.t.Helper()
	status, code, to := b.open(b.h.server.URL + "/o/" + id.String() + "/return")
	if status != http.StatusSeeOther {
		b.h.t.Fatalf("return: %d %s", status, code)
	}
	if got := to.Scheme + "://" + to.Host + to.Path; got != redirectURI {
		b.h.t.Fatalf("sent to %s", got)
	}
	return to.Query()
}

// code logs in up to the authorization code.
func (h *house) code(s *site, p *phone, more ...oauth2.AuthCodeOption) (string, order.ID) {
	h.t.Helper()
	b := h.browser()
	id := b.start(s.authURL(more...))
	b.approve(id, p)
	q := b.back(id)
	if q.Get("code") == "" {
		h.t.Fatalf("no code: %v", q)
	}
	return q.Get("code"), id
}

// post sends a form to an endpoint, with Basic authentication unless user is empty.
func (h *house) post(path, user, password string, form url.Values) (int, map[string]any, http.Header) {
	h.t.Helper()
	return h.postBody(path, user, password, "application/x-www-form-urlencoded", form.Encode())
}

func (h *house) postBody(path, user, password, contentType, body string) (int, map[string]any, http.Header) {
	h.t.Helper()
	req, err := http.NewRequest(http.MethodPost, h.server.URL+path, strings.NewReader(body))
	h.must(err)
	req.Header.Set("Content-Type", contentType)
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	res, err := http.DefaultClient.Do(req)
	h.must(err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	h.must(err)
	var answer map[string]any
	_ = json.Unmarshal(raw, &answer)
	return res.StatusCode, answer, res.Header
}

// tokenForm is a correct token request.
func (s *site) tokenForm(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirectURI}, "code_verifier": {s.pkce}}
}

// lastEntry is the newest audit entry: "act result code".
func (h *house) lastEntry() string {
	h.t.Helper()
	var s string
	h.must(h.db.Pool.QueryRow(context.Background(),
		`SELECT act || ' ' || result || coalesce(' ' || (detail->>'code'), '') FROM audit_entries ORDER BY id DESC LIMIT 1`).Scan(&s))
	return s
}

func (h *house) count(sql string, args ...any) (n int) {
	h.t.Helper()
	h.must(h.db.Pool.QueryRow(context.Background(), sql, args...).Scan(&n))
	return n
}

func kidOf(t testing.TB, jws string) string {
	t.Helper()
	head, _, _ := strings.Cut(jws, ".")
	raw, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		t.Fatal(err)
	}
	var header struct{ Kid string }
	if err := json.Unmarshal(raw, &header); err != nil {
		t.Fatal(err)
	}
	return header.Kid
}
