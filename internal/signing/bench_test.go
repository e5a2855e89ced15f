package signing_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"sealgate/internal/keyring"
)

// BenchmarkBatch100 makes the signatures of one approval over 100 digests.
// "make" is everything from the evidence to the assembled signatures;
// "complete" is Service.Complete, with reading, unsealing the key and the
// commit. "ratio" is the time divided by that of 100 bare key operations,
// measured in turns with it.
func BenchmarkBatch100(b *testing.B) {
	ctx := context.Background()
	w := newWorld(b)
	for _, alg := range []keyring.Algorithm{keyring.P256, keyring.RSA2048} {
		p := w.person(alg)
		_, bare, err := w.keys.SealServiceKey("bench", alg)
		w.ok(err)
		b.Run(string(alg)+"/make", func(b *testing.B) {
			ratio(b, w, p, bare, func(id uuid.UUID) (time.Duration, error) { return w.service.Batch(ctx, id) })
		})
		b.Run(string(alg)+"/complete", func(b *testing.B) {
			ratio(b, w, p, bare, func(id uuid.UUID) (time.Duration, error) {
				start := time.Now()
				err := w.service.Complete(ctx, id)
				return time.Since(start), err
			})
		})
	}
}

func ratio(b *testing.B, w *world, p *person, bare crypto.Signer, run func(uuid.UUID) (time.Duration, error)) {
	documents := make([][]byte, 100)
	for i := range documents {
		documents[i] = fmt.Appendf(nil, "document %d", i)
	}
	var ours, theirs time.Duration
	digest := random(32)
	for range b.N {
		took, err := run(w.approve(p, order(documents...)))
		w.ok(err)
		ours += took
		start := time.Now()
		for range documents {
			if _, err := bare.Sign(rand.Reader, digest, crypto.SHA256); err != nil {
				b.Fatal(err)
			}
		}
		theirs += time.Since(start)
	}
	b.ReportMetric(float64(ours)/float64(theirs), "ratio")
	b.ReportMetric(float64(theirs.Microseconds())/float64(b.N)/100, "µs/bare-key-op")
	b.ReportMetric(float64(ours.Microseconds())/float64(b.N)/100, "µs/p7s")
	b.ReportMetric(0, "ns/op") // it would count the approval too
}
