package passkey_test

import (
	"crypto/sha256"
	"testing"
	"time"

	"sealgate/internal/passkey"
	"sealgate/internal/softauthn"
)

// TestOvertaken: only an answer whose challenge was open at the last use, and
// whose counter lies a little below, may be the phone's own.
func TestOvertaken(t *testing.T) {
	use := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	before := use.Add(-time.Microsecond)
	rp := newRP(t)
	phone := softauthn.New(softauthn.Options{})
	challenge := sha256.Sum256([]byte("overtaken"))
	if _, err := register(t, rp, phone); err != nil {
		t.Fatal(err)
	}
	options, err := rp.RequestOptions(challenge[:], nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name            string
		sent, stored    uint32
		issued, lastUse time.Time
		want            bool
	}{
		{"overtaken by one", 6, 7, before, use, true},
		{"overtaken by four", 3, 7, before, use, true},
		{"the highest there is", 1<<32 - 2, 1<<32 - 1, before, use, true},
		{"overtaken by five", 2, 7, before, use, false},
		{"gone to zero", 0, 2, before, use, false},
		{"the same", 7, 7, before, use, false},
		{"above", 8, 7, before, use, false},
		{"far above", 1<<32 - 1, 2, before, use, false},
		{"issued at the last use", 6, 7, use, use, false},
		{"issued after the last use", 6, 7, use.Add(time.Microsecond), use, false},
		{"never used", 6, 7, before, time.Time{}, false},
		{"nobody knows when it was issued", 6, 7, time.Time{}, use, false},
	} {
		raw, err := phone.Get(origin, options, softauthn.CounterAt(tc.sent))
		if err != nil {
			t.Fatal(err)
		}
		a, err := passkey.ParseAssertion(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Overtaken(tc.stored, tc.issued, tc.lastUse); got != tc.want {
			t.Errorf("%s: %t", tc.name, got)
		}
	}
}
