package audit_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"sealgate/internal/audit"
)

func TestBuilderFillsTheEntry(t *testing.T) {
	citizen, order := uuid.New(), uuid.New()
	e := audit.New(audit.OrderApproved).ByCitizen(citizen).Order(order).
		From(netip.MustParseAddr("::ffff:192.0.2.7")).With(audit.KeyKind, "sign").WithInt(audit.KeyDocuments, 3)
	if e.ID.Version() != 7 || time.Since(e.At) > time.Minute {
		t.Errorf("id %v at %v", e.ID, e.At)
	}
	if e.ActorKind != audit.ActorCitizen || e.Actor != citizen.String() || *e.CitizenID != citizen || *e.OrderID != order {
		t.Errorf("entry: %+v", e)
	}
	if e.IP.String() != "192.0.2.7" {
		t.Errorf("ip %v", e.IP)
	}
	if e.Result != audit.OK || e.Detail["kind"] != "sign" || e.Detail["documents"] != int64(3) {
		t.Errorf("detail %v", e.Detail)
	}
}

func TestBuilderCopies(t *testing.T) {
	base := audit.New(audit.OrderRefused).With(audit.KeyKind, "login")
	a, b := base.Refuse("frame_stale"), base.Refuse("order_claimed")
	if a.Detail["code"] != "frame_stale" || b.Detail["code"] != "order_claimed" || base.Detail["code"] != nil {
		t.Errorf("copies share detail: %v %v %v", a.Detail, b.Detail, base.Detail)
	}
	if base.Result != audit.OK || a.Result != audit.Refused {
		t.Errorf("results %v %v", base.Result, a.Result)
	}
}

func TestDetailIsBoundedAndClean(t *testing.T) {
	e := audit.New(audit.ClientRefused).With(audit.KeyReason, "a\x00b\xff"+strings.Repeat("民", 1000))
	v := e.Detail["reason"].(string)
	if len(v) > 200 || !utf8.ValidString(v) || !strings.HasPrefix(v, "ab民") {
		t.Errorf("detail of %d bytes: %.20q", len(v), v)
	}
	if e.Citizen(uuid.Nil).CitizenID != nil {
		t.Error("the nil id is not an id")
	}
}
