package front

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
)

const langCookie = "sealgate_lang"

// browserCookie is the name of the cookie that says which browser this is. On
// https the __Host- prefix keeps other hosts of the domain from setting it.
func (s *Shell) browserCookie() string {
	if s.secure {
		return "__Host-sealgate_browser"
	}
	return "sealgate_browser"
}

// Browser gives the 32 random bytes that name this browser, and whether it has
// them. Orders keep only their SHA-256.
func Browser(r *http.Request) (key [32]byte, ok bool) {
	info := infoOf(r)
	if info == nil {
		return key, false
	}
	c, err := r.Cookie(info.shell.browserCookie())
	if err != nil || len(c.Value) != base64.RawURLEncoding.EncodedLen(len(key)) {
		return key, false
	}
	n, err := base64.RawURLEncoding.Strict().Decode(key[:], []byte(c.Value))
	return key, err == nil && n == len(key)
}

// EnsureBrowser gives the bytes that name this browser and sets the cookie
// when there is none. The cookie ends with the browser's session.
func EnsureBrowser(w http.ResponseWriter, r *http.Request) [32]byte {
	if key, ok := Browser(r); ok {
		return key
	}
	var key [32]byte
	rand.Read(key[:])
	info := infoOf(r)
	if info == nil {
		return key
	}
	c := &http.Cookie{Name: info.shell.browserCookie(), Value: base64.RawURLEncoding.EncodeToString(key[:]),
		Path: "/", HttpOnly: true, Secure: info.shell.secure, SameSite: http.SameSiteLaxMode}
	http.SetCookie(w, c)
	r.AddCookie(c) // a second call in the same request gives the same key
	return key
}
