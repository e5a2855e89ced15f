package front

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"sealgate/internal/fault"
)

func TestGuesses(t *testing.T) {
	now := time.Now()
	g := NewGuesses(3, time.Minute, func() time.Time { return now })
	one, neighbour, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff"), netip.MustParseAddr("192.0.2.1")
	for range 3 {
		if err := g.Allowed(one); err != nil {
			t.Fatal(err)
		}
		g.Wrong(one)
	}
	f := fault.From(g.Allowed(neighbour)) // the same /64
	if f.Code != "rate_limited" || f.RetryAfter <= 0 || f.RetryAfter > time.Minute {
		t.Fatalf("%v after %v", f, f.RetryAfter)
	}
	if err := g.Allowed(other); err != nil {
		t.Fatal("another address pays for it")
	}
	now = now.Add(61 * time.Second)
	if err := g.Allowed(one); err != nil {
		t.Fatal(err)
	}
	g.Wrong(one)
	if g.Allowed(one) == nil {
		t.Fatal("a whole burst after one minute")
	}
	now = now.Add(time.Hour)
	if err := g.Allowed(one); err != nil || len(g.wrong) != 0 {
		t.Fatalf("%v, %d remembered", err, len(g.wrong))
	}
	for i := range maxGuessers + 10 { // many addresses cost bounded memory
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], uint32(i))
		g.Wrong(netip.AddrFrom4(a))
	}
	if len(g.wrong) > maxGuessers {
		t.Errorf("%d addresses are remembered", len(g.wrong))
	}
}
