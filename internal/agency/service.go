package agency

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/audit"
)

// Store keeps agencies and clients. Each method is one transaction. A client
// is always read together with its agency.
type Store interface {
	// ClientByClientID and ClientByID give ErrClientUnknown when there is none.
	ClientByClientID(ctx context.Context, clientID string) (*Client, error)
	ClientByID(ctx context.Context, id uuid.UUID) (*Client, error)
	// SaveAgency inserts, or updates the agency with the same code, and gives
	// the row's id and creation time back. The entry is written when a row
	// changed; its act is agency.created in both cases, with the
	// detail reason=updated for an update.
	SaveAgency(ctx context.Context, a Agency, entry audit.Entry) (Agency, error)
	// SaveClient inserts, or updates the client with the same client_id, which
	// stays with its agency (ErrClientInvalid otherwise). Audit as above.
	SaveClient(ctx context.Context, c Client, entry audit.Entry) (Client, error)
	// SetSecret replaces the keyed hash of a client's secret: ErrClientUnknown,
	// or ErrClientInvalid for a client whose method has no secret.
	SetSecret(ctx context.Context, clientID string, mac []byte, entry audit.Entry) error
	// SetPolicy changes what a client demands: ErrClientUnknown, also for our own pages.
	SetPolicy(ctx context.Context, clientID string, p Policy, entry audit.Entry) error
	// Clients lists all clients by client_id, at most limit.
	Clients(ctx context.Context, limit int) ([]Client, error)
}

const (
	macSize    = sha256.Size
	secretSize = 32 // bytes of a client secret

	cacheLife    = 5 * time.Second // a suspended client is refused on every node within this time
	negativeLife = time.Second
	cacheSize    = 4096
)

// Config is what a Service needs.
type Config struct {
	Store Store
	// SecretKey is the keyring secret "client-secret", 32 bytes or more.
	SecretKey []byte
	// PairwiseSecret is the keyring secret "pairwise", 32 bytes or more. It can
	// never change: every subject ever given out depends on it.
	PairwiseSecret []byte
	// AllowLoopback accepts http redirect URIs on this machine (development).
	AllowLoopback bool
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// Service finds and registers clients and checks their secrets.
type Service struct {
	store         Store
	secretKey     []byte
	pairwise      *pairwise
	allowLoopback bool
	now           func() time.Time
	byClientID    *cache[string]
	byID          *cache[uuid.UUID]
}

// New makes a Service from a complete Config.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil {
		return nil, errors.New("agency: no store")
	}
	if len(cfg.SecretKey) < 32 || len(cfg.PairwiseSecret) < 32 {
		return nil, errors.New("agency: secrets must have 32 bytes or more")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{
		store: cfg.Store, secretKey: cfg.SecretKey, pairwise: newPairwise(cfg.PairwiseSecret),
		allowLoopback: cfg.AllowLoopback, now: cfg.Now,
		byClientID: newCache[string](cfg.Now), byID: newCache[uuid.UUID](cfg.Now),
	}, nil
}

// ByClientID finds a client by its public identifier: ErrClientUnknown when
// there is none. It may be up to five seconds old.
func (s *Service) ByClientID(ctx context.Context, clientID string) (*Client, error) {
	if !clientIDForm.MatchString(clientID) {
		return nil, ErrClientUnknown
	}
	return s.byClientID.get(clientID, func() (*Client, error) { return s.store.ClientByClientID(ctx, clientID) })
}

// ByID finds a client by its row's id, otherwise like ByClientID.
func (s *Service) ByID(ctx context.Context, id uuid.UUID) (*Client, error) {
	return s.byID.get(id, func() (*Client, error) { return s.store.ClientByID(ctx, id) })
}

// Usable is ByClientID for a client that may be used now; else also
// ErrClientSuspended or ErrAgencySuspended.
func (s *Service) Usable(ctx context.Context, clientID string) (*Client, error) {
	c, err := s.ByClientID(ctx, clientID)
	if err != nil {
		return nil, err
	}
	if err := c.Usable(); err != nil {
		return nil, err
	}
	return c, nil
}

// SaveAgency registers an agency or updates the one with the same code.
func (s *Service) SaveAgency(ctx context.Context, a Agency) (Agency, error) {
	if a.Sector == "" {
		a.Sector = "public"
	}
	if a.State == "" {
		a.State = Active
	}
	if err := a.Validate(); err != nil {
		return Agency{}, err
	}
	if a.ID == uuid.Nil {
		a.ID = uuid.Must(uuid.NewV7())
	}
	a, err := s.store.SaveAgency(ctx, a, audit.New(audit.AgencyCreated))
	s.forget()
	return a, err
}

// SaveClient registers a client or updates the one with the same client_id.
// Client.Agency must be a saved agency.
func (s *Service) SaveClient(ctx context.Context, c Client) (Client, error) {
	if c.State == "" {
		c.State = Active
	}
	if err := c.Validate(s.allowLoopback); err != nil {
		return Client{}, err
	}
	if c.ID == uuid.Nil {
		c.ID = uuid.Must(uuid.NewV7())
	}
	c, err := s.store.SaveClient(ctx, c, audit.New(audit.ClientCreated))
	s.forget()
	return c, err
}

// Clients lists the registered clients by client_id, at most limit.
func (s *Service) Clients(ctx context.Context, limit int) ([]Client, error) {
	return s.store.Clients(ctx, limit)
}

// forget empties the caches: what was saved here is seen here at once.
func (s *Service) forget() {
	s.byClientID.clear()
	s.byID.clear()
}

// NewSecret makes a client secret: 32 random bytes as base64url.
func NewSecret() string {
	b := make([]byte, secretSize)
	rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}

// SecretMAC is the form in which a client secret is stored. Secrets are random
// and long, so a keyed hash is enough; nothing has to be slow.
func (s *Service) SecretMAC(secret string) []byte {
	m := hmac.New(sha256.New, s.secretKey)
	m.Write([]byte("sealgate client secret\x00"))
	m.Write([]byte(secret))
	return m.Sum(nil)
}

// RenewSecret replaces a client's secret by a new one and gives it; this is the
// only time it can be seen.
func (s *Service) RenewSecret(ctx context.Context, clientID string) (string, error) {
	secret := NewSecret()
	if err := s.store.SetSecret(ctx, clientID, s.SecretMAC(secret), audit.New(audit.ClientChanged)); err != nil {
		return "", err
	}
	s.forget()
	return secret, nil
}

// CheckSecret compares a presented secret with the client's, in constant time:
// ErrSecretWrong or nil. A client without a secret always gets ErrSecretWrong.
func (s *Service) CheckSecret(c *Client, secret string) error {
	mac := s.SecretMAC(secret) // also for a client without one: same work
	if len(secret) > 256 || len(c.SecretMAC) != macSize || subtle.ConstantTimeCompare(mac, c.SecretMAC) != 1 {
		return ErrSecretWrong
	}
	return nil
}

// Subject is the pairwise subject of a citizen for a sector: 22 characters.
func (s *Service) Subject(sector string, citizen uuid.UUID) string {
	return s.pairwise.subject(sector, citizen)
}

// ParseSubject finds the citizen behind a pairwise subject of this sector:
// ErrSubjectInvalid for what this sector was never given.
func (s *Service) ParseSubject(sector, subject string) (uuid.UUID, error) {
	return s.pairwise.parse(sector, subject)
}
