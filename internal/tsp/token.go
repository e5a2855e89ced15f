package tsp

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"sealgate/internal/cms"
)

// Token is a parsed TimeStampToken.
type Token struct {
	Raw  []byte
	Info *Info
	// Certificates are the ones inside: the authority's and perhaps its chain.
	Certificates []*x509.Certificate
	signed       *cms.SignedData
}

// ParseToken reads a TimeStampToken. Nothing is verified.
func ParseToken(der []byte) (*Token, error) {
	if len(der) > maxResponseBytes {
		return nil, ErrMalformed.Because(errors.New("too large"))
	}
	sd, err := cms.ParseBER(der)
	if err != nil {
		return nil, ErrMalformed.Because(err)
	}
	if !sd.Attached || !sd.ContentType.Equal(cms.OIDTSTInfo) || len(sd.Signers) != 1 {
		return nil, ErrMalformed.Because(errors.New("not one signature over TSTInfo"))
	}
	info, err := parseInfo(sd.Content)
	if err != nil {
		return nil, ErrMalformed.Because(err)
	}
	return &Token{Raw: der, Info: info, Certificates: sd.Certificates, signed: sd}, nil
}

// SignedData is the token as CMS, e.g. for its unsigned attributes.
func (t *Token) SignedData() *cms.SignedData { return t.signed }

// Verify checks that the token stamps exactly this imprint, that its signature is
// good, and that the signer's certificate is a time-stamp authority's (RFC 3161
// §2.2, §2.3). extra are further certificates to find the signer in. The caller
// validates the returned certificate at Info.Time.
func (t *Token) Verify(want Imprint, extra ...*x509.Certificate) (*x509.Certificate, error) {
	if !t.Info.Imprint.Equal(want) {
		return nil, ErrMismatch.Because(errors.New("the token stamps other data"))
	}
	results, err := t.signed.Verify(cms.VerifyInput{Certificates: extra, RequireSigningCertificate: true})
	if err == nil {
		err = cms.Good(results)
	}
	if err != nil {
		return nil, ErrInvalid.Because(err)
	}
	if err := CheckCertificate(results[0].Certificate); err != nil {
		return nil, ErrInvalid.Because(err)
	}
	return results[0].Certificate, nil
}

// Poster sends a request body; egress.Client.Post is one.
type Poster func(ctx context.Context, url, contentType string, body []byte, accept string, max int64) ([]byte, error)

// RequestToken asks the authority at url to stamp an imprint, and verifies what
// comes back: imprint, nonce, signature and certificate. token is what goes into
// a signature's unsigned attribute; signer is still to be validated, which Client
// does.
func RequestToken(ctx context.Context, post Poster, url string, imprint Imprint) (token *Token, signer *x509.Certificate, err error) {
	return request(ctx, post, url, imprint, nil)
}

// ImprintOf hashes data with SHA-256. For a signature's time stamp, data is the
// signature value (EN 319 122-1 §5.3).
func ImprintOf(data []byte) Imprint { return NewImprint(crypto.SHA256, data) }

// NewImprint hashes parts, one after the other.
func NewImprint(hash crypto.Hash, parts ...[]byte) Imprint {
	h := hash.New()
	for _, p := range parts {
		h.Write(p)
	}
	return Imprint{hash, h.Sum(nil)}
}

// ParseResponse gives the token of a granted TimeStampResp (RFC 3161 §2.4.2). A
// refusal is ErrRefused, with status and failure bits in the cause.
func ParseResponse(der []byte) (token []byte, err error) {
	bad := ErrMalformed.Because(errors.New("malformed response"))
	if len(der) > maxResponseBytes {
		return nil, bad
	}
	in := cryptobyte.String(der)
	var seq, status, element cryptobyte.String
	var code int
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1(&status, cbasn1.SEQUENCE) || !status.ReadASN1Integer(&code) {
		return nil, bad
	}
	if code != 0 && code != 1 { // granted, grantedWithMods
		return nil, ErrRefused.Because(fmt.Errorf("status %d, details %x", code, []byte(status)))
	}
	if !seq.ReadASN1Element(&element, cbasn1.SEQUENCE) || !seq.Empty() {
		return nil, bad
	}
	return element, nil
}
