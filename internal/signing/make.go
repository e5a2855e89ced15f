package signing

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"time"

	"sealgate/internal/cms"
	"sealgate/internal/fault"
	"sealgate/internal/keyring"
)

// batch is everything of one authorization that is ready to be signed.
type batch struct {
	authorization Authorization
	certificates  []*x509.Certificate
	tbs           []*cms.TBS // one a document; nil where the digest itself is signed
	values        []keyring.Value
	earlier       map[int][]byte                     // what new signatures join, by document
	evidence      func(document int) ([]byte, error) // nil: none goes into signatures
}

// variant is what signatures over different documents share.
type variant struct {
	hash crypto.Hash
	pss  bool
}

// prepare builds what is signed for every document: the signed attributes
// (RFC 5652 §5.4) or, for a bare value, the digest.
func prepare(a Authorization, chain []*x509.Certificate, now time.Time) (*batch, error) {
	b := &batch{
		authorization: a,
		certificates:  append([]*x509.Certificate{a.parsed}, chain...),
		tbs:           make([]*cms.TBS, len(a.documents)),
		values:        make([]keyring.Value, len(a.documents)),
	}
	_, isRSA := a.parsed.PublicKey.(*rsa.PublicKey)
	signers := map[variant]*cms.Prepared{}
	for i, d := range a.documents {
		if !d.Form.Wrapped() {
			b.values[i] = keyring.Value{Hash: d.Hash, Digest: d.Digest}
			continue
		}
		v := variant{d.Hash, d.PSS && isRSA}
		p := signers[v]
		if p == nil {
			var err error
			if p, err = cms.Prepare(cms.Signer{Certificate: a.parsed, Chain: chain, PSS: v.pss}, d.Hash); err != nil {
				return nil, err
			}
			signers[v] = p
		}
		o := cms.Options{SigningTime: now.Truncate(time.Second)}
		if d.Form == FormPAdES {
			o.SigningTime = time.Time{}
		}
		tbs, err := p.SignedAttributes(d.Digest, o)
		if err != nil {
			return nil, err
		}
		b.tbs[i], b.values[i] = tbs, keyring.Value{Hash: d.Hash, Digest: tbs.Digest()}
	}
	return b, nil
}

// sign uses the key once a document. What is wrong with one document alone does
// not keep the others from being signed: it is reported by its code. Trouble
// with the key is everybody's.
func (b *batch) sign(ctx context.Context, key crypto.Signer, now time.Time) ([]Signature, map[int]string, error) {
	out := make([]Signature, 0, len(b.tbs))
	var failures map[int]string
	for i, d := range b.authorization.documents {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		value, err := b.one(i, d, key)
		if its := (documentError{}); errors.As(err, &its) {
			if failures == nil {
				failures = map[int]string{}
			}
			failures[d.Index] = fault.CodeOf(its.cause)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		out = append(out, Signature{Document: d.Index, Form: d.Form, DER: value, Certificate: b.authorization.certificate.ID, CreatedAt: now})
	}
	return out, failures, nil
}

// documentError is what is wrong with one document and no other.
type documentError struct{ cause error }

func (e documentError) Error() string { return e.cause.Error() }
func (e documentError) Unwrap() error { return e.cause }

// one makes one document's signature.
func (b *batch) one(i int, d Document, key crypto.Signer) ([]byte, error) {
	if !d.Form.Wrapped() {
		return bare(d, key)
	}
	if d.Earlier != nil { // before the key is used
		if err := checkInput(d, b.earlier[d.Index]); err != nil {
			return nil, documentError{err}
		}
	}
	info, err := b.tbs[i].SignWith(rand.Reader, key)
	if err != nil {
		return nil, err
	}
	if b.evidence != nil {
		if info, err = b.withEvidence(info, d.Index); err != nil {
			return nil, err
		}
	}
	return cms.Assemble(b.certificates, info)
}

// withEvidence puts the bundle of one document into its signature. A bundle that
// does not fit is this document's failure: without it, the signature would not
// be what was asked for.
func (b *batch) withEvidence(info *cms.SignerInfo, document int) (*cms.SignerInfo, error) {
	bundle, err := b.evidence(document)
	if err != nil {
		return nil, err
	}
	attribute, err := cms.EvidenceAttribute(cms.Evidence{Bundle: bundle})
	if err != nil {
		return nil, documentError{ErrEvidenceSize.Because(err)}
	}
	return info.WithUnsigned(attribute), nil
}

// bare signs a digest and gives the value by itself.
func bare(d Document, key crypto.Signer) ([]byte, error) {
	var opts crypto.SignerOpts = d.Hash
	_, isRSA := key.Public().(*rsa.PublicKey)
	if isRSA && d.PSS {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: d.Hash}
	}
	value, err := key.Sign(rand.Reader, d.Digest, opts)
	if err != nil || d.Form != FormRaw {
		return value, err
	}
	if pub, ok := key.Public().(*ecdsa.PublicKey); ok {
		return joined(value, (pub.Curve.Params().BitSize+7)/8)
	}
	return value, nil
}

// Verify checks a bare value (FormPKCS1, FormRaw) over the document's digest.
func (d Document) Verify(public crypto.PublicKey, value []byte) error {
	switch pub := public.(type) {
	case *rsa.PublicKey:
		if d.PSS {
			return rsa.VerifyPSS(pub, d.Hash, d.Digest, value, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		return rsa.VerifyPKCS1v15(pub, d.Hash, d.Digest, value)
	case *ecdsa.PublicKey:
		if d.Form == FormRaw {
			n := (pub.Curve.Params().BitSize + 7) / 8
			if len(value) != 2*n {
				return errors.New("signing: the value has another length than r and s")
			}
			if !ecdsa.Verify(pub, d.Digest, new(big.Int).SetBytes(value[:n]), new(big.Int).SetBytes(value[n:])) {
				return errors.New("signing: the value is not this key's over this digest")
			}
			return nil
		}
		if !ecdsa.VerifyASN1(pub, d.Digest, value) {
			return errors.New("signing: the value is not this key's over this digest")
		}
		return nil
	}
	return errors.New("signing: a key of this kind signs no documents")
}

// joined turns an ECDSA-Sig-Value into r and s at the curve's length.
func joined(der []byte, size int) ([]byte, error) {
	var v struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &v); err != nil || len(rest) > 0 || v.R.Sign() <= 0 || v.S.Sign() <= 0 ||
		v.R.BitLen() > 8*size || v.S.BitLen() > 8*size {
		return nil, errors.New("signing: the key gave no ECDSA signature")
	}
	out := make([]byte, 2*size)
	v.R.FillBytes(out[:size])
	v.S.FillBytes(out[size:])
	return out, nil
}
