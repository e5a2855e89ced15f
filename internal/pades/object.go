package pades

import (
	"bytes"
	"errors"
	"fmt"
)

// parse reads one object's text at an offset, in a window as large as it needs.
// after is the offset behind it.
func (d *document) parse(at int64) (o object, after int64, err error) {
	for size := window; ; size *= 8 {
		b, err := d.read(at, min(size, maxObject))
		if err != nil {
			return object{}, 0, err
		}
		whole := at+int64(len(b)) >= d.size
		if whole {
			b = append(b, ' ') // a token may end with the file
		}
		l := &lexer{b: b, base: at}
		o, err := l.object(0)
		if err == nil {
			return o, at + int64(l.pos), nil
		}
		if !errors.As(err, &errShort{}) {
			return object{}, 0, err
		}
		if whole {
			return object{}, 0, ErrMalformed.Because(err)
		}
		if size >= maxObject {
			return object{}, 0, ErrTooLarge.Because(errors.New("an object is too large"))
		}
	}
}

// indirect reads "num gen obj …" at an offset. want nil takes any number.
func (d *document) indirect(at int64, want *ref) (o object, after int64, err error) {
	b, err := d.read(at, 64)
	if err != nil {
		return object{}, 0, err
	}
	l := &lexer{b: append(b, ' '), base: at}
	num, err := l.uint()
	if err != nil {
		return object{}, 0, malformed(err)
	}
	gen, err := l.uint()
	if err != nil {
		return object{}, 0, malformed(err)
	}
	if err := l.keyword("obj"); err != nil {
		return object{}, 0, malformed(err)
	}
	if want != nil && (int64(want.num) != num || int64(want.gen) != gen) {
		return object{}, 0, ErrMalformed.Because(fmt.Errorf("object %d %d is where %d %d should be", num, gen, want.num, want.gen))
	}
	return d.parse(at + int64(l.pos))
}

// streamAt reads a stream object and decodes it.
func (d *document) streamAt(at int64, want *ref) (dict object, data []byte, err error) {
	dict, after, err := d.indirect(at, want)
	if err != nil {
		return object{}, nil, err
	}
	b, err := d.read(after, 64)
	if err != nil {
		return object{}, nil, err
	}
	l := &lexer{b: b, base: after}
	if dict.kind != kindDict || l.keyword("stream") != nil {
		return object{}, nil, ErrMalformed.Because(errors.New("a stream was expected"))
	}
	rest := b[l.pos:]
	switch {
	case bytes.HasPrefix(rest, []byte("\r\n")):
		l.pos += 2
	case bytes.HasPrefix(rest, []byte("\n")):
		l.pos++
	default:
		return object{}, nil, ErrMalformed.Because(errors.New("no line end before a stream's data"))
	}
	length := dict.get("Length")
	if length.kind == kindRef {
		if length, err = d.resolve(length); err != nil {
			return object{}, nil, err
		}
	}
	n, ok := length.integer()
	if !ok || n < 0 || n > maxStream {
		return object{}, nil, ErrMalformed.Because(errors.New("a stream's length"))
	}
	b, err = d.read(after+int64(l.pos), int(n)+32)
	if err != nil {
		return object{}, nil, err
	}
	if int64(len(b)) < n {
		return object{}, nil, ErrMalformed.Because(errors.New("a stream is cut"))
	}
	tail := &lexer{b: append(bytes.Clone(b[n:]), ' ')}
	if tail.keyword("endstream") != nil {
		return object{}, nil, ErrMalformed.Because(errors.New("a stream's length is wrong"))
	}
	data, err = decode(dict, b[:n], &d.budget)
	return dict, data, err
}

// load gives an object by number; null when there is none.
func (d *document) load(r ref) (object, error) {
	if d.loads++; d.loads > maxObjects {
		return object{}, ErrTooLarge.Because(errors.New("too many objects are asked for"))
	}
	e, ok := d.entries[r.num]
	if !ok || !e.used || e.inside == 0 && e.gen != r.gen {
		return object{}, nil
	}
	if e.inside != 0 {
		if r.gen != 0 {
			return object{}, nil
		}
		return d.fromStream(r.num, e)
	}
	o, _, err := d.indirect(e.offset, &r)
	return o, err
}

// resolve follows a reference to a direct object.
func (d *document) resolve(o object) (object, error) {
	for range 8 {
		if o.kind != kindRef {
			return o, nil
		}
		var err error
		if o, err = d.load(o.ref); err != nil {
			return object{}, err
		}
	}
	return object{}, ErrMalformed.Because(errors.New("references lead nowhere"))
}

// at resolves a dictionary's value.
func (d *document) at(dict object, key string) (object, error) { return d.resolve(dict.get(key)) }

// fromStream takes an object out of an object stream (§7.5.7).
func (d *document) fromStream(num int, e entry) (object, error) {
	p, ok := d.packed[e.inside]
	if !ok {
		var err error
		if p, err = d.unpack(e.inside); err != nil {
			return object{}, err
		}
		d.packed[e.inside] = p
	}
	if e.offset < 0 || e.offset >= int64(len(p.numbers)) || p.numbers[e.offset] != num {
		return object{}, ErrMalformed.Because(fmt.Errorf("object %d is not in its object stream", num))
	}
	start := p.starts[e.offset]
	l := &lexer{b: append(bytes.Clone(p.data[start:min(len(p.data), start+maxObject)]), ' '), base: -1}
	o, err := l.object(0)
	return o, malformed(err)
}

func (d *document) unpack(num int) (packed, error) {
	e := d.entries[num]
	if !e.used || e.inside != 0 {
		return packed{}, ErrMalformed.Because(errors.New("an object stream is missing"))
	}
	dict, data, err := d.streamAt(e.offset, &ref{num, e.gen})
	if err != nil {
		return packed{}, err
	}
	n, ok1 := dict.get("N").integer()
	first, ok2 := dict.get("First").integer()
	if dict.get("Type").name() != "ObjStm" || !ok1 || !ok2 || n < 0 || n > maxObjects || first < 0 || first > int64(len(data)) {
		return packed{}, ErrMalformed.Because(errors.New("shape of an object stream"))
	}
	p := packed{data: data}
	l := &lexer{b: append(bytes.Clone(data[:first]), ' ')}
	for range n {
		id, err := l.uint()
		if err != nil {
			return packed{}, malformed(err)
		}
		at, err := l.uint()
		if err != nil {
			return packed{}, malformed(err)
		}
		if id > maxObjectNum || first+at > int64(len(data)) {
			return packed{}, ErrMalformed.Because(errors.New("index of an object stream"))
		}
		p.numbers, p.starts = append(p.numbers, int(id)), append(p.starts, int(first+at))
	}
	return p, nil
}

// catalog is the document's root dictionary.
func (d *document) catalog() (object, error) {
	o, err := d.at(d.trailer, "Root")
	if err == nil && o.kind != kindDict {
		err = ErrMalformed.Because(errors.New("the catalog is no dictionary"))
	}
	return o, err
}

// firstPage finds the page that carries the new widget.
func (d *document) firstPage(catalog object) (ref, object, error) {
	at := catalog.get("Pages")
	for range maxDepth {
		if at.kind != kindRef {
			break
		}
		node, err := d.load(at.ref)
		if err != nil {
			return ref{}, object{}, err
		}
		if node.kind != kindDict {
			break
		}
		if node.get("Type").name() == "Page" {
			return at.ref, node, nil
		}
		kids, err := d.at(node, "Kids")
		if err != nil {
			return ref{}, object{}, err
		}
		if len(kids.items) == 0 {
			break
		}
		at = kids.items[0]
	}
	return ref{}, object{}, ErrMalformed.Because(errors.New("no page"))
}

// field is a form field with a signature, or one to be signed.
type field struct {
	name  string // fully qualified
	ref   ref
	dict  object
	value object // /V
}

// fields lists the names of all fields, and the signature fields.
func (d *document) fields(catalog object) (names map[string]bool, sigs []field, err error) {
	form, err := d.at(catalog, "AcroForm")
	if err != nil {
		return nil, nil, err
	}
	top, err := d.at(form, "Fields")
	if err != nil {
		return nil, nil, err
	}
	w := walker{d: d, names: map[string]bool{}, seen: map[int]bool{}}
	err = w.walk(top, "", object{}, 0)
	return w.names, w.sigs, err
}

type walker struct {
	d     *document
	names map[string]bool
	seen  map[int]bool
	sigs  []field
}

func (w *walker) walk(list object, prefix string, inherited object, depth int) error {
	if depth > maxDepth {
		return ErrTooLarge.Because(errors.New("form fields are nested too deep"))
	}
	for _, item := range list.items {
		if item.kind != kindRef {
			return ErrMalformed.Because(errors.New("a form field is no reference"))
		}
		if w.seen[item.ref.num] || len(w.seen) >= maxFields {
			return ErrMalformed.Because(errors.New("form fields form a circle, or are too many"))
		}
		w.seen[item.ref.num] = true
		if err := w.one(item.ref, prefix, inherited, depth); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) one(r ref, prefix string, inherited object, depth int) error {
	dict, err := w.d.load(r)
	if err != nil || dict.kind != kindDict {
		return err
	}
	title, err := w.d.at(dict, "T")
	if err != nil {
		return err
	}
	name := prefix
	if t := title.text(); t != "" {
		name = t
		if prefix != "" {
			name = prefix + "." + t
		}
		w.names[name] = true
	}
	class, err := w.d.at(dict, "FT")
	if err != nil {
		return err
	}
	if class.kind == kindNull {
		class = inherited
	}
	kids, err := w.d.at(dict, "Kids")
	if err != nil {
		return err
	}
	if class.name() == "Sig" && (title.kind != kindNull || dict.get("V").kind != kindNull) {
		if len(w.sigs) >= maxSigs {
			return ErrTooLarge.Because(errors.New("too many signature fields"))
		}
		w.sigs = append(w.sigs, field{name: name, ref: r, dict: dict, value: dict.get("V")})
	}
	return w.walk(kids, name, class, depth+1)
}
