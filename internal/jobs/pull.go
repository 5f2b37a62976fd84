package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// A pull waits on the server for pullExpiry and hears of it every
	// pullHeartbeat. Silence twice as long means that nobody knows of the pull.
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 5 * time.Second
	pullInbox     = 64 // messages; those that leave finds late
	// leaveWait bounds the round trip after which no message can come.
	leaveWait = time.Second
)

var errSilence = errors.New("the consumer does not answer")

// puller asks one consumer for one message after the other. It is for one
// goroutine, and is closed when no more is asked for.
type puller struct {
	conn             *Conn
	stream, consumer string
	inbox            *nats.Subscription // of no pull under way; nil until the first, and after one that was left
}

// close gives up the inbox. No message is lost by it: none is asked for.
func (p *puller) close() {
	if p.inbox != nil {
		_ = p.inbox.Unsubscribe()
	}
}

// pull asks the consumer for one message and returns it, or nil if there was none
// for a while, if the connection is a new one, or if ctx ended.
//
// It speaks the pull protocol itself because of how nats.go ends a fetch: a
// message that arrives in the moment of cancellation is dropped there, and
// nobody works on it until its AckWait is over. Here every pull asks for one
// message, so that there is never more than one to account for, and leave gives
// back the one that comes too late. A status that says that the consumer is gone
// is returned at once instead of after a silence.
//
// The server answers a pull with a message or with a status that ends it, and
// with nothing after that, so the next pull has the same inbox. One that is left
// without such an end takes its inbox with it.
func (p *puller) pull(ctx context.Context) (*nats.Msg, error) {
	c, consumer := p.conn, p.consumer
	if p.inbox == nil {
		inbox, err := c.nc.SubscribeSync(c.nc.NewInbox())
		if err != nil {
			return nil, fmt.Errorf("pull from %s: %w", consumer, err)
		}
		p.inbox = inbox
	}
	inbox := p.inbox
	p.inbox = nil
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	// A pull does not survive the connection that it was made on.
	defer context.AfterFunc(c.reconnected(), cancel)() //nolint:contextcheck // a broadcast, see Conn.link
	if err := c.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+p.stream+"."+consumer, inbox.Subject, pullRequest()); err != nil {
		_ = inbox.Unsubscribe()
		return nil, fmt.Errorf("pull from %s: %w", consumer, err)
	}
	for {
		msg, err := nextWithin(wait, inbox, 2*pullHeartbeat)
		if err != nil {
			c.leave(inbox)
			switch {
			case wait.Err() != nil:
				return nil, nil // ended from outside
			case errors.Is(err, context.DeadlineExceeded):
				err = errSilence
			}
			return nil, fmt.Errorf("pull from %s: %w", consumer, err)
		}
		switch status := statusOf(msg); status {
		case "100": // heartbeat
			continue
		case "":
			p.inbox = inbox
			if ctx.Err() != nil {
				c.release(msg)
				return nil, nil
			}
			return msg, nil
		case "404", "408": // none came while the pull lasted
			p.inbox = inbox
			return nil, nil
		case "503":
			_ = inbox.Unsubscribe()
			return nil, fmt.Errorf("pull from %s: %w", consumer, nats.ErrNoResponders)
		default: // consumer deleted, server shutdown, leadership change
			_ = inbox.Unsubscribe()
			return nil, fmt.Errorf("pull from %s: status %s: %s", consumer, status, msg.Header.Get("Description"))
		}
	}
}

// pullRequest asks for one message.
func pullRequest() []byte {
	return fmt.Appendf(nil, `{"batch":1,"expires":%d,"idle_heartbeat":%d}`, pullExpiry, pullHeartbeat)
}

func nextWithin(ctx context.Context, inbox *nats.Subscription, d time.Duration) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return inbox.NextMsgWithContext(ctx) //nolint:wrapcheck // pull does
}

// statusOf returns the code of a message from the server itself, "" for a message
// from the stream.
func statusOf(msg *nats.Msg) string {
	if len(msg.Data) > 0 {
		return ""
	}
	return msg.Header.Get("Status")
}

// leave ends a pull that the server may be answering in this moment: once the
// server has seen the end of the subscription, which takes a round trip, either
// the message is here and is given back, or it was not sent.
func (c *Conn) leave(inbox *nats.Subscription) {
	if !c.nc.IsConnected() || inbox.Drain() != nil {
		_ = inbox.Unsubscribe() // the server has forgotten the pull, or will
		return
	}
	for {
		msg, err := inbox.NextMsg(leaveWait)
		if err != nil {
			break // drained
		}
		if statusOf(msg) == "" {
			c.release(msg)
			break
		}
	}
	_ = inbox.Unsubscribe()
}

// How a delivery is settled. None of these waits for the server: what gets lost
// is delivered again after AckWait. While the connection is down they are kept
// and sent after it is back.

func (c *Conn) ack(msg *nats.Msg) error { return c.answer(msg, "+ACK") }

func (c *Conn) retry(msg *nats.Msg, d time.Duration) error {
	return c.answer(msg, fmt.Sprintf(`-NAK {"delay":%d}`, d))
}

// release gives a message back, for another worker to have at once.
func (c *Conn) release(msg *nats.Msg) {
	if err := c.answer(msg, "-NAK"); err != nil {
		c.log.Debug("a message was not given back and waits for its time to run out")
	}
}

func (c *Conn) inProgress(msg *nats.Msg) error { return c.answer(msg, "+WPI") }

func (c *Conn) terminate(msg *nats.Msg, reason string) error { return c.answer(msg, "+TERM "+reason) }

func (c *Conn) answer(msg *nats.Msg, body string) error {
	if err := c.nc.Publish(msg.Reply, []byte(body)); err != nil {
		return fmt.Errorf("settle a message: %w", err)
	}
	return nil
}
