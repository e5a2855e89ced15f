package deviceapi

import (
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"sealgate/internal/devices"
	"sealgate/internal/front"
)

type renewalAnswer struct {
	Renewal string `json:"renewal"`
	// Statement is what the phone signs: the challenge is SHA-256 over
	// "sealgate/renewal/v1", a zero byte and this text.
	Statement string `json:"statement"`
	ExpiresAt string `json:"expires_at"`
	PublicKey raw    `json:"public_key"`
}

// beginRenewal gives what this phone has to sign for a new mobile certificate.
func (d *Door) beginRenewal(w http.ResponseWriter, r *http.Request) {
	a, err := d.actor(r)
	if err == nil {
		err = front.DecodeJSON(r, &struct{}{}, maxSmall)
	}
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	begun, options, err := d.cfg.Renewals.Begin(r.Context(), a)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusCreated, renewalAnswer{begun.ID.String(), string(begun.Statement), stamp(begun.ExpiresAt), options})
}

// completeRenewal takes the assertion and puts the new certificate in place.
func (d *Door) completeRenewal(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Assertion raw `json:"assertion"`
	}
	a, err := d.actor(r)
	if err == nil {
		err = front.DecodeJSON(r, &in, maxCeremony)
	}
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	id, err := uuid.Parse(chi.URLParam(r, "renewal"))
	if err != nil {
		front.WriteProblem(w, r, devices.ErrRenewGone)
		return
	}
	made, err := d.cfg.Renewals.Complete(r.Context(), a, id, in.Assertion)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	out := map[string]any{"certificate": certificateJSON{NotAfter: stamp(made.NotAfter), State: string(made.State)}}
	if made.Pending {
		out["pending"] = true
	}
	front.WriteJSON(w, http.StatusOK, out)
}
