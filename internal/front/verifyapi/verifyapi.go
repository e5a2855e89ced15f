// Package verifyapi is the door for whoever wants a signature judged. Nobody has
// to be known for it: the page /verify and programs call the same two routes.
//
//	POST /verifications/needs   which digests the verification needs
//	POST /verifications         the report; ?report=signed gives it signed
//
// The signed content does not come here: its digests do. What is asked by one
// address, what is read at a time and what is judged at a time are bounded.
package verifyapi

import (
	"errors"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"sealgate/internal/front"
	"sealgate/internal/i18n"
	"sealgate/internal/sigverify"
	"sealgate/internal/verification"
)

// Bounds on one call: most of them are some kilobytes, so that a few large ones
// at a time are enough.
const (
	maxBody     = front.MaxVerification
	smallBody   = 512 << 10
	smallRooms  = 64
	largeRooms  = 4
	readTimeout = 30 * time.Second
	busyRetry   = 5 * time.Second
)

// Config is what the door stands on; every field is required.
type Config struct {
	Service   *verification.Service
	Catalogue *i18n.Catalogue
}

// Door answers questions about signatures.
type Door struct {
	cfg          Config
	small, large chan struct{}
}

// New makes the door.
func New(cfg Config) *Door {
	return &Door{cfg, make(chan struct{}, smallRooms), make(chan struct{}, largeRooms)}
}

// Mount puts the routes on a router, below the prefix where it is mounted.
func (d *Door) Mount(r chi.Router) {
	r.Post("/verifications/needs", d.needs)
	r.Post("/verifications", d.verify)
}

// read takes the body in while there is room for it. The caller releases the room
// when it is done with what was read.
func (d *Door) read(w http.ResponseWriter, r *http.Request) (question, func(), error) {
	room := d.large
	if r.ContentLength >= 0 && r.ContentLength <= smallBody {
		room = d.small
	}
	select {
	case room <- struct{}{}:
	default:
		busy := *verification.ErrBusy
		busy.RetryAfter = busyRetry
		return question{}, func() {}, &busy
	}
	release := func() { <-room }
	// Whoever sends slowly must not keep a room; where a deadline cannot be set the
	// server's own holds.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTimeout))
	front.AllowBody(w, r, maxBody)
	var q question
	if err := front.DecodeJSON(r, &q, maxBody); err != nil {
		return question{}, release, err
	}
	return q, release, nil
}

func (d *Door) needs(w http.ResponseWriter, r *http.Request) {
	q, release, err := d.read(w, r)
	defer release()
	var request sigverify.Request
	if err == nil {
		request, err = q.request()
	}
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	wants, err := d.cfg.Service.Ask(r.Context(), request)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, needsOf(wants))
}

func (d *Door) verify(w http.ResponseWriter, r *http.Request) {
	form := r.URL.Query().Get("report")
	q, release, err := d.read(w, r)
	defer release()
	var request sigverify.Request
	if err == nil && form != "" && form != "signed" {
		err = sigverify.ErrRequest.Because(errors.New("a form of report that there is not"))
	}
	if err == nil {
		request, err = q.request()
	}
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	report, err := d.cfg.Service.Verify(r.Context(), request, q.Evidence)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	if form == "signed" {
		d.signed(w, r, report)
		return
	}
	front.WriteJSON(w, http.StatusOK, answer{Outlook: report.Outlook(), Simple: report.Simple(d.cfg.Catalogue, front.Lang(r)), Report: report})
}

func (d *Door) signed(w http.ResponseWriter, r *http.Request, report *sigverify.Report) {
	signed, err := d.cfg.Service.Sign(r.Context(), report, time.Now())
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/pkcs7-mime")
	w.Header().Set("Content-Disposition", `attachment; filename="verification-report.p7m"`)
	_, _ = w.Write(signed)
}
