package softphone

import (
	"context"
	"encoding/json"
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
	AddedBy       *struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"added_by"`
	Certificate *struct {
		NotAfter string `json:"not_after"`
		State    string `json:"state"`
		Renew    bool   `json:"renew"`
	} `json:"certificate"`
	CertificatePending bool `json:"certificate_pending"`
	Card               struct {
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
	RemovedPasskeys struct {
		RPID string   `json:"rp_id"`
		IDs  []string `json:"ids"`
	} `json:"removed_passkeys"`
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

// RenewalRequest is what the phone has to sign for a new mobile certificate.
type RenewalRequest struct {
	Renewal   string          `json:"renewal"`
	Statement string          `json:"statement"`
	ExpiresAt string          `json:"expires_at"`
	PublicKey json.RawMessage `json:"public_key"`
}

// BeginRenewal asks for a new mobile certificate; it needs an open session.
func (p *Phone) BeginRenewal(ctx context.Context) (*RenewalRequest, error) {
	var r RenewalRequest
	return &r, p.Post(ctx, "/renewals", struct{}{}, &r)
}

// CompleteRenewal signs the statement, and gives when the new certificate ends.
func (p *Phone) CompleteRenewal(ctx context.Context, r *RenewalRequest) (notAfter string, err error) {
	assertion, err := p.keys.Get(p.server, r.PublicKey)
	if err != nil {
		return "", err
	}
	return p.SendRenewal(ctx, r.Renewal, assertion)
}

// SendRenewal sends an assertion over a renewal's statement.
func (p *Phone) SendRenewal(ctx context.Context, renewal string, assertion json.RawMessage) (notAfter string, err error) {
	var made struct {
		Certificate struct {
			NotAfter string `json:"not_after"`
		} `json:"certificate"`
	}
	err = p.Post(ctx, "/renewals/"+url.PathEscape(renewal), map[string]any{"assertion": assertion}, &made)
	return made.Certificate.NotAfter, err
}

// Renew puts a new mobile certificate in the place of this phone's, and gives
// when the new one ends.
func (p *Phone) Renew(ctx context.Context) (notAfter string, err error) {
	r, err := p.BeginRenewal(ctx)
	if err != nil {
		return "", err
	}
	return p.CompleteRenewal(ctx, r)
}

// Post sends JSON to a path of the device API and reads JSON.
func (p *Phone) Post(ctx context.Context, path string, in, out any) error {
	return p.call(ctx, http.MethodPost, deviceAPI+path, nil, in, out)
}
