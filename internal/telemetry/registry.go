package telemetry

import (
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Build tells one build of the program from another.
type Build struct {
	Version  string // of the module, "(devel)" where it was built from a checkout
	Revision string // of the checkout; "" if it is not known
	Go       string
}

// ReadBuild reads what the linker left.
func ReadBuild() Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Build{Version: "unknown"}
	}
	b := Build{Version: info.Main.Version, Go: info.GoVersion}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Revision = s.Value
		}
	}
	return b
}

// newRegistry returns a registry with what every process has.
func newRegistry(process string) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	b := ReadBuild()
	reg.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "mediaferry_build_info", Help: "Which build of which process this is; always 1.",
			ConstLabels: prometheus.Labels{"process": process, "version": b.Version, "revision": b.Revision, "go_version": b.Go},
		}, func() float64 { return 1 }),
	)
	return reg
}
