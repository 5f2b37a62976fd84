package figures_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mediaferry/bench/figures"
)

func TestPercentile(t *testing.T) {
	t.Parallel()
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration((i*37)%100 + 1) // 1 to 100, not in order
	}
	for _, tc := range []struct {
		samples []time.Duration
		p       float64
		want    time.Duration
	}{
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 99.5, 100},
		{hundred, 100, 100},
		{hundred, 0.1, 1},
		{[]time.Duration{7}, 50, 7},
		{[]time.Duration{7}, 99, 7},
		{[]time.Duration{2, 1}, 50, 1},
		{[]time.Duration{2, 1}, 99, 2},
		{[]time.Duration{3, 1, 2}, 50, 2},
	} {
		if got, ok := figures.Percentile(tc.samples, tc.p); !ok || got != tc.want {
			t.Errorf("p%v of %d samples: %d, want %d", tc.p, len(tc.samples), got, tc.want)
		}
	}
	if _, ok := figures.Percentile(nil, 50); ok {
		t.Error("a percentile of nothing")
	}
}

// TestPercentileCovers checks the definition itself: at least p per cent of the
// samples are not above the answer, and of no smaller sample is that true.
func TestPercentileCovers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Int64Range(0, 50), 1, 200).Draw(t, "samples")
		p := rapid.Float64Range(0.1, 100).Draw(t, "p")
		samples := make([]time.Duration, len(raw))
		for i, v := range raw {
			samples[i] = time.Duration(v)
		}
		got, _ := figures.Percentile(samples, p)
		atMost, below := 0, 0
		for _, v := range samples {
			if v <= got {
				atMost++
			}
			if v < got {
				below++
			}
		}
		need := p / 100 * float64(len(samples))
		if float64(atMost) < need || float64(below) >= need {
			t.Fatalf("p%v of %v is %d: %d at most, %d below, %v needed", p, samples, got, atMost, below, need)
		}
	})
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3, 1, 2}, 2},
		{[]float64{4, 1}, 2.5},
		{[]float64{5}, 5},
	} {
		if got := figures.Median(tc.values); got != tc.want {
			t.Errorf("median of %v: %v, want %v", tc.values, got, tc.want)
		}
	}
	if !math.IsNaN(figures.Median(nil)) {
		t.Error("a median of nothing")
	}
}

func TestSheet(t *testing.T) {
	t.Parallel()
	var s figures.Sheet
	s.Miss("a", "not yet")
	s.Miss("b", "never")
	s.Set("a", 1234.56, "MB")
	s.Set("c", 0.012345, "x")
	s.Set("c", 3.14159, "x")
	s.Miss("c", "forgotten") // what was measured stays
	s.Set("d", math.NaN(), "x")
	s.Set("e", 0, "x")
	s.SetPercentile("f", []time.Duration{1500 * time.Microsecond}, 99)
	s.SetPercentile("g", nil, 99)
	var got strings.Builder
	if err := s.Print(&got); err != nil {
		t.Fatal(err)
	}
	want := `no figure b: never
no figure d: nothing to compute it from
no figure g: no samples
figure a 1235 MB
figure c 3.14 x
figure e 0 x
figure f 1.50 ms
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
