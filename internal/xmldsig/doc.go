// Package xmldsig makes and checks XML signatures (XMLDSig 1.1) as the SI files of
// official documents (公文線上簽核) carry them.
//
// Of XML and of XMLDSig it understands what such a signature needs, and refuses the
// rest: no document type, no entities but the five of XML, no XPath, no XSLT, no
// fetching. References are to the whole document, to one element by its Id, or to
// files, whose digests the caller supplies. What Verify found covered is handed
// back as the elements that were hashed, never to be looked up a second time.
//
// A signature is made without its key being here: AddPoint gives the DigestInfo to
// be signed RAW (PKCS #1 v1.5 for RSA; the plain digest for ECDSA), Attach puts the
// value in. Bytes already in the file stay as they are.
package xmldsig

import "sealgate/internal/fault"

// What can be wrong, as told to people.
var (
	// ErrMalformed: not XML 1.0 in UTF-8, or with a document type.
	ErrMalformed = fault.New(fault.Invalid, "xml_malformed")
	// ErrTooLarge: beyond a bound on size, depth or count.
	ErrTooLarge = fault.New(fault.TooLarge, "xml_too_large")
	// ErrForm: a signature's structure, reference or transform that is not allowed.
	ErrForm = fault.New(fault.Unprocessable, "xml_signature_form")
	// ErrAlgorithm: an algorithm that is unknown or too weak.
	ErrAlgorithm = fault.New(fault.Unprocessable, "xml_algorithm")
	// ErrDigest: what a reference points to is not what was signed.
	ErrDigest = fault.New(fault.Unprocessable, "xml_digest_mismatch")
	// ErrSignature: the value does not verify with the signer's key.
	ErrSignature = fault.New(fault.Unprocessable, "xml_signature_invalid")
	// ErrNoCertificate: KeyInfo holds no certificate, and no key was given.
	ErrNoCertificate = fault.New(fault.Unprocessable, "xml_no_certificate")
	// ErrStructure: not the structure of an SI file.
	ErrStructure = fault.New(fault.Invalid, "si_structure")
	// ErrPoint: no such signature point, or one that cannot be used so.
	ErrPoint = fault.New(fault.Invalid, "si_point")
	// ErrPending: an earlier point still waits for its signature.
	ErrPending = fault.New(fault.Conflict, "si_pending")
)

// Bounds on what is parsed and hashed.
const (
	// MaxBytes bounds a document.
	MaxBytes       = 16 << 20
	maxDepth       = 100
	maxNodes       = 300_000
	maxAttributes  = 128
	maxPrefixes    = 256 // in scope at one place
	maxURI         = 4096
	maxHashed      = 64 << 20 // canonical bytes of one verification, and a little for each element
	maxReferences  = 1024
	maxSignatures  = 256
	maxCertificate = 64 << 10
	maxChain       = 16
)

const (
	nsXML    = "http://www.w3.org/XML/1998/namespace"
	nsXMLNS  = "http://www.w3.org/2000/xmlns/"
	nsDSig   = "http://www.w3.org/2000/09/xmldsig#"
	nsExcC14 = "http://www.w3.org/2001/10/xml-exc-c14n#"
)
