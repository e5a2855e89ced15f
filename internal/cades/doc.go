// Package cades brings CMS signatures to the CAdES baseline levels that hold for
// decades (ETSI EN 319 122-1 §6), and takes such signatures apart for those who
// verify them:
//
//	B-B    the signature itself (package cms)
//	B-T    a signature-time-stamp says from when on it existed (§5.3)
//	B-LT   certificates and revocation answers of signer and time-stamp
//	       authorities lie inside SignedData.certificates and .crls, OCSP
//	       responses as RFC 5940 has them
//	B-LTA  an archive-time-stamp-v3 with its ATSHashIndexV3 protects all that
//	       (§5.5); Renew adds a further one before certificate or hash end
//
// Certificates and answers go into SignedData, not into the attributes
// certificate-values and revocation-values of older CAdES, which §6.3 does not
// allow in the baseline; ValuesOf reads those too.
//
// Nothing that is there is altered, and levels say what is there, not that it is
// valid: Verify checks one time-stamp, its certificate is for the caller to judge.
package cades

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/fault"
	"sealgate/internal/tsp"
)

// What can be wrong, as told to people.
var (
	// ErrTimestamp: a time-stamp is over something else, or wrong in itself.
	ErrTimestamp = fault.New(fault.Unprocessable, "cades_timestamp")
	// ErrNotPossible: the signature lacks what the level builds on.
	ErrNotPossible = fault.New(fault.Conflict, "cades_not_possible")
)

// Attributes (EN 319 122-1 §5; RFC 3126 for those of older CAdES).
var (
	OIDArchiveTimestampV3 = asn1.ObjectIdentifier{0, 4, 0, 1733, 2, 4}
	OIDHashIndexV1        = asn1.ObjectIdentifier{0, 4, 0, 1733, 2, 5} // TS 101 733, still met
	OIDHashIndexV3        = asn1.ObjectIdentifier{0, 4, 0, 19122, 1, 5}
	OIDContentTimestamp   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 20}
	OIDCertificateValues  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 23}
	OIDRevocationValues   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 24}
	OIDArchiveTimestampV1 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 27}
	OIDArchiveTimestampV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 48}
)

// maxTimestamps bounds the time-stamps of one signer.
const maxTimestamps = 64

// Level is a CAdES baseline level.
type Level uint8

// The levels, each above the one before.
const (
	LevelNone Level = iota // a CMS signature that is not CAdES
	LevelB
	LevelT
	LevelLT
	LevelLTA
)

// String gives the level's short name: "B-B" to "B-LTA", "" for LevelNone.
func (l Level) String() string {
	return [...]string{"", "B-B", "B-T", "B-LT", "B-LTA"}[min(l, LevelLTA)]
}

// LevelOf is the lowest level of all signers.
func LevelOf(sd *cms.SignedData) Level {
	if len(sd.Signers) == 0 {
		return LevelNone
	}
	lowest := LevelLTA
	for i := range sd.Signers {
		lowest = min(lowest, SignerLevel(sd, i))
	}
	return lowest
}

// SignerLevel is the level of one signer by what is there: for B-T a
// signature-time-stamp, for B-LT beside it a path's certificates and an answer
// about the signer's and the time-stamp authorities' certificates (where these name
// a source of answers at all), for B-LTA also an archive time-stamp.
func SignerLevel(sd *cms.SignedData, i int) Level {
	si := sd.Signers[i]
	for _, oid := range []asn1.ObjectIdentifier{cms.OIDContentType, cms.OIDMessageDigest} {
		if _, ok := si.SignedAttribute(oid); !ok {
			return LevelNone
		}
	}
	_, v2 := si.SignedAttribute(cms.OIDSigningCertificateV2)
	_, v1 := si.SignedAttribute(cms.OIDSigningCertificate)
	if (!v1 && !v2) || si.SigningTime().IsZero() {
		return LevelNone
	}
	stamps, err := Timestamps(sd, i)
	if err != nil || !slices.ContainsFunc(stamps, func(t Timestamp) bool { return t.Kind == KindSignature && t.Err == nil }) {
		return LevelB
	}
	known := ValuesOf(sd, i)
	archived := false
	var proven time.Time // the oldest that is over the signature value
	for _, t := range stamps {
		switch {
		case t.Kind == KindArchive || t.Kind == KindArchiveOld:
			archived = true
		case t.Err == nil && !known.answers(t.signer(known.Certificates), t.Token.Info.Time):
			return LevelT
		}
		if t.Kind != KindContent && t.Token != nil && proven.IsZero() {
			proven = t.Token.Info.Time
		}
	}
	if !known.answers(signerCertificate(sd, si), proven) {
		return LevelT
	}
	if archived {
		return LevelLTA
	}
	return LevelLT
}

// signerCertificate finds the certificate a signer info names; nil without it.
func signerCertificate(sd *cms.SignedData, si *cms.SignerInfo) *x509.Certificate {
	return si.FindCertificate(sd.Certificates)
}

// Values are certificates and revocation answers that came with a signature.
// Nothing about them has been verified.
type Values struct {
	Certificates []*x509.Certificate
	CRLs         [][]byte // CertificateList, DER
	OCSPs        [][]byte // OCSPResponse, DER
}

// ValuesOf collects all that signer i brings for its validation: what lies in
// SignedData, in the attributes of older CAdES, and in the time-stamp tokens.
func ValuesOf(sd *cms.SignedData, i int) Values {
	var v Values
	v.take(sd)
	si := sd.Signers[i]
	for _, a := range si.Unsigned() {
		for _, value := range a.Values {
			switch {
			case a.Type.Equal(OIDCertificateValues):
				v.certificateValues(value)
			case a.Type.Equal(OIDRevocationValues):
				v.revocationValues(value)
			}
		}
	}
	stamps, _ := Timestamps(sd, i)
	for _, t := range stamps {
		if t.Token != nil {
			v.take(t.Token.SignedData())
			for _, signer := range t.Token.SignedData().Signers { // DSS puts them there
				for _, a := range signer.Unsigned() {
					if len(a.Values) == 1 && a.Type.Equal(OIDCertificateValues) {
						v.certificateValues(a.Values[0])
					} else if len(a.Values) == 1 && a.Type.Equal(OIDRevocationValues) {
						v.revocationValues(a.Values[0])
					}
				}
			}
		}
	}
	return v
}

func (v *Values) take(sd *cms.SignedData) {
	for _, c := range sd.Certificates {
		v.certificate(c)
	}
	for _, c := range sd.CRLs {
		v.CRLs = appendNew(v.CRLs, c)
	}
	for _, o := range sd.OCSPs {
		v.OCSPs = appendNew(v.OCSPs, o)
	}
}

func (v *Values) certificate(c *x509.Certificate) {
	if !slices.ContainsFunc(v.Certificates, c.Equal) {
		v.Certificates = append(v.Certificates, c)
	}
}

func appendNew(list [][]byte, der []byte) [][]byte {
	if slices.ContainsFunc(list, func(have []byte) bool { return bytes.Equal(have, der) }) {
		return list
	}
	return append(list, der)
}

// maxValues bounds certificates or answers in one attribute.
const maxValues = 64

// certificateValues reads CertificateValues ::= SEQUENCE OF Certificate.
func (v *Values) certificateValues(der []byte) {
	in := cryptobyte.String(der)
	var seq, raw cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) {
		return
	}
	for n := 0; n < maxValues && seq.ReadASN1Element(&raw, cbasn1.SEQUENCE); n++ {
		if c, err := x509.ParseCertificate(raw); err == nil {
			v.certificate(c)
		}
	}
}

// revocationValues reads RevocationValues ::= SEQUENCE { crlVals [0] SEQUENCE OF
// CertificateList OPTIONAL, ocspVals [1] SEQUENCE OF BasicOCSPResponse OPTIONAL, ... }.
func (v *Values) revocationValues(der []byte) {
	in := cryptobyte.String(der)
	var seq, outer, list, raw cryptobyte.String
	var has bool
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) {
		return
	}
	if seq.ReadOptionalASN1(&outer, &has, explicit(0)) && has && outer.ReadASN1(&list, cbasn1.SEQUENCE) {
		for n := 0; n < maxValues && list.ReadASN1Element(&raw, cbasn1.SEQUENCE); n++ {
			v.CRLs = appendNew(v.CRLs, raw)
		}
	}
	if seq.ReadOptionalASN1(&outer, &has, explicit(1)) && has && outer.ReadASN1(&list, cbasn1.SEQUENCE) {
		for n := 0; n < maxValues && list.ReadASN1Element(&raw, cbasn1.SEQUENCE); n++ {
			v.OCSPs = appendNew(v.OCSPs, cms.WrapOCSP(raw))
		}
	}
}

func explicit(tag uint8) cbasn1.Tag { return cbasn1.Tag(tag).ContextSpecific().Constructed() }

// Stored are the answers in the form certpath.Validator.ValidateWith takes.
func (v Values) Stored() []certpath.StoredEvidence {
	var out []certpath.StoredEvidence
	for _, o := range v.OCSPs {
		out = append(out, certpath.StoredEvidence{Source: certpath.SourceOCSP, Raw: o})
	}
	for _, c := range v.CRLs {
		out = append(out, certpath.StoredEvidence{Source: certpath.SourceCRL, Raw: c})
	}
	return out
}

// skew is how far the clocks of a time-stamp authority and of who answers about
// status may be apart; without nextUpdate an answer counts for as long as for
// certpath.
const (
	skew    = 5 * time.Minute
	current = 10 * time.Minute
)

// answers tells whether some answer could settle the status of cert at a time: an
// OCSP response that names it, or a list of its issuer's name, that was current
// then or came later while cert had not ended. A certificate that names no source
// of answers needs none.
func (v Values) answers(cert *x509.Certificate, at time.Time) bool {
	if cert == nil {
		return false
	}
	if len(cert.OCSPServer) == 0 && len(cert.CRLDistributionPoints) == 0 {
		return true
	}
	fits := func(this, next time.Time) bool {
		if next.IsZero() {
			next = this.Add(current)
		}
		return !this.After(at.Add(skew)) && !at.After(next.Add(skew)) || !this.Before(at) && !this.After(cert.NotAfter)
	}
	for _, o := range v.OCSPs {
		r, err := certpath.ParseOCSPResponse(o)
		if err != nil {
			continue
		}
		for _, s := range r.Statuses {
			if s.ID.Serial.Cmp(cert.SerialNumber) == 0 && s.ID.Hash.Available() && fits(s.ThisUpdate, s.NextUpdate) &&
				bytes.Equal(s.ID.IssuerNameHash, tsp.NewImprint(s.ID.Hash, cert.RawIssuer).Digest) {
				return true
			}
		}
	}
	for _, c := range v.CRLs {
		if issuer, this, next, ok := listHead(c); !ok || !bytes.Equal(issuer, cert.RawIssuer) || !fits(this, next) {
			continue
		}
		if list, err := certpath.ParseCRL(c); err == nil && list.Covers(cert) == nil { // not a part that leaves cert out
			return true
		}
	}
	return false
}

// listHead reads issuer and times of a CertificateList, without its entries.
func listHead(der []byte) (issuer []byte, this, next time.Time, ok bool) {
	in := cryptobyte.String(der)
	var list, tbs, name cryptobyte.String
	if !in.ReadASN1(&list, cbasn1.SEQUENCE) || !list.ReadASN1(&tbs, cbasn1.SEQUENCE) || !tbs.SkipOptionalASN1(cbasn1.INTEGER) ||
		!tbs.SkipASN1(cbasn1.SEQUENCE) || !tbs.ReadASN1Element(&name, cbasn1.SEQUENCE) || !readTime(&tbs, &this) {
		return nil, this, next, false
	}
	if tbs.PeekASN1Tag(cbasn1.UTCTime) || tbs.PeekASN1Tag(cbasn1.GeneralizedTime) {
		ok = readTime(&tbs, &next)
		return name, this, next, ok
	}
	return name, this, next, true
}

func readTime(in *cryptobyte.String, t *time.Time) bool {
	if in.PeekASN1Tag(cbasn1.UTCTime) {
		return in.ReadASN1UTCTime(t)
	}
	return in.ReadASN1GeneralizedTime(t)
}

// contentDigest gives the digest of what was signed: from the caller, from content
// inside, or from the signed message digest where that was made with this hash.
func contentDigest(sd *cms.SignedData, si *cms.SignerInfo, hash crypto.Hash, given func(crypto.Hash) []byte) ([]byte, error) {
	if given != nil {
		if d := given(hash); len(d) == hash.Size() {
			return d, nil
		}
	}
	if sd.Attached && sd.Content != nil {
		return tsp.NewImprint(hash, sd.Content).Digest, nil
	}
	if d := sd.StreamedDigest(hash); d != nil {
		return d, nil
	}
	if h, err := si.Hash(); err == nil && h == hash {
		if d, ok := si.MessageDigest(); ok && len(d) == hash.Size() {
			return d, nil
		}
	}
	return nil, cms.ErrContentMissing.Because(errors.New("no digest of the content in the time-stamp's algorithm"))
}
