package jobs

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"mediaferry/internal/parts"
)

// Names of the streams.
const (
	streamJobs   = "JOBS"
	streamAcks   = "ACKS"
	streamSubmit = "SUBMIT"
	streamNotify = "NOTIFY"
	streamEvents = "EVENTS"
)

const (
	eventsAge = 7 * 24 * time.Hour
	// maxJobs is a backstop: windows keep JOBS far below it, and DiscardNew
	// makes the dispatcher hear of it instead of losing work in silence.
	maxJobs = 1 << 20

	// maxInHand bounds the jobs of a pool, or reports, that are delivered and
	// not settled. Jobs that wait for a Retry count, so it is far above what
	// windows allow.
	maxInHand = 100_000
	// maxWaiting bounds the idle slots of a pool. JetStream cannot change it
	// later, and answers nothing to the slots above it.
	maxWaiting = 100_000

	// ledgerAckWait covers the time in which a batch waits for its turn and for
	// its transaction.
	ledgerAckWait = 10 * time.Second

	maintainEvery = 5 * time.Second
)

// streams lists what NATS must have. JOBS, ACKS, SUBMIT and NOTIFY discard nothing
// that was not acked; RECORD keeps one message of each record.
func streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		{
			Name: streamJobs, Subjects: []string{"mf.job.>"}, Retention: jetstream.WorkQueuePolicy,
			Discard: jetstream.DiscardNew, MaxMsgs: maxJobs,
		},
		{Name: streamAcks, Subjects: []string{"mf.ack.>"}, Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew},
		{Name: streamSubmit, Subjects: []string{"mf.submit.>"}, Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew},
		{Name: streamNotify, Subjects: []string{"mf.notify.>"}, Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew},
		{
			Name: streamRecord, Subjects: []string{"mf.record.>"}, Retention: jetstream.LimitsPolicy,
			Discard: jetstream.DiscardOld, MaxMsgsPerSubject: 1,
		},
		{Name: streamEvents, Subjects: []string{"mf.event.>"}, Retention: jetstream.LimitsPolicy, MaxAge: eventsAge},
	}
}

// EnsureStreams creates the streams that are missing and puts right what we
// depend on in those that are there: subjects, retention, that what is published is
// confirmed, what happens when they are full, and that they have the configured
// replicas or more. Everything else that an operator set on them, such as placement,
// size and age, is left.
// It may be called at any time by anybody.
func (c *Conn) EnsureStreams(ctx context.Context) error {
	for _, want := range streams() {
		want.Replicas = max(c.cfg.Replicas, 1)
		if err := c.ensureStream(ctx, want); err != nil {
			return wrap("ensure stream "+want.Name, err)
		}
	}
	return nil
}

func (c *Conn) ensureStream(ctx context.Context, want jetstream.StreamConfig) error {
	stream, err := c.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = c.js.CreateStream(ctx, want)
		if err == nil {
			c.log.Info("created stream", zap.String("stream", want.Name))
		}
	}
	if err != nil {
		return err //nolint:wrapcheck // EnsureStreams does
	}
	have := stream.CachedInfo().Config
	mended := have
	mended.Replicas = max(have.Replicas, want.Replicas)
	mended.Subjects, mended.Retention, mended.Discard = want.Subjects, want.Retention, want.Discard
	mended.NoAck, mended.SubjectTransform, mended.DiscardNewPerSubject = false, nil, false
	switch {
	case want.MaxMsgsPerSubject > 0:
		mended.MaxMsgsPerSubject = want.MaxMsgsPerSubject
	case want.Retention == jetstream.WorkQueuePolicy:
		mended.MaxMsgsPerSubject = -1 // none: the first of a subject would be lost for the next
	}
	if reflect.DeepEqual(have, mended) {
		return nil
	}
	if _, err := c.js.UpdateStream(ctx, mended); err != nil {
		return err //nolint:wrapcheck // EnsureStreams does
	}
	c.log.Info("updated stream", zap.String("stream", want.Name))
	return nil
}

// EnsurePool creates the pool's consumer if it is missing, and mends one that is
// not as it is to be. It may be called at any time by anybody, once the streams
// are there.
func (c *Conn) EnsurePool(ctx context.Context, pool string) error {
	if err := checkTokens(pool); err != nil {
		return err
	}
	_, err := c.ensureConsumer(ctx, streamJobs, c.poolConsumer(pool), true)
	return wrap("ensure consumer of pool "+pool, err)
}

// poolConsumer is named after its pool. Attempts are judged by the dispatcher,
// so the queue never gives up on a job by itself.
func (c *Conn) poolConsumer(pool string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: pool, FilterSubject: poolJobs(pool), AckPolicy: jetstream.AckExplicitPolicy, AckWait: c.cfg.AckWait,
		MaxDeliver: -1, MaxAckPending: maxInHand, MaxWaiting: maxWaiting,
	}
}

func ledgerConsumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: "ledger", AckPolicy: jetstream.AckExplicitPolicy, AckWait: ledgerAckWait,
		MaxDeliver: -1, MaxAckPending: maxInHand,
	}
}

// ensureConsumer returns the consumer and creates it if it is missing. A worker
// leaves one that is there as it is; a dispatcher mends it.
func (c *Conn) ensureConsumer(ctx context.Context, stream string, want jetstream.ConsumerConfig, mend bool) (jetstream.Consumer, error) {
	consumer, err := c.js.Consumer(ctx, stream, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		consumer, err = c.js.CreateConsumer(ctx, stream, want)
		if err == nil {
			c.log.Info("created consumer", zap.String("stream", stream), zap.String("consumer", want.Durable))
		}
	}
	if err != nil {
		return nil, err //nolint:wrapcheck // callers say what for
	}
	if have := consumer.CachedInfo().Config; mend && !reflect.DeepEqual(have, asWanted(have, want)) {
		return c.mendConsumer(ctx, stream, have, want)
	}
	return consumer, nil
}

// asWanted is what a consumer should be like: in all that decides what is
// delivered, to whom and how often, as we want it, and in everything else, such as
// its replicas, its description or a pause, as an operator left it. How many pulls
// may wait cannot be changed.
func asWanted(have, want jetstream.ConsumerConfig) jetstream.ConsumerConfig {
	want.Name, want.Description, want.Metadata = have.Name, have.Description, have.Metadata
	want.Replicas, want.MemoryStorage, want.PauseUntil = have.Replicas, have.MemoryStorage, have.PauseUntil
	want.SampleFrequency, want.InactiveThreshold = have.SampleFrequency, have.InactiveThreshold
	want.MaxWaiting = have.MaxWaiting
	return want
}

// mendConsumer changes a consumer into one as we want it. Messages that ran out of
// deliveries are not delivered again by a consumer that may deliver them more
// often: they would stay on the stream, held and in nobody's hands. So a consumer
// that counted deliveries is made anew, as is one that cannot be changed; what is
// in hand is delivered once more then.
func (c *Conn) mendConsumer(ctx context.Context, stream string, have, want jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	log := c.log.With(zap.String("stream", stream), zap.String("consumer", want.Durable))
	wanted := asWanted(have, want)
	if have.MaxDeliver == want.MaxDeliver {
		if consumer, err := c.js.UpdateConsumer(ctx, stream, wanted); err == nil {
			log.Info("updated consumer")
			return consumer, nil
		}
	}
	if err := c.js.DeleteConsumer(ctx, stream, want.Durable); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, err //nolint:wrapcheck // callers say what for
	}
	wanted.MaxWaiting = want.MaxWaiting
	consumer, err := c.js.CreateConsumer(ctx, stream, wanted)
	if err != nil {
		return nil, err //nolint:wrapcheck // callers say what for
	}
	log.Warn("made the consumer anew: somebody had changed it", zap.Int("max_deliver", have.MaxDeliver), zap.String("filter", have.FilterSubject))
	return consumer, nil
}

// Marks returns the marks of all streams, also of those that are missing.
func (c *Conn) Marks(ctx context.Context) ([]parts.StreamMark, error) {
	var marks []parts.StreamMark
	for _, want := range streams() {
		mark := parts.StreamMark{Stream: want.Name}
		stream, err := c.js.Stream(ctx, want.Name)
		switch {
		case err == nil:
			info := stream.CachedInfo()
			mark.Created, mark.LastSeq = info.Created.UTC().Truncate(time.Microsecond), info.State.LastSeq
		case !errors.Is(err, jetstream.ErrStreamNotFound):
			return nil, wrap("read the mark of stream "+want.Name, err)
		}
		marks = append(marks, mark)
	}
	return marks, nil
}

// Depth is how much a stream holds.
type Depth struct {
	Stream   string
	Messages uint64
	Bytes    uint64
}

// Depths returns how much each stream holds that is there.
func (c *Conn) Depths(ctx context.Context) ([]Depth, error) {
	if !c.nc.IsConnected() {
		return nil, wrap("read how much the streams hold", nats.ErrDisconnected)
	}
	var depths []Depth
	for _, want := range streams() {
		stream, err := c.js.Stream(ctx, want.Name)
		switch {
		case err == nil:
			state := stream.CachedInfo().State
			depths = append(depths, Depth{Stream: want.Name, Messages: state.Msgs, Bytes: state.Bytes})
		case !errors.Is(err, jetstream.ErrStreamNotFound):
			return nil, wrap("read how much stream "+want.Name+" holds", err)
		}
	}
	return depths, nil
}

// Maintain keeps streams and pools in being until ctx ends: it ensures them at
// once, every few seconds, and right after a reconnection, and hands the marks
// to marked each time, which compares them with those of before. One caller per
// dispatcher is enough; any number is harmless.
func (c *Conn) Maintain(ctx context.Context, pools []string, marked func(context.Context, []parts.StreamMark)) {
	state := condition{log: c.log}
	for failures := 0; ; {
		again := c.reconnected() // from before the pass: a reconnection within it counts
		marks, err := c.ensure(ctx, pools)
		next := maintainEvery
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			state.is("streams are not in order", err)
			next = delay(failures)
			failures++
		default:
			state.over("streams are in order")
			failures = 0
			marked(ctx, marks)
		}
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-again.Done():
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func (c *Conn) ensure(ctx context.Context, pools []string) ([]parts.StreamMark, error) {
	if err := c.EnsureStreams(ctx); err != nil {
		return nil, err
	}
	for _, pool := range pools {
		if err := c.EnsurePool(ctx, pool); err != nil {
			return nil, err
		}
	}
	// After ensuring: a stream that was missing is now younger than its mark.
	return c.Marks(ctx)
}

// held returns the subjects that match the filter and of which the stream has
// messages, queued or in hand, with their number.
func (c *Conn) held(ctx context.Context, name, filter string) (map[string]uint64, error) {
	stream, err := c.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(filter)) // asks for all pages
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	return info.State.Subjects, nil
}
