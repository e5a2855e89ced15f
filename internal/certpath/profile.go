package certpath

import (
	"crypto/x509"
	"encoding/asn1"
)

// RevocationMode says whose status is asked for.
type RevocationMode uint8

const (
	// RevocationLeaf demands a good status for the end certificate. The default.
	RevocationLeaf RevocationMode = iota
	// RevocationPath demands it for the end certificate, and for each CA below
	// the anchor that names a source (OCSP or CRL) for its own status.
	RevocationPath
	// RevocationAll demands it for every certificate below the anchor, also for a
	// CA that names no source: then stored evidence must have it.
	RevocationAll
	// RevocationNone asks nobody: for certificates too short-lived to revoke, and
	// for paths whose status comes from elsewhere.
	RevocationNone
)

// Profile is what a purpose demands of a certificate and its path, as data.
type Profile struct {
	// Name is for logs and reports, e.g. "citizen".
	Name string
	// Policies: the path must be valid for at least one of these (RFC 5280
	// §6.1.1 (c), user-initial-policy-set), and the end certificate must name it
	// itself. Empty is any policy, and demands none.
	Policies []asn1.ObjectIdentifier
	// ExplicitPolicy demands that the path is valid for some policy where Policies
	// is empty; PolicyOptional demands one of Policies only if a CA of the path
	// does (§6.1.1 (f), initial-explicit-policy).
	ExplicitPolicy, PolicyOptional bool
	// AllowPolicyMapping lets CAs name a policy of theirs as equivalent (§6.1.1 (e)
	// initial-policy-mapping-inhibit is its opposite).
	AllowPolicyMapping bool
	// InhibitAnyPolicy makes anyPolicy count for nothing (§6.1.1 (g)).
	InhibitAnyPolicy bool
	// AnyPolicyLeaf lets an end certificate say anyPolicy, or a mapped policy,
	// instead of one of Policies.
	AnyPolicyLeaf bool
	// KeyUsageAll must all be set in the end certificate, KeyUsageAny at least
	// one. A certificate without the extension fails where a bit is demanded.
	KeyUsageAll, KeyUsageAny x509.KeyUsage
	// ExtKeyUsages must all be named by the end certificate; anyExtendedKeyUsage
	// does not stand for them.
	ExtKeyUsages []x509.ExtKeyUsage
	// MaxPath bounds the path's length with end certificate and anchor. Zero is 6.
	MaxPath int
	// MinRSABits bounds every RSA key of the path. Zero is 2048.
	MinRSABits int
	// SignatureAlgorithms allowed on every certificate but the anchor, and on
	// stored revocation evidence. Nil is DefaultSignatureAlgorithms.
	SignatureAlgorithms []x509.SignatureAlgorithm
	// ConfiguredIssuersOnly builds the path from the trust store alone: CA
	// certificates that came along with a message are not used.
	ConfiguredIssuersOnly bool
	// AllowCA permits a CA certificate as end certificate.
	AllowCA bool
	// Revocation says whose status is asked for.
	Revocation RevocationMode
}

func (p Profile) maxPath() int {
	if p.MaxPath == 0 {
		return defaultMaxPath
	}
	return p.MaxPath
}

func (p Profile) minRSABits() int {
	if p.MinRSABits == 0 {
		return defaultRSABits
	}
	return p.MinRSABits
}

func (p Profile) algorithms() []x509.SignatureAlgorithm {
	if p.SignatureAlgorithms == nil {
		return DefaultSignatureAlgorithms
	}
	return p.SignatureAlgorithms
}

// DefaultSignatureAlgorithms leaves out everything with SHA-1 or MD5.
var DefaultSignatureAlgorithms = []x509.SignatureAlgorithm{
	x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
	x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
	x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
	x509.PureEd25519,
}

// PolicyLevel3 is assurance level 3 of the Taiwanese government PKI, asserted by
// MOICA and by citizen certificates.
var PolicyLevel3 = asn1.ObjectIdentifier{2, 16, 886, 101, 0, 3, 3}

// CitizenProfile is what a citizen's signing certificate must be: policy level 3,
// digitalSignature, issued by a configured CA, nobody in the path revoked.
// The subject's own rules are ParseCitizen's.
func CitizenProfile() Profile {
	return Profile{
		Name:                  "citizen",
		Policies:              []asn1.ObjectIdentifier{PolicyLevel3},
		KeyUsageAll:           x509.KeyUsageDigitalSignature,
		MaxPath:               4,
		ConfiguredIssuersOnly: true,
		Revocation:            RevocationPath,
	}
}

// CitizenPurpose is what a citizen's card is looked at for. An allowance
// (CheckerConfig.AllowUnknown) is for one of them.
type CitizenPurpose string

// The purposes for which an operator may allow an unknown status.
const (
	ForBinding CitizenPurpose = "binding" // a phone is bound with the card
	ForLogin   CitizenPurpose = "login"   // a phone that the card bound logs in
	ForSigning CitizenPurpose = "signing" // such a phone signs documents
)

// ProfileName is the purpose's key in CheckerConfig.AllowUnknown.
func (p CitizenPurpose) ProfileName() string { return "citizen " + string(p) }

// CitizenProfileFor is CitizenProfile under the purpose's own name.
func CitizenProfileFor(purpose CitizenPurpose) Profile {
	p := CitizenProfile()
	p.Name = purpose.ProfileName()
	return p
}

// SigningProfile is for certificates of document signatures in general: the key
// may sign data or commit to content (RFC 5280 §4.2.1.3).
func SigningProfile() Profile {
	return Profile{
		Name:        "signing",
		KeyUsageAny: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
		Revocation:  RevocationPath,
	}
}

// TimestampProfile is for time-stamp authorities (RFC 3161 §2.3). That the
// extended key usage is critical and alone is checked by package tsp.
func TimestampProfile() Profile {
	return Profile{
		Name:         "timestamp",
		KeyUsageAny:  x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
		ExtKeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
		Revocation:   RevocationPath,
	}
}
