package telemetry

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/transfer"
	"mediaferry/internal/uploads"
)

// Worker watches a worker.
type Worker struct {
	Registry *prometheus.Registry

	tracer *Tracer
	calls  *calls

	jobs, opened *prometheus.HistogramVec
	redelivered  prometheus.Counter
	read         prometheus.Counter
}

// NewWorker returns a Worker.
func NewWorker(tracer *Tracer) *Worker {
	reg := newRegistry("worker")
	w := &Worker{
		Registry: reg, tracer: tracer, calls: newCalls(reg, tracer),
		jobs: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mediaferry_worker_job_seconds", Help: "Deliveries of jobs, by how they were settled: done, retry, release (by a stop).",
			Buckets: []float64{.01, .05, .25, 1, 2.5, 5, 10, 30, 60, 300, 1800},
		}, []string{"kind", "verdict"}),
		opened: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mediaferry_worker_staging_seconds", Help: "Until staging answers a ranged read, by what became of it.",
			Buckets: []float64{.001, .005, .025, .1, .5, 1, 5, 15, 30},
		}, []string{"outcome"}),
		redelivered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mediaferry_worker_redeliveries_total", Help: "Jobs that came with a delivery count above one.",
		}),
		read: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mediaferry_worker_read_bytes_total", Help: "Bytes read from staging.",
		}),
	}
	reg.MustRegister(w.jobs, w.opened, w.redelivered, w.read)
	return w
}

// Providers returns the providers, each of them measured.
func (w *Worker) Providers(known map[string]providers.Provider) map[string]providers.Provider {
	for name := range known {
		w.calls.expect(name, providers.CallPut)
	}
	return w.calls.watch(known)
}

// Ask makes the registry ask the worker when metrics are read.
func (w *Worker) Ask(stats func() transfer.Stats) {
	gauge := func(name, help string, of func(transfer.Stats) float64) {
		w.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "mediaferry_worker_" + name, Help: help},
			func() float64 { return of(stats()) }))
	}
	counter := func(name, help string, of func(transfer.Stats) int64) {
		w.Registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "mediaferry_worker_" + name, Help: help},
			func() float64 { return float64(of(stats())) }))
	}
	gauge("slots", "Jobs that the worker takes at once.", func(s transfer.Stats) float64 { return float64(s.Slots) })
	gauge("slots_busy", "Slots with a job in hand.", func(s transfer.Stats) float64 { return float64(s.Busy) })
	gauge("buffer_bytes", "Memory that the slots keep for parts.", func(s transfer.Stats) float64 { return float64(s.BufferedBytes) })
	counter("sent_parts_total", "Parts that the platform confirmed, repeated ones included.", func(s transfer.Stats) int64 { return s.SentParts })
	counter("sent_bytes_total", "Bytes of those parts.", func(s transfer.Stats) int64 { return s.SentBytes })
	counter("digested_bytes_total", "Bytes that digest passes read and hashed.", func(s transfer.Stats) int64 { return s.DigestedBytes })
}

// Handler handles one delivery of a job, as transfer.Worker.Handle does.
type Handler = func(ctx context.Context, job parts.Job, delivery int, alive func()) parts.Settlement

// Handle returns the handler, measured. A delivery's span is below the one under
// which the job was published.
func (w *Worker) Handle(handle Handler) Handler {
	return func(ctx context.Context, job parts.Job, delivery int, alive func()) parts.Settlement {
		began := time.Now()
		if delivery > 1 {
			w.redelivered.Inc()
		}
		ctx, span := w.tracer.start(ctx, job.Upload, job.Trace, "deliver", trace.SpanKindConsumer,
			attribute.String("mediaferry.account", job.Account), attribute.Int("mediaferry.epoch", job.Epoch),
			attribute.Int("mediaferry.part", job.Run.First), attribute.Int("mediaferry.parts", job.Run.Count),
			attribute.Int("mediaferry.delivery", delivery))
		defer span.End() // also of a handler that panics
		s := handle(ctx, job, delivery, alive)
		verdict := verdictName(s.Verdict)
		span.SetAttributes(attribute.String("mediaferry.verdict", verdict))
		w.jobs.WithLabelValues(jobKind(job), verdict).Observe(time.Since(began).Seconds())
		return s
	}
}

func verdictName(v parts.Verdict) string {
	switch v {
	case parts.Done:
		return "done"
	case parts.Retry:
		return "retry"
	case parts.Release:
		return "release"
	}
	return "other"
}

// Source is where a worker reads objects from.
type Source interface {
	Open(ctx context.Context, obj uploads.Object, offset, length int64) (io.ReadCloser, error)
}

// Source returns the source, with the bytes read from it counted.
func (w *Worker) Source(source Source) Source { return watchedSource{source, w} }

type watchedSource struct {
	Source
	watch *Worker
}

// Open measures the time until staging answers.
func (s watchedSource) Open(ctx context.Context, obj uploads.Object, offset, length int64) (io.ReadCloser, error) {
	began := time.Now()
	_, span := s.watch.tracer.child(ctx, "open", attribute.Int64("mediaferry.offset", offset), attribute.Int64("mediaferry.bytes", length))
	body, err := s.Source.Open(ctx, obj, offset, length)
	s.watch.opened.WithLabelValues(sourceOutcome(err)).Observe(time.Since(began).Seconds())
	end(span, err)
	if err != nil {
		return nil, err
	}
	return &countedBody{ReadCloser: body, read: s.watch.read}, nil
}

func sourceOutcome(err error) string {
	if err == nil {
		return "ok"
	}
	if errors.Is(err, context.Canceled) {
		return "stopped"
	}
	if e, ok := errors.AsType[interface {
		error
		SourceKind() string
	}](err); ok {
		return knownKind(e.SourceKind())
	}
	return parts.SourceTransient
}

type countedBody struct {
	io.ReadCloser
	read prometheus.Counter
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read.Add(float64(n))
	return n, err //nolint:wrapcheck // io.EOF travels as it is
}

// Reporter is how a worker reports.
type Reporter interface {
	Report(ctx context.Context, report parts.Report) error
}

// Reporter returns the reporter; each report carries its span to the ledger.
func (w *Worker) Reporter(reporter Reporter) Reporter { return watchedReporter{reporter, w} }

type watchedReporter struct {
	Reporter
	watch *Worker
}

// Report makes the report's span.
func (r watchedReporter) Report(ctx context.Context, report parts.Report) error {
	ctx, span := r.watch.tracer.child(ctx, "report", attribute.Int("mediaferry.parts", len(report.Acks)))
	report.Trace = traceparentOf(span)
	err := r.Reporter.Report(ctx, report)
	end(span, err)
	return err
}
