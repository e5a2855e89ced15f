package bench

import (
	"context"
	"encoding/json"
	"os"
	"runtime"
	"testing"
	"time"
)

// TestMain lets the test program play its own child, as sealctl does.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "bench" && os.Args[2] == "serve" {
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
	r, err := Run(context.Background(), Config{What: []string{"login", "sign", "batch", "wait"}, Concurrency: 4, Duration: time.Second,
		Citizens: 4, Browsers: 20, WarmUp: 300 * time.Millisecond, Hold: 3 * time.Second, Documents: 5, Log: t.Output()})
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
