package agency

import (
	"context"
	"fmt"
	"net/url"
	"strings"
)

// The clients of a development server.
const (
	// BuiltInClientID is Sealgate's own pages.
	BuiltInClientID = "sealgate"
	// DemoClientID is the demonstration site (cmd/demoagency).
	DemoClientID = "demo-agency"
)

// SeedBuiltIn registers Sealgate's own pages as a client: logins to /sign and
// signing one's own files are orders of this client. issuer is the public
// address of the server. It may be called at each start.
func (s *Service) SeedBuiltIn(ctx context.Context, issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil {
		return fmt.Errorf("agency: issuer: %w", err)
	}
	a, err := s.SaveAgency(ctx, Agency{Code: "sealgate", Name: Names{ZhHant: "Sealgate 簽驗服務", En: "Sealgate"}})
	if err != nil {
		return err
	}
	base := strings.TrimSuffix(issuer, "/")
	_, err = s.SaveClient(ctx, Client{
		ClientID: BuiltInClientID, Agency: a, Name: Names{ZhHant: "Sealgate 網站", En: "Sealgate website"},
		Host: u.Host, AuthMethod: AuthNone, BuiltIn: true, SectorIdentifier: "sealgate",
		ReturnURIs: []string{base + "/sign", base + "/"},
		GrantTypes: []string{}, Scopes: []string{"openid", "profile", "sign"},
	})
	return err
}

// SeedDemo registers the demonstration agency and its site, for development
// only. site is the address of cmd/demoagency (http://localhost:8090); secret
// is its client secret. It may be called at each start.
func (s *Service) SeedDemo(ctx context.Context, site, secret string) error {
	u, err := url.Parse(site)
	if err != nil {
		return fmt.Errorf("agency: demonstration site: %w", err)
	}
	a, err := s.SaveAgency(ctx, Agency{Code: "demo", Name: Names{ZhHant: "示範機關", En: "Demo Agency"}})
	if err != nil {
		return err
	}
	base := strings.TrimSuffix(site, "/")
	_, err = s.SaveClient(ctx, Client{
		ClientID: DemoClientID, Agency: a, Name: Names{ZhHant: "示範機關網站", En: "Demo Agency website"},
		Host: u.Host, AuthMethod: AuthClientSecretBasic, SecretMAC: s.SecretMAC(secret), SectorIdentifier: u.Hostname(),
		RedirectURIs: []string{base + "/callback"}, PostLogoutRedirectURIs: []string{base + "/"},
		ReturnURIs: []string{base + "/signed"},
		GrantTypes: []string{GrantAuthorizationCode, GrantClientCredentials},
		Scopes:     []string{"openid", "profile", "national_id", "sign", ScopeSignRaw},
	})
	return err
}
