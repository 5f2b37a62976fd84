package providertest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
)

// sizes are lengths of media around every boundary, in parts and bytes.
func sizes() []suiteCase {
	var cases []suiteCase
	for _, c := range []struct {
		name  Case
		parts int64
		bytes int64
	}{
		{"an upload of one byte", 0, 1},
		{"an upload of a part less a byte", 1, -1},
		{"an upload of one part", 1, 0},
		{"an upload of a part and a byte", 1, 1},
		{"an upload of two whole parts", 2, 0},
		{"an upload of three parts and a rest", 3, 7},
	} {
		cases = append(cases, suiteCase{c.name, func(t *testing.T, s *subject) {
			t.Helper()
			testSize(t, s, c.parts*s.partSize()+c.bytes)
		}})
	}
	return cases
}

func testSize(t *testing.T, s *subject, size int64) {
	t.Helper()
	media, data := s.media(t, size)
	session := s.open(t, media)
	asset := s.finish(t, session, s.putAll(t, session, media, data))
	s.check(t, asset, data)
	if out := s.probe(t, session, media, providers.HoldsAsset); out.Asset.ID != asset.ID {
		t.Errorf("probe names asset %q, finish %q", out.Asset.ID, asset.ID)
	}
}

// testEmpty shows where media of no bytes are refused: there is no plan for
// them, so intake takes none and no platform is asked what it would do.
func testEmpty(t *testing.T, s *subject) {
	t.Helper()
	if plan, err := parts.NewPlan(0, s.limits.Limits); !errors.Is(err, parts.ErrEmpty) {
		t.Errorf("the plan is %+v, %v; want %v", plan, err, parts.ErrEmpty)
	}
}

// testMostParts uploads as many parts as the platform takes. Where its local
// server takes parts below the platform's bound, all are sent; else, for a
// platform that puts together whatever numbers it is given, the first and the
// last two.
func testMostParts(t *testing.T, s *subject) {
	t.Helper()
	most := s.limits.MaxParts
	for _, more := range []int64{0, 1} { // a byte more makes larger parts, not more of them
		size := int64(most)*s.limits.Preferred + more
		plan, err := parts.NewPlan(size, s.limits.Limits)
		if err != nil || plan.Count() > most || plan.Count() < most && more == 0 {
			t.Errorf("%d bytes make %d parts, %v; the platform takes %d", size, plan.Count(), err, most)
		}
	}
	if s.SmallPart > 0 {
		t.Attr(AttrNote, fmt.Sprintf("all of %d parts, of %d bytes, which the local server is told to take", most, s.SmallPart))
		testAllParts(t, s, most)
		return
	}
	t.Attr(AttrNote, fmt.Sprintf("parts 1, %d and %d, which the local server puts together", most-1, most))
	partSize := s.partSize()
	media, data := s.media(t, 2*partSize+1)
	media.Size = int64(most-1)*partSize + 1
	session := s.open(t, media)
	stored := make([]parts.Stored, 3)
	for i, n := range []int{1, most - 1, most} {
		part := planOf(media).Part(n)
		body := NewBody(s.limits, data[int64(i)*partSize:][:part.Length])
		receipt, err := s.Provider.PutPart(t.Context(), session, part, body)
		if err != nil {
			t.Fatalf("put part %d: %v", n, err)
		}
		stored[i] = parts.Stored{Part: part, Receipt: receipt, Digest: body.Digest()}
	}
	out := s.probe(t, session, media, providers.HoldsSession)
	if !slices.Equal(bare(out.Found), bare(stored)) {
		t.Errorf("probe found %+v, want %+v", out.Found, stored)
	}
	s.check(t, s.finish(t, session, stored), data)
}

func testAllParts(t *testing.T, s *subject, most int) {
	t.Helper()
	media, data := s.media(t, int64(most-1)*s.SmallPart+1)
	media.PartSize = s.SmallPart
	session := s.open(t, media)
	stored := make([]parts.Stored, most)
	var sending errgroup.Group
	sending.SetLimit(8)
	for i := range stored {
		sending.Go(func() error {
			part := planOf(media).Part(i + 1)
			body := NewBody(s.limits, data[part.Offset:][:part.Length])
			receipt, err := s.Provider.PutPart(t.Context(), session, part, body)
			stored[i] = parts.Stored{Part: part, Receipt: receipt, Digest: body.Digest()}
			return err
		})
	}
	if err := sending.Wait(); err != nil {
		t.Fatalf("put part: %v", err)
	}
	if out := s.probe(t, session, media, providers.HoldsSession); !slices.Equal(bare(out.Found), bare(stored)) {
		t.Errorf("probe found %d parts that are not the %d sent", len(out.Found), most)
	}
	s.check(t, s.finish(t, session, stored), data)
}
