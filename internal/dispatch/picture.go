package dispatch

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"mediaferry/internal/parts"
	"mediaferry/internal/uploads"
)

type pictureStore interface {
	CountStates(ctx context.Context, tenant string, since time.Time) (map[uploads.State]int, error)
	Ledger(ctx context.Context, id uploads.ID, epoch int) ([]uploads.PartRange, []uploads.PartTries, error)
	FedParts(ctx context.Context, id uploads.ID) (int, error)
	History(ctx context.Context, tenant string, id uploads.ID) (uploads.History, error)
	FailuresByCause(ctx context.Context, tenant string, since time.Time) (uploads.Failures, error)
}

const (
	movedStep    = 10 * time.Second
	movedSteps   = 360                // an hour
	countedSince = 24 * time.Hour     // uploads that are counted by state
	failedSince  = 7 * 24 * time.Hour // failed uploads that are grouped
	handSilence  = 5 * time.Second    // after which a run is not taken for in hand any more
	maxHands     = 10_000             // runs in hand that are remembered
	askQueue     = 2 * time.Second    // for what it holds, where only a person waits for it
)

// flowing is what workers said of late, for those who watch; live.mu guards it.
type flowing struct {
	moved []uploads.Moved // ascending, at most movedSteps
	hands map[runKey]uploads.PartHand
	swept time.Time // when hands were last looked through
}

// move adds what a worker moved between two heartbeats.
func (f *flowing) move(at time.Time, bytes int64) {
	at = at.Truncate(movedStep)
	if n := len(f.moved); n == 0 || f.moved[n-1].At.Before(at) {
		f.moved = append(f.moved, uploads.Moved{At: at})
		if len(f.moved) > movedSteps {
			f.moved = slices.Delete(f.moved, 0, len(f.moved)-movedSteps)
		}
	}
	f.moved[len(f.moved)-1].Bytes += bytes
}

// NoteHand keeps what a worker says of a run that it has in hand.
func (d *Dispatcher) NoteHand(id uploads.ID, hand uploads.PartHand) {
	d.live.mu.Lock()
	defer d.live.mu.Unlock()
	f := &d.live.flowing
	if now := time.Now(); now.Sub(f.swept) > handSilence {
		f.swept = now
		for key, h := range f.hands {
			if now.Sub(h.At) > handSilence {
				delete(f.hands, key)
			}
		}
	}
	key := runKey{id, hand.First}
	if _, known := f.hands[key]; known || len(f.hands) < maxHands {
		f.hands[key] = hand
	}
}

// handsOf returns what workers have in hand of an upload, by the first part.
func (d *Dispatcher) handsOf(id uploads.ID, now time.Time) []uploads.PartHand {
	d.live.mu.Lock()
	defer d.live.mu.Unlock()
	var out []uploads.PartHand
	for key, h := range d.live.flowing.hands {
		if key.upload == id && now.Sub(h.At) <= handSilence {
			out = append(out, h)
		}
	}
	slices.SortFunc(out, func(a, b uploads.PartHand) int { return a.First - b.First })
	return out
}

// Picture returns how everything stands for a tenant. What was moved is that of
// all workers, as this dispatcher has heard since it started.
func (d *Dispatcher) Picture(ctx context.Context, tenant string) (uploads.Picture, error) {
	now := time.Now()
	p := uploads.Picture{At: now, Since: now.Add(-countedSince), MovedStep: movedStep, Queued: make(map[string]int)}
	var err error
	if p.States, err = d.store.CountStates(ctx, tenant, p.Since); err != nil {
		return p, err
	}
	d.live.mu.Lock()
	p.Moved = slices.Clone(d.live.flowing.moved)
	d.live.mu.Unlock()
	asking, cancel := context.WithTimeout(ctx, askQueue)
	defer cancel()
	for _, name := range d.accountsOf(tenant) {
		runs, err := d.queue.HeldRuns(asking, name)
		if err != nil {
			d.log.Debug("the queue cannot be asked", zap.String("account", name), zap.Error(err))
			break // nor for the others
		}
		n := 0
		for _, firsts := range runs {
			n += len(firsts)
		}
		p.Queued[name] = n
	}
	return p, nil
}

// PartMap returns where the parts of an upload are, or uploads.ErrNotFound.
// The ledger, the queue and the workers are asked one after the other, so a
// part may be a moment ahead of what is said of it.
func (d *Dispatcher) PartMap(ctx context.Context, tenant string, id uploads.ID) (uploads.PartMap, error) {
	u, err := d.store.Upload(ctx, tenant, id)
	if err != nil {
		return uploads.PartMap{}, err
	}
	m := uploads.PartMap{Epoch: u.Epoch, PartSize: u.PartSize, PartCount: u.PartCount, Hands: []uploads.PartHand{}}
	if u.PartCount == 0 {
		return m, nil
	}
	fed, err := d.store.FedParts(ctx, id)
	if err != nil {
		return m, err
	}
	ask := u.State == uploads.Uploading
	states := newPartStates(u.PartCount, fed, ask)
	if ask {
		plan := parts.Plan{Size: u.Source.Size, PartSize: u.PartSize}
		asking, cancel := context.WithTimeout(ctx, askQueue)
		defer cancel()
		held, err := d.queue.Held(asking, u.Account, id, u.Epoch)
		if err != nil {
			states.set(1, fed, uploads.PartUnknown)
		}
		for _, first := range held {
			states.set(first, plan.Cell(first).Last(), uploads.PartQueued)
		}
		m.Hands = append(m.Hands, d.handsOf(id, time.Now())...)
		for _, h := range m.Hands {
			states.set(h.First, h.First+h.Count-1, uploads.PartInHand)
		}
	}
	// Read last: what is acknowledged meanwhile is no more on its way.
	ledger, failed, err := d.store.Ledger(ctx, id, u.Epoch)
	if err != nil {
		return m, err
	}
	for _, r := range ledger {
		states.set(r.First, r.First+r.Count-1, r.State)
	}
	m.Ranges, m.Failed = states.ranges(), failed
	return m, nil
}

// partStates is the state of each part, from number 1.
type partStates []uploads.PartState

func newPartStates(count, fed int, travelling bool) partStates {
	s := make(partStates, count)
	s.set(1, count, uploads.PartNotFed)
	if travelling {
		s.set(1, fed, uploads.PartOnWay)
	}
	return s
}

// set gives parts first to last a state; there may be fewer of them.
func (s partStates) set(first, last int, state uploads.PartState) {
	for n := max(first, 1); n <= min(last, len(s)); n++ {
		s[n-1] = state
	}
}

func (s partStates) ranges() []uploads.PartRange {
	var out []uploads.PartRange
	for i, state := range s {
		if n := len(out); n > 0 && out[n-1].State == state {
			out[n-1].Count++
			continue
		}
		out = append(out, uploads.PartRange{First: i + 1, Count: 1, State: state})
	}
	return out
}

// History returns the moves and failed tries of an upload, or uploads.ErrNotFound.
func (d *Dispatcher) History(ctx context.Context, tenant string, id uploads.ID) (uploads.History, error) {
	return d.store.History(ctx, tenant, id)
}

// FailuresByCause returns what of the tenant fails and why: uploads of the last seven
// days, tries of the last hour.
func (d *Dispatcher) FailuresByCause(ctx context.Context, tenant string) (uploads.Failures, error) {
	return d.store.FailuresByCause(ctx, tenant, time.Now().Add(-failedSince))
}
