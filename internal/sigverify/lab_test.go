package sigverify_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"sync"
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/pkitest"
	"sealgate/internal/sigverify"
	"sealgate/internal/tsp"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// start is when the laboratory's certificates begin.
var start = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

func years(n float64) time.Time {
	return start.Add(time.Duration(n * 365 * 24 * float64(time.Hour))).Truncate(time.Second)
}

var document = []byte("公文：同意辦理。\n")

// lab is a hierarchy with a signer, and an authority for time-stamps apart from it.
type lab struct {
	root, ca, signer *pkitest.Authority
	tsaRoot, tsa     *pkitest.Authority
}

func template(name string, from, to time.Time) x509.Certificate {
	return x509.Certificate{Subject: pkix.Name{CommonName: name, Country: []string{"TW"}}, NotBefore: from, NotAfter: to,
		CRLDistributionPoints: []string{"http://pki.test/list.crl"}}
}

// authorityTemplate names no list: the root's own are not asked for.
func authorityTemplate(name string, from, to time.Time) x509.Certificate {
	t := template(name, from, to)
	t.CRLDistributionPoints = nil
	return t
}

// newLab makes one: root and CA for 30 years, the signer from 2020 to 2022, the
// time-stamp authority from 2020 to 2025.
var newLab = sync.OnceValue(func() *lab {
	l := &lab{}
	l.root = must(pkitest.NewRoot(authorityTemplate("(測試用) Root", start, years(30))))
	l.ca = must(l.root.CA(authorityTemplate("(測試用) CA", start, years(30))))
	leaf := template("測試一號", start, years(2))
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	l.signer = must(l.ca.Issue(leaf))
	l.tsaRoot = must(pkitest.NewRoot(authorityTemplate("(測試用) TSA Root", start, years(30))))
	l.tsa = l.authority("(測試用) TSA", start, years(5))
	return l
})

func (l *lab) authority(name string, from, to time.Time) *pkitest.Authority {
	t := template(name, from, to)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true,
		Value: must(asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}}))}}
	return must(l.tsaRoot.Issue(t))
}

func (l *lab) issue(t testing.TB, name string, key crypto.Signer) cms.Signer {
	t.Helper()
	leaf := template(name, start, years(2))
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	cert, err := l.ca.Certify(leaf, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return cms.Signer{Certificate: cert, Chain: []*x509.Certificate{l.ca.Certificate}, Key: key}
}

func (l *lab) cmsSigner() cms.Signer {
	return cms.Signer{Certificate: l.signer.Certificate, Chain: []*x509.Certificate{l.ca.Certificate}, Key: l.signer.Key}
}

// keys are one of each kind.
var keys = sync.OnceValue(func() map[string]crypto.Signer {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return map[string]crypto.Signer{
		"rsa": must(rsa.GenerateKey(rand.Reader, 2048)), "ec": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"ec384": must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), "ed25519": ed,
	}
})

// sign makes a B-B signature over the document.
func (l *lab) sign(t testing.TB, at time.Time) []byte {
	t.Helper()
	return must(cms.SignDigest(rand.Reader, digest(document), l.cmsSigner(), cms.Options{SigningTime: at}))
}

func digest(data []byte) []byte {
	h := crypto.SHA256.New()
	h.Write(data)
	return h.Sum(nil)
}

// stamped adds a signature time-stamp of the authority for the time at.
func stamped(t testing.TB, p7s []byte, authority *pkitest.Authority, at time.Time) []byte {
	t.Helper()
	sd := must(cms.ParseBER(p7s))
	e := must(cms.Edit(p7s))
	for i, si := range sd.Signers {
		e.AddUnsigned(i, cms.NewAttribute(cms.OIDTimeStampToken, token(t, authority, tsp.ImprintOf(si.Signature()), at)))
	}
	return must(e.Bytes())
}

func token(t testing.TB, authority *pkitest.Authority, imprint tsp.Imprint, at time.Time) []byte {
	t.Helper()
	r := must(tsp.NewResponder(tsp.ResponderConfig{Certificate: authority.Certificate, Key: authority.Key,
		Policy: asn1.ObjectIdentifier{2, 999, 1}, Now: func() time.Time { return at }}))
	answer, err := r.Respond(must((&tsp.Request{Imprint: imprint, CertReq: true}).Marshal()))
	if err != nil {
		t.Fatal(err)
	}
	return must(tsp.ParseResponse(answer))
}

// revoked is one line of a list.
type revoked struct {
	cert   *x509.Certificate
	at     time.Time
	reason int
}

// crl is a list of issuer, good for a week.
func crl(issuer *pkitest.Authority, at time.Time, lines ...revoked) certpath.StoredEvidence {
	var entries []x509.RevocationListEntry
	for _, r := range lines {
		entries = append(entries, x509.RevocationListEntry{SerialNumber: r.cert.SerialNumber, RevocationTime: r.at, ReasonCode: r.reason})
	}
	raw := must(pkitest.List{Number: big.NewInt(at.Unix()), ThisUpdate: at, NextUpdate: at.AddDate(0, 0, 7), Entries: entries}.Sign(issuer.Certificate, issuer.Key))
	return certpath.StoredEvidence{Source: certpath.SourceCRL, URL: "test list", Raw: raw}
}

func (l *lab) verifier(t testing.TB, change ...func(*sigverify.Config)) *sigverify.Verifier {
	t.Helper()
	cfg := sigverify.Config{
		Signers:     &certpath.Validator{Store: must(certpath.NewTrustStore([]*x509.Certificate{l.root.Certificate}, nil))},
		Authorities: &certpath.Validator{Store: must(certpath.NewTrustStore([]*x509.Certificate{l.tsaRoot.Certificate}, nil))},
	}
	for _, c := range change {
		c(&cfg)
	}
	v, err := sigverify.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (l *lab) verify(t testing.TB, r sigverify.Request) *sigverify.Report {
	t.Helper()
	if r.Content.Digests == nil && r.Content.Reader == nil {
		r.Content.Digests = map[crypto.Hash][]byte{crypto.SHA256: digest(document)}
	}
	report, err := l.verifier(t).Verify(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// expect compares the outcome; "" is TOTAL-PASSED.
func expect(t testing.TB, r *sigverify.Report, want sigverify.SubIndication) {
	t.Helper()
	passed := r.Indication == sigverify.TotalPassed
	if r.SubIndication != want || passed != (want == "") {
		t.Errorf("got %s %s, want %q\n%s", r.Indication, r.SubIndication, want, must(r.JSON()))
	}
}

func evidenceOf(all ...certpath.StoredEvidence) []certpath.StoredEvidence { return all }

// noCheck is id-pkix-ocsp-nocheck.
var noCheck = pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}

// answer is an OCSP answer that the lab's signer is good.
func (l *lab) answer(t testing.TB, responder *pkitest.Authority, at time.Time) certpath.StoredEvidence {
	t.Helper()
	id := must(certpath.NewCertID(l.signer.Certificate, l.ca.Certificate, crypto.SHA256))
	raw := must(certpath.SignOCSPResponse(rand.Reader, certpath.OCSPResponse{ProducedAt: at, Statuses: []certpath.SingleStatus{
		{ID: id, Status: certpath.StatusGood, ThisUpdate: at, NextUpdate: at.Add(24 * time.Hour)}}}, responder.Certificate, responder.Key, true))
	return certpath.StoredEvidence{Source: certpath.SourceOCSP, Raw: raw}
}
