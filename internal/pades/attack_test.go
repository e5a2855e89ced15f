package pades_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sealgate/internal/pades"
)

// increment appends objects to a classic document, as an attacker or a reader
// would. size is the new number of objects.
func increment(pdf []byte, changes map[int]string, extra string) []byte {
	at := bytes.LastIndex(pdf, []byte("startxref\n")) + len("startxref\n")
	prev := must(strconv.Atoi(string(pdf[at : at+bytes.IndexByte(pdf[at:], '\n')])))
	b := bytes.NewBuffer(bytes.Clone(pdf))
	var table bytes.Buffer
	for _, num := range slices.Sorted(maps.Keys(changes)) {
		fmt.Fprintf(&table, "%d 1\n%010d 00000 n \n", num, b.Len())
		fmt.Fprintf(b, "%d 0 obj\n%s\nendobj\n", num, changes[num])
	}
	start := b.Len()
	fmt.Fprintf(b, "xref\n%strailer\n<</Size 50/Root 1 0 R/Prev %d%s>>\nstartxref\n%d\n%%%%EOF\n", table.Bytes(), prev, extra, start)
	return b.Bytes()
}

// What is added after a signature leaves its value good; what it is must be told.
func TestLaterChanges(t *testing.T) {
	withForm := classic(append(with(1, "<</Type/Catalog/Pages 2 0 R/AcroForm 6 0 R>>"),
		"<</Fields[7 0 R 8 0 R]/SigFlags 3>>", "<</FT/Sig/T(empty)/Rect[0 0 0 0]>>", "<</FT/Tx/T(amount)/V(100)>>")...)
	// The field that is added by signing gets number 10, its value 9.
	signed := sign(t, withForm, ec(), options)
	page := "<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>\n/Annots [10 0 R]>>"
	if !bytes.Contains(signed, []byte("/Annots [10 0 R]")) {
		t.Fatal("the page is not as this test expects")
	}
	const catalog = "<</Type/Catalog/Pages 2 0 R/AcroForm 6 0 R%s>>"
	form := "<</Fields [7 0 R 8 0 R 10 0 R%s]/SigFlags 3>>"
	field := "<</FT/Sig/T(s2)/V 21 0 R/AP<</N 22 0 R>>/Rect[0 0 %d %d]>>"
	for name, c := range map[string]struct {
		changes map[int]string
		extra   string
		want    pades.Change
	}{
		"nothing changed":             {map[int]string{}, "", pades.SignaturesAdded},
		"validation data":             {map[int]string{1: fmt.Sprintf(catalog, "/DSS 20 0 R"), 20: "<</Certs[]>>"}, "", pades.SignaturesAdded},
		"a field of no size":          {map[int]string{6: fmt.Sprintf(form, " 20 0 R"), 20: fmt.Sprintf(field, 0, 0)}, "", pades.SignaturesAdded},
		"a field with a picture":      {map[int]string{6: fmt.Sprintf(form, " 20 0 R"), 20: fmt.Sprintf(field, 300, 200)}, "", pades.PicturesAdded},
		"a field with a place, empty": {map[int]string{6: fmt.Sprintf(form, " 20 0 R"), 20: "<</FT/Sig/T(s2)/Rect[0 0 50 50]>>"}, "", pades.SignaturesAdded},
		"an empty field filled":       {map[int]string{7: "<</FT/Sig/T(empty)/Rect[0 0 0 0]/V 21 0 R>>", 21: "<</Type/Sig>>"}, "", pades.SignaturesAdded},
		"an empty field moved":        {map[int]string{7: "<</FT/Sig/T(empty)/Rect[0 0 9 9]/V 21 0 R>>", 21: "<</Type/Sig>>"}, "", pades.OtherChanges},
		"another kind of field":       {map[int]string{6: fmt.Sprintf(form, " 20 0 R"), 20: "<</FT/Tx/T(s2)>>"}, "", pades.OtherChanges},
		"an amount changed":           {map[int]string{8: "<</FT/Tx/T(amount)/V(900)>>"}, "", pades.OtherChanges},
		"a field taken away":          {map[int]string{6: "<</Fields [7 0 R 10 0 R]/SigFlags 3>>"}, "", pades.OtherChanges},
		"page content":                {map[int]string{4: "<</Length 20>>\nstream\nBT (100000) Tj ET    \nendstream"}, "", pades.OtherChanges},
		"a font":                      {map[int]string{5: "<</Type/Font/Subtype/Type1/BaseFont/Symbol>>"}, "", pades.OtherChanges},
		"another content":             {map[int]string{3: strings.Replace(page, "4 0 R", "20 0 R", 1), 20: "<</Length 0>>\nstream\n\nendstream"}, "", pades.OtherChanges},
		"an annotation over the page": {map[int]string{3: strings.Replace(page, "10 0 R]", "10 0 R 20 0 R]", 1), 20: "<</Type/Annot/Subtype/FreeText/Rect[0 0 99 99]>>"}, "", pades.OtherChanges},
		"another page":                {map[int]string{2: "<</Type/Pages/Kids[3 0 R 3 0 R]/Count 2>>"}, "", pades.OtherChanges},
		"an action on opening":        {map[int]string{1: fmt.Sprintf(catalog, "/OpenAction 20 0 R"), 20: "<<>>"}, "", pades.OtherChanges},
		"another description":         {map[int]string{20: "<</Title(x)>>"}, "/Info 20 0 R", pades.OtherChanges},
	} {
		later := increment(signed, c.changes, c.extra)
		s := named(signatures(t, later), "Signature1")
		if err := verify(later, s); err != nil {
			t.Errorf("%s: %v (%v)", name, err, errors.Unwrap(err))
		}
		if s.CoversWholeFile || s.Later != c.want {
			t.Errorf("%s: whole %v, later %v, want %v", name, s.CoversWholeFile, s.Later, c.want)
		}
	}
	if s := signatures(t, append(bytes.Clone(signed), "\r\n"...))[0]; s.CoversWholeFile || s.Later != pades.NoChange || s.Err != nil {
		t.Errorf("a line end behind: %+v", s)
	}
}

func named(all []pades.Signature, field string) pades.Signature {
	return all[slices.IndexFunc(all, func(s pades.Signature) bool { return s.Field == field })]
}

// The author leaves a reference that leads nowhere, and supplies the object later.
func TestAHoleFilledLater(t *testing.T) {
	signed := sign(t, classic(with(3, "<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents[4 0 R 30 0 R]>>")...), ec(), options)
	filled := increment(signed, map[int]string{30: "<</Length 0>>\nstream\n\nendstream"}, "")
	if s := signatures(t, filled)[0]; s.Later != pades.OtherChanges {
		t.Errorf("later: %v", s.Later)
	}
	unrelated := increment(signed, map[int]string{31: "<</Length 0>>\nstream\n\nendstream"}, "")
	if s := signatures(t, unrelated)[0]; s.Later != pades.SignaturesAdded {
		t.Errorf("an object nobody asks for: %v", s.Later)
	}
}

// An old object is swapped while the section that named it is passed by.
func TestASectionPassedBy(t *testing.T) {
	pdf := classic(objects...)
	first := bytes.LastIndex(pdf, []byte("xref\n0"))
	signed := sign(t, pdf, ec(), options)
	at := bytes.LastIndex(signed, []byte("startxref\n"))
	forged := increment(signed, map[int]string{5: "<</Type/Font/Subtype/Type1/BaseFont/Symbol>>"}, "")
	prev := strings.TrimSpace(string(signed[at+10 : at+10+bytes.IndexByte(signed[at+10:], '\n')]))
	forged = bytes.Replace(forged, []byte("/Prev "+prev), fmt.Appendf(nil, "/Prev %d", first), 1)
	all, err := pades.Signatures(context.Background(), bytes.NewReader(forged), int64(len(forged)))
	if err == nil && len(all) > 0 && all[0].Err == nil && all[0].Later != pades.OtherChanges {
		t.Errorf("%+v", all)
	}
}

// Byte ranges that are not "everything but the value" (USF, SWA).
func TestByteRangeForgeries(t *testing.T) {
	pdf := classic(objects...)
	p := prepare(t, pdf, pades.Options{Reserve: 512})
	signed := append(bytes.Clone(pdf), must(p.Embed([]byte{0x30, 0x03, 1, 1, 0}))...)
	if s := signatures(t, signed)[0]; s.Err != nil {
		t.Fatal(s.Err)
	}
	r := p.ByteRange
	old := fmt.Sprintf("[0 %d %d %d]", r[1], r[2], r[3])
	ranges := func(a, b, c, d int64) func([]byte) []byte {
		return func(in []byte) []byte { return swap(in, old, fmt.Sprintf("[%d %d %d %d]", a, b, c, d)) }
	}
	value := func(from, to string) func([]byte) []byte {
		return func(in []byte) []byte { return swap(in, from, to) }
	}
	for name, forge := range map[string]func([]byte) []byte{
		"starts later":            ranges(1, r[1]-1, r[2], r[3]),
		"a wider gap":             ranges(0, r[1], r[2]+8, r[3]-8),
		"a gap that starts early": ranges(0, r[1]-9, r[2], r[3]),
		"a narrow gap":            ranges(0, r[1]+1, r[2], r[3]),
		"without brackets":        ranges(0, r[1]+1, r[2]-1, r[3]+1),
		"ends early":              ranges(0, r[1], r[2], r[3]-100),
		"ends past the file":      ranges(0, r[1], r[2], r[3]+1),
		"overlaps":                ranges(0, r[2], r[1], r[3]),
		"no second part":          ranges(0, r[1], r[2], 0),
		"negative":                ranges(0, -1, r[2], r[3]),
		"three numbers":           value(old, fmt.Sprintf("[0 %d %d]", r[1], r[2])),
		"six numbers":             value(fmt.Sprintf("[0 %d %d %d]     ", r[1], r[2], r[3]), fmt.Sprintf("[0 %d %d %d 0 0]", r[1], r[2], r[3])),
		"null":                    value(old, "null"),
		"no range":                value("/ByteRange", "/ByteRang "),
		"null value":              value("/Contents<3003", "/Contents null<"),
		"no value":                value("/Contents<", "/Content <"),
		"all zeros":               value("<3003010100", "<0000000000"),
		"something behind":        value("<300301010000", "<300301010001"),
		"a type of its own":       value("/Type/Sig/", "/Type/Sag/"),
	} {
		bad := forge(bytes.Clone(signed))
		if bytes.Equal(bad, signed) {
			t.Errorf("%s: nothing was forged", name)
			continue
		}
		all, err := pades.Signatures(context.Background(), bytes.NewReader(bad), int64(len(bad)))
		if err != nil {
			if !errors.Is(err, pades.ErrMalformed) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if len(all) != 1 || !errors.Is(all[0].Err, pades.ErrByteRange) {
			t.Errorf("%s: %+v", name, all)
		}
		if _, err := all[0].Digest(context.Background(), bytes.NewReader(bad), 5); err == nil {
			t.Errorf("%s: a digest is given", name)
		}
	}
}

// swap replaces text by text of the same length, filled with blanks.
func swap(in []byte, from, to string) []byte {
	for len(to) < len(from) {
		to += " "
	}
	i := bytes.LastIndex(in, []byte(from))
	if i < 0 {
		return in
	}
	copy(in[i:], to)
	return in
}

// The value moves to a second dictionary, and the range with it: the field's own
// dictionary no longer lies in what is covered.
func TestTheValueMoved(t *testing.T) {
	signed := sign(t, classic(objects...), ec(), options)
	s := signatures(t, signed)[0]
	gap := string(signed[s.ByteRange[1]:s.ByteRange[2]])
	forged := increment(signed, map[int]string{6: fmt.Sprintf("<</Type/Sig/Filter/Adobe.PPKLite/SubFilter/ETSI.CAdES.detached/ByteRange[0 %d %d %d]/Contents%s>>",
		s.ByteRange[1], s.ByteRange[2], s.ByteRange[3], gap)}, "")
	if got := signatures(t, forged)[0]; !errors.Is(got.Err, pades.ErrByteRange) {
		t.Errorf("%v", got.Err)
	}
}

func TestTwoFieldsOneValue(t *testing.T) {
	pdf := sign(t, classic(append(with(1, "<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[6 0 R]>>>>"), "<</FT/Sig/T(twin)/V 7 0 R>>")...), ec(), options)
	all := signatures(t, pdf)
	if len(all) != 2 || all[0].Err != nil || !errors.Is(all[1].Err, pades.ErrByteRange) {
		t.Errorf("%+v", all)
	}
}

func FuzzSignatures(f *testing.F) {
	for _, pdf := range forms() {
		f.Add(pdf)
		p := prepare(f, pdf, pades.Options{Reserve: 256})
		f.Add(append(bytes.Clone(pdf), must(p.Embed([]byte{0x30, 0x03, 1, 1, 0}))...))
	}
	f.Fuzz(func(t *testing.T, pdf []byte) {
		ctx := context.Background()
		r, size := bytes.NewReader(pdf), int64(len(pdf))
		before, err := pades.Signatures(ctx, r, size)
		if err != nil {
			return
		}
		p, err := pades.Prepare(ctx, r, size, pades.Options{Reserve: 256})
		if err != nil {
			return
		}
		signed := append(bytes.Clone(pdf), must(p.Embed([]byte{0x30, 0x03, 1, 1, 0}))...)
		after, err := pades.Signatures(ctx, bytes.NewReader(signed), int64(len(signed)))
		if err != nil {
			t.Fatalf("what was signed cannot be read: %v (%v)", err, errors.Unwrap(err))
		}
		if len(after) != len(before)+1 || after[len(after)-1].Err != nil || !after[len(after)-1].CoversWholeFile {
			t.Fatalf("%d signatures, then %+v", len(before), after)
		}
	})
}
