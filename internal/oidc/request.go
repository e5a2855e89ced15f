package oidc

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strings"

	zoidc "github.com/zitadel/oidc/v3/pkg/oidc"

	"sealgate/internal/agency"
	"sealgate/internal/order"
)

// Limits on an authorization request, in bytes unless said otherwise.
const (
	maxQuery     = 8 << 10
	maxParams    = 64 // number
	maxState     = 2048
	maxNonce     = 512
	maxValue     = 2048
	maxScopeList = 32 // number
	verifierMin  = 43 // RFC 7636 §4.1
	verifierMax  = 128
)

// The errors of OAuth and OpenID Connect that the library has no name for.
const (
	errUnsupportedResponseType = "unsupported_response_type"           // RFC 6749 §4.1.2.1
	errRequestURINotSupported  = "request_uri_not_supported"           // OpenID Connect Core 1.0 §3.1.2.6
	errRegistration            = "registration_not_supported"          //
	errUnmetAuthentication     = "unmet_authentication_requirements"   // OpenID Connect Core Error Code unmet_authentication_requirements 1.0
	errTemporarily             = "temporarily_unavailable"             // RFC 6749 §4.1.2.1
	errAccessDenied            = "access_denied"                       //
	errServer                  = "server_error"                        //
	pkceMethod                 = string(zoidc.CodeChallengeMethodS256) //
)

// Request is what an order keeps of the authorization request.
type Request struct {
	ClientID      string   `json:"client_id"`
	RedirectURI   string   `json:"redirect_uri"`
	Scopes        []string `json:"scope"`
	State         string   `json:"state,omitempty"`
	Nonce         string   `json:"nonce,omitempty"`
	CodeChallenge string   `json:"code_challenge"` // S256
	ACRValues     []string `json:"acr_values,omitempty"`
	UILocales     string   `json:"ui_locales,omitempty"`
}

// clientError is a fault that the client may be told by redirect.
type clientError struct {
	code        string // registered OAuth error code
	description string // ASCII, for the client's developers
}

func (e *clientError) Error() string { return e.code + ": " + e.description }

func told[T ~string](code T, description string) *clientError {
	return &clientError{string(code), description}
}

// parseQuery reads parameters. It refuses, before anything is looked at, what
// is too large or malformed.
func parseQuery(raw string) (url.Values, error) {
	if len(raw) > maxQuery {
		return nil, ErrRequestTooLarge
	}
	if strings.Count(raw, "&") >= maxParams {
		return nil, ErrRequestTooLarge
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, ErrRequestMalformed
	}
	return q, nil
}

// doubled finds a parameter that stands more than once (RFC 6749 §3.1).
func doubled(q url.Values) (string, bool) {
	for name, values := range q {
		if len(values) > 1 {
			return name, true
		}
	}
	return "", false
}

// returnParams are the parameters that decide where an answer goes: when one
// of them stands twice, no answer can be sent there.
var returnParams = []string{"client_id", "redirect_uri"}

// parseRequest checks an authorization request of a known client whose
// redirect URI has been checked. All it refuses may be told to the client.
func parseRequest(q url.Values, c *agency.Client) (*Request, *clientError) {
	if name, twice := doubled(q); twice {
		return nil, told(zoidc.InvalidRequest, "parameter given twice: "+printable(name))
	}
	for name, values := range q {
		if len(values[0]) > maxValue || len(name) > 64 {
			return nil, told(zoidc.InvalidRequest, "parameter too long: "+printable(name))
		}
	}
	if e := checkUnsupported(q); e != nil {
		return nil, e
	}
	r := &Request{ClientID: c.ClientID, RedirectURI: q.Get("redirect_uri"), State: q.Get("state"), Nonce: q.Get("nonce"),
		CodeChallenge: q.Get("code_challenge"), UILocales: q.Get("ui_locales")}
	if len(r.State) > maxState || len(r.Nonce) > maxNonce || len(r.UILocales) > 200 {
		return nil, told(zoidc.InvalidRequest, "state, nonce or ui_locales too long")
	}
	if !storable(r.State) || !storable(r.Nonce) || !storable(r.UILocales) {
		return nil, told(zoidc.InvalidRequest, "state, nonce and ui_locales must be printable text")
	}
	if e := checkChallenge(q.Get("code_challenge_method"), r.CodeChallenge); e != nil {
		return nil, e
	}
	var e *clientError
	if r.Scopes, e = parseScopes(q.Get("scope"), c); e != nil {
		return nil, e
	}
	if !slices.Contains(r.Scopes, ScopeOpenID) {
		return nil, told(zoidc.InvalidScope, "scope must contain openid")
	}
	if r.ACRValues, e = parseACRValues(q.Get("acr_values")); e != nil {
		return nil, e
	}
	return r, checkPrompt(q.Get("prompt"), q.Get("max_age"))
}

// checkUnsupported refuses what the discovery document does not offer.
func checkUnsupported(q url.Values) *clientError {
	switch {
	case q.Has("request"):
		return told(zoidc.RequestNotSupported, "request objects are not supported")
	case q.Has("request_uri"):
		return told(errRequestURINotSupported, "request_uri is not supported")
	case q.Has("registration"):
		return told(errRegistration, "registration is not supported")
	case q.Get("response_type") == "":
		return told(zoidc.InvalidRequest, "response_type is missing")
	case q.Get("response_type") != string(zoidc.ResponseTypeCode):
		return told(errUnsupportedResponseType, "only response_type=code is supported")
	case q.Has("response_mode") && q.Get("response_mode") != string(zoidc.ResponseModeQuery):
		return told(zoidc.InvalidRequest, "only response_mode=query is supported")
	}
	return nil
}

// checkChallenge demands PKCE with S256 from every client (RFC 7636, RFC 9700 §2.1.1).
func checkChallenge(method, challenge string) *clientError {
	if challenge == "" {
		return told(zoidc.InvalidRequest, "code_challenge is required (PKCE)")
	}
	if method != pkceMethod {
		return told(zoidc.InvalidRequest, "code_challenge_method must be S256")
	}
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(challenge); err != nil || len(raw) != 32 {
		return told(zoidc.InvalidRequest, "code_challenge must be the base64url SHA-256 of the verifier")
	}
	return nil
}

// parseScopes reads a scope parameter; each must be registered for the client.
func parseScopes(value string, c *agency.Client) ([]string, *clientError) {
	scopes := strings.Fields(value)
	if len(scopes) > maxScopeList {
		return nil, told(zoidc.InvalidScope, "too many scopes")
	}
	slices.Sort(scopes)
	scopes = slices.Compact(scopes)
	for _, s := range scopes {
		if !c.HasScope(s) {
			return nil, told(zoidc.InvalidScope, "scope not registered for this client: "+printable(s))
		}
	}
	return scopes, nil
}

// acrRank lists the known values, the least first.
var acrRank = []string{order.ACRQR, order.ACRPHR, order.ACRPHRH}

// parseACRValues keeps the values we know. Where a client names only others,
// nothing we do can meet its demand.
func parseACRValues(value string) ([]string, *clientError) {
	asked := strings.Fields(value)
	if len(asked) == 0 {
		return nil, nil
	}
	var known []string
	for _, v := range asked {
		if slices.Contains(acrRank, v) && !slices.Contains(known, v) {
			known = append(known, v)
		}
	}
	if known == nil {
		return nil, told(errUnmetAuthentication, "none of the acr_values is supported")
	}
	return known, nil
}

// minimumACR is the least demanding of the values that were asked for.
func (r *Request) minimumACR() string {
	for _, v := range acrRank {
		if slices.Contains(r.ACRValues, v) {
			return v
		}
	}
	return ""
}

// reportedACR is the acr that the ID token tells: the highest asked value that
// the road reached satisfies, so that a client which compares exactly is
// served; what was reached where nothing was asked.
func (r *Request) reportedACR(reached string) string {
	for _, v := range slices.Backward(acrRank) {
		if slices.Contains(r.ACRValues, v) && order.ACRSatisfies(reached, v) {
			return v
		}
	}
	return reached
}

// checkPrompt honours prompt and accepts max_age: every login is fresh, so any
// age is met and nothing can happen without the person.
func checkPrompt(prompt, maxAge string) *clientError {
	prompts := strings.Fields(prompt)
	for _, v := range prompts {
		switch v {
		case zoidc.PromptNone:
			if len(prompts) > 1 {
				return told(zoidc.InvalidRequest, "prompt none must stand alone")
			}
			return told(zoidc.LoginRequired, "every login needs the person's phone")
		case zoidc.PromptLogin, zoidc.PromptConsent, zoidc.PromptSelectAccount:
		default:
			return told(zoidc.InvalidRequest, "unknown prompt")
		}
	}
	if len(maxAge) > 10 || strings.Trim(maxAge, "0123456789") != "" {
		return told(zoidc.InvalidRequest, "max_age must be a number of seconds")
	}
	return nil
}

// redirectWith adds an answer to a registered redirect URI, which may have a
// query of its own, with the issuer as RFC 9207 wants.
func (p *Provider) redirectWith(redirectURI string, answer url.Values) string {
	answer.Set("iss", p.cfg.Issuer)
	separator := "?"
	if strings.Contains(redirectURI, "?") {
		separator = "&"
	}
	return redirectURI + separator + answer.Encode()
}

func (p *Provider) redirectError(redirectURI, state string, e *clientError) string {
	answer := url.Values{"error": {e.code}}
	if e.description != "" {
		answer.Set("error_description", e.description)
	}
	if state != "" {
		answer.Set("state", state)
	}
	return p.redirectWith(redirectURI, answer)
}

// printable keeps what RFC 6749 §4.1.2.1 allows in a description, shortened.
func printable(s string) string {
	if len(s) > 40 {
		s = s[:40]
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, s)
}

// storable says whether Postgres' jsonb takes the text back unchanged: valid
// UTF-8 without the zero character. Control characters have no place in it.
func storable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\uFFFD' })
}
