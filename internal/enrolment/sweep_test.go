package enrolment_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"sealgate/internal/devices"
	"sealgate/internal/pkitest"
)

// The sweep stops the phones of revoked and ended cards, and no others.
func TestSweep(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	good := w.walk(w.card(pkitest.CitizenOptions{NationalID: "A123456789"})).bind()
	revokedCard := w.card(pkitest.CitizenOptions{NationalID: "F131104093", Name: "(測試用) 李大華"})
	revoked := w.walk(revokedCard).bind()
	expired := w.walk(w.card(pkitest.CitizenOptions{NationalID: "A800000014", Name: "(測試用) 陳美麗"})).bind()
	var changed atomic.Int32 // cards are looked at side by side
	cards, err := devices.NewCards(devices.CardsConfig{Store: w.db.Devices(), Validator: validator(t, w.pki), MaxAge: time.Hour, LoginGrace: time.Hour,
		Changed: func() { changed.Add(1) }, Log: slog.New(slog.DiscardHandler), Now: w.now})
	must(t, err)
	state := func(id any) (out string) {
		must(t, w.pool.QueryRow(ctx, `SELECT d.state || ' ' || d.state_reason || ' ' || m.state || ' ' || c.state FROM devices d
			JOIN mobile_certificates m ON m.device_id = d.id JOIN citizen_certificates c ON c.id = d.citizen_certificate_id WHERE d.id = $1`, id).Scan(&out))
		return out
	}
	// Looked at just now: nothing is asked, even of what is revoked.
	w.pki.Revoke(revokedCard.Certificate, time.Now().Add(-time.Minute), pkitest.ReasonKeyCompromise)
	must(t, cards.Sweep(ctx))
	if got := state(revoked.Device.ID); got != "active  good good" {
		t.Errorf("a card looked at just now: %s", got)
	}
	_, err = w.pool.Exec(ctx, `UPDATE citizen_certificates SET checked_at = now() - interval '1 day'`)
	must(t, err)
	// Nobody answers: nothing changes, and the job says so.
	w.pki.SetFaults(pkitest.ResponderFaults{OCSPDown: true, CRLDown: true})
	if err := cards.Sweep(ctx); err == nil {
		t.Error("a sweep that learnt nothing was silent")
	}
	w.pki.SetFaults(pkitest.ResponderFaults{})
	must(t, cards.Sweep(ctx))
	for id, want := range map[any]string{good.Device.ID: "active  good good", revoked.Device.ID: "suspended card_revoked revoked revoked",
		expired.Device.ID: "active  good good"} {
		if got := state(id); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if changed.Load() != 1 {
		t.Errorf("the revocation list was told %d times", changed.Load())
	}
	if n := w.count(`SELECT count(*) FROM audit_entries WHERE act = 'card.revoked' AND detail->>'reason' = 'keyCompromise'`); n != 1 {
		t.Errorf("%d entries of the revoked card", n)
	}
	// Every card ends one day.
	w.ahead.Store(int64(20 * 365 * 24 * time.Hour))
	must(t, cards.Sweep(ctx))
	if got := state(expired.Device.ID); got != "suspended card_expired good expired" {
		t.Errorf("an ended card: %q", got)
	}
}
