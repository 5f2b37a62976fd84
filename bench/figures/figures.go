// Package figures collects what the benchmark measured and prints it in a form
// that can be compared between runs: one line "figure <name> <value> <unit>"
// each, and for a figure that could not be measured a line that says why. It
// never makes up a value.
package figures

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"
)

// Figure is one measured number.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Gap is a figure that is wanted and was not measured.
type Gap struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// Sheet holds figures in the order in which they were first named.
type Sheet struct {
	Figures []Figure `json:"figures"`
	Gaps    []Gap    `json:"gaps"`
}

// Set records a measured value and closes the gap of that name. A value that is
// no number (a division by zero, an empty sample) is a gap.
func (s *Sheet) Set(name string, value float64, unit string) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		s.Miss(name, "nothing to compute it from")
		return
	}
	s.Gaps = slices.DeleteFunc(s.Gaps, func(g Gap) bool { return g.Name == name })
	figure := Figure{name, value, unit}
	if i := slices.IndexFunc(s.Figures, func(f Figure) bool { return f.Name == name }); i >= 0 {
		s.Figures[i] = figure
		return
	}
	s.Figures = append(s.Figures, figure)
}

// Miss records why a figure is missing. A value that is already there stays.
func (s *Sheet) Miss(name, why string) {
	if slices.ContainsFunc(s.Figures, func(f Figure) bool { return f.Name == name }) {
		return
	}
	s.Gaps = slices.DeleteFunc(s.Gaps, func(g Gap) bool { return g.Name == name })
	s.Gaps = append(s.Gaps, Gap{name, why})
}

// Print writes the gaps and then the figures, one line each.
func (s *Sheet) Print(w io.Writer) error {
	for _, g := range s.Gaps {
		if _, err := fmt.Fprintf(w, "no figure %s: %s\n", g.Name, g.Why); err != nil {
			return fmt.Errorf("print figures: %w", err)
		}
	}
	for _, f := range s.Figures {
		if _, err := fmt.Fprintf(w, "figure %s %s %s\n", f.Name, number(f.Value), f.Unit); err != nil {
			return fmt.Errorf("print figures: %w", err)
		}
	}
	return nil
}

// number keeps three significant digits and every digit before the point.
func number(v float64) string {
	decimals := 0
	if v != 0 {
		decimals = max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}

// Median returns the middle value, the mean of the two middle ones for an even
// count, NaN for none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Percentile returns the smallest sample that at least p per cent of all samples
// do not exceed (nearest rank), so it is always one that was measured; p is in
// (0, 100]. It returns false for an empty sample.
func Percentile(samples []time.Duration, p float64) (time.Duration, bool) {
	if len(samples) == 0 {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(samples))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1], true
}

// SetPercentile records a percentile in milliseconds.
func (s *Sheet) SetPercentile(name string, samples []time.Duration, p float64) {
	v, ok := Percentile(samples, p)
	if !ok {
		s.Miss(name, "no samples")
		return
	}
	s.Set(name, float64(v)/float64(time.Millisecond), "ms")
}

// Mean returns the mean of values without the lowest and the highest fifth of
// them, so that a few that were disturbed do not move it, and its standard error,
// by which those count as much as the ones next to them. The error is not a number
// for fewer than two values.
func Mean(values []float64) (mean, stderr float64) {
	sorted := slices.Sorted(slices.Values(values))
	cut := len(sorted) / 5
	kept := sorted[cut : len(sorted)-cut]
	for _, v := range kept {
		mean += v / float64(len(kept))
	}
	var squares, middle float64
	for i, v := range sorted {
		sorted[i] = min(max(v, kept[0]), kept[len(kept)-1])
		middle += sorted[i] / float64(len(sorted))
	}
	for _, v := range sorted {
		squares += (v - middle) * (v - middle)
	}
	n, k := float64(len(sorted)), float64(len(kept))
	return mean, math.Sqrt(squares/(n-1)*n) / k
}
