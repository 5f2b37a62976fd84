package jobs

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

const (
	// SubmitReplyHeader names the subject on which a submitter wants to hear
	// what became of a submission. It is not the reply subject of the message:
	// JetStream answers there that it keeps the message, which says nothing
	// about the upload.
	SubmitReplyHeader = "Mf-Reply-To"

	maxSubmitting = 16
	submitAckWait = 30 * time.Second
	submitAgainIn = 2 * time.Second
)

func intakeConsumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: "intake", AckPolicy: jetstream.AckExplicitPolicy, AckWait: submitAckWait,
		MaxDeliver: -1, MaxAckPending: maxInHand,
	}
}

// ConsumeSubmissions hands what arrives on the SUBMIT stream to handle until ctx
// ends, several at once, shared with all other dispatchers. handle returns after
// its commit what the submitter is to be told. With an *uploads.RefusedError beside
// it the submission is refused for good: it is kept by keep and taken off the
// stream. Any other error means that handle could not decide, and the submission
// comes again. It comes again now and then in any case, so handle derives an
// idempotency key from id, which is the same each time, where the submission has
// none. It returns nil when ctx has ended and nothing is in hand any more.
func (c *Conn) ConsumeSubmissions(
	ctx context.Context, handle func(ctx context.Context, tenant, id string, payload []byte) (reply []byte, err error), keep KeepAside,
) error {
	places := make(chan struct{}, maxSubmitting)
	var submitting sync.WaitGroup
	c.consume(ctx, streamSubmit, intakeConsumer(), func(msg jetstream.Msg) {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			c.giveBack(msg)
			return
		}
		submitting.Go(func() {
			defer func() { <-places }()
			c.submit(ctx, msg, handle, keep)
		})
	})
	submitting.Wait()
	return nil
}

func (c *Conn) submit(
	ctx context.Context, msg jetstream.Msg, handle func(ctx context.Context, tenant, id string, payload []byte) ([]byte, error), keep KeepAside,
) {
	log := c.log.With(zap.String("subject", msg.Subject()))
	settled := func(err error) {
		if err != nil {
			log.Debug("submission not settled", zap.Error(err))
		}
	}
	tenant, meta, err := submissionOf(msg)
	if err != nil {
		c.setAside(ctx, msg, "is no submission: "+err.Error(), keep)
		return
	}
	// Sequence and time together tell a message from that with the same number
	// in a stream that was deleted and made anew.
	id := fmt.Sprintf("nats-%d-%d", meta.Sequence.Stream, meta.Timestamp.UnixNano())
	reply, err := handle(ctx, tenant, id, msg.Data())
	refusal := isRefusal(err)
	switch {
	case refusal:
	case err != nil && ctx.Err() != nil:
		c.giveBack(msg)
		return
	case err != nil:
		log.Warn("submission was not taken", zap.Duration("again_in", submitAgainIn), zap.Error(err))
		settled(msg.NakWithDelay(submitAgainIn))
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
		c.setAside(ctx, msg, err.Error(), keep)
		return
	}
	settled(msg.Ack())
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
