package cms

import (
	"errors"
	"fmt"
)

// Bounds on BER (X.690 §8) that is turned into DER before it is read.
const (
	maxDepth    = 32
	maxElements = 200_000
)

// berElement is one element of BER, with the octets as received.
type berElement struct {
	tag        byte // first identifier octet
	raw        []byte
	body       []byte // content octets, without the end-of-contents octets
	indefinite bool
}

func (e berElement) constructed() bool { return e.tag&0x20 != 0 }

// berReader reads BER within bounds on depth and number of elements, which it
// counts over its whole life.
type berReader struct{ elements int }

var errBER = errors.New("malformed BER")

// header reads identifier and length octets. length is -1 when indefinite.
// Tags above 30 occur nowhere in CMS (X.690 §8.1.2.4 is not read).
func header(in []byte) (tag byte, length, size int, err error) {
	if len(in) < 2 || in[0]&0x1f == 0x1f {
		return 0, 0, 0, errBER
	}
	tag = in[0]
	first := in[1]
	switch {
	case first < 0x80:
		return tag, int(first), 2, nil
	case first == 0x80:
		if tag&0x20 == 0 { // §8.1.3.2: only for constructed encodings
			return 0, 0, 0, errBER
		}
		return tag, -1, 2, nil
	}
	n := int(first & 0x7f)
	if n > 8 || len(in) < 2+n {
		return 0, 0, 0, errBER
	}
	var l uint64
	for _, b := range in[2 : 2+n] {
		l = l<<8 | uint64(b)
	}
	if l > 1<<40 {
		return 0, 0, 0, errBER
	}
	return tag, int(l), 2 + n, nil
}

// next reads one element from the front of in, whole.
func (r *berReader) next(in []byte, depth int) (e berElement, rest []byte, err error) {
	if r.elements++; r.elements > maxElements || depth > maxDepth {
		return e, nil, fmt.Errorf("BER too deep or too many elements")
	}
	tag, length, size, err := header(in)
	if err != nil {
		return e, nil, err
	}
	if length >= 0 {
		if length > len(in)-size {
			return e, nil, errBER
		}
		end := size + length
		return berElement{tag: tag, raw: in[:end:end], body: in[size:end:end]}, in[end:], nil
	}
	// Indefinite: elements up to two zero octets (X.690 §8.1.5).
	at := in[size:]
	for {
		if len(at) >= 2 && at[0] == 0 && at[1] == 0 {
			break
		}
		if _, at, err = r.next(at, depth+1); err != nil {
			return e, nil, err
		}
	}
	end := len(in) - len(at)
	return berElement{tag: tag, raw: in[: end+2 : end+2], body: in[size:end:end], indefinite: true}, in[end+2:], nil
}

// children reads the elements inside a constructed one.
func (r *berReader) children(e berElement, depth int) ([]berElement, error) {
	var list []berElement
	for in := e.body; len(in) > 0; {
		var c berElement
		var err error
		if c, in, err = r.next(in, depth); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// toDER encodes an element with definite, minimal lengths and primitive strings.
// The order of sets, and the values of primitive elements, stay as they are: DER
// readers that follow refuse what is wrong with them. What is DER already is
// returned as it is, and elements that merely look constructed inside an OCTET
// STRING are left alone.
func (r *berReader) toDER(e berElement, depth int) ([]byte, error) {
	if r.elements > maxElements || depth > maxDepth {
		return nil, errBER
	}
	if !e.constructed() {
		if minimal(e) {
			return e.raw, nil
		}
		return tlv(e.tag, e.body), nil
	}
	if e.tag == tagOctets|0x20 || e.tag == 0x20|0x0c || e.tag == 0x20|0x13 || e.tag == 0x20|0x16 {
		body, err := r.joined(e, e.tag&^0x20, depth)
		if err != nil {
			return nil, err
		}
		return tlv(e.tag&^0x20, body), nil
	}
	if e.tag&0xc0 == 0 && e.tag != tagSequence && e.tag != tagSet {
		return nil, errBER // other constructed strings have no business here
	}
	children, err := r.children(e, depth+1)
	if err != nil {
		return nil, err
	}
	changed := e.indefinite || !minimal(e)
	parts := make([][]byte, len(children))
	for i, c := range children {
		if parts[i], err = r.toDER(c, depth+1); err != nil {
			return nil, err
		}
		changed = changed || len(parts[i]) != len(c.raw) || len(c.raw) > 0 && &parts[i][0] != &c.raw[0]
	}
	if !changed {
		return e.raw, nil
	}
	return tlv(e.tag, parts...), nil
}

// joined gives the content of a constructed string: its segments may be
// constructed again (X.690 §8.7.3).
func (r *berReader) joined(e berElement, tag byte, depth int) ([]byte, error) {
	segments, err := r.children(e, depth+1)
	if err != nil {
		return nil, err
	}
	var body []byte
	for _, s := range segments {
		switch s.tag {
		case tag:
			body = append(body, s.body...)
		case tag | 0x20:
			inner, err := r.joined(s, tag, depth+1)
			if err != nil {
				return nil, err
			}
			body = append(body, inner...)
		default:
			return nil, errBER
		}
	}
	return body, nil
}

// minimal tells whether the length octets are those DER asks for.
func minimal(e berElement) bool {
	if e.indefinite {
		return false
	}
	var b [6]byte
	return len(e.raw)-len(e.body) == 1+len(appendLength(b[:0], len(e.body)))
}

// canonical turns one whole BER element into DER.
func canonical(raw []byte) ([]byte, error) {
	r := &berReader{}
	e, rest, err := r.next(raw, 0)
	if err != nil {
		return nil, err
	}
	if len(rest) != 0 {
		return nil, errors.New("not one BER element")
	}
	return r.toDER(e, 0)
}
