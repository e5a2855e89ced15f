package certpath

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidAltName         = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidEmailAddress    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
)

// Bounds on names and constraints of one path: what is compared is the product.
const (
	maxAltNames    = 1024
	maxSubtrees    = 1024
	maxComparisons = 250_000
)

// nameConstraints are one CA's limits on the names below it (RFC 5280 §4.2.1.10).
// crypto/x509 knows no directory names here, which are what a PKI of persons has.
type nameConstraints struct {
	permitted, excluded []generalName
}

// constraintsOf reads the extension; nil when the certificate has none.
func constraintsOf(c *x509.Certificate) (*nameConstraints, error) {
	value, found := extensionValue(c, oidNameConstraints)
	if !found {
		return nil, nil
	}
	in := cryptobyte.String(value)
	var seq, permitted, excluded cryptobyte.String
	var hasPermitted, hasExcluded bool
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() ||
		!seq.ReadOptionalASN1(&permitted, &hasPermitted, explicit(0)) ||
		!seq.ReadOptionalASN1(&excluded, &hasExcluded, explicit(1)) || !seq.Empty() || !hasPermitted && !hasExcluded {
		return nil, errors.New("malformed name constraints")
	}
	var n nameConstraints
	var err error
	if n.permitted, err = readSubtrees(permitted); err != nil {
		return nil, err
	}
	if n.excluded, err = readSubtrees(excluded); err != nil {
		return nil, err
	}
	return &n, nil
}

// readSubtrees: minimum and maximum are not used by any profile; a constraint
// with other values than the defaults cannot be honoured and is an error.
func readSubtrees(list cryptobyte.String) ([]generalName, error) {
	var out []generalName
	for !list.Empty() {
		var item cryptobyte.String
		if len(out) == maxSubtrees || !list.ReadASN1(&item, cbasn1.SEQUENCE) {
			return nil, errors.New("malformed or too many subtrees")
		}
		base, err := readGeneralName(&item)
		if err != nil {
			return nil, err
		}
		var minimum cryptobyte.String
		var present bool
		if !item.ReadOptionalASN1(&minimum, &present, cbasn1.Tag(0).ContextSpecific()) || present && !bytes.Equal(minimum, []byte{0}) || !item.Empty() {
			return nil, errors.New("a subtree with minimum or maximum")
		}
		out = append(out, base)
	}
	return out, nil
}

// constrainedNames lists the names of a certificate that constraints apply to:
// its subject, unless empty, its alternative names, and e-mail addresses in the
// subject of a certificate that has no address among its alternative names.
func constrainedNames(c *x509.Certificate, subject dn) ([]generalName, error) {
	var names []generalName
	if len(subject) > 0 {
		names = append(names, generalName{kind: kindDirectory, value: subject.key(), name: subject})
	}
	hasEmail := false
	if value, found := extensionValue(c, oidAltName); found {
		in := cryptobyte.String(value)
		var list cryptobyte.String
		if !in.ReadASN1(&list, cbasn1.SEQUENCE) || !in.Empty() {
			return nil, errors.New("malformed alternative names")
		}
		alt, err := readGeneralNames(list, maxAltNames)
		if err != nil {
			return nil, err
		}
		for _, n := range alt {
			hasEmail = hasEmail || n.kind == kindEmail
		}
		names = append(names, alt...)
	}
	if !hasEmail {
		for _, a := range c.Subject.Names {
			if text, ok := a.Value.(string); ok && a.Type.Equal(oidEmailAddress) {
				names = append(names, generalName{kind: kindEmail, value: text})
			}
		}
	}
	return names, nil
}

// check holds one name against the constraints. A kind of name that is
// constrained and not understood is refused (RFC 5280 §4.2.1.10).
func (nc *nameConstraints) check(n generalName, budget *int) error {
	if *budget -= len(nc.permitted) + len(nc.excluded); *budget < 0 {
		return errors.New("too many names and constraints")
	}
	for _, base := range nc.excluded {
		if base.kind != n.kind {
			continue
		}
		if in, err := n.inSubtree(base); err != nil || in {
			return fmt.Errorf("a name of kind %d is in an excluded subtree (%v)", n.kind, err)
		}
	}
	constrained := false
	for _, base := range nc.permitted {
		if base.kind != n.kind {
			continue
		}
		constrained = true
		in, err := n.inSubtree(base)
		if err != nil {
			return err
		}
		if in {
			return nil
		}
	}
	if constrained {
		return fmt.Errorf("a name of kind %d is in no permitted subtree", n.kind)
	}
	return nil
}

func (n generalName) inSubtree(base generalName) (bool, error) {
	switch n.kind {
	case kindDirectory:
		return n.name.within(base.name), nil
	case kindDNS:
		return hostWithin(n.value, strings.TrimPrefix(base.value, "."), true), nil
	case kindEmail:
		return emailWithin(n.value, base.value)
	case kindURI:
		return uriWithin(n.value, base.value)
	case kindIP:
		return ipWithin(n.value, base.value)
	}
	return false, fmt.Errorf("constraints on names of kind %d are not understood", n.kind)
}

// hostWithin compares host names; below also takes in hosts below base.
func hostWithin(host, base string, below bool) bool {
	host, base = strings.ToLower(strings.TrimSuffix(host, ".")), strings.ToLower(strings.TrimSuffix(base, "."))
	return host == base || below && (base == "" || strings.HasSuffix(host, "."+base))
}

// emailWithin: the constraint is a mailbox, a host, or with a leading dot the
// hosts below a domain.
func emailWithin(address, base string) (bool, error) {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 || at == len(address)-1 {
		return false, errors.New("malformed e-mail address")
	}
	local, host := address[:at], address[at+1:]
	if i := strings.LastIndexByte(base, '@'); i >= 0 {
		return local == base[:i] && strings.EqualFold(host, base[i+1:]), nil
	}
	return hostOrBelow(host, base), nil
}

// uriWithin: constraints apply to the host, which must be there and be a name.
func uriWithin(text, base string) (bool, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || strings.ContainsAny(u.Hostname(), ":") || numeric(u.Hostname()) {
		return false, errors.New("a URI without a host name cannot be held against a constraint")
	}
	return hostOrBelow(u.Hostname(), base), nil
}

func numeric(host string) bool { return strings.Trim(host, "0123456789.") == "" }

// hostOrBelow: ".example" means hosts below example, "example" that host alone.
func hostOrBelow(host, base string) bool {
	if below, ok := strings.CutPrefix(base, "."); ok {
		return !hostWithin(host, below, false) && hostWithin(host, below, true)
	}
	return base == "" || hostWithin(host, base, false)
}

// ipWithin: the constraint is an address and a mask, one after the other.
func ipWithin(address, base string) (bool, error) {
	if len(base) != 8 && len(base) != 32 {
		return false, errors.New("malformed address constraint")
	}
	if 2*len(address) != len(base) {
		return false, nil // the other family
	}
	for i := range len(address) {
		if (address[i]^base[i])&base[len(address)+i] != 0 {
			return false, nil
		}
	}
	return true, nil
}
