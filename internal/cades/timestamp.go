package cades

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"sealgate/internal/cms"
	"sealgate/internal/tsp"
)

// Kind is what a time-stamp in a signature stands for.
type Kind uint8

// The kinds. Of KindArchiveOld (ATS of before version 3) the presence is reported,
// it is not verified.
const (
	KindContent   Kind = iota + 1 // signed attribute: the content existed
	KindSignature                 // the signature value existed
	KindArchive                   // all of it existed, content included
	KindArchiveOld
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case KindContent:
		return "content"
	case KindSignature:
		return "signature"
	case KindArchive:
		return "archive"
	case KindArchiveOld:
		return "archive-old"
	}
	return ""
}

// Timestamp is a time-stamp found in a signature.
type Timestamp struct {
	Kind Kind
	// Attribute and Value say where: indexes into SignerInfo.RawUnsigned and the
	// values of that attribute; -1 for a signed one.
	Attribute, Value int
	Raw              []byte
	Token            *tsp.Token // nil when it cannot be read
	Err              error      // why it cannot be read
}

// signer is the certificate that made the token; nil when it is nowhere.
func (t Timestamp) signer(more []*x509.Certificate) *x509.Certificate {
	if t.Token == nil {
		return nil
	}
	return t.Token.SignedData().Signers[0].FindCertificate(slices.Concat(t.Token.Certificates, more))
}

// Timestamps lists the time-stamps of signer i, the oldest first; those that
// cannot be read come last.
func Timestamps(sd *cms.SignedData, i int) ([]Timestamp, error) {
	si := sd.Signers[i]
	var list []Timestamp
	if value, ok := si.SignedAttribute(OIDContentTimestamp); ok {
		list = append(list, read(KindContent, -1, -1, value))
	}
	for a, attr := range si.Unsigned() {
		kind := kindOf(attr.Type)
		if kind == 0 {
			continue
		}
		for v, value := range attr.Values {
			if len(list) == maxTimestamps {
				return nil, ErrTimestamp.Because(errors.New("too many time-stamps"))
			}
			list = append(list, read(kind, a, v, value))
		}
	}
	slices.SortStableFunc(list, func(a, b Timestamp) int {
		switch {
		case a.Token == nil || b.Token == nil:
			return btoi(a.Token == nil) - btoi(b.Token == nil)
		case !a.Token.Info.Time.Equal(b.Token.Info.Time):
			return a.Token.Info.Time.Compare(b.Token.Info.Time)
		case a.Kind != b.Kind:
			return int(a.Kind) - int(b.Kind) // of one second: in the order they build on each other
		}
		return depth(a) - depth(b)
	})
	return list, nil
}

// depth orders archive time-stamps of one second: a later one's index is longer.
func depth(t Timestamp) int {
	if t.Kind != KindArchive {
		return 0
	}
	index, err := indexOf(t.Token)
	if err != nil {
		return 0
	}
	return len(index.attributes)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func kindOf(oid asn1.ObjectIdentifier) Kind {
	switch {
	case oid.Equal(cms.OIDTimeStampToken):
		return KindSignature
	case oid.Equal(OIDArchiveTimestampV3):
		return KindArchive
	case oid.Equal(OIDArchiveTimestampV1), oid.Equal(OIDArchiveTimestampV2):
		return KindArchiveOld
	}
	return 0
}

func read(kind Kind, attribute, value int, raw []byte) Timestamp {
	t := Timestamp{Kind: kind, Attribute: attribute, Value: value, Raw: raw}
	if t.Token, t.Err = tsp.ParseToken(raw); t.Err != nil {
		t.Token = nil
	}
	return t
}

// Stamp is a time-stamp whose imprint and signature are right.
type Stamp struct {
	Kind     Kind
	Time     time.Time
	Accuracy time.Duration
	Policy   asn1.ObjectIdentifier
	Hash     crypto.Hash // of the imprint
	// Certificate of the authority, still to be validated; Extra came along and may
	// help to build the path.
	Certificate *x509.Certificate
	Extra       []*x509.Certificate
	// Coverage is what an archive time-stamp protects; nil for others.
	Coverage *Coverage
}

// Verify recomputes what a time-stamp of signer i must be over and checks that it
// is, that the token's signature is good, and that its certificate is a time-stamp
// authority's. digest gives the content's digest for an algorithm, nil when it has
// none; without it the content inside counts, or the signed message digest, which
// is for SignedData.Verify to compare with the content.
func Verify(sd *cms.SignedData, i int, t Timestamp, digest func(crypto.Hash) []byte) (*Stamp, error) {
	if t.Token == nil {
		return nil, ErrTimestamp.Because(t.Err)
	}
	si, info := sd.Signers[i], t.Token.Info
	s := &Stamp{Kind: t.Kind, Time: info.Time, Accuracy: info.Accuracy, Policy: info.Policy, Hash: info.Imprint.Hash}
	var wants []tsp.Imprint // the first that fits
	switch t.Kind {
	case KindContent:
		d, err := contentDigest(sd, si, s.Hash, digest)
		if err != nil {
			return nil, err
		}
		wants = append(wants, tsp.Imprint{Hash: s.Hash, Digest: d})
	case KindSignature: // §5.3: the value of the signature field, without tag and length
		wants = append(wants, tsp.NewImprint(s.Hash, si.Signature()))
	case KindArchive:
		index, err := indexOf(t.Token)
		if err != nil {
			return nil, ErrTimestamp.Because(err)
		}
		if s.Coverage, err = index.cover(sd, si, t); err != nil {
			return nil, ErrTimestamp.Because(err)
		}
		if wants, err = archiveImprints(sd, si, s.Hash, index.der, digest); err != nil {
			return nil, err
		}
	default:
		return nil, ErrTimestamp.Because(fmt.Errorf("%v time-stamps are not verified", t.Kind))
	}
	known := slices.Concat(t.Token.Certificates, sd.Certificates)
	var err error
	for _, want := range wants {
		if s.Certificate, err = t.Token.Verify(want, known...); err == nil {
			break
		}
	}
	if err != nil {
		return nil, ErrTimestamp.Because(err)
	}
	s.Extra = known
	return s, nil
}

// archiveImprints computes the message imprint of an archive-time-stamp-v3 (§5.5.3):
// eContentType, the hash of the content, the signer info's fields up to the
// signature, the hash index. Fields count as received; where they are in BER, as
// their DER in the second.
func archiveImprints(sd *cms.SignedData, si *cms.SignerInfo, hash crypto.Hash, index []byte, digest func(crypto.Hash) []byte) ([]tsp.Imprint, error) {
	content, err := contentDigest(sd, si, hash, digest)
	if err != nil {
		return nil, err
	}
	contentType, err := asn1.Marshal(sd.ContentType)
	if err != nil {
		return nil, ErrTimestamp.Because(err)
	}
	fields := si.RawFields()
	imprints := []tsp.Imprint{tsp.NewImprint(hash, contentType, content, fields, index)}
	if der, err := cms.CanonicalList(fields); err == nil && !bytes.Equal(der, fields) {
		imprints = append(imprints, tsp.NewImprint(hash, contentType, content, der, index))
	}
	return imprints, nil
}
