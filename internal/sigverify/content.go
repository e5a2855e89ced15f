package sigverify

import (
	"context"
	"crypto"
	"errors"
	"hash"
	"io"
	"slices"

	"sealgate/internal/fault"
)

// Bounds on what arrives.
const (
	// MaxSignatureBytes bounds a signature file held in memory.
	MaxSignatureBytes = 64 << 20
	// MaxContentBytes bounds content that is read to be hashed.
	MaxContentBytes = 64 << 30
	maxSignatures   = 256 // with counter signatures
	maxTokens       = 64  // for one signature
	maxQuestions    = 48  // to revocation sources, for one verification
	maxEvidence     = 60  // pieces of revocation data for one judgement
	maxProofs       = 64
	// maxRounds bounds how often one certificate is judged again without answers
	// that cannot be relied on.
	maxRounds = 16
	// maxWork bounds the octets of revocation data that are read in one
	// verification, again for each certificate: beyond it answers are not looked at,
	// and the verdict is "cannot tell".
	maxWork = 1 << 30
)

var (
	// ErrTooLarge: the signature file is beyond what is read.
	ErrTooLarge = fault.New(fault.TooLarge, "verify_too_large")
	// ErrRequest: the request contradicts itself.
	ErrRequest = fault.New(fault.Invalid, "verify_request")
)

// Content is the signed content of a detached signature: its digests, or a
// reader that gives it once, or nothing. The content itself is never kept.
type Content struct {
	Digests map[crypto.Hash][]byte
	Reader  io.Reader
	// Files gives the digest of a file that an XML signature refers to; nil and no
	// error when it is not at hand.
	Files func(uri string, hash crypto.Hash) ([]byte, error)
}

// known are the digests that signatures may ask for, in the order of reports.
var known = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA224, crypto.SHA1}

// Digests reads r once and gives its digests, in memory that does not depend on
// its length. More than most bytes, or the end of ctx, is an error.
func Digests(ctx context.Context, r io.Reader, hashes []crypto.Hash, most int64) (map[crypto.Hash][]byte, int64, error) {
	sums := make(map[crypto.Hash]hash.Hash)
	var writers []io.Writer
	for _, h := range hashes {
		if !h.Available() || sums[h] != nil {
			continue
		}
		sums[h] = h.New()
		writers = append(writers, sums[h])
	}
	all := io.MultiWriter(writers...)
	buffer := make([]byte, 64<<10)
	var n int64
	for {
		if err := ctx.Err(); err != nil {
			return nil, n, err
		}
		k, err := r.Read(buffer)
		if n += int64(k); n > most {
			return nil, n, ErrTooLarge
		}
		_, _ = all.Write(buffer[:k]) // a hash never fails
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, n, err
		}
	}
	out := make(map[crypto.Hash][]byte, len(sums))
	for h, s := range sums {
		out[h] = s.Sum(nil)
	}
	return out, n, nil
}

// content is Content after it was read.
type content struct {
	digests map[crypto.Hash][]byte
	size    int64 // -1: not known
	// seen tells that all of it went through our hands, and head is how it begins.
	seen bool
	head []byte
}

func (c content) given() bool { return len(c.digests) > 0 }

func (c content) digest(h crypto.Hash) []byte { return c.digests[h] }

// read takes the content in, once, for all hashes that are needed.
func (c Content) read(ctx context.Context, need []crypto.Hash) (content, error) {
	out := content{size: -1, digests: map[crypto.Hash][]byte{}}
	for h, d := range c.Digests {
		if !slices.Contains(known, h) || len(d) != h.Size() {
			return out, ErrRequest.Because(errors.New("a digest of another length than its algorithm's"))
		}
		out.digests[h] = d
	}
	if c.Reader == nil {
		return out, nil
	}
	if !slices.Contains(need, crypto.SHA256) {
		need = append(slices.Clone(need), crypto.SHA256) // for the report
	}
	head := &headWriter{}
	sums, n, err := Digests(ctx, io.TeeReader(c.Reader, head), need, MaxContentBytes)
	if err != nil {
		return out, err
	}
	for h, d := range sums {
		if given := out.digests[h]; given != nil && !slices.Equal(given, d) {
			return out, ErrRequest.Because(errors.New("digest and content disagree"))
		}
		out.digests[h] = d
	}
	out.size, out.seen, out.head = n, true, head.kept
	return out, nil
}

// headWriter keeps the beginning of what passes.
type headWriter struct{ kept []byte }

func (w *headWriter) Write(p []byte) (int, error) {
	if room := headBytes - len(w.kept); room > 0 {
		w.kept = append(w.kept, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

const headBytes = 1 << 10
