//go:build cgo

package hsm

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/thales-e-security/pool"

	"sealgate/internal/keyring"
)

func TestWhatAnErrorMeansForTheConnection(t *testing.T) {
	for err, want := range map[error]verdict{
		nil:                                        fine,
		errAbsent:                                  absent,
		errSlow:                                    busy,
		pool.ErrTimeout:                            busy,
		keyring.ErrUnreadable:                      final,
		errors.New("context is closed"):            stale,
		errors.New("cannot used closed Context"):   stale,
		errors.New("anything else"):                lost,
		pkcs11.Error(pkcs11.CKR_SESSION_COUNT):     busy,
		pkcs11.Error(pkcs11.CKR_DEVICE_MEMORY):     busy,
		pkcs11.Error(pkcs11.CKR_MECHANISM_INVALID): final,
		pkcs11.Error(pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED):                   final,
		pkcs11.Error(pkcs11.CKR_GENERAL_ERROR):                                odd,
		pkcs11.Error(pkcs11.CKR_DEVICE_ERROR):                                 odd,
		pkcs11.Error(pkcs11.CKR_DEVICE_REMOVED):                               lost,
		pkcs11.Error(pkcs11.CKR_TOKEN_NOT_PRESENT):                            lost,
		pkcs11.Error(pkcs11.CKR_SESSION_HANDLE_INVALID):                       lost,
		pkcs11.Error(pkcs11.CKR_SESSION_CLOSED):                               lost,
		pkcs11.Error(pkcs11.CKR_USER_NOT_LOGGED_IN):                           lost,
		pkcs11.Error(pkcs11.CKR_OPERATION_ACTIVE):                             lost,
		pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED):                     lost,
		pkcs11.Error(pkcs11.CKR_VENDOR_DEFINED | 0x1234):                      lost,
		fmt.Errorf("with words: %w", pkcs11.Error(pkcs11.CKR_DEVICE_REMOVED)): lost,
	} {
		if got := judge(err); got != want {
			t.Errorf("%v: verdict %d, want %d", err, got, want)
		}
	}
	for code, want := range map[uint]bool{pkcs11.CKR_PIN_INCORRECT: true, pkcs11.CKR_PIN_LOCKED: true, pkcs11.CKR_PIN_EXPIRED: true,
		pkcs11.CKR_TOKEN_NOT_PRESENT: false, pkcs11.CKR_GENERAL_ERROR: false} {
		if got := pinRefused(pkcs11.Error(code)); got != want {
			t.Errorf("%v: PIN refused is %v", pkcs11.Error(code), got)
		}
	}
}

// A call that never returns is left behind; one that panics is an error.
func TestCallsThatMisbehave(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	release := make(chan struct{})
	defer close(release)
	start := time.Now()
	if _, err := call(ctx, func() (int, error) { <-release; return 1, nil }); !errors.Is(err, errSlow) || time.Since(start) > 5*time.Second {
		t.Errorf("a call that hangs: %v after %s", err, time.Since(start))
	}
	if _, err := call(context.Background(), func() (int, error) { panic("in the module") }); err == nil || judge(err) != lost {
		t.Errorf("a panic: %v", err)
	}
	if n, err := call(context.Background(), func() (int, error) { return 7, nil }); n != 7 || err != nil {
		t.Errorf("control: %d, %v", n, err)
	}
}

func TestWaitsGrowAndEnd(t *testing.T) {
	for failures, most := range map[int]time.Duration{1: firstWait, 2: 2 * firstWait, 4: 8 * firstWait, 8: lastWait, 1000: lastWait} {
		for range 20 {
			if got := backoff(failures); got > most || got < most*3/4 {
				t.Errorf("after %d failures %s, want at most %s and little less", failures, got, most)
			}
		}
	}
}
