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
}
