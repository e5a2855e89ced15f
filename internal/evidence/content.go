package evidence

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/signing"
)

// content is what is read of an order's content (package order makes it).
type content struct {
	Version   int    `json:"v"`
	Kind      string `json:"kind"`
	Order     string `json:"order"`
	Documents []struct {
		Algorithm string `json:"digest_algorithm"`
		Digest    string `json:"digest"`
	} `json:"documents"`
}

var hashes = map[string]crypto.Hash{"SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}

// readContent reads the content and sees that it is what was signed.
func (v *verification) readContent() error {
	a := v.b.Approval
	client, err := readClientData(a.ClientDataJSON)
	if err != nil {
		return err
	}
	challenge, err := client.challenge()
	if err != nil {
		return err
	}
	c := &content{}
	if err := json.Unmarshal(a.Content, c); err != nil {
		return errors.New("the content cannot be read")
	}
	v.content, v.report.Order, v.report.Kind = c, c.Order, c.Kind
	if want := signing.Challenge(a.Content, a.LeftOut); !bytes.Equal(want[:], challenge) {
		return errors.New("something else was signed: another content, or other documents left out")
	}
	if c.Version != 1 || c.Kind != "login" && c.Kind != "sign" {
		return fmt.Errorf("content of version %d and kind %.20q", c.Version, c.Kind)
	}
	return nil
}

// judgeSigning looks at what follows from a sign order.
func (v *verification) judgeSigning(ctx context.Context) {
	v.report.judge(LinkDocuments, v.documentsReason(), v.documents())
	mobile, err := v.mobile(ctx)
	v.report.judge(LinkMobile, "the mobile certificate leads to a given anchor and names the card's holder", err)
	v.report.judge(LinkSignatures, fmt.Sprintf("the mobile key signed %d documents", len(v.b.Signatures)), v.signatures(mobile))
}

func (v *verification) documentsReason() string {
	if n := len(v.o.Documents); n > 0 {
		return fmt.Sprintf("the content names each of the %d documents given", n)
	}
	return "the content names its documents by digest; no document was given to compare"
}

// documents sees that every digest can be one and that each document at hand
// is named and was not left out.
func (v *verification) documents() error {
	if len(v.content.Documents) == 0 {
		return errors.New("the content names no document")
	}
	for i := range v.content.Documents {
		if _, _, err := v.digest(i); err != nil {
			return err
		}
	}
	for _, d := range v.o.Documents {
		if !slices.ContainsFunc(v.kept(), func(i int) bool {
			digest, _, err := v.digest(i)
			return err == nil && bytes.Equal(digest, d.Digests[v.content.Documents[i].Algorithm])
		}) {
			return fmt.Errorf("the approved content does not hold the document %q", d.Name)
		}
	}
	return nil
}

func (v *verification) digest(i int) ([]byte, crypto.Hash, error) {
	d := v.content.Documents[i]
	hash, known := hashes[d.Algorithm]
	raw, err := strict.DecodeString(d.Digest)
	if !known || err != nil || len(raw) != hash.Size() {
		return nil, 0, fmt.Errorf("document %d has no digest by a known algorithm", i)
	}
	return raw, hash, nil
}

// kept lists the documents that were not left out.
func (v *verification) kept() []int {
	var out []int
	for i := range v.content.Documents {
		if !slices.Contains(v.b.Approval.LeftOut, i) {
			out = append(out, i)
		}
	}
	return out
}

// mobile judges the signing certificate; it is given with an error too.
func (v *verification) mobile(ctx context.Context) (*x509.Certificate, error) {
	if v.b.Mobile == nil {
		return nil, missing("there is no mobile certificate in the bundle")
	}
	cert, err := x509.ParseCertificate(v.b.Mobile.Certificate)
	if err != nil {
		return nil, errors.New("the mobile certificate cannot be read")
	}
	if v.card != nil && !bytes.Equal(cert.RawSubject, v.card.RawSubject) {
		return cert, errors.New("the mobile certificate names another person than the card")
	}
	if len(v.o.ServiceAnchors) == 0 {
		return cert, missing("no anchor of mobile certificates was given")
	}
	at := v.o.At
	if at.IsZero() {
		at = v.signedAt()
	}
	if at.IsZero() {
		at = cert.NotBefore
	}
	_, err = path(ctx, cert, v.b.Mobile.Issuers, v.o.ServiceAnchors, at, certpath.SigningProfile(), nil)
	return cert, err
}

// signedAt is the latest time that a signature claims.
func (v *verification) signedAt() time.Time {
	var at time.Time
	for _, s := range v.b.Signatures {
		if sd, err := cms.Parse(s.CMS); err == nil && len(sd.Signers) > 0 {
			if t := sd.Signers[0].SigningTime(); t.After(at) {
				at = t
			}
		}
	}
	return at
}

// signatures sees that there is one for each document, by the mobile key, over
// the digest that the content names, and that it has nothing else in it.
func (v *verification) signatures(mobile *x509.Certificate) error {
	if len(v.b.Signatures) == 0 {
		return missing("the documents are not signed yet")
	}
	if mobile == nil {
		return errors.New("there is no certificate to verify with")
	}
	kept := v.kept()
	if len(kept) != len(v.b.Signatures) {
		return fmt.Errorf("%d signatures for %d documents", len(v.b.Signatures), len(kept))
	}
	for n, s := range v.b.Signatures {
		if s.Document != kept[n] {
			return fmt.Errorf("no signature of document %d", kept[n])
		}
		if err := v.signature(s, mobile); err != nil {
			return fmt.Errorf("document %d: %w", s.Document, err)
		}
	}
	return nil
}

func (v *verification) signature(s Signature, mobile *x509.Certificate) error {
	want, hash, err := v.digest(s.Document)
	if err != nil {
		return err
	}
	sd, err := cms.Parse(s.CMS)
	if err != nil {
		return err
	}
	if len(sd.Signers) != 1 || sd.Attached {
		return errors.New("not one detached signature")
	}
	for _, c := range sd.Certificates {
		if !c.Equal(mobile) && !slices.ContainsFunc(v.b.Mobile.Issuers, func(raw Bytes) bool { return bytes.Equal(raw, c.Raw) }) {
			return errors.New("a certificate is in it that is not in the chain")
		}
	}
	plain, err := cms.Assemble(sd.Certificates, sd.Signers...)
	if err != nil || !bytes.Equal(plain, s.CMS) {
		return errors.New("not in the form that signatures have")
	}
	results, err := sd.Verify(cms.VerifyInput{RequireSigningCertificate: true, Digest: func(h crypto.Hash) []byte {
		if h == hash {
			return want
		}
		return nil
	}})
	if err == nil {
		err = cms.Good(results)
	}
	if err == nil && !results[0].Certificate.Equal(mobile) {
		err = errors.New("another certificate signed")
	}
	return err
}
