package enrolment

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"time"

	"sealgate/internal/certpath"
)

// checkCard checks the card's signature over the statement, step by step:
//
//  1. the CMS reads, has one signer, and its signature holds;
//  2. the signer is the very card of Begin;
//  3. the content is our statement, byte for byte;
//  4. nonce and card number, where the component gave them, are ours;
//  5. the certificate is good now: chain, time, use, policy and revocation are
//     asked again, since the phone may have taken its time.
func (s *Service) checkCard(ctx context.Context, e *Enrolment, r CompleteRequest, now time.Time, purpose certpath.CitizenPurpose) (*agreement, error) {
	if len(r.Signature) == 0 || len(r.Signature) > MaxProof {
		return nil, ErrProofMalformed
	}
	ours, err := parseCertificate(e.Certificate)
	if err != nil {
		return nil, err
	}
	signed, err := readSigned(r.Signature, ours)
	if err != nil {
		return nil, err
	}
	if !sameCertificate(signed.signer.Raw, e.CertificateFingerprint) {
		return nil, ErrProofCard
	}
	if len(r.Certificate) > 0 && !sameCertificate(r.Certificate, e.CertificateFingerprint) {
		return nil, ErrProofCard
	}
	if subtle.ConstantTimeCompare(signed.content, e.Statement) != 1 {
		return nil, ErrProofContent
	}
	if err := checkNonce(signed.nonce, e.Statement); err != nil {
		return nil, err
	}
	number, err := oneCardNumber(e.CardNumber, r.CardNumber, signed.cardNumber)
	if err != nil {
		return nil, err
	}
	card, err := s.readCard(ctx, e.Certificate, now, purpose)
	if err != nil {
		return nil, err
	}
	revocation, err := card.revocationEvidence()
	if err != nil {
		return nil, err
	}
	return &agreement{kind: ProofCard, card: card, cardNumber: number, proof: r.Signature, revocation: revocation}, nil
}

func sameCertificate(der, fingerprint []byte) bool {
	h := sha256.Sum256(der)
	return bytes.Equal(h[:], fingerprint)
}

// checkNonce compares the nonce attribute with the statement's. Components put
// in either the text they were given or the bytes it stands for. The statement
// has the nonce too, so an absent attribute loses nothing.
func checkNonce(attribute, statement []byte) error {
	if attribute == nil {
		return nil
	}
	var st struct {
		Nonce string `json:"nonce"`
	}
	if err := json.Unmarshal(statement, &st); err != nil {
		return err
	}
	raw, err := base64.RawURLEncoding.DecodeString(st.Nonce)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(attribute, raw) != 1 && subtle.ConstantTimeCompare(attribute, []byte(st.Nonce)) != 1 {
		return ErrProofContent
	}
	return nil
}

// oneCardNumber gives the card number on which all agree who named one.
func oneCardNumber(numbers ...string) (string, error) {
	var one string
	for _, n := range numbers {
		n, ok := normalCardNumber(n)
		switch {
		case !ok:
			return "", ErrProofMalformed
		case n == "":
		case one == "":
			one = n
		case n != one:
			return "", ErrProofCard
		}
	}
	return one, nil
}

// checked names the source that said "not revoked" of the card itself.
func (c *card) checked() string {
	if len(c.result.Allowed) > 0 {
		return "unknown_allowed"
	}
	if len(c.result.Revocation) == 0 {
		return ""
	}
	return c.result.Revocation[0].Source
}

// RevocationRecord is one answer about one certificate of the card's path, kept
// with the proof as JSON.
type RevocationRecord = certpath.RevocationRecord

func (c *card) revocationEvidence() ([]byte, error) { return c.result.Records() }
