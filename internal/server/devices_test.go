package server_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ocsp"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/devices"
	"sealgate/internal/passkey"
	"sealgate/internal/postgres"
	"sealgate/internal/softauthn"
)

// citizenPhone binds a new phone to a card; the phone keeps its session.
func (w *world) citizenPhone(t testing.TB, card int, name string) *softphone.Phone {
	t.Helper()
	e := w.enrolment(card)
	e.Phone = w.browser().Phone(softauthn.New(softauthn.Options{}))
	e.DeviceName = name
	if _, err := e.Run(w.ctx); err != nil {
		t.Fatal(err)
	}
	return e.Phone
}

func (w *world) devices(t testing.TB, p *softphone.Phone) *softphone.Devices {
	t.Helper()
	list, err := p.Devices(w.ctx)
	if softphone.CodeOf(err) == "session_required" {
		if err = p.OpenSession(w.ctx); err == nil {
			list, err = p.Devices(w.ctx)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func named(t testing.TB, list *softphone.Devices, name string) softphone.Device {
	t.Helper()
	for _, d := range list.Items {
		if d.Name == name {
			return d
		}
	}
	t.Fatalf("no device %s in %+v", name, list.Items)
	return softphone.Device{}
}

// status asks our OCSP responder and reads our list about a device's certificate.
func (w *world) status(t testing.TB, device string) (status, reason int, listed bool) {
	t.Helper()
	var der []byte
	if err := w.pool.QueryRow(w.ctx, `SELECT der FROM mobile_certificates WHERE device_id = $1 ORDER BY created_at DESC LIMIT 1`, device).Scan(&der); err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	issuer := w.fetchCertificate(t, cert.IssuingCertificateURL[0])
	request, err := ocsp.CreateRequest(cert, issuer, &ocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.Post(cert.OCSPServer[0], "application/ocsp-request", bytes.NewReader(request))
	if err != nil {
		t.Fatal(err)
	}
	response, err := ocsp.ParseResponseForCert(body(t, answer), cert, issuer)
	if err != nil {
		t.Fatal(err)
	}
	answer, err = http.Get(cert.CRLDistributionPoints[0])
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(body(t, answer))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list.RevokedCertificateEntries {
		listed = listed || e.SerialNumber.Cmp(cert.SerialNumber) == 0
	}
	return response.Status, response.RevocationReason, listed
}

func body(t testing.TB, answer *http.Response) []byte {
	t.Helper()
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", answer.Status, err)
	}
	return raw
}

func (w *world) fetchCertificate(t testing.TB, url string) *x509.Certificate {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	raw := body(t, answer)
	if block, _ := pem.Decode(raw); block != nil {
		raw = block.Bytes
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// wantCode holds that an error is a problem with the code.
func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	if softphone.CodeOf(err) != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

// logIn tries a login of the demonstration agency with a phone.
func (w *world) logIn(t testing.TB, phone *softphone.Phone) error {
	t.Helper()
	desk := w.browser()
	id, err := desk.Follow(w.ctx, w.relyingParty().begin().url)
	if err != nil {
		t.Fatal(err)
	}
	_, err = phone.Approve(w.ctx, w.scan(t, desk, phone, id))
	return err
}

func (w *world) entries(t testing.TB, device, act string) (n int) {
	t.Helper()
	if err := w.pool.QueryRow(w.ctx, `SELECT count(*) FROM audit_entries WHERE device_id = $1 AND act = $2 AND result = 'ok'`, device, act).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOwnDevices(t *testing.T) {
	w := newWorld(t, nil)
	first, second := w.citizenPhone(t, 0, "一號"), w.citizenPhone(t, 0, "二號")
	stranger := w.citizenPhone(t, 1, "別人的")
	if _, err := first.Devices(w.ctx); softphone.CodeOf(err) != "session_required" {
		t.Fatalf("devices without a session: %v", err)
	}
	list := w.devices(t, first)
	if len(list.Items) != 2 || !named(t, list, "一號").This || named(t, list, "二號").Certificate.State != "good" {
		t.Fatalf("the list is %+v", list)
	}
	if len(list.Notices) != 1 || list.Notices[0].Kind != "device_added" {
		t.Errorf("the first phone was not told of the second: %+v", list.Notices)
	} else if err := first.Post(w.ctx, "/notices/seen", map[string]string{"last": list.Notices[0].ID}, nil); err != nil {
		t.Error(err)
	}
	id, strangers := named(t, list, "二號").ID, named(t, w.devices(t, stranger), "別人的").ID

	t.Run("rename", func(t *testing.T) {
		if err := first.RenameDevice(w.ctx, id, "  平板  "); err != nil {
			t.Fatal(err)
		}
		named(t, w.devices(t, first), "平板")
		wantCode(t, first.RenameDevice(w.ctx, id, "a\u202eb"), "enrol_device_name")
		wantCode(t, first.RenameDevice(w.ctx, strangers, "mine"), "device_not_found")
		wantCode(t, first.ChangeDevice(w.ctx, strangers, "suspend"), "device_not_found")
	})

	t.Run("suspend and resume", func(t *testing.T) {
		desk := w.browser()
		order, err := desk.Follow(w.ctx, w.relyingParty().begin().url)
		if err != nil {
			t.Fatal(err)
		}
		open := w.scan(t, desk, second, order) // scanned before, approved after
		if err := first.ChangeDevice(w.ctx, id, "suspend"); err != nil {
			t.Fatal(err)
		}
		if _, err := second.Approve(w.ctx, open); softphone.CodeOf(err) != "device_suspended" {
			t.Errorf("a suspended phone approved: %v", err)
		}
		if status, reason, listed := w.status(t, id); status != ocsp.Revoked || reason != 6 || !listed {
			t.Errorf("status %d, reason %d, listed %v; want on hold", status, reason, listed)
		}
		wantCode(t, second.OpenSession(w.ctx), "device_suspended")
		wantCode(t, first.ChangeDevice(w.ctx, id, "suspend"), "device_state")
		if d := named(t, w.devices(t, first), "平板"); d.State != "suspended" || !d.Resumable || d.Certificate.State != "held" {
			t.Errorf("the list says %+v", d)
		}
		if err := first.ChangeDevice(w.ctx, id, "resume"); err != nil {
			t.Fatal(err)
		}
		if status, _, listed := w.status(t, id); status != ocsp.Good || listed {
			t.Errorf("after resuming: status %d, listed %v", status, listed)
		}
		if err := w.logIn(t, second); err != nil {
			t.Errorf("a resumed phone: %v", err)
		}
		list := w.devices(t, second)
		if len(list.Notices) != 2 {
			t.Errorf("notices of the stopped phone: %+v", list.Notices)
		} else if err := second.Post(w.ctx, "/notices/seen", map[string]string{"last": list.Notices[0].ID}, nil); err != nil {
			t.Error(err)
		}
		if list := w.devices(t, second); len(list.Notices) != 0 {
			t.Errorf("told twice: %+v", list.Notices)
		}
		if list := w.devices(t, first); len(list.Notices) != 0 {
			t.Errorf("the acting phone is told of its own act: %+v", list.Notices)
		}
		for _, act := range []string{"device.suspended", "device.resumed", "certificate.held", "certificate.restored", "device.renamed"} {
			if n := w.entries(t, id, act); n != 1 {
				t.Errorf("%d entries of %s, want 1", n, act)
			}
		}
	})

	t.Run("stopped by others", func(t *testing.T) {
		if _, err := w.pool.Exec(w.ctx, `UPDATE devices SET state = 'suspended', state_reason = 'counter' WHERE id = $1`, id); err != nil {
			t.Fatal(err)
		}
		wantCode(t, first.ChangeDevice(w.ctx, id, "resume"), "device_resume")
		// Stopped because of its model: by the policy, not by its holder.
		for _, reason := range []string{passkey.StopDenied, passkey.StopCompromised} {
			w.exec(t, `UPDATE devices SET state_reason = $2 WHERE id = $1`, id, reason)
			if d := named(t, w.devices(t, first), "平板"); d.Resumable {
				t.Errorf("stopped for %s, and the list offers to resume it", reason)
			}
			w.refused(t, "device_model", func() error { return first.ChangeDevice(w.ctx, id, "resume") })
			wantCode(t, w.logIn(t, second), "device_model")
		}
		if _, err := w.pool.Exec(w.ctx, `UPDATE devices SET state = 'active', state_reason = '' WHERE id = $1`, id); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("fresh", func(t *testing.T) { freshSession(t, w, first, id) })

	t.Run("remove", func(t *testing.T) {
		if err := first.ChangeDevice(w.ctx, id, "remove"); err != nil {
			t.Fatal(err)
		}
		if status, reason, listed := w.status(t, id); status != ocsp.Revoked || reason != 5 || !listed {
			t.Errorf("status %d, reason %d, listed %v; want revoked", status, reason, listed)
		}
		wantCode(t, w.logIn(t, second), "device_unknown")
		wantCode(t, first.ChangeDevice(w.ctx, id, "resume"), "device_not_found")
		if err := w.logIn(t, first); err != nil {
			t.Errorf("the other phone: %v", err)
		}
	})
}

// freshSession holds that only a session opened moments ago may suspend.
func freshSession(t *testing.T, w *world, p *softphone.Phone, target string) {
	own := uuid.MustParse(named(t, w.devices(t, p), "一號").ID)
	var person uuid.UUID
	if err := w.pool.QueryRow(w.ctx, `SELECT citizen_id FROM devices WHERE id = $1`, own).Scan(&person); err != nil {
		t.Fatal(err)
	}
	s, err := devices.New(devices.Config{Store: postgres.New(w.pool).Devices(), Changed: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	a := devices.Actor{CitizenID: person, DeviceID: own, At: time.Now().Add(-devices.DefaultFresh - time.Second)}
	ctx := context.Background()
	for _, step := range []func(context.Context, devices.Actor, uuid.UUID) error{s.Suspend, s.Resume, s.Remove} {
		if err := step(ctx, a, uuid.MustParse(target)); !errors.Is(err, devices.ErrStale) {
			t.Errorf("an old session: %v", err)
		}
	}
	a.At = time.Now()
	for _, step := range []func(context.Context, devices.Actor, uuid.UUID) error{s.Suspend, s.Resume} {
		if err := step(ctx, a, uuid.MustParse(target)); err != nil {
			t.Errorf("a fresh session: %v", err)
		}
	}
}
