package order

import (
	"sealgate/internal/agency"
	"sealgate/internal/passkey"
)

// ClientOf is an agency's client as an order names it.
func ClientOf(c *agency.Client) Client {
	names := func(n agency.Names) Names { return Names{"zh-Hant": n.ZhHant, "en": n.En} }
	return Client{ID: c.ID, ClientID: c.ClientID, Name: names(c.Name), AgencyCode: c.Agency.Code, AgencyName: names(c.Agency.Name),
		Host: c.Host, MinimumACR: c.MinimumACR, MaxFrameAge: c.MaximumFrameAge,
		SyncedPasskeys: passkey.SyncedRule(c.SyncedPasskeys)}
}
