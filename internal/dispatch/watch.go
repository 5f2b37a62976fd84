package dispatch

import (
	"context"
	"time"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

// Watcher is told what a dispatcher does and its ports do not show. It decides
// nothing. Its methods are called by many goroutines at once and do not block.
type Watcher interface {
	// Step is told of a control step that begins. The step is taken in the
	// context that is returned, and over is called with what became of it.
	Step(ctx context.Context, step uploads.Step) (work context.Context, over func(err error))
	// Recorded is told of a batch of reports that is committed; the transaction
	// began at the time given. landed are the uploads that got new acks.
	Recorded(reports []parts.Report, landed []parts.Landed, began time.Time)
	// FedAgain is told of runs that a sweep found lost and that the queue holds now.
	FedAgain(account string, runs int)
	// QueueLost is told of each sweep after a loss of the queue, when all that was
	// in flight has been looked at.
	QueueLost()
}

// nobody watches.
type nobody struct{}

var _ Watcher = nobody{}

func (nobody) Step(ctx context.Context, _ uploads.Step) (context.Context, func(error)) {
	return ctx, func(error) {}
}

func (nobody) Recorded([]parts.Report, []parts.Landed, time.Time) {}
func (nobody) FedAgain(string, int)                               {}
func (nobody) QueueLost()                                         {}
