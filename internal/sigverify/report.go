package sigverify

import "time"

// Indication is the outcome for one signature, or for all (EN 319 102-1 §5.1.3).
type Indication string

// The three outcomes.
const (
	TotalPassed   Indication = "TOTAL-PASSED"
	TotalFailed   Indication = "TOTAL-FAILED"
	Indeterminate Indication = "INDETERMINATE"
)

// SubIndication says why an outcome is not TOTAL-PASSED (EN 319 102-1 §5.1.3).
type SubIndication string

// Sub-indications of TOTAL-FAILED. Those of the certificate need proof that the
// signature is younger than what is wrong; without it they are the _NO_POE ones.
const (
	FormatFailure    SubIndication = "FORMAT_FAILURE"
	HashFailure      SubIndication = "HASH_FAILURE"
	SigCryptoFailure SubIndication = "SIG_CRYPTO_FAILURE"
	Revoked          SubIndication = "REVOKED"
	Expired          SubIndication = "EXPIRED"
	NotYetValid      SubIndication = "NOT_YET_VALID"
)

// Sub-indications of INDETERMINATE.
const (
	SigConstraintsFailure      SubIndication = "SIG_CONSTRAINTS_FAILURE"
	ChainConstraintsFailure    SubIndication = "CHAIN_CONSTRAINTS_FAILURE"
	ChainGeneralFailure        SubIndication = "CERTIFICATE_CHAIN_GENERAL_FAILURE"
	CryptoConstraintsFailure   SubIndication = "CRYPTO_CONSTRAINTS_FAILURE"
	CryptoConstraintsNoPOE     SubIndication = "CRYPTO_CONSTRAINTS_FAILURE_NO_POE"
	NoSigningCertificateFound  SubIndication = "NO_SIGNING_CERTIFICATE_FOUND"
	NoCertificateChainFound    SubIndication = "NO_CERTIFICATE_CHAIN_FOUND"
	RevokedNoPOE               SubIndication = "REVOKED_NO_POE"
	RevokedCANoPOE             SubIndication = "REVOKED_CA_NO_POE"
	OutOfBoundsNoPOE           SubIndication = "OUT_OF_BOUNDS_NO_POE"
	RevocationOutOfBoundsNoPOE SubIndication = "REVOCATION_OUT_OF_BOUNDS_NO_POE"
	TimestampOrderFailure      SubIndication = "TIMESTAMP_ORDER_FAILURE"
	TryLater                   SubIndication = "TRY_LATER"
	SignedDataNotFound         SubIndication = "SIGNED_DATA_NOT_FOUND"
	NoSignature                SubIndication = "NO_SIGNATURE" // ours: nothing here is a signature
)

// total tells whether a sub-indication means TOTAL-FAILED.
func (s SubIndication) total() bool {
	switch s {
	case FormatFailure, HashFailure, SigCryptoFailure, Revoked, Expired, NotYetValid:
		return true
	}
	return false
}

// indication is the outcome that a sub-indication stands below.
func (s SubIndication) indication() Indication {
	switch {
	case s == "":
		return TotalPassed
	case s.total():
		return TotalFailed
	}
	return Indeterminate
}

// Type names the report's format and its version.
const Type = "sealgate.verification/1"

// Report is the one model of a verification; the simple report, the page and the
// JSON are renderings of it. It names persons: it must not reach a log.
type Report struct {
	Type string `json:"type"`
	// Indication is TOTAL-PASSED only if that of each signature is, counter
	// signatures included. SubIndication is that of the first one that is worst.
	Indication    Indication    `json:"indication"`
	SubIndication SubIndication `json:"sub_indication,omitempty"`
	// ValidationTime is the time for which the question was asked.
	ValidationTime time.Time   `json:"validation_time"`
	Input          Input       `json:"input"`
	Signatures     []Signature `json:"signatures"`
	// Evidence is what the approval evidence that came along says, if it was
	// asked about.
	Evidence *EvidenceReport `json:"evidence,omitempty"`
	// Checks are those that concern the whole.
	Checks []Check `json:"checks"`
}

// Input says what was verified.
type Input struct {
	Format string `json:"format"` // cms, pdf, xmldsig
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // of the signature file, hex
	// Content tells how the signed content was had: attached, digests, content.
	Content string `json:"content,omitempty"`
	// Digests of the content that were compared, hex by algorithm.
	Digests map[string]string `json:"digests,omitempty"`
}

// Signature is what one signature turned out to be.
type Signature struct {
	Index int `json:"index"`
	// CounterOf is the signature that this one countersigns.
	CounterOf     *int          `json:"counter_of,omitempty"`
	Indication    Indication    `json:"indication"`
	SubIndication SubIndication `json:"sub_indication,omitempty"`
	// Level is the baseline level that the signature has and that holds: B, T, LT,
	// LTA (EN 319 122-1 §6); empty for a signature below B.
	Level      string     `json:"level,omitempty"`
	Scope      Scope      `json:"scope"`
	Signer     *Identity  `json:"signer,omitempty"`
	Algorithms Algorithms `json:"algorithms"`
	// ClaimedTime is what the signer says; nothing proves it.
	ClaimedTime time.Time `json:"claimed_time,omitzero"`
	// ProvenTime is the earliest time at which the signature is proven to have
	// existed, for which its certificate was judged; the first of Proofs.
	ProvenTime time.Time `json:"proven_time,omitzero"`
	Proofs     []Proof   `json:"proofs"`
	// Chain has the signing certificate first and the anchor last, as far as found.
	Chain      []Certificate `json:"chain"`
	Revocation []Revocation  `json:"revocation"`
	Timestamps []Timestamp   `json:"timestamps"`
	Checks     []Check       `json:"checks"`
}

// ScopeKind says what kind of thing is covered.
type ScopeKind string

// The kinds of scope.
const (
	ScopeDetached  ScopeKind = "detached"  // content outside, by its digest
	ScopeAttached  ScopeKind = "attached"  // content inside the signature file
	ScopeSignature ScopeKind = "signature" // another signature's value
	ScopeRanges    ScopeKind = "ranges"    // byte ranges of the file, as in PDF
	ScopeXML       ScopeKind = "references"
)

// Scope is what exactly the signature covers.
type Scope struct {
	Kind ScopeKind `json:"kind"`
	// Whole tells that nothing of the file lies outside, the signature itself apart.
	Whole      bool        `json:"whole"`
	MediaType  string      `json:"content_type,omitempty"` // object identifier of the content type
	Bytes      int64       `json:"bytes,omitempty"`        // when known
	Digest     *Digest     `json:"digest,omitempty"`
	Ranges     []Range     `json:"ranges,omitempty"`
	References []Reference `json:"references,omitempty"`
}

// Digest is a hash with its algorithm's name, hex.
type Digest struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"value"`
}

// Range is a part of a file, in bytes.
type Range struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// Reference is one reference of an XML signature.
type Reference struct {
	URI    string  `json:"uri"`
	Digest *Digest `json:"digest,omitempty"`
	// Covered says in English what the reference points at.
	Covered string `json:"covered,omitempty"`
}

// Identity is who the signing certificate says has signed.
type Identity struct {
	Name         string `json:"name,omitempty"` // common name
	Organization string `json:"organization,omitempty"`
	Unit         string `json:"unit,omitempty"`
	Country      string `json:"country,omitempty"`
	// IDLast4, Kind and CardType are there for certificates of the citizen profile.
	IDLast4  string `json:"id_last4,omitempty"`
	Kind     string `json:"kind,omitempty"`      // citizen, resident, person, organization
	CardType string `json:"card_type,omitempty"` // card, or as written: mobile
	Issuer   string `json:"issuer"`
	Serial   string `json:"serial"` // hex
}

// Algorithms are those of the signature itself.
type Algorithms struct {
	Digest    string `json:"digest,omitempty"`
	Signature string `json:"signature,omitempty"`
	Key       string `json:"key,omitempty"` // "RSA 2048", "P-256"
}

// Where a proof of existence comes from.
const (
	ProofSignatureTimestamp = "signature-time-stamp"
	ProofArchiveTimestamp   = "archive-time-stamp"
	ProofDocumentTimestamp  = "document-time-stamp"
	ProofContentTimestamp   = "content-time-stamp" // earliest, not latest: the signature is younger
	ProofRecord             = "record"             // somebody's own record, given to Verify
)

// Proof is a proof of existence: the signature was there at Time, or, when
// NotBefore is set, was not yet there.
type Proof struct {
	Time      time.Time `json:"time"`
	Source    string    `json:"source"`
	NotBefore bool      `json:"not_before,omitempty"`
	Timestamp *int      `json:"timestamp,omitempty"` // its index in Timestamps
	Note      string    `json:"note,omitempty"`
}

// Certificate is one certificate of a path.
type Certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"` // hex
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Key       string    `json:"key"`
	SHA256    string    `json:"sha256"` // hex
	Anchor    bool      `json:"anchor,omitempty"`
}

// Where revocation data comes from.
const (
	FromSignature = "signature" // embedded in the signature
	FromRequest   = "request"   // given by who asked
	FromOnline    = "online"    // asked for now
)

// Revocation is one answer that the verdict rests on.
type Revocation struct {
	Certificate string    `json:"certificate"` // SHA-256, hex
	Source      string    `json:"source"`      // ocsp or crl
	From        string    `json:"from"`
	URL         string    `json:"url,omitempty"`
	Status      string    `json:"status"`
	ThisUpdate  time.Time `json:"this_update"`
	NextUpdate  time.Time `json:"next_update,omitzero"`
	RevokedAt   time.Time `json:"revoked_at,omitzero"`
	Reason      string    `json:"reason,omitempty"`
	// ProvenTime is when this answer is proven to have existed.
	ProvenTime time.Time `json:"proven_time"`
	SHA256     string    `json:"sha256"`
}

// Timestamp is one RFC 3161 token found in the signature.
type Timestamp struct {
	Kind          string        `json:"kind"` // signature-time-stamp etc.
	Indication    Indication    `json:"indication"`
	SubIndication SubIndication `json:"sub_indication,omitempty"`
	Time          time.Time     `json:"time,omitzero"`
	Accuracy      string        `json:"accuracy,omitempty"`
	Policy        string        `json:"policy,omitempty"`
	Authority     string        `json:"authority,omitempty"`
	Serial        string        `json:"serial,omitempty"`
	Imprint       *Digest       `json:"imprint,omitempty"`
	// JudgedAt is the time its certificate was judged for: when the token is proven
	// to have existed.
	JudgedAt   time.Time     `json:"judged_at,omitzero"`
	Chain      []Certificate `json:"chain"`
	Revocation []Revocation  `json:"revocation"`
	Checks     []Check       `json:"checks"`
}

// Outcome of a check.
type Outcome string

// The outcomes of checks. A warning does not change the verdict.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Unknown Outcome = "unknown"
	Warning Outcome = "warning"
	Skipped Outcome = "skipped" // not made, because of another one or because there is nothing to check
)

// The names of checks, in the order of reports.
const (
	CheckFormat      = "format"
	CheckSigner      = "signing_certificate"
	CheckAlgorithms  = "algorithms"
	CheckAttributes  = "signed_attributes"
	CheckContent     = "content"
	CheckSignature   = "signature_value"
	CheckReference   = "certificate_reference"
	CheckTimestamps  = "time_stamps"
	CheckChain       = "certificate_chain"
	CheckValidity    = "certificate_validity"
	CheckRevocation  = "revocation"
	CheckConstraints = "cryptographic_constraints"
	CheckProofOfTime = "proof_of_existence"
	CheckScope       = "scope"
	CheckEvidence    = "approval_evidence"
	CheckClaimedTime = "claimed_time"
	CheckImprint     = "imprint"
)

// Check is one named step with its outcome. Reason is English, for experts.
type Check struct {
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	// SubIndication is what this check alone would mean.
	SubIndication SubIndication `json:"sub_indication,omitempty"`
	Reason        string        `json:"reason,omitempty"`
}

// EvidenceReport is the verdict of package evidence on the approval.
type EvidenceReport struct {
	From    string         `json:"from"` // signature or request
	Verdict string         `json:"verdict"`
	Order   string         `json:"order,omitempty"`
	Links   []EvidenceLink `json:"links"`
}

// EvidenceLink is one link of the chain from card to document.
type EvidenceLink struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Reason string `json:"reason"`
}
