package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

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

	headerKey    = "Mf-Key"    // public curve key that the reply is sealed with
	headerStatus = "Mf-Status" // of a reply without an assignment
	statusStale  = "stale"
	statusFailed = "failed"
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

type sealedRequest struct {
	AssignmentRequest
	Key string `json:"key"` // public curve key made for this request alone
}

// AskAssignment asks the dispatchers how a job is to be done. The answer holds
// an upstream session, so it is sealed to a key that is made here and forgotten
// on return: on its way, and in the memory of every server on that, nobody can
// read it.
//
// ErrStale means that the job is to be dropped. Any other error is transient; a
// *uploads.UnavailableError among them says that no dispatcher could be reached.
func (c *Conn) AskAssignment(ctx context.Context, req AssignmentRequest) (parts.Assignment, error) {
	doing := fmt.Sprintf("ask for the assignment of upload %s", req.Upload)
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	key, err := nkeys.CreateCurveKeys()
	if err != nil {
		return parts.Assignment{}, fmt.Errorf("%s: make a key: %w", doing, err)
	}
	defer key.Wipe()
	public, err := key.PublicKey()
	if err != nil {
		return parts.Assignment{}, fmt.Errorf("%s: make a key: %w", doing, err)
	}
	body, err := json.Marshal(sealedRequest{AssignmentRequest: req, Key: public})
	if err != nil {
		return parts.Assignment{}, fmt.Errorf("%s: %w", doing, err)
	}
	if !c.nc.IsConnected() {
		return parts.Assignment{}, wrap(doing, nats.ErrDisconnected)
	}
	reply, err := c.nc.RequestWithContext(ctx, sessionSubject, body)
	switch {
	case errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded):
		return parts.Assignment{}, fmt.Errorf("%s: %w", doing, &uploads.UnavailableError{What: "dispatcher", Err: err})
	case err != nil:
		return parts.Assignment{}, wrap(doing, err)
	}
	switch reply.Header.Get(headerStatus) {
	case statusStale:
		return parts.Assignment{}, fmt.Errorf("%s: %w", doing, ErrStale)
	case statusFailed:
		return parts.Assignment{}, fmt.Errorf("%s: the dispatcher says: %s", doing, reply.Data)
	}
	plain, err := key.Open(reply.Data, reply.Header.Get(headerKey))
	if err != nil {
		return parts.Assignment{}, fmt.Errorf("%s: open the reply: %w", doing, err)
	}
	var assignment parts.Assignment
	if err := json.Unmarshal(plain, &assignment); err != nil {
		return parts.Assignment{}, fmt.Errorf("%s: read the reply: %w", doing, err)
	}
	return assignment, nil
}

// ServeAssignments answers AskAssignment until ctx ends, sharing the requests
// with all other dispatchers, and returns when the last answer is sent. answer
// is called by several goroutines at once. Its error goes to the worker in clear,
// so it holds no secret; ErrStale tells the worker to drop the job.
func (c *Conn) ServeAssignments(ctx context.Context, answer func(context.Context, AssignmentRequest) (parts.Assignment, error)) error {
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
			if err := msg.RespondMsg(refusal(statusFailed, "this dispatcher is stopping")); err != nil {
				c.log.Debug("refusal not sent", zap.Error(err))
			}
			return
		}
		answering.Go(func() {
			defer func() { <-places }()
			within, cancel := context.WithTimeout(work, c.cfg.RequestTimeout)
			defer cancel()
			reply := sealedAnswer(within, msg, answer, key, public)
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

func sealedAnswer(
	ctx context.Context, msg *nats.Msg, answer func(context.Context, AssignmentRequest) (parts.Assignment, error),
	key nkeys.KeyPair, public string,
) *nats.Msg {
	var req sealedRequest
	if err := json.Unmarshal(msg.Data, &req); err != nil {
		return refusal(statusFailed, "the request cannot be read")
	}
	assignment, err := answer(ctx, req.AssignmentRequest)
	switch {
	case errors.Is(err, ErrStale):
		return refusal(statusStale, "")
	case err != nil:
		return refusal(statusFailed, err.Error())
	}
	plain, err := json.Marshal(assignment)
	if err != nil {
		return refusal(statusFailed, "the assignment cannot be encoded")
	}
	sealed, err := key.Seal(plain, req.Key)
	if err != nil {
		return refusal(statusFailed, "the request's key cannot be used")
	}
	return &nats.Msg{Header: nats.Header{headerKey: {public}}, Data: sealed}
}

func refusal(status, text string) *nats.Msg {
	return &nats.Msg{Header: nats.Header{headerStatus: {status}}, Data: []byte(text)}
}
