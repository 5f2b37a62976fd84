package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ServerState is what a NATS server says of itself, and what it has of ours.
type ServerState struct {
	Version    string
	MaxPayload int64 // bytes of a message
	RoundTrip  time.Duration
	JetStream  error    // nil where we may ask it
	Missing    []string // streams that are not there
}

// Inspect asks the server how it stands and, if it is to, JetStream for the
// streams; it changes nothing.
func (c *Conn) Inspect(ctx context.Context, withStreams bool) (ServerState, error) {
	var state ServerState
	rtt, err := c.nc.RTT()
	if err != nil {
		return state, fmt.Errorf("ask nats: %w", err)
	}
	state.RoundTrip, state.Version, state.MaxPayload = rtt, c.nc.ConnectedServerVersion(), c.nc.MaxPayload()
	if !withStreams {
		return state, nil
	}
	for _, want := range streams() {
		_, err := c.js.Stream(ctx, want.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			state.Missing = append(state.Missing, want.Name)
		case err != nil:
			// What is not allowed is not answered; the server tells it beside.
			state.JetStream = errors.Join(fmt.Errorf("ask for stream %s: %w", want.Name, err), c.nc.LastError())
			return state, nil
		}
	}
	return state, nil
}

// InspectPool says whether the consumer is there that workers of the pool take
// jobs from. It changes nothing.
func (c *Conn) InspectPool(ctx context.Context, pool string) (found bool, err error) {
	_, err = c.js.Consumer(ctx, streamJobs, pool)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return false, nil
	case err != nil:
		return false, errors.Join(fmt.Errorf("ask for the consumer of pool %s: %w", pool, err), c.nc.LastError())
	}
	return true, nil
}

// Paused is until when an operator paused the consumer that workers of the pool
// take jobs from, zero if it is not paused.
func (c *Conn) Paused(ctx context.Context, pool string) (until time.Time, err error) {
	consumer, err := c.js.Consumer(ctx, streamJobs, pool)
	if err != nil {
		return time.Time{}, wrap("ask for the consumer of pool "+pool, err)
	}
	info := consumer.CachedInfo()
	if !info.Paused {
		return time.Time{}, nil
	}
	return time.Now().Add(info.PauseRemaining), nil
}
