package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sealgate/cmd/sealctl/softphone"
)

// Wait is what browsers that wait cost the server.
type Wait struct {
	Browsers      int     `json:"browsers"`
	FramesSeen    int64   `json:"frames_seen"`
	ResidentKB    float64 `json:"server_kb_per_browser"`            // growth of anonymous resident memory
	CollectedKB   float64 `json:"server_kb_per_browser_collected"`  // the same right after a garbage collection
	GoroutinesPer float64 `json:"goroutines_per_browser"`           //
	CPUPerSecond  float64 `json:"server_cpu_us_per_browser_second"` // one frame each two seconds included
}

// perSource is how many streams come from one loopback address.
const perSource = 1000

// waiting opens event streams of orders that nobody scans.
func (r *rig) waiting(ctx context.Context, n int, hold time.Duration) (*Wait, error) {
	desks := make([]*softphone.Browser, n)
	orders := make([]string, n)
	group, making := errgroup.WithContext(ctx)
	group.SetLimit(16)
	transports := make([]*http.Transport, n/perSource+1)
	for i := range transports {
		transports[i] = sourceTransport(i)
		defer transports[i].CloseIdleConnections()
	}
	for i := range n {
		group.Go(func() (err error) {
			if desks[i], err = softphone.NewBrowser(r.Origin, transports[i/perSource]); err != nil {
				return err
			}
			orders[i], err = desks[i].Follow(making, r.authorizeURL(rand.Text()+rand.Text()))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, t := range transports {
		t.CloseIdleConnections()
	}
	time.Sleep(time.Second)
	before, err := r.resident()
	if err != nil {
		return nil, err
	}
	return r.follow(ctx, desks, orders, before, hold)
}

// footprint is the server's memory right after a collection.
type footprint struct {
	rss        int64
	goroutines int
}

func (r *rig) resident() (footprint, error) {
	m, err := r.memory()
	if err != nil {
		return footprint{}, err
	}
	rss, err := residentOf(r.child.Process.Pid)
	return footprint{rss, m.Goroutines}, err
}

func (r *rig) follow(ctx context.Context, desks []*softphone.Browser, orders []string, before footprint, hold time.Duration) (*Wait, error) {
	streams, stop := context.WithCancel(ctx)
	defer stop()
	var frames, broken atomic.Int64
	var open sync.WaitGroup
	gate := make(chan struct{}, 64)
	for i := range desks {
		gate <- struct{}{}
		open.Go(func() {
			first := true
			err := desks[i].Events(streams, orders[i], func(e softphone.Event) bool {
				if first {
					first = false
					<-gate
				}
				if e.Name == "frame" {
					frames.Add(1)
				}
				return true
			})
			if first {
				<-gate
			}
			if streams.Err() == nil {
				broken.Add(1)
				_ = err
			}
		})
	}
	pause(ctx, min(hold, 3*time.Second)) // all open, the first pictures sent
	seen, start := frames.Load(), time.Now()
	cpu, err := cpuOf(r.child.Process.Pid)
	if err != nil {
		return nil, err
	}
	pause(ctx, hold)
	cpuAfter, err := cpuOf(r.child.Process.Pid)
	took := time.Since(start)
	rss, rssErr := residentOf(r.child.Process.Pid)
	framesSeen := frames.Load() - seen
	collected, memErr := r.resident()
	stop()
	open.Wait()
	if err := errors.Join(err, rssErr, memErr); err != nil {
		return nil, err
	}
	if broken.Load() > 0 {
		return nil, fmt.Errorf("%d of %d streams broke", broken.Load(), len(desks))
	}
	n := float64(len(desks))
	return &Wait{Browsers: len(desks), FramesSeen: framesSeen,
		ResidentKB: float64(rss-before.rss) / 1024 / n, CollectedKB: float64(collected.rss-before.rss) / 1024 / n,
		GoroutinesPer: float64(collected.goroutines-before.goroutines) / n,
		CPUPerSecond:  float64((cpuAfter - cpu).Microseconds()) / took.Seconds() / n}, nil
}

// sourceTransport calls from a loopback address of its own: the server bounds
// the streams of one address.
func sourceTransport(i int) *http.Transport {
	t := newTransport(perSource)
	dialer := &net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i+1))}}
	t.DialContext = func(ctx context.Context, _, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return dialer.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", port))
	}
	return t
}
