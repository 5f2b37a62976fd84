package dispatch

import (
	"context"
	"time"

	"mediaferry/internal/uploads"
)

type reportStore interface {
	// FoldLedger may be called by several dispatchers at once, and cut short.
	FoldLedger(ctx context.Context) (parts int, err error)
	Reports(ctx context.Context) ([]uploads.Report, error)
	Report(ctx context.Context, name string, since time.Time) (uploads.ReportRows, error)
}

// foldEvery is how often the roll-ups are brought up to the ledger. Reports read
// from the ledger what is younger, so nothing waits for it.
const foldEvery = 10 * time.Second

func (d *Dispatcher) foldLedger(ctx context.Context) error {
	_, err := d.store.FoldLedger(ctx)
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
