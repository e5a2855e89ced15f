package order

import (
	"net/netip"
	"strings"

	"github.com/mileusna/useragent"
)

// maxUserAgent bounds how much of a User-Agent header is looked at, in bytes.
const maxUserAgent = 512

// NewOrigin describes a request by its address and User-Agent header, for the
// person on the phone: "Chrome on Windows". The header is only a claim.
func NewOrigin(ip netip.Addr, userAgent, country string) Origin {
	if len(userAgent) > maxUserAgent {
		userAgent = userAgent[:maxUserAgent]
	}
	ua := useragent.Parse(userAgent)
	o := Origin{IP: ip, Browser: plain(ua.Name), OS: plain(ua.OS), Mobile: ua.Mobile || ua.Tablet}
	if len(country) == 2 {
		o.Country = strings.ToUpper(plain(country))
	}
	return o
}

// plain keeps a short word of letters, digits and a few signs.
func plain(s string) string {
	if len(s) > 40 {
		s = s[:40]
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune(" .-/", r) {
			return r
		}
		return -1
	}, s))
}

// SameNetwork says whether two requests came from one network: the same IPv4
// /24 or IPv6 /48. It is a hint for the person, never a proof.
func SameNetwork(a, b Origin) bool {
	if !a.IP.IsValid() || !b.IP.IsValid() || a.IP.Is4() != b.IP.Is4() {
		return false
	}
	bits := 48
	if a.IP.Is4() {
		bits = 24
	}
	p, err := a.IP.Prefix(bits)
	return err == nil && p.Contains(b.IP)
}
