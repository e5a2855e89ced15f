package softcard

import (
	"embed"
	"encoding/json"
	"html/template"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

//go:embed page
var pageFiles embed.FS

var pages = template.Must(template.ParseFS(pageFiles, "page/*.html"))

// maxBody bounds a request's body: base64 of maxTBS, percent-encoded at worst.
const maxBody = 2 << 20

// Handler answers as the component does. Only requests to this machine's own
// name are answered, so that a site cannot reach it under a name of its own
// (DNS rebinding).
func (c *Component) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /popupForm", c.servePopup)
	mux.HandleFunc("GET /ChtPopupForm", c.servePopup)
	mux.HandleFunc("GET /pkcs11info", c.serveInfo)
	mux.HandleFunc("POST /sign", c.serveSign)
	mux.HandleFunc("GET /p11Image.bmp", c.serveImage)
	mux.HandleFunc("GET /selfTest.htm", c.serveSelfTest)
	mux.HandleFunc("GET /addDomain", c.serveAddDomain)
	mux.HandleFunc("POST /addDomain", c.addDomain)
	mux.HandleFunc("GET /insert", c.insert)
	mux.HandleFunc("GET /waiting.gif", serveWaiting)
	mux.HandleFunc("GET /softcard.js", servePageFile("page/softcard.js", "text/javascript; charset=utf-8"))
	mux.HandleFunc("GET /softcard.css", servePageFile("page/softcard.css", "text/css; charset=utf-8"))
	for _, path := range []string{"/umakeSig", "/CardManagement/sendCardCommand"} {
		mux.HandleFunc("POST "+path, c.serveUnsupported)
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/selfTest.htm", http.StatusFound) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		if !localHost(r.Host) {
			http.Error(w, "Sealgate TEST component: ask for localhost", http.StatusMisdirectedRequest)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		mux.ServeHTTP(w, r)
	})
}

func localHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	return host == "localhost" || host == "127.0.0.1" || strings.Trim(host, "[]") == "::1"
}

// foreign says whether another site's page makes the request. Browsers always
// tell (Fetch Metadata, or Origin); programs without a browser do not.
func foreign(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return false
	case "":
		origin := r.Header.Get("Origin")
		return origin != "" && origin != "http://"+r.Host
	}
	return true
}

// trusts says whether the site may ask. The popup tells the origin that the
// browser gave it with the message; a program that calls the API itself has none.
func (c *Component) trusts(origin string) bool {
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.trusted, func(t string) bool {
		return t == origin || (!strings.Contains(t, "://") && strings.EqualFold(t, u.Hostname()))
	})
}

// chosen reads the card number of the popup's own query parameter; 0: none.
func chosen(r *http.Request) int {
	n, err := strconv.Atoi(r.URL.Query().Get("card"))
	if err != nil {
		return 0
	}
	return n
}

func (c *Component) serveInfo(w http.ResponseWriter, r *http.Request) {
	_, version := c.state()
	var a infoAnswer
	if c.trusts(r.URL.Query().Get("origin")) {
		a = c.info(chosen(r), r.URL.Query().Get("withcert") == "true")
	} else {
		a = infoAnswer{Func: "pkcs11info", RetCode: codeUntrusted, Message: messages[codeUntrusted], ServerVersion: version, LibraryVersion: libraryVersion, Slots: []slot{}}
	}
	c.answer(w, a, a.Func, a.RetCode)
}

func (c *Component) serveSign(w http.ResponseWriter, r *http.Request) {
	_, version := c.state()
	a := signAnswer{Func: "sign", ServerVersion: version}
	body, err := io.ReadAll(r.Body)
	switch {
	case foreign(r):
		a = a.fail(codeForbidden, "")
	case !c.trusts(r.URL.Query().Get("origin")):
		a = a.fail(codeUntrusted, "")
	case err != nil:
		a = a.fail(codeBadParameter, "body")
	default:
		text, ok := formField(string(body), "tbsPackage")
		if !ok {
			a = a.fail(codeBadParameter, "tbsPackage")
			break
		}
		a = c.sign(chosen(r), text)
	}
	c.answer(w, a, a.Func, a.RetCode)
}

// formField reads one field of an application/x-www-form-urlencoded body. The
// popup sends the page's text as it came, which is how the real one turns a
// "+" of careless pages into a space and a "&" into the end of the field. A "%"
// that starts no escape stands for itself.
func formField(body, name string) (string, bool) {
	for _, pair := range strings.Split(body, "&") {
		key, raw, _ := strings.Cut(pair, "=")
		if key != name {
			continue
		}
		if text, err := url.QueryUnescape(raw); err == nil {
			return text, true
		}
		return strings.ReplaceAll(raw, "+", " "), true
	}
	return "", false
}

func (c *Component) serveUnsupported(w http.ResponseWriter, r *http.Request) {
	_, version := c.state()
	a := signAnswer{Func: strings.TrimPrefix(r.URL.Path, "/"), ServerVersion: version}.fail(codeUnsupported, "")
	c.answer(w, a, a.Func, a.RetCode)
}

// answer writes JSON. The log gets the function and the code, nothing else.
func (c *Component) answer(w http.ResponseWriter, v any, function string, code int64) {
	c.log.Info("soft card", "func", function, "ret_code", "0x"+strconv.FormatInt(code, 16))
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(v)
}

// insert is the test control: GET /insert?card=2 inserts card 2 alone, all: every
// card (the start), none: a reader without a card, no-reader, cancel: the person
// cancels everything. unlock=true forgets wrong PINs; version=old|current.
func (c *Component) insert(w http.ResponseWriter, r *http.Request) {
	if foreign(r) {
		http.Error(w, "not from another site", http.StatusForbidden)
		return
	}
	q := r.URL.Query()
	next := inserted{}
	switch v := q.Get("card"); v {
	case "all", "":
	case "none":
		next.empty = true
	case "no-reader":
		next.gone = true
	case "cancel":
		next.cancel = true
	default:
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > len(c.store.cards) {
			http.Error(w, "card: 1 to "+strconv.Itoa(len(c.store.cards))+", all, none, no-reader or cancel", http.StatusBadRequest)
			return
		}
		next.card = n
	}
	if q.Get("unlock") == "true" {
		for _, k := range c.store.cards {
			if next.card != 0 && next.card != k.number {
				continue
			}
			if err := c.store.unlock(k); err != nil {
				http.Error(w, "the state of the cards cannot be written", http.StatusInternalServerError)
				return
			}
		}
	}
	c.mu.Lock()
	if q.Has("card") {
		c.inserted = next
	}
	switch q.Get("version") {
	case "old":
		c.version = OldVersion
	case "current":
		c.version = Version
	}
	c.mu.Unlock()
	c.serveInfo(w, r)
}

func (c *Component) addDomain(w http.ResponseWriter, r *http.Request) {
	if foreign(r) {
		http.Error(w, "not from another site", http.StatusForbidden)
		return
	}
	domain := r.PostFormValue("domain")
	if !validDomain(domain) {
		http.Error(w, "domain", http.StatusBadRequest)
		return
	}
	if err := c.store.addSite(domain); err != nil {
		http.Error(w, "the list cannot be written", http.StatusInternalServerError)
		return
	}
	c.mu.Lock()
	c.trusted = append(c.trusted, domain)
	c.mu.Unlock()
	c.render(w, "added.html", map[string]any{"Version": Version, "Domain": domain})
}

// validDomain accepts a host name, or an origin.
func validDomain(s string) bool {
	if len(s) == 0 || len(s) > 253 || strings.ContainsAny(s, " \t\r\n\"'<>\\") {
		return false
	}
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && s == u.Scheme+"://"+u.Host
	}
	return !strings.ContainsAny(s, "/:@?#%")
}
