package xmldsig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// signatureMethod is one SignatureMethod (RFC 9231 §2.3).
type signatureMethod struct {
	hash crypto.Hash
	ec   bool
	pss  bool
}

var signatureMethods = map[string]signatureMethod{
	"http://www.w3.org/2000/09/xmldsig#rsa-sha1":             {hash: crypto.SHA1},
	"http://www.w3.org/2001/04/xmldsig-more#rsa-sha256":      {hash: crypto.SHA256},
	"http://www.w3.org/2001/04/xmldsig-more#rsa-sha384":      {hash: crypto.SHA384},
	"http://www.w3.org/2001/04/xmldsig-more#rsa-sha512":      {hash: crypto.SHA512},
	"http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1": {hash: crypto.SHA256, pss: true},
	"http://www.w3.org/2007/05/xmldsig-more#sha384-rsa-MGF1": {hash: crypto.SHA384, pss: true},
	"http://www.w3.org/2007/05/xmldsig-more#sha512-rsa-MGF1": {hash: crypto.SHA512, pss: true},
	"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha1":      {hash: crypto.SHA1, ec: true},
	"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256":    {hash: crypto.SHA256, ec: true},
	"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384":    {hash: crypto.SHA384, ec: true},
	"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512":    {hash: crypto.SHA512, ec: true},
}

func (m signatureMethod) verify(key crypto.PublicKey, digest, sig []byte, old bool) error {
	switch key := key.(type) {
	case *rsa.PublicKey:
		least := 2048
		if old {
			least = 1024
		}
		if m.ec || key.N.BitLen() < least {
			return ErrAlgorithm.Because(fmt.Errorf("an RSA key of %d bits", key.N.BitLen()))
		}
		var err error
		if m.pss { // RFC 9231 §2.3.10: the salt is as long as the hash
			err = rsa.VerifyPSS(key, m.hash, digest, sig, &rsa.PSSOptions{SaltLength: m.hash.Size(), Hash: m.hash})
		} else {
			err = rsa.VerifyPKCS1v15(key, m.hash, digest, sig)
		}
		if err != nil {
			return ErrSignature.Because(err)
		}
		return nil
	case *ecdsa.PublicKey:
		if !m.ec {
			return ErrAlgorithm.Because(errors.New("a key for ECDSA"))
		}
		size := (key.Params().N.BitLen() + 7) / 8
		if len(sig) != 2*size {
			return ErrSignature.Because(fmt.Errorf("%d bytes of r‖s", len(sig)))
		}
		der, err := asn1.Marshal(pair{new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])})
		if err != nil || !ecdsa.VerifyASN1(key, digest, der) {
			return ErrSignature
		}
		return nil
	}
	return ErrAlgorithm.Because(fmt.Errorf("key %T", key))
}

type pair struct{ R, S *big.Int }

// methodFor gives the SignatureMethod for a key and a hash.
func methodFor(key crypto.PublicKey, hash crypto.Hash, pss bool) (string, error) {
	_, ec := key.(*ecdsa.PublicKey)
	if _, isRSA := key.(*rsa.PublicKey); !ec && !isRSA || ec && pss {
		return "", ErrAlgorithm.Because(fmt.Errorf("key %T", key))
	}
	for uri, m := range signatureMethods {
		if m.hash == hash && m.ec == ec && m.pss == pss && hash != crypto.SHA1 {
			return uri, nil
		}
	}
	return "", ErrAlgorithm.Because(fmt.Errorf("hash %v", hash))
}

func digestURI(hash crypto.Hash) string {
	for uri, h := range digestMethods {
		if h == hash {
			return uri
		}
	}
	return ""
}

// rawPair turns a DER ECDSA signature into r‖s of the curve's length. What is no
// DER of the right kind is given back as it is.
func rawPair(key *ecdsa.PublicKey, sig []byte) []byte {
	var p pair
	size := (key.Params().N.BitLen() + 7) / 8
	if rest, err := asn1.Unmarshal(sig, &p); err != nil || len(rest) > 0 || p.R.Sign() <= 0 || p.S.Sign() <= 0 ||
		p.R.BitLen() > size*8 || p.S.BitLen() > size*8 {
		return sig
	}
	out := make([]byte, 2*size)
	p.R.FillBytes(out[:size])
	p.S.FillBytes(out[size:])
	return out
}

// digestInfo is what is signed RAW with an RSA key (RFC 8017 §9.2).
func digestInfo(hash crypto.Hash, digest []byte) ([]byte, error) {
	last := map[crypto.Hash]int{crypto.SHA256: 1, crypto.SHA384: 2, crypto.SHA512: 3}[hash]
	if last == 0 {
		return nil, ErrAlgorithm
	}
	type algorithm struct {
		OID  asn1.ObjectIdentifier
		Null asn1.RawValue
	}
	return asn1.Marshal(struct {
		Algorithm algorithm
		Digest    []byte
	}{algorithm{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, last}, asn1.NullRawValue}, digest})
}
