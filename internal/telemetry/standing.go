package telemetry

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mediaferry/internal/uploads"
)

// Sources is what a dispatcher is asked when metrics are read.
type Sources struct {
	Accounts    func(context.Context) ([]uploads.AccountStatus, error)
	Standing    func(context.Context) (uploads.Standing, error)
	Workers     func(context.Context) []uploads.WorkerStatus
	Streams     func(context.Context) ([]Stream, error)
	Connections func() (used, idle, most int)
}

// Stream is how much a stream of the queue holds.
type Stream struct {
	Name            string
	Messages, Bytes uint64
}

const (
	standingTimeout = 5 * time.Second
	// What was read is kept for standingRest, or for standingShare times as long as
	// reading took if that is more: metrics cost the database at most a twentieth of
	// its time.
	standingRest  = 5 * time.Second
	standingShare = 20
)

// Ask makes the registry ask the sources when metrics are read. If a source does
// not answer, its metrics are left out and mediaferry_dependency_up is 0.
func (d *Dispatcher) Ask(from Sources) { d.Registry.MustRegister(&standing{from: from}) }

// standing reads the sources, but not at each request for metrics.
type standing struct {
	from Sources

	mu   sync.Mutex
	kept []prometheus.Metric
	next time.Time // when it is asked again
}

var _ prometheus.Collector = (*standing)(nil)

// gauge describes one family of what is asked for.
func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("mediaferry_"+name, help, labels, nil)
}

// The record and the queue are shared, so every dispatcher gives the same values.
//
//nolint:gochecknoglobals // descriptions, never changed
var (
	openDesc      = gauge("uploads", "Uploads that have not ended; queued ones that are paused are left out. The same from every dispatcher.", "account", "provider", "state")
	oldestDesc    = gauge("oldest_upload_seconds", "Since the oldest upload in the state was due.", "account", "provider", "state")
	eventsDesc    = gauge("outbox_events", "Events in the outbox that are not published yet.")
	asideDesc     = gauge("set_aside_messages", "Messages that nobody could read, kept for a person.")
	doubtDesc     = gauge("uploads_in_doubt", "Uploads that wait for a probe after the record went back in time.")
	windowDesc    = gauge("account_window_bytes", "Bytes that may be in flight upstream at present.", "account", "provider")
	windowMaxDesc = gauge("account_window_max_bytes", "Bytes that may be in flight upstream at most, as configured.", "account", "provider")
	inFlightDesc  = gauge("account_in_flight_bytes", "Bytes handed to workers and not yet acknowledged.", "account", "provider")
	goodputDesc   = gauge("account_goodput_bytes_per_second", "Bytes acknowledged in a second, smoothed.", "account", "provider")
	pausedDesc    = gauge("account_paused", "1 while the account or its tenant is paused.", "account", "provider")
	heldDesc      = gauge("account_call_held", "1 for each kind of call that waits since the platform does not answer or asked for a pause.", "account", "provider", "call")
	rateDesc      = gauge("account_rate_spent_ratio", "Share of a published rate that is spent at present.", "account", "provider", "call")
	streamDesc    = gauge("queue_messages", "Messages that a stream holds.", "stream")
	streamBytes   = gauge("queue_bytes", "Bytes that a stream holds.", "stream")
	poolDesc      = gauge("pool_workers", "Workers of which a heartbeat was heard lately.", "pool")
	slotsDesc     = gauge("pool_slots", "Slots of those workers.", "pool")
	busyDesc      = gauge("pool_slots_busy", "Slots of those workers with a job in hand.", "pool")
	connsDesc     = gauge("postgres_connections", "Connections of this process to Postgres.", "state")
	connsMaxDesc  = gauge("postgres_connections_max", "Connections that this process may open to Postgres.")
	upDesc        = gauge("dependency_up", "1 if the last look at it brought an answer.", "dependency")
)

// Describe lists the families.
func (s *standing) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		openDesc, oldestDesc, eventsDesc, asideDesc, doubtDesc, windowDesc, windowMaxDesc, inFlightDesc, goodputDesc, pausedDesc,
		heldDesc, rateDesc, streamDesc, streamBytes, poolDesc, slotsDesc, busyDesc, connsDesc, connsMaxDesc, upDesc,
	} {
		ch <- d
	}
}

// Collect hands out what was read lately, or reads it.
func (s *standing) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if began := time.Now(); !began.Before(s.next) {
		s.kept = s.read()
		took := time.Since(began)
		s.next = time.Now().Add(max(standingRest, standingShare*took))
	}
	for _, m := range s.kept {
		ch <- m
	}
	// These cost nothing, so they are read each time.
	used, idle, most := s.from.Connections()
	ch <- value(connsDesc, float64(used), "used")
	ch <- value(connsDesc, float64(idle), "idle")
	ch <- value(connsMaxDesc, float64(most))
	type pool struct{ workers, slots, busy int }
	pools := map[string]pool{}
	for _, w := range s.from.Workers(context.Background()) {
		p := pools[w.Pool]
		pools[w.Pool] = pool{p.workers + 1, p.slots + w.Slots, p.busy + w.Busy}
	}
	for name, p := range pools {
		ch <- value(poolDesc, float64(p.workers), name)
		ch <- value(slotsDesc, float64(p.slots), name)
		ch <- value(busyDesc, float64(p.busy), name)
	}
}

func value(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// read asks the record and the queue.
func (s *standing) read() (out []prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), standingTimeout)
	defer cancel()
	add := func(d *prometheus.Desc, v float64, labels ...string) { out = append(out, value(d, v, labels...)) }

	accounts, err := s.from.Accounts(ctx)
	if err == nil {
		for _, a := range accounts {
			add(windowDesc, float64(a.Window), a.Name, a.Provider)
			add(windowMaxDesc, float64(a.MaxWindow), a.Name, a.Provider)
			add(inFlightDesc, float64(a.InFlight), a.Name, a.Provider)
			add(goodputDesc, float64(a.Goodput), a.Name, a.Provider)
			add(pausedDesc, yes(len(a.Pauses) > 0), a.Name, a.Provider)
			for _, h := range a.Held {
				add(heldDesc, 1, a.Name, a.Provider, h.Call)
			}
			for _, r := range a.Rates {
				add(rateDesc, r.Spent/float64(r.Count), a.Name, a.Provider, r.Call)
			}
		}
		var now uploads.Standing
		if now, err = s.from.Standing(ctx); err == nil {
			for _, o := range now.Open {
				add(openDesc, float64(o.Uploads), o.Account, o.Provider, string(o.State))
				add(oldestDesc, o.Oldest.Seconds(), o.Account, o.Provider, string(o.State))
			}
			add(eventsDesc, float64(now.Events))
			add(asideDesc, float64(now.SetAside))
			add(doubtDesc, float64(now.InDoubt))
		}
	}
	add(upDesc, yes(err == nil), "postgres")

	streams, err := s.from.Streams(ctx)
	for _, st := range streams {
		add(streamDesc, float64(st.Messages), st.Name)
		add(streamBytes, float64(st.Bytes), st.Name)
	}
	add(upDesc, yes(err == nil), "nats")
	return out
}
