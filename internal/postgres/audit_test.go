package postgres_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/postgres"
	"sealgate/internal/postgres/pgtest"
)

func TestAuditEntriesComeBackAsWritten(t *testing.T) {
	ctx := context.Background()
	store := postgres.New(pgtest.Open(t)).Audit()
	citizen, order, client := uuid.New(), uuid.New(), uuid.New()
	full := audit.New(audit.OrderApproved).ByCitizen(citizen).Order(order).Client(client).
		From(netip.MustParseAddr("192.0.2.9")).With(audit.KeyKind, "sign").WithInt(audit.KeyDocuments, 2).WithBool(audit.KeySecondPhone, true)
	bare := audit.New(audit.OrderRefused).ByBrowser().Order(order).Refuse("frame_stale")
	for _, e := range []audit.Entry{full, bare} {
		if err := store.Append(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	got, err := store.ForOrder(ctx, order, 10)
	if err != nil || len(got) != 2 {
		t.Fatalf("%d entries, %v", len(got), err)
	}
	e := got[0]
	if e.ID != full.ID || !e.At.Equal(full.At) || e.Act != full.Act || *e.CitizenID != citizen || *e.ClientID != client ||
		e.IP != full.IP || e.Detail["kind"] != "sign" || e.Detail["documents"] != float64(2) || e.DeviceID != nil {
		t.Errorf("entry: %+v", e)
	}
	if got[1].Result != audit.Refused || got[1].Detail["code"] != "frame_stale" || got[1].IP.IsValid() {
		t.Errorf("refusal: %+v", got[1])
	}
	mine, err := store.ForCitizen(ctx, citizen, uuid.Nil, 10)
	if err != nil || len(mine) != 1 {
		t.Fatalf("%d entries of the citizen, %v", len(mine), err)
	}
	if older, _ := store.ForCitizen(ctx, citizen, mine[0].ID, 10); len(older) != 0 {
		t.Errorf("%d entries older than the only one", len(older))
	}
}
