package enrolment_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"sealgate/internal/audit"
	"sealgate/internal/certpath"
	"sealgate/internal/citizen"
	"sealgate/internal/enrolment"
	"sealgate/internal/fault"
	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
	"sealgate/internal/pkitest"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
	"sealgate/internal/softauthn"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	host     = "id.example.test"
	origin   = "https://" + host
	deviceLn = "小美的手機"
)

// pki is the one test hierarchy of this package: making RSA keys is slow.
var pki struct {
	once sync.Once
	h    *pkitest.Hierarchy
	err  error
}

func hierarchy(t testing.TB) *pkitest.Hierarchy {
	t.Helper()
	pki.once.Do(func() { pki.h, _, pki.err = pkitest.Start(pkitest.Options{}) })
	if pki.err != nil {
		t.Fatal(pki.err)
	}
	pki.h.SetFaults(pkitest.ResponderFaults{})
	return pki.h
}

// world is a whole binding service on a database of its own.
type world struct {
	t     testing.TB
	pool  *pgxpool.Pool
	db    *postgres.DB
	pki   *pkitest.Hierarchy
	ca    *issuing.CA
	rp    *passkey.RelyingParty
	svc   *enrolment.Service
	cfg   enrolment.Config // of svc, for tests that want another
	order *order.Service
	from  order.Origin
	// ahead moves the services' clock.
	ahead atomic.Int64
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func newWorld(t testing.TB, limits ...int) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{t: t, pki: hierarchy(t), pool: pgtest.Open(t), from: order.Origin{IP: netip.MustParseAddr("192.0.2.7"), Browser: "Firefox"}}
	w.db = postgres.New(w.pool)
	raw := make([]byte, 32)
	rand.Read(raw)
	master, err := keyring.NewMasterKey(raw)
	must(t, err)
	keys, err := keyring.New(keyring.Config{MasterKeys: []*keyring.MasterKey{master}, Store: w.db.Keyring()})
	must(t, err)
	w.ca, err = issuing.New(issuing.Config{Store: w.db.Issuing(), Keys: keys, Name: "(測試用) Sealgate", BaseURL: "http://pki.example.test"})
	must(t, err)
	must(t, w.ca.Bootstrap(ctx))
	lookup, err := keys.Secret(ctx, keyring.SecretIDLookup)
	must(t, err)
	vault, err := citizen.NewVault(citizen.VaultConfig{LookupSecret: lookup, Seal: keys.Seal, Open: keys.Open})
	must(t, err)
	w.rp, err = passkey.New(passkey.Config{RPID: host, RPName: "Sealgate", Origins: []string{origin}, Attestation: passkey.AttestationMonitor})
	must(t, err)
	hub := order.NewHub()
	limit := 0
	if len(limits) > 0 {
		limit = limits[0]
	}
	w.cfg = enrolment.Config{
		Store: w.db.Enrolments(), Losses: w.db.Enrolments(), Phones: w.db.Enrolments(), Registrars: w.db.Enrolments(), Vault: vault, Validator: validator(t, w.pki), RelyingParty: w.rp, Keys: keys, Issuer: w.ca,
		Client: order.Client{ID: uuid.Must(uuid.NewV7()), ClientID: "sealgate", Name: order.Names{"zh-Hant": "行動身分", "en": "Mobile ID"},
			AgencyCode: "sealgate", AgencyName: order.Names{"zh-Hant": "行動身分", "en": "Mobile ID"}, Host: host},
		Announce: hub.Announce, Suspend: w.db.Citizens().SuspendDevice, Lifetime: 2 * time.Minute, MaxLifetime: 30 * time.Minute, DeviceLimit: limit,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Now: w.now,
	}
	w.svc, err = enrolment.New(w.cfg)
	must(t, err)
	w.order, err = order.New(order.Config{
		Store: w.db.Orders(), WaitingStore: w.db.Orders(), RelyingParty: w.rp, RPID: host, PublicOrigin: origin,
		Frames:   order.FrameLimits{Step: 2 * time.Second, Scanner: 10 * time.Second, Link: 45 * time.Second, Frozen: time.Minute},
		Lifetime: 2 * time.Minute, MaxLifetime: 30 * time.Minute, PhoneStep: 3 * time.Minute, CodeLifetime: time.Minute, MaxExtend: 3, MaxDocuments: 10,
		CodeMAC: func(d string) []byte { return make([]byte, 32) },
		Suspend: func(context.Context, uuid.UUID, string, audit.Entry) error { return nil }, EnrolOptions: w.svc.CreationOptions,
		Finish: func(uuid.UUID) {}, Hub: hub, Log: slog.New(slog.DiscardHandler), Now: w.now,
	})
	must(t, err)
	return w
}

// validator trusts the test hierarchy and asks its sources each time anew.
func validator(t testing.TB, h *pkitest.Hierarchy) *certpath.Validator {
	t.Helper()
	store, err := certpath.NewTrustStore([]*x509.Certificate{h.Root}, []*x509.Certificate{h.CA})
	must(t, err)
	do := func(req *http.Request, max int64) ([]byte, error) {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("status %d", resp.StatusCode)
		}
		return io.ReadAll(io.LimitReader(resp.Body, max))
	}
	checker, err := certpath.NewChecker(certpath.CheckerConfig{
		OCSPMaxAge: time.Nanosecond, CRLMaxAge: time.Nanosecond,
		Fetch: certpath.Fetcher{
			Get: func(ctx context.Context, url, _ string, max int64) ([]byte, error) {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
				if err != nil {
					return nil, err
				}
				return do(req, max)
			},
			Post: func(ctx context.Context, url, contentType string, body []byte, _ string, max int64) ([]byte, error) {
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
				if err != nil {
					return nil, err
				}
				req.Header.Set("Content-Type", contentType)
				return do(req, max)
			},
		}})
	must(t, err)
	return &certpath.Validator{Store: store, Checker: checker}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// card issues a card with a quick key. Each national ID is one test citizen.
func (w *world) card(o pkitest.CitizenOptions) *pkitest.Card {
	w.t.Helper()
	if o.KeyType == "" {
		o.KeyType = pkitest.P256
	}
	if o.Name == "" {
		o.Name = "(測試用) 王小明"
	}
	c, err := w.pki.Citizen(o)
	must(w.t, err)
	return c
}

// walk is one enrolment on its way.
type walk struct {
	*world
	card    *pkitest.Card
	phone   *softauthn.Authenticator
	browser order.BrowserKey
	id      order.ID
	token   string
	options []byte
	tbs     []byte
	nonce   string
}

func (w *world) walk(c *pkitest.Card) *walk {
	k := &walk{world: w, card: c, phone: softauthn.New(softauthn.Options{})}
	rand.Read(k.browser[:])
	return k
}

func (k *walk) beginRequest() enrolment.BeginRequest {
	return enrolment.BeginRequest{NationalID: k.card.NationalID, Certificate: k.card.Certificate.Raw,
		CardNumber: k.card.CardNumber, Browser: k.browser, Started: k.from, Text: "綁定手機"}
}

func (k *walk) begin() *walk {
	k.t.Helper()
	begun, err := k.svc.Begin(context.Background(), k.beginRequest())
	must(k.t, err)
	k.id = begun.Order
	return k
}

// claim lets the phone on the same device as the browser take the order.
func (k *walk) claim() *walk {
	k.t.Helper()
	c, err := k.order.Claim(context.Background(), order.ClaimRequest{Source: order.SameDevice, Order: k.id.String(), Browser: &k.browser, From: k.from})
	must(k.t, err)
	k.token, k.options = c.Token, c.Options
	return k
}

func (k *walk) create(faults ...softauthn.Fault) enrolment.CredentialRequest {
	k.t.Helper()
	response, _, err := k.phone.Create(origin, k.options, faults...)
	must(k.t, err)
	return enrolment.CredentialRequest{Order: k.id, Token: k.token, Response: response, DeviceName: deviceLn, From: k.from}
}

func (k *walk) credential() *walk {
	k.t.Helper()
	must(k.t, k.svc.Credential(context.Background(), k.create()))
	return k
}

func (k *walk) statement() *walk {
	k.t.Helper()
	var err error
	k.tbs, k.nonce, err = k.svc.Statement(context.Background(), k.id, k.browser)
	must(k.t, err)
	return k
}

// toCard walks to the point where the card signs.
func (k *walk) toCard() *walk { return k.begin().claim().credential().statement() }

// sign lets a card sign something as the card component does.
func (k *walk) sign(c *pkitest.Card, tbs []byte, o pkitest.SignOptions) enrolment.CompleteRequest {
	k.t.Helper()
	der, err := pkitest.SignAttached(c, tbs, o)
	must(k.t, err)
	return enrolment.CompleteRequest{Order: k.id, Browser: k.browser, Signature: der,
		Certificate: c.Certificate.Raw, CardNumber: c.CardNumber, From: k.from}
}

func (k *walk) proof() enrolment.CompleteRequest {
	return k.sign(k.card, k.tbs, pkitest.SignOptions{Nonce: []byte(k.nonce), CardSN: k.card.CardNumber})
}

// bind walks the whole way.
func (k *walk) bind() *enrolment.Bound {
	k.t.Helper()
	bound, err := k.svc.Complete(context.Background(), k.toCard().proof())
	must(k.t, err)
	return bound
}

// tables that a refusal must leave alone.
var tables = []string{"citizens", "citizen_certificates", "devices", "keys", "mobile_certificates", "orders", "enrolments"}

// state is a digest of everything but the audit log.
func (w *world) state() string {
	w.t.Helper()
	var out string
	for _, table := range tables {
		var sum string
		must(w.t, w.pool.QueryRow(context.Background(),
			`SELECT count(*) || ':' || md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM `+table+` t`).Scan(&sum))
		out += table + "=" + sum + "\n"
	}
	return out
}

func (w *world) count(sql string, args ...any) int {
	w.t.Helper()
	var n int
	must(w.t, w.pool.QueryRow(context.Background(), sql, args...).Scan(&n))
	return n
}

// refused runs a step and holds that it fails with the code, leaves exactly one
// audit entry, a refusal with that code, and changes nothing else.
func (w *world) refused(want *fault.Error, step func() error) {
	w.t.Helper()
	before, entries := w.state(), w.count(`SELECT count(*) FROM audit_entries`)
	err := step()
	if !errors.Is(err, want) {
		w.t.Fatalf("got %v, want %s", err, want.Code)
	}
	if after := w.state(); after != before {
		w.t.Errorf("%s: something changed:\n%s\n%s", want.Code, before, after)
	}
	if n := w.count(`SELECT count(*) FROM audit_entries`) - entries; n != 1 {
		w.t.Errorf("%s: %d audit entries, want 1", want.Code, n)
	}
	if w.count(`SELECT count(*) FROM (SELECT result, detail->>'code' AS code FROM audit_entries ORDER BY id DESC LIMIT 1) e
		WHERE result = 'refused' AND code = $1`, want.Code) != 1 {
		w.t.Errorf("%s: the last audit entry is not that refusal", want.Code)
	}
}
