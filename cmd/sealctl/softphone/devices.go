package softphone

import (
	"context"
	"net/http"
	"net/url"
)

// Device is one of a person's phones, as the list tells it.
type Device struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	State         string `json:"state"`
	Reason        string `json:"reason"`
	Resumable     bool   `json:"resumable"`
	CooldownUntil string `json:"cooldown_until"`
	This          bool   `json:"this"`
	Certificate   *struct {
		NotAfter string `json:"not_after"`
		State    string `json:"state"`
		Renew    bool   `json:"renew"`
	} `json:"certificate"`
	Card struct {
		State    string `json:"state"`
		NotAfter string `json:"not_after"`
	} `json:"card"`
}

// Devices is the list, with what this phone has not been told yet.
type Devices struct {
	Items   []Device `json:"items"`
	Notices []struct {
		ID     string `json:"id"`
		Kind   string `json:"kind"`
		Device struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"device"`
	} `json:"notices"`
}

// Devices lists the person's phones; it needs an open session.
func (p *Phone) Devices(ctx context.Context) (*Devices, error) {
	var list Devices
	return &list, p.Read(ctx, "devices", &list)
}

// ChangeDevice suspends, resumes or removes a device of the same person.
func (p *Phone) ChangeDevice(ctx context.Context, device, step string) error {
	return p.Post(ctx, "/devices/"+url.PathEscape(device)+"/"+step, struct{}{}, nil)
}

// RenameDevice gives a device of the same person a new name.
func (p *Phone) RenameDevice(ctx context.Context, device, name string) error {
	return p.call(ctx, http.MethodPatch, deviceAPI+"/devices/"+url.PathEscape(device), nil, map[string]string{"name": name}, nil)
}

// Post sends JSON to a path of the device API and reads JSON.
func (p *Phone) Post(ctx context.Context, path string, in, out any) error {
	return p.call(ctx, http.MethodPost, deviceAPI+path, nil, in, out)
}
