package pages

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"

	"sealgate/internal/fault"
	"sealgate/internal/front"
	"sealgate/internal/order"
	"sealgate/internal/signing"
)

// States shows every state of every screen with invented data, so that each
// can be looked at and checked by machine: /dev/states lists them,
// /dev/states/{screen}/{state} shows one. It exists in development only, needs
// no service and follows nothing.
type States struct {
	shell   *front.Shell
	screens map[string]map[string]sample
}

// sample is one state of one screen: a page with its data, or a fault.
type sample struct {
	page  string
	data  any
	fault error
}

// NewStates prepares the samples.
func NewStates(shell *front.Shell) *States {
	s := &States{shell: shell, screens: map[string]map[string]sample{}}
	s.orders()
	s.enrolments()
	s.additions()
	s.signing()
	s.verifying()
	s.documents()
	s.others()
	return s
}

// Mount puts the routes on a router that has Shell.Use and Shell.Browser.
func (s *States) Mount(r chi.Router) {
	r.Get("/dev/states", s.list)
	r.Get("/dev/states/{screen}/{state}", s.show)
}

func (p *Pages) mountStates(r chi.Router) { NewStates(p.cfg.Shell).Mount(r) }

func (s *States) list(w http.ResponseWriter, r *http.Request) {
	names := map[string][]string{}
	for screen, states := range s.screens {
		for state := range states {
			names[screen] = append(names[screen], state)
		}
		slices.Sort(names[screen])
	}
	front.WriteJSON(w, http.StatusOK, names)
}

func (s *States) show(w http.ResponseWriter, r *http.Request) {
	one, ok := s.screens[chi.URLParam(r, "screen")][chi.URLParam(r, "state")]
	switch {
	case !ok:
		front.Fail(w, r, fault.New(fault.NotFound, "not_found"))
	case one.fault != nil:
		front.ErrorPage(w, r, one.fault)
	default:
		s.shell.Render().Page(w, r, http.StatusOK, one.page, one.data)
	}
}

func (s *States) add(screen, state string, one sample) {
	if s.screens[screen] == nil {
		s.screens[screen] = map[string]sample{}
	}
	s.screens[screen][state] = one
}

// sampleView is an invented order that nobody made.
func sampleView(kind order.Kind, documents int) *order.View {
	id, _ := order.ParseID("AZqsVd0mfKOnNmxyM29wAQ")
	v := &order.View{QRAllowed: true}
	v.ID, v.Kind = id, kind
	v.Asked = order.Content{Kind: kind, Origin: "etax.example.gov.tw",
		Agency: order.Party{ID: "demo", Name: order.Names{"zh-Hant": "示範稅務局", "en": "Demonstration Tax Office"}},
		Client: order.Party{ID: "demo-tax", Name: order.Names{"zh-Hant": "示範報稅網", "en": "Demo tax site"}}}
	switch kind {
	case order.Login:
		v.Asked.Data = []string{"profile", "national_id"}
	case order.Sign:
		names := []string{"115年度預算書.pdf", "採購契約（第二次變更）.docx", "附件一.xlsx", "A rather long English file name, version 12 final.pdf"}
		for i := range documents {
			v.Asked.Documents = append(v.Asked.Documents, order.Document{Name: names[i%len(names)], MediaType: "application/pdf",
				Size: 1234567 * int64(i+1), DigestAlgorithm: "SHA-256", Digest: "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"})
		}
	}
	return v
}

func sampleState(v *order.View, state order.State) State {
	now := time.Now()
	st := State{Order: v.ID.String(), Kind: v.Kind, State: state, ExtendLeft: 10,
		ExpiresAt: timestamp(now.Add(107 * time.Second)), ServerTime: timestamp(now)}
	if v.Kind == order.Login {
		st.Next = next(v, state)
	}
	return st
}

const sampleFrame = "https://id.gov.tw/q/AZqsVd0mfKOnNmxyM29wAQ.42.q0X2bV9kTzE"

func (s *States) orders() {
	for _, state := range []order.State{order.Created, order.Scanned, order.Approved, order.Completed,
		order.Rejected, order.Expired, order.Cancelled, order.Failed} {
		v := sampleView(order.Login, 0)
		s.add("order", string(state), orderSample(v, sampleState(v, state), false))
	}
	v := sampleView(order.Login, 0)
	st := sampleState(v, order.Scanned)
	st.Check = &Check{Required: true, TriesLeft: 3}
	s.add("order", "check", orderSample(v, st, false))

	st = sampleState(v, order.Created)
	st.ExpiresAt = timestamp(time.Now().Add(25 * time.Second))
	s.add("order", "short", orderSample(v, st, false))

	st = sampleState(v, order.Created)
	s.add("order", "mobile", orderSample(v, st, true))

	far := sampleView(order.Login, 0)
	far.QRAllowed = false
	s.add("order", "nearby-only", orderSample(far, sampleState(far, order.Created), false))

	doc := sampleView(order.Sign, 2)
	doc.Asked.Text = "請簽署採購契約"
	for _, state := range []order.State{order.Created, order.Scanned} {
		st := sampleState(doc, state)
		st.Documents = sampleDocuments(doc, "pending")
		s.add("order-sign", string(state), orderSample(doc, st, false))
	}
}

func orderSample(v *order.View, st State, mobile bool) sample {
	d := OrderData{State: st, View: v, Mobile: mobile, Still: true}
	if st.State == order.Created && v.QRAllowed {
		d.Frame = sampleFrame
	}
	return sample{page: "pages/order", data: d}
}

func sampleDocuments(v *order.View, states ...string) []DocumentState {
	out := make([]DocumentState, len(v.Asked.Documents))
	for i, d := range v.Asked.Documents {
		out[i] = DocumentState{Index: i, Name: d.Name, State: states[i%len(states)]}
	}
	return out
}

func (s *States) enrolments() {
	base := EnrolData{Card: CardData{Origin: defaultCardOrigin, Download: "https://moica.nat.gov.tw/"}, SoftCard: true, Still: true}
	s.add("enrol", "start", sample{page: "pages/enrol", data: base})
	for _, reason := range []string{"popup", "missing", "closed", "timeout", "untrusted", "forbidden", "cancelled", "old",
		"no_reader", "no_card", "no_certificate", "not_citizen", "expired", "not_yet", "changed", "pin_missing", "pin_wrong",
		"pin_wrong_unknown", "pin_last", "pin_length", "pin_locked", "failed"} {
		d := base
		d.Error = &CardFault{Reason: reason, Params: map[string]string{"n": "2", "a": "1.3.4.1", "b": "1.3.4.3", "code": "0x76300001"}}
		s.add("enrol", reason, sample{page: "pages/enrol", data: d})
	}
	for _, state := range []order.State{order.Created, order.Scanned, order.Completed, order.Expired, order.Rejected} {
		v := sampleView(order.Enrol, 0)
		st := sampleState(v, state)
		d := base
		d.Order, d.View, d.State = v.ID.String(), v, &st
		if state == order.Created {
			d.Frame = sampleFrame
		}
		s.add("enrol", "order-"+string(state), sample{page: "pages/enrol", data: d})
		if state == order.Completed {
			d.Pending = true
			s.add("enrol", "order-pending", sample{page: "pages/enrol", data: d})
		}
	}
}

func (s *States) additions() {
	for _, state := range []order.State{order.Created, order.Scanned, order.Expired, order.Rejected} {
		s.add("add-phone", string(state), sample{page: "pages/add-phone", data: addition(state)})
	}
	d := addition(order.Scanned)
	d.Newcomer = json.RawMessage(`{"device":{"name":"我的新手機","browser":"Chrome","os":"Android"},"public_key":{}}`)
	s.add("add-phone", "agree", sample{page: "pages/add-phone", data: d})
	d = addition(order.Completed)
	d.Done = json.RawMessage(`{"device":{"id":"","name":"我的新手機"},"cooldown_until":"2026-11-24T06:02:00.000Z"}`)
	s.add("add-phone", "done", sample{page: "pages/add-phone", data: d})
	d.Done = json.RawMessage(`{"device":{"id":"","name":"我的新手機"},"cooldown_until":"2026-11-24T06:02:00.000Z","certificate_pending":true}`)
	s.add("add-phone", "pending", sample{page: "pages/add-phone", data: d})
}

func addition(state order.State) AddPhoneData {
	v := sampleView(order.Enrol, 0)
	d := AddPhoneData{OrderData: OrderData{View: v, State: sampleState(v, state), Own: true, Still: true}}
	if state == order.Created {
		d.Frame = sampleFrame
	}
	return d
}

func (s *States) signing() {
	pdf := &PDFData{Worker: s.shell.StaticAssets().URL("pdf.worker.js"), Program: s.shell.StaticAssets().URL("pdf.wasm")}
	s.add("sign", "none", sample{page: "pages/sign", data: SignData{Most: maxDocuments}})
	rows := json.RawMessage(`[{"name":"115年度預算書.pdf","size":2400000,"read":0,"code":"E3B0 C442"},
		{"name":"監視錄影.mp4","size":1073741824,"read":440000000,"code":""}]`)
	s.add("sign", "files", sample{page: "pages/sign", data: SignData{Most: maxDocuments, Sample: rows, PDF: pdf}})
	for state, words := range map[order.State][]string{order.Created: {"pending"}, order.Scanned: {"pending"},
		order.Approved: {"pending"}, order.Completed: {"signed"}, order.Rejected: {"failed"}, order.Expired: {"failed"}} {
		s.signOrder(string(state), state, words)
	}
	s.signOrder("partly", order.Completed, []string{"signed", "left_out", "signed"})
}

func (s *States) signOrder(name string, state order.State, words []string) {
	v := sampleView(order.Sign, 4)
	v.Asked.Documents[0].Form = signing.FormPAdES
	st := sampleState(v, state)
	st.Documents = sampleDocuments(v, words...)
	d := orderSample(v, st, false).data.(OrderData)
	d.Own = true
	s.add("sign-order", name, sample{page: "pages/sign-order", data: SignData{Order: &d}})
}

func (s *States) others() {
	s.add("home", "home", sample{page: "pages/home"})
	s.add("help", "help", sample{page: "pages/help"})
	s.add("help", "accessibility", sample{page: "pages/help-accessibility"})
	s.add("help", "privacy", sample{page: "pages/help-privacy"})
	s.add("help", "code", sample{page: "pages/code", data: map[string]any{"Code": "1234 5678", "Order": "AZqsVd0mfKOnNmxyM29wAQ"}})
	for name, err := range map[string]error{
		"wrong-browser": order.ErrWrongBrowser, "not-found": order.ErrNotFound, "cookies": front.ErrBrowserRequired,
		"session": front.ErrSessionRequired, "internal": fault.New(fault.Internal, "internal"),
		"rate": front.ErrRateLimited.With("n", "10"), "wrong-kind": order.ErrKind,
	} {
		s.add("error", name, sample{fault: err})
	}
}
