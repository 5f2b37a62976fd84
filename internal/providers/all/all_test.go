package all_test

import (
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers/all"
)

// TestLimits plans files of all sizes under each provider's limits.
func TestLimits(t *testing.T) {
	t.Parallel()
	listed := all.New(&http.Client{})
	if diff := cmp.Diff([]string{"cdnetworks", "s3", "tencentcos", "tencentsmh", "tencentugc", "tencentvod"}, slices.Sorted(maps.Keys(listed))); diff != "" {
		t.Errorf("providers (-want +got):\n%s", diff)
	}
	for name, p := range listed {
		limits := p.Limits()
		for _, size := range []int64{1, 512 << 10, 1 << 20, 1 << 30, 200 << 30, 1 << 40} {
			plan, err := parts.NewPlan(size, limits.Limits)
			if err != nil {
				t.Errorf("%s: %d bytes: %v", name, size, err)
				continue
			}
			if limits.MaxParts > 0 && plan.Count() > limits.MaxParts {
				t.Errorf("%s: %d bytes make %d parts", name, size, plan.Count())
			}
		}
	}
}
