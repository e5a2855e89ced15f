package evidence

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"

	"sealgate/internal/cms"
)

// plainSignature is a stored signature as its signer made it: that signer alone,
// without unsigned attributes, and with the certificates of its own chain. Time-stamps,
// revocation answers and other people's signatures are beside what an approval
// led to; whoever has the .p7s has them judged by package sigverify.
func plainSignature(der, mobile []byte, issuers [][]byte) ([]byte, error) {
	sd, err := cms.ParseBER(der) // it may have joined one in BER
	if err != nil {
		return nil, err
	}
	certificates := slices.DeleteFunc(slices.Clone(sd.Certificates), func(c *x509.Certificate) bool {
		return !bytes.Equal(c.Raw, mobile) && !slices.ContainsFunc(issuers, func(raw []byte) bool { return bytes.Equal(raw, c.Raw) })
	})
	for _, si := range sd.Signers {
		if c := si.FindCertificate(certificates); c != nil && bytes.Equal(c.Raw, mobile) {
			return cms.Assemble(certificates, si.WithoutUnsigned())
		}
	}
	return nil, errors.New("evidence: a stored signature is not by the mobile certificate")
}

// FromSignature gives the bundle that a signature (.p7s) carries, with that
// signature in its place: a bundle cannot hold the signature that holds it.
// ErrNotFound when no signer carries one.
func FromSignature(der []byte) ([]byte, error) {
	sd, err := cms.ParseBER(der)
	if err != nil {
		return nil, ErrMalformed.Because(err)
	}
	for _, si := range sd.Signers {
		carried, ok, err := si.Evidence()
		if err != nil {
			return nil, ErrMalformed.Because(err)
		}
		if !ok {
			continue
		}
		b, err := Parse(carried.Bundle)
		if err != nil {
			return nil, err
		}
		hash, err := b.hash()
		if err != nil || !bytes.Equal(hash, b.SHA256) || b.Mobile == nil || b.Approval.Inclusion == nil || len(b.Signatures) > 0 {
			return nil, ErrMalformed.Because(errors.New("not a bundle of one document without its signature, or changed"))
		}
		issuers := make([][]byte, len(b.Mobile.Issuers))
		for i, raw := range b.Mobile.Issuers {
			issuers[i] = raw
		}
		plain, err := plainSignature(der, b.Mobile.Certificate, issuers)
		if err != nil {
			return nil, ErrMalformed.Because(err)
		}
		b.Signatures = []Signature{{Document: b.Approval.Inclusion.Index, CMS: plain}}
		if err := b.Seal(); err != nil {
			return nil, err
		}
		return b.Encode()
	}
	return nil, ErrNotFound
}
