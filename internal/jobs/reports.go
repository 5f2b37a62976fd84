package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"mediaferry/internal/backoff"
	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

const (
	// A batch is what one transaction records: all that came within batchLinger
	// of its first report, at most batchReports. A report that comes batchIdle after
	// the batch before is recorded at once.
	batchReports = 1000
	batchLinger  = 20 * time.Millisecond
	batchIdle    = 100 * time.Millisecond

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
		future, err := c.publishAsync(ctx, subject, report.Trace, body)
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
		backoff.Pause(ctx, delay(failures))
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
// then in any case.
//
// A report that cannot be read, and one that handle alone refuses for good with
// an *uploads.RefusedError, is kept by keep and terminated; those around it are
// handled without it.
//
// Batches are of one to 1,000 reports. A lone report waits for no others. Any number
// of dispatchers may consume at once. Streams and consumers that are missing are
// created. It returns nil when ctx has ended and nothing is in hand any more.
func (c *Conn) ConsumeReports(ctx context.Context, handle func(context.Context, []parts.Report) error, keep KeepAside) error {
	in := make(chan arrived, batchReports)
	var consuming sync.WaitGroup
	consuming.Go(func() {
		c.consume(ctx, streamAcks, ledgerConsumer(), func(msg jetstream.Msg) {
			// Decoded here, beside the transaction of the batch before.
			if strings.HasSuffix(msg.Subject(), asideSuffix) {
				c.keepReported(ctx, msg, keep)
				return
			}
			report, err := decodeReport(msg.Subject(), msg.Data())
			if err != nil {
				c.setAside(ctx, msg, err.Error(), keep)
				return
			}
			report.Trace = msg.Headers().Get(headerTrace)
			select {
			case in <- arrived{report: report, msg: msg}:
			case <-ctx.Done():
				c.giveBack(msg)
			}
		})
	})
	c.recordBatches(ctx, in, handle, keep)
	consuming.Wait()
	for len(in) > 0 {
		c.giveBack((<-in).msg)
	}
	return nil
}

func (c *Conn) recordBatches(ctx context.Context, in <-chan arrived, handle func(context.Context, []parts.Report) error, keep KeepAside) {
	batch := make([]arrived, 0, batchReports)
	var last time.Time // when a batch was recorded
	for failures := 0; ; {
		batch = collect(ctx, in, batch[:0], last)
		if ctx.Err() != nil {
			for _, a := range batch {
				c.giveBack(a.msg)
			}
			return
		}
		left, err := c.recordBatch(ctx, batch, handle, keep)
		last = time.Now()
		if err == nil {
			failures = 0
			continue
		}
		wait := min(minBatchDelay<<min(failures, 10), maxBatchDelay)
		failures++
		c.log.Warn("reports were not recorded", zap.Int("reports", len(left)), zap.Duration("again_in", wait), zap.Error(err))
		for _, a := range left {
			if ctx.Err() != nil { // stopped, which is no failure
				c.giveBack(a.msg)
			} else if err := a.msg.NakWithDelay(wait); err != nil {
				c.log.Debug("report not settled", zap.Error(err))
			}
		}
		backoff.Pause(ctx, wait)
	}
}

// recordBatch has a batch handled and acks it. Where it is refused it is halved,
// down to the reports that are refused alone, which are set aside. It returns the
// reports that are not settled, with the error that held them up.
func (c *Conn) recordBatch(
	ctx context.Context, batch []arrived, handle func(context.Context, []parts.Report) error, keep KeepAside,
) (left []arrived, err error) {
	reports := make([]parts.Report, len(batch))
	for i, a := range batch {
		reports[i] = a.report
	}
	err = handle(ctx, reports)
	if err == nil {
		for _, a := range batch {
			if err := a.msg.Ack(); err != nil {
				c.log.Debug("report not acked", zap.Error(err))
			}
		}
		return nil, nil
	}
	if !isRefusal(err) || ctx.Err() != nil {
		return batch, err
	}
	if len(batch) == 1 {
		c.setAside(ctx, batch[0].msg, err.Error(), keep)
		return nil, nil
	}
	for _, half := range [][]arrived{batch[:len(batch)/2], batch[len(batch)/2:]} {
		more, herr := c.recordBatch(ctx, half, handle, keep)
		left = append(left, more...)
		if herr != nil {
			err = herr
		}
	}
	if len(left) == 0 {
		return nil, nil
	}
	return left, err
}

// isRefusal reports whether what was handed in is the cause of the error, and
// nothing that may be another time.
func isRefusal(err error) bool {
	if _, away := errors.AsType[*uploads.UnavailableError](err); away {
		return false
	}
	_, refused := errors.AsType[*uploads.RefusedError](err)
	return refused
}

// decodeReport reads a report, and checks that it can be one: whatever passes, the
// ledger can be asked about.
func decodeReport(subject string, data []byte) (parts.Report, error) {
	var r parts.Report
	if err := json.Unmarshal(data, &r); err != nil {
		return parts.Report{}, fmt.Errorf("is no report: %w", err)
	}
	if checkTokens(r.Account) != nil || r.Upload == uuid.Nil || subject != ackSubject(r.Account, r.Upload) {
		return parts.Report{}, errors.New("the report is not what its subject says")
	}
	if err := r.Check(); err != nil {
		return parts.Report{}, fmt.Errorf("is no report: %w", err)
	}
	return r, nil
}

// collect waits for a report and appends it, those that are there with it, and,
// unless the last batch is long ago, those that come soon after.
func collect(ctx context.Context, in <-chan arrived, batch []arrived, last time.Time) []arrived {
	select {
	case a := <-in:
		batch = append(batch, a)
	case <-ctx.Done():
		return batch
	}
	wait := batchLinger
	if time.Since(last) >= batchIdle {
		wait = 0
	}
	linger := time.NewTimer(wait)
	defer linger.Stop()
	for len(batch) < batchReports {
		select {
		case a := <-in: // before the time is looked at
			batch = append(batch, a)
			continue
		default:
		}
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
