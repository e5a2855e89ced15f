package citizen

import (
	"fmt"
	"log/slog"
	"strings"

	"sealgate/internal/fault"
)

// ErrNationalID refuses a national ID that cannot exist: wrong form or check digit.
var ErrNationalID = fault.New(fault.Invalid, "national_id_invalid")

// NationalID is a checked national ID number (國民身分證統一編號) or a resident
// number of the format in use since 2021 (外來人口統一證號): a letter, a digit
// for the kind of person, seven digits and a check digit.
//
// It never prints: String, Format and LogValue give the masked form. Reveal is
// the only way to the value.
type NationalID struct{ v string }

// maxTyped bounds what ParseNationalID looks at: ten characters, room for spaces.
const maxTyped = 64

// ParseNationalID reads what a person typed. Spaces around and inside are
// dropped, letters become upper case, and full-width characters (as Chinese
// input methods produce) become ASCII. It gives ErrNationalID for anything that
// is not a possible number.
func ParseNationalID(typed string) (NationalID, error) {
	if len(typed) > maxTyped {
		return NationalID{}, ErrNationalID
	}
	var b strings.Builder
	for _, r := range typed {
		if r >= '！' && r <= '～' { // U+FF01–U+FF5E mirror U+0021–U+007E
			r -= '！' - '!'
		}
		switch {
		case r == ' ' || r == '\t' || r == '\u3000' || r == '\u00a0':
			continue
		case r >= 'a' && r <= 'z':
			r -= 'a' - 'A'
		}
		b.WriteRune(r)
	}
	v := b.String()
	if !wellFormed(v) || checksum(v)%10 != 0 {
		return NationalID{}, ErrNationalID
	}
	return NationalID{v}, nil
}

func wellFormed(v string) bool {
	if len(v) != 10 || v[0] < 'A' || v[0] > 'Z' {
		return false
	}
	// 1, 2: nationals; 8, 9: residents without household registration.
	if !strings.ContainsRune("1289", rune(v[1])) {
		return false
	}
	for _, c := range []byte(v[2:]) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// letterCode is the two-digit number that stands for the area letter A to Z.
// I, O, W, X, Y, Z were given out later, hence the order.
var letterCode = [26]byte{
	10, 11, 12, 13, 14, 15, 16, 17, 34, 18, 19, 20, 21, // A–M
	22, 35, 23, 24, 25, 26, 27, 28, 29, 32, 30, 31, 33, // N–Z
}

// checksum is the weighted digit sum; a possible number has one divisible by ten.
func checksum(v string) int {
	code := letterCode[v[0]-'A']
	sum := int(code/10) + 9*int(code%10)
	for i, weight := range [9]int{8, 7, 6, 5, 4, 3, 2, 1, 1} {
		sum += weight * int(v[i+1]-'0')
	}
	return sum
}

// Reveal gives the ten characters. What it returns must not be logged.
func (n NationalID) Reveal() string { return n.v }

// IsZero reports a value that did not come from ParseNationalID.
func (n NationalID) IsZero() bool { return n.v == "" }

// Last4 gives the last four digits: the only part of the number that a citizen
// certificate carries.
func (n NationalID) Last4() string {
	if n.v == "" {
		return ""
	}
	return n.v[6:]
}

// String gives the masked form: A1******89.
func (n NationalID) String() string {
	if n.v == "" {
		return ""
	}
	return n.v[:2] + "******" + n.v[8:]
}

// Format keeps every fmt verb, %#v and %x included, at the masked form.
func (n NationalID) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(n.String())) }

// LogValue keeps the value out of structured logs.
func (n NationalID) LogValue() slog.Value { return slog.StringValue(n.String()) }

// MarshalText keeps the value out of JSON that was made by accident.
func (n NationalID) MarshalText() ([]byte, error) { return []byte(n.String()), nil }
