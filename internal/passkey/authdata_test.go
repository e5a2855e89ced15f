package passkey

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"sealgate/internal/softauthn"
)

// attestedBytes builds authenticator data by hand.
func attestedBytes(flags byte, idLength int, id, key, more []byte) []byte {
	b := append(bytes.Repeat([]byte{1}, 32), flags, 0, 0, 0, 9)
	b = append(b, bytes.Repeat([]byte{2}, 16)...)
	b = binary.BigEndian.AppendUint16(b, uint16(idLength))
	return append(append(append(b, id...), key...), more...)
}

func TestParseAuthData(t *testing.T) {
	key, _ := softauthn.TestKey(ES256)
	const up, at, ed = flagUserPresent, flagAttested, flagExtensions
	plain := func(flags byte, more ...byte) []byte {
		return append(append(bytes.Repeat([]byte{1}, 32), flags, 0, 0, 0, 9), more...)
	}
	id := bytes.Repeat([]byte{3}, 1023)
	for _, tc := range []struct {
		name     string
		raw      []byte
		attested bool
		ok       bool
	}{
		{"assertion", plain(up), false, true},
		{"assertion with extensions", plain(up|ed, 0xA1, 0x61, 'x', 0xF5), false, true},
		{"assertion with empty extensions", plain(up|ed, 0xA0), false, true},
		{"registration", attestedBytes(up|at, 4, id[:4], key, nil), true, true},
		{"registration with extensions", attestedBytes(up|at|ed, 4, id[:4], key, []byte{0xA1, 0x61, 'x', 0x01}), true, true},
		{"credential id of 1023 bytes", attestedBytes(up|at, 1023, id, key, nil), true, true},
		{"short", plain(up)[:36], false, false},
		{"empty", nil, false, false},
		{"too long", plain(up|ed, appendCBORBytes([]byte{0xA1, 0x61, 'x'}, make([]byte, maxAuthData))...), false, false},
		{"bytes left over", plain(up, 0), false, false},
		{"AT without its data", plain(up | at), false, false},
		{"AT in an assertion", attestedBytes(up|at, 4, id[:4], key, nil), false, false},
		{"attested data without AT", attestedBytes(up, 4, id[:4], key, nil), true, false},
		{"registration without attested data", plain(up), true, false},
		{"ED without its data", plain(up | ed), false, false},
		{"ED with something else", plain(up|ed, 0x01), false, false},
		{"ED with a list", plain(up|ed, 0x80), false, false},
		{"ED with numbers as names", plain(up|ed, 0xA1, 0x01, 0x01), false, false},
		{"ED with a name twice", plain(up|ed, 0xA2, 0x61, 'x', 1, 0x61, 'x', 1), false, false},
		{"ED with indefinite length", plain(up|ed, 0xBF, 0xFF), false, false},
		{"ED too deep", plain(up|ed, append([]byte{0xA1, 0x61, 'x'}, append(bytes.Repeat([]byte{0x81}, 20), 1)...)...), false, false},
		{"two maps", plain(up|ed, 0xA0, 0xA0), false, false},
		{"empty credential id", attestedBytes(up|at, 0, nil, key, nil), true, false},
		{"credential id of 1024 bytes", attestedBytes(up|at, 1024, append(id, 3), key, nil), true, false},
		{"credential id cut off", attestedBytes(up|at, 1023, id[:4], nil, nil), true, false},
		{"AAGUID cut off", plain(up|at, 1, 2, 3), true, false},
		{"no key", attestedBytes(up|at, 4, id[:4], nil, nil), true, false},
		{"a byte behind the key", attestedBytes(up|at, 4, id[:4], key, []byte{0}), true, false},
		{"BS without BE", plain(up | flagBackupState), false, false},
		{"BS with BE", plain(up | flagBackupState | flagBackupEligible), false, true},
	} {
		d, err := parseAuthData(tc.raw, tc.attested)
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
		if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrKeyUnsupported) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if err == nil && d.signCount != 9 {
			t.Errorf("%s: counter %d", tc.name, d.signCount)
		}
	}
}

func TestParseClientData(t *testing.T) {
	const good = `{"type":"webauthn.get","challenge":"AA","origin":"https://a"`
	for s, ok := range map[string]bool{
		good + `}`:                        true,
		good + `,"crossOrigin":false}`:    true,
		"\xEF\xBB\xBF" + good + `}`:       true,
		good + `,"future":{"a":[1,2,3]}}`: true,
		good + `,"x":"` + strings.Repeat("x", maxClientData) + `"}`: false,
		"\xEF\xBB\xBF\xEF\xBB\xBF" + good + `}`:                     false,
		"\xFE\xFF" + good + `}`:                                     false,
		good + `,"crossOrigin":"true"}`:                             false,
		good + `,"crossOrigin":null}`:                               false,
		good + `,"crossOrigin":0}`:                                  false,
		good + `,"topOrigin":null}`:                                 false,
		good + `,"topOrigin":""}`:                                   false,
		good + `,"topOrigin":["https://b"]}`:                        false,
		good + `,"tokenBinding":null}`:                              false,
		good + `}x`:                                                 false,
		`{"type":"webauthn.get","challenge":"AA"}`:                  false,
		`{"type":"webauthn.get","origin":"https://a"}`:              false,
		`{"challenge":"AA","origin":"https://a"}`:                   false,
		`{"type":null,"challenge":"AA","origin":"https://a"}`:       false,
		`["webauthn.get"]`:                                          false,
		``:                                                          false,
	} {
		if _, err := parseClientData([]byte(s)); (err == nil) != ok {
			t.Errorf("%.80q: %v", s, err)
		}
	}
}

func TestParseAttestationObject(t *testing.T) {
	key, _ := softauthn.TestKey(ES256)
	data := attestedBytes(flagAttested, 4, []byte("abcd"), key, nil)
	build := func(head byte, members ...[]byte) []byte { return append([]byte{head}, bytes.Join(members, nil)...) }
	format := append([]byte{0x63}, "fmt\x64none"...)
	statement := append([]byte{0x67}, "attStmt\xA0"...)
	auth := appendCBORBytes(append([]byte{0x68}, "authData"...), data)
	for name, raw := range map[string][]byte{
		"good":               build(0xA3, format, statement, auth),
		"good, other order":  build(0xA3, auth, format, statement),
		"! empty":            nil,
		"! no fmt":           build(0xA2, statement, auth),
		"! no attStmt":       build(0xA2, format, auth),
		"! member twice":     build(0xA4, format, format, statement, auth),
		"! other member":     build(0xA4, format, statement, auth, []byte("\x61x\x01")),
		"! other case":       build(0xA3, append([]byte{0x63}, "FMT\x64none"...), statement, auth),
		"! attStmt a number": build(0xA3, format, append([]byte{0x67}, "attStmt\x01"...), auth),
		"! something behind": append(build(0xA3, format, statement, auth), 0),
		"! a list":           {0x80},
		"! too large":        build(0xA3, format, statement, appendCBORBytes(append([]byte{0x68}, "authData"...), make([]byte, maxAttestationObject))),
	} {
		if _, err := parseAttestationObject(raw); (err != nil) != strings.HasPrefix(name, "!") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
