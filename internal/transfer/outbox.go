package transfer

import (
	"context"
	"errors"
	"time"

	"mediaferry/internal/parts"
)

// Acks are reported in batches: at most batchAcks, and those that come within
// batchDelay of the first.
const (
	batchAcks  = 128
	batchDelay = 20 * time.Millisecond
)

// errUnreported is the cause of work that ended because its acks are not
// confirmed: whatever else it sent would have to be sent again.
var errUnreported = errors.New("acks are not confirmed")

// outbox reports the acks of one job in batches while its parts are sent, in one
// goroutine that lasts until close. A job of one part needs no goroutine: close
// reports its ack.
type outbox struct {
	in   chan parts.Ack // nil where close reports
	done chan struct{}
	err  error // set before done is closed

	lone   []parts.Ack
	report func([]parts.Ack) error
}

// openOutbox starts reporting. The context is that of the job; the reports
// outlive a stop by reportGrace. giveUp is called when a report fails for good.
func (h *hand) openOutbox(ctx context.Context, giveUp context.CancelCauseFunc) *outbox {
	if h.job.Run.Count == 1 {
		return &outbox{report: func(acks []parts.Ack) error {
			ctx, cancel := outlive(ctx)
			defer cancel()
			return h.report(ctx, acks, nil, nil)
		}}
	}
	most := min(batchAcks, h.job.Run.Count)
	o := &outbox{in: make(chan parts.Ack, most), done: make(chan struct{})}
	go func() {
		defer close(o.done)
		ctx, cancel := outlive(ctx)
		defer cancel()
		batch := make([]parts.Ack, 0, most)
		for ack := range o.in {
			batch = o.fill(append(batch[:0], ack))
			if o.err = h.report(ctx, batch, nil, nil); o.err != nil {
				giveUp(errUnreported)
				break
			}
		}
		for range o.in {
			// What is not reported is sent again by the next delivery.
		}
	}()
	return o
}

// fill adds to a batch of one what comes until it is full, batchDelay has
// passed, or the outbox is closed.
func (o *outbox) fill(batch []parts.Ack) []parts.Ack {
	timer := time.NewTimer(batchDelay)
	defer timer.Stop()
	for len(batch) < batchAcks {
		select {
		case ack, ok := <-o.in:
			if !ok {
				return batch
			}
			batch = append(batch, ack)
		case <-timer.C:
			return batch
		}
	}
	return batch
}

// add takes an ack; it blocks while a report is slow, and never after one failed.
func (o *outbox) add(ack parts.Ack) {
	if o.in == nil {
		o.lone = append(o.lone, ack)
		return
	}
	o.in <- ack
}

// close waits until every ack is confirmed; an error says that some are not.
func (o *outbox) close() error {
	if o.in == nil {
		if len(o.lone) == 0 {
			return nil
		}
		return o.report(o.lone)
	}
	close(o.in)
	<-o.done
	return o.err
}
