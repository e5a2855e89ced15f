package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/agency"
	"sealgate/internal/audit"
	"sealgate/internal/citizen"
	"sealgate/internal/console"
	"sealgate/internal/devices"
	"sealgate/internal/dossier"
	"sealgate/internal/enrolment"
	"sealgate/internal/issuing"
	"sealgate/internal/jobs"
	"sealgate/internal/keyring"
	"sealgate/internal/order"
	"sealgate/internal/passkey"
	"sealgate/internal/postgres"
	"sealgate/internal/signing"
	"sealgate/internal/verification"
	"sealgate/internal/webhook"
)

// services are what the house does.
type services struct {
	hub        *order.Hub
	citizens   *citizen.Registry
	devices    *devices.Service
	cards      *devices.Cards
	renewals   *devices.Renewals
	profile    *issuing.Profile
	ca         *issuing.CA
	outside    *issuing.Outside // nil where our own CA issues
	requests   *jobs.Finisher   // nil with it
	anchorsPEM []byte
	stamping   *stamping
	signing    *signing.Service
	dossiers   *dossier.Service
	webhooks   *webhook.Service
	finisher   *jobs.Finisher
	enrolments *enrolment.Service
	orders     *order.Service
	phone      *order.Phone
	console    *console.Service
	judging    *verification.Service
	own        order.Client
}

// Times and limits that nobody has asked to configure.
const (
	typedCodeLife = 5 * time.Minute // WCAG 2.2.1: reading and typing eight digits takes some people long
	maxExtend     = 10              // WCAG 2.2.1: at least ten times
)

func newServices(ctx context.Context, opts Options, db *postgres.DB, f *foundation) (*services, error) {
	s := &services{hub: order.NewHub()}
	if err := s.seed(ctx, opts, f); err != nil {
		return nil, err
	}
	var err error
	if s.citizens, err = citizen.NewRegistry(db.Citizens(), f.vault); err != nil {
		return nil, err
	}
	if err = s.authority(ctx, opts, db, f); err != nil {
		return nil, err
	}
	if err = s.elsewhere(opts, db, f); err != nil {
		return nil, err
	}
	if s.devices, err = devices.New(devices.Config{Store: db.Devices(), Changed: s.ca.Changed}); err != nil {
		return nil, err
	}
	s.cards, err = devices.NewCards(devices.CardsConfig{Store: db.Devices(), Validator: f.validator, MaxAge: opts.Config.Card.StatusMaxAge,
		LoginGrace: max(opts.Config.Card.LoginGrace, opts.Config.Card.StatusMaxAge), Changed: s.ca.Changed, Log: opts.Log})
	if err != nil {
		return nil, err
	}
	if err = s.signatures(opts, db, f); err != nil {
		return nil, err
	}
	if err = s.enrolling(opts, db, f); err != nil {
		return nil, err
	}
	if err = s.renewing(opts, db, f); err != nil {
		return nil, err
	}
	if err = s.ordering(opts, db, f); err != nil {
		return nil, err
	}
	if err = s.onTheirWay(opts, db, f); err != nil {
		return nil, err
	}
	if s.phone, err = order.NewPhone(db.Phone(), f.rp, f.secrets.phone, s.suspend); err != nil {
		return nil, err
	}
	if s.judging, err = newVerification(ctx, opts, db, f, s); err != nil {
		return nil, err
	}
	return s, s.administering(opts, db, f)
}

// administering builds the console's domain. Administrators' passkeys are of the
// same relying party; what is asked of citizens' phones is not asked of them.
func (s *services) administering(opts Options, db *postgres.DB, f *foundation) error {
	var err error
	s.console, err = newConsole(opts.Config, db, f.vault, f.secrets.console, s.ca.Changed, opts.Log)
	if err == nil {
		s.console.Handle(console.BindInPerson, s.enrolments.CompleteInPerson)
	}
	return err
}

// seed registers the service's own pages as a client, and the demonstration
// agency where one is asked for.
func (s *services) seed(ctx context.Context, opts Options, f *foundation) error {
	if err := f.agencies.SeedBuiltIn(ctx, opts.Config.PublicOrigin); err != nil {
		return err
	}
	own, err := f.agencies.ByClientID(ctx, agency.BuiltInClientID)
	if err != nil {
		return err
	}
	s.own = order.ClientOf(own)
	if opts.DemoSite == "" {
		return nil
	}
	return f.agencies.SeedDemo(ctx, opts.DemoSite, opts.DemoSecret)
}

// authority opens the service's own certificate authority.
func (s *services) authority(ctx context.Context, opts Options, db *postgres.DB, f *foundation) error {
	name := "Sealgate"
	if opts.Config.Dev {
		name = "(測試用) Sealgate"
	}
	var err error
	if s.profile, err = NewProfile(opts.Config); err != nil {
		return err
	}
	s.ca, err = issuing.New(issuing.Config{Store: db.Issuing(), Keys: f.keys, Name: name, BaseURL: opts.Config.PublicOrigin,
		Profile: s.profile, TSAPolicy: opts.Config.Issuing.TSAPolicyOID})
	if err != nil {
		return err
	}
	if opts.Bootstrap {
		if err := s.ca.Bootstrap(ctx); err != nil {
			return err
		}
	}
	if err := s.ca.AddReporter(ctx); err != nil && !errors.Is(err, issuing.ErrNoAuthority) {
		return err
	}
	if s.anchorsPEM, err = s.ca.AnchorsPEM(ctx); err != nil {
		return errors.Join(errors.New("the certificate authority is not there; a first start needs --bootstrap"), err)
	}
	return nil
}

func (s *services) signatures(opts Options, db *postgres.DB, f *foundation) error {
	var err error
	if s.stamping, err = newStamping(opts, s.ca, f); err != nil {
		return err
	}
	bundles, err := NewEvidence(opts.Config, db)
	if err != nil {
		return err
	}
	s.signing, err = signing.New(signing.Config{Store: db.Signing(), Keys: f.keys, Chain: func(ctx context.Context, authority string) ([]*x509.Certificate, error) {
		return issuing.ChainOf(ctx, s.ca, db.Requests(), authority)
	},
		Sources: s.stamping.sources(), Parallel: opts.Config.TSA.Parallel, Evidence: evidenceInside(bundles),
		Archives: db.Signing(), RenewBefore: opts.Config.Signing.RenewBefore,
		Origins: []string{opts.Config.PublicOrigin}, RPID: opts.Config.RPID, Log: opts.Log,
		Changed: func(id uuid.UUID) { s.hub.Announce(order.ID(id)) }})
	if err != nil {
		return err
	}
	s.finisher = jobs.NewFinisher(s.finish, workers(), opts.Log)
	return nil
}

// finish signs an approved order, and lets the official documents follow whose
// points it signs; where that fails the leader's task catches up.
func (s *services) finish(ctx context.Context, id uuid.UUID) error {
	err := s.signing.Complete(ctx, id)
	if settleErr := s.dossiers.Settle(ctx, id); settleErr != nil {
		err = errors.Join(err, settleErr)
	}
	return err
}

// onTheirWay builds the domain of official documents, and what tells clients of
// them and of their sign orders.
func (s *services) onTheirWay(opts Options, db *postgres.DB, f *foundation) error {
	var err error
	s.dossiers, err = dossier.New(dossier.Config{Store: db.Dossiers(), Claims: db.Dossiers(), Orders: s.orders, Signing: s.signing, Agencies: f.agencies,
		Chain: s.ca.Anchors, MaxDocuments: opts.Config.Signing.BatchMax, Log: opts.Log})
	if err != nil {
		return err
	}
	s.webhooks, err = webhook.New(webhook.Config{Store: db.Webhooks(), Open: f.keys.Open, Egress: f.egress, Log: opts.Log})
	return err
}

// finishLeftOvers hands approved orders that nobody finished to the finisher.
func (s *services) finishLeftOvers(ctx context.Context) error {
	ids, err := s.signing.Unfinished(ctx, 500)
	for _, id := range ids {
		s.finisher.Add(id)
	}
	return err
}

func (s *services) enrolling(opts Options, db *postgres.DB, f *foundation) error {
	cfg := opts.Config
	var err error
	s.enrolments, err = enrolment.New(enrolment.Config{Store: db.Enrolments(), Losses: db.Enrolments(), Phones: db.Enrolments(), Registrars: db.Enrolments(), Changed: s.ca.Changed, Vault: f.vault, Validator: f.validator, RelyingParty: f.rp,
		Keys: f.keys, Issuer: s.ca, Outside: s.outside, Requested: s.requested, KeyAlgorithm: keyring.Algorithm(cfg.Mobile.KeyAlgorithm), Client: s.own, Announce: s.hub.Announce,
		Lifetime: cfg.Order.Lifetime, MaxLifetime: cfg.Order.MaxLifetime, DeviceLimit: cfg.Citizen.DeviceLimit, Cooldown: cfg.Device.Cooldown, Suspend: s.suspend, Log: opts.Log})
	return err
}

func (s *services) renewing(opts Options, db *postgres.DB, f *foundation) error {
	m := opts.Config.Mobile
	var err error
	s.renewals, err = devices.NewRenewals(devices.RenewalsConfig{Store: db.Devices(), RelyingParty: f.rp, Keys: f.keys,
		KeyAlgorithm: keyring.Algorithm(m.KeyAlgorithm), Issuer: s.ca, Outside: s.outside, Requested: s.requested, Look: s.cards.Look, Suspend: s.suspend,
		Life: m.CertificateLifetime, Before: m.RenewBefore, Grace: m.RenewGrace})
	return err
}

func (s *services) ordering(opts Options, db *postgres.DB, f *foundation) error {
	cfg := opts.Config
	var err error
	s.orders, err = order.New(order.Config{
		Store: db.Orders(), WaitingStore: db.Orders(), RelyingParty: f.rp, RPID: cfg.RPID, PublicOrigin: cfg.PublicOrigin,
		Frames:   order.FrameLimits{Step: cfg.Frame.Step, Scanner: cfg.Frame.MaxAgeScanner, Link: cfg.Frame.MaxAgeLink, Frozen: cfg.Frame.Frozen},
		Lifetime: cfg.Order.Lifetime, MaxLifetime: cfg.Order.MaxLifetime, PhoneStep: cfg.Order.PhoneStepLifetime,
		SyncedPasskeys: passkey.SyncedRule(cfg.Passkey.SyncedPasskeys), CodeLifetime: typedCodeLife, MaxExtend: maxExtend, MaxDocuments: cfg.Signing.BatchMax,
		CodeMAC: func(digits string) []byte {
			m := hmac.New(sha256.New, f.secrets.typed)
			m.Write([]byte(digits))
			return m.Sum(nil)
		},
		Level: cfg.Signing.Level, CanMake: s.signing.CanMake,
		Suspend: s.suspend, Card: s.cards.AtUse, EnrolOptions: s.enrolments.CreationOptions, Finish: s.finisher.Add, Hub: s.hub, Log: opts.Log,
	})
	return err
}

// suspend stops a device.
func (s *services) suspend(ctx context.Context, device uuid.UUID, reason string, entry audit.Entry) error {
	err := s.citizens.SuspendDevice(ctx, device, reason, entry)
	s.ca.Changed()
	return err
}
