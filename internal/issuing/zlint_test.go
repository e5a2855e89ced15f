package issuing_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"sealgate/internal/audit"
	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/pkitest"
	"sealgate/internal/postgres/pgtest"
)

// rfcLints are zlint's rules from RFC 5280 and what amends it. The rules of the
// CA/Browser Forum are for web servers and do not apply to people.
func rfcLints(t *testing.T) lint.Registry {
	t.Helper()
	r, err := lint.GlobalRegistry().Filter(lint.FilterOptions{IncludeSources: lint.SourceList{lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC6960, lint.RFC6962, lint.RFC8813, lint.Community}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(r.Names()); n < 100 {
		t.Fatalf("only %d lints: the test would say nothing", n)
	}
	return r
}

func findings(t *testing.T, r lint.Registry, der []byte) (bad []string, passed int) {
	t.Helper()
	c, err := zx509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return judge(zlint.LintCertificateEx(c, r))
}

func judge(result *zlint.ResultSet) (bad []string, passed int) {
	for name, one := range result.Results {
		switch one.Status {
		case lint.Warn, lint.Error, lint.Fatal:
			bad = append(bad, name+": "+one.Status.String()+" "+one.Details)
		case lint.Pass:
			passed++
		}
	}
	slices.Sort(bad)
	return bad, passed
}

func TestZlintFindsNothing(t *testing.T) {
	ctx := context.Background()
	registry := rfcLints(t)
	for _, authorities := range []keyring.Algorithm{keyring.P256, keyring.RSA2048} {
		pool := pgtest.Open(t)
		ca, keys := bootstrapped(t, pool, func(c *issuing.Config) { c.Algorithm = authorities })
		all := map[string][]byte{}
		for _, name := range []string{issuing.Root, issuing.Issuing, issuing.OCSP, issuing.TSA} {
			c, err := ca.Certificate(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			all[name] = c.Raw
		}
		holder := card(t, pkitest.CitizenOptions{Name: "測試一號", Serial16: "0000000000000161", NationalID: "A123456789"}).Certificate
		for _, alg := range []keyring.Algorithm{keyring.P256, keyring.P384, keyring.RSA2048} {
			_, public, err := keys.SealNewKey(alg)
			if err != nil {
				t.Fatal(err)
			}
			c, err := ca.Issue(ctx, issuing.MobileRequest{Citizen: holder, PublicKey: public})
			if err != nil {
				t.Fatal(err)
			}
			all["mobile "+string(alg)] = c.DER
		}
		for name, der := range all {
			bad, passed := findings(t, registry, der)
			if passed < 20 {
				t.Errorf("%s under %s: only %d lints applied", name, authorities, passed)
			}
			for _, f := range bad {
				t.Errorf("%s under %s: %s", name, authorities, f)
			}
		}
	}
}

func TestZlintFindsNothingInLists(t *testing.T) {
	ctx := context.Background()
	registry := rfcLints(t)
	pool := pgtest.Open(t)
	ca, keys := bootstrapped(t, pool)
	c, _ := issue(t, pool, ca, keys, "0000000000000171")
	if err := ca.Revoke(ctx, c.Serial, issuing.ReasonKeyCompromise, audit.New("")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{issuing.Root, issuing.Issuing} {
		der, _, err := ca.List(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		list, err := zx509.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		bad, passed := judge(zlint.LintRevocationListEx(list, registry))
		if passed == 0 {
			t.Errorf("%s: no lint applied", name)
		}
		for _, f := range bad {
			t.Errorf("list of %s: %s", name, f)
		}
	}
}

// The lints can fail: a certificate with an empty subject, a negative order of
// dates and a key usage that contradicts it is noticed.
func TestZlintCanFail(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(-time.Hour), KeyUsage: x509.KeyUsageCertSign,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 999}}}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if bad, _ := findings(t, rfcLints(t), der); len(bad) < 3 {
		t.Errorf("found only %q", bad)
	}
}
