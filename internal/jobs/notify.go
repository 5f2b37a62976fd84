package jobs

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

func notifyConsumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: "notify", AckPolicy: jetstream.AckExplicitPolicy, AckWait: submitAckWait,
		MaxDeliver: -1, MaxAckPending: maxInHand,
	}
}

// ConsumeNotifications hands what a bucket's store publishes below mf.notify to
// take until ctx ends, several messages at once, shared with all other
// dispatchers. A message is acked when take returns nil. One that is an
// *uploads.RefusedError is kept by keep and taken off the stream; any other error
// has it come again. It comes again now and then in any case. It returns nil when
// ctx has ended and nothing is in hand any more.
func (c *Conn) ConsumeNotifications(ctx context.Context, take func(ctx context.Context, payload []byte) error, keep KeepAside) error {
	c.consumeSeveral(ctx, streamNotify, notifyConsumer(), func(msg jetstream.Msg) {
		switch err := take(ctx, msg.Data()); {
		case err == nil:
			c.settled(msg, msg.Ack())
		case isRefusal(err):
			c.setAside(ctx, msg, err.Error(), keep)
		default:
			c.again(ctx, msg, "notification was not taken", err)
		}
	})
	return nil
}
