package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// stallWait is how long a publish may wait for earlier ones to be confirmed
// before the context is looked at again.
const stallWait = 200 * time.Millisecond

// headerTrace is W3C Trace Context's, as parts.Job.Trace. What it says is for
// those who watch; nothing is decided by it.
const headerTrace = "traceparent"

// messageID tells a publish that is repeated from a run that is fed again.
func messageID(m parts.Publication) string {
	return m.Job.Upload.String() + "." + strconv.Itoa(m.Job.Epoch) + "." + strconv.Itoa(m.Job.Run.First) + "." +
		strconv.FormatInt(m.Feed, 10)
}

// UnconfirmedError says which jobs the queue did not confirm. They may be on it
// nevertheless; publishing them again with the same feed counter is harmless.
type UnconfirmedError struct {
	Jobs []parts.Publication
	Err  error // of one of them
}

// Error says how many jobs and why.
func (e *UnconfirmedError) Error() string {
	return fmt.Sprintf("%d jobs not confirmed by the queue: %v", len(e.Jobs), e.Err)
}

// Unwrap returns the cause.
func (e *UnconfirmedError) Unwrap() error { return e.Err }

// PublishJobs puts jobs on the queue and returns when the stream has confirmed
// all of them, else with an *UnconfirmedError. It does not wait for NATS to come
// back: it returns at once when the connection is down, and within 20 seconds
// whatever happens.
func (c *Conn) PublishJobs(ctx context.Context, msgs []parts.Publication) error {
	ctx, cancel := context.WithTimeout(ctx, 2*confirmTimeout)
	defer cancel()
	futures := make([]jetstream.PubAckFuture, 0, len(msgs))
	var failure error // why publishing ended early
	for _, m := range msgs {
		future, err := c.publishJob(ctx, m)
		if err != nil {
			failure = err
			break
		}
		futures = append(futures, future)
	}
	unconfirmed := slices.Clone(msgs[len(futures):])
	for i, m := range msgs[:len(futures)] {
		if err := confirmed(ctx, futures[i]); err != nil {
			unconfirmed = append(unconfirmed, m)
			failure = err
		}
	}
	if len(unconfirmed) == 0 {
		return nil
	}
	return &UnconfirmedError{Jobs: unconfirmed, Err: wrap("publish jobs", failure)}
}

func (c *Conn) publishJob(ctx context.Context, m parts.Publication) (jetstream.PubAckFuture, error) {
	subject, err := jobSubject(m.Job)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(m.Job)
	if err != nil {
		return nil, fmt.Errorf("encode job: %w", err)
	}
	return c.publishAsync(ctx, subject, m.Job.Trace, body, jetstream.WithMsgID(messageID(m)))
}

// publishAsync hands a message to the connection, if that is up: nats.go would
// keep it for later otherwise, and the caller would learn nothing for long. It
// waits while too many messages are unconfirmed. trace goes into a header, if
// there is one.
func (c *Conn) publishAsync(ctx context.Context, subject, trace string, body []byte, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	opts = append(opts, jetstream.WithStallWait(stallWait))
	for {
		if err := ctx.Err(); err != nil {
			return nil, err //nolint:wrapcheck // callers do
		}
		if !c.nc.IsConnected() {
			return nil, nats.ErrDisconnected
		}
		msg := &nats.Msg{Subject: subject, Data: body}
		if trace != "" {
			msg.Header = nats.Header{headerTrace: {trace}}
		}
		future, err := c.js.PublishMsgAsync(msg, opts...)
		if errors.Is(err, jetstream.ErrTooManyStalledMsgs) {
			continue
		}
		return future, err //nolint:wrapcheck // callers do
	}
}

// confirmed waits for the stream's answer, at most confirmTimeout.
func confirmed(ctx context.Context, future jetstream.PubAckFuture) error {
	select {
	case <-future.Ok():
		return nil
	case err := <-future.Err():
		return err
	case <-ctx.Done():
		return ctx.Err() //nolint:wrapcheck // callers do
	}
}

// Held returns the first parts of those runs of an upload's epoch that the
// queue still has, waiting or in a worker's hands, ascending.
func (c *Conn) Held(ctx context.Context, account string, upload uploads.ID, epoch int) ([]int, error) {
	if err := checkTokens(account); err != nil {
		return nil, err
	}
	if epoch < 1 {
		return nil, fmt.Errorf("epoch is %d; part jobs have one from 1", epoch)
	}
	subjects, err := c.held(ctx, streamJobs, partJobs(account, upload, epoch))
	if err != nil {
		return nil, wrap(fmt.Sprintf("list jobs of upload %s", upload), err)
	}
	firsts := make([]int, 0, len(subjects))
	for subject := range subjects {
		name, err := parseJob(subject)
		if err != nil {
			continue // put there by somebody else; the runner will say so
		}
		firsts = append(firsts, name.First)
	}
	slices.Sort(firsts)
	return slices.Compact(firsts), nil // one run may be in two pools
}

// HeldRuns returns, by upload, the first parts of all runs of an account that
// the queue still has, waiting or in a worker's hands, of whatever epoch. It is
// bounded by the account's window.
func (c *Conn) HeldRuns(ctx context.Context, account string) (map[uploads.ID][]int, error) {
	if err := checkTokens(account); err != nil {
		return nil, err
	}
	subjects, err := c.held(ctx, streamJobs, accountJobs(account))
	if err != nil {
		return nil, wrap("list jobs of account "+account, err)
	}
	runs := make(map[uploads.ID][]int)
	for subject := range subjects {
		name, err := parseJob(subject)
		if err != nil {
			continue // put there by somebody else; the runner will say so
		}
		runs[name.Upload] = append(runs[name.Upload], name.First)
	}
	return runs, nil
}

// HeldDigest reports whether the queue has a digest job of the upload.
func (c *Conn) HeldDigest(ctx context.Context, upload uploads.ID) (bool, error) {
	subjects, err := c.held(ctx, streamJobs, digestJobs(upload))
	if err != nil {
		return false, wrap(fmt.Sprintf("look for the digest job of upload %s", upload), err)
	}
	return len(subjects) > 0, nil
}

// PendingAcks returns how many reports of the upload are on their way to the
// ledger: what they acknowledge is not missing.
func (c *Conn) PendingAcks(ctx context.Context, account string, upload uploads.ID) (int, error) {
	if err := checkTokens(account); err != nil {
		return 0, err
	}
	subject := ackSubject(account, upload)
	subjects, err := c.held(ctx, streamAcks, subject)
	if err != nil {
		return 0, wrap(fmt.Sprintf("count reports of upload %s", upload), err)
	}
	return int(subjects[subject]), nil //nolint:gosec // a count of messages
}

// Withdraw takes all part and digest jobs of the upload, of every epoch, off the
// queue. A job that is in a worker's hands is not delivered again; to end it as
// well, PublishCancel.
func (c *Conn) Withdraw(ctx context.Context, account string, upload uploads.ID) error {
	if err := checkTokens(account); err != nil {
		return err
	}
	return c.purge(ctx, fmt.Sprintf("withdraw jobs of upload %s", upload), partJobs(account, upload, 0), digestJobs(upload))
}

// WithdrawRuns takes all part jobs of the account off the queue, as Withdraw does.
func (c *Conn) WithdrawRuns(ctx context.Context, account string) error {
	if err := checkTokens(account); err != nil {
		return err
	}
	return c.purge(ctx, "withdraw jobs of account "+account, accountJobs(account))
}

func (c *Conn) purge(ctx context.Context, doing string, filters ...string) error {
	stream, err := c.js.Stream(ctx, streamJobs)
	if err != nil {
		return wrap(doing, err)
	}
	for _, filter := range filters {
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(filter)); err != nil {
			return wrap(doing, err)
		}
	}
	return nil
}

// PublishEvents puts events on the EVENTS stream and returns when that has
// confirmed all of them. After an error some may be on it; publishing one id
// again within two minutes has no effect.
func (c *Conn) PublishEvents(ctx context.Context, events []uploads.Event) error {
	futures := make([]jetstream.PubAckFuture, 0, len(events))
	var failure error
	for _, e := range events {
		if failure = checkTokens(e.Tenant, e.Type); failure != nil {
			break
		}
		var future jetstream.PubAckFuture
		future, failure = c.publishAsync(ctx, eventSubject(e.Tenant, e.Type), "", e.Payload,
			jetstream.WithMsgID("outbox-"+strconv.FormatInt(e.Number, 10)))
		if failure != nil {
			break
		}
		futures = append(futures, future)
	}
	for _, future := range futures {
		if err := confirmed(ctx, future); err != nil {
			failure = err
		}
	}
	return wrap(fmt.Sprintf("publish %d events", len(events)), failure)
}
