package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"mediaferry/internal/uploads"
)

// A message that nobody can read, or that is refused for good, would come again
// for ever. It is terminated, but only once somebody keeps it: the dispatcher's
// record, or, where a worker met it, the ACKS stream on its way there.

// KeepAside keeps a message for people to look at; on return it is durable. It
// may be called again with the same message.
type KeepAside func(context.Context, uploads.SetAside) error

// asideAgainIn is how long a message waits that could not be kept.
const asideAgainIn = 5 * time.Second

// asideReport is how a worker hands a message on: a kind of report of its own,
// on a subject of its own below those of the ACKS stream.
type asideReport struct {
	Worker    string              `json:"worker"`
	Stream    string              `json:"stream"`
	Subject   string              `json:"subject"`
	Seq       uint64              `json:"seq"`
	Published time.Time           `json:"published"`
	Headers   map[string][]string `json:"headers,omitempty"`
	Payload   []byte              `json:"payload,omitempty"`
	Size      int64               `json:"size"`
	Reason    string              `json:"reason"`
}

const asideSuffix = ".aside"

func asideSubject(pool string) string { return "mf.ack." + pool + asideSuffix }

// asideOf describes a message; meta is zero where the message has none.
func asideOf(subject string, headers nats.Header, data []byte, meta *jetstream.MsgMetadata, reason string) uploads.SetAside {
	m := uploads.SetAside{
		Subject: subject, Headers: headers, Payload: data[:min(len(data), uploads.MaxSetAside)], Size: int64(len(data)), Reason: reason,
	}
	if meta != nil {
		m.Stream, m.Seq, m.Published = meta.Stream, meta.Sequence.Stream, meta.Timestamp.UTC().Truncate(time.Microsecond)
	}
	return m
}

// setAside has a message kept and then takes it off its stream. If it cannot be
// kept now it comes again.
func (c *Conn) setAside(ctx context.Context, msg jetstream.Msg, reason string, keep KeepAside) {
	meta, err := msg.Metadata()
	if err == nil {
		err = keep(ctx, asideOf(msg.Subject(), msg.Headers(), msg.Data(), meta, reason))
	}
	switch {
	case err == nil:
		err = msg.TermWithReason("set aside")
	case ctx.Err() != nil:
		c.giveBack(msg)
		return
	default:
		c.log.Warn("a message that cannot be used is not kept yet", zap.String("subject", msg.Subject()),
			zap.String("reason", reason), zap.Duration("again_in", asideAgainIn), zap.Error(err))
		err = msg.NakWithDelay(asideAgainIn)
	}
	if err != nil {
		c.log.Debug("message not settled", zap.Error(err))
	}
}

// keepReported has a message kept that a worker met.
func (c *Conn) keepReported(ctx context.Context, msg jetstream.Msg, keep KeepAside) {
	var r asideReport
	if err := json.Unmarshal(msg.Data(), &r); err != nil {
		c.setAside(ctx, msg, "is no report of a message that cannot be read: "+err.Error(), keep)
		return
	}
	err := keep(ctx, uploads.SetAside{
		Stream: r.Stream, Subject: r.Subject, Seq: r.Seq, Published: r.Published, Headers: r.Headers, Payload: r.Payload,
		Size: r.Size, Reason: r.Reason, Worker: r.Worker,
	})
	if refused, ok := errors.AsType[*uploads.RefusedError](err); ok {
		c.setAside(ctx, msg, refused.Error(), keep)
		return
	}
	switch {
	case err == nil:
		err = msg.Ack()
	case ctx.Err() != nil:
		c.giveBack(msg)
		return
	default:
		c.log.Warn("a message that a worker could not read is not kept yet", zap.Duration("again_in", asideAgainIn), zap.Error(err))
		err = msg.NakWithDelay(asideAgainIn)
	}
	if err != nil {
		c.log.Debug("message not settled", zap.Error(err))
	}
}

// reportAside hands a message that the worker cannot read to the dispatchers. On
// return without error the ACKS stream has it, and the message may be taken off
// its own.
func (c *Conn) reportAside(ctx context.Context, pool, worker string, msg *nats.Msg, reason string) error {
	meta, err := jetstreamMeta(msg)
	if err != nil {
		return err
	}
	m := asideOf(msg.Subject, msg.Header, msg.Data, meta, reason)
	body, err := json.Marshal(asideReport{
		Worker: worker, Stream: m.Stream, Subject: m.Subject, Seq: m.Seq, Published: m.Published, Headers: m.Headers,
		Payload: m.Payload, Size: m.Size, Reason: m.Reason,
	})
	if err != nil {
		return fmt.Errorf("report a message: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	future, err := c.publishAsync(ctx, asideSubject(pool), "", body)
	if err == nil {
		err = confirmed(ctx, future)
	}
	return wrap("report a message", err)
}

// jetstreamMeta reads where a pulled message stands in its stream.
func jetstreamMeta(msg *nats.Msg) (*jetstream.MsgMetadata, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read where a message stands: %w", err)
	}
	return &jetstream.MsgMetadata{
		Stream: meta.Stream, Timestamp: meta.Timestamp,
		Sequence: jetstream.SequencePair{Stream: meta.Sequence.Stream, Consumer: meta.Sequence.Consumer},
	}, nil
}

// PutBack publishes a message that was set aside again, as it was, and returns
// when its stream has confirmed it. Headers that are for the server are left out:
// the message's old publish id would have it dropped.
func (c *Conn) PutBack(ctx context.Context, m uploads.SetAside) error {
	msg := &nats.Msg{Subject: m.Subject, Data: m.Payload, Header: nats.Header{}}
	for name, values := range m.Headers {
		if !strings.HasPrefix(strings.ToLower(name), "nats-") {
			msg.Header[name] = values
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	_, err := c.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(m.Stream))
	return wrap(fmt.Sprintf("put a message back on %s", m.Stream), err)
}
