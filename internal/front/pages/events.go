package pages

import (
	"context"
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
	// followTime bounds one reading of an order for a stream.
	followTime = 10 * time.Second
)

// waiter is one open event stream and what it keeps of its order: what the
// frame needs and nothing else. Ten thousand browsers may wait at once.
type waiter struct {
	pages   *Pages
	stream  *front.Stream
	changed <-chan struct{}
	id      order.ID
	browser order.BrowserKey
	view    *order.View // only the fields that Orders.Frame reads; nil when no frames are due
	expires time.Time
	wrote   time.Time
	last    string // the last state that was sent, without the clock
	ended   bool
	enrol   bool
}

// events streams an order: "frame" every step while it waits to be scanned,
// "state" when it changed, a comment now and then.
func (p *Pages) events(w http.ResponseWriter, r *http.Request) {
	v, err := p.mine(r)
	if err != nil {
		front.WriteProblem(w, r, err)
		return
	}
	browser, _ := front.Browser(r)
	id, enrol := v.ID, v.Kind == order.Enrol
	changed, stop := p.cfg.Orders.Watch(id)
	err = front.ServeStream(w, r, func(s *front.Stream) {
		defer stop()
		wt := &waiter{pages: p, stream: s, changed: changed, id: id, browser: browser, enrol: enrol}
		wt.run()
	})
	if err != nil {
		stop()
		front.WriteProblem(w, r, err)
	}
}

// run sends until the browser goes or the order has ended. The order is read
// again at the start: it may have changed before the watch began.
func (wt *waiter) run() {
	if wt.follow() != nil {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	done := wt.stream.Context().Done()
	for !wt.ended {
		select {
		case <-done:
			return
		case <-wt.changed:
			if wt.follow() != nil {
				return
			}
			timer.Reset(0)
		case now := <-timer.C:
			pause, err := wt.tick(now)
			if err != nil {
				return
			}
			timer.Reset(pause)
		}
	}
	timer.Reset(afterEnd)
	select {
	case <-done:
	case <-timer.C:
	}
}

// tick sends what is due by the clock and says when to come again.
func (wt *waiter) tick(now time.Time) (time.Duration, error) {
	if !now.Before(wt.expires) {
		// Its time has run out; reading it says so.
		return time.Second, wt.follow()
	}
	if wt.view != nil {
		orders := wt.pages.cfg.Orders
		return untilNextFrame(wt.view.CreatedAt, now, orders.FrameStep()), wt.send("frame", orders.Frame(wt.view, now))
	}
	if now.Sub(wt.wrote) >= pingEvery {
		wt.wrote = now
		if err := wt.stream.Ping(); err != nil {
			return 0, err
		}
	}
	return max(min(pingEvery, wt.expires.Sub(now)), 10*time.Millisecond), nil
}

// untilNextFrame is the time to the next step of an order, and a little more,
// so that no frame is sent twice because a timer was early.
func untilNextFrame(created, now time.Time, step time.Duration) time.Duration {
	return step - max(0, now.Sub(created))%step + 5*time.Millisecond
}

func (wt *waiter) send(event, data string) error {
	wt.wrote = time.Now()
	return wt.stream.Send(event, data)
}

// follow reads the order again and sends its state when it differs from what
// was sent. An enrol order is told at each wake-up: its statement may be there.
func (wt *waiter) follow() error {
	ctx, cancel := context.WithTimeout(wt.stream.Context(), followTime)
	defer cancel()
	v, err := wt.pages.cfg.Orders.View(ctx, wt.id, wt.browser)
	if err != nil {
		return err
	}
	st := wt.pages.stateOf(v, time.Now())
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
	return wt.send("state", string(body))
}

// keep takes over what the stream needs; the rest of the order is let go.
func (wt *waiter) keep(v *order.View, state order.State) {
	wt.expires = v.ExpiresAt
	wt.ended = state.Ended()
	wt.view = nil
	switch {
	case state == order.Created && v.QRAllowed:
		wt.view = &order.View{Order: order.Order{ID: v.ID, QRSecret: v.QRSecret, CreatedAt: v.CreatedAt,
			FrozenStep: v.FrozenStep, FrozenAt: v.FrozenAt}}
	case state == order.Approved:
		// Nothing runs out any more; the signatures come by a wake-up.
		wt.expires = time.Now().Add(time.Hour)
	}
}
