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
	Version int    `json:"v"`
	Kind    string `json:"kind"`
	Order   string `json:"order"`
	// kept are the documents that were approved, or the one that the bundle shows.
	kept []signing.Document
}

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
	want, err := v.approved(c)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(want[:], challenge):
		return errors.New("something else was signed: another content, or other documents left out")
	case c.Kind == "login" && c.Version == 1, c.Kind == "sign" && c.Version == 2:
		return nil
	}
	return fmt.Errorf("content of version %d and kind %.20q", c.Version, c.Kind)
}

// approved is the challenge that follows from the bundle's content, with all
// documents that were kept or with the one that is shown.
func (v *verification) approved(c *content) (challenge [32]byte, err error) {
	a := v.b.Approval
	if a.Inclusion != nil {
		d, challenge, err := a.Inclusion.of(a.Content).Verify()
		if err != nil {
			return challenge, err
		}
		c.kept = []signing.Document{d}
		return challenge, nil
	}
	if c.Kind == "sign" {
		if c.kept, err = signing.Documents(a.Content, a.LeftOut); err != nil {
			return challenge, errors.New("the content does not say which documents were approved")
		}
	}
	return signing.Challenge(a.Content, a.LeftOut), nil
}

// of is the proof for package signing.
func (i *Inclusion) of(header []byte) *signing.Inclusion {
	p := &signing.Inclusion{Header: header, Document: []byte(i.Document), Index: i.Index, Documents: i.Documents}
	copy(p.Root[:], i.Root)
	for _, h := range i.Path {
		p.Path = append(p.Path, [32]byte(h))
	}
	return p
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

// documents sees that each document at hand is named and was not left out.
func (v *verification) documents() error {
	if len(v.content.kept) == 0 {
		return errors.New("the content names no document")
	}
	for _, d := range v.o.Documents {
		if !slices.ContainsFunc(v.content.kept, func(k signing.Document) bool { return bytes.Equal(k.Digest, d.Digests[k.Algorithm]) }) {
			return fmt.Errorf("the approved content does not hold the document %q", d.Name)
		}
	}
	return nil
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
	// Both lists rise. A document of a batch that could not be signed has none.
	signatures, unsigned := v.b.Signatures, 0
	for _, d := range v.content.kept {
		if len(signatures) == 0 || signatures[0].Document != d.Index {
			unsigned++
			continue
		}
		if err := v.signature(signatures[0], d, mobile); err != nil {
			return fmt.Errorf("document %d: %w", d.Index, err)
		}
		signatures = signatures[1:]
	}
	switch {
	case len(signatures) > 0:
		return fmt.Errorf("a signature of document %d, which was not approved", signatures[0].Document)
	case unsigned > 0:
		return missing(fmt.Sprintf("%d of the approved documents have no signature", unsigned))
	}
	return nil
}

func (v *verification) signature(s Signature, d signing.Document, mobile *x509.Certificate) error {
	if !d.Form.Wrapped() {
		if len(s.CMS) > 0 {
			return errors.New("another form than was approved")
		}
		return d.Verify(mobile.PublicKey, s.Value)
	}
	if len(s.Value) > 0 {
		return errors.New("another form than was approved")
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
		if h == d.Hash {
			return d.Digest
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
