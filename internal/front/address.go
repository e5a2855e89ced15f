package front

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/netip"
	"strings"
)

// maxForwarded bounds how many addresses of X-Forwarded-For are looked at.
const maxForwarded = 10

func newRequestID() string {
	var b [12]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func remoteAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// clientIP walks X-Forwarded-For from the right: each trusted proxy added the
// address it saw; the first that is not a trusted proxy is the client. What
// stands further left was written by the client and proves nothing.
func (s *Shell) clientIP(r *http.Request) netip.Addr {
	ip := remoteAddr(r)
	if len(s.proxies) == 0 || !s.trusted(ip) {
		return ip
	}
	chain := strings.Join(r.Header.Values("X-Forwarded-For"), ",")
	for range maxForwarded {
		cut := strings.LastIndexByte(chain, ',')
		addr, err := netip.ParseAddr(strings.TrimSpace(chain[cut+1:]))
		if err != nil {
			return ip
		}
		ip = addr.Unmap()
		if cut < 0 || !s.trusted(ip) {
			return ip
		}
		chain = chain[:cut]
	}
	return ip
}

func (s *Shell) trusted(ip netip.Addr) bool {
	for _, p := range s.proxies {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
