package issuing_test

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"sealgate/internal/issuing"
	"sealgate/internal/keyring"
	"sealgate/internal/pkitest"
	"sealgate/internal/postgres/pgtest"
)

func profile(t testing.TB, c issuing.ProfileConfig) *issuing.Profile {
	t.Helper()
	p, err := issuing.NewProfile(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProfileIsChecked(t *testing.T) {
	profile(t, issuing.ProfileConfig{}) // control: everything by default
	profile(t, issuing.ProfileConfig{Life: 90 * 24 * time.Hour, KeyUsage: []string{"contentCommitment"}, Policies: []string{"2.16.886.101.0.3.3", "2.999.7"},
		CardType: "mobile", KeyAlgorithms: []keyring.Algorithm{keyring.RSA3072}})
	for name, c := range map[string]issuing.ProfileConfig{
		"two years":           {Life: 2 * 365 * 24 * time.Hour},
		"no time at all":      {Life: time.Second},
		"signs certificates":  {KeyUsage: []string{"keyCertSign"}},
		"encrypts":            {KeyUsage: []string{"digitalSignature", "keyEncipherment"}},
		"policy that is none": {Policies: []string{"1.x"}},
		"policy for all":      {Policies: []string{"2.5.29.32.0"}},
		"same policy twice":   {Policies: []string{"2.999.1.1", "2.999.1.1"}},
		"many policies":       {Policies: strings.Split("2.999.1,2.999.2,2.999.3,2.999.4,2.999.5,2.999.6,2.999.7,2.999.8,2.999.9", ",")},
		"card type":           {CardType: "行動"},
		"secret as a key":     {KeyAlgorithms: []keyring.Algorithm{keyring.Secret256}},
	} {
		if _, err := issuing.NewProfile(c); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// Every algorithm that the configuration offers gives a certificate; one that
// the profile leaves out gives none.
func TestEveryKeyAlgorithm(t *testing.T) {
	ctx := context.Background()
	ca, keys := bootstrapped(t, pgtest.Open(t))
	anchors, err := ca.Anchors(ctx)
	if err != nil {
		t.Fatal(err)
	}
	holder := card(t, pkitest.CitizenOptions{Name: "測試一號", Serial16: "0000000000000131", NationalID: "A123456789"}).Certificate
	all := []keyring.Algorithm{keyring.P256, keyring.P384, keyring.RSA2048, keyring.RSA3072}
	for i, alg := range all {
		_, public, err := keys.SealNewKey(alg)
		if err != nil {
			t.Fatal(err)
		}
		r := issuing.MobileRequest{Citizen: holder, PublicKey: public}
		c, err := ca.Issue(ctx, r)
		if err != nil {
			t.Errorf("%s: %v", alg, err)
			continue
		}
		cert, err := x509.ParseCertificate(c.DER)
		if err != nil || keyring.AlgorithmOf(cert.PublicKey) != alg || cert.CheckSignatureFrom(anchors[1]) != nil {
			t.Errorf("%s: certificate for %s, %v", alg, keyring.AlgorithmOf(cert.PublicKey), err)
		}
		// A neighbour that is for another algorithm.
		other := newCAWith(t, ca, keys, issuing.ProfileConfig{KeyAlgorithms: []keyring.Algorithm{all[(i+1)%len(all)]}})
		if _, err := other.Issue(ctx, r); !errors.Is(err, issuing.ErrProfile) || !strings.Contains(err.Error(), "key_strong_and_new (") {
			t.Errorf("%s, where the profile has another: %v", alg, err)
		}
	}
}

// Own authorities with each algorithm.
func TestEveryAuthorityAlgorithm(t *testing.T) {
	for _, alg := range []keyring.Algorithm{keyring.P384, keyring.RSA3072} { // P-256 is everywhere else
		pool := pgtest.Open(t)
		ca, keys := bootstrapped(t, pool, func(c *issuing.Config) { c.Algorithm = alg })
		_, cert := issue(t, pool, ca, keys, "0000000000000141")
		anchors, _ := ca.Anchors(context.Background())
		if keyring.AlgorithmOf(anchors[1].PublicKey) != alg || cert.CheckSignatureFrom(anchors[1]) != nil {
			t.Errorf("%s: issuing CA has %s", alg, keyring.AlgorithmOf(anchors[1].PublicKey))
		}
	}
}

func TestProfileDecidesWhatIsIssued(t *testing.T) {
	pool := pgtest.Open(t)
	p := profile(t, issuing.ProfileConfig{Life: 30 * 24 * time.Hour, KeyUsage: []string{"contentCommitment"}, Policies: []string{"2.16.886.101.0.3.3", "2.999.7"}})
	ca, keys := bootstrapped(t, pool, func(c *issuing.Config) { c.Profile = p })
	_, cert := issue(t, pool, ca, keys, "0000000000000151")
	if life := cert.NotAfter.Add(time.Second).Sub(cert.NotBefore); life != 30*24*time.Hour {
		t.Errorf("lives %v", life)
	}
	if cert.KeyUsage != x509.KeyUsageContentCommitment || len(cert.Policies) != 2 || cert.Policies[0].String() != "2.16.886.101.0.3.3" {
		t.Errorf("usage %b, policies %v", cert.KeyUsage, cert.Policies)
	}
	// The same authority, configured for a policy later that its own certificate
	// does not have: path validation would come to nothing, so nothing is signed.
	later := newCAWith(t, ca, keys, issuing.ProfileConfig{Policies: []string{"2.999.8"}})
	_, public, err := keys.SealNewKey(keyring.P256)
	if err != nil {
		t.Fatal(err)
	}
	holder := card(t, pkitest.CitizenOptions{Serial16: "0000000000000152", NationalID: "A123456789"}).Certificate
	if _, err := later.Issue(context.Background(), issuing.MobileRequest{Citizen: holder, PublicKey: public}); !errors.Is(err, issuing.ErrProfile) || !strings.Contains(err.Error(), "policy_allowed_by_issuer (") {
		t.Errorf("a policy that the issuing CA may not give: %v", err)
	}
}
