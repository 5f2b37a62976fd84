package dispatch

import (
	"testing"

	"pgregory.net/rapid"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// Whatever an upload looks like and however much room there is: what is taken
// fits the room, is not there already, leaves nothing out, and feeding on and on
// hands out every missing part exactly once.
func TestTakeHandsOutEachMissingPartOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		plan := parts.Plan{
			Size:     rapid.Int64Range(1, 200<<20).Draw(t, "size"),
			PartSize: rapid.Int64Range(64<<10, 40<<20).Draw(t, "part size"),
		}
		var done parts.Set
		missing := map[int]bool{}
		for n := 1; n <= plan.Count(); n++ {
			if rapid.Bool().Draw(t, "found") {
				done.Add(n)
			} else {
				missing[n] = true
			}
		}
		// A run is the least that can be taken.
		least := max(plan.PartSize, parts.MaxRunBytes)
		f := parts.Feedable{Plan: plan, Epoch: 1, AckedAhead: true}
		for range plan.Count() + 1 {
			room := rapid.Int64Range(0, 4*least).Draw(t, "room")
			fed, runs := take(f, &done, room)
			var bytes int64
			for _, r := range runs {
				_, length := plan.Span(r)
				bytes += length
				for n := r.First; n <= r.Last(); n++ {
					if !missing[n] {
						t.Fatalf("part %d is there already, or was handed out before", n)
					}
					delete(missing, n)
				}
			}
			if bytes > room || bytes != fed.Bytes {
				t.Fatalf("took %d bytes, says %d, of a room of %d", bytes, fed.Bytes, room)
			}
			if room >= least && fed.Fed == f.Fed && f.Fed < plan.Count() {
				t.Fatalf("took nothing of a room of %d", room)
			}
			f.Fed = fed.Fed
		}
		if fed, runs := take(f, &done, 1<<40); len(runs) > 0 {
			for _, r := range runs {
				for n := r.First; n <= r.Last(); n++ {
					delete(missing, n)
				}
			}
			f.Fed = fed.Fed
		}
		if len(missing) > 0 || f.Fed != plan.Count() {
			t.Fatalf("%d parts were never handed out; fed up to %d of %d", len(missing), f.Fed, plan.Count())
		}
	})
}

// Invariant 3, as the rows themselves tell it.
func TestCovers(t *testing.T) {
	t.Parallel()
	plan := parts.Plan{Size: 25, PartSize: 10}
	stored := func(numbers ...int) []parts.Stored {
		var out []parts.Stored
		for _, n := range numbers {
			out = append(out, parts.Stored{Part: plan.Part(n)})
		}
		return out
	}
	short := stored(1, 2, 3)
	short[1].Length = 9
	for name, test := range map[string]struct {
		stored []parts.Stored
		whole  bool
	}{
		"whole":            {stored(1, 2, 3), true},
		"nothing":          {nil, false},
		"one is missing":   {stored(1, 3), false},
		"last is missing":  {stored(1, 2), false},
		"one twice":        {stored(1, 2, 2, 3), false},
		"out of order":     {stored(2, 1, 3), false},
		"one is too short": {short, false},
	} {
		if err := covers(test.stored, plan.Size); (err == nil) != test.whole {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNamesOfABatchDoNotReplaceEachOther(t *testing.T) {
	t.Parallel()
	one := func(key, name string) uploads.Submission {
		return uploads.Submission{Name: name, Source: uploads.Object{Key: key}}
	}
	apart := taken{}
	if why := apart.refuse(one("a/1.mp4", "1.mp4"), nil); why != "" {
		t.Errorf("the first: %s", why)
	}
	if why := apart.refuse(one("b/1.mp4", "1.mp4"), nil); why == "" {
		t.Error("a second object of the same name was taken")
	}
	var kept taken
	for _, key := range []string{"a/1.mp4", "b/1.mp4"} {
		if why := kept.refuse(one(key, "1.mp4"), nil); why != "" {
			t.Errorf("a platform that keeps names apart: %s", why)
		}
	}
}
