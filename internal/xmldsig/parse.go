package xmldsig

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Element is an element of a parsed document.
type Element struct {
	Space, Prefix, Local string

	parent   *Element
	attrs    []attr
	decls    []decl // namespace declarations on this element
	children []node

	// Places in the source: the start tag, and the end tag (both at the end for an
	// empty-element tag).
	start, startEnd, endStart, end int
}

type attr struct{ space, prefix, local, value string }

type decl struct{ prefix, uri string }

type nodeKind uint8

const (
	nodeElement nodeKind = iota
	nodeText
	nodeComment
	nodePI
)

type node struct {
	kind    nodeKind
	element *Element
	text    string // of text and comments; data of an instruction
	target  string
}

// Document is a parsed XML document. It is not changed by anything here, and safe
// for concurrent use.
type Document struct {
	Root   *Element
	source []byte
	before []node // comments and instructions before the root
	after  []node
	ids    map[string][]*Element
	sigs   []*Element
}

// Attr gives an attribute without a namespace.
func (e *Element) Attr(local string) (string, bool) {
	for _, a := range e.attrs {
		if a.space == "" && a.local == local {
			return a.value, true
		}
	}
	return "", false
}

// Elements are the element children.
func (e *Element) Elements() []*Element {
	var out []*Element
	for _, c := range e.children {
		if c.kind == nodeElement {
			out = append(out, c.element)
		}
	}
	return out
}

// Text is the character data directly inside.
func (e *Element) Text() string {
	var b strings.Builder
	for _, c := range e.children {
		if c.kind == nodeText {
			b.WriteString(c.text)
		}
	}
	return b.String()
}

// Parent is nil for the root.
func (e *Element) Parent() *Element { return e.parent }

func (e *Element) is(space, local string) bool { return e.Space == space && e.Local == local }

// Signatures are all ds:Signature elements, in document order.
func (d *Document) Signatures() []*Element { return d.sigs }

// ByID gives the one element with this Id; nil when there is none, or several.
func (d *Document) ByID(id string) *Element {
	if all := d.ids[id]; len(all) == 1 {
		return all[0]
	}
	return nil
}

// Parse reads a document.
func Parse(xml []byte) (*Document, error) {
	if len(xml) > MaxBytes {
		return nil, ErrTooLarge.Because(fmt.Errorf("%d bytes", len(xml)))
	}
	if !utf8.Valid(xml) {
		return nil, ErrMalformed.Because(errors.New("not UTF-8"))
	}
	p := &parser{b: xml, d: &Document{source: xml, ids: map[string][]*Element{}}, scope: map[string]string{"": "", "xml": nsXML}}
	if err := p.document(); err != nil {
		return nil, err
	}
	return p.d, nil
}

type parser struct {
	b     []byte
	pos   int
	d     *Document
	nodes int
	scope map[string]string
	at    *Element
	depth int
}

func (p *parser) bad(format string, a ...any) error {
	return ErrMalformed.Because(fmt.Errorf("at byte %d: %s", p.pos, fmt.Sprintf(format, a...)))
}

func (p *parser) has(s string) bool { return bytes.HasPrefix(p.b[p.pos:], []byte(s)) }

func (p *parser) take(s string) bool {
	if p.has(s) {
		p.pos += len(s)
		return true
	}
	return false
}

func white(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func (p *parser) space() bool {
	start := p.pos
	for p.pos < len(p.b) && white(p.b[p.pos]) {
		p.pos++
	}
	return p.pos > start
}

// until takes everything before an end mark, and the mark.
func (p *parser) until(mark string) (string, error) {
	i := bytes.Index(p.b[p.pos:], []byte(mark))
	if i < 0 {
		return "", p.bad("%q is missing", mark)
	}
	s := string(p.b[p.pos : p.pos+i])
	if err := p.chars(s); err != nil {
		return "", err
	}
	p.pos += i + len(mark)
	return lines(s), nil
}

// lines normalises line ends (XML 1.0 §2.11).
func lines(s string) string {
	if !strings.Contains(s, "\r") {
		return s
	}
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

// chars refuses what is no XML character (§2.2).
func (p *parser) chars(s string) error {
	for _, r := range s {
		if !isChar(r) {
			return p.bad("character U+%04X", r)
		}
	}
	return nil
}

func isChar(r rune) bool {
	return r >= 0x20 && r <= 0xd7ff || r == '\t' || r == '\n' || r == '\r' || r >= 0xe000 && r <= 0xfffd || r >= 0x10000 && r <= 0x10ffff
}

func (p *parser) document() error {
	p.take("\ufeff")
	if p.has("<?xml") && len(p.b) > p.pos+5 && white(p.b[p.pos+5]) {
		if err := p.declaration(); err != nil {
			return err
		}
	}
	for p.pos < len(p.b) {
		if p.space() {
			continue
		}
		n, err := p.misc()
		if err != nil {
			return err
		}
		switch {
		case n != nil && p.d.Root == nil:
			p.d.before = append(p.d.before, *n)
		case n != nil:
			p.d.after = append(p.d.after, *n)
		case p.d.Root != nil:
			return p.bad("something follows the root element")
		default:
			if err := p.tree(); err != nil {
				return err
			}
		}
	}
	if p.d.Root == nil {
		return p.bad("no root element")
	}
	return nil
}

// declaration reads <?xml …?>: version 1.0, UTF-8 or unsaid.
func (p *parser) declaration() error {
	text, err := p.until("?>")
	if err != nil {
		return err
	}
	rest := &parser{b: []byte(strings.TrimPrefix(text, "<?xml"))}
	for i, want := range []string{"version", "encoding", "standalone"} {
		spaced := rest.space()
		if !spaced || !rest.take(want) {
			if i == 0 {
				return p.bad("no version")
			}
			continue
		}
		rest.space()
		if !rest.take("=") {
			return p.bad("XML declaration")
		}
		rest.space()
		value, err := rest.quoted()
		if err != nil {
			return err
		}
		switch {
		case want == "version" && value != "1.0",
			want == "encoding" && !strings.EqualFold(value, "UTF-8"),
			want == "standalone" && value != "yes" && value != "no":
			return p.bad("%s %.20q", want, value)
		}
	}
	if rest.space(); rest.pos < len(rest.b) {
		return p.bad("XML declaration")
	}
	return nil
}

func (p *parser) quoted() (string, error) {
	for _, q := range []string{`"`, "'"} {
		if p.take(q) {
			return p.until(q)
		}
	}
	return "", p.bad("a quote was expected")
}

func (p *parser) count() error {
	if p.nodes++; p.nodes > maxNodes {
		return ErrTooLarge.Because(errors.New("too many nodes"))
	}
	return nil
}

// misc takes a comment or an instruction; nil when there is none here.
func (p *parser) misc() (*node, error) {
	switch {
	case p.take("<!--"):
		text, err := p.until("--")
		if err != nil {
			return nil, err
		}
		if !p.take(">") {
			return nil, p.bad("-- in a comment")
		}
		return &node{kind: nodeComment, text: text}, p.count()
	case p.take("<?"):
		target, err := p.name()
		if err != nil {
			return nil, err
		}
		if strings.EqualFold(target, "xml") || strings.Contains(target, ":") {
			return nil, p.bad("instruction %.20q", target)
		}
		spaced := p.space()
		text, err := p.until("?>")
		if err != nil {
			return nil, err
		}
		if text != "" && !spaced {
			return nil, p.bad("instruction")
		}
		return &node{kind: nodePI, target: target, text: text}, p.count()
	case p.has("<!"):
		return nil, p.bad("a document type is not allowed")
	}
	return nil, nil
}

// tree reads the root element and all in it.
func (p *parser) tree() error {
	if !p.has("<") {
		return p.bad("text outside of the root element")
	}
	if err := p.open(); err != nil {
		return err
	}
	for p.at != nil {
		if err := p.content(); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) content() error {
	switch {
	case p.pos >= len(p.b):
		return p.bad("<%s> does not end", p.at.Local)
	case p.has("</"):
		return p.close()
	case p.take("<![CDATA["):
		text, err := p.until("]]>")
		if err != nil {
			return err
		}
		p.at.children = append(p.at.children, node{kind: nodeText, text: text})
		return p.count()
	case p.has("<!"), p.has("<?"):
		n, err := p.misc()
		if err != nil {
			return err
		}
		p.at.children = append(p.at.children, *n)
		return nil
	case p.has("<"):
		return p.open()
	}
	end := bytes.IndexByte(p.b[p.pos:], '<')
	if end < 0 {
		return p.bad("<%s> does not end", p.at.Local)
	}
	raw := string(p.b[p.pos : p.pos+end])
	if strings.Contains(raw, "]]>") {
		return p.bad("]]> in text")
	}
	text, err := p.unescape(raw, false)
	if err != nil {
		return err
	}
	p.pos += end
	p.at.children = append(p.at.children, node{kind: nodeText, text: text})
	return p.count()
}

// unescape resolves references. In attributes, literal white space becomes a
// blank (§3.3.3); what was written as a character reference stays.
func (p *parser) unescape(raw string, attribute bool) (string, error) {
	if err := p.chars(raw); err != nil {
		return "", err
	}
	raw = lines(raw)
	if attribute {
		raw = strings.NewReplacer("\n", " ", "\t", " ").Replace(raw)
	}
	if !strings.Contains(raw, "&") {
		return raw, nil
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(raw, '&')
		if i < 0 {
			b.WriteString(raw)
			return b.String(), nil
		}
		b.WriteString(raw[:i])
		end := strings.IndexByte(raw[i:], ';')
		if end < 0 || end > 12 {
			return "", p.bad("an ampersand")
		}
		r, ok := reference(raw[i+1 : i+end])
		if !ok {
			return "", p.bad("&%s;", raw[i+1:i+end])
		}
		b.WriteRune(r)
		raw = raw[i+end+1:]
	}
}

func reference(name string) (rune, bool) {
	switch name {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	digits, ok := strings.CutPrefix(name, "#")
	base := 10
	if hex, is := strings.CutPrefix(digits, "x"); is {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	return rune(n), ok && err == nil && n <= 0x10ffff && isChar(rune(n))
}

func nameStart(r rune) bool {
	switch {
	case r == ':' || r == '_' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z':
		return true
	case r < 0xc0:
		return false
	}
	return r != 0xd7 && r != 0xf7 && r <= 0x2ff || r >= 0x370 && r <= 0x1fff && r != 0x37e || r == 0x200c || r == 0x200d ||
		r >= 0x2070 && r <= 0x218f || r >= 0x2c00 && r <= 0x2fef || r >= 0x3001 && r <= 0xd7ff ||
		r >= 0xf900 && r <= 0xfdcf || r >= 0xfdf0 && r <= 0xfffd || r >= 0x10000 && r <= 0xeffff
}

func nameRest(r rune) bool {
	return nameStart(r) || r == '-' || r == '.' || r >= '0' && r <= '9' || r == 0xb7 || r >= 0x300 && r <= 0x36f || r == 0x203f || r == 0x2040
}

func (p *parser) name() (string, error) {
	start := p.pos
	for p.pos < len(p.b) {
		r, n := utf8.DecodeRune(p.b[p.pos:])
		if p.pos == start && !nameStart(r) || !nameRest(r) {
			break
		}
		p.pos += n
	}
	if p.pos == start || p.pos-start > maxURI {
		return "", p.bad("a name was expected")
	}
	return string(p.b[start:p.pos]), nil
}

// split takes a qualified name apart (Namespaces in XML §4).
func (p *parser) split(name string) (prefix, local string, err error) {
	prefix, local, ok := strings.Cut(name, ":")
	if !ok {
		return "", name, nil
	}
	r, _ := utf8.DecodeRuneInString(local)
	if prefix == "" || local == "" || strings.Contains(local, ":") || !nameStart(r) {
		return "", "", p.bad("name %.40q", name)
	}
	return prefix, local, nil
}
