package evidence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/passkey"
)

// Options are what a verifier brings from elsewhere.
type Options struct {
	// Anchors are the roots of citizen certificates that the verifier trusts.
	Anchors []*x509.Certificate
	// ServiceAnchors are the roots of mobile certificates; without them a sign
	// order's evidence cannot be judged to its end.
	ServiceAnchors []*x509.Certificate
	// Registrars are those whose word counts for phones bound in person; without
	// them such evidence cannot be judged to its end.
	Registrars []Registrar
	// At is the time to judge certificates for. Zero is the time each was used:
	// the statement's for the card, the signature's for the mobile certificate.
	At time.Time
	// Documents are compared with the content.
	Documents []Document
	// Revocation are answers that the bundle names by their hash alone.
	Revocation [][]byte
}

// Document is a document at hand, by all of its digests.
type Document struct {
	Name    string            // for the report
	Digests map[string][]byte // by the content's names: SHA-256, SHA-384, SHA-512
}

// verification is one run of Verify.
type verification struct {
	o       Options
	b       *Bundle
	report  *Report
	card    *x509.Certificate // nil when it cannot be read
	content *content          // nil when the content cannot be read
}

// Verify follows the chain in the file raw from end to end and tells of each
// link whether it holds. It dials nobody and its work is bounded by the size
// of the file. The error is about the options alone.
func Verify(ctx context.Context, raw []byte, o Options) (*Report, error) {
	if len(o.Anchors) == 0 {
		return nil, errors.New("evidence: no anchor of citizen certificates was given")
	}
	v := &verification{o: o, report: &Report{}}
	var err error
	if v.b, err = Parse(raw); err != nil {
		v.report.add(LinkForm, Failed, "this is not an evidence bundle: "+err.Error())
		return v.report.finish(), nil
	}
	v.report.judge(LinkForm, "the file is whole", v.form())
	v.card = v.judgeBinding(ctx, &v.b.Binding, "").card
	v.report.judge(LinkApproval, "the credential signed, with user verification", v.approval())
	v.report.judge(LinkContent, "what was signed is this content", v.readContent())
	if v.content != nil && v.content.Kind == "sign" {
		v.judgeSigning(ctx)
	} else if v.b.Mobile != nil || len(o.Documents) > 0 {
		v.report.add(LinkDocuments, Failed, "this content asks for no signature")
	}
	return v.report.finish(), nil
}

func (v *verification) form() error {
	hash, err := v.b.hash()
	if err == nil && !bytes.Equal(hash, v.b.SHA256) {
		err = errors.New("the file was changed: its hash is another")
	}
	return err
}

// path validates with nothing but what is given. Each issuer of the bundle must
// be part of the path, or it could be changed unseen.
func path(ctx context.Context, leaf *x509.Certificate, issuers []Bytes, anchors []*x509.Certificate, at time.Time,
	p certpath.Profile, stored []certpath.StoredEvidence) (*certpath.Result, error) {
	var extra []*x509.Certificate
	for _, raw := range issuers {
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			return nil, errors.New("the certificate of an issuer cannot be read")
		}
		extra = append(extra, c)
	}
	store, err := certpath.NewTrustStore(anchors, nil)
	if err != nil {
		return nil, err
	}
	p.ConfiguredIssuersOnly = false
	if stored == nil {
		p.Revocation = certpath.RevocationNone
	}
	validator := &certpath.Validator{Store: store}
	result, err := validator.ValidateWith(ctx, leaf, extra, at, p, stored)
	if err != nil {
		return nil, err
	}
	for _, c := range extra {
		if !slices.ContainsFunc(result.Path, c.Equal) {
			return nil, errors.New("the bundle has an issuer that is not in the chain")
		}
	}
	return result, nil
}

// answer gives the bytes of an answer, from the bundle or from the options.
func (v *verification) answer(a Answer) []byte {
	if len(a.Answer) > 0 {
		return a.Answer
	}
	for _, raw := range v.o.Revocation {
		if sum := sha256.Sum256(raw); bytes.Equal(sum[:], a.SHA256) {
			return raw
		}
	}
	return nil
}

// approval judges the assertion by itself: the credential's key over these
// authenticator data and this client data. What was approved is LinkContent's.
func (v *verification) approval() error {
	a := v.b.Approval
	client, err := readClientData(a.ClientDataJSON)
	if err != nil {
		return err
	}
	challenge, err := client.challenge()
	if err != nil {
		return err
	}
	if client.Origin != a.Origin {
		return errors.New("the approval was made on another page")
	}
	if err := ofRelyingParty(a.Origin, a.RPID); err != nil {
		return err
	}
	_, err = passkey.VerifyOffline(passkey.Evidence{AuthenticatorData: a.AuthenticatorData, ClientDataJSON: a.ClientDataJSON,
		Signature: a.Signature, PublicKey: a.COSEKey, RPID: a.RPID, Origins: []string{a.Origin}, Challenge: challenge})
	return err
}

// ofRelyingParty: a page's host is the relying party's identifier, or below it
// (WebAuthn Level 3 §5.1.3 step 8).
func ofRelyingParty(origin, rpID string) error {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "https" && u.Hostname() != "localhost" {
		return errors.New("the origin is no secure page")
	}
	if host := u.Hostname(); rpID == "" || host != rpID && !strings.HasSuffix(host, "."+rpID) {
		return fmt.Errorf("the origin does not belong to the relying party")
	}
	return nil
}
