package front

import (
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// streamWrite is how long one event may take to leave; a browser that does not
// read is let go.
const streamWrite = 10 * time.Second

// Stream is an open event stream (HTML Living Standard §9.2). It keeps no
// buffer of its own: one event is one write and one flush.
type Stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     []byte
	release func()
}

// OpenStream begins an event stream, within the limits per address and node.
// Close it when done. Fault: too_many_streams.
func OpenStream(w http.ResponseWriter, r *http.Request) (*Stream, error) {
	release := func() {}
	if info := infoOf(r); info != nil {
		var ok bool
		if release, ok = info.shell.streams.acquire(info.ip); !ok {
			return nil, errStreams.With("n", "10")
		}
		info.shell.metrics.streams.Inc()
		inner := release
		release = func() { info.shell.metrics.streams.Dec(); inner() }
	}
	Waits(w)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	s := &Stream{w: w, control: http.NewResponseController(w), release: release}
	w.WriteHeader(http.StatusOK)
	return s, nil
}

// Send writes one event. data must not contain a line break.
func (s *Stream) Send(event, data string) error {
	s.buf = append(s.buf[:0], "event: "...)
	s.buf = append(s.buf, event...)
	s.buf = append(s.buf, "\ndata: "...)
	s.buf = append(s.buf, data...)
	s.buf = append(s.buf, "\n\n"...)
	return s.flush()
}

// Ping writes a comment that keeps proxies from closing the connection.
func (s *Stream) Ping() error {
	s.buf = append(s.buf[:0], ": ping\n\n"...)
	return s.flush()
}

func (s *Stream) flush() error {
	_ = s.control.SetWriteDeadline(time.Now().Add(streamWrite))
	if _, err := s.w.Write(s.buf); err != nil {
		return err
	}
	return s.control.Flush()
}

// Close gives the place of the stream back.
func (s *Stream) Close() {
	s.release()
	_ = s.control.SetWriteDeadline(time.Time{})
}

// streamLimit counts open streams per address (IPv6 by /64) and in all.
type streamLimit struct {
	perIP, total int
	mu           sync.Mutex
	open         int
	byIP         map[netip.Addr]int
}

func newStreamLimit(perIP, total int) *streamLimit {
	if perIP <= 0 {
		perIP = 4000
	}
	if total <= 0 {
		total = 50000
	}
	return &streamLimit{perIP: perIP, total: total, byIP: map[netip.Addr]int{}}
}

func (l *streamLimit) acquire(ip netip.Addr) (release func(), ok bool) {
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			ip = p.Addr()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.total || l.byIP[ip] >= l.perIP {
		return nil, false
	}
	l.open++
	l.byIP[ip]++
	return func() { l.giveBack(ip) }, true
}

func (l *streamLimit) giveBack(ip netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.byIP[ip]--; l.byIP[ip] <= 0 {
		delete(l.byIP, ip)
	}
}
