package enrolment_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"sealgate/internal/enrolment"
	"sealgate/internal/fault"
	"sealgate/internal/order"
	"sealgate/internal/pkitest"
)

func TestLoss(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	owner := w.card(pkitest.CitizenOptions{NationalID: "A123456789"})
	stranger := w.card(pkitest.CitizenOptions{NationalID: "F131104093", Name: "(測試用) 李大華"})
	one, other := w.walk(owner).bind(), w.walk(stranger).bind()
	var browser, wrong order.BrowserKey
	rand.Read(browser[:])
	states := func(id any) (out string) {
		must(t, w.pool.QueryRow(ctx, `SELECT d.state || ' ' || d.state_reason || ' ' || m.state FROM devices d
			JOIN mobile_certificates m ON m.device_id = d.id WHERE d.id = $1`, id).Scan(&out))
		return out
	}
	k := w.walk(owner)
	run := func(purpose enrolment.LossPurpose, signer *pkitest.Card, alter func(*enrolment.CompleteRequest)) (*enrolment.LossOutcome, error) {
		id, tbs, nonce, err := w.svc.BeginLoss(ctx, enrolment.LossRequest{Purpose: purpose, Certificate: owner.Certificate.Raw,
			CardNumber: owner.CardNumber, Browser: browser, From: w.from})
		must(t, err)
		r := k.sign(signer, tbs, pkitest.SignOptions{Nonce: []byte(nonce), CardSN: signer.CardNumber})
		r.Browser = browser
		if alter != nil {
			alter(&r)
		}
		return w.svc.EndLoss(ctx, id, r)
	}
	refused := func(what string, want *fault.Error, err error) {
		t.Helper()
		if fault.CodeOf(err) != want.Code {
			t.Errorf("%s: got %v, want %s", what, err, want.Code)
		}
		if got := states(one.Device.ID); got != "active  good" {
			t.Errorf("%s: the phone is %s", what, got)
		}
	}
	_, err := run(enrolment.ReportLoss, stranger, nil)
	refused("another card", enrolment.ErrProofCard, err)
	_, err = run(enrolment.ReportLoss, owner, func(r *enrolment.CompleteRequest) { r.Browser = wrong })
	refused("another browser", order.ErrWrongBrowser, err)
	_, err = run(enrolment.ReportLoss, owner, func(r *enrolment.CompleteRequest) {
		*r = k.sign(owner, []byte(`{"purpose":"sealgate/undo-loss"}`), pkitest.SignOptions{})
		r.Browser = browser
	})
	refused("another statement", enrolment.ErrProofContent, err)
	_, err = run(enrolment.UndoLoss, owner, nil)
	refused("nothing to take back", enrolment.ErrLossNothing, err)
	_, err = run(enrolment.ReportLoss, owner, func(*enrolment.CompleteRequest) { w.ahead.Store(int64(11 * time.Minute)) })
	refused("too late", enrolment.ErrLossGone, err)
	w.ahead.Store(0)

	out, err := run(enrolment.ReportLoss, owner, nil)
	must(t, err)
	if len(out.Devices) != 1 || len(out.Code) != 9 || states(one.Device.ID) != "suspended loss held" {
		t.Errorf("%+v, the phone is %s", out, states(one.Device.ID))
	}
	if got := states(other.Device.ID); got != "active  good" {
		t.Errorf("another person's phone is %s", got)
	}
	if _, err = run(enrolment.UndoLoss, owner, nil); err != nil || states(one.Device.ID) != "active  good" {
		t.Errorf("taken back: %v, the phone is %s", err, states(one.Device.ID))
	}
	_, err = run(enrolment.ReportLoss, owner, nil)
	must(t, err)
	_, err = w.pool.Exec(ctx, `UPDATE devices SET state_changed_at = state_changed_at - interval '73 hours'`)
	must(t, err)
	if _, err = run(enrolment.UndoLoss, owner, nil); fault.CodeOf(err) != "loss_nothing" {
		t.Errorf("after 72 hours: %v", err)
	}
	for act, want := range map[string]int{"loss.reported": 2, "loss.undone": 1, "certificate.held": 2, "certificate.restored": 1} {
		if n := w.count(`SELECT count(*) FROM audit_entries WHERE act = $1 AND result = 'ok'`, act); n != want {
			t.Errorf("%d entries of %s, want %d", n, act, want)
		}
	}
	nobody := w.card(pkitest.CitizenOptions{NationalID: "A800000014", Name: "(測試用) 陳美麗"})
	if _, _, _, err := w.svc.BeginLoss(ctx, enrolment.LossRequest{Purpose: enrolment.ReportLoss, Certificate: nobody.Certificate.Raw, Browser: browser, From: w.from}); err != nil {
		t.Errorf("a card without phones: %v", err)
	}
}

// TestLossTellsNobody: certificates are public. Whether a phone was bound with
// one is told when its card has signed, and before that in no way: not by the
// answer, not by what a wrong signature is answered, not in what is written.
func TestLossTellsNobody(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	bound := w.card(pkitest.CitizenOptions{NationalID: "A123456789"})
	never := w.card(pkitest.CitizenOptions{NationalID: "A800000014", Name: "(測試用) 陳美麗"})
	stranger := w.card(pkitest.CitizenOptions{NationalID: "F131104093", Name: "(測試用) 李大華"})
	k := w.walk(bound)
	k.bind()
	var browser order.BrowserKey
	rand.Read(browser[:])
	begin := func(card *pkitest.Card, purpose enrolment.LossPurpose) (func(signer *pkitest.Card) error, string) {
		id, tbs, nonce, err := w.svc.BeginLoss(ctx, enrolment.LossRequest{Purpose: purpose, Certificate: card.Certificate.Raw,
			CardNumber: card.CardNumber, Browser: browser, From: w.from})
		must(t, err)
		var st map[string]any
		must(t, json.Unmarshal(tbs, &st))
		var row string
		must(t, w.pool.QueryRow(ctx, `SELECT concat_ws(' ', purpose, citizen_id, device_id, code, octet_length(statement), expires_at - created_at,
			(SELECT concat_ws(' ', act, result, actor, citizen_id, device_id, detail) FROM audit_entries ORDER BY id DESC LIMIT 1))
			FROM device_statements WHERE id = $1`, id).Scan(&row))
		return func(signer *pkitest.Card) error {
			r := k.sign(signer, tbs, pkitest.SignOptions{Nonce: []byte(nonce), CardSN: signer.CardNumber})
			r.Browser = browser
			_, err := w.svc.EndLoss(ctx, id, r)
			return err
		}, fmt.Sprint(len(st), len(tbs), len(nonce), row)
	}
	for _, purpose := range []enrolment.LossPurpose{enrolment.UndoLoss, enrolment.ReportLoss} {
		endBound, shapeBound := begin(bound, purpose)
		endNever, shapeNever := begin(never, purpose)
		if shapeBound != shapeNever {
			t.Errorf("%s: a bound card leaves\n%s\none that was never bound\n%s", purpose, shapeBound, shapeNever)
		}
		for _, end := range []func(*pkitest.Card) error{endBound, endNever} {
			if err := end(stranger); fault.CodeOf(err) != enrolment.ErrProofCard.Code {
				t.Errorf("%s, signed with another card: %v", purpose, err)
			}
		}
		if err := endNever(never); fault.CodeOf(err) != enrolment.ErrLossNobody.Code {
			t.Errorf("%s, signed with the card: %v", purpose, err)
		}
		switch err := endBound(bound); purpose {
		case enrolment.UndoLoss: // nothing was lost
			if fault.CodeOf(err) != enrolment.ErrLossNothing.Code {
				t.Errorf("%s: %v", purpose, err)
			}
		default:
			must(t, err)
		}
	}
	if n := w.count(`SELECT count(*) FROM device_statements s JOIN citizens c ON c.id = s.citizen_id WHERE s.completed_at IS NOT NULL`); n != 1 {
		t.Errorf("%d statements name a person", n)
	}
	if n := w.count(`SELECT count(*) FROM audit_entries WHERE act = 'loss.reported' AND result = 'ok' AND citizen_id IS NOT NULL`); n != 1 {
		t.Errorf("%d entries of a loss name a person", n)
	}
}
