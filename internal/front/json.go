package front

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds how deep JSON that arrives may nest.
const maxDepth = 24

// DecodeJSON reads a JSON body of at most max bytes into v, strictly: the media
// type must be application/json, the text must be one value of valid UTF-8 with
// nothing behind it, no object may have a member twice (names compared without
// case, as encoding/json matches them) and every member must be known to v.
// Faults: request_too_large, request_media_type, request_malformed,
// request_unknown_field.
func DecodeJSON(r *http.Request, v any, max int64) error {
	mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mt != "application/json" {
		return errMediaType
	}
	body, err := ReadBody(r, max)
	if err != nil {
		return err
	}
	return decodeStrict(body, v)
}

// ReadBody reads a body of at most max bytes; more is request_too_large.
func ReadBody(r *http.Request, max int64) ([]byte, error) {
	if r.Body == nil {
		return nil, errMalformed
	}
	if r.ContentLength > max {
		return nil, errTooLarge
	}
	var buf bytes.Buffer
	if r.ContentLength > 0 {
		buf.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(r.Body, max+1))
	var limit *http.MaxBytesError
	switch {
	case n > max || errors.As(err, &limit):
		return nil, errTooLarge
	case err != nil:
		return nil, errMalformed.Because(err)
	}
	return buf.Bytes(), nil
}

func decodeStrict(body []byte, v any) error {
	if !utf8.Valid(body) || !json.Valid(body) {
		return errMalformed
	}
	if err := checkMembers(body); err != nil {
		return errMalformed.Because(err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return errUnknownField.With("field", clip(strings.Trim(name, `"`), 60))
		}
		return errMalformed // without the cause: it may quote a value that came in
	}
	return nil
}

// ParseJSON reads JSON that came in by another way than as a body of ours, or
// by a protocol in which members may be added: as strictly as DecodeJSON, but
// members that v does not know are left aside.
func ParseJSON(text []byte, v any) error {
	if !utf8.Valid(text) || !json.Valid(text) {
		return errMalformed
	}
	if err := checkMembers(text); err != nil {
		return errMalformed.Because(err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return errMalformed // without the cause: it may quote a value that came in
	}
	return nil
}

// checkMembers walks JSON that is known to be valid and refuses a member name
// that stands twice in one object, a name with an escape (no name of ours needs
// one, and it could hide a second spelling), and nesting beyond maxDepth.
func checkMembers(b []byte) error {
	var stack [maxDepth][]string
	var object [maxDepth]bool
	depth, name := -1, false
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			if depth++; depth == maxDepth {
				return errors.New("nested too deep")
			}
			object[depth], stack[depth] = b[i] == '{', stack[depth][:0]
			name = object[depth]
		case '}', ']':
			depth--
			name = false
		case ',':
			name = depth >= 0 && object[depth]
		case '"':
			end, escaped := stringEnd(b, i+1)
			if name {
				if escaped {
					return errors.New("escape in a member name")
				}
				key := string(b[i+1 : end])
				for _, seen := range stack[depth] {
					if strings.EqualFold(seen, key) {
						return fmt.Errorf("member %q stands twice", clip(key, 60))
					}
				}
				if len(stack[depth]) >= 1000 {
					return errors.New("too many members")
				}
				stack[depth] = append(stack[depth], key)
				name = false
			}
			i = end
		}
	}
	return nil
}

// stringEnd gives the index of the closing quote of a string that begins at i.
func stringEnd(b []byte, i int) (end int, escaped bool) {
	for ; i < len(b); i++ {
		switch b[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			return i, escaped
		}
	}
	return len(b) - 1, escaped
}

func clip(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max]
}

// WriteJSON answers with a JSON value.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	writeJSON(w, status, "application/json", v)
}

func writeJSON(w http.ResponseWriter, status int, mediaType string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
