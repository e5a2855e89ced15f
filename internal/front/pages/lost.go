package pages

import (
	"encoding/base64"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"sealgate/internal/enrolment"
	"sealgate/internal/front"
	"sealgate/internal/order"
)

// LostData is what the page shows that stops phones with the card.
type LostData struct {
	Card     CardData
	SoftCard bool
}

// Page is what the page's script reads.
func (d LostData) Page() map[string]any { return map[string]any{"card": d.Card} }

// lostCard explains; nothing touches the card before the person presses the button.
func (p *Pages) lostCard(w http.ResponseWriter, r *http.Request) {
	front.EnsureBrowser(w, r)
	enrolPolicy(w)
	p.render.Page(w, r, http.StatusOK, "pages/lost-card",
		LostData{Card: CardData{Origin: p.cfg.CardOrigin, Download: p.cfg.CardDownload}, SoftCard: p.cfg.SoftCard})
}

// lostBegin takes what was read from the card and gives what it has to sign.
func (p *Pages) lostBegin(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Purpose     enrolment.LossPurpose `json:"purpose"`
		Certificate string                `json:"certificate"`
		CardNumber  string                `json:"card_number"`
	}
	if err := front.DecodeJSON(r, &body, maxCardBody); err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	der, err := base64.StdEncoding.DecodeString(body.Certificate)
	if err != nil {
		front.WriteProblem(w, r, enrolment.ErrCertificate)
		return
	}
	id, tbs, nonce, err := p.cfg.Enrolments.BeginLoss(r.Context(), enrolment.LossRequest{Purpose: body.Purpose, Certificate: der,
		CardNumber: body.CardNumber, Browser: order.BrowserKey(front.EnsureBrowser(w, r)), From: p.from(r)})
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusCreated, map[string]string{"id": id.String(), "tbs": base64.StdEncoding.EncodeToString(tbs), "nonce": nonce})
}

// lostEnd takes the card's signature and stops, or resumes, the phones.
func (p *Pages) lostEnd(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Signature   []byte `json:"signature"` // base64
		Certificate []byte `json:"certificate"`
		CardNumber  string `json:"card_number"`
	}
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		err = enrolment.ErrLossGone
	}
	browser, ok := front.Browser(r)
	if err == nil && !ok {
		err = front.ErrBrowserRequired
	}
	if err == nil {
		err = front.DecodeJSON(r, &body, maxCardBody)
	}
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	out, err := p.cfg.Enrolments.EndLoss(r.Context(), id, enrolment.CompleteRequest{Browser: order.BrowserKey(browser),
		Signature: body.Signature, Certificate: body.Certificate, CardNumber: body.CardNumber, From: p.from(r)})
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, struct {
		Code    string   `json:"code"`
		At      string   `json:"at"`
		Until   string   `json:"until"`
		Devices []string `json:"devices"`
	}{out.Code, timestamp(out.At), timestamp(out.Until), out.Devices})
}
