package certpath

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Limits on OCSP messages, which come from anybody.
const (
	maxOCSPRequestBytes  = 16 << 10
	maxOCSPResponseBytes = 256 << 10
	maxOCSPItems         = 16
	maxNonceBytes        = 128 // RFC 9654 §2.1
)

var (
	oidOCSPBasic   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidOCSPNonce   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidOCSPNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
)

// CertID names one certificate in OCSP (RFC 6960 §4.1.1).
type CertID struct {
	Hash           crypto.Hash
	IssuerNameHash []byte
	IssuerKeyHash  []byte
	Serial         *big.Int
}

// NewCertID makes the identifier of cert, which issuer has issued.
func NewCertID(cert, issuer *x509.Certificate, hash crypto.Hash) (CertID, error) {
	if _, err := oidByHash(hash); err != nil {
		return CertID{}, err
	}
	key, err := subjectPublicKey(issuer)
	if err != nil {
		return CertID{}, err
	}
	return CertID{
		Hash:           hash,
		IssuerNameHash: sum(hash, issuer.RawSubject),
		IssuerKeyHash:  sum(hash, key),
		Serial:         cert.SerialNumber,
	}, nil
}

// Equal compares all four parts.
func (id CertID) Equal(other CertID) bool {
	return id.Hash == other.Hash && bytes.Equal(id.IssuerNameHash, other.IssuerNameHash) &&
		bytes.Equal(id.IssuerKeyHash, other.IssuerKeyHash) &&
		id.Serial != nil && other.Serial != nil && id.Serial.Cmp(other.Serial) == 0
}

func sum(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}

// subjectPublicKey gives the key's bits without tag, length and unused-bit count.
func subjectPublicKey(cert *x509.Certificate) ([]byte, error) {
	var spki struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &spki); err != nil || len(rest) != 0 {
		return nil, errors.New("certpath: malformed public key info")
	}
	return spki.Key.RightAlign(), nil
}

// OCSPRequest is a question about one or more certificates.
type OCSPRequest struct {
	IDs   []CertID
	Nonce []byte // RFC 9654: 1 to 128 bytes, empty for none
}

// Marshal encodes an unsigned OCSPRequest (RFC 6960 §4.1.1).
func (r *OCSPRequest) Marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, id := range r.IDs {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { addCertID(b, id) })
				}
			})
			if len(r.Nonce) > 0 {
				addNonce(b, 2, r.Nonce)
			}
		})
	})
	return b.Bytes()
}

// addNonce writes [tag] EXPLICIT Extensions holding the nonce alone. The
// extension's value is itself an OCTET STRING (RFC 9654 §2.1).
func addNonce(b *cryptobyte.Builder, tag uint8, nonce []byte) {
	b.AddASN1(explicit(tag), func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidOCSPNonce)
				b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
			})
		})
	})
}

func explicit(tag uint8) cbasn1.Tag { return cbasn1.Tag(tag).ContextSpecific().Constructed() }

func addCertID(b *cryptobyte.Builder, id CertID) {
	oid, err := oidByHash(id.Hash)
	if err != nil {
		b.SetError(err)
		return
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addAlgorithm(b, oid, true)
		b.AddASN1OctetString(id.IssuerNameHash)
		b.AddASN1OctetString(id.IssuerKeyHash)
		b.AddASN1BigInt(id.Serial)
	})
}

func readCertID(in *cryptobyte.String) (CertID, error) {
	var seq, name, key cryptobyte.String
	bad := errors.New("malformed CertID")
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) {
		return CertID{}, bad
	}
	oid, params, ok := readAlgorithm(&seq)
	if !ok || len(params) != 0 && !bytes.Equal(params, derNull) {
		return CertID{}, bad
	}
	hash, err := hashByOID(oid)
	if err != nil {
		return CertID{}, err
	}
	id := CertID{Hash: hash, Serial: new(big.Int)}
	if !seq.ReadASN1(&name, cbasn1.OCTET_STRING) || !seq.ReadASN1(&key, cbasn1.OCTET_STRING) ||
		!seq.ReadASN1Integer(id.Serial) || !seq.Empty() ||
		len(name) != hash.Size() || len(key) != hash.Size() || id.Serial.BitLen() > 8*maxSerialBytes {
		return CertID{}, bad
	}
	id.IssuerNameHash, id.IssuerKeyHash = name, key
	return id, nil
}

// ParseOCSPRequest reads a request for our own responders. A requestor's
// signature is neither asked for nor checked (RFC 6960 §4.1.2 leaves it to policy).
func ParseOCSPRequest(der []byte) (*OCSPRequest, error) {
	fail := func(what string) (*OCSPRequest, error) {
		return nil, errors.New("certpath: OCSP request: " + what)
	}
	if len(der) > maxOCSPRequestBytes {
		return fail("too large")
	}
	in := cryptobyte.String(der)
	var outer, tbs, list cryptobyte.String
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !in.Empty() || !outer.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		return fail("malformed")
	}
	if !outer.SkipOptionalASN1(explicit(0)) || !outer.Empty() {
		return fail("malformed signature")
	}
	var version int
	if !tbs.ReadOptionalASN1Integer(&version, explicit(0), 0) || version != 0 {
		return fail("unknown version")
	}
	if !tbs.SkipOptionalASN1(explicit(1)) || !tbs.ReadASN1(&list, cbasn1.SEQUENCE) {
		return fail("malformed list")
	}
	req := &OCSPRequest{}
	for !list.Empty() {
		var item cryptobyte.String
		if len(req.IDs) == maxOCSPItems || !list.ReadASN1(&item, cbasn1.SEQUENCE) {
			return fail("malformed or too long list")
		}
		id, err := readCertID(&item)
		if err != nil {
			return fail(err.Error())
		}
		if !item.SkipOptionalASN1(explicit(0)) || !item.Empty() {
			return fail("malformed item")
		}
		req.IDs = append(req.IDs, id)
	}
	if len(req.IDs) == 0 {
		return fail("empty list")
	}
	exts, err := readExtensions(&tbs, 2)
	if err != nil || !tbs.Empty() {
		return fail("malformed extensions")
	}
	req.Nonce, err = nonceOf(exts)
	if err != nil {
		return fail(err.Error())
	}
	return req, nil
}

type extension struct {
	oid      asn1.ObjectIdentifier
	critical bool
	value    []byte
}

// readExtensions reads an optional [tag] EXPLICIT Extensions.
func readExtensions(in *cryptobyte.String, tag uint8) ([]extension, error) {
	var wrapped, list cryptobyte.String
	var present bool
	bad := errors.New("malformed extensions")
	if !in.ReadOptionalASN1(&wrapped, &present, explicit(tag)) {
		return nil, bad
	}
	if !present {
		return nil, nil
	}
	if !wrapped.ReadASN1(&list, cbasn1.SEQUENCE) || !wrapped.Empty() {
		return nil, bad
	}
	var exts []extension
	for !list.Empty() {
		var item, value cryptobyte.String
		var e extension
		if len(exts) == maxOCSPItems || !list.ReadASN1(&item, cbasn1.SEQUENCE) ||
			!item.ReadASN1ObjectIdentifier(&e.oid) {
			return nil, bad
		}
		if item.PeekASN1Tag(cbasn1.BOOLEAN) && !item.ReadASN1Boolean(&e.critical) {
			return nil, bad
		}
		if !item.ReadASN1(&value, cbasn1.OCTET_STRING) || !item.Empty() {
			return nil, bad
		}
		e.value = value
		for _, seen := range exts {
			if seen.oid.Equal(e.oid) {
				return nil, errors.New("an extension is repeated")
			}
		}
		exts = append(exts, e)
	}
	return exts, nil
}

// nonceOf takes the nonce out of the extensions and refuses critical strangers.
func nonceOf(exts []extension) ([]byte, error) {
	var nonce []byte
	for _, e := range exts {
		if !e.oid.Equal(oidOCSPNonce) {
			if e.critical {
				return nil, fmt.Errorf("critical extension %s is not known", e.oid)
			}
			continue
		}
		v, inner := cryptobyte.String(e.value), cryptobyte.String(nil)
		if !v.ReadASN1(&inner, cbasn1.OCTET_STRING) || !v.Empty() || len(inner) == 0 || len(inner) > maxNonceBytes {
			return nil, errors.New("malformed nonce")
		}
		nonce = inner
	}
	return nonce, nil
}

// CertStatus is what a responder or a list says about one certificate.
type CertStatus uint8

// The three answers of RFC 6960 §2.2. StatusUnknown is never good enough.
const (
	StatusUnknown CertStatus = iota
	StatusGood
	StatusRevoked
)

// String gives the RFC 6960 word.
func (s CertStatus) String() string {
	switch s {
	case StatusGood:
		return "good"
	case StatusRevoked:
		return "revoked"
	}
	return "unknown"
}

// SingleStatus is the answer about one certificate.
type SingleStatus struct {
	ID         CertID
	Status     CertStatus
	RevokedAt  time.Time // when revoked
	Reason     int       // RFC 5280 §5.3.1, when revoked; 0 is unspecified
	ThisUpdate time.Time
	NextUpdate time.Time // zero: newer information is always available
}

// OCSPResponse is a successful basic response (RFC 6960 §4.2.1).
type OCSPResponse struct {
	Raw              []byte // the whole OCSPResponse as received
	ResponderName    []byte // DER Name, or nil when ResponderKeyHash is set
	ResponderKeyHash []byte // SHA-1 of the responder's key bits
	ProducedAt       time.Time
	Statuses         []SingleStatus
	Nonce            []byte
	Certificates     []*x509.Certificate

	tbs       []byte
	algorithm x509.SignatureAlgorithm
	signature []byte
}

// OCSPErrorStatus is a responseStatus other than successful.
type OCSPErrorStatus int

// RFC 6960 §4.2.1.
const (
	OCSPMalformedRequest OCSPErrorStatus = 1
	OCSPInternalError    OCSPErrorStatus = 2
	OCSPTryLater         OCSPErrorStatus = 3
	OCSPSigRequired      OCSPErrorStatus = 5
	OCSPUnauthorized     OCSPErrorStatus = 6
)

// Error makes the status an error when a responder answers with it.
func (s OCSPErrorStatus) Error() string {
	return fmt.Sprintf("certpath: OCSP responder answered with error status %d", int(s))
}

// Marshal encodes the unsigned error response.
func (s OCSPErrorStatus) Marshal() []byte { return []byte{0x30, 3, 0x0a, 1, byte(s)} }

// SignOCSPResponse signs the statuses (with nonce and producedAt) as responder,
// named by key. Unless responder is the issuer itself, its certificate goes along.
func SignOCSPResponse(rand io.Reader, r OCSPResponse, responder *x509.Certificate, key crypto.Signer, include bool) ([]byte, error) {
	_, hash, oid, err := signingAlgorithm(key.Public())
	if err != nil {
		return nil, err
	}
	tbs, err := marshalResponseData(r, responder)
	if err != nil {
		return nil, err
	}
	sig, err := key.Sign(rand, sum(hash, tbs), hash)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(0)
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidOCSPBasic)
				b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes(tbs)
						addAlgorithm(b, oid, hash == crypto.SHA256 && isRSA(key.Public()))
						b.AddASN1BitString(sig)
						if include {
							b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
								b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(responder.Raw) })
							})
						}
					})
				})
			})
		})
	})
	return b.Bytes()
}

func marshalResponseData(r OCSPResponse, responder *x509.Certificate) ([]byte, error) {
	key, err := subjectPublicKey(responder)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { b.AddASN1OctetString(sum(crypto.SHA1, key)) })
		b.AddASN1GeneralizedTime(r.ProducedAt.UTC())
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, s := range r.Statuses {
				addSingle(b, s)
			}
		})
		if len(r.Nonce) > 0 {
			addNonce(b, 1, r.Nonce)
		}
	})
	return b.Bytes()
}

func addSingle(b *cryptobyte.Builder, s SingleStatus) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addCertID(b, s.ID)
		switch s.Status {
		case StatusGood:
			b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {})
		case StatusRevoked:
			b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
				b.AddASN1GeneralizedTime(s.RevokedAt.UTC())
				if s.Reason != 0 {
					b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(s.Reason)) })
				}
			})
		default:
			b.AddASN1(cbasn1.Tag(2).ContextSpecific(), func(*cryptobyte.Builder) {})
		}
		b.AddASN1GeneralizedTime(s.ThisUpdate.UTC())
		if !s.NextUpdate.IsZero() {
			b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(s.NextUpdate.UTC()) })
		}
	})
}
