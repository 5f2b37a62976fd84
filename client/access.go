package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"mediaferry/internal/api/wire"
)

// Access is what the caller may do, and the version of the dispatcher.
type Access = wire.Access

// Access tells what the client's token allows.
func (c *Client) Access(ctx context.Context) (Access, error) {
	var a Access
	if _, err := c.call(ctx, http.MethodGet, "/v1/access", nil, &a); err != nil {
		return Access{}, fmt.Errorf("ask what is allowed: %w", err)
	}
	return a, nil
}

// Ready asks whether the dispatcher can do its work, without a token, and returns
// the time by its clock, to the second, zero if it told none. One that cannot is an
// *Error with status 503.
func (c *Client) Ready(ctx context.Context) (now time.Time, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/readyz", nil)
	if err != nil {
		return time.Time{}, fmt.Errorf("make the request: %w", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return time.Time{}, err //nolint:wrapcheck // *url.Error says method, URL and cause
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return time.Time{}, fmt.Errorf("read the answer: %w", err)
	}
	if at, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		now = at
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		return now, readError(res, text)
	}
	return now, nil
}
