package dispatch

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"mediaferry/internal/uploads"
)

// A step that comes alone is recorded at once, those of a busy moment together.
func TestGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		g := newGroup(func(_ context.Context, ids []uploads.ID) (map[uploads.ID]bool, error) {
			sizes = append(sizes, len(ids))
			return map[uploads.ID]bool{ids[0]: true}, nil
		}, func(id uploads.ID) uploads.ID { return id })
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { g.run(ctx) })
		do := func() {
			if _, _, err := g.do(uuid.New()); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(groupIdle)
		began := time.Now()
		do()
		if took := time.Since(began); took != 0 {
			t.Errorf("a lone step took %s", took)
		}
		var busy sync.WaitGroup
		for i := range 3 {
			busy.Go(func() {
				time.Sleep(time.Duration(i) * groupDelay / 4)
				do()
			})
		}
		busy.Wait()
		if len(sizes) != 2 || sizes[0] != 1 || sizes[1] != 3 {
			t.Errorf("transactions of %v, want one of 1 and one of 3", sizes)
		}
		cancel()
		running.Wait()
	})
}
