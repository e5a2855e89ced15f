package order_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
	"sealgate/internal/softauthn"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	origin = "https://id.example"
	rpID   = "id.example"
)

// house is a service on a real database with one client and no citizens yet.
type house struct {
	*order.Service
	t        *testing.T
	pool     *pgxpool.Pool
	db       *postgres.DB
	rp       *passkey.RelyingParty
	hub      *order.Hub
	client   order.Client
	clock    *clock
	finished chan uuid.UUID
	mu       sync.Mutex
	stopped  []string
	synced   passkey.SyncedRule
	wrap     func(order.Store) order.Store // nil: the store as it is
}

// clock is a time that tests move.
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

func newHouse(t *testing.T) *house {
	t.Helper()
	pool := pgtest.Open(t)
	rp, err := passkey.New(passkey.Config{RPID: rpID, RPName: "Sealgate", Origins: []string{origin}})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, pool: pool, db: postgres.New(pool), rp: rp, hub: order.NewHub(), clock: &clock{}, finished: make(chan uuid.UUID, 100)}
	h.client = h.addClient("tax")
	h.Service = h.node(h.hub)
	return h
}

// node makes a service of its own on the same database, as another node would.
func (h *house) node(hub *order.Hub) *order.Service {
	h.t.Helper()
	var store order.Store = h.db.Orders()
	if h.wrap != nil {
		store = h.wrap(store)
	}
	s, err := order.New(order.Config{
		Store: store, WaitingStore: h.db.Orders(), RelyingParty: h.rp, RPID: rpID, PublicOrigin: origin,
		Frames:   order.FrameLimits{Step: 2 * time.Second, Scanner: 10 * time.Second, Link: 45 * time.Second, Frozen: 60 * time.Second},
		Lifetime: 2 * time.Minute, MaxLifetime: 20 * time.Minute, PhoneStep: 3 * time.Minute, CodeLifetime: 5 * time.Minute,
		MaxExtend: 10, MaxDocuments: 200, SyncedPasskeys: h.synced,
		CodeMAC: func(s string) []byte { m := sha256.Sum256([]byte(s)); return m[:] },
		Suspend: func(ctx context.Context, id uuid.UUID, reason string, e audit.Entry) error {
			h.mu.Lock()
			h.stopped = append(h.stopped, reason)
			h.mu.Unlock()
			_, err := h.pool.Exec(ctx, "UPDATE devices SET state = 'suspended', state_reason = $2 WHERE id = $1", id, reason)
			return err
		},
		EnrolOptions: func(context.Context, uuid.UUID, [32]byte) ([]byte, string, error) {
			return []byte("{}"), "測○甲", nil
		},
		Finish: func(id uuid.UUID) { h.finished <- id },
		Hub:    hub, Log: slog.New(slog.DiscardHandler), Now: h.clock.now,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *house) exec(sql string, args ...any) {
	h.t.Helper()
	if _, err := h.pool.Exec(context.Background(), sql, args...); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) addClient(name string) order.Client {
	h.t.Helper()
	agency, client := uuid.New(), uuid.New()
	h.exec(`INSERT INTO agencies (id, code, name_zh, name_en) VALUES ($1, $2, '測試機關', 'Test agency')`, agency, name)
	h.exec(`INSERT INTO clients (id, client_id, agency_id, name_zh, name_en, token_endpoint_auth_method, sector_identifier)
		VALUES ($1, $2, $3, '測試系統', 'Test system', 'none', $2)`, client, name, agency)
	return order.Client{ID: client, ClientID: name, Host: name + ".example", AgencyCode: name,
		Name: order.Names{"zh-Hant": "測試系統", "en": "Test system"}, AgencyName: order.Names{"zh-Hant": "測試機關", "en": "Test agency"}}
}

// phone is a citizen with a bound soft phone.
type phone struct {
	auth    *softauthn.Authenticator
	citizen uuid.UUID
	device  uuid.UUID
	handle  []byte
}

// bind adds a citizen whose phone is bound, as enrolment would leave them.
func (h *house) bind(n int, certificate bool, options softauthn.Options) *phone {
	h.t.Helper()
	p := &phone{auth: softauthn.New(options), citizen: uuid.New(), device: uuid.New()}
	mac := sha256.Sum256(fmt.Appendf(nil, "citizen %d", n))
	handle := sha256.Sum256(mac[:])
	p.handle = handle[:]
	challenge := sha256.Sum256(handle[:])
	user := passkey.User{Handle: p.handle, Name: "測○甲", DisplayName: "測○甲"}
	opts, err := h.rp.CreationOptions(user, challenge[:], nil)
	if err != nil {
		h.t.Fatal(err)
	}
	response, _, err := p.auth.Create(origin, opts)
	if err != nil {
		h.t.Fatal(err)
	}
	c, _, err := h.rp.Register(response, user, challenge[:])
	if err != nil {
		h.t.Fatal(err)
	}
	h.exec(`INSERT INTO citizens (id, national_id_mac, national_id_sealed, name_sealed, subject_serial, user_handle)
		VALUES ($1, $2, 'x', 'x', $3, $4)`, p.citizen, mac[:], fmt.Sprintf("%016d", n), p.handle)
	card := uuid.New()
	h.exec(`INSERT INTO citizen_certificates (id, citizen_id, fingerprint, der, not_before, not_after, checked_at)
		VALUES ($1, $2, $3, 'x', now() - interval '1 day', now() + interval '1 year', now())`, card, p.citizen, mac[:])
	h.exec(`INSERT INTO devices (id, citizen_id, citizen_certificate_id, enrolment_id, credential_id, cose_key, cose_algorithm,
		user_handle, sign_count, aaguid, backup_eligible, backup_state, attestation_format, name)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, '測試手機')`,
		p.device, p.citizen, card, uuid.New(), c.ID, c.PublicKey, c.Algorithm, p.handle, int64(c.SignCount), c.AAGUID,
		c.BackupEligible, c.BackupState, c.AttestationFormat)
	if certificate {
		key := uuid.New()
		h.exec(`INSERT INTO keys (id, purpose, algorithm, sealed, master_key_id) VALUES ($1, 'mobile', 'P-256', 'x', 'x')`, key)
		h.exec(`INSERT INTO authorities (name, key_id, certificate) VALUES ('issuing', $1, 'x') ON CONFLICT DO NOTHING`, key)
		h.exec(`INSERT INTO mobile_certificates (id, serial, citizen_id, device_id, key_id, authority, der, not_before, not_after)
			VALUES ($1, $2, $3, $4, $5, 'issuing', 'x', now() - interval '1 day', now() + interval '1 year')`,
			uuid.New(), key[:], p.citizen, p.device, key)
	}
	return p
}

func (h *house) phone(n int) *phone { return h.bind(n, true, softauthn.Options{}) }

var desktop = order.Origin{IP: netip.MustParseAddr("192.0.2.10"), Browser: "Chrome", OS: "Windows"}
var mobile = order.Origin{IP: netip.MustParseAddr("192.0.2.99"), Browser: "Safari", OS: "iOS", Mobile: true}

func (h *house) browser() order.BrowserKey {
	return order.BrowserKey(sha256.Sum256([]byte(uuid.NewString())))
}

func (h *house) login(b order.BrowserKey) *order.Order {
	h.t.Helper()
	o, err := h.CreateLogin(context.Background(), order.LoginRequest{Client: h.client, Request: json.RawMessage(`{"state":"s"}`),
		Shown: json.RawMessage(`{"nonce":"n"}`), Data: []string{"profile"}, Browser: b, Started: desktop})
	if err != nil {
		h.t.Fatal(err)
	}
	return o
}

func documents(n int) []order.Document {
	out := make([]order.Document, n)
	for i := range out {
		d := sha256.Sum256(fmt.Appendf(nil, "document %d", i))
		out[i] = order.Document{Name: fmt.Sprintf("公文-%d.pdf", i+1), MediaType: "application/pdf", Size: 1000,
			DigestAlgorithm: "SHA-256", Digest: base64.StdEncoding.EncodeToString(d[:])}
	}
	return out
}

func (h *house) sign(b order.BrowserKey, n int) *order.Order {
	h.t.Helper()
	o, _, err := h.CreateSign(context.Background(), order.SignRequest{Client: h.client, Documents: documents(n), Text: "核閱", Browser: &b, Started: desktop})
	if err != nil {
		h.t.Fatal(err)
	}
	return o
}

// frame is the link that the browser shows now.
func (h *house) frame(o *order.Order, b order.BrowserKey) string {
	h.t.Helper()
	v, err := h.View(context.Background(), o.ID, b)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.Frame(v, h.clock.now())
}

func (h *house) scan(o *order.Order, b order.BrowserKey) *order.Claim {
	h.t.Helper()
	c, err := h.Claim(context.Background(), order.ClaimRequest{Source: order.Scanner, Frame: h.frame(o, b), From: mobile})
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func (p *phone) answer(t *testing.T, options []byte, faults ...softauthn.Fault) []byte {
	t.Helper()
	response, err := p.auth.Get(origin, options, faults...)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func (h *house) approve(c *order.Claim, p *phone, faults ...softauthn.Fault) error {
	h.t.Helper()
	_, err := h.Approve(context.Background(), order.ApproveRequest{Order: c.ID, Token: c.Token, Assertion: p.answer(h.t, c.Options, faults...), From: mobile})
	return err
}

func (h *house) state(id order.ID) order.State {
	h.t.Helper()
	o, err := h.Find(context.Background(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	return o.State
}

// entries lists the audit entries of an order: "act result code".
func (h *house) entries(id order.ID) []string {
	h.t.Helper()
	list, err := h.db.Audit().ForOrder(context.Background(), id.UUID(), 100)
	if err != nil {
		h.t.Fatal(err)
	}
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = strings.TrimSpace(fmt.Sprintf("%s %s %v", e.Act, e.Result, e.Detail["code"]))
		out[i] = strings.TrimSuffix(out[i], " <nil>")
	}
	return out
}

// row is the order's whole row, to show that a refused step changed nothing.
func (h *house) row(id order.ID) string {
	h.t.Helper()
	var s string
	err := h.pool.QueryRow(context.Background(), `SELECT o::text || coalesce((SELECT string_agg(a::text, '') FROM approvals a WHERE order_id = o.id), '')
		|| coalesce((SELECT string_agg(d::text, '' ORDER BY d.id) FROM devices d), '') FROM orders o WHERE id = $1`, id.UUID()).Scan(&s)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// refused checks that a step failed with a code, changed nothing and left one audit entry.
func (h *house) refused(id order.ID, code string, step func() error) {
	h.t.Helper()
	before, entries := h.row(id), h.entries(id)
	err := step()
	if got := fault.CodeOf(err); got != code {
		h.t.Fatalf("got %q (%v), want %q", got, err, code)
	}
	var f *fault.Error
	if !errors.As(err, &f) {
		h.t.Fatalf("%v is not a fault", err)
	}
	if after := h.row(id); after != before {
		h.t.Fatalf("a refused step changed the order:\n%s\n%s", before, after)
	}
	now := h.entries(id)
	if len(now) != len(entries)+1 {
		h.t.Fatalf("want one audit entry more than %q, got %q", entries, now)
	}
	found := false
	for _, e := range now {
		found = found || strings.HasSuffix(e, "refused "+code)
	}
	if !found {
		h.t.Fatalf("no entry says refused %s: %q", code, now)
	}
}
