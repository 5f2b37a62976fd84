package parts_test

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"mediaferry/internal/parts"
)

// drawLimits makes limits as platforms have them: bounds, or a list of sizes.
func drawLimits(t *rapid.T) parts.Limits {
	l := parts.Limits{
		Preferred: rapid.Int64Range(0, 64<<20).Draw(t, "preferred"),
		MaxParts:  rapid.IntRange(0, 10_000).Draw(t, "max parts"),
	}
	if rapid.Bool().Draw(t, "fixed sizes") {
		l.Sizes = rapid.SliceOfNDistinct(rapid.Int64Range(1, 64<<20), 1, 5, rapid.ID).Draw(t, "sizes")
		slices.Sort(l.Sizes)
		return l
	}
	l.MinPart = rapid.Int64Range(0, 8<<20).Draw(t, "min part")
	if rapid.Bool().Draw(t, "bounded") {
		l.MaxPart = rapid.Int64Range(max(l.MinPart, 1), 5<<30).Draw(t, "max part")
	}
	l.Multiple = rapid.SampledFrom([]int64{0, 1, 512, 4096, 1 << 20}).Draw(t, "multiple")
	return l
}

// allowed reports whether the limits allow parts of the size for an object.
func allowed(l parts.Limits, size, partSize int64) bool {
	switch {
	case partSize < 1 || l.MaxParts > 0 && (size+partSize-1)/partSize > int64(l.MaxParts):
		return false
	case len(l.Sizes) > 0:
		return slices.Contains(l.Sizes, partSize)
	default:
		return partSize >= l.MinPart && (l.MaxPart == 0 || partSize <= l.MaxPart) &&
			(l.Multiple < 2 || partSize%l.Multiple == 0)
	}
}

func TestPlanKeepsTheLimits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := drawLimits(t)
		size := rapid.Int64Range(1, 5<<40).Draw(t, "size")
		plan, err := parts.NewPlan(size, l)
		if err != nil {
			if !errors.Is(err, parts.ErrTooLarge) {
				t.Fatalf("no plan: %v", err)
			}
			for _, s := range append(slices.Clone(l.Sizes), largestPart(l)) {
				if allowed(l, size, s) {
					t.Fatalf("parts of %d bytes are allowed, but: %v", s, err)
				}
			}
			return
		}
		if plan.Size != size || !allowed(l, size, plan.PartSize) {
			t.Fatalf("plan %+v of %d bytes breaks %+v", plan, size, l)
		}
		// The preferred size is used wherever it is allowed.
		if l.Preferred > 0 && allowed(l, size, l.Preferred) && plan.PartSize != l.Preferred {
			t.Fatalf("parts of %d bytes, though the preferred %d are allowed", plan.PartSize, l.Preferred)
		}
	})
}

// largestPart is the largest part size that the bounds allow.
func largestPart(l parts.Limits) int64 {
	most := l.MaxPart
	if most == 0 {
		most = 1 << 50
	}
	return most / max(l.Multiple, 1) * max(l.Multiple, 1)
}

func TestPlanOf(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	tests := map[string]struct {
		size   int64
		limits parts.Limits
		want   int64 // part size
		err    error
	}{
		"nothing":                      {size: 0, err: parts.ErrEmpty},
		"less than nothing":            {size: -1, err: parts.ErrEmpty},
		"larger than the platform":     {size: 11, limits: parts.Limits{MaxSize: 10}, err: parts.ErrTooLarge},
		"as large as the platform":     {size: 10, limits: parts.Limits{MaxSize: 10, Preferred: 4, MaxPart: 4}, want: 4},
		"smaller than a part":          {size: 1, limits: parts.Limits{MinPart: 5 * mib, MaxPart: 9 * mib, Preferred: 8 * mib}, want: 8 * mib},
		"preferred":                    {size: 100 * mib, limits: parts.Limits{MaxPart: 9 * mib, Preferred: 8 * mib}, want: 8 * mib},
		"preferred without a bound":    {size: 100 * mib, limits: parts.Limits{Preferred: 8 * mib}, want: 8 * mib},
		"preferred is below the least": {size: 100 * mib, limits: parts.Limits{MinPart: 5 * mib, MaxPart: 9 * mib, Preferred: mib}, want: 5 * mib},
		"grown for the count":          {size: 100 * mib, limits: parts.Limits{MaxPart: 90 * mib, Preferred: mib, MaxParts: 10}, want: 10 * mib},
		"grown to a multiple":          {size: 100*mib + 1, limits: parts.Limits{MaxPart: 90 * mib, Preferred: mib, MaxParts: 10, Multiple: mib}, want: 11 * mib},
		"largest is no multiple":       {size: 100, limits: parts.Limits{MaxPart: 10, Preferred: 10, Multiple: 4}, want: 8},
		"too many parts":               {size: 101, limits: parts.Limits{MaxPart: 10, MaxParts: 10}, err: parts.ErrTooLarge},
		"fixed, preferred":             {size: 100 * mib, limits: parts.Limits{Sizes: []int64{mib, 4 * mib}, Preferred: 4 * mib}, want: 4 * mib},
		"fixed, least":                 {size: 100 * mib, limits: parts.Limits{Sizes: []int64{mib, 4 * mib}}, want: mib},
		"fixed, grown for the count":   {size: 100 * mib, limits: parts.Limits{Sizes: []int64{mib, 4 * mib}, MaxParts: 50}, want: 4 * mib},
		"fixed, preferred is too big":  {size: 100 * mib, limits: parts.Limits{Sizes: []int64{mib, 4 * mib}, Preferred: 8 * mib}, want: 4 * mib},
		"fixed, too many parts":        {size: 100 * mib, limits: parts.Limits{Sizes: []int64{mib, 4 * mib}, MaxParts: 24}, err: parts.ErrTooLarge},
		"the largest number":           {size: math.MaxInt64, limits: parts.Limits{MaxPart: 5 << 30, Preferred: mib, MaxParts: 10_000}, err: parts.ErrTooLarge},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan, err := parts.NewPlan(tt.size, tt.limits)
			if !errors.Is(err, tt.err) || plan.PartSize != tt.want {
				t.Errorf("plan %+v, %v; want parts of %d bytes, %v", plan, err, tt.want, tt.err)
			}
		})
	}
}

func drawPlan(t *rapid.T) parts.Plan {
	partSize := rapid.OneOf(rapid.Int64Range(1, 64), rapid.Int64Range(1, 40<<20)).Draw(t, "part size")
	count := rapid.Int64Range(1, 1500).Draw(t, "count")
	return parts.Plan{Size: (count-1)*partSize + rapid.Int64Range(1, partSize).Draw(t, "last"), PartSize: partSize}
}

func TestPlanCoversEveryByteOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		plan := drawPlan(t)
		var end int64
		for n := 1; n <= plan.Count(); n++ {
			p := plan.Part(n)
			if p.Number != n || p.Offset != end || p.Length < 1 || p.Length > plan.PartSize {
				t.Fatalf("part %d is %+v after byte %d", n, p, end)
			}
			if n < plan.Count() && p.Length != plan.PartSize {
				t.Fatalf("part %+v is short and not the last", p)
			}
			end += p.Length
		}
		if end != plan.Size {
			t.Fatalf("the parts end at %d of %d", end, plan.Size)
		}
	})
}

func TestCellsCoverEveryPartOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		plan := drawPlan(t)
		for n := 1; n <= plan.Count(); {
			cell := plan.Cell(n)
			if cell.First != n || cell.Count < 1 || cell.Count > parts.MaxRunParts || cell.Last() > plan.Count() {
				t.Fatalf("cell of part %d is %+v", n, cell)
			}
			offset, length := plan.Span(cell)
			if offset != plan.Part(n).Offset || length > parts.MaxRunBytes && cell.Count > 1 {
				t.Fatalf("cell %+v spans %d bytes from %d", cell, length, offset)
			}
			for m := cell.First; m <= cell.Last(); m++ {
				if plan.Cell(m) != cell {
					t.Fatalf("part %d of cell %+v is in %+v", m, cell, plan.Cell(m))
				}
			}
			n = cell.Last() + 1
		}
	})
}

func TestMissingIsWhatIsNotDone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		plan := drawPlan(t)
		first := rapid.IntRange(1, plan.Count()).Draw(t, "first")
		last := rapid.IntRange(first, plan.Count()).Draw(t, "last part")
		done := new(parts.Set)
		for _, n := range rapid.SliceOf(rapid.IntRange(1, plan.Count())).Draw(t, "done") {
			done.Add(n)
		}
		end := first - 1 // of what is accounted for
		for run := range plan.Missing(first, last, done) {
			for end++; end < run.First; end++ {
				if !done.Has(end) {
					t.Fatalf("part %d is missing and not in a run", end)
				}
			}
			if run.First < end || run.Count < 1 || run.Last() > last {
				t.Fatalf("run %+v after part %d of %d to %d", run, end, first, last)
			}
			for n := run.First; n <= run.Last(); n++ {
				if done.Has(n) {
					t.Fatalf("part %d of run %+v is done", n, run)
				}
			}
			if plan.Cell(run.First) != plan.Cell(run.Last()) {
				t.Fatalf("run %+v crosses the border of %+v", run, plan.Cell(run.First))
			}
			if offset, length := plan.Span(run); offset != plan.Part(run.First).Offset ||
				run.Count > parts.MaxRunParts || length > parts.MaxRunBytes && run.Count > 1 {
				t.Fatalf("run %+v spans %d bytes from %d", run, length, offset)
			}
			// A run is as long as it can be.
			if next := run.Last() + 1; next <= last && !done.Has(next) && plan.Cell(next) == plan.Cell(run.First) {
				t.Fatalf("run %+v ends before part %d, which is missing too", run, next)
			}
			end = run.Last()
		}
		for end++; end <= last; end++ {
			if !done.Has(end) {
				t.Fatalf("part %d is missing and not in a run", end)
			}
		}
	})
}

func TestMissingStopsWhenToldTo(t *testing.T) {
	t.Parallel()
	plan := parts.Plan{Size: 100, PartSize: 1}
	done := new(parts.Set)
	done.Add(3)
	var got []parts.Run
	for run := range plan.Missing(1, 100, done) {
		got = append(got, run)
		break
	}
	if diff := cmp.Diff([]parts.Run{{First: 1, Count: 2}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for run := range plan.Missing(1, 2, nil) {
		if run != (parts.Run{First: 1, Count: 2}) {
			t.Errorf("run %+v of a plan of which nothing is done", run)
		}
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		added := rapid.SliceOf(rapid.IntRange(1, 300)).Draw(t, "added")
		set := new(parts.Set)
		for _, n := range added {
			set.Add(n)
		}
		for n := -1; n <= 400; n++ {
			if set.Has(n) != slices.Contains(added, n) {
				t.Fatalf("has %d: %t", n, set.Has(n))
			}
		}
	})
	var none *parts.Set
	if none.Has(1) || new(parts.Set).Has(1) {
		t.Error("an empty set has a part")
	}
}
