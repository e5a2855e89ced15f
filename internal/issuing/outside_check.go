package issuing

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"sealgate/internal/certpath"
)

// outsideRules hold for what other CAs issue, beside everyRule.
var outsideRules = []rule{
	{"serial_positive_20_octets", "RFC 5280 §4.1.2.2", func(s subject) error {
		return must(s.cert.SerialNumber.Sign() > 0 && len(s.cert.SerialNumber.Bytes()) <= serialSize, "serial of %d bits", s.cert.SerialNumber.BitLen())
	}},
	{"status_source", "RFC 5280 §4.2.1.13, §4.2.2.1", func(s subject) error {
		return must(len(s.cert.OCSPServer)+len(s.cert.CRLDistributionPoints) > 0, "nobody could ever ask whether it is revoked")
	}},
}

// parseOutside reads a certificate and nothing behind it.
func parseOutside(der []byte) (*x509.Certificate, error) {
	if len(der) > MaxCertificate {
		return nil, certpath.ErrMalformed.Because(fmt.Errorf("%d bytes", len(der)))
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, certpath.ErrMalformed.Because(err)
	}
	return cert, nil
}

// check holds a certificate from outside against the request, the profile's
// rules and the trust anchors. It gives the certificate and its path.
func (o *Outside) check(ctx context.Context, r Request, der []byte, extra []*x509.Certificate) (*x509.Certificate, []*x509.Certificate, error) {
	cert, err := parseOutside(der)
	if err != nil {
		return nil, nil, err
	}
	if h, err := keyHash(cert.PublicKey); err != nil || h != r.KeyHash {
		return nil, nil, ErrOtherKey.Because(err)
	}
	card, err := x509.ParseCertificate(r.Card)
	if err != nil {
		return nil, nil, fmt.Errorf("issuing: card of request %s: %w", r.ID, err)
	}
	now := o.cfg.Now()
	// One issued a moment ago by a clock ahead of ours is judged as of its begin.
	at := now
	if cert.NotBefore.After(now) && !cert.NotBefore.After(now.Add(clockSkew)) {
		at = cert.NotBefore
	}
	found, err := o.path.Validate(ctx, cert, extra, at, o.rule)
	if err != nil {
		return nil, nil, err
	}
	if len(found.Path) < 2 {
		return nil, nil, certpath.ErrUntrusted.Because(errors.New("the certificate is itself an anchor"))
	}
	s := subject{profile: o.cfg.Profile, textSubject: o.cfg.TextSubject, now: now, cert: cert, issuer: found.Path[1], citizen: card}
	if err := check(s, everyRule, outsideRules); err != nil {
		return nil, nil, err
	}
	return cert, found.Path, nil
}

// sameText says whether two names say the same, type by type, in whatever
// string types (RFC 5280 §7.1; white space and case are not folded).
func sameText(a, b []byte) bool {
	x, errX := nameText(a)
	y, errY := nameText(b)
	return errX == nil && errY == nil && slices.EqualFunc(x, y, slices.Equal[[]string])
}

// nameText reads a Name as lists of "type=value".
func nameText(der []byte) ([][]string, error) {
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type relative []asn1.RawValue
	var sequence []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &sequence); err != nil || len(rest) > 0 {
		return nil, errors.New("not a name")
	}
	var out [][]string
	for _, rdn := range sequence {
		var set relative
		if rest, err := asn1.UnmarshalWithParams(rdn.FullBytes, &set, "set"); err != nil || len(rest) > 0 {
			return nil, errors.New("not a relative name")
		}
		var texts []string
		for _, raw := range set {
			var a attribute
			if rest, err := asn1.Unmarshal(raw.FullBytes, &a); err != nil || len(rest) > 0 {
				return nil, errors.New("not an attribute")
			}
			switch a.Value.Tag {
			case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String:
			default:
				return nil, errors.New("a string type that is not compared")
			}
			if !bytes.Equal(a.Value.Bytes, bytes.TrimSpace(a.Value.Bytes)) {
				return nil, errors.New("white space around a value")
			}
			texts = append(texts, a.Type.String()+"="+string(a.Value.Bytes))
		}
		slices.Sort(texts)
		out = append(out, texts)
	}
	return out, nil
}
