package pages_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"image/png"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"sealgate/internal/fault"
	"sealgate/internal/front"
	"sealgate/internal/front/pages"
	"sealgate/internal/i18n"
	"sealgate/internal/order"
	"sealgate/web"
)

func TestOrderPageIsForItsBrowserOnly(t *testing.T) {
	d := newDesk(t)
	b := d.browser()
	o := b.login()
	path := "/o/" + o.ID.String()
	res, body := b.do("GET", path, "", "Accept-Language", "zh-TW")
	if res.StatusCode != 200 || res.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	for _, want := range []string{"示範稅務局", "示範報稅網", "demo-tax.example", "姓名、身分證字號", `src="` + path + `/qr.png"`, d.server.URL + "/q/"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if noscript := body[strings.Index(body, "<noscript>"):strings.Index(body, "</noscript>")]; !strings.Contains(noscript, "qr.png") {
		t.Error("the drawn picture must be inside noscript")
	}
	if res, body := b.do("GET", path+"?lang=en", ""); !strings.Contains(body, "Demonstration Tax Office") || res.Header.Get("Content-Language") != "en" {
		t.Error("no English page")
	}
	other := d.browser()
	other.key()
	for name, who := range map[string]*browser{"another browser": other, "no cookie": d.browser()} {
		for _, tail := range []string{"", "/events", "/state", "/qr.png", "/return", "/documents/0.p7s"} {
			if res, body := who.do("GET", path+tail, ""); res.StatusCode != 403 || strings.Contains(body, "示範") {
				t.Errorf("%s got %s: %d", name, tail, res.StatusCode)
			}
		}
		for _, tail := range []string{"/cancel", "/extend", "/freeze", "/code", "/check"} {
			if res, body := who.do("POST", path+tail, `{"digits":"00"}`); res.StatusCode != 403 {
				t.Errorf("%s did %s: %d %s", name, tail, res.StatusCode, body)
			}
		}
	}
	for _, bad := range []string{"/o/x", "/o/" + strings.Repeat("A", 22), "/o/" + o.ID.String() + "A"} {
		if res, _ := b.do("GET", bad, ""); res.StatusCode != 404 {
			t.Errorf("%s: %d", bad, res.StatusCode)
		}
	}
	if _, text := b.do("GET", path+"/state", ""); stateJSON(t, text).State.State != order.Created {
		t.Error("looking changed the order")
	}
}

func TestStateFrameAndPicture(t *testing.T) {
	d := newDesk(t)
	b := d.browser()
	path := "/o/" + b.login().ID.String()
	res, text := b.do("GET", path+"/state", "")
	st := stateJSON(t, text)
	if len(st.Frame) > 90 || !strings.HasPrefix(st.Frame, d.server.URL+"/q/") || st.ExtendLeft != 10 || st.Next != "" {
		t.Errorf("%s", text)
	}
	if len(strings.TrimPrefix(st.Frame, d.server.URL+"/q/")) > 45 {
		t.Errorf("the frame is too long for version 4: %s", st.Frame)
	}
	tag := res.Header.Get("ETag")
	seen := map[int]bool{}
	for range 8 {
		res, text := b.do("GET", path+"/state", "", "If-None-Match", tag)
		seen[res.StatusCode] = true
		if res.StatusCode == 200 {
			if stateJSON(t, text).Frame == st.Frame {
				t.Error("200 with nothing new")
			}
			break
		}
		time.Sleep(60 * time.Millisecond)
	}
	if !seen[304] || !seen[200] {
		t.Errorf("answers %v, want 304 while the frame stands and 200 after", seen)
	}
	res, text = b.do("GET", path+"/qr.png", "")
	img, err := png.Decode(strings.NewReader(text))
	if err != nil || res.Header.Get("Content-Type") != "image/png" || img.Bounds().Dx() < 400 {
		t.Errorf("picture: %v", err)
	}
}

func TestStepsOfTheBrowser(t *testing.T) {
	d := newDesk(t)
	b := d.browser()
	path := "/o/" + b.login().ID.String()
	_, text := b.do("POST", path+"/extend", "{}")
	if st := stateJSON(t, text); st.ExtendLeft != 9 {
		t.Errorf("extend: %s", text)
	}
	_, text = b.do("POST", path+"/freeze", "{}")
	if st := stateJSON(t, text); st.FrozenUntil == "" {
		t.Errorf("freeze: %s", text)
	}
	_, text = b.do("GET", path+"/state", "")
	first := stateJSON(t, text).Frame
	time.Sleep(700 * time.Millisecond)
	if _, text = b.do("GET", path+"/state", ""); stateJSON(t, text).Frame != first {
		t.Error("a frozen frame changed")
	}
	_, text = b.do("POST", path+"/code", "{}")
	if st := stateJSON(t, text); len(st.Code) != 9 || st.Code[4] != ' ' {
		t.Errorf("code: %s", text)
	}
	for body, want := range map[string]string{`{"digits":"00"}`: "order_check_none", `{"digit":"00"}`: "request_unknown_field", `{"digits":`: "request_malformed"} {
		if _, text := b.do("POST", path+"/check", body); codeOf(text) != want {
			t.Errorf("check %s: %s, want %s", body, codeOf(text), want)
		}
	}
	res, _ := b.do("POST", path+"/extend", "", "Accept", "text/html", "Content-Type", "application/x-www-form-urlencoded")
	if res.StatusCode != 303 || res.Header.Get("Location") != path {
		t.Errorf("a form without script: %d %s", res.StatusCode, res.Header.Get("Location"))
	}
	if res, text := b.do("POST", path+"/cancel", "{}", "Sec-Fetch-Site", "cross-site"); res.StatusCode != 403 || codeOf(text) != "cross_origin" {
		t.Errorf("cancelled from another site: %d", res.StatusCode)
	}
	_, text = b.do("POST", path+"/cancel", "{}")
	if st := stateJSON(t, text); st.State.State != order.Cancelled || st.Next != path+"/return" {
		t.Errorf("cancel: %s", text)
	}
	if _, text := b.do("POST", path+"/extend", "{}"); codeOf(text) != "order_cancelled" {
		t.Errorf("extend after the end: %s", text)
	}
	if res, _ := b.do("GET", path+"/qr.png", ""); res.StatusCode != 409 {
		t.Errorf("a picture after the end: %d", res.StatusCode)
	}
	if res, body := b.do("GET", path, "", "Accept-Language", "zh-TW"); res.StatusCode != 200 || !strings.Contains(body, "已取消") {
		t.Error("the ended order's page")
	}
	if res, _ := b.do("GET", path+"/return", ""); res.StatusCode != 303 || !strings.HasPrefix(res.Header.Get("Location"), "https://demo-tax.example/back") {
		t.Errorf("return: %d %v", res.StatusCode, res.Header)
	}
}

// event is one event of a stream.
type event struct{ name, data string }

// listen opens the event stream and gives its events; the channel closes with it.
func (b *browser) listen(path string) <-chan event {
	b.d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b.d.t.Cleanup(cancel)
	r, _ := http.NewRequestWithContext(ctx, "GET", b.d.server.URL+path, nil)
	res, err := b.c.Do(r)
	if err != nil {
		b.d.t.Fatal(err)
	}
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("X-Content-Type-Options") != "nosniff" {
		b.d.t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	out := make(chan event, 100)
	go func() {
		defer close(out)
		defer res.Body.Close()
		var e event
		for s := bufio.NewScanner(res.Body); s.Scan(); {
			switch line := s.Text(); {
			case line == "" && e.name != "":
				out <- e
				e = event{}
			case strings.HasPrefix(line, "event: "):
				e.name = line[7:]
			case strings.HasPrefix(line, "data: "):
				e.data = line[6:]
			}
		}
	}()
	return out
}

func next(t *testing.T, events <-chan event) event {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the stream ended")
		}
		return e
	case <-time.After(5 * time.Second):
		t.Fatal("no event")
	}
	return event{}
}

func TestEvents(t *testing.T) {
	d := newDesk(t)
	b := d.browser()
	path := "/o/" + b.login().ID.String()
	events := b.listen(path + "/events")
	if e := next(t, events); e.name != "state" || stateJSON(t, e.data).State.State != order.Created {
		t.Fatalf("first %v", e)
	}
	frames := map[string]bool{}
	for range 4 {
		e := next(t, events)
		if e.name != "frame" || frames[e.data] {
			t.Fatalf("%v after %v", e, frames)
		}
		frames[e.data] = true
	}
	if _, text := b.do("POST", path+"/freeze", "{}"); stateJSON(t, text).FrozenUntil == "" {
		t.Fatal(text)
	}
	for e := next(t, events); e.name != "state"; e = next(t, events) {
	}
	frozen := next(t, events)
	for range 3 {
		if e := next(t, events); e.name != "frame" || e != frozen {
			t.Errorf("frozen: %v then %v", frozen, e)
		}
	}
	b.do("POST", path+"/cancel", "{}")
	for e := next(t, events); ; e = next(t, events) {
		if e.name == "state" {
			if stateJSON(t, e.data).State.State != order.Cancelled {
				t.Errorf("%v", e)
			}
			break
		}
	}
	select {
	case e, ok := <-events:
		if ok {
			t.Errorf("an event after the end: %v", e)
		}
	case <-time.After(100 * time.Millisecond): // the page closes the stream, not we
	}
	open := b.listen("/o/" + b.login().ID.String() + "/events")
	next(t, open)
	d.shell.Close()
	for range open { // ends, because the node closes
	}
}

func TestStreamStaysInTheHandlerWhereItMust(t *testing.T) {
	d := newDesk(t)
	b := d.browser()
	path := "/o/" + b.login().ID.String() + "/events"
	u, _ := url.Parse(d.server.URL)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, "GET", d.server.URL+path, nil)
	for _, c := range b.c.Jar.Cookies(u) {
		r.AddCookie(c)
	}
	w := &noHijack{httptest.NewRecorder()}
	d.server.Config.Handler.ServeHTTP(w, r)
	if body := w.rec.Body.String(); !strings.Contains(body, "event: state") || strings.Count(body, "event: frame") < 2 {
		t.Errorf("%s", body)
	}
}

// noHijack is an answer whose connection cannot be taken over, as in HTTP/2.
type noHijack struct{ rec *httptest.ResponseRecorder }

func (w *noHijack) Header() http.Header         { return w.rec.Header() }
func (w *noHijack) WriteHeader(status int)      { w.rec.WriteHeader(status) }
func (w *noHijack) Write(p []byte) (int, error) { return w.rec.Write(p) }
func (w *noHijack) Flush()                      { w.rec.Flush() }

func TestStartTokenBindsTheBrowser(t *testing.T) {
	d := newDesk(t)
	sum := sha256.Sum256([]byte("x"))
	o, token, err := d.orders.CreateSign(context.Background(), order.SignRequest{Client: d.agency, ReturnURI: "https://demo-tax.example/done",
		Documents: []order.Document{{Name: "公文.pdf", MediaType: "application/pdf", Size: 1, DigestAlgorithm: "SHA-256", Digest: b64(sum[:])}}})
	if err != nil {
		t.Fatal(err)
	}
	path := "/o/" + o.ID.String()
	b := d.browser()
	if res, body := b.do("GET", "/start/"+o.ID.String(), ""); res.StatusCode != 200 || !strings.Contains(body, o.ID.String()) {
		t.Fatal(res.StatusCode)
	}
	if _, text := b.do("POST", path+"/open", `{"start_token":"wrong"}`); codeOf(text) != "start_token_wrong" {
		t.Errorf("wrong token: %s", text)
	}
	if res, text := b.do("POST", path+"/open", `{"start_token":"`+token+`"}`); res.StatusCode != 200 {
		t.Fatalf("%s", text)
	}
	if res, body := b.do("GET", path, ""); res.StatusCode != 200 || !strings.Contains(body, "公文.pdf") {
		t.Errorf("page: %d", res.StatusCode)
	}
	if _, text := d.browser().do("POST", path+"/open", `{"start_token":"`+token+`"}`); codeOf(text) != "order_wrong_browser" {
		t.Errorf("a second browser: %s", text)
	}
	res, text := b.do("GET", path+"/documents/0.p7s", "")
	if res.StatusCode != 200 || text != "signature 0" || res.Header.Get("Content-Type") != "application/pkcs7-signature" ||
		!strings.Contains(res.Header.Get("Content-Disposition"), "filename*=UTF-8''%E5%85%AC%E6%96%87.pdf.p7s") {
		t.Errorf("signature: %d %v", res.StatusCode, res.Header)
	}
	for _, n := range []string{"1", "-1", "x"} {
		if _, text := b.do("GET", path+"/documents/"+n+".p7s", ""); codeOf(text) != "document_not_signed" {
			t.Errorf("document %s: %s", n, text)
		}
	}
}

func TestOwnSessionAndSigning(t *testing.T) {
	d := newDesk(t)
	b := d.browser()
	if res, _ := b.do("GET", "/sign", ""); res.StatusCode != 303 || res.Header.Get("Location") != "/session/login?return=/sign" {
		t.Fatalf("/sign without a session: %d %v", res.StatusCode, res.Header)
	}
	if _, text := b.do("POST", "/sign/orders", `{"documents":[]}`); codeOf(text) != "session_required" {
		t.Errorf("%s", text)
	}
	res, _ := b.do("GET", "/session/login?return=/sign", "")
	path := res.Header.Get("Location")
	if res.StatusCode != 303 || !strings.HasPrefix(path, "/o/") {
		t.Fatalf("login: %d %s", res.StatusCode, path)
	}
	if res, _ = b.do("GET", path+"/return", ""); res.StatusCode != 303 || res.Header.Get("Location") != "/sign" {
		t.Fatalf("return: %d %s", res.StatusCode, res.Header.Get("Location"))
	}
	if res, body := b.do("GET", "/sign", "", "Accept-Language", "en"); res.StatusCode != 200 || !strings.Contains(body, "Sign files") || !strings.Contains(body, "/assets/hash.worker-") {
		t.Fatalf("/sign with a session: %d", res.StatusCode)
	}
	document := `{"name":"契約.pdf","media_type":"application/pdf","size":3,"digest_algorithm":"SHA-256","digest":"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"}`
	res, text := b.do("POST", "/sign/orders", `{"documents":[`+document+`]}`)
	var made struct{ Order, Page string }
	if err := json.Unmarshal([]byte(text), &made); err != nil || res.StatusCode != 201 {
		t.Fatalf("%d %s", res.StatusCode, text)
	}
	id, _ := order.ParseID(made.Order)
	o, err := d.orders.Find(context.Background(), id)
	if err != nil || o.SubjectCitizenID == nil || *o.SubjectCitizenID != d.citizen {
		t.Fatalf("the order is not for the one who logged in: %v", err)
	}
	if res, body := b.do("GET", made.Page, ""); res.StatusCode != 200 || !strings.Contains(body, "契約.pdf") || !strings.Contains(body, "E3B0 C442") {
		t.Errorf("%s: %d", made.Page, res.StatusCode)
	}
	for body, want := range map[string]string{
		`{"documents":[]}`: "documents_invalid", `{"documents":[` + strings.Repeat(document+",", 5) + document + `]}`: "documents_too_many",
		`{"documents":[{"name":"a","digest":"AA"}]}`: "document_digest_invalid", `{"files":[]}`: "request_unknown_field",
	} {
		if _, text := b.do("POST", "/sign/orders", body); codeOf(text) != want {
			t.Errorf("%.60s: %s, want %s", body, codeOf(text), want)
		}
	}
	b.do("POST", "/session/logout", "")
	if res, _ := b.do("GET", "/sign", ""); res.StatusCode != 303 {
		t.Error("still logged in")
	}
}

func TestReturnPathsStayHere(t *testing.T) {
	d := newDesk(t)
	for _, bad := range []string{"//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/%0d%0aX:", "evil", ""} {
		b := d.browser()
		res, _ := b.do("GET", "/session/login?return="+url.QueryEscape(bad), "")
		res, _ = b.do("GET", res.Header.Get("Location")+"/return", "")
		to, err := url.Parse(res.Header.Get("Location"))
		if err != nil || to.Host != "" || to.Scheme != "" || strings.HasPrefix(to.Path, "//") {
			t.Errorf("%q leads to %q", bad, res.Header.Get("Location"))
		}
	}
	b := d.browser()
	res, _ := b.do("POST", "/lang", "lang=en&return=//evil.example", "Content-Type", "application/x-www-form-urlencoded")
	if res.Header.Get("Location") != "/" || len(res.Cookies()) != 1 {
		t.Errorf("%v", res.Header)
	}
}

func TestCardBodiesAreBounded(t *testing.T) {
	d := newDesk(t)
	b := d.browser()
	for body, want := range map[string]string{
		`{"national_id":"A123000018","certificate":"%%","component_version":"","card_number":""}`: "enrol_certificate_malformed",
		`{"national_id":"A123000018","pin":"123456"}`:                                             "request_unknown_field",
		`{"certificate":"` + strings.Repeat("A", 140<<10) + `"}`:                                  "request_too_large",
	} {
		if _, text := b.do("POST", "/enrol/card", body); codeOf(text) != want {
			t.Errorf("%.60s: %s, want %s", body, codeOf(text), want)
		}
	}
}

func TestEveryFaultIsOnTheListAndHelpPagesExist(t *testing.T) {
	d := newDesk(t)
	b := d.browser()
	_, body := b.do("GET", "/help/errors", "", "Accept-Language", "en")
	for _, f := range []*fault.Error{order.ErrClaimed, order.ErrFrameStale, front.ErrSessionRequired} {
		if !strings.Contains(body, `id="`+f.Code+`"`) {
			t.Errorf("%s is not on the list", f.Code)
		}
	}
	if strings.Contains(body, "{n}") {
		t.Error("a bare placeholder")
	}
	for _, path := range []string{"/", "/help", "/help/accessibility", "/help/privacy", "/enrol"} {
		if res, _ := b.do("GET", path, ""); res.StatusCode != 200 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	if res, _ := b.do("GET", "/dev/states", ""); res.StatusCode != 404 {
		t.Error("/dev/states is open outside development")
	}
}

func TestEnrolPageKeepsTheLinkToTheComponentsWindow(t *testing.T) {
	d := newDesk(t)
	b := d.browser()
	res, body := b.do("GET", "/enrol", "")
	if res.Header.Get("Cross-Origin-Opener-Policy") != "same-origin-allow-popups" || !strings.Contains(body, "http://localhost:61161") {
		t.Error("the page cannot talk to the component")
	}
	if res, _ := b.do("GET", "/", ""); res.Header.Get("Cross-Origin-Opener-Policy") != "same-origin" {
		t.Error("control: other pages cut the link")
	}
}

// TestStates renders every state of every screen in both languages.
func TestStates(t *testing.T) {
	catalogue, err := i18n.Load()
	if err != nil {
		t.Fatal(err)
	}
	shell, err := front.New(front.Config{Origin: "https://id.example", Catalogue: catalogue, Templates: web.Templates(), Dist: web.Dist(),
		SessionKey: make([]byte, 32), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Skip(err)
	}
	r := chi.NewRouter()
	shell.Use(r)
	r.Group(func(r chi.Router) {
		r.Use(shell.Browser)
		pages.NewStates(shell).Mount(r)
	})
	get := func(path string) (int, string) {
		req := httptest.NewRequest("GET", path, nil)
		req.Header.Set("Accept", "text/html")
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		return w.Code, w.Body.String()
	}
	var screens map[string][]string
	if _, body := get("/dev/states"); json.NewDecoder(bytes.NewReader([]byte(body))).Decode(&screens) != nil || len(screens) < 6 {
		t.Fatal("no states")
	}
	for screen, states := range screens {
		for _, state := range states {
			for _, lang := range []string{"zh-Hant", "en"} {
				status, body := get("/dev/states/" + screen + "/" + state + "?lang=" + lang)
				if screen != "error" && status != 200 || strings.Count(body, "<h1") != 1 || !strings.Contains(body, `lang="`+lang+`"`) {
					t.Errorf("%s/%s %s: %d", screen, state, lang, status)
				}
				if n := strings.Count(body, `role="status"`); n != 1 {
					t.Errorf("%s/%s: %d live regions", screen, state, n)
				}
			}
		}
	}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
