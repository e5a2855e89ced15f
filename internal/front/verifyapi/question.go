package verifyapi

import (
	"bytes"
	"crypto"
	"errors"
	"time"

	"sealgate/internal/sigverify"
)

// question is the body of both calls. Bytes are base64 (RFC 4648 §4).
type question struct {
	Signature []byte            `json:"signature"`
	PDF       *pdf              `json:"pdf"`
	Digests   map[string][]byte `json:"digests"`
	Content   []byte            `json:"content"`
	Files     []file            `json:"files"`
	Evidence  []byte            `json:"evidence"`
	At        *time.Time        `json:"at"`
}

// file is the digest of a file that an XML signature refers to.
type file struct {
	URI       string `json:"uri"`
	Algorithm string `json:"algorithm"`
	Digest    []byte `json:"digest"`
}

// pdf is a PDF that was taken apart where it lies.
type pdf struct {
	Bytes      int64  `json:"bytes"`
	SHA256     []byte `json:"sha256"`
	Signatures []part `json:"signatures"`
}

type part struct {
	Type      string            `json:"type"`
	CMS       []byte            `json:"cms"`
	ByteRange [4]int64          `json:"byte_range"`
	Digests   map[string][]byte `json:"digests"`
	Later     string            `json:"later"`
	Time      *time.Time        `json:"time"`
	Broken    bool              `json:"broken"`
}

var errQuestion = errors.New("verifyapi: exactly one of signature and pdf; algorithms that are known")

// request turns the body into what is judged.
func (q question) request() (sigverify.Request, error) {
	r := sigverify.Request{Signature: q.Signature}
	if (len(q.Signature) > 0) == (q.PDF != nil) || len(q.Digests) > 0 && len(q.Content) > 0 {
		return r, sigverify.ErrRequest.Because(errQuestion)
	}
	if q.At != nil {
		r.At = *q.At
	}
	var err error
	if r.Content.Digests, err = digests(q.Digests); err != nil {
		return r, err
	}
	if len(q.Content) > 0 {
		r.Content.Reader = bytes.NewReader(q.Content)
	}
	if r.Content.Files, err = files(q.Files); err != nil || q.PDF == nil {
		return r, err
	}
	r.Parts = &sigverify.Parts{Bytes: q.PDF.Bytes, SHA256: q.PDF.SHA256}
	for _, s := range q.PDF.Signatures {
		p := sigverify.Part{Type: s.Type, CMS: s.CMS, ByteRange: s.ByteRange, Later: s.Later, Broken: s.Broken}
		if s.Time != nil {
			p.Time = *s.Time
		}
		if p.Digests, err = digests(s.Digests); err != nil {
			return r, err
		}
		r.Parts.Signatures = append(r.Parts.Signatures, p)
	}
	return r, nil
}

// algorithms are the digests that anybody may send, by name.
var algorithms = map[string]crypto.Hash{"SHA-1": crypto.SHA1, "SHA-224": crypto.SHA224, "SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}

func digests(named map[string][]byte) (map[crypto.Hash][]byte, error) {
	out := make(map[crypto.Hash][]byte, len(named))
	for name, d := range named {
		h, ok := algorithms[name]
		if !ok || len(d) != h.Size() {
			return nil, sigverify.ErrRequest.Because(errQuestion)
		}
		out[h] = d
	}
	return out, nil
}

// files answers by what was sent; a file that was not sent is not at hand.
func files(list []file) (func(string, crypto.Hash) ([]byte, error), error) {
	type key struct {
		uri  string
		hash crypto.Hash
	}
	sent := map[key][]byte{}
	for _, f := range list {
		h, ok := algorithms[f.Algorithm]
		if !ok || len(f.Digest) != h.Size() || len(list) > 1000 {
			return nil, sigverify.ErrRequest.Because(errQuestion)
		}
		sent[key{f.URI, h}] = f.Digest
	}
	return func(uri string, h crypto.Hash) ([]byte, error) { return sent[key{uri, h}], nil }, nil
}

// needs is the answer to POST /verifications/needs.
type needs struct {
	Format   string       `json:"format"`
	Attached bool         `json:"attached"`
	Whole    bool         `json:"whole"`
	Digests  []string     `json:"digests"`
	Files    []neededFile `json:"files"`
	Parts    [][]string   `json:"parts"`
}

type neededFile struct {
	URI       string `json:"uri"`
	Algorithm string `json:"algorithm"`
}

func needsOf(w sigverify.Wants) needs {
	n := needs{Format: w.Format, Attached: w.Attached, Whole: w.Whole, Digests: names(w.Digests), Files: []neededFile{}, Parts: [][]string{}}
	for _, f := range w.Files {
		n.Files = append(n.Files, neededFile{f.URI, f.Hash.String()})
	}
	for _, p := range w.Parts {
		n.Parts = append(n.Parts, names(p))
	}
	return n
}

func names(hashes []crypto.Hash) []string {
	out := []string{}
	for _, h := range hashes {
		out = append(out, h.String())
	}
	return out
}

// answer is what POST /verifications gives.
type answer struct {
	Outlook sigverify.Outlook `json:"outlook"`
	Simple  sigverify.Simple  `json:"simple"`
	Report  *sigverify.Report `json:"report"`
}
