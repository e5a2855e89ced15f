package csc

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/front"
	"sealgate/internal/i18n"
	"sealgate/internal/oidc"
	"sealgate/internal/order"
	"sealgate/internal/signing"
)

// Limits on an authorization request, in bytes unless said otherwise. The hashes
// of a whole batch travel in the address.
const (
	maxQuery  = 64 << 10
	maxParams = 64 // number
	maxValue  = 2048
	maxHashes = 48 << 10 // hashes or authorization_details
)

// told is a refusal that the client may be told by redirect (CSC API 2.0.0.2 §8.4.2).
func told(code, description string) *refusal {
	return &refusal{http.StatusBadRequest, code, description, "csc_" + code}
}

// authorize starts an authorization. What cannot safely be told to the client
// is told to the person on a page.
func (d *Door) authorize(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		d.refusePage(w, r, nil, err)
		return
	}
	client, redirectURI, err := d.destination(r, q)
	if err != nil {
		d.refusePage(w, r, client, err)
		return
	}
	request, e := parseRequest(q, client, redirectURI)
	if e != nil {
		d.refuseRedirect(w, r, client, redirectURI, q, e)
		return
	}
	browser := order.BrowserKey(front.EnsureBrowser(w, r))
	var made *order.Order
	if request.Scope == ScopeService {
		made, err = d.serviceOrder(r, client, request, browser)
	} else {
		made, err = d.credentialOrder(r, client, request, q, browser)
	}
	if err != nil {
		if e, ok := err.(*refusal); ok {
			d.refuseRedirect(w, r, client, redirectURI, q, e)
			return
		}
		front.ErrorPage(w, r, err)
		return
	}
	to := "/o/" + made.ID.String()
	if lang, ok := i18n.Match(q.Get("lang")); ok {
		to += "?lang=" + url.QueryEscape(string(lang))
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func parseQuery(raw string) (url.Values, error) {
	if len(raw) > maxQuery || strings.Count(raw, "&") >= maxParams {
		return nil, oidc.ErrRequestTooLarge
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, oidc.ErrRequestMalformed
	}
	return q, nil
}

// destination finds the client and makes sure that the redirect URI is its own.
// Until both are sure nothing may be sent there.
func (d *Door) destination(r *http.Request, q url.Values) (*agency.Client, string, error) {
	for _, name := range []string{"client_id", "redirect_uri"} {
		if len(q[name]) > 1 {
			return nil, "", oidc.ErrRequestDoubled.With("parameter", name)
		}
	}
	client, err := d.cfg.Agencies.ByClientID(r.Context(), q.Get("client_id"))
	if err != nil {
		return nil, "", err
	}
	if err := client.Usable(); err != nil {
		return client, "", err
	}
	redirectURI := q.Get("redirect_uri")
	return client, redirectURI, client.CheckRedirectURI(redirectURI)
}

// parseRequest checks what both scopes have in common.
func parseRequest(q url.Values, c *agency.Client, redirectURI string) (*Request, *refusal) {
	for name, values := range q {
		most := maxValue
		if name == "hashes" || name == "authorization_details" {
			most = maxHashes
		}
		switch {
		case len(values) > 1:
			return nil, told("invalid_request", "a parameter stands twice")
		case len(values[0]) > most:
			return nil, told("invalid_request", "a parameter is too long")
		}
	}
	scope := q.Get("scope")
	switch details := q.Has("authorization_details"); {
	case q.Has("request_uri"), q.Has("request"):
		return nil, told("invalid_request", "pushed requests and request objects are not supported")
	case q.Get("response_type") == "":
		return nil, told("invalid_request", "Missing parameter response_type")
	case q.Get("response_type") != "code":
		return nil, told("unsupported_response_type", "response_type must be code")
	case scope == "" && details:
		scope = ScopeCredential
	case scope == "":
		scope = ScopeService
	case scope != ScopeService && scope != ScopeCredential, scope == ScopeService && details:
		return nil, told("invalid_scope", "scope must be service or credential, and service has no authorization_details")
	}
	if !mayUse(c) {
		return nil, told("unauthorized_client", "the client is not registered for this API")
	}
	challenge, ok := decodeHash(q.Get("code_challenge"))
	if !ok || len(challenge) != 32 || q.Get("code_challenge_method") != "S256" {
		return nil, told("invalid_request", "code_challenge with code_challenge_method S256 is required (RFC 7636)")
	}
	state := q.Get("state")
	if strings.ContainsFunc(state, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\uFFFD' }) {
		return nil, told("invalid_request", "state must be printable text")
	}
	return &Request{Door: DoorName, Scope: scope, ClientID: c.ClientID, RedirectURI: redirectURI, State: state,
		CodeChallenge: q.Get("code_challenge"), Details: q.Has("authorization_details")}, nil
}

// shown is what the evidence names of the request.
type shown struct {
	Door         string `json:"door"`
	Scope        string `json:"scope"`
	RedirectURI  string `json:"redirect_uri"`
	Challenge    string `json:"code_challenge"`
	CredentialID string `json:"credential_id,omitempty"`
}

func (r *Request) encode() (stored, asked json.RawMessage, err error) {
	if stored, err = json.Marshal(r); err != nil {
		return nil, nil, err
	}
	asked, err = json.Marshal(shown{r.Door, r.Scope, r.RedirectURI, r.CodeChallenge, r.CredentialID})
	return stored, asked, err
}

// serviceOrder is a login by which the client may see the certificates.
func (d *Door) serviceOrder(r *http.Request, c *agency.Client, request *Request, browser order.BrowserKey) (*order.Order, error) {
	stored, asked, err := request.encode()
	if err != nil {
		return nil, err
	}
	return d.cfg.Orders.CreateLogin(r.Context(), order.LoginRequest{Client: order.ClientOf(c), Request: stored, Shown: asked,
		Data: []string{"mobile_certificate"}, Browser: browser, Started: from(r)})
}

// credentialOrder is a sign order over exactly the hashes.
func (d *Door) credentialOrder(r *http.Request, c *agency.Client, request *Request, q url.Values, browser order.BrowserKey) (*order.Order, error) {
	wanted, e := parseCredential(q)
	if e != nil {
		return nil, e
	}
	if len(wanted.documents) > d.cfg.Most {
		return nil, told("invalid_request", "Numbers of signatures is too high")
	}
	id, err := d.parseCredentialID(c, wanted.credentialID)
	if err != nil {
		return nil, told("invalid_request", "Invalid parameter credentialID")
	}
	credential, err := d.cfg.Store.Credential(r.Context(), id)
	if fault.CodeOf(err) == ErrCredentialUnknown.Code {
		return nil, told("invalid_request", "Invalid parameter credentialID")
	}
	if err != nil {
		return nil, err
	}
	if !credential.usable(now()) {
		return nil, told("invalid_request", errDisabled.description)
	}
	request.Certificate, request.CredentialID = id, wanted.credentialID
	stored, asked, err := request.encode()
	if err != nil {
		return nil, err
	}
	made, _, err := d.cfg.Orders.CreateSign(r.Context(), order.SignRequest{Client: order.ClientOf(c), Documents: wanted.documents, Level: signing.LevelB,
		Text: wanted.description, ReturnURI: request.RedirectURI, SubjectCitizenID: &credential.Citizen, SubjectCertificateID: &id,
		Browser: &browser, Started: from(r), Request: stored, Shown: asked})
	if f := fault.From(err); err != nil && (f.Kind == fault.Invalid || f.Kind == fault.TooLarge) {
		return nil, told("invalid_request", "description, labels or hashes are not acceptable: "+f.Code)
	}
	return made, err
}

// wanted is what scope credential asks for.
type wanted struct {
	credentialID string
	description  string
	documents    []order.Document
}

// parseCredential reads the parameters of scope credential, in either form.
func parseCredential(q url.Values) (*wanted, *refusal) {
	if q.Has("authorization_details") {
		for _, name := range []string{"hashes", "hashAlgorithmOID", "credentialID", "numSignatures"} {
			if q.Has(name) {
				return nil, told("invalid_request", name+" stands beside authorization_details")
			}
		}
		return parseDetails(q.Get("authorization_details"), q.Get("lang"), q.Get("description"))
	}
	out := &wanted{credentialID: q.Get("credentialID"), description: q.Get("description")}
	switch {
	case out.credentialID == "":
		return nil, told("invalid_request", "Missing parameter credentialID")
	case q.Get("hashes") == "":
		return nil, told("invalid_request", "Missing parameter hashes: SCAL is 2")
	}
	list := strings.Split(q.Get("hashes"), ",")
	if !isNumber(q.Get("numSignatures"), len(list)) {
		return nil, told("invalid_request", "numSignatures must be the number of hashes")
	}
	items := make([]digest, len(list))
	for i, hash := range list {
		items[i].Hash = hash
	}
	var e *refusal
	out.documents, e = documents(items, q.Get("hashAlgorithmOID"), q.Get("lang"))
	return out, e
}

// digest is one of documentDigests.
type digest struct {
	Hash  string `json:"hash"`
	Label string `json:"label,omitempty"`
}

// detail is an authorization detail of type credential (RFC 9396 §2, CSC API 2.0.0.2 §8.4.2).
type detail struct {
	Type             string   `json:"type"`
	CredentialID     string   `json:"credentialID,omitempty"`
	DocumentDigests  []digest `json:"documentDigests"`
	HashAlgorithmOID string   `json:"hashAlgorithmOID"`
}

func parseDetails(text, lang, description string) (*wanted, *refusal) {
	var list []detail
	if err := front.ParseJSON([]byte(text), &list); err != nil || len(list) != 1 || list[0].Type != ScopeCredential {
		return nil, told("invalid_authorization_details", "authorization_details must be one object of type credential")
	}
	it := list[0]
	if it.CredentialID == "" {
		return nil, told("invalid_authorization_details", "Missing parameter credentialID")
	}
	made, e := documents(it.DocumentDigests, it.HashAlgorithmOID, lang)
	return &wanted{it.CredentialID, description, made}, e
}

// isNumber says whether a text is this number and nothing else.
func isNumber(text string, n int) bool {
	var got int
	return len(text) < 6 && json.Unmarshal([]byte(text), &got) == nil && got == n
}

// documents makes the documents of an order. A hash that stands twice would make
// two signatures of which nobody could tell which was handed out.
func documents(items []digest, algorithmOID, lang string) ([]order.Document, *refusal) {
	algorithm, size := hashByOID(algorithmOID)
	switch {
	case len(items) == 0:
		return nil, told("invalid_request", "Empty hash array")
	case algorithm == "":
		return nil, told("invalid_request", "Invalid parameter hashAlgorithmOID")
	}
	out, seen := make([]order.Document, len(items)), map[string]bool{}
	for i, item := range items {
		raw, ok := decodeHash(item.Hash)
		switch {
		case !ok:
			return nil, told("invalid_request", errHashBase64.description)
		case len(raw) != size:
			return nil, told("invalid_request", errHashLength.description)
		case seen[string(raw)]:
			return nil, told("invalid_request", "a hash stands twice")
		}
		seen[string(raw)] = true
		name := item.Label
		if strings.TrimSpace(name) == "" {
			name = documentName(lang, i+1)
		}
		out[i] = order.Document{Name: name, DigestAlgorithm: algorithm, Digest: encodeDigest(raw), Form: signing.FormPKCS1}
	}
	return out, nil
}

// refusePage records a refusal and shows it to the person.
func (d *Door) refusePage(w http.ResponseWriter, r *http.Request, c *agency.Client, err error) {
	if f := fault.From(err); f.Kind != fault.Internal && f.Kind != fault.Unavailable {
		d.record(r, refusedBy(c), f.Code)
	}
	front.ErrorPage(w, r, err)
}

// refuseRedirect records a refusal and tells the client.
func (d *Door) refuseRedirect(w http.ResponseWriter, r *http.Request, c *agency.Client, redirectURI string, q url.Values, e *refusal) {
	d.record(r, refusedBy(c), e.code)
	state := ""
	if s := q["state"]; len(s) == 1 && len(s[0]) <= maxValue {
		state = s[0]
	}
	http.Redirect(w, r, d.redirectError(redirectURI, state, e.err, e.description), http.StatusSeeOther)
}

func refusedBy(c *agency.Client) audit.Entry {
	e := audit.New(audit.ClientRefused).ByBrowser()
	if c != nil {
		e = e.Client(c.ID)
	}
	return e
}
