package citizen

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestParseNationalIDAccepts(t *testing.T) {
	for typed, want := range map[string]string{
		"A123456789":   "A123456789", // the textbook number
		"a123456789":   "A123456789",
		" A1234 56789": "A123456789",
		"Ａ１２３４５６７８９":   "A123456789", // full width
		"A800000014":   "A800000014", // resident number, format of 2021
		"F131104093":   "F131104093",
	} {
		id, err := ParseNationalID(typed)
		if err != nil || id.Reveal() != want {
			t.Errorf("ParseNationalID(%q) = %q, %v", typed, id.Reveal(), err)
		}
	}
}

// Of the ten possible last digits exactly one is right, for every letter and kind.
func TestCheckDigitIsUnique(t *testing.T) {
	for letter := 'A'; letter <= 'Z'; letter++ {
		for _, kind := range "1289" {
			n := 0
			for d := '0'; d <= '9'; d++ {
				if _, err := ParseNationalID(string(letter) + string(kind) + "2345678" + string(d)); err == nil {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%c%c: %d check digits accepted", letter, kind, n)
			}
		}
	}
}

func TestParseNationalIDRefuses(t *testing.T) {
	for _, typed := range []string{
		"", "A", "A12345678", "A1234567890", "A123456788", "A323456789", "1123456789", "AA23456789",
		"A12345678X", "A12345６78X", strings.Repeat(" ", 60) + "A123456789", "A123456789\x00", "Á123456789",
		"A1２3456789\n",
	} {
		if id, err := ParseNationalID(typed); !errors.Is(err, ErrNationalID) || !id.IsZero() {
			t.Errorf("ParseNationalID(%q) was not refused: %v", typed, err)
		}
	}
}

func TestNationalIDNeverPrints(t *testing.T) {
	id, err := ParseNationalID("A123456789")
	if err != nil {
		t.Fatal(err)
	}
	if id.Last4() != "6789" || id.String() != "A1******89" {
		t.Errorf("Last4 %q, String %q", id.Last4(), id.String())
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "id", id, "in", struct{ ID NationalID }{id})
	j, _ := json.Marshal(map[string]any{"id": id})
	out := fmt.Sprintf("%v %+v %#v %s %q %x %d %v %#v", id, id, id, id, id, id, id, &id, struct{ ID NationalID }{id}) + log.String() + string(j)
	if strings.Contains(out, "23456") || strings.Contains(out, "3233343536") {
		t.Errorf("the number leaked: %s", out)
	}
	if !strings.Contains(log.String(), "A1******89") {
		t.Errorf("positive control: the masked form is not in %s", log.String())
	}
}

func TestMasked(t *testing.T) {
	for name, want := range map[string]string{
		"王小明": "王○明", "王明": "王○", "歐陽小明": "歐○○明", "王": "○", "": "",
		"Anna Lee": "A○○○ L○○", "夏曼‧藍波安": "夏○‧藍○○",
	} {
		if got := Masked(name); got != want {
			t.Errorf("Masked(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestVault(t *testing.T) {
	v, err := NewVault(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	other, _ := NewVault(bytes.Repeat([]byte{8}, 32))
	id, _ := ParseNationalID("A123456789")
	mac := v.MAC(id)
	if len(mac) != 32 || !bytes.Equal(mac, v.MAC(id)) || bytes.Equal(mac, other.MAC(id)) {
		t.Error("the MAC must be stable and depend on the key")
	}
	handle := v.UserHandle(mac)
	if len(handle) != 32 || bytes.Equal(handle, mac) || bytes.Equal(handle, other.UserHandle(mac)) {
		t.Error("the user handle must be its own keyed value")
	}
	sealed, err := v.Seal(FieldName, mac, "王小明")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := v.Open(FieldName, mac, sealed); err != nil || got != "王小明" {
		t.Fatalf("positive control: %q, %v", got, err)
	}
	again, _ := v.Seal(FieldName, mac, "王小明")
	if bytes.Equal(sealed, again) {
		t.Error("two seals of one value are equal")
	}
	flipped := bytes.Clone(sealed)
	flipped[len(flipped)-1] ^= 1
	for what, f := range map[string]func() (string, error){
		"other field":   func() (string, error) { return v.Open(FieldNationalID, mac, sealed) },
		"other citizen": func() (string, error) { return v.Open(FieldName, other.MAC(id), sealed) },
		"other key":     func() (string, error) { return other.Open(FieldName, mac, sealed) },
		"changed":       func() (string, error) { return v.Open(FieldName, mac, flipped) },
		"short":         func() (string, error) { return v.Open(FieldName, mac, sealed[:20]) },
		"empty":         func() (string, error) { return v.Open(FieldName, mac, nil) },
		"version":       func() (string, error) { return v.Open(FieldName, mac, append([]byte{2}, sealed[1:]...)) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: opened", what)
		}
	}
	if _, err := NewVault(make([]byte, 31)); err == nil {
		t.Error("a short secret was accepted")
	}
	if _, err := v.Seal(FieldName, mac, strings.Repeat("x", maxSealed+1)); err == nil {
		t.Error("an unbounded value was sealed")
	}
}

func TestPersonNeverPrints(t *testing.T) {
	p := Person{name: "王小明", nationalID: "A123456789"}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "p", p)
	if out := fmt.Sprintf("%v %+v %#v %s", p, p, p, p) + log.String(); strings.Contains(out, "王小明") || strings.Contains(out, "A123") {
		t.Errorf("leaked: %s", out)
	}
}

func FuzzParseNationalID(f *testing.F) {
	for _, s := range []string{"A123456789", "Ａ１２３", "a8 00000014", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		id, err := ParseNationalID(typed)
		if err != nil {
			return
		}
		if again, err := ParseNationalID(id.Reveal()); err != nil || again != id || len(id.Reveal()) != 10 {
			t.Fatalf("%q: not a fixed point", typed)
		}
	})
}
