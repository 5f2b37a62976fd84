package transfer

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

func sumOf(t *testing.T, kind hashing.Kind, data []byte) hashing.Digest {
	t.Helper()
	d, err := hashing.Sum(kind, data)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Where something is known of the object, each part is hashed by that kind too,
// and what the acks say combines to the object's digest.
func TestPartsAreHashedByWhatIsKnown(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]bool{"held": true, "streamed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldConfig{size: 2500, partSize: 1000, digest: hashing.MD5, digestFirst: first})
			w.desk.assignment.Known = sumOf(t, hashing.CRC32C, w.staging.data)
			if got := w.handle(t.Context(), 1); got.Verdict != parts.Done {
				t.Fatalf("settled as %+v", got)
			}
			whole := w.desk.ledger[1].Read
			for n := 2; n <= 3; n++ {
				var err error
				if whole, err = hashing.Combine(hashing.CRC32C, whole, w.desk.ledger[n].Read, w.plan.Part(n).Length); err != nil {
					t.Fatal(err)
				}
			}
			if whole != w.desk.assignment.Known {
				t.Errorf("the parts make %s, the object is %s", whole, w.desk.assignment.Known)
			}
			w.checkFinished(t)
		})
	}
}

func TestNothingIsHashedTwice(t *testing.T) {
	t.Parallel()
	for name, known := range map[string]hashing.Digest{
		"nothing known": {}, "the platform's kind": {Kind: hashing.CRC64NVME, Sum: "00"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := newSums(&assignment{
				limits: providers.Limits{PartDigest: hashing.CRC64NVME}, known: uploads.KnownDigest{Digest: known},
				plan: parts.Plan{Size: 2, PartSize: 1},
			})
			if err != nil || s.read != nil {
				t.Errorf("a second hash %v, %v", s.read, err)
			}
		})
	}
}

// An object of one part that is misread is not sent: the platform never has all
// of it. It is read again at once, and the first try is reported.
func TestAMisreadObjectOfOnePartIsNotSent(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]bool{"held": true, "streamed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldConfig{size: 1000, partSize: 1000, digest: hashing.SHA1, digestFirst: first})
			w.desk.assignment.Known = sumOf(t, hashing.CRC64NVME, w.staging.data)
			w.desk.assignment.KnownFrom = uploads.FromBucket
			right := w.staging.data
			wrong := slices.Clone(right)
			wrong[999] ^= 1
			w.staging.data = wrong
			var puts atomic.Int32
			w.platform.afterPut = func(int) error { puts.Add(1); return nil }
			w.desk.report = func(_ context.Context, nth int) (bool, error) {
				if nth == 1 {
					w.staging.data = right // nothing reads while the mismatch is reported
				}
				return true, nil
			}
			if got := w.handle(t.Context(), 1); got.Verdict != parts.Done {
				t.Fatalf("settled as %+v", got)
			}
			if puts.Load() != 1 {
				t.Errorf("%d parts were put, want the right one alone", puts.Load())
			}
			if len(w.desk.reports) == 0 || len(w.desk.reports[0].Mended) != 1 {
				t.Fatalf("reports %+v, want the mismatch first", w.desk.reports)
			}
			m := w.desk.reports[0].Mended[0]
			got := []string{m.Kind, string(m.Stage), m.Against}
			if diff := cmp.Diff([]string{string(providers.Mismatch), "staging", uploads.FromBucket}, got); diff != "" {
				t.Errorf("mended (-want +got):\n%s", diff)
			}
			w.checkFinished(t)
		})
	}
}

// A mismatch of the platform is one of transit, and is reported although the
// second try mends it.
func TestATransitMismatchIsReportedThoughMended(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldConfig{size: 2000, partSize: 1000})
	failed := false
	w.platform.afterPut = func(part int) error {
		if part == 2 && !failed {
			failed = true
			return &providers.Error{Kind: providers.Mismatch, Call: "put"}
		}
		return nil
	}
	if got := w.handle(t.Context(), 1); got.Verdict != parts.Done {
		t.Fatalf("settled as %+v", got)
	}
	var mended []parts.Failure
	for _, r := range w.desk.reports {
		mended = append(mended, r.Mended...)
	}
	if len(mended) != 1 || mended[0].Part != 2 || mended[0].Stage != uploads.StageTransit {
		t.Errorf("mended %+v, want part 2 at transit", mended)
	}
	if f := w.desk.failures(); len(f) > 0 {
		t.Errorf("failures %+v, want none", f)
	}
}
