package jobs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mediaferry/internal/parts"
)

// streamRecord keeps the last word of each record that was told by Tell.
const streamRecord = "RECORD"

func recordSubject(record uuid.UUID) string { return "mf.record." + record.String() }

// Told returns the highest tick that was told of the record, 0 if none was, or
// if the stream that kept it is gone.
func (c *Conn) Told(ctx context.Context, record uuid.UUID) (int64, error) {
	word, err := c.told(ctx, record)
	return word.tick, wrap("read what was told of the record", err)
}

// word is what the stream has of a record.
type word struct {
	tick int64
	by   string // the connection that told it
	seq  uint64
}

func (c *Conn) told(ctx context.Context, record uuid.UUID) (word, error) {
	if !c.nc.IsConnected() {
		return word{}, nats.ErrDisconnected
	}
	stream, err := c.js.Stream(ctx, streamRecord)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return word{}, nil
	}
	if err != nil {
		return word{}, err //nolint:wrapcheck // callers do
	}
	msg, err := stream.GetLastMsgForSubject(ctx, recordSubject(record))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return word{}, nil
	}
	if err != nil {
		return word{}, err //nolint:wrapcheck // callers do
	}
	return readWord(msg.Data, msg.Sequence), nil
}

// mostTick leaves room to count on. No record comes as far.
const mostTick = 1 << 62

// readWord reads "tick by". What is none is nobody's word, and is written over.
func readWord(data []byte, seq uint64) word {
	text, by, _ := strings.Cut(string(data), " ")
	tick, err := strconv.ParseInt(text, 10, 64)
	if err != nil || tick < 0 || tick > mostTick {
		return word{seq: seq}
	}
	return word{tick: tick, by: by, seq: seq}
}

// Tell has the stream keep the mark, unless it was told of one as high, and
// returns the highest tick that it was told before by another connection, or 0 if
// this one was the last. It may be repeated.
func (c *Conn) Tell(ctx context.Context, mark parts.RecordMark) (told int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	body := fmt.Appendf(nil, "%d %s", mark.Tick, c.id)
	for {
		before, err := c.told(ctx, mark.Record)
		if err != nil {
			return 0, wrap("tell of the record", err)
		}
		if before.by != c.id {
			told = before.tick
		}
		if before.tick >= mark.Tick {
			return told, nil
		}
		_, err = c.js.Publish(ctx, recordSubject(mark.Record), body, jetstream.WithExpectLastSequencePerSubject(before.seq))
		if e, ok := errors.AsType[*jetstream.APIError](err); ok && e.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
			continue // another dispatcher was first, perhaps with a higher one
		}
		return told, wrap("tell of the record", err)
	}
}
