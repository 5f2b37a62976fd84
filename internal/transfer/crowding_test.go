package transfer

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/providers/providertest"
)

// Where a platform hangs and every slot is taken, the jobs that stood still
// later give way early to what waits for a slot; where a slot is free nobody does.
func TestJobsOfAHangingPlatformGiveWay(t *testing.T) {
	t.Parallel()
	const early = defaultStallTimeout / crowding
	for name, test := range map[string]struct {
		slots int
		want  []time.Duration // of each job, from when it asked for a slot
	}{
		// The second gives way to the fourth, which waited; then all are taken again.
		"all slots are taken": {3, []time.Duration{defaultStallTimeout, early, early, 8*time.Second + defaultStallTimeout}},
		"one slot is free":    {5, slices.Repeat([]time.Duration{defaultStallTimeout}, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{size: 32, partSize: 8, slots: test.slots})
				release := make(chan struct{})
				w.assignments.platforms["fake"] = silentPlatform{w.platform.Fake, release}
				took := make([]time.Duration, len(test.want))
				var wg sync.WaitGroup
				for n := range took {
					job := w.job
					job.Run = parts.Run{First: n + 1, Count: 1}
					wg.Go(func() {
						begun := time.Now()
						if s := w.Handle(t.Context(), job, 1, func() {}); s.Verdict != parts.Done {
							t.Errorf("comes to %+v, want it handed back", s)
						}
						took[n] = time.Since(begun).Truncate(time.Second)
					})
					time.Sleep(time.Second) // so that none stops together with another
				}
				wg.Wait()
				close(release)
				if diff := cmp.Diff(test.want, took); diff != "" {
					t.Errorf("given up after (-want +got):\n%s", diff)
				}
				for _, f := range w.desk.failures() {
					if f.Kind != string(providers.Transient) || f.Code != parts.CodeStalled {
						t.Errorf("failure %+v", f)
					}
				}
			})
		})
	}
}

// silentPlatform takes no byte and answers nothing.
type silentPlatform struct {
	*providertest.Fake
	release chan struct{}
}

func (p silentPlatform) PutPart(ctx context.Context, _ providers.Session, _ parts.Part, _ providers.Body) (parts.Receipt, error) {
	select {
	case <-ctx.Done():
	case <-p.release:
	}
	return parts.Receipt{}, providers.TransportError("put", providers.Transient, ctx.Err())
}
