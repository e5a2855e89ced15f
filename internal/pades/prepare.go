package pades

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// DefaultReserve is room for a signature with a chain and a time-stamp token.
const DefaultReserve = 16 << 10

// Options are what a signature says about itself.
type Options struct {
	// Hash of the covered bytes: SHA-256 (also for zero), SHA-384 or SHA-512.
	Hash crypto.Hash
	// Reserve is the room for the CMS, in bytes; zero is DefaultReserve.
	Reserve int
	// SigningTime is claimed in /M. PAdES keeps it out of the CMS.
	SigningTime time.Time
	// Name, Reason, Location and Contact are shown by readers; empty leaves them out.
	Name, Reason, Location, Contact string
	// TimeStamp makes a document time-stamp (EN 319 142-1 §5.4.3): what is embedded
	// is an RFC 3161 token over the digest. The texts and the time are left out.
	TimeStamp bool
}

// Prepared is a document about to be signed. It holds no part of the original,
// and may be kept, as JSON too, until the signature is there.
type Prepared struct {
	OriginalSize int64
	Update       []byte // what is added to the file, with an empty place for the CMS
	ByteRange    [4]int64
	Hash         crypto.Hash
	Digest       []byte // of the covered bytes
	Field        string // the new field's name
}

// Prepare makes the update that signs a document, and digests what it covers.
// The original is read twice: its structure, then all its bytes in order.
func Prepare(ctx context.Context, pdf io.ReaderAt, size int64, o Options) (*Prepared, error) {
	if o.Hash == 0 {
		o.Hash = crypto.SHA256
	}
	if o.Reserve == 0 {
		o.Reserve = DefaultReserve
	}
	if !slices.Contains([]crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}, o.Hash) {
		return nil, fmt.Errorf("pades: hash %v", o.Hash)
	}
	if o.Reserve < 256 || o.Reserve > maxGap/2 {
		return nil, fmt.Errorf("pades: reserve of %d bytes", o.Reserve)
	}
	if size > 9_999_999_999-1<<26 { // an offset has ten digits in a table
		return nil, ErrTooLarge.Because(errors.New("more than 10 GB"))
	}
	d, err := open(ctx, pdf, size)
	if err != nil {
		return nil, err
	}
	u := &update{d: d, at: map[int]placed{}}
	if err := u.build(o); err != nil {
		return nil, err
	}
	p := &Prepared{OriginalSize: size, Update: u.buf.Bytes(), Hash: o.Hash, Field: u.fieldName}
	p.ByteRange = [4]int64{0, size + int64(u.hole), size + int64(u.holeEnd), int64(len(p.Update) - u.holeEnd)}
	fill := fmt.Appendf(nil, "[0 %d %d %d]", p.ByteRange[1], p.ByteRange[2], p.ByteRange[3])
	copy(p.Update[u.ranges:], fill)
	p.Digest, err = digest(ctx, io.MultiReader(io.NewSectionReader(pdf, 0, size),
		bytes.NewReader(p.Update[:u.hole]), bytes.NewReader(p.Update[u.holeEnd:])), size+int64(len(p.Update)-u.holeEnd+u.hole), o.Hash)
	return p, err
}

// Embed puts the CMS, or the token, into its place. The signed document is the
// original's bytes and then these.
func (p *Prepared) Embed(cms []byte) ([]byte, error) {
	start, end := p.ByteRange[1]-p.OriginalSize, p.ByteRange[2]-p.OriginalSize
	if start < 0 || end > int64(len(p.Update)) || end-start < 2 || p.Update[start] != '<' || p.Update[end-1] != '>' {
		return nil, errors.New("pades: this is not what was prepared")
	}
	if n := derLength(cms); n != len(cms) || n == 0 {
		return nil, ErrMalformed.Because(errors.New("the signature is not one DER element"))
	}
	if hex.EncodedLen(len(cms)) > int(end-start)-2 {
		return nil, ErrReserve.Because(fmt.Errorf("%d bytes for %d", (end-start)/2-1, len(cms)))
	}
	out := bytes.Clone(p.Update)
	hex.Encode(out[start+1:end-1], cms)
	return out, nil
}

// digest hashes a stream of exactly n bytes.
func digest(ctx context.Context, r io.Reader, n int64, hash crypto.Hash) ([]byte, error) {
	h := hash.New()
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		got, err := r.Read(buf)
		h.Write(buf[:got])
		n -= int64(got)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading the document: %w", err)
		}
	}
	if n != 0 {
		return nil, errors.New("pades: the document changed while it was read")
	}
	return h.Sum(nil), nil
}

type placed struct {
	gen    int
	offset int64
}

// update is what is added to the file.
type update struct {
	d         *document
	buf       bytes.Buffer
	at        map[int]placed
	next      int // the next free object number
	fieldName string

	ranges, hole, holeEnd int // places in buf
}

func (u *update) build(o Options) error {
	d := u.d
	catalog, err := d.catalog()
	if err != nil {
		return err
	}
	if err := d.locked(catalog); err != nil {
		return err
	}
	names, _, err := d.fields(catalog)
	if err != nil {
		return err
	}
	for n := 1; u.fieldName == "" || names[u.fieldName]; n++ {
		u.fieldName = "Signature" + strconv.Itoa(n)
	}
	page, pageDict, err := d.firstPage(catalog)
	if err != nil {
		return err
	}
	size, _ := d.trailer.get("Size").integer()
	u.next = int(min(max(size, 1), maxObjectNum))
	for num := range d.entries {
		u.next = max(u.next, num+1)
	}
	if u.next > maxObjectNum-8 {
		return ErrTooLarge.Because(errors.New("no object number is free"))
	}
	u.buf.WriteByte('\n')
	sig, widget := ref{num: u.next}, ref{num: u.next + 1}
	u.next += 2
	u.signature(sig, o)
	u.begin(widget)
	fmt.Fprintf(&u.buf, "<</Type/Annot/Subtype/Widget/FT/Sig/T%s/V %d 0 R/F 132/Rect[0 0 0 0]/P %d %d R>>", text(u.fieldName), sig.num, page.num, page.gen)
	u.end()
	if err := u.annotate(page, pageDict, widget); err != nil {
		return err
	}
	if err := u.form(catalog, widget); err != nil {
		return err
	}
	return u.finish()
}

// locked refuses where a certification signature allows nothing to be added.
func (d *document) locked(catalog object) error {
	perms, err := d.at(catalog, "Perms")
	if err != nil {
		return err
	}
	sig, err := d.at(perms, "DocMDP")
	if err != nil {
		return err
	}
	p, err := d.permission(sig)
	if err == nil && p == 1 {
		err = ErrLocked
	}
	return err
}

// permission is the DocMDP level of a signature, 0 when it does not certify.
func (d *document) permission(sig object) (int, error) {
	list, err := d.at(sig, "Reference")
	if err != nil {
		return 0, err
	}
	for _, item := range list.items {
		r, err := d.resolve(item)
		if err != nil {
			return 0, err
		}
		if r.get("TransformMethod").name() != "DocMDP" {
			continue
		}
		params, err := d.at(r, "TransformParams")
		if err != nil {
			return 0, err
		}
		if p, ok := params.get("P").integer(); ok && p >= 1 && p <= 3 {
			return int(p), nil
		}
		return 2, nil
	}
	return 0, nil
}

func (u *update) begin(r ref) {
	u.at[r.num] = placed{r.gen, u.d.size + int64(u.buf.Len())}
	fmt.Fprintf(&u.buf, "%d %d obj\n", r.num, r.gen)
}

func (u *update) end() { u.buf.WriteString("\nendobj\n") }

func (u *update) signature(r ref, o Options) {
	u.begin(r)
	if o.TimeStamp {
		u.buf.WriteString("<</Type/DocTimeStamp/Filter/Adobe.PPKLite/SubFilter/ETSI.RFC3161/ByteRange")
	} else {
		u.buf.WriteString("<</Type/Sig/Filter/Adobe.PPKLite/SubFilter/ETSI.CAdES.detached/ByteRange")
	}
	u.ranges = u.buf.Len()
	u.buf.WriteString(strings.Repeat(" ", len("[0 ]")+3*11))
	u.buf.WriteString("/Contents")
	u.hole = u.buf.Len()
	u.buf.WriteByte('<')
	u.buf.Write(bytes.Repeat([]byte{'0'}, hex.EncodedLen(o.Reserve)))
	u.buf.WriteByte('>')
	u.holeEnd = u.buf.Len()
	if !o.TimeStamp {
		for _, v := range []struct{ key, value string }{{"Name", o.Name}, {"Reason", o.Reason}, {"Location", o.Location}, {"ContactInfo", o.Contact}} {
			if v.value != "" {
				fmt.Fprintf(&u.buf, "/%s%s", v.key, text(v.value))
			}
		}
		if !o.SigningTime.IsZero() {
			fmt.Fprintf(&u.buf, "/M(D:%s+00'00')", o.SigningTime.UTC().Format("20060102150405"))
		}
	}
	u.buf.WriteString(">>")
	u.end()
}

// text writes a text string: plain where ASCII does, else UTF-16.
func text(s string) string {
	plain := true
	for _, r := range s {
		plain = plain && r >= ' ' && r < 0x7f
	}
	if plain {
		return "(" + strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`).Replace(s) + ")"
	}
	b := []byte{0xfe, 0xff}
	for _, c := range utf16.Encode([]rune(s)) {
		b = binary.BigEndian.AppendUint16(b, c)
	}
	return "<" + hex.EncodeToString(b) + ">"
}

// rewrite gives a dictionary's text with some values replaced or added.
func rewrite(o object, key string, value []byte) []byte {
	var b bytes.Buffer
	b.WriteString("<<")
	found := false
	for _, k := range o.keys {
		fmt.Fprintf(&b, "/%s ", escapeName(k))
		if k == key {
			b.Write(value)
			found = true
		} else {
			b.Write(o.dict[k].raw)
		}
		b.WriteByte('\n')
	}
	if !found {
		fmt.Fprintf(&b, "/%s ", key)
		b.Write(value)
	}
	b.WriteString(">>")
	return b.Bytes()
}

func escapeName(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' || isDelimiter(c) || c == '#' {
			fmt.Fprintf(&b, "#%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// withItem gives an array's text with one reference more.
func withItem(array object, r ref) []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for _, item := range array.items {
		b.Write(item.raw)
		b.WriteByte(' ')
	}
	fmt.Fprintf(&b, "%d %d R]", r.num, r.gen)
	return b.Bytes()
}

// replace writes a new version of an object.
func (u *update) replace(r ref, body []byte) error {
	if _, twice := u.at[r.num]; twice {
		return ErrMalformed.Because(fmt.Errorf("object %d serves two purposes", r.num))
	}
	u.begin(r)
	u.buf.Write(body)
	u.end()
	return nil
}

// grow appends a reference to an array under a dictionary's key. Where the array
// is an object of its own, that one is written again and body is nil; else body is
// the dictionary with it.
func (u *update) grow(dict object, key string, r ref) (body []byte, err error) {
	old := dict.get(key)
	list, err := u.d.resolve(old)
	if err != nil {
		return nil, err
	}
	if list.kind != kindArray && list.kind != kindNull {
		return nil, ErrMalformed.Because(fmt.Errorf("/%s is no array", key))
	}
	if old.kind == kindRef && list.kind == kindArray {
		return nil, u.replace(old.ref, withItem(list, r))
	}
	return rewrite(dict, key, withItem(list, r)), nil
}

func (u *update) annotate(page ref, dict object, widget ref) error {
	body, err := u.grow(dict, "Annots", widget)
	if err != nil || body == nil {
		return err
	}
	return u.replace(page, body)
}

// form makes the field known. SigFlags 3: there are signatures, and only
// appending keeps them.
func (u *update) form(catalog object, widget ref) error {
	old := catalog.get("AcroForm")
	form, err := u.d.resolve(old)
	if err != nil {
		return err
	}
	if form.kind == kindNull {
		form, old = object{kind: kindDict, dict: map[string]object{}}, object{}
	}
	if form.kind != kindDict {
		return ErrMalformed.Because(errors.New("the form is no dictionary"))
	}
	flags, flagged := form.get("SigFlags").integer()
	if !flagged || flags&3 != 3 {
		raw := rewrite(form, "SigFlags", []byte("3"))
		l := &lexer{b: append(raw, ' '), base: -1}
		if form, err = l.object(0); err != nil {
			return malformed(err)
		}
	}
	body, err := u.grow(form, "Fields", widget)
	if err != nil {
		return err
	}
	if body == nil {
		if flagged && flags&3 == 3 {
			return nil
		}
		body = form.raw
	}
	if old.kind == kindRef {
		return u.replace(old.ref, body)
	}
	return u.replace(u.d.trailer.get("Root").ref, rewrite(catalog, "AcroForm", body))
}

// finish writes the cross-reference section in the kind the file has.
func (u *update) finish() error {
	start := u.d.size + int64(u.buf.Len())
	var keep bytes.Buffer
	for _, key := range []string{"Root", "Info", "ID"} {
		if v := u.d.trailer.get(key); v.kind != kindNull {
			fmt.Fprintf(&keep, "/%s %s", key, v.raw)
		}
	}
	fmt.Fprintf(&keep, "/Prev %d", u.d.start)
	if u.d.streams {
		u.xrefStream(start, keep.Bytes())
	} else {
		u.xrefTable(keep.Bytes())
	}
	fmt.Fprintf(&u.buf, "startxref\n%d\n%%%%EOF\n", start)
	return nil
}

func (u *update) numbers() []int {
	var out []int
	for num := range u.at {
		out = append(out, num)
	}
	slices.Sort(out)
	return out
}

func (u *update) xrefTable(keep []byte) {
	u.buf.WriteString("xref\n")
	for numbers := u.numbers(); len(numbers) > 0; {
		n := 1
		for n < len(numbers) && numbers[n] == numbers[0]+n {
			n++
		}
		fmt.Fprintf(&u.buf, "%d %d\n", numbers[0], n)
		for _, num := range numbers[:n] {
			fmt.Fprintf(&u.buf, "%010d %05d n \n", u.at[num].offset, u.at[num].gen)
		}
		numbers = numbers[n:]
	}
	fmt.Fprintf(&u.buf, "trailer\n<</Size %d%s>>\n", u.next, keep)
}

func (u *update) xrefStream(start int64, keep []byte) {
	self := ref{num: u.next}
	u.next++
	u.at[self.num] = placed{0, start}
	var index, rows bytes.Buffer
	for _, num := range u.numbers() {
		fmt.Fprintf(&index, "%d 1 ", num)
		p := u.at[num]
		rows.WriteByte(1)
		rows.Write(binary.BigEndian.AppendUint64(nil, uint64(p.offset))[2:])
		rows.Write(binary.BigEndian.AppendUint16(nil, uint16(p.gen)))
	}
	fmt.Fprintf(&u.buf, "%d 0 obj\n<</Type/XRef/Size %d/W[1 6 2]/Index[%s]/Length %d%s>>\nstream\n", self.num, u.next, index.Bytes(), rows.Len(), keep)
	u.buf.Write(rows.Bytes())
	u.buf.WriteString("\nendstream\nendobj\n")
}
