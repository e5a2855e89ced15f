package front

import (
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// Guesses bounds how often one address may be wrong about something that could
// be guessed: a typed code. Being right costs nothing. It counts on this node
// alone, IPv6 by /64, and is a brake, not a wall: what is guessed must be worth
// little.
type Guesses struct {
	burst int           // wrong ones at once
	every time.Duration // one more after this
	now   func() time.Time
	mu    sync.Mutex
	wrong map[netip.Addr]wrongGuesses
}

type wrongGuesses struct {
	n  int
	at time.Time // when n was counted
}

// maxGuessers bounds the addresses that are remembered.
const maxGuessers = 1 << 16

// NewGuesses allows burst wrong guesses at once and one more each time every passes.
func NewGuesses(burst int, every time.Duration, now func() time.Time) *Guesses {
	return &Guesses{burst: burst, every: every, now: now, wrong: map[netip.Addr]wrongGuesses{}}
}

// Allowed gives ErrRateLimited, with when to come back, to an address that has
// been wrong too often.
func (g *Guesses) Allowed(ip netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.left(block(ip))
	if w.n < g.burst {
		return nil
	}
	wait := max(time.Second, w.at.Add(g.every).Sub(g.now()))
	f := ErrRateLimited.With("n", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	f.RetryAfter = wait
	return f
}

// Wrong counts a wrong guess.
func (g *Guesses) Wrong(ip netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	ip = block(ip)
	w := g.left(ip)
	if len(g.wrong) >= maxGuessers {
		g.forget()
	}
	w.n++
	g.wrong[ip] = w
}

// left is what still counts of an address's wrong guesses.
func (g *Guesses) left(ip netip.Addr) wrongGuesses {
	now := g.now()
	w, ok := g.wrong[ip]
	if !ok {
		return wrongGuesses{at: now}
	}
	if forgiven := int(now.Sub(w.at) / g.every); forgiven > 0 {
		if w.n -= forgiven; w.n <= 0 {
			delete(g.wrong, ip)
			return wrongGuesses{at: now}
		}
		w.at = w.at.Add(time.Duration(forgiven) * g.every)
		g.wrong[ip] = w
	}
	return w
}

// forget drops what no longer counts; where everything does, all of it.
func (g *Guesses) forget() {
	now := g.now()
	for ip, w := range g.wrong {
		if now.Sub(w.at) >= time.Duration(w.n)*g.every {
			delete(g.wrong, ip)
		}
	}
	if len(g.wrong) >= maxGuessers {
		clear(g.wrong)
	}
}

// block is the address, or the /64 of an IPv6 address: what one party holds.
func block(ip netip.Addr) netip.Addr {
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}
