package passkey

import (
	"encoding/json"
	"strings"
	"testing"
)

func readAny(s string) error {
	r := jsonReader{data: []byte(s)}
	if err := r.skip(1); err != nil {
		return err
	}
	return r.end()
}

func TestStrictJSON(t *testing.T) {
	for _, s := range []string{
		`{}`, ` { } `, `[]`, `{"a":1,"b":[true,false,null,-1.5e3,"x"],"c":{"a":2}}`, `"é"`, `"\u00e9\n\ud83d\ude00"`,
		`0`, `-0`, `1e9`, "\t[\r\n1 ]", `{"":0}`, `{"a":0,"A":0}`,
	} {
		if err := readAny(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{
		``, `{`, `}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{'a':1}`, `[1,]`, `[1 2]`, `tru`, `nul`, `TRUE`, `01`, `1.`, `.5`, `+1`, `-`,
		`NaN`, `"`, `"\x"`, `"\u12"`, "\"a\nb\"", "\"\xff\"", `"\ud800"`, `"\ude00\ud83d"`, `{} {}`, `1 1`, "\uFEFF{}", `{"a":1,"a":2}`,
		`{"a":1,"\u0061":2}`, `[{"x":{"a":1,"a":1}}]`, strings.Repeat("[", 20) + strings.Repeat("]", 20),
		`[` + strings.Repeat("1,", 200) + `1]`, "\"a\x00\"", `/**/1`, strings.Repeat("1", 100),
	} {
		if err := readAny(s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

func TestKnownNamesInOtherCase(t *testing.T) {
	read := func(s string) error {
		r := jsonReader{data: []byte(s)}
		return r.object(1, []string{"type", "rawId"}, func([]byte) error { return r.skip(2) })
	}
	for _, s := range []string{`{"type":1,"rawId":2,"x":3}`, `{"typ":1}`, `{"types":1}`} {
		if err := read(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	// U+017F and U+212A fold to s and k: encoding/json would take them too.
	for _, s := range []string{`{"Type":1}`, `{"TYPE":1}`, `{"rawid":1}`, `{"RAWID":1}`, `{"\u0054ype":1}`} {
		if err := read(s); err == nil {
			t.Errorf("%s is accepted", s)
		}
	}
	r := jsonReader{data: []byte(`{"hint` + "\u017F" + `":1}`)}
	if err := r.object(1, []string{"hints"}, func([]byte) error { return r.skip(2) }); err == nil {
		t.Error("a name that folds to a known one is accepted")
	}
}

// FuzzStrictJSON: whatever is accepted is valid JSON for the standard reader too.
func FuzzStrictJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,"x",null,true]}`, `"\ud83d\ude00"`, `{"a":1,"a":2}`, "\"\xff\"", `-1.5e+3`, `[[[[]]]]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if readAny(s) == nil && !json.Valid([]byte(s)) {
			t.Fatalf("%q is accepted", s)
		}
		r := jsonReader{data: []byte(s)}
		if got, err := r.str(); err == nil && r.end() == nil {
			var theirs string
			if json.Unmarshal([]byte(s), &theirs) != nil || theirs != string(got) {
				t.Fatalf("%q is read as %q", s, got)
			}
		}
	})
}
