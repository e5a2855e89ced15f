package agency

import (
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of what may be registered.
const (
	maxURIs    = 32
	maxURI     = 2000
	maxScopes  = 32
	maxJWKS    = 32 << 10
	maxNameZh  = 100 // characters
	maxNameEn  = 200
	maxHostLen = 253 + 6 // a host name and a port
)

var (
	codeForm     = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	clientIDForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)
	scopeForm    = regexp.MustCompile(`^[\x21\x23-\x5B\x5D-\x7E]{1,64}$`) // RFC 6749 §3.3
)

// ValidateRedirectURI tells whether an address may be registered as a place a
// browser is sent back to: absolute, https, no fragment, no user information,
// no wildcard, no dot segments. With allowLoopback (development) http is
// accepted for localhost, 127.0.0.1 and [::1]. (RFC 9700 §4.1.3, RFC 6749 §3.1.2.)
func ValidateRedirectURI(uri string, allowLoopback bool) error {
	bad := func(why string) error { return ErrRedirectURIInvalid.With("reason", why) }
	if uri == "" || len(uri) > maxURI {
		return bad("length")
	}
	for i := range len(uri) {
		if c := uri[i]; c <= 0x20 || c >= 0x7f || strings.IndexByte("\\*\"<>^`{|}", c) >= 0 {
			return bad("characters")
		}
	}
	if strings.Contains(uri, "#") {
		return bad("fragment")
	}
	u, err := url.Parse(uri)
	if err != nil || u.Opaque != "" || u.Host == "" || u.Hostname() == "" {
		return bad("form")
	}
	if u.User != nil || strings.Contains(u.Host, "@") {
		return bad("userinfo")
	}
	switch u.Scheme {
	case "https":
	case "http":
		if !allowLoopback || !isLoopback(u.Hostname()) {
			return bad("scheme")
		}
	default:
		return bad("scheme")
	}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if segment == "." || segment == ".." {
			return bad("path")
		}
	}
	return nil
}

func isLoopback(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "::1"
}

// validName refuses what could be used to mislead the person who reads it on
// the phone: control characters, direction overrides, line breaks.
func validName(s string, limit int) bool {
	if s == "" || !utf8.ValidString(s) || utf8.RuneCountInString(s) > limit || s != strings.TrimSpace(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
			return false
		}
	}
	return true
}

// Validate tells whether an agency may be registered.
func (a Agency) Validate() error {
	bad := func(field string) error { return ErrClientInvalid.With("field", field) }
	switch {
	case !codeForm.MatchString(a.Code):
		return bad("code")
	case !validName(a.Name.ZhHant, maxNameZh) || !validName(a.Name.En, maxNameEn):
		return bad("name")
	case a.Sector != "public" && a.Sector != "private":
		return bad("sector")
	case a.State != Active && a.State != Suspended:
		return bad("state")
	}
	return nil
}

// Validate tells whether a client may be registered; allowLoopback as in
// ValidateRedirectURI.
func (c Client) Validate(allowLoopback bool) error {
	bad := func(field string) error { return ErrClientInvalid.With("field", field) }
	switch {
	case !clientIDForm.MatchString(c.ClientID):
		return bad("client_id")
	case !validName(c.Name.ZhHant, maxNameZh) || !validName(c.Name.En, maxNameEn):
		return bad("name")
	case len(c.Host) > maxHostLen || (c.Host != "" && !validName(c.Host, maxHostLen)):
		return bad("host")
	case c.SectorIdentifier == "" || len(c.SectorIdentifier) > 253:
		return bad("sector_identifier")
	case c.State != Active && c.State != Suspended:
		return bad("state")
	case c.MaximumFrameAge < 0:
		return bad("maximum_frame_age")
	case len(c.Scopes) > maxScopes || slices.ContainsFunc(c.Scopes, func(s string) bool { return !scopeForm.MatchString(s) }):
		return bad("scopes")
	}
	if !slices.Contains([]string{"", "inherit", "allowed", "lower_acr", "refused"}, c.SyncedPasskeys) {
		return ErrClientInvalid.With("field", "synced_passkeys")
	}
	if err := c.validateAuth(); err != nil {
		return err
	}
	for _, g := range c.GrantTypes {
		if g != GrantAuthorizationCode && g != GrantClientCredentials {
			return bad("grant_types")
		}
	}
	if c.AuthMethod == AuthNone && c.MayUse(GrantClientCredentials) {
		return bad("grant_types") // a client that proves nothing gets no token of its own
	}
	for _, list := range [][]string{c.RedirectURIs, c.PostLogoutRedirectURIs, c.ReturnURIs} {
		if len(list) > maxURIs {
			return bad("redirect_uris")
		}
		for _, uri := range list {
			if err := ValidateRedirectURI(uri, allowLoopback); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c Client) validateAuth() error {
	bad := func(field string) error { return ErrClientInvalid.With("field", field) }
	switch c.AuthMethod {
	case AuthClientSecretBasic, AuthClientSecretPost:
		if len(c.SecretMAC) != macSize {
			return bad("secret")
		}
	case AuthNone:
		if c.SecretMAC != nil {
			return bad("secret")
		}
	case AuthPrivateKeyJWT:
		if c.SecretMAC != nil {
			return bad("secret")
		}
		if len(c.JWKS) == 0 || len(c.JWKS) > maxJWKS || !json.Valid(c.JWKS) {
			return bad("jwks")
		}
	default:
		return bad("token_endpoint_auth_method")
	}
	return nil
}
