package pades

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Change says what was added to a document after a signature.
type Change int

// The kinds of change, from harmless to not.
const (
	NoChange Change = iota
	// SignaturesAdded: only signatures without a picture, time-stamps, and data for
	// their validation.
	SignaturesAdded
	// PicturesAdded: also signatures with a picture on a page, which may hide things.
	PicturesAdded
	// OtherChanges: what is shown now may differ from what was signed.
	OtherChanges
)

// String names the change as in reports.
func (c Change) String() string {
	return [...]string{"none", "signatures", "signatures_with_pictures", "other"}[c]
}

// Signature is one signature field's value.
type Signature struct {
	Field             string // fully qualified name
	Type              string // "Sig" or "DocTimeStamp"
	Filter, SubFilter string
	ByteRange         [4]int64
	// Contents is the CMS SignedData, or the time-stamp token, without padding. For
	// the old SubFilter adbe.x509.rsa_sha1 it is an OCTET STRING.
	Contents []byte
	// What the signature dictionary claims. Time is /M.
	Name, Reason, Location string
	Time                   time.Time
	// CoversWholeFile: nothing was added after it.
	CoversWholeFile bool
	// Later says what was added after it; meaningless when Err is set.
	Later Change
	// Certified is the DocMDP permission (1, 2 or 3) of a certification signature.
	Certified int
	// Err: the byte range or the value is not what it must be. Such a signature
	// proves nothing, however good its CMS is.
	Err error
}

// Signatures lists the values of a document's signature fields, in the order of
// what they cover. The error is about the document: it cannot be read.
func Signatures(ctx context.Context, pdf io.ReaderAt, size int64) ([]Signature, error) {
	d, err := open(ctx, pdf, size)
	if err != nil {
		return nil, err
	}
	catalog, err := d.catalog()
	if err != nil {
		return nil, err
	}
	_, fields, err := d.fields(catalog)
	if err != nil {
		return nil, err
	}
	var out []Signature
	for _, f := range fields {
		if f.value.kind == kindNull {
			continue // to be signed one day
		}
		s, err := d.one(f)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b Signature) int {
		return int(min(1, max(-1, a.ByteRange[2]+a.ByteRange[3]-b.ByteRange[2]-b.ByteRange[3])))
	})
	for i := range out {
		for j := range i {
			if out[i].Err == nil && out[i].ByteRange == out[j].ByteRange {
				out[i].Err = ErrByteRange.Because(errors.New("two fields share one signature"))
			}
		}
	}
	return out, nil
}

// Digest hashes what the signature covers.
func (s *Signature) Digest(ctx context.Context, pdf io.ReaderAt, hash crypto.Hash) ([]byte, error) {
	if s.Err != nil {
		return nil, s.Err
	}
	r := s.ByteRange
	return digest(ctx, io.MultiReader(io.NewSectionReader(pdf, r[0], r[1]), io.NewSectionReader(pdf, r[2], r[3])), r[1]+r[3], hash)
}

func (d *document) one(f field) (Signature, error) {
	s := Signature{Field: f.name}
	if f.value.kind != kindRef {
		s.Err = ErrByteRange.Because(errors.New("the signature is no object of its own"))
		return s, nil
	}
	dict, err := d.load(f.value.ref)
	if err != nil {
		return s, err
	}
	if dict.kind != kindDict {
		s.Err = ErrByteRange.Because(errors.New("the field's value is no signature"))
		return s, nil
	}
	if err := d.describe(&s, dict); err != nil {
		return s, err
	}
	s.Err = d.covers(&s, dict)
	if s.Err != nil {
		return s, d.ctx.Err()
	}
	end := s.ByteRange[2] + s.ByteRange[3]
	s.CoversWholeFile = end == d.size
	if !s.CoversWholeFile {
		s.Later, s.Err = d.later(f, end)
	}
	return s, d.ctx.Err()
}

func (d *document) describe(s *Signature, dict object) error {
	for key, to := range map[string]*string{"Type": &s.Type, "Filter": &s.Filter, "SubFilter": &s.SubFilter} {
		v, err := d.at(dict, key)
		if err != nil {
			return err
		}
		*to = v.name()
	}
	if s.Type == "" {
		s.Type = "Sig"
	}
	var when string
	for key, to := range map[string]*string{"Name": &s.Name, "Reason": &s.Reason, "Location": &s.Location, "M": &when} {
		v, err := d.at(dict, key)
		if err != nil {
			return err
		}
		*to = v.text()
	}
	s.Time = date(when)
	var err error
	s.Certified, err = d.permission(dict)
	return err
}

// date reads "D:YYYYMMDDHHmmSSOHH'mm'" (§7.9.4); zero when it is not one.
func date(s string) time.Time {
	s = string(bytes.ReplaceAll([]byte(s), []byte("'"), nil))
	for _, layout := range []string{"D:20060102150405-0700", "D:20060102150405Z0700", "D:20060102150405"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// covers holds a signature to: everything up to an end, but its own value.
func (d *document) covers(s *Signature, dict object) error {
	bad := func(format string, a ...any) error { return ErrByteRange.Because(fmt.Errorf(format, a...)) }
	if s.Type != "Sig" && s.Type != "DocTimeStamp" {
		return bad("a signature of type %.40q", s.Type)
	}
	items := dict.get("ByteRange").items
	if len(items) != 4 {
		return bad("a byte range of %d numbers", len(items))
	}
	for i, item := range items {
		n, ok := item.integer()
		if !ok || n < 0 {
			return bad("the byte range holds what is no offset")
		}
		s.ByteRange[i] = n
	}
	r := s.ByteRange
	value := dict.get("Contents")
	switch {
	case r[0] != 0 || r[1] == 0 || r[2] <= r[1] || r[3] == 0 || r[2]+r[3] > d.size:
		return bad("byte range %v of %d bytes", r, d.size)
	case value.kind != kindString || !value.hex || dict.offset < 0:
		return bad("the value is no hexadecimal string of its own")
	case len(value.raw) > maxGap:
		return ErrTooLarge.Because(errors.New("a signature's value is too large"))
	case value.offset != r[1] || value.offset+int64(len(value.raw)) != r[2]:
		return bad("the gap %d to %d is not the value at %d to %d", r[1], r[2], value.offset, value.offset+int64(len(value.raw)))
	case dict.offset+int64(len(dict.raw)) > r[2]+r[3]:
		return bad("the signature lies outside of what it covers")
	}
	n := derLength(value.val)
	if s.SubFilter == "adbe.x509.rsa_sha1" { // a bare RSA value in an OCTET STRING
		n = elementLength(value.val, 0x04)
	}
	if n == 0 || len(bytes.Trim(value.val[n:], "\x00")) > 0 {
		return bad("the value is no DER element with padding")
	}
	s.Contents = value.val[:n]
	return nil
}

// derLength is the length of the DER SEQUENCE at the start of b, 0 when there is
// none.
func derLength(b []byte) int { return elementLength(b, 0x30) }

func elementLength(b []byte, tag byte) int {
	if len(b) < 2 || b[0] != tag {
		return 0
	}
	n, head := int(b[1]), 2
	if n >= 0x80 {
		count := n & 0x7f
		if count == 0 || count > 4 || len(b) < 2+count {
			return 0
		}
		n = 0
		for _, c := range b[2 : 2+count] {
			n = n<<8 | int(c)
		}
		head += count
	}
	if n == 0 || n > len(b)-head {
		return 0
	}
	return head + n
}
