package sigverify

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"io"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/tsp"
)

// Container is a file format that holds signatures: PDF, XML. Open reads a file
// that Detect has recognised by its first bytes (at most 1024).
type Container struct {
	Name   string
	Detect func(head []byte) bool
	Open   func(ctx context.Context, file io.ReaderAt, size int64, content Content) (*Opened, error)
}

// Opened is what a Container found. Each list may be empty.
type Opened struct {
	// CMS are signatures in CMS over parts of the file.
	CMS []Embedded
	// Found are signatures of the format's own kind, hash and value checked.
	Found []Found
	// Tokens are time-stamps over the whole of what lies before them. It proves
	// the signature values, tokens and evidence inside.
	Tokens []Token
	// Certificates and Evidence are validation data of the container.
	Certificates []*x509.Certificate
	Evidence     []certpath.StoredEvidence
}

// Embedded is a CMS inside a container.
type Embedded struct {
	CMS   []byte
	Scope Scope // Kind, Ranges, Whole
	// Digest hashes what is covered.
	Digest func(ctx context.Context, hash crypto.Hash) ([]byte, error)
	// Checks are the container's own, e.g. about what was added later.
	Checks      []Check
	ClaimedTime time.Time // of the container, where the CMS has none
	// ByDigest: Digest only repeats what the caller says; the content itself has
	// not gone through our hands.
	ByDigest bool
}

// Found is one signature whose hash and value its format's own reader has
// checked. What it says about trust and time is still to be judged.
type Found struct {
	Scope Scope
	// Certificate is the signer's, nil when it was not found.
	Certificate  *x509.Certificate
	Certificates []*x509.Certificate // others that came along
	Digest       crypto.Hash
	Scheme       string // "rsa-pkcs1", "rsa-pss", "ecdsa", "ed25519"
	Value        []byte // the signature value
	ClaimedTime  time.Time
	// Level is the baseline level by structure: "", B, T, LT, LTA.
	Level string
	// Checks are those made; a failed one must have a sub-indication.
	Checks   []Check
	Tokens   []Token
	Evidence []certpath.StoredEvidence
	Counter  []Found
	approval []byte // evidence.Bundle that the signature carries
}

// Token is a time-stamp token that was found, not yet judged.
type Token struct {
	Kind string // ProofSignatureTimestamp etc.
	Raw  []byte
	// Verify checks imprint and signature and gives the authority's certificate,
	// others that came along, what the token says, and the objects that it proves
	// to have existed.
	Verify func() (Stamp, []Object, error)
}

// Stamp is a time-stamp token whose imprint and signature are right.
type Stamp struct {
	Certificate *x509.Certificate
	Extra       []*x509.Certificate
	Info        *tsp.Info
}

// Object names something whose existence is proven: a signature value, a token,
// revocation data, by the SHA-256 of its bytes.
type Object [sha256.Size]byte

// ObjectOf names raw.
func ObjectOf(raw []byte) Object { return sha256.Sum256(raw) }
