package certpath_test

import (
	"context"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/pkitest"
)

// Figures of RULES.md: go test -run - -bench . ./internal/certpath

func BenchmarkParseCRL100k(b *testing.B) {
	der, err := longList()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(der)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := certpath.ParseCRL(der); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup100k(b *testing.B) {
	der, err := longList()
	if err != nil {
		b.Fatal(err)
	}
	crl, err := certpath.ParseCRL(der)
	if err != nil {
		b.Fatal(err)
	}
	theirs, err := x509.ParseRevocationList(der)
	if err != nil {
		b.Fatal(err)
	}
	for name, step := range map[string]*big.Int{"listed": big.NewInt(0), "not listed": big.NewInt(1)} {
		serials := make([]*big.Int, 4096)
		for i := range serials {
			serials[i] = new(big.Int).Add(theirs.RevokedCertificateEntries[i*7].SerialNumber, step)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, _, revoked := crl.Lookup(serials[i%len(serials)]); revoked != (step.Sign() == 0) {
					b.Fatal("wrong answer")
				}
				i++
			}
		})
	}
}

// A citizen's certificate with revocation data at hand: by a list of 100,000
// entries, or by remembered OCSP answers.
func BenchmarkValidate(b *testing.B) {
	h := hierarchy()
	ctx := context.Background()
	now := time.Now()
	der, err := longList()
	if err != nil {
		b.Fatal(err)
	}
	for name, o := range map[string]pkitest.CitizenOptions{"list": {NoOCSP: true}, "ocsp": {NoCRL: true}} {
		crd, err := h.Citizen(o)
		if err != nil {
			b.Fatal(err)
		}
		fetch := fetcher(b, nil)
		get := fetch.Get
		fetch.Get = func(ctx context.Context, url, accept string, max int64) ([]byte, error) {
			if url == h.BaseURL()+pkitest.PathCRL {
				return der, nil
			}
			return get(ctx, url, accept, max)
		}
		v := &certpath.Validator{Store: store(b, []*x509.Certificate{h.Root}, h.CA), Checker: listChecker(b, certpath.CheckerConfig{Fetch: fetch})}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Validate(ctx, crd.Certificate, nil, now, certpath.CitizenProfile()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+" parallel", func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := v.Validate(ctx, crd.Certificate, nil, now, certpath.CitizenProfile()); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
	p := certpath.CitizenProfile()
	p.Revocation = certpath.RevocationNone
	crd, err := h.Citizen(pkitest.CitizenOptions{})
	if err != nil {
		b.Fatal(err)
	}
	v := &certpath.Validator{Store: store(b, []*x509.Certificate{h.Root}, h.CA)}
	b.Run("path alone", func(b *testing.B) {
		for b.Loop() {
			if _, err := v.Validate(ctx, crd.Certificate, nil, now, p); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one RSA-2048 verification", func(b *testing.B) {
		for b.Loop() {
			if err := h.CA.CheckSignature(crd.Certificate.SignatureAlgorithm, crd.Certificate.RawTBSCertificate, crd.Certificate.Signature); err != nil {
				b.Fatal(err)
			}
		}
	})
}
