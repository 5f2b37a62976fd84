package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/backoff"
	"mediaferry/internal/hashing"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/uploads"
)

const (
	// A digest pass reads one piece while it hashes the other.
	digestPiece  = 256 << 10 // two of them stay in a core's cache
	digestPieces = 2

	checkpointInterval = time.Second
	// stillDueInterval is how often a pass asks whether it is still wanted: a pass
	// may go on for hours, and a worker that was cut off misses that the upload is
	// cancelled or paused.
	stillDueInterval = 5 * time.Second
)

// digestObject does a digest job.
func (h *hand) digestObject(ctx, work context.Context) parts.Settlement {
	a, err := h.assignments.assigner.AskAssignment(work, h.job, h.delivery > 1)
	if err != nil {
		return h.unassigned(ctx, err)
	}
	h.platform = a.Provider
	pass, err := resume(a)
	if err != nil {
		return h.handBack(ctx, unfit(providers.Transient, 0, fmt.Errorf("%w: %w", errUnusable, err)))
	}

	h.total.Store(a.Source.Size)
	h.read.Store(pass.Offset())
	h.enter(StageDigesting)
	failure := h.hashAll(work, pass, a.Source)
	h.enter(StageReporting)

	out, cancel := outlive(ctx)
	defer cancel()
	digested := &parts.Digested{Object: a.Source}
	if failure == nil {
		digested.Sums = pass.Digests()
		if err := h.report(out, nil, nil, digested); err != nil {
			return h.unreported(ctx, err)
		}
		return parts.Settlement{Verdict: parts.Done}
	}
	// The last checkpoint is kept whatever comes next. Without it, bytes are hashed
	// twice and nothing is lost.
	if c, err := pass.Checkpoint(); err == nil && c.Offset > 0 {
		digested.Checkpoint = &c
		err = h.report(out, nil, nil, digested)
		if err != nil && ctx.Err() == nil {
			h.logger().Warn("last checkpoint is not confirmed", zap.Error(err))
		}
	}
	if ctx.Err() != nil {
		return interrupted(ctx)
	}
	return h.handBack(ctx, nameStall(work, failure))
}

// resume starts a pass where the checkpoint ends, or at byte 0 if the checkpoint
// is of another build, of other kinds, or beyond the object's end. An error says
// that a kind is unknown.
func resume(a parts.Assignment) (*hashing.Pass, error) {
	if c := a.Checkpoint; c != nil && c.Offset >= 0 && c.Offset <= a.Source.Size {
		if pass, err := hashing.NewPass(a.Kinds, c); err == nil {
			return pass, nil
		}
	}
	return hashing.NewPass(a.Kinds, nil)
}

// hashAll hashes the object to its end. A read that fails for a reason that may be
// temporary is resumed once where it broke off, and again as long as it advances.
// Checkpoints are reported meanwhile; all are confirmed or given up on return.
func (h *hand) hashAll(ctx context.Context, pass *hashing.Pass, obj uploads.Object) *parts.Failure {
	checkpoints := make(chan hashing.Checkpoint, 1)
	var reports sync.WaitGroup
	reports.Go(func() { h.reportCheckpoints(ctx, obj, checkpoints) })
	defer reports.Wait()
	defer close(checkpoints)

	tried := int64(-1)
	for pass.Offset() < obj.Size {
		started := time.Now()
		err := h.hashRest(ctx, pass, obj, checkpoints)
		if err == nil {
			return nil
		}
		failure := sourceFailure(0, started, err)
		if !courseOf(failure).again || pass.Offset() == tried || !backoff.Pause(ctx, jitter(retryPause)) {
			return failure
		}
		tried = pass.Offset()
		h.read.Store(pass.Offset())
	}
	return nil
}

// reportCheckpoints reports checkpoints until the channel is closed, and now and
// then asks the dispatcher whether the pass is still due; if not, it cancels the
// job.
func (h *hand) reportCheckpoints(ctx context.Context, obj uploads.Object, checkpoints <-chan hashing.Checkpoint) {
	asked := time.Now()
	for c := range checkpoints {
		if err := h.report(ctx, nil, nil, &parts.Digested{Checkpoint: &c, Object: obj}); err != nil && ctx.Err() == nil {
			h.logger().Warn("checkpoint is not confirmed", zap.Error(err))
		}
		if time.Since(asked) < stillDueInterval {
			continue
		}
		asked = time.Now()
		if _, err := h.assignments.assigner.AskAssignment(ctx, h.job, false); errors.Is(err, ErrStale) {
			h.cancel(ErrCancelled)
		} // any other error says nothing about the upload
	}
}

// hashRest hashes from the pass's offset to the object's end, with one read.
// Reading and hashing overlap.
func (h *hand) hashRest(ctx context.Context, pass *hashing.Pass, obj uploads.Object, checkpoints chan<- hashing.Checkpoint) error {
	left := obj.Size - pass.Offset()
	src, err := h.source.Open(ctx, obj, pass.Offset(), left)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }() // every byte that counts was read before

	free := make(chan []byte, digestPieces)
	full := make(chan []byte, digestPieces)
	memory := h.slot.take(digestPieces * digestPiece)
	for i := range digestPieces {
		free <- memory[i*digestPiece : (i+1)*digestPiece : (i+1)*digestPiece]
	}
	var readErr error // set before full is closed
	go func() {
		defer close(full)
		from := counted{src, &h.read}
		for left > 0 && readErr == nil {
			piece := <-free
			var n int
			n, readErr = io.ReadFull(from, piece[:min(int64(len(piece)), left)])
			left -= int64(n)
			full <- piece[:n]
		}
	}()

	last := time.Now()
	for piece := range full {
		_, _ = pass.Write(piece) // a pass never returns an error
		h.digestedBytes.Add(int64(len(piece)))
		free <- piece[:cap(piece)]
		if time.Since(last) < checkpointInterval {
			continue
		}
		last = time.Now()
		if c, err := pass.Checkpoint(); err == nil {
			select {
			case checkpoints <- c:
			default: // the one before is still on its way
			}
		}
	}
	if readErr != nil {
		return fmt.Errorf("read %s from byte %d: %w", obj.URL(), pass.Offset(), readErr)
	}
	return nil
}
