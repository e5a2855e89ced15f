// Package cms makes and checks signatures in the Cryptographic Message Syntax
// (RFC 5652, "PKCS#7"), in the form of CAdES baseline B-B (ETSI EN 319 122-1):
// detached, with content type, message digest, signing time and the signing
// certificate's hash (RFC 5035) as signed attributes.
//
// A signature is made from a digest: the document need not be here, or in memory.
// The bytes to be signed exist before the key is touched, so a ceremony, or a key
// in an HSM, fits in between:
//
//	p, err := cms.Prepare(signer, crypto.SHA256)      // once per certificate
//	tbs, err := p.SignedAttributes(digest, opts)      // once per document
//	si, err := tbs.Sign(rand)                         // uses the key
//	der, err := cms.Assemble(certificates, si)        // any number of signers
//
// Parse reads DER and bounds everything; ParseBER reads what others make, indefinite
// lengths included. ParseStream and WriteAttached take content of any size along
// in bounded memory. Edit adds to a signature without altering what is there.
// Verify checks what the signature itself says. Whether its certificate may be
// relied on is package certpath's question.
package cms

import (
	"encoding/asn1"

	"sealgate/internal/fault"
)

// Content types and attributes (RFC 5652 §4, §11; RFC 5035; RFC 3161; RFC 6211).
var (
	OIDData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	OIDSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	OIDTSTInfo    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}

	OIDContentType          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	OIDMessageDigest        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	OIDSigningTime          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
	OIDSigningCertificate   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 12}
	OIDSigningCertificateV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}
	OIDAlgorithmProtection  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 52}
	// OIDTimeStampToken is the unsigned attribute of CAdES B-T.
	OIDTimeStampToken = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 14}

	// OIDRandomNonce (pkcs-9-at-randomNonce, RFC 2985) and OIDCardNumber are
	// signed attributes that the HiPKI component adds on request.
	OIDRandomNonce = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 25, 3}
	OIDCardNumber  = asn1.ObjectIdentifier{2, 16, 886, 1, 100, 2, 204}
)

// What can be wrong, as told to people.
var (
	// ErrMalformed: not DER SignedData, or beyond a bound.
	ErrMalformed = fault.New(fault.Invalid, "cms_malformed")
	// ErrContentMissing: a detached signature, and no content or digest to go with it.
	ErrContentMissing = fault.New(fault.Invalid, "cms_content_missing")
	// ErrContentTooLarge: the content is larger than the caller allows.
	ErrContentTooLarge = fault.New(fault.TooLarge, "cms_content_too_large")
	// ErrDigestMismatch: the document is not the one that was signed.
	ErrDigestMismatch = fault.New(fault.Unprocessable, "cms_digest_mismatch")
	// ErrSignature: the signature value does not verify with the signer's key.
	ErrSignature = fault.New(fault.Unprocessable, "cms_signature_invalid")
	// ErrAlgorithm: an algorithm that is unknown, too weak, or inconsistent.
	ErrAlgorithm = fault.New(fault.Unprocessable, "cms_algorithm")
	// ErrAttributes: a signed attribute is missing, repeated or contradicts the rest.
	ErrAttributes = fault.New(fault.Unprocessable, "cms_attributes")
	// ErrNoCertificate: the signer's certificate is nowhere to be found.
	ErrNoCertificate = fault.New(fault.Unprocessable, "cms_no_certificate")
	// ErrSigningCertificate: the signed certificate hash names another certificate.
	ErrSigningCertificate = fault.New(fault.Unprocessable, "cms_signing_certificate")
	// ErrFrozen: an archive time-stamp of the old form forbids additions.
	ErrFrozen = fault.New(fault.Conflict, "cms_frozen")
)

// Bounds on what is parsed.
const (
	// MaxBytes bounds a whole SignedData, attached content included.
	MaxBytes      = 64 << 20
	maxSigners    = 64
	maxCerts      = 64
	maxAttributes = 64
	maxCertBytes  = 64 << 10
)
