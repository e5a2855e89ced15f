package agencyapi

import (
	"net/http"
	"strconv"
	"time"

	"sealgate/internal/front"
	"sealgate/internal/order"
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
	Level      string           `json:"level"`
	WaitReason string           `json:"wait_reason,omitempty"`
	Documents  []documentAnswer `json:"documents"`
	Approval   *approvalAnswer  `json:"approval,omitempty"`
}

// documentAnswer is one document and what became of it.
type documentAnswer struct {
	Index int `json:"index"`
	order.Document
	DigestCode string `json:"digest_code"`
	State      string `json:"state"`             // pending, signed, left_out, failed
	Failure    string `json:"failure,omitempty"` // why this one failed, where others did not
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
		Text: asked.Text, ReturnURI: o.ReturnURI, EndReason: o.EndReason, Level: asked.Level, WaitReason: o.WaitReason, Documents: make([]documentAnswer, len(asked.Documents)),
	}
	if a.Level == "" {
		a.Level = signing.LevelB
	}
	for i, document := range asked.Documents {
		a.Documents[i] = documentAnswer{Index: i, Document: document, DigestCode: document.DigestCode(), State: o.DocumentState(i, now), Failure: o.Failures[i]}
		if a.Documents[i].State == order.DocumentSigned {
			a.Documents[i].Signature = "/api/v1/sign-orders/" + o.ID.String() + "/documents/" + strconv.Itoa(i) + "/signature"
		}
	}
	if o.ApprovedAt != nil && o.CitizenID != nil {
		a.Approval = &approvalAnswer{Subject: d.subject(c, *o.CitizenID), ACR: o.ACR, At: stamp(*o.ApprovedAt)}
	}
	return a
}

// evidence answers the whole chain from the card to the signatures (api/EVIDENCE.md),
// to whom the order belongs.
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
	d.writeEvidence(w, r, o, -1)
}

// oneEvidence answers the chain for one document, which shows nothing of the others.
func (d *Door) oneEvidence(w http.ResponseWriter, r *http.Request, c caller) {
	o, asked, err := d.own(r, c)
	if err != nil {
		d.fail(w, r, c, err)
		return
	}
	n, err := document(r, o, asked)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	d.writeEvidence(w, r, o, n)
}

func (d *Door) writeEvidence(w http.ResponseWriter, r *http.Request, o *order.Order, document int) {
	raw, err := d.cfg.Evidence(r.Context(), o.ID.UUID(), document)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	_, _ = w.Write(raw) // byte for byte: its hash is over the file
}
