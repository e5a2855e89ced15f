package cades

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/tsp"
)

// Purpose says whose certificate evidence is collected about.
type Purpose uint8

// The purposes.
const (
	PurposeSigner Purpose = iota + 1
	PurposeTimestamp
)

// Sources are where an extension gets what it puts into the signature.
type Sources struct {
	// Stamp asks for a time-stamp; tsp.Client.Stamp is one.
	Stamp func(ctx context.Context, imprint tsp.Imprint) (*tsp.Stamped, error)
	// Collect gives path and revocation answers of a certificate for the time at;
	// Collector makes one. extra are certificates from the signature. Needed from
	// B-LT on.
	Collect func(ctx context.Context, purpose Purpose, cert *x509.Certificate, extra []*x509.Certificate, at time.Time) (*certpath.Result, error)
	// Digest gives the content's digest for an algorithm, nil when it has none. It
	// may be nil when the content is inside, or when Hash is what the signature was
	// made with: then its message digest is taken, and the content itself is not
	// looked at.
	Digest func(crypto.Hash) []byte
	// Hash of imprints and hash index. Zero is SHA-256.
	Hash crypto.Hash
	// Now is the clock. Nil is time.Now.
	Now func() time.Time
}

// Collector asks a validator: signers under one profile, time-stamp authorities
// under another (certpath.SigningProfile and certpath.TimestampProfile).
func Collector(v *certpath.Validator, signer, timestamp certpath.Profile) func(context.Context, Purpose, *x509.Certificate, []*x509.Certificate, time.Time) (*certpath.Result, error) {
	return func(ctx context.Context, p Purpose, cert *x509.Certificate, extra []*x509.Certificate, at time.Time) (*certpath.Result, error) {
		profile := signer
		if p == PurposeTimestamp {
			profile = timestamp
		}
		return v.Validate(ctx, cert, extra, at, profile)
	}
}

// Extend brings every signer of a signature up to a level. What is there is not
// altered; signers that have the level stay as they are. The signatures must be
// good, so that nothing broken is kept for decades.
func Extend(ctx context.Context, signature []byte, to Level, src Sources) ([]byte, error) {
	e := extension{src: src, der: signature}
	if err := e.start(to); err != nil {
		return nil, err
	}
	steps := []struct {
		level Level
		do    func(context.Context) error
	}{
		{LevelT, e.stampSignatures},
		// Before an archive time-stamp, a signature that has been B-LT for long gets fresh answers.
		{LevelLT, func(ctx context.Context) error { return e.keepValues(ctx, to == LevelLTA) }},
		{LevelLTA, func(ctx context.Context) error { return e.archive(ctx, false) }},
	}
	for _, s := range steps {
		if s.level > to {
			break
		}
		if err := s.do(ctx); err != nil {
			return nil, err
		}
	}
	return e.der, nil
}

// Renew adds a further archive time-stamp to every signer, with what is needed to
// verify the one before it (§5.5.3). It is due before the certificate of the newest
// one ends, or its hash algorithm weakens: see Protection. The signature is brought
// to B-LTA where it is not there yet.
func Renew(ctx context.Context, signature []byte, src Sources) ([]byte, error) {
	sd, err := cms.ParseBER(signature)
	if err != nil {
		return nil, err
	}
	if LevelOf(sd) < LevelLTA {
		return Extend(ctx, signature, LevelLTA, src)
	}
	e := extension{src: src, der: signature}
	if err := e.start(LevelLTA); err != nil {
		return nil, err
	}
	if err := e.keepValues(ctx, true); err != nil {
		return nil, err
	}
	if err := e.archive(ctx, true); err != nil {
		return nil, err
	}
	return e.der, nil
}

// extension is one signature on its way up.
type extension struct {
	src Sources
	der []byte
	sd  *cms.SignedData
}

func (e *extension) start(to Level) error {
	if to < LevelT || to > LevelLTA || e.src.Stamp == nil || to >= LevelLT && e.src.Collect == nil {
		return errors.New("cades: a level from B-T to B-LTA, and its sources, are needed")
	}
	if e.src.Hash == 0 {
		e.src.Hash = crypto.SHA256
	}
	if e.src.Now == nil {
		e.src.Now = time.Now
	}
	if err := e.parse(e.der); err != nil {
		return err
	}
	for i := range e.sd.Signers {
		if SignerLevel(e.sd, i) < LevelB {
			return ErrNotPossible.Because(fmt.Errorf("signer %d is not CAdES", i))
		}
	}
	results, err := e.sd.Verify(cms.VerifyInput{RequireSigningCertificate: true, Digest: e.digest})
	if err == nil {
		err = cms.Good(results)
	}
	return err
}

// digest is the content's digest, or else a signed one: the signer made it.
func (e *extension) digest(h crypto.Hash) []byte {
	if e.src.Digest != nil {
		if d := e.src.Digest(h); d != nil {
			return d
		}
	}
	if e.sd.Attached {
		return nil
	}
	for _, si := range e.sd.Signers {
		if d, err := contentDigest(e.sd, si, h, nil); err == nil {
			return d
		}
	}
	return nil
}

func (e *extension) parse(der []byte) error {
	sd, err := cms.ParseBER(der)
	if err == nil {
		e.der, e.sd = der, sd
	}
	return err
}

// edit changes the signature through an editor and reads it again.
func (e *extension) edit(change func(*cms.Editor) error) error {
	ed, err := cms.Edit(e.der)
	if err != nil {
		return err
	}
	if err := change(ed); err != nil {
		return err
	}
	der, err := ed.Bytes()
	if err != nil {
		return err
	}
	return e.parse(der)
}

// stampSignatures: B-T for each signer that has no signature-time-stamp (§5.3).
func (e *extension) stampSignatures(ctx context.Context) error {
	return e.edit(func(ed *cms.Editor) error {
		for i, si := range e.sd.Signers {
			if SignerLevel(e.sd, i) >= LevelT {
				continue
			}
			s, err := e.stamp(ctx, tsp.NewImprint(e.src.Hash, si.Signature()))
			if err != nil {
				return err
			}
			ed.AddUnsigned(i, cms.NewAttribute(cms.OIDTimeStampToken, s.Token.Raw))
		}
		return nil
	})
}

func (e *extension) stamp(ctx context.Context, imprint tsp.Imprint) (*tsp.Stamped, error) {
	s, err := e.src.Stamp(ctx, imprint)
	if err != nil {
		return nil, err
	}
	if _, err := s.Token.Verify(imprint, s.Certificate); err != nil {
		return nil, err
	}
	return s, nil
}

// keepValues: B-LT. Every time-stamp is verified before anything is built on it.
// With all set, signers that have the level are looked at too, for time-stamps that
// came later.
func (e *extension) keepValues(ctx context.Context, all bool) error {
	return e.edit(func(ed *cms.Editor) error {
		for i, si := range e.sd.Signers {
			if SignerLevel(e.sd, i) >= LevelLT && !all {
				continue
			}
			stamps, err := Timestamps(e.sd, i)
			if err != nil {
				return err
			}
			known := ValuesOf(e.sd, i)
			var proven time.Time // from when on the signature value existed
			for _, t := range stamps {
				if t.Kind == KindArchiveOld {
					continue
				}
				s, err := Verify(e.sd, i, t, e.digest)
				if err != nil {
					return err
				}
				if t.Kind != KindContent && (proven.IsZero() || s.Time.Before(proven)) {
					proven = s.Time
				}
				if err := e.keep(ctx, ed, PurposeTimestamp, s.Certificate, known, e.judgedAt(s)); err != nil {
					return err
				}
			}
			for _, cert := range e.signers(si) {
				if err := e.keep(ctx, ed, PurposeSigner, cert, known, proven); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// judgedAt is the time that an authority is judged for: now, when what is about
// to be added proves its token to have existed (EN 319 102-1 §5.6.2), or the
// token's own time where the certificate has ended since.
func (e *extension) judgedAt(s *Stamp) time.Time {
	if now := e.src.Now(); s.Certificate != nil && now.Before(s.Certificate.NotAfter) && now.After(s.Time) {
		return now
	}
	return s.Time
}

// signers are the certificates of a signer and of its countersigners.
func (e *extension) signers(si *cms.SignerInfo) []*x509.Certificate {
	certs := []*x509.Certificate{signerCertificate(e.sd, si)}
	list, _ := si.Countersigners()
	for _, c := range list {
		if cert := signerCertificate(e.sd, c); cert != nil {
			certs = append(certs, cert)
		}
	}
	return certs
}

// keep puts path and answers of one certificate in, unless they are there: an
// answer collected earlier, when it could still be had, is worth more.
func (e *extension) keep(ctx context.Context, ed *cms.Editor, p Purpose, cert *x509.Certificate, known Values, at time.Time) error {
	if cert == nil {
		return ErrNotPossible.Because(errors.New("a certificate is missing"))
	}
	if known.complete(cert, at) {
		return nil
	}
	if now := e.src.Now(); at.After(now) {
		at = now
	}
	r, err := e.src.Collect(ctx, p, cert, known.Certificates, at)
	if err != nil {
		return err
	}
	ed.AddCertificates(r.Path...)
	for _, ev := range r.Revocation {
		switch ev.Source {
		case certpath.SourceOCSP:
			ed.AddOCSP(ev.Raw)
		case certpath.SourceCRL:
			ed.AddCRL(ev.Raw)
		default:
			return fmt.Errorf("cades: evidence of kind %q", ev.Source)
		}
	}
	return nil
}

// complete tells whether a path's certificates up to a self-signed one, and an
// answer for the time at about each below it, are there already.
func (v Values) complete(cert *x509.Certificate, at time.Time) bool {
	for range maxValues {
		if slices.Equal(cert.RawIssuer, cert.RawSubject) {
			return true
		}
		if !v.answers(cert, at) {
			return false
		}
		i := slices.IndexFunc(v.Certificates, func(c *x509.Certificate) bool { return cert.CheckSignatureFrom(c) == nil })
		if i < 0 {
			return false
		}
		cert = v.Certificates[i]
	}
	return false
}

// archive: B-LTA. The index is made over what is there now, the time-stamp over the
// index, and the index goes into the token (§5.5).
func (e *extension) archive(ctx context.Context, again bool) error {
	return e.edit(func(ed *cms.Editor) error {
		for i, si := range e.sd.Signers {
			if SignerLevel(e.sd, i) >= LevelLTA && !again {
				continue
			}
			index, err := newIndex(e.sd, si, e.src.Hash)
			if err != nil {
				return err
			}
			imprints, err := archiveImprints(e.sd, si, e.src.Hash, index, e.digest)
			if err != nil {
				return err
			}
			s, err := e.stamp(ctx, imprints[0])
			if err != nil {
				return err
			}
			token, err := cms.Edit(s.Token.Raw)
			if err != nil {
				return err
			}
			token.AddUnsigned(0, cms.NewAttribute(OIDHashIndexV3, index))
			der, err := token.Bytes()
			if err != nil {
				return err
			}
			ed.AddUnsigned(i, cms.NewAttribute(OIDArchiveTimestampV3, der))
		}
		return nil
	})
}

// Protected says how long the newest archive time-stamps hold.
type Protected struct {
	// Until is when the first of the signers' newest archive time-stamps loses its
	// authority's certificate.
	Until time.Time
	// Hashes are the imprint algorithms of these time-stamps.
	Hashes []crypto.Hash
	// Count is the number of archive time-stamps of the signer that has fewest.
	Count int
}

// Protection looks at the newest archive time-stamp of each signer. It verifies
// nothing. A signature below B-LTA is ErrNotPossible.
func Protection(sd *cms.SignedData) (Protected, error) {
	var p Protected
	if len(sd.Signers) == 0 {
		return p, ErrNotPossible
	}
	for i := range sd.Signers {
		stamps, err := Timestamps(sd, i)
		if err != nil {
			return p, err
		}
		stamps = slices.DeleteFunc(stamps, func(t Timestamp) bool { return t.Kind != KindArchive || t.Token == nil })
		if len(stamps) == 0 {
			return p, ErrNotPossible.Because(fmt.Errorf("signer %d has no archive time-stamp", i))
		}
		newest := stamps[len(stamps)-1]
		cert := newest.signer(sd.Certificates)
		if cert == nil {
			return p, ErrNotPossible.Because(errors.New("the certificate of a time-stamp is missing"))
		}
		if p.Until.IsZero() || cert.NotAfter.Before(p.Until) {
			p.Until = cert.NotAfter
		}
		if h := newest.Token.Info.Imprint.Hash; !slices.Contains(p.Hashes, h) {
			p.Hashes = append(p.Hashes, h)
		}
		if p.Count == 0 || len(stamps) < p.Count {
			p.Count = len(stamps)
		}
	}
	return p, nil
}
