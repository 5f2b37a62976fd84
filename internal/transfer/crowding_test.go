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

// Where a platform hangs and every slot is taken, all but one of its jobs give
// way early; where a slot is free nobody does.
func TestJobsOfAHangingPlatformGiveWay(t *testing.T) {
	t.Parallel()
	const early = defaultStallTimeout / crowding
	for name, test := range map[string]struct {
		slots int
		want  []time.Duration
	}{
		"all slots are taken": {3, []time.Duration{early, early, defaultStallTimeout}},
		"one slot is free":    {4, []time.Duration{defaultStallTimeout, defaultStallTimeout, defaultStallTimeout}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, worldConfig{size: 24, partSize: 8, slots: test.slots})
				release := make(chan struct{})
				w.assignments.platforms["fake"] = silentPlatform{w.platform.Fake, release}
				begun := time.Now()
				var (
					mu   sync.Mutex
					took []time.Duration
					wg   sync.WaitGroup
				)
				for n := 1; n <= 3; n++ {
					job := w.job
					job.Run = parts.Run{First: n, Count: 1}
					wg.Go(func() {
						if s := w.Handle(t.Context(), job, 1, func() {}); s.Verdict != parts.Done {
							t.Errorf("comes to %+v, want it handed back", s)
						}
						mu.Lock()
						defer mu.Unlock()
						took = append(took, time.Since(begun).Truncate(time.Second))
					})
				}
				wg.Wait()
				close(release)
				slices.Sort(took)
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
