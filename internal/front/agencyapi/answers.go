package agencyapi

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"sealgate/internal/front"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
	"sealgate/internal/signing"
)

// orderAnswer is a sign order as its client sees it.
type orderAnswer struct {
	Order      order.ID         `json:"order"`
	State      order.State      `json:"state"`
	CreatedAt  string           `json:"created_at"`
	ExpiresAt  string           `json:"expires_at"`
	ServerTime string           `json:"server_time"`
	Text       string           `json:"text,omitempty"`
	ReturnURI  string           `json:"return_uri,omitempty"`
	StartURL   string           `json:"start_url,omitempty"` // in the answer to POST only
	EndReason  string           `json:"end_reason,omitempty"`
	Documents  []documentAnswer `json:"documents"`
	Approval   *approvalAnswer  `json:"approval,omitempty"`
}

// documentAnswer is one document and what became of it.
type documentAnswer struct {
	Index int `json:"index"`
	order.Document
	DigestCode string `json:"digest_code"`
	State      string `json:"state"` // pending, signed, left_out, failed
	Signature  string `json:"signature,omitempty"`
}

// approvalAnswer says who approved, by the subject this client knows, and how.
type approvalAnswer struct {
	Subject string `json:"sub"`
	ACR     string `json:"acr"`
	At      string `json:"at"`
}

func (d *Door) orderJSON(o *order.Order, asked order.Content, c caller, now time.Time) orderAnswer {
	a := orderAnswer{
		Order: o.ID, State: o.StateAt(now), CreatedAt: stamp(o.CreatedAt), ExpiresAt: stamp(o.ExpiresAt), ServerTime: stamp(now),
		Text: asked.Text, ReturnURI: o.ReturnURI, EndReason: o.EndReason, Documents: make([]documentAnswer, len(asked.Documents)),
	}
	for i, document := range asked.Documents {
		a.Documents[i] = documentAnswer{Index: i, Document: document, DigestCode: document.DigestCode(), State: documentState(o, a.State, i)}
		if a.Documents[i].State == "signed" {
			a.Documents[i].Signature = "/api/v1/sign-orders/" + o.ID.String() + "/documents/" + strconv.Itoa(i) + "/signature"
		}
	}
	if o.ApprovedAt != nil && o.CitizenID != nil {
		a.Approval = &approvalAnswer{Subject: d.subject(c, *o.CitizenID), ACR: o.ACR, At: stamp(*o.ApprovedAt)}
	}
	return a
}

func leftOut(o *order.Order, n int) bool { return slices.Contains(o.LeftOut, n) }

func documentState(o *order.Order, state order.State, n int) string {
	switch {
	case leftOut(o, n):
		return "left_out"
	case state == order.Completed:
		return "signed"
	case state.Ended():
		return "failed"
	}
	return "pending"
}

// evidenceAnswer is a kept approval with all that is needed to check it without
// us: recompute the challenge from content and left_out, find it in
// client_data_json, and verify the signature over
// authenticator_data ‖ SHA-256(client_data_json) with the key
// (WebAuthn Level 3 §7.2). Byte strings are base64url without padding.
type evidenceAnswer struct {
	Type       string             `json:"type"` // "sealgate.approval.v1"
	Order      order.ID           `json:"order"`
	Approved   string             `json:"approved_at"`
	ACR        string             `json:"acr"`
	RPID       string             `json:"rp_id"`
	Origin     string             `json:"origin"`
	Signed     byteString         `json:"content"` // RFC 8785 JSON, exactly as signed
	LeftOut    []int              `json:"left_out"`
	Challenge  byteString         `json:"challenge"`
	AuthData   byteString         `json:"authenticator_data"`
	ClientData byteString         `json:"client_data_json"`
	Signature  byteString         `json:"signature"`
	Credential credentialAnswer   `json:"credential"`
	Mobile     *certificateAnswer `json:"mobile_certificate,omitempty"`
}

type credentialAnswer struct {
	ID         byteString `json:"id"`
	COSEKey    byteString `json:"cose_key"`
	Thumbprint byteString `json:"thumbprint"` // RFC 9679, SHA-256
}

type certificateAnswer struct {
	DER byteString `json:"der"`
}

// evidence answers the approval of a sign order, to whom the order belongs.
func (d *Door) evidence(w http.ResponseWriter, r *http.Request, c caller) {
	o, _, err := d.own(r, c)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	if o.ApprovedAt == nil {
		if state := o.StateAt(time.Now()); state.Ended() {
			front.WriteProblem(w, r, ended(state))
			return
		}
		front.WriteProblem(w, r, ErrEvidenceNotReady)
		return
	}
	e, err := d.cfg.Evidence(r.Context(), o.ID.UUID())
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	answer, err := d.evidenceJSON(o, e)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	front.WriteJSON(w, http.StatusOK, answer)
}

func (d *Door) evidenceJSON(o *order.Order, e signing.Evidence) (*evidenceAnswer, error) {
	thumbprint, err := passkey.Thumbprint(e.COSEKey)
	if err != nil {
		return nil, errors.Join(errors.New("agencyapi: a kept credential key cannot be read"), err)
	}
	challenge := signing.Challenge(e.Content, e.LeftOut)
	a := &evidenceAnswer{
		Type: "sealgate.approval.v1", Order: o.ID, Approved: stamp(*o.ApprovedAt), ACR: o.ACR, RPID: e.RPID, Origin: d.cfg.PublicOrigin,
		Signed: e.Content, LeftOut: e.LeftOut, Challenge: challenge[:], AuthData: e.AuthenticatorData, ClientData: e.ClientDataJSON,
		Signature:  e.Signature,
		Credential: credentialAnswer{ID: e.CredentialID, COSEKey: e.COSEKey, Thumbprint: thumbprint[:]},
	}
	if a.LeftOut == nil {
		a.LeftOut = []int{}
	}
	if len(e.Certificate.DER) > 0 {
		a.Mobile = &certificateAnswer{DER: e.Certificate.DER}
	}
	return a, nil
}
