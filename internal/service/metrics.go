package service

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"mediaferry/internal/config"
	"mediaferry/internal/telemetry"
)

// serveMetrics answers /metrics at the address, if there is one, until stop is
// called: also while the process waits for what it needs, and while it stops.
// Where only this machine reaches the address there is /debug/pprof/ too.
func serveMetrics(ctx context.Context, address string, reg *prometheus.Registry, log *zap.Logger) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("metrics.listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		// A source that fails is left out, and the rest is there.
		ErrorHandling: promhttp.ContinueOnError, ErrorLog: zap.NewStdLog(log), MaxRequestsInFlight: 4,
	}))
	if at, ok := listener.Addr().(*net.TCPAddr); ok && at.IP.IsLoopback() {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return serveAside(listener, mux, log), nil
}

// openTracer returns where the process's spans go, nil for nowhere.
func openTracer(ctx context.Context, cfg config.Tracing, service, instance string, log *zap.Logger) (*telemetry.Tracer, error) {
	tracer, err := telemetry.NewTracer(ctx, telemetry.Tracing{
		Endpoint: cfg.Endpoint, Sample: cfg.Sample, Service: service, Instance: instance,
	}, log)
	if err == nil && tracer != nil {
		log.Info("uploads are traced", zap.Float64("sample", cfg.Sample))
	}
	return tracer, err
}

// closeTracer sends what is left. Spans that a collector did not take are no
// reason for a process to fail.
func closeTracer(ctx context.Context, tracer *telemetry.Tracer, log *zap.Logger) {
	if err := tracer.Close(ctx); err != nil {
		log.Warn("some spans are lost", zap.Error(err))
	}
}
