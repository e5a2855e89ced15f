package order

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/gowebpki/jcs"

	"sealgate/internal/passkey"
	"sealgate/internal/signing"
)

// Content is what an order asks, fixed when the order is made and kept as
// RFC 8785 canonical JSON. The phone shows it, the challenge covers it.
type Content struct {
	Version   int             `json:"v"`
	Kind      Kind            `json:"kind"`
	Order     ID              `json:"order"`
	Agency    Party           `json:"agency"`
	Client    Party           `json:"client"`
	Origin    string          `json:"origin"` // the host that asks
	Text      string          `json:"text,omitempty"`
	Data      []string        `json:"data,omitempty"`     // what will be released: scopes
	Level     string          `json:"level,omitempty"`    // of the signatures: signing.LevelB …
	Evidence  string          `json:"evidence,omitempty"` // signing.EvidenceEmbedded: inside each signature too
	Documents []Document      `json:"documents,omitempty"`
	CreatedAt string          `json:"created_at"` // RFC 3339, UTC, milliseconds
	Nonce     string          `json:"nonce"`      // 32 random bytes, base64url
	Request   json.RawMessage `json:"request,omitempty"`
}

// Party is an agency or one of its clients, as shown.
type Party struct {
	ID   string `json:"id"`
	Name Names  `json:"name"`
}

// Document is one thing to be signed, known by its digest.
type Document struct {
	Name            string `json:"name"`
	MediaType       string `json:"media_type"`
	Size            int64  `json:"size"`             // bytes
	DigestAlgorithm string `json:"digest_algorithm"` // SHA-256, SHA-384, SHA-512
	Digest          string `json:"digest"`           // base64url without padding
	// Form of the signature, signing.FormCMS when empty; SignatureAlgorithm is
	// signing.PSS or empty for the key's ordinary one.
	Form               signing.Form `json:"form,omitempty"`
	SignatureAlgorithm string       `json:"signature_algorithm,omitempty"`
	// Earlier is the SHA-256 (base64url) of a signature over the same document
	// that this one joins, if any.
	Earlier string `json:"earlier,omitempty"`
	// EarlierSigners are the names of who signed before, as their certificates say.
	EarlierSigners []string `json:"earlier_signers,omitempty"`
	// EarlierSignature is that signature, for a new order; the content names it only.
	EarlierSignature []byte `json:"-"`
}

// Client is the party that an order is made for.
type Client struct {
	ID          uuid.UUID // our row
	ClientID    string    // its public name
	Name        Names
	AgencyCode  string
	AgencyName  Names
	Host        string
	MinimumACR  string        // the least it accepts; "" for any
	MaxFrameAge time.Duration // 0 for the service's own limits
	// SyncedPasskeys is the client's own rule; "" for the deployment's.
	SyncedPasskeys passkey.SyncedRule
}

// Limits on what an order may carry. A phone must be able to show it all.
const (
	maxText         = 500     // characters
	maxDocumentName = 200     // characters
	maxMediaType    = 100     // bytes
	maxDocumentSize = 1 << 50 // bytes
	maxRequest      = 8 << 10 // bytes
)

// digestSizes lists the digest algorithms that may be signed, with their size in bytes.
var digestSizes = map[string]int{"SHA-256": 32, "SHA-384": 48, "SHA-512": 64}

// newContent builds an order's content; the caller has checked texts and documents.
func newContent(id ID, kind Kind, c Client, now time.Time) Content {
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the program instead
	version := 1
	if kind == Sign {
		version = 2 // the challenge covers the documents by a Merkle tree
	}
	return Content{
		Version:   version,
		Kind:      kind,
		Order:     id,
		Agency:    Party{ID: c.AgencyCode, Name: c.AgencyName},
		Client:    Party{ID: c.ClientID, Name: c.Name},
		Origin:    c.Host,
		CreatedAt: now.UTC().Format("2006-01-02T15:04:05.000Z"),
		Nonce:     base64.RawURLEncoding.EncodeToString(nonce),
	}
}

// canonical gives the RFC 8785 form.
func (c Content) canonical() ([]byte, error) {
	raw, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("order content: %w", err)
	}
	out, err := jcs.Transform(raw)
	if err != nil {
		return nil, fmt.Errorf("order content: %w", err)
	}
	return out, nil
}

// ParseContent reads an order's content back.
func ParseContent(raw []byte) (Content, error) {
	var c Content
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("order content: %w", err)
	}
	return c, nil
}

// Challenge is the WebAuthn challenge of an order, see signing.Challenge.
func (o *Order) Challenge(leftOut []int) [sha256.Size]byte {
	return signing.Challenge(o.Content, leftOut)
}

// DigestCode is the short form of a digest that people compare by eye: its
// first eight hexadecimal digits in two groups.
func (d Document) DigestCode() string {
	raw, err := base64.RawURLEncoding.DecodeString(d.Digest)
	if err != nil || len(raw) < 4 {
		return ""
	}
	h := strings.ToUpper(hex.EncodeToString(raw[:4]))
	return h[:4] + " " + h[4:]
}

// normalize checks a document and brings its digest to the one spelling that
// the content uses. Standard base64 and padding are accepted from clients.
func (d *Document) normalize() error {
	d.Name = strings.TrimSpace(d.Name)
	// A name has one line: a second one could be taken for what we say about the document.
	if strings.Contains(d.Name, "\n") || !shown(d.Name, 1, maxDocumentName) || len(d.MediaType) > maxMediaType ||
		strings.ContainsFunc(d.MediaType, unicode.IsControl) || d.Size < 0 || d.Size > maxDocumentSize {
		return ErrDocuments.With("document", shorten(d.Name))
	}
	if d.MediaType == "" {
		d.MediaType = "application/octet-stream"
	}
	size, known := digestSizes[d.DigestAlgorithm]
	if !known {
		return ErrDigest.With("document", shorten(d.Name))
	}
	text := strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(d.Digest), "=")
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != size {
		return ErrDigest.With("document", shorten(d.Name))
	}
	d.Digest = text
	if d.Form == signing.FormCMS {
		d.Form = "" // one spelling
	}
	form := d.Form
	if form == "" {
		form = signing.FormCMS
	}
	d.Earlier, d.EarlierSigners = "", nil // they follow from the signature itself
	if err := signing.CheckForm(form, d.SignatureAlgorithm, d.EarlierSignature != nil); err != nil {
		return ErrForm.With("document", shorten(d.Name)).Because(err)
	}
	if d.EarlierSignature == nil {
		return nil
	}
	if d.EarlierSigners, err = signing.CheckEarlier(d.EarlierSignature, d.DigestAlgorithm, raw); err != nil {
		return err
	}
	sum := sha256.Sum256(d.EarlierSignature)
	d.Earlier = base64.RawURLEncoding.EncodeToString(sum[:])
	return nil
}

// shown says whether a text can be put before a person safely: valid UTF-8 of
// bounded length without control characters or marks that turn the direction
// of writing (they can make a name look like another one).
func shown(s string, least, most int) bool {
	n := utf8.RuneCountInString(s)
	if n < least || n > most || !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (unicode.IsControl(r) && r != '\n') || unicode.Is(unicode.Bidi_Control, r) ||
			r == '\u200b' || r == '\ufeff' || r == '\u2028' || r == '\u2029'
	})
}

func shorten(s string) string {
	r := []rune(s)
	if len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

// checkLeftOut accepts a strictly rising list of indexes that leaves at least
// one document in.
func checkLeftOut(leftOut []int, documents int) error {
	if len(leftOut) == 0 {
		return nil
	}
	if len(leftOut) >= documents || leftOut[0] < 0 || leftOut[len(leftOut)-1] >= documents {
		return ErrLeftOut
	}
	for i := 1; i < len(leftOut); i++ {
		if leftOut[i] <= leftOut[i-1] {
			return ErrLeftOut
		}
	}
	return nil
}

// acrRank orders what a client may demand.
var acrRank = []string{ACRQR, ACRPHR, ACRPHRH}

// ACRSatisfies says whether a reached acr is at least the demanded one. An
// unknown demand is never met; an empty demand always is.
func ACRSatisfies(reached, demanded string) bool {
	if demanded == "" {
		return true
	}
	d := slices.Index(acrRank, demanded)
	return d >= 0 && slices.Index(acrRank, reached) >= d
}
