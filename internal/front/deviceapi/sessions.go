package deviceapi

import (
	"net/http"
	"time"

	"sealgate/internal/citizen"
	"sealgate/internal/fault"
	"sealgate/internal/front"
	"sealgate/internal/order"
)

var errSession = fault.New(fault.Unauthenticated, "session_required")

func (d *Door) sessionOptions(w http.ResponseWriter, r *http.Request) {
	if err := front.DecodeJSON(r, &struct{}{}, maxSmall); err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	options, token, err := d.cfg.Phone.Options()
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, map[string]any{"challenge_token": token, "public_key": raw(options)})
}

func (d *Door) openSession(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ChallengeToken string `json:"challenge_token"`
		Assertion      raw    `json:"assertion"`
	}
	if err := front.DecodeJSON(r, &in, maxCeremony); err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	s, err := d.cfg.Phone.Start(r.Context(), in.ChallengeToken, in.Assertion, d.origin(r))
	if err == nil {
		err = d.cfg.Sessions.Put(w, r, front.Session{CitizenID: s.CitizenID, DeviceID: s.DeviceID, Kind: front.PhoneSession})
	}
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (d *Door) closeSession(w http.ResponseWriter, r *http.Request) {
	d.cfg.Sessions.Clear(w, front.PhoneSession)
	w.WriteHeader(http.StatusNoContent)
}

// session gives the phone session and the person's devices. A session of a
// device that is no longer active has ended: it is looked up on every use.
func (d *Door) session(r *http.Request) (front.Session, []citizen.Device, error) {
	s, ok := d.cfg.Sessions.Get(r, front.PhoneSession)
	if !ok {
		return s, nil, errSession
	}
	devices, err := d.cfg.Citizens.Devices(r.Context(), s.CitizenID)
	if err != nil {
		return s, nil, err
	}
	for _, device := range devices {
		if device.ID == s.DeviceID && device.State == citizen.DeviceActive {
			return s, devices, nil
		}
	}
	return s, nil, errSession
}

type recordJSON struct {
	Order     order.ID         `json:"order"`
	Kind      order.Kind       `json:"kind"`
	State     order.State      `json:"state"`
	Agency    nameJSON         `json:"agency"`
	Client    nameJSON         `json:"client"`
	At        string           `json:"at"`
	Device    *deviceNameJSON  `json:"device,omitempty"`
	Text      string           `json:"text,omitempty"`
	Documents []recordDocument `json:"documents,omitempty"`
}

type deviceNameJSON struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type recordDocument struct {
	Name       string `json:"name"`
	DigestCode string `json:"digest_code"`
	LeftOut    bool   `json:"left_out,omitempty"`
}

func (d *Door) history(w http.ResponseWriter, r *http.Request) {
	s, devices, err := d.session(r)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	var before order.ID
	if q := r.URL.Query().Get("before"); q != "" {
		if before, err = order.ParseID(q); err != nil {
			front.WriteProblem(w, r, err)
			return
		}
	}
	records, err := d.cfg.Phone.History(r.Context(), s.CitizenID, before)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	items := make([]recordJSON, len(records))
	for i := range records {
		items[i] = record(&records[i], devices)
	}
	front.WriteJSON(w, http.StatusOK, map[string]any{"items": items})
}

// record is one line of the history.
func record(rec *order.Record, devices []citizen.Device) recordJSON {
	o := &rec.Order
	j := recordJSON{Order: o.ID, Kind: o.Kind, State: o.StateAt(time.Now()), Agency: nameJSON{Name: rec.Asked.Agency.Name},
		Client: nameJSON{Name: rec.Asked.Client.Name, Host: rec.Asked.Origin}, At: stamp(o.CreatedAt), Text: rec.Asked.Text}
	if o.ApprovedAt != nil {
		j.At = stamp(*o.ApprovedAt)
	}
	for _, device := range devices {
		if o.DeviceID != nil && *o.DeviceID == device.ID {
			j.Device = &deviceNameJSON{ID: device.ID.String(), Name: device.Name}
		}
	}
	left := make(map[int]bool, len(o.LeftOut))
	for _, n := range o.LeftOut {
		left[n] = true
	}
	for i, doc := range rec.Asked.Documents {
		j.Documents = append(j.Documents, recordDocument{Name: doc.Name, DigestCode: doc.DigestCode(), LeftOut: left[i]})
	}
	return j
}
