package figures_test

import (
	"math"
	"testing"

	"mediaferry/bench/figures"
)

func TestMean(t *testing.T) {
	t.Parallel()
	mean, stderr := figures.Mean([]float64{1, 2, 3, 4})
	if want := math.Sqrt(5.0 / 3 / 4); mean != 2.5 || math.Abs(stderr-want) > 1e-12 {
		t.Errorf("Mean = %v, %v; want 2.5, %v", mean, stderr, want)
	}
	if _, stderr = figures.Mean([]float64{1}); !math.IsNaN(stderr) {
		t.Errorf("the error of one value is %v, want none", stderr)
	}
	// Two that were disturbed, of ten, move neither much.
	mean, stderr = figures.Mean([]float64{1, 900, 1, 2, 2, 3, -700, 3, 2, 2})
	if math.Abs(mean-2) > 1e-9 || stderr > 0.5 {
		t.Errorf("Mean = %v, %v; want 2 and little", mean, stderr)
	}
}
