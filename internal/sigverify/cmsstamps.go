package sigverify

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"slices"
	"strings"

	"sealgate/internal/cades"
	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/tsp"
)

// errOldForm: a time-stamp of a form that is not verified here.
var errOldForm = errors.New("sigverify: an archive time-stamp of before version 3")

// contentHashes are the digests that a signer's time-stamps need of the content.
func contentHashes(sd *cms.SignedData, i int) []crypto.Hash {
	var out []crypto.Hash
	list, _ := cades.Timestamps(sd, i) // an error is told when they are judged
	for _, t := range list {
		if t.Token != nil && (t.Kind == cades.KindContent || t.Kind == cades.KindArchive) {
			out = append(out, t.Token.Info.Imprint.Hash)
		}
	}
	return out
}

// valuesOf is the validation data that a signer brings.
func valuesOf(sd *cms.SignedData, i int) ([]*x509.Certificate, []certpath.StoredEvidence) {
	v := cades.ValuesOf(sd, i)
	return v.Certificates, v.Stored()
}

// levelOf is the baseline level by structure.
func levelOf(sd *cms.SignedData, i int, r cms.SignerResult) string {
	if !r.SigningCertificate {
		return ""
	}
	return strings.TrimPrefix(cades.SignerLevel(sd, i).String(), "B-")
}

var kinds = map[cades.Kind]string{cades.KindContent: ProofContentTimestamp, cades.KindSignature: ProofSignatureTimestamp,
	cades.KindArchive: ProofArchiveTimestamp, cades.KindArchiveOld: ProofArchiveTimestamp}

// tokensOf are the time-stamps of a signer, the newest first.
func tokensOf(sd *cms.SignedData, i int, have content) ([]Token, error) {
	list, err := cades.Timestamps(sd, i)
	if err != nil {
		return nil, err
	}
	var out []Token
	for _, t := range slices.Backward(list) {
		token := Token{Kind: kinds[t.Kind], Raw: t.Raw}
		token.Verify = func() (Stamp, []Object, error) {
			if t.Kind == cades.KindArchiveOld {
				return Stamp{}, nil, errOldForm
			}
			if t.Token == nil {
				return Stamp{}, nil, t.Err
			}
			if t.Kind != cades.KindSignature && !reachable(sd, i, t.Token.Info.Imprint.Hash, have) {
				return Stamp{}, nil, errNotHere
			}
			var digest func(crypto.Hash) []byte
			if have.given() {
				digest = have.digest
			}
			s, err := cades.Verify(sd, i, t, digest)
			if err != nil {
				return Stamp{}, nil, err
			}
			return Stamp{Certificate: s.Certificate, Extra: s.Extra, Info: t.Token.Info}, covers(sd, i, s, list), nil
		}
		out = append(out, token)
	}
	return out, nil
}

// reachable tells whether there is a digest of the content for an imprint.
func reachable(sd *cms.SignedData, i int, h crypto.Hash, have content) bool {
	if sd.Attached || have.digest(h) != nil {
		return true
	}
	own, err := sd.Signers[i].Hash()
	return err == nil && own == h // the signed message digest stands for it
}

// covers lists what a time-stamp proves to have existed: the signature value, and
// for an archive time-stamp the earlier tokens and the revocation data, those
// inside the tokens as well.
func covers(sd *cms.SignedData, i int, s *cades.Stamp, list []cades.Timestamp) []Object {
	if s.Kind == cades.KindContent {
		return nil
	}
	out := []Object{ObjectOf(sd.Signers[i].Signature())}
	if s.Coverage == nil {
		return out
	}
	for _, t := range list {
		if !s.Coverage.HasToken(t) {
			continue
		}
		out = append(out, ObjectOf(t.Raw))
		if t.Token != nil {
			for _, raw := range slices.Concat(t.Token.SignedData().CRLs, t.Token.SignedData().OCSPs) {
				out = append(out, ObjectOf(raw))
			}
		}
	}
	elements := sd.RawRevocations()
	for _, n := range s.Coverage.Revocations {
		if n < 0 || n >= len(elements) {
			continue
		}
		for _, raw := range slices.Concat(sd.CRLs, sd.OCSPs) {
			// An OCSP response stands at the end of its element (RFC 5940 §2.1); a
			// list is its element.
			if bytes.HasSuffix(elements[n], raw) {
				out = append(out, ObjectOf(raw))
			}
		}
	}
	return out
}

// signatureTokens are the signature time-stamps of a countersigner.
func signatureTokens(si *cms.SignerInfo) []Token {
	var out []Token
	for _, a := range si.Unsigned() {
		if !a.Type.Equal(cms.OIDTimeStampToken) {
			continue
		}
		for _, raw := range a.Values {
			out = append(out, Token{Kind: ProofSignatureTimestamp, Raw: raw, Verify: func() (Stamp, []Object, error) {
				s, err := verifyToken(raw, si.Signature())
				return s, []Object{ObjectOf(si.Signature())}, err
			}})
		}
	}
	return out
}

// verifyToken checks a token over data.
func verifyToken(raw, data []byte) (Stamp, error) {
	token, err := tsp.ParseToken(raw)
	if err != nil {
		return Stamp{}, err
	}
	h := token.Info.Imprint.Hash
	if !h.Available() {
		return Stamp{}, tsp.ErrMalformed
	}
	cert, err := token.Verify(tsp.NewImprint(h, data))
	if err != nil {
		return Stamp{}, err
	}
	return Stamp{Certificate: cert, Extra: token.Certificates, Info: token.Info}, nil
}
