// Package pades puts signatures into PDF documents and takes them out again, in
// the form of PAdES baseline B-B and B-T (ETSI EN 319 142-1).
//
// Signing is in two steps, so that an approval fits in between, and only adds to
// the file (ISO 32000-1 §7.5.6): the original's bytes are a prefix of the result.
//
//	p, err := pades.Prepare(ctx, file, size, opts)  // p.Digest is what the CMS is made over
//	der, err := …                                   // cms, without a signing time; for B-T with a token
//	update, err := p.Embed(der)                     // signed document = original ‖ update
//
// The document is read where it is needed, through io.ReaderAt, and never held
// whole. What is understood is what these two tasks need: cross-reference tables
// and streams, hybrid files, object streams, earlier signatures. Encrypted files,
// and files that readers would have to repair, are refused: two readers may repair
// one file to two documents, and a signature must mean one.
//
// Signatures lists what is signed, and by which bytes, so strictly that a
// signature without a fault covers everything up to its revision's end but its
// own value. Whether the CMS in it is good is said by package cms.
package pades

import "sealgate/internal/fault"

// What can be wrong, as told to people.
var (
	// ErrMalformed: not a PDF, or one that would have to be repaired to be read.
	ErrMalformed = fault.New(fault.Invalid, "pdf_malformed")
	// ErrEncrypted: the file has an encryption dictionary.
	ErrEncrypted = fault.New(fault.Unprocessable, "pdf_encrypted")
	// ErrLocked: an earlier certification signature allows no changes (DocMDP, P 1).
	ErrLocked = fault.New(fault.Unprocessable, "pdf_locked")
	// ErrTooLarge: beyond a bound on size, count or depth.
	ErrTooLarge = fault.New(fault.TooLarge, "pdf_too_large")
	// ErrReserve: the CMS does not fit the place that was reserved for it.
	ErrReserve = fault.New(fault.Unprocessable, "pdf_reserve")
	// ErrByteRange: a signature's byte range is not "everything but its value".
	ErrByteRange = fault.New(fault.Unprocessable, "pdf_byte_range")
)

// Bounds on what is read. A document may be large; its structure is held in memory.
const (
	maxObjects   = 2_000_000
	maxSections  = 1024     // cross-reference sections in one file
	maxObject    = 20 << 20 // bytes of one object's text
	maxStream    = 64 << 20 // bytes of one decoded structural stream
	maxDecoded   = 256 << 20
	maxDepth     = 64
	maxFields    = 10_000
	maxSigs      = 256
	maxGap       = 8 << 20 // bytes of one /Contents
	maxObjectNum = 8_388_607
)
