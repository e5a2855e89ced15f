package verification_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"sealgate/internal/certpath"
	"sealgate/internal/fault"
	"sealgate/internal/pkitest"
	"sealgate/internal/sigverify"
	"sealgate/internal/verification"
)

// slow is a format whose reading lasts until it is stopped.
func service(t *testing.T, slots int, reading chan struct{}) *verification.Service {
	t.Helper()
	root, err := pkitest.NewRoot(x509.Certificate{})
	if err != nil {
		t.Fatal(err)
	}
	store, err := certpath.NewTrustStore([]*x509.Certificate{root.Certificate}, nil)
	if err != nil {
		t.Fatal(err)
	}
	slow := sigverify.Container{Name: "slow", Detect: func(head []byte) bool { return string(head) == "slow" },
		Open: func(ctx context.Context, _ io.ReaderAt, _ int64, _ sigverify.Content) (*sigverify.Opened, error) {
			reading <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}}
	v, err := sigverify.New(sigverify.Config{Signers: &certpath.Validator{Store: store}, Containers: []sigverify.Container{slow}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := verification.New(verification.Config{Verifier: v, Slots: slots, Wait: 20 * time.Millisecond, Time: 400 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A file that takes for ever costs its slot for the set time and no longer;
// whoever finds every slot taken is told to come again.
func TestBounds(t *testing.T) {
	reading := make(chan struct{}, 8)
	s := service(t, 1, reading)
	quick := sigverify.Request{Signature: []byte("no signature")}
	if r, err := s.Verify(t.Context(), quick, nil); err != nil || r.Indication != sigverify.TotalFailed {
		t.Fatalf("the control: %v", err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := s.Verify(context.Background(), sigverify.Request{Signature: []byte("slow")}, nil)
		ended <- err
	}()
	<-reading
	var f *fault.Error
	if _, err := s.Verify(t.Context(), quick, nil); !errors.As(err, &f) || f.Code != verification.ErrBusy.Code || f.RetryAfter == 0 {
		t.Errorf("all slots taken: %v", err)
	}
	if _, err := s.Ask(t.Context(), quick); fault.CodeOf(err) != verification.ErrBusy.Code {
		t.Errorf("a question before: %v", err)
	}
	if err := <-ended; fault.CodeOf(err) != verification.ErrTime.Code {
		t.Errorf("for ever: %v", err)
	}
	if _, err := s.Verify(t.Context(), quick, nil); err != nil {
		t.Errorf("the slot was not given back: %v", err)
	}
}

// Whoever goes away takes nothing along.
func TestGone(t *testing.T) {
	reading := make(chan struct{}, 1)
	s := service(t, 1, reading)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reading; cancel() }()
	if _, err := s.Verify(ctx, sigverify.Request{Signature: []byte("slow")}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := s.Verify(t.Context(), sigverify.Request{Signature: []byte("x")}, nil); err != nil {
		t.Errorf("the slot was not given back: %v", err)
	}
}
