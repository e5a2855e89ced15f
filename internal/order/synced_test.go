package order_test

import (
	"testing"

	"sealgate/internal/order"
	"sealgate/internal/passkey"
	"sealgate/internal/softauthn"
)

// TestSyncedPasskeys: per deployment, per client, and the stricter of both, on
// a road that reaches phr with a passkey that stays on its phone.
func TestSyncedPasskeys(t *testing.T) {
	h := newHouse(t)
	bound := h.bind(1, false, softauthn.Options{})
	synced := h.bind(2, false, softauthn.Options{BackupEligible: true, BackupState: true})
	attested := h.bind(3, false, softauthn.Options{BackupEligible: true, BackupState: true})
	h.exec("UPDATE devices SET attested = true WHERE id = $1", attested.device)
	for _, tc := range []struct {
		name       string
		deployment passkey.SyncedRule
		client     passkey.SyncedRule
		least      string
		phone      *phone
		acr, fault string
	}{
		{"nothing said", "", "", "", synced, order.ACRPHR, ""},
		{"attested and synced is not hardware-bound", "", "", "", attested, order.ACRPHR, ""},
		{"deployment lowers", passkey.SyncedLowerACR, "inherit", "", synced, order.ACRQR, ""},
		{"client lowers", passkey.SyncedAllowed, passkey.SyncedLowerACR, "", synced, order.ACRQR, ""},
		{"client cannot be milder", passkey.SyncedLowerACR, passkey.SyncedAllowed, "", synced, order.ACRQR, ""},
		{"lowered below what is demanded", "", passkey.SyncedLowerACR, order.ACRPHR, synced, "", "order_synced_passkey"},
		{"allowed, as demanded", "", "", order.ACRPHR, synced, order.ACRPHR, ""},
		{"client refuses", "", passkey.SyncedRefused, "", synced, "", "order_synced_passkey"},
		{"deployment refuses", passkey.SyncedRefused, "", "", synced, "", "order_synced_passkey"},
		{"refusing touches no other", passkey.SyncedRefused, passkey.SyncedRefused, order.ACRPHR, bound, order.ACRPHR, ""},
		{"the road is not enough anyway", "", passkey.SyncedLowerACR, order.ACRPHRH, synced, "", "order_road_refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h.synced, h.client.SyncedPasskeys, h.client.MinimumACR = tc.deployment, tc.client, tc.least
			h.Service = h.node(h.hub)
			b := h.browser()
			o := h.login(b)
			c, err := h.Claim(ctx, order.ClaimRequest{Source: order.Hybrid, Order: o.ID.String(), Browser: &b, From: desktop})
			if err != nil {
				t.Fatal(err)
			}
			if tc.fault != "" {
				h.refused(o.ID, tc.fault, func() error { return h.approve(c, tc.phone) })
				return
			}
			if err := h.approve(c, tc.phone); err != nil {
				t.Fatal(err)
			}
			if got, err := h.Find(ctx, o.ID); err != nil || got.ACR != tc.acr {
				t.Errorf("acr %q, want %q; %v", got.ACR, tc.acr, err)
			}
		})
	}
}
