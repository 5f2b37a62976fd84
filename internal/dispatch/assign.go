package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

type assignStore interface {
	Assignable(ctx context.Context, ids []uploads.ID) (map[uploads.ID]parts.Assignable, error)
}

// ErrStale answers a worker whose job is of an upload that has ended, is held,
// or is in another epoch: the job is to be dropped.
var ErrStale = errors.New("the job is stale")

// Ask is a worker's question about a job that it was delivered.
type Ask struct {
	Job         parts.Job
	Redelivered bool
}

// Answer is what the worker is told: an assignment, ErrStale, or why not now.
type Answer struct {
	Assignment parts.Assignment
	Err        error
}

// Assign tells a worker what it needs for jobs, an Answer to each Ask in order.
// On redelivery the answer names the parts of the run that the ledger has, so
// that they are not sent twice. Answers hold upstream sessions in clear and are
// to be sealed to the worker.
func (d *Dispatcher) Assign(ctx context.Context, asks []Ask) []Answer {
	ids := make([]uploads.ID, len(asks))
	for i, a := range asks {
		ids[i] = a.Job.Upload
	}
	answers := make([]Answer, len(asks))
	known, err := d.store.Assignable(ctx, ids)
	for i, a := range asks {
		if err != nil {
			answers[i].Err = err
			continue
		}
		answers[i].Assignment, answers[i].Err = d.assign(ctx, a, known)
	}
	return answers
}

func (d *Dispatcher) assign(ctx context.Context, ask Ask, known map[uploads.ID]parts.Assignable) (parts.Assignment, error) {
	job := ask.Job
	a, ok := known[job.Upload]
	if !ok {
		return parts.Assignment{}, ErrStale
	}
	account, p, err := d.provider(a.Account, a.Provider)
	if err != nil {
		return parts.Assignment{}, err
	}
	out := parts.Assignment{Provider: a.Provider, Source: a.Source, Reach: &account.Reach, At: time.Now()}
	if job.IsDigest() {
		if a.State != uploads.Digesting {
			return parts.Assignment{}, ErrStale
		}
		out.Kinds, out.Checkpoint = passKinds(p.Limits().ObjectDigests, a.Known), a.Checkpoint
		return out, nil
	}
	if a.State != uploads.Uploading || a.Epoch != job.Epoch {
		return parts.Assignment{}, ErrStale
	}
	out.Plan = parts.Plan{Size: a.Source.Size, PartSize: a.PartSize}
	if n := out.Plan.Count(); job.Run.First < 1 || job.Run.First > n || job.Run.Count < 1 || job.Run.Count > n+1-job.Run.First {
		// Not ours: the parts of an epoch do not change. It would come again for ever.
		d.log.Error("a job names parts that its upload does not have", zap.Stringer("upload", job.Upload), zap.Int("epoch", job.Epoch),
			zap.Int("first", job.Run.First), zap.Int("count", job.Run.Count), zap.Int("parts", n))
		return parts.Assignment{}, ErrStale
	}
	compare := uploads.ReadDigest(a.Known, p.Limits().PartDigest, out.Plan.Count())
	out.Known, out.KnownFrom = compare.Digest, compare.From
	out.SessionNumber = a.SessionNumber
	if out.Session, err = d.sealer.Open(a.Session, sessionUse(job.Upload, a.Epoch)); err != nil {
		return parts.Assignment{}, fmt.Errorf("session of %s: %w", job.Upload, err)
	}
	if ask.Redelivered {
		d.awaitLedger(ctx, job)
		if out.Acked, err = d.store.AckedParts(ctx, job.Upload, job.Epoch, job.Run.First, job.Run.Last()); err != nil {
			return parts.Assignment{}, err
		}
	}
	return out, nil
}

// How long a redelivered job waits for the ledger to take in what the worker
// before it reported.
const (
	ledgerPatience = time.Second
	ledgerPause    = 10 * time.Millisecond
)

// awaitLedger returns when no report of the job's upload waits for the ledger,
// or patience is over: parts would be sent twice, which is a waste and no harm.
func (d *Dispatcher) awaitLedger(ctx context.Context, job parts.Job) {
	ctx, cancel := context.WithTimeout(ctx, ledgerPatience)
	defer cancel()
	for {
		pending, err := d.queue.PendingAcks(ctx, job.Account, job.Upload)
		if err != nil || pending == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(ledgerPause):
		}
	}
}
