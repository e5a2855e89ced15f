package pages

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"sealgate/internal/front"
	"sealgate/internal/order"
)

// back takes the browser to who asked. It changes nothing for an agency's
// order and may be repeated; for our own login it opens the session.
func (p *Pages) back(w http.ResponseWriter, r *http.Request) {
	v, err := p.mine(r)
	if err != nil {
		p.orderError(w, r, err)
		return
	}
	id := v.ID
	browser, _ := front.Browser(r)
	switch {
	case v.Kind == order.Login && v.ClientID == p.cfg.OwnClient.ID:
		p.openSession(w, r, id, browser)
	case v.Kind == order.Login, v.Kind == order.Sign && len(v.Request) > 0:
		target, err := p.cfg.Return(r.Context(), v, browser, p.from(r))
		if err != nil {
			p.orderError(w, r, err)
			return
		}
		http.Redirect(w, r, target, http.StatusSeeOther)
	case v.Kind == order.Sign && v.ReturnURI != "":
		http.Redirect(w, r, v.ReturnURI, http.StatusSeeOther)
	default:
		http.Redirect(w, r, "/o/"+id.String(), http.StatusSeeOther)
	}
}

// ownRequest is what our own login orders carry.
type ownRequest struct {
	Return string `json:"return"`
}

// login starts a login to our own pages.
func (p *Pages) login(w http.ResponseWriter, r *http.Request) {
	target := localPath(r.URL.Query().Get("return"))
	if _, ok := p.cfg.Shell.Sessions().Get(r, front.DesktopSession); ok {
		http.Redirect(w, r, target, http.StatusSeeOther)
		return
	}
	request, err := json.Marshal(ownRequest{Return: target})
	if err != nil {
		front.ErrorPage(w, r, err)
		return
	}
	browser := order.BrowserKey(front.EnsureBrowser(w, r))
	o, err := p.cfg.Orders.CreateLogin(r.Context(), order.LoginRequest{
		Client: p.cfg.OwnClient, Request: request, Browser: browser, Started: p.from(r),
		Text: p.text(r, reasonToLogIn(target)),
	})
	if err != nil {
		front.ErrorPage(w, r, err)
		return
	}
	http.Redirect(w, r, "/o/"+o.ID.String(), http.StatusSeeOther)
}

// reasonToLogIn is the text that the phone shows for a login to our own pages.
func reasonToLogIn(target string) string {
	if strings.HasPrefix(target, inboxPath) {
		return "inbox.order_text"
	}
	return "session.order_text"
}

// openSession completes our own login and opens the session. A second call
// after the first finds the session and goes on; without one it starts again.
func (p *Pages) openSession(w http.ResponseWriter, r *http.Request, id order.ID, browser order.BrowserKey) {
	v, err := p.cfg.CollectLogin(r.Context(), id, browser, p.from(r))
	if err != nil {
		// The same order twice: the session it opened is there.
		if s, ok := p.cfg.Shell.Sessions().Get(r, front.DesktopSession); ok && s.OrderID == id.UUID() {
			http.Redirect(w, r, "/sign", http.StatusSeeOther)
			return
		}
		front.ErrorPageTo(w, r, err, "error.again", "/session/login?return=/sign")
		return
	}
	if v.CitizenID == nil || v.DeviceID == nil {
		p.orderError(w, r, order.ErrState)
		return
	}
	var request ownRequest
	_ = json.Unmarshal(v.Request, &request) // our own words; an empty path is /sign
	err = p.cfg.Shell.Sessions().Put(w, r, front.Session{CitizenID: *v.CitizenID, DeviceID: *v.DeviceID,
		OrderID: v.ID.UUID(), Kind: front.DesktopSession})
	if err != nil {
		front.ErrorPage(w, r, err)
		return
	}
	http.Redirect(w, r, localPath(request.Return), http.StatusSeeOther)
}

func (p *Pages) logout(w http.ResponseWriter, r *http.Request) {
	p.cfg.Shell.Sessions().Clear(w, front.DesktopSession)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// lang remembers the language and goes back to the page.
func (p *Pages) lang(w http.ResponseWriter, r *http.Request) {
	if lang, ok := matchLang(r.PostFormValue("lang")); ok {
		front.SetLang(w, r, lang)
	}
	http.Redirect(w, r, localPathOr(r.PostFormValue("return"), "/"), http.StatusSeeOther)
}

// localPath keeps a path of this host and nothing else, so that no link of
// ours leads a person elsewhere; the default is /sign.
func localPath(path string) string { return localPathOr(path, "/sign") }

func localPathOr(path, otherwise string) string {
	if len(path) > 200 || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n\t") {
		return otherwise
	}
	u, err := url.Parse(path)
	if err != nil || u.Host != "" || u.Scheme != "" {
		return otherwise
	}
	return u.RequestURI()
}
