package enrolment

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"strings"
	"time"

	"sealgate/internal/audit"
	"sealgate/internal/certpath"
	"sealgate/internal/citizen"
	"sealgate/internal/order"
)

// BeginRequest is what the computer's page knows after reading the card.
type BeginRequest struct {
	NationalID  string // as typed; must not be logged
	Certificate []byte // DER, at most MaxCertificate
	CardNumber  string // as the card component told; may be empty
	Browser     order.BrowserKey
	Started     order.Origin
	Text        string // shown on the phone, in the person's language
}

// Begun is an enrol order that waits for its phone.
type Begun struct {
	Order      order.ID
	MaskedName string
	NotAfter   time.Time // of the citizen certificate
}

// Begin checks the card's certificate and the typed national ID, and makes the
// enrol order. Holding a certificate proves nothing yet, certificates are
// public: that the card is there is proved by Complete.
func (s *Service) Begin(ctx context.Context, r BeginRequest) (*Begun, error) {
	begun, err := s.begin(ctx, r)
	if err != nil {
		e := audit.New(audit.EnrolStarted).ByBrowser().Client(s.cfg.Client.ID).From(r.Started.IP)
		return nil, s.refuse(ctx, e, err)
	}
	return begun, nil
}

func (s *Service) begin(ctx context.Context, r BeginRequest) (*Begun, error) {
	id, err := citizen.ParseNationalID(r.NationalID)
	if err != nil {
		return nil, err
	}
	var ok bool
	if r.CardNumber, ok = normalCardNumber(r.CardNumber); !ok {
		return nil, ErrCertificate
	}
	now := s.now()
	card, err := s.readCard(ctx, r.Certificate, now, certpath.ForBinding)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(id.Last4()), []byte(card.info.IDLast4)) != 1 {
		return nil, ErrIDMismatch
	}
	e, err := s.newEnrolment(ctx, id, card, r, now)
	if err != nil {
		return nil, err
	}
	standing, err := s.cfg.Store.Standing(ctx, e.NationalIDMAC, e.SubjectSerial)
	if err != nil {
		return nil, err
	}
	if err := s.judge(standing); err != nil {
		return nil, err
	}
	entry := s.entry(audit.EnrolStarted, e.Order.ID).From(r.Started.IP).With(audit.KeyRevocation, card.checked())
	if standing.Known {
		entry = entry.Citizen(standing.CitizenID)
	}
	entries := []audit.Entry{entry}
	for _, a := range citizen.UnknownAllowed(card.result.Allowed) {
		entries = append(entries, a.ByBrowser().Order(e.Order.ID.UUID()).Client(s.cfg.Client.ID).From(r.Started.IP))
	}
	if err := s.cfg.Store.Begin(ctx, *e, entries...); err != nil {
		return nil, err
	}
	return &Begun{Order: e.Order.ID, MaskedName: citizen.Masked(card.info.Name), NotAfter: card.cert.NotAfter}, nil
}

// newEnrolment prepares the order and seals what is personal.
func (s *Service) newEnrolment(ctx context.Context, id citizen.NationalID, card *card, r BeginRequest, now time.Time) (*Enrolment, error) {
	o, err := order.NewEnrol(order.EnrolParams{
		Client: s.cfg.Client, Browser: r.Browser, Started: r.Started, Text: r.Text,
		Now: now, Lifetime: s.cfg.Lifetime, MaxLifetime: s.cfg.MaxLifetime,
	})
	if err != nil {
		return nil, err
	}
	mac := s.cfg.Vault.MAC(id)
	sealedID, err := s.cfg.Vault.Seal(ctx, citizen.FieldNationalID, mac, id.Reveal())
	if err != nil {
		return nil, err
	}
	sealedName, err := s.cfg.Vault.Seal(ctx, citizen.FieldName, mac, card.info.Name)
	if err != nil {
		return nil, err
	}
	fingerprint := sha256.Sum256(card.cert.Raw)
	return &Enrolment{
		ProofKind: ProofCard, Order: o, NationalIDMAC: mac, SealedNationalID: sealedID, SealedName: sealedName,
		SubjectSerial: card.info.SubjectSerial, UserHandle: newUserHandle(),
		Certificate: card.cert.Raw, CertificateFingerprint: fingerprint[:], CardNumber: r.CardNumber, CreatedAt: now,
	}, nil
}

// newUserHandle makes the WebAuthn user handle of one binding. Every binding has
// its own: authenticators keep one passkey for a handle and overwrite it when
// another is made (WebAuthn Level 3 §6.3.2 step 7.4), which would take the old
// passkey from a person before their card agreed to the new one.
func newUserHandle() []byte {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	return raw
}

// card is a citizen certificate that was found good at a time.
type card struct {
	cert   *x509.Certificate
	info   certpath.CitizenInfo
	result *certpath.Result
}

// Purposes that no allowance can be for. For adding a phone there is time to
// wait for an answer.
const (
	forLoss  certpath.CitizenPurpose = "loss"
	forPhone certpath.CitizenPurpose = "phone"
)

// readCard parses a certificate and checks all there is to check: profile,
// chain to our trust store, time, key usage, policy, revocation. No fresh answer
// about revocation means no (certpath fails closed).
func (s *Service) readCard(ctx context.Context, der []byte, at time.Time, purpose certpath.CitizenPurpose) (*card, error) {
	cert, err := parseCertificate(der)
	if err != nil {
		return nil, err
	}
	info, err := certpath.ParseCitizen(cert)
	if err != nil {
		return nil, ErrNotCitizenCard.Because(err)
	}
	result, err := s.cfg.Validator.Validate(ctx, cert, nil, at, certpath.CitizenProfileFor(purpose))
	if err != nil {
		return nil, err
	}
	return &card{cert: cert, info: info, result: result}, nil
}

// normalCardNumber brings a card number to one spelling: tokens pad theirs with
// spaces (PKCS #11 §3.2), and letters come in either case. It accepts a few ASCII
// letters and digits, or nothing.
func normalCardNumber(n string) (number string, ok bool) {
	if len(n) > 2*maxCardNumber {
		return "", false
	}
	n = strings.ToUpper(strings.Trim(n, " \x00"))
	if len(n) > maxCardNumber {
		return "", false
	}
	for _, c := range []byte(n) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return "", false
		}
	}
	return n, true
}
