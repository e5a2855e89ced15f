package pages

import (
	"net/http"
	"time"

	"sealgate/internal/front"
	"sealgate/internal/order"
)

// AddPhoneData is what the page shows on which a phone adds another.
type AddPhoneData struct {
	OrderData
	Newcomer any // shown at once (/dev/states)
	Done     any
}

// Page is what the page's script reads. What the new phone says comes by the
// device API, with the session of this phone.
func (d AddPhoneData) Page() map[string]any {
	m := map[string]any{"order": d.State.Order, "state": d.State, "frame": d.Frame, "live": !d.Still}
	if d.Newcomer != nil {
		m["newcomer"] = d.Newcomer
	}
	if d.Done != nil {
		m["done"] = d.Done
	}
	return m
}

// Over says that nothing more can come of the order but a new beginning.
func (d AddPhoneData) Over() bool { return d.State.State.Ended() && d.State.State != order.Completed }

// addPhone shows the order by which this phone adds another. The picture is
// shown here although this is a phone: another one scans it.
func (p *Pages) addPhone(w http.ResponseWriter, r *http.Request) {
	v, err := p.mine(r)
	if err == nil && v.Kind != order.Enrol {
		err = order.ErrKind
	}
	if err != nil {
		front.ErrorPageTo(w, r, err, "addphone.back", "/app/devices")
		return
	}
	now := time.Now()
	d := AddPhoneData{OrderData: OrderData{State: p.stateOf(v, now), View: v, Own: true}}
	if d.State.State == order.Created {
		d.Frame = p.cfg.Orders.Frame(v, now)
	}
	p.render.Page(w, r, http.StatusOK, "pages/add-phone", d)
}
