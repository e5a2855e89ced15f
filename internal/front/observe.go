package front

import (
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts requests by route pattern, never by path: the number of
// series stays fixed and no order id gets into them.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	streams  prometheus.Gauge
	limited  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sealgate_http_requests_total",
			Help: "Requests answered, by route, method and status."}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sealgate_http_request_seconds",
			Help:    "Time to answer, by route; event streams and long polls are left out.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}}, []string{"route"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sealgate_http_streams",
			Help: "Event streams that are open on this node."}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sealgate_rate_limited_total",
			Help: "Requests refused because an address, or everybody together, asked too much."}, []string{"what"}),
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(reg.Register(m.requests), reg.Register(m.seconds), reg.Register(m.streams), reg.Register(m.limited))
}

// recorder remembers status and size of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	size   int64
	waits  bool // an event stream or long poll: its duration says nothing
}

func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 && status >= 200 {
		rec.status = status
	}
	rec.ResponseWriter.WriteHeader(status)
}

func (rec *recorder) Write(p []byte) (int, error) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	n, err := rec.ResponseWriter.Write(p)
	rec.size += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// Waits marks a request whose duration is waiting and not work, so that it
// stays out of the time metric.
func Waits(w http.ResponseWriter) {
	if rec, ok := w.(*recorder); ok {
		rec.waits = true
	}
}

// observe recovers from panics, writes the access log and counts. The log has
// the route pattern and never the path, the query, an address or a name.
func (s *Shell) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w}
		start := time.Now()
		defer func() {
			if v := recover(); v != nil {
				s.panicked(rec, r, v)
			}
			s.account(rec, r, time.Since(start))
		}()
		next.ServeHTTP(rec, r)
	})
}

func (s *Shell) panicked(rec *recorder, r *http.Request, v any) {
	if v == http.ErrAbortHandler {
		panic(v)
	}
	// The value may quote what came in, so only its type is logged.
	s.log.Error("panic", "request", RequestID(r), "route", routeOf(r), "type", typeName(v), "stack", string(debug.Stack()))
	if rec.status == 0 {
		Fail(rec, r, errInternal)
	}
}

func (s *Shell) account(rec *recorder, r *http.Request, took time.Duration) {
	route, status := routeOf(r), rec.status
	if status == 0 {
		status = http.StatusOK
	}
	s.metrics.requests.WithLabelValues(route, methodOf(r), strconv.Itoa(status)).Inc()
	if !rec.waits {
		s.metrics.seconds.WithLabelValues(route).Observe(took.Seconds())
	}
	level := slog.LevelInfo
	if route == "/assets/*" || route == "/healthz" || route == "/readyz" {
		level = slog.LevelDebug
	}
	if !s.log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request", RequestID(r)), slog.String("method", methodOf(r)), slog.String("route", route),
		slog.Int("status", status), slog.Int64("bytes", rec.size), slog.Float64("ms", float64(took.Microseconds())/1000),
	}
	if info := infoOf(r); info != nil && info.code != "" {
		attrs = append(attrs, slog.String("code", info.code))
	}
	s.log.LogAttrs(r.Context(), level, "http", attrs...)
}

func routeOf(r *http.Request) string {
	if c := chi.RouteContext(r.Context()); c != nil {
		if p := c.RoutePattern(); p != "" {
			return p
		}
	}
	return "none"
}

// methodOf keeps invented methods out of labels and logs.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "other"
}
