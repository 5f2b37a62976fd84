package apitest

import (
	"context"
	"maps"
	"slices"
	"time"

	"mediaferry/internal/uploads"
)

// Reports lists the answers that the test gave.
func (p port) Reports(context.Context) ([]uploads.Report, error) {
	p.uc.mu.Lock()
	defer p.uc.mu.Unlock()
	var out []uploads.Report
	for _, name := range slices.Sorted(maps.Keys(p.uc.Answers)) {
		out = append(out, uploads.Report{Name: name, Question: "What of " + name + "?", SQL: "SELECT 1"})
	}
	return out, p.uc.due()
}

// Report gives the rows whose first column is not before since, if it is a time.
func (p port) Report(_ context.Context, name string, since time.Time) (uploads.ReportRows, error) {
	p.uc.mu.Lock()
	defer p.uc.mu.Unlock()
	found, ok := p.uc.Answers[name]
	if !ok {
		return uploads.ReportRows{}, uploads.ErrNoReport
	}
	out := uploads.ReportRows{Columns: found.Columns}
	for _, row := range found.Rows {
		if at, ok := row[0].(time.Time); !ok || !at.Before(since) {
			out.Rows = append(out.Rows, row)
		}
	}
	return out, p.uc.due()
}
