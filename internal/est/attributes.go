package est

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Attributes is what a server demands of requests: CsrAttrs (RFC 7030 §4.5.2).
type Attributes struct {
	// demands are what must be met; each is one element of CsrAttrs.
	demands []demand
}

// demand is an object identifier, or an attribute with values.
type demand struct {
	oid    asn1.ObjectIdentifier
	values []asn1.ObjectIdentifier // of those values that are object identifiers
	number int                     // of a value that is a number: an RSA key's length
}

// maxDemands bounds the elements of CsrAttrs, and the values of each.
const maxDemands = 64

// What requests can be asked for, and ours have or have not.
var (
	oidChallengePassword = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	oidExtensionRequest  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidECPublicKey       = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidRSAEncryption     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	curves               = map[string]asn1.ObjectIdentifier{"P-256": {1, 2, 840, 10045, 3, 1, 7}, "P-384": {1, 3, 132, 0, 34}}
	// signatures are what a request of ours may be signed with.
	signatures = map[x509.SignatureAlgorithm]asn1.ObjectIdentifier{
		x509.SHA256WithRSA:   {1, 2, 840, 113549, 1, 1, 11},
		x509.ECDSAWithSHA256: {1, 2, 840, 10045, 4, 3, 2},
		x509.ECDSAWithSHA384: {1, 2, 840, 10045, 4, 3, 3},
		x509.ECDSAWithSHA512: {1, 2, 840, 10045, 4, 3, 4},
	}
	signatureArcs = []asn1.ObjectIdentifier{{1, 2, 840, 113549, 1, 1, 11}, {1, 2, 840, 113549, 1, 1, 12}, {1, 2, 840, 113549, 1, 1, 13},
		{1, 2, 840, 10045, 4, 3, 2}, {1, 2, 840, 10045, 4, 3, 3}, {1, 2, 840, 10045, 4, 3, 4}}
)

// ParseAttributes reads CsrAttrs in DER.
func ParseAttributes(der []byte) (Attributes, error) {
	input := cryptobyte.String(der)
	var list cryptobyte.String
	if !input.ReadASN1(&list, cbasn1.SEQUENCE) || !input.Empty() {
		return Attributes{}, ErrAnswer.Because(errors.New("not CsrAttrs"))
	}
	var a Attributes
	for !list.Empty() {
		if len(a.demands) == maxDemands {
			return Attributes{}, ErrAnswer.Because(errors.New("too many attributes are demanded"))
		}
		d, ok := readDemand(&list)
		if !ok {
			return Attributes{}, ErrAnswer.Because(errors.New("malformed CsrAttrs"))
		}
		a.demands = append(a.demands, d)
	}
	return a, nil
}

func readDemand(list *cryptobyte.String) (d demand, ok bool) {
	if list.PeekASN1Tag(cbasn1.OBJECT_IDENTIFIER) {
		return d, list.ReadASN1ObjectIdentifier(&d.oid)
	}
	var attribute, values cryptobyte.String
	if !list.ReadASN1(&attribute, cbasn1.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&d.oid) ||
		!attribute.ReadASN1(&values, cbasn1.SET) || !attribute.Empty() {
		return d, false
	}
	for n := 0; !values.Empty(); n++ {
		if n == maxDemands {
			return d, false
		}
		var oid asn1.ObjectIdentifier
		var skipped cryptobyte.String
		var tag cbasn1.Tag
		switch {
		case values.PeekASN1Tag(cbasn1.OBJECT_IDENTIFIER):
			if !values.ReadASN1ObjectIdentifier(&oid) {
				return d, false
			}
			d.values = append(d.values, oid)
		case values.PeekASN1Tag(cbasn1.INTEGER):
			if !values.ReadASN1Integer(&d.number) {
				return d, false
			}
		default:
			if !values.ReadAnyASN1(&skipped, &tag) {
				return d, false
			}
		}
	}
	return d, true
}

// Satisfied holds a PKCS #10 request in DER against the demands. A request is
// made once, with its key: what it lacks cannot be added, so the error,
// ErrAttributes, names it and the operator has to act. Extensions are asked for
// by name here; whether the CA likes their values it says in its answer.
func (a Attributes) Satisfied(request []byte) error {
	if len(a.demands) == 0 {
		return nil
	}
	r, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return ErrAttributes.Because(err)
	}
	var keys, algorithms []demand
	for _, d := range a.demands {
		switch {
		case d.oid.Equal(oidECPublicKey), d.oid.Equal(oidRSAEncryption):
			keys = append(keys, d)
		case slices.ContainsFunc(signatureArcs, d.oid.Equal):
			algorithms = append(algorithms, d)
		case d.oid.Equal(oidChallengePassword):
			return ErrAttributes.Because(errors.New("the server demands a challengePassword: linking a request to its TLS connection (RFC 7030 §3.5) is not possible for requests that wait"))
		case d.oid.Equal(oidExtensionRequest):
			if err := hasExtensions(r, d); err != nil {
				return err
			}
		case !isExtension(r, d.oid):
			return ErrAttributes.Because(fmt.Errorf("the server demands %s, which requests do not have", d.oid))
		}
	}
	if len(keys) > 0 && !slices.ContainsFunc(keys, func(d demand) bool { return d.keyFits(r.PublicKey) }) {
		return ErrAttributes.Because(errors.New("the server demands another kind of key than mobile.key_algorithm"))
	}
	if len(algorithms) > 0 && !slices.ContainsFunc(algorithms, func(d demand) bool { return d.oid.Equal(signatures[r.SignatureAlgorithm]) }) {
		return ErrAttributes.Because(fmt.Errorf("the server demands another signature algorithm than %s", r.SignatureAlgorithm))
	}
	return nil
}

func hasExtensions(r *x509.CertificateRequest, d demand) error {
	for _, oid := range d.values {
		if !isExtension(r, oid) {
			return ErrAttributes.Because(fmt.Errorf("the server demands the extension %s", oid))
		}
	}
	return nil
}

func isExtension(r *x509.CertificateRequest, oid asn1.ObjectIdentifier) bool {
	for _, e := range r.Extensions {
		if e.Id.Equal(oid) {
			return true
		}
	}
	return false
}

// keyFits says whether a key is of the demanded kind (RFC 7030 §4.5.2).
func (d demand) keyFits(public any) bool {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return d.oid.Equal(oidECPublicKey) && (len(d.values) == 0 || slices.ContainsFunc(d.values, curves[k.Params().Name].Equal))
	case *rsa.PublicKey:
		return d.oid.Equal(oidRSAEncryption) && (d.number == 0 || d.number == k.N.BitLen())
	}
	return false
}
