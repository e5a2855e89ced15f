package cms

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Tags as single octets (X.690 §8.1.2).
const (
	tagInteger  = 0x02
	tagOctets   = 0x04
	tagNull     = 0x05
	tagOID      = 0x06
	tagUTCTime  = 0x17
	tagTime     = 0x18
	tagSequence = 0x30
	tagSet      = 0x31
	tagContext0 = 0xa0 // [0], constructed
	tagContext1 = 0xa1
	tagContext2 = 0xa2
	tagContext4 = 0xa4
)

var derNull = []byte{tagNull, 0}

// tlv encodes one element with definite, minimal length (X.690 §10.1). Signing
// a batch makes hundreds of these; reflection would cost more than the key.
func tlv(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	var head [6]byte
	out := make([]byte, 0, n+len(head))
	out = append(out, tag)
	out = appendLength(out, n)
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func appendLength(out []byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(out, byte(n))
	case n < 1<<8:
		return append(out, 0x81, byte(n))
	case n < 1<<16:
		return append(out, 0x82, byte(n>>8), byte(n))
	case n < 1<<24:
		return append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(out, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// setOf encodes SET OF in DER: the elements ascend as octet strings (X.690 §11.6).
// tag is tagSet, or the context tag that replaces it.
func setOf(tag byte, elements [][]byte) []byte {
	sorted := slices.Clone(elements)
	slices.SortFunc(sorted, bytes.Compare)
	return tlv(tag, sorted...)
}

// encodeOID encodes an object identifier.
func encodeOID(oid asn1.ObjectIdentifier) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(oid)
	return b.Bytes()
}

// mustOID encodes one of this package's constants.
func mustOID(oid asn1.ObjectIdentifier) []byte {
	der, err := encodeOID(oid)
	if err != nil {
		panic(err)
	}
	return der
}

// encodeTime writes Time (RFC 5652 §11.3): UTCTime from 1950 to 2049, else
// GeneralizedTime; whole seconds, Zulu.
func encodeTime(t time.Time) []byte {
	t = t.UTC()
	if y := t.Year(); y >= 1950 && y < 2050 {
		return tlv(tagUTCTime, t.AppendFormat(nil, "060102150405Z"))
	}
	return tlv(tagTime, t.AppendFormat(nil, "20060102150405Z"))
}

func decodeTime(der []byte) (time.Time, error) {
	in := cryptobyte.String(der)
	var t time.Time
	ok := in.PeekASN1Tag(cbasn1.UTCTime) && in.ReadASN1UTCTime(&t) || in.ReadASN1GeneralizedTime(&t)
	if !ok || !in.Empty() {
		return time.Time{}, errors.New("malformed time")
	}
	return t.UTC(), nil
}

// Attribute is one signed or unsigned attribute (RFC 5652 §5.3). Values are whole
// DER elements.
type Attribute struct {
	Type   asn1.ObjectIdentifier
	Values [][]byte
}

// NewAttribute makes an attribute with one value, given as a whole DER element.
func NewAttribute(oid asn1.ObjectIdentifier, value []byte) Attribute {
	return Attribute{Type: oid, Values: [][]byte{value}}
}

func (a Attribute) marshal() ([]byte, error) {
	oid, err := encodeOID(a.Type)
	if err != nil {
		return nil, err
	}
	if len(a.Values) == 0 {
		return nil, errors.New("cms: attribute without value")
	}
	for _, v := range a.Values {
		in := cryptobyte.String(v)
		var tag cbasn1.Tag
		var element cryptobyte.String
		if !in.ReadAnyASN1Element(&element, &tag) || !in.Empty() {
			return nil, errors.New("cms: attribute value is not one DER element")
		}
	}
	return tlv(tagSequence, oid, setOf(tagSet, a.Values)), nil
}

func marshalAttributes(tag byte, attrs []Attribute) ([]byte, error) {
	elements := make([][]byte, len(attrs))
	for i, a := range attrs {
		var err error
		if elements[i], err = a.marshal(); err != nil {
			return nil, err
		}
	}
	return setOf(tag, elements), nil
}

// TextValue reads an attribute value that is an OCTET STRING or a text string.
func TextValue(der []byte) ([]byte, error) {
	in := cryptobyte.String(der)
	var body cryptobyte.String
	var tag cbasn1.Tag
	if !in.ReadAnyASN1(&body, &tag) || !in.Empty() {
		return nil, ErrMalformed
	}
	switch tag {
	case cbasn1.OCTET_STRING, cbasn1.UTF8String, cbasn1.PrintableString, cbasn1.IA5String:
		return body, nil
	}
	return nil, ErrMalformed
}
