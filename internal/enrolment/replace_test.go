package enrolment_test

import (
	"context"
	"testing"

	"sealgate/internal/pkitest"
)

// A phone whose browser lost its passkey is bound again under its old name.
func TestReplace(t *testing.T) {
	w := newWorld(t, 2)
	ctx := context.Background()
	card := w.card(pkitest.CitizenOptions{NationalID: "A123456789"})
	old := w.walk(card).bind()
	stranger := w.walk(w.card(pkitest.CitizenOptions{NationalID: "F131104093", Name: "(測試用) 李大華"})).bind()
	state := func(id any) (out string) {
		must(t, w.pool.QueryRow(ctx, `SELECT d.state || ' ' || d.state_reason || ' ' || m.state || ' ' || coalesce(m.reason, 0) FROM devices d
			JOIN mobile_certificates m ON m.device_id = d.id WHERE d.id = $1`, id).Scan(&out))
		return out
	}
	k := w.walk(card).toCard()
	if name, err := w.svc.Replaceable(ctx, k.id, k.browser); err != nil || name != deviceLn {
		t.Errorf("offered %q, %v", name, err)
	}
	kept, err := w.svc.Complete(ctx, k.proof()) // not asked for: both stay
	must(t, err)
	if state(old.Device.ID) != "active  good 0" || state(kept.Device.ID) != "active  good 0" {
		t.Errorf("not asked for: %s, %s", state(old.Device.ID), state(kept.Device.ID))
	}
	if n := w.count(`SELECT count(*) FROM device_notices WHERE kind = 'device_added' AND device_id = $1`, old.Device.ID); n != 1 {
		t.Errorf("the other phone got %d notices", n)
	}
	if _, err := w.pool.Exec(ctx, `UPDATE devices SET state = 'removed' WHERE id = $1`, kept.Device.ID); err != nil {
		t.Fatal(err)
	}
	k = w.walk(card).toCard()
	r := k.proof()
	r.Replace = true
	bound, err := w.svc.Complete(ctx, r)
	must(t, err)
	if state(old.Device.ID) != "removed replaced revoked 4" || state(bound.Device.ID) != "active  good 0" {
		t.Errorf("replaced: %s, %s", state(old.Device.ID), state(bound.Device.ID))
	}
	if got := state(stranger.Device.ID); got != "active  good 0" {
		t.Errorf("another person's phone of that name: %s", got)
	}
	if n := w.count(`SELECT count(*) FROM audit_entries WHERE act = 'device.removed' AND device_id = $1`, old.Device.ID); n != 1 {
		t.Errorf("%d entries", n)
	}
}
