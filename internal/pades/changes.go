package pades

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// later judges what came after a signature that covers the first end bytes. These
// must be a document by themselves, with that signature in it.
func (d *document) later(f field, end int64) (Change, error) {
	rest, err := d.blank(end)
	if err != nil {
		return OtherChanges, err
	}
	was, err := open(d.ctx, d.r, end)
	if err != nil {
		return OtherChanges, ErrByteRange.Because(fmt.Errorf("what is covered is no document: %w", err))
	}
	catalog, err := was.catalog()
	if err != nil {
		return OtherChanges, err
	}
	_, fields, err := was.fields(catalog)
	if err != nil {
		return OtherChanges, err
	}
	i := slices.IndexFunc(fields, func(g field) bool { return g.name == f.name && g.value.kind == kindRef && g.value.ref == f.value.ref })
	if i < 0 || was.entries[f.value.ref.num] != d.entries[f.value.ref.num] {
		return OtherChanges, ErrByteRange.Because(errors.New("the signature is not in what it covers"))
	}
	if rest {
		return NoChange, nil
	}
	c := comparison{was: was, now: d, old: catalog, fields: map[int]bool{}}
	for _, g := range fields {
		c.fields[g.ref.num] = true
	}
	change, err := c.run()
	if err != nil { // not understood is not harmless
		return OtherChanges, d.ctx.Err()
	}
	return change, nil
}

// blank tells whether only a line end or two follow.
func (d *document) blank(at int64) (bool, error) {
	b, err := d.read(at, 64)
	return err == nil && at+int64(len(b)) == d.size && len(bytes.Trim(b, "\r\n")) == 0, err
}

// comparison looks for what distinguishes two revisions of a document.
type comparison struct {
	was, now *document
	old      object       // the catalog that was
	fields   map[int]bool // objects that were signature fields
	pages    map[int]bool // objects that are pages, and their lists of annotations
	lists    map[int]bool
	added    []int // objects that were not there
	picture  bool
}

var errChange = errors.New("a change that is not of signing")

// maxCompared bounds the work on one signature.
const maxCompared = 200_000

func (c *comparison) run() (Change, error) {
	if c.was.trailer.get("Root").ref != c.now.trailer.get("Root").ref || !same(c.was.trailer.get("Info"), c.now.trailer.get("Info")) {
		return OtherChanges, nil
	}
	var changed []int
	for num, e := range c.now.entries {
		before := c.was.entries[num]
		moved := e != before || e.used && e.inside != 0 && c.now.entries[e.inside] != c.was.entries[e.inside]
		switch {
		case moved && !before.used && e.used:
			c.added = append(c.added, num)
		case moved:
			changed = append(changed, num)
		}
	}
	for num, e := range c.was.entries {
		if _, there := c.now.entries[num]; e.used && !there {
			return OtherChanges, nil
		}
	}
	if len(changed)+len(c.added) > maxCompared || len(c.was.entries) > maxCompared {
		return OtherChanges, nil
	}
	if err := c.findPages(); err != nil {
		return OtherChanges, err
	}
	for _, num := range changed {
		if err := c.object(num); err != nil {
			return OtherChanges, err
		}
	}
	if err := c.dangling(); err != nil {
		return OtherChanges, err
	}
	if c.picture {
		return PicturesAdded, nil
	}
	return SignaturesAdded, nil
}

func same(a, b object) bool { return bytes.Equal(a.raw, b.raw) }

// findPages walks the tree that was.
func (c *comparison) findPages() error {
	c.pages, c.lists = map[int]bool{}, map[int]bool{}
	queue := []object{c.old.get("Pages")}
	seen := map[int]bool{}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		if at.kind != kindRef || seen[at.ref.num] {
			return errChange
		}
		seen[at.ref.num] = true
		node, err := c.was.load(at.ref)
		if err != nil {
			return err
		}
		if node.get("Type").name() == "Page" {
			c.pages[at.ref.num] = true
			if list := node.get("Annots"); list.kind == kindRef {
				c.lists[list.ref.num] = true
			}
			continue
		}
		kids, err := c.was.at(node, "Kids")
		if err != nil {
			return err
		}
		queue = append(queue, kids.items...)
	}
	return nil
}

// object judges one object that was written again.
func (c *comparison) object(num int) error {
	before, after := c.was.entries[num], c.now.entries[num]
	if !before.used && !after.used {
		return nil
	}
	if !after.used {
		return errChange
	}
	a, err := c.was.load(ref{num, before.gen})
	if err != nil {
		return err
	}
	b, err := c.now.load(ref{num, after.gen})
	if err != nil {
		return err
	}
	form := c.old.get("AcroForm")
	formDict, err := c.was.resolve(form)
	if err != nil {
		return err
	}
	list := formDict.get("Fields")
	switch {
	case num == c.was.trailer.get("Root").ref.num:
		return c.catalog(a, b)
	case form.kind == kindRef && num == form.ref.num:
		return c.form(a, b)
	case list.kind == kindRef && num == list.ref.num, c.lists[num]:
		return c.appended(a, b)
	case c.pages[num]:
		return c.dict(a, b, map[string]func(a, b object) error{"Annots": c.appended})
	case c.fields[num]:
		return c.filled(a, b)
	case c.validationData(num):
		if a.kind == b.kind && (a.kind == kindArray || a.kind == kindDict && a.get("Type").name() == "") {
			return nil
		}
	}
	return errChange
}

// dict compares dictionaries key by key; rules say what may differ.
func (c *comparison) dict(a, b object, rules map[string]func(a, b object) error) error {
	if a.kind != kindDict || b.kind != kindDict {
		return errChange
	}
	keys := slices.Concat(a.keys, b.keys)
	for _, key := range keys {
		x, y := a.get(key), b.get(key)
		if same(x, y) {
			continue
		}
		rule, ok := rules[key]
		if !ok {
			return errChange
		}
		if err := rule(x, y); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) catalog(a, b object) error {
	free := func(object, object) error { return nil }
	return c.dict(a, b, map[string]func(a, b object) error{"AcroForm": c.form, "DSS": free, "Extensions": free})
}

func (c *comparison) form(a, b object) error {
	var err error
	if a, err = c.was.resolve(a); err != nil {
		return err
	}
	if b, err = c.now.resolve(b); err != nil {
		return err
	}
	if a.kind == kindNull {
		a = object{kind: kindDict}
	}
	free := func(object, object) error { return nil }
	return c.dict(a, b, map[string]func(a, b object) error{"Fields": c.appended, "SigFlags": free})
}

// appended allows an array to have grown by signature fields.
func (c *comparison) appended(a, b object) error {
	var err error
	if a, err = c.was.resolve(a); err != nil {
		return err
	}
	if b, err = c.now.resolve(b); err != nil {
		return err
	}
	if a.kind != kindArray && a.kind != kindNull || b.kind != kindArray || len(b.items) < len(a.items) {
		return errChange
	}
	for i, item := range b.items {
		if i < len(a.items) {
			if !same(item, a.items[i]) {
				return errChange
			}
			continue
		}
		if item.kind != kindRef {
			return errChange
		}
		f, err := c.now.load(item.ref)
		if err != nil {
			return err
		}
		if f.get("FT").name() != "Sig" || !slices.Contains(c.added, item.ref.num) {
			return errChange
		}
		if err := c.visible(f); err != nil {
			return err
		}
	}
	return nil
}

// filled allows an empty signature field to have received its signature.
func (c *comparison) filled(a, b object) error {
	if a.get("V").kind != kindNull || b.get("FT").name() != "Sig" {
		return errChange
	}
	free := func(object, object) error { return nil }
	if err := c.dict(a, b, map[string]func(a, b object) error{"V": free, "AP": free, "F": free}); err != nil {
		return err
	}
	return c.visible(b)
}

// visible notes whether a field shows something.
func (c *comparison) visible(f object) error {
	rect, err := c.now.at(f, "Rect")
	if err != nil {
		return err
	}
	if kids := f.get("Kids"); kids.kind != kindNull {
		c.picture = true
	}
	if rect.kind == kindNull || f.get("AP").kind == kindNull && f.get("MK").kind == kindNull {
		return nil
	}
	if len(rect.items) != 4 {
		return errChange
	}
	for _, item := range rect.items {
		if item.kind != kindNumber {
			return errChange
		}
	}
	if rect.items[0].num != rect.items[2].num && rect.items[1].num != rect.items[3].num {
		c.picture = true
	}
	return nil
}

// validationData tells whether an object is the document security store, or one
// of its lists (EN 319 142-1 §5.4.2).
func (c *comparison) validationData(num int) bool {
	dss := c.old.get("DSS")
	if dss.kind == kindRef && dss.ref.num == num {
		return true
	}
	dict, err := c.was.resolve(dss)
	if err != nil {
		return false
	}
	for _, key := range []string{"Certs", "OCSPs", "CRLs", "VRI"} {
		if v := dict.get(key); v.kind == kindRef && v.ref.num == num {
			return true
		}
	}
	return false
}

// dangling refuses objects that the earlier revision already pointed to: its
// author left a hole to be filled after the signature ("shadow attack").
func (c *comparison) dangling() error {
	if len(c.added) == 0 {
		return nil
	}
	added := map[int]bool{}
	for _, num := range c.added {
		added[num] = true
	}
	for num, e := range c.was.entries {
		if !e.used {
			continue
		}
		o, err := c.was.load(ref{num, e.gen})
		if err != nil {
			return err
		}
		if pointsTo(o, added) {
			return errChange
		}
	}
	return nil
}

func pointsTo(o object, targets map[int]bool) bool {
	switch o.kind {
	case kindRef:
		return targets[o.ref.num]
	case kindArray:
		return slices.ContainsFunc(o.items, func(item object) bool { return pointsTo(item, targets) })
	case kindDict:
		for _, v := range o.dict {
			if pointsTo(v, targets) {
				return true
			}
		}
	}
	return false
}
