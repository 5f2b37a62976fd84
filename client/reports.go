package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"mediaferry/internal/api/wire"
)

// Reports lists the ready questions. They are about all tenants.
func (c *Client) Reports(ctx context.Context) ([]Report, error) {
	var list wire.ReportList
	if _, err := c.call(ctx, http.MethodGet, "/v1/reports", nil, &list); err != nil {
		return nil, fmt.Errorf("list reports: %w", err)
	}
	return list.Reports, nil
}

// Report answers one of them, about the time from since on; the zero time is a
// week back.
func (c *Client) Report(ctx context.Context, name string, since time.Time) (ReportRows, error) {
	var rows ReportRows
	if _, err := c.call(ctx, http.MethodGet, reportPath(name, since), nil, &rows); err != nil {
		return ReportRows{}, fmt.Errorf("report %s: %w", name, err)
	}
	return rows, nil
}

// ReportCSV is Report as CSV: a line of column names and one for each row.
func (c *Client) ReportCSV(ctx context.Context, name string, since time.Time) ([]byte, error) {
	_, text, err := c.fetch(ctx, http.MethodGet, reportPath(name, since), "text/csv", true, nil)
	if err != nil {
		return nil, fmt.Errorf("report %s: %w", name, err)
	}
	return text, nil
}

func reportPath(name string, since time.Time) string {
	path := "/v1/reports/" + url.PathEscape(name)
	if !since.IsZero() {
		path += "?" + url.Values{"since": {since.UTC().Format(time.RFC3339Nano)}}.Encode()
	}
	return path
}
