// Package tsp is the Time-Stamp Protocol (RFC 3161, with RFC 5816): requests,
// a responder for our own time-stamp authority, a client for others', and tokens
// as found in signatures.
//
// A token is a CMS SignedData over TSTInfo, made and checked by package cms.
// Whether the authority's certificate may be relied on is package certpath's
// question (certpath.TimestampProfile). Client asks it, of several authorities in
// order, and keeps the evidence.
package tsp

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"sealgate/internal/fault"
)

// What can be wrong, as told to people.
var (
	// ErrMalformed: not a request, response or token.
	ErrMalformed = fault.New(fault.Invalid, "tsp_malformed")
	// ErrRefused: the authority answered, and gave no token.
	ErrRefused = fault.New(fault.Unavailable, "tsp_refused")
	// ErrMismatch: a token, but over other data, or for another question.
	ErrMismatch = fault.New(fault.Unprocessable, "tsp_mismatch")
	// ErrInvalid: the token's signature is wrong, or its certificate is no TSA's.
	ErrInvalid = fault.New(fault.Unprocessable, "tsp_invalid")
)

// Bounds on what others send.
const (
	maxRequestBytes  = 4 << 10
	maxResponseBytes = 256 << 10
	maxNonceBytes    = 64
)

// Media types (RFC 3161 §3.4).
const (
	MediaTypeQuery = "application/timestamp-query"
	MediaTypeReply = "application/timestamp-reply"
)

// hashes accepted for an imprint. SHA-1 is not among them.
var hashes = []struct {
	hash crypto.Hash
	oid  asn1.ObjectIdentifier
}{
	{crypto.SHA256, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}},
	{crypto.SHA384, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}},
	{crypto.SHA512, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}},
}

// Imprint is the digest that is stamped (MessageImprint, RFC 3161 §2.4.1).
type Imprint struct {
	Hash   crypto.Hash
	Digest []byte
}

// Equal compares algorithm and digest.
func (i Imprint) Equal(o Imprint) bool { return i.Hash == o.Hash && bytes.Equal(i.Digest, o.Digest) }

// Request is a TimeStampReq (RFC 3161 §2.4.1).
type Request struct {
	Imprint Imprint
	Policy  asn1.ObjectIdentifier // nil: the authority's choice
	Nonce   *big.Int              // nil: none
	CertReq bool                  // the token shall hold the authority's certificate
}

// Marshal encodes the request.
func (r *Request) Marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		addImprint(b, r.Imprint)
		if r.Policy != nil {
			b.AddASN1ObjectIdentifier(r.Policy)
		}
		if r.Nonce != nil {
			b.AddASN1BigInt(r.Nonce)
		}
		if r.CertReq {
			b.AddASN1Boolean(true)
		}
	})
	return b.Bytes()
}

func addImprint(b *cryptobyte.Builder, i Imprint) {
	for _, h := range hashes {
		if h.hash != i.Hash {
			continue
		}
		if len(i.Digest) != i.Hash.Size() {
			break
		}
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(h.oid)
				b.AddASN1NULL() // as every client and authority writes it
			})
			b.AddASN1OctetString(i.Digest)
		})
		return
	}
	b.SetError(fmt.Errorf("tsp: digest of %d octets for %v", len(i.Digest), i.Hash))
}

// failure is a bit of PKIFailureInfo (RFC 3161 §2.4.2).
type failure uint8

const (
	badAlg              failure = 0
	badRequest          failure = 2
	badDataFormat       failure = 5
	unacceptedPolicy    failure = 15
	unacceptedExtension failure = 16
	systemFailure       failure = 25
)

// requestError is why a request is refused, for the answer to name.
type requestError struct {
	bit  failure
	what string
}

func (e requestError) Error() string { return "tsp: " + e.what }

// ParseRequest reads a request strictly and within bounds.
func ParseRequest(der []byte) (*Request, error) {
	r, err := parseRequest(der)
	if err != nil {
		return nil, ErrMalformed.Because(err)
	}
	return r, nil
}

func parseRequest(der []byte) (*Request, error) {
	bad := requestError{badDataFormat, "malformed request"}
	if len(der) > maxRequestBytes {
		return nil, requestError{badDataFormat, "request too large"}
	}
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	var version int
	r := &Request{}
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1Integer(&version) {
		return nil, bad
	}
	if version != 1 {
		return nil, requestError{badRequest, "unknown version"}
	}
	var err error
	if r.Imprint, err = readImprint(&seq); err != nil {
		return nil, err
	}
	if seq.PeekASN1Tag(cbasn1.OBJECT_IDENTIFIER) && !seq.ReadASN1ObjectIdentifier(&r.Policy) {
		return nil, bad
	}
	if seq.PeekASN1Tag(cbasn1.INTEGER) {
		if r.Nonce, err = readNonce(&seq); err != nil {
			return nil, err
		}
	}
	if seq.PeekASN1Tag(cbasn1.BOOLEAN) && !seq.ReadASN1Boolean(&r.CertReq) {
		return nil, bad
	}
	if seq.PeekASN1Tag(extensions(0)) {
		return nil, requestError{unacceptedExtension, "an extension"} // none is known here
	}
	if !seq.Empty() {
		return nil, bad
	}
	return r, nil
}

func extensions(tag uint8) cbasn1.Tag { return cbasn1.Tag(tag).ContextSpecific().Constructed() }

func readNonce(in *cryptobyte.String) (*big.Int, error) {
	n := new(big.Int)
	if !in.ReadASN1Integer(n) || n.BitLen() > 8*maxNonceBytes {
		return nil, requestError{badDataFormat, "malformed nonce"}
	}
	return n, nil
}

func readImprint(in *cryptobyte.String) (Imprint, error) {
	bad := requestError{badDataFormat, "malformed imprint"}
	var seq, alg, params, digest cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1(&alg, cbasn1.SEQUENCE) || !alg.ReadASN1ObjectIdentifier(&oid) {
		return Imprint{}, bad
	}
	if !alg.Empty() && (!alg.ReadASN1(&params, cbasn1.NULL) || !params.Empty() || !alg.Empty()) {
		return Imprint{}, bad
	}
	if !seq.ReadASN1(&digest, cbasn1.OCTET_STRING) || !seq.Empty() {
		return Imprint{}, bad
	}
	for _, h := range hashes {
		if h.oid.Equal(oid) {
			if len(digest) != h.hash.Size() {
				return Imprint{}, bad
			}
			return Imprint{h.hash, digest}, nil
		}
	}
	return Imprint{}, requestError{badAlg, "digest algorithm " + oid.String()}
}

// Info is TSTInfo, what a token says (RFC 3161 §2.4.2).
type Info struct {
	Policy   asn1.ObjectIdentifier
	Imprint  Imprint
	Serial   *big.Int
	Time     time.Time     // genTime, UTC
	Accuracy time.Duration // plus or minus; zero when not said
	Ordering bool
	Nonce    *big.Int // nil when none
}

// marshal encodes TSTInfo. genTime has whole seconds, which any client reads.
func (i *Info) marshal() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1ObjectIdentifier(i.Policy)
		addImprint(b, i.Imprint)
		b.AddASN1BigInt(i.Serial)
		b.AddASN1GeneralizedTime(i.Time.UTC().Truncate(time.Second))
		if i.Accuracy > 0 {
			addAccuracy(b, i.Accuracy)
		}
		if i.Ordering {
			b.AddASN1Boolean(true)
		}
		if i.Nonce != nil {
			b.AddASN1BigInt(i.Nonce)
		}
	})
	return b.Bytes()
}

func addAccuracy(b *cryptobyte.Builder, d time.Duration) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if s := int64(d / time.Second); s > 0 {
			b.AddASN1Int64(s)
		}
		if ms := int64(d % time.Second / time.Millisecond); ms > 0 {
			b.AddASN1Int64WithTag(ms, cbasn1.Tag(0).ContextSpecific())
		}
		if us := int64(d % time.Millisecond / time.Microsecond); us > 0 {
			b.AddASN1Int64WithTag(us, cbasn1.Tag(1).ContextSpecific())
		}
	})
}

func parseInfo(der []byte) (*Info, error) {
	bad := errors.New("malformed TSTInfo")
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	var version int
	i := &Info{Serial: new(big.Int)}
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1Integer(&version) || version != 1 ||
		!seq.ReadASN1ObjectIdentifier(&i.Policy) {
		return nil, bad
	}
	var err error
	if i.Imprint, err = readImprint(&seq); err != nil {
		return nil, err
	}
	if !seq.ReadASN1Integer(i.Serial) || i.Serial.BitLen() > 160 { // RFC 3161 §2.4.2: up to 160 bits
		return nil, bad
	}
	if i.Time, err = readGenTime(&seq); err != nil {
		return nil, err
	}
	if seq.PeekASN1Tag(cbasn1.SEQUENCE) {
		if i.Accuracy, err = readAccuracy(&seq); err != nil {
			return nil, err
		}
	}
	if seq.PeekASN1Tag(cbasn1.BOOLEAN) && !seq.ReadASN1Boolean(&i.Ordering) {
		return nil, bad
	}
	if seq.PeekASN1Tag(cbasn1.INTEGER) {
		if i.Nonce, err = readNonce(&seq); err != nil {
			return nil, err
		}
	}
	if !seq.SkipOptionalASN1(extensions(0)) { // tsa, a hint
		return nil, bad
	}
	if seq.PeekASN1Tag(extensions(1)) {
		if err := refuseCritical(&seq); err != nil {
			return nil, err
		}
	}
	if !seq.Empty() {
		return nil, bad
	}
	return i, nil
}

// readGenTime reads GeneralizedTime with an optional fraction: "Z" at the end,
// no zeros at the end of the fraction (RFC 3161 §2.4.2).
func readGenTime(in *cryptobyte.String) (time.Time, error) {
	bad := errors.New("malformed genTime")
	var body cryptobyte.String
	if !in.ReadASN1(&body, cbasn1.GeneralizedTime) {
		return time.Time{}, bad
	}
	s := string(body)
	if len(s) < 15 || len(s) > 26 || s[len(s)-1] != 'Z' {
		return time.Time{}, bad
	}
	if len(s) > 15 && (s[14] != '.' || len(s) == 16 || s[len(s)-2] == '0') {
		return time.Time{}, bad
	}
	t, err := time.Parse("20060102150405Z", s)
	if err != nil || t.Format("20060102150405") != s[:14] {
		return time.Time{}, bad
	}
	return t.UTC(), nil
}

func readAccuracy(in *cryptobyte.String) (time.Duration, error) {
	bad := errors.New("malformed accuracy")
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) {
		return 0, bad
	}
	var d time.Duration
	var n int64
	if seq.PeekASN1Tag(cbasn1.INTEGER) {
		if !seq.ReadASN1Integer(&n) || n < 0 || n > 86400 {
			return 0, bad
		}
		d = time.Duration(n) * time.Second
	}
	for tag, unit := range []time.Duration{time.Millisecond, time.Microsecond} {
		t := cbasn1.Tag(tag).ContextSpecific()
		if !seq.PeekASN1Tag(t) {
			continue
		}
		if !seq.ReadASN1Int64WithTag(&n, t) || n < 1 || n > 999 {
			return 0, bad
		}
		d += time.Duration(n) * unit
	}
	if !seq.Empty() {
		return 0, bad
	}
	return d, nil
}

func refuseCritical(in *cryptobyte.String) error {
	bad := errors.New("malformed extensions")
	var list cryptobyte.String
	if !in.ReadASN1(&list, extensions(1)) {
		return bad
	}
	for n := 0; !list.Empty(); n++ {
		var item, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		var critical bool
		if n == 16 || !list.ReadASN1(&item, cbasn1.SEQUENCE) || !item.ReadASN1ObjectIdentifier(&oid) {
			return bad
		}
		if item.PeekASN1Tag(cbasn1.BOOLEAN) && !item.ReadASN1Boolean(&critical) {
			return bad
		}
		if !item.ReadASN1(&value, cbasn1.OCTET_STRING) || !item.Empty() {
			return bad
		}
		if critical {
			return fmt.Errorf("critical extension %s is not known", oid)
		}
	}
	return nil
}

var (
	oidExtKeyUsage  = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidTimeStamping = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
)

// CheckCertificate tells whether a certificate is a time-stamp authority's: the
// extended key usage is critical and names time stamping alone (RFC 3161 §2.3).
func CheckCertificate(cert *x509.Certificate) error {
	for _, e := range cert.Extensions {
		if !e.Id.Equal(oidExtKeyUsage) {
			continue
		}
		var purposes []asn1.ObjectIdentifier
		rest, err := asn1.Unmarshal(e.Value, &purposes)
		if err != nil || len(rest) != 0 || !e.Critical || len(purposes) != 1 || !purposes[0].Equal(oidTimeStamping) {
			return errors.New("extended key usage is not critical time stamping alone")
		}
		return nil
	}
	return errors.New("no extended key usage")
}
