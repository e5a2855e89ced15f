package sigverify_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"sealgate/internal/cades"
	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/pkitest"
	"sealgate/internal/sigverify"
	"sealgate/internal/tsp"
)

// sources make long-term forms as of a time, with lists of that time.
func (l *lab) sources(t testing.TB, tsa *pkitest.Authority, now time.Time, lists ...certpath.StoredEvidence) cades.Sources {
	store := must(certpath.NewTrustStore([]*x509.Certificate{l.root.Certificate, l.tsaRoot.Certificate}, nil))
	v := &certpath.Validator{Store: store}
	if lists == nil {
		lists = evidenceOf(crl(l.ca, now), crl(l.tsaRoot, now))
	}
	return cades.Sources{
		Now: func() time.Time { return now },
		Stamp: func(_ context.Context, imprint tsp.Imprint) (*tsp.Stamped, error) {
			tk, err := tsp.ParseToken(token(t, tsa, imprint, now))
			return &tsp.Stamped{Token: tk, Certificate: tsa.Certificate}, err
		},
		Collect: func(ctx context.Context, p cades.Purpose, cert *x509.Certificate, extra []*x509.Certificate, at time.Time) (*certpath.Result, error) {
			profile := certpath.SigningProfile()
			if p == cades.PurposeTimestamp {
				profile = certpath.TimestampProfile()
			}
			return v.ValidateWith(ctx, cert, extra, at, profile, lists)
		},
		Digest: func(h crypto.Hash) []byte { return tsp.NewImprint(h, document).Digest },
	}
}

func (l *lab) extend(t testing.TB, p7s []byte, to cades.Level, s cades.Sources) []byte {
	t.Helper()
	out, err := cades.Extend(context.Background(), p7s, to, s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Long-term forms hold on what is inside them, without anything from elsewhere,
// after everybody's certificates have ended.
func TestLongTerm(t *testing.T) {
	l := newLab()
	second := l.authority("(測試用) second TSA", start, years(10))
	base := l.sign(t, years(1))
	b := l.extend(t, base, cades.LevelT, l.sources(t, l.tsa, years(1)))
	lt := l.extend(t, b, cades.LevelLT, l.sources(t, l.tsa, years(1.01)))
	lta := l.extend(t, lt, cades.LevelLTA, l.sources(t, second, years(1.02)))
	late := l.extend(t, lt, cades.LevelLTA, l.sources(t, second, years(4)))
	renewed := must(cades.Renew(context.Background(), l.extend(t, lt, cades.LevelLTA, l.sources(t, l.tsa, years(1.02))), l.sources(t, second, years(4.5))))
	fresh := evidenceOf(crl(l.tsaRoot, years(6)))
	for _, tc := range []struct {
		name     string
		p7s      []byte
		at       time.Time
		evidence []certpath.StoredEvidence
		want     sigverify.SubIndication
		level    string
	}{
		{"T has no answers inside", b, years(1.01), nil, sigverify.TryLater, "B"},
		{"LT alone, soon", lt, years(1.01), nil, "", "LT"},
		{"LT, signer expired, authority not", lt, years(3), evidenceOf(crl(l.tsaRoot, years(3))), "", "LT"},
		{"LT, the authority expired", lt, years(6), fresh, sigverify.OutOfBoundsNoPOE, "B"},
		{"LTA, both expired", lta, years(6), fresh, "", "LTA"},
		{"LTA, nobody says that the last authority is good", lta, years(6), nil, sigverify.OutOfBoundsNoPOE, "B"},
		{"LTA made after the signer had expired, with an answer of then about the first authority inside", late, years(6), fresh, "", "LTA"},
		{"renewed, all but the last authority expired", renewed, years(6), fresh, "", "LTA"},
		{"renewed, the first authority's key was stolen before", renewed, years(6),
			append(evidenceOf(crl(l.tsaRoot, years(4.5), revoked{l.tsa.Certificate, years(4), pkitest.ReasonKeyCompromise})), fresh...), sigverify.OutOfBoundsNoPOE, "LTA"},
		{"renewed, the first authority's key was stolen since", renewed, years(6),
			append(evidenceOf(crl(l.tsaRoot, years(4.9), revoked{l.tsa.Certificate, years(4.7), pkitest.ReasonKeyCompromise})), fresh...), "", "LTA"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := l.verify(t, sigverify.Request{Signature: tc.p7s, At: tc.at, Evidence: tc.evidence})
			expect(t, r, tc.want)
			if s := r.Signatures[0]; s.Level != tc.level {
				t.Errorf("level %q, want %q", s.Level, tc.level)
			}
		})
	}
	t.Run("proofs and where answers come from", func(t *testing.T) {
		s := l.verify(t, sigverify.Request{Signature: lta, At: years(6), Evidence: fresh}).Signatures[0]
		if !s.ProvenTime.Equal(years(1)) || s.Proofs[0].Source != sigverify.ProofSignatureTimestamp || s.Revocation[0].From != sigverify.FromSignature {
			t.Errorf("proven %s by %+v, answers %+v", s.ProvenTime, s.Proofs, s.Revocation)
		}
		if got := s.Revocation[0].ProvenTime; !got.Equal(years(1.02)) {
			t.Errorf("the answer is proven to be of %s", got)
		}
	})
	t.Run("a changed octet in what the archive time-stamp protects", func(t *testing.T) {
		changed := slices.Clone(lta)
		changed[bytes.LastIndex(lta, must(cms.ParseBER(lta)).Signers[0].Signature())] ^= 1
		if r := l.verify(t, sigverify.Request{Signature: changed, At: years(6), Evidence: fresh}); r.Indication != sigverify.TotalFailed {
			t.Errorf("%s", r.SubIndication)
		}
	})
}

// An answer signed by a responder whose certificate has ended could have been
// made with its old key at any time since, unless a time-stamp covers it.
func TestAnswersNeedProofOfTheirTime(t *testing.T) {
	l := newLab()
	responder := template("(測試用) responder", start, years(1.05))
	responder.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	responder.KeyUsage = x509.KeyUsageDigitalSignature
	responder.ExtraExtensions = append(responder.ExtraExtensions, noCheck)
	ocsp := must(l.ca.Issue(responder))
	answer := l.answer(t, ocsp, years(1.01))
	lists := evidenceOf(answer, crl(l.tsaRoot, years(1.01)))
	second := l.authority("(測試用) second TSA", start, years(10))
	lt := l.extend(t, stamped(t, l.sign(t, years(1)), l.tsa, years(1)), cades.LevelLT, l.sources(t, l.tsa, years(1.01), lists...))
	lta := l.extend(t, lt, cades.LevelLTA, l.sources(t, second, years(1.02), evidenceOf(answer, crl(l.tsaRoot, years(1.02)))...))
	later := l.extend(t, lt, cades.LevelLTA, l.sources(t, second, years(1.2), evidenceOf(answer, crl(l.tsaRoot, years(1.2)))...))
	var stuffed []certpath.StoredEvidence
	for i := range 50 {
		stuffed = append(stuffed, l.answer(t, ocsp, years(1.01).Add(time.Duration(i+1)*time.Second)))
	}
	tsa := evidenceOf(crl(l.tsaRoot, years(1.5)))
	for name, tc := range map[string]struct {
		p7s      []byte
		evidence []certpath.StoredEvidence
		want     sigverify.SubIndication
	}{
		"no archive time-stamp":                         {lt, tsa, sigverify.RevocationOutOfBoundsNoPOE},
		"fifty answers of the same kind":                {lt, append(stuffed, tsa...), sigverify.RevocationOutOfBoundsNoPOE},
		"archive time-stamp in time":                    {lta, tsa, ""},
		"archive time-stamp too late":                   {later, tsa, sigverify.RevocationOutOfBoundsNoPOE},
		"no archive time-stamp, but a newer answer":     {lt, append(evidenceOf(crl(l.ca, years(1.5))), tsa...), ""},
		"no archive time-stamp, a newer answer revokes": {lt, append(evidenceOf(crl(l.ca, years(1.5), revoked{l.signer.Certificate, years(0.9), 1})), tsa...), sigverify.RevokedNoPOE},
	} {
		t.Run(name, func(t *testing.T) {
			expect(t, l.verify(t, sigverify.Request{Signature: tc.p7s, At: years(1.5), Evidence: tc.evidence}), tc.want)
		})
	}
}
