package order

import (
	"sync"
)

// Hub carries wake-ups on one node: who waits for which order, which orders
// changed here and must be announced to the other nodes. It holds no state of
// an order; whoever is woken reads the order again. Losing a wake-up costs a
// delay until the next slow poll, nothing else.
type Hub struct {
	mu      sync.Mutex
	waiting map[ID]map[chan struct{}]struct{}
	seen    map[ID]uint64 // fingerprint at the last slow poll, for watched orders
	pending []ID
	ready   chan struct{}
}

// maxPending bounds announcements that wait for the sender; beyond it the slow
// poll has to serve.
const maxPending = 100_000

// NewHub makes an empty hub.
func NewHub() *Hub {
	return &Hub{
		waiting: make(map[ID]map[chan struct{}]struct{}),
		seen:    make(map[ID]uint64),
		ready:   make(chan struct{}, 1),
	}
}

// Watch gives a channel that fires after an order may have changed. Several
// changes may be one firing. stop must be called, once is enough.
func (h *Hub) Watch(id ID) (changed <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	h.mu.Lock()
	set := h.waiting[id]
	if set == nil {
		set = make(map[chan struct{}]struct{}, 1)
		h.waiting[id] = set
	}
	set[ch] = struct{}{}
	h.mu.Unlock()
	return ch, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(set, ch)
		if len(set) == 0 {
			if current, ok := h.waiting[id]; ok && len(current) == 0 {
				delete(h.waiting, id)
				delete(h.seen, id)
			}
		}
	}
}

// Waiting is the number of orders that somebody on this node waits for.
func (h *Hub) Waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.waiting)
}

// Watched lists the orders that somebody on this node waits for.
func (h *Hub) Watched() []ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]ID, 0, len(h.waiting))
	for id := range h.waiting {
		out = append(out, id)
	}
	return out
}

// Wake fires the local waiters of an order.
func (h *Hub) Wake(id ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wake(id)
}

func (h *Hub) wake(id ID) {
	for ch := range h.waiting[id] {
		select {
		case ch <- struct{}{}:
		default: // one firing is already there
		}
	}
}

// Saw compares an order's fingerprint with the one of the last slow poll and
// wakes its waiters when it differs.
func (h *Hub) Saw(id ID, fingerprint uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.waiting[id]) == 0 {
		return
	}
	if before, ok := h.seen[id]; ok && before != fingerprint {
		h.wake(id)
	} else if !ok {
		h.wake(id) // never polled before: it may have changed between reading and watching
	}
	h.seen[id] = fingerprint
}

// Announce wakes local waiters at once and queues the order for the other nodes.
func (h *Hub) Announce(id ID) {
	h.mu.Lock()
	h.wake(id)
	if len(h.pending) < maxPending {
		h.pending = append(h.pending, id)
	}
	h.mu.Unlock()
	select {
	case h.ready <- struct{}{}:
	default:
	}
}

// Ready fires when there are announcements to send.
func (h *Hub) Ready() <-chan struct{} { return h.ready }

// TakePending removes and returns what is to be announced.
func (h *Hub) TakePending() []ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.pending
	h.pending = nil
	return out
}
