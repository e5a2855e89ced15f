package cms

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Editor adds to a signature that is there already. No octet of a signer info,
// certificate or revocation list is altered: they are carried over as they were
// received, in BER too; only the lengths around them are written anew.
type Editor struct {
	l     *layout
	added bool // a certificate or revocation information
	err   error
}

// Edit starts from a signature in DER or BER.
func Edit(raw []byte) (*Editor, error) {
	sd, err := ParseBER(raw)
	if err != nil {
		return nil, err
	}
	return &Editor{l: sd.layout}, nil
}

// AddCertificates adds those that are not in the signature yet.
func (e *Editor) AddCertificates(certs ...*x509.Certificate) {
	for _, c := range certs {
		e.add(&e.l.certs, c.Raw)
	}
}

// AddCRL adds a CertificateList, unless it is there.
func (e *Editor) AddCRL(der []byte) { e.add(&e.l.crls, der) }

// AddOCSP adds an OCSPResponse as other revocation information (RFC 5940 §2),
// unless it is there.
func (e *Editor) AddOCSP(der []byte) {
	e.add(&e.l.crls, tlv(tagContext1, mustOID(oidOCSPResponse), der))
}

func (e *Editor) add(set *[][]byte, der []byte) {
	if e.err != nil || slices.ContainsFunc(*set, func(have []byte) bool { return bytes.Equal(have, der) }) {
		return
	}
	e0, rest, err := (&berReader{}).next(der, 0)
	if err != nil || len(rest) != 0 || !minimal(e0) || len(*set) == maxCerts {
		e.err = fmt.Errorf("cms: cannot be added: malformed, or more than %d", maxCerts)
		return
	}
	*set, e.added = insert(*set, der), true
}

// insert keeps a set of DER in its order (X.690 §11.6). A set that was not in
// order gets the new element at its end.
func insert(set [][]byte, der []byte) [][]byte {
	at := len(set)
	if slices.IsSortedFunc(set, bytes.Compare) {
		at, _ = slices.BinarySearchFunc(set, der, bytes.Compare)
	}
	return slices.Insert(slices.Clone(set), at, der)
}

// AddSigner adds a signature beside those that are there; it must be over the same
// content. Its certificates come through AddCertificates.
func (e *Editor) AddSigner(si *SignerInfo) {
	der, err := si.marshal()
	if err == nil && len(e.l.signers) == maxSigners {
		err = fmt.Errorf("cms: more than %d signers", maxSigners)
	}
	var parsed *SignerInfo
	if err == nil {
		parsed, err = parseSigner(der)
	}
	if err != nil {
		e.err = errors.Join(e.err, err)
		return
	}
	e.l.signers = append(e.l.signers, *parsed.layout)
	e.l.digestAlgs = e.withDigest(parsed.digestAlg.raw)
}

func (e *Editor) withDigest(alg []byte) [][]byte {
	if slices.ContainsFunc(e.l.digestAlgs, func(have []byte) bool { return bytes.Equal(have, alg) }) {
		return e.l.digestAlgs
	}
	return insert(e.l.digestAlgs, alg)
}

// AddUnsigned adds an unsigned attribute to the signer at index i, in the order of
// SignedData.Signers.
func (e *Editor) AddUnsigned(i int, a Attribute) {
	der, err := a.marshal()
	if err == nil && (i < 0 || i >= len(e.l.signers) || len(e.l.signers[i].unsigned) == maxAttributes) {
		err = errors.New("cms: no such signer, or too many attributes")
	}
	if err != nil {
		e.err = errors.Join(e.err, err)
		return
	}
	s := &e.l.signers[i]
	s.unsigned = insert(s.unsigned, der)
	s.raw = tlv(tagSequence, bytes.Join(s.fields, nil), tlv(tagContext1, s.unsigned...))
}

// Archive time-stamps of before ATSv3 cover the sets of certificates and lists as
// a whole (EN 319 122-1 annex A.2.5): nothing can be added beside them.
var (
	oidArchiveV1 = mustOID(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 27})
	oidArchiveV2 = mustOID(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 48})
)

// Bytes gives the signature with all that was added, or the first error. What it
// gives can be parsed again.
func (e *Editor) Bytes() ([]byte, error) {
	if e.err != nil {
		return nil, e.err
	}
	l := e.l
	version := max(l.version, 1)
	infos := make([][]byte, len(l.signers))
	for i, s := range l.signers {
		infos[i] = s.raw
		if e.added && slices.ContainsFunc(s.parsed, func(a RawAttribute) bool {
			return bytes.Equal(a.Type, oidArchiveV1) || bytes.Equal(a.Type, oidArchiveV2)
		}) {
			return nil, ErrFrozen
		}
		if bytes.Equal(s.fields[0], []byte{tagInteger, 1, 3}) {
			version = max(version, 3)
		}
	}
	for _, c := range l.crls { // RFC 5652 §5.1
		if c[0] != tagSequence {
			version = 5
		}
	}
	if !slices.IsSortedFunc(infos, bytes.Compare) {
		slices.SortStableFunc(infos, bytes.Compare)
	}
	sd := tlv(tagSequence, []byte{tagInteger, 1, byte(version)}, tlv(tagSet, l.digestAlgs...), l.content,
		optional(tagContext0, l.certs), optional(tagContext1, l.crls), tlv(tagSet, infos...))
	out := tlv(tagSequence, derSignedData, tlv(tagContext0, sd))
	if len(out) > MaxBytes {
		return nil, ErrMalformed.Because(errors.New("too large"))
	}
	return out, nil
}

func optional(tag byte, elements [][]byte) []byte {
	if len(elements) == 0 {
		return nil
	}
	return tlv(tag, elements...)
}

// parseSigner reads one SignerInfo that stands alone.
func parseSigner(der []byte) (*SignerInfo, error) {
	clean, err := canonical(der)
	if err != nil {
		return nil, err
	}
	in := cryptobyte.String(clean)
	si, err := readSignerInfo(&in)
	if err != nil || !in.Empty() {
		return nil, errForm
	}
	r := &berReader{}
	e, _, err := r.next(der, 0)
	if err != nil {
		return nil, err
	}
	places, err := r.signers([]berElement{e})
	if err != nil {
		return nil, err
	}
	si.raw, si.layout = places[0].raw, &places[0]
	return si, nil
}
