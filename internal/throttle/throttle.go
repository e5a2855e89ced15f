// Package throttle bounds how often one address may do something on this node:
// a token bucket for each address, IPv6 by /64, and one for all together.
//
// It protects a node from being kept busy, and the audit log from being filled.
// It is no defence against many addresses: that is the work of what stands in
// front (a proxy, the network).
package throttle

import (
	"net/netip"
	"sync"
	"time"
)

// maxAddresses bounds what is remembered.
const maxAddresses = 1 << 16

// Rate is how much may be done: so many a minute in the long run, Burst at once.
// A zero PerMinute is no limit.
type Rate struct {
	PerMinute, Burst int
}

// Limit is a rate for each address and one for all together.
type Limit struct {
	each, all Rate
	now       func() time.Time
	mu        sync.Mutex
	addresses map[netip.Addr]bucket
	total     bucket
}

// bucket holds what is left, at a time.
type bucket struct {
	left float64
	at   time.Time
}

// New makes a limit; now nil is time.Now.
func New(each, all Rate, now func() time.Time) *Limit {
	if now == nil {
		now = time.Now
	}
	return &Limit{each: each, all: all, now: now, addresses: make(map[netip.Addr]bucket)}
}

// Take uses one up for an address. Where none is left it says how long to wait,
// at least a second, and uses nothing up.
func (l *Limit) Take(ip netip.Addr) (wait time.Duration, ok bool) {
	if l == nil {
		return 0, true
	}
	now, ip := l.now(), Block(ip)
	l.mu.Lock()
	defer l.mu.Unlock()
	var one bucket
	if l.each.PerMinute > 0 {
		var known bool
		if one, known = l.addresses[ip]; !known {
			one = bucket{float64(l.each.Burst), now}
		}
		if wait, ok = one.take(l.each, now); !ok {
			return wait, false
		}
	}
	if l.all.PerMinute > 0 {
		if l.total.at.IsZero() {
			l.total = bucket{float64(l.all.Burst), now}
		}
		if wait, ok = l.total.take(l.all, now); !ok {
			return wait, false
		}
	}
	if l.each.PerMinute > 0 {
		if len(l.addresses) >= maxAddresses {
			l.forget(now)
		}
		l.addresses[ip] = one
	}
	return 0, true
}

// take fills up for the time gone by and takes one.
func (b *bucket) take(r Rate, now time.Time) (time.Duration, bool) {
	perSecond := float64(r.PerMinute) / 60
	if gone := now.Sub(b.at).Seconds(); gone > 0 {
		b.left = min(float64(r.Burst), b.left+gone*perSecond)
		b.at = now
	}
	if b.left < 1 {
		wait := time.Duration((1 - b.left) / perSecond * float64(time.Second))
		return max(time.Second, wait), false
	}
	b.left--
	return 0, true
}

// forget drops addresses whose bucket is full again; where none is, all of them:
// then so many are at work that the limit for all together is what counts.
func (l *Limit) forget(now time.Time) {
	perSecond := float64(l.each.PerMinute) / 60
	for ip, b := range l.addresses {
		if b.left+now.Sub(b.at).Seconds()*perSecond >= float64(l.each.Burst) {
			delete(l.addresses, ip)
		}
	}
	if len(l.addresses) >= maxAddresses {
		clear(l.addresses)
	}
}

// Block is the address, or the /64 of an IPv6 address: what one party holds.
func Block(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}
