package signing

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"sealgate/internal/cms"
	"sealgate/internal/fault"
)

// Bounds on signatures that new ones join, in bytes: one, and all of an order.
const (
	MaxEarlier    = 2 << 20
	MaxEarlierAll = 5 << 20
	maxNamed      = 20 // signers that are shown by name
	maxName       = 80 // characters of one
)

// EvidenceEmbedded asks for the approval's evidence inside each signature
// (api/EVIDENCE.md).
const EvidenceEmbedded = "embedded"

var (
	// ErrEarlier: the signature that a new one is to join is no signature over this
	// document.
	ErrEarlier = fault.New(fault.Unprocessable, "signing_earlier")
	// ErrEvidenceSize: the evidence is too large to go into a signature.
	ErrEvidenceSize = fault.New(fault.Unprocessable, "signing_evidence_size")
)

// CheckEarlier sees that a signature can be joined: a CMS SignedData, BER too,
// whose every signer signed this digest as data. It says who they are by their
// certificates' own words; whether these can be believed is the verifier's matter.
func CheckEarlier(raw []byte, algorithm string, digest []byte) (signers []string, err error) {
	if len(raw) == 0 || len(raw) > MaxEarlier {
		return nil, ErrEarlier.Because(fmt.Errorf("%d bytes", len(raw)))
	}
	sd, err := cms.ParseBER(raw)
	if err != nil {
		return nil, ErrEarlier.Because(err)
	}
	hash := hashes[algorithm]
	if !sd.ContentType.Equal(cms.OIDData) || len(sd.Signers) == 0 {
		return nil, ErrEarlier.Because(errors.New("not over data, or nobody signed"))
	}
	sameHash := false
	in := cms.VerifyInput{Digest: func(h crypto.Hash) []byte {
		if h == hash {
			sameHash = true
			return digest
		}
		return nil
	}}
	results, err := sd.Verify(in)
	if err == nil {
		err = cms.Good(results)
	}
	if err == nil && !sameHash { // content inside, by other algorithms: nothing was compared
		err = errors.New("nobody signed this digest")
	}
	if err != nil {
		return nil, ErrEarlier.Because(err)
	}
	for _, r := range results {
		if len(signers) == maxNamed {
			break
		}
		signers = append(signers, shownName(r.Certificate.Subject.CommonName))
	}
	return signers, nil
}

// shownName is a name from a certificate that anybody may have made: of bounded
// length and without characters that change how it reads.
func shownName(name string) string {
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r) {
			return -1
		}
		return r
	}, name)
	if r := []rune(name); len(r) > maxName {
		name = string(r[:maxName])
	}
	if name = strings.TrimSpace(name); name == "" {
		return "?"
	}
	return name
}

// checkInput sees that the signature at hand is the one that was approved.
func checkInput(d Document, raw []byte) error {
	if sum := sha256.Sum256(raw); !bytes.Equal(sum[:], d.Earlier) {
		return ErrEarlier.Because(errors.New("the stored signature is not the approved one"))
	}
	_, err := CheckEarlier(raw, d.Algorithm, d.Digest)
	return err
}

// join puts a signature made by itself, at whatever level, into an earlier one.
// No octet of the earlier one's signers is altered, and what goes with ours
// (certificates, answers) is what its archive time-stamp names.
func join(earlier, ours []byte) ([]byte, error) {
	sd, err := cms.Parse(ours)
	if err != nil {
		return nil, err
	}
	edit, err := cms.Edit(earlier)
	if err != nil {
		return nil, documentError{ErrEarlier.Because(err)}
	}
	edit.AddCertificates(sd.Certificates...)
	for _, l := range sd.CRLs {
		edit.AddCRL(l)
	}
	for _, o := range sd.OCSPs {
		edit.AddOCSP(o)
	}
	edit.AddSigner(sd.Signers[0])
	out, err := edit.Bytes()
	if err != nil {
		return nil, documentError{ErrEarlier.Because(err)}
	}
	return out, nil
}
