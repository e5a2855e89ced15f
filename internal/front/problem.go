package front

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/i18n"
)

// Problem is the JSON form of a fault (RFC 9457). Title names the class of
// trouble, Detail says what happened, NextStep what to do; Code is stable.
type Problem struct {
	Type     string            `json:"type"`
	Title    string            `json:"title"`
	Status   int               `json:"status"`
	Detail   string            `json:"detail"`
	Code     string            `json:"code"`
	NextStep string            `json:"next_step"`
	Instance string            `json:"instance"`
	Params   map[string]string `json:"params,omitempty"`
}

// statusOf is the one place where a kind becomes an HTTP status.
func statusOf(f *fault.Error) int {
	if f.Is(errMethod) {
		return http.StatusMethodNotAllowed
	}
	if f.Is(errMediaType) {
		return http.StatusUnsupportedMediaType
	}
	switch f.Kind {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Forbidden:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.Gone:
		return http.StatusGone
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.Unprocessable:
		return http.StatusUnprocessableEntity
	case fault.TooMany:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// WriteProblem answers a fault as application/problem+json. Anything that is
// not a *fault.Error becomes a bland 500; its cause goes to the log only.
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	f, status := settle(w, r, err)
	info := infoOf(r)
	if info == nil {
		writeJSON(w, status, "application/problem+json", Problem{Type: "about:blank", Title: http.StatusText(status),
			Status: status, Code: f.Code, Params: f.Params})
		return
	}
	happened, next := faultTexts(info.shell.catalogue, Lang(r), f)
	writeJSON(w, status, "application/problem+json", Problem{
		Type:   info.shell.origin + "/help/errors#" + f.Code,
		Title:  info.shell.catalogue.T(Lang(r), "problem."+strconv.Itoa(status)),
		Status: status, Detail: happened, Code: f.Code, NextStep: next, Instance: info.id, Params: f.Params,
	})
}

// ErrorPage answers a fault as a page: what happened, what to do next, and the
// short code and time to tell the help desk.
func ErrorPage(w http.ResponseWriter, r *http.Request, err error) {
	ErrorPageTo(w, r, err, "", "")
}

// ErrorPageTo is ErrorPage with a main button: the catalogue key of its text
// and the address it leads to.
func ErrorPageTo(w http.ResponseWriter, r *http.Request, err error, buttonKey, href string) {
	info := infoOf(r)
	if info == nil {
		WriteProblem(w, r, err)
		return
	}
	f, status := settle(w, r, err)
	happened, next := faultTexts(info.shell.catalogue, Lang(r), f)
	if buttonKey == "" {
		buttonKey, href = "error.home", "/"
	}
	defaultsForPage(w)
	info.shell.render.Page(w, r, status, "pages/error", ErrorData{
		Happened: happened, Next: next, Code: f.Code, Button: buttonKey, Href: href, At: time.Now()})
}

// ErrorData is what the error page shows.
type ErrorData struct {
	Happened, Next, Code string
	Button, Href         string
	At                   time.Time
}

// Fail answers as a page when the one who asks wants HTML, else as a problem.
func Fail(w http.ResponseWriter, r *http.Request, err error) {
	if strings.HasPrefix(r.URL.Path, "/api/") || !strings.Contains(r.Header.Get("Accept"), "text/html") {
		WriteProblem(w, r, err)
		return
	}
	ErrorPage(w, r, err)
}

// settle turns an error into a fault and a status, and logs what is our own doing.
func settle(w http.ResponseWriter, r *http.Request, err error) (*fault.Error, int) {
	f := fault.From(err)
	status := statusOf(f)
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((f.RetryAfter+time.Second-1)/time.Second)))
	}
	info := infoOf(r)
	if info == nil {
		return f, status
	}
	info.code = f.Code
	info.record(r, f)
	if cause := f.Unwrap(); cause != nil && r.Context().Err() == nil {
		level := slog.LevelInfo
		if status >= 500 {
			level = slog.LevelError
		}
		info.shell.log.Log(r.Context(), level, "fault", "request", info.id, "code", f.Code, "cause", cause.Error())
	}
	return f, status
}

// ownRefusals are the faults that the shell finds before any service is asked.
var ownRefusals = map[string]bool{
	errMalformed.Code: true, errUnknownField.Code: true, errTooLarge.Code: true, errMediaType.Code: true, errCrossOrigin.Code: true,
	ErrBrowserRequired.Code: true, ErrSessionRequired.Code: true,
}

// recordTime bounds the writing of an entry.
const recordTime = 3 * time.Second

// record writes the one audit entry of a request that the shell refused. What
// only wanted to look leaves none; services write their own.
func (info *request) record(r *http.Request, f *fault.Error) {
	if info.shell.refused == nil || info.recorded || !ownRefusals[f.Code] || r.Method == http.MethodGet || r.Method == http.MethodHead {
		return
	}
	info.recorded = true
	e := audit.New(audit.RequestRefused).ByBrowser().With(audit.KeyRoute, routeOf(r))
	if info.ip.IsValid() {
		e = e.From(info.ip)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), recordTime)
	defer cancel()
	if err := info.shell.refused(ctx, e.Refuse(f.Code)); err != nil {
		info.shell.log.ErrorContext(ctx, "audit entry of a refusal was not written", "code", f.Code, "error", err)
	}
}

// Recorded says that the door itself has written the audit entry of this
// request's refusal.
func Recorded(r *http.Request) {
	if info := infoOf(r); info != nil {
		info.recorded = true
	}
}

// faultTexts are the sentences of a fault. A parameter that is a time (RFC 3339)
// is written as the language writes times.
func faultTexts(c *i18n.Catalogue, lang i18n.Lang, f *fault.Error) (happened, next string) {
	key := "fault." + f.Code
	if _, ok := c.Lookup(lang, key); !ok {
		key = "fault.internal"
	}
	params := make([]string, 0, 2*len(f.Params))
	for k, v := range f.Params {
		if at, err := time.Parse(time.RFC3339, v); err == nil {
			v = i18n.DateTime(lang, at)
		}
		params = append(params, k, v)
	}
	return c.T(lang, key, params...), c.T(lang, key+".next", params...)
}

func typeName(v any) string { return fmt.Sprintf("%T", v) }
