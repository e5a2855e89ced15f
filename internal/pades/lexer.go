package pades

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf16"
)

type kind uint8

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString // literal or hexadecimal; val holds the decoded bytes
	kindName   // val holds the decoded name without its slash
	kindArray
	kindDict
	kindRef
)

// object is a parsed value with the source text it came from, so that what is
// written again is written as it was.
type object struct {
	kind   kind
	raw    []byte
	offset int64 // of raw in the file; -1 in an object stream
	val    []byte
	num    float64
	whole  bool // num is an integer
	ref    ref
	hex    bool
	items  []object // of an array
	keys   []string // of a dictionary, in order
	dict   map[string]object
}

type ref struct{ num, gen int }

func (o object) get(key string) object { return o.dict[key] } // the null object when absent

func (o object) name() string {
	if o.kind != kindName {
		return ""
	}
	return string(o.val)
}

// integer gives a whole number within what file offsets need.
func (o object) integer() (int64, bool) {
	if o.kind != kindNumber || !o.whole || o.num > 1<<52 || o.num < -(1<<52) {
		return 0, false
	}
	return int64(o.num), true
}

// text decodes a text string (ISO 32000-1 §7.9.2.2).
func (o object) text() string {
	if o.kind != kindString {
		return ""
	}
	switch v := o.val; {
	case len(v) >= 2 && v[0] == 0xfe && v[1] == 0xff:
		units := make([]uint16, 0, len(v)/2)
		for i := 2; i+1 < len(v); i += 2 {
			units = append(units, uint16(v[i])<<8|uint16(v[i+1]))
		}
		return string(utf16.Decode(units))
	case bytes.HasPrefix(v, []byte("\xef\xbb\xbf")):
		return string(bytes.ToValidUTF8(v[3:], []byte("\ufffd")))
	default: // PDFDocEncoding; its Latin part is enough for a name in a report
		runes := make([]rune, len(v))
		for i, c := range v {
			runes[i] = rune(c)
		}
		return string(runes)
	}
}

// errShort says that the text ended within an object: a larger window may help.
type errShort struct{}

func (errShort) Error() string { return "the object does not end" }

type lexer struct {
	b    []byte
	pos  int
	base int64 // of b[0] in the file; -1 for an object stream
}

func (l *lexer) bad(format string, a ...any) error {
	return ErrMalformed.Because(fmt.Errorf("near byte %d: %s", l.base+int64(l.pos), fmt.Sprintf(format, a...)))
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '\f' || c == 0
}

func isDelimiter(c byte) bool {
	return bytes.IndexByte([]byte("()<>[]{}/%"), c) >= 0
}

func (l *lexer) skip() {
	for l.pos < len(l.b) {
		switch c := l.b[l.pos]; {
		case isSpace(c):
			l.pos++
		case c == '%':
			for l.pos < len(l.b) && l.b[l.pos] != '\n' && l.b[l.pos] != '\r' {
				l.pos++
			}
		default:
			return
		}
	}
}

// word takes regular characters.
func (l *lexer) word() string {
	start := l.pos
	for l.pos < len(l.b) && !isSpace(l.b[l.pos]) && !isDelimiter(l.b[l.pos]) {
		l.pos++
	}
	return string(l.b[start:l.pos])
}

// keyword takes one expected word.
func (l *lexer) keyword(want string) error {
	l.skip()
	start := l.pos
	if got := l.word(); got != want {
		l.pos = start
		if l.pos+len(want) > len(l.b) {
			return errShort{}
		}
		return l.bad("%q expected", want)
	}
	return nil
}

// uint takes an unsigned integer word.
func (l *lexer) uint() (int64, error) {
	l.skip()
	w := l.word()
	if l.pos >= len(l.b) && len(w) < 20 {
		return 0, errShort{}
	}
	n, err := strconv.ParseUint(w, 10, 52)
	if err != nil {
		return 0, l.bad("a number was expected")
	}
	return int64(n), nil
}

func (l *lexer) object(depth int) (object, error) {
	if depth > maxDepth {
		return object{}, ErrTooLarge.Because(fmt.Errorf("nested deeper than %d", maxDepth))
	}
	l.skip()
	if l.pos >= len(l.b) {
		return object{}, errShort{}
	}
	start := l.pos
	var (
		o   object
		err error
	)
	switch c := l.b[l.pos]; {
	case c == '/':
		o, err = l.nameObject()
	case c == '(':
		o, err = l.literal()
	case c == '[':
		o, err = l.array(depth)
	case c == '<' && l.pos+1 < len(l.b) && l.b[l.pos+1] == '<':
		o, err = l.dictionary(depth)
	case c == '<':
		o, err = l.hexString()
	default:
		o, err = l.scalar()
	}
	if err != nil {
		return object{}, err
	}
	o.raw = l.b[start:l.pos]
	o.offset = -1
	if l.base >= 0 {
		o.offset = l.base + int64(start)
	}
	return o, nil
}

func (l *lexer) nameObject() (object, error) {
	l.pos++
	w := l.word()
	if l.pos >= len(l.b) {
		return object{}, errShort{}
	}
	val := make([]byte, 0, len(w))
	for i := 0; i < len(w); i++ {
		if w[i] == '#' && i+2 < len(w) {
			if n, err := strconv.ParseUint(w[i+1:i+3], 16, 8); err == nil {
				val = append(val, byte(n))
				i += 2
				continue
			}
		}
		val = append(val, w[i])
	}
	return object{kind: kindName, val: val}, nil
}

// scalar takes a number, a reference, true, false or null.
func (l *lexer) scalar() (object, error) {
	w := l.word()
	if l.pos >= len(l.b) {
		return object{}, errShort{}
	}
	switch w {
	case "true", "false":
		return object{kind: kindBool, whole: w == "true"}, nil
	case "null":
		return object{}, nil
	case "":
		return object{}, l.bad("unexpected %q", l.b[l.pos])
	}
	for _, c := range []byte(w) {
		if (c < '0' || c > '9') && c != '+' && c != '-' && c != '.' {
			return object{}, l.bad("unexpected word %.20q", w)
		}
	}
	n, err := strconv.ParseFloat(w, 64)
	if err != nil {
		return object{}, l.bad("bad number %.20q", w)
	}
	_, notWhole := strconv.ParseInt(w, 10, 64)
	o := object{kind: kindNumber, num: n, whole: notWhole == nil}
	if !o.whole || n < 0 || n > maxObjectNum || w[0] == '+' {
		return o, nil
	}
	return l.reference(o)
}

// reference looks for "generation R" behind an integer.
func (l *lexer) reference(number object) (object, error) {
	back := l.pos
	l.skip()
	w := l.word()
	if l.pos >= len(l.b) {
		return object{}, errShort{}
	}
	gen, err := strconv.ParseUint(w, 10, 16)
	if err != nil {
		l.pos = back
		return number, nil
	}
	l.skip()
	if l.pos >= len(l.b) {
		return object{}, errShort{}
	}
	if l.word() != "R" {
		l.pos = back
		return number, nil
	}
	return object{kind: kindRef, ref: ref{int(number.num), int(gen)}}, nil
}

func (l *lexer) literal() (object, error) {
	l.pos++
	var val []byte
	for depth := 1; ; {
		if l.pos >= len(l.b) {
			return object{}, errShort{}
		}
		c := l.b[l.pos]
		l.pos++
		switch c {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return object{kind: kindString, val: val}, nil
			}
		case '\\':
			if l.pos+3 >= len(l.b) {
				return object{}, errShort{}
			}
			val = l.escape(val)
			continue
		}
		val = append(val, c)
	}
}

func (l *lexer) escape(val []byte) []byte {
	c := l.b[l.pos]
	l.pos++
	switch c {
	case 'n':
		return append(val, '\n')
	case 'r':
		return append(val, '\r')
	case 't':
		return append(val, '\t')
	case 'b':
		return append(val, '\b')
	case 'f':
		return append(val, '\f')
	case '\r':
		if l.b[l.pos] == '\n' {
			l.pos++
		}
		return val
	case '\n':
		return val
	}
	if c < '0' || c > '7' {
		return append(val, c)
	}
	n := int(c - '0')
	for i := 0; i < 2 && l.b[l.pos] >= '0' && l.b[l.pos] <= '7'; i++ {
		n = n<<3 | int(l.b[l.pos]-'0')
		l.pos++
	}
	return append(val, byte(n))
}

func (l *lexer) hexString() (object, error) {
	l.pos++
	end := bytes.IndexByte(l.b[l.pos:], '>')
	if end < 0 {
		return object{}, errShort{}
	}
	val := make([]byte, 0, end/2+1)
	half, have := byte(0), false
	for _, c := range l.b[l.pos : l.pos+end] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		case isSpace(c):
			continue
		default:
			return object{}, l.bad("no hexadecimal digit")
		}
		if have {
			val = append(val, half<<4|c)
		}
		half, have = c, !have
	}
	if have {
		val = append(val, half<<4)
	}
	l.pos += end + 1
	return object{kind: kindString, val: val, hex: true}, nil
}

func (l *lexer) array(depth int) (object, error) {
	l.pos++
	o := object{kind: kindArray}
	for {
		l.skip()
		if l.pos >= len(l.b) {
			return object{}, errShort{}
		}
		if l.b[l.pos] == ']' {
			l.pos++
			return o, nil
		}
		item, err := l.object(depth + 1)
		if err != nil {
			return object{}, err
		}
		o.items = append(o.items, item)
	}
}

// dictionary refuses a key that is there twice: readers differ in which one counts.
func (l *lexer) dictionary(depth int) (object, error) {
	l.pos += 2
	o := object{kind: kindDict, dict: map[string]object{}}
	for {
		l.skip()
		if l.pos+1 >= len(l.b) {
			return object{}, errShort{}
		}
		if l.b[l.pos] == '>' && l.b[l.pos+1] == '>' {
			l.pos += 2
			return o, nil
		}
		if l.b[l.pos] != '/' {
			return object{}, l.bad("a dictionary's key is no name")
		}
		key, err := l.nameObject()
		if err != nil {
			return object{}, err
		}
		value, err := l.object(depth + 1)
		if err != nil {
			return object{}, err
		}
		if _, twice := o.dict[string(key.val)]; twice {
			return object{}, l.bad("key %.40q is there twice", key.val)
		}
		o.keys = append(o.keys, string(key.val))
		o.dict[string(key.val)] = value
	}
}
