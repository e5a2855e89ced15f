package est

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
)

// maxPKCS7 bounds a certs-only message in bytes.
const maxPKCS7 = 128 << 10

// ParseCertsOnly reads a certs-only SignedData in DER (RFC 5652 §5.1, RFC 5272
// §4.1): no content, no signers, 1 to 16 certificates. Revocation lists inside
// are passed over. The certificates are parsed, nothing about them is judged.
func ParseCertsOnly(der []byte) ([]*x509.Certificate, error) {
	certs, err := parseCertsOnly(der)
	if err != nil {
		return nil, ErrAnswer.Because(fmt.Errorf("certs-only message: %w", err))
	}
	return certs, nil
}

var (
	context0 = cbasn1.Tag(0).ContextSpecific().Constructed()
	context1 = cbasn1.Tag(1).ContextSpecific().Constructed()
)

func parseCertsOnly(der []byte) ([]*x509.Certificate, error) {
	if len(der) > maxPKCS7 {
		return nil, errors.New("too long")
	}
	malformed := errors.New("not a SignedData")
	input := cryptobyte.String(der)
	var info, explicit, signed, digests, content, set, signers cryptobyte.String
	var kind, inner asn1.ObjectIdentifier
	var version int
	if !input.ReadASN1(&info, cbasn1.SEQUENCE) || !input.Empty() ||
		!info.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(oidSignedData) ||
		!info.ReadASN1(&explicit, context0) || !info.Empty() ||
		!explicit.ReadASN1(&signed, cbasn1.SEQUENCE) || !explicit.Empty() ||
		!signed.ReadASN1Integer(&version) || version < 1 || version > 5 ||
		!signed.ReadASN1(&digests, cbasn1.SET) ||
		!signed.ReadASN1(&content, cbasn1.SEQUENCE) {
		return nil, malformed
	}
	if !content.ReadASN1ObjectIdentifier(&inner) || !inner.Equal(oidData) || !content.Empty() {
		return nil, errors.New("it has content")
	}
	if !signed.ReadASN1(&set, context0) {
		return nil, errors.New("no certificates")
	}
	if signed.PeekASN1Tag(context1) && !signed.SkipASN1(context1) {
		return nil, malformed
	}
	if !signed.ReadASN1(&signers, cbasn1.SET) || !signed.Empty() {
		return nil, malformed
	}
	if !signers.Empty() {
		return nil, errors.New("it has signers")
	}
	var certs []*x509.Certificate
	for !set.Empty() {
		var one cryptobyte.String
		if !set.ReadASN1Element(&one, cbasn1.SEQUENCE) {
			return nil, malformed
		}
		if len(certs) == maxCerts {
			return nil, errors.New("too many certificates")
		}
		c, err := x509.ParseCertificate(one)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificates")
	}
	return certs, nil
}
