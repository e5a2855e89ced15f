package citizen

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
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

// testVault seals with a cipher of its own: the keyring is another package's matter.
func testVault(t *testing.T, fill byte) *Vault {
	t.Helper()
	block, err := aes.NewCipher(bytes.Repeat([]byte{fill}, 32))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVault(VaultConfig{
		LookupSecret: bytes.Repeat([]byte{fill}, 32),
		Seal: func(_ context.Context, purpose string, aad, value []byte) ([]byte, error) {
			return aead.Seal(nil, nil, value, append([]byte(purpose), aad...)), nil
		},
		Open: func(_ context.Context, purpose string, aad, value []byte) ([]byte, error) {
			return aead.Open(nil, nil, value, append([]byte(purpose), aad...))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVaultSealsAndSeparates(t *testing.T) {
	ctx := t.Context()
	v, other := testVault(t, 7), testVault(t, 8)
	id, _ := ParseNationalID("A123456789")
	mac := v.MAC(id)
	if len(mac) != 32 || !bytes.Equal(mac, v.MAC(id)) || bytes.Equal(mac, other.MAC(id)) {
		t.Error("the MAC must be stable and depend on the key")
	}
	handle := v.UserHandle(mac)
	if len(handle) != 32 || bytes.Equal(handle, mac) || bytes.Equal(handle, other.UserHandle(mac)) {
		t.Error("the user handle must be its own keyed value")
	}
	sealed, err := v.Seal(ctx, FieldName, mac, "王小明")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := v.Open(ctx, FieldName, mac, sealed); err != nil || got != "王小明" {
		t.Fatalf("positive control: %q, %v", got, err)
	}
	for what, f := range map[string]func() (string, error){
		"other field":   func() (string, error) { return v.Open(ctx, FieldNationalID, mac, sealed) },
		"other citizen": func() (string, error) { return v.Open(ctx, FieldName, other.MAC(id), sealed) },
		"other key":     func() (string, error) { return other.Open(ctx, FieldName, mac, sealed) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: opened", what)
		}
	}
	if _, err := NewVault(VaultConfig{LookupSecret: make([]byte, 31), Seal: v.seal, Open: v.open}); err == nil {
		t.Error("a short secret was accepted")
	}
	if _, err := v.Seal(ctx, FieldName, mac, strings.Repeat("x", maxSealed+1)); err == nil {
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
