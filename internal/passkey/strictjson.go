package passkey

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// jsonReader reads RFC 8259 text more strictly than encoding/json, in one pass
// and mostly without copying: names are case-sensitive, a name that repeats in
// one object is refused, depth and members are bounded, strings are valid UTF-8
// without lone surrogates.
type jsonReader struct {
	data []byte
	pos  int
}

const (
	maxJSONDepth   = 8
	maxJSONMembers = 64
)

var errJSON = errors.New("not strict JSON")

func (r *jsonReader) space() {
	for r.pos < len(r.data) {
		switch r.data[r.pos] {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return
		}
	}
}

// peek gives the next byte that is not white space, 0 at the end.
func (r *jsonReader) peek() byte {
	r.space()
	if r.pos == len(r.data) {
		return 0
	}
	return r.data[r.pos]
}

func (r *jsonReader) take(b byte) error {
	if r.peek() != b {
		return errJSON
	}
	r.pos++
	return nil
}

// end checks that nothing follows.
func (r *jsonReader) end() error {
	if r.space(); r.pos != len(r.data) {
		return errors.New("something follows the JSON value")
	}
	return nil
}

// object reads an object and calls member with each name; member must read the
// value. known are the names that member understands: the same name in other
// letter case is refused, because other readers might take it for the same.
func (r *jsonReader) object(depth int, known []string, member func(name []byte) error) error {
	if depth > maxJSONDepth {
		return errors.New("JSON is too deep")
	}
	if err := r.take('{'); err != nil {
		return err
	}
	if r.peek() == '}' {
		r.pos++
		return nil
	}
	var space [16][]byte
	seen := space[:0]
	for {
		if r.peek() != '"' {
			return errJSON
		}
		name, err := r.str()
		if err != nil {
			return err
		}
		for _, s := range seen {
			if bytes.Equal(s, name) {
				return errors.New("a JSON name repeats")
			}
		}
		if len(seen) == maxJSONMembers {
			return errors.New("too many JSON members")
		}
		seen = append(seen, name)
		for _, k := range known {
			if len(name) >= len(k) && string(name) != k && bytes.EqualFold(name, []byte(k)) {
				return errors.New("a JSON name is in other letter case")
			}
		}
		if err := r.take(':'); err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
		switch r.peek() {
		case ',':
			r.pos++
		case '}':
			r.pos++
			return nil
		default:
			return errJSON
		}
	}
}

// str reads a string. The result points into the data unless it has escapes.
func (r *jsonReader) str() ([]byte, error) {
	if r.peek() != '"' {
		return nil, errJSON
	}
	start := r.pos + 1
	escaped, ascii := false, true
	for i := start; i < len(r.data); i++ {
		switch c := r.data[i]; {
		case c == '"':
			r.pos = i + 1
			raw := r.data[start:i]
			if escaped {
				return unescape(r.data[start-1 : i+1])
			}
			if !ascii && !utf8.Valid(raw) {
				return nil, errors.New("a JSON string is not UTF-8")
			}
			return raw, nil
		case c == '\\':
			escaped = true
			i++
		case c < 0x20:
			return nil, errJSON
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, errJSON
}

// unescape decodes a quoted string with escapes. It is rare, so the standard
// decoder does it; what it would repair (bad UTF-8, lone surrogates) is refused.
func unescape(quoted []byte) ([]byte, error) {
	if !utf8.Valid(quoted) {
		return nil, errors.New("a JSON string is not UTF-8")
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return nil, errJSON
	}
	if bytes.ContainsRune([]byte(s), utf8.RuneError) {
		return nil, errors.New("a JSON string has a lone surrogate")
	}
	return []byte(s), nil
}

// boolean reads true or false.
func (r *jsonReader) boolean() (bool, error) {
	switch r.peek() {
	case 't':
		return true, r.literal("true")
	case 'f':
		return false, r.literal("false")
	}
	return false, errJSON
}

func (r *jsonReader) literal(s string) error {
	if !bytes.HasPrefix(r.data[r.pos:], []byte(s)) {
		return errJSON
	}
	r.pos += len(s)
	return nil
}

// skip reads any value and drops it, with the same strictness.
func (r *jsonReader) skip(depth int) error {
	if depth > maxJSONDepth {
		return errors.New("JSON is too deep")
	}
	switch c := r.peek(); {
	case c == '{':
		return r.object(depth, nil, func([]byte) error { return r.skip(depth + 1) })
	case c == '[':
		return r.array(depth, func() error { return r.skip(depth + 1) })
	case c == '"':
		_, err := r.str()
		return err
	case c == 't':
		return r.literal("true")
	case c == 'f':
		return r.literal("false")
	case c == 'n':
		return r.literal("null")
	case c == '-' || c >= '0' && c <= '9':
		return r.number()
	}
	return errJSON
}

// array reads an array and calls element before each element.
func (r *jsonReader) array(depth int, element func() error) error {
	if depth > maxJSONDepth {
		return errors.New("JSON is too deep")
	}
	if err := r.take('['); err != nil {
		return err
	}
	if r.peek() == ']' {
		r.pos++
		return nil
	}
	for range maxJSONMembers {
		if err := element(); err != nil {
			return err
		}
		switch r.peek() {
		case ',':
			r.pos++
		case ']':
			r.pos++
			return nil
		default:
			return errJSON
		}
	}
	return errors.New("too many JSON elements")
}

func (r *jsonReader) number() error {
	start := r.pos
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; {
		case c >= '0' && c <= '9', c == '-', c == '+', c == '.', c == 'e', c == 'E':
			r.pos++
			continue
		}
		break
	}
	if r.pos-start > 64 || !json.Valid(r.data[start:r.pos]) {
		return errJSON
	}
	return nil
}
