package telemetry

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"

	"mediaferry/internal/build"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

// Tracing says where spans go.
type Tracing struct {
	// Endpoint is the collector's URL, OTLP over HTTP. If it is empty, the variables
	// OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT count; if
	// they are empty too, nothing is traced.
	Endpoint string
	Sample   float64 // share of uploads that are traced, 0 to 1
	Service  string  // name of the process, unless OTEL_SERVICE_NAME gives another
	Instance string  // tells processes of the name apart
}

// Tracer makes spans. A nil Tracer makes none, and costs nothing.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	sample   float64
}

// NewTracer returns a Tracer, nil if tracing is off. A collector that cannot be
// reached is no error: spans wait for it in bounded memory and are then dropped,
// with at most one log line a minute. All of OpenTelemetry's variables are
// honoured except those of sampling.
func NewTracer(ctx context.Context, cfg Tracing, log *zap.Logger) (*Tracer, error) {
	named := os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	if cfg.Endpoint == "" && !named || cfg.Sample <= 0 || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return nil, nil // a nil Tracer is of use
	}
	var opts []otlptracehttp.Option
	if cfg.Endpoint != "" {
		u, err := url.Parse(cfg.Endpoint)
		if err != nil {
			return nil, errors.New("tracing.endpoint: is not a URL; give one such as http://127.0.0.1:4318")
		}
		if strings.Trim(u.Path, "/") == "" {
			u.Path = "/v1/traces"
		}
		opts = append(opts, otlptracehttp.WithEndpointURL(u.String()))
	}
	exporter, err := otlptracehttp.New(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("export traces: %w", err)
	}
	var quiet atomic.Int64 // until when, in ns since 1970
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		now := time.Now()
		if until := quiet.Load(); now.UnixNano() >= until && quiet.CompareAndSwap(until, now.Add(time.Minute).UnixNano()) {
			log.Warn("spans do not reach the collector", zap.Error(err))
		}
	}))
	res, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", cfg.Service), attribute.String("service.instance.id", cfg.Instance),
		attribute.String("service.version", build.Version()),
	), resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("describe the process to the collector: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter), sdktrace.WithResource(res), sdktrace.WithIDGenerator(ids{}),
		// Every span here has a parent, which says whether the upload is traced.
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())),
	)
	return &Tracer{provider: provider, tracer: provider.Tracer("mediaferry"), sample: cfg.Sample}, nil
}

// Close sends the spans that are left, for at most three seconds, even if ctx has
// ended.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last spans: %w", err)
	}
	return nil
}

// sampled reports whether the upload is traced. The last 62 bits of its id are
// random, so every process comes to the same answer.
func (t *Tracer) sampled(id uploads.ID) bool {
	return float64(binary.BigEndian.Uint64(id[8:])<<2) < t.sample*math.Exp2(64)
}

// root returns the span that encloses all others of the upload.
func root(id uploads.ID) trace.SpanContextConfig {
	span := trace.SpanID(id[8:])
	for i := range span {
		span[i] ^= id[i] // two uploads of one millisecond differ in both halves
	}
	return trace.SpanContextConfig{TraceID: trace.TraceID(id), SpanID: span, TraceFlags: trace.FlagsSampled, Remote: true}
}

// start begins a span of the upload: below traceparent's if that is of the same
// upload, else below its root. If the upload is not traced, the span does nothing.
func (t *Tracer) start(
	ctx context.Context, id uploads.ID, traceparent, name string, kind trace.SpanKind, attrs ...attribute.KeyValue,
) (context.Context, trace.Span) {
	if t == nil || !t.sampled(id) {
		return ctx, noop.Span{}
	}
	return t.tracer.Start(t.below(ctx, id, traceparent), name, trace.WithSpanKind(kind),
		trace.WithAttributes(append(attrs, attribute.String("mediaferry.upload", id.String()))...))
}

func (t *Tracer) below(ctx context.Context, id uploads.ID, traceparent string) context.Context {
	parent := trace.NewSpanContext(root(id))
	if traceparent != "" {
		sent := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(
			context.Background(), propagation.MapCarrier{"traceparent": traceparent}))
		if sent.TraceID() == parent.TraceID() && sent.IsSampled() {
			parent = sent
		}
	}
	return trace.ContextWithRemoteSpanContext(ctx, parent)
}

// child begins a span below the one in ctx. If there is none, the span does
// nothing.
func (t *Tracer) child(ctx context.Context, name string, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	if t == nil || !trace.SpanContextFromContext(ctx).IsSampled() {
		return ctx, noop.Span{}
	}
	return t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...))
}

// ended makes the span that encloses all others of an upload, from when the id
// was made to at.
func (t *Tracer) ended(id uploads.ID, at time.Time, failure string, attrs ...attribute.KeyValue) {
	if t == nil || !t.sampled(id) {
		return
	}
	began := madeAt(id)
	_, span := t.tracer.Start(context.WithValue(context.Background(), rootKey{}, id), "upload", trace.WithNewRoot(),
		trace.WithTimestamp(began), trace.WithAttributes(append(attrs, attribute.String("mediaferry.upload", id.String()))...))
	if failure != "" {
		span.SetStatus(codes.Error, failure)
	}
	span.End(trace.WithTimestamp(at))
}

// madeAt returns the time in a UUIDv7, which is when the upload was submitted.
func madeAt(id uploads.ID) time.Time { return time.Unix(id.Time().UnixTime()) }

// end ends a span with the outcome of its call. It keeps the kind and code of a
// provider's error but not its text, which may quote the platform.
func end(span trace.Span, err error) {
	if !span.IsRecording() {
		return
	}
	if err != nil {
		span.SetStatus(codes.Error, outcomeOf(err))
		if e, ok := errors.AsType[*providers.Error](err); ok && e.Code != "" {
			span.SetAttributes(attribute.String("mediaferry.code", e.Code))
		}
	}
	span.End()
}

// traceparentOf returns the span as a message carries it, "" if it is not traced.
func traceparentOf(span trace.Span) string {
	at := span.SpanContext()
	if !at.IsSampled() {
		return ""
	}
	return "00-" + at.TraceID().String() + "-" + at.SpanID().String() + "-01"
}

// rootKey is the context key of the upload whose root span is being made.
type rootKey struct{}

// ids makes the ids of spans: random, except for roots.
type ids struct{}

var _ sdktrace.IDGenerator = ids{}

// NewIDs is asked for spans that have no parent.
func (g ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if id, ok := ctx.Value(rootKey{}).(uploads.ID); ok {
		r := root(id)
		return r.TraceID, r.SpanID
	}
	var t trace.TraceID
	binary.BigEndian.PutUint64(t[:8], rand.Uint64()) //nolint:gosec // no secret
	binary.BigEndian.PutUint64(t[8:], rand.Uint64()) //nolint:gosec // no secret
	return t, g.NewSpanID(ctx, t)
}

// NewSpanID is asked for all others.
func (ids) NewSpanID(context.Context, trace.TraceID) trace.SpanID {
	var s trace.SpanID
	binary.BigEndian.PutUint64(s[:], rand.Uint64()|1) //nolint:gosec // no secret; zero is no id
	return s
}
