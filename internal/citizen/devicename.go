package citizen

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"sealgate/internal/fault"
)

// MaxDeviceName is the greatest length of a device's name, in characters.
const MaxDeviceName = 60

// ErrDeviceName: empty, too long, or with characters that cannot be shown.
var ErrDeviceName = fault.New(fault.Invalid, "enrol_device_name")

// ParseDeviceName trims a name and refuses what a list cannot show safely:
// control characters and marks that turn the direction of writing.
func ParseDeviceName(name string) (string, error) {
	if len(name) > 8*MaxDeviceName || !utf8.ValidString(name) {
		return "", ErrDeviceName
	}
	name = strings.TrimSpace(name)
	if n := utf8.RuneCountInString(name); n < 1 || n > MaxDeviceName {
		return "", ErrDeviceName
	}
	hidden := func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
	}
	if strings.ContainsFunc(name, hidden) {
		return "", ErrDeviceName
	}
	return name, nil
}
