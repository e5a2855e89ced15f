package cms

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
	"io"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Attached is a signature with its content inside, to be written in one go.
type Attached struct {
	ContentType  asn1.ObjectIdentifier // nil is id-data
	Content      io.Reader
	Size         int64 // octets in Content, exactly
	Certificates []*x509.Certificate
	// Signers sign the digest of Content, which was taken in an earlier pass.
	Signers []*SignerInfo
	// Revocations are elements of SignedData.crls, as RawRevocations gives them.
	Revocations [][]byte
}

// WriteAttached writes SignedData with content of any size in DER, in bounded
// memory. Content that is longer or shorter than Size, or that is not what a signer
// has signed, is an error; what was written by then is to be thrown away.
func WriteAttached(w io.Writer, a Attached) error {
	if a.Content == nil || a.Size < 0 || len(a.Certificates) > maxCerts {
		return errors.New("cms: no content, or too many certificates")
	}
	oid, err := encodeOID(contentTypeOr(a.ContentType))
	if err != nil {
		return err
	}
	// Everything but the content: made without it, then taken apart at its place.
	version, digestAlgs, infos, err := signerSets(oid, a.Signers)
	if err != nil {
		return err
	}
	for _, l := range a.Revocations { // RFC 5652 §5.1
		if len(l) > 0 && l[0] != tagSequence {
			version = 5
		}
	}
	tail := append(marshalCertificates(a.Certificates), optional(tagContext1, a.Revocations)...)
	tail = append(tail, setOf(tagSet, infos)...)
	before := append([]byte{tagInteger, 1, version}, setOf(tagSet, digestAlgs)...)
	octets := head(tagOctets, a.Size)
	wrapped := head(tagContext0, int64(len(octets))+a.Size)
	econtent := head(tagSequence, int64(len(oid)+len(wrapped)+len(octets))+a.Size)
	body := int64(len(before)+len(econtent)+len(oid)+len(wrapped)+len(octets)) + a.Size + int64(len(tail))
	sd := head(tagSequence, body)
	outer := head(tagContext0, int64(len(sd))+body)
	info := head(tagSequence, int64(len(derSignedData)+len(outer)+len(sd))+body)
	prefix := bytes.Join([][]byte{info, derSignedData, outer, sd, before, econtent, oid, wrapped, octets}, nil)
	if _, err := w.Write(prefix); err != nil {
		return err
	}
	hashes, err := signedHashes(a.Signers)
	if err != nil {
		return err
	}
	sinks := []io.Writer{w}
	for _, h := range hashes {
		sinks = append(sinks, h)
	}
	n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(sinks...)}, io.LimitReader(a.Content, a.Size), make([]byte, 256<<10))
	if err != nil {
		return err
	}
	if more, _ := io.ReadFull(a.Content, make([]byte, 1)); n != a.Size || more != 0 {
		return fmt.Errorf("cms: content is not of %d octets", a.Size)
	}
	if err := matchSigners(a.Signers, hashes); err != nil {
		return err
	}
	_, err = w.Write(tail)
	return err
}

// onlyWriter hides ReadFrom, which would bring a buffer of its own.
type onlyWriter struct{ io.Writer }

func contentTypeOr(oid asn1.ObjectIdentifier) asn1.ObjectIdentifier {
	if oid == nil {
		return OIDData
	}
	return oid
}

// head encodes identifier and length octets for a length known beforehand.
func head(tag byte, n int64) []byte {
	if n < 1<<31 {
		return appendLength([]byte{tag}, int(n))
	}
	var b []byte
	for v := n; v > 0; v >>= 8 {
		b = append([]byte{byte(v)}, b...)
	}
	return append([]byte{tag, 0x80 | byte(len(b))}, b...)
}

// described parses a signer info again where it was just made, for its attributes.
func described(si *SignerInfo) (*SignerInfo, error) {
	der, err := si.marshal()
	if err != nil {
		return nil, err
	}
	return parseSigner(der)
}

func signedHashes(signers []*SignerInfo) (map[crypto.Hash]hash.Hash, error) {
	hashes := make(map[crypto.Hash]hash.Hash)
	for _, si := range signers {
		d, err := described(si)
		if err != nil {
			return nil, err
		}
		h, err := d.Hash()
		if err != nil {
			return nil, err
		}
		hashes[h] = h.New()
	}
	return hashes, nil
}

func matchSigners(signers []*SignerInfo, hashes map[crypto.Hash]hash.Hash) error {
	for _, si := range signers {
		d, err := described(si)
		if err != nil {
			return err
		}
		h, err := d.Hash()
		if err != nil {
			return err
		}
		if md, ok := d.MessageDigest(); ok && !sameOctets(md, hashes[h].Sum(nil)) {
			return ErrDigestMismatch
		}
	}
	return nil
}

// maxTail bounds what stands around attached content in ParseStream.
const maxTail = 16 << 20

// ParseStream reads SignedData in DER or BER with content of any size inside, up
// to max octets, in bounded memory. content, which may be nil, receives the content
// as it comes; it is to be trusted only when Verify has passed. Verify then works
// with the digests taken on the way; SignedData.Content is nil. A signature without
// content inside is read all the same.
func ParseStream(r io.Reader, content io.Writer, max int64) (*SignedData, error) {
	s := &stream{in: bufio.NewReaderSize(r, 64<<10), max: max, sink: content, hashes: map[crypto.Hash]hash.Hash{}}
	sd, err := s.read()
	if err != nil {
		if errors.Is(err, ErrContentTooLarge) {
			return nil, err
		}
		return nil, ErrMalformed.Because(err)
	}
	return sd, nil
}

// StreamedDigest is the digest of content that went by in ParseStream; nil when it
// was not taken.
func (sd *SignedData) StreamedDigest(hash crypto.Hash) []byte { return sd.streamed[hash] }

// stream reads BER from a reader, counting what it has read.
type stream struct {
	in     *bufio.Reader
	pos    int64
	max    int64
	size   int64 // octets of content so far
	kept   int   // octets kept in memory
	count  int   // elements
	sink   io.Writer
	hashes map[crypto.Hash]hash.Hash
}

// scope is an open constructed element: where it ends, -1 when two zero octets
// end it, and where the nearest element around it that says so ends.
type scope struct{ end, limit int64 }

// open reads identifier and length octets.
func (s *stream) open(in scope) (tag byte, inner scope, raw []byte, err error) {
	fail := func(err error) (byte, scope, []byte, error) { return 0, scope{}, nil, err }
	if s.count++; s.count > maxElements {
		return fail(errBER)
	}
	raw, err = s.in.Peek(2)
	if err != nil {
		return fail(errBER)
	}
	if raw[1] > 0x80 {
		if raw, err = s.in.Peek(2 + int(raw[1]&0x7f)); err != nil {
			return fail(errBER)
		}
	}
	tag, length, size, err := header(raw)
	if err != nil {
		return fail(err)
	}
	raw = bytes.Clone(raw[:size])
	s.in.Discard(size)
	s.pos += int64(size)
	inner = scope{end: -1, limit: in.limit}
	if in.end >= 0 {
		inner.limit = in.end
	}
	if length >= 0 {
		inner.end = s.pos + int64(length)
	}
	if inner.limit >= 0 && max(inner.end, s.pos) > inner.limit {
		return fail(errBER)
	}
	return tag, inner, raw, nil
}

// enter opens an element that must have this tag.
func (s *stream) enter(in scope, want byte) (scope, error) {
	tag, inner, _, err := s.open(in)
	if err == nil && tag != want {
		err = errForm
	}
	return inner, err
}

// done tells whether an element has ended, and takes the octets that end it.
func (s *stream) done(sc scope) (bool, error) {
	if sc.end >= 0 {
		if s.pos > sc.end {
			return false, errBER
		}
		return s.pos == sc.end, nil
	}
	next, err := s.in.Peek(2)
	if err != nil {
		return false, errBER
	}
	if next[0] != 0 || next[1] != 0 {
		return false, nil
	}
	s.in.Discard(2)
	s.pos += 2
	return true, nil
}

// leave demands that an element has ended.
func (s *stream) leave(scopes ...scope) error {
	for _, sc := range scopes {
		if end, err := s.done(sc); err != nil || !end {
			return errForm
		}
	}
	return nil
}

// whole reads one element as received into memory.
func (s *stream) whole(in scope, depth int) ([]byte, error) {
	_, inner, raw, err := s.open(in)
	if err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, errBER
	}
	if inner.end >= 0 {
		n := inner.end - s.pos
		if s.kept += int(n); n > maxTail || s.kept > maxTail {
			return nil, errors.New("too large")
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(s.in, body); err != nil {
			return nil, errBER
		}
		s.pos += n
		return append(raw, body...), nil
	}
	for {
		end, err := s.done(inner)
		if err != nil {
			return nil, err
		}
		if end {
			return append(raw, 0, 0), nil
		}
		child, err := s.whole(inner, depth+1)
		if err != nil {
			return nil, err
		}
		raw = append(raw, child...)
	}
}

func (s *stream) read() (*SignedData, error) {
	info, err := s.enter(scope{-1, -1}, tagSequence)
	if err != nil {
		return nil, err
	}
	oid, err := s.whole(info, 0)
	if err != nil || !bytes.Equal(oid, derSignedData) {
		return nil, errors.New("not SignedData")
	}
	wrapped, err := s.enter(info, tagContext0)
	if err != nil {
		return nil, err
	}
	body, err := s.enter(wrapped, tagSequence)
	if err != nil {
		return nil, err
	}
	version, err1 := s.whole(body, 0)
	digestAlgs, err2 := s.whole(body, 0)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if err := s.prepare(digestAlgs); err != nil {
		return nil, err
	}
	contentType, attached, err := s.content(body)
	if err != nil {
		return nil, err
	}
	parts := [][]byte{version, digestAlgs, tlv(tagSequence, contentType)}
	for {
		end, err := s.done(body)
		if err != nil {
			return nil, err
		}
		if end {
			break
		}
		part, err := s.whole(body, 0)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	if err := s.leave(wrapped, info); err != nil {
		return nil, err
	}
	if _, err := s.in.ReadByte(); err != io.EOF {
		return nil, errors.New("octets after the end")
	}
	sd, err := ParseBER(tlv(tagSequence, derSignedData, tlv(tagContext0, tlv(tagSequence, parts...))))
	if err == nil && attached {
		sd.Attached, sd.ContentSize, sd.streamed = true, s.size, make(map[crypto.Hash][]byte)
		for h, w := range s.hashes {
			sd.streamed[h] = w.Sum(nil)
		}
	}
	return sd, err
}

// prepare starts the digests the signature announces, and SHA-256 in any case.
func (s *stream) prepare(digestAlgs []byte) error {
	der, err := canonical(digestAlgs)
	if err != nil {
		return err
	}
	set := cryptobyte.String(der)
	var algs cryptobyte.String
	if !set.ReadASN1(&algs, cbasn1.SET) {
		return errForm
	}
	s.hashes[crypto.SHA256] = crypto.SHA256.New()
	for n := 0; !algs.Empty(); n++ {
		a, ok := readAlgorithm(&algs)
		if !ok || n == maxSigners {
			return errForm
		}
		if h, err := a.digest(); err == nil {
			s.hashes[h] = h.New()
		}
	}
	return nil
}

// content lets the content go by.
func (s *stream) content(body scope) (contentType []byte, attached bool, err error) {
	encap, err := s.enter(body, tagSequence)
	if err != nil {
		return nil, false, err
	}
	if contentType, err = s.whole(encap, 0); err != nil {
		return nil, false, err
	}
	if end, err := s.done(encap); err != nil || end {
		return contentType, false, err
	}
	wrapped, err := s.enter(encap, tagContext0)
	if err != nil {
		return nil, false, err
	}
	sinks := []io.Writer{}
	for _, h := range s.hashes {
		sinks = append(sinks, h)
	}
	if s.sink != nil {
		sinks = append(sinks, s.sink)
	}
	if err := s.octets(wrapped, onlyWriter{io.MultiWriter(sinks...)}, make([]byte, 64<<10), 0); err != nil {
		return nil, false, err
	}
	return contentType, true, s.leave(wrapped, encap)
}

// octets copies one OCTET STRING, whole or in parts.
func (s *stream) octets(in scope, w io.Writer, buf []byte, depth int) error {
	tag, inner, _, err := s.open(in)
	if err != nil {
		return err
	}
	if depth > maxDepth {
		return errBER
	}
	switch tag {
	case tagOctets:
		n := inner.end - s.pos
		if s.size += n; s.size > s.max {
			return ErrContentTooLarge
		}
		s.count -= int(n >> 9) // large parts are worth their element
		s.count = max(s.count, 0)
		k, err := io.CopyBuffer(w, io.LimitReader(s.in, n), buf)
		s.pos += k
		if err == nil && k != n {
			err = errBER
		}
		return err
	case tagOctets | 0x20:
		for {
			end, err := s.done(inner)
			if err != nil || end {
				return err
			}
			if err := s.octets(inner, w, buf, depth+1); err != nil {
				return err
			}
		}
	}
	return errors.New("content is not an OCTET STRING")
}
