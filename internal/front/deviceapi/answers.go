package deviceapi

import (
	"encoding/json"
	"time"

	"sealgate/internal/enrolment"
	"sealgate/internal/order"
)

// raw is JSON that is handed through untouched.
type raw = json.RawMessage

type nameJSON struct {
	Name order.Names `json:"name"`
	Host string      `json:"host,omitempty"`
}

type documentJSON struct {
	Index int `json:"index"`
	order.Document
	DigestCode string `json:"digest_code"`
}

type startedJSON struct {
	Browser string `json:"browser,omitempty"`
	OS      string `json:"os,omitempty"`
	Country string `json:"country,omitempty"`
	At      string `json:"at"`
	// IPClass says whether phone and computer are in one network: "same" or "other".
	IPClass string `json:"ip_class"`
}

type checkJSON struct {
	Required bool   `json:"required"`
	Digits   string `json:"digits,omitempty"`
	Passed   bool   `json:"passed"`
}

type enrolJSON struct {
	MaskedName string `json:"masked_name"`
	// Proof is who agrees to the binding in the end: card, device.
	Proof enrolment.ProofKind `json:"proof"`
}

type claimAnswer struct {
	Order      order.ID       `json:"order"`
	Kind       order.Kind     `json:"kind"`
	ClaimToken string         `json:"claim_token"`
	ExpiresAt  string         `json:"expires_at"`
	ServerTime string         `json:"server_time"`
	Agency     nameJSON       `json:"agency"`
	Client     nameJSON       `json:"client"`
	Text       string         `json:"text,omitempty"`
	Data       []string       `json:"data,omitempty"`
	Documents  []documentJSON `json:"documents,omitempty"`
	Started    startedJSON    `json:"started"`
	Source     order.Source   `json:"source"`
	ACR        string         `json:"acr,omitempty"`
	Check      checkJSON      `json:"check"`
	PublicKey  raw            `json:"public_key"`
	Enrol      *enrolJSON     `json:"enrol,omitempty"`
}

// claimJSON is a claimed order as the phone shows it.
func claimJSON(c *order.Claim, now time.Time) claimAnswer {
	a := claimAnswer{
		Order: c.ID, Kind: c.Kind, ClaimToken: c.Token, ExpiresAt: stamp(c.ExpiresAt), ServerTime: stamp(now),
		Agency: nameJSON{Name: c.Asked.Agency.Name}, Client: nameJSON{Name: c.Asked.Client.Name, Host: c.Asked.Origin},
		Text: c.Asked.Text, Data: c.Asked.Data, Documents: documentsJSON(c.Asked.Documents), Started: started(&c.Order),
		Source: c.ClaimSource, ACR: c.ACR, Check: check(&c.Order), PublicKey: c.Options,
	}
	if c.Kind == order.Enrol {
		a.ACR, a.Enrol = "", &enrolJSON{MaskedName: c.MaskedName}
	}
	return a
}

func documentsJSON(in []order.Document) []documentJSON {
	out := make([]documentJSON, len(in))
	for i, d := range in {
		out[i] = documentJSON{Index: i, Document: d, DigestCode: d.DigestCode()}
	}
	return out
}

func started(o *order.Order) startedJSON {
	s := startedJSON{Browser: o.Started.Browser, OS: o.Started.OS, Country: o.Started.Country, At: stamp(o.CreatedAt), IPClass: "other"}
	if order.SameNetwork(o.Started, o.Claimed) {
		s.IPClass = "same"
	}
	return s
}

// check shows the two digits only until the computer has been given them.
func check(o *order.Order) checkJSON {
	c := checkJSON{Required: o.CheckDigits != "", Passed: o.CheckPassedAt != nil}
	if o.CheckNeeded() {
		c.Digits = o.CheckDigits
	}
	return c
}

type statusAnswer struct {
	Order     order.ID    `json:"order"`
	Kind      order.Kind  `json:"kind"`
	State     order.State `json:"state"`
	ExpiresAt string      `json:"expires_at"`
	Check     checkJSON   `json:"check"`
	EndReason string      `json:"end_reason,omitempty"`
	// WaitReason is the code of what an approved order waits for.
	WaitReason string `json:"wait_reason,omitempty"`
	Next       string `json:"next,omitempty"`
}

// statusJSON is how an order stands, for the phone that holds it.
func statusJSON(v *order.View, now time.Time) statusAnswer {
	a := statusAnswer{Order: v.ID, Kind: v.Kind, State: v.StateAt(now), ExpiresAt: stamp(v.ExpiresAt), Check: check(&v.Order), EndReason: v.EndReason, WaitReason: v.WaitReason}
	if v.ClaimSource == order.SameDevice && (a.State == order.Approved || a.State.Ended()) {
		a.Next = returnPath(v.ID)
	}
	return a
}

// returnPath is where the browser that started an order goes back to its agency.
func returnPath(id order.ID) string { return "/o/" + id.String() + "/return" }

// stamp writes a time as RFC 3339 in UTC with milliseconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
