package site

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"sync"
	"time"
)

// Cookies of one host are shared by all its ports: the name says whose it is.
const sessionCookie = "demoagency_session"

const (
	sessionLife  = time.Hour
	maxSessions  = 10_000
	maxPending   = 8 // logins under way in one browser
	pendingLife  = 30 * time.Minute
	cookieLength = 43
)

// session is one browser. It lives in memory: a demonstration may forget.
type session struct {
	mu      sync.Mutex
	born    time.Time
	pending map[string]pendingLogin // by state
	who     *identity
	work    *work
}

// pendingLogin is a login that has not come back yet.
type pendingLogin struct {
	nonce, verifier string
	at              time.Time
}

// identity is what the ID token said.
type identity struct {
	Subject  string
	Name     string
	ACR      string
	AMR      []string
	AuthTime time.Time
	IDToken  string
}

func (s *session) identity() *identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.who
}

type sessions struct {
	mu   sync.Mutex
	rows map[string]*session
}

func newSessions() *sessions { return &sessions{rows: make(map[string]*session)} }

// get finds the browser's session or starts one.
func (s *sessions) get(w http.ResponseWriter, r *http.Request) (string, *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, err := r.Cookie(sessionCookie); err == nil && len(c.Value) == cookieLength {
		if row, ok := s.rows[c.Value]; ok && time.Since(row.born) < sessionLife {
			return c.Value, row
		}
	}
	return s.begin(w, &session{born: time.Now(), pending: make(map[string]pendingLogin)})
}

// renew gives a session a new name, as must be done when somebody logs in.
func (s *sessions) renew(w http.ResponseWriter, old string, row *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rows, old)
	row.born = time.Now()
	s.begin(w, row)
}

func (s *sessions) end(w http.ResponseWriter, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rows, name)
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1})
}

func (s *sessions) begin(w http.ResponseWriter, row *session) (string, *session) {
	if len(s.rows) >= maxSessions {
		for name, old := range s.rows {
			if time.Since(old.born) > sessionLife || len(s.rows) >= maxSessions {
				delete(s.rows, name)
			}
		}
	}
	name := random()
	s.rows[name] = row
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: name, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
		MaxAge: int(sessionLife.Seconds())})
	return name, row
}

func random() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// expect remembers a login that was started; too many old ones are dropped.
func (s *session) expect(state string, p pendingLogin) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.pending) >= maxPending {
		oldest := ""
		for name, old := range s.pending {
			if oldest == "" || old.at.Before(s.pending[oldest].at) {
				oldest = name
			}
		}
		delete(s.pending, oldest)
	}
	s.pending[state] = p
}

// take gives a login back once.
func (s *session) take(state string) (pendingLogin, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.pending[state]
	delete(s.pending, state)
	return p, ok && time.Since(p.at) < pendingLife
}
