package api_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/pb33f/libopenapi-validator/paths"
)

// exchange is one call and its answer, as they went over the wire.
type exchange struct {
	request  *http.Request
	sent     []byte
	response *http.Response
	received []byte
}

// recorder is a transport that keeps what passes.
type recorder struct {
	mu   sync.Mutex
	seen []exchange
}

// RoundTrip passes a call on. Event streams are kept without their body.
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	var e exchange
	if req.Body != nil {
		e.sent, _ = io.ReadAll(req.Body)
		req.Body = http.NoBody
		if len(e.sent) > 0 {
			req.Body = io.NopCloser(bytes.NewReader(e.sent))
		}
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		if e.received, err = io.ReadAll(res.Body); err != nil {
			return nil, err
		}
		_ = res.Body.Close()
		res.Body = io.NopCloser(bytes.NewReader(e.received))
	}
	e.request = req.Clone(req.Context())
	kept := *res
	e.response = &kept
	r.mu.Lock()
	r.seen = append(r.seen, e)
	r.mu.Unlock()
	return res, nil
}

// operation finds the document's operation for a call, "" for pages.
func (d *document) operation(req *http.Request) string {
	_, errs, path := paths.FindPath(req, d.model, nil)
	if len(errs) > 0 || path == "" {
		return ""
	}
	return req.Method + " " + path
}
