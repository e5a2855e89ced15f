package deviceapi

import (
	"context"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"sealgate/internal/citizen"
	"sealgate/internal/devices"
	"sealgate/internal/front"
)

type deviceJSON struct {
	ID            string           `json:"id"`
	Name          string           `json:"name"`
	State         string           `json:"state"`
	Reason        string           `json:"reason,omitempty"` // why it is suspended
	Resumable     bool             `json:"resumable,omitempty"`
	CreatedAt     string           `json:"created_at"`
	LastUsedAt    string           `json:"last_used_at,omitempty"`
	CooldownUntil string           `json:"cooldown_until,omitempty"`
	AddedBy       *addedByJSON     `json:"added_by,omitempty"`
	Certificate   *certificateJSON `json:"certificate,omitempty"`
	Pending       bool             `json:"certificate_pending,omitempty"` // another CA is being asked for one
	Card          cardJSON         `json:"card"`
	This          bool             `json:"this"`
}

// addedByJSON is the phone that added this one; its name only while it is there.
type addedByJSON struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

type certificateJSON struct {
	NotAfter string `json:"not_after"`
	State    string `json:"state"`
	Renew    bool   `json:"renew,omitempty"` // it ends soon, and a new one would last longer
}

type cardJSON struct {
	State    string `json:"state"`
	NotAfter string `json:"not_after"`
}

// passkeysJSON are passkeys that open nothing any more: phones need not offer them.
type passkeysJSON struct {
	RPID string   `json:"rp_id"`
	IDs  []string `json:"ids"`
}

type noticeJSON struct {
	ID     string         `json:"id"`
	Kind   string         `json:"kind"`
	Device deviceNameJSON `json:"device"`
	At     string         `json:"at"`
}

// devices lists the person's phones and what this one has not been told yet.
func (d *Door) devices(w http.ResponseWriter, r *http.Request) {
	a, err := d.actor(r)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	list, err := d.cfg.Devices.List(r.Context(), a.CitizenID)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	notices, err := d.cfg.Devices.Notices(r.Context(), a.DeviceID)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	gone, err := d.cfg.Devices.Gone(r.Context(), a.CitizenID)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	items, told := make([]deviceJSON, len(list)), make([]noticeJSON, len(notices))
	now := time.Now()
	for i := range list {
		items[i] = d.describe(&list[i], now)
		items[i].This = list[i].ID == a.DeviceID
		items[i].AddedBy = addedBy(list, list[i].AddedByDeviceID)
	}
	for i, n := range notices {
		told[i] = noticeJSON{n.ID.String(), n.Kind, deviceNameJSON{n.AboutID.String(), n.AboutName}, stamp(n.CreatedAt)}
	}
	unknown := passkeysJSON{RPID: d.cfg.RPID, IDs: make([]string, len(gone))}
	for i, id := range gone {
		unknown.IDs[i] = base64.RawURLEncoding.EncodeToString(id)
	}
	front.WriteJSON(w, http.StatusOK, map[string]any{"items": items, "notices": told, "removed_passkeys": unknown})
}

func addedBy(list []devices.Detail, id *uuid.UUID) *addedByJSON {
	if id == nil {
		return nil
	}
	j := &addedByJSON{ID: id.String()}
	for i := range list {
		if list[i].ID == *id {
			j.Name = list[i].Name
		}
	}
	return j
}

func (d *Door) describe(v *devices.Detail, now time.Time) deviceJSON {
	j := deviceJSON{ID: v.ID.String(), Name: v.Name, State: string(v.State), CreatedAt: stamp(v.CreatedAt), Pending: v.Pending,
		Card: cardJSON{string(v.CardState), stamp(v.CardNotAfter)}}
	if v.State == citizen.DeviceSuspended {
		j.Reason, j.Resumable = v.StateReason, v.StateReason == citizen.ReasonCitizen
	}
	if !v.LastUsedAt.IsZero() {
		j.LastUsedAt = stamp(v.LastUsedAt)
	}
	if v.CooldownUntil.After(now) {
		j.CooldownUntil = stamp(v.CooldownUntil)
	}
	if c := v.Certificate; c != nil {
		j.Certificate = &certificateJSON{NotAfter: stamp(c.NotAfter), State: string(c.State), Renew: d.cfg.Renewals.Due(v)}
	}
	return j
}

// actor is the person of the phone session.
func (d *Door) actor(r *http.Request) (devices.Actor, error) {
	s, list, err := d.session(r)
	a := devices.Actor{CitizenID: s.CitizenID, DeviceID: s.DeviceID, At: s.At, IP: front.ClientIP(r)}
	for i := range list {
		if list[i].ID == s.DeviceID {
			a.CooldownUntil = list[i].CooldownUntil
		}
	}
	return a, err
}

// act reads session, device and body of a request on one device.
func (d *Door) act(r *http.Request, in any) (devices.Actor, uuid.UUID, error) {
	a, err := d.actor(r)
	if err != nil {
		return a, uuid.Nil, err
	}
	id, err := uuid.Parse(chi.URLParam(r, "device"))
	if err != nil {
		return a, uuid.Nil, citizen.ErrDeviceNotFound
	}
	return a, id, front.DecodeJSON(r, in, maxSmall)
}

func (d *Door) renameDevice(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Name string `json:"name"`
	}
	a, id, err := d.act(r, &in)
	if err == nil {
		err = d.cfg.Devices.Rename(r.Context(), a, id, in.Name)
	}
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// changeDevice is suspend, resume or remove.
func (d *Door) changeDevice(step func(context.Context, devices.Actor, uuid.UUID) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a, id, err := d.act(r, &struct{}{})
		if err == nil {
			err = step(r.Context(), a, id)
		}
		if err != nil {
			front.WriteProblem(w, r, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

func (d *Door) noticesSeen(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Last uuid.UUID `json:"last"`
	}
	a, err := d.actor(r)
	if err == nil {
		err = front.DecodeJSON(r, &in, maxSmall)
	}
	if err == nil {
		err = d.cfg.Devices.Seen(r.Context(), a.DeviceID, in.Last)
	}
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
