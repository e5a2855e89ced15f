// Package merkle lets one approval stand for a list of documents, and each of its
// signatures prove alone that its document was on the list.
//
// The tree is that of RFC 6962 §2.1 with SHA-256. A leaf says the document's place,
// name, size and digest, under a prefix that no other hash of ours has; one that
// was left out on the phone has another prefix, so that the root also says what was
// not approved, and places stay as they were in the request.
package merkle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// MaxDocuments bounds a list, MaxName the octets of a name.
const (
	MaxDocuments = 1 << 12
	MaxName      = 1 << 10
)

// Prefixes of leaves.
const (
	prefixApproved = "sealgate/batch-document/v1\x00"
	prefixLeftOut  = "sealgate/batch-left-out/v1\x00"
)

// Size of a root or an inner hash, in octets.
const Size = tlog.HashSize

// Document is one entry of the list.
type Document struct {
	Name      string
	Size      int64
	Algorithm string // as in the order's content, e.g. "sha-256"
	Digest    []byte
	LeftOut   bool
}

// data is what the leaf hash is over: each part after its length, so that no two
// documents give the same octets. The list's length is among them, since the root of
// RFC 6962 alone does not commit to it.
func (d Document) data(index, count int) ([]byte, error) {
	if index < 0 || index >= count || count > MaxDocuments || len(d.Name) > MaxName || d.Size < 0 ||
		len(d.Algorithm) == 0 || len(d.Algorithm) > 64 || len(d.Digest) < 32 || len(d.Digest) > 64 {
		return nil, fmt.Errorf("merkle: document %d cannot be in a list", index)
	}
	prefix := prefixApproved
	if d.LeftOut {
		prefix = prefixLeftOut
	}
	b := binary.BigEndian.AppendUint32([]byte(prefix), uint32(index))
	b = binary.BigEndian.AppendUint32(b, uint32(count))
	b = part(b, []byte(d.Name))
	b = binary.BigEndian.AppendUint64(b, uint64(d.Size))
	b = part(b, []byte(d.Algorithm))
	return part(b, d.Digest), nil
}

func part(b, p []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
}

// Tree is the tree over a list. It is immutable.
type Tree struct {
	count  int64
	stored hashes
	root   tlog.Hash
}

// hashes holds a tree in the order of tlog.StoredHashIndex.
type hashes []tlog.Hash

// ReadHashes implements tlog.HashReader.
func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		if at < 0 || at >= int64(len(h)) {
			return nil, errors.New("merkle: no such hash")
		}
		out[i] = h[at]
	}
	return out, nil
}

// New makes the tree over a list of 1 to MaxDocuments documents.
func New(list []Document) (*Tree, error) {
	if len(list) == 0 || len(list) > MaxDocuments {
		return nil, fmt.Errorf("merkle: a list of %d documents", len(list))
	}
	t := &Tree{count: int64(len(list))}
	for i, d := range list {
		data, err := d.data(i, len(list))
		if err != nil {
			return nil, err
		}
		more, err := tlog.StoredHashes(int64(i), data, t.stored)
		if err != nil {
			return nil, err
		}
		t.stored = append(t.stored, more...)
	}
	var err error
	t.root, err = tlog.TreeHash(t.count, t.stored)
	return t, err
}

// Root is what an approval covers.
func (t *Tree) Root() []byte { return bytes.Clone(t.root[:]) }

// Proof shows that a document is at one place of a list (RFC 6962 §2.1.1).
type Proof struct {
	Index, Count int
	Path         [][Size]byte // from the leaf's sibling up
}

// Prove makes the proof for the document at index.
func (t *Tree) Prove(index int) (Proof, error) {
	if index < 0 || int64(index) >= t.count {
		return Proof{}, fmt.Errorf("merkle: no document %d", index)
	}
	path, err := tlog.ProveRecord(t.count, int64(index), t.stored)
	p := Proof{Index: index, Count: int(t.count)}
	for _, h := range path {
		p.Path = append(p.Path, h)
	}
	return p, err
}

// Verify tells whether root is over a list with this document, as it is given,
// LeftOut included, at the proof's place.
func Verify(root []byte, d Document, p Proof) error {
	if len(root) != Size || p.Count < 1 || p.Count > MaxDocuments || p.Index < 0 || p.Index >= p.Count {
		return errors.New("merkle: malformed root or proof")
	}
	data, err := d.data(p.Index, p.Count)
	if err != nil {
		return err
	}
	path := make(tlog.RecordProof, len(p.Path))
	for i, h := range p.Path {
		path[i] = h
	}
	return tlog.CheckRecord(path, int64(p.Count), tlog.Hash(root), int64(p.Index), tlog.RecordHash(data))
}

// Marshal encodes a proof: version 1, index and count in four octets each, the
// path's hashes.
func (p Proof) Marshal() []byte {
	b := []byte{1}
	b = binary.BigEndian.AppendUint32(b, uint32(p.Index))
	b = binary.BigEndian.AppendUint32(b, uint32(p.Count))
	for _, h := range p.Path {
		b = append(b, h[:]...)
	}
	return b
}

// ParseProof reads what Marshal makes.
func ParseProof(b []byte) (Proof, error) {
	bad := errors.New("merkle: malformed proof")
	if len(b) < 9 || b[0] != 1 || (len(b)-9)%Size != 0 || (len(b)-9)/Size > 12 {
		return Proof{}, bad
	}
	index, count := binary.BigEndian.Uint32(b[1:]), binary.BigEndian.Uint32(b[5:])
	if count < 1 || count > MaxDocuments || index >= count {
		return Proof{}, bad
	}
	p := Proof{Index: int(index), Count: int(count)}
	for b = b[9:]; len(b) > 0; b = b[Size:] {
		p.Path = append(p.Path, [Size]byte(b))
	}
	return p, nil
}
