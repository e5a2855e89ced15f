package oidc

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/i18n"
	"sealgate/internal/order"
)

// authorize starts a login (OpenID Connect Core 1.0 §3.1.2). What cannot
// safely be told to the client is told to the person on a page.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		p.refusePage(w, r, nil, err)
		return
	}
	client, redirectURI, err := p.destination(r, q)
	if err != nil {
		p.refusePage(w, r, client, err)
		return
	}
	request, e := parseRequest(q, client)
	if e == nil && !client.MayUse(agency.GrantAuthorizationCode) {
		e = told("unauthorized_client", "the client is not registered for the code flow")
	}
	if e != nil {
		p.refuseRedirect(w, r, client, redirectURI, q, e)
		return
	}
	request.Scopes = p.released(request.Scopes)
	o, err := p.createOrder(w, r, client, request)
	if err != nil {
		p.cfg.ErrorPage(w, r, err)
		return
	}
	to := "/o/" + o.ID.String()
	if lang, ok := i18n.Match(firstField(request.UILocales)); ok {
		to += "?lang=" + url.QueryEscape(string(lang))
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// authorizePosted turns the POST form of the request (OpenID Connect Core 1.0
// §3.1.2.1) into the GET form: a request from another site carries our cookie
// only on navigation by GET.
func (p *Provider) authorizePosted(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	form, err := readForm(w, r, maxQuery)
	if err == nil && r.URL.RawQuery != "" {
		err = ErrRequestMalformed
	}
	if err != nil {
		p.refusePage(w, r, nil, err)
		return
	}
	http.Redirect(w, r, PathAuthorize+"?"+form, http.StatusSeeOther)
}

// destination finds the client and makes sure that the redirect URI is its own.
// Until both are sure nothing may be sent there.
func (p *Provider) destination(r *http.Request, q url.Values) (*agency.Client, string, error) {
	for _, name := range returnParams {
		if len(q[name]) > 1 {
			return nil, "", ErrRequestDoubled.With("parameter", name)
		}
	}
	client, err := p.cfg.Agencies.ByClientID(r.Context(), q.Get("client_id"))
	if err != nil {
		return nil, "", err
	}
	if err := client.Usable(); err != nil {
		return client, "", err
	}
	redirectURI := q.Get("redirect_uri")
	return client, redirectURI, client.CheckRedirectURI(redirectURI)
}

func (p *Provider) createOrder(w http.ResponseWriter, r *http.Request, c *agency.Client, request *Request) (*order.Order, error) {
	raw, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	shown, err := json.Marshal(struct {
		RedirectURI string   `json:"redirect_uri"`
		Nonce       string   `json:"nonce,omitempty"`
		ACRValues   []string `json:"acr_values,omitempty"`
		Challenge   string   `json:"code_challenge"`
	}{request.RedirectURI, request.Nonce, request.ACRValues, request.CodeChallenge})
	if err != nil {
		return nil, err
	}
	return p.cfg.Orders.CreateLogin(r.Context(), order.LoginRequest{
		Client:  order.ClientOf(c),
		Request: raw,
		Shown:   shown,
		Data:    slices.DeleteFunc(slices.Clone(request.Scopes), func(s string) bool { return s == ScopeOpenID }),
		Browser: p.cfg.Browser(w, r),
		Started: p.cfg.Origin(r),

		MinimumACR: request.minimumACR(),
	})
}

// refusePage records a refusal and shows it to the person.
func (p *Provider) refusePage(w http.ResponseWriter, r *http.Request, c *agency.Client, err error) {
	ctx := withAddress(r.Context(), p.cfg.Origin(r).IP)
	p.refused(ctx, audit.New(audit.ClientRefused).ByBrowser(), c, fault.From(err))
	p.cfg.ErrorPage(w, r, err)
}

// refuseRedirect records a refusal and tells the client.
func (p *Provider) refuseRedirect(w http.ResponseWriter, r *http.Request, c *agency.Client, redirectURI string, q url.Values, e *clientError) {
	ctx := withAddress(r.Context(), p.cfg.Origin(r).IP)
	p.refused(ctx, audit.New(audit.ClientRefused).ByBrowser(), c, fault.New(fault.Invalid, e.code))
	state := ""
	if s := q["state"]; len(s) == 1 && len(s[0]) <= maxState {
		state = s[0]
	}
	http.Redirect(w, r, p.redirectError(redirectURI, state, e), http.StatusSeeOther)
}

func firstField(s string) string {
	for i := range len(s) {
		if s[i] == ' ' {
			return s[:i]
		}
	}
	return s
}
