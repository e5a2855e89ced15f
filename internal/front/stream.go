package front

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"
)

// streamWrite is how long one event may take to leave; a browser that does not
// read is let go.
const streamWrite = 10 * time.Second

// Stream is an open event stream (HTML Living Standard §9.2). It keeps no
// buffer: one event is one write.
//
// Tens of thousands of browsers may wait at once, so a stream takes its
// connection over from net/http where that is possible (HTTP/1.1): the
// request, its buffers and the stack of its handlers are then let go, and what
// stays is the connection and one small goroutine. That a browser went away is
// noticed at the next write. Over HTTP/2 the handler stays and waits.
type Stream struct {
	ctx     context.Context
	conn    net.Conn // nil where the handler stays
	w       http.ResponseWriter
	control *http.ResponseController
}

// ServeStream answers with an event stream, within the limits per address and
// node, and lets run feed it until run returns. It may return before run does;
// run must not use the request. Fault: too_many_streams.
func ServeStream(w http.ResponseWriter, r *http.Request, run func(*Stream)) error {
	info := infoOf(r)
	if info == nil {
		return errInternal.Because(errors.New("front: a stream outside the shell"))
	}
	shell := info.shell
	release, ok := shell.streams.acquire(info.ip)
	if !ok {
		return errStreams.With("n", "10")
	}
	Waits(w)
	shell.metrics.streams.Inc()
	done := func() {
		shell.metrics.streams.Dec()
		release()
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	s, err := newStream(w, r, shell.ctx)
	if err != nil {
		done()
		return err
	}
	if s.conn == nil {
		defer done()
		run(s)
		return nil
	}
	// From here on nothing may hold on to the request.
	go shell.runStream(s, run, done)
	return nil
}

// WaitOpen counts a request that waits for a change among the open streams, with
// their limits: waiting costs a connection, and anybody may wait. Call release
// when the wait is over. Fault: too_many_streams.
func WaitOpen(w http.ResponseWriter, r *http.Request) (release func(), err error) {
	Waits(w)
	info := infoOf(r)
	if info == nil {
		return func() {}, nil
	}
	release, ok := info.shell.streams.acquire(info.ip)
	if !ok {
		return nil, errStreams.With("n", "10")
	}
	return release, nil
}

func (s *Shell) runStream(stream *Stream, run func(*Stream), done func()) {
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("panic in a stream", "type", typeName(v), "stack", string(debug.Stack()))
		}
		_ = stream.conn.Close()
		done()
	}()
	run(stream)
}

// newStream takes the connection over, or stays within the handler.
func newStream(w http.ResponseWriter, r *http.Request, ctx context.Context) (*Stream, error) {
	control := http.NewResponseController(w)
	conn, _, err := control.Hijack()
	if err != nil {
		w.WriteHeader(http.StatusOK)
		return &Stream{ctx: r.Context(), w: w, control: control}, control.Flush()
	}
	if rec, ok := w.(*recorder); ok {
		rec.status = http.StatusOK
	}
	s := &Stream{ctx: ctx, conn: conn}
	if err := conn.SetDeadline(time.Now().Add(streamWrite)); err != nil {
		_ = conn.Close()
		return nil, http.ErrAbortHandler
	}
	h := w.Header()
	h.Set("Connection", "close") // the end of the stream is the end of the connection (RFC 9112 §6.3)
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	head := &headWriter{buf: append(make([]byte, 0, 1024), "HTTP/1.1 200 OK\r\n"...)}
	if err := h.Write(head); err != nil {
		_ = conn.Close()
		return nil, http.ErrAbortHandler
	}
	if _, err := conn.Write(append(head.buf, "\r\n"...)); err != nil {
		_ = conn.Close()
		return nil, http.ErrAbortHandler
	}
	return s, conn.SetReadDeadline(time.Time{})
}

// headWriter gathers the head of an answer, so that it leaves in one write.
type headWriter struct{ buf []byte }

func (b *headWriter) Write(p []byte) (int, error) {
	b.buf = append(b.buf, p...)
	return len(p), nil
}

// Context ends when the server closes, or with the request where the handler stays.
func (s *Stream) Context() context.Context { return s.ctx }

// Send writes one event. data must not contain a line break.
func (s *Stream) Send(event, data string) error {
	buf := make([]byte, 0, 24+len(event)+len(data))
	buf = append(buf, "event: "...)
	buf = append(buf, event...)
	buf = append(buf, "\ndata: "...)
	buf = append(buf, data...)
	return s.write(append(buf, "\n\n"...))
}

// Ping writes a comment that keeps proxies from closing the connection.
func (s *Stream) Ping() error { return s.write([]byte(": ping\n\n")) }

func (s *Stream) write(p []byte) error {
	if s.conn != nil {
		_ = s.conn.SetWriteDeadline(time.Now().Add(streamWrite))
		_, err := s.conn.Write(p)
		return err
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(streamWrite))
	if _, err := s.w.Write(p); err != nil {
		return err
	}
	return s.control.Flush()
}

// Close ends all streams, so that their browsers connect again, elsewhere.
func (s *Shell) Close() { s.cancel() }

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
