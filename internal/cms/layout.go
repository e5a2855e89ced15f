package cms

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// RawAttribute is an unsigned attribute in the octets received: what an archive
// time-stamp's hash index is made over (EN 319 122-1 §5.5.2).
type RawAttribute struct {
	Type   []byte   // the object identifier, whole element
	Values [][]byte // whole elements
}

// layout is where the parts of a SignedData lie in the octets received, DER or BER.
type layout struct {
	oid        []byte
	version    int
	digestAlgs [][]byte
	content    []byte // EncapsulatedContentInfo
	certs      [][]byte
	crls       [][]byte
	signers    []signerLayout
}

type signerLayout struct {
	raw      []byte
	fields   [][]byte // version up to and with signature
	unsigned [][]byte // whole attributes
	parsed   []RawAttribute
}

func raws(list []berElement) [][]byte {
	out := make([][]byte, len(list))
	for i, e := range list {
		out[i] = e.raw
	}
	return out
}

// readLayout walks through the outer levels alone.
func readLayout(raw []byte) (*layout, error) {
	r := &berReader{}
	info, rest, err := r.next(raw, 0)
	if err != nil || len(rest) != 0 || info.tag != tagSequence {
		return nil, errBER
	}
	parts, err := r.children(info, 1)
	if err != nil || len(parts) != 2 || parts[1].tag != tagContext0 {
		return nil, errBER
	}
	wrapped, err := r.children(parts[1], 2)
	if err != nil || len(wrapped) != 1 || wrapped[0].tag != tagSequence {
		return nil, errBER
	}
	body, err := r.children(wrapped[0], 3)
	if err != nil || len(body) < 4 || len(body[0].body) != 1 {
		return nil, errBER
	}
	if parts[0].tag != tagOID || body[0].tag != tagInteger || body[1].tag != tagSet || body[2].tag != tagSequence {
		return nil, errBER
	}
	l := &layout{oid: parts[0].raw, version: int(body[0].body[0]), content: body[2].raw}
	digests, err := r.children(body[1], 4)
	if err != nil {
		return nil, err
	}
	l.digestAlgs = raws(digests)
	last := byte(0)
	for i, e := range body[3:] {
		if e.tag != tagSet && e.tag <= last || (e.tag == tagSet) != (i == len(body)-4) {
			return nil, errBER // [0], [1], and the signers at the end
		}
		last = e.tag
		items, err := r.children(e, 4)
		if err != nil {
			return nil, err
		}
		switch e.tag {
		case tagContext0:
			l.certs = raws(items)
		case tagContext1:
			l.crls = raws(items)
		case tagSet:
			if l.signers, err = r.signers(items); err != nil {
				return nil, err
			}
		default:
			return nil, errBER
		}
	}
	return l, nil
}

func (r *berReader) signers(items []berElement) ([]signerLayout, error) {
	var out []signerLayout
	for _, item := range items {
		fields, err := r.children(item, 5)
		if err != nil || len(fields) < 5 {
			return nil, errBER
		}
		s := signerLayout{raw: item.raw}
		if last := fields[len(fields)-1]; last.tag == tagContext1 {
			fields = fields[:len(fields)-1]
			attrs, err := r.children(last, 6)
			if err != nil {
				return nil, err
			}
			for _, a := range attrs {
				p, err := r.attribute(a)
				if err != nil {
					return nil, err
				}
				s.unsigned, s.parsed = append(s.unsigned, a.raw), append(s.parsed, p)
			}
		}
		s.fields = raws(fields)
		out = append(out, s)
	}
	return out, nil
}

func (r *berReader) attribute(a berElement) (RawAttribute, error) {
	parts, err := r.children(a, 7)
	if err != nil || len(parts) != 2 {
		return RawAttribute{}, errBER
	}
	values, err := r.children(parts[1], 8)
	return RawAttribute{Type: parts[0].raw, Values: raws(values)}, err
}

// attach gives each signer its place in the octets received.
func (sd *SignedData) attach(raw []byte) error {
	l, err := readLayout(raw)
	if err != nil || len(l.signers) != len(sd.Signers) {
		return errForm
	}
	sd.layout = l
	for i, si := range sd.Signers {
		si.raw, si.layout = l.signers[i].raw, &l.signers[i]
	}
	return nil
}

// RawCertificates are the elements of SignedData.certificates as received, of
// whatever kind they are.
func (sd *SignedData) RawCertificates() [][]byte { return slices.Clone(sd.layout.certs) }

// RawRevocations are the elements of SignedData.crls as received: lists, and
// other revocation information.
func (sd *SignedData) RawRevocations() [][]byte { return slices.Clone(sd.layout.crls) }

// RawFields are the fields version, sid, digestAlgorithm, signedAttrs,
// signatureAlgorithm and signature as received, one after the other; nil for a
// signer that was not parsed.
func (si *SignerInfo) RawFields() []byte {
	if si.layout == nil {
		return nil
	}
	return bytes.Join(si.layout.fields, nil)
}

// RawUnsigned lists the unsigned attributes as received.
func (si *SignerInfo) RawUnsigned() []RawAttribute {
	if si.layout == nil {
		return nil
	}
	return slices.Clone(si.layout.parsed)
}

// ParseBER is Parse for signatures made elsewhere, which may be in BER: with
// indefinite lengths, strings in parts, and lengths that are not the shortest.
// Raw keeps what was received; everything else is read from its DER. Depth and
// number of elements are bounded.
func ParseBER(raw []byte) (*SignedData, error) {
	if len(raw) > MaxBytes {
		return nil, ErrMalformed.Because(errors.New("too large"))
	}
	l, err := readLayout(raw)
	if err != nil {
		return nil, ErrMalformed.Because(err)
	}
	der, err := l.canonical()
	if err != nil {
		return nil, ErrMalformed.Because(err)
	}
	sd := &SignedData{Raw: raw}
	if err = sd.read(der); err == nil {
		err = sd.attach(raw)
	}
	if err != nil {
		return nil, ErrMalformed.Because(err)
	}
	return sd, nil
}

// canonical encodes what was laid out in DER. Certificates and lists are signed
// over their DER and taken as they are: a list of a hundred thousand lines is not
// walked through.
func (l *layout) canonical() ([]byte, error) {
	r := &berReader{}
	clean := func(elements [][]byte, signed bool) ([][]byte, error) {
		out := make([][]byte, len(elements))
		for i, raw := range elements {
			e, _, err := r.next(raw, 0)
			if err != nil {
				return nil, err
			}
			if out[i] = raw; signed && minimal(e) {
				continue
			}
			if out[i], err = r.toDER(e, 0); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	digests, err1 := clean(l.digestAlgs, false)
	content, err2 := clean([][]byte{l.content}, false)
	certs, err3 := clean(l.certs, true)
	crls, err4 := clean(l.crls, true)
	infos := make([][]byte, len(l.signers))
	for i, s := range l.signers {
		infos[i] = s.raw
	}
	infos, err5 := clean(infos, false)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, err
	}
	sd := tlv(tagSequence, []byte{tagInteger, 1, byte(l.version)}, tlv(tagSet, digests...), content[0],
		optional(tagContext0, certs), optional(tagContext1, crls), tlv(tagSet, infos...))
	return tlv(tagSequence, l.oid, tlv(tagContext0, sd)), nil
}

// Revocation information besides lists (RFC 5940 §2): the whole OCSPResponse; the
// basic response alone is what some software puts in.
var (
	oidOCSPResponse = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 16, 2}
	oidOCSPBasic    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
)

// otherRevocation reads OtherRevocationInfoFormat; nil when it is no OCSP answer.
func otherRevocation(element cryptobyte.String) []byte {
	var seq, info cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !element.ReadASN1(&seq, explicit(1)) || !seq.ReadASN1ObjectIdentifier(&oid) ||
		!seq.ReadASN1Element(&info, cbasn1.SEQUENCE) || !seq.Empty() {
		return nil
	}
	switch {
	case oid.Equal(oidOCSPResponse):
		return info
	case oid.Equal(oidOCSPBasic):
		return WrapOCSP(info)
	}
	return nil
}

// WrapOCSP makes an OCSPResponse (RFC 6960 §4.2.1) around a BasicOCSPResponse, as
// revocation values of older CAdES hold it.
func WrapOCSP(basic []byte) []byte {
	return tlv(tagSequence, []byte{0x0a, 1, 0}, tlv(tagContext0, tlv(tagSequence, mustOID(oidOCSPBasic), tlv(tagOctets, basic))))
}

// CanonicalList turns BER elements that follow one another into DER, e.g. what
// SignerInfo.RawFields gives. DER comes back as it is.
func CanonicalList(raw []byte) ([]byte, error) {
	r := &berReader{}
	var parts [][]byte
	for len(raw) > 0 {
		e, rest, err := r.next(raw, 0)
		if err != nil {
			return nil, ErrMalformed.Because(err)
		}
		der, err := r.toDER(e, 0)
		if err != nil {
			return nil, ErrMalformed.Because(err)
		}
		parts, raw = append(parts, der), rest
	}
	return bytes.Join(parts, nil), nil
}
