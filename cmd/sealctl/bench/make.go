package bench

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"runtime"
	"slices"
	"time"

	"sealgate/internal/cms"
)

// measureMaking times what the signing service does for n approved digests once
// the key is open (signed attributes, signature, assembly of a .p7s each) and,
// in turn with it, n bare signatures. It gives medians of CPU milliseconds and
// of their ratio.
func measureMaking(n int, d time.Duration) (ours, bare, ratio float64, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, 0, 0, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return 0, 0, 0, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return 0, 0, 0, err
	}
	digests := make([][]byte, n)
	for i := range digests {
		sum := sha256.Sum256(fmt.Appendf(nil, "document %d", i))
		digests[i] = sum[:]
	}
	var all, alone, ratios []float64
	for end := time.Now().Add(d); time.Now().Before(end); {
		start := threadCPU()
		if err := make7s(key, cert, digests); err != nil {
			return 0, 0, 0, err
		}
		middle := threadCPU()
		for _, digest := range digests {
			if _, err := ecdsa.SignASN1(rand.Reader, key, digest); err != nil {
				return 0, 0, 0, err
			}
		}
		a, b := middle-start, threadCPU()-middle
		all, alone = append(all, ms(a)), append(alone, ms(b))
		ratios = append(ratios, float64(a)/float64(b))
	}
	return median(all), median(alone), median(ratios), nil
}

// make7s makes one detached signature a digest.
func make7s(key crypto.Signer, cert *x509.Certificate, digests [][]byte) error {
	prepared, err := cms.Prepare(cms.Signer{Certificate: cert}, crypto.SHA256)
	if err != nil {
		return err
	}
	at := time.Now().Truncate(time.Second)
	for _, digest := range digests {
		tbs, err := prepared.SignedAttributes(digest, cms.Options{SigningTime: at})
		if err != nil {
			return err
		}
		info, err := tbs.SignWith(rand.Reader, key)
		if err != nil {
			return err
		}
		if _, err := cms.Assemble([]*x509.Certificate{cert}, info); err != nil {
			return err
		}
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
