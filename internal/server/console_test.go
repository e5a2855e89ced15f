package server_test

import (
	"bytes"
	"encoding/json"
	"html"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealgate/cmd/sealctl/softphone"
	"sealgate/internal/evidence"
	"sealgate/internal/postgres"
	"sealgate/internal/softauthn"
)

// officer is an administrator at a browser with a passkey of their own.
type officer struct {
	w    *world
	t    testing.TB
	name string
	http *http.Client
	keys *softauthn.Authenticator
	// lang of the pages; "" is English.
	site string // Sec-Fetch-Site of what is sent
}

func (w *world) officer(t testing.TB, name string) *officer {
	jar, _ := cookiejar.New(nil)
	return &officer{w: w, t: t, name: name, keys: softauthn.New(softauthn.Options{}), site: "same-origin",
		http: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (o *officer) do(method, path, contentType string, body []byte) (int, string, http.Header) {
	o.t.Helper()
	r, err := http.NewRequestWithContext(o.w.ctx, method, o.w.origin+path, bytes.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	r.Header.Set("Accept-Language", "en")
	r.Header.Set("Sec-Fetch-Site", o.site)
	r.Header.Set("Accept", "text/html")
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	answer, err := o.http.Do(r)
	if err != nil {
		o.t.Fatal(err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return answer.StatusCode, string(raw), answer.Header
}

// json posts and reads JSON; code is the fault's, "" for success.
func (o *officer) json(path string, in any) (out map[string]any, code string) {
	o.t.Helper()
	body, _ := json.Marshal(in)
	status, text, _ := o.do("POST", path, "application/json", body)
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		o.t.Fatalf("%s: %d %s", path, status, text)
	}
	if status != http.StatusOK {
		code, _ = out["code"].(string)
	}
	return out, code
}

// form posts a form and gives the page, or the code of the fault it shows.
func (o *officer) form(path string, values url.Values) (page, location, code string) {
	o.t.Helper()
	status, text, h := o.do("POST", path, "application/x-www-form-urlencoded", []byte(values.Encode()))
	if status >= 400 {
		return text, "", shownCode(text)
	}
	return text, h.Get("Location"), ""
}

func (o *officer) get(path string) (page, code string) {
	o.t.Helper()
	status, text, h := o.do("GET", path, "", nil)
	if status == http.StatusSeeOther {
		return "", "→ " + h.Get("Location")
	}
	if status >= 400 {
		return text, shownCode(text)
	}
	return text, ""
}

var codePattern = regexp.MustCompile(`<span class="mono">([a-z_]+)・`)

func shownCode(page string) string {
	if m := codePattern.FindStringSubmatch(page); m != nil {
		return m[1]
	}
	if code := codeOf(page); code != "" {
		return code
	}
	return "no code: " + page[:min(len(page), 300)]
}

// raws makes a value of an answer JSON again.
func raws(v any) []byte { b, _ := json.Marshal(v); return b }

// join uses a link.
func (o *officer) join(link string) (code string) {
	o.t.Helper()
	if _, code := o.get("/admin/join"); code != "" {
		o.t.Fatal(code)
	}
	token := link[strings.Index(link, "#")+1:]
	options, code := o.json("/admin/join/options", map[string]any{"token": token, "name": o.name})
	if code != "" {
		return code
	}
	credential, _, err := o.keys.Create(o.w.origin, raws(options["public_key"]))
	if err != nil {
		o.t.Fatal(err)
	}
	_, code = o.json("/admin/join", map[string]any{"token": token, "ticket": options["ticket"], "statement": options["statement"],
		"credential": json.RawMessage(credential), "passkey_name": "test key"})
	return code
}

func (o *officer) signIn() (code string) {
	o.t.Helper()
	o.get("/admin/sign-in")
	options, code := o.json("/admin/sign-in/options", struct{}{})
	if code != "" {
		return code
	}
	assertion, err := o.keys.Get(o.w.origin, raws(options["public_key"]))
	if err != nil {
		o.t.Fatal(err)
	}
	_, code = o.json("/admin/sign-in", map[string]any{"ticket": options["ticket"], "assertion": json.RawMessage(assertion)})
	return code
}

var pageBlock = regexp.MustCompile(`(?s)<script type="application/json" id="page">(.*?)</script>`)

// asked is a page that asks for an assertion.
type asked struct {
	Act       string          `json:"act"`
	Ticket    string          `json:"ticket"`
	Statement []byte          `json:"statement"`
	PublicKey json.RawMessage `json:"public_key"`
}

func (o *officer) asked(page string) asked {
	o.t.Helper()
	m := pageBlock.FindStringSubmatch(page)
	var a asked
	if m == nil || json.Unmarshal([]byte(html.UnescapeString(m[1])), &a) != nil || a.Ticket == "" {
		o.t.Fatalf("the page asks for nothing: %.400s", page)
	}
	return a
}

// signed is what the page's script sends back.
func (o *officer) signed(a asked) map[string]any {
	o.t.Helper()
	assertion, err := o.keys.Get(o.w.origin, a.PublicKey)
	if err != nil {
		o.t.Fatal(err)
	}
	return map[string]any{"act": a.Act, "ticket": a.Ticket, "statement": a.Statement, "assertion": json.RawMessage(assertion)}
}

// approve answers a page that asks.
func (o *officer) approve(page string) (out map[string]any, code string) {
	o.t.Helper()
	return o.json("/admin/approve", o.signed(o.asked(page)))
}

// step posts a form that leads to an asking page, and approves.
func (o *officer) step(path string, values url.Values) (out map[string]any, code string) {
	o.t.Helper()
	page, _, code := o.form(path, values)
	if code != "" {
		return nil, code
	}
	return o.approve(page)
}

// first makes the first administrator, a security officer.
func (w *world) first(t testing.TB) *officer {
	t.Helper()
	link, err := w.box.Server.FirstAdministrator(w.ctx)
	if err != nil || link == "" {
		t.Fatal(link, err)
	}
	o := w.officer(t, "First")
	if code := o.join(link); code != "" {
		t.Fatal(code)
	}
	return o
}

// invited makes a further administrator.
func (o *officer) invited(name string, roles ...string) *officer {
	o.t.Helper()
	out, code := o.step("/admin/administrators/invite/prepare", url.Values{"name": {name}, "role": roles})
	if code != "" {
		o.t.Fatal(code)
	}
	p := o.w.officer(o.t, name)
	if code := p.join(out["link"].(string)); code != "" {
		o.t.Fatal(code)
	}
	return p
}

// lookUp finds a person and gives their page's path with the grant.
func (o *officer) lookUp(query string) (path, code string) {
	o.t.Helper()
	_, location, code := o.form("/admin/people", url.Values{"query": {query}, "reason": {"loss"}})
	return location, code
}

func grantOf(path string) (base, grant string) {
	u, _ := url.Parse(path)
	return u.Path, u.Query().Get("grant")
}

func want(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// An administrator's way from the one-time link to being removed.
func TestAdministrators(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	link, err := w.box.Server.FirstAdministrator(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.box.Server.FirstAdministrator(w.ctx)
	if err != nil || again == link {
		t.Fatal(again, err)
	}
	first := w.officer(t, "First")
	want(t, "a link that a later one replaced", first.join(link), "console_invite")
	want(t, "the link", first.join(again), "")
	want(t, "the link again", w.officer(t, "Thief").join(again), "console_invite")
	if more, err := w.box.Server.FirstAdministrator(w.ctx); err != nil || more != "" {
		t.Errorf("there is an administrator, and still a link: %q %v", more, err)
	}
	page, code := first.get("/admin")
	if code != "" || !strings.Contains(page, "First") {
		t.Fatal(code, page)
	}
	support := first.invited("Support", "support")
	for _, c := range []struct{ name, role, want string }{{"", "support", "console_name"}, {"X", "king", "console_roles"}, {"X", "", "console_roles"}} {
		_, _, code := first.form("/admin/administrators/invite/prepare", url.Values{"name": {c.name}, "role": {c.role}})
		want(t, "invite "+c.name+c.role, code, c.want)
	}
	_, _, code = support.form("/admin/administrators/invite/prepare", url.Values{"name": {"Friend"}, "role": {"registrar"}})
	want(t, "support invites", code, "console_role")

	// Signing out and in again.
	_, location, _ := support.form("/admin/sign-out", nil)
	want(t, "sign-out", location, "/admin/sign-in?done=signed_out")
	_, code = support.get("/admin")
	want(t, "signed out", code, "→ /admin/sign-in")
	want(t, "sign in", support.signIn(), "")
	_, code = support.get("/admin")
	want(t, "signed in", code, "")

	// Removed: the session ends at once, and there is no other.
	list, _ := first.get("/admin/administrators")
	ids := regexp.MustCompile(`/admin/administrators/([0-9a-f-]{36})/remove/prepare`).FindAllStringSubmatch(list, -1)
	if len(ids) != 2 {
		t.Fatal(ids)
	}
	_, code = first.step("/admin/administrators/"+ids[0][1]+"/remove/prepare", url.Values{"reason": {"test"}})
	want(t, "the last security officer removes herself", code, "console_last_officer")
	_, code = first.step("/admin/administrators/"+ids[1][1]+"/remove/prepare", url.Values{"reason": {"left"}})
	want(t, "remove", code, "")
	_, code = support.get("/admin")
	want(t, "session of a removed administrator", code, "→ /admin/sign-in")
	want(t, "sign-in of a removed administrator", support.signIn(), "console_sign_in")
}

// What does not open the console, beside what does.
func TestConsoleAttacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first := w.first(t)
	phone := w.enrol(0)

	t.Run("a citizen's passkey is no administrator's", func(t *testing.T) {
		o := w.officer(t, "Citizen")
		o.keys = phone.Keys()
		want(t, "sign in", o.signIn(), "console_sign_in")
	})
	t.Run("stolen cookie", func(t *testing.T) {
		victim := first.invited("Victim", "support")
		thief := w.officer(t, "Thief")
		u, _ := url.Parse(w.origin)
		for _, c := range victim.http.Jar.Cookies(u) {
			if c.Name == "sealgate_console" {
				thief.http.Jar.SetCookies(u, []*http.Cookie{c})
			}
		}
		_, code := victim.get("/admin")
		want(t, "before", code, "")
		_, code = thief.get("/admin")
		want(t, "in another browser", code, "→ /admin/sign-in")
		_, code = victim.get("/admin")
		want(t, "the session has ended", code, "→ /admin/sign-in")
		if n := w.count(t, `SELECT count(*) FROM audit_entries WHERE act = 'administrator.session_stolen'`); n != 1 {
			t.Error(n, "entries")
		}
	})
	t.Run("other sites", func(t *testing.T) {
		for _, site := range []string{"cross-site", "same-site"} {
			first.site = site
			_, _, code := first.form("/admin/administrators/invite/prepare", url.Values{"name": {"X"}, "role": {"support"}})
			want(t, site, code, "cross_origin")
			_, _, code = first.form("/admin/sign-out", nil)
			want(t, site+" sign-out", code, "cross_origin")
		}
		first.site = "same-origin"
		_, code := first.get("/admin")
		want(t, "still signed in", code, "")
	})
	t.Run("answers", func(t *testing.T) {
		second := first.invited("Second", "security_officer")
		page, _, code := first.form("/admin/administrators/invite/prepare", url.Values{"name": {"Y"}, "role": {"support"}})
		if code != "" {
			t.Fatal(code)
		}
		a := first.asked(page)
		answer := first.signed(a)
		other := map[string]any{}
		for k, v := range answer {
			other[k] = v
		}
		other["statement"] = []byte(strings.Replace(string(a.Statement), `"support"`, `"registrar"`, 1))
		_, code = first.json("/admin/approve", other)
		want(t, "other statement", code, "console_ticket")
		_, code = second.json("/admin/approve", answer)
		want(t, "somebody else's answer", code, "console_sign_in")
		_, code = first.json("/admin/approve", answer)
		want(t, "the answer", code, "")
		_, code = first.json("/admin/approve", answer)
		want(t, "the answer again", code, "passkey_counter")
	})
	t.Run("sessions end", func(t *testing.T) {
		o := first.invited("Idle", "auditor")
		w.exec(t, `UPDATE administrator_sessions SET seen_at = seen_at - interval '14 minutes'`)
		_, code := o.get("/admin")
		want(t, "fourteen minutes", code, "")
		w.exec(t, `UPDATE administrator_sessions SET seen_at = seen_at - interval '16 minutes'`)
		_, code = o.get("/admin")
		want(t, "sixteen minutes", code, "→ /admin/sign-in")
		want(t, "sign in", o.signIn(), "")
		w.exec(t, `UPDATE administrator_sessions SET ends_at = now()`)
		_, code = o.get("/admin")
		want(t, "eight hours", code, "→ /admin/sign-in")
	})
}

// A loss reported by the desk stops the phones; the citizen, or two people, take
// it back.
func TestLossByAdministrator(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first := w.first(t)
	phone := w.citizenPhone(t, 0, "lost one")
	id := w.cards[0].NationalID
	support, auditor, registrar := first.invited("Support", "support"), first.invited("Auditor", "auditor"), first.invited("Registrar", "registrar")

	for _, c := range []struct {
		who         *officer
		query, want string
	}{{auditor, id, "console_role"}, {support, "A1", "console_query"}, {support, w.cards[1].NationalID, "console_person"}} {
		_, code := c.who.lookUp(c.query)
		want(t, c.who.name+" looks up", code, c.want)
	}
	_, _, code := support.form("/admin/people", url.Values{"query": {id}, "reason": {"curious"}})
	want(t, "no good reason", code, "console_reason")
	path, code := support.lookUp(id)
	want(t, "look up", code, "")
	page, code := support.get(path)
	if code != "" || !strings.Contains(page, "lost one") || strings.Contains(page, id) {
		t.Fatal(code, page)
	}
	_, code = registrar.get(path)
	want(t, "somebody else's look-up", code, "console_person")
	base, grant := grantOf(path)
	_, _, code = registrar.form(base+"/stop/prepare", url.Values{"grant": {grant}, "reason": {"x"}})
	want(t, "somebody else's look-up, stopping", code, "console_person")
	own, _ := registrar.lookUp(id)
	_, ownGrant := grantOf(own)
	_, _, code = registrar.form(base+"/stop/prepare", url.Values{"grant": {ownGrant}, "reason": {"x"}})
	want(t, "a registrar stops", code, "console_role")
	_, _, code = support.form(base+"/stop/prepare", url.Values{"grant": {grant}})
	want(t, "no reason", code, "console_reason")
	_, code = support.step(base+"/stop/prepare", url.Values{"grant": {grant}, "reason": {"reported by telephone"}})
	want(t, "stop", code, "")
	_, code = support.step(base+"/stop/prepare", url.Values{"grant": {grant}, "reason": {"again"}})
	want(t, "stop again", code, "console_nothing")
	if _, err := phone.Devices(w.ctx); err == nil {
		t.Error("the phone's session still stands")
	}
	device := w.text(t, `SELECT id::text FROM devices`)
	if status, _, listed := w.status(t, device); status == 0 || !listed {
		t.Errorf("the certificate is %d, listed %v", status, listed)
	}

	// Two people resume it: not one twice, not the wrong role, not twice.
	propose := func() string {
		t.Helper()
		_, code := support.step(base+"/resume/prepare", url.Values{"grant": {grant}, "reason": {"found again"}})
		want(t, "propose", code, "")
		return "/admin/acts/" + w.text(t, `SELECT id::text FROM two_person_acts ORDER BY id DESC LIMIT 1`)
	}
	act := propose()
	_, _, code = support.form(act+"/confirm/prepare", nil)
	want(t, "the proposer confirms", code, "console_same_person")
	_, _, code = registrar.form(act+"/confirm/prepare", nil)
	want(t, "the wrong role confirms", code, "console_role")
	_, _, code = first.form(act+"/refuse", nil)
	want(t, "refuse", code, "")
	_, _, code = first.form(act+"/confirm/prepare", nil)
	want(t, "confirm what was refused", code, "console_act_state")
	act = propose()
	w.exec(t, `UPDATE two_person_acts SET expires_at = now() WHERE state = 'waiting'`)
	_, _, code = first.form(act+"/confirm/prepare", nil)
	want(t, "confirm what has run out", code, "console_act_state")
	act = propose()
	second := first.invited("Second", "support")
	pages := [2]string{}
	for i, o := range []*officer{first, second} {
		if pages[i], _, code = o.form(act+"/confirm/prepare", nil); code != "" {
			t.Fatal(code)
		}
	}
	w.exec(t, `UPDATE administrators SET roles = '{auditor}' WHERE name = 'Support'`)
	_, code = first.approve(pages[0])
	want(t, "the proposer lost the role", code, "console_act_state")
	w.exec(t, `UPDATE administrators SET roles = '{support}' WHERE name = 'Support'`)
	var codes [2]string
	var answers [2]map[string]any
	var both sync.WaitGroup
	for i, o := range []*officer{first, second} {
		if pages[i], _, code = o.form(act+"/confirm/prepare", nil); code != "" {
			t.Fatal(code)
		}
		answers[i] = o.signed(o.asked(pages[i]))
	}
	for i, o := range []*officer{first, second} {
		both.Go(func() { _, codes[i] = o.json("/admin/approve", answers[i]) })
	}
	both.Wait()
	if codes != [2]string{"", "console_act_state"} && codes != [2]string{"console_act_state", ""} {
		t.Errorf("two confirm at once: %q", codes)
	}
	if status, _, listed := w.status(t, device); status != 0 || listed {
		t.Errorf("after resuming the certificate is %d, listed %v", status, listed)
	}
	for _, act := range []string{"person.looked_up", "loss.reported", "loss.undone", "act.proposed", "act.confirmed", "act.refused"} {
		if w.count(t, `SELECT count(*) FROM audit_entries WHERE act = '`+act+`' AND citizen_id IS NOT NULL AND actor_kind = 'operator'`) == 0 {
			t.Errorf("no entry %s", act)
		}
	}
}

// counter is a registrar with a person in front of them.
type counter struct {
	*officer
	desk  *softphone.Browser // the same browser
	order string
	claim *softphone.Claim
}

func (o *officer) counter() *counter {
	o.t.Helper()
	desk := o.w.browser()
	desk.Client().Jar = o.http.Jar
	return &counter{officer: o, desk: desk}
}

// begin enters what was checked.
func (c *counter) begin(change ...string) (code string) {
	c.t.Helper()
	info := c.w.cards[0]
	values := url.Values{"national_id": {info.NationalID}, "name": {info.Name}, "document_kind": {"id_card"}, "document_tail": {"12ab"}, "card_state": {"locked"}}
	for i := 0; i+1 < len(change); i += 2 {
		values.Set(change[i], change[i+1])
	}
	_, location, code := c.form("/admin/in-person", values)
	c.order = strings.TrimPrefix(location, "/admin/in-person/")
	return code
}

// scan lets the person's phone scan and make its passkey.
func (c *counter) scan(p *softphone.Phone, name string) {
	c.t.Helper()
	frame := must(c.desk.Frame(c.w.ctx, c.order))(c.t)
	c.claim = must(p.Scan(c.w.ctx, frame))(c.t)
	if err := c.desk.Check(c.w.ctx, c.order, c.claim.Check.Digits); err != nil {
		c.t.Fatal(err)
	}
	if err := p.Bind(c.w.ctx, c.claim, name); err != nil {
		c.t.Fatal(err)
	}
}

// propose is the first registrar's assertion; it gives the act and the digits.
func (c *counter) propose() (act, digits string) {
	c.t.Helper()
	if _, code := c.step("/admin/in-person/"+c.order+"/prepare", nil); code != "" {
		c.t.Fatal(code)
	}
	page, code := c.get("/admin/in-person/" + c.order)
	m := regexp.MustCompile(`id="counter-digits">(\d\d)<`).FindStringSubmatch(page)
	if m == nil {
		c.t.Fatal(code, page)
	}
	return "/admin/acts/" + c.w.text(c.t, `SELECT id::text FROM two_person_acts ORDER BY id DESC LIMIT 1`), m[1]
}

func other(digits string) string {
	if digits == "00" {
		return "11"
	}
	return "00"
}

// Two registrars bind a phone; one alone does not, nor does anything else.
func TestBindingInPerson(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first := w.first(t)
	a, b := first.invited("Registrar A", "registrar"), first.invited("Registrar B", "registrar")
	support := first.invited("Support", "support")
	desk := a.counter()
	want(t, "somebody unknown", desk.begin(), "enrol_in_person_unknown")
	w.citizenPhone(t, 0, "old phone")
	for _, c := range []struct{ key, value, want string }{
		{"national_id", "A123", "national_id_invalid"}, {"name", "別人", "enrol_in_person_name"}, {"name", "", "enrol_in_person_name"},
		{"document_kind", "library_card", "enrol_in_person_checked"}, {"document_tail", "1", "enrol_in_person_checked"}, {"card_state", "", "enrol_in_person_checked"},
	} {
		want(t, c.key+" "+c.value, desk.begin(c.key, c.value), c.want)
	}
	want(t, "support binds", support.counter().begin(), "console_role")
	want(t, "the security officer binds", first.counter().begin(), "console_role")
	want(t, "begin", desk.begin(), "")
	_, _, code := a.form("/admin/in-person/"+desk.order+"/prepare", nil)
	want(t, "before the phone made its passkey", code, "order_not_claimed")
	_, code = b.get("/admin/in-person/" + desk.order)
	want(t, "another registrar's browser", code, "order_wrong_browser")
	phone := w.phone(softauthn.New(softauthn.Options{}))
	desk.scan(phone, "new phone")
	act, digits := desk.propose()

	_, code = desk.step("/admin/in-person/"+desk.order+"/prepare", nil)
	want(t, "proposed twice", code, "console_act_state")
	_, _, code = a.form(act+"/confirm/prepare", url.Values{"digits": {digits}})
	want(t, "one person twice", code, "console_same_person")
	_, _, code = support.form(act+"/confirm/prepare", url.Values{"digits": {digits}})
	want(t, "support confirms", code, "console_role")
	_, code = support.get(act)
	want(t, "support looks", code, "console_role")
	_, _, code = b.form(act+"/confirm/prepare", url.Values{"digits": {other(digits)}})
	want(t, "not at the counter", code, "console_digits")
	if n := w.count(t, `SELECT count(*) FROM devices`); n != 1 {
		t.Fatal(n, "devices before the second registrar")
	}
	page, _, code := b.form(act+"/confirm/prepare", url.Values{"digits": {digits}})
	want(t, "at the counter", code, "")
	answer := b.signed(b.asked(page))
	swapped := map[string]any{"act": "", "ticket": answer["ticket"], "statement": answer["statement"], "assertion": answer["assertion"]}
	_, code = b.json("/admin/approve", swapped)
	want(t, "a confirmation as a proposal", code, "order_wrong_browser")
	_, code = b.json("/admin/approve", answer)
	want(t, "confirm", code, "")
	_, code = b.json("/admin/approve", answer)
	want(t, "confirm again", code, "console_act_state")
	page, _ = a.get("/admin/in-person/" + desk.order)
	if !strings.Contains(page, `id="in-person-done"`) {
		t.Error("the first registrar's page does not say that it is done")
	}
	if n := w.count(t, `SELECT count(*) FROM devices d JOIN enrolments e ON e.order_id = d.enrolment_id JOIN mobile_certificates m ON m.device_id = d.id
WHERE e.proof_kind = 'registrar' AND e.proof IS NOT NULL AND m.state = 'good' AND d.state = 'active'`); n != 1 {
		t.Error(n, "phones bound in person")
	}
	// The phone logs in.
	at := w.relyingParty().begin()
	browser := w.browser()
	login := w.approved(t, at, browser, phone)
	back := must(browser.Return(w.ctx, login))(t)
	if _, err := at.finish(back); err != nil {
		t.Fatal(err)
	}
	w.judgeRegistrars(t, login)

	// Three wrong digits end a proposal; the card revoked meanwhile stops one.
	want(t, "begin again", desk.begin(), "")
	desk.scan(w.phone(softauthn.New(softauthn.Options{})), "third phone")
	act, digits = desk.propose()
	for range 3 {
		_, _, code = b.form(act+"/confirm/prepare", url.Values{"digits": {other(digits)}})
		want(t, "wrong digits", code, "console_digits")
	}
	_, _, code = b.form(act+"/confirm/prepare", url.Values{"digits": {digits}})
	want(t, "right digits after three wrong ones", code, "console_act_state")
	act, digits = desk.propose()
	page, _, _ = b.form(act+"/confirm/prepare", url.Values{"digits": {digits}})
	w.exec(t, `UPDATE citizens SET state = 'frozen'`)
	_, code = b.approve(page)
	want(t, "a frozen citizen", code, "enrol_citizen_stopped")
	w.exec(t, `UPDATE citizens SET state = 'active'`)
	page, _, _ = b.form(act+"/confirm/prepare", url.Values{"digits": {digits}})
	w.exec(t, `UPDATE orders SET expires_at = now() - interval '1 second' WHERE kind = 'enrol' AND state = 'scanned'`)
	_, code = b.approve(page)
	want(t, "an order that ran out", code, "order_expired")
	if n := w.count(t, `SELECT count(*) FROM devices`); n != 2 {
		t.Error(n, "devices at the end")
	}
}

// judgeRegistrars verifies evidence that rests on registrars.
func (w *world) judgeRegistrars(t *testing.T, login string) {
	t.Helper()
	raw := must(w.bundle(t, login).Encode())(t)
	o := w.judge(t)
	if r := w.verify(t, raw, o); r.Verdict != evidence.Indeterminate || !slices.Equal(r.Broken(), []string{evidence.LinkRegistrars}) {
		t.Errorf("without a list of registrars: %s %+v", r.Verdict, r.Links)
	}
	for _, a := range must(postgres.New(w.pool).Console().List(w.ctx))(t) {
		for _, k := range a.Passkeys {
			o.Registrars = append(o.Registrars, evidence.Registrar{ID: a.ID.String(), CredentialID: k.ID, PublicKey: k.PublicKey, Since: k.CreatedAt})
		}
	}
	if r := w.verify(t, raw, o); r.Verdict != evidence.Passed {
		t.Errorf("with a list of registrars: %s %+v", r.Verdict, r.Links)
	}
	broken := func(what string, o evidence.Options, raw []byte) {
		t.Helper()
		r, err := evidence.Verify(w.ctx, raw, o)
		if err == nil && r.Verdict == evidence.Passed {
			t.Errorf("%s: passed", what)
		}
	}
	one := o
	one.Registrars = slices.DeleteFunc(slices.Clone(o.Registrars), func(r evidence.Registrar) bool {
		return bytes.Contains(raw, []byte(r.ID)) && r.ID == o.Registrars[len(o.Registrars)-2].ID
	})
	broken("one of them is not accepted", one, raw)
	late := o
	late.Registrars = slices.Clone(o.Registrars)
	for i := range late.Registrars {
		late.Registrars[i].Since = time.Now()
	}
	broken("appointed later", late, raw)
	change := func(what string, f func(p *evidence.Proof)) {
		b := must(evidence.Parse(raw))(t)
		f(b.Proof)
		if err := b.Seal(); err != nil {
			t.Fatal(err)
		}
		broken(what, o, must(b.Encode())(t))
	}
	change("one registrar twice", func(p *evidence.Proof) { p.Registrars[1] = p.Registrars[0] })
	change("the other way round", func(p *evidence.Proof) { slices.Reverse(p.Registrars) })
	change("another nonce", func(p *evidence.Proof) { p.Registrars[0].Nonce[3] ^= 1 })
	change("another statement", func(p *evidence.Proof) {
		p.Statement = bytes.Replace(p.Statement, []byte("id_card"), []byte("passport"), 1)
	})
	for range 150 {
		bad := bytes.Clone(raw)
		bad[rand.IntN(len(bad))] ^= 1 << rand.IntN(7)
		broken("a changed byte", o, bad)
	}
}

// text reads one text from the database.
func (w *world) text(t testing.TB, sql string) string {
	t.Helper()
	var s string
	if err := w.pool.QueryRow(w.ctx, sql).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}
