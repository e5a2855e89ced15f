package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bare are the costs of bare key operations on this machine, in microseconds.
type Bare struct {
	VerifyAlone float64 `json:"p256_verify_us"`           // one core busy
	VerifyBusy  float64 `json:"p256_verify_all_cores_us"` // every core busy with the same
	SignAlone   float64 `json:"p256_sign_us"`
}

// measureBare times ECDSA P-256 of the standard library. Medians of short
// rounds: other work on the machine spoils means.
func measureBare(d time.Duration) Bare {
	verify, sign := operations()
	b := Bare{VerifyAlone: rounds(d, verify), SignAlone: rounds(d, sign)}
	var all sync.WaitGroup
	cores := describeMachine().Cores
	results := make([]float64, cores)
	for i := range results {
		all.Go(func() { results[i] = rounds(d, verify) })
	}
	all.Wait()
	b.VerifyBusy = median(results)
	return b
}

// operations gives one verification and one signature.
func operations() (verify, sign func()) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	digest := sha256.Sum256([]byte("sealctl bench"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		panic(err)
	}
	return func() { ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) },
		func() { _, _ = ecdsa.SignASN1(rand.Reader, key, digest[:]) }
}

// measureBeside times verifications now and then while a load runs, so that
// they meet the same shared caches and the same other work. It takes about a
// hundredth of one core.
func measureBeside(ctx context.Context) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	verify, _ := operations()
	const each = 10
	var times []float64
	for ctx.Err() == nil {
		start := threadCPU()
		for range each {
			verify()
		}
		times = append(times, float64((threadCPU()-start).Nanoseconds())/1000/each)
		pause(ctx, 100*time.Millisecond)
	}
	return median(times)
}

// threadCPU is the CPU time of this thread: unlike the clock it does not run
// while other programs have the core.
func threadCPU() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// rounds gives the median CPU time of one call in microseconds.
func rounds(d time.Duration, call func()) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const each = 50
	for range each {
		call()
	}
	var times []float64
	for end := time.Now().Add(d); time.Now().Before(end); {
		start := threadCPU()
		for range each {
			call()
		}
		times = append(times, float64((threadCPU()-start).Nanoseconds())/1000/each)
	}
	return median(times)
}
