package parts_test

import (
	"testing"
	"time"

	"mediaferry/internal/parts"
)

func TestLost(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 1, 12, 0, 0, 1000, time.UTC)
	for name, test := range map[string]struct {
		before, now parts.StreamMark
		want        bool
	}{
		"never seen":      {parts.StreamMark{}, parts.StreamMark{Created: at, LastSeq: 7}, false},
		"same":            {parts.StreamMark{Created: at, LastSeq: 7}, parts.StreamMark{Created: at, LastSeq: 7}, false},
		"further":         {parts.StreamMark{Created: at, LastSeq: 7}, parts.StreamMark{Created: at, LastSeq: 8}, false},
		"other time zone": {parts.StreamMark{Created: at.Local(), LastSeq: 7}, parts.StreamMark{Created: at, LastSeq: 8}, false},
		"missing":         {parts.StreamMark{Created: at, LastSeq: 7}, parts.StreamMark{}, true},
		"younger":         {parts.StreamMark{Created: at, LastSeq: 7}, parts.StreamMark{Created: at.Add(time.Second), LastSeq: 9}, true},
		"older":           {parts.StreamMark{Created: at, LastSeq: 7}, parts.StreamMark{Created: at.Add(-time.Second), LastSeq: 9}, true},
		"behind":          {parts.StreamMark{Created: at, LastSeq: 7}, parts.StreamMark{Created: at, LastSeq: 6}, true},
	} {
		if got := test.now.LostSince(test.before); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
