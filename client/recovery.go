package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"mediaferry/internal/api/wire"
)

// Reconcile compares the record with what the platforms hold, puts right what
// differs unless r says that it is a dry run, and gives each page of findings to
// found as it comes. It may be repeated.
func (c *Client) Reconcile(ctx context.Context, r Reconciliation, found func([]Finding)) error {
	for {
		var page wire.ReconciliationResult
		if _, err := c.callAgain(ctx, http.MethodPost, "/v1/reconcile", r, &page); err != nil {
			return fmt.Errorf("reconcile: %w", err)
		}
		found(page.Findings)
		if page.Next == "" {
			return nil
		}
		r.After = page.Next
	}
}

// ListSetAside returns a page of messages that were set aside, without their
// payloads. before is Next of the page before, 0 for the first page, and limit 1
// to 1000.
func (c *Client) ListSetAside(ctx context.Context, before int64, limit int) (SetAsideList, error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if before > 0 {
		query.Set("before", strconv.FormatInt(before, 10))
	}
	var page SetAsideList
	if _, err := c.call(ctx, http.MethodGet, "/v1/setaside?"+query.Encode(), nil, &page); err != nil {
		return SetAsideList{}, fmt.Errorf("list what is set aside: %w", err)
	}
	return page, nil
}

// ShowSetAside returns one of them with its payload.
func (c *Client) ShowSetAside(ctx context.Context, number int64) (SetAside, error) {
	var m SetAside
	if _, err := c.call(ctx, http.MethodGet, setAsidePath(number), nil, &m); err != nil {
		return SetAside{}, fmt.Errorf("show message %d: %w", number, err)
	}
	return m, nil
}

// DropSetAside forgets one of them.
func (c *Client) DropSetAside(ctx context.Context, number int64) error {
	if _, err := c.call(ctx, http.MethodDelete, setAsidePath(number), nil, nil); err != nil {
		return fmt.Errorf("drop message %d: %w", number, err)
	}
	return nil
}

// ReplaySetAside puts one of them back on its stream, from where it is taken as
// any other, and forgets it.
func (c *Client) ReplaySetAside(ctx context.Context, number int64) error {
	if _, err := c.call(ctx, http.MethodPost, setAsidePath(number)+"/replay", nil, nil); err != nil {
		return fmt.Errorf("replay message %d: %w", number, err)
	}
	return nil
}

func setAsidePath(number int64) string { return "/v1/setaside/" + strconv.FormatInt(number, 10) }
