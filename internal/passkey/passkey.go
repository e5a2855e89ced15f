// Package passkey holds the WebAuthn ceremonies (W3C Web Authentication Level 3):
// what is asked of a phone, and whether its answer may be believed.
//
// It knows no HTTP and no SQL. The caller gives the challenge, loads and stores
// the credential, and consumes the challenge in the transaction that accepts the
// answer: nothing here remembers anything, so the same answer passes twice.
//
// Attestation statements are verified by github.com/go-webauthn/webauthn. What
// surrounds them, and every assertion, is read and judged here: once, strictly,
// within bounds. The tests name each point where that library decides otherwise.
//
// User presence and user verification are required everywhere; there is no
// switch for it.
package passkey

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/mds"
)

// Bounds on what arrives and on what is asked.
const (
	// MaxResponse is the largest response JSON that is read, in bytes. An
	// attestation with its certificates stays under 16 KiB.
	MaxResponse = 64 << 10
	// MaxCredentialID is the largest credential id in bytes (WebAuthn Level 3 §4).
	MaxCredentialID = 1023
	// MaxUserHandle is the largest user handle in bytes (WebAuthn Level 3 §5.4.3).
	MaxUserHandle = 64
	// MinChallenge and MaxChallenge bound a challenge in bytes (§13.4.3 asks for 16).
	MinChallenge, MaxChallenge = 16, 64
	maxDescriptors             = 64
)

// AttestationPolicy says how much a phone must prove about what it is.
type AttestationPolicy uint8

// The policies. Under each of them a packed, fido-u2f or none statement that is
// forged or malformed is refused.
const (
	// AttestationOff asks for none. Whatever is sent is not trusted.
	AttestationOff AttestationPolicy = iota
	// AttestationMonitor asks, notes what was proved, refuses nothing for lack of proof.
	AttestationMonitor
	// AttestationEnforced refuses none, self attestation, unknown formats and
	// chains that do not end at a configured root.
	AttestationEnforced
)

// COSE algorithm identifiers that credentials may use.
const (
	ES256 = -7
	EdDSA = -8 // Ed25519 only (WebAuthn Level 3 §5.8.5)
	RS256 = -257
)

// Config describes the relying party.
type Config struct {
	// RPID is the domain passkeys belong to ("id.example.gov.tw"); it can never
	// change without losing all of them. RPName is shown by the phone.
	RPID, RPName string
	// Origins are the pages' exact origins: scheme, host and, if it is not the
	// default, port; lower case, nothing behind it. Each host is RPID or below
	// it, unless it is also in RelatedOrigins.
	Origins []string
	// RelatedOrigins are the members of Origins on other domains, as published
	// in /.well-known/webauthn (WebAuthn Level 3 §5.11).
	RelatedOrigins []string
	// Attestation is the policy. Enforced needs AttestationRoots or Metadata.
	Attestation AttestationPolicy
	// AttestationRoots are the anchors an attestation certificate must lead to.
	AttestationRoots []*x509.Certificate
	// PermittedAAGUIDs, when not empty, are the only models accepted. As an
	// AAGUID without attestation is whatever the phone says, this needs Enforced.
	PermittedAAGUIDs []uuid.UUID
	// Metadata gives the FIDO metadata in force, nil while there are none. A
	// model's own roots there are anchors beside AttestationRoots.
	Metadata func() *mds.Blob
	// Policy says which models are accepted.
	Policy Policy
	// Algorithms in order of preference; default ES256, EdDSA, RS256.
	Algorithms []int
	// Timeout is what the browser is told; 0 is 2 minutes.
	Timeout time.Duration
	// AllowCrossOrigin accepts ceremonies in a frame of another origin; the
	// framing page must be in TopOrigins when the browser names it.
	AllowCrossOrigin bool
	TopOrigins       []string
}

// RelyingParty makes options and judges answers. It is safe for concurrent use.
type RelyingParty struct {
	cfg      Config
	rpIDHash [32]byte
	roots    *x509.CertPool
}

// New checks the configuration.
func New(cfg Config) (*RelyingParty, error) {
	if cfg.RPID == "" || cfg.RPID != strings.ToLower(cfg.RPID) || strings.ContainsAny(cfg.RPID, ":/@ ") {
		return nil, fmt.Errorf("passkey: RPID %q is not a lower-case domain name", cfg.RPID)
	}
	if cfg.RPName == "" {
		cfg.RPName = cfg.RPID
	}
	if len(cfg.Origins) == 0 {
		return nil, errors.New("passkey: no origin is configured")
	}
	for _, o := range cfg.RelatedOrigins {
		if !slices.Contains(cfg.Origins, o) {
			return nil, fmt.Errorf("passkey: related origin %q is not among the origins", o)
		}
	}
	for _, o := range cfg.Origins {
		host, err := originHost(o)
		if err != nil {
			return nil, err
		}
		below := host == cfg.RPID || strings.HasSuffix(host, "."+cfg.RPID)
		if !below && !slices.Contains(cfg.RelatedOrigins, o) {
			return nil, fmt.Errorf("passkey: origin %q does not belong to RPID %q", o, cfg.RPID)
		}
	}
	for _, o := range cfg.TopOrigins {
		if _, err := originHost(o); err != nil {
			return nil, err
		}
	}
	if len(cfg.Algorithms) == 0 {
		cfg.Algorithms = []int{ES256, EdDSA, RS256}
	}
	for _, alg := range cfg.Algorithms {
		if alg != ES256 && alg != EdDSA && alg != RS256 {
			return nil, fmt.Errorf("passkey: algorithm %d is not supported", alg)
		}
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 2 * time.Minute
	}
	if cfg.Attestation > AttestationEnforced {
		return nil, errors.New("passkey: unknown attestation policy")
	}
	if cfg.Attestation == AttestationEnforced && len(cfg.AttestationRoots) == 0 && cfg.Metadata == nil {
		return nil, errors.New("passkey: enforced attestation needs attestation roots or metadata")
	}
	if len(cfg.PermittedAAGUIDs) > 0 && cfg.Attestation != AttestationEnforced {
		return nil, errors.New("passkey: permitted AAGUIDs need enforced attestation")
	}
	if err := cfg.Policy.check(&cfg); err != nil {
		return nil, err
	}
	rp := &RelyingParty{cfg: cfg, rpIDHash: sha256.Sum256([]byte(cfg.RPID)), roots: x509.NewCertPool()}
	for _, c := range cfg.AttestationRoots {
		rp.roots.AddCert(c)
	}
	return rp, nil
}

// originHost checks that a configured origin is a serialised tuple origin
// (HTML §7.1.1) and gives its host without port. Plain http is for localhost only.
func originHost(origin string) (string, error) {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || u.Scheme+"://"+u.Host != origin || origin != strings.ToLower(origin) {
		return "", fmt.Errorf("passkey: origin %q is not scheme://host[:port] in lower case", origin)
	}
	host := u.Hostname()
	local := host == "localhost" || strings.HasSuffix(host, ".localhost")
	switch {
	case u.Scheme == "https" && u.Port() != "443":
	case u.Scheme == "http" && local && u.Port() != "80":
	default:
		return "", fmt.Errorf("passkey: origin %q must be https (http only for localhost) without the default port", origin)
	}
	return host, nil
}

// RPID gives the configured relying party identifier.
func (rp *RelyingParty) RPID() string { return rp.cfg.RPID }

// Origins gives the configured origins, for VerifyOffline and for evidence.
func (rp *RelyingParty) Origins() []string { return slices.Clone(rp.cfg.Origins) }

// User is whom a passkey is made for.
type User struct {
	// Handle is what the phone gives back later: 1 to 64 bytes that look random
	// and say nothing about the person (WebAuthn Level 3 §14.6.1).
	Handle []byte
	// Name and DisplayName are shown in the phone's list of passkeys.
	Name, DisplayName string
}

// Credential is what is stored for a device.
type Credential struct {
	ID []byte
	// PublicKey is the COSE_Key as the phone sent it (RFC 9052 §7), checked at registration.
	PublicKey []byte
	// Algorithm is the COSE algorithm identifier within PublicKey.
	Algorithm int
	// SignCount is the counter last seen; 0 when the authenticator keeps none.
	SignCount uint32
	// AAGUID is the model, or what the phone claims when Attested is false.
	AAGUID uuid.UUID
	// BackupEligible never changes; BackupState may (WebAuthn Level 3 §6.1.3).
	BackupEligible, BackupState bool
	Transports                  []string
	// AttestationFormat is the statement's fmt; Attested is true only when its
	// certificates lead to a configured root.
	AttestationFormat string
	Attested          bool
	// UserHandle is the User.Handle it was made for.
	UserHandle []byte
	// Facts are what was known of the authenticator at registration; they are
	// kept with the enrolment and not read for an assertion.
	Facts Facts
}

// Attestation is the raw evidence of a registration, to be kept as it came.
type Attestation struct {
	ClientDataJSON    []byte
	AttestationObject []byte
}
