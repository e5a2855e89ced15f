package xmldsig

import (
	"errors"
	"io"
	"slices"
	"strings"
)

// Canonicalisation algorithms (Canonical XML 1.0, Exclusive XML Canonicalization).
const (
	C14N                  = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
	C14NComments          = C14N + "#WithComments"
	ExclusiveC14N         = "http://www.w3.org/2001/10/xml-exc-c14n#"
	ExclusiveC14NComments = ExclusiveC14N + "WithComments"
)

// method is a canonicalisation with its parameters.
type method struct {
	exclusive, comments bool
	prefixes            map[string]bool // InclusiveNamespaces; "" is #default
}

func methodOf(algorithm string) (method, bool) {
	switch algorithm {
	case C14N:
		return method{}, true
	case C14NComments:
		return method{comments: true}, true
	case ExclusiveC14N:
		return method{exclusive: true}, true
	case ExclusiveC14NComments:
		return method{exclusive: true, comments: true}, true
	}
	return method{}, false
}

// Canonicalize writes an element and all in it in canonical form. prefixes are the
// InclusiveNamespaces of exclusive canonicalisation, "#default" among them.
func (e *Element) Canonicalize(w io.Writer, algorithm string, prefixes ...string) error {
	m, ok := methodOf(algorithm)
	if !ok {
		return ErrAlgorithm
	}
	m.setPrefixes(prefixes)
	budget := int64(maxHashed)
	return (&canonical{method: m, w: w, budget: &budget}).subtree(e)
}

// Canonicalize writes the whole document in canonical form.
func (d *Document) Canonicalize(w io.Writer, algorithm string) error {
	m, ok := methodOf(algorithm)
	if !ok {
		return ErrAlgorithm
	}
	budget := int64(maxHashed)
	return (&canonical{method: m, w: w, budget: &budget}).document(d)
}

func (m *method) setPrefixes(prefixes []string) {
	m.prefixes = map[string]bool{}
	for _, p := range prefixes {
		if p == "#default" {
			p = ""
		}
		m.prefixes[p] = true
	}
}

// canonical writes. Errors of w are kept until the end.
type canonical struct {
	method
	w       io.Writer
	inside  bool     // below the top of what is written
	without *Element // left out: the signature itself
	budget  *int64
	err     error
}

func (c *canonical) put(parts ...string) {
	for _, s := range parts {
		if c.err != nil {
			return
		}
		if *c.budget -= int64(len(s)); *c.budget < 0 {
			c.err = ErrTooLarge.Because(errors.New("too much to hash"))
			return
		}
		_, c.err = io.WriteString(c.w, s)
	}
}

func (c *canonical) document(d *Document) error {
	for _, n := range d.before {
		if n.kind == nodePI || c.comments {
			c.node(n, nil, nil)
			c.put("\n")
		}
	}
	if err := c.subtree(d.Root); err != nil {
		return err
	}
	for _, n := range d.after {
		if n.kind == nodePI || c.comments {
			c.put("\n")
			c.node(n, nil, nil)
		}
	}
	return c.err
}

// subtree writes an element as the top of what is written: what it inherits from
// ancestors that are left out goes onto it.
func (c *canonical) subtree(e *Element) error {
	if e == c.without {
		return nil
	}
	scope := inScope(e)
	attrs := e.attrs
	if !c.exclusive {
		attrs = withInherited(e)
	}
	c.element(e, attrs, scope, map[string]string{"": "", "xml": nsXML})
	return c.err
}

// withInherited adds the nearest ancestors' xml: attributes (C14N §2.4).
func withInherited(e *Element) []attr {
	out := slices.Clone(e.attrs)
	for up := e.parent; up != nil; up = up.parent {
		for _, a := range up.attrs {
			if a.space == nsXML && !slices.ContainsFunc(out, func(b attr) bool { return b.space == nsXML && b.local == a.local }) {
				out = append(out, a)
			}
		}
	}
	return out
}

// element writes an element. scope is what is declared for it, shown what is
// already written by the elements around it.
func (c *canonical) element(e *Element, attrs []attr, scope, shown map[string]string) {
	name := qualified(e.Prefix, e.Local)
	*c.budget -= 64 // an element costs more than its bytes
	c.put("<", name)
	shown = c.namespaces(e, attrs, scope, shown)
	attrs = slices.Clone(attrs)
	slices.SortFunc(attrs, func(a, b attr) int {
		if n := strings.Compare(a.space, b.space); n != 0 {
			return n
		}
		return strings.Compare(a.local, b.local)
	})
	for _, a := range attrs {
		c.put(" ", qualified(a.prefix, a.local), `="`, escapeValue.Replace(a.value), `"`)
	}
	c.put(">")
	for _, n := range e.children {
		if c.err != nil {
			return
		}
		c.node(n, scope, shown)
	}
	c.put("</", name, ">")
}

func qualified(prefix, local string) string {
	if prefix == "" {
		return local
	}
	return prefix + ":" + local
}

// namespaces writes the declarations that are due, and gives what is shown then.
func (c *canonical) namespaces(e *Element, attrs []attr, scope, shown map[string]string) map[string]string {
	var write []string
	look := func(prefix string) {
		*c.budget-- // looking costs too
		uri, declared := scope[prefix]
		if was, ok := shown[prefix]; declared && prefix != "xml" && (!ok || was != uri) && !slices.Contains(write, prefix) {
			write = append(write, prefix)
		}
	}
	switch {
	case c.exclusive:
		look(e.Prefix)
		for _, a := range attrs {
			if a.prefix != "" {
				look(a.prefix)
			}
		}
		for prefix := range c.prefixes {
			look(prefix)
		}
	case c.inside && len(e.decls) == 0: // nothing can have changed
	default:
		for prefix := range scope {
			look(prefix)
		}
	}
	c.inside = true
	if len(write) == 0 {
		return shown
	}
	slices.Sort(write)
	next := make(map[string]string, len(shown)+len(write))
	for k, v := range shown {
		next[k] = v
	}
	for _, prefix := range write {
		next[prefix] = scope[prefix]
		if prefix == "" {
			c.put(` xmlns="`, escapeValue.Replace(scope[prefix]), `"`)
		} else {
			c.put(" xmlns:", prefix, `="`, escapeValue.Replace(scope[prefix]), `"`)
		}
	}
	return next
}

func (c *canonical) node(n node, scope, shown map[string]string) {
	switch n.kind {
	case nodeElement:
		if n.element == c.without {
			return
		}
		if len(n.element.decls) > 0 {
			outer := scope
			*c.budget -= int64(len(outer))
			scope = make(map[string]string, len(outer)+len(n.element.decls))
			for k, v := range outer {
				scope[k] = v
			}
			for _, d := range n.element.decls {
				scope[d.prefix] = d.uri
			}
		}
		c.element(n.element, n.element.attrs, scope, shown)
	case nodeText:
		c.put(escapeText.Replace(n.text))
	case nodeComment:
		if c.comments {
			c.put("<!--", escapeCR.Replace(n.text), "-->")
		}
	case nodePI:
		c.put("<?", n.target)
		if n.text != "" {
			c.put(" ", escapeCR.Replace(n.text))
		}
		c.put("?>")
	}
}

var (
	escapeText  = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#xD;")
	escapeValue = strings.NewReplacer("&", "&amp;", "<", "&lt;", `"`, "&quot;", "\t", "&#x9;", "\n", "&#xA;", "\r", "&#xD;")
	escapeCR    = strings.NewReplacer("\r", "&#xD;")
)
