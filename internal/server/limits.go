package server

import (
	"context"
	"time"

	"sealgate/internal/front"
	"sealgate/internal/throttle"
)

// newLimit makes a limit of so many a minute for an address and for all
// together; times as many may come at once.
func newLimit(each, all, times int) *throttle.Limit {
	return throttle.New(throttle.Rate{PerMinute: each, Burst: each * times}, throttle.Rate{PerMinute: all, Burst: all * times}, nil)
}

// limits are what unknown people may ask of this node.
func (s *Server) limits() front.Limits {
	l := s.opts.Config.Limits
	return front.Limits{Starts: newLimit(l.Starts, l.NodeStarts, 2), Claims: newLimit(l.Claims, l.NodeClaims, 2),
		Verifications: newLimit(l.Verifications, l.NodeVerifications, 2)}
}

// sumsEvery is how often refusals that were only counted are written down.
const sumsEvery = time.Minute

// writeSums writes them until the context ends, and once more then.
func (s *Server) writeSums(ctx context.Context) {
	t := time.NewTicker(sumsEvery)
	defer t.Stop()
	for over := false; !over; {
		select {
		case <-ctx.Done():
			over = true
		case <-t.C:
		}
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		if err := s.refusals.Flush(flush); err != nil {
			s.opts.Log.ErrorContext(ctx, "sums of refusals could not be written and are kept", "error", err)
		}
		cancel()
	}
}
