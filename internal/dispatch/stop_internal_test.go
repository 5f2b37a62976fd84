package dispatch

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// stoppedRecord hands out steps in the moment in which the dispatcher stops.
type stoppedRecord struct {
	*holdsRecord

	stop      func()
	steps     []uploads.Step
	givenBack atomic.Int32
}

func (r *stoppedRecord) AccountLoads(context.Context) (map[string]uploads.AccountLoad, error) {
	return nil, nil
}

func (r *stoppedRecord) Pauses(context.Context) ([]uploads.Pause, error) { return nil, nil }

func (r *stoppedRecord) ClaimQueued(context.Context, []string, []string, int, time.Duration) ([]uploads.Step, error) {
	r.stop()
	return r.steps, nil
}

func (r *stoppedRecord) ClaimSteps(context.Context, int, []string, time.Duration) ([]uploads.Step, error) {
	r.stop()
	return r.steps, nil
}

func (r *stoppedRecord) RecordMark(ctx context.Context) (parts.RecordMark, error) {
	return parts.RecordMark{}, context.Cause(ctx)
}

func (r *stoppedRecord) Tick(ctx context.Context, _ int64) (parts.RecordMark, bool, error) {
	return parts.RecordMark{}, false, context.Cause(ctx)
}

func (r *stoppedRecord) Postpone(_ context.Context, _ uploads.Step, _ time.Duration, tries int, _ bool, _ ...uploads.Evidence) error {
	if tries == 0 {
		r.givenBack.Add(1)
	}
	return nil
}

// Steps that are claimed as the dispatcher stops do not wait for their leases.
func TestStepsClaimedAtAStopAreGivenBack(t *testing.T) {
	t.Parallel()
	for _, state := range []uploads.State{uploads.Queued, uploads.Beginning, uploads.Finishing} {
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			d, holds, _ := outageSetup(t)
			ctx, stop := context.WithCancel(t.Context())
			record := &stoppedRecord{holdsRecord: holds, stop: stop}
			for range 3 {
				record.steps = append(record.steps, uploads.Step{ID: uuid.New(), Account: "acc", Provider: "fake", State: state})
			}
			d.store = record
			pass := d.takeSteps
			if state == uploads.Queued {
				pass = d.openQueued
			}
			if err := pass(ctx); err == nil {
				t.Error("a pass that was cut short says nothing of it")
			}
			if n := record.givenBack.Load(); n != 3 {
				t.Errorf("%d steps of 3 are given back", n)
			}
		})
	}
}
