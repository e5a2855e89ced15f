package audit

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"

	"sealgate/internal/throttle"
)

// Damper keeps whoever is refused all the time from filling the audit log: so
// many refusals of an address get an entry each, what goes beyond is counted
// and written as one summed entry for each kind. Nothing is dropped; a node
// that dies loses what it counted since the last Flush.
type Damper struct {
	write func(ctx context.Context, e Entry) error
	limit *throttle.Limit
	mu    sync.Mutex
	sums  map[sum]int
}

// sum is what refusals are counted by.
type sum struct {
	act  Act
	code string
	ip   netip.Addr // of one address, or of the /64
}

// maxSums bounds the kinds counted at a time; further addresses are one.
const maxSums = 4096

// NewDamper makes a damper in front of write.
func NewDamper(write func(ctx context.Context, e Entry) error, limit *throttle.Limit) *Damper {
	return &Damper{write: write, limit: limit, sums: make(map[sum]int)}
}

// Append writes an entry, or counts it where its address has had its share of
// refusals. What is no refusal is always written.
func (d *Damper) Append(ctx context.Context, e Entry) error {
	if e.Result == Refused {
		if _, ok := d.limit.Take(e.IP); !ok {
			d.Count(e)
			return nil
		}
	}
	return d.write(ctx, e)
}

// Count adds a refusal to the sums without an entry of its own.
func (d *Damper) Count(e Entry) {
	code, _ := e.Detail[string(KeyCode)].(string)
	k := sum{e.Act, code, throttle.Block(e.IP)}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.sums[k]; !known && len(d.sums) >= maxSums {
		k.ip = netip.Addr{}
	}
	d.sums[k]++
}

// Flush writes the sums. What cannot be written is kept for the next time.
func (d *Damper) Flush(ctx context.Context) error {
	d.mu.Lock()
	sums := d.sums
	d.sums = make(map[sum]int)
	d.mu.Unlock()
	keys := make([]sum, 0, len(sums))
	for k := range sums {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b sum) int { return a.ip.Compare(b.ip) })
	var all error
	for _, k := range keys {
		e := New(RefusalsSummed).ByBrowser().With(KeyOfAct, string(k.act)).WithInt(KeyCount, sums[k])
		if k.ip.IsValid() {
			e = e.From(k.ip)
		}
		if all == nil {
			all = d.write(ctx, e.Refuse(k.code))
		}
		if all != nil {
			d.mu.Lock()
			d.sums[k] += sums[k]
			d.mu.Unlock()
		}
	}
	return errors.Join(all)
}
