package config

import "net/url"

// observe checks where metrics and traces go.
func (p *problemList) observe(m Metrics, t Tracing) {
	if m.Listen != "" {
		p.address("metrics.listen", m.Listen)
	}
	if t.Endpoint != "" {
		switch u, err := url.Parse(t.Endpoint); {
		case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
			p.add("tracing.endpoint", "is not a collector's URL; give one such as http://127.0.0.1:4318")
		case u.User != nil:
			// It would be printed with the settings.
			p.add("tracing.endpoint", "has credentials in it; give them in OTEL_EXPORTER_OTLP_HEADERS")
		}
	}
	p.allow("tracing.sample", "0 to 1")
	if !(t.Sample >= 0 && t.Sample <= 1) { // also NaN
		p.add("tracing.sample", "is %v; give a share from 0 to 1", t.Sample)
	}
}
