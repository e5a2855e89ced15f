package front

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"sealgate/internal/audit"
	"sealgate/internal/throttle"
)

// Limits bound what people whom nobody knows yet may ask of this node. Nil is
// no limit.
type Limits struct {
	// Starts are orders begun: logins, bindings, signatures of one's own files,
	// lost cards, and the opening of start links.
	Starts *throttle.Limit
	// Claims are what phones ask without a session: taking orders, answering
	// them, challenges and sessions.
	Claims *throttle.Limit
	// Verifications are signatures to be judged.
	Verifications *throttle.Limit
}

// limited is the class of a request that is counted.
type limited string

const (
	free   limited = ""
	starts limited = "starts"
	claims limited = "claims"
	judged limited = "verifications"
)

// classOf decides by method and path, before any route is found.
func classOf(r *http.Request) limited {
	path := r.URL.Path
	switch r.Method {
	case http.MethodGet:
		if path == "/oauth2/authorize" || path == "/csc/v2/oauth2/authorize" || path == "/session/login" {
			return starts
		}
	case http.MethodPost:
		switch {
		case path == "/enrol/card", path == "/sign/orders", path == "/lost/statements",
			strings.HasPrefix(path, "/o/") && strings.HasSuffix(path, "/open"):
			return starts
		case path == "/api/device/v1/claims", path == "/api/device/v1/sessions", path == "/api/device/v1/sessions/options",
			strings.HasPrefix(path, "/api/device/v1/orders/"), strings.HasPrefix(path, "/o/"):
			return claims
		case path == verificationsPath, strings.HasPrefix(path, verificationsPath+"/"):
			return judged
		}
	}
	return free
}

// limit answers 429 where an address, or everybody together, asks too much. Such
// a request costs nothing but this look: no database, and an entry only in a sum.
func (s *Shell) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		class := classOf(r)
		var l *throttle.Limit
		switch class {
		case starts:
			l = s.limits.Starts
		case claims:
			l = s.limits.Claims
		case judged:
			l = s.limits.Verifications
		}
		wait, ok := l.Take(ClientIP(r))
		if ok {
			next.ServeHTTP(w, r)
			return
		}
		s.metrics.limited.WithLabelValues(string(class)).Inc()
		if s.counted != nil {
			e := audit.New(audit.RequestRefused).ByBrowser()
			if ip := ClientIP(r); ip.IsValid() {
				e = e.From(ip)
			}
			s.counted(e.Refuse(ErrRateLimited.Code))
		}
		f := ErrRateLimited.With("n", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
		f.RetryAfter = wait
		Fail(w, r, f)
	})
}
