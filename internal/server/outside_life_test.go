package server_test

import (
	"strings"
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/evidence"
	"sealgate/internal/pkitest/esttest"
)

// Evidence of documents that were signed under another CA's certificates, before
// and after a renewal that ended with a request.
func TestEvidenceUnderAnotherCA(t *testing.T) {
	t.Parallel()
	ca, settings := otherCA(t, nil)
	w := newWorld(t, settings)
	phone := w.citizenPhone(t, 0, "一號")
	w.issued(t, 1)
	id := named(t, w.devices(t, phone), "一號").ID
	if err := w.signWith(t, phone); err != nil {
		t.Fatal(err)
	}
	before := w.lastSigned(t, id)
	w.ends(t, id, 24*time.Hour)
	ca.Stop()
	if _, err := phone.Renew(w.ctx); err != nil {
		t.Fatal(err)
	}
	if d := named(t, w.devices(t, phone), "一號"); !d.CertificatePending || d.Certificate == nil {
		t.Errorf("a renewal on its way: %+v", d)
	}
	if err := ca.Start(); err != nil {
		t.Fatal(err)
	}
	w.issued(t, 2)
	if err := w.signWith(t, phone); err != nil {
		t.Fatal(err)
	}
	after := w.lastSigned(t, id)
	options := w.judge(t)
	options.ServiceAnchors = must(certpath.ParseCertificates(esttest.PEM(ca.Root.Certificate)))(t)
	for name, order := range map[string]string{"before": before, "after": after} {
		b := w.bundle(t, order)
		raw := must(b.Encode())(t)
		if r := w.verify(t, raw, options); r.Verdict != evidence.Passed {
			t.Fatalf("%s: %+v", name, r)
		}
		ours := w.judge(t) // our own CA does not vouch for it
		if r := w.verify(t, raw, ours); r.Verdict == evidence.Passed || !strings.Contains(strings.Join(r.Broken(), " "), evidence.LinkMobile) {
			t.Errorf("%s, under our own root: %+v", name, r)
		}
		t.Run(name+" bytes", func(t *testing.T) { changedBytes(t, w, raw, options) })
		t.Run(name+" parts", func(t *testing.T) { changedParts(t, w, b, options) })
	}
	old, fresh := w.bundle(t, before), w.bundle(t, after)
	fresh.Mobile, old.Mobile = old.Mobile, fresh.Mobile
	for name, b := range map[string]*evidence.Bundle{"before": old, "after": fresh} {
		if err := b.Seal(); err != nil {
			t.Fatal(err)
		}
		if r := w.verify(t, must(b.Encode())(t), options); r.Verdict != evidence.Failed || !strings.Contains(strings.Join(r.Broken(), " "), evidence.LinkSignatures) {
			t.Errorf("%s with the other certificate: %+v", name, r)
		}
	}
}

// A phone is removed, or its card revoked, while the CA is away: nothing waits
// any more, the page says what is on its way until then, and a certificate that
// comes all the same is revoked and told of.
func TestOutsideRequestEndsWithItsPhone(t *testing.T) {
	t.Parallel()
	ca, settings := otherCA(t, nil)
	w := newWorld(t, settings)
	first := w.citizenPhone(t, 1, "一號")
	w.issued(t, 1)
	ca.Stop()
	w.citizenPhone(t, 1, "二號")
	d := named(t, w.devices(t, first), "二號")
	if !d.CertificatePending || d.Certificate != nil {
		t.Fatalf("%+v", d)
	}
	waiting := func() (n int) {
		t.Helper()
		if err := w.pool.QueryRow(w.ctx, `SELECT count(*) FROM certificate_requests WHERE state = 'waiting'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := waiting(); n != 1 {
		t.Fatalf("%d requests wait", n)
	}
	if err := first.ChangeDevice(w.ctx, d.ID, "remove"); err != nil {
		t.Fatal(err)
	}
	if n := waiting(); n != 0 {
		t.Errorf("%d requests wait for a removed phone", n)
	}
	var code, actor string
	if err := w.pool.QueryRow(w.ctx, `SELECT detail->>'code', actor_kind FROM audit_entries WHERE act = 'certificate.refused' AND device_id = $1`, d.ID).Scan(&code, &actor); err != nil ||
		code != "device_removed" || actor != "citizen" {
		t.Errorf("%s %s %v", code, actor, err)
	}
	if err := ca.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if n := len(ca.Issued()); n != 1 {
		t.Errorf("%d certificates were asked for", n)
	}
}
