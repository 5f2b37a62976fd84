package dispatch

import (
	"context"
	"time"

	"mediaferry/internal/uploads"
)

type reportStore interface {
	// FoldLedger may be called by several dispatchers at once, and cut short.
	// It rests so many times as long as it works.
	FoldLedger(ctx context.Context, rest int) (parts int, err error)
	Reports(ctx context.Context) ([]uploads.Report, error)
	Report(ctx context.Context, name string, since time.Time) (uploads.ReportRows, error)
}

// foldEvery is how often the roll-ups are brought up to the ledger. Reports read
// from the ledger what is younger, so nothing waits for it.
const (
	foldEvery = 10 * time.Second
	// foldRest leaves the ledger nearly all of the time: folding takes a fortieth
	// of one core at most, and so lags behind a ledger that grows by some thousand
	// parts a second, until that is over.
	foldRest = 40
)

func (d *Dispatcher) foldLedger(ctx context.Context) error {
	_, err := d.store.FoldLedger(ctx, foldRest)
	return err
}

// Reports lists the ready questions.
func (d *Dispatcher) Reports(ctx context.Context) ([]uploads.Report, error) {
	return d.store.Reports(ctx)
}

// Report answers one of them, about the time from since on.
func (d *Dispatcher) Report(ctx context.Context, name string, since time.Time) (uploads.ReportRows, error) {
	return d.store.Report(ctx, name, since)
}
