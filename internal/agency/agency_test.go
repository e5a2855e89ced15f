package agency_test

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/agency"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func open(t testing.TB, now func() time.Time) (*agency.Service, *postgres.DB) {
	t.Helper()
	db := postgres.New(pgtest.Open(t))
	s, err := agency.New(agency.Config{
		Store: db.Agency(), SecretKey: bytes.Repeat([]byte{1}, 32), PairwiseSecret: bytes.Repeat([]byte{2}, 32),
		AllowLoopback: true, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, db
}

func TestSeedDemoTwiceIsOneRowAndOneEntry(t *testing.T) {
	ctx := context.Background()
	s, db := open(t, nil)
	secret := agency.NewSecret()
	for range 2 {
		if err := s.SeedBuiltIn(ctx, "http://localhost:8080"); err != nil {
			t.Fatal(err)
		}
		if err := s.SeedDemo(ctx, "http://localhost:8090", secret); err != nil {
			t.Fatal(err)
		}
	}
	c, err := s.Usable(ctx, agency.DemoClientID)
	if err != nil {
		t.Fatal(err)
	}
	if c.Agency.Name.In("zh-Hant") != "示範機關" || c.Agency.Name.In("en") != "Demo Agency" || c.BuiltIn {
		t.Errorf("client %+v", c)
	}
	if c.CheckRedirectURI("http://localhost:8090/callback") != nil || !c.MayUse(agency.GrantClientCredentials) || !c.HasScope("national_id") {
		t.Errorf("client %+v", c)
	}
	if same, err := s.ByID(ctx, c.ID); err != nil || same.ClientID != c.ClientID {
		t.Errorf("by id: %v %v", same, err)
	}
	var entries int
	if err := db.Pool.QueryRow(ctx, `SELECT count(*) FROM audit_entries`).Scan(&entries); err != nil || entries != 4 {
		t.Errorf("%d audit entries, %v; want 4", entries, err)
	}
	if all, err := s.Clients(ctx, 10); err != nil || len(all) != 2 || !all[1].BuiltIn {
		t.Errorf("clients: %d %v", len(all), err)
	}
}

func TestClientSecret(t *testing.T) {
	ctx := context.Background()
	s, _ := open(t, nil)
	secret := agency.NewSecret()
	if err := s.SeedDemo(ctx, "http://localhost:8090", secret); err != nil {
		t.Fatal(err)
	}
	c, err := s.ByClientID(ctx, agency.DemoClientID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CheckSecret(c, secret); err != nil {
		t.Errorf("right secret: %v", err)
	}
	for _, wrong := range []string{"", secret[1:], secret + "A", agency.NewSecret(), strings.Repeat("x", 10000)} {
		if err := s.CheckSecret(c, wrong); !errors.Is(err, agency.ErrSecretWrong) {
			t.Errorf("secret of %d characters: %v", len(wrong), err)
		}
	}
	renewed, err := s.RenewSecret(ctx, agency.DemoClientID)
	if err != nil {
		t.Fatal(err)
	}
	if c, _ = s.ByClientID(ctx, agency.DemoClientID); s.CheckSecret(c, renewed) != nil || s.CheckSecret(c, secret) == nil {
		t.Error("after renewing, the new secret must work and the old must not")
	}
	if err := s.SeedBuiltIn(ctx, "http://localhost:8080"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RenewSecret(ctx, agency.BuiltInClientID); !errors.Is(err, agency.ErrClientInvalid) {
		t.Errorf("a client without secrets: %v", err)
	}
	if _, err := s.RenewSecret(ctx, "nobody"); !errors.Is(err, agency.ErrClientUnknown) {
		t.Errorf("unknown client: %v", err)
	}
	own, _ := s.ByClientID(ctx, agency.BuiltInClientID)
	if err := s.CheckSecret(own, ""); !errors.Is(err, agency.ErrSecretWrong) {
		t.Errorf("empty secret of a client without one: %v", err)
	}
}

func TestSuspendedIsSeenWithinTheCacheLife(t *testing.T) {
	ctx := context.Background()
	now := time.Now()
	s, db := open(t, func() time.Time { return now })
	if err := s.SeedDemo(ctx, "http://localhost:8090", agency.NewSecret()); err != nil {
		t.Fatal(err)
	}
	use := func() error { _, err := s.Usable(ctx, agency.DemoClientID); return err }
	if err := use(); err != nil {
		t.Fatal(err)
	}
	set := func(sql string) {
		if _, err := db.Pool.Exec(ctx, sql); err != nil { // as another node would
			t.Fatal(err)
		}
	}
	set(`UPDATE clients SET state = 'suspended' WHERE client_id = 'demo-agency'`)
	if err := use(); err != nil {
		t.Errorf("within the cache life: %v", err)
	}
	now = now.Add(5 * time.Second)
	if err := use(); !errors.Is(err, agency.ErrClientSuspended) {
		t.Errorf("suspended client: %v", err)
	}
	set(`UPDATE agencies SET state = 'suspended' WHERE code = 'demo'`)
	now = now.Add(5 * time.Second)
	if err := use(); !errors.Is(err, agency.ErrAgencySuspended) {
		t.Errorf("suspended agency: %v", err)
	}
}

func TestUnknownClientIsRememberedBriefly(t *testing.T) {
	ctx := context.Background()
	now := time.Now()
	s, db := open(t, func() time.Time { return now })
	ask := func() error { _, err := s.ByClientID(ctx, agency.DemoClientID); return err }
	if err := ask(); !errors.Is(err, agency.ErrClientUnknown) {
		t.Fatal(err)
	}
	other, err := agency.New(agency.Config{Store: db.Agency(), SecretKey: make([]byte, 32), PairwiseSecret: make([]byte, 32), AllowLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.SeedDemo(ctx, "http://localhost:8090", agency.NewSecret()); err != nil {
		t.Fatal(err)
	}
	if err := ask(); !errors.Is(err, agency.ErrClientUnknown) {
		t.Errorf("within the negative life: %v", err)
	}
	now = now.Add(time.Second)
	if err := ask(); err != nil {
		t.Errorf("after it: %v", err)
	}
	if _, err := s.ByClientID(ctx, "bad id\x00"); !errors.Is(err, agency.ErrClientUnknown) {
		t.Errorf("malformed id: %v", err)
	}
}

func TestValidateRedirectURI(t *testing.T) {
	for _, tc := range []struct {
		uri       string
		live, dev bool
	}{
		{"https://agency.example/callback", true, true},
		{"https://agency.example:8443/callback?from=sealgate", true, true},
		{"http://localhost:8090/callback", false, true},
		{"http://127.0.0.1:8090/callback", false, true},
		{"http://[::1]:8090/callback", false, true},
		{"http://agency.example/callback", false, false},
		{"http://localhost.agency.example/callback", false, false},
		{"https://agency.example/callback#x", false, false},
		{"https://agency.example/callback#", false, false},
		{"https://user@agency.example/callback", false, false},
		{"https://user:pass@agency.example/callback", false, false},
		{"https://*.agency.example/callback", false, false},
		{"https://agency.example/*", false, false},
		{"https://agency.example/a/../b", false, false},
		{"https://agency.example\\@evil.example/", false, false},
		{"https://agency.example/ x", false, false},
		{"https://agency.example/\r\nX: y", false, false},
		{"https:///callback", false, false},
		{"https:agency.example", false, false},
		{"//agency.example/callback", false, false},
		{"/callback", false, false},
		{"javascript:alert(1)", false, false},
		{"app.example:/callback", false, false},
		{"https://機關.example/", false, false},
		{"https://agency.example/" + strings.Repeat("a", 2000), false, false},
		{"", false, false},
	} {
		for _, dev := range []bool{false, true} {
			want := tc.live
			if dev {
				want = tc.dev
			}
			err := agency.ValidateRedirectURI(tc.uri, dev)
			if (err == nil) != want {
				t.Errorf("%.60q dev=%v: %v, want ok=%v", tc.uri, dev, err, want)
			}
		}
	}
}

func TestRedirectURIIsComparedExactly(t *testing.T) {
	c := agency.Client{RedirectURIs: []string{"https://agency.example/cb"}}
	if err := c.CheckRedirectURI("https://agency.example/cb"); err != nil {
		t.Error(err)
	}
	for _, uri := range []string{"", "https://agency.example/cb/", "https://agency.example/cb?x=1", "https://AGENCY.example/cb",
		"https://agency.example:443/cb", "https://agency.example/cb/../cb", "https://evil.example/cb"} {
		if err := c.CheckRedirectURI(uri); !errors.Is(err, agency.ErrRedirectURIMismatch) {
			t.Errorf("%q: %v", uri, err)
		}
	}
}

func TestRegistrationIsChecked(t *testing.T) {
	ctx := context.Background()
	s, _ := open(t, nil)
	a, err := s.SaveAgency(ctx, agency.Agency{Code: "test", Name: agency.Names{ZhHant: "測試機關", En: "Test"}})
	if err != nil {
		t.Fatal(err)
	}
	good := func() agency.Client {
		return agency.Client{ClientID: "c1", Agency: a, Name: agency.Names{ZhHant: "系統", En: "System"},
			AuthMethod: agency.AuthNone, SectorIdentifier: "test", GrantTypes: []string{"authorization_code"}, Scopes: []string{"openid"}}
	}
	if _, err := s.SaveClient(ctx, good()); err != nil {
		t.Fatalf("control: %v", err)
	}
	for name, spoil := range map[string]func(*agency.Client){
		"client_id":            func(c *agency.Client) { c.ClientID = "a b" },
		"name with override":   func(c *agency.Client) { c.Name.En = "Tax\u202eecilop" },
		"empty name":           func(c *agency.Client) { c.Name.ZhHant = "" },
		"method":               func(c *agency.Client) { c.AuthMethod = "tls_client_auth" },
		"secret missing":       func(c *agency.Client) { c.AuthMethod = agency.AuthClientSecretBasic },
		"secret unwanted":      func(c *agency.Client) { c.SecretMAC = make([]byte, 32) },
		"keys missing":         func(c *agency.Client) { c.AuthMethod = agency.AuthPrivateKeyJWT },
		"public with own":      func(c *agency.Client) { c.GrantTypes = []string{"client_credentials"} },
		"unknown grant":        func(c *agency.Client) { c.GrantTypes = []string{"implicit"} },
		"scope form":           func(c *agency.Client) { c.Scopes = []string{"a b"} },
		"too many redirects":   func(c *agency.Client) { c.RedirectURIs = make([]string, 33) },
		"redirect":             func(c *agency.Client) { c.RedirectURIs = []string{"http://agency.example/"} },
		"sector":               func(c *agency.Client) { c.SectorIdentifier = "" },
		"state":                func(c *agency.Client) { c.State = "gone" },
		"another agency's row": func(c *agency.Client) { c.Agency.ID = uuid.New(); c.Name.En = "Taken over" },
	} {
		c := good()
		spoil(&c)
		if _, err := s.SaveClient(ctx, c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if c, err := s.ByClientID(ctx, "c1"); err != nil || c.Name.En != "System" {
		t.Errorf("after the refusals: %+v %v", c, err)
	}
}

func TestPairwiseSubject(t *testing.T) {
	s, _ := open(t, nil)
	id := uuid.Must(uuid.NewV7())
	sub := s.Subject("tax.example", id)
	if len(sub) != 22 || sub != s.Subject("tax.example", id) {
		t.Errorf("subject %q", sub)
	}
	if sub == s.Subject("health.example", id) || sub == s.Subject("tax.example", uuid.Must(uuid.NewV7())) {
		t.Error("subjects of other sectors and citizens must differ")
	}
	if back, err := s.ParseSubject("tax.example", sub); err != nil || back != id {
		t.Errorf("back: %v %v", back, err)
	}
	refused := 0
	for range 200 {
		if _, err := s.ParseSubject("health.example", s.Subject("tax.example", uuid.Must(uuid.NewV7()))); errors.Is(err, agency.ErrSubjectInvalid) {
			refused++
		}
	}
	if refused < 180 {
		t.Errorf("only %d of 200 subjects of another sector were noticed", refused)
	}
	for _, bad := range []string{"", sub[:21], sub + "A", "!" + sub[1:], strings.Repeat("\n", 22)} {
		if _, err := s.ParseSubject("tax.example", bad); !errors.Is(err, agency.ErrSubjectInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParseSubject(f *testing.F) {
	s, err := agency.New(agency.Config{Store: postgres.AgencyStore{}, SecretKey: make([]byte, 32), PairwiseSecret: make([]byte, 32)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Subject("x", uuid.Must(uuid.NewV7())))
	f.Add("AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, in string) {
		if id, err := s.ParseSubject("x", in); err == nil && s.Subject("x", id) != in {
			t.Fatalf("%q has another spelling", in)
		}
	})
}

func FuzzValidateRedirectURI(f *testing.F) {
	f.Add("https://agency.example/cb?x=1")
	f.Add("http://localhost:8090/callback")
	f.Fuzz(func(t *testing.T, in string) {
		if agency.ValidateRedirectURI(in, true) != nil {
			return
		}
		u, err := url.Parse(in)
		if err != nil || u.User != nil || u.Host == "" || strings.ContainsAny(in, "#*\\ \r\n") ||
			(u.Scheme != "https" && !strings.HasPrefix(u.Host, "localhost") && !strings.HasPrefix(u.Host, "127.0.0.1") && !strings.HasPrefix(u.Host, "[::1]")) {
			t.Fatalf("accepted %q", in)
		}
	})
}
