package certpath

import (
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// RevokedSerial is one line of a list to be signed.
type RevokedSerial struct {
	Serial []byte // big endian, positive
	At     time.Time
	Reason int // RFC 5280 §5.3.1; 0, unspecified, is left out as §5.3.1 asks
}

// ListTemplate is a list to be signed.
type ListTemplate struct {
	Number                 *big.Int
	ThisUpdate, NextUpdate time.Time
	// Point, when not empty, limits the list to the certificates that name this
	// address among their distribution points (RFC 5280 §5.2.5).
	Point   string
	Revoked []RevokedSerial
}

// SignCRL signs a list as issuer. Long lists are written straight from the
// register's rows, without a big.Int and a reflected structure for each line.
func SignCRL(rand io.Reader, t ListTemplate, issuer *x509.Certificate, key crypto.Signer) ([]byte, error) {
	_, hash, oid, err := signingAlgorithm(key.Public())
	if err != nil {
		return nil, err
	}
	if t.Number == nil || !t.NextUpdate.After(t.ThisUpdate) || issuer.KeyUsage&x509.KeyUsageCRLSign == 0 || len(issuer.SubjectKeyId) == 0 {
		return nil, errors.New("certpath: a list needs a number, a time, and an issuer that may sign lists and has a key identifier")
	}
	algorithm := func(b *cryptobyte.Builder) { addAlgorithm(b, oid, isRSA(key.Public())) }
	tbs := cryptobyte.NewBuilder(make([]byte, 0, 512+48*len(t.Revoked)))
	tbs.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1) // version 2
		algorithm(b)
		b.AddBytes(issuer.RawSubject)
		addTime(b, t.ThisUpdate)
		addTime(b, t.NextUpdate)
		if len(t.Revoked) > 0 { // §5.1.2.6: otherwise absent
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, r := range t.Revoked {
					addRevoked(b, r)
				}
			})
		}
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addListExtensions(b, t, issuer) })
		})
	})
	body, err := tbs.Bytes()
	if err != nil {
		return nil, err
	}
	sig, err := key.Sign(rand, sum(hash, body), hash)
	if err != nil {
		return nil, err
	}
	out := cryptobyte.NewBuilder(make([]byte, 0, len(body)+1024))
	out.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(body)
		algorithm(b)
		b.AddASN1BitString(sig)
	})
	return out.Bytes()
}

func addRevoked(b *cryptobyte.Builder, r RevokedSerial) {
	serial := significant(r.Serial)
	if len(serial) == 0 || len(serial) > maxSerialBytes || serial[0] == 0 || r.Reason < 0 || r.Reason > maxReason {
		b.SetError(errors.New("certpath: a line of a list needs a positive serial number and a reason"))
		return
	}
	var line [64]byte
	b.AddBytes(appendRevoked(line[:0], serial, r))
}

// appendRevoked writes one line by hand: its parts are all shorter than 128
// octets, and a builder's nesting is most of the cost of a long list.
func appendRevoked(out, serial []byte, r RevokedSerial) []byte {
	out = append(out, byte(cbasn1.SEQUENCE), 0)
	n := len(serial)
	if serial[0] >= 0x80 {
		out = append(out, byte(cbasn1.INTEGER), byte(n+1), 0)
	} else {
		out = append(out, byte(cbasn1.INTEGER), byte(n))
	}
	out = append(out, serial...)
	tag, layout := cbasn1.UTCTime, "060102150405Z"
	at := r.At.UTC()
	if at.Year() < 1950 || at.Year() >= 2050 {
		tag, layout = cbasn1.GeneralizedTime, "20060102150405Z"
	}
	out = at.AppendFormat(append(out, byte(tag), byte(len(layout))), layout)
	if r.Reason != 0 {
		out = append(out, byte(cbasn1.SEQUENCE), byte(len(reasonAlone)+1))
		out = append(append(out, reasonAlone...), byte(r.Reason))
	}
	out[1] = byte(len(out) - 2)
	return out
}

// addTime: UTCTime until 2049, then GeneralizedTime (RFC 5280 §5.1.2.4).
func addTime(b *cryptobyte.Builder, t time.Time) {
	t = t.UTC().Truncate(time.Second)
	if t.Year() >= 1950 && t.Year() < 2050 {
		b.AddASN1UTCTime(t)
		return
	}
	b.AddASN1GeneralizedTime(t)
}

func addListExtensions(b *cryptobyte.Builder, t ListTemplate, issuer *x509.Certificate) {
	add := func(oid []int, critical bool, value func(*cryptobyte.Builder)) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oid)
			if critical {
				b.AddASN1Boolean(true)
			}
			b.AddASN1(cbasn1.OCTET_STRING, value)
		})
	}
	add(oidAuthorityKeyID, false, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(issuer.SubjectKeyId) })
		})
	})
	add(oidCRLNumber, false, func(b *cryptobyte.Builder) { b.AddASN1BigInt(t.Number) })
	if t.Point == "" {
		return
	}
	add(oidDistPoint, true, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { // distributionPoint
				b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { // fullName
					b.AddASN1(cbasn1.Tag(kindURI).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(t.Point)) })
				})
			})
		})
	})
}
