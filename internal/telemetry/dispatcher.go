package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"mediaferry/internal/dispatch"
	"mediaferry/internal/notifications"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// Dispatcher watches a dispatcher.
type Dispatcher struct {
	Registry *prometheus.Registry

	tracer    *Tracer
	calls     *calls
	providers map[string]string // of the accounts, by name: the only values of the label

	submitted, ended, failures, fedAgain  *prometheus.CounterVec
	ackedBytes, ackedParts, published     *prometheus.CounterVec
	statementErrors, notifications        *prometheus.CounterVec
	lost, unpublished                     prometheus.Counter
	uploadSeconds, stepSeconds, statement *prometheus.HistogramVec
	batch, batchSeconds                   prometheus.Histogram
}

var _ dispatch.Watcher = (*Dispatcher)(nil)

// NewDispatcher returns a Dispatcher for the accounts, given as the name of each
// account's provider by the account's name.
func NewDispatcher(accounts map[string]string, tracer *Tracer) *Dispatcher {
	reg := newRegistry("dispatcher")
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		reg.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		reg.MustRegister(h)
		return h
	}
	d := &Dispatcher{
		Registry: reg, tracer: tracer, calls: newCalls(reg, tracer), providers: accounts,

		submitted: counter("mediaferry_submissions_total", "Uploads accepted.", "account", "provider"),
		ended: counter("mediaferry_uploads_ended_total",
			"Uploads that came to an end, each counted by one dispatcher; cause is why they failed.", "account", "provider", "state", "cause"),
		failures: counter("mediaferry_failures_total",
			"Tries of parts and digest passes that failed and were handed back by workers.", "account", "provider", "kind"),
		fedAgain:        counter("mediaferry_runs_fed_again_total", "Runs that a sweep found lost and fed again.", "account", "provider"),
		ackedBytes:      counter("mediaferry_acked_bytes_total", "Bytes of parts new in the ledger.", "account", "provider"),
		ackedParts:      counter("mediaferry_acked_parts_total", "Parts new in the ledger.", "account", "provider"),
		published:       counter("mediaferry_jobs_published_total", "Jobs that the queue has confirmed.", "account", "provider", "kind"),
		statementErrors: counter("mediaferry_statement_errors_total", "SQL statements that failed, cut short ones left out.", "statement"),
		notifications: counter("mediaferry_notifications_total",
			"Events of buckets, for each account that the rules name, and once where they name none.", "outcome"),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mediaferry_queue_lost_total", Help: "Sweeps of all that was in flight after the queue was lost.",
		}),
		unpublished: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mediaferry_publish_failures_total", Help: "Tries to put jobs or events on the queue that were not confirmed.",
		}),
		uploadSeconds: histogram("mediaferry_upload_seconds", "From submission to the end of an upload.",
			[]float64{1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 72 * 3600}, "provider", "state"),
		stepSeconds: histogram("mediaferry_step_seconds",
			"Control steps, calls to platforms included; held_up says that the record could not be kept.",
			[]float64{.005, .025, .1, .5, 1, 5, 15, 60, 300}, "step", "outcome"),
		statement: histogram("mediaferry_statement_seconds", "SQL statements, until the last row is read.",
			[]float64{.001, .005, .025, .1, .5, 2.5}, "statement"),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mediaferry_ledger_batch_reports", Help: "Reports that one transaction of the ledger recorded.",
			Buckets: []float64{1, 2, 5, 10, 25, 50, 100, 250, 500, 1000},
		}),
		batchSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mediaferry_ledger_seconds", Help: "Transactions of the ledger.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
	}
	reg.MustRegister(d.lost, d.unpublished, d.batch, d.batchSeconds)
	d.expectAll()
	return d
}

// expectAll creates the series of the known accounts and outcomes, so that the
// first event of each is an increase.
func (d *Dispatcher) expectAll() {
	for _, outcome := range notifications.Outcomes() {
		d.notifications.WithLabelValues(string(outcome))
	}
	for account, provider := range d.providers {
		for _, c := range []*prometheus.CounterVec{d.submitted, d.fedAgain, d.ackedBytes, d.ackedParts} {
			c.WithLabelValues(account, provider)
		}
		for _, state := range []uploads.State{uploads.Completed, uploads.Cancelled} {
			d.ended.WithLabelValues(account, provider, string(state), "")
		}
		for _, cause := range uploads.Causes() {
			d.ended.WithLabelValues(account, provider, string(uploads.Failed), string(cause))
		}
		d.failures.WithLabelValues(account, provider, string(providers.Mismatch))
		d.calls.expect(provider, providers.CallBegin, providers.CallFinish, providers.CallProbe, providers.CallAbort, "renew")
	}
}

// Providers returns the providers, each of them measured.
func (d *Dispatcher) Providers(known map[string]providers.Provider) map[string]providers.Provider {
	return d.calls.watch(known)
}

// providerOf returns the labels of an account; for one that is not configured here
// both are "other".
func (d *Dispatcher) providerOf(account string) (name, provider string) {
	if p, ok := d.providers[account]; ok {
		return account, p
	}
	return "other", "other"
}

// stepName returns what a control step does, by the state of its upload.
func stepName(step uploads.Step) string {
	switch {
	case step.AbortDue:
		return "abort"
	case step.State == uploads.Queued:
		return "open"
	case step.State == uploads.Beginning:
		return "begin"
	case step.State == uploads.Uploading:
		return "renew"
	case step.State == uploads.Finishing:
		return "finish"
	}
	return "other"
}

// Step measures a control step and makes its span.
func (d *Dispatcher) Step(ctx context.Context, step uploads.Step) (context.Context, func(error)) {
	name := stepName(step)
	began := time.Now()
	ctx, span := d.tracer.start(ctx, step.ID, "", name, trace.SpanKindInternal,
		attribute.String("mediaferry.account", step.Account), attribute.Int("mediaferry.epoch", step.Epoch))
	return ctx, func(err error) {
		outcome := "ok"
		if err != nil {
			outcome = "held_up"
		}
		d.stepSeconds.WithLabelValues(name, outcome).Observe(time.Since(began).Seconds())
		end(span, err)
	}
}

// Recorded counts what is new in the ledger, and makes the last span of each report.
func (d *Dispatcher) Recorded(reports []parts.Report, landed []parts.Landed, began time.Time) {
	now := time.Now()
	d.batch.Observe(float64(len(reports)))
	d.batchSeconds.Observe(now.Sub(began).Seconds())
	for _, l := range landed {
		account, provider := d.providerOf(l.Account)
		d.ackedBytes.WithLabelValues(account, provider).Add(float64(l.Bytes))
		d.ackedParts.WithLabelValues(account, provider).Add(float64(l.Parts))
	}
	for _, r := range reports {
		account, provider := d.providerOf(r.Account)
		if r.Failure != nil {
			d.failures.WithLabelValues(account, provider, knownKind(r.Failure.Kind)).Inc()
		}
		for _, f := range r.Mended {
			d.failures.WithLabelValues(account, provider, knownKind(f.Kind)).Inc()
		}
		_, span := d.tracer.start(context.Background(), r.Upload, r.Trace, "record", trace.SpanKindConsumer,
			attribute.String("mediaferry.account", r.Account), attribute.Int("mediaferry.epoch", r.Epoch),
			attribute.Int("mediaferry.parts", len(r.Acks)), attribute.String("mediaferry.ledger_time", now.Sub(began).String()))
		end(span, nil)
	}
}

// FedAgain counts runs.
func (d *Dispatcher) FedAgain(account string, runs int) {
	d.fedAgain.WithLabelValues(d.providerOf(account)).Add(float64(runs))
}

// Notification counts what became of an event of a bucket.
func (d *Dispatcher) Notification(o notifications.Outcome) {
	d.notifications.WithLabelValues(string(o)).Inc()
}

// QueueLost counts losses.
func (d *Dispatcher) QueueLost() { d.lost.Inc() }

// Statement measures a statement of the record.
func (d *Dispatcher) Statement(name string, took time.Duration, err error) {
	d.statement.WithLabelValues(name).Observe(took.Seconds())
	if err != nil && !errors.Is(err, context.Canceled) {
		d.statementErrors.WithLabelValues(name).Inc()
	}
}

// Store returns the record, with submissions counted and traced.
func (d *Dispatcher) Store(store dispatch.Store) dispatch.Store { return watchedStore{store, d} }

type watchedStore struct {
	dispatch.Store
	watch *Dispatcher
}

// Insert counts and traces what is accepted.
func (s watchedStore) Insert(ctx context.Context, in *uploads.Intake) (map[uploads.ID]bool, error) {
	created, err := s.Store.Insert(ctx, in)
	if err != nil {
		return created, err
	}
	for id, isNew := range created {
		if !isNew {
			continue
		}
		s.watch.submitted.WithLabelValues(s.watch.providerOf(in.Account)).Inc()
		_, span := s.watch.tracer.start(ctx, id, "", "submit", trace.SpanKindServer,
			attribute.String("mediaferry.account", in.Account), attribute.String("mediaferry.provider", in.Provider))
		end(span, nil)
	}
	return created, nil
}

// InsertBulk counts what is accepted; a span for each would be too many.
func (s watchedStore) InsertBulk(ctx context.Context, tenant string, batch uploads.ID, items []uploads.BulkItem) ([]uploads.BulkOutcome, error) {
	there, err := s.Store.InsertBulk(ctx, tenant, batch, items)
	if err != nil {
		return there, err
	}
	known := make(map[int]bool, len(there))
	for _, o := range there {
		known[o.Number] = true
	}
	for i := range items {
		if !known[items[i].Number] {
			s.watch.submitted.WithLabelValues(s.watch.providerOf(items[i].Submission.Account)).Inc()
		}
	}
	return there, nil
}

// AcceptSubmissions counts what is accepted.
func (s watchedStore) AcceptSubmissions(ctx context.Context, lease uploads.Lease, list []uploads.TakenSubmission) (map[uploads.ID]bool, []uploads.ID, error) {
	accepted, taken, err := s.Store.AcceptSubmissions(ctx, lease, list)
	for _, t := range list {
		if accepted[t.ID] && err == nil {
			s.watch.submitted.WithLabelValues(s.watch.providerOf(t.Account)).Inc()
		}
	}
	return accepted, taken, err
}

// Queue returns the queue, with what is published counted and traced.
func (d *Dispatcher) Queue(queue dispatch.Queue) dispatch.Queue { return watchedQueue{queue, d} }

type watchedQueue struct {
	dispatch.Queue
	watch *Dispatcher
}

// Publish makes a span for each job, which the job carries to its worker.
func (q watchedQueue) Publish(ctx context.Context, jobs []parts.Publication) error {
	spans := make([]trace.Span, len(jobs))
	for i := range jobs {
		job := &jobs[i].Job
		_, spans[i] = q.watch.tracer.start(ctx, job.Upload, "", "feed", trace.SpanKindProducer,
			attribute.String("mediaferry.account", job.Account), attribute.Int("mediaferry.epoch", job.Epoch),
			attribute.Int("mediaferry.part", job.Run.First), attribute.Int("mediaferry.parts", job.Run.Count))
		job.Trace = traceparentOf(spans[i])
	}
	err := q.Queue.Publish(ctx, jobs)
	for i, job := range jobs {
		if err == nil {
			account, provider := q.watch.providerOf(job.Job.Account)
			q.watch.published.WithLabelValues(account, provider, jobKind(job.Job)).Inc()
		}
		end(spans[i], err)
	}
	if err != nil {
		q.watch.unpublished.Inc()
	}
	return err
}

func jobKind(job parts.Job) string {
	if job.IsDigest() {
		return "digest"
	}
	return "part"
}

// PublishEvents counts uploads that have ended and makes the span that encloses
// each of them. The event of every end passes here, as a rule once.
func (q watchedQueue) PublishEvents(ctx context.Context, events []uploads.Event) error {
	err := q.Queue.PublishEvents(ctx, events)
	if err != nil {
		q.watch.unpublished.Inc()
		return err
	}
	for _, event := range events {
		if e, ok := endedOf(event.Payload); ok {
			q.watch.uploadEnded(e)
		}
	}
	return nil
}

// ended is what telemetry reads of the event of an upload's end.
type ended struct {
	Upload  uploads.ID    `json:"upload"`
	Account string        `json:"account"`
	State   uploads.State `json:"state"`
	At      time.Time     `json:"at"`
	Size    int64         `json:"size"`
	Failure struct {
		Cause string `json:"cause"`
	} `json:"failure"`
}

// endedOf reads an event; ok is false if it is not an upload's end.
func endedOf(payload []byte) (e ended, ok bool) {
	err := json.Unmarshal(payload, &e)
	return e, err == nil && (e.State == uploads.Completed || e.State == uploads.Failed || e.State == uploads.Cancelled)
}

func (d *Dispatcher) uploadEnded(e ended) {
	account, provider := d.providerOf(e.Account)
	d.ended.WithLabelValues(account, provider, string(e.State), e.Failure.Cause).Inc()
	d.uploadSeconds.WithLabelValues(provider, string(e.State)).Observe(e.At.Sub(madeAt(e.Upload)).Seconds())
	d.tracer.ended(e.Upload, e.At, e.Failure.Cause,
		attribute.String("mediaferry.account", account), attribute.String("mediaferry.provider", provider),
		attribute.String("mediaferry.state", string(e.State)), attribute.Int64("mediaferry.bytes", e.Size))
}
