package jobs

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// Live is progress of a job in hand, as a worker says it about once a second.
type Live struct {
	Upload  uploads.ID `json:"upload"`
	Account string     `json:"account"`
	Worker  string     `json:"worker"`
	Stage   string     `json:"stage"`        // what is being done, in the worker's words
	Run     parts.Run  `json:"run,omitzero"` // of a part job
	Bytes   int64      `json:"bytes"`        // of the job, moved so far
	Total   int64      `json:"total"`        // of the job
	At      time.Time  `json:"at"`
}

// Worker is a worker's heartbeat.
type Worker struct {
	ID         string    `json:"id"`
	Pool       string    `json:"pool"`
	Slots      int       `json:"slots"`
	Busy       int       `json:"busy"`
	BytesMoved int64     `json:"bytes_moved"` // since Started
	Version    string    `json:"version"`
	Started    time.Time `json:"started"`
	At         time.Time `json:"at"`
}

// Signals are core NATS: who does not listen in this moment misses them, and
// nothing may depend on one. They are dropped while the connection is down,
// since late ones are worth less than none.

// PublishLive tells whoever watches how far a job has come.
func (c *Conn) PublishLive(l Live) error {
	if err := checkTokens(l.Account); err != nil {
		return err
	}
	return c.signal(liveSubject(l.Account, l.Upload), l)
}

// SubscribeLive has fn called, one call at a time, for progress of one upload,
// or of all with the zero ID, until stop is called.
func (c *Conn) SubscribeLive(upload uploads.ID, fn func(Live)) (stop func(), err error) {
	subject := liveSubjects
	if upload != uuid.Nil {
		subject = "mf.live.*." + upload.String()
	}
	return subscribeTo(c, subject, func(_ string, l Live) { fn(l) })
}

// PublishCancel tells the workers to end what they have in hand of an upload.
func (c *Conn) PublishCancel(upload uploads.ID) error { return c.signal(cancelSubject(upload), nil) }

// SubscribeCancels has fn called, one call at a time, for each cancelled upload
// until stop is called.
func (c *Conn) SubscribeCancels(fn func(uploads.ID)) (stop func(), err error) {
	return c.subscribe(cancelSubjects, func(msg *nats.Msg) {
		if upload, ok := parseUpload(lastToken(msg.Subject)); ok {
			fn(upload)
		}
	})
}

// PublishHeartbeat tells the dispatchers that a worker is there.
func (c *Conn) PublishHeartbeat(w Worker) error {
	if err := checkTokens(w.ID, w.Pool); err != nil {
		return err
	}
	return c.signal(workerSubject(w.ID), w)
}

// SubscribeHeartbeats has fn called, one call at a time, for each heartbeat
// until stop is called.
func (c *Conn) SubscribeHeartbeats(fn func(Worker)) (stop func(), err error) {
	return subscribeTo(c, workerSubjects, func(subject string, w Worker) {
		if lastToken(subject) == w.ID {
			fn(w)
		}
	})
}

func (c *Conn) signal(subject string, value any) error {
	if !c.nc.IsConnected() {
		return nil
	}
	var body []byte
	if value != nil {
		var err error
		if body, err = json.Marshal(value); err != nil {
			return fmt.Errorf("encode %s: %w", subject, err)
		}
	}
	return wrap("signal "+subject, c.nc.Publish(subject, body))
}

func subscribeTo[T any](c *Conn, subject string, fn func(subject string, value T)) (stop func(), err error) {
	return c.subscribe(subject, func(msg *nats.Msg) {
		var value T
		if err := json.Unmarshal(msg.Data, &value); err != nil {
			c.log.Debug("skipped a signal that cannot be read", zap.String("subject", msg.Subject), zap.Error(err))
			return
		}
		fn(msg.Subject, value)
	})
}

// subscribe returns when the server knows of the subscription, if it can be
// reached: what is published after that is heard.
func (c *Conn) subscribe(subject string, fn nats.MsgHandler) (stop func(), err error) {
	sub, err := c.nc.Subscribe(subject, fn)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	if c.nc.IsConnected() {
		if err := c.nc.FlushTimeout(c.cfg.RequestTimeout); err != nil {
			c.log.Debug("subscription is not confirmed yet", zap.String("subject", subject), zap.Error(err))
		}
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// drainSubscription ends a subscription after what it had received was handled,
// or after drainWait.
func (c *Conn) drainSubscription(sub *nats.Subscription) {
	closed := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(closed) })
	if sub.Drain() != nil {
		return
	}
	timer := time.NewTimer(drainWait)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
		_ = sub.Unsubscribe()
	}
}
