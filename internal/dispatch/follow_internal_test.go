package dispatch

import "testing"

// A number is settled when no lower one can show any more: at once where there
// is no gap below it, else when the transactions of that time have ended.
func TestSettledNumbers(t *testing.T) {
	t.Parallel()
	type look struct {
		numbers      []int64
		oldest, next int64
		want         int64
	}
	for name, looks := range map[string][]look{
		"no gap":                    {{[]int64{11, 12}, 90, 95, 12}},
		"gap, nobody at work":       {{[]int64{11, 14}, 95, 95, 14}},
		"gap that is filled":        {{[]int64{12}, 90, 95, 10}, {[]int64{11, 12}, 91, 96, 12}},
		"gap that was rolled back":  {{[]int64{12}, 90, 95, 10}, {[]int64{12, 13}, 94, 97, 10}, {[]int64{12, 13}, 95, 97, 13}},
		"another gap behind it":     {{[]int64{12}, 90, 95, 10}, {[]int64{12, 14}, 95, 99, 12}, {[]int64{14}, 98, 99, 12}, {[]int64{14}, 99, 101, 14}},
		"nothing":                   {{nil, 95, 95, 10}},
		"contiguous before the gap": {{[]int64{11, 13}, 90, 95, 11}, {[]int64{12, 13}, 90, 95, 13}},
	} {
		f := newFollowing()
		f.known, f.settled = true, 10
		for i, l := range looks {
			if f.advance(f.settled, l.numbers, l.oldest, l.next); f.settled != l.want {
				t.Errorf("%s, look %d: settled %d, want %d", name, i+1, f.settled, l.want)
			}
		}
	}
	// The beginning itself is settled only once those have ended who may be below it.
	f := newFollowing()
	f.advance(10, nil, 90, 95)
	if f.known {
		t.Error("known while transactions from before are at work")
	}
	f.advance(12, nil, 95, 99)
	if !f.known || f.settled != 12 && f.settled != 10 {
		t.Errorf("known %v, settled %d", f.known, f.settled)
	}
}
