package transfer

import (
	"context"
	"fmt"
	"io"
	"time"

	"mediaferry/internal/backoff"
	"mediaferry/internal/parts"
	"mediaferry/internal/providers"
	"mediaferry/internal/reach"
	"mediaferry/internal/uploads"
)

// maxHeld bounds a part that must be held in memory, and with it a slot's
// buffer, in bytes.
const maxHeld = 4 << 20

// sendRun does a part job.
func (h *hand) sendRun(ctx, work context.Context, stop context.CancelCauseFunc) parts.Settlement {
	var (
		a     *assignment
		acked *parts.Set
		err   error
	)
	if h.delivery == 1 {
		a, err = h.assignments.first(work, h.job)
	} else {
		a, acked, err = h.assignments.ask(work, h.job, true)
	}
	if err != nil {
		return h.unassigned(ctx, err)
	}
	h.platform = a.name
	run := h.job.Run
	if run.First < 1 || run.Count < 1 || run.Last() > a.plan.Count() {
		return h.handBack(ctx, unfit(providers.Rejected, 0, fmt.Errorf("run %+v is not of the plan %+v", run, a.plan)))
	}
	if longest := a.plan.Part(1).Length; a.limits.DigestFirst && longest > maxHeld {
		return h.handBack(ctx, unfit(providers.Rejected, run.First, fmt.Errorf(
			"parts of %d bytes must be held in memory; at most %d are possible", longest, maxHeld)))
	}

	failure, err := h.sendAndReport(ctx, work, stop, a, acked)
	switch {
	case failure == nil && err == nil && h.left:
		return parts.Settlement{Verdict: parts.Release}
	case failure == nil && err == nil:
		return parts.Settlement{Verdict: parts.Done}
	case ctx.Err() != nil:
		return interrupted(ctx)
	case err != nil:
		return h.unreported(ctx, err)
	default:
		failure.SessionNumber = a.number
		return h.handBack(ctx, nameStall(work, failure))
	}
}

// sendAndReport sends the parts of the run that are not acked. The Failure is that
// of the part that could not be sent; the error says that acks are not confirmed.
func (h *hand) sendAndReport(
	ctx, work context.Context, stop context.CancelCauseFunc, a *assignment, acked *parts.Set,
) (failure *parts.Failure, err error) {
	out := h.openOutbox(ctx, stop)
	// Deferred so that a provider that panics leaves no goroutine behind.
	defer func() {
		h.enter(StageReporting)
		err = out.close()
	}()
	return h.sendMissing(work, a, acked, out), nil
}

// sendMissing sends the parts of the run that are not acked, one ranged read
// for each stretch of them. A worker that stops leaves those not yet begun.
func (h *hand) sendMissing(ctx context.Context, a *assignment, acked *parts.Set, out *outbox) *parts.Failure {
	run := h.job.Run
	var total int64
	for stretch := range a.plan.Missing(run.First, run.Last(), acked) {
		_, length := a.plan.Span(stretch)
		total += length
	}
	h.total.Store(total)
	h.enter(StageSending)
	var sent int64
	for stretch := range a.plan.Missing(run.First, run.Last(), acked) {
		if failure := h.sendStretch(ctx, a, stretch, sent, out); failure != nil {
			return failure
		}
		_, length := a.plan.Span(stretch)
		sent += length
	}
	return nil
}

// sendStretch sends adjacent parts. A part whose failure may be temporary is tried
// once more, from a fresh read. sent is how many bytes of the run went before.
func (h *hand) sendStretch(ctx context.Context, a *assignment, stretch parts.Run, sent int64, out *outbox) *parts.Failure {
	tried := 0
	for rest := stretch; ; {
		next, failure := h.sendParts(ctx, a, rest, out)
		if failure == nil {
			return nil
		}
		if !courseOf(failure).again || next == tried || !backoff.Pause(ctx, jitter(retryPause)) {
			return failure
		}
		tried = next
		h.noteMended(ctx, failure)
		rest = parts.Run{First: next, Count: stretch.Last() - next + 1}
		h.read.Store(sent + a.plan.Part(next).Offset - a.plan.Part(stretch.First).Offset)
	}
}

// sendParts reads adjacent parts with one ranged GET and sends each. It returns the
// number of the next part to be sent. After a Failure nothing of this read is used
// again: a transport that gave up on a request may still hold its body.
func (h *hand) sendParts(ctx context.Context, a *assignment, run parts.Run, out *outbox) (next int, _ *parts.Failure) {
	sums, err := newSums(a)
	if err != nil {
		return run.First, unfit(providers.Rejected, run.First, err)
	}
	if h.leave() {
		return run.First, nil
	}
	started := time.Now()
	offset, length := a.plan.Span(run)
	src, err := h.source.Open(ctx, a.source, offset, length)
	if err != nil {
		return run.First, sourceFailure(run.First, started, err)
	}
	defer func() { _ = src.Close() }() // every byte that counts was read before
	for n := run.First; n <= run.Last(); n++ {
		ack, failure := h.sendPart(ctx, a, a.plan.Part(n), src, sums)
		if failure != nil {
			return n, failure
		}
		out.add(ack)
		if n < run.Last() && h.leave() {
			return n + 1, nil
		}
	}
	return run.Last() + 1, nil
}

// sendPart sends one part from the read, which stands at its first byte.
func (h *hand) sendPart(ctx context.Context, a *assignment, part parts.Part, src io.Reader, sums *sums) (parts.Ack, *parts.Failure) {
	started := time.Now()
	var b body
	if a.limits.DigestFirst || part.Length <= min(a.limits.HoldUpTo, maxHeld) {
		data := h.slot.take(int(part.Length))
		if _, err := io.ReadFull(counted{src, &h.read}, data); err != nil {
			return parts.Ack{}, sourceFailure(part.Number, started, err)
		}
		whole := &held{data: data, pulse: &h.pulse}
		sums.begin()
		sums.add(data)
		var err error
		if whole.digest, whole.read, err = sums.end(); err != nil {
			return parts.Ack{}, sourceFailure(part.Number, started, err)
		}
		b = whole
	} else {
		b = newStreamed(src, part.Length, sums, &h.read)
	}

	receipt, err := a.provider.PutPart(reach.With(ctx, a.reach), a.session, part, b)
	var failure *parts.Failure
	switch {
	case b.failed() != nil:
		// What the provider makes of a body that broke off says less.
		failure = sourceFailure(part.Number, started, b.failed())
	case err != nil:
		failure = platformFailure(part.Number, started, err)
	case !b.consumed():
		failure = &parts.Failure{
			Part: part.Number, Kind: string(providers.Mismatch), Code: "short_body", Stage: uploads.StageTransit,
			Message: "the platform confirmed the part before all of it was sent",
			Started: started, Failed: time.Now(),
		}
	}
	if failure != nil {
		h.slot.drop()
		return parts.Ack{}, failure
	}
	h.pulse.Add(1)
	h.sentParts.Add(1)
	h.sentBytes.Add(part.Length)
	return parts.Ack{
		Part: part.Number, Offset: part.Offset, Length: part.Length,
		Receipt: receipt, Digest: b.Digest(), Read: b.readDigest(), Started: started, Finished: time.Now(),
	}, nil
}
