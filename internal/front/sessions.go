package front

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// SessionKind separates the sessions of our own pages; each has its own cookie.
type SessionKind string

// The kinds of session.
const (
	DesktopSession SessionKind = "desktop" // the signing page, opened by a login order
	PhoneSession   SessionKind = "phone"   // history and devices in the phone app
)

// Session says who is logged in on our own pages, by which device and order.
type Session struct {
	CitizenID uuid.UUID   `json:"c"`
	DeviceID  uuid.UUID   `json:"d"`
	OrderID   uuid.UUID   `json:"o"`
	At        time.Time   `json:"t"`
	Kind      SessionKind `json:"k"`
}

// Sessions keeps sessions in cookies sealed with AES-256-GCM: no table is
// written on a request and every node can read them. A session ends Life after
// At, or as soon as the device or the person behind it is stopped.
type Sessions struct {
	aead   cipher.AEAD
	life   time.Duration
	secure bool
	stands func(context.Context, Session) bool // nil: always
}

const defaultSessionLife = 30 * time.Minute

func newSessions(key []byte, life time.Duration, secure bool, stands func(context.Context, Session) bool) (*Sessions, error) {
	if len(key) != 32 {
		return nil, errors.New("front: SessionKey must have 32 bytes")
	}
	if life <= 0 {
		life = defaultSessionLife
	}
	derived, err := hkdf.Key(sha256.New, key, nil, "sealgate/session-cookie/v1", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Sessions{aead: aead, life: life, secure: secure, stands: stands}, nil
}

// Life is how long a session lasts.
func (s *Sessions) Life() time.Duration { return s.life }

func (s *Sessions) cookie(kind SessionKind) string {
	if s.secure {
		return "__Host-sealgate_" + string(kind)
	}
	return "sealgate_" + string(kind)
}

// associated binds a sealed session to its kind and to the browser it was
// given to: copied into another browser, or under another name, it does not open.
func associated(r *http.Request, kind SessionKind) []byte {
	key, _ := Browser(r)
	return append([]byte("sealgate/session/v1\x00"+string(kind)+"\x00"), key[:]...)
}

// Put opens a session; At is set when it is zero.
func (s *Sessions) Put(w http.ResponseWriter, r *http.Request, session Session) error {
	EnsureBrowser(w, r)
	if session.At.IsZero() {
		session.At = time.Now().UTC().Truncate(time.Second)
	}
	plain, err := json.Marshal(session)
	if err != nil {
		return err
	}
	sealed := s.aead.Seal(nil, nil, plain, associated(r, session.Kind))
	http.SetCookie(w, &http.Cookie{Name: s.cookie(session.Kind), Value: base64.RawURLEncoding.EncodeToString(sealed),
		Path: "/", MaxAge: int(s.life / time.Second), HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode})
	return nil
}

// Get gives the session of the kind, if there is a good one.
func (s *Sessions) Get(r *http.Request, kind SessionKind) (Session, bool) {
	c, err := r.Cookie(s.cookie(kind))
	if err != nil || len(c.Value) > 1024 {
		return Session{}, false
	}
	sealed, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return Session{}, false
	}
	plain, err := s.aead.Open(nil, nil, sealed, associated(r, kind))
	if err != nil {
		return Session{}, false
	}
	var session Session
	if err := json.Unmarshal(plain, &session); err != nil || session.Kind != kind {
		return Session{}, false
	}
	age := time.Since(session.At)
	if age < -time.Minute || age > s.life {
		return Session{}, false
	}
	if s.stands != nil && !s.stands(r.Context(), session) {
		return Session{}, false
	}
	return session, true
}

// Clear ends the session of the kind in this browser.
func (s *Sessions) Clear(w http.ResponseWriter, kind SessionKind) {
	http.SetCookie(w, &http.Cookie{Name: s.cookie(kind), Path: "/", MaxAge: -1, HttpOnly: true,
		Secure: s.secure, SameSite: http.SameSiteLaxMode})
}
