package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"runtime"
	"testing"
	"testing/iotest"
	"time"
)

// TestMain lets the test program play its own child, as sealctl does.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "bench" && (os.Args[2] == "serve" || os.Args[2] == "stream") {
		cmd := Command()
		cmd.SetArgs(os.Args[2:])
		if err := cmd.Execute(); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestRun measures everything for a moment: the figures mean nothing, but every
// order must go through and every counter must move.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a database and a server")
	}
	r, err := Run(context.Background(), Config{What: []string{"signatures", "memory", "login", "sign", "batch", "wait"}, Concurrency: 4, Duration: time.Second,
		Citizens: 4, Browsers: 20, WarmUp: 300 * time.Millisecond, Hold: 3 * time.Second, Documents: 5, Size: 64 << 20, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", raw)
	for name, l := range map[string]*Load{"login": r.Login, "sign": r.Sign} {
		if l.Orders == 0 || l.Failed > 0 || l.Server.MS <= 0 || l.Postgres.MS <= 0 || l.VerifyUS <= 0 {
			t.Errorf("%s: %+v", name, l)
		}
	}
	commits(t, "a login", r.Login, 4, 4)
	commits(t, "a signature", r.Sign, 5, 4)
	if n := len(r.Signatures.Rows); n != 6 && n != 8 || n == 6 && len(r.Signatures.Notes) == 0 {
		t.Errorf("%+v", r.Signatures)
	}
	for _, row := range r.Signatures.Rows {
		if row.US <= 0 || row.BareUS <= 0 || row.Ratio <= 0 || row.PerSecond <= 0 {
			t.Errorf("%+v", row)
		}
	}
	for _, m := range r.Memory {
		// Not a matter of speed: the document must not be in memory.
		if m.PeakKB <= 0 || m.SmallKB <= 0 || m.PeakKB-m.SmallKB > 32<<10 {
			t.Errorf("%+v", m)
		}
	}
	if len(r.Memory) != 2 || r.Batch.ApproveToDoneMS <= 0 || r.Batch.StampedMS <= 0 {
		t.Errorf("%+v %+v", r.Memory, r.Batch)
	}
	if r.Wait.FramesSeen < 10 || r.Batch.MakeRatio < 1 {
		t.Errorf("%+v %+v", r.Wait, r.Batch)
	}
}

// commits allows for the orders that were under way at both ends.
func commits(t *testing.T, what string, l *Load, want float64, underWay int64) {
	t.Helper()
	slack := 0.1 + want*float64(underWay)/float64(l.Orders)
	if got := l.AuditEntries; got < want-slack || got > want+slack {
		t.Errorf("%s takes %.2f commits that act, want %.0f (±%.2f)", what, got, want, slack)
	}
}

func TestStatReadsThisProcess(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := cpuOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	start := threadCPU()
	for threadCPU()-start < 200*time.Millisecond {
		for range 1000 {
			_ = testNationalID(1)
		}
	}
	after, err := cpuOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if used := after - before; used < 100*time.Millisecond || used > 5*time.Second {
		t.Errorf("200 ms of work were read as %s", used)
	}
	if parent, _, _, err := stat(os.Getpid()); err != nil || parent != os.Getppid() {
		t.Errorf("parent %d, %v", parent, err)
	}
}

func TestMedianAndSpan(t *testing.T) {
	if m := median([]float64{9, 1, 5}); m != 5 {
		t.Errorf("median %v", m)
	}
	second := make([]time.Duration, len(signSteps))
	second[4], second[5], second[6] = 20*time.Millisecond, 30*time.Millisecond, time.Hour // approve, wait, collect
	if signSteps[4] != "approve" || approveToDone([][]time.Duration{second}) != 50 {
		t.Errorf("from approving to done: %v", approveToDone([][]time.Duration{second}))
	}
}

func TestStatusField(t *testing.T) {
	if kb, err := field([]byte("VmPeak:\t 9 kB\nVmHWM:\t   1234 kB\n"), "VmHWM:"); err != nil || kb != 1234 {
		t.Errorf("%d, %v", kb, err)
	}
	for _, bad := range []string{"", "VmHWM:\n", "VmHWM: 5 MB\n"} {
		if _, err := field([]byte(bad), "VmHWM:"); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// The document of the memory bench is as long as it says, and the same each time.
func TestDocument(t *testing.T) {
	a, err := io.ReadAll(document(100_001))
	if err != nil || len(a) != 100_001 {
		t.Fatal(len(a), err)
	}
	b, err := io.ReadAll(iotest.OneByteReader(document(100_001)))
	if err != nil || !bytes.Equal(a, b) {
		t.Error("it depends on how it is read", err)
	}
}
