package throttle_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"sealgate/internal/throttle"
)

func TestLimit(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	l := throttle.New(throttle.Rate{PerMinute: 60, Burst: 3}, throttle.Rate{PerMinute: 120, Burst: 7}, func() time.Time { return now })
	take := func(address string, want bool) {
		t.Helper()
		wait, ok := l.Take(netip.MustParseAddr(address))
		if ok != want || ok != (wait == 0) || !ok && (wait < time.Second || wait > time.Minute) {
			t.Errorf("%s: %v, wait %v", address, ok, wait)
		}
	}
	for range 3 {
		take("192.0.2.1", true)
	}
	take("192.0.2.1", false)
	take("::ffff:192.0.2.1", false) // the same address in the other family's clothes
	take("2001:db8:0:1::1", true)
	take("2001:db8:0:1::2", true)
	take("2001:db8:0:1:ffff::3", true)
	take("2001:db8:0:1::4", false) // one network
	take("2001:db8:0:2::1", true)  // another; the seventh in all
	take("192.0.2.9", false)       // everybody together
	now = now.Add(time.Second)
	take("192.0.2.1", true)
	take("192.0.2.1", false)
	take("192.0.2.9", true)
	now = now.Add(time.Hour)
	for range 3 { // never more than the burst
		take("192.0.2.1", true)
	}
	take("192.0.2.1", false)
}

func TestNoLimit(t *testing.T) {
	var none *throttle.Limit
	off := throttle.New(throttle.Rate{}, throttle.Rate{}, nil)
	for range 10_000 {
		if _, ok := none.Take(netip.Addr{}); !ok {
			t.Fatal("nil limits")
		}
		if _, ok := off.Take(netip.Addr{}); !ok {
			t.Fatal("zero limits")
		}
	}
}

// However many addresses come, memory stays bounded, and nobody is locked out.
func TestManyAddresses(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	l := throttle.New(throttle.Rate{PerMinute: 1, Burst: 1}, throttle.Rate{}, func() time.Time { return now })
	for i := range uint32(200_000) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], i)
		if _, ok := l.Take(netip.AddrFrom4(b)); !ok {
			t.Fatal(i)
		}
	}
}
