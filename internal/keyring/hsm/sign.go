//go:build cgo

package hsm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"

	"github.com/miekg/pkcs11"

	"sealgate/internal/keyring"
)

// signer signs with a key in the token. It implements crypto.Signer.
type signer struct {
	token  *Token
	object object
	public crypto.PublicKey
}

// Public returns the public key of the row.
func (s *signer) Public() crypto.PublicKey { return s.public }

// Sign signs a digest: ECDSA, RSA PKCS #1 v1.5, or RSA-PSS with *rsa.PSSOptions.
// The token brings its own randomness.
func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	input, opts, err := s.prepare(digest, opts)
	if err != nil {
		return nil, keyring.ErrTokenRefused.Because(err)
	}
	limit := s.token.cfg.AnswerTimeout
	signature, err := do(context.Background(), s.token, limit, func(c *connection, _ bool) ([]byte, error) {
		return c.sign(s.object, s.public, input, opts)
	})
	if err != nil {
		return nil, err
	}
	if !verifies(s.public, digest, signature, opts) {
		return nil, keyring.ErrUnreadable.Because(fmt.Errorf("key %s: the token's signature is not by the row's public key", s.object.id))
	}
	return signature, nil
}

// sign uses a key once. A kept handle may mean nothing any more; then the key
// is looked up again.
func (c *connection) sign(o object, public crypto.PublicKey, input []byte, opts crypto.SignerOpts) ([]byte, error) {
	for again := false; ; again = true {
		key, kept, err := c.find(o)
		if again && errors.Is(err, errAbsent) {
			return nil, errVanished
		}
		if err != nil {
			return nil, err
		}
		if want, known := keyType(public); !known || key.KeyType() != want {
			return nil, keyring.ErrUnreadable.Because(fmt.Errorf("key %s: the token's key is of another type than the row's", o.id))
		}
		signature, err := key.Sign(nil, input, opts)
		var code pkcs11.Error
		if kept && errors.As(err, &code) && (code == pkcs11.CKR_OBJECT_HANDLE_INVALID || code == pkcs11.CKR_KEY_HANDLE_INVALID) {
			c.forget(o)
			continue
		}
		return signature, refused(err)
	}
}

func keyType(public crypto.PublicKey) (uint, bool) {
	switch public.(type) {
	case *ecdsa.PublicKey:
		return pkcs11.CKK_ECDSA, true
	case *rsa.PublicKey:
		return pkcs11.CKK_RSA, true
	}
	return 0, false
}

// prepare checks what is to be signed and brings it into the form that every
// module takes.
func (s *signer) prepare(digest []byte, opts crypto.SignerOpts) ([]byte, crypto.SignerOpts, error) {
	if opts == nil {
		opts = crypto.Hash(0)
	}
	hash := opts.HashFunc()
	if hash != 0 && len(digest) != hash.Size() {
		return nil, nil, fmt.Errorf("a %s digest does not have %d bytes", hash, len(digest))
	}
	switch public := s.public.(type) {
	case *ecdsa.PublicKey:
		// The leftmost bits count (FIPS 186-5 §6.4.1); not every module cuts.
		return digest[:min(len(digest), (public.Curve.Params().N.BitLen()+7)/8)], opts, nil
	case *rsa.PublicKey:
		pss, ok := opts.(*rsa.PSSOptions)
		if !ok || pss.SaltLength != rsa.PSSSaltLengthAuto {
			return digest, opts, nil
		}
		// As long as fits, as in package crypto/rsa (RFC 8017 §9.1.1).
		salt := (public.N.BitLen()-1+7)/8 - 2 - hash.Size()
		if salt < 0 {
			return nil, nil, errors.New("the key is too short for this hash")
		}
		return digest, &rsa.PSSOptions{Hash: hash, SaltLength: salt}, nil
	}
	return nil, nil, fmt.Errorf("keys of type %T are not kept in tokens", s.public)
}

// verifies checks a signature as it leaves.
func verifies(public crypto.PublicKey, digest, signature []byte, opts crypto.SignerOpts) bool {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(p, digest, signature)
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			return rsa.VerifyPSS(p, opts.HashFunc(), digest, signature, pss) == nil
		}
		return rsa.VerifyPKCS1v15(p, opts.HashFunc(), digest, signature) == nil
	}
	return false
}
