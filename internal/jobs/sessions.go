package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"go.uber.org/zap"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// ErrStale says that a job is about an upload that is over, paused or of another
// epoch by now. The job is to be dropped.
var ErrStale = errors.New("the job is stale")

const (
	maxAnswering = 32 // requests that one dispatcher answers at once
	maxAsking    = 2  // requests of a worker under way
	maxAsks      = 64 // that share a request
	// slowAsk is how long a request may be under way before another is made beside
	// it: what comes meanwhile shares the next, but does not wait for a dispatcher
	// that stands still.
	slowAsk = 100 * time.Millisecond

	headerKey = "Mf-Key" // public curve key that the reply is sealed with
)

// AssignmentRequest is what a worker asks about a job.
type AssignmentRequest struct {
	Upload  uploads.ID `json:"upload"`
	Account string     `json:"account"`
	Epoch   int        `json:"epoch,omitempty"`
	Run     parts.Run  `json:"run,omitzero"`
	Digest  bool       `json:"digest,omitempty"`
	// Redelivered asks for the parts of the run that the ledger has already.
	Redelivered bool   `json:"redelivered,omitempty"`
	Worker      string `json:"worker"`
}

// Answer is what a dispatcher says to one AssignmentRequest.
type Answer struct {
	Assignment parts.Assignment
	Err        error // ErrStale, or why not now; its text goes to the worker in clear
}

// sealedRequest carries the requests that came together.
type sealedRequest struct {
	Asks []AssignmentRequest `json:"asks"`
	Key  string              `json:"key"` // public curve key made for this request alone
}

// sealedAnswer is one Answer on its way, under the seal.
type sealedAnswer struct {
	Assignment parts.Assignment `json:"assignment,omitzero"`
	Stale      bool             `json:"stale,omitempty"`
	Failure    string           `json:"failure,omitempty"`
}

// asks are the requests of this process that wait for their turn. Slots of a
// busy worker ask at about the same time, and a request costs three
// multiplications on a curve and a round trip however many it carries.
type asks struct {
	mu      sync.Mutex
	waiting []ask
	asking  int // requests under way
	fresh   int // of these, for less than slowAsk
	running sync.WaitGroup
}

type ask struct {
	req    AssignmentRequest
	answer chan<- Answer // holds one, so that nobody waits for who gave up
}

// AskAssignment asks the dispatchers how a job is to be done. The answer holds
// an upstream session, so it is sealed to a key that is made for the request and
// forgotten after it: on its way, and in the memory of every server on that,
// nobody can read it.
//
// ErrStale means that the job is to be dropped. Any other error is transient; a
// *uploads.UnavailableError among them says that no dispatcher could be reached.
func (c *Conn) AskAssignment(ctx context.Context, req AssignmentRequest) (parts.Assignment, error) {
	answer := make(chan Answer, 1)
	c.asks.mu.Lock()
	c.asks.waiting = append(c.asks.waiting, ask{req, answer})
	if c.asks.fresh == 0 {
		c.askMore()
	}
	c.asks.mu.Unlock()
	select {
	case a := <-answer:
		if a.Err != nil {
			return parts.Assignment{}, fmt.Errorf("ask for the assignment of upload %s: %w", req.Upload, a.Err)
		}
		return a.Assignment, nil
	case <-ctx.Done():
		return parts.Assignment{}, fmt.Errorf("ask for the assignment of upload %s: %w", req.Upload, context.Cause(ctx))
	}
}

// askMore begins to ask, unless enough requests are under way. The caller holds
// the lock.
func (c *Conn) askMore() {
	if c.asks.asking < maxAsking {
		c.asks.asking++
		c.asks.fresh++
		c.asks.running.Go(c.askAll)
	}
}

// askAll asks until nobody waits.
func (c *Conn) askAll() {
	fresh := true // is counted; guarded by the lock, as the count is
	slow := time.AfterFunc(slowAsk, func() {
		c.asks.mu.Lock()
		defer c.asks.mu.Unlock()
		if !fresh {
			return
		}
		fresh = false
		c.asks.fresh--
		if len(c.asks.waiting) > 0 {
			c.askMore()
		}
	})
	defer slow.Stop()
	for {
		c.asks.mu.Lock()
		if !fresh {
			fresh = true
			c.asks.fresh++
		}
		n := min(len(c.asks.waiting), maxAsks)
		batch := c.asks.waiting[:n:n]
		c.asks.waiting = c.asks.waiting[n:]
		if n == 0 {
			c.asks.waiting = nil // lets go of the array
			c.asks.asking--
			c.asks.fresh--
			fresh = false
			c.asks.mu.Unlock()
			return
		}
		c.asks.mu.Unlock()
		slow.Reset(slowAsk)
		answers, err := c.request(batch)
		for i, a := range batch {
			if err != nil {
				a.answer <- Answer{Err: err}
			} else {
				a.answer <- answers[i]
			}
		}
	}
}

// request asks for a batch. It outlives who asks first, since others wait for
// the same answer; RequestTimeout bounds it.
func (c *Conn) request(batch []ask) ([]Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.RequestTimeout)
	defer cancel()
	key, err := nkeys.CreateCurveKeys()
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	defer key.Wipe()
	public, err := key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	asked := make([]AssignmentRequest, len(batch))
	for i, a := range batch {
		asked[i] = a.req
	}
	body, err := json.Marshal(sealedRequest{Asks: asked, Key: public})
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	if !c.nc.IsConnected() {
		return nil, wrap("ask", nats.ErrDisconnected)
	}
	reply, err := c.nc.RequestWithContext(ctx, sessionSubject, body)
	switch {
	case errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded):
		return nil, &uploads.UnavailableError{What: "dispatcher", Err: err}
	case err != nil:
		return nil, wrap("ask", err)
	}
	if reply.Header.Get(headerKey) == "" {
		return nil, fmt.Errorf("the dispatcher says: %s", reply.Data)
	}
	plain, err := key.Open(reply.Data, reply.Header.Get(headerKey))
	if err != nil {
		return nil, fmt.Errorf("open the reply: %w", err)
	}
	return readAnswers(plain, len(batch))
}

func readAnswers(plain []byte, want int) ([]Answer, error) {
	var sealed []sealedAnswer
	if err := json.Unmarshal(plain, &sealed); err != nil {
		return nil, fmt.Errorf("read the reply: %w", err)
	}
	if len(sealed) != want {
		return nil, fmt.Errorf("the reply has %d answers to %d requests", len(sealed), want)
	}
	answers := make([]Answer, want)
	for i, s := range sealed {
		switch {
		case s.Stale:
			answers[i].Err = ErrStale
		case s.Failure != "":
			answers[i].Err = fmt.Errorf("the dispatcher says: %s", s.Failure)
		default:
			answers[i].Assignment = s.Assignment
		}
	}
	return answers, nil
}

// ServeAssignments answers AskAssignment until ctx ends, sharing the requests
// with all other dispatchers, and returns when the last answer is sent. answer
// is given the requests that came together and returns an Answer to each, in
// order; it is called by several goroutines at once.
func (c *Conn) ServeAssignments(ctx context.Context, answer func(context.Context, []AssignmentRequest) []Answer) error {
	key, err := nkeys.CreateCurveKeys()
	if err != nil {
		return fmt.Errorf("serve assignments: make a key: %w", err)
	}
	public, err := key.PublicKey()
	if err != nil {
		return fmt.Errorf("serve assignments: make a key: %w", err)
	}
	// A request under way when ctx ends is still answered.
	work := context.WithoutCancel(ctx)
	places := make(chan struct{}, maxAnswering)
	var answering sync.WaitGroup
	sub, err := c.nc.QueueSubscribe(sessionSubject, "dispatchers", func(msg *nats.Msg) {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			if err := msg.Respond([]byte("this dispatcher is stopping")); err != nil {
				c.log.Debug("refusal not sent", zap.Error(err))
			}
			return
		}
		answering.Go(func() {
			defer func() { <-places }()
			within, cancel := context.WithTimeout(work, c.cfg.RequestTimeout)
			defer cancel()
			reply := sealedReply(within, msg, answer, key, public)
			if err := msg.RespondMsg(reply); err != nil {
				c.log.Debug("assignment not sent", zap.Error(err))
			}
		})
	})
	if err != nil {
		return fmt.Errorf("serve assignments: %w", err)
	}
	<-ctx.Done()
	c.drainSubscription(sub)
	answering.Wait()
	return nil
}

// sealedReply answers a request, under the seal, or says in clear why it
// cannot: without the header, which names the key.
func sealedReply(
	ctx context.Context, msg *nats.Msg, answer func(context.Context, []AssignmentRequest) []Answer, key nkeys.KeyPair, public string,
) *nats.Msg {
	var req sealedRequest
	if err := json.Unmarshal(msg.Data, &req); err != nil || len(req.Asks) > maxAsks {
		return &nats.Msg{Data: []byte("the request cannot be read")}
	}
	answers := answer(ctx, req.Asks)
	sealed := make([]sealedAnswer, len(answers))
	for i, a := range answers {
		switch {
		case errors.Is(a.Err, ErrStale):
			sealed[i].Stale = true
		case a.Err != nil:
			sealed[i].Failure = a.Err.Error()
		default:
			sealed[i].Assignment = a.Assignment
		}
	}
	plain, err := json.Marshal(sealed)
	if err != nil {
		return &nats.Msg{Data: []byte("the assignments cannot be encoded")}
	}
	reply, err := key.Seal(plain, req.Key)
	if err != nil {
		return &nats.Msg{Data: []byte("the request's key cannot be used")}
	}
	return &nats.Msg{Header: nats.Header{headerKey: {public}}, Data: reply}
}
