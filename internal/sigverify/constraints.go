package sigverify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"time"
)

// CryptoPolicy says until when an algorithm, or a length of key, is good enough
// (EN 319 102-1 §5.1.4.3), as data. What is not named is never accepted. A zero
// time is no end.
type CryptoPolicy struct {
	Name    string
	Digests map[crypto.Hash]time.Time
	// RSA and EC: the last row whose Bits the key reaches holds.
	RSA, EC []KeyLimit
	Ed25519 time.Time
}

// KeyLimit is until when keys of at least Bits are accepted.
type KeyLimit struct {
	Bits  int
	Until time.Time
}

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 23, 59, 59, 0, time.UTC) }

// DefaultCryptoPolicy follows NIST SP 800-131A rev. 2 (SHA-1 signatures and keys
// of less than 112 bits of strength ended with 2013) and SP 800-57 part 1 rev. 5
// table 4 (112 bits end with 2030). MD5 and shorter keys are not named: never.
func DefaultCryptoPolicy() CryptoPolicy {
	return CryptoPolicy{
		Name: "NIST SP 800-131A rev. 2, SP 800-57 part 1 rev. 5",
		Digests: map[crypto.Hash]time.Time{
			crypto.SHA1: day(2013, 12, 31), crypto.SHA224: day(2030, 12, 31),
			crypto.SHA256: {}, crypto.SHA384: {}, crypto.SHA512: {},
		},
		RSA: []KeyLimit{{1024, day(2013, 12, 31)}, {2048, day(2030, 12, 31)}, {3072, time.Time{}}},
		EC:  []KeyLimit{{224, day(2030, 12, 31)}, {256, time.Time{}}},
	}
}

// weakness is an algorithm that is not good enough at a time.
type weakness struct {
	never bool // at no time
	what  string
	until time.Time
}

func (w *weakness) String() string {
	if w.never {
		return w.what + " is never accepted"
	}
	return fmt.Sprintf("%s is accepted until %s", w.what, w.until.Format(time.DateOnly))
}

func ended(until, at time.Time) bool { return !until.IsZero() && at.After(until) }

// digest holds a hash against the policy at a time.
func (p CryptoPolicy) digest(h crypto.Hash, at time.Time) *weakness {
	until, known := p.Digests[h]
	switch {
	case !known:
		return &weakness{never: true, what: hashName(h)}
	case ended(until, at):
		return &weakness{what: hashName(h), until: until}
	}
	return nil
}

// key holds a public key against the policy at a time.
func (p CryptoPolicy) key(pub crypto.PublicKey, at time.Time) *weakness {
	limit := func(bits int, rows []KeyLimit) *weakness {
		var row *KeyLimit
		for i := range rows {
			if bits >= rows[i].Bits {
				row = &rows[i]
			}
		}
		switch {
		case row == nil:
			return &weakness{never: true, what: keyName(pub)}
		case ended(row.Until, at):
			return &weakness{what: keyName(pub), until: row.Until}
		}
		return nil
	}
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return limit(k.N.BitLen(), p.RSA)
	case *ecdsa.PublicKey:
		return limit(k.Curve.Params().BitSize, p.EC)
	case ed25519.PublicKey:
		if ended(p.Ed25519, at) {
			return &weakness{what: "Ed25519", until: p.Ed25519}
		}
		return nil
	}
	return &weakness{never: true, what: keyName(pub)}
}

// certificateAlgorithms are the signature algorithms of crypto/x509 and the
// digest each rests on.
var certificateAlgorithms = []struct {
	alg  x509.SignatureAlgorithm
	hash crypto.Hash
}{
	{x509.SHA1WithRSA, crypto.SHA1}, {x509.ECDSAWithSHA1, crypto.SHA1},
	{x509.SHA256WithRSA, crypto.SHA256}, {x509.SHA384WithRSA, crypto.SHA384}, {x509.SHA512WithRSA, crypto.SHA512},
	{x509.SHA256WithRSAPSS, crypto.SHA256}, {x509.SHA384WithRSAPSS, crypto.SHA384}, {x509.SHA512WithRSAPSS, crypto.SHA512},
	{x509.ECDSAWithSHA256, crypto.SHA256}, {x509.ECDSAWithSHA384, crypto.SHA384}, {x509.ECDSAWithSHA512, crypto.SHA512},
	{x509.PureEd25519, crypto.SHA512},
}

// algorithms lists what certificates may be signed with at a time.
func (p CryptoPolicy) algorithms(at time.Time) []x509.SignatureAlgorithm {
	var out []x509.SignatureAlgorithm
	for _, a := range certificateAlgorithms {
		if p.digest(a.hash, at) == nil {
			out = append(out, a.alg)
		}
	}
	return out
}

// rsaBits is the shortest RSA key accepted at a time.
func (p CryptoPolicy) rsaBits(at time.Time) int {
	least := 1 << 20
	for _, row := range p.RSA {
		if !ended(row.Until, at) {
			least = min(least, row.Bits)
		}
	}
	return least
}

// hashName is the name of a digest as in api/openapi.yaml: SHA-256.
func hashName(h crypto.Hash) string { return h.String() }

// keyName describes a public key: "RSA 2048", "P-256".
func keyName(pub crypto.PublicKey) string {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return fmt.Sprintf("%T", pub)
}
