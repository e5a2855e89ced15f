//go:build cgo

package hsm_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"time"

	"sealgate/internal/keyring"
	"sealgate/internal/keyring/hsm"
	"sealgate/internal/postgres/pgtest"
)

// BenchmarkSign makes signatures with a sealed key and with one in the token, in
// turns, from 1, 8 and 32 goroutines. "ratio" is signatures per second of the
// token divided by those of the sealed key: it means something on any machine.
// The token's include the verification of each signature as it leaves.
func BenchmarkSign(b *testing.B) {
	ctx := context.Background()
	box, pool := newBox(b), pgtest.Open(b)
	token := box.open(func(c *hsm.Config) { c.MaxSessions = 33; c.SessionWait = time.Minute })
	for _, alg := range []keyring.Algorithm{keyring.P256, keyring.RSA2048} {
		signers := map[string]crypto.Signer{}
		for place, k := range map[string]*keyring.Keyring{"sealed": box.ring(pool, token), "token": box.ring(pool, token, "oidc")} {
			key, err := k.Generate(ctx, keyring.PurposeOIDC, alg)
			box.ok(err)
			signers[place], err = k.Signer(ctx, key.ID, keyring.PurposeOIDC)
			box.ok(err)
		}
		for _, n := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("%s/%d", alg, n), func(b *testing.B) {
				took := map[string]time.Duration{}
				for range b.N {
					for place, s := range signers {
						took[place] += spread(b, n, 64, s)
					}
				}
				signatures := float64(b.N * 64)
				b.ReportMetric(signatures/took["token"].Seconds(), "token/s")
				b.ReportMetric(signatures/took["sealed"].Seconds(), "sealed/s")
				b.ReportMetric(took["sealed"].Seconds()/took["token"].Seconds(), "ratio")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// spread makes total signatures from n goroutines and tells how long it took.
func spread(b *testing.B, n, total int, s crypto.Signer) time.Duration {
	digest := sum256("bench")
	work := make(chan struct{}, total)
	for range total {
		work <- struct{}{}
	}
	close(work)
	start := time.Now()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for range work {
				if _, err := s.Sign(rand.Reader, digest, crypto.SHA256); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

// BenchmarkFirstUse is what a key costs that this node has not used yet, with
// so many keys of one purpose in the token, against one that it has.
func BenchmarkFirstUse(b *testing.B) {
	ctx := context.Background()
	box := newBox(b)
	token := box.open()
	var rows []keyring.Row
	for _, held := range []int{10, 200} {
		for len(rows) < held {
			made, _, err := token.Make(ctx, row(keyring.PurposeMobile, keyring.P256))
			box.ok(err)
			rows = append(rows, made)
		}
		b.Run(fmt.Sprint(held), func(b *testing.B) {
			var first, again time.Duration
			fresh := box.open() // handles are kept by Token
			for i := range b.N {
				if i%held == 0 {
					fresh.Close()
					fresh = box.open()
				}
				s, err := fresh.Open(ctx, rows[i%held])
				box.ok(err)
				if i%held == 0 { // not the opening of the token
					_, err := fresh.Held(ctx, "none")
					box.ok(err)
				}
				for _, took := range []*time.Duration{&first, &again} {
					start := time.Now()
					if _, err := s.Sign(rand.Reader, sum256("x"), crypto.SHA256); err != nil {
						b.Fatal(err)
					}
					*took += time.Since(start)
				}
			}
			b.ReportMetric(float64(first.Microseconds())/float64(b.N), "µs/first")
			b.ReportMetric(float64(again.Microseconds())/float64(b.N), "µs/again")
			b.ReportMetric(float64(first)/float64(again), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}
