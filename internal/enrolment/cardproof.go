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

// maxKeptAnswer is the greatest revocation answer kept whole, in bytes. The
// complete list of a national CA has megabytes and is published and archived by
// the CA: of such a one the hash is kept.
const maxKeptAnswer = 1 << 20

// RevocationRecord is one answer about one certificate of the card's path, kept
// with the proof as JSON.
type RevocationRecord struct {
	Certificate []byte    `json:"certificate"` // SHA-256 of the certificate asked about
	Source      string    `json:"source"`      // ocsp, crl
	URL         string    `json:"url"`
	ThisUpdate  time.Time `json:"this_update"`
	NextUpdate  time.Time `json:"next_update,omitzero"`
	SHA256      []byte    `json:"sha256"`           // of the answer
	Answer      []byte    `json:"answer,omitempty"` // OCSPResponse or CertificateList, DER; left out above 1 MiB
}

func (c *card) revocationEvidence() ([]byte, error) {
	records := make([]RevocationRecord, 0, len(c.result.Revocation))
	for _, ev := range c.result.Revocation {
		records = append(records, recordOf(ev))
	}
	return json.Marshal(records)
}

func recordOf(ev certpath.Evidence) RevocationRecord {
	certificate, answer := sha256.Sum256(ev.Certificate.Raw), sha256.Sum256(ev.Raw)
	r := RevocationRecord{Certificate: certificate[:], Source: ev.Source, URL: ev.URL,
		ThisUpdate: ev.ThisUpdate.UTC(), NextUpdate: ev.NextUpdate.UTC(), SHA256: answer[:]}
	if len(ev.Raw) <= maxKeptAnswer {
		r.Answer = ev.Raw
	}
	return r
}
