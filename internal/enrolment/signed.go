package enrolment

import (
	"crypto/x509"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"sealgate/internal/cms"
)

// signedStatement is a CMS message whose signature holds under its own signer's
// certificate. Whether that certificate may be believed is not yet said.
type signedStatement struct {
	content    []byte
	signer     *x509.Certificate
	nonce      []byte // attribute cms.OIDRandomNonce; nil when absent
	cardNumber string // attribute cms.OIDCardNumber; "" when absent
}

// readSigned reads SignedData with content inside and exactly one signer, whose
// signature covers signed attributes (RFC 5652 §5.4). Components may leave the
// certificate out of the message: ours is then the only candidate.
func readSigned(der []byte, ours *x509.Certificate) (*signedStatement, error) {
	sd, err := cms.Parse(der)
	if err != nil {
		return nil, ErrProofMalformed.Because(err)
	}
	if len(sd.Signers) != 1 || !sd.Attached || !sd.ContentType.Equal(cms.OIDData) {
		return nil, ErrProofMalformed.Because(errors.New("not one signer over attached data"))
	}
	results, err := sd.Verify(cms.VerifyInput{Certificates: []*x509.Certificate{ours}})
	if err == nil {
		err = cms.Good(results)
	}
	if errors.Is(err, cms.ErrNoCertificate) {
		return nil, ErrProofCard.Because(err)
	}
	if err != nil {
		return nil, ErrProofSignature.Because(err)
	}
	out := &signedStatement{content: sd.Content, signer: results[0].Certificate}
	if out.nonce, err = textAttribute(sd.Signers[0], cms.OIDRandomNonce); err != nil {
		return nil, err
	}
	number, err := textAttribute(sd.Signers[0], cms.OIDCardNumber)
	out.cardNumber = string(number)
	return out, err
}

// textAttribute gives the octets of a signed attribute that has one value, an
// OCTET STRING or a text; nil when there is no such attribute or more than one.
// Of another form, it is refused.
func textAttribute(si *cms.SignerInfo, oid []int) ([]byte, error) {
	value, ok := si.SignedAttribute(oid)
	if !ok {
		return nil, nil
	}
	in := cryptobyte.String(value)
	var content cryptobyte.String
	var tag cbasn1.Tag
	if !in.ReadAnyASN1(&content, &tag) || !in.Empty() {
		return nil, ErrProofMalformed.Because(errors.New("an attribute is malformed"))
	}
	switch tag {
	case cbasn1.OCTET_STRING, cbasn1.PrintableString, cbasn1.UTF8String, cbasn1.IA5String:
		return append([]byte{}, content...), nil
	}
	return nil, ErrProofMalformed.Because(errors.New("an attribute is not text"))
}
