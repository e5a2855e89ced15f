package xmldsig

import (
	"bytes"
	"errors"
	"strings"
)

// open reads a start tag, or an empty-element tag, and goes into the element.
func (p *parser) open() error {
	e := &Element{parent: p.at, start: p.pos}
	p.pos++
	if p.depth++; p.depth > maxDepth {
		return ErrTooLarge.Because(errors.New("nested too deep"))
	}
	if err := p.count(); err != nil {
		return err
	}
	name, err := p.name()
	if err != nil {
		return err
	}
	if e.Prefix, e.Local, err = p.split(name); err != nil {
		return err
	}
	empty, err := p.attributes(e)
	if err != nil {
		return err
	}
	if err := p.declare(e); err != nil {
		return err
	}
	if err := p.qualify(e); err != nil {
		return err
	}
	e.startEnd = p.pos
	if p.at == nil {
		p.d.Root = e
	} else {
		p.at.children = append(p.at.children, node{kind: nodeElement, element: e})
	}
	p.index(e)
	p.at = e
	if empty {
		e.endStart = p.pos
		p.leave()
	}
	return nil
}

// attributes reads attributes up to the tag's end. Declarations are kept apart.
func (p *parser) attributes(e *Element) (empty bool, err error) {
	for {
		spaced := p.space()
		switch {
		case p.take("/>"):
			return true, nil
		case p.take(">"):
			return false, nil
		case !spaced:
			return false, p.bad("a blank was expected")
		}
		name, err := p.name()
		if err != nil {
			return false, err
		}
		p.space()
		if !p.take("=") {
			return false, p.bad("= was expected")
		}
		p.space()
		raw, err := p.rawValue()
		if err != nil {
			return false, err
		}
		value, err := p.unescape(raw, true)
		if err != nil {
			return false, err
		}
		if err := p.attribute(e, name, value); err != nil {
			return false, err
		}
	}
}

// rawValue takes a quoted value without touching its line ends.
func (p *parser) rawValue() (string, error) {
	if p.pos >= len(p.b) || p.b[p.pos] != '"' && p.b[p.pos] != '\'' {
		return "", p.bad("a quote was expected")
	}
	end := bytes.IndexByte(p.b[p.pos+1:], p.b[p.pos])
	if end < 0 {
		return "", p.bad("a value does not end")
	}
	raw := string(p.b[p.pos+1 : p.pos+1+end])
	if strings.Contains(raw, "<") {
		return "", p.bad("< in a value")
	}
	p.pos += end + 2
	return raw, nil
}

func (p *parser) attribute(e *Element, name, value string) error {
	if len(e.attrs)+len(e.decls) >= maxAttributes {
		return ErrTooLarge.Because(errors.New("too many attributes"))
	}
	prefix, local, err := p.split(name)
	if err != nil {
		return err
	}
	switch {
	case name == "xmlns":
		e.decls = append(e.decls, decl{"", value})
	case prefix == "xmlns":
		e.decls = append(e.decls, decl{local, value})
	default:
		e.attrs = append(e.attrs, attr{prefix: prefix, local: local, value: value})
	}
	return nil
}

// declare brings an element's namespace declarations into scope.
func (p *parser) declare(e *Element) error {
	if len(e.decls) == 0 {
		return nil
	}
	scope := make(map[string]string, len(p.scope)+len(e.decls))
	for k, v := range p.scope {
		scope[k] = v
	}
	seen := map[string]bool{}
	for _, d := range e.decls {
		switch {
		case seen[d.prefix]:
			return p.bad("prefix %.40q is declared twice", d.prefix)
		case len(d.uri) > maxURI:
			return ErrTooLarge.Because(errors.New("a namespace's name"))
		case d.prefix == "xmlns", d.uri == nsXMLNS, (d.prefix == "xml") != (d.uri == nsXML), d.prefix != "" && d.uri == "":
			return p.bad("declaration of %.40q", d.prefix)
		}
		seen[d.prefix] = true
		scope[d.prefix] = d.uri
	}
	if len(scope) > maxPrefixes {
		return ErrTooLarge.Because(errors.New("too many namespaces"))
	}
	p.scope = scope
	return nil
}

// qualify finds the namespaces of an element and its attributes.
func (p *parser) qualify(e *Element) error {
	var ok bool
	if e.Space, ok = p.scope[e.Prefix]; !ok || e.Prefix == "xmlns" {
		return p.bad("prefix %.40q is not declared", e.Prefix)
	}
	seen := make(map[[2]string]bool, len(e.attrs))
	for i := range e.attrs {
		a := &e.attrs[i]
		if a.prefix != "" {
			if a.space, ok = p.scope[a.prefix]; !ok {
				return p.bad("prefix %.40q is not declared", a.prefix)
			}
		}
		if key := [2]string{a.space, a.local}; seen[key] {
			return p.bad("attribute %.40q is there twice", a.local)
		} else {
			seen[key] = true
		}
	}
	return nil
}

// index keeps what is looked up later. An attribute is an identifier by its name
// alone, there being no document type; an ambiguous one finds nothing.
func (p *parser) index(e *Element) {
	for _, a := range e.attrs {
		if a.space == "" && (a.local == "Id" || a.local == "ID" || a.local == "id") || a.space == nsXML && a.local == "id" {
			p.d.ids[a.value] = append(p.d.ids[a.value], e)
		}
	}
	if e.is(nsDSig, "Signature") {
		p.d.sigs = append(p.d.sigs, e)
	}
}

func (p *parser) close() error {
	e := p.at
	e.endStart = p.pos
	p.pos += 2
	name, err := p.name()
	if err != nil {
		return err
	}
	want := e.Local
	if e.Prefix != "" {
		want = e.Prefix + ":" + e.Local
	}
	p.space()
	if name != want || !p.take(">") {
		return p.bad("</%.40s> was expected", want)
	}
	p.leave()
	return nil
}

// leave goes back to the parent, and to the namespaces in scope there.
func (p *parser) leave() {
	e := p.at
	e.end = p.pos
	p.at = e.parent
	p.depth--
	if len(e.decls) > 0 {
		p.scope = inScope(e.parent)
	}
}

// inScope lists the namespaces in scope at an element, "" and xml with them.
func inScope(e *Element) map[string]string {
	var path []*Element
	for ; e != nil; e = e.parent {
		path = append(path, e)
	}
	scope := map[string]string{"": "", "xml": nsXML}
	for i := len(path) - 1; i >= 0; i-- {
		for _, d := range path[i].decls {
			scope[d.prefix] = d.uri
		}
	}
	return scope
}
