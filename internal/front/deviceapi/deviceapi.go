// Package deviceapi is the door for phones: the phone app, and soft phones.
//
//	POST   /claims                    take an order by frame, code or browser
//	POST   /orders/{order}/options    new ceremony options when documents are left out
//	POST   /orders/{order}/approve    the assertion over what was shown
//	POST   /orders/{order}/credential the new passkey (binding)
//	POST   /orders/{order}/reject     the person said no
//	GET    /orders/{order}            how it stands; waits for a change on request
//	POST   /sessions/options, /sessions, DELETE /sessions
//	GET    /history, /devices         a person's own, with a phone session
//	PATCH  /devices/{device}          a new name
//	POST   /devices/{device}/suspend, /resume, /remove
//	POST   /additions                 one more phone, added from this one
//	GET    /additions/{order}         what the new phone says of itself
//	POST   /additions/{order}/approve this phone agrees to it
//	POST   /notices/seen              the person was told
//	POST   /renewals, /renewals/{renewal}  a new mobile certificate before the old one ends
//
// The claim token proves that this phone holds the order; credentials are
// discoverable, so approving needs no session. Cookies matter only where the
// browser that started an order is itself on the phone, and for the session.
package deviceapi

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"sealgate/internal/citizen"
	"sealgate/internal/devices"
	"sealgate/internal/enrolment"
	"sealgate/internal/front"
	"sealgate/internal/order"
)

// Limits on what a phone may send, in bytes.
const (
	maxSmall    = 4 << 10
	maxCeremony = 96 << 10 // an attestation with certificates
	maxWait     = 25 * time.Second
)

// Config is what the door stands on; every field is required, but CountryHeader.
type Config struct {
	Orders     *order.Service
	Phone      *order.Phone
	Enrolments *enrolment.Service
	Citizens   *citizen.Registry
	Devices    *devices.Service
	Renewals   *devices.Renewals
	Sessions   *front.Sessions
	// RPID is the relying party id of the phones' passkeys.
	RPID string
	// CountryHeader names the header in which a trusted proxy tells the caller's country.
	CountryHeader string
	// AddText is the order's text for a phone that is being added, in the request's language.
	AddText func(*http.Request) string
}

// Door answers phones.
type Door struct {
	cfg Config
	// codes brakes whoever tries typed codes: each that is found shows what
	// somebody else is asked.
	codes *front.Guesses
}

// An address may be wrong about ten codes, and then about one more each half minute.
const (
	wrongCodes     = 10
	wrongCodeEvery = 30 * time.Second
)

// New checks the configuration.
func New(cfg Config) (*Door, error) {
	if cfg.Orders == nil || cfg.Phone == nil || cfg.Enrolments == nil || cfg.Citizens == nil || cfg.Devices == nil || cfg.Renewals == nil || cfg.Sessions == nil ||
		cfg.AddText == nil || cfg.RPID == "" {
		return nil, errors.New("deviceapi: a part is missing from the configuration")
	}
	return &Door{cfg: cfg, codes: front.NewGuesses(wrongCodes, wrongCodeEvery, time.Now)}, nil
}

// Mount puts the routes on a router, below the prefix where it is mounted.
func (d *Door) Mount(r chi.Router) {
	r.Post("/claims", d.claim)
	r.Route("/orders/{order}", func(r chi.Router) {
		r.Get("/", d.status)
		r.Post("/options", d.options)
		r.Post("/approve", d.approve)
		r.Post("/credential", d.credential)
		r.Post("/reject", d.reject)
	})
	r.Post("/sessions/options", d.sessionOptions)
	r.Post("/sessions", d.openSession)
	r.Delete("/sessions", d.closeSession)
	r.Get("/history", d.history)
	r.Get("/devices", d.devices)
	r.Route("/devices/{device}", func(r chi.Router) {
		r.Patch("/", d.renameDevice)
		r.Post("/suspend", d.changeDevice(d.cfg.Devices.Suspend))
		r.Post("/resume", d.changeDevice(d.cfg.Devices.Resume))
		r.Post("/remove", d.changeDevice(d.cfg.Devices.Remove))
	})
	r.Post("/additions", d.beginAddition)
	r.Get("/additions/{order}", d.newcomer)
	r.Post("/additions/{order}/approve", d.approveAddition)
	r.Post("/notices/seen", d.noticesSeen)
	r.Post("/renewals", d.beginRenewal)
	r.Post("/renewals/{renewal}", d.completeRenewal)
}

// origin describes who asks.
func (d *Door) origin(r *http.Request) order.Origin {
	country := ""
	if d.cfg.CountryHeader != "" {
		country = r.Header.Get(d.cfg.CountryHeader)
	}
	return order.NewOrigin(front.ClientIP(r), r.UserAgent(), country)
}

// browser is the key of the browser cookie, nil where there is none.
func browser(r *http.Request) *order.BrowserKey {
	key, ok := front.Browser(r)
	if !ok {
		return nil
	}
	k := order.BrowserKey(key)
	return &k
}

func (d *Door) claim(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Frame      string       `json:"frame"`
		Order      string       `json:"order"`
		Code       string       `json:"code"`
		Source     order.Source `json:"source"`
		ClaimToken string       `json:"claim_token"`
	}
	if err := front.DecodeJSON(r, &in, maxSmall); err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	if in.Source == order.Code {
		if err := d.codes.Allowed(front.ClientIP(r)); err != nil {
			front.WriteProblem(w, r, err)
			return
		}
	}
	c, err := d.cfg.Orders.Claim(r.Context(), order.ClaimRequest{Source: in.Source, Frame: in.Frame, Order: in.Order,
		Code: in.Code, Token: in.ClaimToken, Browser: browser(r), From: d.origin(r)})
	if err != nil {
		if errors.Is(err, order.ErrCodeUnknown) {
			d.codes.Wrong(front.ClientIP(r))
		}
		front.WriteProblem(w, r, err)
		return
	}
	answer := claimJSON(c, time.Now())
	if answer.Enrol != nil {
		if answer.Enrol.Proof, err = d.cfg.Enrolments.ProofKind(r.Context(), c.ID); err != nil {
			front.WriteProblem(w, r, err)
			return
		}
	}
	front.WriteJSON(w, http.StatusOK, answer)
}

func (d *Door) options(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ClaimToken string `json:"claim_token"`
		LeftOut    []int  `json:"left_out"`
	}
	id, err := d.read(r, &in, maxSmall)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	options, err := d.cfg.Orders.Options(r.Context(), id, in.ClaimToken, in.LeftOut)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, map[string]any{"public_key": raw(options)})
}

func (d *Door) approve(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ClaimToken string `json:"claim_token"`
		Assertion  raw    `json:"assertion"`
		LeftOut    []int  `json:"left_out"`
	}
	id, err := d.read(r, &in, maxCeremony)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	out, err := d.cfg.Orders.Approve(r.Context(), order.ApproveRequest{Order: id, Token: in.ClaimToken, Assertion: in.Assertion,
		LeftOut: in.LeftOut, From: d.origin(r)})
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	answer := map[string]any{"state": out.State, "acr": out.ACR, "device": map[string]string{"name": out.DeviceName}}
	if out.ClaimSource == order.SameDevice {
		answer["next"] = returnPath(id)
	}
	front.WriteJSON(w, http.StatusOK, answer)
}

func (d *Door) credential(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ClaimToken string `json:"claim_token"`
		Credential raw    `json:"credential"`
		DeviceName string `json:"device_name"`
	}
	id, err := d.read(r, &in, maxCeremony)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	err = d.cfg.Enrolments.Credential(r.Context(), enrolment.CredentialRequest{Order: id, Token: in.ClaimToken,
		Response: in.Credential, DeviceName: in.DeviceName, From: d.origin(r)})
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, map[string]any{"state": order.Scanned})
}

func (d *Door) reject(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ClaimToken string `json:"claim_token"`
		Reason     string `json:"reason"`
	}
	id, err := d.read(r, &in, maxSmall)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	err = d.cfg.Orders.Reject(r.Context(), order.RejectRequest{Order: id, Token: in.ClaimToken, Reason: in.Reason, From: d.origin(r)})
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, map[string]any{"state": order.Rejected})
}

// status answers how an order stands to the phone that holds it. With ?wait=N
// it answers when something changed, or after N seconds.
func (d *Door) status(w http.ResponseWriter, r *http.Request) {
	id, err := order.ParseID(chi.URLParam(r, "order"))
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Claim ")
	if !ok {
		front.WriteProblem(w, r, order.ErrWrongClaim)
		return
	}
	changed, stop := d.cfg.Orders.Watch(id)
	defer stop()
	v, err := d.cfg.Orders.Held(r.Context(), id, token)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	if wait := waitFor(r); wait > 0 && !v.StateAt(time.Now()).Ended() {
		release, err := front.WaitOpen(w, r)
		if err != nil {
			front.WriteProblem(w, r, err)
			return
		}
		defer release()
		timer := time.NewTimer(min(wait, max(0, time.Until(v.ExpiresAt))+time.Millisecond))
		defer timer.Stop()
		select {
		case <-changed:
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
		if v, err = d.cfg.Orders.Held(r.Context(), id, token); err != nil {
			front.WriteProblem(w, r, err)
			return
		}
	}
	front.WriteJSON(w, http.StatusOK, statusJSON(v, time.Now()))
}

// waitFor reads ?wait=, in seconds.
func waitFor(r *http.Request) time.Duration {
	n, err := strconv.Atoi(r.URL.Query().Get("wait"))
	if err != nil || n <= 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, maxWait)
}

// read takes the order from the path and the body from the request.
func (d *Door) read(r *http.Request, in any, most int64) (order.ID, error) {
	id, err := order.ParseID(chi.URLParam(r, "order"))
	if err != nil {
		return id, err
	}
	return id, front.DecodeJSON(r, in, most)
}
