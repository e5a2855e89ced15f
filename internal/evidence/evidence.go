// Package evidence makes and judges the evidence of an approval: one JSON file
// with everything that anybody needs to follow the chain
//
//	card → statement → credential → approval → content → documents → signatures
//
// A phone may have been added by an earlier one instead of the card: then that
// phone's own binding is nested in the file, and so on down to a card. Or two
// registrars saw the person at a counter: then the chain rests on their word,
// and Verify passes it only with a list of registrars' keys from elsewhere.
//
// without us, without a network and years later. api/EVIDENCE.md describes the
// file and how to follow it by hand.
//
// A bundle holds nothing that no key has signed or that does not follow from
// what is signed: no column of ours, no time of ours. So no byte of it can be
// changed without a link of the chain breaking, and Verify names that link.
package evidence

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"

	"sealgate/internal/fault"
	"sealgate/internal/signing"
)

// Type and Version say what the file is. Files of version 1 know no proof but
// the card's and have it in Card.Proof; they can be read for good.
const (
	Type    = "sealgate.evidence"
	Version = 2
)

// Kinds of proofs that a person agreed to a binding. They are those of package
// enrolment.
const (
	KindCard   = "card"   // the citizen's card signed the statement
	KindDevice = "device" // an earlier phone of the same person did
	// KindRegistrar: two registrars who saw the person did, and the card did not.
	KindRegistrar = "registrar"
)

// MaxDepth is how many bindings one bundle may hold, one in another: a phone,
// the phone that added it, and so on to the card.
const MaxDepth = 4

// Bounds on a bundle.
const (
	MaxBytes       = 16 << 20 // of the file; 2000 signatures fit
	maxCertificate = 64 << 10 // bytes of one certificate
	maxIssuers     = 8
	maxRevocation  = 16
	maxAnswer      = 2 << 20 // bytes of one OCSP answer or revocation list
	maxProof       = 64 << 10
	maxContent     = 2 << 20
	maxClientData  = 4 << 10
	maxAttestation = 32 << 10
	maxSignatures  = 2000
	maxSignature   = 64 << 10
	maxLeftOut     = 2000
	maxPath        = 16      // hashes from a leaf to the root; 2000 documents need 11
	maxOther       = 4 << 10 // authenticator data, keys, assertion signatures
	maxText        = 300     // of rp_id and origin
)

var (
	// ErrNotFound: there is no approval of this order.
	ErrNotFound = fault.New(fault.NotFound, "evidence_not_found")
	// ErrMalformed: not an evidence bundle, or beyond a bound.
	ErrMalformed = fault.New(fault.Invalid, "evidence_malformed")
)

// Bundle is the evidence of one approval. Byte strings are base64url without
// padding in JSON.
type Bundle struct {
	Type     string    `json:"type"` // Type
	Version  int       `json:"v"`    // Version
	Binding            // of the phone that approved
	Approval *Approval `json:"approval"`
	// Mobile and Signatures are there for sign orders.
	Mobile     *Mobile     `json:"mobile,omitempty"`
	Signatures []Signature `json:"signatures,omitempty"`
	// SHA256 is over the file as it is without this member. It finds accidents;
	// whoever changes a bundle with intent changes it too, and is found by the
	// links.
	SHA256 Bytes `json:"sha256"`
}

// Binding is how a phone came to stand for a citizen.
type Binding struct {
	Card         *Card         `json:"card"`
	Registration *Registration `json:"registration"`
	Proof        *Proof        `json:"proof,omitempty"` // not in version 1
}

// Proof is how the person agreed to the binding.
type Proof struct {
	Kind string `json:"kind"` // KindCard, KindDevice, KindRegistrar
	// CMS is the card's SignedData with the statement inside.
	CMS Bytes `json:"cms,omitempty"`
	// A phone's assertion, whose challenge is the hash of the statement.
	Statement         Bytes `json:"statement,omitempty"`
	AuthenticatorData Bytes `json:"authenticator_data,omitempty"`
	ClientDataJSON    Bytes `json:"client_data_json,omitempty"`
	Signature         Bytes `json:"signature,omitempty"`
	// Registrars are the two who signed the statement, in the order of signing.
	Registrars []RegistrarAssertion `json:"registrars,omitempty"`
	// By is the binding of the phone that agreed.
	By *Binding `json:"by,omitempty"`
}

// Card is the citizen certificate that stands behind the phone.
type Card struct {
	Certificate Bytes `json:"certificate"` // DER
	// Issuers lead from the certificate to the anchor, without it.
	Issuers []Bytes `json:"issuers"`
	// Revocation is what was known of each certificate when the phone was bound.
	Revocation []Answer `json:"revocation"`
	// Proof is Proof.CMS in files of version 1.
	Proof Bytes `json:"proof,omitempty"`
}

// Answer is one answer about the status of one certificate.
type Answer struct {
	Certificate Bytes  `json:"certificate"` // SHA-256 of its DER
	Source      string `json:"source"`      // ocsp or crl
	// Answer is the OCSPResponse or CertificateList, DER. A list too great to
	// keep is named by its hash, and has to be brought from the CA's archive.
	Answer Bytes `json:"answer,omitempty"`
	SHA256 Bytes `json:"sha256,omitempty"`
}

// Registration is how the passkey came to be.
type Registration struct {
	Content           Bytes `json:"content,omitempty"` // of the enrol order; its hash was the challenge
	AttestationObject Bytes `json:"attestation_object"`
	ClientDataJSON    Bytes `json:"client_data_json"`
}

// Approval is the assertion over the order's content.
type Approval struct {
	Content           Bytes      `json:"content"` // RFC 8785 JSON, exactly as signed
	LeftOut           []int      `json:"left_out"`
	Inclusion         *Inclusion `json:"inclusion,omitempty"`
	CredentialID      Bytes      `json:"credential_id"`
	COSEKey           Bytes      `json:"cose_key"`
	RPID              string     `json:"rp_id"`
	Origin            string     `json:"origin"`
	AuthenticatorData Bytes      `json:"authenticator_data"`
	ClientDataJSON    Bytes      `json:"client_data_json"`
	Signature         Bytes      `json:"signature"`
}

// Mobile is the certificate whose key signed the documents.
type Mobile struct {
	Certificate Bytes   `json:"certificate"` // DER
	Issuers     []Bytes `json:"issuers"`
}

// Signature is one document's: a detached CMS (.p7s), or the bare value where
// that form was approved.
type Signature struct {
	Document int   `json:"document"` // its place in the content, from 0
	CMS      Bytes `json:"cms,omitempty"`
	Value    Bytes `json:"value,omitempty"`
}

// Inclusion stands in a bundle that shows one of several documents: the content
// then names none, and this proves the one by the Merkle tree that the
// challenge covers (signing.Inclusion).
type Inclusion struct {
	Document  string  `json:"document"` // as the content has it, RFC 8785 JSON
	Index     int     `json:"index"`
	Documents int     `json:"documents"`
	Root      Bytes   `json:"root"`
	Path      []Bytes `json:"path"`
}

// Rows are what is stored of one approval.
type Rows struct {
	Order                             uuid.UUID
	Binding                           BindingRows
	CredentialID, COSEKey             []byte
	Content                           []byte
	LeftOut                           []int
	AuthenticatorData, ClientDataJSON []byte
	Signature                         []byte
	RPID                              string
	// For sign orders.
	MobileCertificate []byte
	MobileIssuers     [][]byte
	Signatures        []Signature
}

// BindingRows are what is stored of the binding of one device.
type BindingRows struct {
	CardCertificate                []byte
	Revocation                     []Answer
	EnrolContent                   []byte // nil when the enrol order was purged
	AttestationObject, EnrolClient []byte
	// Proof as a bundle has it, but for By; the card's message as it came.
	Proof Proof
	By    *BindingRows // of the device that agreed
}

// Store reads what is kept.
type Store interface {
	// Rows reads one approval with all that belongs to it, in one transaction;
	// ErrNotFound where there is none.
	Rows(ctx context.Context, order uuid.UUID) (*Rows, error)
}

// Builder makes bundles.
type Builder struct {
	store   Store
	issuers [][]byte
}

// NewBuilder makes a Builder. cardIssuers are the configured CA certificates
// below the card anchors, DER: what leads from a card to its anchor goes into
// the bundle.
func NewBuilder(store Store, cardIssuers [][]byte) (*Builder, error) {
	if store == nil {
		return nil, errors.New("evidence: a store is needed")
	}
	return &Builder{store: store, issuers: cardIssuers}, nil
}

// Build makes the bundle of an approved order.
func (b *Builder) Build(ctx context.Context, order uuid.UUID) (*Bundle, error) {
	rows, err := b.store.Rows(ctx, order)
	if err != nil {
		return nil, err
	}
	return b.bundle(rows)
}

// BuildOne makes the bundle of an approved order that shows one of its
// documents and proves it without the others. ErrNotFound when that document
// was not approved.
func (b *Builder) BuildOne(ctx context.Context, order uuid.UUID, document int) (*Bundle, error) {
	rows, err := b.store.Rows(ctx, order)
	if err != nil {
		return nil, err
	}
	return b.one(rows, document)
}

// Each reads an approved order once and gives what makes the bundle of each of
// its documents, as BuildOne.
func (b *Builder) Each(ctx context.Context, order uuid.UUID) (func(document int) (*Bundle, error), error) {
	rows, err := b.store.Rows(ctx, order)
	if err != nil {
		return nil, err
	}
	return func(document int) (*Bundle, error) {
		one := *rows
		one.Signatures = slices.Clone(rows.Signatures)
		return b.one(&one, document)
	}, nil
}

func (b *Builder) one(rows *Rows, document int) (*Bundle, error) {
	proof, err := signing.Prove(rows.Content, rows.LeftOut, document)
	if err != nil {
		return nil, ErrNotFound.Because(err)
	}
	rows.Content, rows.LeftOut = proof.Header, nil
	rows.Signatures = slices.DeleteFunc(rows.Signatures, func(s Signature) bool { return s.Document != document })
	if len(rows.Signatures) == 0 {
		rows.Signatures = nil
	}
	out, err := b.bundle(rows)
	if err != nil {
		return nil, err
	}
	i := &Inclusion{Document: string(proof.Document), Index: document, Documents: proof.Documents, Root: proof.Root[:], Path: []Bytes{}}
	for _, h := range proof.Path {
		i.Path = append(i.Path, h[:])
	}
	out.Approval.Inclusion = i
	return out, out.Seal()
}

func (b *Builder) bundle(r *Rows) (*Bundle, error) {
	client, err := readClientData(r.ClientDataJSON)
	if err != nil {
		return nil, err
	}
	binding, err := b.binding(&r.Binding, 1)
	if err != nil {
		return nil, err
	}
	out := &Bundle{
		Type: Type, Version: Version, Binding: *binding,
		Approval: &Approval{
			Content: r.Content, LeftOut: r.LeftOut, CredentialID: r.CredentialID, COSEKey: r.COSEKey, RPID: r.RPID, Origin: client.Origin,
			AuthenticatorData: r.AuthenticatorData, ClientDataJSON: r.ClientDataJSON, Signature: r.Signature,
		},
	}
	for _, s := range r.Signatures {
		if s.CMS != nil {
			if s.CMS, err = plainSignature(s.CMS, r.MobileCertificate, r.MobileIssuers); err != nil {
				return nil, err
			}
		}
		out.Signatures = append(out.Signatures, s)
	}
	if out.Approval.LeftOut == nil {
		out.Approval.LeftOut = []int{}
	}
	if len(r.MobileCertificate) > 0 {
		out.Mobile = &Mobile{Certificate: r.MobileCertificate, Issuers: pathOf(r.MobileCertificate, r.MobileIssuers)}
	}
	return out, out.Seal()
}

func (b *Builder) binding(r *BindingRows, depth int) (*Binding, error) {
	if depth > MaxDepth {
		return nil, errors.New("evidence: more bindings in a row than a bundle can hold")
	}
	proof := r.Proof
	out := &Binding{
		Card:         &Card{Certificate: r.CardCertificate, Issuers: pathOf(r.CardCertificate, b.issuers), Revocation: r.Revocation},
		Registration: &Registration{Content: r.EnrolContent, AttestationObject: r.AttestationObject, ClientDataJSON: r.EnrolClient},
		Proof:        &proof,
	}
	if out.Card.Revocation == nil {
		out.Card.Revocation = []Answer{}
	}
	var err error
	if proof.Kind == KindCard {
		proof.CMS, err = plainProof(proof.CMS, r.CardCertificate)
	}
	if err == nil && r.By != nil {
		proof.By, err = b.binding(r.By, depth+1)
	}
	return out, err
}
