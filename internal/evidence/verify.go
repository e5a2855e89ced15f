package evidence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/passkey"
	"sealgate/internal/signing"
)

// Options are what a verifier brings from elsewhere.
type Options struct {
	// Anchors are the roots of citizen certificates that the verifier trusts.
	Anchors []*x509.Certificate
	// ServiceAnchors are the roots of mobile certificates; without them a sign
	// order's evidence cannot be judged to its end.
	ServiceAnchors []*x509.Certificate
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
	o        Options
	b        *Bundle
	report   *Report
	card     *x509.Certificate
	st       *statement // nil when the proof cannot be read
	content  *content   // nil when the content cannot be read
	cardPath []*x509.Certificate
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
	v.judgeCard(ctx)
	v.report.judge(LinkRegistration, "the passkey was made for this relying party with user verification", v.registration())
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

// judgeCard looks at the card: chain, revocation, statement.
func (v *verification) judgeCard(ctx context.Context) {
	var err error
	if v.card, err = x509.ParseCertificate(v.b.Card.Certificate); err != nil {
		for _, link := range []string{LinkCardChain, LinkRevocation, LinkStatement} {
			v.report.add(link, Failed, "the citizen certificate cannot be read")
		}
		return
	}
	var statementErr error
	v.st, statementErr = readProof(v.b.Card.Proof, v.card)
	at := v.o.At
	if v.st != nil {
		v.report.BoundAt = v.st.at
		if at.IsZero() {
			at = v.st.at
		}
	}
	chainErr := v.chain(ctx, at)
	reason := "the citizen certificate leads to a given anchor"
	if !at.IsZero() {
		reason += " at " + at.UTC().Format(time.RFC3339)
	}
	v.report.judge(LinkCardChain, reason, chainErr)
	if chainErr != nil {
		v.report.add(LinkRevocation, Indeterminate, "there is no chain whose revocation could be judged")
	} else {
		v.report.judge(LinkRevocation, "kept answers say that nobody in the chain was revoked", v.revocation(ctx, at))
	}
	if statementErr == nil {
		statementErr = v.statementNames()
	}
	v.report.judge(LinkStatement, "the card signed a statement that names this credential", statementErr)
}

// chain builds the card's path and sees that the bundle's issuers are its CAs.
func (v *verification) chain(ctx context.Context, at time.Time) error {
	if at.IsZero() {
		return missing("without a statement there is no time to judge for")
	}
	if _, err := certpath.ParseCitizen(v.card); err != nil {
		return errors.New("not a citizen certificate")
	}
	path, err := path(ctx, v.card, v.b.Card.Issuers, v.o.Anchors, at, certpath.CitizenProfile(), nil)
	if err != nil {
		return err
	}
	v.cardPath = path.Path
	sum := sha256.Sum256(path.Anchor.Raw)
	v.report.Anchor = hex.EncodeToString(sum[:])
	return nil
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

// revocation judges the kept answers, each of which must have said something.
func (v *verification) revocation(ctx context.Context, at time.Time) error {
	stored := []certpath.StoredEvidence{}
	absent := false
	for _, a := range v.b.Card.Revocation {
		raw := v.answer(a)
		if raw == nil {
			absent = true
			continue
		}
		stored = append(stored, certpath.StoredEvidence{Source: a.Source, Raw: raw})
	}
	result, err := path(ctx, v.card, v.b.Card.Issuers, v.o.Anchors, at, certpath.CitizenProfile(), stored)
	switch {
	case err != nil && absent && errors.Is(err, certpath.ErrStatusUnknown):
		return missing("a revocation list is named by its hash alone; bring it from the CA's archive")
	case err != nil:
		return err
	case len(v.b.Card.Revocation) == 0:
		return missing("no answer was kept")
	}
	for _, a := range v.b.Card.Revocation {
		if raw := v.answer(a); raw != nil && !slices.ContainsFunc(result.Revocation, func(e certpath.Evidence) bool {
			sum := sha256.Sum256(e.Certificate.Raw)
			return bytes.Equal(e.Raw, raw) && bytes.Equal(sum[:], a.Certificate) && e.Source == a.Source
		}) {
			return errors.New("a kept answer does not speak of the certificate that it is said to speak of")
		}
	}
	if absent {
		return missing("a revocation list is named by its hash alone; bring it from the CA's archive")
	}
	return nil
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

// registration judges how the passkey was made.
func (v *verification) registration() error {
	r, a := v.b.Registration, v.b.Approval
	if v.st != nil && v.st.registration != nil {
		object, client := sha256.Sum256(r.AttestationObject), sha256.Sum256(r.ClientDataJSON)
		if sum := sha256.Sum256(append(object[:], client[:]...)); !bytes.Equal(sum[:], v.st.registration) {
			return errors.New("the card signed over another registration")
		}
	}
	client, err := readClientData(r.ClientDataJSON)
	if err != nil {
		return err
	}
	challenge, err := client.challenge()
	if err != nil {
		return err
	}
	if err := ofRelyingParty(client.Origin, a.RPID); err != nil {
		return err
	}
	made, err := passkey.VerifyRegistrationOffline(passkey.RegistrationEvidence{AttestationObject: r.AttestationObject,
		ClientDataJSON: r.ClientDataJSON, RPID: a.RPID, Origins: []string{client.Origin}, Challenge: challenge})
	if err != nil {
		return err
	}
	if !bytes.Equal(made.ID, a.CredentialID) || !bytes.Equal(made.PublicKey, a.COSEKey) {
		return errors.New("another credential was registered")
	}
	if len(r.Content) == 0 {
		return missing("the enrol order's content is not in the bundle")
	}
	if want := signing.Challenge(r.Content, nil); !bytes.Equal(want[:], challenge) {
		return errors.New("the registration answered another order")
	}
	var enrol struct {
		Kind  string `json:"kind"`
		Order string `json:"order"`
	}
	if err := json.Unmarshal(r.Content, &enrol); err != nil || enrol.Kind != "enrol" {
		return errors.New("the registration was not made for an enrol order")
	}
	if v.st != nil && v.st.Order != enrol.Order {
		return errors.New("the card's statement is about another enrol order")
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
