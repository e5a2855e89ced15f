package bench

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/cades"
	"sealgate/internal/certpath"
	"sealgate/internal/cms"
	"sealgate/internal/keyring"
	"sealgate/internal/keyring/hsm"
	"sealgate/internal/pkitest"
	"sealgate/internal/sigverify"
	"sealgate/internal/tsp"
)

// Against is a whole operation beside the bare key operation in it, timed in
// turn with it on one thread; medians of wall clock, in microseconds.
type Against struct {
	What      string  `json:"what"`
	Key       string  `json:"key"`
	Kept      string  `json:"kept,omitempty"` // where a signing key is: memory (a sealed key, opened), token
	PerSecond float64 `json:"per_second"`
	US        float64 `json:"us"`
	BareUS    float64 `json:"bare_key_operation_us"`
	Ratio     float64 `json:"over_bare"`
}

// Signatures is the cost of making and of judging signatures, without server
// and database.
type Signatures struct {
	Rows  []Against `json:"rows"`
	Notes []string  `json:"notes,omitempty"` // what was not measured, and why
}

// softHSM is the token that Debian's package softhsm2 brings.
const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

func measureSignatures(ctx context.Context, d time.Duration, dir string) (*Signatures, error) {
	out := &Signatures{}
	each := max(50*time.Millisecond, d/8)
	token, err := openToken(dir)
	if err != nil {
		out.Notes = append(out.Notes, "no token: "+err.Error())
	} else {
		defer token.Close()
	}
	for _, alg := range []keyring.Algorithm{keyring.P256, keyring.RSA2048} {
		key, err := newKey(alg)
		if err != nil {
			return nil, err
		}
		row, err := measureMade(alg, "memory", key, each)
		if err != nil {
			return nil, err
		}
		out.Rows = append(out.Rows, row)
		if token == nil {
			continue
		}
		_, held, err := token.Make(ctx, keyring.Row{ID: uuid.Must(uuid.NewV7()), Purpose: "bench", Algorithm: alg,
			Provider: keyring.ProviderPKCS11, Label: "bench", State: keyring.Active})
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		if row, err = measureMade(alg, "token", held, each); err != nil {
			return nil, err
		}
		out.Rows = append(out.Rows, row)
	}
	for _, alg := range []keyring.Algorithm{keyring.P256, keyring.RSA2048} {
		rows, err := measureJudged(ctx, alg, each)
		if err != nil {
			return nil, err
		}
		out.Rows = append(out.Rows, rows...)
	}
	return out, nil
}

func newKey(alg keyring.Algorithm) (crypto.Signer, error) {
	if alg == keyring.RSA2048 {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// openToken makes a SoftHSM token of its own below dir.
func openToken(dir string) (*hsm.Token, error) {
	if _, err := os.Stat(softHSM); err != nil {
		return nil, errors.New("SoftHSM is not installed")
	}
	dir = filepath.Join(dir, "token")
	if err := os.MkdirAll(filepath.Join(dir, "tokens"), 0o700); err != nil {
		return nil, err
	}
	conf, pin := filepath.Join(dir, "softhsm2.conf"), filepath.Join(dir, "pin")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(pin, []byte("4711-4711"), 0o600); err != nil {
		return nil, err
	}
	if err := os.Setenv("SOFTHSM2_CONF", conf); err != nil { // the module reads it when it is loaded
		return nil, err
	}
	out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "bench", "--so-pin", "0815-0815", "--pin", "4711-4711").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("softhsm2-util: %w: %s", err, out)
	}
	return hsm.New(hsm.Config{Module: softHSM, TokenLabel: "bench", PINFile: pin})
}

// measureMade times signatures from digest to .p7s beside bare ones.
func measureMade(alg keyring.Algorithm, kept string, key crypto.Signer, d time.Duration) (Against, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Against{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Against{}, err
	}
	digest := sha256.Sum256([]byte("document"))
	return against("make", alg, kept, d,
		func() error { return make7s(key, cert, [][]byte{digest[:]}) },
		func() error { _, err := key.Sign(rand.Reader, digest[:], crypto.SHA256); return err })
}

// against times both in turn, so that both meet the same machine.
func against(what string, alg keyring.Algorithm, kept string, d time.Duration, whole, bare func() error) (Against, error) {
	const each = 4
	var times, bares, ratios []float64
	timed := func(call func() error) (float64, error) {
		start := time.Now()
		for range each {
			if err := call(); err != nil {
				return 0, err
			}
		}
		return float64(time.Since(start).Nanoseconds()) / 1000 / each, nil
	}
	for end := time.Now().Add(d); len(times) == 0 || time.Now().Before(end); {
		a, err := timed(whole)
		if err != nil {
			return Against{}, fmt.Errorf("%s: %w", what, err)
		}
		b, err := timed(bare)
		if err != nil {
			return Against{}, err
		}
		times, bares, ratios = append(times, a), append(bares, b), append(ratios, a/b)
	}
	r := Against{What: what, Key: string(alg), Kept: kept, US: median(times), BareUS: median(bares), Ratio: median(ratios)}
	r.PerSecond = 1e6 / r.US
	return r, nil
}

// lab has everything that a long-term signature needs.
type lab struct {
	root, ca, tsa *pkitest.Authority
	signer        cms.Signer
	lists         []certpath.StoredEvidence
	store         *certpath.TrustStore
}

func newLab(alg keyring.Algorithm) (*lab, error) {
	key, err := newKey(alg)
	if err != nil {
		return nil, err
	}
	from, to := time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	named := func(name string) x509.Certificate {
		return x509.Certificate{Subject: pkix.Name{CommonName: name, Country: []string{"TW"}}, NotBefore: from, NotAfter: to}
	}
	l := &lab{}
	if l.root, err = pkitest.NewRoot(named("bench root")); err != nil {
		return nil, err
	}
	if l.ca, err = l.root.CA(named("bench CA")); err != nil {
		return nil, err
	}
	leaf := named("bench signer")
	leaf.KeyUsage, leaf.CRLDistributionPoints = x509.KeyUsageDigitalSignature, []string{"http://pki.test/ca.crl"}
	cert, err := l.ca.Certify(leaf, key.Public())
	if err != nil {
		return nil, err
	}
	l.signer = cms.Signer{Certificate: cert, Chain: []*x509.Certificate{l.ca.Certificate}, Key: key}
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	if err != nil {
		return nil, err
	}
	stamper := named("bench TSA")
	stamper.KeyUsage, stamper.CRLDistributionPoints = x509.KeyUsageDigitalSignature, []string{"http://pki.test/root.crl"}
	stamper.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: usage}}
	if l.tsa, err = l.root.Issue(stamper); err != nil {
		return nil, err
	}
	for _, issuer := range []*pkitest.Authority{l.root, l.ca} {
		raw, err := pkitest.List{Number: big.NewInt(1), ThisUpdate: from, NextUpdate: to}.Sign(issuer.Certificate, issuer.Key)
		if err != nil {
			return nil, err
		}
		l.lists = append(l.lists, certpath.StoredEvidence{Source: certpath.SourceCRL, Raw: raw})
	}
	l.store, err = certpath.NewTrustStore([]*x509.Certificate{l.root.Certificate}, nil)
	return l, err
}

func (l *lab) stamp(_ context.Context, imprint tsp.Imprint) (*tsp.Stamped, error) {
	r, err := tsp.NewResponder(tsp.ResponderConfig{Certificate: l.tsa.Certificate, Key: l.tsa.Key, Policy: asn1.ObjectIdentifier{2, 999, 1}})
	if err != nil {
		return nil, err
	}
	request, err := (&tsp.Request{Imprint: imprint, CertReq: true}).Marshal()
	if err != nil {
		return nil, err
	}
	answer, err := r.Respond(request)
	if err != nil {
		return nil, err
	}
	raw, err := tsp.ParseResponse(answer)
	if err != nil {
		return nil, err
	}
	token, err := tsp.ParseToken(raw)
	return &tsp.Stamped{Token: token, Certificate: l.tsa.Certificate}, err
}

func (l *lab) collect(ctx context.Context, p cades.Purpose, cert *x509.Certificate, extra []*x509.Certificate, at time.Time) (*certpath.Result, error) {
	profile := certpath.SigningProfile()
	if p == cades.PurposeTimestamp {
		profile = certpath.TimestampProfile()
	}
	return (&certpath.Validator{Store: l.store}).ValidateWith(ctx, cert, extra, at, profile, l.lists)
}

// measureJudged times whole verifications, path and revocation included, beside
// one bare verification with the signer's key. A B-LT signature has two more
// certificates, a time-stamp and the lists inside.
func measureJudged(ctx context.Context, alg keyring.Algorithm, d time.Duration) ([]Against, error) {
	l, err := newLab(alg)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte("document"))
	base, err := cms.SignDigest(rand.Reader, digest[:], l.signer, cms.Options{SigningTime: time.Now()})
	if err != nil {
		return nil, err
	}
	of := func(crypto.Hash) []byte { return digest[:] }
	long, err := cades.Extend(ctx, base, cades.LevelLT, cades.Sources{Stamp: l.stamp, Collect: l.collect, Digest: of})
	if err != nil {
		return nil, err
	}
	v, err := sigverify.New(sigverify.Config{Signers: &certpath.Validator{Store: l.store}, Authorities: &certpath.Validator{Store: l.store}})
	if err != nil {
		return nil, err
	}
	value, err := l.signer.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var rows []Against
	for _, one := range []struct {
		what     string
		p7s      []byte
		evidence []certpath.StoredEvidence
	}{{"verify B-B", base, l.lists}, {"verify B-LT", long, nil}} {
		request := sigverify.Request{Signature: one.p7s, Evidence: one.evidence, Offline: true,
			Content: sigverify.Content{Digests: map[crypto.Hash][]byte{crypto.SHA256: digest[:]}}}
		row, err := against(one.what, alg, "", d, func() error {
			report, err := v.Verify(ctx, request)
			if err == nil && report.Indication != sigverify.TotalPassed {
				err = fmt.Errorf("the bench's own signature is %s %s", report.Indication, report.SubIndication)
			}
			return err
		}, func() error { return verifyBare(l.signer.Key.Public(), digest[:], value) })
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func verifyBare(public crypto.PublicKey, digest, value []byte) error {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest, value)
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(key, digest, value) {
			return nil
		}
	}
	return errors.New("the bare signature is not good")
}
