package front

import (
	"net/http"
	"strings"

	"sealgate/internal/i18n"
)

// defaultBody is the limit for bodies whose handler sets none of its own.
const defaultBody = 1 << 20

// MaxVerification is the limit for signatures that are sent to be judged; the
// door there bounds how many are read at a time.
const MaxVerification = 16 << 20

const verificationsPath = "/api/v1/verifications"

// Policy is what a page may do beyond the strict default. The zero value is
// the default: scripts, styles, pictures and requests from and to our own
// host only, nothing inline, no frames, no camera, no popups that keep a link.
type Policy struct {
	Connect []string // further origins that scripts may send requests to
	WASM    bool     // may compile WebAssembly
	Camera  bool     // may ask for the camera
	Popups  bool     // keeps the link to windows it opens (the card component)
}

// Apply writes the policy's headers; call it before the body is written.
func (p Policy) Apply(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Security-Policy", p.csp())
	h.Set("Permissions-Policy", p.permissions())
	if p.Popups {
		h.Set("Cross-Origin-Opener-Policy", "same-origin-allow-popups")
	}
}

// csp gives the Content-Security-Policy (W3C CSP Level 3). Scripts come from
// files only, so no nonce is needed and 'unsafe-inline' never stands.
func (p Policy) csp() string {
	script := "script-src 'self'"
	if p.WASM {
		script += " 'wasm-unsafe-eval'"
	}
	connect := "connect-src 'self'"
	if len(p.Connect) > 0 {
		connect += " " + strings.Join(p.Connect, " ")
	}
	return "default-src 'none'; " + script + "; style-src 'self'; img-src 'self' data:; " + connect +
		"; worker-src 'self'; manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
}

func (p Policy) permissions() string {
	camera := "camera=()"
	if p.Camera {
		camera = "camera=(self)"
	}
	return camera + ", microphone=(), geolocation=(), payment=(), usb=(), display-capture=(), " +
		"publickey-credentials-get=(self), publickey-credentials-create=(self)"
}

var (
	defaultCSP         = Policy{}.csp()
	defaultPermissions = Policy{}.permissions()
)

// protect sets the headers that every answer carries and bounds the body.
func (s *Shell) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		// same-origin and not no-referrer: with the latter browsers send "Origin: null" with our own forms.
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		if s.secure {
			h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
		}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &boundedBody{ReadCloser: http.MaxBytesReader(w, r.Body, defaultBody), whole: r.Body}
		}
		next.ServeHTTP(w, r)
	})
}

// Browser is the layer of routes that people open: page headers, the language
// switch (?lang=en on any page), and refusal of writing requests that another
// site made the browser send.
func (s *Shell) Browser(next http.Handler) http.Handler {
	next = s.crossing.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", defaultCSP)
		h.Set("Permissions-Policy", defaultPermissions)
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Vary", "Accept-Language, Cookie")
		if r.Method == http.MethodGet && r.URL.RawQuery != "" {
			if lang, ok := i18n.Match(r.URL.Query().Get("lang")); ok {
				SetLang(w, r, lang)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// API is the layer of routes for programs and page scripts: writing requests
// that another site made a browser send are refused, the rest passes.
func (s *Shell) API(next http.Handler) http.Handler { return s.crossing.Handler(next) }

func denyCrossOrigin(w http.ResponseWriter, r *http.Request) { Fail(w, r, errCrossOrigin) }
