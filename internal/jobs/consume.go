package jobs

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"mediaferry/internal/backoff"
)

const (
	// Bounds of what is fetched ahead for a consumer of many small messages.
	aheadMessages = 2000
	aheadBytes    = 16 << 20
	// drainWait bounds how long messages that were under way are waited for.
	drainWait = 2 * time.Second
)

// consume has take called for the messages of a durable consumer until ctx
// ends, one at a time. It fetches ahead, so it is for messages that are dealt
// with in milliseconds. The stream and the consumer are created when they are
// missing. Messages that arrive after the end of ctx are given back.
func (c *Conn) consume(ctx context.Context, stream string, cfg jetstream.ConsumerConfig, take func(jetstream.Msg)) {
	state := condition{log: c.log}
	for failures := 0; ctx.Err() == nil; {
		lost := make(chan error, 1)
		consumer, err := c.openConsumer(ctx, stream, cfg)
		var consuming jetstream.ConsumeContext
		if err == nil {
			consuming, err = consumer.Consume(func(msg jetstream.Msg) {
				if ctx.Err() != nil {
					c.giveBack(msg)
					return
				}
				take(msg)
			},
				jetstream.PullMaxMessagesWithBytesLimit(aheadMessages, aheadBytes),
				jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat),
				// Every error is looked into: nats.go goes on asking a consumer
				// that is gone.
				jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
					select {
					case lost <- err:
					default:
					}
				}))
		}
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			state.is("waiting for stream "+stream, err)
			backoff.Pause(ctx, delay(failures))
			failures++
			continue
		}
		state.over("reading stream " + stream + " again")
		began := time.Now()
		if err := c.watchConsumer(ctx, stream, cfg, lost); err != nil {
			state.is("reading stream "+stream+" was interrupted", err)
		}
		drain(consuming)
		if time.Since(began) > maxDelay {
			failures = 0
		} else if ctx.Err() == nil {
			backoff.Pause(ctx, delay(failures))
			failures++
		}
	}
}

// watchConsumer keeps a consumer that is read as it is to be, until ctx ends or
// reading it fails, and returns why it did.
func (c *Conn) watchConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig, lost <-chan error) error {
	again := time.NewTicker(maintainEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-lost:
			return err
		case <-again.C:
			// An error of this is also one of reading, which says so.
			_, _ = c.ensureConsumer(ctx, stream, cfg, true)
		}
	}
}

// openConsumer returns the consumer, once the stream is there.
func (c *Conn) openConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	consumer, err := c.ensureConsumer(ctx, stream, cfg, true)
	if err == nil {
		return consumer, nil
	}
	if err := c.EnsureStreams(ctx); err != nil {
		return nil, err
	}
	consumer, err = c.ensureConsumer(ctx, stream, cfg, true)
	return consumer, wrap("open consumer "+cfg.Durable, err)
}

// drain ends a consumption and waits until what was under way has been taken.
func drain(consuming jetstream.ConsumeContext) {
	consuming.Drain()
	timer := time.NewTimer(drainWait)
	defer timer.Stop()
	select {
	case <-consuming.Closed():
	case <-timer.C:
	}
}

// giveBack makes a message deliverable again at once.
func (c *Conn) giveBack(msg jetstream.Msg) {
	if err := msg.Nak(); err != nil {
		c.log.Debug("a message was not given back and waits for its time to run out")
	}
}
