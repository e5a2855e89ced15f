// Package signing makes signatures from approvals: an approval of exactly
// these digests lets the citizen's key sign them, once.
package signing

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"strconv"

	"github.com/gowebpki/jcs"
)

// challengePrefix separates the WebAuthn challenge of an order from every
// other use of SHA-256.
const challengePrefix = "sealgate/order/v1\x00"

// Challenge is the WebAuthn challenge of an order: SHA-256 over a
// domain-separating prefix, the order's canonical content and, where the
// person left documents out, their indexes. The content is one JSON object, so
// the list behind it cannot be mistaken for content.
func Challenge(content []byte, leftOut []int) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(challengePrefix))
	h.Write(content)
	if len(leftOut) > 0 {
		list := []byte("\x00left-out:")
		for i, n := range leftOut {
			if i > 0 {
				list = append(list, ',')
			}
			list = strconv.AppendInt(list, int64(n), 10)
		}
		h.Write(list)
	}
	var out [sha256.Size]byte
	h.Sum(out[:0])
	return out
}

// DigestsHash is SHA-256 over the canonical list of the digests that an
// approval covers: what was asked less what was left out, in order.
func DigestsHash(content []byte, leftOut []int) ([sha256.Size]byte, error) {
	var c struct {
		Documents []struct {
			DigestAlgorithm string `json:"digest_algorithm"`
			Digest          string `json:"digest"`
		} `json:"documents"`
	}
	if err := json.Unmarshal(content, &c); err != nil {
		return [sha256.Size]byte{}, err
	}
	type item struct {
		Index     int    `json:"index"`
		Algorithm string `json:"digest_algorithm"`
		Digest    string `json:"digest"`
	}
	var kept []item
	for i, d := range c.Documents {
		if !slices.Contains(leftOut, i) {
			kept = append(kept, item{i, d.DigestAlgorithm, d.Digest})
		}
	}
	if len(kept) == 0 {
		return [sha256.Size]byte{}, errors.New("signing: no documents are left to sign")
	}
	raw, err := json.Marshal(kept)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	raw, err = jcs.Transform(raw)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(append([]byte("sealgate/digests/v1\x00"), raw...)), nil
}
