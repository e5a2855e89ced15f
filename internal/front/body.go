package front

import (
	"io"
	"net/http"
)

// boundedBody is a body under the ordinary limit that knows the whole one.
type boundedBody struct {
	io.ReadCloser
	whole io.ReadCloser
}

// AllowBody lets a handler read a body of up to most bytes instead of the
// ordinary limit. It is called before anything is read, and after the caller is
// known to be somebody who may send so much.
func AllowBody(w http.ResponseWriter, r *http.Request, most int64) {
	if b, ok := r.Body.(*boundedBody); ok {
		r.Body = http.MaxBytesReader(w, b.whole, most)
	}
}
