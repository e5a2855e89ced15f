package egress

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// hostRule is one parsed line of Config.AllowHosts.
type hostRule struct {
	name   string // lower case, without the wildcard; "" permits every name
	suffix bool   // match names below name
	port   string // "" means 80 and 443
}

type hostList []hostRule

func parseHosts(lines []string) (hostList, error) {
	var list hostList
	for _, line := range lines {
		rule, err := parseHost(line)
		if err != nil {
			return nil, fmt.Errorf("egress: allowed host %q: %w", line, err)
		}
		list = append(list, rule)
	}
	return list, nil
}

func parseHost(line string) (hostRule, error) {
	name, port := line, ""
	// "::1" has colons and no port; "[::1]:80" and "host:80" have one.
	if _, err := netip.ParseAddr(line); err != nil && strings.Contains(line, ":") {
		host, p, err := net.SplitHostPort(line)
		if err != nil {
			return hostRule{}, err
		}
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return hostRule{}, fmt.Errorf("port %q", p)
		}
		name, port = host, p
	}
	wild := strings.HasPrefix(name, "*.")
	name = normalName(name)
	switch {
	case name == "*" && !wild:
		return hostRule{suffix: true, port: port}, nil
	case wild:
		name = strings.TrimPrefix(name, "*.")
		if name == "" || name == "*" || strings.Contains(name, "*") {
			return hostRule{}, fmt.Errorf("wildcard %q", line)
		}
		return hostRule{name: name, suffix: true, port: port}, nil
	case name == "" || strings.ContainsAny(name, "*/@ "):
		return hostRule{}, fmt.Errorf("not a host name")
	}
	return hostRule{name: name, port: port}, nil
}

// normalName folds case and the trailing dot of a fully qualified name.
func normalName(name string) string {
	return strings.TrimSuffix(strings.ToLower(name), ".")
}

func (l hostList) permits(host, port string) bool {
	host = normalName(host)
	if host == "" {
		return false
	}
	for _, r := range l {
		portOK := port == r.port || r.port == "" && (port == "80" || port == "443")
		var nameOK bool
		switch {
		case !r.suffix:
			nameOK = host == r.name
		case r.name == "":
			nameOK = true
		default:
			nameOK = strings.HasSuffix(host, "."+r.name)
		}
		if portOK && nameOK {
			return true
		}
	}
	return false
}

// addressPolicy judges a resolved address.
type addressPolicy struct{ loopback, private bool }

// Ranges that are neither loopback nor private in the sense of netip, and yet
// must not be reached (IANA special-purpose address registries, RFC 6890).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),          // "this network", RFC 791
	netip.MustParsePrefix("192.0.0.0/24"),       // IETF protocol assignments, RFC 6890
	netip.MustParsePrefix("192.0.2.0/24"),       // documentation, RFC 5737
	netip.MustParsePrefix("192.88.99.0/24"),     // 6to4 relay, RFC 7526
	netip.MustParsePrefix("198.18.0.0/15"),      // benchmarking, RFC 2544
	netip.MustParsePrefix("198.51.100.0/24"),    // documentation, RFC 5737
	netip.MustParsePrefix("203.0.113.0/24"),     // documentation, RFC 5737
	netip.MustParsePrefix("240.0.0.0/4"),        // reserved and broadcast, RFC 1112
	netip.MustParsePrefix("64:ff9b::/96"),       // NAT64: hides an IPv4 address, RFC 6052
	netip.MustParsePrefix("64:ff9b:1::/48"),     // local NAT64, RFC 8215
	netip.MustParsePrefix("100::/64"),           // discard, RFC 6666
	netip.MustParsePrefix("2001::/23"),          // protocol assignments with Teredo, RFC 2928
	netip.MustParsePrefix("2001:db8::/32"),      // documentation, RFC 3849
	netip.MustParsePrefix("2002::/16"),          // 6to4: hides an IPv4 address, RFC 3056
	netip.MustParsePrefix("3fff::/20"),          // documentation, RFC 9637
	netip.MustParsePrefix("fec0::/10"),          // deprecated site-local, RFC 3879
	netip.MustParsePrefix("::/96"),              // deprecated IPv4-compatible, RFC 4291
	netip.MustParsePrefix("168.63.129.16/32"),   // a cloud's metadata and DNS service
	netip.MustParsePrefix("fd00:ec2::254/128"),  // a cloud's metadata service over IPv6
	netip.MustParsePrefix("100.100.100.200/32"), // a cloud's metadata service inside 100.64/10
}

var sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // carrier NAT, RFC 6598

// permits is true for global unicast addresses and for what the policy adds.
func (p addressPolicy) permits(a netip.Addr) bool {
	a = a.Unmap() // ::ffff:127.0.0.1 is 127.0.0.1
	if !a.IsValid() || a.Zone() != "" {
		return false
	}
	if a.IsLoopback() { // before special, which holds ::/96
		return p.loopback
	}
	if a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return false // link-local holds the metadata address 169.254.169.254
	}
	for _, s := range special {
		if s.Contains(a) {
			return false
		}
	}
	if a.IsPrivate() || sharedSpace.Contains(a) {
		return p.private
	}
	return a.IsGlobalUnicast()
}
