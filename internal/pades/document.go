package pades

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// entry says where an object is (ISO 32000-1 §7.5.4, §7.5.8).
type entry struct {
	used   bool
	offset int64 // in the file; when inside is not 0, the index in that object stream
	gen    int
	inside int
}

// document is a PDF's structure, read as far as asked for.
type document struct {
	ctx     context.Context
	r       io.ReaderAt
	size    int64
	entries map[int]entry
	trailer object // of the newest section
	start   int64  // offset of the newest section
	streams bool   // the newest section is a stream
	budget  int64  // of decoded bytes left
	loads   int
	packed  map[int]packed // decoded object streams
	free    []int          // of the table being read
}

type packed struct {
	numbers []int
	starts  []int
	data    []byte
}

const window = 4096

// open reads a document's cross-reference sections, newest first.
func open(ctx context.Context, r io.ReaderAt, size int64) (*document, error) {
	d := &document{ctx: ctx, r: r, size: size, entries: map[int]entry{}, budget: maxDecoded, packed: map[int]packed{}}
	head, err := d.read(0, 8)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(head, []byte("%PDF-")) {
		return nil, ErrMalformed.Because(errors.New("no PDF header"))
	}
	if d.start, err = d.startxref(); err != nil {
		return nil, err
	}
	if err := d.sections(); err != nil {
		return nil, err
	}
	if d.trailer.get("Root").kind != kindRef {
		return nil, ErrMalformed.Because(errors.New("no catalog"))
	}
	return d, nil
}

// read gives up to n bytes at an offset; fewer only at the end of the file.
func (d *document) read(at int64, n int) ([]byte, error) {
	if err := d.ctx.Err(); err != nil {
		return nil, err
	}
	if at < 0 || at >= d.size {
		return nil, ErrMalformed.Because(fmt.Errorf("offset %d is outside the file", at))
	}
	b := make([]byte, min(int64(n), d.size-at))
	got, err := d.r.ReadAt(b, at)
	if got < len(b) {
		return nil, fmt.Errorf("reading the document: %w", err)
	}
	return b, nil
}

// startxref finds the newest section. Behind the end mark may only be white space.
func (d *document) startxref() (int64, error) {
	from := max(0, d.size-1024)
	tail, err := d.read(from, 1024)
	if err != nil {
		return 0, err
	}
	at := bytes.LastIndex(tail, []byte("startxref"))
	if at < 0 {
		return 0, ErrMalformed.Because(errors.New("no startxref"))
	}
	l := &lexer{b: append(tail, ' '), pos: at + len("startxref"), base: from}
	n, err := l.uint()
	if err != nil {
		return 0, malformed(err)
	}
	for l.pos < len(l.b) && isSpace(l.b[l.pos]) {
		l.pos++
	}
	rest, ok := bytes.CutPrefix(l.b[l.pos:], []byte("%%EOF"))
	if !ok || len(bytes.Trim(rest, " \t\r\n\f\x00")) > 0 {
		return 0, ErrMalformed.Because(errors.New("no end mark at the end"))
	}
	return n, nil
}

// malformed turns "too short" at the end of a file into what it is then.
func malformed(err error) error {
	if errors.As(err, &errShort{}) {
		return ErrMalformed.Because(err)
	}
	return err
}

func (d *document) sections() error {
	seen := map[int64]bool{}
	for at := d.start; ; {
		if seen[at] || len(seen) >= maxSections {
			return ErrMalformed.Because(errors.New("cross-reference sections form a circle, or are too many"))
		}
		seen[at] = true
		trailer, stream, err := d.section(at)
		if err != nil {
			return err
		}
		if len(seen) == 1 {
			d.trailer, d.streams = trailer, stream
		}
		if trailer.get("Encrypt").kind != kindNull {
			return ErrEncrypted
		}
		prev := trailer.get("Prev")
		if prev.kind == kindNull {
			return nil
		}
		n, ok := prev.integer()
		if !ok {
			return ErrMalformed.Because(errors.New("/Prev is no offset"))
		}
		at = n
	}
}

// add keeps the newest entry of an object.
func (d *document) add(num int, e entry) error {
	if _, newer := d.entries[num]; newer {
		return nil
	}
	if len(d.entries) >= maxObjects || num > maxObjectNum {
		return ErrTooLarge.Because(errors.New("too many objects"))
	}
	d.entries[num] = e
	return nil
}

func (d *document) section(at int64) (trailer object, stream bool, err error) {
	b, err := d.read(at, window)
	if err != nil {
		return object{}, false, err
	}
	l := &lexer{b: b, base: at}
	if l.keyword("xref") == nil {
		trailer, err = d.classic(at + int64(l.pos))
		return trailer, false, err
	}
	trailer, err = d.stream(at)
	return trailer, true, err
}

// classic reads a table, and the stream that a hybrid file has beside it: what the
// table calls free may be in the stream (§7.5.8.4).
func (d *document) classic(at int64) (object, error) {
	d.free = nil
	trailer, err := d.table(at)
	if err != nil {
		return object{}, err
	}
	free := d.free
	if v := trailer.get("XRefStm"); v.kind != kindNull {
		n, ok := v.integer()
		if !ok {
			return object{}, ErrMalformed.Because(errors.New("/XRefStm is no offset"))
		}
		if _, err := d.stream(n); err != nil {
			return object{}, err
		}
	}
	for _, num := range free {
		if err := d.add(num, entry{}); err != nil {
			return object{}, err
		}
	}
	return trailer, nil
}

// table reads a classic section from behind its keyword.
func (d *document) table(at int64) (object, error) {
	for {
		b, err := d.read(at, window)
		if err != nil {
			return object{}, err
		}
		l := &lexer{b: b, base: at}
		l.skip()
		if l.keyword("trailer") == nil {
			t, _, err := d.parse(at + int64(l.pos))
			if err == nil && t.kind != kindDict {
				err = ErrMalformed.Because(errors.New("the trailer is no dictionary"))
			}
			return t, err
		}
		first, err := l.uint()
		if err != nil {
			return object{}, malformed(err)
		}
		count, err := l.uint()
		if err != nil {
			return object{}, malformed(err)
		}
		if first > maxObjectNum || count > maxObjects {
			return object{}, ErrTooLarge.Because(errors.New("too many objects"))
		}
		l.skip()
		at += int64(l.pos)
		if err := d.subsection(at, int(first), int(count)); err != nil {
			return object{}, err
		}
		at += count * 20
	}
}

func (d *document) subsection(at int64, first, count int) error {
	for done := 0; done < count; {
		n := min(count-done, 4096)
		b, err := d.read(at+int64(done)*20, n*20)
		if err != nil {
			return err
		}
		if len(b) < n*20 {
			return ErrMalformed.Because(errors.New("a cross-reference table is cut"))
		}
		for i := range n {
			e, err := line(b[i*20 : i*20+20])
			if err != nil {
				return err
			}
			if !e.used {
				if len(d.free) >= maxObjects {
					return ErrTooLarge.Because(errors.New("too many objects"))
				}
				d.free = append(d.free, first+done+i)
				continue
			}
			if err := d.add(first+done+i, e); err != nil {
				return err
			}
		}
		done += n
	}
	return nil
}

// line reads the 20 bytes of one table entry.
func line(b []byte) (entry, error) {
	var e entry
	for i, c := range b[:18] {
		switch {
		case i == 10 || i == 16:
			if c != ' ' {
				return e, ErrMalformed.Because(errors.New("a cross-reference entry is askew"))
			}
		case i == 17:
			if c != 'n' && c != 'f' {
				return e, ErrMalformed.Because(errors.New("a cross-reference entry is askew"))
			}
			e.used = c == 'n'
		case c < '0' || c > '9':
			return e, ErrMalformed.Because(errors.New("a cross-reference entry is askew"))
		case i < 10:
			e.offset = e.offset*10 + int64(c-'0')
		default:
			e.gen = e.gen*10 + int(c-'0')
		}
	}
	if !isSpace(b[18]) || !isSpace(b[19]) {
		return e, ErrMalformed.Because(errors.New("a cross-reference entry is askew"))
	}
	return e, nil
}

// stream reads a cross-reference stream (§7.5.8).
func (d *document) stream(at int64) (object, error) {
	dict, data, err := d.streamAt(at, nil)
	if err != nil {
		return object{}, err
	}
	if dict.get("Type").name() != "XRef" {
		return object{}, ErrMalformed.Because(errors.New("no cross-reference section where one should be"))
	}
	var w [3]int
	for i, item := range dict.get("W").items {
		n, ok := item.integer()
		if !ok || n < 0 || n > 8 || i > 2 {
			return object{}, ErrMalformed.Because(errors.New("widths of a cross-reference stream"))
		}
		w[i] = int(n)
	}
	width := w[0] + w[1] + w[2]
	size, _ := dict.get("Size").integer()
	index := []int64{0, size}
	if items := dict.get("Index").items; items != nil {
		index = index[:0]
		for _, item := range items {
			n, ok := item.integer()
			if !ok || n < 0 || n > maxObjectNum {
				return object{}, ErrMalformed.Because(errors.New("index of a cross-reference stream"))
			}
			index = append(index, n)
		}
	}
	if width == 0 || len(index)%2 != 0 {
		return object{}, ErrMalformed.Because(errors.New("shape of a cross-reference stream"))
	}
	for ; len(index) > 0; index = index[2:] {
		for i := range index[1] {
			if len(data) < width {
				return object{}, ErrMalformed.Because(errors.New("a cross-reference stream is cut"))
			}
			if err := d.row(int(index[0]+i), data[:width], w); err != nil {
				return object{}, err
			}
			data = data[width:]
		}
	}
	return dict, nil
}

func (d *document) row(num int, row []byte, w [3]int) error {
	field := func(n int) (v int64) {
		for _, c := range row[:n] {
			v = v<<8 | int64(c)
		}
		row = row[n:]
		return v
	}
	class := int64(1)
	if w[0] > 0 {
		class = field(w[0])
	}
	second, third := field(w[1]), field(w[2])
	switch class {
	case 0:
		return d.add(num, entry{})
	case 1:
		return d.add(num, entry{used: true, offset: second, gen: int(third & 0xffff)})
	case 2:
		if second <= 0 || second > maxObjectNum {
			return ErrMalformed.Because(errors.New("an object stream's number"))
		}
		return d.add(num, entry{used: true, inside: int(second), offset: third})
	default:
		return nil // to be taken as null (§7.5.8.3)
	}
}
