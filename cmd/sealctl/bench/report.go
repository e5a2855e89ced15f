package bench

import (
	"fmt"
	"io"
	"time"
)

// Machine is where the run took place.
type Machine struct {
	Processor string `json:"processor"`
	Cores     int    `json:"cores"`
	Arch      string `json:"arch"`
	Go        string `json:"go"`
}

// Cost is CPU time of one order.
type Cost struct {
	MS     float64 `json:"cpu_ms"`
	Beside float64 `json:"bare_verifications"`       // timed beside this very load: the fair measure
	Alone  float64 `json:"bare_verifications_alone"` // timed before, with a core of their own: the strict one
}

// Load is one measured load.
type Load struct {
	Orders     int64   `json:"orders"`
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"orders_per_second"`
	Failed     int     `json:"failed"`
	FirstError string  `json:"first_error,omitempty"`

	// VerifyUS is a bare verification timed beside this load, in microseconds.
	VerifyUS float64 `json:"p256_verify_us_beside"`

	MedianMS float64            `json:"order_ms_p50"`
	P95MS    float64            `json:"order_ms_p95"`
	StepsMS  map[string]float64 `json:"step_ms_p50"`
	steps    []string

	Server   Cost `json:"server"`
	Postgres Cost `json:"postgres"`
	Loader   Cost `json:"load_generator"`

	// Calls is the number of HTTP calls of one order; BeyondHTTP is the server's
	// cost without that many calls that do nothing.
	Calls      int   `json:"http_calls"`
	BeyondHTTP *Cost `json:"server_beyond_http,omitempty"`

	AuditEntries float64 `json:"audit_entries"`        // one for each commit that acts
	Writing      float64 `json:"transaction_ids"`      // transactions that wrote, and the gathered wake-ups
	Transactions float64 `json:"transactions"`         // all, also those that only read
	Flushes      float64 `json:"wal_syncs"`            // group commit joins several
	CoresBusy    float64 `json:"cores_busy_all_parts"` // of the machine, by server, database and load
}

// Report is a whole run.
type Report struct {
	Machine     Machine     `json:"machine"`
	Concurrency int         `json:"concurrency"`
	Citizens    int         `json:"citizens"`
	Bare        Bare        `json:"bare"`
	Signatures  *Signatures `json:"signatures,omitempty"`
	Memory      []Stream    `json:"memory,omitempty"`
	HTTP        *HTTP       `json:"empty_call,omitempty"`
	Login       *Load       `json:"login,omitempty"`
	Sign        *Load       `json:"sign,omitempty"`
	Batch       *Batch      `json:"batch,omitempty"`
	Wait        *Wait       `json:"wait,omitempty"`
}

func newLoad(names []string, laps [][]time.Duration, before, after meter, beside float64, bare Bare) *Load {
	l := &Load{Orders: after.orders - before.orders, Seconds: after.at.Sub(before.at).Seconds(), StepsMS: map[string]float64{},
		steps: names, Calls: len(names), VerifyUS: beside}
	n := float64(max(1, l.Orders))
	l.PerSecond = float64(l.Orders) / l.Seconds
	whole := make([][]time.Duration, len(laps))
	for i, steps := range laps {
		var sum time.Duration
		for _, d := range steps {
			sum += d
		}
		whole[i] = []time.Duration{sum}
	}
	sorted := sortedColumn(whole, 0)
	l.MedianMS, l.P95MS = percentile(sorted, 0.5), percentile(sorted, 0.95)
	for i, name := range names {
		l.StepsMS[name] = percentile(sortedColumn(laps, i), 0.5)
	}
	each := func(d time.Duration) float64 { return ms(d) / n }
	l.Server, l.Postgres = l.cost(each(after.server-before.server), bare), l.cost(each(after.pg-before.pg), bare)
	l.Loader = l.cost(each(after.us-before.us), bare)
	l.AuditEntries = float64(after.entries-before.entries) / n
	l.Writing = float64(after.xids-before.xids) / n
	l.Transactions = float64(after.commits-before.commits) / n
	l.Flushes = float64(after.syncs-before.syncs) / n
	l.CoresBusy = (l.Server.MS + l.Postgres.MS + l.Loader.MS) / 1000 * l.PerSecond
	return l
}

// cost puts CPU milliseconds beside bare verifications.
func (l *Load) cost(ms float64, bare Bare) Cost {
	return Cost{MS: ms, Beside: ms * 1000 / l.VerifyUS, Alone: ms * 1000 / bare.VerifyAlone}
}

// judge takes the HTTP calls away.
func (r *Report) judge() {
	if r.HTTP == nil {
		return
	}
	for _, l := range []*Load{r.Login, r.Sign} {
		if l != nil {
			c := l.cost(l.Server.MS-float64(l.Calls)*r.HTTP.ServerMS, r.Bare)
			l.BeyondHTTP = &c
		}
	}
}

func (r *Report) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %d cores, %s\n", r.Machine.Processor, r.Machine.Cores, r.Machine.Go)
	fmt.Fprintf(w, "bare P-256   verify %.1f µs (all cores busy: %.1f µs), sign %.1f µs\n", r.Bare.VerifyAlone, r.Bare.VerifyBusy, r.Bare.SignAlone)
	if r.HTTP != nil {
		fmt.Fprintf(w, "empty call   %.3f ms server CPU, %.0f calls/s\n", r.HTTP.ServerMS, r.HTTP.PerSecond)
	}
	r.Signatures.print(w)
	for _, m := range r.Memory {
		fmt.Fprintf(w, "memory       %-9s %.2f GiB in %.1f s (%.0f MB/s): %.1f MB at most, %.1f MB for a document of 1 MiB\n", m.What,
			float64(m.Bytes)/(1<<30), m.Seconds, float64(m.Bytes)/1e6/m.Seconds, float64(m.PeakKB)/1024, float64(m.SmallKB)/1024)
	}
	r.Login.print(w, "login", r.Concurrency)
	r.Sign.print(w, "sign", r.Concurrency)
	if b := r.Batch; b != nil {
		fmt.Fprintf(w, "\nbatch of %-4d making the .p7s: %.2f ms CPU = %.2f × the bare key operations (%.2f ms)\n", b.Documents, b.MakeMS, b.MakeRatio, b.BareMS)
		fmt.Fprintf(w, "  whole order over HTTP: %.2f ms server CPU, %.2f ms more than with one document (%.2f × bare; PostgreSQL %.2f ms more)\n",
			b.WholeServerMS, b.FurtherServerMS, b.Ratio, b.FurtherPGMS)
		fmt.Fprintf(w, "  from approving to completed %.1f ms (p50); with time-stamps %.1f ms, %.2f ms server CPU\n", b.ApproveToDoneMS, b.StampedMS, b.StampedServerMS)
	}
	if x := r.Wait; x != nil {
		fmt.Fprintf(w, "\nwait         %d browsers: %.1f KB of server memory each (%.1f KB after a collection), %.1f µs CPU a second, %.1f goroutines\n",
			x.Browsers, x.ResidentKB, x.CollectedKB, x.CPUPerSecond, x.GoroutinesPer)
	}
}

func (s *Signatures) print(w io.Writer) {
	if s == nil {
		return
	}
	fmt.Fprintln(w)
	for _, r := range s.Rows {
		fmt.Fprintf(w, "%-12s %-9s %-7s %7.0f a second: %8.1f µs = %5.2f × the bare key operation (%.1f µs)\n", r.What, r.Key, r.Kept, r.PerSecond, r.US, r.Ratio, r.BareUS)
	}
	for _, note := range s.Notes {
		fmt.Fprintln(w, "  "+note)
	}
}

func (l *Load) print(w io.Writer, name string, concurrency int) {
	if l == nil {
		return
	}
	fmt.Fprintf(w, "\n%-12s %.0f a second, %d at a time: %.1f ms (p50), %.1f ms (p95), %d failed, %.2f cores busy; bare verification beside it %.1f µs\n",
		name, l.PerSecond, concurrency, l.MedianMS, l.P95MS, l.Failed, l.CoresBusy, l.VerifyUS)
	row := func(what string, c Cost) {
		fmt.Fprintf(w, "  %-22s %6.2f ms CPU = %5.1f bare verifications (%.1f of those timed alone)\n", what, c.MS, c.Beside, c.Alone)
	}
	row("server", l.Server)
	if l.BeyondHTTP != nil {
		row(fmt.Sprintf("  without %d HTTP calls", l.Calls), *l.BeyondHTTP)
	}
	row("PostgreSQL", l.Postgres)
	row("load generator", l.Loader)
	fmt.Fprintf(w, "  commits that act %.2f, transaction ids %.2f, transactions %.2f, WAL syncs %.2f\n", l.AuditEntries, l.Writing, l.Transactions, l.Flushes)
	fmt.Fprint(w, "  steps (p50 ms)")
	for _, step := range l.steps {
		fmt.Fprintf(w, "  %s %.1f", step, l.StepsMS[step])
	}
	fmt.Fprintln(w)
}
