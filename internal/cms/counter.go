package cms

import (
	"bytes"
	"crypto"
	"crypto/subtle"
	"encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// OIDCountersignature is the unsigned attribute of RFC 5652 §11.4.
var OIDCountersignature = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 6}

// maxCountersigners bounds the countersignatures of one signer.
const maxCountersigners = 64

// CounterAttributes builds the signed attributes of a countersignature over the
// signature value of si. They have no content type (RFC 5652 §11.4).
func (p *Prepared) CounterAttributes(si *SignerInfo, o Options) (*TBS, error) {
	if len(si.signature) == 0 {
		return nil, errors.New("cms: nothing to countersign")
	}
	if o.ContentType != nil {
		return nil, ErrAttributes.Because(errors.New("a countersignature has no content type"))
	}
	q := *p
	q.typeAttr = nil
	return q.SignedAttributes(hashOf(p.hash, si.signature), o)
}

// Countersignature makes the unsigned attribute out of a signer info that signs
// CounterAttributes; Editor.AddUnsigned puts it in.
func Countersignature(si *SignerInfo) (Attribute, error) {
	der, err := si.marshal()
	if err != nil {
		return Attribute{}, err
	}
	return NewAttribute(OIDCountersignature, der), nil
}

// Countersigners reads the countersignatures of a signer.
func (si *SignerInfo) Countersigners() ([]*SignerInfo, error) {
	var list []*SignerInfo
	for _, a := range si.unsigned {
		if !a.Type.Equal(OIDCountersignature) {
			continue
		}
		for _, v := range a.Values {
			c, err := parseSigner(v)
			if err != nil || len(list) == maxCountersigners {
				return nil, ErrMalformed.Because(errors.New("malformed or too many countersignatures"))
			}
			list = append(list, c)
		}
	}
	return list, nil
}

// Countersignatures verifies the countersignatures of a signer, which is one of
// SignedData.Signers or, for countersignatures in turn, the Signer of a result.
// What they sign is the signature value; content in the input is not looked at.
func (sd *SignedData) Countersignatures(si *SignerInfo, in VerifyInput) ([]SignerResult, error) {
	list, err := si.Countersigners()
	if err != nil {
		return nil, err
	}
	in.AllowNoSignedAttributes = false
	digest := func(h crypto.Hash) ([]byte, error) {
		if !h.Available() {
			return nil, ErrAlgorithm
		}
		return hashOf(h, si.signature), nil
	}
	results := make([]SignerResult, len(list))
	for i, c := range list {
		results[i] = sd.verifySigner(c, in, digest, checkCounterAttributes)
	}
	return results, nil
}

// checkCounterAttributes: RFC 5652 §11.4, no content type.
func checkCounterAttributes(si *SignerInfo) error {
	if has(si.attributes, OIDContentType) {
		return ErrAttributes.Because(errors.New("a countersignature has no content type"))
	}
	return checkSigningTime(si)
}

// MessageDigest is the value of the signed attribute; ok is false without one.
func (si *SignerInfo) MessageDigest() (digest []byte, ok bool) {
	value, ok := si.SignedAttribute(OIDMessageDigest)
	if !ok {
		return nil, false
	}
	in := cryptobyte.String(value)
	var md cryptobyte.String
	if !in.ReadASN1(&md, cbasn1.OCTET_STRING) || !in.Empty() {
		return nil, false
	}
	return bytes.Clone(md), true
}

// Hash is the digest algorithm the signer info names.
func (si *SignerInfo) Hash() (crypto.Hash, error) {
	h, err := si.digestAlg.digest()
	if err != nil {
		return 0, ErrAlgorithm.Because(err)
	}
	return h, nil
}

func hashOf(h crypto.Hash, data ...[]byte) []byte {
	w := h.New()
	for _, d := range data {
		w.Write(d)
	}
	return w.Sum(nil)
}

func sameOctets(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
