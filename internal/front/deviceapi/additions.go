package deviceapi

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"sealgate/internal/devices"
	"sealgate/internal/enrolment"
	"sealgate/internal/front"
	"sealgate/internal/order"
)

// beginAddition makes the order by which one more phone is added from this one.
// This browser starts it, so that the pages of an order work for it: the frames,
// the two digits, the typed code.
func (d *Door) beginAddition(w http.ResponseWriter, r *http.Request) {
	a, err := d.actor(r)
	if err == nil {
		err = front.DecodeJSON(r, &struct{}{}, maxSmall)
	}
	if err == nil {
		err = d.cfg.Devices.Fresh(a)
	}
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	begun, err := d.cfg.Enrolments.BeginByPhone(r.Context(), phoneOf(a), order.BrowserKey(front.EnsureBrowser(w, r)), d.origin(r), d.cfg.AddText(r))
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusCreated, map[string]any{"order": begun.Order})
}

func phoneOf(a devices.Actor) enrolment.Phone {
	return enrolment.Phone{CitizenID: a.CitizenID, DeviceID: a.DeviceID}
}

// addition reads session, order and browser of a request on one addition.
func (d *Door) addition(r *http.Request) (enrolment.Phone, order.ID, order.BrowserKey, error) {
	var id order.ID
	a, err := d.actor(r)
	if err == nil {
		id, err = order.ParseID(chi.URLParam(r, "order"))
	}
	key := browser(r)
	if err == nil && key == nil {
		err = front.ErrBrowserRequired
	}
	if err != nil {
		return enrolment.Phone{}, id, order.BrowserKey{}, err
	}
	return phoneOf(a), id, *key, nil
}

// newcomer tells what the new phone says of itself, and what to sign.
func (d *Door) newcomer(w http.ResponseWriter, r *http.Request) {
	phone, id, key, err := d.addition(r)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	n, err := d.cfg.Enrolments.Newcomer(r.Context(), id, phone, key)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, map[string]any{"device": newcomerJSON{Name: n.Name, Browser: n.Origin.Browser, OS: n.Origin.OS,
		Country: n.Origin.Country, Model: n.Model}, "public_key": raw(n.Options)})
}

// newcomerJSON is a phone that wants to be added. All but Model is what it says
// of itself; Model is there when its attestation proves it.
type newcomerJSON struct {
	Name    string `json:"name"`
	Browser string `json:"browser,omitempty"`
	OS      string `json:"os,omitempty"`
	Country string `json:"country,omitempty"`
	Model   string `json:"model,omitempty"`
}

// approveAddition takes this phone's assertion and binds the new one.
func (d *Door) approveAddition(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Assertion raw `json:"assertion"`
	}
	phone, id, key, err := d.addition(r)
	if err == nil {
		err = front.DecodeJSON(r, &in, maxCeremony)
	}
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	bound, err := d.cfg.Enrolments.CompleteByPhone(r.Context(), enrolment.PhoneProofRequest{Order: id, Phone: phone, Browser: key,
		Assertion: in.Assertion, From: d.origin(r)})
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	answer := map[string]any{"device": deviceNameJSON{bound.Device.ID.String(), bound.Device.Name}}
	if !bound.Device.CooldownUntil.IsZero() {
		answer["cooldown_until"] = stamp(bound.Device.CooldownUntil)
	}
	if bound.Certificate == nil {
		answer["certificate_pending"] = true
	}
	front.WriteJSON(w, http.StatusOK, answer)
}
