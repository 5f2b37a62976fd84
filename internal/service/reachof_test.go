package service

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/config"
)

// What an operator configured may be on our own network, in whatever form it is
// given; a platform may not name such an address.
func TestConfiguredHostsAreReached(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string][]string{
		"https://s3.example.com":    {"s3.example.com:443", "media.s3.example.com:443"},
		"http://10.0.0.7:9000":      {"10.0.0.7:9000", "media.10.0.0.7:9000"},
		"minio.internal:9000":       {"minio.internal:9000", "media.minio.internal:9000"},
		"10.0.0.7:9000":             {"10.0.0.7:9000", "media.10.0.0.7:9000"},
		"[fd00::7]:9000":            {"[fd00::7]:9000", "media.[fd00::7]:9000"},
		"https://[fd00::7]":         {"[fd00::7]:443", "media.[fd00::7]:443"},
		"no host at all, but words": nil,
	} {
		got := reachOf(config.Account{Settings: map[string]string{"endpoint": endpoint, "bucket": "media", "prefix": "in/"}})
		if diff := cmp.Diff(want, got.Hosts); diff != "" {
			t.Errorf("%s (-want +got):\n%s", endpoint, diff)
		}
	}
}
