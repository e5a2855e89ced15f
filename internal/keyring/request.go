package keyring

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
)

// RequestContent is what a certificate request (PKCS #10, RFC 2986) says beside
// the key.
type RequestContent struct {
	// RawSubject is a Name in DER, copied byte for byte.
	RawSubject []byte
	// Extensions are asked for in the extensionRequest attribute (RFC 2985 §5.4.2).
	Extensions []pkix.Extension
}

// SealNewKeyWithRequest is SealNewKey for a certificate that another authority
// issues: it makes the key and, with it, the one request that proves its
// possession. The signer stays inside, so the key signs nothing else; a request
// for another key, or with other content, needs another key.
func (k *Keyring) SealNewKeyWithRequest(alg Algorithm, content RequestContent) (Row, crypto.PublicKey, []byte, error) {
	if len(content.RawSubject) == 0 {
		return Row{}, nil, nil, errors.New("keyring: a certificate request needs a subject")
	}
	ctx, cancel := context.WithTimeout(context.Background(), makeTimeout)
	defer cancel()
	row, private, err := k.makeKey(ctx, PurposeMobile, alg)
	if err != nil {
		return Row{}, nil, nil, err
	}
	defer wipe(private)
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		RawSubject: content.RawSubject, ExtraExtensions: content.Extensions}, private)
	if err != nil {
		return Row{}, nil, nil, fmt.Errorf("keyring: certificate request: %w", err)
	}
	return row, private.Public(), request, nil
}
