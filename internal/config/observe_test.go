package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhereMetricsAndTracesGo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args    []string
		problem []string
	}{
		{[]string{"--metrics.listen=127.0.0.1:9090", "--tracing.endpoint=https://collector:4318", "--tracing.sample=0.25"}, nil},
		{[]string{"--metrics.listen=9090"}, []string{"metrics.listen"}},
		{[]string{"--tracing.endpoint=collector:4318"}, []string{"tracing.endpoint"}},
		{[]string{"--tracing.endpoint=http://user:hidden@collector:4318"}, []string{"tracing.endpoint"}},
		{[]string{"--tracing.sample=1.5"}, []string{"tracing.sample"}},
		{[]string{"--tracing.sample=NaN"}, []string{"tracing.sample"}},
		{[]string{"--tracing.sample=half"}, []string{"tracing.sample"}},
	} {
		cfg, err := LoadWorker(append(tc.args, "--staging.endpoint=http://s3:9000"), nil, nil)
		if diff := cmp.Diff(tc.problem, fieldsOf(err)); diff != "" {
			t.Errorf("%v: fields (-want +got):\n%s\n%v", tc.args, diff, err)
		}
		if err == nil && (cfg.Metrics.Listen != "127.0.0.1:9090" || cfg.Tracing.Sample != 0.25) {
			t.Errorf("%v: %+v %+v", tc.args, cfg.Metrics, cfg.Tracing)
		}
	}
}
