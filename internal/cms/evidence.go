package cms

import (
	"encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// OIDEvidence is the unsigned attribute that carries the evidence of an approval
// (api/EVIDENCE.md). It lies below 2.999, the arc for examples, until the project
// has an arc of its own; readers know it by its content too, not by the number alone.
var OIDEvidence = asn1.ObjectIdentifier{2, 999, 1, 3}

// Bounds on evidence inside a signature.
const (
	MaxEvidence  = 2 << 20
	MaxInclusion = 64 << 10
)

// Evidence is what the attribute holds: a bundle of package evidence, and in a
// batch the proof that this document is in the approved list (package signing).
//
//	ApprovalEvidence ::= SEQUENCE {
//	  version    INTEGER (1),
//	  bundle     OCTET STRING,
//	  inclusion  [0] IMPLICIT OCTET STRING OPTIONAL }
type Evidence struct {
	Bundle    []byte
	Inclusion []byte // nil: none
}

// EvidenceAttribute makes the attribute.
func EvidenceAttribute(e Evidence) (Attribute, error) {
	if len(e.Bundle) == 0 || len(e.Bundle) > MaxEvidence || len(e.Inclusion) > MaxInclusion {
		return Attribute{}, errors.New("cms: evidence is empty or too large")
	}
	var inclusion []byte
	if len(e.Inclusion) > 0 {
		inclusion = tlv(0x80, e.Inclusion)
	}
	return NewAttribute(OIDEvidence, tlv(tagSequence, []byte{tagInteger, 1, 1}, tlv(tagOctets, e.Bundle), inclusion)), nil
}

// Evidence reads the attribute; ok is false without one. Two of them, or a
// malformed one, are an error: nobody could say which counts.
func (si *SignerInfo) Evidence() (e Evidence, ok bool, err error) {
	if !has(si.unsigned, OIDEvidence) {
		return e, false, nil
	}
	bad := ErrAttributes.Because(errors.New("malformed or repeated evidence"))
	value, ok := si.UnsignedAttribute(OIDEvidence)
	if !ok {
		return e, false, bad
	}
	in := cryptobyte.String(value)
	var seq, bundle, inclusion cryptobyte.String
	var version int
	var has bool
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1Integer(&version) || version != 1 ||
		!seq.ReadASN1(&bundle, cbasn1.OCTET_STRING) || !seq.ReadOptionalASN1(&inclusion, &has, cbasn1.Tag(0).ContextSpecific()) ||
		!seq.Empty() || len(bundle) == 0 || len(bundle) > MaxEvidence || len(inclusion) > MaxInclusion || has && len(inclusion) == 0 {
		return e, false, bad
	}
	return Evidence{Bundle: bundle, Inclusion: inclusion}, true, nil
}
