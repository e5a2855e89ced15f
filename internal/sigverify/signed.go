package sigverify

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"

	"sealgate/internal/cms"
)

// JSON is the detailed report (api/VERIFY.md).
func (r *Report) JSON() ([]byte, error) { return json.MarshalIndent(r, "", "  ") }

// Sign makes the signed report: the JSON as the content inside a CMS signature
// (CAdES B-B) by a key of the service, signed at the time of the report's making.
// It is read and verified as any signature.
func (r *Report) Sign(rand io.Reader, signer cms.Signer, o cms.Options) ([]byte, error) {
	if signer.Certificate == nil || signer.Key == nil {
		return nil, errors.New("sigverify: a signed report needs a key and its certificate")
	}
	content, err := r.JSON()
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(content)
	o.Digest, o.ContentType = 0, nil
	tbs, err := cms.SignedAttributes(digest[:], signer, o)
	if err != nil {
		return nil, err
	}
	si, err := tbs.Sign(rand)
	if err != nil {
		return nil, err
	}
	return cms.AssembleAttached(cms.OIDData, content, append([]*x509.Certificate{signer.Certificate}, signer.Chain...), si)
}
