package sigverify_test

import (
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/pkitest"
	"sealgate/internal/sigverify"
)

// What a certificate's life and the proofs of time make of one good signature.
func TestTimes(t *testing.T) {
	l := newLab()
	signer := l.signer.Certificate
	bare, early, late := l.sign(t, years(1)), stamped(t, l.sign(t, years(1)), l.tsa, years(1)), stamped(t, l.sign(t, years(1)), l.tsa, years(1.9))
	after := stamped(t, l.sign(t, years(1)), l.tsa, years(2.5))
	clean := func(at float64) certpath.StoredEvidence { return crl(l.ca, years(at)) }
	dirty := func(at, when float64) certpath.StoredEvidence {
		return crl(l.ca, years(at), revoked{signer, years(when), pkitest.ReasonKeyCompromise})
	}
	tsaClean := func(at float64) certpath.StoredEvidence { return crl(l.tsaRoot, years(at)) }
	for _, tc := range []struct {
		name     string
		p7s      []byte
		at       time.Time
		evidence []certpath.StoredEvidence
		proofs   []sigverify.KnownProof
		want     sigverify.SubIndication
	}{
		{"B now, good", bare, years(1), evidenceOf(clean(1)), nil, ""},
		{"B now, nobody answers", bare, years(1), nil, nil, sigverify.TryLater},
		{"B now, the answer is stale", bare, years(1), evidenceOf(clean(0.5)), nil, sigverify.TryLater},
		{"B now, revoked", bare, years(1), evidenceOf(dirty(1, 0.9)), nil, sigverify.RevokedNoPOE},
		{"B expired", bare, years(3), evidenceOf(clean(1.99)), nil, sigverify.OutOfBoundsNoPOE},
		{"B expired, our record proves it", bare, years(3), evidenceOf(clean(1.99)), []sigverify.KnownProof{{Time: years(1.1), Note: "record"}}, ""},
		{"B expired, the record is too late", bare, years(3), evidenceOf(clean(1.99)), []sigverify.KnownProof{{Time: years(2.1)}}, sigverify.OutOfBoundsNoPOE},
		{"B expired, and younger than that", bare, years(3), evidenceOf(clean(1.99)), []sigverify.KnownProof{{Time: years(2.1), NotBefore: true}}, sigverify.Expired},
		{"B revoked, and younger than that", bare, years(1), evidenceOf(dirty(1, 0.9)), []sigverify.KnownProof{{Time: years(0.95), NotBefore: true}}, sigverify.Revoked},
		{"B before the certificate", bare, years(1), evidenceOf(clean(1)), []sigverify.KnownProof{{Time: years(-0.1)}}, sigverify.NotYetValid},
		{"T good", early, years(1.5), evidenceOf(clean(1.5), tsaClean(1.5)), nil, ""},
		{"T revoked after the time-stamp", early, years(1.8), evidenceOf(dirty(1.8, 1.5), tsaClean(1.8)), nil, ""},
		{"T revoked before the time-stamp", late, years(1.95), evidenceOf(dirty(1.95, 1.5), tsaClean(1.95)), nil, sigverify.RevokedNoPOE},
		{"T expired since", early, years(3), evidenceOf(clean(1.9), tsaClean(3)), nil, ""},
		{"T expired before the time-stamp", after, years(3), evidenceOf(clean(1.9), tsaClean(3)), nil, sigverify.OutOfBoundsNoPOE},
		{"T, the authority has ended", early, years(6), evidenceOf(clean(1.9), tsaClean(4.9)), nil, sigverify.OutOfBoundsNoPOE},
		{"T, the authority's key was stolen", early, years(1.5), evidenceOf(clean(1.5), crl(l.tsaRoot, years(1.5), revoked{l.tsa.Certificate, years(1.2), pkitest.ReasonKeyCompromise})), nil, ""},
		{"T, the authority's key was stolen, signer expired", early, years(3), evidenceOf(clean(1.9), crl(l.tsaRoot, years(3), revoked{l.tsa.Certificate, years(1.2), pkitest.ReasonKeyCompromise})), nil, sigverify.OutOfBoundsNoPOE},
		{"T, the authority was closed later", early, years(3), evidenceOf(clean(1.9), crl(l.tsaRoot, years(3), revoked{l.tsa.Certificate, years(1.2), pkitest.ReasonCessation})), nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := l.verify(t, sigverify.Request{Signature: tc.p7s, At: tc.at, Evidence: tc.evidence, Proofs: tc.proofs})
			expect(t, r, tc.want)
		})
	}
}
