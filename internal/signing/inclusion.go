package signing

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"
)

// Marks between a document's place and the document in its leaf.
const (
	markKept    = 0
	markLeftOut = 1
)

// leafOf is the input of a document's leaf in the Merkle tree: the decimal
// place in the order, a mark, and the document as the content has it.
func leafOf(index int, leftOut bool, document []byte) []byte {
	mark := byte(markKept)
	if leftOut {
		mark = markLeftOut
	}
	leaf := append(strconv.AppendInt(nil, int64(index), 10), mark)
	return append(leaf, document...)
}

// tree holds the stored hashes of a Merkle tree (RFC 6962 §2.1).
type tree struct {
	hashes []tlog.Hash
	size   int64
}

func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, n := range indexes {
		if n < 0 || n >= int64(len(t.hashes)) {
			return nil, errors.New("no such hash")
		}
		out[i] = t.hashes[n]
	}
	return out, nil
}

// treeOf makes the tree; the library's errors are its reader's, and this one
// has every hash that is asked for.
func treeOf(leaves [][]byte) *tree {
	t := &tree{}
	for _, leaf := range leaves {
		more, _ := tlog.StoredHashes(t.size, leaf, t)
		t.hashes = append(t.hashes, more...)
		t.size++
	}
	return t
}

func rootOf(leaves [][]byte) [32]byte {
	t := treeOf(leaves)
	root, _ := tlog.TreeHash(t.size, t)
	return root
}

// Inclusion proves that one document was among those that an approval covers,
// without naming the others: header and root give the challenge, and the path
// leads from the document's leaf to the root.
//
//	leaf = SHA-256(0x00 ‖ decimal index ‖ 0x00 ‖ document); 0x01 where it was left out
//	node = SHA-256(0x01 ‖ left ‖ right)
type Inclusion struct {
	// Header is the order's content with an empty list of documents.
	Header []byte
	// Document is the member of the content's list, exactly; Index its place there.
	Document []byte
	Index    int
	// Documents is their number, those that were left out too.
	Documents int
	Root      [32]byte
	Path      [][32]byte // from the leaf's side up (RFC 6962 §2.1.1)
}

// Prove makes the proof for the document at a place of the content.
func Prove(content []byte, leftOut []int, index int) (*Inclusion, error) {
	c, documents, err := read(content, leftOut)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(documents, func(d Document) bool { return d.Index == index }) {
		return nil, ErrContent.Because(fmt.Errorf("document %d is not among those approved", index))
	}
	t := treeOf(c.leaves)
	path, err := tlog.ProveRecord(t.size, int64(index), t)
	if err != nil {
		return nil, ErrContent.Because(err)
	}
	out := &Inclusion{Header: c.header, Document: c.Documents[index], Index: index, Documents: len(c.leaves), Root: rootOf(c.leaves)}
	for _, h := range path {
		out.Path = append(out.Path, h)
	}
	return out, nil
}

// Verify gives the document and the challenge that the approval must have
// signed, when the path leads from the document to the root.
func (p *Inclusion) Verify() (d Document, challenge [32]byte, err error) {
	switch {
	case !isV2(p.Header):
		return d, challenge, errors.New("not the header of a content with documents")
	case p.Documents < 1 || p.Documents > maxDocuments || p.Index < 0 || p.Index >= p.Documents:
		return d, challenge, errors.New("the document's place is out of bounds")
	}
	// The header must be one that Prove makes: of a sign order, with no documents.
	var c content
	if err := json.Unmarshal(p.Header, &c); err != nil || c.Kind != "sign" || c.Documents == nil || len(c.Documents) != 0 {
		return d, challenge, errors.New("not the header of a sign order")
	}
	if header, err := headerOf(p.Header); err != nil || string(header) != string(p.Header) {
		return d, challenge, errors.New("not the header of a sign order")
	}
	if d, err = readDocument(p.Index, p.Document); err != nil {
		return d, challenge, err
	}
	var path tlog.RecordProof
	for _, h := range p.Path {
		path = append(path, h)
	}
	if err := tlog.CheckRecord(path, int64(p.Documents), p.Root, int64(p.Index), tlog.RecordHash(leafOf(p.Index, false, p.Document))); err != nil {
		return d, challenge, errors.New("the path does not lead from the document to the root")
	}
	return d, challengeOf(p.Header, p.Documents, p.Root), nil
}
