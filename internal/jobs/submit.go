package jobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"mediaferry/internal/uploads"
)

const (
	// SubmitReplyHeader names the subject on which a submitter wants to hear
	// what became of a submission. It is not the reply subject of the message:
	// JetStream answers there that it keeps the message, which says nothing
	// about the upload.
	SubmitReplyHeader = "Mf-Reply-To"

	// submissionIDHeader is the id of a submission that was set aside and put back.
	submissionIDHeader = "Mf-Submission-Id"

	maxSubmitting = 16
	submitAckWait = 30 * time.Second
	submitAgainIn = 2 * time.Second
	// submitElsewhereIn is the pause of a submission whose account another
	// dispatcher may have.
	submitElsewhereIn = 5 * time.Second
)

func intakeConsumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: "intake", AckPolicy: jetstream.AckExplicitPolicy, AckWait: submitAckWait,
		MaxDeliver: -1, MaxAckPending: maxInHand,
	}
}

// TakeSubmission decides on a submission; ConsumeSubmissions says how.
type TakeSubmission func(ctx context.Context, tenant, id string, at time.Time, payload []byte) (reply []byte, err error)

// ConsumeSubmissions hands what arrives on the SUBMIT stream to handle until ctx
// ends, several at once, shared with all other dispatchers. handle returns after
// its commit what the submitter is to be told. With an *uploads.RefusedError beside
// it the submission is refused for good: it is kept by keep and taken off the
// stream. Any other error means that handle could not decide, and the submission
// comes again; later where an *uploads.UnknownAccountError leaves it to other
// dispatchers. It comes again now and then in any case, so handle derives an
// idempotency key from id, which is the same each time, where the submission has
// none. at is when it came to the stream. It returns nil when ctx has ended and nothing is in hand any more.
func (c *Conn) ConsumeSubmissions(
	ctx context.Context, handle TakeSubmission, keep KeepAside,
) error {
	c.consumeSeveral(ctx, streamSubmit, intakeConsumer(), func(msg jetstream.Msg) { c.submit(ctx, msg, handle, keep) })
	return nil
}

// consumeSeveral has take called for the messages of a durable consumer until ctx
// ends, several at once, and returns when the last call has.
func (c *Conn) consumeSeveral(ctx context.Context, stream string, cfg jetstream.ConsumerConfig, take func(jetstream.Msg)) {
	places := make(chan struct{}, maxSubmitting)
	var taking sync.WaitGroup
	c.consume(ctx, stream, cfg, func(msg jetstream.Msg) {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			c.giveBack(msg)
			return
		}
		taking.Go(func() {
			defer func() { <-places }()
			take(msg)
		})
	})
	taking.Wait()
}

func (c *Conn) submit(ctx context.Context, msg jetstream.Msg, handle TakeSubmission, keep KeepAside) {
	log := c.log.With(zap.String("subject", msg.Subject()))
	tenant, meta, err := submissionOf(msg)
	if err != nil {
		c.setAside(ctx, msg, "is no submission: "+err.Error(), keep)
		return
	}
	id := submissionID(msg, meta)
	reply, err := handle(ctx, tenant, id, meta.Timestamp, msg.Data())
	refusal := isRefusal(err)
	if err != nil && !refusal {
		c.again(ctx, msg, "submission was not taken", err)
		return
	}
	if to := msg.Headers().Get(SubmitReplyHeader); to != "" && reply != nil {
		if !mayAnswer(tenant, to) {
			log.Warn("submission is not answered on that subject", zap.String("reply_to", to))
		} else if err := c.nc.Publish(to, reply); err != nil {
			log.Warn("submission not answered", zap.Error(err))
		}
	}
	if refusal {
		c.setAside(ctx, msg, err.Error(), func(ctx context.Context, m uploads.SetAside) error {
			m.Headers = maps.Clone(m.Headers)
			if m.Headers == nil {
				m.Headers = map[string][]string{}
			}
			m.Headers[submissionIDHeader] = []string{id} // for when it is put back
			return keep(ctx, m)
		})
		return
	}
	c.settled(msg, msg.Ack())
}

// submissionID tells a submission from every other one. Sequence and time together
// tell a message from that with the same number in a stream that was deleted and
// made anew. One that is put back after it was set aside has the id that it had,
// so that it is one upload however often that is done.
func submissionID(msg jetstream.Msg, meta *jetstream.MsgMetadata) string {
	if id := msg.Headers().Get(submissionIDHeader); id != "" {
		return id
	}
	return fmt.Sprintf("nats-%d-%d", meta.Sequence.Stream, meta.Timestamp.UnixNano())
}

// again has a message come again that could not be decided on: later, or at once
// where ctx has ended.
func (c *Conn) again(ctx context.Context, msg jetstream.Msg, what string, err error) {
	if ctx.Err() != nil {
		c.giveBack(msg)
		return
	}
	delay := submitAgainIn
	if _, elsewhere := errors.AsType[*uploads.UnknownAccountError](err); elsewhere {
		delay = submitElsewhereIn
	}
	c.log.Warn(what, zap.String("subject", msg.Subject()), zap.Duration("again_in", delay), zap.Error(err))
	c.settled(msg, msg.NakWithDelay(delay))
}

// settled notes that a message will come again which was settled.
func (c *Conn) settled(msg jetstream.Msg, err error) {
	if err != nil {
		c.log.Debug("message not settled", zap.String("subject", msg.Subject()), zap.Error(err))
	}
}

// mayAnswer reports whether a submitter of the tenant may be answered on the
// subject. The answer goes out in our name, who may do more than submitters: it
// must not be a call of the server's own, a job, an ack or another tenant's.
func mayAnswer(tenant, subject string) bool {
	if strings.ContainsAny(subject, " \t\r\n*>") || strings.HasPrefix(subject, "$") {
		return false
	}
	return !strings.HasPrefix(subject, "mf.") || strings.HasPrefix(subject, "mf.submitted."+tenant+".")
}

func submissionOf(msg jetstream.Msg) (tenant string, meta *jetstream.MsgMetadata, err error) {
	tenant = strings.TrimPrefix(msg.Subject(), "mf.submit.")
	if err := checkTokens(tenant); err != nil {
		return "", nil, err
	}
	meta, err = msg.Metadata()
	if err != nil {
		return "", nil, fmt.Errorf("read the number of a submission: %w", err)
	}
	return tenant, meta, nil
}
