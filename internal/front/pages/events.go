package pages

import (
	"encoding/json"
	"net/http"
	"time"

	"sealgate/internal/front"
	"sealgate/internal/order"
)

const (
	pingEvery = 15 * time.Second
	// afterEnd is how long a stream stays open behind the last state, so that
	// the page closes it and not we: EventSource would connect again at once.
	afterEnd = 5 * time.Second
)

// waiter is what an open event stream keeps of its order: what the frame needs
// and nothing else. Ten thousand browsers may wait at once.
type waiter struct {
	view    order.View // only the fields that Orders.Frame reads
	browser order.BrowserKey
	frames  bool
	ended   bool
	enrol   bool
	last    string // the last state that was sent, without the clock
}

// events streams an order: "frame" every step while it waits to be scanned,
// "state" when it changed, a comment now and then.
func (p *Pages) events(w http.ResponseWriter, r *http.Request) {
	v, err := p.mine(r)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	id := v.ID
	changed, stop := p.cfg.Orders.Watch(id)
	defer stop()
	stream, err := front.OpenStream(w, r)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	defer stream.Close()
	browser, _ := front.Browser(r)
	wt := &waiter{browser: browser, enrol: v.Kind == order.Enrol}
	// Read once more: it may have changed between the first reading and the watch.
	if p.follow(r, stream, wt, id) != nil {
		return
	}
	p.wait(r, stream, wt, id, changed)
}

// wait sends until the browser goes or the order has ended.
func (p *Pages) wait(r *http.Request, stream *front.Stream, wt *waiter, id order.ID, changed <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	done := r.Context().Done()
	quiet := time.Now()
	for {
		select {
		case <-done:
			return
		case <-changed:
			if p.follow(r, stream, wt, id) != nil {
				return
			}
			quiet = time.Now()
			timer.Reset(0)
		case now := <-timer.C:
			if wt.ended {
				select {
				case <-done:
				case <-time.After(afterEnd):
				}
				return
			}
			pause, err := p.tick(r, stream, wt, id, now, &quiet)
			if err != nil {
				return
			}
			timer.Reset(pause)
		}
	}
}

// tick sends what is due by the clock and says when to come again.
func (p *Pages) tick(r *http.Request, stream *front.Stream, wt *waiter, id order.ID, now time.Time, quiet *time.Time) (time.Duration, error) {
	if wt.frames {
		if !now.Before(wt.view.ExpiresAt) {
			// Its time has run out; reading it says so.
			return time.Second, p.follow(r, stream, wt, id)
		}
		*quiet = now
		return untilNextFrame(wt.view.CreatedAt, now, p.cfg.Orders.FrameStep()),
			stream.Send("frame", p.cfg.Orders.Frame(&wt.view, now))
	}
	pause := pingEvery
	if left := wt.view.ExpiresAt.Sub(now); left > -time.Minute && left < pause {
		pause = max(left, time.Second)
		if left <= 0 {
			return pause, p.follow(r, stream, wt, id)
		}
	}
	if now.Sub(*quiet) >= pingEvery {
		*quiet = now
		return pause, stream.Ping()
	}
	return pause, nil
}

// untilNextFrame is the time to the next step of an order, and a little more,
// so that no frame is sent twice because a timer was early.
func untilNextFrame(created, now time.Time, step time.Duration) time.Duration {
	return step - max(0, now.Sub(created))%step + 5*time.Millisecond
}

// follow reads the order again and sends its state when it differs from what
// was sent. An enrol order is told at each wake-up: its statement may be there.
func (p *Pages) follow(r *http.Request, stream *front.Stream, wt *waiter, id order.ID) error {
	v, err := p.cfg.Orders.View(r.Context(), id, wt.browser)
	if err != nil {
		return err
	}
	now := time.Now()
	st := p.stateOf(v, now)
	wt.keep(v, st.State)
	tag := etag(fullState{State: st})
	if tag == wt.last && !wt.enrol {
		return nil
	}
	wt.last = tag
	body, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return stream.Send("state", string(body))
}

// keep takes over what the stream needs; the rest of the order is let go.
func (wt *waiter) keep(v *order.View, state order.State) {
	wt.view = order.View{Order: order.Order{ID: v.ID, QRSecret: v.QRSecret, CreatedAt: v.CreatedAt,
		ExpiresAt: v.ExpiresAt, FrozenStep: v.FrozenStep, FrozenAt: v.FrozenAt}}
	wt.frames = state == order.Created && v.QRAllowed
	wt.ended = state.Ended()
}
