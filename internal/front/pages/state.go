package pages

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"sealgate/internal/front"
	"sealgate/internal/order"
)

// State is what the page of an order follows.
type State struct {
	Order       string      `json:"order"`
	Kind        order.Kind  `json:"kind"`
	State       order.State `json:"state"`
	ExpiresAt   string      `json:"expires_at"`
	ServerTime  string      `json:"server_time"`
	ExtendLeft  int         `json:"extend_left"`
	FrozenUntil string      `json:"frozen_until,omitempty"`
	Check       *Check      `json:"check,omitempty"`
	Next        string      `json:"next,omitempty"`
	EndReason   string      `json:"end_reason,omitempty"`
	// WaitReason is a fault's code while an approved order waits for something outside.
	WaitReason string          `json:"wait_reason,omitempty"`
	Documents  []DocumentState `json:"documents,omitempty"`
}

// Waiting says what an approved order waits for: "time_stamp", "other", or ""
// when it waits for nothing.
func (s State) Waiting() string {
	switch {
	case s.State != order.Approved || s.WaitReason == "":
		return ""
	case strings.HasPrefix(s.WaitReason, "tsa_"), strings.HasPrefix(s.WaitReason, "tsp_"):
		return "time_stamp"
	}
	return "other"
}

// Check says that the two digits of the phone must be typed here.
type Check struct {
	Required  bool `json:"required"`
	TriesLeft int  `json:"tries_left"`
}

// DocumentState is where one document of a sign order stands: pending, signed,
// left_out or failed.
type DocumentState struct {
	Index int    `json:"index"`
	Name  string `json:"name"`
	State string `json:"state"`
}

// stateOf tells an order as its page sees it now.
func (p *Pages) stateOf(v *order.View, now time.Time) State {
	st := State{
		Order: v.ID.String(), Kind: v.Kind, State: v.StateAt(now),
		ExpiresAt: timestamp(v.ExpiresAt), ServerTime: timestamp(now),
		ExtendLeft: p.cfg.Orders.ExtendLeft(v), EndReason: v.EndReason, WaitReason: v.WaitReason, Documents: documentStates(v, now),
	}
	if t := p.cfg.Orders.FrozenUntil(v, now); !t.IsZero() {
		st.FrozenUntil = timestamp(t)
	}
	if v.CheckDigits != "" && st.State == order.Scanned {
		st.Check = &Check{Required: v.CheckNeeded(), TriesLeft: max(0, order.MaxCheckTries-v.CheckTries)}
	}
	st.Next = next(v, st.State)
	return st
}

// next is where the page goes when the order is over: logins go back to who
// asked, whether it went well or not; so do sign orders that named an address.
func next(v *order.View, state order.State) string {
	base := "/o/" + v.ID.String()
	switch {
	case v.Kind == order.Login && (state == order.Approved || state.Ended()):
		return base + "/return"
	case v.Kind == order.Sign && v.ReturnURI != "" && state.Ended():
		return base + "/return"
	}
	return ""
}

func documentStates(v *order.View, now time.Time) []DocumentState {
	if v.Kind != order.Sign {
		return nil
	}
	out := make([]DocumentState, len(v.Asked.Documents))
	for i, d := range v.Asked.Documents {
		out[i] = DocumentState{Index: i, Name: d.Name, State: v.DocumentState(i, now)}
	}
	return out
}

// fullState is what GET /o/{oid}/state answers: the state, and the frame for
// pages without an event stream.
type fullState struct {
	State
	Frame string `json:"frame,omitempty"`
}

func (p *Pages) state(w http.ResponseWriter, r *http.Request) {
	v, err := p.mine(r)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	now := time.Now()
	full := fullState{State: p.stateOf(v, now)}
	if full.State.State == order.Created && v.QRAllowed {
		full.Frame = p.cfg.Orders.Frame(v, now)
	}
	tag := etag(full)
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "private, no-cache")
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	front.WriteJSON(w, http.StatusOK, full)
}

// etag covers everything but the clock.
func etag(full fullState) string {
	full.ServerTime = ""
	body, _ := json.Marshal(full) // strings, numbers and times that were just written
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}
