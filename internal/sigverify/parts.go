package sigverify

import (
	"bytes"
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"sealgate/internal/pades"
	"sealgate/internal/tsp"
)

// Parts is a PDF that whoever has it has taken apart where it lies, so that it
// need not be sent: its signatures, what each covers and the digests of that. The
// report says that all this is as told.
type Parts struct {
	Bytes      int64
	SHA256     []byte
	Signatures []Part
}

// Part is one signature of Parts, in the order of what they cover.
type Part struct {
	Type      string // Sig or DocTimeStamp
	CMS       []byte
	ByteRange [4]int64
	Digests   map[crypto.Hash][]byte
	// Later names what was added to the document after it, as pades.Change does.
	Later string
	Time  time.Time
	// Broken: it does not cover what a signature must cover.
	Broken bool
}

// maxPartBytes bounds all signature values of Parts together.
const maxPartBytes = MaxSignatureBytes

var changes = []pades.Change{pades.NoChange, pades.SignaturesAdded, pades.PicturesAdded, pades.OtherChanges}

func (p *Parts) open(ctx context.Context, report *Report) (*Opened, error) {
	list, err := p.list()
	if err != nil {
		return nil, err
	}
	report.Input = Input{Format: "pdf", Bytes: p.Bytes, SHA256: hex.EncodeToString(p.SHA256), Content: "digests"}
	report.Checks = append(report.Checks, Check{CheckScope, Warning, "", "the document stayed with who asks: ranges, digests and later changes are as told"})
	o := openedPDF(ctx, list, func(_ context.Context, i int, h crypto.Hash) ([]byte, error) { return p.Signatures[i].Digests[h], nil })
	for i := range o.CMS {
		o.CMS[i].ByDigest = true
	}
	return o, nil
}

// list checks what was told and gives it as package pades would.
func (p *Parts) list() ([]pades.Signature, error) {
	if len(p.Signatures) > maxSignatures || len(p.SHA256) != crypto.SHA256.Size() {
		return nil, ErrRequest.Because(errors.New("too many parts, or no digest of the document"))
	}
	var out []pades.Signature
	total := 0
	for _, s := range p.Signatures {
		r := s.ByteRange
		later := slices.IndexFunc(changes, func(c pades.Change) bool { return c.String() == s.Later })
		whole := r[2]+r[3] == p.Bytes
		sound := r[0] == 0 && r[1] > 0 && r[2] > r[1] && r[3] >= 0 && r[2] <= p.Bytes && r[3] <= p.Bytes-r[2]
		if total += len(s.CMS); total > maxPartBytes || later < 0 || !s.Broken && (!sound || whole != (changes[later] == pades.NoChange)) {
			return nil, ErrRequest.Because(errors.New("parts that no document can have"))
		}
		for h, d := range s.Digests {
			if !slices.Contains(known, h) || len(d) != h.Size() {
				return nil, ErrRequest.Because(errors.New("a digest of another length than its algorithm's"))
			}
		}
		one := pades.Signature{Type: s.Type, ByteRange: r, Contents: s.CMS, Time: s.Time, CoversWholeFile: whole, Later: changes[later]}
		if s.Broken {
			one.Err = pades.ErrByteRange
		}
		out = append(out, one)
	}
	return out, nil
}

// Wants is what a verification needs beside the signature file.
type Wants struct {
	Format   string // cms, pdf, xmldsig
	Attached bool   // the content is inside
	// Digests of the content of a detached signature.
	Digests []crypto.Hash
	// Whole: a signature is straight over the content, and a digest will not do.
	Whole bool
	// Files are those that an XML signature refers to.
	Files []WantedFile
	// Parts are the digests for each part, in their order.
	Parts [][]crypto.Hash
}

// WantedFile is a file that lies elsewhere.
type WantedFile struct {
	URI  string
	Hash crypto.Hash
}

// maxWantedFiles bounds the list.
const maxWantedFiles = 1000

// Ask tells what the verification of r will need. It judges nothing. The error is
// a fault: the file is no signature, or is too large.
func (v *Verifier) Ask(ctx context.Context, r Request) (Wants, error) {
	if r.Parts != nil {
		return r.Parts.wants()
	}
	head := r.Signature[:min(len(r.Signature), headBytes)]
	for _, c := range v.cfg.Containers {
		if c.Detect(head) {
			w := Wants{Format: c.Name}
			_, err := c.Open(ctx, bytes.NewReader(r.Signature), int64(len(r.Signature)), Content{Files: func(uri string, h crypto.Hash) ([]byte, error) {
				f := WantedFile{uri, h}
				if len(w.Files) < maxWantedFiles && !slices.Contains(w.Files, f) {
					w.Files = append(w.Files, f)
				}
				return nil, nil
			}})
			return w, err
		}
	}
	sd, err := readCMS(r.Signature)
	if err != nil {
		return Wants{}, err
	}
	w := Wants{Format: "cms", Attached: sd.Attached, Digests: needs(sd)}
	for _, si := range sd.Signers {
		w.Whole = w.Whole || si.SignedBytes() == nil
	}
	return w, nil
}

func (p *Parts) wants() (Wants, error) {
	w := Wants{Format: "pdf", Parts: [][]crypto.Hash{}}
	for _, s := range p.Signatures {
		var list []crypto.Hash
		if s.Type == typeDocumentTimestamp {
			if token, err := tsp.ParseToken(s.CMS); err == nil && slices.Contains(known, token.Info.Imprint.Hash) {
				list = append(list, token.Info.Imprint.Hash)
			}
		} else if sd, err := readCMS(s.CMS); err == nil {
			list = needs(sd)
			for _, si := range sd.Signers {
				w.Whole = w.Whole || si.SignedBytes() == nil
			}
		}
		w.Parts = append(w.Parts, list)
	}
	return w, nil
}
