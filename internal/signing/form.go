package signing

import (
	"bytes"
	"errors"
	"fmt"
)

// Form is what a signature looks like.
type Form string

// The forms. The order's content names them, so that the person's approval
// covers them.
const (
	// FormCMS is a detached CMS SignedData (RFC 5652), CAdES baseline.
	FormCMS Form = "cms"
	// FormPAdES is FormCMS for the byte ranges of a PDF (EN 319 142-1 §6.3): no
	// signing-time attribute, which a PDF says itself.
	FormPAdES Form = "pades"
	// FormPKCS1 is the bare signature value: RSASSA-PKCS1-v1_5 or RSASSA-PSS
	// (RFC 8017), for elliptic curves an ECDSA-Sig-Value (RFC 3279 §2.2.3).
	FormPKCS1 Form = "pkcs1"
	// FormRaw is the bare value as XML Signature wants it: RSASSA-PKCS1-v1_5
	// over the given DigestInfo, for elliptic curves r and s at full length one
	// after the other (RFC 6931 §2.3.6).
	FormRaw Form = "raw"
)

// Wrapped says whether such a signature is a CMS SignedData; else it is a bare value.
func (f Form) Wrapped() bool { return f == FormCMS || f == FormPAdES }

// PSS asks for RSASSA-PSS where the citizen's key is RSA; "" is the key's
// ordinary algorithm.
const PSS = "RSASSA-PSS"

// The baseline levels (EN 319 122-1 §6) that an order may ask for.
const (
	LevelB   = "B-B"
	LevelT   = "B-T"
	LevelLT  = "B-LT"
	LevelLTA = "B-LTA"
)

// CheckForm says whether form and algorithm go together and may join an
// earlier signature.
func CheckForm(form Form, algorithm string, joins bool) error {
	switch form {
	case FormCMS, FormPAdES, FormPKCS1, FormRaw:
	default:
		return fmt.Errorf("no form %.20q", string(form))
	}
	switch {
	case algorithm != "" && algorithm != PSS:
		return fmt.Errorf("no signature algorithm %.20q", algorithm)
	case algorithm == PSS && form == FormRaw:
		return errors.New("a DigestInfo is part of RSASSA-PKCS1-v1_5 and not of RSASSA-PSS")
	case joins && form != FormCMS:
		return errors.New("only a CMS signature can join an earlier one")
	}
	return nil
}

// CheckLevel says whether there is such a level; "" is LevelB.
func CheckLevel(level string) error {
	switch level {
	case "", LevelB, LevelT, LevelLT, LevelLTA:
		return nil
	}
	return fmt.Errorf("no level %.20q", level)
}

// digestInfos are the DER of DigestInfo up to the digest (RFC 8017 §9.2 note 1):
// the only spelling there is, with NULL parameters.
var digestInfos = map[string][]byte{
	"SHA-256": {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	"SHA-384": {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	"SHA-512": {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// ParseDigestInfo reads the DigestInfo of FormRaw. Nothing but a digest by a
// known algorithm in its one encoding is accepted: what is signed can then be
// nothing else than a digest that the person was shown.
func ParseDigestInfo(der []byte) (algorithm string, digest []byte, err error) {
	for name, prefix := range digestInfos {
		if digest, ok := bytes.CutPrefix(der, prefix); ok && len(digest) == hashes[name].Size() {
			return name, digest, nil
		}
	}
	return "", nil, errors.New("not the DigestInfo of a SHA-256, SHA-384 or SHA-512 digest")
}
