package telemetry

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"mediaferry/internal/build"
)

// newRegistry returns a registry with what every process has.
func newRegistry(process string) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "mediaferry_build_info", Help: "Which build of which process this is; always 1.",
			ConstLabels: prometheus.Labels{"process": process, "version": build.Version(), "revision": build.Revision(), "go_version": runtime.Version()},
		}, func() float64 { return 1 }),
	)
	return reg
}
