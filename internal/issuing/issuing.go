// Package issuing issues mobile certificates (行動憑證) and answers for them.
//
// A mobile certificate says that a key, kept by this service for one citizen
// and one bound phone, signs documents for that citizen. Package enrolment asks
// an Issuer for one; CA is the issuer for development and for deployments that
// run their own: a root, an issuing CA, an OCSP responder, a time-stamp
// authority and a signer of reports, made on first start with their keys in the
// keyring.
//
//	root ── issuing ─┬─ mobile certificates
//	                 ├─ ocsp
//	                 ├─ tsa
//	                 └─ report
//
// The register of what was issued is the database: OCSP and revocation lists
// are answered from it, by any node, with nothing in between to go stale.
package issuing

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"

	"sealgate/internal/audit"
	"sealgate/internal/fault"
	"sealgate/internal/keyring"
	"sealgate/internal/tsp"
)

// Names of our own authorities, as the register has them.
const (
	Root     = "root"
	Issuing  = "issuing"
	OCSP     = "ocsp"
	TSA      = "tsa"
	Reporter = "report"
)

// Faults of this package.
var (
	// ErrNoAuthority: Bootstrap has not run.
	ErrNoAuthority = fault.New(fault.Unavailable, "authority_missing")
	// ErrProfile: a certificate would break a rule of its profile.
	ErrProfile = fault.New(fault.Unprocessable, "certificate_profile")
	// ErrNotFound: no certificate with that serial number was issued here.
	ErrNotFound = fault.New(fault.NotFound, "certificate_not_found")
	// ErrRevoked: the certificate is revoked already.
	ErrRevoked = fault.New(fault.Conflict, "certificate_already_revoked")
)

// Issuer issues mobile certificates. Issue has no effect that lasts: the caller
// stores the certificate in the transaction that binds the phone, and a
// certificate that was never stored is "unknown" to OCSP and stays unused.
// Issue may be called from many goroutines. It fails with ErrProfile when the
// request cannot give a certificate that keeps all rules, and with a fault of
// kind Unavailable when trying again later can help.
type Issuer interface {
	Issue(ctx context.Context, r MobileRequest) (Certificate, error)
}

// MobileRequest asks for a mobile certificate.
type MobileRequest struct {
	CitizenID, DeviceID, KeyID uuid.UUID
	// Citizen is the card's certificate, already validated. The subject, its
	// type and the last four of the national ID are taken from it.
	Citizen *x509.Certificate
	// PublicKey is the mobile key.
	PublicKey crypto.PublicKey
	// NotBefore and NotAfter may be zero: now, and as long as is allowed. The
	// certificate never lasts longer than a year, than the citizen's own or
	// than the issuer's, whatever is asked.
	NotBefore, NotAfter time.Time
}

// State of an issued certificate.
type State string

// The states of a certificate.
const (
	Good    State = "good"
	Revoked State = "revoked"
	Held    State = "held" // revoked for the time being (certificateHold)
)

// Revocation reasons that are used here (RFC 5280 §5.3.1).
const (
	ReasonUnspecified    = 0
	ReasonKeyCompromise  = 1
	ReasonAffiliation    = 3
	ReasonSuperseded     = 4
	ReasonCessation      = 5
	ReasonHold           = 6
	ReasonPrivilegeTaken = 9
)

// Certificate is one row of the register.
type Certificate struct {
	ID                         uuid.UUID
	Serial                     []byte // 20 bytes, big endian
	CitizenID, DeviceID, KeyID uuid.UUID
	Authority                  string // who issued it
	DER                        []byte
	NotBefore, NotAfter        time.Time
	State                      State
	RevokedAt                  *time.Time
	Reason                     int
	CreatedAt                  time.Time
	// List is the part of the revocation list that the certificate names; the
	// zero value is the complete list alone.
	List Part
}

// Issued is the audit entry of issuing this certificate.
func (c Certificate) Issued() audit.Entry {
	return audit.New(audit.CertificateIssued).Citizen(c.CitizenID).Device(c.DeviceID).
		With(audit.KeySerial, fmt.Sprintf("%x", c.Serial)).With(audit.KeyAuthority, c.Authority).
		With(audit.KeyKeyID, c.KeyID.String())
}

// Authority is one of our own certificates and its key.
type Authority struct {
	Name        string
	KeyID       uuid.UUID
	Certificate []byte // DER
	Issuer      string // name of the authority that issued it
	CreatedAt   time.Time
	// ReplacedAt is when a newer one took its place; nil while it is in force.
	ReplacedAt *time.Time
}

// Status is what the register knows of a serial number.
type Status struct {
	Serial    []byte
	State     State
	RevokedAt time.Time
	Reason    int
}

// RevocationQuery asks for the lines of a revocation list.
type RevocationQuery struct {
	Authority string
	List      Part
	// After keeps certificates on the list that have ended for less than this.
	After time.Duration
	// Unless is the mark of the list at hand: nothing is read if it still holds.
	// Negative: read in any case.
	Unless int64
}

// Revocations is what a revocation list has to say.
type Revocations struct {
	// Mark counts the changes of the authority's revocations. It is of the same
	// snapshot as Entries, so a greater mark is never an older state.
	Mark int64
	// At is the database's clock when it was read, microseconds: with many
	// nodes, the one clock they share.
	At      time.Time
	Entries []Status // none if Mark is RevocationQuery.Unless
}

// Store keeps authorities and the register.
type Store interface {
	// Authorities lists our own authorities, also those that were replaced; none
	// before the first start.
	Authorities(ctx context.Context) ([]Authority, error)
	// CreateAuthorities writes authorities, their keys and the entries, all or
	// nothing, unless one of these names is there already: then it does nothing.
	CreateAuthorities(ctx context.Context, a []Authority, keys []keyring.Row, entries []audit.Entry) error
	// ReplaceAuthority puts a new key and certificate in the place of those with
	// the old key, which is destroyed some time after; ErrReplaced when they are
	// in force no more.
	ReplaceAuthority(ctx context.Context, r Replacement) error
	// Certificate reads one issued certificate; ErrNotFound.
	Certificate(ctx context.Context, serial []byte) (Certificate, error)
	// Statuses reads the state of the given serial numbers; unknown ones are left out.
	Statuses(ctx context.Context, authority string, serials [][]byte) ([]Status, error)
	// Revocations lists what is revoked, or held.
	Revocations(ctx context.Context, q RevocationQuery) (Revocations, error)
	// Population is about how many certificates of an authority have not ended.
	Population(ctx context.Context, authority string) (int64, error)
	// Revoke takes a certificate from good or held to revoked; ErrNotFound, ErrRevoked.
	Revoke(ctx context.Context, s Status, e audit.Entry) error
}

// Config is what a CA needs.
type Config struct {
	Store Store
	Keys  *keyring.Keyring
	// Name stands in all four distinguished names: O=Name, CN=Name + role. A
	// development CA says that it is one: "(測試用) Sealgate".
	Name string
	// BaseURL is where front/pki answers, without a path: it becomes part of
	// every certificate. Plain http is usual (RFC 5280 §8: no TLS loops).
	BaseURL string
	// Profile of the mobile certificates; nil: the one of an empty ProfileConfig.
	Profile *Profile
	// TSAPolicy is an object identifier. Empty: below 2.999, the arc for
	// examples, which nobody may take for a real policy.
	TSAPolicy string
	// Algorithm of the four keys; empty: P-256.
	Algorithm keyring.Algorithm
	// ListLife is how long a revocation list is valid, 0: 24 h; ListRefresh is
	// how often a node makes a new one though nothing has changed, 0: 5 minutes.
	ListLife, ListRefresh time.Duration
	// ListEntries is from how many certificates on the list is published in
	// parts, so that no part can get longer; 0: 10,000.
	ListEntries int
	// StatusLife is how long an OCSP answer is valid; 0: 10 minutes.
	StatusLife time.Duration
	Now        func() time.Time // nil: time.Now
}

// Default policies.
const (
	DefaultPolicy    = "2.999.1.1"
	DefaultTSAPolicy = "2.999.1.2"
)

// CA is our own issuer. It is safe for concurrent use.
type CA struct {
	cfg          Config
	profile      *Profile
	tsaPolicyOID x509.OID
	tsaPolicy    asn1.ObjectIdentifier // the same

	mu          sync.Mutex
	authorities map[string]*authority
	replaced    []*authority
	readAt      time.Time
	lists       map[listName]*PublishedList
	parts       partCount
	lintKey     crypto.Signer
	tsa         *tsp.Responder
	tsaOf       uuid.UUID // the key that tsa signs with
	making      singleflight.Group
}

var _ Issuer = (*CA)(nil)

type authority struct {
	Authority
	cert *x509.Certificate
}

// New checks the configuration. Call Bootstrap before use.
func New(cfg Config) (*CA, error) {
	if cfg.Store == nil || cfg.Keys == nil || cfg.Name == "" || len(cfg.Name) > 40 {
		return nil, errors.New("issuing: store, keys and a name of at most 40 bytes are needed")
	}
	u, err := url.Parse(cfg.BaseURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || (u.Path != "" && u.Path != "/") {
		return nil, fmt.Errorf("issuing: base URL %q is not scheme and host", cfg.BaseURL)
	}
	cfg.BaseURL = u.Scheme + "://" + u.Host
	setDefault(&cfg.TSAPolicy, DefaultTSAPolicy)
	setDefault(&cfg.Algorithm, keyring.P256)
	setDefault(&cfg.ListLife, 24*time.Hour)
	setDefault(&cfg.ListRefresh, 5*time.Minute)
	setDefault(&cfg.StatusLife, 10*time.Minute)
	setDefault(&cfg.ListEntries, 10_000)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.ListEntries < 1 {
		return nil, errors.New("issuing: a part of a list has at least one entry")
	}
	if cfg.ListRefresh > cfg.ListLife {
		return nil, errors.New("issuing: lists are renewed before they end")
	}
	if cfg.Profile == nil {
		if cfg.Profile, err = NewProfile(ProfileConfig{}); err != nil {
			return nil, err
		}
	}
	ca := &CA{cfg: cfg, profile: cfg.Profile, lists: map[listName]*PublishedList{}}
	if ca.tsaPolicyOID, ca.tsaPolicy, err = parsePolicy(cfg.TSAPolicy); err != nil {
		return nil, err
	}
	return ca, nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// authoritiesLife is how long the authorities that were read are believed: so
// long after the leader has replaced one, every node uses it.
const authoritiesLife = time.Minute

// authority gives one of our authorities, reading them all now and then. While
// they cannot be read, those that are known go on serving.
func (ca *CA) authority(ctx context.Context, name string) (*authority, error) {
	ca.mu.Lock()
	known, age := ca.authorities, ca.cfg.Now().Sub(ca.readAt)
	ca.mu.Unlock()
	if known == nil || age > authoritiesLife || age < 0 {
		fresh, err := ca.load(ctx)
		if err != nil && known == nil {
			return nil, err
		}
		if err == nil {
			known = fresh
		}
	}
	a, ok := known[name]
	if !ok {
		return nil, ErrNoAuthority.Because(fmt.Errorf("no authority %q", name))
	}
	return a, nil
}

func (ca *CA) load(ctx context.Context) (map[string]*authority, error) {
	list, err := ca.cfg.Store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, ErrNoAuthority
	}
	known, replaced := make(map[string]*authority, len(list)), []*authority(nil)
	for _, a := range list {
		cert, err := x509.ParseCertificate(a.Certificate)
		if err != nil {
			return nil, fmt.Errorf("issuing: certificate of %s: %w", a.Name, err)
		}
		if a.ReplacedAt != nil {
			replaced = append(replaced, &authority{Authority: a, cert: cert})
			continue
		}
		known[a.Name] = &authority{Authority: a, cert: cert}
	}
	ca.mu.Lock()
	ca.authorities, ca.replaced, ca.readAt = known, replaced, ca.cfg.Now()
	ca.mu.Unlock()
	return known, nil
}

// purposes ties each authority to the one purpose its key has.
var purposes = map[string]string{
	Root: keyring.PurposeCARoot, Issuing: keyring.PurposeCAIssuing, OCSP: keyring.PurposeCAOCSP, TSA: keyring.PurposeCATSA, Reporter: keyring.PurposeCAReport,
}

func (ca *CA) signer(ctx context.Context, a *authority) (crypto.Signer, error) {
	return ca.cfg.Keys.Signer(ctx, a.KeyID, purposes[a.Name])
}

// Certificate gives the certificate of one of our authorities.
func (ca *CA) Certificate(ctx context.Context, name string) (*x509.Certificate, error) {
	a, err := ca.authority(ctx, name)
	if err != nil {
		return nil, err
	}
	return a.cert, nil
}

// Revoke ends a certificate as of now.
func (ca *CA) Revoke(ctx context.Context, serial []byte, reason int, by audit.Entry) error {
	if reason < 0 || reason == 7 || reason > 10 || reason == ReasonHold {
		return fmt.Errorf("issuing: reason %d does not end a certificate", reason)
	}
	by.Act = audit.CertificateRevoked
	s := Status{Serial: serial, State: Revoked, RevokedAt: ca.cfg.Now().UTC(), Reason: reason}
	err := ca.cfg.Store.Revoke(ctx, s, by.With(audit.KeySerial, fmt.Sprintf("%x", serial)).WithInt(audit.KeyReason, reason))
	if err == nil { // at once on this node, elsewhere after checkLists
		ca.mu.Lock()
		clear(ca.lists)
		ca.mu.Unlock()
	}
	return err
}
