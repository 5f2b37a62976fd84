package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"mediaferry/internal/parts"
)

const (
	// A batch is what one transaction records: all that came within batchLinger
	// of its first report, at most batchReports.
	batchReports = 1000
	batchLinger  = 20 * time.Millisecond

	minBatchDelay = time.Second
	maxBatchDelay = 15 * time.Second // within ledgerAckWait
)

// Report publishes a report and returns nil once the ACKS stream has confirmed
// it; the job may be acked from then on. While NATS or the stream is away it
// tries again until ctx ends. It may be called again with the same report, and
// by many goroutines at once, whose publishes share the way to the server.
func (c *Conn) Report(ctx context.Context, report parts.Report) error {
	doing := fmt.Sprintf("report on upload %s", report.Upload)
	if err := checkTokens(report.Account); err != nil {
		return err
	}
	body, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	subject := ackSubject(report.Account, report.Upload)
	for failures := 0; ; failures++ {
		future, err := c.publishAsync(ctx, subject, body)
		if err == nil {
			err = confirmed(ctx, future)
		}
		switch {
		case err == nil:
			c.reports.over("reports reach the queue again")
			return nil
		case ctx.Err() != nil || errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrConnectionClosed):
			return wrap(doing, err)
		}
		c.reports.is("reports do not reach the queue", err)
		pause(ctx, delay(failures))
	}
}

// arrived is a report with the message that it came in.
type arrived struct {
	report parts.Report
	msg    jetstream.Msg
}

// ConsumeReports hands reports to handle until ctx ends, and acks them after it
// returned nil: handle is one transaction, and what it recorded is durable. If it
// fails, its reports are delivered again after a delay, possibly to another
// dispatcher, and the next batch waits as long. Reports are repeated now and
// then in any case. Handle should therefore not fail over the content of a
// report: those around it would come back with it.
//
// Batches are of one to 1,000 reports. A lone report waits for 20 ms. Any number
// of dispatchers may consume at once. Streams and consumers that are missing are
// created. It returns nil when ctx has ended and nothing is in hand any more.
func (c *Conn) ConsumeReports(ctx context.Context, handle func(context.Context, []parts.Report) error) error {
	in := make(chan arrived, batchReports)
	var consuming sync.WaitGroup
	consuming.Go(func() {
		c.consume(ctx, streamAcks, ledgerConsumer(), func(msg jetstream.Msg) {
			// Decoded here, beside the transaction of the batch before.
			var report parts.Report
			if err := json.Unmarshal(msg.Data(), &report); err != nil || msg.Subject() != ackSubject(report.Account, report.Upload) {
				c.log.Error("dropped a message that is no report", zap.String("subject", msg.Subject()), zap.Error(err))
				if err := msg.TermWithReason("not a report"); err != nil {
					c.log.Debug("message not settled", zap.Error(err))
				}
				return
			}
			select {
			case in <- arrived{report: report, msg: msg}:
			case <-ctx.Done():
				c.giveBack(msg)
			}
		})
	})
	c.recordBatches(ctx, in, handle)
	consuming.Wait()
	for len(in) > 0 {
		c.giveBack((<-in).msg)
	}
	return nil
}

func (c *Conn) recordBatches(ctx context.Context, in <-chan arrived, handle func(context.Context, []parts.Report) error) {
	batch := make([]arrived, 0, batchReports)
	reports := make([]parts.Report, 0, batchReports)
	for failures := 0; ; {
		batch = collect(ctx, in, batch[:0])
		if ctx.Err() != nil {
			for _, a := range batch {
				c.giveBack(a.msg)
			}
			return
		}
		reports = reports[:0]
		for _, a := range batch {
			reports = append(reports, a.report)
		}
		err := handle(ctx, reports)
		if err == nil {
			failures = 0
			for _, a := range batch {
				if err := a.msg.Ack(); err != nil {
					c.log.Debug("report not acked", zap.Error(err))
				}
			}
			continue
		}
		wait := min(minBatchDelay<<min(failures, 10), maxBatchDelay)
		failures++
		c.log.Warn("reports were not recorded", zap.Int("reports", len(batch)), zap.Duration("again_in", wait), zap.Error(err))
		for _, a := range batch {
			if ctx.Err() != nil { // stopped, which is no failure
				c.giveBack(a.msg)
			} else if err := a.msg.NakWithDelay(wait); err != nil {
				c.log.Debug("report not settled", zap.Error(err))
			}
		}
		pause(ctx, wait)
	}
}

// collect waits for a report and appends it and those that come soon after.
func collect(ctx context.Context, in <-chan arrived, batch []arrived) []arrived {
	select {
	case a := <-in:
		batch = append(batch, a)
	case <-ctx.Done():
		return batch
	}
	linger := time.NewTimer(batchLinger)
	defer linger.Stop()
	for len(batch) < batchReports {
		select {
		case a := <-in:
			batch = append(batch, a)
		case <-linger.C:
			return batch
		case <-ctx.Done():
			return batch
		}
	}
	return batch
}
