package signing

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	_ "crypto/sha512" // SHA-384 and SHA-512 digests are signed too
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"sealgate/internal/fault"
)

// maxDocuments is the most documents one approval may sign, whatever a
// deployment configures.
const maxDocuments = 2000

// The prefixes separate the hashes from each other and from all others.
const (
	challengePrefix  = "sealgate/order/v1\x00"
	leftOutPrefix    = "\x00left-out:"
	challenge2Prefix = "sealgate/order/v2\x00"
	documentsPrefix  = "\x00documents:"
	digestsPrefix    = "sealgate/digests/v2\x00"
	unreadablePrefix = "sealgate/order/unreadable\x00"
)

// ErrContent: an order's content, or the list of what was left out, does not
// say what to sign. Contents are our own, so this is our own mistake.
var ErrContent = fault.New(fault.Internal, "signing_content")

// Challenge is the one definition of the WebAuthn challenge of an order. For a
// content of version 1 (logins, bindings):
//
//	SHA-256("sealgate/order/v1" 0x00 ‖ content ‖ L)
//
// L is empty when nothing was left out, else 0x00 "left-out:" and the decimal
// indexes of the left-out documents joined by commas. For version 2 (documents
// to sign):
//
//	SHA-256("sealgate/order/v2" 0x00 ‖ header ‖ 0x00 "documents:" n ":" ‖ root)
//
// where header is the content with an empty list of documents, n the decimal
// number of documents, and root the RFC 6962 §2.1 Merkle tree hash over them,
// in which the left-out ones are marked (see Inclusion): so one document's
// approval can be proven without showing the others. Content is RFC 8785 JSON and has no zero
// bytes, so no two pairs give the same input. Content of version 2 that cannot
// be read, or does not go with leftOut, has a challenge that nothing verifies.
func Challenge(content []byte, leftOut []int) [32]byte {
	if isV2(content) {
		c, _, err := read(content, leftOut)
		if err != nil {
			return sha256.Sum256(append([]byte(unreadablePrefix), content...))
		}
		return challengeOf(c.header, len(c.leaves), rootOf(c.leaves))
	}
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

// challengeOf is the challenge of version 2.
func challengeOf(header []byte, documents int, root [32]byte) (out [32]byte) {
	h := sha256.New()
	h.Write([]byte(challenge2Prefix))
	h.Write(header)
	h.Write([]byte(documentsPrefix + strconv.Itoa(documents) + ":"))
	h.Write(root[:])
	h.Sum(out[:0])
	return out
}

// DigestsHash names exactly what one approval lets the key sign: SHA-256 over a
// prefix, the order, and number and Merkle root of its documents, each with its
// digest and form and whether it was left out. The approval's transaction
// stores it; the key is given out only to a caller who brings the same.
func DigestsHash(content []byte, leftOut []int) ([32]byte, error) {
	c, _, err := read(content, leftOut)
	if err != nil {
		return [32]byte{}, err
	}
	return c.digestsHash(), nil
}

func (c content) digestsHash() (out [32]byte) {
	h := sha256.New()
	h.Write([]byte(digestsPrefix))
	root := rootOf(c.leaves)
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(c.Order))))
	h.Write([]byte(c.Order))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(c.leaves))))
	h.Write(root[:])
	h.Sum(out[:0])
	return out
}

// content is the part of an order's content that decides what is signed.
type content struct {
	Version   int               `json:"v"`
	Kind      string            `json:"kind"`
	Order     string            `json:"order"`
	Level     string            `json:"level"`
	Evidence  string            `json:"evidence"`
	Documents []json.RawMessage `json:"documents"`
	header    []byte
	leaves    [][]byte // of the Merkle tree, one a document
}

// Document is one thing to sign.
type Document struct {
	Index     int    // place in the order, from 0
	Algorithm string // SHA-256, SHA-384 or SHA-512
	Hash      crypto.Hash
	Digest    []byte
	Form      Form
	PSS       bool   // RSASSA-PSS, where the key is RSA
	Earlier   []byte // SHA-256 of the signature that this one joins; nil for none
}

// Documents lists what an approval of this content covers, without what was
// left out.
func Documents(content []byte, leftOut []int) ([]Document, error) {
	_, documents, err := read(content, leftOut)
	return documents, err
}

var hashes = map[string]crypto.Hash{"SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}

// isV2 looks at the last member: in canonical JSON "v" comes after all others
// that a content has.
func isV2(content []byte) bool { return bytes.HasSuffix(content, []byte(`,"v":2}`)) }

// read parses a sign order's content and lists what was not left out.
func read(raw []byte, leftOut []int) (content, []Document, error) {
	var c content
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, nil, ErrContent.Because(err)
	}
	switch {
	case c.Version != 2 || !isV2(raw):
		return c, nil, ErrContent.Because(fmt.Errorf("content version %d", c.Version))
	case c.Kind != "sign":
		return c, nil, ErrContent.Because(fmt.Errorf("an order of kind %q signs nothing", c.Kind))
	case len(c.Documents) == 0 || len(c.Documents) > maxDocuments:
		return c, nil, ErrContent.Because(fmt.Errorf("%d Documents", len(c.Documents)))
	}
	var err error
	if c.header, err = headerOf(raw); err != nil {
		return c, nil, ErrContent.Because(err)
	}
	documents, err := c.kept(leftOut)
	if err != nil {
		return c, nil, ErrContent.Because(err)
	}
	return c, documents, nil
}

// headerOf is the content with an empty list of documents, every other byte as
// it is.
func headerOf(raw []byte) ([]byte, error) {
	in := json.NewDecoder(bytes.NewReader(raw))
	if t, err := in.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("the content is no object")
	}
	var header []byte
	for in.More() {
		name, err := in.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return nil, err
		}
		if name != "documents" {
			continue
		}
		if header != nil {
			return nil, errors.New("the content names its documents twice")
		}
		end := int(in.InputOffset())
		header = append(header, raw[:end-len(value)]...)
		header = append(header, "[]"...)
		header = append(header, raw[end:]...)
	}
	if header == nil {
		return nil, errors.New("the content names no documents")
	}
	return header, nil
}

// kept lists the documents that are signed, with their digests decoded. leftOut
// must rise strictly and leave at least one document in.
func (c *content) kept(leftOut []int) ([]Document, error) {
	if len(leftOut) >= len(c.Documents) {
		return nil, fmt.Errorf("%d of %d Documents left out", len(leftOut), len(c.Documents))
	}
	out := make([]Document, 0, len(c.Documents)-len(leftOut))
	next := 0
	for i, raw := range c.Documents {
		left := next < len(leftOut) && leftOut[next] == i
		c.leaves = append(c.leaves, leafOf(i, left, raw))
		if left {
			next++
			continue
		}
		d, err := readDocument(i, raw)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", i, err)
		}
		out = append(out, d)
	}
	if next != len(leftOut) {
		return nil, fmt.Errorf("the list of left-out documents %v is not one", leftOut)
	}
	return out, nil
}

// readDocument reads one member of the content's list.
func readDocument(index int, raw json.RawMessage) (Document, error) {
	var d struct {
		Algorithm string `json:"digest_algorithm"`
		Digest    string `json:"digest"`
		Form      Form   `json:"form"`
		Signature string `json:"signature_algorithm"`
		Earlier   string `json:"earlier"`
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return Document{}, err
	}
	strict := base64.RawURLEncoding.Strict()
	out := Document{Index: index, Algorithm: d.Algorithm, Hash: hashes[d.Algorithm], Form: d.Form, PSS: d.Signature == PSS}
	var err error
	if out.Digest, err = strict.DecodeString(d.Digest); err != nil || out.Hash == 0 || len(out.Digest) != out.Hash.Size() {
		return out, errors.New("no digest by a known algorithm")
	}
	if d.Form == "" {
		out.Form = FormCMS
	}
	if err := CheckForm(out.Form, d.Signature, d.Earlier != ""); err != nil {
		return out, err
	}
	if d.Earlier != "" {
		if out.Earlier, err = strict.DecodeString(d.Earlier); err != nil || len(out.Earlier) != sha256.Size {
			return out, errors.New("the earlier signature is not named by its hash")
		}
	}
	return out, nil
}
