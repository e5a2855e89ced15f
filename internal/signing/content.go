package signing

import (
	"crypto"
	"crypto/sha256"
	_ "crypto/sha512" // SHA-384 and SHA-512 digests are signed too
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"sealgate/internal/fault"
)

// maxDocuments is the most documents one approval may sign, whatever a
// deployment configures.
const maxDocuments = 2000

// The prefixes separate the two hashes from each other and from all others.
const (
	challengePrefix = "sealgate/order/v1\x00"
	leftOutPrefix   = "\x00left-out:"
	digestsPrefix   = "sealgate/digests/v1\x00"
)

// ErrContent: an order's content, or the list of what was left out, does not
// say what to sign. Contents are our own, so this is our own mistake.
var ErrContent = fault.New(fault.Internal, "signing_content")

// Challenge is the one definition of the WebAuthn challenge of an order:
//
//	SHA-256("sealgate/order/v1" 0x00 ‖ content ‖ L)
//
// L is empty when nothing was left out, else 0x00 "left-out:" and the decimal
// indexes of the left-out documents joined by commas. Content is RFC 8785
// JSON and has no zero bytes, so no two pairs give the same input.
func Challenge(content []byte, leftOut []int) [32]byte {
	h := sha256.New()
	h.Write([]byte(challengePrefix))
	h.Write(content)
	for i, n := range leftOut {
		sep := ","
		if i == 0 {
			sep = leftOutPrefix
		}
		h.Write([]byte(sep))
		h.Write(strconv.AppendInt(nil, int64(n), 10))
	}
	var out [32]byte
	h.Sum(out[:0])
	return out
}

// DeviceProofChallenge is the WebAuthn challenge of a phone that agrees to one
// more phone of its holder:
//
//	SHA-256("sealgate/device-proof/v1" 0x00 ‖ statement)
//
// The prefix differs from every other challenge's, so that no assertion for one
// thing serves for another.
func DeviceProofChallenge(statement []byte) [32]byte {
	return sha256.Sum256(append([]byte("sealgate/device-proof/v1\x00"), statement...))
}

// AdministratorChallenge is the WebAuthn challenge of an administrator who
// approves a statement, at a step of package console:
//
//	SHA-256("sealgate/console/" ‖ step ‖ "/v1" ‖ 0x00 ‖ nonce ‖ SHA-256(statement))
func AdministratorChallenge(step string, nonce, statement []byte) [32]byte {
	sum := sha256.Sum256(statement)
	return sha256.Sum256(slices.Concat([]byte("sealgate/console/"+step+"/v1\x00"), nonce, sum[:]))
}

// DigestsHash names exactly what one approval lets the key sign: SHA-256 over
// a prefix, the order, and index, algorithm and digest of each document that
// was not left out. The approval's transaction stores it; the key is given out
// only to a caller who brings the same.
func DigestsHash(content []byte, leftOut []int) ([32]byte, error) {
	c, err := parseContent(content)
	if err != nil {
		return [32]byte{}, err
	}
	kept, err := c.kept(leftOut)
	if err != nil {
		return [32]byte{}, err
	}
	return digestsHash(c.Order, kept), nil
}

func digestsHash(order string, documents []document) [32]byte {
	h := sha256.New()
	h.Write([]byte(digestsPrefix))
	part := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		h.Write(b)
	}
	part([]byte(order))
	for _, d := range documents {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(d.index)))
		part([]byte(d.algorithm))
		part(d.digest)
	}
	var out [32]byte
	h.Sum(out[:0])
	return out
}

// content is the part of an order's content that decides what is signed.
type content struct {
	Version   int    `json:"v"`
	Kind      string `json:"kind"`
	Order     string `json:"order"`
	Documents []struct {
		Algorithm string `json:"digest_algorithm"`
		Digest    string `json:"digest"`
	} `json:"documents"`
}

// document is one digest to sign.
type document struct {
	index     int // place in the order, from 0
	algorithm string
	hash      crypto.Hash
	digest    []byte
}

var hashes = map[string]crypto.Hash{"SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}

func parseContent(raw []byte) (content, error) {
	var c content
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, ErrContent.Because(err)
	}
	switch {
	case c.Version != 1:
		return c, ErrContent.Because(fmt.Errorf("content version %d", c.Version))
	case c.Kind != "sign":
		return c, ErrContent.Because(fmt.Errorf("an order of kind %q signs nothing", c.Kind))
	case len(c.Documents) == 0 || len(c.Documents) > maxDocuments:
		return c, ErrContent.Because(fmt.Errorf("%d documents", len(c.Documents)))
	}
	return c, nil
}

// kept lists the documents that are signed, with their digests decoded. leftOut
// must rise strictly and leave at least one document in.
func (c content) kept(leftOut []int) ([]document, error) {
	if len(leftOut) >= len(c.Documents) {
		return nil, ErrContent.Because(fmt.Errorf("%d of %d documents left out", len(leftOut), len(c.Documents)))
	}
	out := make([]document, 0, len(c.Documents)-len(leftOut))
	next := 0
	for i, d := range c.Documents {
		if next < len(leftOut) && leftOut[next] == i {
			next++
			continue
		}
		hash, known := hashes[d.Algorithm]
		digest, err := base64.RawURLEncoding.Strict().DecodeString(d.Digest)
		if !known || err != nil || len(digest) != hash.Size() {
			return nil, ErrContent.Because(fmt.Errorf("document %d: no digest by a known algorithm", i))
		}
		out = append(out, document{index: i, algorithm: d.Algorithm, hash: hash, digest: digest})
	}
	if next != len(leftOut) {
		return nil, ErrContent.Because(fmt.Errorf("the list of left-out documents %v is not one", leftOut))
	}
	return out, nil
}
