package enrolment

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
	"sealgate/internal/certpath"
	"sealgate/internal/citizen"
	"sealgate/internal/console"
	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/order"
)

// Statement gives the starting browser what the card has to sign, and the nonce
// that the card component puts into its signature. It changes nothing and gives
// the same bytes each time; before the phone made its passkey it is ErrNoCredential.
func (s *Service) Statement(ctx context.Context, id order.ID, browser order.BrowserKey) (tbs []byte, nonce string, err error) {
	e, err := s.cfg.Store.Find(ctx, id)
	if err != nil {
		return nil, "", err
	}
	if err := ownBrowser(e.Order, browser); err != nil {
		return nil, "", s.refuse(ctx, s.entry(audit.EnrolRefused, id), err)
	}
	if err := waiting(e.Order, s.now()); err != nil {
		return nil, "", err
	}
	switch {
	case e.ProofKind != ProofCard:
		return nil, "", ErrProofKind
	case e.Credential == nil:
		return nil, "", ErrNoCredential
	}
	st, err := ParseStatement(e.Statement)
	if err != nil {
		return nil, "", err
	}
	return e.Statement, st.Nonce, nil
}

// CompleteRequest brings the card's signature over the statement.
type CompleteRequest struct {
	Order   order.ID
	Browser order.BrowserKey
	// Signature is CMS SignedData (RFC 5652 §5) with the statement inside, DER,
	// at most MaxProof bytes.
	Signature []byte
	// Certificate and CardNumber are what the card component told beside the
	// signature. They may be left out; what is given must be the card of Begin.
	Certificate []byte
	CardNumber  string
	// Replace removes the person's phones that have the new one's name, in the
	// same transaction.
	Replace bool
	From    order.Origin
}

// Bound is a phone bound to a citizen.
type Bound struct {
	Device citizen.Device
	// The mobile certificate: our id, its DER, and when it ends. All three are
	// zero while another CA has not issued it.
	CertificateID uuid.UUID
	Certificate   []byte
	NotAfter      time.Time
}

// Binding is everything the completing transaction writes. The citizen's id is a
// proposal: a citizen who is known already keeps the old one.
type Binding struct {
	Order       order.ID
	BrowserHash []byte
	At          time.Time
	Citizen     citizen.Citizen
	Certificate citizen.Certificate
	Device      citizen.Device
	Key         keyring.Row
	Mobile      issuing.Certificate
	Request     *issuing.Request // in place of Mobile, where another CA issues
	Statement   []byte           // must still be the stored one
	Proof       []byte
	Revocation  []byte
	Audit       []audit.Entry // the citizen is filled in
	// By is the phone that agreed; nil unless one did.
	By *AddedBy
	// Confirmed is consumed in the transaction, where two registrars agreed.
	Confirmed *console.Confirmation
	// Replace removes the citizen's devices of the same name first; their
	// certificates are revoked as superseded.
	Replace bool
	// Judge decides, under the lock, from what is then known of the citizen.
	Judge func(Standing) error
}

// Complete checks the card's signature over the statement and binds the phone.
// The same proof sent again gives the same answer.
func (s *Service) Complete(ctx context.Context, r CompleteRequest) (*Bound, error) {
	bound, err := s.complete(ctx, r)
	if err != nil {
		return nil, s.refuse(ctx, s.entry(audit.EnrolCompleted, r.Order).From(r.From.IP), err)
	}
	return bound, nil
}

func (s *Service) complete(ctx context.Context, r CompleteRequest) (*Bound, error) {
	e, err := s.cfg.Store.Find(ctx, r.Order)
	if err != nil {
		return nil, err
	}
	if err := ownBrowser(e.Order, r.Browser); err != nil {
		return nil, err
	}
	if e.CompletedAt != nil {
		return s.again(ctx, e, r.Signature)
	}
	now := s.now()
	if err := waiting(e.Order, now); err != nil {
		return nil, err
	}
	switch {
	case e.ProofKind != ProofCard:
		return nil, ErrProofKind
	case e.Credential == nil:
		return nil, ErrNoCredential
	}
	a, err := s.checkCard(ctx, e, r, now, certpath.ForBinding)
	if err != nil {
		return nil, err
	}
	b, err := s.bind(ctx, e, a, bindOptions{replace: r.Replace, from: r.From}, now)
	if errors.Is(err, order.ErrState) {
		return s.lost(ctx, e.Order.ID, r.Signature, err)
	}
	return b, err
}

// Pending says whether a phone that was bound has yet to get its first certificate.
func (s *Service) Pending(ctx context.Context, id order.ID) (bool, error) {
	bound, err := s.cfg.Store.Outcome(ctx, id)
	return err == nil && bound.Certificate == nil, err
}

// bindOptions are what a proof leaves open.
type bindOptions struct {
	replace bool
	from    order.Origin
}

// bind does what follows when the person has agreed, however they did:
// everything is written in one transaction. order.ErrState: the order does not
// wait any more.
func (s *Service) bind(ctx context.Context, e *Enrolment, a *agreement, o bindOptions, now time.Time) (*Bound, error) {
	// Asked before a key is made and a certificate signed for nothing; what
	// counts is asked again under the lock.
	standing, err := s.cfg.Store.Standing(ctx, e.NationalIDMAC, e.SubjectSerial)
	if err != nil {
		return nil, err
	}
	if err := s.judging(e.DeviceName, o.replace)(standing); err != nil {
		return nil, err
	}
	b, err := s.prepare(ctx, e, a, now)
	if err != nil {
		return nil, err
	}
	b.Replace, b.Judge = o.replace, s.judging(e.DeviceName, o.replace)
	b.Audit = s.completionEntries(b, a, o.from)
	if err := s.cfg.Store.Complete(ctx, *b); err != nil {
		return nil, err
	}
	s.cfg.Announce(e.Order.ID)
	if o.replace && s.cfg.Changed != nil {
		s.cfg.Changed()
	}
	if b.Request != nil && s.cfg.Requested != nil {
		s.cfg.Requested(b.Request.ID)
	}
	return s.cfg.Store.Outcome(ctx, e.Order.ID)
}

// again answers a proof for an order that is completed.
func (s *Service) again(ctx context.Context, e *Enrolment, proof []byte) (*Bound, error) {
	if !bytes.Equal(e.Proof, proof) {
		return nil, ErrDone
	}
	return s.cfg.Store.Outcome(ctx, e.Order.ID)
}

// lost explains why an order does not wait any more: often the same request was
// sent twice at once, and the other one has won.
func (s *Service) lost(ctx context.Context, id order.ID, proof []byte, err error) (*Bound, error) {
	e, findErr := s.cfg.Store.Find(ctx, id)
	if findErr != nil {
		return nil, findErr
	}
	if e.CompletedAt != nil {
		return s.again(ctx, e, proof)
	}
	if stateErr := waiting(e.Order, s.now()); stateErr != nil {
		return nil, stateErr
	}
	return nil, err
}

// neverChecked is the last look at a card whose status nobody could tell when an
// operator's allowance let it bind: whatever it does next, it is looked at first.
var neverChecked = time.Unix(0, 0).UTC()

// prepare makes the mobile key and its certificate and gathers what is written.
func (s *Service) prepare(ctx context.Context, e *Enrolment, a *agreement, now time.Time) (*Binding, error) {
	citizenID, deviceID := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	desk := issuing.Desk{Keys: s.cfg.Keys, Algorithm: s.cfg.KeyAlgorithm, Issuer: s.cfg.Issuer, Outside: s.cfg.Outside}
	issued, err := desk.Issue(ctx, issuing.MobileRequest{CitizenID: citizenID, DeviceID: deviceID, Citizen: a.card.cert}, uuid.Nil)
	if err != nil {
		return nil, err
	}
	cert := a.card.cert
	checkedAt := now
	if len(a.card.result.Allowed) > 0 {
		checkedAt = neverChecked
	}
	c := e.Credential
	b := &Binding{
		Order: e.Order.ID, BrowserHash: e.Order.BrowserHash, At: now,
		Citizen: citizen.Citizen{
			ID: citizenID, NationalIDMAC: e.NationalIDMAC, SealedNationalID: e.SealedNationalID, SealedName: e.SealedName,
			SubjectSerial: e.SubjectSerial, UserHandle: e.UserHandle, State: citizen.Active, CreatedAt: now,
		},
		Certificate: citizen.Certificate{
			ID: uuid.Must(uuid.NewV7()), Fingerprint: sha256.Sum256(cert.Raw), DER: cert.Raw, CardNumber: a.cardNumber,
			NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, State: citizen.CertificateGood, CheckedAt: checkedAt, CreatedAt: now,
		},
		Device: citizen.Device{
			ID: deviceID, EnrolmentID: e.Order.ID.UUID(), CredentialID: c.ID, COSEKey: c.PublicKey, COSEAlgorithm: c.Algorithm,
			UserHandle: e.UserHandle, SignCount: c.SignCount, AAGUID: c.AAGUID, Transports: c.Transports,
			BackupEligible: c.BackupEligible, BackupState: c.BackupState, AttestationFormat: c.AttestationFormat, Attested: c.Attested,
			Name: e.DeviceName, State: citizen.DeviceActive, CreatedAt: now,
		},
		Key: issued.Key, Mobile: issued.Certificate, Request: issued.Request, Statement: e.Statement, Proof: a.proof, Revocation: a.revocation, Judge: s.judge, By: a.by, Confirmed: a.confirmed,
	}
	if a.by != nil {
		b.Device.AddedByDeviceID = &a.by.Device
		if s.cfg.Cooldown > 0 {
			b.Device.CooldownUntil = now.Add(s.cfg.Cooldown)
		}
	}
	return b, nil
}

// completionEntries are the audit entries of a binding, in the order things happened.
func (s *Service) completionEntries(b *Binding, a *agreement, from order.Origin) []audit.Entry {
	actor := audit.New(audit.EnrolCompleted).ByBrowser()
	if a.by != nil {
		actor = actor.ByCitizen(a.by.CitizenID)
	}
	if a.confirmed != nil {
		actor = actor.By(audit.ActorOperator, a.confirmed.Approval.AdministratorID.String())
	}
	entry := func(act audit.Act) audit.Entry {
		return s.entry(act, b.Order).By(actor.ActorKind, actor.Actor).Device(b.Device.ID).From(from.IP)
	}
	certificate := b.Mobile.Issued()
	if b.Request != nil {
		certificate = b.Request.Requested()
	}
	entries := []audit.Entry{
		entry(audit.KeyCreated).With(audit.KeyPurpose, b.Key.Purpose).With(audit.KeyAlgorithm, string(b.Key.Algorithm)).
			With(audit.KeyKeyID, b.Key.ID.String()),
		certificate.Order(b.Order.UUID()).Client(s.cfg.Client.ID).By(actor.ActorKind, actor.Actor).From(from.IP),
		entry(audit.DeviceBound).With(audit.KeyProof, string(a.kind)).With(audit.KeyFormat, b.Device.AttestationFormat).With(audit.KeyAAGUID, b.Device.AAGUID.String()),
		entry(audit.EnrolCompleted).With(audit.KeyRevocation, a.card.checked()),
	}
	for _, e := range citizen.UnknownAllowed(a.card.result.Allowed) {
		entries = append(entries, e.By(actor.ActorKind, actor.Actor).Order(b.Order.UUID()).Client(s.cfg.Client.ID).Device(b.Device.ID).From(from.IP))
	}
	return entries
}
